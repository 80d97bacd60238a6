"""One tree of errors.

The first paragraph of a class's docstring is its default message: it says what happened and ends with what to do next.
So does every other message, as one clause: it begins in lower case, as it stands behind the error's name, has no full
stop, and puts what can be typed into `backticks`.
An error of one task is data (a row of the frame); an error of the pool is one of these exceptions. In IPython each is
shown as one clean line, because the user's cell is what is wrong, not our stack.
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
    """Something in the pool went wrong; `%pool doctor` shows the state of everything it needs.

    Example:
        >>> from claude_pool_nb import Pool
        >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
        ...     try:
        ...         task = pool.get_task("r9.1")
        ...     except PoolError:
        ...         print("there is none")
        there is none
    """

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or " ".join((type(self).__doc__ or "").split("\n\n")[0].split()))

    def _render_traceback_(self) -> list[str]:
        """IPython calls this instead of printing our stack."""
        return [plain(f"{type(self).__name__}: {self}")]


# -- what was asked for is wrong: nothing was started and nothing spent ------------------------------------------------


class ConfigError(PoolError, ValueError):
    """An option has a value that cannot work; the message names the option and what it takes.

    Example:
        >>> from claude_pool_nb import PoolConfig
        >>> PoolConfig(max_turns=0)
        Traceback (most recent call last):
        claude_pool_nb.errors.ConfigError: max_turns=0 cannot work: max_turns takes a whole number of at least 1
    """


class UnknownOption(ConfigError):
    """There is no option of that name; the message names the nearest one.

    Example:
        >>> from claude_pool_nb import PoolConfig
        >>> PoolConfig(modle='haiku')
        Traceback (most recent call last):
        claude_pool_nb.errors.UnknownOption: PoolConfig has no option 'modle'; did you mean 'model'?
    """


class UnknownModel(ConfigError):
    """There is no model of that name; use an alias (haiku, sonnet, opus) or a full model id.

    Example:
        >>> from claude_pool_nb import PoolConfig
        >>> PoolConfig(model='haikku')
        Traceback (most recent call last):
        claude_pool_nb.errors.UnknownModel: there is no model 'haikku'; did you mean 'haiku'?
    """


class NotYetSupported(ConfigError):
    """That option is not supported yet; leave it out.

    Example:
        >>> from claude_pool_nb import PoolConfig
        >>> PoolConfig(worktree_isolation=True)
        Traceback (most recent call last):
        claude_pool_nb.errors.NotYetSupported: worktree_isolation: git worktrees are not supported yet; set cwd instead
    """


class ReplacedOption(ConfigError):
    """That option was replaced by another one; the message names it.

    Example:
        >>> from claude_pool_nb import TaskOverrides
        >>> TaskOverrides(json_schema={})
        Traceback (most recent call last):
        claude_pool_nb.errors.ReplacedOption: json_schema was replaced by schema
    """


class CassetteError(ConfigError):
    """The tape cannot be used; name another file with cassette=PATH, or record it anew with record=PATH.

    Example:
        >>> from claude_pool_nb import Pool
        >>> Pool(backend="replay", cassette="no such tape.ndjson", store=":memory:")
        Traceback (most recent call last):
        claude_pool_nb.errors.CassetteError: there is no tape 'no such tape.ndjson'; `record=PATH` makes one
    """


class TaskNotFound(PoolError, LookupError):
    """There is no task of that id in this store; `%pool tasks` lists the latest ones.

    Example:
        >>> from claude_pool_nb import Pool
        >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
        ...     try:
        ...         task = pool.get_task("r9.1")
        ...     except TaskNotFound:
        ...         print("there is none")
        there is none
    """


class RunNotFound(PoolError, LookupError):
    """There is no run of that id in this store; `%pool runs` lists them.

    Example:
        >>> from claude_pool_nb import Pool
        >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
        ...     try:
        ...         run = pool.get_run("r9")
        ...     except RunNotFound:
        ...         print("there is none")
        there is none
    """


class SlotNotFound(PoolError, LookupError):
    """There is no slot of that id; `%pool slots` lists them.

    Example:
        >>> from claude_pool_nb import Pool
        >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
        ...     slot = pool.configure_slot("s9", name="Ada")
        Traceback (most recent call last):
        claude_pool_nb.errors.SlotNotFound: there is no slot 's9'; there are s1, s2, s3, s4
    """


class NothingToPlot(PoolError, LookupError):
    """There is nothing to draw yet; run something first, or name another run.

    Example:
        >>> from claude_pool_nb import Pool
        >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
        ...     try:
        ...         chart = pool.plot.latency()
        ...     except NothingToPlot:
        ...         print("there is nothing yet")
        there is nothing yet
    """


class MissingExtra(PoolError, ImportError):
    """A library that this needs is not installed; the message names what to install.

    Example:
        >>> issubclass(MissingExtra, ImportError)
        True
    """


class SpendGate(PoolError):
    """That would spend more than a cell may spend unasked; add `--yes` to go on.

    Example:
        >>> try:
        ...     raise SpendGate
        ... except PoolError as error:
        ...     str(error) == SpendGate.__doc__.splitlines()[0]
        True
    """


class NoPool(PoolError):
    """There is no pool in this kernel yet; run `%pool start` (or `%pool start --backend demo` without an account).

    Example:
        >>> from claude_pool_nb.pool import current
        >>> try:
        ...     pool = current()
        ... except NoPool:
        ...     print("none yet")
        none yet
    """


class PoolExists(PoolError):
    """This kernel has a pool with other settings; add `--replace` to stop it and start a new one.

    Example:
        >>> try:
        ...     raise PoolExists
        ... except PoolError as error:
        ...     str(error) == PoolExists.__doc__.splitlines()[0]
        True
    """


class BlockingCall(PoolError, RuntimeError):
    """A blocking call was made on the pool's own loop and would wait for itself; use the AsyncPool verbs there.

    Example:
        >>> import asyncio
        >>> from claude_pool_nb import AsyncPool
        >>> async def main():
        ...     async with AsyncPool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
        ...         task = await pool.submit("a poem")
        ...         task.result()  # rather: await task
        >>> asyncio.run(main())
        Traceback (most recent call last):
        claude_pool_nb.errors.BlockingCall: this handle belongs to an AsyncPool; await it instead of blocking
    """


# -- the pool cannot work --------------------------------------------------------------------------------------------


class PoolClosed(PoolError):
    """The pool is stopped and takes no work; start a new one with `%pool start` or `Pool()`.

    Example:
        >>> from claude_pool_nb import Pool
        >>> pool = Pool(backend="demo", demo_latency_s=0, store=":memory:")
        >>> pool.close()
        >>> try:
        ...     result = pool.run("a poem")
        ... except PoolClosed:
        ...     print("it is stopped")
        it is stopped
    """


class PoolPaused(PoolError):
    """The pool is paused, its queue is kept; mend the cause, then `%pool unpause` goes on.

    Example:
        >>> from claude_pool_nb import Pool
        >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
        ...     pool.pause("by hand")
        ...     task = pool.submit("a poem")
        ...     try:
        ...         result = task.result(timeout_s=0.1)
        ...     except (PoolPaused, TimeoutError):
        ...         pool.unpause()
        ...     str(task.result().state)
        'completed'
    """


class BudgetExhausted(PoolError):
    """The budget is used up; raise it with `%pool budget USD`, or open a new one with `%pool budget USD --fresh`.

    Example:
        >>> from claude_pool_nb import Pool
        >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:", budget_usd=0) as pool:
        ...     run = pool.fan_out(["a poem"])
        ...     list(run.frame["error_type"])
        ['BudgetExhausted']
    """


class MissingCredentials(PoolError):
    """No credentials were found; set ANTHROPIC_API_KEY or log in with `claude`, or try `%pool start --backend demo`.

    Example:
        >>> try:
        ...     raise MissingCredentials
        ... except PoolError as error:
        ...     str(error) == MissingCredentials.__doc__.splitlines()[0]
        True
    """


class CLINotFound(PoolError):
    """The claude CLI was not found; reinstall claude-agent-sdk, which ships it, or set cli_path.

    Example:
        >>> try:
        ...     raise CLINotFound
        ... except PoolError as error:
        ...     str(error) == CLINotFound.__doc__.splitlines()[0]
        True
    """


class SessionError(PoolError):
    """A Claude session could not be used; its slot opens a new one.

    Example:
        >>> try:
        ...     raise SessionError
        ... except PoolError as error:
        ...     str(error) == SessionError.__doc__.splitlines()[0]
        True
    """


class SessionLost(SessionError):
    """The process of a Claude session ended by itself; its slot opens a new one.

    Example:
        >>> try:
        ...     raise SessionLost
        ... except SessionError as error:
        ...     str(error) == SessionLost.__doc__.splitlines()[0]
        True
    """


class ResetFailed(SessionError):
    """A session did not confirm that its conversation was reset; it is replaced by a new one.

    Example:
        >>> try:
        ...     raise ResetFailed
        ... except SessionError as error:
        ...     str(error) == ResetFailed.__doc__.splitlines()[0]
        True
    """


class StoreError(PoolError):
    """The ledger cannot be used; pass another file with store=PATH, or store=':memory:' for none.

    Example:
        >>> try:
        ...     raise StoreError
        ... except PoolError as error:
        ...     str(error) == StoreError.__doc__.splitlines()[0]
        True
    """


class StoreLocked(StoreError):
    """The ledger is locked by another program; close it, or pass another file with store=PATH.

    Example:
        >>> try:
        ...     raise StoreLocked
        ... except StoreError as error:
        ...     str(error) == StoreLocked.__doc__.splitlines()[0]
        True
    """


class StoreCorrupt(StoreError):
    """The ledger file is damaged or no ledger at all; move it away, or pass another file with store=PATH.

    Example:
        >>> import tempfile
        >>> from claude_pool_nb import Pool
        >>> with tempfile.NamedTemporaryFile(suffix=".db") as file:
        ...     written = file.write(b"no ledger" * 200)
        ...     file.flush()
        ...     try:
        ...         pool = Pool(backend="demo", store=file.name)
        ...     except StoreCorrupt:
        ...         print("nothing was started")
        nothing was started
    """


class StoreTooNew(StoreError):
    """The ledger was written by a newer claude-pool-nb; upgrade the package, or pass another file with store=PATH.

    Example:
        >>> try:
        ...     raise StoreTooNew
        ... except StoreError as error:
        ...     str(error) == StoreTooNew.__doc__.splitlines()[0]
        True
    """


class StoreConflict(StoreError):
    """The ledger holds another state than this pool supposed: another pool has taken over; see `%pool runs`.

    Example:
        >>> try:
        ...     raise StoreConflict
        ... except StoreError as error:
        ...     str(error) == StoreConflict.__doc__.splitlines()[0]
        True
    """


class StoreFull(StoreError):
    """The disk of the ledger is full: nothing more is sent; free some space, then `%pool unpause` goes on.

    Example:
        >>> try:
        ...     raise StoreFull
        ... except StoreError as error:
        ...     str(error) == StoreFull.__doc__.splitlines()[0]
        True
    """


# -- one task, told as an exception because one task was asked for -----------------------------------------------------


class TaskFailed(PoolError):
    """The task failed; `.result` holds what there is of it, and `%pool retry` tries it again.

    Example:
        >>> from claude_pool_nb import Pool
        >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:", budget_usd=0) as pool:
        ...     try:
        ...         result = pool.run("a poem")
        ...     except TaskFailed as failed:
        ...         str(failed.result.failure.kind)
        'budget'
    """

    def __init__(self, message: str | None = None, *, result: TaskResult | None = None) -> None:
        super().__init__(message)
        self.result = result


class TaskCancelled(TaskFailed):
    """The task was cancelled; `.result` holds what there is of it, and `%pool resume` runs it again.

    Example:
        >>> from claude_pool_nb import Pool
        >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
        ...     pool.pause()
        ...     task = pool.submit("a poem")
        ...     stopped = pool.cancel(task.id)
        ...     try:
        ...         result = task.result()
        ...     except TaskCancelled as cancelled:
        ...         str(cancelled.result.state)
        'cancelled'
    """


class TaskInterrupted(TaskFailed):
    """The task was interrupted; `.result` holds what there is of it, and `%pool resume` runs it again.

    Example:
        >>> from claude_pool_nb import Pool
        >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
        ...     pool.pause()
        ...     task = pool.submit("a poem")
        ...     task.run.interrupt()
        ...     try:
        ...         result = task.result()
        ...     except TaskInterrupted as interrupted:
        ...         str(interrupted.result.state)
        'interrupted'
    """


class Interrupted(KeyboardInterrupt):
    """The kernel was interrupted: the work was stopped, what was finished is kept, `%pool resume` goes on.

    Example:
        >>> issubclass(Interrupted, KeyboardInterrupt)
        True
    """

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
