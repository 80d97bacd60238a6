"""Cancel, timeouts, loss: whatever is stopped ends in the right state, and its slot serves the next task."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from claude_pool_nb.config import ResolvedConfig
from claude_pool_nb.errors import PoolClosed, PoolPaused, SessionError, TaskCancelled, TaskFailed, TaskInterrupted
from claude_pool_nb.records import Failure, FailureKind, RetryPolicy, RunState, SlotState, TaskState
from claude_pool_nb.sessions.base import SessionEvent, Turn
from claude_pool_nb.testing.scripted_session import ScriptedBackend, ScriptedSession
from tests.integration.pool.conftest import Held, MakePool
from tests.waiting import PROMPTLY_S, promptly, wait_until

AT_ONCE = RetryPolicy(max_attempts=3, initial_backoff_s=0.01, jitter=False)


def test_cancel_pending_and_running(make_pool: MakePool, held: Held) -> None:
    """A pending task is never sent; a running one is interrupted, keeps its partial answer, and its cost is booked."""
    pool = make_pool(held.backend, slots=1)
    running, pending = pool.submit("running"), pool.submit("pending")
    wait_until(lambda: len(held.backend.asked) == 1)
    pending.cancel()
    running.cancel()
    with pytest.raises(TaskCancelled) as caught:
        running.result(5)
    assert caught.value.result is not None
    assert caught.value.result.output == "par"
    assert caught.value.result.cost_usd == 0.0005
    with pytest.raises(TaskCancelled):
        pending.result(5)
    held.let_go(pool)
    assert pool.run("next").output == "next"
    assert [turn.prompt for turn in held.backend.asked] == ["running", "next"]
    assert pool.budget.spent_nano == 500_000 + 1_000_000


def test_cancel_right_after_submit_is_never_lost(make_pool: MakePool) -> None:
    """A cancel that comes while the attempt is on its way to the ledger, or just sent, is answered in any case."""
    backend = ScriptedBackend(delay_s=30)
    pool = make_pool(backend, slots=2)
    tasks = []
    for n in range(60):
        task = pool.submit(f"{n}")
        if n % 3:
            time.sleep(0.0005 * (n % 5))
        task.cancel()
        tasks.append(task)
    for task in tasks:
        with pytest.raises(TaskCancelled):
            task.result(PROMPTLY_S)
    wait_until(lambda: pool.status().slots == {"idle": 2})
    backend.delay_s = 0
    assert pool.run("next").output == "next"


def test_cancel_in_the_tick_of_its_dispatch(make_pool: MakePool) -> None:
    """On the pool's own loop a task is cancelled in the very tick in which its attempt is committed or begins."""
    backend = ScriptedBackend(delay_s=30)
    pool = make_pool(backend, slots=1)

    async def main() -> list[TaskState]:
        states = []
        for ticks in range(8):
            task = await pool.aio.submit("x")
            for _ in range(ticks):
                await asyncio.sleep(0)
            await pool.aio.cancel(task.id)
            await asyncio.wait_for(pool.aio.finished_all((task.id,)), 5)
            states.append(task.state)
        return states

    assert pool._call(main()) == [TaskState.CANCELLED] * 8


def test_a_deaf_session_is_killed_and_its_slot_usable_soon(make_pool: MakePool, held: Held) -> None:
    """A turn that does not answer the interrupt is killed."""
    held.backend.deaf = True
    pool = make_pool(held.backend, slots=1)
    task = pool.submit("deaf")
    wait_until(lambda: len(held.backend.asked) == 1)
    with promptly():
        task.cancel()
        with pytest.raises(TaskCancelled):
            task.result(PROMPTLY_S)
        held.let_go(pool)
        assert pool.run("next").output == "next"
    wait_until(lambda: pool.status().slots == {"idle": 1})


def test_cancel_of_a_run_keeps_finished_rows(make_pool: MakePool, held: Held) -> None:
    """What was finished stays; the rest is cancelled, and `resume(cancelled=True)` runs just that."""
    pool = make_pool(held.backend, slots=2)
    held.let_go(pool)
    pool.run("warm")
    pool._portal.loop.call_soon_threadsafe(held.gate.clear)
    run = pool.fan_out([str(n) for n in range(6)], wait=False)
    wait_until(lambda: len(held.backend.asked) == 3)
    assert pool.cancel(run.id) == 6
    run.wait(PROMPTLY_S)
    assert run.counts() == {"cancelled": 6}
    assert run.state is RunState.CANCELLED
    held.let_go(pool)
    assert run.resume().counts() == {"cancelled": 6}
    assert run.resume(cancelled=True).counts() == {"completed": 6}
    assert run.state is RunState.COMPLETED
    assert list(run.frame["attempts"]) == [2, 2, 1, 1, 1, 1]


