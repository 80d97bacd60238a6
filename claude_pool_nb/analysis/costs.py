"""DataFrames of attempts, and of what they cost.

Invariants: every attempt ever made is counted once, also failed, interrupted and late ones; play money and real money
are never added up.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import pandas as pd
from sqlalchemy import and_, case, func, literal, or_, select

from claude_pool_nb.analysis import columns as col
from claude_pool_nb.analysis.keys import COST_KEYS
from claude_pool_nb.analysis.periods import Period
from claude_pool_nb.errors import ConfigError, nearest
from claude_pool_nb.records import NANO_PER_USD, PLAY_BACKENDS, AttemptState
from claude_pool_nb.store import queries, schema
from claude_pool_nb.store.ids import pool_number, typed_runs, typed_task
from claude_pool_nb.store.ledger import Ledger

TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")


def attempt_frame(
    ledger: Ledger,
    *,
    run_ids: Iterable[str] | None = None,
    task_id: str | None = None,
    pool_id: str | None = None,
    play_money: bool | None = None,
    period: Period | None = None,
    tags: Iterable[str] = (),
    models: Iterable[str] = (),
    states: Iterable[str] = (),
    limit: int | None = None,
    outputs: bool = True,
    only: Collection[str] | None = None,
) -> pd.DataFrame:
    """One row per attempt ever made, in the order of runs, tasks and attempts.

    Args:
        ledger: where to read.
        run_ids: only of these runs.
        task_id: only of this task.
        pool_id: only of runs that this pool owns.
        play_money: only of the demo's dollars (True) or of real ones (False).
        period: only those that were started then.
        tags: only of tasks with one of these tags.
        models: only those that one of these models answered or was asked for.
        states: only those in one of these states.
        limit: no more than the latest so many.
        outputs: False leaves the outputs out, which are most of the memory.
        only: these columns, beside `run_id`, `task_id` and `attempt`; None for all.

    Raises:
        RunNotFound: an id is no run's id.
        ConfigError: a state is none of an attempt.

    Example:
        >>> with Ledger.open(":memory:") as ledger:
        ...     len(attempt_frame(ledger))
        0
    """
    t, a, r = schema.task.c, schema.attempt.c, schema.run.c
    play = func.coalesce(schema.budget.c.play_money, case((r.backend.in_(PLAY_BACKENDS), 1), else_=0))
    selected: dict[str, tuple[Any, Callable[[Sequence[Any]], Any]]] = {
        "profile": (t.profile, col.category),
        "backend": (r.backend, col.category),
        "play_money": (play, col.flag),
        "requested_model": (a.requested_model, col.category),
        "model": (a.model, col.category),
        "slot_id": (a.slot_id, col.category),
        "session_id": (a.session_id, col.text),
        "conversation": (t.conversation, col.text),
        "tags": (t.tags, col.text),
        "state": (a.state, col.attempt_state),
        "late": (a.late, col.flag),
        "output": (a.output, col.text),
        "failure_kind": (a.failure_kind, col.failure_kind),
        "error_type": (a.error_type, col.category),
        "error": (a.error, col.text),
        "http_status": (a.http_status, col.integer),
        "cost_usd": (a.cost_nano, col.dollars),
        "cost_basis": (a.cost_basis, col.cost_basis),
        "reserved_usd": (a.reserved_nano, col.dollars),
        **{name: (a[name], col.whole) for name in (*TOKENS, "turns")},
        "started_at": (a.started_at, col.instant),
        "finished_at": (a.finished_at, col.instant),
        "duration_s": (a.duration_s, col.number),
        "api_s": (a.api_s, col.number),
        "wrote": (a.wrote, col.flag),
        "permission_denials": (a.denials, col.text),
        "warnings": (a.warnings, col.text),
    }
    if not outputs:
        del selected["output"]
    if only is not None:
        selected = {name: selected[name] for name in selected if name in only}
    query = (
        select(a.run, a.task, a.number, *(column for column, _ in selected.values()))
        .select_from(
            schema.attempt.join(schema.task, and_(t.run == a.run, t.number == a.task))
            .join(schema.run, r.number == a.run)
            .outerjoin(schema.budget, schema.budget.c.id == a.budget_id)
        )
        .where(a.number > 0)
    )  # an earlier answer that was given again is no attempt
    if run_ids is not None:
        query = query.where(a.run.in_(typed_runs(run_ids)))
    if task_id is not None:
        run, task = typed_task(task_id)
        query = query.where(a.run == run, a.task == task)
    if pool_id is not None:
        query = query.where(r.pool == pool_number(pool_id))
    if play_money is not None:
        query = query.where(play == int(play_money))
    query = query.where(*_conditions(period, tags, models, states))
    order = (a.run, a.task, a.number)
    query = query.order_by(*order) if limit is None else query.order_by(*(c.desc() for c in order)).limit(limit)
    with ledger.reading() as connection:
        parts = queries.plain_columns(connection, query)
    if limit is not None:
        parts = [values[::-1] for values in parts]
    frame = {
        "run_id": col.text([f"r{n}" for n in parts[0]]),
        "task_id": col.text([f"r{n}.{k}" for n, k in zip(parts[0], parts[1], strict=True)]),
        "attempt": col.whole(parts[2]),
    }
    for (name, (_, make)), values in zip(selected.items(), parts[3:], strict=True):
        frame[name] = make(values)
    return pd.DataFrame(frame, copy=False)


def _conditions(period: Period | None, tags: Iterable[str], models: Iterable[str], states: Iterable[str]) -> list[Any]:
    """What an attempt must be like to be in the frame."""
    t, a = schema.task.c, schema.attempt.c
    conditions: list[Any] = []
    if period is not None and period.since_at is not None:
        conditions.append(a.started_at >= period.since_at)
    if period is not None and period.until_at is not None:
        conditions.append(a.started_at < period.until_at)
    padded = literal(" ").concat(t.tags).concat(" ")
    if wanted_tags := list(tags):
        conditions.append(or_(*(padded.contains(f" {tag} ", autoescape=True) for tag in wanted_tags)))
    if names := [model.lower() for model in models]:
        conditions.append(or_(func.lower(a.model).in_(names), func.lower(a.requested_model).in_(names)))
    wanted = list(states)
    known = [state.value for state in AttemptState]
    for state in wanted:
        if state not in known:
            raise ConfigError(f"there is no state {state!r} of attempts{nearest(state, known)}")
    if wanted:
        conditions.append(a.state.in_([str(state) for state in wanted]))
    return conditions


def cost_frame(
    ledger: Ledger,
    by: Iterable[str] = ("model",),
    *,
    run_ids: Iterable[str] | None = None,
    pool_id: str | None = None,
    period: Period | None = None,
    tags: Iterable[str] = (),
    models: Iterable[str] = (),
) -> pd.DataFrame:
    """What was spent, by some of `COST_KEYS`; the dearest first. Play money and real money are never added up.

    A task with two tags is counted under both. `state` and `failure_kind` are those of the attempts. `estimated_usd` is
    the part of the cost that is not exact.

    Args:
        ledger: where to read.
        by: keys to break down by; none for one row.
        run_ids: only of these runs.
        pool_id: only of runs that this pool owns.
        period: only of attempts that were started then.
        tags: only of tasks with one of these tags.
        models: only what one of these models answered or was asked for.

    Returns:
        The frame; `attrs["totals"]` holds tasks, attempts and nanodollars of each kind of money, each counted once.

    Raises:
        ConfigError: a key is none of `COST_KEYS`.

    Example:
        >>> with Ledger.open(":memory:") as ledger:
        ...     list(cost_frame(ledger, by=["tag"]).columns)[:4]
        ['play_money', 'tag', 'tasks', 'attempts']
    """
    keys = [by] if isinstance(by, str) else list(dict.fromkeys(by))
    for key in keys:
        if key not in COST_KEYS:
            raise ConfigError(f"costs cannot be broken down by {key!r}{nearest(key, COST_KEYS)}")
    needed = {"play_money", "cost_usd", "cost_basis", "duration_s", "started_at", "tags", *TOKENS, *keys}
    wanted = list(tags)
    frame = attempt_frame(
        ledger, run_ids=run_ids, pool_id=pool_id, period=period, tags=wanted, models=models, only=needed
    )
    totals = _totals(frame)
    frame["estimated_usd"] = frame["cost_usd"].where(frame["cost_basis"] != "exact", 0.0)
    for name in {"day", "hour", "month"} & set(keys):
        frame[name] = floored(frame["started_at"], name)
    if "tag" in keys:
        frame["tag"] = frame["tags"].str.split().map(lambda tags: sorted(set(tags) & set(wanted or tags)))
        frame = frame.explode("tag", ignore_index=True)
        frame["tag"] = frame["tag"].astype(col.TEXT).fillna("")
    groups = frame.groupby(["play_money", *keys], observed=True, dropna=False, sort=True)
    result = groups.agg(
        tasks=("task_id", "nunique"),
        attempts=("task_id", "size"),
        cost_usd=("cost_usd", "sum"),
        estimated_usd=("estimated_usd", "sum"),
        **{name: (name, "sum") for name in TOKENS},
        duration_s=("duration_s", "sum"),
    ).reset_index()
    result = result.sort_values(["play_money", "cost_usd"], ascending=[True, False], kind="stable", ignore_index=True)
    result.attrs.update(by=keys, totals=totals)
    return result


def floored(instants: Any, unit: str) -> Any:
    """The beginning of the UTC day, hour or month that each instant is in.

    Example:
        >>> str(floored(pd.Series(pd.to_datetime(["2026-01-31 14:30"], utc=True)), "month")[0])
        '2026-01-01 00:00:00+00:00'
    """
    if unit == "hour":
        return instants.dt.floor("h")
    day = instants.dt.floor("D")
    return day if unit == "day" else day - pd.to_timedelta(day.dt.day - 1, unit="D")


def _totals(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """What there is in all, each kind of money for itself."""
    return [
        {
            "play_money": bool(play),
            "tasks": int(part["task_id"].nunique()),
            "attempts": len(part),
            "cost_nano": round(float(part["cost_usd"].sum()) * NANO_PER_USD),
        }
        for play, part in frame.groupby("play_money")
    ]
