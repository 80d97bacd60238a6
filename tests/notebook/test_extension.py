"""What the extension adds, and that all of it is taken back; how the view reaches a kernel and a terminal."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell

from claude_pool_nb import NoPool, RunNotFound
from claude_pool_nb.notebook.live import subshell
from claude_pool_nb.notebook.live.progress import Progress
from claude_pool_nb.notebook.live.subshell import Reach, own_subshell, reach_of
from claude_pool_nb.notebook.live.terminal import LineView
from claude_pool_nb.records import TaskRecord, TaskState
from tests.notebook.conftest import DEMO, Runner

# -- loading -----------------------------------------------------------------------------------------------------------


def _completions(shell: InteractiveShell, text: str) -> list[str]:
    with provisionalcompleter():
        return [found.text for found in shell.Completer.completions(text, len(text))]


def test_unloading_takes_everything_back(shell: InteractiveShell, run_cell: Runner) -> None:
    """After %unload_ext there is no magic, no completion, no display, no rewriting of questions, and no pool."""
    pool = run_cell(DEMO).value
    assert _completions(shell, "%pool fan_o") == ["fan_out"]
    result = run_cell("%pool run hello").value
    assert "text/markdown" in shell.display_formatter.format(result)[0]
    assert shell.display_formatter.format(pool)[0]["text/plain"].startswith("pool p")
    run_cell("%unload_ext claude_pool_nb")
    assert pool.closed
    assert "fan_out" not in _completions(shell, "%pool fan_o")
    assert "pool" not in shell.magics_manager.magics["line"]
    assert "text/markdown" not in shell.display_formatter.format(result)[0]
    assert not shell.display_formatter.format(pool)[0]["text/plain"].startswith("pool p")
    assert "run_line_magic('pool'" not in shell.transform_cell("%pool run Why?")
    run_cell("%load_ext claude_pool_nb")
    assert isinstance(run_cell("%pool run hello").error, NoPool)


def test_loading_twice_is_loading_once(shell: InteractiveShell, run_cell: Runner) -> None:
    """A second %load_ext or a %reload_ext adds nothing twice."""
    run_cell("%load_ext claude_pool_nb\n%reload_ext claude_pool_nb")
    assert _completions(shell, "%pool fan_o") == ["fan_out"]
    assert len([one for one in shell.configurables if type(one).__name__ == "PoolMagics"]) == 1


def test_what_a_map_needs_is_completed(shell: InteractiveShell, run_cell: Runner) -> None:
    """Rows are variables; a grid varies names of the template that are no columns, and options; both have values."""
    run_cell("import pandas as pd\nreviews = pd.DataFrame({'text': ['a']})")
    assert "reviews" in _completions(shell, "%pool fan_out --over rev")
    assert _completions(shell, "%pool fan_out 'x' --over reviews --grid mod") == ["model="]
    assert _completions(shell, "%pool fan_out 'x' --grid model=ha") == ["haiku"]
    assert _completions(shell, "%pool fan_out 'x' --grid model=haiku,so") == ["sonnet"]
    assert _completions(shell, "%pool preview 'x' --grid=effort=hi") == ["high"]
    line = "%%pool fan_out --over reviews --grid t"
    with provisionalcompleter():
        found = list(shell.Completer.completions(line + "\n{{ text }} in a {{ tone }} way", len(line)))
    assert [one.text for one in found][:1] == ["tone="]
    assert "text=" not in [one.text for one in found]


def test_keys_of_sums_are_completed(shell: InteractiveShell) -> None:
    """One after the other, before a pool is there, for each verb its own."""
    assert _completions(shell, "%pool metrics --by requested_m") == ["requested_model"]
    assert _completions(shell, "%pool metrics --by model,ta") == ["model,tag"]
    assert _completions(shell, "%pool usage --by proj") == ["project"]
    assert "verb" not in _completions(shell, "%pool cost --by ")


def test_ids_are_completed(shell: InteractiveShell, demo: Runner) -> None:
    """Runs and tasks of this kernel are offered where an id stands, the latest first."""
    demo("%pool fan_out ['a', 'b']")
    demo("%pool run c")
    assert _completions(shell, "%pool retry ") == ["r2", "r1"]
    assert _completions(shell, "%pool show r1") == ["r1.2", "r1.1"]
    assert _completions(shell, "%pool cancel a") == ["all"]
    assert _completions(shell, "%pool tasks --run r") == ["r2", "r1"]


def test_a_restarted_kernel_finds_what_there_was(shell: InteractiveShell, run_cell: Runner, tmp_path: Path) -> None:
    """With a ledger on disk the next pool shows, waits for and resumes what an earlier one has run."""
    start = f"%pool start --backend demo --demo-latency-s 0 --store {tmp_path / 'ledger.db'}"
    run_cell(start)
    run_cell("%pool fan_out ['a', 'b'] --tag old")
    run_cell("%pool pause\nrun = %pool fan_out ['c', 'd'] --no-wait")
    run_cell("%pool stop")
    run_cell(start)
    assert list(run_cell("%pool wait r1").value["state"]) == ["completed", "completed"]
    assert list(run_cell("%pool runs").value["state"]) == ["completed", "interrupted"]
    assert run_cell("%pool wait").error is None
    assert _completions(shell, "%pool resume r") == ["r2", "r1"]
    resumed = run_cell("%pool resume")
    assert "r2 is the latest that was interrupted: 2 of 2 to run" in resumed.text
    assert list(resumed.value["state"]) == ["completed", "completed"]
    assert resumed.value.attrs["run_id"] == "r2"
    assert "was interrupted" in str(run_cell("%pool resume").error)
    assert run_cell("%pool run e").value.run_id == "r3"
    assert isinstance(run_cell("%pool wait r77").error, RunNotFound)


def test_real_dollars_stay_real_in_a_demo_pool(run_cell: Runner, tmp_path: Path) -> None:
    """A run that real money was spent on is not shown as play money, nor added to it, nor resumed on the demo."""
    path = tmp_path / "ledger.db"
    start = f"%pool start --backend demo --demo-latency-s 0 --budget 1 --store {path}"
    run_cell(start)
    run_cell("%pool fan_out ['a', 'b']")
    run_cell("%pool pause\nrun = %pool fan_out ['c'] --no-wait")
    run_cell("%pool stop")
    with sqlite3.connect(path) as ledger:
        ledger.execute("update run set backend = 'claude'")
        ledger.execute("update budget set play_money = 0")
    run_cell(start)
    run_cell("%pool fan_out ['d']")
    shown = run_cell("%pool wait r1").text
    assert "play money" not in shown
    assert "left" not in shown
    assert "play money" in run_cell("%pool wait r3").text
    assert sorted(run_cell("%pool cost").value["play_money"]) == [False, True]
    assert "demo backend" in str(run_cell("%pool resume").error)
    assert "--backend claude" in str(run_cell("%pool resume r2").error)


# -- how clicks reach a kernel -----------------------------------------------------------------------------------------


@pytest.fixture
def forgotten() -> Iterator[None]:
    """No subshell of ours from an earlier test."""
    before, subshell._Subshell.id = subshell._Subshell.id, None
    yield
    subshell._Subshell.id = before


class _Loop:
    """An event loop of a kernel's thread: it runs what it is given at once, on another thread."""

    def add_callback(self, call: Any) -> None:
        """Run it."""
        threading.Thread(target=call).start()


