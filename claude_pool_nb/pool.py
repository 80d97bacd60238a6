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
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from claude_pool_nb.aio import AsyncPool, checked_wait
from claude_pool_nb.analysis.design import Design
from claude_pool_nb.cassettes import Cassettes
from claude_pool_nb.config import PoolConfig, SlotConfig
from claude_pool_nb.display.pools import PoolCard, pool_html
from claude_pool_nb.engine.portal import InlineLoop, LoopThread, Portal
from claude_pool_nb.errors import ConfigError, Interrupted, NoPool, PoolClosed, StoreError, nearest
from claude_pool_nb.handles import Run, Task, key_of
from claude_pool_nb.pool_reopening import PoolReopening
from claude_pool_nb.pool_views import PoolViews
from claude_pool_nb.records import BudgetRecord, PoolStatus, SlotRecord, TaskResult

if TYPE_CHECKING:
    from claude_pool_nb.engine.engine import Engine
    from claude_pool_nb.sessions.base import Backend

T = TypeVar("T")

INTERRUPT_GRACE_S = 1.0
"""An interrupted cell is given back after this time, even if a session has not ended yet."""

_open: list[Pool] = []
"""Pools that were made and not closed; the first is the kernel's current one."""


def current() -> Pool:
    """The kernel's current pool: the first that was made and not closed.

    Raises:
        NoPool: there is none.

    Example:
        >>> from claude_pool_nb import Pool
        >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
        ...     current() is pool
        True
    """
    if not has_current():
        raise NoPool
    return _open[0]


def has_current() -> bool:
    """True if the kernel has a pool.

    Example:
        >>> has_current()
        False
    """
    return bool(_open)


def _close_all() -> None:
    """A kernel that ends properly leaves no session behind."""
    for pool in tuple(_open):
        pool.close()


# At the usual time of exit no thread can be started any more, and ending a session needs some: this comes before that.
getattr(threading, "_register_atexit", atexit.register)(_close_all)


