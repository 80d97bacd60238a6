"""Money: reserved, extended, settled, refused, and what happens when it is used up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from claude_pool_nb import events as e
from claude_pool_nb.core import commands as c
from claude_pool_nb.core import inputs as i
from claude_pool_nb.core.budget import WINDOW, Estimate
from claude_pool_nb.errors import ConfigError
from claude_pool_nb.records import FailureKind, StopReason, TaskState, TurnResult, Usage, nano
from tests.unit.core.world import PLAIN, TRANSPORT, World, failure

CENT = nano(0.01)
TASK = nano(0.0011)


def work_off(world: World, cost: int) -> World:
    """Complete all that runs, and what follows it, at a price."""
    while world.in_flight:
        for task in world.running():
            world.done(task, cost)
        world.ready().listen()
    return world


def spend(world: World, task: str, cost: int) -> None:
    """A running attempt has cost that much so far."""
    world.tell(i.AttemptSpent(world.at, task, world.state.task(task).attempts, cost, Usage(output_tokens=1)))


@pytest.mark.parametrize(
    ("fields", "options"),
    [({"cap_nano": TASK}, {}), ({}, {"history": [("prompt", None, TASK)] * 5}), ({"list_price_nano": TASK}, {})],
    ids=["capped", "history", "listed"],
)
def test_a_cent_buys_nine_tasks_of_eleven_hundredths(fields: dict, options: dict) -> None:
    """9 of 100 tasks complete, the rest fail with BudgetExhausted, and nothing is overspent."""
    world = World(8, limit=CENT, **options).open().submit(*(fields for _ in range(100)))
    work_off(world, TASK)
    assert repr(world.state) == "<Pool 8 idle | 9 completed, 91 failed | $0.0099 spent of $0.01>"
    failed = [task for task in world.state.tasks() if task.state is TaskState.FAILED]
    assert {(task.failure_kind, task.error_type) for task in failed} == {(FailureKind.BUDGET, "BudgetExhausted")}
    assert "$0.0001 is left of $0.01" in (failed[0].error or "")


def test_what_does_not_fit_is_passed_over_while_something_runs() -> None:
    """A dear task waits for what may come back, a cheap one behind it goes first, and the dear one runs after all."""
    world = World(2, limit=100).open().submit({"cap_nano": 60}, {"cap_nano": 60}, {"cap_nano": 40})
    assert world.running() == ["r1.1", "r1.3"]
    world.done("r1.1", cost=10).ready()
    assert world.state.task("r1.2").state is TaskState.PENDING
    world.done("r1.3", cost=10).ready()
    assert world.running() == ["r1.2"]


def test_caps_are_inclusive() -> None:
    """A task may cost exactly what it was given, and the budget may be used up to the last bit."""
    world = World(1, limit=50).open().submit({"cap_nano": 50})
    spend(world, "r1.1", 50)
    assert world.stops == []
    world.done("r1.1", cost=50)
    assert repr(world.state) == "<Pool 1 resetting | 1 completed | $5e-08 spent of $5e-08>"
    dearer = World(1, limit=50).open().submit({"cap_nano": 51}).listen()
    assert dearer.state.task("r1.1").state is TaskState.FAILED
    assert not dearer.ledger.attempts


def test_a_cap_holds_over_all_attempts() -> None:
    """What failed attempts cost counts: a later one is stopped earlier, reserved less, or not started at all."""
    world = World(1, limit=1000).open().submit({"cap_nano": 50, "retry": PLAIN})
    world.done("r1.1", cost=30, fail=TRANSPORT).ready().later(5)
    assert world.state.budget is not None
    assert world.state.budget.reserved_nano == 20
    spend(world, "r1.1", 20)
    assert world.stops == []
    spend(world, "r1.1", 21)
    assert [s.reason for s in world.stops] == [StopReason.BUDGET]
    world.done("r1.1", cost=21, stopped=StopReason.BUDGET, fail=failure(FailureKind.TASK))
    task = world.state.task("r1.1")
    assert (task.state, task.failure_kind, task.error_type) == ("failed", "budget", "TaskBudgetExhausted")
    world.ready().submit({"cap_nano": 5, "retry": PLAIN}).done("r2.1", cost=5, fail=TRANSPORT)
    assert "max_budget_usd" in (world.state.task("r2.1").error or "")


def test_an_attempt_that_outgrows_its_reservation_gets_more_or_is_stopped() -> None:
    """More is held back while there is more; then the attempt is interrupted, once."""
    world = World(1, limit=100).open().submit({"list_price_nano": 40})
    spend(world, "r1.1", 41)
    assert [event.added_nano for event in world.events if isinstance(event, e.ReservationExtended)] == [20]
    spend(world, "r1.1", 95)
    assert world.state.budget is not None
    assert world.state.budget.reserved_nano == 95
    spend(world, "r1.1", 100)
    assert world.stops == []
    spend(world, "r1.1", 101)
    spend(world, "r1.1", 102)
    assert [s.reason for s in world.stops] == [StopReason.BUDGET]
    world.done("r1.1", cost=102, fail=failure(FailureKind.TASK), stopped=StopReason.BUDGET)
    assert world.state.task("r1.1").error_type == "BudgetExhausted"
    assert repr(world.state) == "<Pool 1 resetting | 1 failed | $1e-07 spent of $1e-07>"


def test_of_unknown_price_one_goes_at_a_time_until_one_has_settled() -> None:
    """Without price or history one task runs; what it cost is then held back for each of the others."""
    world = World(4, limit=1000).open().submit(*({} for _ in range(6)))
    assert world.running() == ["r1.1"]
    world.done("r1.1", cost=300).ready()
    assert world.running() == ["r1.2", "r1.3"]
    assert World(4).open().submit({}, {}, {}).running() == ["r1.1", "r1.2", "r1.3"]


def test_strict_reserves_the_worst_case_and_refuses_what_has_none() -> None:
    """With strict_budget a task without a bound fails with a clear text, the others hold back their bound."""
    world = World(4, limit=100, strict_budget=True).open()
    world.submit({"worst_case_nano": 60, "cap_nano": 1}, {"worst_case_nano": 60}, {"list_price_nano": 1})
    assert world.running() == ["r1.1"]
    world.done("r1.1", cost=30).ready()
    assert world.running() == ["r1.2"]
    world.done("r1.2", cost=1)
    assert "strict_budget" in (world.state.task("r1.3").error or "")


def test_a_percentile_of_what_was_seen_lately() -> None:
    """The estimate follows the last 200 costs, and is one that nine of ten stayed within."""
    seen = Estimate()
    for cost in range(1000):
        seen.add(cost)
    assert seen.nano == 1000 - WINDOW + WINDOW * 9 // 10 - 1
    seen = Estimate()
    seen.add(7)
    assert seen.nano == 7


def test_an_answer_that_cost_nothing_says_nothing_of_the_next() -> None:
    """It came from a tape: what a model takes is reserved by its list price, or by what was paid, in whatever order."""
    seen = Estimate()
    for cost in (0, 0, 0, 7, 0, 0, 9, 0):
        seen.add(cost)
    assert seen.nano == 9
    world = World(2, limit=100).open().submit({"list_price_nano": 60}, {"list_price_nano": 60})
    assert world.running() == ["r1.1"]
    world.done("r1.1", cost=0).ready()
    world.submit({"list_price_nano": 60})
    assert world.running() == ["r1.2"]
    free = World(2, limit=100).open().submit({}, {}, {})
    free.done("r1.1", cost=0).ready()
    assert free.running() == ["r1.2", "r1.3"]


def test_raising_the_budget_goes_on() -> None:
    """A wall that is moved lets waiting tasks start; one taken away lets all of them."""
    world = World(3, limit=10).open().submit({"cap_nano": 10}, {"cap_nano": 10}, {"cap_nano": 10})
    assert len(world.running()) == 1
    world.tell(i.SetBudget(world.at, 20))
    assert len(world.running()) == 2
    world.tell(i.SetBudget(world.at, None))
    assert len(world.running()) == 3
    with pytest.raises(ConfigError):
        world.tell(i.SetBudget(world.at, -1))


def test_a_person_is_warned_once_at_four_fifths() -> None:
    """The warning comes with the settlement that passes 80 %, and not again."""
    world = World(1, limit=100).open().submit(*({"cap_nano": 10} for _ in range(10)))
    warned = []
    for task in range(1, 11):
        world.done(f"r1.{task}", cost=10)
        warned.append(any(isinstance(event, e.BudgetWarning) for event in world.events))
        world.ready()
    assert warned == [False] * 7 + [True, False, False]


def test_other_pools_money_is_waited_for() -> None:
    """What only other pools' reservations keep from running waits, asks the ledger again, and runs when it may."""
    world = World(1, limit=100).open()
    budget = world.ledger.budget
    assert budget is not None
    world.ledger.budget = replace(budget, reserved_nano=90)
    world.tell(i.BudgetRead(world.at, world.ledger.budget))
    world.submit({"cap_nano": 20})
    assert world.state.task("r1.1").state is TaskState.PENDING
    world.later(1.5).listen()
    assert world.running() == []
    world.ledger.budget = replace(budget, spent_nano=50)
    world.later(1).listen()
    assert world.running() == ["r1.1"]
    assert repr(world.state) == "<Pool 1 busy | no tasks | $5e-08 spent, $2e-08 reserved of $1e-07>"