def test_a_cancelled_task_says_how_to_run_it_again(make_pool: MakePool, held: Held) -> None:
    """A plain retry or resume leaves cancelled tasks alone, so its result names the retry that does not."""
    pool = make_pool(held.backend, slots=1)
    task = pool.submit("a")
    wait_until(lambda: len(held.backend.asked) == 1)
    task.cancel()
    with pytest.raises(TaskCancelled, match="`%pool retry r1 --state cancelled` runs it again"):
        task.result(5)
    held.let_go(pool)
    assert task.run.retry(state="cancelled").counts() == {"completed": 1}


def test_cancel_all_counts(make_pool: MakePool, held: Held) -> None:
    """`cancel()` stops everything that is not final and says how many that were."""
    pool = make_pool(held.backend)
    pool.fan_out(["a", "b", "c"], wait=False)
    pool.submit("d")
    assert pool.cancel() == 4
    pool.wait(timeout_s=PROMPTLY_S)
    assert pool.cancel() == 0
    assert pool.status().tasks == {"cancelled": 4}


def test_wall_timeout(make_pool: MakePool) -> None:
    """An attempt longer than timeout_s fails as a timeout, is booked, and is retried only when asked."""
    backend = ScriptedBackend(delay_s=30)
    pool = make_pool(backend)
    with promptly(), pytest.raises(TaskFailed, match=r"timeout_s=0\.1") as caught:
        pool.run("slow", timeout_s=0.1)
    result = caught.value.result
    assert result is not None
    assert result.failure is not None
    assert (result.failure.kind, result.failure.error_type) == (FailureKind.TIMEOUT, "wall_timeout")
    assert (result.attempts, result.cost_usd) == (1, 0.0005)
    policy = RetryPolicy(max_attempts=2, initial_backoff_s=0.01, retry_timeouts=True)
    with pytest.raises(TaskFailed) as caught:
        pool.run("slow", timeout_s=0.1, retry=policy)
    assert caught.value.result is not None
    assert caught.value.result.attempts == 2


def test_idle_timeout_only_counts_silence(make_pool: MakePool) -> None:
    """An attempt from which nothing is heard is stopped; the failure says which clock it was."""
    pool = make_pool(ScriptedBackend(delay_s=30), idle_timeout_s=0.1)
    with pytest.raises(TaskFailed, match=r"idle_timeout_s=0\.1") as caught:
        pool.run("silent")
    assert caught.value.result is not None
    assert caught.value.result.failure is not None
    assert caught.value.result.failure.error_type == "idle_timeout"


def test_a_timeout_of_a_deaf_session(make_pool: MakePool, held: Held) -> None:
    """A turn that hears no interrupt is killed for its timeout too, and counts as a timeout, not as a crash."""
    held.backend.deaf = True
    pool = make_pool(held.backend, slots=1)
    with pytest.raises(TaskFailed) as caught:
        pool.run("slow", timeout_s=0.1)
    assert caught.value.result is not None
    assert caught.value.result.failure is not None
    assert caught.value.result.failure.kind is FailureKind.TIMEOUT
    held.let_go(pool)
    assert pool.run("next").output == "next"


def test_crashes_are_tried_again_at_once(make_pool: MakePool) -> None:
    """A lost session costs the task nothing but an attempt, which is a row."""
    lost = iter([True, True, False])

    def answer(turn: Turn) -> str | Exception:
        return RuntimeError("gone") if next(lost) else turn.prompt

    pool = make_pool(ScriptedBackend(answer), slots=1)
    result = pool.run("x", retry=AT_ONCE)
    assert (result.output, result.attempts) == ("x", 3)
    assert list(pool.attempts()["state"]) == ["failed", "failed", "completed"]


def test_retries_end_after_max_attempts(make_pool: MakePool) -> None:
    """A transport failure that stays is given up after max_attempts, and says so."""
    down = Failure(FailureKind.TRANSPORT, "http_500", "The API failed.")
    backend = ScriptedBackend(lambda _: down)
    pool = make_pool(backend)
    with pytest.raises(TaskFailed, match="after 3 attempts"):
        pool.run("x", retry=AT_ONCE)
    assert len(backend.asked) == 3


def test_a_waiting_task_can_be_cancelled(make_pool: MakePool) -> None:
    """A task that waits for its next attempt is cancelled at once and not tried again."""
    backend = ScriptedBackend(lambda _: Failure(FailureKind.TRANSPORT, "http_500", "no"))
    pool = make_pool(backend)
    task = pool.submit("x", retry=RetryPolicy(initial_backoff_s=60))
    wait_until(lambda: task.state is TaskState.WAITING)
    task.cancel()
    with pytest.raises(TaskCancelled):
        task.result(PROMPTLY_S)
    assert len(backend.asked) == 1


