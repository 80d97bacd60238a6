"""Running tasks of a run again: which, with what prompts and options, and then really.

A retry is planned first (`planned`), which reads only and raises whatever can be wrong with it; what was planned is
then reopened in one step. Invariants: a task keeps its id and row and gets a new attempt; nothing is changed or spent
before all of a call is known to be right; a run of a kernel that died is taken over with the configuration it had.
"""

from __future__ import annotations

import asyncio
import json
import time
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from claude_pool_nb.config import TaskOverrides
from claude_pool_nb.core import inputs
from claude_pool_nb.errors import ConfigError, PoolClosed, RunNotFound
from claude_pool_nb.records import TaskRecord, TaskState
from claude_pool_nb.views import Views

if TYPE_CHECKING:
    from claude_pool_nb.handles import Run

INCOMPLETE = frozenset({TaskState.FAILED, TaskState.CANCELLED, TaskState.INTERRUPTED})
"""States of tasks that ended without an answer."""
STATES = ("failed", "cancelled", "interrupted", "completed", "incomplete", "all")
"""What `state` of a retry takes: a state, `incomplete` for the first three, `all` for every row."""
KEPT = ("tags", "conversation", "role", "priority")
"""Options that a task keeps: its attempts so far are counted under them."""


@dataclass(frozen=True, slots=True)
class Again:
    """What a retry or a resume will run.

    Example:
        >>> Again("r1", total=3).tasks
        ()
    """

    run_id: str
    """The run."""
    total: int
    """How many tasks it has in all."""
    tasks: tuple[TaskRecord, ...] = ()
    """Those that are run again, as they were when it was planned."""
    prompts: tuple[str, ...] = ()
    """The text for each of them."""
    overrides: tuple[TaskOverrides, ...] = ()
    """The options of each of them; shared where they are equal."""
    changed_prompts: bool = False
    """True if the prompts are new."""
    changes: TaskOverrides | None = None
    """The options that are new."""