def test_a_wall_that_another_pool_moved_is_seen_before_a_task_fails() -> None:
    """An idle pool hears nothing of the budget it shares: the ledger is asked before anything is given up."""
    world = World(1, limit=100).open()
    budget = world.ledger.budget
    assert budget is not None
    world.ledger.budget = replace(budget, limit_nano=1000)
    world.submit({"cap_nano": 500}, {"cap_nano": 2000})
    assert world.state.task("r1.1").state is TaskState.PENDING
    world.listen()
    assert world.running() == ["r1.1"]
    world.done("r1.1", cost=500).ready().listen()
    task = world.state.task("r1.2")
    assert task.state is TaskState.FAILED
    assert "$5e-07 is left of $0.000001" in (task.error or "")


def test_other_pools_spending_fails_what_no_longer_fits() -> None:
    """Once the others have spent it, waiting is of no use."""
    world = World(1, limit=100).open()
    budget = world.ledger.budget
    assert budget is not None
    world.ledger.budget = replace(budget, reserved_nano=90)
    world.submit({"cap_nano": 20}).listen()
    assert world.state.task("r1.1").state is TaskState.PENDING
    world.ledger.budget = replace(budget, spent_nano=90)
    world.later(1.5).listen()
    assert world.state.task("r1.1").error_type == "BudgetExhausted"


