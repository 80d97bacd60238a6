"""The live view in a terminal: one line that is written over. Nothing of it is left when it is over."""

from __future__ import annotations

import shutil
import sys

from claude_pool_nb.notebook.live import render
from claude_pool_nb.notebook.live.progress import Progress


class LineView:
    """One line on stderr."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.shown = False

    def prepare(self) -> None:
        """A line needs no preparation."""

    def show(self) -> None:
        """Write the line for the first time."""
        self.shown = True
        self.tick()

    def tick(self) -> None:
        """Write it again over itself."""
        width = max(20, shutil.get_terminal_size().columns - 1)
        sys.stderr.write(f"\r{render.line(self._progress)[:width]:<{width}}")
        sys.stderr.flush()

    def close(self, _bundle: dict[str, str]) -> bool:
        """Take it away; what is left of the run is shown below."""
        if not self.shown:
            return False
        self.shown = False
        sys.stderr.write("\r" + " " * max(20, shutil.get_terminal_size().columns - 1) + "\r")
        sys.stderr.flush()
        return False
