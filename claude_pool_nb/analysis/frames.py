"""DataFrames of everything in the ledger; those of tasks and costs come from modules of their own.

Invariants: a frame's columns are the same, in the same order and of the same types, whatever is in it; oldest first;
money is dollars, instants are UTC timestamps, durations are seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd
from sqlalchemy import func, select

from claude_pool_nb.analysis import columns as col
from claude_pool_nb.analysis.costs import attempt_frame, cost_frame
from claude_pool_nb.analysis.keys import COST_KEYS
from claude_pool_nb.analysis.task_frames import TASK_COLUMNS, history_frame, task_frame
from claude_pool_nb.records import SlotRecord
from claude_pool_nb.store import queries, schema, shelf
from claude_pool_nb.store.ids import typed_runs
from claude_pool_nb.store.ledger import Ledger

__all__ = [
    "COST_KEYS",
    "TASK_COLUMNS",
    "attempt_frame",
    "conversation_frame",
    "cost_frame",
    "event_frame",
    "history_frame",
    "run_frame",
    "slot_frame",
    "task_frame",
]


def run_frame(
    ledger: Ledger,
    *,
    run_ids: Iterable[str] | None = None,
    limit: int | None = None,
) -> pd.DataFrame:
    """One row per run, oldest first, with how many of its tasks are where and what they cost.

    Args:
        ledger: where to read.
        run_ids: only these runs.
        limit: no more than the latest so many.

    Example:
        >>> with Ledger.open(":memory:") as ledger:
        ...     "cost_usd" in run_frame(ledger)
        True
    """
    r, t, a = schema.run.c, schema.task.c, schema.attempt.c
    query = select(
        r.number, r.verb, r.state, r.total, r.backend, r.budget, r.tags, r.pool, r.created_at, r.finished_at, r.error
    )
    if run_ids is not None:
        query = query.where(r.number.in_(typed_runs(run_ids)))
    query = query.order_by(r.number) if limit is None else query.order_by(r.number.desc()).limit(limit)
    with ledger.reading() as connection:
        rows = connection.execute(query).all()
        if limit is not None:
            rows = rows[::-1]
        first, last = (rows[0][0], rows[-1][0]) if rows else (0, 0)
        counts = {
            (run, state): count
            for run, state, count in connection.execute(
                select(t.run, t.state, func.count()).where(t.run >= first, t.run <= last).group_by(t.run, t.state)
            )
        }
        summed = select(a.run, func.sum(a.cost_nano)).where(a.run >= first, a.run <= last).group_by(a.run)
        costs = {row[0]: row[1] for row in connection.execute(summed)}
    parts: list[Sequence[Any]] = list(zip(*rows, strict=True)) if rows else [()] * 11
    run, verb, state, total, backend, budget, tags, pool, created_at, finished_at, error = parts

    def counted(*names: str) -> Any:
        return col.whole([sum(counts.get((number, name), 0) for name in names) for number in run])

    return pd.DataFrame(
        {
            "run_id": col.text([f"r{number}" for number in run]),
            "verb": col.category(verb),
            "state": col.run_state(state),
            "total": col.whole(total),
            "unfinished": counted("pending", "waiting", "running", "pending_review"),
            **{name: counted(name) for name in ("completed", "failed", "cancelled", "interrupted")},
            "cost_usd": col.dollars([costs.get(number) or 0 for number in run]),
            "backend": col.category(backend),
            "budget": col.text(budget),
            "tags": col.text(tags),
            "pool_id": col.text([f"p{number}" for number in pool]),
            "created_at": col.instant(created_at),
            "finished_at": col.instant(finished_at),
            "duration_s": col.number(finished_at) - col.number(created_at),
            "error": col.text(error),
        },
        copy=False,
    )


def event_frame(ledger: Ledger, *, run_ids: Iterable[str] | None = None) -> pd.DataFrame:
    """One row per event, in their order.

    Args:
        ledger: where to read.
        run_ids: only of these runs and their tasks.

    Example:
        >>> with Ledger.open(":memory:") as ledger:
        ...     list(event_frame(ledger).columns)[:3]
        ['event_id', 'at', 'kind']
    """
    rows = queries.event_rows(ledger, run_ids=run_ids)
    parts: list[Sequence[Any]] = list(zip(*rows, strict=True)) if rows else [()] * 10
    number, at, pool, kind, state, run, task, attempt, slot_id, payload = parts
    return pd.DataFrame(
        {
            "event_id": col.whole(number),
            "at": col.instant(at),
            "kind": col.category(kind),
            "state": col.category(state),
            "run_id": col.text([None if n is None else f"r{n}" for n in run]),
            "task_id": col.text([None if k is None else f"r{n}.{k}" for n, k in zip(run, task, strict=True)]),
            "attempt": col.integer(attempt),
            "slot_id": col.category(slot_id),
            "pool_id": col.text([None if n is None else f"p{n}" for n in pool]),
            "payload": col.text(payload),
        },
        copy=False,
    )


def slot_frame(slots: Iterable[SlotRecord]) -> pd.DataFrame:
    """One row per slot, as it is now.

    Example:
        >>> slot_frame([SlotRecord(id="s1")])["state"].tolist()
        ['starting']
    """
    records = list(slots)
    return pd.DataFrame(
        {
            "slot_id": col.text([slot.id for slot in records]),
            "state": col.slot_state([slot.state.value for slot in records]),
            "name": col.text([slot.name for slot in records]),
            "role": col.text([slot.role for slot in records]),
            "description": col.text([slot.description for slot in records]),
            "host": col.text([slot.host for slot in records]),
            "task_id": col.text([slot.task_id for slot in records]),
            "model": col.category([slot.model for slot in records]),
            "session_id": col.text([slot.session_id for slot in records]),
            "conversation": col.text([slot.conversation for slot in records]),
            "pid": col.integer([slot.pid for slot in records]),
            "rss_bytes": col.integer([slot.rss_bytes for slot in records]),
            "tasks_completed": col.whole([slot.tasks_completed for slot in records]),
            "cost_usd": col.dollars([slot.cost_nano for slot in records]),
            "restarts": col.whole([slot.restarts for slot in records]),
            "since": col.instant([slot.since_at or None for slot in records]),
            "error": col.text([slot.error for slot in records]),
        },
        copy=False,
    )


def conversation_frame(ledger: Ledger) -> pd.DataFrame:
    """One row per named conversation, by name.

    Example:
        >>> with Ledger.open(":memory:") as ledger:
        ...     list(conversation_frame(ledger).columns)
        ['name', 'session_id', 'turns', 'cwd', 'pool_id', 'updated_at']
    """
    known = shelf.list_conversations(ledger)
    return pd.DataFrame(
        {
            "name": col.text([one.name for one in known]),
            "session_id": col.text([one.session_id for one in known]),
            "turns": col.whole([one.turns for one in known]),
            "cwd": col.text([one.cwd for one in known]),
            "pool_id": col.text([one.pool_id for one in known]),
            "updated_at": col.instant([one.updated_at for one in known]),
        }
    )
