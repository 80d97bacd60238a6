"""What can be looked at: runs, tasks, slots, options and money of a pool, from any thread.

Invariants: nothing here changes anything; what the core holds is read from it, everything else from the ledger, so that
runs of a pool that is gone look the same as this one's.
"""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from claude_pool_nb import events
from claude_pool_nb.analysis.design import Design
from claude_pool_nb.analysis.reader import Frames
from claude_pool_nb.analysis.tables import Table
from claude_pool_nb.config import PoolConfig, TaskOverrides
from claude_pool_nb.display.answers import answers_frame
from claude_pool_nb.engine.setup import Setup
from claude_pool_nb.errors import RunNotFound, SlotNotFound, TaskNotFound
from claude_pool_nb.records import BudgetRecord, PoolStatus, RunRecord, SlotRecord, TaskRecord, TaskResult
from claude_pool_nb.store import queries

if TYPE_CHECKING:
    import pandas as pd

    from claude_pool_nb.analysis.preview import Preview
    from claude_pool_nb.config import ResolvedConfig
    from claude_pool_nb.engine.engine import Engine
    from claude_pool_nb.store.ledger import Ledger


class Views(Frames):
    """The reading verbs of a pool."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._last_run: str | None = None
        self._tables: dict[str, Table] = {}

    @property
    @abstractmethod
    def engine(self) -> Engine:
        """The engine of a started pool."""

    # -- looking -------------------------------------------------------------------------------------------------------

    def status(self) -> PoolStatus:
        """The pool at this moment."""
        return self.engine.state.status(self._setup.backend)

    @property
    def budget(self) -> BudgetRecord:
        """The budget it draws on, as of now."""
        return self.engine.state.budget or self.engine.budget

    @property
    def config(self) -> PoolConfig:
        """The options that hold for every task, unless its own or its slot's say otherwise."""
        return self._setup.config

    def run_record(self, run_id: str) -> RunRecord:
        """A run's record, from the core or the ledger."""
        with contextlib.suppress(RunNotFound):
            return self.engine.state.run(run_id)
        return queries.run(self.engine.ledger, run_id)

    def task_record(self, task_id: str) -> TaskRecord:
        """A task's record, from the core or the ledger."""
        with contextlib.suppress(TaskNotFound):
            return self.engine.state.task(task_id)
        return queries.task(self.engine.ledger, task_id)

    def task_records(self, run_id: str) -> list[TaskRecord]:
        """The records of a run's tasks, in order."""
        with contextlib.suppress(RunNotFound):
            return self.engine.state.tasks(run_id)
        return queries.tasks(self.engine.ledger, run_id)

    def task_result(self, task_id: str) -> TaskResult:
        """What there is of a task, over all its attempts."""
        return self.engine.task_result(self.task_record(task_id))

    def task_results(self, run_id: str) -> list[TaskResult]:
        """What there is of a run's tasks, in order."""
        return self.engine.task_results(self.task_records(run_id))

    def resolved_config(self, task_id: str | None = None, slot_id: str | None = None) -> ResolvedConfig:
        """The options of a task, or (without one) of a task with no options of its own."""
        if task_id is None:
            return self.engine.intake.resolve(None, slot_id)
        record = self.task_record(task_id)
        return self.engine.intake.options_of_record(record, self.run_record(record.run_id), slot_id)

    def subscribe(self, watcher: Callable[[events.Event], None]) -> Callable[[], None]:
        """Call `watcher` with every event after its commit, on the pool's loop; returns how to stop that."""
        return self.engine.watchers.subscribe(watcher)

    @property
    def ledger(self) -> Ledger:
        """Where everything is written, and read from."""
        return self.engine.ledger

    def slot_records(self) -> list[SlotRecord]:
        """The slots as they are now, with process, session and memory."""
        return self.engine.slots()

    def frame(self, run_id: str) -> pd.DataFrame:
        """One row per task of a run, in the order of its input; the caller's own columns come first."""
        frame = super().frame(run_id)
        table = self._tables.get(run_id)
        return answers_frame(table.joined(frame) if table is not None else frame)

    # -- before it is spent --------------------------------------------------------------------------------------------

    def preview(
        self,
        data: Any,
        template: str | Sequence[str] | Mapping[str, str] | None = None,
        *,
        grid: Mapping[str, Any] | None = None,
        n: int = 1,
        variables: Mapping[str, Any] | None = None,
        **overrides: Any,
    ) -> Preview:
        """What `map` (or, without a template, `fan_out`) would run and cost; nothing is sent, started or written."""
        if template is None:
            return self.preview_design(Design.of_prompts(data, grid=grid, n=n, **overrides))
        return self.preview_design(Design.of_map(data, template, grid=grid, n=n, variables=variables, **overrides))

    def preview_design(self, design: Design) -> Preview:
        """What a `Design` would run and cost."""
        from claude_pool_nb.analysis.previewing import preview_of

        return preview_of(self.engine, design)

    def preview_run(self, run_id: str) -> Preview:
        """What a run was thought to cost, by what had run before it, beside what it did cost.

        Example:
            >>> import asyncio
            >>> from claude_pool_nb import AsyncPool
            >>> async def main():
            ...     async with AsyncPool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...         run = await pool.fan_out(["a poem", "a limerick"])
            ...         return pool.preview_run(run.id).actual_usd == run.cost_usd
            >>> asyncio.run(main())
            True
        """
        from claude_pool_nb.analysis.previewing import preview_made

        return preview_made(self.engine, self.run_record(run_id), self.task_records(run_id))

    def preview_again(
        self, run_id: str, tasks: Sequence[TaskRecord], prompts: Sequence[str], overrides: Sequence[TaskOverrides]
    ) -> Preview:
        """What tasks of a run would cost if they ran again now, with these prompts and options.

        Example:
            >>> import asyncio
            >>> from claude_pool_nb import AsyncPool, TaskOverrides
            >>> async def main():
            ...     async with AsyncPool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...         run = await pool.fan_out(["a poem", "a limerick"])
            ...         some = pool.task_records(run.id)[:1]
            ...         return pool.preview_again(run.id, some, ["an ode"], [TaskOverrides(model="sonnet")])
            >>> seen = asyncio.run(main())
            >>> seen.tasks, seen.prompts, list(seen.estimate["model"])
            (1, ('an ode',), ['demo-large'])
        """
        from claude_pool_nb.analysis.previewing import preview_again

        return preview_again(self.engine, self.run_record(run_id), tasks, prompts, overrides)

    # -- what it is ----------------------------------------------------------------------------------------------------

    @property
    def setup(self) -> Setup:
        """How it was made."""
        return self._setup

    @property
    def warnings(self) -> list[str]:
        """Things to know, each said once."""
        return list(self.engine.watchers.warnings)

    def find_slots(
        self, *, name: str | None = None, role: str | None = None, state: str | None = None
    ) -> list[SlotRecord]:
        """The slots that match all that is given."""
        return [
            slot
            for slot in self.engine.slots()
            if name in {None, slot.name} and role in {None, slot.role} and state in {None, str(slot.state)}
        ]

    def slot_record(self, slot_id: str) -> SlotRecord:
        """A slot as it is now.

        Raises:
            SlotNotFound: there is none of that id.
        """
        for slot in self.engine.slots():
            if slot.id == slot_id:
                return slot
        raise SlotNotFound(f"there is no slot {slot_id!r}; there are {', '.join(s.id for s in self.engine.slots())}")

    # -- shared context ------------------------------------------------------------------------------------------------

    def get_context(self, key: str) -> str | None:
        """The value of a key; None if there is none."""
        return self.engine.intake.context.get(key)

    def list_context(self) -> dict[str, str]:
        """All keys and values, keys sorted."""
        return dict(sorted(self.engine.intake.context.items()))
