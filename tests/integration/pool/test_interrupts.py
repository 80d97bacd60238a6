"""The kernel's interrupt: once, twice, thrice, in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from claude_pool_nb import ConfigError, Pool
from tests.waiting import PROMPTLY_S, promptly

ROOT = Path(__file__).parents[3]

PRELUDE = """
import json, sys, time, threading, asyncio
from claude_pool_nb.pool import Pool
from claude_pool_nb.testing.scripted_session import ScriptedBackend
def say(**facts):
    print(json.dumps(facts), flush=True)
def answer(turn):
    return turn.prompt
def kind(error):
    return "KeyboardInterrupt" if isinstance(error, KeyboardInterrupt) else type(error).__name__
backend = ScriptedBackend(answer)
pool = Pool(2, backend=backend, store=":memory:", driver=sys.argv[1])
pool.fan_out(["w1", "w2"])
opened = backend.opened
backend.delay_s = 30
def started():
    while len(backend.asked) < 4:
        time.sleep(0.01)
    say(ready=True)
"""

CELL = (
    PRELUDE
    + """
backend.deaf = "deaf" in sys.argv
threading.Thread(target=started, daemon=True).start()
try:
    pool.fan_out([f"{n}" for n in range(6)])
    raised = "nothing"
except BaseException as error:
    raised = kind(error)
at = time.time()
run = pool.last
say(raised=raised, at=at, counts=run.counts(), state=run.state, rows=len(run.frame))
while pool.status().tasks.get("running"):
    pool.wait(timeout_s=60)
backend.delay_s = 0
backend.deaf = False
reopened = backend.opened - opened
resumed = run.resume()
say(counts=resumed.counts(), reopened=reopened, attempts=sorted(resumed.frame["attempts"]))
pool.close()
"""
)


class Cell:
    """A python process that runs a cell."""

    def __init__(self, code: str, *args: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *args],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def hear(self) -> dict[str, Any]:
        """The next thing it says."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        heard: dict[str, Any] = json.loads(line)
        return heard

    def interrupt(self) -> float:
        """Press the button; returns when."""
        at = time.time()
        self.process.send_signal(signal.SIGINT)
        return at

    def end(self) -> str:
        """Wait for its end; returns what it wrote to stderr."""
        _, errors = self.process.communicate(timeout=60)
        assert self.process.returncode == 0, errors
        return errors


inline_works = pytest.mark.skipif(sys.version_info >= (3, 14), reason="the inline driver is refused there")


@pytest.mark.parametrize("driver", ["thread", pytest.param("inline", marks=inline_works)])
def test_one_interrupt_stops_the_run(driver: str) -> None:
    """KeyboardInterrupt at once; every row is kept, sessions stay warm, and resume goes on."""
    cell = Cell(CELL, driver)
    cell.hear()
    pressed = cell.interrupt()
    told = cell.hear()
    assert told["raised"] == "KeyboardInterrupt"
    assert told["at"] - pressed < PROMPTLY_S
    assert told["counts"] == {"interrupted": 6}
    assert told["state"] == "interrupted"
    assert told["rows"] == 6
    after = cell.hear()
    assert after["counts"] == {"completed": 6}
    assert after["reopened"] == 0
    assert after["attempts"] == [1, 1, 1, 1, 2, 2]
    assert cell.end() == ""


def test_a_deaf_session_does_not_keep_the_cell() -> None:
    """A session that hears no interrupt is killed; the cell is given back about a second after the button."""
    cell = Cell(CELL, "thread", "deaf")
    cell.hear()
    pressed = cell.interrupt()
    told = cell.hear()
    assert told["raised"] == "KeyboardInterrupt"
    assert told["at"] - pressed < PROMPTLY_S
    assert cell.hear()["counts"] == {"completed": 6}
    cell.end()


PATIENT = """
from claude_pool_nb import pool
from claude_pool_nb.engine import slots
pool.INTERRUPT_GRACE_S = slots.STOP_GRACE_S = slots.END_GRACE_S = 60
"""


def test_a_second_interrupt_kills_at_once() -> None:
    """The second press does not wait for the grace of a deaf session."""
    cell = Cell(PATIENT + CELL, "thread", "deaf")
    cell.hear()
    cell.interrupt()
    time.sleep(0.5)  # two presses in one moment are one signal
    pressed = cell.interrupt()
    told = cell.hear()
    assert told["raised"] == "KeyboardInterrupt"
    assert told["at"] - pressed < PROMPTLY_S
    assert told["counts"] == {"interrupted": 6}
    assert cell.hear()["counts"] == {"completed": 6}
    cell.end()