class Reopening(Views):
    """The verbs of a pool that run tasks again."""

    _last_run: str | None
    _prices: asyncio.Future[None]

    @abstractmethod
    def get_run(self, run_id: str | None = None) -> Run:
        """A run by its id."""

    @abstractmethod
    async def finished(self, run: Run) -> Run:
        """Wait until all tasks of a run are final."""

    async def retry(
        self,
        run: str | Run | None = None,
        *,
        state: str | Iterable[str] | None = None,
        rows: Any = None,
        template: str | None = None,
        variables: Mapping[str, Any] | None = None,
        wait: bool = True,
        **overrides: Any,
    ) -> Run:
        """Try tasks of a run again: those that failed, or those of your choice; each keeps its id and row.

        The frame of the run shows the new answers, `attempts` is counted up, and what the attempts so far gave and
        cost stays in `attempts()`. It always asks anew, also where a run was made with `cache=True`.

        Args:
            run: The run; None for the last one.
            state: failed (the default), cancelled, interrupted, completed, incomplete (the first three) or all; also
                several. With `rows` it is those of them that are in `state`; without it, whatever their state.
            rows: Which rows: a mask, positions, a part of the frame, or an expression over its columns such as
                `"out_score < 3"`.
            template: A new template, rendered over the same inputs: the row's columns, its grid values, and `prompt`,
                `output` and `error` as they are now.
            variables: More names for the template and, written `@name`, for the expression; not kept with a run.
            wait: Return when they are final.
            **overrides: Options that take the place of the tasks' own.

        Raises:
            RunNotFound: there is no such run.
            ConfigError: something of this cannot be; nothing was changed and nothing spent.

        Example:
            >>> from claude_pool_nb import AsyncPool
            >>> async def main():
            ...     async with AsyncPool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...         run = await pool.fan_out(["What is 6 * 7?", "What is 2 + 2?"])
            ...         await pool.retry(run, rows=[1], template="What is 20 + 3?")
            ...         return run.frame[["output", "attempts"]].values.tolist()
            >>> asyncio.run(main())
            [['42', 1], ['23', 2]]
        """
        again = await asyncio.to_thread(
            self.planned, run, state=state, rows=rows, template=template, variables=variables, **overrides
        )
        return await self.reopen(again, wait=wait)

    async def resume(self, run: str | Run | None = None, *, cancelled: bool = False, wait: bool = True) -> Run:
        """Run what was interrupted (and, if asked, cancelled) of a run, also of a kernel that died.

        Raises:
            RunNotFound: there is no such run.
        """
        again = await asyncio.to_thread(self.planned_resume, run, cancelled=cancelled)
        return await self.reopen(again, wait=wait)

    def planned(
        self,
        run: str | Run | None = None,
        *,
        state: str | Iterable[str] | None = None,
        rows: Any = None,
        template: str | None = None,
        variables: Mapping[str, Any] | None = None,
        **overrides: Any,
    ) -> Again:
        """What `retry` with the same arguments would run; changes nothing.

        Raises:
            RunNotFound: there is no such run.
            ConfigError: something of this cannot be.

        Example:
            >>> from claude_pool_nb import AsyncPool
            >>> async def main():
            ...     async with AsyncPool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...         run = await pool.fan_out(["a poem", "a limerick"])
            ...         return pool.planned(run, rows="prompt == 'a poem'", template="{{ prompt }}, please").prompts
            >>> asyncio.run(main())
            ('a poem, please',)
        """
        run_id = self._at_hand(run)
        changes = _changes(overrides)
        wanted = _states(state if state is not None else "failed" if rows is None else "all")
        records = self.task_records(run_id)
        frame = None
        if rows is not None or template is not None:
            frame = self.frame(run_id)
        if rows is None or frame is None:
            chosen = [task for task in records if task.state in wanted]
        else:
            from claude_pool_nb.analysis.again import chosen as chosen_rows

            by_id = {task.id: task for task in records}
            ids = frame["task_id"].tolist()
            marked = [by_id[ids[place]] for place in chosen_rows(frame, rows, variables)]
            for task in marked:
                if not task.state.is_final:
                    raise ConfigError(f"{task.id} is {task.state}; wait for it or cancel it, then retry")
            chosen = [task for task in marked if task.state in wanted]
        prompts = [self.engine.intake.prompt_of(task) for task in chosen]
        if template is not None and frame is not None:
            from claude_pool_nb.analysis.again import new_prompts

            place_of = {task_id: place for place, task_id in enumerate(frame["task_id"])}
            prompts = new_prompts(
                frame,
                [place_of[task.id] for task in chosen],
                template,
                variables,
                prompts=prompts,
                inputs=[task.inputs for task in chosen],
                nested=json.loads(self.run_record(run_id).meta).get("nested", ()),
            )
        return self._again(run_id, len(records), chosen, prompts, changes, changed_prompts=template is not None)

    def planned_resume(self, run: str | Run | None = None, *, cancelled: bool = False) -> Again:
        """What `resume` with the same arguments would run; changes nothing.

        Raises:
            RunNotFound: there is no such run.

        Example:
            >>> from claude_pool_nb import AsyncPool
            >>> async def main():
            ...     async with AsyncPool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...         run = await pool.fan_out(["a poem", "a limerick"])
            ...         return pool.planned_resume(run).tasks
            >>> asyncio.run(main())
            ()
        """
        run_id = self._at_hand(run)
        wanted = {TaskState.INTERRUPTED, TaskState.CANCELLED} if cancelled else {TaskState.INTERRUPTED}
        records = self.task_records(run_id)
        chosen = [task for task in records if task.state in wanted]
        return self._again(run_id, len(records), chosen, [self.engine.intake.prompt_of(task) for task in chosen], None)

    def _again(
        self,
        run_id: str,
        total: int,
        chosen: Sequence[TaskRecord],
        prompts: Sequence[str],
        changes: TaskOverrides | None,
        *,
        changed_prompts: bool = False,
    ) -> Again:
        intake = self.engine.intake
        if chosen:
            intake.check_backend(self.run_record(run_id))
        known: dict[str, TaskOverrides] = {}
        for task in chosen:
            if task.overrides not in known:
                known[task.overrides] = intake.overrides_of(task, changes)
        return Again(
            run_id,
            total,
            tuple(chosen),
            tuple(prompts),
            tuple(known[task.overrides] for task in chosen),
            changed_prompts,
            changes,
        )

    def _at_hand(self, run: str | Run | None) -> str:
        """The id of a run; if its kernel may have died since this pool was started, that is put right first."""
        run_id = self.get_run(run if run is None or isinstance(run, str) else run.id).id
        if not self._owns(run_id) and not self.run_record(run_id).finished_at:
            self.engine.ledger.recover()
        return run_id

    async def reopen(self, again: Again, *, wait: bool = True) -> Run:
        """Run what was planned.

        Raises:
            ConfigError: the options cannot go together, or a task was started since it was planned.
            PoolClosed: the pool takes no more work.
        """
        engine, run = self.engine, self.get_run(again.run_id)
        if again.tasks:
            await self._prices
            if engine.closed or engine.state.draining:
                raise PoolClosed
            record, owned = self.run_record(run.id), self._owns(run.id)
            now = {task.id: task for task in self.task_records(run.id)}
            for task in again.tasks:
                if not now[task.id].state.is_final:
                    raise ConfigError(f"{task.id} is {now[task.id].state} by now; wait for it, then try again")
            if not owned and not record.finished_at:
                raise RunNotFound(f"{run.id} belongs to pool {record.pool_id}, which is still at work; retry it there")
            chosen = [now[task.id] for task in again.tasks]
            whole = [] if owned else engine.intake.revive(record, list(now.values()))
            if again.changed_prompts or again.changes is not None or owned:
                prompts = {task.id: text for task, text in zip(again.tasks, again.prompts, strict=True)}
                specs = engine.intake.revive(record, chosen, prompts if again.changed_prompts else None, again.changes)
            else:
                ids = {task.id for task in again.tasks}
                specs = tuple(spec for spec in whole if spec.record.id in ids)
            if not owned:
                engine.handle(inputs.Adopt(time.time(), record, tuple(whole)))
            engine.handle(inputs.Reopen(time.time(), specs))
            await engine.committed()
        self._last_run = run.id
        return await self.finished(run) if wait else run

    def _owns(self, run_id: str) -> bool:
        try:
            self.engine.state.run(run_id)
        except RunNotFound:
            return False
        return True


def _states(given: str | Iterable[str]) -> set[TaskState]:
    """The states that are meant.

    Raises:
        ConfigError: a word is none.
    """
    words = [word.strip() for word in given.split(",")] if isinstance(given, str) else [str(word) for word in given]
    wanted: set[TaskState] = set()
    for word in words:
        if word not in STATES:
            raise ConfigError(f"state={word!r} cannot be tried again; choose from {', '.join(STATES)}")
        if word in {"all", "incomplete"}:
            wanted |= INCOMPLETE | ({TaskState.COMPLETED} if word == "all" else set())
        else:
            wanted.add(TaskState(word))
    return wanted


def _changes(overrides: Mapping[str, Any]) -> TaskOverrides | None:
    """New options as they are checked.

    Raises:
        ConfigError: there is no such option, or a task keeps its own.
    """
    if not overrides:
        return None
    checked = TaskOverrides.from_mapping(overrides)
    if "cache" in overrides:
        raise ConfigError("cache: a retry always asks anew; make a new run to have it answered from the ledger")
    for name in KEPT:
        if name in overrides:
            raise ConfigError(
                f"{name} stays what it was when a task is tried again, because its attempts are counted under it; "
                "make a new run to change it"
            )
    return checked
