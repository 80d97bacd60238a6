"""What only magics on the real CLI show: the spend gate, and what a dead kernel leaves behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from claude_pool_nb.errors import SpendGate
from claude_pool_nb.pool import Pool
from claude_pool_nb.sessions.processes import MARK, leftovers
from claude_pool_nb.testing import ScriptedAPI
from tests.integration.cli.conftest import MODEL
from tests.waiting import wait_until

Run = Callable[[str], BaseException | None]


@pytest.fixture
def run_cell(tmp_path: Path) -> Iterator[Run]:
    """Runs a cell in a shell with a pool of the real CLI; returns the error."""
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    shell.run_line_magic("load_ext", "claude_pool_nb")

    def run(source: str) -> BaseException | None:
        done = shell.run_cell(source)
        return done.error_before_exec or done.error_in_exec

    assert run(f"pool = %pool start --slots 1 --model {MODEL} --store {tmp_path / 'ledger.db'} --budget 12") is None
    yield run
    shell.run_line_magic("unload_ext", "claude_pool_nb")
    InteractiveShell.clear_instance()


def test_nothing_is_sent_while_the_gate_stands(run_cell: Run, api: ScriptedAPI) -> None:
    """Too many prompts, and a few dear ones, are refused before any request; with --yes they are sent."""
    many = run_cell("%pool fan_out ['x'] * 101")
    assert isinstance(many, SpendGate)
    assert "101 tasks, at $" in str(many)
    dear = run_cell("%pool fan_out ['word ' * 100_000] * 90 -m opus")
    assert isinstance(dear, SpendGate)
    assert "--yes" in str(dear)
    assert api.requests == []
    assert run_cell("assert pool.tasks().empty") is None
    assert run_cell("%pool fan_out ['x'] * 3 --yes") is None
    assert len(api.requests) == 3


def test_the_estimate_is_near_the_bill(run_cell: Run, api: ScriptedAPI) -> None:
    """List prices of the model asked for, for as many tokens as the prompt has."""
    pool = InteractiveShell.instance().user_ns["pool"]
    assert isinstance(pool, Pool)
    cheap = pool.preview(["word " * 1000], max_output_tokens=100)
    dear = pool.preview(["word " * 1000], max_output_tokens=100, model="claude-opus-4-5")
    # Haiku 4.5: $1 a million tokens in, $5 out; Opus 4.5: five times that. A word is one to two tokens.
    assert cheap.low_usd is not None
    assert cheap.high_usd is not None
    assert 0.0015 <= cheap.low_usd < cheap.high_usd <= 0.0035
    assert (dear.low_usd, dear.high_usd) == pytest.approx((5 * cheap.low_usd, 5 * cheap.high_usd), rel=0.05)
    nobody = pool.preview(["x"], model="claude-nobody-knows-9")
    assert (nobody.low_usd, nobody.high_usd) == (None, None)
    assert "unknown" in repr(nobody)
    assert api.requests == []


KERNEL = """
import os, sys
from claude_pool_nb.pool import Pool
from claude_pool_nb.sessions.processes import WATCHER
pool = Pool(slots=1, store=":memory:", model={model!r})
pool.run("warm")
print(pool.slot_records()[0].pid, WATCHER.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(shutil.which("setsid") is None, reason="needs sessions of processes")
def test_the_doctor_finds_an_orphan(run_cell: Run, api: ScriptedAPI) -> None:
    """A session whose kernel and watcher were killed is named, with the command that ends it; ours are not."""
    api.reply("fine")
    kernel = subprocess.Popen(
        [sys.executable, "-c", KERNEL.format(model=MODEL)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
    assert kernel.stdout is not None
    cli, watcher = (int(word) for word in kernel.stdout.readline().split())
    orphan = psutil.Process(cli)
    try:
        assert run_cell("%pool run mine") is None
        assert cli not in {process.pid for process in leftovers()}, "its kernel lives"
        orphan.suspend()  # an idle CLI ends with its input; one in mid-turn, or stopped, does not
        os.kill(watcher, signal.SIGKILL)
        kernel.kill()
        kernel.wait(60)
        wait_until(lambda: cli in {process.pid for process in leftovers()})
        assert run_cell("found = get_ipython().run_line_magic('pool', 'doctor').set_index('what')") is None
        found = InteractiveShell.instance().user_ns["found"].loc["leftovers"]
        assert str(cli) in found["value"].split(", ")
        assert found["advice"].endswith(f"kill -9 {found['value'].replace(',', '')}")
        assert not found["ok"]
        mine = InteractiveShell.instance().user_ns["pool"].slot_records()[0].pid
        assert str(mine) not in found["value"].split(", ")
        assert psutil.Process(mine).environ()[MARK].startswith(f"{os.getpid()}-")
    finally:
        kernel.kill()
        orphan.kill()
