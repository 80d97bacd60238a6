"""Money: what is reserved and booked is what the attempts' rows say, and a wall holds for all who share it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_pool_nb import events as ev
from claude_pool_nb.errors import ConfigError, StoreConflict, StoreError
from claude_pool_nb.records import AttemptState, Failure, FailureKind, TaskState, TurnResult, Usage, nano
from claude_pool_nb.store import queries
from claude_pool_nb.store.ledger import Ledger

from .conftest import Writes, event_kinds, writes_into


def booked(ledger: Ledger, budget_id: int) -> tuple[int, int]:
    """What the attempts' rows say of a budget: spent and reserved."""
    with ledger.reading() as connection:
        row = connection.exec_driver_sql(
            "SELECT coalesce(sum(CASE WHEN state = 'running' THEN 0 ELSE cost_nano END), 0),"
            " coalesce(sum(CASE WHEN state = 'running' THEN reserved_nano ELSE 0 END), 0)"
            f" FROM attempt WHERE budget_id = {budget_id}"
        ).one()
    return row[0], row[1]


def test_a_wall_is_inclusive_and_grants_in_order(ledger: Ledger) -> None:
    """What exactly fits is granted; what does not is refused, and leaves no trace; what follows may still fit."""
    writes = writes_into(ledger, limit_usd=100e-9)
    run = writes.accept(["a", "b", "c", "d"])
    result = writes(*(ev.TaskRunning(1.0, f"{run}.{n}", 1, f"s{n}", cost) for n, cost in ((1, 60), (2, 41), (3, 40))))
    assert result.refused == {(f"{run}.2", 1)}
    assert result.budget is not None
    assert (result.budget.reserved_nano, result.budget.left_nano) == (100, 0)
    refused = queries.task(ledger, f"{run}.2")
    assert (refused.state, refused.attempts, refused.started_at) == (TaskState.PENDING, 0, None)
    assert queries.attempts(ledger, f"{run}.2") == []
    assert event_kinds(ledger, f"{run}.2") == ["task_pending"]
    done = writes(
        ev.AttemptEnded(2.0, f"{run}.1", 1, AttemptState.COMPLETED, TurnResult(cost_nano=30)),
        ev.TaskCompleted(2.0, f"{run}.1"),
        ev.TaskRunning(2.0, f"{run}.2", 1, "s1", 30),  # uses in the same write what the first gave back
    )
    assert done.refused == frozenset()
    assert writes.now_budget() == done.budget
    assert (done.budget.spent_nano, done.budget.reserved_nano) == (30, 70) if done.budget else False


def test_an_attempt_that_was_refused_may_be_stopped_in_the_same_write(ledger: Ledger) -> None:
    """A task that is cancelled before the pool knows that its attempt was refused is cancelled, and nothing booked."""
    writes = writes_into(ledger, limit_usd=0)
    run = writes.accept(["a"])
    result = writes(
        ev.TaskRunning(1.0, f"{run}.1", 1, "s1", 10),
        ev.AttemptEnded(1.0, f"{run}.1", 1, AttemptState.CANCELLED, TurnResult()),
        ev.TaskCancelled(1.0, f"{run}.1"),
    )
    assert result.refused == {(f"{run}.1", 1)}
    assert queries.task(ledger, f"{run}.1").state == TaskState.CANCELLED
    assert (writes.now_budget().spent_nano, writes.now_budget().reserved_nano) == (0, 0)


def test_extensions_are_granted_while_there_is_room(ledger: Ledger) -> None:
    """A granted extension is given back with its reservation; a refused one is not written."""
    writes = writes_into(ledger, limit_usd=100e-9)
    run = writes.accept(["a", "b"])
    writes.start(f"{run}.1", reserved=60)
    assert writes(ev.ReservationExtended(1.0, f"{run}.1", 1, 40)).refused_extensions == frozenset()
    refused = writes(ev.ReservationExtended(1.0, f"{run}.1", 1, 1))
    assert refused.refused_extensions == {(f"{run}.1", 1)}
    assert queries.attempts(ledger, f"{run}.1")[0].reserved_nano == 100
    writes.finish(f"{run}.1", cost=150)  # what was spent is booked, also beyond the wall
    assert (writes.now_budget().spent_nano, writes.now_budget().reserved_nano) == (150, 0)
    assert writes.start(f"{run}.2", reserved=0).refused == {(f"{run}.2", 1)}