def test_a_limit_makes_the_whole_pool_wait(make_pool: MakePool) -> None:
    """After a 429 nothing is sent before retry-after is over, whichever task asks."""
    limited = iter([True])
    at: list[float] = []

    def answer(turn: Turn) -> str | Failure:
        at.append(time.monotonic())
        if next(limited, False):
            return Failure(FailureKind.LIMIT, "http_429", "slow down", retry_after_s=0.4)
        return turn.prompt

    pool = make_pool(ScriptedBackend(answer), slots=2)
    first = pool.submit("0")
    wait_until(lambda: first.state is TaskState.WAITING)
    run = pool.fan_out(["a", "b", "c"])
    assert run.counts() == {"completed": 3}
    assert first.result(5).attempts == 2
    assert min(at[1:]) - at[0] >= 0.39


def test_auth_pauses_the_pool_and_unpause_goes_on(make_pool: MakePool) -> None:
    """A bad key with 10,000 prompts queued: a handful of requests, PoolPaused; once mended the rest is run."""
    bad = Failure(FailureKind.AUTH, "http_401", "The key is not valid; set a valid one.")
    mended = False
    backend = ScriptedBackend(lambda turn: turn.prompt if mended else bad)
    pool = make_pool(backend, slots=4)
    with pytest.raises(PoolPaused, match="key is not valid"):
        pool.fan_out([f"{n}" for n in range(10_000)])
    assert len(backend.asked) <= 8
    run = pool.last
    assert run is not None
    assert run.state is RunState.PAUSED
    wait_until(lambda: "running" not in run.counts())  # what was on its way when the pool paused comes back
    assert run.counts() == {"failed": 1, "pending": 9_999}
    with pytest.raises(PoolPaused):
        run.wait()
    with pytest.raises(PoolPaused):
        pool.run("another")
    mended = True
    pool.unpause()
    assert run.wait(60).counts() == {"failed": 1, "completed": 9_999}
    assert pool.get_run("r2").wait(60).counts() == {"completed": 1}
    assert run.retry().counts() == {"completed": 10_000}


def test_one_prompt_with_a_bad_key_says_so(make_pool: MakePool) -> None:
    """A single prompt fails with the API's own words rather than with the pause that follows."""
    pool = make_pool(ScriptedBackend(lambda _: Failure(FailureKind.AUTH, "http_401", "bad key")))
    with pytest.raises(TaskFailed, match="bad key"):
        pool.run("x")
    assert pool.status().paused is not None


def test_pause_lets_running_tasks_end(make_pool: MakePool, held: Held) -> None:
    """A pause by hand starts nothing; what runs ends and can be waited for; what is queued says that it is paused."""
    pool = make_pool(held.backend, slots=1)
    running, queued = pool.submit("running"), pool.submit("queued")
    wait_until(lambda: running.state is TaskState.RUNNING)
    pool.pause("lunch")
    with pytest.raises(PoolPaused, match=r"lunch.*`%pool unpause` goes on"):
        queued.result(5)
    held.let_go(pool)
    assert running.result(5).output == "running"
    assert queued.state is TaskState.PENDING
    pool.unpause()
    assert queued.result(5).output == "queued"


def test_drain_interrupts_what_has_not_started(make_pool: MakePool, held: Held) -> None:
    """Drain lets running tasks end and keeps the rest to be resumed; afterwards the pool takes no work."""
    pool = make_pool(held.backend, slots=1)
    run = pool.fan_out(["a", "b"], wait=False)
    wait_until(lambda: len(held.backend.asked) == 1)
    pool._portal.loop.call_soon_threadsafe(lambda: pool._portal.loop.call_later(0.1, held.gate.set))
    status = pool.drain(timeout_s=60)
    assert status.closed
    assert status.tasks == {"completed": 1, "interrupted": 1}
    assert run.counts() == {"completed": 1, "interrupted": 1}
    with pytest.raises(PoolClosed):
        pool.run("x")
    with pytest.raises(TaskInterrupted):
        pool.get_task(f"{run.id}.2").result()


def test_drain_does_not_wait_for_retries(make_pool: MakePool) -> None:
    """What waits to be tried again is interrupted at once, and its error does not say that it never started."""
    backend = ScriptedBackend(lambda _turn: Failure(FailureKind.TRANSPORT, "http_500", "The API answered 500"))
    pool = make_pool(backend, slots=1, retry=RetryPolicy(initial_backoff_s=300))
    task = pool.submit("x")
    wait_until(lambda: task.state is TaskState.WAITING)
    assert pool.drain(timeout_s=60).tasks == {"interrupted": 1}
    assert list(task.run.frame["error"]) == ["the pool was stopped before it could be tried again"]


