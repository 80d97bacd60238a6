"""Imports what `%pool start` needs, in a thread of its own, while a person reads what `%load_ext` gave. Then the
widgets of the first live view.

Invariants: nothing is imported before the cell that loaded the extension has ended, and neither pandas nor
claude_agent_sdk at all; a verb waits until the thread is done with this package's modules, so that only one of the two
imports them; ipywidgets comes last, nobody waits for it, and only where a person may watch.
"""

from __future__ import annotations

import contextlib
import threading
from importlib import import_module
from typing import Any

from claude_pool_nb.errors import PoolError
from claude_pool_nb.notebook.live.mode import Mode, decide

MODULES = ("claude_pool_nb.pool", "claude_pool_nb.sessions.claude_backend")
"""What a start on the real CLI imports, with what reads the settings: a quarter of a second of work together."""
WIDGETS = "ipywidgets"
"""What the first live view imports; a third of a second, where the machine is busy."""


class Prefetch:
    """Begins after the first cell; `wait` is instant when it is over or was never begun."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._ready = threading.Event()
        self._thread: threading.Thread | None = None
        shell.events.register("post_run_cell", self._begin)

    def _begin(self, _result: Any) -> None:
        """Called by IPython when the cell has ended."""
        self.unregister()
        # No daemon: an interpreter that ends waits for it, because threads that die in an import crash it.
        self._thread = threading.Thread(target=self._import_all, name="claude-pool-prefetch", daemon=False)
        self._thread.start()

    def _import_all(self) -> None:
        try:
            _import(*MODULES)
            _read_settings()
        finally:
            self._ready.set()
        if decide("auto", self._shell) is Mode.WIDGET:
            _import(WIDGETS)

    def wait(self) -> None:
        """Wait until this package's modules are imported."""
        if self._thread is not None:
            self._ready.wait()
            self._thread = None

    def unregister(self) -> None:
        """Begin no more."""
        with contextlib.suppress(ValueError):  # it was taken back already
            self._shell.events.unregister("post_run_cell", self._begin)


def _import(*modules: str) -> None:
    for module in modules:
        # The verb that needs it imports it again, and says what is wrong. RuntimeError: the interpreter is ending.
        with contextlib.suppress(ImportError, RuntimeError):
            import_module(module)


def _read_settings() -> None:
    # Only what is set anywhere has to be checked, with what takes its time to import.
    with contextlib.suppress(ImportError, RuntimeError, PoolError):
        import_module("claude_pool_nb.settings").load_settings()
