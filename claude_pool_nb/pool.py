"""Pool: the blocking face, for notebooks and scripts.

One event loop on one daemon thread serves the pool for the life of the kernel, so that sessions stay warm and work
goes on between cells. Every verb hands over to `AsyncPool` on that loop and waits; the kernel's interrupt stops the
work, and is raised when the work has stopped.

Invariants: what was finished when an interrupt came is in the ledger and in `pool.last`; warm sessions survive an
interrupt; a kernel has one current pool, the first that was made and not closed.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import threading
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from claude_pool_nb.aio import AsyncPool
from claude_pool_nb.analysis.reader import Frames
from claude_pool_nb.config import PoolConfig, SlotConfig
from claude_pool_nb.display.pools import PoolCard, pool_html
from claude_pool_nb.engine.portal import InlineLoop, LoopThread, Portal
from claude_pool_nb.errors import ConfigError, Interrupted, NoPool, PoolClosed, StoreError, nearest
from claude_pool_nb.handles import OPEN_RUN_STATES, Run, Task
from claude_pool_nb.records import BudgetRecord, PoolStatus, SlotRecord, TaskResult

if TYPE_CHECKING:
    import pandas as pd

    from claude_pool_nb import events
    from claude_pool_nb.config import ResolvedConfig
    from claude_pool_nb.engine.engine import Engine
    from claude_pool_nb.engine.setup import Setup
    from claude_pool_nb.sessions.base import Backend
    from claude_pool_nb.store.ledger import Ledger

T = TypeVar("T")

INTERRUPT_GRACE_S = 1.0
"""An interrupted cell is given back after this time, even if a session has not ended yet."""

_open: list[Pool] = []
"""Pools that were made and not closed; the first is the kernel's current one."""


def current() -> Pool:
    """The kernel's current pool: the first that was made and not closed.

    Raises:
        NoPool: there is none.
    """
    if not has_current():
        raise NoPool
    return _open[0]


def has_current() -> bool:
    """True if the kernel has a pool."""
    return bool(_open)


def _close_all() -> None:
    """A kernel that ends properly leaves no session behind."""
    for pool in tuple(_open):
        pool.close()


# At the usual time of exit no thread can be started any more, and ending a session needs some: this comes before that.
getattr(threading, "_register_atexit", atexit.register)(_close_all)