def test_the_wall_can_be_moved(ledger: Ledger) -> None:
    """A BudgetChanged event holds for what follows it in the same write."""
    writes = writes_into(ledger, limit_usd=0)
    run = writes.accept(["a", "b"])
    moved = writes(
        ev.TaskRunning(1.0, f"{run}.1", 1, "s1", 10),
        ev.BudgetChanged(1.0, 10),
        ev.TaskRunning(1.0, f"{run}.2", 1, "s1", 10),
    )
    assert moved.refused == {(f"{run}.1", 1)}
    assert writes.now_budget().limit_nano == 10
    writes(ev.BudgetChanged(1.0, None))
    assert writes.start(f"{run}.1", reserved=10**15).refused == frozenset()


def test_budgets_are_found_by_name(ledger: Ledger) -> None:
    """The newest of a name is found; a limit moves its wall; fresh begins anew; play money is another's."""
    first = ledger.open_budget("nb", limit_usd=5)
    assert ledger.open_budget("nb") == first
    assert ledger.open_budget("nb", limit_usd=7).limit_nano == nano(7)
    play = ledger.open_budget("nb", play_money=True)
    assert (play.id != first.id, play.limit_nano, play.play_money) == (True, None, True)
    fresh = ledger.open_budget("nb", limit_usd=1, fresh=True)
    assert ledger.open_budget("nb") == fresh
    assert ledger.budget(first.id).limit_nano == nano(7)
    assert first.id < play.id < fresh.id
    for bad in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="dollars"):
            ledger.open_budget("nb", limit_usd=bad)
    with pytest.raises(StoreError, match="no budget"):
        ledger.budget(99)


def test_an_attempt_settles_with_the_budget_it_was_reserved_from(ledger: Ledger) -> None:
    """A budget opened fresh while an attempt runs does not get its bill."""
    writes = writes_into(ledger, limit_usd=1)
    run = writes.accept(["a"])
    writes.start(f"{run}.1")
    old = writes.budget
    writes.budget = ledger.open_budget("nb", limit_usd=1, fresh=True, play_money=True)
    writes.finish(f"{run}.1")
    assert (ledger.budget(old.id).spent_nano, ledger.budget(old.id).reserved_nano) == (70, 0)
    assert (writes.now_budget().spent_nano, writes.now_budget().reserved_nano) == (0, 0)


def test_history_tells_what_recent_tasks_cost(ledger: Ledger) -> None:
    """Completed attempts of the same kind of money, the latest, oldest first."""
    writes = writes_into(ledger)
    run = writes.accept(["a", "b", "c"], requested_model="haiku")
    for number, cost in ((1, 5), (2, 6)):
        writes.start(f"{run}.{number}")
        writes.finish(f"{run}.{number}", cost=cost)
    writes.start(f"{run}.3")
    assert queries.history(ledger, play_money=True) == [("prompt", "haiku", 5), ("prompt", "haiku", 6)]
    assert queries.history(ledger, 1, play_money=True) == [("prompt", "haiku", 6)]
    assert queries.history(ledger) == []


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["start", "extend", "end", "late", "progress", "limit", "wrong"]),
        st.integers(0, 3),
        st.integers(0, 60),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(STEPS, st.booleans())
