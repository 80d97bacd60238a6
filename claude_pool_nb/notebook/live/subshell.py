"""How a click reaches Python while a cell blocks the kernel.

JupyterLab sends clicks on a subshell, a thread of the kernel's own. ipykernel 7.4 sends them back to the shell that
last published on the widget, which is the blocked one: there a subshell of our own is named as the place for this
widget's messages. That hook is private, so it is looked for and never assumed.
"""

from __future__ import annotations

import concurrent.futures as cf
from enum import StrEnum
from typing import Any

_SUBSHELL_TIMEOUT_S = 2.0


class Reach(StrEnum):
    """How clicks reach Python while a cell blocks."""

    OWN_SUBSHELL = "own-subshell"
    FRONT_END_SUBSHELL = "front-end-subshell"
    INTERRUPT_ONLY = "interrupt-only"
    NO_KERNEL = "no-kernel"

    @property
    def works(self) -> bool:
        """Whether a click arrives at all."""
        return self in {Reach.OWN_SUBSHELL, Reach.FRONT_END_SUBSHELL}

    @property
    def about(self) -> str:
        """One line for `%pool doctor`.

        Example:
            >>> Reach.INTERRUPT_ONLY.about
            'Cancel cannot reach this kernel while a cell runs: press ■ (interrupt) to stop'
        """
        return _ABOUT[self]


_ABOUT = {
    Reach.OWN_SUBSHELL: "Cancel reaches the kernel through a subshell of ours while a cell runs",
    Reach.FRONT_END_SUBSHELL: "Cancel reaches the kernel through the front end's subshell while a cell runs",
    Reach.INTERRUPT_ONLY: "Cancel cannot reach this kernel while a cell runs: press ■ (interrupt) to stop",
    Reach.NO_KERNEL: "there is no kernel, so no buttons: press Ctrl-C to stop",
}


class _Subshell:
    """The one subshell of this kernel that is ours."""

    id: str | None = None


def _kernel() -> Any:
    try:
        from ipykernel.kernelbase import Kernel
    except ImportError:
        return None
    return Kernel.instance() if Kernel.initialized() else None


def own_subshell(kernel: Any) -> str | None:
    """The id of our subshell, made if it is not there yet; None where it cannot be made."""
    thread: Any = getattr(kernel, "shell_channel_thread", None)
    manager: Any = getattr(thread, "manager", None)
    if manager is None or not hasattr(manager, "_create_subshell") or not hasattr(manager, "list_subshell"):
        return None
    if _Subshell.id is not None and _Subshell.id in manager.list_subshell():
        return _Subshell.id
    made: cf.Future[str] = cf.Future()

    def make() -> None:
        try:
            made.set_result(manager._create_subshell())
        except Exception as error:  # noqa: BLE001 - handed to the waiting thread
            made.set_exception(error)

    thread.io_loop.add_callback(make)
    try:
        _Subshell.id = made.result(_SUBSHELL_TIMEOUT_S)
    except Exception:  # noqa: BLE001 - a private hook that may fail in any way: then only ■ stops, and the view says so
        _Subshell.id = None
    return _Subshell.id


def reach_of(kernel: Any) -> Reach:
    """How clicks reach this kernel, as far as can be said without a widget."""
    if kernel is None:
        return Reach.NO_KERNEL
    if not getattr(kernel, "_supports_kernel_subshells", False):
        return Reach.INTERRUPT_ONLY
    try:
        from ipykernel.comm.comm import BaseComm
    except ImportError:
        return Reach.FRONT_END_SUBSHELL
    return Reach.OWN_SUBSHELL if hasattr(BaseComm, "_reply_subshell_for") else Reach.FRONT_END_SUBSHELL


def keep_responsive(widget: Any) -> Reach:
    """Make clicks on `widget` reach Python while a cell blocks, where that can be; says how they do."""
    comm = getattr(widget, "comm", None)
    kernel = _kernel()
    if comm is None or kernel is None:
        return Reach.NO_KERNEL
    if not getattr(kernel, "_supports_kernel_subshells", False):
        return Reach.INTERRUPT_ONLY
    if not hasattr(comm, "_reply_subshell_for"):
        return Reach.FRONT_END_SUBSHELL
    own = own_subshell(kernel)
    comm._reply_subshell_for = lambda _data, default: default or own
    return Reach.OWN_SUBSHELL if own else Reach.FRONT_END_SUBSHELL


def how_cancel_reaches() -> Reach:
    """How Cancel would reach this kernel: what `%pool doctor` says."""
    return reach_of(_kernel())