def test_a_refused_reservation_gives_the_task_back() -> None:
    """The ledger has the last word: the attempt never was, the slot is free, the task waits for the other pool."""
    world = World(1, limit=100).open()
    budget = world.ledger.budget
    assert budget is not None
    world.ledger.budget = replace(budget, reserved_nano=90)
    world.submit({"cap_nano": 20})
    assert world.running() == []
    world.listen()
    task = world.state.task("r1.1")
    assert (task.state, task.attempts, task.started_at) == (TaskState.PENDING, 0, None)
    assert world.state.durable() == world.rebuilt().durable()
    world.ledger.budget = budget
    world.later(1.5).listen()
    assert world.in_flight == {("r1.1", 1): "s1"}


def test_a_cancel_while_the_ledger_refuses_is_kept() -> None:
    """A task that was cancelled between its dispatch and the refusal is cancelled, not tried again."""
    world = World(1, limit=100).open()
    budget = world.ledger.budget
    assert budget is not None
    world.ledger.budget = replace(budget, reserved_nano=90)
    world.submit({"cap_nano": 20}).stop("r1.1").listen()
    assert repr(world.state) == "<Pool 1 idle | 1 cancelled | $0.00 spent, $9e-08 reserved of $1e-07>"


def test_a_refused_extension_stops_the_attempt() -> None:
    """What was spent beyond the reservation cannot be covered: the attempt is interrupted."""
    world = World(1, limit=100).open().submit({"list_price_nano": 10})
    budget = world.ledger.budget
    assert budget is not None
    world.ledger.budget = replace(budget, reserved_nano=100)
    spend(world, "r1.1", 11)
    world.listen()
    assert [s.reason for s in world.stops] == [StopReason.BUDGET]
    assert world.state.durable()["budget"] == (100, 0, 100)


def test_what_a_late_result_costs_is_booked() -> None:
    """A slot was lost without a word of its attempt: the attempt crashed, and its late result only adds to the bill."""
    world = World(2, limit=1000).open().submit({"cap_nano": 100})
    spend(world, "r1.1", 10)
    world.lose(world.in_flight["r1.1", 1])
    assert world.in_flight == {("r1.1", 2): "s2"}
    late = i.AttemptDone(world.at, "r1.1", 1, replace(_answer(), cost_nano=30))
    world.tell(late)
    assert [type(command) for command in world.last] == [c.Write]
    world.tell(late)
    assert world.last == []
    world.done("r1.1", cost=5)
    task = world.state.task("r1.1")
    assert (task.state, task.cost_nano, task.attempts) == (TaskState.COMPLETED, 35, 2)
    assert world.ledger.budget is not None
    assert (world.ledger.budget.spent_nano, world.ledger.budget.reserved_nano) == (35, 0)


def _answer() -> TurnResult:
    """A result with an answer."""
    return TurnResult(output="late")
