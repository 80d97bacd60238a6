"""Which failure is tried again, and when; what a limit, a bad key and an unknown model do to the pool."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from claude_pool_nb.core import inputs as i
from claude_pool_nb.core.retry import backoff_s, decide
from claude_pool_nb.records import Failure, FailureKind, RetryPolicy, RunState, StopReason, TaskState
from tests.unit.core.world import AUTH, CRASH, LIMIT, PLAIN, REQUEST, TRANSPORT, World, failure

OFTEN = RetryPolicy(max_attempts=9, initial_backoff_s=1, jitter=False)


@pytest.mark.parametrize("kind", list(FailureKind))
def test_what_is_retried_by_default(kind: FailureKind) -> None:
    """Transport, crash and limit are, the rest is not."""
    verdict = decide(RetryPolicy(), failure(kind), attempts=1, crashes=1, wrote=False)
    assert verdict.again == (kind in (FailureKind.TRANSPORT, FailureKind.CRASH, FailureKind.LIMIT))


@pytest.mark.parametrize("kind", [k for k in FailureKind if k in ("auth", "request", "denied", "budget", "turns")])
def test_what_is_never_retried(kind: FailureKind) -> None:
    """No policy makes these tried again."""
    eager = RetryPolicy(max_attempts=99, retry_timeouts=True, retry_tasks=True, retry_writes=True)
    assert not decide(eager, failure(kind), attempts=1, crashes=0, wrote=False).again


def test_jitter_stays_between_half_and_the_whole() -> None:
    """Waits are spread, and never beyond the longest."""
    random = Random(1)
    waits = [backoff_s(RetryPolicy(), 2, random) for _ in range(200)]
    assert 5 <= min(waits) < 6
    assert 9 < max(waits) <= 10
    assert backoff_s(RetryPolicy(), 10_000, random) <= 300


def test_backoff_grows_and_attempts_end() -> None:
    """Waits of 5 and 10 seconds, then the task fails, its cost over all attempts."""
    world = World(1).open().submit({"retry": PLAIN})
    world.done("r1.1", cost=1, fail=TRANSPORT).ready()
    assert world.state.task("r1.1").waiting_until == world.at + 5
    world.later(4.9)
    assert world.running() == []
    world.later(0.2).done("r1.1", cost=2, fail=TRANSPORT).ready()
    assert world.state.task("r1.1").waiting_until == world.at + 10
    world.later(11).done("r1.1", cost=3, fail=TRANSPORT)
    task = world.state.task("r1.1")
    assert (task.state, task.attempts, task.cost_nano) == ("failed", 3, 6)
    assert (task.error or "").endswith("(after 3 attempts; `%pool retry` tries it again)")


def test_the_first_crash_is_tried_again_at_once() -> None:
    """A killed process costs no wait; the second does."""
    world = World(1).open().submit({"retry": PLAIN})
    world.done("r1.1", fail=CRASH)
    assert world.state.task("r1.1").state is TaskState.PENDING
    world.ready().done("r1.1", fail=CRASH)
    assert world.state.task("r1.1").state is TaskState.WAITING


def test_an_attempt_that_wrote_is_not_repeated_unasked() -> None:
    """A tool that changes things ran: the task fails, unless the policy says otherwise."""
    world = World(2).open().submit({}, {"retry": RetryPolicy(retry_writes=True)})
    world.done("r1.1", fail=CRASH, wrote=True).done("r1.2", fail=CRASH, wrote=True)
    assert [task.state for task in world.state.tasks()] == [TaskState.FAILED, TaskState.PENDING]


def test_timeouts_are_retried_when_asked() -> None:
    """A timeout fails its task; with retry_timeouts it is tried again."""
    world = World(2).open().submit({}, {"retry": RetryPolicy(retry_timeouts=True)})
    for task in ("r1.1", "r1.2"):
        world.done(task, fail=failure(FailureKind.TASK, "interrupted"), stopped=StopReason.TIMEOUT)
    first, second = world.state.tasks()
    assert (first.state, first.failure_kind, second.state) == (TaskState.FAILED, "timeout", TaskState.WAITING)


def test_a_cancel_ends_retries() -> None:
    """After a cancel was accepted no failure starts a new attempt, and a waiting task is cancelled at once."""
    world = World(2).open().submit({}, {})
    world.done("r1.1", fail=TRANSPORT).stop()
    assert [s.reason for s in world.stops] == [StopReason.CANCEL]
    world.done("r1.2", fail=CRASH).ready().later(1000)
    assert [task.state for task in world.state.tasks()] == [TaskState.CANCELLED] * 2
    assert world.running() == []


def test_an_answer_that_came_before_the_stop_is_kept() -> None:
    """A cancel that comes too late does not throw a paid answer away."""
    world = World(1).open().submit({}).stop().done("r1.1", cost=7, stopped=StopReason.CANCEL)
    assert repr(world.state) == "<Pool 1 resetting | 1 completed | $7e-09 spent>"


def test_the_second_stop_kills_once() -> None:
    """Asking twice is like asking once; a kill is sent once more."""
    world = World(1).open().submit({})
    world.stop(reason=StopReason.INTERRUPT).stop().stop(kill=True).stop(kill=True)
    assert [(s.reason, s.kill) for s in world.stops] == [("interrupt", False), ("interrupt", True)]
    world.done("r1.1", fail=CRASH, stopped=StopReason.INTERRUPT)
    assert world.state.task("r1.1").state is TaskState.INTERRUPTED


def test_a_limit_stops_the_whole_pool_until_its_clock() -> None:
    """Nothing is sent before retry-after is over, whatever else is in line."""
    world = World(2).open().submit({}, {}, {})
    world.done("r1.1", fail=replace(LIMIT, retry_after_s=30.0)).ready()
    world.done("r1.2").ready()
    assert world.running() == []
    world.later(29.9)
    assert world.running() == []
    world.later(0.2)
    assert world.running() == ["r1.1", "r1.3"]


def test_limits_at_the_same_time_are_one_limit() -> None:
    """Eight answers of 429 to eight prompts under way do not make the wait grow eight times."""
    world = World(4).open().submit(*({"retry": OFTEN} for _ in range(4)))
    start = world.at
    for task in world.running():
        world.done(task, fail=LIMIT)
    assert {task.waiting_until for task in world.state.tasks()} == {start + 1}
    world.ready().later(1)
    world.done("r1.1", fail=LIMIT)
    assert world.state.task("r1.1").waiting_until == world.at + 2
    world.done("r1.2").done("r1.3").done("r1.4").ready().later(2).done("r1.1", fail=LIMIT)
    assert world.state.task("r1.1").waiting_until == world.at + 1


def test_a_bad_key_costs_one_task() -> None:
    """One task fails and the pool pauses; those under way return, and after unpause everything completes."""
    world = World(4).open().submit(*({} for _ in range(1000)))
    for task in world.running():
        world.done(task, fail=AUTH)
    world.ready()
    assert world.state.counts()[TaskState.FAILED] == 1
    assert world.state.counts()[TaskState.PENDING] == 999
    assert world.running() == []
    assert world.state.paused is not None
    assert "%pool unpause" in world.state.paused
    assert world.ledger.runs["r1"].state is RunState.PAUSED
    assert world.ledger.paused == world.state.paused
    world.tell(i.Unpause(world.at))
    assert world.ledger.runs["r1"].state is RunState.RUNNING
    while world.in_flight:
        for task in world.running():
            world.done(task).ready()
    assert repr(world.state) == "<Pool 4 idle | 999 completed, 1 failed | $0.00 spent>"
    assert world.state.task("r1.2").attempts == 2


def test_returning_from_a_bad_key_is_no_attempt_of_the_policy() -> None:
    """A task that was under way when the pool paused still has all its attempts."""
    once = {"retry": RetryPolicy(max_attempts=1)}
    world = World(2).open().submit(once, {"retry": RetryPolicy(max_attempts=2, jitter=False)})
    world.done("r1.1", fail=AUTH).done("r1.2", fail=AUTH).ready()
    world.tell(i.Unpause(world.at))
    world.done("r1.2", fail=TRANSPORT)
    assert world.state.task("r1.2").state is TaskState.WAITING


def test_an_unknown_model_is_asked_for_once() -> None:
    """All that names it fails without being sent; the rest goes on."""
    bad = {"requested_model": "haiko"}
    world = World(1).open().submit(bad, bad, {}).submit(bad)
    world.done("r1.1", fail=Failure(FailureKind.REQUEST, "unknown_model", "No model haiko.")).ready()
    assert [task.state for task in world.state.tasks()] == ["failed", "failed", "running", "failed"]
    assert world.state.task("r2.1").error_type == "unknown_model"
    assert world.state.task("r2.1").attempts == 0


def test_reopening_counts_attempts_afresh() -> None:
    """A failed task that is run again has all attempts of its policy again, under higher numbers."""
    world = World(1).open().submit({"retry": replace(PLAIN, max_attempts=2)})
    world.done("r1.1", fail=REQUEST).ready()
    changed = replace(world.specs["r1.1"], record=replace(world.state.task("r1.1"), prompt="better"))
    world.specs["r1.1"] = changed
    world.tell(i.Reopen(world.at, (changed,)))
    assert world.ledger.tasks["r1.1"].prompt == "better"
    assert world.in_flight == {("r1.1", 2): "s1"}
    world.done("r1.1", fail=TRANSPORT).ready().later(6)
    assert world.in_flight == {("r1.1", 3): "s1"}
    world.done("r1.1", fail=TRANSPORT)
    assert world.state.task("r1.1").state is TaskState.FAILED
