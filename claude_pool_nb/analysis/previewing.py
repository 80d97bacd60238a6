"""How a preview is made: tasks are put together by their options, and each lot is estimated as a whole.

Invariants: making a preview sends nothing, starts nothing, takes no run number and writes nothing; ten thousand tasks
are summed by what they have in common, not one by one; what a run was thought to cost is told by what had run before
it, and by nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any, Final

from claude_pool_nb.analysis import cautions
from claude_pool_nb.analysis.estimates import (
    NOTHING,
    Estimate,
    Range,
    from_history,
    from_list_price,
    on_slots,
    together,
)
from claude_pool_nb.analysis.likeness import Asked, History, Likeness, Past
from claude_pool_nb.analysis.preview import Preview
from claude_pool_nb.display.previews import PreviewCell
from claude_pool_nb.model_names import DEFAULT_MODEL
from claude_pool_nb.pricing import demo_model, estimate_tokens
from claude_pool_nb.records import RunRecord, SlotState, TaskRecord, TaskState
from claude_pool_nb.redact import redact
from claude_pool_nb.store.ids import run_number

if TYPE_CHECKING:
    from claude_pool_nb.analysis.design import Design
    from claude_pool_nb.config import TaskOverrides
    from claude_pool_nb.engine.engine import Engine
    from claude_pool_nb.resolved import ResolvedConfig
    from claude_pool_nb.store.settled import RunKind, TaskKind

    _ByKey = Mapping[Hashable, tuple[ResolvedConfig, ...]]

SHOWN_PROMPTS: Final = 3
"""So many prompts are shown."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Tasks that are asked for, however they came here."""

    prompts: Sequence[str]
    keys: Sequence[Hashable]
    """What tasks with the same options have in common, one for each task."""
    options: _ByKey
    """By key: their options in every slot that may run them."""
    about: Mapping[str, Any]
    """What the call says of itself: template, grid, n."""
    per_row: int
    """Tasks for each row of the input."""
    free: Collection[int] = frozenset()
    """Positions of tasks that cost nothing, because their answer is known."""
    labels: Sequence[str] = ()
    """What a task is called in a warning; by its position if it is empty."""


@dataclass(slots=True)
class Lot:
    """Tasks with the same options: estimated together, shown by cell."""

    options: tuple[ResolvedConfig, ...]
    """Their options in every slot that may run them."""
    paid: list[int] = field(default_factory=list)
    """Positions of those that a model is asked for."""
    cells: dict[int, list[int]] = field(default_factory=dict)
    """Positions of all of them by cell of the grid."""
    history: History = field(default_factory=History)
    """Earlier tasks like them."""
    estimate: Estimate = NOTHING
    """What they will take."""


def preview_of(engine: Engine, design: Design) -> Preview:
    """What a design would run and cost in a pool, as it is now.

    Args:
        engine: The pool's engine; it is only looked at.
        design: The tasks.

    Raises:
        ConfigError: the pool cannot run them.
    """
    keys = [id(one) for one in design.overrides]
    options: _ByKey = {id(one): engine.intake.wherever(one) for one in design.distinct_overrides()}
    wanted = _Wanted(
        prompts=design.prompts,
        keys=keys,
        options=options,
        about=design.about,
        per_row=_leading(design.rows),
        free=_answered(engine, design.prompts, keys, options, design.samples),
        labels=[f"row {row}" for row in design.rows] if design.verb == "map" else (),
    )
    return _preview(engine, wanted, _past(engine))


def preview_again(
    engine: Engine,
    run: RunRecord,
    tasks: Sequence[TaskRecord],
    prompts: Sequence[str],
    overrides: Sequence[TaskOverrides],
) -> Preview:
    """What tasks of a run would cost if they ran again now.

    Args:
        engine: The pool's engine; it is only looked at.
        run: Their run, whose configuration holds.
        tasks: The ones that would run again; at least one.
        prompts: The text for each of them.
        overrides: The options of each of them; equal ones had better be one object.

    Raises:
        ConfigError: the pool cannot run them.
    """
    keys = [id(one) for one in overrides]
    options: _ByKey = {
        id(one): engine.intake.wherever(one, run) for one in {id(one): one for one in overrides}.values()
    }
    wanted = _Wanted(
        prompts=prompts,
        keys=keys,
        options=options,
        about={"template": json.loads(run.meta).get("template")},
        per_row=1,
        labels=[task.id for task in tasks],
    )
    return _preview(engine, wanted, _past(engine))


