"""AsyncPool: every verb of the pool, awaitable, on the loop it is started on.

The blocking `Pool` is a face over this one. Reads (`status`, frames, handles) are plain methods that work from any
thread; verbs that change the pool are coroutines of its loop.
"""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from claude_pool_nb import pricing
from claude_pool_nb.accepting import Accepting
from claude_pool_nb.cassettes import AsyncCassettes
from claude_pool_nb.config import PoolConfig, SlotConfig
from claude_pool_nb.core import inputs
from claude_pool_nb.engine.portal import wait_elsewhere
from claude_pool_nb.engine.setup import Setup, assemble
from claude_pool_nb.errors import (
    BlockingCall,
    ConfigError,
    PoolClosed,
    PoolError,
    RunNotFound,
    TaskCancelled,
    TaskFailed,
    TaskInterrupted,
)
from claude_pool_nb.handles import Run, Task, key_of
from claude_pool_nb.options import CHECKS
from claude_pool_nb.records import (
    BudgetRecord,
    PoolStatus,
    SlotRecord,
    StopReason,
    TaskResult,
    TaskState,
    nano,
)
from claude_pool_nb.reopening import Reopening
from claude_pool_nb.store import queries, shelf

if TYPE_CHECKING:
    from claude_pool_nb.engine.engine import Engine
    from claude_pool_nb.pool import Pool
    from claude_pool_nb.sessions.base import Backend


