"""What a blocking pool shows: its slots, runs, options, money and shared context.

Invariant: everything here is read from the `AsyncPool` behind it, in any thread, without waiting for its loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from claude_pool_nb.analysis.reader import Frames
from claude_pool_nb.display.live import live_view

if TYPE_CHECKING:
    import pandas as pd

    from claude_pool_nb import events
    from claude_pool_nb.aio import AsyncPool
    from claude_pool_nb.analysis.design import Design
    from claude_pool_nb.analysis.preview import Preview
    from claude_pool_nb.config import PoolConfig, ResolvedConfig
    from claude_pool_nb.engine.setup import Setup
    from claude_pool_nb.handles import Run, Task
    from claude_pool_nb.notebook.widgets import PoolWatch
    from claude_pool_nb.records import BudgetRecord, PoolStatus, SlotRecord
    from claude_pool_nb.store.ledger import Ledger


class PoolViews(Frames):
    """The verbs of `Pool` that wait for nothing."""

    aio: AsyncPool
    """The pool behind it."""

    # -- shared context ------------------------------------------------------------------------------------------------

    def set_context(self, key: str, value: str) -> None:
        """Tell every task from the next one on: it is appended to the system prompt, keys sorted.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     pool.set_context("customer", "a florist")
            ...     print(pool.resolved_config().appended_prompt)
            Shared context:
            - customer: a florist
        """
        self.aio.set_context(key, value)

    def get_context(self, key: str) -> str | None:
        """The value of a key; None if there is none.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     pool.set_context("customer", "a florist")
            ...     pool.get_context("customer"), pool.get_context("nothing")
            ('a florist', None)
        """
        return self.aio.get_context(key)

    def delete_context(self, key: str) -> str | None:
        """Take a key away; returns what it was.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     pool.set_context("customer", "a florist")
            ...     pool.delete_context("customer"), pool.list_context()
            ('a florist', {})
        """
        return self.aio.delete_context(key)

    def list_context(self) -> dict[str, str]:
        """All keys and values, keys sorted.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     pool.set_context("b", "2")
            ...     pool.set_context("a", "1")
            ...     pool.list_context()
            {'a': '1', 'b': '2'}
        """
        return self.aio.list_context()

    # -- looking -------------------------------------------------------------------------------------------------------

    def status(self) -> PoolStatus:
        """The pool at this moment.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     result = pool.run("a poem")
            ...     pool.status().tasks
            {'completed': 1}
        """
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

    def find_slots(
        self, *, name: str | None = None, role: str | None = None, state: str | None = None
    ) -> list[SlotRecord]:
        """The slots that match all that is given.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:", slots=2) as pool:
            ...     slot = pool.configure_slot("s2", role="judge")
            ...     [slot.id for slot in pool.find_slots(role="judge")]
            ['s2']
        """
        return self.aio.find_slots(name=name, role=role, state=state)

    def get_run(self, run_id: str | None = None) -> Run:
        """A run by its id, also of a kernel that is gone; None for the last one.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     run = pool.fan_out(["a poem"])
            ...     pool.get_run("r1").counts()
            {'completed': 1}
        """
        return self.aio.get_run(run_id)

    def get_task(self, task_id: str) -> Task:
        """A task by its id, also of a kernel that is gone.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     run = pool.fan_out(["a poem"])
            ...     pool.get_task("r1.1")
            <Task r1.1 completed>
        """
        return self.aio.get_task(task_id)

    def resolved_config(self, task_id: str | None = None, slot_id: str | None = None) -> ResolvedConfig:
        """The options of a task, or (without one) of a task with no options of its own.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     task = pool.submit("a poem", max_turns=2)
            ...     config = pool.resolved_config(task.id)
            ...     config.max_turns, config.profile, config.timeout_s
            (2, 'prompt', None)
        """
        return self.aio.resolved_config(task_id, slot_id)

    def subscribe(self, watcher: Callable[[events.Event], None]) -> Callable[[], None]:
        """Call `watcher` with every event after its commit, on the pool's thread; returns how to stop that.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     seen = []
            ...     stop = pool.subscribe(lambda event: seen.append(type(event).__name__))
            ...     result = pool.run("a poem")
            ...     stop()
            ...     "TaskCompleted" in seen
            True
        """
        return self.aio.subscribe(watcher)

    @property
    def ledger(self) -> Ledger:
        """Where everything is written, and read from."""
        return self.aio.ledger

    def slot_records(self) -> list[SlotRecord]:
        """The slots as they are now, with process, session and memory.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:", slots=2) as pool:
            ...     [slot.id for slot in pool.slot_records()]
            ['s1', 's2']
        """
        return self.aio.slot_records()

    def frame(self, run_id: str) -> pd.DataFrame:
        """One row per task of a run, in the order of its input; the caller's own columns come first.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     run = pool.fan_out(["a poem", "a limerick"])
            ...     len(pool.frame(run.id))
            2
        """
        return self.aio.frame(run_id)

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
        """What `map` (or, without a template, `fan_out`) would run and cost; nothing is sent, started or written.

        The price goes from low to high. It is from the list price and assumptions, until the ledger knows what such
        tasks did cost: then it is an interval that holds the bill in 99 of 100 runs, and narrow for many tasks.

        Args:
            data: As for `map`; without a template as for `fan_out`.
            template: As for `map`.
            grid: As for `map`.
            n: Samples of each.
            variables: As for `map`.
            **overrides: Options for all of them.

        Raises:
            ConfigError: whatever `map` or `fan_out` would refuse.

        Example:
            >>> from claude_pool_nb import Pool
            >>> reviews = [{"text": "I love it"}, {"text": "I hate it"}]
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     preview = pool.preview(reviews, "Classify: {{ text }}", grid={"model": ["haiku", "sonnet"]}, n=3)
            ...     pool.runs().empty
            True
            >>> preview.tasks, preview.prompts[0], list(preview.estimate["model"])
            (12, 'Classify: I love it', ['demo-small', 'demo-large'])
        """
        return self.aio.preview(data, template, grid=grid, n=n, variables=variables, **overrides)

    def preview_design(self, design: Design) -> Preview:
        """What a `Design` would run and cost.

        Example:
            >>> from claude_pool_nb import Pool
            >>> from claude_pool_nb.analysis.design import Design
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     pool.preview_design(Design.of_prompts(["a poem"], n=5)).tasks
            5
        """
        return self.aio.preview_design(design)

    def watch(self) -> PoolWatch:
        """A widget that shows what the pool does now, with its buttons, until `.stop()` or the pool's end.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     view = pool.watch()
            ...     run = pool.fan_out(["a poem", "a limerick"])
            ...     view.stop()
            >>> view.watching
            False
        """
        view: PoolWatch = live_view(self)
        return view

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
        """`claude`, `demo` or `replay`."""
        return self.aio.setup.backend

    @property
    def notice(self) -> str | None:
        """What its status card says of the backend."""
        return self.aio.engine.backend.info.notice

    @property
    def warnings(self) -> list[str]:
        """Things to know, each said once."""
        return self.aio.warnings
