"""Where the progress of a cell can be shown.

Invariants: widgets only where a person watches them; whoever runs a notebook unattended (tests, papermill, nbconvert)
gets the static output alone, the same every time.
"""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from typing import Any

MODES = ("auto", "widget", "static", "off")
"""What may be asked for."""


class Mode(StrEnum):
    """What is done."""

    WIDGET = "widget"  # a live view, replaced by static HTML
    LINE = "line"  # one line of text that is written over, in a terminal
    STATIC = "static"  # the static output alone
    OFF = "off"  # nothing


UNATTENDED = ("PYTEST_VERSION", "PYTEST_CURRENT_TEST", "CI")
"""One of these in the environment says that nobody watches."""

WATCHED = ("JPY_SESSION_NAME", "VSCODE_PID", "VSCODE_CWD", "COLAB_RELEASE_TAG", "COLAB_GPU")
"""One of these says that a notebook server or editor started the kernel, so that a person may watch."""


def front_end(shell: Any) -> str:
    """What the cell's output goes to: `kernel`, `terminal` or `none`.

    Example:
        >>> front_end(None)
        'none'
    """
    if shell is None:
        return "none"
    if getattr(shell, "kernel", None) is not None:
        return "kernel"
    return "terminal" if type(shell).__name__ == "TerminalInteractiveShell" and sys.stderr.isatty() else "none"


def decide(wanted: str, shell: Any) -> Mode:
    """What to do where it was wanted so.

    Example:
        >>> str(decide("off", None)), str(decide("auto", None))
        ('off', 'static')
    """
    if wanted in {Mode.OFF, Mode.STATIC}:
        return Mode(wanted)
    end = front_end(shell)
    if wanted == Mode.WIDGET:
        return Mode.WIDGET if end == "kernel" else Mode.STATIC
    if any(os.environ.get(name) for name in UNATTENDED):
        return Mode.STATIC
    if end == "terminal":
        return Mode.LINE
    watched = any(os.environ.get(name) for name in WATCHED) or "google.colab" in sys.modules
    return Mode.WIDGET if end == "kernel" and watched else Mode.STATIC