def _kernel(create: Any) -> Any:
    made: list[str] = []
    manager = SimpleNamespace(_create_subshell=lambda: made.append(create()) or made[-1], list_subshell=lambda: made)
    return SimpleNamespace(
        _supports_kernel_subshells=True, shell_channel_thread=SimpleNamespace(manager=manager, io_loop=_Loop())
    )


@pytest.mark.usefixtures("forgotten")
def test_a_subshell_of_ours_is_made_once() -> None:
    """Every view of a kernel uses the same subshell."""
    ids = iter("ab")
    kernel = _kernel(lambda: next(ids))
    assert own_subshell(kernel) == "a"
    assert own_subshell(kernel) == "a"


@pytest.mark.usefixtures("forgotten")
def test_a_kernel_without_the_hook_is_told_apart() -> None:
    """Old kernels, kernels whose private parts changed, and no kernel at all: the view says what works."""

    def fails() -> str:
        raise RuntimeError("no more of this")

    assert own_subshell(_kernel(fails)) is None
    assert own_subshell(SimpleNamespace()) is None
    assert reach_of(SimpleNamespace()) is Reach.INTERRUPT_ONLY
    assert reach_of(None) is Reach.NO_KERNEL
    assert not Reach.INTERRUPT_ONLY.works
    assert "■" in Reach.INTERRUPT_ONLY.about


def test_the_line_of_a_terminal_is_taken_away(capsys: pytest.CaptureFixture[str]) -> None:
    """It is written over in place, and nothing of it stays."""
    progress = Progress("r1")
    states = {"r1.1": TaskState.COMPLETED, "r1.2": TaskState.RUNNING}
    progress.seed(TaskRecord(task, "r1", 1, "a", state) for task, state in states.items())
    view = LineView(progress)
    view.show()
    shown = capsys.readouterr().err
    assert shown.startswith("\rr1 ")
    assert "1 done · 1 running" in shown
    assert "\n" not in shown
    view.close({})
    assert capsys.readouterr().err.strip("\r ") == ""
