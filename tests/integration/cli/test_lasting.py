"""Conversations, and kernels that die, on the real CLI."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from claude_pool_nb.errors import TaskFailed
from claude_pool_nb.records import RetryPolicy, RunState
from claude_pool_nb.testing import Reply, ScriptedAPI
from claude_pool_nb.testing.replies import Request
from tests.integration.cli.conftest import MakePool, booked_nano
from tests.integration.processes import is_claude, processes_of
from tests.waiting import wait_until

ROOT = Path(__file__).parents[3]
ONCE = RetryPolicy(max_attempts=1)


def history(request: Request) -> list[str]:
    """What a request holds of the conversation: the texts of its messages, without the CLI's reminders."""
    found: list[str] = []
    for message in request.messages:
        content = message["content"]
        texts = [content] if isinstance(content, str) else [b.get("text", "") for b in content if b["type"] == "text"]
        found += [text for text in texts if not text.startswith("<system-reminder>")]
    return found


def test_a_conversation_goes_on_over_slots_restarts_and_failures(api: ScriptedAPI, make_pool: MakePool) -> None:
    """Its tasks see each other, in whatever slot and pool; a failed turn is rolled back; others see nothing of it."""
    api.reply(lambda request: f"to {request.prompt}")
    pool = make_pool(slots=2)
    pool.run("one", conversation="talk")
    pool.fan_out(["x", "y", "z", "w"])
    pool.run("two", conversation="talk")
    assert history(api.requests[-1]) == ["one", "to one", "two"]
    api.on("^bad$", Reply(status=400))
    with pytest.raises(TaskFailed):
        pool.run("bad", conversation="talk", retry=ONCE)
    pool.run("three", conversation="talk")
    assert history(api.requests[-1]) == ["one", "to one", "two", "to two", "three"]
    for request in api.requests:
        if request.prompt in {"x", "y", "z", "w"}:
            assert [text for text in history(request) if not text.startswith("<")] == [request.prompt]
    pool.close()
    api.clear()
    again = make_pool(slots=1)
    assert again.run("four", conversation="talk").output == "to four"
    assert history(api.requests[-1]) == ["one", "to one", "two", "to two", "three", "to three", "four"]
    assert again.run("alone").output == "to alone"
    assert [text for text in history(api.requests[-1]) if not text.startswith("<")] == ["alone"]
    talks = again.conversations()
    assert list(talks["name"]) == ["talk"]
    assert booked_nano(again) == again.budget.spent_nano


KERNEL = """
import sys
from claude_pool_nb.pool import Pool
pool = Pool(3, store=sys.argv[1], model="claude-haiku-4-5", budget_name="b", budget_usd=1)
print("started", flush=True)
pool.fan_out([f"{n}" for n in range(30)])
"""


def test_a_kernel_killed_in_mid_run(api: ScriptedAPI, make_pool: MakePool, tmp_path: Path) -> None:
    """No CLI is left soon after; the next kernel resumes just what is missing, and the bill adds up."""
    api.latency_s = 0.15
    kernel = subprocess.Popen(
        [sys.executable, "-c", KERNEL, str(tmp_path / "ledger.db")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    api.wait_for(9, 20)
    pids = processes_of(kernel.pid)
    assert len(pids) == 3
    kernel.send_signal(signal.SIGKILL)
    kernel.wait()
    wait_until(lambda: not any(is_claude(pid) for pid in pids))
    asked = len(api.requests)
    api.latency_s = 0
    pool = make_pool(slots=2, budget_name="b", budget_usd=1)
    assert any("r1" in warning for warning in pool.warnings)
    run = pool.get_run()
    assert run.state is RunState.INTERRUPTED
    missing = run.counts()["interrupted"]
    assert 30 - missing >= 6
    run.resume()
    assert run.counts() == {"completed": 30}
    assert len(api.requests) - asked == missing
    attempts = pool.attempts()
    assert set(attempts.loc[attempts["state"] == "completed"].groupby("task_id").size()) == {1}
    assert booked_nano(pool) == pool.budget.spent_nano >= 30 * 1_100_000
    assert pool.budget.reserved_nano == 0


FORGETFUL = """
import sys
from claude_pool_nb.pool import Pool
pool = Pool(2, store=sys.argv[1], model="claude-haiku-4-5")
print(pool.run("x").output, flush=True)
pool.submit("left behind")
"""


def test_a_script_that_forgets_to_close(api: ScriptedAPI, tmp_path: Path) -> None:
    """It ends at once, without a word on stderr, and leaves no process."""
    done = subprocess.run(
        [sys.executable, "-c", FORGETFUL, str(tmp_path / "ledger.db")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")
    left = [process.pid for process in psutil.process_iter() if is_claude(process.pid)]
    mine = [pid for pid in left if _home(pid) == os.environ["HOME"]]
    assert mine == []


def _home(pid: int) -> str | None:
    try:
        return psutil.Process(pid).environ().get("HOME")
    except psutil.Error:
        return None
