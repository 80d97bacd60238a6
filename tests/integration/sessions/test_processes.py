"""No process of ours outlives what it belongs to."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from claude_pool_nb.config import ResolvedConfig
from claude_pool_nb.errors import SessionLost
from claude_pool_nb.records import FailureKind
from claude_pool_nb.sessions import claude, processes
from claude_pool_nb.sessions.base import Session, TextDelta, ToolStarted, Turn
from claude_pool_nb.sessions.claude_backend import ClaudeBackend
from claude_pool_nb.testing import Reply, ScriptedAPI
from claude_pool_nb.testing.conformance import hear
from tests.integration.processes import alive, gone
from tests.integration.sessions.conftest import OPTIONS
from tests.waiting import promptly, until, wait_until

pytestmark = pytest.mark.cli

AGENT = ResolvedConfig(profile="agent", model="claude-haiku-4-5", preset=True, tools=("Bash",), allowed_tools=("Bash",))
LONG_COMMAND = "python3 -c 'import time; time.sleep(60)'"


KERNEL = """
import asyncio
from claude_pool_nb.config import ResolvedConfig
from claude_pool_nb.sessions.base import Turn
from claude_pool_nb.sessions.claude_backend import ClaudeBackend

OPTIONS = ResolvedConfig(...)

async def go(session):
    async for event in session.ask(Turn("go", OPTIONS)):
        pass

async def main():
    backend = ClaudeBackend()
    sessions = [backend.session("s1"), backend.session("s2")]
    for session in sessions:
        await session.open(OPTIONS)
    await asyncio.gather(*(go(session) for session in sessions))

asyncio.run(main())
"""


def runs(process: psutil.Process, words: str) -> bool:
    """Whether the process is alive and its last argument has those words."""
    try:
        return words in "".join(process.cmdline()[-1:])
    except psutil.Error:
        return False


async def busy_shell(session: Session, api: ScriptedAPI) -> tuple[asyncio.Future[object], list[int]]:
    """Let the model start a command that takes a minute; give the turn and the pids of its processes."""
    api.script(Reply(tool_calls=[("Bash", {"command": LONG_COMMAND, "description": "wait"})]))
    started = asyncio.Event()

    async def note(event: object) -> None:
        if isinstance(event, ToolStarted):
            started.set()

    running = asyncio.ensure_future(hear(session, Turn("go", AGENT), note))
    await started.wait()
    assert session.info.pid is not None
    root = psutil.Process(session.info.pid)
    # The shell has the words among its arguments, too, before it has started what they say.
    await until(lambda: sum(runs(child, "sleep(60)") for child in root.children(recursive=True)) > 1, 10)
    return running, [root.pid, *(c.pid for c in root.children(recursive=True))]


async def test_own_process_group(session: Session) -> None:
    """A signal to the kernel's process group does not reach the CLI."""
    pid = session.info.pid
    assert pid is not None
    assert os.getpgid(pid) != os.getpgid(0)
    assert os.getsid(pid) == pid


async def test_close_takes_the_grandchildren_along(backend: ClaudeBackend, api: ScriptedAPI) -> None:
    """Shells that the CLI started end with the session, in mid-turn too."""
    session = backend.session("s1")
    await session.open(AGENT)
    running, pids = await busy_shell(session, api)
    assert len(pids) >= 3
    with promptly():
        await session.close()
    assert gone(pids) == []
    await running


async def test_a_killed_cli_leaves_no_shell(backend: ClaudeBackend, api: ScriptedAPI) -> None:
    """When the CLI alone is killed its shells are orphans in sessions of their own; close ends them."""
    session = backend.session("s1")
    await session.open(AGENT)
    running, pids = await busy_shell(session, api)
    os.kill(pids[0], signal.SIGKILL)
    await running
    await session.close()
    assert gone(pids) == []


@pytest.mark.parametrize("agent", [False, True], ids=["prompt", "agent"])
def test_nothing_outlives_a_killed_kernel(agent: bool, api: ScriptedAPI, tmp_path: Path) -> None:
    """After kill -9 of the parent in mid-turn there is soon no process of ours."""
    if agent:
        api.reply(Reply(tool_calls=[("Bash", {"command": LONG_COMMAND, "description": "wait"})]))
    else:
        api.reply(Reply(hang=True))
    options = "profile='agent', preset=True, tools=('Bash',), allowed_tools=('Bash',), " if agent else ""
    kernel = tmp_path / "kernel.py"
    kernel.write_text(KERNEL.replace("...", f"{options}model='claude-haiku-4-5'"), encoding="utf-8")
    parent = subprocess.Popen(
        [sys.executable, str(kernel)], env={**os.environ, "PYTHONPATH": os.getcwd()}, cwd=tmp_path
    )
    try:
        api.wait_for(2, timeout_s=30)
        tree = psutil.Process(parent.pid)
        wanted = 2 + (4 if agent else 0)  # two CLIs, each with a shell and what it runs
        wait_until(lambda: len(tree.children(recursive=True)) > wanted, 10)  # and the watcher
        pids = [child.pid for child in tree.children(recursive=True)]
        parent.kill()
        assert gone(pids) == []
    finally:
        parent.kill()
        parent.wait()


