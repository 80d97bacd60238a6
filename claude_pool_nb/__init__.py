"""A pool of Claude sessions that lives in a Jupyter notebook.

Invariant: importing this package (which `%load_ext claude_pool_nb` does) imports nothing heavy. Every public name is
looked up when it is first used, so that neither pandas nor claude_agent_sdk is paid for before it is needed.

Example:
    >>> import claude_pool_nb
    >>> claude_pool_nb.__version__
    '0.1.0'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from claude_pool_nb import errors as _errors
from claude_pool_nb.display.live import provide as _provide

if TYPE_CHECKING:
    from claude_pool_nb.aio import AsyncPool as AsyncPool
    from claude_pool_nb.config import UNSET as UNSET
    from claude_pool_nb.config import PoolConfig as PoolConfig
    from claude_pool_nb.config import SlotConfig as SlotConfig
    from claude_pool_nb.config import TaskOverrides as TaskOverrides
    from claude_pool_nb.config import only as only
    from claude_pool_nb.errors import BlockingCall as BlockingCall
    from claude_pool_nb.errors import BudgetExhausted as BudgetExhausted
    from claude_pool_nb.errors import CassetteError as CassetteError
    from claude_pool_nb.errors import CLINotFound as CLINotFound
    from claude_pool_nb.errors import ConfigError as ConfigError
    from claude_pool_nb.errors import Interrupted as Interrupted
    from claude_pool_nb.errors import MissingCredentials as MissingCredentials
    from claude_pool_nb.errors import MissingExtra as MissingExtra
    from claude_pool_nb.errors import NoPool as NoPool
    from claude_pool_nb.errors import NothingToPlot as NothingToPlot
    from claude_pool_nb.errors import NotYetSupported as NotYetSupported
    from claude_pool_nb.errors import PoolClosed as PoolClosed
    from claude_pool_nb.errors import PoolError as PoolError
    from claude_pool_nb.errors import PoolExists as PoolExists
    from claude_pool_nb.errors import PoolPaused as PoolPaused
    from claude_pool_nb.errors import ReplacedOption as ReplacedOption
    from claude_pool_nb.errors import ResetFailed as ResetFailed
    from claude_pool_nb.errors import RunNotFound as RunNotFound
    from claude_pool_nb.errors import SessionError as SessionError
    from claude_pool_nb.errors import SessionLost as SessionLost
    from claude_pool_nb.errors import SlotNotFound as SlotNotFound
    from claude_pool_nb.errors import SpendGate as SpendGate
    from claude_pool_nb.errors import StoreCorrupt as StoreCorrupt
    from claude_pool_nb.errors import StoreError as StoreError
    from claude_pool_nb.errors import StoreFull as StoreFull
    from claude_pool_nb.errors import StoreLocked as StoreLocked
    from claude_pool_nb.errors import StoreTooNew as StoreTooNew
    from claude_pool_nb.errors import TaskCancelled as TaskCancelled
    from claude_pool_nb.errors import TaskFailed as TaskFailed
    from claude_pool_nb.errors import TaskInterrupted as TaskInterrupted
    from claude_pool_nb.errors import TaskNotFound as TaskNotFound
    from claude_pool_nb.errors import UnknownModel as UnknownModel
    from claude_pool_nb.errors import UnknownOption as UnknownOption
    from claude_pool_nb.handles import Run as Run
    from claude_pool_nb.handles import Task as Task
    from claude_pool_nb.pool import Pool as Pool
    from claude_pool_nb.records import RetryPolicy as RetryPolicy
    from claude_pool_nb.records import TaskResult as TaskResult

__version__ = "0.1.0"

_HOME_OF = {
    "AsyncPool": "aio",
    "Pool": "pool",
    "PoolConfig": "config",
    "RetryPolicy": "records",
    "Run": "handles",
    "SlotConfig": "config",
    "Task": "handles",
    "TaskOverrides": "config",
    "TaskResult": "records",
    "UNSET": "config",
    "only": "config",
}

_HOME_OF |= {
    name: "errors"
    for name, value in vars(_errors).items()
    if isinstance(value, type) and issubclass(value, (_errors.PoolError, KeyboardInterrupt))
}

__all__ = ["__version__", "load_ipython_extension", "unload_ipython_extension", *_HOME_OF]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    """Look a public name up when it is first used (PEP 562)."""
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}{_errors.nearest(name, __all__)}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def _watch(pool: Any) -> Any:
    """How `pool.watch()` gets its view: this package knows the notebook's layer, the pool does not."""
    from claude_pool_nb.notebook.widgets import PoolWatch

    return PoolWatch(pool)


_provide(_watch)


def __dir__() -> list[str]:
    """The public names, those that are not imported yet included."""
    return sorted({*globals(), *__all__})


def load_ipython_extension(shell: Any) -> None:
    """Called by `%load_ext claude_pool_nb`: adds the `%pool` magic, its completion and its displays.

    Example:
        >>> from IPython.core.interactiveshell import InteractiveShell
        >>> shell = InteractiveShell()
        >>> load_ipython_extension(shell)
        >>> "pool" in shell.magics_manager.magics["cell"]
        True
        >>> unload_ipython_extension(shell)
    """
    from claude_pool_nb.notebook.extension import load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """Called by `%unload_ext claude_pool_nb`: stops the pool that `%pool start` made and takes all of it back.

    Example:
        >>> from IPython.core.interactiveshell import InteractiveShell
        >>> shell = InteractiveShell()
        >>> load_ipython_extension(shell)
        >>> unload_ipython_extension(shell)
        >>> "pool" in shell.magics_manager.magics["cell"]
        False
    """
    from claude_pool_nb.notebook.extension import unload

    unload(shell)