def test_drain_and_close_always_return(make_pool: MakePool) -> None:
    """A session that neither hears nor ends its close does not keep the pool from ending."""

    class Immortal(ScriptedSession):
        async def ask(self, turn: Turn) -> AsyncIterator[SessionEvent]:
            while True:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    if self._backend.deaf:
                        continue
                    raise
            yield  # type: ignore[unreachable]  # makes it a generator

        async def close(self, *, kill: bool = False) -> None:
            await asyncio.sleep(0)

    class Backend(ScriptedBackend):
        def session(self, slot_id: str) -> ScriptedSession:
            return Immortal(self, slot_id)

    pool = make_pool(Backend(deaf=False), slots=2)
    run = pool.fan_out(["a", "b", "c"], wait=False)
    wait_until(lambda: run.counts().get("running") == 2)
    with promptly():
        pool.close()
    assert run.counts() == {"interrupted": 3}


def test_a_slot_that_opens_on_the_third_try(make_pool: MakePool) -> None:
    """Sessions that fail to open are tried again; the task waits for them."""
    pool = make_pool(ScriptedBackend(open_failures=2), slots=1)
    assert pool.run("x").output == "x"


def test_no_session_at_all_pauses_the_pool(make_pool: MakePool) -> None:
    """When no slot can be opened, whoever waits is told why; once mended, unpause opens them again."""
    backend = ScriptedBackend(open_failures=1_000)
    pool = make_pool(backend, slots=1, max_restarts=1)
    with pytest.raises(PoolPaused, match="scripted failure to open"):
        pool.run("x")
    backend.open_failures = 0
    pool.unpause()
    assert pool.last is not None
    assert pool.last.wait(60).counts() == {"completed": 1}


def test_a_defect_of_a_session_is_a_failed_attempt(make_pool: MakePool) -> None:
    """A session that raises what it should not costs its task an attempt, never the pool or the wait."""

    class Broken(ScriptedSession):
        async def ask(self, turn: Turn) -> AsyncIterator[SessionEvent]:
            if turn.prompt == "bad":
                raise KeyError("a defect")
            async for event in super().ask(turn):
                yield event

        async def open(self, options: ResolvedConfig) -> None:
            await super().open(options)

    class Backend(ScriptedBackend):
        def session(self, slot_id: str) -> ScriptedSession:
            return Broken(self, slot_id)

    pool = make_pool(Backend(), slots=1)
    with pytest.raises(TaskFailed, match="a defect"):
        pool.run("bad", retry=AT_ONCE)
    assert pool.run("good").output == "good"


def test_scale_up_and_down_while_busy(make_pool: MakePool) -> None:
    """More slots take work at once; fewer finish theirs first; nothing is lost."""
    backend = ScriptedBackend(delay_s=0.01)
    pool = make_pool(backend, slots=1)
    run = pool.fan_out([str(n) for n in range(60)], wait=False)
    pool.scale(6)
    wait_until(lambda: sum(pool.status().slots.values()) == 6)
    pool.scale(2)
    assert run.wait(60).counts() == {"completed": 60}
    wait_until(lambda: pool.status().slots == {"idle": 2})
    assert {slot.state for slot in pool.slot_records()} == {SlotState.IDLE}


def test_a_slot_scaled_away_while_it_opens_leaves_no_session(make_pool: MakePool) -> None:
    """A slot that is closed in the middle of opening holds no session afterwards."""
    alive: set[int] = set()

    class Slow(ScriptedSession):
        async def open(self, options: ResolvedConfig) -> None:
            await asyncio.sleep(0.1)
            await super().open(options)
            if self._broken:
                raise SessionError("closed meanwhile")
            alive.add(id(self))

        async def close(self, *, kill: bool = False) -> None:
            alive.discard(id(self))
            await super().close(kill=kill)

    class Backend(ScriptedBackend):
        def session(self, slot_id: str) -> ScriptedSession:
            return Slow(self, slot_id)

    pool = make_pool(Backend(), slots=1)
    pool.scale(5)
    pool.scale(1)
    wait_until(lambda: pool.status().slots == {"idle": 1})
    wait_until(lambda: len(alive) == 1)
    pool.close()
    assert not alive


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_pool_whose_thread_dies_keeps_nobody_waiting(make_pool: MakePool) -> None:
    """A session that tears the loop down (SystemExit) ends the wait with an error, and close still returns."""

    def answer(turn: Turn) -> str:
        if turn.prompt == "exit":
            raise SystemExit(3)
        return turn.prompt

    pool = make_pool(ScriptedBackend(answer), slots=1)
    assert pool.run("fine").output == "fine"
    with pytest.raises(PoolClosed, match="thread has ended"):
        pool.run("exit")
    with pytest.raises(PoolClosed):
        pool.run("more")
    pool.close()
    assert pool.closed