def test_an_interrupt_of_the_kernels_group_leaves_the_session_alone(api: ScriptedAPI, tmp_path: Path) -> None:
    """Ctrl-C in a terminal, or the interrupt button, signals the whole group: the turn goes on, the watcher too."""
    api.reply(Reply("still here"))
    api.hold()
    kernel = tmp_path / "kernel.py"
    calm = "import signal\nsignal.signal(signal.SIGINT, lambda *_: print('interrupted', flush=True))\n"
    told = KERNEL.replace("        pass", "        last = event\n    print(last.output, flush=True)")
    kernel.write_text(calm + told.replace("...", "model='claude-haiku-4-5'"), encoding="utf-8")
    parent = subprocess.Popen(
        [sys.executable, str(kernel)],
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        api.wait_for_held(2, timeout_s=30)
        os.killpg(parent.pid, signal.SIGINT)
        assert parent.stdout is not None
        assert parent.stdout.readline() == "interrupted\n"
        api.release()
        assert [parent.stdout.readline() for _ in range(2)] == ["still here\n"] * 2
        assert parent.wait(60) == 0
    finally:
        parent.kill()
        parent.wait()


async def test_killed_when_idle(session: Session) -> None:
    """A process that dies between turns is noticed: the next turn is a crash that cost nothing."""
    assert session.info.pid is not None
    os.kill(session.info.pid, signal.SIGKILL)
    await until(lambda: session.broken)
    result = (await hear(session, Turn("hello", OPTIONS))).result
    assert result.failure is not None
    assert result.failure.kind is FailureKind.CRASH
    assert result.failure.error_type == "process_killed"
    assert result.cost_nano == 0
    with pytest.raises(SessionLost):
        await session.reset()


async def test_a_stopped_process_is_closed_in_time(session: Session) -> None:
    """A CLI that hangs (SIGSTOP) cannot be interrupted, but it is closed within the time of a polite close."""
    pid = session.info.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    running = asyncio.ensure_future(hear(session, Turn("hello", OPTIONS)))
    await asyncio.sleep(0.05)  # the prompt goes into the pipe; nothing tells when
    with promptly():
        await session.interrupt()
        await session.close()
    assert gone([pid]) == []
    result = (await running).result
    assert result.failure is not None
    assert result.failure.kind is FailureKind.CRASH


async def test_kill_is_at_once(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """close(kill=True) of a stopped process does not wait for it to end by itself."""
    pid = session.info.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr(claude, "POLITE_S", 60.0)
    with promptly():
        await session.close(kill=True)
    assert gone([pid]) == []


async def test_orphans_are_ended_only_if_they_are_ours(session: Session) -> None:
    """An orphan is ended where pid, start time and executable all fit, and left alone otherwise."""
    info = session.info
    assert info.pid is not None
    assert info.started_at is not None
    assert info.executable
    assert processes.end_orphans([(info.pid, info.started_at + 5, info.executable)]) == 0
    assert processes.end_orphans([(info.pid, info.started_at, "/usr/bin/vim")]) == 0
    assert alive(info.pid)
    assert processes.end_orphans([(info.pid, info.started_at, info.executable)]) == 1
    assert gone([info.pid]) == []
    await until(lambda: session.broken)


async def test_killed_in_mid_answer_books_what_was_streamed(session: Session, api: ScriptedAPI) -> None:
    """A turn that is killed costs its input, known from the start of the stream, and an estimate of its output."""
    api.reply(Reply("word " * 100, chunk_chars=25, chunk_delay_s=0.1, input_tokens=2000))

    async def kill(event: object) -> None:
        if isinstance(event, TextDelta) and session.info.pid is not None:
            os.kill(session.info.pid, signal.SIGKILL)

    result = (await hear(session, Turn("hello", OPTIONS), kill)).result
    assert result.failure is not None
    assert result.cost_basis == "estimated"
    assert result.usage.input_tokens == 2000
    assert result.cost_nano == result.usage.input_tokens * 1000 + result.usage.output_tokens * 5000
    assert result.output.startswith("word")


async def test_a_process_is_to_be_replaced_after_many_tasks_or_when_it_is_large(api: ScriptedAPI) -> None:
    """The number of tasks and the memory are limits of the options; where these name none there is no limit."""
    session = ClaudeBackend().session("s1")
    await session.open(replace(OPTIONS, max_tasks_per_process=2, max_rss_bytes=None))
    assert session.info.rss_bytes is not None
    assert session.info.rss_bytes > 50 << 20
    for wanted in (False, True):
        await hear(session, Turn("hello", OPTIONS))
        await session.reset()
        assert session.needs_recycling is wanted
    await session.close()
    assert session.info.rss_bytes is None
    session = ClaudeBackend().session("s1")
    await session.open(replace(OPTIONS, max_tasks_per_process=None, max_rss_bytes=1 << 20))
    assert session.needs_recycling
    await session.close()