def test_the_budget_is_what_its_attempts_say(steps: list[tuple[str, int, int]], together: bool) -> None:
    """After any events, refused and wrong ones included, the budget's row is the sum over the attempts' rows."""
    with Ledger.open(":memory:") as ledger:
        writes = writes_into(ledger, limit_usd=150e-9)
        run = writes.accept(["p"] * 4)
        attempts = [0] * 4
        running = [False] * 4
        batch: list[ev.Event] = []

        def send(*events: ev.Event) -> None:
            if together and events[0].at >= 0:
                batch.extend(events)
                return
            result = writes(*batch, *events)
            batch.clear()
            for task_id, attempt in result.refused:
                refused = int(task_id.partition(".")[2]) - 1
                assert attempt == attempts[refused]
                attempts[refused] -= 1
                running[refused] = False
            budget = writes.now_budget()
            assert (budget.spent_nano, budget.reserved_nano) == booked(ledger, budget.id)

        for kind, index, amount in steps:
            task = f"{run}.{index + 1}"
            number = attempts[index]
            crash = TurnResult(failure=Failure(FailureKind.CRASH, "x", "x"), cost_nano=amount)
            if kind == "start" and not running[index]:
                attempts[index], running[index] = number + 1, True
                send(ev.TaskRunning(-1.0, task, number + 1, "s1", amount))
            elif kind == "extend" and running[index]:
                send(ev.ReservationExtended(1.0, task, number, amount))
            elif kind == "progress" and running[index]:
                send(ev.AttemptProgress(1.0, task, number, Usage(), amount))
            elif kind == "end" and running[index]:
                running[index] = False
                send(
                    ev.AttemptEnded(1.0, task, number, AttemptState.FAILED, crash),
                    ev.TaskWaiting(1.0, task, 2.0, Failure(FailureKind.CRASH, "x", "x")),
                )
            elif kind == "late" and number and not running[index]:
                send(ev.AttemptEnded(1.0, task, number, AttemptState.FAILED, crash, late=True))
            elif kind == "limit":
                send(ev.BudgetChanged(1.0, 100 + amount))
            elif kind == "wrong":
                with pytest.raises(StoreConflict):
                    writes(
                        ev.BudgetChanged(1.0, 0), ev.AttemptEnded(1.0, task, 99, AttemptState.COMPLETED, TurnResult())
                    )
        send(ev.Warned(-1.0, "the end"))


SPENDER = """
import sys
from claude_pool_nb import events as ev
from claude_pool_nb.records import AttemptState, RunRecord, TaskRecord, TurnResult
from claude_pool_nb.store.ledger import Ledger

ledger = Ledger.open(sys.argv[1])
pool = ledger.register_pool(backend="demo", config_json="{}", notebook=None, play_money=False)
budget = ledger.open_budget("shared")
run = f"r{ledger.new_run()}"
tasks = tuple(TaskRecord(f"{run}.{n}", run, n, "p") for n in range(1, 101))
ledger.write(pool, budget.id, [ev.RunAccepted(0.0, RunRecord(run, "run", total=100), tasks)]).result()
print("ready", flush=True)
sys.stdin.readline()
worst = 0
done = 0
for task in tasks:
    result = ledger.write(pool, budget.id, [ev.TaskRunning(1.0, task.id, 1, "s1", 11)]).result()
    worst = max(worst, result.budget.spent_nano + result.budget.reserved_nano)
    if result.refused:
        continue
    ended = ev.AttemptEnded(2.0, task.id, 1, AttemptState.COMPLETED, TurnResult(cost_nano=11))
    result = ledger.write(pool, budget.id, [ended, ev.TaskCompleted(2.0, task.id)]).result()
    worst = max(worst, result.budget.spent_nano + result.budget.reserved_nano)
    done += 1
ledger.close_pool(pool)
ledger.close()
print(run, done, worst, flush=True)
"""


def test_two_processes_never_exceed_a_budget_they_share(tmp_path: Path) -> None:
    """Two kernels spend from one budget at once: together they get what fits, and no moment is beyond the wall."""
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path) as ledger:
        ledger.open_budget("shared", limit_usd=1000e-9)
    command = [sys.executable, "-c", SPENDER, str(path)]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=60)[0].split() for process in processes]
    assert {process.returncode for process in processes} == {0}
    assert {one[0] for one in said} == {"r1", "r2"}
    assert sum(int(one[1]) for one in said) == 90
    assert max(int(one[2]) for one in said) <= 1000
    with Ledger.open(path) as ledger:
        budget = ledger.budget(1)
        assert (budget.spent_nano, budget.reserved_nano) == (990, 0)
        assert booked(ledger, budget.id) == (990, 0)


def test_a_pool_with_its_own_wall_does_not_move_anothers(ledger: Ledger) -> None:
    """Pools that name different budgets draw on different money."""
    one = writes_into(ledger, limit_usd=0, name="one")
    other: Writes = writes_into(ledger, limit_usd=1, name="other")
    run = one.accept(["a"])
    assert one.start(f"{run}.1").refused
    assert not other.start(f"{run}.1").refused
    assert (one.now_budget().reserved_nano, other.now_budget().reserved_nano) == (0, 100)
