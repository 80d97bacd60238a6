"""A shell with the extension loaded, in this process: fast, and without a kernel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config

DEMO = "%pool start --backend demo --store :memory: --demo-latency-s 0"
"""A pool for tests."""


@dataclass
class Cell:
    """What a cell gave."""

    value: Any
    """Its last expression."""
    error: BaseException | None
    """What it raised."""
    shown: list[dict[str, str]]
    """What it displayed beside its value."""

    @property
    def text(self) -> str:
        """What it displayed, as text."""
        return "\n".join(bundle.get("text/plain", "") for bundle in self.shown)


Runner = Callable[[str], Cell]


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    """A fresh shell with the extension."""
    InteractiveShell.clear_instance()
    made = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    made.run_line_magic("load_ext", "claude_pool_nb")
    yield made
    made.run_line_magic("unload_ext", "claude_pool_nb")
    InteractiveShell.clear_instance()


@pytest.fixture
def run_cell(shell: InteractiveShell) -> Runner:
    """Runs a cell and returns what it gave."""

    def run(source: str) -> Cell:
        with capture_output() as captured:
            done = shell.run_cell(source)
        shown = [output.data for output in captured.outputs]
        return Cell(done.result, done.error_before_exec or done.error_in_exec, shown)

    return run


@pytest.fixture
def demo(run_cell: Runner) -> Runner:
    """The same, with a demo pool started."""
    started = run_cell(DEMO)
    assert started.error is None, started.error
    return run_cell