class AsyncPool(AsyncCassettes, Accepting, Reopening):
    """A pool of Claude sessions for code that awaits.

    Takes the arguments of `Pool`; see there.

    Example:
        >>> import asyncio
        >>> async def main():
        ...     async with AsyncPool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
        ...         run = await pool.fan_out(["a poem", "a limerick"])
        ...         return len(run.frame)
        >>> asyncio.run(main())
        2
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
        budget_name: str | None = None,
        fresh_budget: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(
            Setup.build(
                slots=slots,
                profile=profile,
                model=model,
                budget_usd=budget_usd,
                backend=backend,
                store=store,
                config=config,
                slot_configs=slot_configs,
                budget_name=budget_name,
                fresh_budget=fresh_budget,
                options=options,
            )
        )
        self._engine: Engine | None = None
        self._starting = asyncio.Lock()
        self._prices: asyncio.Future[None]
        self._loop: asyncio.AbstractEventLoop | None = None
        self._face: Pool | None = None

    # -- life ----------------------------------------------------------------------------------------------------------

    async def start(self) -> Self:
        """Check what is needed, open the ledger and start the slots. The first prompt may be sent at once.

        Raises:
            MissingCredentials: there is no account to use.
            StoreError: the ledger cannot be used.
            ConfigError: an option cannot work.

        Example:
            >>> import asyncio
            >>> async def main():
            ...     pool = await AsyncPool(backend="demo", demo_latency_s=0, store=":memory:").start()
            ...     result = await pool.run("a poem")
            ...     await pool.close()
            ...     return result.task_id
            >>> asyncio.run(main())
            'r1.1'
        """
        async with self._starting:  # two that ask at once get one pool, and no sessions that nobody closes
            if self._engine is None:
                self._loop = asyncio.get_running_loop()
                self._engine = await assemble(self._setup)
                self._engine.start()
                # While the sessions open: the first call waits for the price list, the loop never does.
                self._prices = self._loop.run_in_executor(None, pricing.warm_up)
        return self

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def engine(self) -> Engine:
        """The engine of a started pool.

        Raises:
            PoolClosed: it was not started.
        """
        if self._engine is None:
            raise PoolClosed("the pool was not started; use `async with AsyncPool(...)` or `await pool.start()`")
        return self._engine

    @property
    def blocking(self) -> Pool:
        """The blocking face of this pool.

        Raises:
            BlockingCall: it has none: its owner awaits.
        """
        if self._face is None:
            raise BlockingCall("this handle belongs to an AsyncPool; await it instead of blocking")
        return self._face

    async def drain(self, timeout_s: float = 30.0) -> PoolStatus:
        """Take no more work, let running tasks end (for at most `timeout_s`, then stop them), then stop the slots.

        What has not started is interrupted and can be resumed. Always returns.
        """
        await self.engine.drain(checked_wait(timeout_s))
        return self.status()

    async def close(self) -> None:
        """Stop what runs, and end every session. Finished work is in the ledger."""
        if self._engine is not None:
            await self.drain(timeout_s=0.0)

    stop = close

    # -- work ----------------------------------------------------------------------------------------------------------

    async def result(self, task_id: str) -> TaskResult:
        """Wait for a task and return its answer.

        Raises:
            TaskFailed: it did not complete; `.result` holds what there is of it.
        """
        await self.finished_all((task_id,))
        return completed(self.task_result(task_id))

    async def finished(self, run: Run) -> Run:
        """Wait until all tasks of a run are final.

        Example:
            >>> import asyncio
            >>> async def main():
            ...     async with AsyncPool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...         run = await pool.fan_out(["a poem"], wait=False)
            ...         return (await pool.finished(run)).counts()
            >>> asyncio.run(main())
            {'completed': 1}
        """
        await self.finished_all((run.id,))
        return run

    async def finished_all(self, keys: tuple[str, ...]) -> None:
        """Wait until runs (`r12`) and tasks (`r12.3`) are final, from the pool's own loop or any other.

        Example:
            >>> import asyncio
            >>> async def main():
            ...     async with AsyncPool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...         tasks = [await pool.submit("a poem"), await pool.submit("a limerick")]
            ...         await pool.finished_all(tuple(task.id for task in tasks))
            ...         return [str(task.state) for task in tasks]
            >>> asyncio.run(main())
            ['completed', 'completed']
        """
        if asyncio.get_running_loop() is self._loop:
            for key in keys:
                await asyncio.wrap_future(self.engine.when_final(key))
            return
        loop = self._loop
        if loop is None or loop.is_closed():
            self.must_be_final(keys)
            return

        def post(call: Callable[[int], None], count: int) -> None:
            loop.call_soon_threadsafe(call, count)

        await wait_elsewhere(self.when_all_final(keys), post, self.stopper(keys))

    def when_all_final(self, keys: tuple[str, ...], timeout_s: float | None = None) -> cf.Future[None]:
        """A future, for any thread, that is done when runs and tasks are final, or fails as the first of them does.

        After `timeout_s` it fails with TimeoutError; the work goes on.
        """
        done: cf.Future[None] = cf.Future()
        loop = self._loop
        assert loop is not None
        left = len(keys)

        def finish(error: BaseException | None = None) -> None:
            if not done.done():
                done.set_exception(error) if error else done.set_result(None)

        def settle(one: cf.Future[None]) -> None:
            nonlocal left
            left -= 1
            error = None if one.cancelled() else one.exception()
            if error is not None or left == 0:
                finish(error)

        def begin() -> None:
            try:
                for key in keys:
                    self.engine.when_final(key).add_done_callback(settle)
            except PoolError as error:
                finish(error)
            if timeout_s is not None:
                late = TimeoutError(f"not done after {timeout_s:g} s; it goes on, wait for it again")
                loop.call_later(timeout_s, finish, late)

        loop.call_soon_threadsafe(begin)
        return done

    def must_be_final(self, keys: Iterable[str]) -> None:
        """After the end of the pool: nothing can be waited for any more.

        Raises:
            PoolClosed: one of these is not final.
        """
        for key in keys:
            if self.open_tasks(key):
                raise PoolClosed

    def stopper(self, keys: tuple[str, ...]) -> Callable[[int], None]:
        """What an interrupt does to these runs and tasks: the first stops their turns, a second kills."""

        def interrupted(count: int) -> None:
            for key in keys:
                left = self.open_tasks(key)
                if left and not self.engine.closed:
                    self.engine.handle(inputs.Stop(time.time(), left, StopReason.INTERRUPT, kill=count > 1))

        return interrupted

    def open_tasks(self, key: str) -> tuple[str, ...]:
        """The ids of the tasks of a run (or of one task) that are not final."""
        records = [self.task_record(key)] if "." in key else self.task_records(key)
        return tuple(task.id for task in records if not task.state.is_final)

    # -- stopping ------------------------------------------------------------------------------------------------------

    async def cancel(self, what: Run | Task | str = "all") -> int:
        """Cancel a task, a run, or everything that is not final.

        Returns:
            How many tasks were asked to stop.
        """
        what = key_of(what)
        if what == "all":
            left = tuple(t.id for t in self.engine.state.tasks() if not t.state.is_final)
        else:
            left = self.open_tasks(what)
            self._check_own(what, left)
        if left:
            self.engine.handle(inputs.Stop(time.time(), left, StopReason.CANCEL))
        return len(left)

    def _check_own(self, key: str, left: tuple[str, ...]) -> None:
        """Refuse to stop what another pool is working on."""
        run_id = key.split(".", maxsplit=1)[0]
        if left and not self._owns(run_id):
            owner = self.run_record(run_id).pool_id
            raise RunNotFound(f"{key} belongs to pool {owner}, which is still at work; stop it there")

    def stop_later(self, key: str, reason: StopReason, *, kill: bool = False) -> None:
        """Stop what is not final of a run or task, from any thread; returns at once.

        Raises:
            RunNotFound: it belongs to another pool.
        """
        left = self.open_tasks(key)
        self._check_own(key, left)
        if left:
            self._post(inputs.Stop(time.time(), left, reason, kill))

    def _post(self, told: inputs.Input) -> None:
        """Tell the core, from any thread."""
        loop = self._loop
        assert loop is not None
        if asyncio._get_running_loop() is loop:
            self.engine.handle(told)
        elif not loop.is_closed():
            loop.call_soon_threadsafe(self.engine.handle, told)

    # -- steering ------------------------------------------------------------------------------------------------------

    async def scale(self, slots: int) -> None:
        """Have this many slots; a slot that has to go finishes its task first.

        Raises:
            ConfigError: outside min_slots and max_slots.
        """
        self.engine.handle(inputs.Scale(time.time(), cast(int, CHECKS["min_slots"]("slots", slots))))
        await self.engine.committed()

    async def pause(self, reason: str = "paused by hand") -> None:
        """Start no more tasks; running ones end."""
        self.engine.handle(inputs.Pause(time.time(), reason))
        await self.engine.committed()

    async def unpause(self) -> None:
        """Go on, after a pause by hand or by the pool itself."""
        self.engine.retry_writes()
        self.engine.handle(inputs.Unpause(time.time()))
        await self.engine.committed()

    async def set_budget(self, budget_usd: float | None, *, fresh: bool = False) -> BudgetRecord:
        """Move the wall, or with `fresh` open a new budget that counts from now; None takes the wall away."""
        dollars = None if budget_usd is None else cast(float, CHECKS["budget_usd"]("budget_usd", budget_usd))
        await self.engine.set_budget(None if dollars is None else nano(dollars), fresh=fresh)
        return self.budget

    async def configure_slot(self, slot_id: str, **options: Any) -> SlotRecord:
        """Give a slot options of its own (name, role, description, model ...); they hold from its next task on.

        Raises:
            SlotNotFound: there is no such slot.
            ConfigError: an option cannot work.
        """
        engine = self.engine
        self.slot_record(slot_id)
        old = engine.intake.slot_configs.get(slot_id, SlotConfig())
        new = replace(old, **options)  # not by way of a mapping, which leaves out what may be secret
        engine.intake.slot_configs[slot_id] = new
        engine.intake.changed()
        try:
            engine.intake.options_of_slot(slot_id)
        except ConfigError:
            engine.intake.slot_configs[slot_id] = old
            engine.intake.changed()
            raise
        engine.label(slot_id)
        return self.slot_record(slot_id)

    # -- shared context ------------------------------------------------------------------------------------------------

    def set_context(self, key: str, value: str) -> None:
        """Tell every task from the next one on: it is appended to the system prompt, keys sorted."""
        if not isinstance(key, str) or not key.strip() or not isinstance(value, str):
            raise ConfigError("a context has a key and a value, both texts; the key is not empty")
        CHECKS["name"]("key", key)
        engine = self._open_engine()
        shelf.set_context(engine.ledger, self._setup.scope, key, value)
        engine.intake.context[key] = value
        engine.intake.changed()

    def delete_context(self, key: str) -> str | None:
        """Take a key away; returns what it was."""
        engine = self._open_engine()
        shelf.delete_context(engine.ledger, self._setup.scope, key)
        old = engine.intake.context.pop(key, None)
        engine.intake.changed()
        return old

    def _open_engine(self) -> Engine:
        """The engine, whose ledger is written to at once."""
        if self.engine.closed:
            raise PoolClosed
        return self.engine

    # -- handles -------------------------------------------------------------------------------------------------------

    @property
    def last(self) -> Run | None:
        """The run made last in this pool."""
        return Run(self, self._last_run) if self._last_run is not None else None

    def get_run(self, run_id: str | None = None) -> Run:
        """A run by its id, also of a pool that is gone; None for the last one.

        Raises:
            RunNotFound: there is none.
        """
        if run_id is None:
            latest = queries.latest_run(self.engine.ledger) if self._last_run is None else None
            run_id = latest.id if latest is not None else self._last_run
            if run_id is None:
                raise RunNotFound("there is no run yet; `%pool run` or `%pool fan_out` makes one")
        run_id = key_of(run_id)
        self.run_record(run_id)
        return Run(self, run_id)

    def get_task(self, task_id: str) -> Task:
        """A task by its id, also of a pool that is gone.

        Raises:
            TaskNotFound: there is none.
        """
        task_id = key_of(task_id)
        self.task_record(task_id)
        return Task(self, task_id)

    def __repr__(self) -> str:
        return repr(self._engine.state) if self._engine is not None else "<AsyncPool not started>"


def checked_wait(timeout_s: float) -> float:
    """How long a drain may wait: `inf` for as long as it takes."""
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or not timeout_s >= 0:
        raise ConfigError(f"timeout_s={timeout_s!r} cannot work: timeout_s takes a number of at least 0 seconds")
    return timeout_s


def completed(result: TaskResult) -> TaskResult:
    """The result of a completed task.

    Raises:
        TaskFailed: it did not complete.
    """
    if result.state is TaskState.COMPLETED:
        return result
    why = result.failure.message if result.failure is not None else str(result.state)
    text = f"task {result.task_id} {result.state}: {why}"
    match result.state:
        case TaskState.CANCELLED:
            raise TaskCancelled(text, result=result)
        case TaskState.INTERRUPTED:
            raise TaskInterrupted(text, result=result)
        case _:
            raise TaskFailed(text, result=result)
