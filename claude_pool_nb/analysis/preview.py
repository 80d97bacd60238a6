"""`Preview`: what a call would run and cost, before it is made. `previewing` makes it.

Invariants: a price that is not known makes the sum unknown, never smaller; play money says that it is; a preview is a
picture of one moment and holds nothing of the pool.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any, Final

from claude_pool_nb.analysis.estimates import Range
from claude_pool_nb.display.previews import PreviewCell, PreviewPicture, preview_html, preview_text
from claude_pool_nb.records import BudgetRecord, usd

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, repr=False)
class Preview:
    """What a call would run and cost. It shows as a small table; `estimate` is that table as a DataFrame.

    Example:
        >>> from claude_pool_nb import Pool
        >>> with Pool(backend="demo", demo_latency_s=0.1, store=":memory:") as pool:
        ...     preview = pool.preview(["a poem", "a limerick"], max_output_tokens=100)
        >>> preview.tasks, preview.prompts, preview.high_usd < 0.01
        (2, ('a poem', 'a limerick'), True)
        >>> list(preview.estimate["price_source"])
        ['list']
    """

    tasks: int
    """How many tasks there would be."""
    prompts: tuple[str, ...]
    """The first few, as they would be sent."""
    cells: tuple[PreviewCell, ...]
    """What each model and cell of the grid comes to; `estimate` is these as a frame."""
    cost: Range | None
    """Nanodollars of all of them; None if any price is unknown."""
    seconds: Range | None
    """From the first to the last on the slots at hand; None if there is no slot."""
    slots: int
    """The slots at hand."""
    cached: int = 0
    """How many of the tasks have their answer in the ledger, and cost nothing (with `cache`)."""
    budget: BudgetRecord | None = None
    """The budget as it is now; None where it is not known any more."""
    warnings: tuple[str, ...] = ()
    """What may go wrong with it."""
    notes: tuple[str, ...] = ()
    """What the estimate stands on."""
    play_money: bool = False
    """True for the demo's dollars."""
    timed: bool = False
    """True if its time is from history, not from assumptions."""
    cached: int = 0
    """How many of its tasks the ledger answers (`cache`), free; the estimate is of the others."""
    actual_nano: int | None = None
    """What it did cost, for a run that was made."""
    ended: int = 0
    """How many of its tasks had ended by then."""
    completed: int = 0
    """How many of them had completed."""

    @property
    def low_usd(self) -> float | None:
        """Dollars that it costs at least, or nearly; None if a price is unknown."""
        return None if self.cost is None else usd(round(self.cost.low))

    @property
    def high_usd(self) -> float | None:
        """Dollars that it costs at most, or nearly; None if a price is unknown."""
        return None if self.cost is None else usd(round(self.cost.high))

    @property
    def seconds_low(self) -> float | None:
        """Seconds that it takes at least, or nearly."""
        return None if self.seconds is None else self.seconds.low

    @property
    def seconds_high(self) -> float | None:
        """Seconds that it takes at most, or nearly."""
        return None if self.seconds is None else self.seconds.high

    @property
    def budget_left_usd(self) -> float | None:
        """Dollars that the budget has now; None without a limit."""
        left = None if self.budget is None else self.budget.left_nano
        return None if left is None else usd(left)

    @property
    def left_after_usd(self) -> tuple[float, float] | None:
        """Dollars that it would have afterwards, at least and at most; None without a limit or a known price."""
        left = None if self.budget is None else self.budget.left_nano
        if left is None or self.cost is None:
            return None
        return usd(max(0, round(left - self.cost.high))), usd(max(0, round(left - self.cost.low)))

    @property
    def actual_usd(self) -> float | None:
        """Dollars that it did cost, for a run that was made (see `run.preview`)."""
        return None if self.actual_nano is None else usd(self.actual_nano)

    @property
    def estimate(self) -> pd.DataFrame:
        """One row per model and cell of the grid: tasks, tokens, where the price is from, low and high dollars."""
        import pandas as pd

        names = list(dict.fromkeys(name for cell in self.cells for name in cell.labels))
        frame = pd.DataFrame({name: [cell.labels.get(name) for cell in self.cells] for name in names})
        frame["model"] = pd.array([cell.model for cell in self.cells], dtype="string")
        for name in ("tasks", "input_tokens", "output_tokens_low", "output_tokens_high"):
            frame[name] = pd.array([getattr(cell, name) for cell in self.cells], dtype="Int64")
        frame["price_source"] = pd.Categorical(
            [cell.price_source for cell in self.cells], categories=["list", "history", "unknown"]
        )
        frame["history_tasks"] = pd.array([cell.history_tasks for cell in self.cells], dtype="Int64")
        for name, end in (("low_usd", "low_nano"), ("high_usd", "high_nano")):
            dollars = [None if (nano := getattr(cell, end)) is None else usd(nano) for cell in self.cells]
            frame[name] = pd.array(dollars, dtype="Float64")
        return frame

    def picture(self) -> PreviewPicture:
        """What its display shows."""
        left = self.left_after_usd
        return PreviewPicture(
            tasks=self.tasks,
            prompts=self.prompts,
            cells=self.cells,
            cost_nano=None if self.cost is None else (round(self.cost.low), round(self.cost.high)),
            seconds=None if self.seconds is None else (self.seconds.low, self.seconds.high),
            timed=self.timed,
            slots=self.slots,
            cached=self.cached,
            left_nano=None if self.budget is None else self.budget.left_nano,
            left_after_nano=None if left is None else (round(left[0] * 1e9), round(left[1] * 1e9)),
            play_money=self.play_money,
            warnings=self.warnings,
            notes=self.notes,
            actual_nano=self.actual_nano,
            ended=self.ended,
            completed=self.completed,
        )

    def _repr_html_(self) -> str:
        return preview_html(self.picture())

    def __repr__(self) -> str:
        return preview_text(self.picture())


