"""Reading records back: what a restarted kernel, a resume and a handle need to know.

Invariants: nothing here writes; every answer is one moment of the ledger; a record read back equals the record that
the events described.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, Select, and_, func, select

from claude_pool_nb.errors import RunNotFound, TaskNotFound
from claude_pool_nb.records import (
    AttemptRecord,
    AttemptState,
    CostBasis,
    Denial,
    Failure,
    FailureKind,
    RunRecord,
    RunState,
    TaskRecord,
    TaskState,
    TurnResult,
    Usage,
)
from claude_pool_nb.store import schema
from claude_pool_nb.store.ids import pool_number, typed_run, typed_runs, typed_task
from claude_pool_nb.store.ledger import Ledger

__all__ = [
    "PoolRow",
    "attempts",
    "event_rows",
    "history",
    "latest_run",
    "plain_columns",
    "plain_rows",
    "pool",
    "run",
    "runs",
    "task",
    "tasks",
]


_ROWS_AT_A_TIME = 300


@dataclass(frozen=True, slots=True)
class PoolRow:
    """A pool as the ledger keeps it."""

    id: str
    """`p7`."""
    backend: str
    """`claude`, `demo` or `replay`."""
    config: str
    """Its configuration as JSON text."""
    notebook: str | None
    """Whose it is."""
    play_money: bool
    """Whether its dollars are not real."""
    host: str
    """The machine of its process."""
    pid: int
    """Its process."""
    started_at: float
    """When it was started."""
    ended_at: float | None
    """When it ended."""
    ended: str | None
    """How: `closed`, or `gone` without a word."""


# -- runs --------------------------------------------------------------------------------------------------------------


def run(ledger: Ledger, run_id: str) -> RunRecord:
    """A run as it is now.

    Raises:
        RunNotFound: there is none of that id.
    """
    number = typed_run(run_id)
    with ledger.reading() as connection:
        row = connection.execute(select(schema.run).where(schema.run.c.number == number)).first()
    if row is None:
        raise RunNotFound(f"there is no run {run_id} in {ledger.where}; `%pool runs` lists them")
    return _run(row)


def runs(ledger: Ledger, *, limit: int | None = None) -> list[RunRecord]:
    """Runs, oldest first; with a limit the latest ones."""
    with ledger.reading() as connection:
        return [_run(row) for row in _last(connection, select(schema.run), limit, schema.run.c.number)]


def latest_run(ledger: Ledger) -> RunRecord | None:
    """The run that was accepted last; None in an empty store."""
    found = runs(ledger, limit=1)
    return found[0] if found else None


# -- tasks and attempts ------------------------------------------------------------------------------------------------


def tasks(ledger: Ledger, run_id: str) -> list[TaskRecord]:
    """All tasks of a run, in the order in which they were accepted.

    Raises:
        RunNotFound: there is no run of that id.
    """
    number = typed_run(run_id)
    with ledger.reading() as connection:
        found = _tasks(connection, schema.task.c.run == number)
        known = (
            bool(found) or connection.execute(select(schema.run.c.number).where(schema.run.c.number == number)).first()
        )
    if not known:
        raise RunNotFound(f"there is no run {run_id} in {ledger.where}; `%pool runs` lists them")
    return found


def task(ledger: Ledger, task_id: str) -> TaskRecord:
    """A task as it is now.

    Raises:
        TaskNotFound: there is none of that id.
    """
    run_, number = typed_task(task_id)
    with ledger.reading() as connection:
        found = _tasks(connection, and_(schema.task.c.run == run_, schema.task.c.number == number))
    if not found:
        raise TaskNotFound(f"there is no task {task_id} in {ledger.where}; `%pool tasks` lists the latest")
    return found[0]


def attempts(ledger: Ledger, task_id: str) -> list[AttemptRecord]:
    """All attempts of a task, the first first; none if it has not been started.

    Raises:
        TaskNotFound: `task_id` is no task's id.
    """
    run_, number = typed_task(task_id)
    attempt = schema.attempt
    query = select(attempt).where(attempt.c.run == run_, attempt.c.task == number).order_by(attempt.c.number)
    with ledger.reading() as connection:
        return [_attempt(row) for row in connection.execute(query)]


def run_attempts(ledger: Ledger, run_id: str) -> list[AttemptRecord]:
    """The attempts of all tasks of a run, task by task, first attempts first."""
    attempt = schema.attempt
    query = select(attempt).where(attempt.c.run == typed_run(run_id)).order_by(attempt.c.task, attempt.c.number)
    with ledger.reading() as connection:
        return [_attempt(row) for row in connection.execute(query)]


def run_spans(ledger: Ledger, run_id: str) -> list[tuple[str, float, float | None, str, int]]:
    """Where and when each attempt of a run was made: slot, start, end, state, nanodollars; no texts are read."""
    attempt = schema.attempt
    columns = (attempt.c.slot_id, attempt.c.started_at, attempt.c.finished_at, attempt.c.state, attempt.c.cost_nano)
    query = select(*columns).where(attempt.c.run == typed_run(run_id)).order_by(attempt.c.started_at)
    with ledger.reading() as connection:
        return [tuple(row) for row in connection.execute(query)]


def history(ledger: Ledger, limit: int = 200, *, play_money: bool = False) -> list[tuple[str, str | None, int]]:
    """What recent tasks cost: profile, requested model and nanodollars of completed attempts, oldest first.

    Args:
        ledger: where to look.
        limit: no more than the latest so many.
        play_money: of the demo's dollars instead of real ones.
    """
    attempt, task_, budget = schema.attempt.c, schema.task.c, schema.budget.c
    query = (
        select(task_.profile, task_.requested_model, attempt.cost_nano)
        .select_from(
            schema.attempt.join(schema.task, and_(task_.run == attempt.run, task_.number == attempt.task)).join(
                schema.budget, budget.id == attempt.budget_id
            )
        )
        .where(
            attempt.state == "completed",
            attempt.number > 0,
            attempt.cost_nano > 0,  # what cost nothing was played from a tape
            attempt.cost_basis != "unknown",
            budget.play_money == int(play_money),
        )
        .order_by(attempt.run.desc(), attempt.task.desc(), attempt.number.desc())
        .limit(limit)
    )
    with ledger.reading() as connection:
        rows = connection.execute(query).all()
    return [(row[0], row[1], row[2]) for row in reversed(rows)]


# -- events, pools -----------------------------------------------------------------------------------------------------


def event_rows(ledger: Ledger, *, run_ids: Iterable[str] | None = None) -> list[tuple[Any, ...]]:
    """Events in the order of their commits, as plain rows with the columns of the table.

    Args:
        ledger: where to look.
        run_ids: only of these runs and their tasks; None for all there are.
    """
    event = schema.event.c
    query = select(schema.event).order_by(event.id)
    if run_ids is not None:
        query = query.where(event.run.in_(typed_runs(run_ids)))
    with ledger.reading() as connection:
        return plain_rows(connection, query)


def pool(ledger: Ledger, pool_id: str) -> PoolRow | None:
    """A pool as it is now; None if there is none of that id."""
    query = select(schema.pool).where(schema.pool.c.id == pool_number(pool_id))
    with ledger.reading() as connection:
        row = connection.execute(query).first()
    if row is None:
        return None
    return PoolRow(
        id=f"p{row.id}",
        backend=row.backend,
        config=row.config,
        notebook=row.notebook,
        play_money=bool(row.play_money),
        host=row.host,
        pid=row.pid,
        started_at=row.started_at,
        ended_at=row.ended_at,
        ended=row.ended,
    )


# -- rows to records ---------------------------------------------------------------------------------------------------


def plain_rows(connection: Connection, query: Select[Any]) -> list[tuple[Any, ...]]:
    """All rows as the driver gives them: for large frames, where a row object each would cost as much as the rest."""
    result = connection.execute(query)
    cursor = result.cursor
    assert cursor is not None
    rows: list[tuple[Any, ...]] = list(cursor.fetchall())
    result.close()
    return rows


def plain_columns(connection: Connection, query: Select[Any]) -> list[list[Any]]:
    """The same, column by column: a few rows at a time, so that not all of them are held beside their columns."""
    result = connection.execute(query)
    cursor = result.cursor
    assert cursor is not None
    columns: list[list[Any]] = [[] for _ in cursor.description]
    while rows := cursor.fetchmany(_ROWS_AT_A_TIME):
        for column, part in zip(columns, zip(*rows, strict=True), strict=True):
            column.extend(part)
    result.close()
    return columns


def _last(connection: Connection, query: Select[Any], limit: int | None, order: Any) -> Sequence[Row[Any]]:
    """Rows in ascending order; with a limit the last ones."""
    if limit is None:
        return connection.execute(query.order_by(order)).all()
    return connection.execute(query.order_by(order.desc()).limit(limit)).all()[::-1]


def _run(row: Row[Any]) -> RunRecord:
    """A run's record."""
    return RunRecord(
        id=f"r{row.number}",
        verb=row.verb,
        state=RunState(row.state),
        total=row.total,
        pool_id=f"p{row.pool}",
        backend=row.backend,
        config=row.config,
        meta=row.meta,
        tags=tuple(row.tags.split()),
        budget=row.budget,
        created_at=row.created_at,
        finished_at=row.finished_at,
        error=row.error,
    )


