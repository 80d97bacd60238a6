"""Accepting work: the verbs that make runs, and how what they ask for becomes tasks of the core.

Invariants: everything that can be wrong is told before a run has a number; when a verb hands over its run or task, that
is in the ledger; what takes long (rendering, writing out many rows) is done beside the loop, which serves what runs.
"""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from claude_pool_nb.analysis.cautions import refuse_unreadable
from claude_pool_nb.analysis.design import Design
from claude_pool_nb.core import inputs
from claude_pool_nb.errors import PoolClosed
from claude_pool_nb.handles import Run, Task
from claude_pool_nb.records import RunRecord, TaskResult
from claude_pool_nb.views import Views

KEPT_TABLES = 64
"""Inputs of so many runs are kept as they were given; those of older runs are read from the ledger."""
MANY_PROMPTS = 500
"""A call with more prompts than this is prepared beside the loop."""


class Accepting(Views):
    """The verbs of `AsyncPool` that give it new work."""

    _prices: asyncio.Future[None]

    @abstractmethod
    async def result(self, task_id: str) -> TaskResult:
        """Wait for a task and return its answer."""

    @abstractmethod
    async def finished(self, run: Run) -> Run:
        """Wait until all tasks of a run are final."""

    @abstractmethod
    def get_run(self, run_id: str | None = None) -> Run:
        """A run by its id."""

    @abstractmethod
    def get_task(self, task_id: str) -> Task:
        """A task by its id."""

    async def run(self, prompt: str, **overrides: Any) -> TaskResult:
        """Run one prompt and return its answer.

        Raises:
            TaskFailed: it did not complete; `.result` holds what there is of it.
        """
        task = await self.submit(prompt, verb="run", **overrides)
        return await self.result(task.id)

    async def submit(self, prompt: str, *, verb: str = "submit", **overrides: Any) -> Task:
        """Accept one prompt and return at once; it is in the ledger by then.

        Args:
            prompt: The text, as it is.
            verb: The word under which its run is listed.
            **overrides: Options for it.
        """

        def design() -> Design:
            return Design.of_prompts([prompt], verb=verb, **overrides)

        # Reading a schema from a type imports pydantic, for which the loop does not wait.
        run = await self.accept(await asyncio.to_thread(design) if "schema" in overrides else design(), wait=False)
        return self.get_task(f"{run.id}.1")

    async def fan_out(
        self, prompts: Any, *, grid: Mapping[str, Any] | None = None, n: int = 1, wait: bool = True, **overrides: Any
    ) -> Run:
        """Run many prompts at once, one row each, in their order; an error is a row.

        Takes the arguments of `Pool.fan_out`; see there.
        """

        def design() -> Design:
            return Design.of_prompts(prompts, grid=grid, n=n, **overrides)

        return await self.accept(await asyncio.to_thread(design), wait=wait)

    async def map(
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
        """Fill a template with every row and run what comes of it.

        Takes the arguments of `Pool.map`; see there.

        Example:
            >>> import asyncio
            >>> from claude_pool_nb import AsyncPool
            >>> async def main():
            ...     async with AsyncPool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...         run = await pool.map(["good", "bad"], "Is this positive? {{ value }}", n=2)
            ...         return list(run.frame["value"])
            >>> asyncio.run(main())
            ['good', 'good', 'bad', 'bad']
        """

        def render() -> Design:
            return Design.of_map(data, template, grid=grid, n=n, variables=variables, **overrides)

        return await self.accept(await asyncio.to_thread(render), wait=wait)

    async def accept(self, design: Design, *, wait: bool = True) -> Run:
        """Run what a `Design` asks for.

        Args:
            design: The tasks; made by `Design.of_map` or `Design.of_prompts`.
            wait: Return when all are final; False for at once.

        Raises:
            PoolClosed: the pool takes no more work.
            ConfigError: options cannot work in this pool.

        Example:
            >>> import asyncio
            >>> from claude_pool_nb import AsyncPool
            >>> from claude_pool_nb.analysis.design import Design
            >>> async def main():
            ...     async with AsyncPool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...         run = await pool.accept(Design.of_prompts(["a poem"], n=2))
            ...         return run.counts()
            >>> asyncio.run(main())
            {'completed': 2}
        """
        engine = self.engine
        if engine.closed or engine.state.draining:
            raise PoolClosed
        if engine.store_error is not None:
            raise engine.store_error
        await self._prices
        for overrides in design.distinct_overrides():
            engine.intake.check_options(overrides)
        if design.verb == "map":
            refuse_unreadable(design, engine.intake.wherever, engine.backend.info.name)
        number = await asyncio.wrap_future(engine.ledger.allocate_run())
        run_id = f"r{number}"

        def make() -> tuple[inputs.TaskSpec, ...]:
            return engine.intake.specs(
                run_id,
                design.prompts,
                design.overrides,
                rows=design.rows,
                samples=design.samples,
                inputs=design.inputs_json(),
            )

        # Many are made beside the loop, the writing out of their own columns included, and earlier answers are looked
        # for there: running tasks would wait for it.
        beside = len(design) > MANY_PROMPTS or engine.intake.caches(design.distinct_overrides())
        specs = await asyncio.to_thread(make) if beside else make()
        record = RunRecord(
            id=run_id,
            verb=design.verb,
            total=len(specs),
            pool_id=engine.pool_id,
            backend=self._setup.backend,
            config=engine.intake.config.to_json(),
            meta=design.meta_json(),
            tags=tuple(dict.fromkeys(tag for one in design.distinct_overrides() for tag in one.tags or ())),
            budget=self._setup.budget_name,
            created_at=time.time(),
        )
        if design.table is not None:
            self._tables[run_id] = design.table
            while len(self._tables) > KEPT_TABLES:
                del self._tables[next(iter(self._tables))]
        self._last_run = run_id
        engine.handle(inputs.Submit(time.time(), record, specs))
        await engine.committed()
        run = self.get_run(run_id)
        return await self.finished(run) if wait else run
