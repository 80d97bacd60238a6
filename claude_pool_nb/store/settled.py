"""What earlier tasks took: the history that a preview estimates from.

Two steps, so that a large ledger is not read whole: `kinds` shows a few tasks of each of the latest runs, to find those
that are like the new ones; `settled` reads what the tasks of chosen runs took, over all attempts of each.

Invariants: nothing here writes; only tasks that asked a model and came to their own end are history: no interrupted or
cancelled ones, none that a budget stopped, none whose cost is not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import LargeBinary, and_, cast, func, or_, select

from claude_pool_nb.store import schema
from claude_pool_nb.store.ledger import Ledger
from claude_pool_nb.store.queries import plain_rows

LATEST_RUNS = 4_000
"""So far back it is looked for runs."""
SHOWN_RUNS = 120
"""So many of the latest runs are shown, and as many again of the latest larger ones."""
LARGE = 5
"""A run of at least so many tasks is a larger one."""
SHOWN_TASKS = 24
"""So many tasks of each are shown."""
HEAD_CHARS = 300
"""So much of a prompt is shown."""
HISTORY_TASKS = 1_000
"""No more tasks than the latest so many are read."""


@dataclass(frozen=True, slots=True)
class RunKind:
    """A run that has history: how it was made."""

    number: int
    """Its number."""
    config: str
    """The pool's configuration as JSON text."""
    meta: str
    """What was asked for, as JSON text."""


@dataclass(frozen=True, slots=True)
class TaskKind:
    """A task of it: with which options it asked what."""

    run: int
    """The number of its run."""
    number: int
    """Its own."""
    profile: str
    """Name of its session options."""
    model: str | None
    """The model it asked for."""
    overrides: str
    """Its own options as JSON text."""
    head: str
    """The beginning of its prompt."""


@dataclass(frozen=True, slots=True)
class SettledTask:
    """What a task took, over all its attempts."""

    run: int
    """The number of its run."""
    profile: str
    """Name of its session options."""
    model: str | None
    """The model it asked for."""
    overrides: str
    """Its own options as JSON text."""
    prompt_chars: int
    """Characters of its prompt."""
    prompt_bytes: int
    """Bytes of it."""
    cost_nano: int
    """What it cost."""
    input_tokens: int
    """Tokens read, from the cache or not."""
    output_tokens: int
    """Tokens written."""
    duration_s: float
    """Seconds of its attempts."""
    slot_id: str
    """Where it ran (last)."""
    started_at: float
    """When its first attempt started."""
    finished_at: float
    """When its last attempt ended."""


def kinds(ledger: Ledger, backend: str, *, before: int | None = None) -> tuple[dict[int, RunKind], list[TaskKind]]:
    """The latest runs of a backend, the larger ones among them farther back, and a few tasks of each.

    Args:
        ledger: Where to look.
        backend: Whose runs.
        before: Only runs with a lower number.
    """
    run, task = schema.run.c, schema.task.c
    query = select(run.number, run.total).where(run.backend == backend).order_by(run.number.desc()).limit(LATEST_RUNS)
    if before is not None:
        query = query.where(run.number < before)
    with ledger.reading() as connection:
        found = plain_rows(connection, query)
        chosen = {number for number, _ in found[:SHOWN_RUNS]}
        chosen.update([number for number, total in found if total >= LARGE][:SHOWN_RUNS])
        runs = select(run.number, run.config, run.meta).where(run.number.in_(chosen))
        tasks = (
            select(
                task.run,
                task.number,
                task.profile,
                task.requested_model,
                task.overrides,
                func.substr(task.prompt, 1, HEAD_CHARS),
            )
            .where(task.run.in_(chosen), task.number <= SHOWN_TASKS)
            .order_by(task.run.desc(), task.number)
        )
        return (
            {row[0]: RunKind(*row) for row in plain_rows(connection, runs)},
            [TaskKind(*row) for row in plain_rows(connection, tasks)],
        )


def settled(ledger: Ledger, runs: Sequence[int], *, before_at: float | None = None) -> list[SettledTask]:
    """What the latest tasks of some runs took, latest first.

    Args:
        ledger: Where to look.
        runs: The numbers of the runs.
        before_at: Only tasks that were final by then.
    """
    task, attempt = schema.task.c, schema.attempt.c
    ended = or_(
        task.state == "completed",
        and_(task.state == "failed", func.coalesce(task.failure_kind, "").not_in(("budget", "auth", "request"))),
    )
    latest = (
        select(
            task.run,
            task.number,
            task.profile,
            task.requested_model,
            task.overrides,
            func.length(task.prompt).label("chars"),
            func.length(cast(task.prompt, LargeBinary)).label("bytes"),
        )
        .where(task.run.in_(runs), ended)
        .order_by(task.run.desc(), task.number.desc())
        .limit(HISTORY_TASKS)
    )
    if before_at is not None:
        latest = latest.where(task.finished_at <= before_at)
    some = latest.subquery()
    read = attempt.input_tokens + attempt.cache_read_tokens + attempt.cache_write_tokens
    query = (
        select(
            some.c.run,
            some.c.profile,
            some.c.requested_model,
            some.c.overrides,
            some.c.chars,
            some.c.bytes,
            func.sum(attempt.cost_nano),
            func.sum(read),
            func.sum(attempt.output_tokens),
            func.sum(func.coalesce(attempt.duration_s, 0.0)),
            func.max(attempt.slot_id),
            func.min(attempt.started_at),
            func.max(func.coalesce(attempt.finished_at, attempt.started_at)),
        )
        .select_from(some.join(schema.attempt, and_(attempt.run == some.c.run, attempt.task == some.c.number)))
        .group_by(
            some.c.run,
            some.c.number,
            some.c.profile,
            some.c.requested_model,
            some.c.overrides,
            some.c.chars,
            some.c.bytes,
        )
        .having(
            func.sum(read + attempt.output_tokens) > 0,
            func.sum(attempt.cost_nano) > 0,  # what cost nothing was played from a tape
            func.max(attempt.cost_basis) != "unknown",
        )
        .order_by(some.c.run.desc(), some.c.number.desc())
    )
    with ledger.reading() as connection:
        return [SettledTask(*row) for row in plain_rows(connection, query)]