def _tasks(connection: Connection, condition: Any) -> list[TaskRecord]:
    """Tasks with what their attempts cost."""
    attempt, task_ = schema.attempt.c, schema.task.c
    cost = (
        select(func.coalesce(func.sum(attempt.cost_nano), 0))
        .where(attempt.run == task_.run, attempt.task == task_.number)
        .scalar_subquery()
        .label("cost_nano")
    )
    rows = connection.execute(select(schema.task, cost).where(condition).order_by(task_.run, task_.number))
    return [
        TaskRecord(
            id=f"r{row.run}.{row.number}",
            run_id=f"r{row.run}",
            number=row.number,
            prompt=row.prompt,
            state=TaskState(row.state),
            row=row.row,
            sample=row.sample,
            tags=tuple(row.tags.split()),
            priority=row.priority,
            conversation=row.conversation,
            role=row.role,
            profile=row.profile,
            requested_model=row.requested_model,
            overrides=row.overrides,
            inputs=row.inputs,
            attempts=row.attempts,
            cost_nano=int(row.cost_nano),
            created_at=row.created_at,
            started_at=row.started_at,
            finished_at=row.finished_at,
            waiting_until=row.waiting_until,
            opened_attempts=row.opened_attempts,
            failure_kind=None if row.failure_kind is None else FailureKind(row.failure_kind),
            error_type=row.error_type,
            error=row.error,
        )
        for row in rows
    ]


