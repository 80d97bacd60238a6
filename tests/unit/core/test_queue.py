"""Who is next: priority, order, launch keys, roles, conversations, priming, deadlines."""

from __future__ import annotations

from itertools import pairwise

import pytest

from claude_pool_nb import events as e
from claude_pool_nb.core import inputs as i
from claude_pool_nb.errors import ConfigError, TaskNotFound
from claude_pool_nb.records import RunState, StopReason, TaskState
from tests.unit.core.world import CRASH, TRANSPORT, World


def finish_all(world: World, cost: int = 0) -> list[str]:
    """Let everything complete; the order in which tasks were sent."""
    sent = []
    while world.in_flight:
        for task in world.running():
            sent.append(task)
            world.done(task, cost)
            world.ready()
    return sent


def test_first_in_first_out_over_runs() -> None:
    """Tasks run in the order in which they were accepted."""
    world = World(1).open().submit({}, {}).submit({})
    assert finish_all(world) == ["r1.1", "r1.2", "r2.1"]
    assert repr(world.state) == "<Pool 1 idle | 3 completed | $0.00 spent>"


def test_priority_goes_before_order() -> None:
    """A later task of higher priority is sent before an earlier one of lower."""
    world = World(1).open().submit({}, {}, {"priority": -1}).submit({"priority": 5})
    assert finish_all(world) == ["r1.1", "r2.1", "r1.2", "r1.3"]


def test_slots_keep_their_launch_key_inside_a_run() -> None:
    """A grid of two system prompts, row by row, relaunches rarely, and the first in line waits at most 2 x slots."""
    world = World(1).open().submit(*({"launch_key": "ab"[n % 2]} for n in range(12)))
    sent = finish_all(world)
    assert sent[:3] == ["r1.1", "r1.3", "r1.2"]
    keys = [world.specs[task].launch_key for task in sent]
    assert sum(a != b for a, b in pairwise(keys)) < 7
    assert sorted(sent) == sorted(world.specs)


def test_launch_keys_do_not_reach_over_runs() -> None:
    """Another run's task is not taken early for its launch key."""
    world = World(1).open().submit({"launch_key": "a"}, {"launch_key": "b"}).submit({"launch_key": "a"})
    assert finish_all(world) == ["r1.1", "r1.2", "r2.1"]


def test_a_slot_with_the_launch_key_is_preferred() -> None:
    """Of two idle slots the one whose session fits gets the task."""
    world = World(2).open().submit({"launch_key": "a"}, {"launch_key": "b"})
    world.done("r1.1").done("r1.2").ready("s1").ready("s2").submit({"launch_key": "b"})
    assert world.in_flight == {("r2.1", 1): "s2"}


def test_roles_wait_for_their_slot() -> None:
    """A task with a role runs on slots of that role only, and a person is told if there is none."""
    world = World(2).open().submit({"role": "writer"}, {})
    assert world.running() == ["r1.2"]
    assert any(isinstance(event, e.Warned) and "'writer'" in event.message for event in world.events)
    world.tell(i.LabelSlot(world.at, "s2", role="writer"))
    assert world.in_flight["r1.1", 1] == "s2"


def test_conversation_runs_in_order_one_at_a_time() -> None:
    """The second task of a conversation waits for the first, its retries included, and goes where the first went."""
    world = World(2).open().submit({"conversation": "c"}, {"conversation": "c"}, {})
    assert world.running() == ["r1.1", "r1.3"]
    world.done("r1.3").ready()
    world.done("r1.1", fail=TRANSPORT).ready()
    assert world.running() == []
    assert world.state.task("r1.1").state is TaskState.WAITING
    world.later(10)
    assert world.running() == ["r1.1"]
    slot = world.in_flight["r1.1", 2]
    world.done("r1.1").ready()
    assert world.in_flight == {("r1.2", 1): slot}


def test_a_failed_task_does_not_end_its_conversation() -> None:
    """Later tasks of a conversation run although an earlier one failed or was cancelled."""
    world = World(1).open().submit({"conversation": "c"}, {"conversation": "c"}, {"conversation": "c"})
    world.stop("r1.2").stop("r1.1")
    world.done("r1.1", stopped=StopReason.CANCEL).ready()
    assert world.running() == ["r1.3"]


def test_a_reopened_task_goes_before_the_rest_of_its_conversation() -> None:
    """The order of a conversation is the order of acceptance, also after a retry by hand."""
    talk = {"conversation": "c"}
    world = World(1).open().submit(talk).submit({}).submit(talk)
    world.stop("r1.1").done("r1.1", stopped=StopReason.CANCEL).ready()
    assert world.running() == ["r2.1"]
    world.tell(i.Reopen(world.at, (world.specs["r1.1"],)))
    world.done("r2.1").ready()
    assert world.running() == ["r1.1"]


