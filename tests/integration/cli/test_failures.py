"""Failures through the pool, on the real CLI: the right kind, its cost booked, and the slot serves the next task."""

from __future__ import annotations

import os
import random
import signal
import threading
from dataclasses import dataclass, field
from typing import Any

import pytest

from claude_pool_nb.errors import PoolPaused, TaskCancelled, TaskFailed
from claude_pool_nb.records import FailureKind, RetryPolicy, TaskState
from claude_pool_nb.testing import Reply, ScriptedAPI
from tests.integration.cli.conftest import MakePool, booked_nano, pids_of
from tests.integration.processes import gone, processes_of
from tests.waiting import PROMPTLY_S, promptly, wait_until

ONCE = RetryPolicy(max_attempts=1)
SOON = RetryPolicy(max_attempts=3, initial_backoff_s=0.05, jitter=False)


@dataclass
class Case:
    """One way in which the API fails."""

    reply: Reply
    kind: FailureKind
    times: int = 9
    overrides: dict[str, Any] = field(default_factory=dict)


CASES = {
    "400": Case(Reply(status=400), FailureKind.REQUEST),
    "404": Case(Reply(status=404), FailureKind.REQUEST),
    "413": Case(Reply(status=413), FailureKind.REQUEST),
    "429": Case(Reply(status=429, retry_after_s=1), FailureKind.LIMIT),
    "500": Case(Reply(status=500), FailureKind.TRANSPORT),
    "529": Case(Reply(status=529), FailureKind.LIMIT),
}


def test_every_refusal_has_its_kind_and_the_slot_goes_on(api: ScriptedAPI, make_pool: MakePool) -> None:
    """Each status that stays fails its task by kind and within its time; the same process serves the next task."""
    pool = make_pool(slots=1)
    pool.run("warm")
    pid = pids_of(pool)
    for name, case in CASES.items():
        api.on(f"^bad {name}$", case.reply)
        with promptly(name):
            with pytest.raises(TaskFailed) as caught:
                pool.run(f"bad {name}", retry=ONCE)
            assert caught.value.result is not None
            assert caught.value.result.failure is not None
            assert (name, caught.value.result.failure.kind) == (name, case.kind)
        assert pool.run(f"good {name}").output == "ok"
    assert pids_of(pool) == pid
    assert pool.budget.spent_nano == api.billed_nano == booked_nano(pool)


def test_failures_that_pass_are_tried_again(api: ScriptedAPI, make_pool: MakePool) -> None:
    """One 500, one 529 and one 429 with retry-after cost an attempt each, no answer."""
    pool = make_pool(slots=2)
    for name, reply in (
        ("500", Reply(status=500)),
        ("529", Reply(status=529)),
        ("429", Reply(status=429, retry_after_s=0.3)),
    ):
        api.on(f"^{name}$", reply, times=1)
    run = pool.fan_out(["500", "529", "429", "fine"], retry=SOON)
    assert run.counts() == {"completed": 4}
    assert list(run.frame["attempts"])[3] == 1
    assert run.frame["attempts"].sum() == 7
    assert pool.budget.spent_nano == api.billed_nano


@pytest.mark.parametrize("status", [401, 403])
def test_a_bad_key_pauses_the_pool(api: ScriptedAPI, make_pool: MakePool, status: int) -> None:
    """10,000 prompts with a bad key: a handful of requests, PoolPaused; once mended, unpause goes on."""
    api.fail(status=status, times=None)
    pool = make_pool(slots=4)
    with pytest.raises(PoolPaused, match="unpause"):
        pool.fan_out([f"{n}" for n in range(10_000)])
    assert len(api.requests) <= 16
    run = pool.last
    assert run is not None
    wait_until(lambda: run.counts() == {"failed": 1, "pending": 9_999})
    assert list(run.failed["failure_kind"]) == ["auth"]
    api.recover()
    pool.unpause()
    wait_until(lambda: run.counts().get("completed", 0) > 20, 60)
    run.cancel()
    run.wait(60)
    assert run.counts()["failed"] == 1


