"""One tree of errors.

The docstring of a class is its default message: it says what happened and ends with what to do next. An error of one
task is data (a row of the frame); an error of the pool is one of these exceptions. In IPython each is shown as one
clean line, because the user's cell is what is wrong, not our stack.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from claude_pool_nb.records import TaskResult


_ACTING = {
    code: "\N{REPLACEMENT CHARACTER}"
    for code in (*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
    if code not in {0x09, 0x0A}
}
"""Control characters (ANSI's escape among them) and overrides of the direction of writing."""


def plain(text: str) -> str:
    r"""A text that does nothing to what it is shown on: no colours, no moves of the cursor, no turned-round words.

    Example:
        >>> plain("a\x1b[31m red \u202e line\n").encode("ascii", "replace")
        b'a?[31m red ? line\n'
    """
    return text.replace("\r\n", "\n").translate(_ACTING)


class PoolError(Exception):
    """Something in the pool went wrong; `%pool doctor` shows the state of everything it needs."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or " ".join((type(self).__doc__ or "").split()))

    def _render_traceback_(self) -> list[str]:
        """IPython calls this instead of printing our stack."""
        return [plain(f"{type(self).__name__}: {self}")]


# -- what was asked for is wrong: nothing was started and nothing spent ------------------------------------------------


class ConfigError(PoolError, ValueError):
    """An option has a value that cannot work; the message names the option and what it takes."""


class UnknownOption(ConfigError):
    """There is no option of that name; the message names the nearest one."""


class UnknownModel(ConfigError):
    """There is no model of that name; use an alias (haiku, sonnet, opus) or a full model id."""


class NotYetSupported(ConfigError):
    """That option is not supported yet; leave it out."""


class ReplacedOption(ConfigError):
    """That option was replaced by another one; the message names it."""


class TaskNotFound(PoolError, LookupError):
    """There is no task of that id in this store; `%pool tasks` lists the latest ones."""


class RunNotFound(PoolError, LookupError):
    """There is no run of that id in this store; `%pool runs` lists them."""


class SlotNotFound(PoolError, LookupError):
    """There is no slot of that id; `%pool slots` lists them."""


class SpendGate(PoolError):
    """That would spend more than a cell may spend unasked; add `--yes` to go on."""


class NoPool(PoolError):
    """There is no pool in this kernel yet; run `%pool start` (or `%pool start --backend demo` without an account)."""


class PoolExists(PoolError):
    """This kernel has a pool with other settings; add `--replace` to stop it and start a new one."""


class BlockingCall(PoolError, RuntimeError):
    """A blocking call was made on the pool's own loop and would wait for itself; use the AsyncPool verbs there."""


# -- the pool cannot work --------------------------------------------------------------------------------------------


class PoolClosed(PoolError):
    """The pool is stopped and takes no work; start a new one with `%pool start` or `Pool()`."""


class PoolPaused(PoolError):
    """The pool is paused, its queue is kept; mend the cause, then `%pool unpause` goes on."""


class BudgetExhausted(PoolError):
    """The budget is used up; raise it with `%pool budget USD`, or open a new one with `%pool budget USD --fresh`."""


class MissingCredentials(PoolError):
    """No credentials were found; set ANTHROPIC_API_KEY or log in with `claude`, or try `%pool start --backend demo`."""


class CLINotFound(PoolError):
    """The claude CLI was not found; reinstall claude-agent-sdk, which ships it, or set cli_path."""


class SessionError(PoolError):
    """A Claude session could not be used; its slot opens a new one."""


class SessionLost(SessionError):
    """The process of a Claude session ended by itself; its slot opens a new one."""


class ResetFailed(SessionError):
    """A session did not confirm that its conversation was reset; it is replaced by a new one."""


class StoreError(PoolError):
    """The ledger cannot be used; pass another file with store=PATH, or store=':memory:' for none."""


class StoreLocked(StoreError):
    """The ledger is locked by another program; close it, or pass another file with store=PATH."""


class StoreCorrupt(StoreError):
    """The ledger file is damaged or no ledger at all; move it away, or pass another file with store=PATH."""


class StoreTooNew(StoreError):
    """The ledger was written by a newer claude-pool-nb; upgrade the package, or pass another file with store=PATH."""


class StoreConflict(StoreError):
    """The ledger holds another state than this pool supposed: another pool has taken over; see `%pool runs`."""


class StoreFull(StoreError):
    """The disk of the ledger is full: nothing more is sent; free some space, then `%pool unpause` goes on."""


# -- one task, told as an exception because one task was asked for -----------------------------------------------------


class TaskFailed(PoolError):
    """The task failed; `.result` holds what there is of it, and `%pool retry` tries it again."""

    def __init__(self, message: str | None = None, *, result: TaskResult | None = None) -> None:
        super().__init__(message)
        self.result = result


class TaskCancelled(TaskFailed):
    """The task was cancelled; `.result` holds what there is of it, and `%pool resume` runs it again."""


class TaskInterrupted(TaskFailed):
    """The task was interrupted; `.result` holds what there is of it, and `%pool resume` runs it again."""


class Interrupted(KeyboardInterrupt):
    """The kernel was interrupted: the work was stopped, what was finished is kept, `%pool resume` goes on."""

    def _render_traceback_(self) -> list[str]:
        """IPython calls this instead of printing our stack."""
        return [plain(f"KeyboardInterrupt: {self}")]


def nearest(name: str, choices: Iterable[str]) -> str:
    """Say which of `choices` was meant, as the end of a sentence.

    Example:
        >>> nearest("modle", ["model", "tags"])
        "; did you mean 'model'?"
        >>> nearest("zzz", ["a", "b"])
        '; choose from a, b'
    """
    options = sorted(set(choices))
    close = get_close_matches(name, options, n=1, cutoff=0.55)
    return f"; did you mean {close[0]!r}?" if close else f"; choose from {', '.join(options)}"