def _attempt(row: Row[Any]) -> AttemptRecord:
    """An attempt's record; its result once it is over."""
    return AttemptRecord(
        task_id=f"r{row.run}.{row.task}",
        number=row.number,
        slot_id=row.slot_id,
        state=AttemptState(row.state),
        reserved_nano=row.reserved_nano,
        started_at=row.started_at,
        finished_at=row.finished_at,
        result=None if row.finished_at is None else _result(row),
        late=bool(row.late),
    )


def _result(row: Row[Any]) -> TurnResult:
    """What an attempt gave."""
    failure = None
    if row.failure_kind is not None:
        failure = Failure(
            FailureKind(row.failure_kind), row.error_type or "", row.error or "", row.retry_after_s, row.http_status
        )
    return TurnResult(
        output=row.output or "",
        failure=failure,
        cost_nano=row.cost_nano,
        cost_basis=CostBasis(row.cost_basis),
        usage=Usage(row.input_tokens, row.output_tokens, row.cache_read_tokens, row.cache_write_tokens),
        turns=row.turns,
        model=row.model,
        session_id=row.session_id,
        duration_s=row.duration_s or 0.0,
        api_s=row.api_s or 0.0,
        structured=None if row.structured is None else json.loads(row.structured),
        denials=tuple(Denial(**denial) for denial in json.loads(row.denials or "[]")),
        wrote=bool(row.wrote),
        warnings=tuple(json.loads(row.warnings or "[]")),
    )