class Pool(Frames):
    """A pool of warm Claude sessions.

    Args:
        slots: How many tasks run at once.
        profile: `prompt` (no tools, own system prompt, small requests) or `agent` (Claude Code's tools and prompt).
        model: haiku, sonnet, opus or a full model id.
        budget_usd: What may be spent: a wall, not a warning.
        backend: `claude` (the real CLI) or `demo` (offline, made-up answers, play money).
        store: The ledger: a file, a SQLAlchemy URL, or `:memory:` for none; None for the user's own.
        config: A PoolConfig with everything else; its fields can also be given by name.
        slot_configs: A SlotConfig for each of the first slots.
        driver: `thread`, or `inline` to run everything in the calling thread (for debuggers).
        budget_name: Pools that name the same budget share it; by default the notebook's or script's.
        fresh_budget: Count from now.
        **options: Fields of PoolConfig.

    Raises:
        ConfigError: an option cannot work; nothing was started.
        MissingCredentials: there is no account to use.
        StoreError: the ledger cannot be used.

    Example:
        >>> from claude_pool_nb import Pool
        >>> with Pool(slots=2, backend="demo", demo_latency_s=0, store=":memory:") as pool:
        ...     result = pool.run("How many words has this sentence?")
        >>> str(result.state)
        'completed'
    """

    def __init__(
        self,
        slots: int = 4,
        *,
        profile: str | None = None,
        model: str | None = None,
        budget_usd: float | None = None,
        backend: str | Backend = "claude",
        store: str | Path | None = None,
        config: PoolConfig | None = None,
        slot_configs: Sequence[SlotConfig] = (),
        driver: str = "thread",
        budget_name: str | None = None,
        fresh_budget: bool = False,
        **options: Any,
    ) -> None:
        if driver not in {"thread", "inline"}:
            raise ConfigError(f"there is no driver {driver!r}{nearest(driver, ('thread', 'inline'))}")
        self.aio = AsyncPool(
            slots,
            profile=profile,
            model=model,
            budget_usd=budget_usd,
            backend=backend,
            store=store,
            config=config,
            slot_configs=slot_configs,
            budget_name=budget_name,
            fresh_budget=fresh_budget,
            **options,
        )
        self.aio._face = self  # the handles' way back to the blocking verbs
        self._ended = False
        self._portal: Portal = InlineLoop() if driver == "inline" else LoopThread()
        try:
            self._portal.call(self.aio.start())
        except BaseException:
            self._portal.stop()
            raise
        _open.append(self)
        # Anew for each pool, because what was registered last runs first: before the ledger closes itself.
        atexit.unregister(_close_all)
        atexit.register(_close_all)

    # -- waiting -------------------------------------------------------------------------------------------------------

    def _call(self, coro: Coroutine[Any, Any, T], *, then_waits: bool = False) -> T:
        """Run a verb on the pool's loop.

        Args:
            coro: The verb.
            then_waits: It makes a run which is waited for next: that wait answers an interrupt that came meanwhile.

        Raises:
            KeyboardInterrupt: the kernel was interrupted meanwhile; what was begun has been done.
            PoolClosed: the pool is stopped.
        """
        if self.closed:
            coro.close()
            raise PoolClosed
        return self._portal.call(coro, then_waits=then_waits)

    def _wait(self, keys: tuple[str, ...], timeout_s: float | None) -> None:
        """Wait for runs and tasks; an interrupt stops them, keeps what they gave, and is raised when they have ended.

        Raises:
            KeyboardInterrupt: the kernel was interrupted.
            TimeoutError: they are not done yet; they go on.
        """
        if self.closed:
            self.aio.must_be_final(keys)
            return
        engine, loop = self.aio.engine, self._portal.loop
        done = self.aio.when_all_final(keys, timeout_s)
        stop = self.aio.stopper(keys)

        def give_back() -> None:
            if not done.done():
                done.set_result(None)

        def interrupted(count: int) -> None:
            loop.call_later(INTERRUPT_GRACE_S, give_back)
            stop(count)

        if self._portal.wait(done, interrupted):
            self._portal.call(_settled(engine))
            run_id = keys[0].split(".")[0]
            raise Interrupted(f"{run_id} was stopped, what was finished is kept; `%pool resume {run_id}` goes on")
        done.result()

    def wait(self, what: Run | Task | None = None, timeout_s: float | None = None) -> None:
        """Wait for a run, a task, or (without one) all that is not final.

        Raises:
            KeyboardInterrupt: the kernel was interrupted; the work was stopped and what there is of it kept.
            TimeoutError: it is not done yet; it goes on.
            PoolPaused: the pool paused itself; the rest is kept.
        """
        if what is not None:
            self._wait((what.id,), timeout_s)
        elif keys := tuple(run.id for run in self.aio.engine.state.runs() if run.state in OPEN_RUN_STATES):
            self._wait(keys, timeout_s)

    # -- work ----------------------------------------------------------------------------------------------------------

    def run(self, prompt: str, **overrides: Any) -> TaskResult:
        """Run one prompt and return its answer.

        Raises:
            TaskFailed: it did not complete; `.result` holds what there is of it.
            KeyboardInterrupt: the kernel was interrupted; `pool.last` holds the run.
        """
        task = self._call(self.aio._accept_one("run", prompt, overrides), then_waits=True)
        return self.result(task.id)

    def submit(self, prompt: str, *, verb: str = "submit", **overrides: Any) -> Task:
        """Accept one prompt and return at once; it is in the ledger by then.

        Args:
            prompt: The text, as it is.
            verb: The word under which its run is listed.
            **overrides: Options for it.
        """
        return self._call(self.aio.submit(prompt, verb=verb, **overrides))

    def fan_out(self, prompts: Any, *, wait: bool = True, **overrides: Any) -> Run:
        """Run many prompts at once, one row each, in their order; an error is a row.

        Args:
            prompts: Texts: a list, a Series, or a DataFrame with a `prompt` column, whose other columns come first in
                the frame.
            wait: Return when all are final; False for at once.
            **overrides: Options for all of them.

        Raises:
            KeyboardInterrupt: the kernel was interrupted; `pool.last` holds the partial run.
        """
        run = self._call(self.aio.fan_out(prompts, wait=False, **overrides), then_waits=wait)
        if wait:
            self.wait(run)
        return run

    def result(self, task_id: str, timeout_s: float | None = None) -> TaskResult:
        """Wait for a task and return its answer.

        Raises:
            TaskFailed: it did not complete; `.result` holds what there is of it.
            TimeoutError: it is not done yet; it goes on.
        """
        from claude_pool_nb.aio import completed

        self.wait(self.aio.get_task(task_id), timeout_s)
        return completed(self.aio.task_result(task_id))

    def retry(self, run: str | Run | None = None, *, state: str = "failed", wait: bool = True) -> Run:
        """Try the tasks of a run again that are in `state`; each keeps its id and row and gets a new attempt."""
        again = self._call(self.aio.retry(run, state=state, wait=False), then_waits=wait)
        if wait:
            self.wait(again)
        return again

    def resume(self, run: str | Run | None = None, *, cancelled: bool = False, wait: bool = True) -> Run:
        """Run what was interrupted (and, if asked, cancelled) of a run, also of a kernel that died."""
        again = self._call(self.aio.resume(run, cancelled=cancelled, wait=False), then_waits=wait)
        if wait:
            self.wait(again)
        return again

    def cancel(self, what: str = "all") -> int:
        """Cancel a task, a run, or everything that is not final; returns how many tasks were asked to stop."""
        return self._call(self.aio.cancel(what))

    # -- steering ------------------------------------------------------------------------------------------------------

    def scale(self, slots: int) -> None:
        """Have this many slots; a slot that has to go finishes its task first."""
        self._call(self.aio.scale(slots))

    def pause(self, reason: str = "paused by hand") -> None:
        """Start no more tasks; running ones end."""
        self._call(self.aio.pause(reason))

    def unpause(self) -> None:
        """Go on, after a pause by hand or by the pool itself."""
        self._call(self.aio.unpause())

    def set_budget(self, budget_usd: float | None, *, fresh: bool = False) -> BudgetRecord:
        """Move the wall, or with `fresh` open a new budget that counts from now; None takes the wall away."""
        return self._call(self.aio.set_budget(budget_usd, fresh=fresh))

    def configure_slot(self, slot_id: str, **options: Any) -> SlotRecord:
        """Give a slot options of its own (name, role, description, model ...); they hold from its next task on."""
        return self._call(self.aio.configure_slot(slot_id, **options))

    def find_slots(
        self, *, name: str | None = None, role: str | None = None, state: str | None = None
    ) -> list[SlotRecord]:
        """The slots that match all that is given."""
        return self.aio.find_slots(name=name, role=role, state=state)

    def drain(self, timeout_s: float = 30.0) -> PoolStatus:
        """Take no more work, let running tasks end (for at most `timeout_s`), then stop the slots. Always returns.

        Raises:
            StoreError: finished work could not be written, and is lost with this pool.
        """
        if self.closed:
            return self.status()
        try:
            return self._portal.call(self.aio.drain(timeout_s))
        finally:
            self._end()

    def close(self) -> None:
        """Stop what runs, and end every session. Finished work is in the ledger. Safe to call twice.

        Raises:
            StoreError: finished work could not be written, and is lost with this pool.
        """
        self.drain(0.0)

    stop = close

    def _end(self) -> None:
        self._ended = True
        self._portal.stop()
        if self in _open:
            _open.remove(self)

    @property
    def closed(self) -> bool:
        """True once its sessions have ended."""
        return self._ended

    # -- shared context ------------------------------------------------------------------------------------------------

    def set_context(self, key: str, value: str) -> None:
        """Tell every task from the next one on: it is appended to the system prompt, keys sorted."""
        self.aio.set_context(key, value)

    def get_context(self, key: str) -> str | None:
        """The value of a key; None if there is none."""
        return self.aio.get_context(key)

    def delete_context(self, key: str) -> str | None:
        """Take a key away; returns what it was."""
        return self.aio.delete_context(key)

    def list_context(self) -> dict[str, str]:
        """All keys and values, keys sorted."""
        return self.aio.list_context()

    # -- looking -------------------------------------------------------------------------------------------------------

    def status(self) -> PoolStatus:
        """The pool at this moment."""
        return self.aio.status()

    @property
    def budget(self) -> BudgetRecord:
        """The budget it draws on, as of now."""
        return self.aio.budget

    @property
    def config(self) -> PoolConfig:
        """The options that hold for every task, unless its own or its slot's say otherwise."""
        return self.aio.config

    @property
    def last(self) -> Run | None:
        """The run made last in this pool, also where an interrupt cut it short."""
        return self.aio.last

    def get_run(self, run_id: str | None = None) -> Run:
        """A run by its id, also of a kernel that is gone; None for the last one."""
        return self.aio.get_run(run_id)

    def get_task(self, task_id: str) -> Task:
        """A task by its id, also of a kernel that is gone."""
        return self.aio.get_task(task_id)

    def resolved_config(self, task_id: str | None = None, slot_id: str | None = None) -> ResolvedConfig:
        """The options of a task, or (without one) of a task with no options of its own."""
        return self.aio.resolved_config(task_id, slot_id)

    def subscribe(self, watcher: Callable[[events.Event], None]) -> Callable[[], None]:
        """Call `watcher` with every event after its commit, on the pool's thread; returns how to stop that."""
        return self.aio.subscribe(watcher)

    @property
    def ledger(self) -> Ledger:
        """Where everything is written, and read from."""
        return self.aio.ledger

    def slot_records(self) -> list[SlotRecord]:
        """The slots as they are now, with process, session and memory."""
        return self.aio.slot_records()

    def frame(self, run_id: str) -> pd.DataFrame:
        """One row per task of a run, in the order of its input; the caller's own columns come first."""
        return self.aio.frame(run_id)

    # -- what it is ----------------------------------------------------------------------------------------------------

    @property
    def setup(self) -> Setup:
        """How it was made."""
        return self.aio.setup

    @property
    def pool_id(self) -> str:
        """Its id in the ledger."""
        return self.aio.engine.pool_id

    @property
    def backend(self) -> str:
        """`claude` or `demo`."""
        return self.aio.setup.backend

    @property
    def notice(self) -> str | None:
        """What its status card says of the backend."""
        return self.aio.engine.backend.info.notice

    @property
    def warnings(self) -> list[str]:
        """Things to know, each said once."""
        return self.aio.warnings

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self.aio)

    def card(self) -> PoolCard:
        """What its status card shows, now."""
        config = self.setup.config
        return PoolCard(
            self.status(),
            notice=self.notice or "",
            profile=config.profile,
            model=str(config.model or ""),
            store=self.setup.store or "",
            warnings=self.warnings,
        )

    def _repr_html_(self) -> str:
        return pool_html(self.card())


async def _settled(engine: Engine) -> None:
    """After an interrupt: let the ledger take what there is, but not for long."""
    if engine.store_error is None:
        with contextlib.suppress(TimeoutError, StoreError):  # what it cannot take is kept, and told by whatever is next
            await asyncio.wait_for(engine.committed(), INTERRUPT_GRACE_S)


__all__ = ["Pool", "current", "has_current"]