def test_a_key_mended_in_the_environment_is_used(
    api: ScriptedAPI, make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the message asks for is enough: set a valid key in this process, then unpause."""
    api.reply(lambda request: Reply("ok") if request.headers.get("x-api-key") == "good" else Reply(status=401))
    pool = make_pool(slots=2)
    with pytest.raises(PoolPaused, match="ANTHROPIC_API_KEY"):
        pool.fan_out([f"{n}" for n in range(8)])
    monkeypatch.setenv("ANTHROPIC_API_KEY", "good")
    pool.unpause()
    run = pool.last
    assert run is not None
    assert run.wait(60).counts() == {"failed": 1, "completed": 7}
    assert run.retry().counts() == {"completed": 8}


def test_refused_connection(api: ScriptedAPI, make_pool: MakePool) -> None:
    """An API that is not there is a transport failure; when it is back the pool works."""
    pool = make_pool(slots=1)
    pool.run("warm")
    api.stop()
    with pytest.raises(TaskFailed) as caught:
        pool.run("x", retry=ONCE)
    assert caught.value.result is not None
    assert caught.value.result.failure is not None
    assert caught.value.result.failure.kind is FailureKind.TRANSPORT
    api.start()
    assert pool.run("y").output == "ok"


def test_cut_and_malformed_streams(api: ScriptedAPI, make_pool: MakePool) -> None:
    """A broken stream ends in an answer or a transport failure, and nothing that was billed is missing."""
    pool = make_pool(slots=2)
    for name, reply in (
        ("cut", Reply("a long answer", chunk_chars=3, cut_after_chunks=2)),
        ("eof", Reply("a long answer", chunk_chars=3, eof_after_chunks=2)),
        ("malformed", Reply("a long answer", chunk_chars=3, malformed=True)),
        ("error", Reply("a long answer", chunk_chars=3, stream_error="overloaded_error")),
    ):
        api.on(f"^{name}$", reply, times=1)
    run = pool.fan_out(["cut", "eof", "malformed", "error"], retry=SOON)
    assert run.counts() == {"completed": 4}
    assert run.wait().done
    assert pool.budget.spent_nano >= 4 * 1_100_000


def test_an_api_that_never_answers(api: ScriptedAPI, make_pool: MakePool) -> None:
    """timeout_s ends the wait, and the slot is usable at once."""
    api.on("^silent$", Reply(hang=True))
    pool = make_pool(slots=1)
    pool.run("warm")
    with promptly():
        with pytest.raises(TaskFailed) as caught:
            pool.run("silent", timeout_s=0.5)
        assert caught.value.result is not None
        assert caught.value.result.failure is not None
        assert caught.value.result.failure.kind is FailureKind.TIMEOUT
        assert pool.run("next").output == "ok"


def test_cancel_in_mid_stream_keeps_what_there_is(api: ScriptedAPI, make_pool: MakePool) -> None:
    """Cancel ends the turn, not the process; the partial answer and its cost stay."""
    api.on("^long$", Reply("word " * 2000, output_tokens=4000, chunk_chars=10, chunk_delay_s=0.05))
    pool = make_pool(slots=1)
    pool.run("warm")
    pid = pids_of(pool)
    task = pool.submit("long")
    wait_until(lambda: "word" in pool.aio.engine.runners["s1"].activity.tail)
    with promptly():
        task.cancel()
        with pytest.raises(TaskCancelled) as caught:
            task.result(PROMPTLY_S)
        assert caught.value.result is not None
        assert caught.value.result.output.startswith("word")
        assert caught.value.result.cost_usd >= 0.001
        assert pool.run("next").output == "ok"
    assert pids_of(pool) == pid


def test_a_stopped_process_is_killed_and_replaced(api: ScriptedAPI, make_pool: MakePool) -> None:
    """A CLI under SIGSTOP hears nothing: it is killed and its slot opens another."""
    api.hold()
    pool = make_pool(slots=1)
    task = pool.submit("x")
    api.wait_for_held(1)
    (pid,) = pids_of(pool)
    os.kill(pid, signal.SIGSTOP)
    with promptly():
        task.cancel()
        with pytest.raises(TaskCancelled):
            task.result(PROMPTLY_S)
    api.release()
    assert pool.run("next").output == "ok"
    assert gone([pid]) == []
    assert pids_of(pool) != [pid]


def test_killed_when_idle_and_in_mid_turn(api: ScriptedAPI, make_pool: MakePool) -> None:
    """A process that dies when idle costs nothing; one that dies in mid-turn costs an attempt, which is booked."""
    pool = make_pool(slots=1)
    assert pool.run("warm").attempts == 1
    wait_until(lambda: pool.status().slots == {"idle": 1})
    os.kill(pids_of(pool)[0], signal.SIGKILL)
    wait_until(lambda: not pids_of(pool))
    assert pool.run("after idle").attempts == 1
    api.on("^mid$", Reply("word " * 100, chunk_chars=10, chunk_delay_s=0.05), times=1)
    task = pool.submit("mid", retry=SOON)
    wait_until(lambda: "word" in pool.aio.engine.runners["s1"].activity.tail)
    os.kill(pids_of(pool)[0], signal.SIGKILL)
    result = task.result(10)
    assert (result.output, result.attempts, result.cost_basis) == ("ok", 2, "estimated")
    attempts = pool.attempts(run=task.run.id)
    assert list(attempts["state"]) == ["failed", "completed"]
    assert next(iter(attempts["failure_kind"])) == "crash"
    assert attempts["cost_usd"].iloc[0] >= 0.001
    assert booked_nano(pool) == pool.budget.spent_nano


def test_kill_nine_every_seventh_of_ten_seconds(api: ScriptedAPI, make_pool: MakePool) -> None:
    """A random CLI killed every 0.7 s through 120 tasks of 0.2 s on 4 slots: each ends once, each try is booked."""
    api.latency_s = 0.2
    pool = make_pool(slots=4)
    over = threading.Event()
    killed: list[int] = []
    chance = random.Random(7)

    def answered() -> int:
        return pool.status().tasks.get("completed", 0)

    def kill_now_and_then() -> None:
        # On a machine that others keep busy 0.7 s can be too short for any answer, and for opening a session: one that
        # dies again and again while it opens is rightly given up.
        while not over.wait(0.7):
            pids = [slot.pid for slot in pool.slot_records() if slot.pid and slot.state in {"idle", "busy"}]
            if pids:
                victim = chance.choice(pids)
                try:
                    os.kill(victim, signal.SIGKILL)
                except ProcessLookupError:
                    continue
                killed.append(victim)
            before = answered()
            wait_until(lambda before=before: over.is_set() or answered() > before, 60)

    killer = threading.Thread(target=kill_now_and_then)
    killer.start()
    try:
        run = pool.fan_out([f"{n}" for n in range(120)], retry=RetryPolicy(max_attempts=10, initial_backoff_s=0.1))
    finally:
        over.set()
        killer.join()
    frame = run.frame
    assert run.counts() == {"completed": 120}
    assert list(frame["prompt"]) == [f"{n}" for n in range(120)]
    assert set(frame["output"]) == {"ok"}
    assert killed
    attempts = pool.attempts()
    assert set(attempts.loc[attempts["state"] == "completed"].groupby("task_id").size()) == {1}
    assert len(attempts) == frame["attempts"].sum()
    assert set(attempts["state"]) <= {"completed", "failed"}
    assert booked_nano(pool) == pool.budget.spent_nano
    assert pool.budget.reserved_nano == 0
    pool.close()
    wait_until(lambda: not processes_of(os.getpid()))


def test_an_unknown_model_fails_those_that_name_it(api: ScriptedAPI, make_pool: MakePool) -> None:
    """Tasks that name a model the API does not have fail without being asked one by one."""
    api.models = {"claude-haiku-4-5"}
    pool = make_pool(slots=2)
    run = pool.fan_out([f"{n}" for n in range(50)], model="claude-nosuch-9", wait=False)
    good = pool.run("fine")
    assert good.output == "ok"
    run.wait(60)
    assert run.counts() == {"failed": 50}
    assert len([request for request in api.requests if request.model == "claude-nosuch-9"]) <= 6


def test_scale_and_drain_of_real_processes(api: ScriptedAPI, make_pool: MakePool) -> None:
    """Fewer slots end their processes; drain lets the running task end and leaves none."""
    pool = make_pool(slots=3)
    pool.fan_out(["a", "b", "c"])
    wait_until(lambda: len(pids_of(pool)) == 3)
    pool.scale(1)
    wait_until(lambda: len(processes_of(os.getpid())) == 1)
    api.latency_s = 0.3
    task = pool.submit("last")
    wait_until(lambda: task.state is TaskState.RUNNING)
    assert pool.drain(5).tasks["completed"] == 4
    assert task.result().output == "ok"
    wait_until(lambda: not processes_of(os.getpid()))