def test_the_first_of_a_prefix_goes_alone() -> None:
    """Tasks that share a cold prefix wait until the first answer begins; a warm one makes nobody wait."""
    shared = {"prime_key": "p"}
    world = World(3).open().submit(shared, shared, {}, shared)
    assert world.running() == ["r1.1", "r1.3"]
    world.tell(i.AttemptBegan(world.at, "r1.1", 1))
    assert world.running() == ["r1.1", "r1.3", "r1.2"]
    world.done("r1.1").ready().done("r1.2").ready().done("r1.3").ready().done("r1.4").ready()
    world.later(100).submit(shared, shared)
    assert world.running() == ["r2.1", "r2.2"]
    world.done("r2.1").done("r2.2").ready().later(300).submit(shared, shared)
    assert world.running() == ["r3.1"]


def test_a_first_task_that_fails_hands_its_turn_on() -> None:
    """If the first of a prefix fails before it begins, the next goes first."""
    shared = {"prime_key": "p"}
    world = World(2).open().submit(shared, shared, shared)
    world.done("r1.1", fail=TRANSPORT).ready()
    assert world.running() == ["r1.2"]


def test_who_warms_the_cache_for_others_is_told() -> None:
    """While others wait for it the first task is named; alone, begun, or with nobody left behind it, it is not."""
    shared = {"prime_key": "p"}
    world = World(3).open().submit(shared)
    assert world.state.status().warming == ()
    world.submit(shared, shared, {"prime_key": "q"}, {"prime_key": "q"})
    assert world.state.status().warming == ("r1.1", "r2.3")
    world.stop("r2.1", "r2.2")
    assert world.state.status().warming == ("r2.3",)
    world.tell(i.AttemptBegan(world.at, "r2.3", 1))
    assert world.state.status().warming == ()


def test_what_finds_no_slot_in_time_fails() -> None:
    """A deadline fails a task that has not started, and leaves one that has."""
    world = World(1).open()
    world.submit({"deadline_at": world.at + 5}, {"deadline_at": world.at + 5})
    world.later(6)
    assert world.state.task("r1.1").state is TaskState.RUNNING
    failed = world.state.task("r1.2")
    assert (failed.state, failed.failure_kind, failed.error_type) == ("failed", "timeout", "no_slot_in_time")


def test_a_run_ends_with_its_last_task() -> None:
    """A run is running from its first dispatch, over with its last task, and told with it."""
    world = World(1).open().submit({}, {})
    assert world.ledger.runs["r1"].state is RunState.RUNNING
    world.done("r1.1").ready().done("r1.2", fail=TRANSPORT).ready()
    world.stop("r1.2")
    assert world.ledger.runs["r1"].state is RunState.CANCELLED
    world.submit({}, {}, {})
    world.stop("r2.1").done("r2.1", stopped=StopReason.CANCEL).ready().done("r2.2").ready().done("r2.3")
    assert world.ledger.runs["r2"].state is RunState.COMPLETED
    world.submit()
    assert world.ledger.runs["r3"].state is RunState.COMPLETED


def test_wrong_work_is_refused_and_changes_nothing() -> None:
    """A run twice, a task twice, a reopening of what is not final, an unknown id: refused before anything changes."""
    world = World(1).open().submit({})
    before = (repr(world.state), world.state.durable())
    double = world.make({}, {})
    wrong = (
        i.Submit(world.at, world.state.run("r1"), ()),
        i.Submit(world.at, double.run, (double.tasks[0], double.tasks[0])),
        i.Reopen(world.at, (world.specs["r1.1"],)),
    )
    for given in wrong:
        with pytest.raises(ConfigError):
            world.state.handle(given)
    with pytest.raises(TaskNotFound, match=r"r9\.9"):
        world.state.handle(i.Stop(world.at, ("r1.1", "r9.9")))
    assert (repr(world.state), world.state.durable()) == before


def test_adopted_tasks_run_when_they_are_reopened() -> None:
    """A run of a pool that is gone belongs to this one; what is reopened keeps its attempts and its bill."""
    old = World(1).open().submit({}, {})
    old.done("r1.1", cost=5).ready()
    old.stop(reason=StopReason.INTERRUPT).done("r1.2", cost=3, stopped=StopReason.INTERRUPT)
    world = World(1)
    world.ledger.runs, world.ledger.tasks = old.ledger.runs, old.ledger.tasks
    specs = tuple(i.TaskSpec(row) for row in old.ledger.tasks.values())
    world.tell(i.Adopt(world.at, old.ledger.runs["r1"], specs))
    world.open().tell(i.Reopen(world.at, (specs[1],)))
    assert world.in_flight == {("r1.2", 2): "s1"}
    world.done("r1.2", cost=4)
    task = world.state.task("r1.2")
    assert (task.state, task.attempts, task.opened_attempts, task.cost_nano) == ("completed", 2, 1, 7)
    assert world.ledger.runs["r1"].state is RunState.COMPLETED


def test_ten_thousand_tasks_are_stopped_and_counted() -> None:
    """A cancel of everything reaches every task, in one call."""
    world = World(2).open().submit(*({"conversation": f"c{n % 50}"} for n in range(10_000)))
    world.stop()
    assert world.state.counts()[TaskState.CANCELLED] == 9_998
    for task in world.running():
        world.done(task, fail=CRASH)
    assert world.state.counts()[TaskState.CANCELLED] == 10_000
    assert world.ledger.runs["r1"].state is RunState.CANCELLED