def preview_made(engine: Engine, run: RunRecord, tasks: Sequence[TaskRecord]) -> Preview:
    """What a run was thought to cost, from what had run before it, beside what it did cost.

    Args:
        engine: The pool's engine; it is only looked at.
        run: The run.
        tasks: All its tasks; at least one.
    """
    before = _past(engine, before=run_number(run.id), before_at=run.created_at)
    ended = sum(task.state.is_final for task in tasks)
    completed = sum(task.state is TaskState.COMPLETED for task in tasks)
    return _preview(
        engine,
        _recorded(engine, run, tasks),
        before,
        made=(sum(task.cost_nano for task in tasks), ended, completed),
    )


def _past(engine: Engine, *, before: int | None = None, before_at: float | None = None) -> Past:
    """The history of the pool's store."""
    runs: dict[int, RunRecord] = {}

    def options_of(run: RunKind, task: TaskKind) -> ResolvedConfig:
        if run.number not in runs:
            runs[run.number] = RunRecord(id=f"r{run.number}", verb="", config=run.config)
        record = TaskRecord(
            id=f"r{run.number}.{task.number}",
            run_id=f"r{run.number}",
            number=task.number,
            prompt="",
            overrides=task.overrides,
        )
        return engine.intake.options_of_record(record, runs[run.number])

    return Past(engine.ledger, engine.backend.info.name, options_of, before=before, before_at=before_at)


def _recorded(engine: Engine, run: RunRecord, tasks: Sequence[TaskRecord]) -> _Wanted:
    """The tasks of a run as it was made."""
    options: dict[Hashable, tuple[ResolvedConfig, ...]] = {}
    for task in tasks:
        if task.overrides not in options:
            options[task.overrides] = (engine.intake.options_of_record(task, run),)
    return _Wanted(
        prompts=[engine.intake.prompt_of(task) for task in tasks],
        keys=[task.overrides for task in tasks],
        options=options,
        about=json.loads(run.meta),
        per_row=_leading([task.row for task in tasks]),
        free={at for at, task in enumerate(tasks) if task.state is TaskState.COMPLETED and not task.attempts},
        labels=[task.id for task in tasks],
    )


def _answered(
    engine: Engine,
    prompts: Sequence[str],
    keys: Sequence[Hashable],
    options: _ByKey,
    samples: Sequence[int],
) -> set[int]:
    """Positions of the tasks with `cache` whose requests were answered before."""
    if engine.intake.find_answers is None or not any(several[0].cache for several in options.values()):
        return set()
    name: Callable[[str, ResolvedConfig, int], str | None] = engine.intake.requests.name
    requests: dict[int, list[str]] = {}
    for at, (prompt, key) in enumerate(zip(prompts, keys, strict=True)):
        if options[key][0].cache and redact(prompt) == prompt:
            names = (name(prompt, one, samples[at]) for one in options[key])
            requests[at] = [found for found in names if found is not None]
    known = engine.intake.find_answers({found for several in requests.values() for found in several})
    return {at for at, several in requests.items() if any(found in known for found in several)}


def _leading(rows: Sequence[int]) -> int:
    """How many tasks the first row has; all have as many."""
    number = 0
    while number < len(rows) and rows[number] == rows[0]:
        number += 1
    return number


def _labels(wanted: _Wanted) -> tuple[int, list[dict[str, Any]]]:
    """How many tasks in a row are samples of one cell, and the labels of the cells of a row."""
    samples = int(wanted.about.get("n", 1))
    axes: dict[str, Sequence[Any]] = {}
    template = wanted.about.get("template")
    if isinstance(template, Mapping):
        axes["template"] = list(template)
    grid = wanted.about.get("grid") or {}
    axes.update({name: list(values) for name, values in grid.items()})
    cells = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    if len(cells) * samples != wanted.per_row:
        return wanted.per_row, [{}]
    # The model has a column of its own.
    return samples, [{name: value for name, value in cell.items() if name != "model"} for cell in cells]