class Pool(Cassettes, PoolReopening, PoolViews):
    """A pool of warm Claude sessions.

    Args:
        slots: How many tasks run at once.
        profile: `prompt` (no tools, own system prompt, small requests) or `agent` (Claude Code's tools and prompt).
        model: haiku, sonnet, opus or a full model id.
        budget_usd: What may be spent: a wall, not a warning.
        backend: `claude` (the real CLI), `demo` (offline, made-up answers, play money) or `replay` (a tape, without
            a model).
        store: The ledger: a file, a SQLAlchemy URL, or `:memory:` for none; None for the user's own.
        config: A PoolConfig with everything else; its fields can also be given by name.
        slot_configs: A SlotConfig for each of the first slots.
        driver: `thread`, or `inline` to run everything in the calling thread (for debuggers).
        budget_name: Pools that name the same budget share it; by default the notebook's or script's.
        fresh_budget: Count from now.
        record: The tape that all answers are recorded to; a request that is asked again replaces what it has.
        cassette: The tape that backend `replay` plays.
        speed: How fast: `instant` (the default), or `real` for the time that the answers took.
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
        record: str | Path | None = None,
        cassette: str | Path | None = None,
        speed: str | None = None,
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
            record=record,
            cassette=cassette,
            speed=speed,
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

    def wait(self, what: Run | Task | str | None = None, timeout_s: float | None = None) -> None:
        """Wait for a run, a task, or (without one) all that is not final.

        Raises:
            KeyboardInterrupt: the kernel was interrupted; the work was stopped and what there is of it kept.
            TimeoutError: it is not done yet; it goes on.
            PoolPaused: the pool paused itself; the rest is kept.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     run = pool.fan_out(["a poem", "a limerick"], wait=False)
            ...     pool.wait(run, timeout_s=30)
            ...     run.done
            True
        """
        if what is not None:
            self._wait((key_of(what),), timeout_s)
        elif keys := tuple(run.id for run in self.aio.engine.state.runs() if not run.state.is_final):
            self._wait(keys, timeout_s)

    # -- work ----------------------------------------------------------------------------------------------------------

    def run(self, prompt: str, **overrides: Any) -> TaskResult:
        """Run one prompt and return its answer.

        Raises:
            TaskFailed: it did not complete; `.result` holds what there is of it.
            KeyboardInterrupt: the kernel was interrupted; `pool.last` holds the run.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     pool.run("Count the words: one two three", tags=["count"]).output
            '3'
        """
        design = Design.of_prompts([prompt], verb="run", **overrides)
        run = self._call(self.aio.accept(design, wait=False), then_waits=True)
        return self.result(f"{run.id}.1")

    def submit(self, prompt: str, *, verb: str = "submit", **overrides: Any) -> Task:
        """Accept one prompt and return at once; it is in the ledger by then.

        Args:
            prompt: The text, as it is.
            verb: The word under which its run is listed.
            **overrides: Options for it.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     task = pool.submit("a long one", priority=5)
            ...     task.id, str(task.result().state)
            ('r1.1', 'completed')
        """
        run = self.accept(Design.of_prompts([prompt], verb=verb, **overrides), wait=False)
        return self.aio.get_task(f"{run.id}.1")

    def fan_out(
        self, prompts: Any, *, grid: Mapping[str, Any] | None = None, n: int = 1, wait: bool = True, **overrides: Any
    ) -> Run:
        """Run many prompts at once, one row each, in their order; an error is a row.

        Args:
            prompts: Texts: a list, a Series, or a DataFrame with a `prompt` column, whose other columns come first in
                the frame.
            grid: Values of options by name, like `{"model": ["haiku", "sonnet"]}`: every prompt is run with each
                combination.
            n: Samples of each.
            wait: Return when all are final; False for at once.
            **overrides: Options for all of them.

        Raises:
            KeyboardInterrupt: the kernel was interrupted; `pool.last` holds the partial run.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     run = pool.fan_out(["a poem", "a limerick"], system_prompt="Be brief.")
            ...     list(run.frame["state"])
            ['completed', 'completed']
        """
        return self.accept(Design.of_prompts(prompts, grid=grid, n=n, **overrides), wait=wait)

    def map(
        self,
        data: Any,
        template: str | Sequence[str] | Mapping[str, str],
        *,
        grid: Mapping[str, Any] | None = None,
        n: int = 1,
        wait: bool = True,
        variables: Mapping[str, Any] | None = None,
        **overrides: Any,
    ) -> Run:
        """Fill a template with every row and run what comes of it: a table in, a table out.

        The frame has the input's columns and index first, unchanged, then a column for each name of the grid (but for
        `model`, which is `requested_model`), then the answers; rows are in the order: row, template, grid, sample.

        Args:
            data: A DataFrame, a Series, a list (its column is `value`), a dict of lists, mappings, or a polars frame.
            template: Jinja text over the columns, like `Classify {{ text }}`. Several are tried one beside the other:
                a list, or a mapping of names to texts; a column `template` tells them apart.
            grid: Values by name: every row is run with each combination. A name of an option (model, effort,
                system_prompt ...) sets it, any other is a variable of the template.
            n: Samples of each.
            wait: Return when all are final; False for at once.
            variables: More variables for the template, looked at after columns and grid.
            **overrides: Options for all of them; with `schema` the answers' fields become columns `out_<field>`.

        Raises:
            ConfigError: the template or the data cannot work; the message names the line, the row or the column, and
                nothing was spent.
            KeyboardInterrupt: the kernel was interrupted; `pool.last` holds the partial run.

        Example:
            >>> from claude_pool_nb import Pool
            >>> reviews = [{"text": "I love it"}, {"text": "I hate it"}]
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     run = pool.map(
            ...         reviews,
            ...         "Classify as positive or negative: {{ text }}",
            ...         grid={"model": ["haiku", "sonnet"]},
            ...     )
            >>> run.frame["requested_model"].tolist()
            ['haiku', 'sonnet', 'haiku', 'sonnet']
        """
        return self.accept(Design.of_map(data, template, grid=grid, n=n, variables=variables, **overrides), wait=wait)

    def accept(self, design: Design, *, wait: bool = True) -> Run:
        """Run what a `Design` asks for; `fan_out` and `map` make one.

        Example:
            >>> from claude_pool_nb import Pool
            >>> from claude_pool_nb.analysis.design import Design
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     pool.accept(Design.of_prompts(["a poem", "a limerick"], n=2)).counts()
            {'completed': 4}
        """
        run = self._call(self.aio.accept(design, wait=False), then_waits=wait)
        if wait:
            self.wait(run)
        return run

    def result(self, task_id: str, timeout_s: float | None = None) -> TaskResult:
        """Wait for a task and return its answer.

        Raises:
            TaskFailed: it did not complete; `.result` holds what there is of it.
            TimeoutError: it is not done yet; it goes on.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     task = pool.submit("a poem")
            ...     pool.result(task.id).run_id
            'r1'
        """
        from claude_pool_nb.aio import completed

        self.wait(self.aio.get_task(task_id), timeout_s)
        return completed(self.aio.task_result(task_id))

    def cancel(self, what: Run | Task | str = "all") -> int:
        """Cancel a task, a run, or everything that is not final; returns how many tasks were asked to stop.

        Args:
            what: The run or task, or its id; `all` for everything.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     pool.pause()
            ...     run = pool.fan_out(["a poem", "a limerick"], wait=False)
            ...     pool.cancel(run.id)
            2
        """
        return self._call(self.aio.cancel(what))

    # -- steering ------------------------------------------------------------------------------------------------------

    def scale(self, slots: int) -> None:
        """Have this many slots; a slot that has to go finishes its task first.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:", slots=1) as pool:
            ...     pool.scale(2)
            ...     len(pool.slots())
            2
        """
        self._call(self.aio.scale(slots))

    def pause(self, reason: str = "paused by hand") -> None:
        """Start no more tasks; running ones end.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     pool.pause("time for coffee")
            ...     pool.status().paused
            'time for coffee'
        """
        self._call(self.aio.pause(reason))

    def unpause(self) -> None:
        """Go on, after a pause by hand or by the pool itself.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     pool.pause()
            ...     task = pool.submit("a poem")
            ...     pool.unpause()
            ...     str(task.result().state)
            'completed'
        """
        self._call(self.aio.unpause())

    def set_budget(self, budget_usd: float | None, *, fresh: bool = False) -> BudgetRecord:
        """Move the wall, or with `fresh` open a new budget that counts from now; None takes the wall away.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     pool.set_budget(5).limit_nano
            5000000000
        """
        return self._call(self.aio.set_budget(budget_usd, fresh=fresh))

    def configure_slot(self, slot_id: str, **options: Any) -> SlotRecord:
        """Give a slot options of its own (name, role, description, model ...); they hold from its next task on.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:", slots=2) as pool:
            ...     slot = pool.configure_slot("s2", name="Ada", role="judge")
            ...     pool.run("Is this good?", role="judge").slot_id
            's2'
        """
        return self._call(self.aio.configure_slot(slot_id, **options))

    def drain(self, timeout_s: float = 30.0) -> PoolStatus:
        """Take no more work, let running tasks end (for at most `timeout_s`), then stop the slots. Always returns.

        Raises:
            StoreError: finished work could not be written, and is lost with this pool.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     run = pool.fan_out(["a poem", "a limerick"], wait=False)
            ...     status = pool.drain(timeout_s=30)
            ...     status.closed, run.counts()
            (True, {'completed': 2})
        """
        if self.closed:
            return self.status()
        checked_wait(timeout_s)
        try:
            if self._portal.alive:
                return self._portal.call(self.aio.drain(timeout_s))
            self.ledger.close()  # its thread is dead; what was committed is safe, and its sessions end with the kernel
            return self.status()
        finally:
            self._end()

    def close(self) -> None:
        """Stop what runs, and end every session. Finished work is in the ledger. Safe to call twice.

        Raises:
            StoreError: finished work could not be written, and is lost with this pool.

        Example:
            >>> from claude_pool_nb import Pool
            >>> pool = Pool(backend="demo", demo_latency_s=0, store=":memory:")
            >>> pool.close()
            >>> pool.closed
            True
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

    # -- what it is ----------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self.aio)

    def card(self) -> PoolCard:
        """What its status card shows, now.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     card = pool.card()
            >>> card.profile, card.store
            ('prompt', ':memory:')
        """
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