STUCK = (
    PRELUDE
    + """
from claude_pool_nb.testing.scripted_session import ScriptedSession
async def nothing(self): pass
async def no_close(self, *, kill=False): pass
ScriptedSession.interrupt, ScriptedSession.close = nothing, no_close
threading.Thread(target=started, daemon=True).start()
try:
    pool.fan_out([f"{n}" for n in range(6)])
except BaseException as error:
    say(raised=kind(error), at=time.time(), counts=pool.last.counts())
"""
)


def test_a_third_interrupt_raises_without_waiting() -> None:
    """The third press gives the cell back whatever sessions do."""
    cell = Cell(STUCK, "thread")
    cell.hear()
    cell.interrupt()
    time.sleep(0.5)  # two presses in one moment are one signal
    cell.interrupt()
    time.sleep(0.5)  # two presses in one moment are one signal
    pressed = cell.interrupt()
    told = cell.hear()
    assert told["raised"] == "KeyboardInterrupt"
    assert told["at"] - pressed < PROMPTLY_S
    assert sum(told["counts"].values()) == 6
    cell.process.wait(60)


AWAIT = (
    PRELUDE
    + """
import signal
async def cell():
    task = asyncio.current_task()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, task.cancel)
    run = pool.fan_out([f"{n}" for n in range(6)], wait=False)
    threading.Thread(target=started, daemon=True).start()
    await run
try:
    asyncio.run(cell())
except BaseException as error:
    say(raised=kind(error), at=time.time(), counts=pool.last.counts())
pool.close()
"""
)


def test_an_interrupted_await_stops_the_run_too() -> None:
    """`await run` in a cell: the cancellation that a kernel's interrupt causes stops the work first."""
    cell = Cell(AWAIT, "thread")
    cell.hear()
    pressed = cell.interrupt()
    told = cell.hear()
    assert told["raised"] == "CancelledError"
    assert told["at"] - pressed < PROMPTLY_S
    assert told["counts"] == {"interrupted": 6}
    cell.end()


ACCEPT = (
    PRELUDE
    + """
write = pool.ledger.allocate_run
def slow(**options):
    say(ready=True)
    time.sleep(0.5)
    return write(**options)
pool.ledger.allocate_run = slow
try:
    pool.fan_out(["a", "b"])
    say(raised=None)
except BaseException as error:
    deadline = time.time() + 5
    while not pool.last.done and time.time() < deadline:
        time.sleep(0.01)
    say(raised=kind(error), counts=pool.last.counts())
pool.close()
"""
)


def test_an_interrupt_while_a_run_is_accepted_is_not_lost() -> None:
    """The button pressed before the run is in the ledger stops it all the same."""
    cell = Cell(ACCEPT, "thread")
    cell.hear()
    cell.interrupt()
    told = cell.hear()
    assert told == {"raised": "KeyboardInterrupt", "counts": {"interrupted": 2}}
    cell.end()


def test_a_process_that_ends_without_closing_ends_cleanly() -> None:
    """A script that forgets to close its pool exits at once, without a word on stderr."""
    code = PRELUDE + "\npool.submit('left behind')\nsay(ready=True)\n"
    cell = Cell(code, "thread")
    cell.hear()
    with promptly():
        assert cell.end() == ""


INLINE = """
import asyncio, threading
from claude_pool_nb.pool import Pool
from claude_pool_nb.testing.scripted_session import ScriptedBackend
threads = set()
def answer(turn):
    threads.add(threading.current_thread().name)
    return turn.prompt
with Pool(2, backend=ScriptedBackend(answer, delay_s=0.01), store=":memory:", driver="inline") as pool:
    task = pool.submit("first")
    assert pool.run("x").output == "x"
    run = pool.fan_out(["a", "b", "c"])
    assert run.counts() == {"completed": 3}
    assert task.result(5).output == "first"
    stopped = pool.submit("stopped")
    stopped.cancel()
    try:
        stopped.result(5)
    except Exception as error:
        assert type(error).__name__ == "TaskCancelled", error
    assert list(run.retry(state="all").frame["output"]) == ["a", "b", "c"]
assert threads == {"MainThread"}, threads
assert asyncio.SelectorEventLoop.run_until_complete is asyncio.BaseEventLoop.run_until_complete
print("ok")
"""


@inline_works
def test_the_inline_driver_runs_in_the_calling_thread() -> None:
    """driver="inline": sessions run in the main thread, where a debugger sees them; every verb works.

    Loops that are not the pool's, a kernel's for one, stay as asyncio made them.
    """
    done = subprocess.run(
        [sys.executable, "-c", INLINE],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.stdout == "ok\n", done.stderr
    assert done.stderr == ""


def test_the_inline_driver_is_refused_where_it_cannot_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Python 3.14 a pool with it is not made, and the error says what to use."""
    monkeypatch.setattr("claude_pool_nb.engine.portal.sys", SimpleNamespace(version_info=(3, 14)))
    with pytest.raises(ConfigError, match="driver='thread'"):
        Pool(1, backend="demo", store=":memory:", driver="inline")