def _preview(engine: Engine, wanted: _Wanted, past: Past, made: tuple[int, int, int] | None = None) -> Preview:
    """Sum up; with what a run did cost, how many of its tasks have ended, and how many completed."""
    backend = engine.backend.info.name
    tokens = [estimate_tokens(prompt) for prompt in wanted.prompts]
    lots = _lots(wanted)
    for lot in lots:
        if lot.paid:
            lot.history = past.like(
                Asked(lot.options[0], [wanted.prompts[at] for at in lot.paid], wanted.about.get("template"))
            )
            lot.estimate = _estimate(lot, [tokens[at] for at in lot.paid], backend)
    cost = _total(lots)
    paid = [lot for lot in lots if lot.paid]
    slots = sum(slot.state not in {SlotState.STOPPED, SlotState.ERRORED} for slot in engine.slots())
    budget = None if made is not None else engine.state.budget or engine.budget
    names = wanted.labels or [f"prompt {at}" for at in range(len(wanted.prompts))]
    return Preview(
        tasks=len(wanted.prompts),
        prompts=_first_prompts(wanted.prompts),
        cells=_cells(wanted, lots, tokens, backend),
        cost=cost,
        seconds=on_slots([lot.estimate for lot in paid], slots),
        slots=slots,
        cached=len(wanted.free),
        budget=budget,
        warnings=(
            *cautions.unknown_prices(paid),
            *cautions.too_long(paid, tokens, names, backend),
            *(cautions.budget_ends(cost, budget, sum(len(lot.paid) for lot in paid)) if budget is not None else ()),
            *(cautions.pool_at_work(engine.state.status(backend)) if made is None else ()),
            *cautions.conversations(paid),
        ),
        notes=tuple(cautions.grounds(paid)),
        play_money=engine.backend.info.play_money,
        timed=all(lot.history.seen for lot in paid),
        actual_nano=None if made is None else made[0],
        ended=0 if made is None else made[1],
        completed=0 if made is None else made[2],
    )


def _lots(wanted: _Wanted) -> list[Lot]:
    """The tasks, put together by their options."""
    samples, _ = _labels(wanted)
    lots: dict[tuple[ResolvedConfig, ...], Lot] = {}
    by_key = {key: lots.setdefault(options, Lot(options)) for key, options in wanted.options.items()}
    for at, key in enumerate(wanted.keys):
        lot = by_key[key]
        if at not in wanted.free:
            lot.paid.append(at)
        lot.cells.setdefault(at % wanted.per_row // samples, []).append(at)
    return list(lots.values())


def _estimate(lot: Lot, tokens: Sequence[int], backend: str) -> Estimate:
    """What some tasks of a lot will take in the slots that may run them."""
    if not tokens:
        return NOTHING
    history = lot.history
    if history.seen:
        return from_history(
            history.seen,
            lot.options[0],
            len(tokens),
            sum(tokens),
            backend=backend,
            unlike=history.unlike,
            other_prompts=history.likeness is Likeness.MODEL,
        )
    return Estimate.widest([from_list_price(one, tokens, backend=backend) for one in lot.options])


def _total(lots: Sequence[Lot]) -> Range | None:
    """The sum over lots; None if one is unknown.

    What was seen of different tasks is off independently; an assumption may be wrong for all of them at once.
    """
    seen: list[Range] = []
    assumed = Range(0.0, 0.0)
    for lot in lots:
        if lot.estimate.cost_nano is None:
            return None
        if lot.history.likeness is Likeness.SAME:
            seen.append(lot.estimate.cost_nano)
        else:
            assumed += lot.estimate.cost_nano
    return together(seen) + assumed if seen else assumed


def _cells(wanted: _Wanted, lots: Sequence[Lot], tokens: Sequence[int], backend: str) -> tuple[PreviewCell, ...]:
    """The rows of the table: a lot's part in each cell of the grid, in the order of the grid."""
    _, labels = _labels(wanted)
    rows = []
    for lot in lots:
        model = " or ".join(dict.fromkeys(_model_name(one, backend) for one in lot.options))
        for number, its in lot.cells.items():
            one = _estimate(lot, [tokens[at] for at in its if at not in wanted.free], backend)
            cost = one.cost_nano
            cell = PreviewCell(
                labels=labels[number],
                model=model,
                tasks=len(its),
                input_tokens=round(one.input_tokens),
                output_tokens_low=round(one.output_tokens.low),
                output_tokens_high=round(one.output_tokens.high),
                price_source="history" if lot.history.seen else "unknown" if cost is None else "list",
                history_tasks=len(lot.history.seen),
                history_kind=str(lot.history.likeness),
                low_nano=None if cost is None else round(cost.low),
                high_nano=None if cost is None else round(cost.high),
            )
            rows.append((number, cell))
    return tuple(cell for _, cell in sorted(rows, key=lambda row: row[0]))


def _model_name(options: ResolvedConfig, backend: str) -> str:
    return demo_model(options.model) if backend == "demo" else options.model or DEFAULT_MODEL


def _first_prompts(prompts: Sequence[str]) -> tuple[str, ...]:
    """The first few that differ; what is secret is not shown."""
    found: dict[str, None] = {}
    for prompt in prompts:
        found[prompt] = None
        if len(found) == SHOWN_PROMPTS:
            break
    return tuple(redact(prompt) for prompt in found)
