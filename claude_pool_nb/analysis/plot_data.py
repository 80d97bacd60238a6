"""What plots show: the DataFrames behind them, and the same said in words.

Invariants: nothing here knows how it is drawn; columns carry their units; no frame has more than `MAX_POINTS` rows, and
where rows stand for several attempts the subtitle says so; play money and real money are never in one frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import floor, log10
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import and_, case, func, select

from claude_pool_nb.analysis import columns as col
from claude_pool_nb.analysis.costs import attempt_frame, cost_frame
from claude_pool_nb.analysis.keys import COST_KEYS
from claude_pool_nb.errors import ConfigError, NothingToPlot, nearest
from claude_pool_nb.records import PLAY_BACKENDS, AttemptState
from claude_pool_nb.store import queries, schema
from claude_pool_nb.store.ids import typed_runs
from claude_pool_nb.store.ledger import Ledger

MAX_POINTS = 600
"""More than these are drawn together: a chart that is saved in a notebook has to stay small."""
MAX_BARS = 30
"""So many bars are told apart; the rest is one bar."""
LATENCY_KEYS = ("backend", "model", "profile", "requested_model", "run_id", "slot_id", "state", "tag")
"""What times can be broken down by."""
QUANTILES = (5, 25, 50, 75, 95, 99)
"""Percentiles of a distribution of times."""
_OF_GANTT = frozenset(
    {"play_money", "requested_model", "model", "slot_id", "state", "cost_usd", "started_at", "finished_at"}
)
_TIMES = {"hour": "%Y-%m-%d %H:00", "day": "%Y-%m-%d", "month": "%Y-%m"}
"""Keys that are times, and how they are written."""
_WORST_FIRST = ("running", "failed", "interrupted", "cancelled", "completed")


@dataclass(frozen=True, slots=True)
class Figures:
    """A plot before it is drawn."""

    frame: pd.DataFrame
    """One row for each thing that is drawn."""
    title: str
    """What it is, in a few words; says so if its dollars are play money."""
    subtitle: str
    """The main figures, and what was drawn together."""
    description: str
    """The plot in whole sentences, for those who cannot see it."""
    play_money: bool = False
    """Whether its dollars are not real."""

    @property
    def dollars(self) -> str:
        """What an axis of money is called."""
        return "play dollars" if self.play_money else "US dollars"


def seconds(value: float) -> str:
    """A duration in words that fit its size.

    Example:
        >>> seconds(0.0421), seconds(3.14159), seconds(75), seconds(7300)
        ('42 ms', '3.1 s', '1 min 15 s', '2 h 1 min')
    """
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 60:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def dollars(value: float) -> str:
    """Dollars with as many digits as they need.

    Example:
        >>> dollars(5), dollars(0.0011417), dollars(0), dollars(1234.5), dollars(0.05)
        ('$5.00', '$0.00114', '$0.00', '$1,234.50', '$0.05')
    """
    if not value or abs(value) >= 0.1:
        return f"${value:,.2f}"
    cents, _, rest = f"{value:.{2 - floor(log10(abs(value)))}f}".partition(".")
    return f"${cents}.{rest.rstrip('0').ljust(2, '0')}"


def several(number: int, noun: str) -> str:
    """A number and its noun.

    Example:
        >>> several(1, "task"), several(1200, "task")
        ('1 task', '1,200 tasks')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _listed(parts: Sequence[str]) -> str:
    """Words as a list in a sentence."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


def _counted(states: pd.Series) -> str:
    """How many are in each state, the commonest first."""
    counts = states.astype(str).value_counts()
    return ", ".join(f"{count:,} {state}" for state, count in counts.items())


def _of(run_ids: Sequence[str] | None) -> str:
    """Which runs, at the start of a title."""
    if run_ids is None:
        return "All runs"
    return run_ids[0] if len(run_ids) == 1 else f"{run_ids[0]} to {run_ids[-1]}"


def _where(run_ids: Sequence[str] | None) -> str:
    """Which runs, inside a message."""
    return "in this store yet" if run_ids is None else f"in {_of(run_ids)}"


# -- slots over time ---------------------------------------------------------------------------------------------------


def gantt(ledger: Ledger, run_ids: Sequence[str] | None, *, now_at: float) -> Figures:
    """Slots over time: one row per attempt, in the order of their starts.

    Columns: `slot_id, task_id, attempt, state, model, start_s, end_s, duration_s, cost_usd, started_at`, and of an
    attempt that is not a task's first `previous_slot_id, previous_end_s`. Seconds count from the first start. Above
    `MAX_POINTS` attempts: one row per slot and piece of time, with `attempts`, `failed`, and the worst state of them.

    Args:
        ledger: where to read.
        run_ids: of which runs; None for all.
        now_at: until when running attempts are drawn, in unix seconds.

    Raises:
        NothingToPlot: nothing has been started.
    """
    frame = attempt_frame(ledger, run_ids=run_ids, outputs=False, only=_OF_GANTT)
    if frame.empty:
        raise NothingToPlot(
            f"there is no attempt {_where(run_ids)}: nothing has been sent (an answer from the cache is no attempt); "
            "`%pool runs` lists all runs"
        )
    started = frame["started_at"]
    origin = started.min()
    now = pd.Timestamp(round(now_at * 1e6), unit="us", tz="UTC")
    start_s = (started - origin).dt.total_seconds()
    end_s = (frame["finished_at"].fillna(max(now, started.max())) - origin).dt.total_seconds()
    made = pd.DataFrame(
        {
            "slot_id": frame["slot_id"].astype(col.TEXT),
            "task_id": frame["task_id"],
            "attempt": frame["attempt"],
            "state": frame["state"],
            "model": frame["model"].astype(col.TEXT).fillna(frame["requested_model"].astype(col.TEXT)),
            "start_s": start_s.round(4),
            "end_s": np.maximum(end_s, start_s).round(4),
            "cost_usd": frame["cost_usd"],
            "started_at": started,
        }
    )
    made.insert(7, "duration_s", (made["end_s"] - made["start_s"]).round(4))
    by_task = made.groupby("task_id", sort=False)
    made["previous_slot_id"] = by_task["slot_id"].shift()
    made["previous_end_s"] = by_task["end_s"].shift()
    made = made.sort_values(["start_s", "task_id"], kind="stable", ignore_index=True)
    return _gantt_figures(made, frame, run_ids, _without_attempt(ledger, run_ids))


def _without_attempt(ledger: Ledger, run_ids: Sequence[str] | None) -> list[str]:
    """What is said of tasks that are no bar."""
    t = schema.task.c
    query = select(t.state, func.count()).where(t.attempts == 0).group_by(t.state)
    if run_ids is not None:
        query = query.where(t.run.in_(typed_runs(run_ids)))
    with ledger.reading() as connection:
        counts: dict[str, int] = {str(row[0]): int(row[1]) for row in connection.execute(query)}
    cached = counts.pop("completed", 0)
    said = [f"{cached:,} more from the cache"] if cached else []
    return said + ([f"{sum(counts.values()):,} more not sent"] if counts else [])


def _gantt_figures(
    made: pd.DataFrame, frame: pd.DataFrame, run_ids: Sequence[str] | None, without: Sequence[str]
) -> Figures:
    span = float(made["end_s"].max())
    slots = sorted(made["slot_id"].unique(), key=slot_order)
    tasks, attempts = int(made["task_id"].nunique()), len(made)
    busy = 100 * float(made["duration_s"].sum()) / (span * len(slots)) if span else 100.0
    again = attempts - tasks
    retries = f", {again:,} {'retry' if again == 1 else 'retries'} among them" if again else ""
    play = bool(frame["play_money"].any())
    money = f"{dollars(float(frame['cost_usd'].sum()))}{' of play money' if play else ''}"
    longest: Any = made.iloc[int(made["duration_s"].argmax())]
    subtitle = " · ".join([f"{several(attempts, 'attempt')}{retries}: {_counted(made['state'])}", *without, money])
    description = (
        f"Gantt chart of {_of(run_ids).replace('All', 'all')}: {several(attempts, 'attempt')} of "
        f"{several(tasks, 'task')}{retries}, on {several(len(slots), 'slot')} "
        f"({', '.join(slots) if len(slots) < 7 else f'{slots[0]} to {slots[-1]}'}), over "
        f"{seconds(span)}. States: {_counted(made['state'])}. The slots were busy {busy:.0f} % of the time. The "
        f"longest attempt was {longest['task_id']} on {longest['slot_id']} with "
        f"{seconds(float(longest['duration_s']))}. "
        f"{''.join(f'Tasks without a bar: {words}. ' for words in without)}Cost: {money}."
    )
    title = f"{_of(run_ids)}: {several(tasks, 'task')} on {several(len(slots), 'slot')} in {seconds(span)}"
    if attempts > MAX_POINTS:
        made = _gathered(made, span, len(slots))
        note = "Each bar is a piece of time of a slot, in the worst state of its attempts."
        subtitle, description = f"{subtitle}. {note}", f"{description} {note}"
    return Figures(made, title + " (play money)" * play, subtitle, description, play)


def _gathered(made: pd.DataFrame, span: float, slots: int) -> pd.DataFrame:
    """Attempts drawn together: those that start on a slot in the same piece of time."""
    pieces = max(1, MAX_POINTS // slots)
    piece = np.minimum((made["start_s"] / max(span, 1e-9) * pieces).astype("int64"), pieces - 1)
    rank = made["state"].astype(col.TEXT).map({state: number for number, state in enumerate(_WORST_FIRST)})
    together = (
        made.assign(piece=piece, rank=rank, failed=made["state"] == AttemptState.FAILED.value)
        .groupby(["slot_id", "piece"], sort=True)
        .agg(
            attempts=("task_id", "size"),
            failed=("failed", "sum"),
            rank=("rank", "min"),
            start_s=("start_s", "min"),
            end_s=("end_s", "max"),
            busy_s=("duration_s", "sum"),
            cost_usd=("cost_usd", "sum"),
            started_at=("started_at", "min"),
        )
        .reset_index()
    )
    together.insert(1, "state", col.attempt_state([_WORST_FIRST[number] for number in together["rank"]]))
    together["busy_s"] = together["busy_s"].round(4)
    return together.drop(columns=["piece", "rank"]).sort_values(["start_s", "slot_id"], ignore_index=True)


def slot_order(slot_id: str) -> tuple[int, str]:
    """Slots in the order of their numbers.

    Example:
        >>> sorted(["s10", "s2", "judge"], key=slot_order)
        ['s2', 's10', 'judge']
    """
    digits = slot_id.lstrip("s")
    return (int(digits), "") if digits.isdigit() else (10**9, slot_id)


# -- costs -------------------------------------------------------------------------------------------------------------


def cost(ledger: Ledger, by: Sequence[str], run_ids: Sequence[str] | None, *, play_money: bool | None) -> Figures:
    """What was spent, one row per bar, the dearest first (days in their order).

    Columns: `label`, the keys of `by`, `tasks, attempts, cost_usd, exact_usd, estimated_usd, usd_per_task`.

    Args:
        ledger: where to read.
        by: some of `COST_KEYS`.
        run_ids: of which runs; None for all.
        play_money: which money, if there are both.

    Raises:
        NothingToPlot: nothing has been sent.
        ConfigError: a key is none of `COST_KEYS`.
    """
    keys = _keys(by, COST_KEYS)
    summed = cost_frame(ledger, keys, run_ids=run_ids)
    if summed.empty:
        raise NothingToPlot(f"nothing was spent {_where(run_ids)}: there is no attempt; `%pool runs` lists all runs")
    play, other = _one_kind(set(summed["play_money"]), play_money)
    whole = cost_frame(ledger, (), run_ids=run_ids)
    total: Any = whole[whole["play_money"] == play].iloc[0]
    frame = summed[summed["play_money"] == play].drop(columns="play_money")
    if (frame["cost_usd"] > 0).any():
        frame = frame[frame["cost_usd"] > 0]  # an attempt that has not cost anything yet is no bar
    timed = [key for key in keys if key in _TIMES]
    frame = frame.sort_values(timed, kind="stable") if timed else frame
    frame.insert(0, "label", _labels(frame, keys))
    frame["exact_usd"] = (frame["cost_usd"] - frame["estimated_usd"]).clip(lower=0)
    frame["usd_per_task"] = frame["cost_usd"] / frame["tasks"]
    wanted = ["label", *keys, "tasks", "attempts", "cost_usd", "exact_usd", "estimated_usd", "usd_per_task"]
    frame = _fewer(frame[wanted].reset_index(drop=True), keys)
    top: Any = frame.iloc[int(frame["cost_usd"].argmax())]
    spent, tasks = float(total["cost_usd"]), int(total["tasks"])
    estimated = float(total["estimated_usd"])
    notes = [f"{dollars(spent)} for {several(tasks, 'task')}, {several(int(total['attempts']), 'attempt')}"]
    if estimated:
        notes.append(f"{dollars(estimated)} of it estimated (paler, dashed)")
    if "tag" in keys and float(frame["cost_usd"].sum()) > spent * 1.000001:
        notes.append("a task with several tags counts under each")
    if other:
        notes.append(_left_out(play))
    named = _listed([key.replace("_", " ") for key in keys])
    description = (
        f"Bar chart of the cost of {_of(run_ids).replace('All', 'all')} by {named}"
        f"{', in play money' if play else ''}: {'; '.join(notes)}. The dearest is "
        f"{top['label']} with {dollars(float(top['cost_usd']))}, {dollars(float(top['usd_per_task']))} a task."
    )
    title = f"{_of(run_ids)}: cost by {named}" + " (play money)" * play
    return Figures(frame, title, " · ".join(notes), description, play)


def _keys(by: Iterable[str], known: Sequence[str]) -> list[str]:
    """Checked keys, each once."""
    keys = [by] if isinstance(by, str) else list(dict.fromkeys(by))
    if not keys:
        raise ConfigError(f"by= needs at least one of {', '.join(known)}")
    for key in keys:
        if key not in known:
            raise ConfigError(f"this plot cannot be broken down by {key!r}{nearest(key, known)}")
    return keys


def _one_kind(kinds: set[Any], wanted: bool | None) -> tuple[bool, bool]:
    """Which money is drawn (real money unless there is none), and whether there is another one."""
    found = {bool(kind) for kind in kinds}
    play = wanted if wanted in found else False not in found
    return bool(play), len(found) > 1


def _left_out(play: bool) -> str:
    """What to say of the other money."""
    return f"{'real' if play else 'play'} money is left out; play_money={not play} shows it"


def _labels(frame: pd.DataFrame, keys: Sequence[str]) -> pd.Series:
    """What a bar is called."""
    parts = []
    for key in keys:
        column = frame[key]
        words = column.dt.strftime(_TIMES[key]) if key in _TIMES else column.astype(col.TEXT)
        name = key.replace("_", " ")
        parts.append(words.fillna(f"(no {name})").replace("", f"(no {name})"))
    label = parts[0]
    for part in parts[1:]:
        label = label + " · " + part
    return label


def _fewer(frame: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """No more bars than can be told apart; the last one is all others."""
    if len(frame) <= MAX_BARS:
        return frame
    timed = any(key in _TIMES for key in keys)
    kept = frame.iloc[::-1] if timed else frame  # the latest days
    shown, rest = kept.iloc[: MAX_BARS - 1], kept.iloc[MAX_BARS - 1 :]
    sums = {name: rest[name].sum() for name in ("tasks", "attempts", "cost_usd", "exact_usd", "estimated_usd")}
    label = f"({len(rest):,} {'earlier' if timed else 'others'})"
    others = {"label": label, **sums, "usd_per_task": sums["cost_usd"] / max(1, sums["tasks"])}
    parts = [pd.DataFrame([others]), shown.iloc[::-1]] if timed else [shown, pd.DataFrame([others])]
    return pd.concat(parts, ignore_index=True)[list(frame.columns)]


# -- times -------------------------------------------------------------------------------------------------------------


def latency(ledger: Ledger, by: Sequence[str], run_ids: Sequence[str] | None, *, play_money: bool | None) -> Figures:
    """How long tasks waited and ran: two rows per group, one for each phase, the group with most tasks first.

    Columns: `label`, the keys of `by`, `phase` (`wait` from acceptance to the first start, `run` the last attempt),
    `tasks, p5_s, p25_s, p50_s, p75_s, p95_s, p99_s, max_s, mean_s`.

    Args:
        ledger: where to read.
        by: some of `LATENCY_KEYS`.
        run_ids: of which runs; None for all.
        play_money: of tasks for which money, if there are both.

    Raises:
        NothingToPlot: nothing has ended yet.
        ConfigError: a key is none of `LATENCY_KEYS`.
    """
    keys = _keys(by, LATENCY_KEYS)
    tasks = _times(ledger, run_ids)
    if tasks.empty:
        raise NothingToPlot(f"no task has ended {_where(run_ids)}: there are no times; `%pool tasks` shows what runs")
    play, other = _one_kind(set(tasks["play_money"]), play_money)
    tasks = tasks[tasks["play_money"] == play]
    if "tag" in keys:
        tasks = tasks.assign(tag=tasks["tags"].str.split()).explode("tag", ignore_index=True)
    tasks = tasks.assign(label=_labels(tasks, keys))
    parts = []
    for phase in ("wait", "run"):
        of_label = tasks.groupby("label", sort=False)[f"{phase}_s"]
        part = pd.DataFrame({"phase": phase, "tasks": of_label.size()})
        for percent in QUANTILES:
            part[f"p{percent}_s"] = of_label.quantile(percent / 100).round(4)
        part["max_s"], part["mean_s"] = of_label.max().round(4), of_label.mean().round(4)
        parts.append(part.reset_index())
    frame = pd.concat(parts, ignore_index=True)
    groups = tasks.drop_duplicates("label")[["label", *keys]]
    frame = groups.merge(frame, on="label")
    frame["label"] = pd.Categorical(frame["label"], frame.groupby("label")["tasks"].max().sort_values().index[::-1])
    frame["phase"] = pd.Categorical(frame["phase"], ["wait", "run"])
    frame = frame.sort_values(["label", "phase"], ignore_index=True).head(2 * MAX_BARS)
    frame["label"] = frame["label"].astype(col.TEXT)
    run: list[Any] = list(frame[frame["phase"] == "run"].head(6).itertuples())
    wait: list[Any] = list(frame[frame["phase"] == "wait"].head(6).itertuples())
    said = [
        f"{row.label}: {several(row.tasks, 'task')}, run half within {seconds(row.p50_s)} and 95 % within "
        f"{seconds(row.p95_s)}, wait half within {seconds(waiting.p50_s)} and 95 % within {seconds(waiting.p95_s)}"
        for row, waiting in zip(run, wait, strict=True)
    ]
    named = _listed([key.replace("_", " ") for key in keys])
    notes = [several(int(tasks["task_id"].nunique()), "task"), "box: half of the tasks, line: 5 % to 95 %, x: longest"]
    if other:
        notes.append(_left_out(play))
    if len(groups) > MAX_BARS:
        notes.append(f"the {MAX_BARS} largest of {len(groups):,} groups")
    description = (
        f"Distributions of the time that tasks of {_of(run_ids).replace('All', 'all')} waited and ran, by {named}"
        f"{', of a demo or a tape (play money)' if play else ''}. {'. '.join(said)}."
    )
    title = f"{_of(run_ids)}: time per task by {named}" + " (play money)" * play
    return Figures(frame, title, " · ".join(notes), description, play)


def _times(ledger: Ledger, run_ids: Sequence[str] | None) -> pd.DataFrame:
    """One row per task that has ended an attempt."""
    t, a, r = schema.task.c, schema.attempt.c, schema.run.c
    play = func.coalesce(schema.budget.c.play_money, case((r.backend.in_(PLAY_BACKENDS), 1), else_=0))
    query = (
        select(
            t.run, t.number, r.backend, play, a.model, a.requested_model, t.profile, a.slot_id, t.state, t.tags,
            t.created_at, t.started_at, a.duration_s,
        )
        .select_from(
            schema.task.join(schema.attempt, and_(a.run == t.run, a.task == t.number, a.number == t.attempts))
            .join(schema.run, r.number == t.run)
            .outerjoin(schema.budget, schema.budget.c.id == a.budget_id)
        )
        .where(a.duration_s.is_not(None), t.started_at.is_not(None))
        .order_by(t.run, t.number)
    )  # fmt: skip
    if run_ids is not None:
        query = query.where(t.run.in_(typed_runs(run_ids)))
    with ledger.reading() as connection:
        rows = queries.plain_rows(connection, query)
    parts: list[Sequence[Any]] = list(zip(*rows, strict=True)) if rows else [()] * 13
    run, number, backend, kind, model, requested, profile, slot, state, tags, created, started, duration = parts
    return pd.DataFrame(
        {
            "task_id": col.text([f"r{n}.{k}" for n, k in zip(run, number, strict=True)]),
            "run_id": col.text([f"r{n}" for n in run]),
            "backend": col.text(backend),
            "play_money": col.flag(kind),
            "model": col.text([one or other for one, other in zip(model, requested, strict=True)]),
            "requested_model": col.text(requested),
            "profile": col.text(profile),
            "slot_id": col.text(slot),
            "state": col.text(state),
            "tags": col.text(tags),
            "wait_s": (col.number(started) - col.number(created)).clip(0),
            "run_s": col.number(duration),
        }
    )
