"""Imports what `%pool start` needs, in a thread of its own, while a person reads what `%load_ext` gave.

Invariants: nothing is imported before the cell that loaded the extension has ended, and neither pandas nor
claude_agent_sdk at all; a verb waits for the thread, so that only one of the two imports this package's modules.
"""

from __future__ import annotations

import contextlib
import threading
from importlib import import_module
from typing import Any

MODULES = (
    "claude_pool_nb.settings",
    "pydantic_settings",
    "claude_pool_nb.pool",
    "claude_pool_nb.sessions.claude_backend",
)
"""What a start on the real CLI imports, half a second of work together."""


class Prefetch:
    """Begins after the first cell; `wait` is instant when it is over or was never begun."""

    def __init__(self, shell: Any) -> None:
        self._events = shell.events
        self._thread: threading.Thread | None = None
        self._events.register("post_run_cell", self._begin)

    def _begin(self, _result: Any) -> None:
        """Called by IPython when the cell has ended."""
        self.unregister()
        # No daemon: an interpreter that ends waits for it, because threads that die in an import crash it.
        self._thread = threading.Thread(target=_import_all, name="claude-pool-prefetch", daemon=False)
        self._thread.start()

    def wait(self) -> None:
        """Wait until the thread is done."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def unregister(self) -> None:
        """Begin no more."""
        with contextlib.suppress(ValueError):  # it was taken back already
            self._events.unregister("post_run_cell", self._begin)


def _import_all() -> None:
    for module in MODULES:
        # The verb that needs it imports it again, and says what is wrong. RuntimeError: the interpreter is ending.
        with contextlib.suppress(ImportError, RuntimeError):
            import_module(module)