@dataclass(frozen=True, slots=True)
class _Wanted:
    """Tasks that are asked for, however they came here."""

    prompts: Sequence[str]
    keys: Sequence[Hashable]
    """What tasks with the same options have in common, one for each task."""
    options: Mapping[Hashable, tuple[ResolvedConfig, ...]]
    """By key: their options in every slot that may run them."""
    about: Mapping[str, Any]
    """What the call says of itself: template, grid, n."""
    per_row: int
    """Tasks for each row of the input."""
    labels: Sequence[str] = ()
    """What a prompt is called in a warning; positions if it is empty."""
    known: Collection[int] = ()
    """Positions of those that the ledger answers, free."""


@dataclass(slots=True)
class _Block:
    """Tasks with the same options: estimated together, shown by cell."""

    options: tuple[ResolvedConfig, ...]
    at: list[int] = field(default_factory=list)
    cells: dict[int, list[int]] = field(default_factory=dict)


def preview_of(engine: Engine, design: Design) -> Preview:
    """What a design would run and cost in a pool, as it is now.

    Args:
        engine: The pool's engine; it is only looked at.
        design: The tasks.

    Raises:
        ConfigError: the pool cannot run them.
    """
    wanted = _Wanted(
        prompts=design.prompts,
        keys=[id(one) for one in design.overrides],
        options={id(one): engine.intake.wherever(one) for one in design.distinct_overrides()},
        about=design.about,
        per_row=_leading(design.rows),
        known=engine.intake.known(design.prompts, design.overrides, design.samples),
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
    distinct = {id(one): one for one in overrides}
    wanted = _Wanted(
        prompts=prompts,
        keys=[id(one) for one in overrides],
        options={key: engine.intake.wherever(one, run) for key, one in distinct.items()},
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
    before = _past(engine, before=int(run.id[1:]), before_at=run.created_at)
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
        from claude_pool_nb.records import RunRecord

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
        labels=[task.id for task in tasks],
    )


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
    """Sum up."""
    backend = engine.backend.info.name
    samples, labels = _labels(wanted)
    tokens = [estimate_tokens(prompt) for prompt in wanted.prompts]
    blocks: dict[tuple[ResolvedConfig, ...], _Block] = {}
    by_key = {}
    for key, options in wanted.options.items():
        by_key[key] = blocks.setdefault(options, _Block(options))
    for at, key in enumerate(wanted.keys):
        if at in wanted.known:
            continue
        block = by_key[key]
        block.at.append(at)
        block.cells.setdefault(at % wanted.per_row // samples, []).append(at)
    estimates: list[tuple[Estimate, History]] = []
    cells: list[tuple[int, PreviewCell]] = []
    template = wanted.about.get("template")
    for block in blocks.values():
        if not block.at:
            continue
        history = past.like(Asked(block.options[0], [wanted.prompts[at] for at in block.at], template))
        estimates.append((_estimate(block.options, history, [tokens[at] for at in block.at], backend), history))
        for number, its in block.cells.items():
            one = _estimate(block.options, history, [tokens[at] for at in its], backend)
            cells.append((number, _cell(block.options, labels[number], one, history, backend)))
    shown = tuple(cell for _, cell in sorted(cells, key=lambda pair: pair[0]))
    cost = _total([(one.cost_nano, history) for one, history in estimates])
    slots = sum(slot.state not in {SlotState.STOPPED, SlotState.ERRORED} for slot in engine.slots())
    budget = None if made is not None else engine.state.budget or engine.budget
    return Preview(
        tasks=len(wanted.prompts),
        cached=len(wanted.known),
        prompts=_first_prompts(wanted.prompts),
        cells=shown,
        cost=cost,
        seconds=on_slots([one for one, _ in estimates], slots),
        slots=slots,
        budget=budget,
        warnings=(
            *_unknown(blocks, estimates),
            *_too_long(wanted, blocks, tokens, backend),
            *(_budget_ends(cost, budget, len(wanted.prompts) - len(wanted.known)) if budget is not None else ()),
            *(_pool_at_work(engine) if made is None else ()),
            *_conversations(blocks),
        ),
        notes=(*_answered(wanted), *_grounds(estimates)),
        play_money=engine.backend.info.play_money,
        timed=all(history.seen for _, history in estimates),
        actual_nano=None if made is None else made[0],
        ended=0 if made is None else made[1],
        completed=0 if made is None else made[2],
    )


def _estimate(options: tuple[ResolvedConfig, ...], history: History, tokens: Sequence[int], backend: str) -> Estimate:
    """What tasks will take in the slots that may run them."""
    if history.seen:
        return from_history(history.seen, options[0], len(tokens), sum(tokens), backend=backend, unlike=history.unlike)
    several = [from_list_price(one, tokens, backend=backend) for one in options]
    if len(several) == 1:
        return several[0]
    costs = [one.cost_nano for one in several]
    known = [cost for cost in costs if cost is not None]
    return Estimate(
        tasks=len(tokens),
        cost_nano=Range(min(c.low for c in known), max(c.high for c in known)) if len(known) == len(costs) else None,
        input_tokens=max(one.input_tokens for one in several),
        output_tokens=Range(
            min(one.output_tokens.low for one in several), max(one.output_tokens.high for one in several)
        ),
        work_s=Range(min(one.work_s.low for one in several), max(one.work_s.high for one in several)),
        longest_s=max(one.longest_s for one in several),
    )


def _total(costs: Sequence[tuple[Range | None, History]]) -> Range | None:
    """The sum over blocks; None if one is unknown.

    What was seen of different tasks is off independently; an assumption may be wrong for all of them at once.
    """
    seen: list[Range] = []
    assumed = Range(0.0, 0.0)
    for cost, history in costs:
        if cost is None:
            return None
        if history.likeness is Likeness.SAME:
            seen.append(cost)
        else:
            assumed += cost
    return together(seen) + assumed if seen else assumed


def _cell(
    options: tuple[ResolvedConfig, ...], labels: Mapping[str, Any], one: Estimate, history: History, backend: str
) -> PreviewCell:
    """A row of the table."""
    names = dict.fromkeys(_model_name(each, backend) for each in options)
    return PreviewCell(
        labels=labels,
        model=" or ".join(names),
        tasks=one.tasks,
        input_tokens=round(one.input_tokens),
        output_tokens_low=round(one.output_tokens.low),
        output_tokens_high=round(one.output_tokens.high),
        price_source="history" if history.seen else "unknown" if one.cost_nano is None else "list",
        history_tasks=len(history.seen),
        history_kind=str(history.likeness),
        low_nano=None if one.cost_nano is None else round(one.cost_nano.low),
        high_nano=None if one.cost_nano is None else round(one.cost_nano.high),
    )


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


# -- what to know ------------------------------------------------------------------------------------------------------


def _unknown(blocks: Mapping[Any, _Block], estimates: Sequence[tuple[Estimate, History]]) -> list[str]:
    """Models without a price."""
    asked = [block for block in blocks.values() if block.at]
    names = dict.fromkeys(
        repr(block.options[0].model) for block, (one, _) in zip(asked, estimates, strict=True) if one.cost_nano is None
    )
    if not names:
        return []
    return [
        f"no list price is known for {', '.join(names)}, so the sum is unknown; "
        "run a few such tasks first (with max_budget_usd), and their cost tells"
    ]


def _too_long(wanted: _Wanted, blocks: Mapping[Any, _Block], tokens: Sequence[int], backend: str) -> list[str]:
    """Prompts that the model cannot read at once."""
    said = []
    for block in blocks.values():
        price = list_price(block.options[0].model, backend=backend)
        if price is None or not block.at:
            continue
        room = price.context_tokens - fixed_tokens(block.options[0], backend=backend)
        if max(tokens[at] for at in block.at) <= room:
            continue
        long = [at for at in block.at if tokens[at] > room]
        first = wanted.labels[long[0]] if wanted.labels else f"task {long[0] + 1}"
        said.append(
            f"{count(len(long), 'prompt is', 'prompts are')} longer than {price.model} reads "
            f"({price.context_tokens:,} tokens): {first} has about {tokens[long[0]]:,}; shorten it or leave it out"
        )
    return said


def _budget_ends(cost: Range | None, budget: BudgetRecord, tasks: int) -> list[str]:
    """Whether the budget ends in the middle."""
    left = budget.left_nano
    if left is None or cost is None or cost.high <= left:
        return []
    fewest = int(left * tasks / cost.high) if cost.high > 0 else tasks
    most = min(tasks, int(left * tasks / cost.low)) if cost.low > 0 else tasks
    after = f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"
    word = "ends" if cost.low > left else "may end"
    return [f"the budget {word} after about {after} of {count(tasks, 'task')}; the others then fail as rows"]


def _pool_at_work(engine: Engine) -> list[str]:
    """What the pool has to do first."""
    status = engine.state.status(engine.backend.info.name)
    said = [f"the pool is paused ({status.paused}): nothing starts before unpause"] if status.paused else []
    waiting = sum(status.tasks.get(str(state), 0) for state in (TaskState.PENDING, TaskState.WAITING))
    if waiting:
        said.append(
            f"{count(waiting, 'task is', 'tasks are')} waiting already, and counted neither in time nor in money"
        )
    return said


def _conversations(blocks: Mapping[Any, _Block]) -> list[str]:
    """Tasks that send more than their prompt."""
    for block in blocks.values():
        options = block.options[0]
        if block.at and (options.conversation is not None or options.slot_mode is SlotMode.PERSISTENT):
            return ["tasks of a conversation send all of it again, so later ones cost more than is estimated here"]
    return []


def _answered(wanted: _Wanted) -> list[str]:
    """What is free."""
    known = len(wanted.known)
    if not known:
        return []
    return [f"{known:,} of {count(len(wanted.prompts), 'task')} answered before: from the ledger, free"]


def _grounds(estimates: Sequence[tuple[Estimate, History]]) -> list[str]:
    """What the estimate stands on."""
    notes = []
    same = sum(len(history.seen) for _, history in estimates if history.likeness is Likeness.SAME)
    other = sum(len(history.seen) for _, history in estimates if history.likeness is Likeness.MODEL)
    if same:
        notes.append(f"history: {count(same, 'such task')} in the ledger")
    if other:
        notes.append(
            f"history: {count(other, 'task')} of the same model with other prompts, "
            "whose answers may be several times longer or shorter"
        )
    for one, history in estimates:
        if history.seen or one.cost_nano is None:
            continue
        low, high = one.output_tokens.low / one.tasks, one.output_tokens.high / one.tasks
        notes.append(f"list price ({prices_as_of()}), {low:,.0f} to {high:,.0f} tokens a task assumed to be written")
    return list(dict.fromkeys(notes))
