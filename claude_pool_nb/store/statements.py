"""The writer's statements, compiled once per database and reused with lists of rows.

Invariants: every value that these statements bind is an integer, a float, text or None, so that rows need no
conversion and go to the driver as they are; the `WHERE` of a claim, an end and a verdict is their fence: what does not
match changes no row, and the writer sees that in the count.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Dialect, Insert, Table, Update, bindparam, case, func, not_, or_, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.base import Executable

from claude_pool_nb.records import FINAL_STATES
from claude_pool_nb.store import schema

Row = tuple[Any, ...]


class Prepared:
    """A statement in the words of one database, which takes rows in an order of our own."""

    def __init__(self, dialect: Dialect, statement: Executable, names: Sequence[str]) -> None:
        columns = list(names) if isinstance(statement, Insert) else None
        compiled = statement.compile(dialect=dialect, column_keys=columns)  # type: ignore[attr-defined]
        self.sql: str = compiled.string
        fixed = {name: value for name, value in compiled.params.items() if name not in names}
        self._names = (*names, *fixed)
        self._fixed = tuple(fixed.values())
        order: Sequence[str] | None = compiled.positiontup
        self._positional = order is not None
        self._arrange: itemgetter[Any] | None = None
        if order is not None and tuple(order) != self._names:
            self._arrange = itemgetter(*(self._names.index(name) for name in order))

    def _bound(self, rows: list[Row]) -> list[Any]:
        """The rows in the form that the driver takes."""
        if self._fixed:
            rows = [row + self._fixed for row in rows]
        if not self._positional:
            return [dict(zip(self._names, row, strict=True)) for row in rows]
        return rows if self._arrange is None else [self._arrange(row) for row in rows]

    def many(self, driver: Driver, rows: list[Row]) -> int:
        """Execute it for every row; returns how many rows of the table have changed."""
        bound = self._bound(rows)
        if len(bound) == 1:
            return driver.execute(self.sql, bound[0])
        return driver.execute_many(self.sql, bound)

    def first(self, driver: Driver, row: Row) -> Row | None:
        """Execute it for one row of values; returns the first row found."""
        return driver.first(self.sql, self._bound([row])[0])


class Driver:
    """What the driver itself is told, on a cursor that is kept: every prompt waits for a commit.

    The statements are compiled and go to the driver as they are: executing them through SQLAlchemy costs as much again
    as the database does. Its errors come as SQLAlchemy tells them.
    """

    __slots__ = ("_connection", "_cursor")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._cursor = connection.connection.cursor()

    def execute(self, sql: str, values: Any = ()) -> int:
        """Execute a statement; returns how many rows of a table have changed."""
        try:
            self._cursor.execute(sql, values)
            return self._cursor.rowcount
        except Exception as error:
            raise self._told(error, sql, values) from error

    def execute_many(self, sql: str, values: list[Any]) -> int:
        """Execute a statement for each of some rows; returns how many rows of the table have changed."""
        try:
            self._cursor.executemany(sql, values)
            return self._cursor.rowcount
        except Exception as error:
            raise self._told(error, sql, values) from error

    def first(self, sql: str, values: Any) -> Row | None:
        """Execute a query; returns the first row found."""
        try:
            self._cursor.execute(sql, values)
            found = self._cursor.fetchone()
        except Exception as error:
            raise self._told(error, sql, values) from error
        return None if found is None else tuple(found)

    def _told(self, error: Exception, sql: str, values: Any) -> BaseException:
        """An error of the driver as SQLAlchemy tells it; any other as it is."""
        base = self._connection.dialect.loaded_dbapi.Error
        if not isinstance(error, base):
            return error
        dialect = self._connection.dialect
        return DBAPIError.instance(sql, values, error, base, hide_parameters=True, dialect=dialect)


def _insert(dialect: Dialect, table: Table, *, without: Sequence[str] = ()) -> Prepared:
    """An insert that takes all columns in their order, but for some."""
    names = [column.name for column in table.columns if column.name not in without]
    return Prepared(dialect, table.insert(), names)


def _of_task(statement: Update) -> Update:
    """Limit an update of the task table to one task."""
    return statement.where(schema.task.c.run == bindparam("k_run"), schema.task.c.number == bindparam("k_task"))


def _of_attempt(statement: Update) -> Update:
    """Limit an update of the attempt table to one attempt."""
    t = schema.attempt.c
    return statement.where(
        t.run == bindparam("k_run"), t.task == bindparam("k_task"), t.number == bindparam("k_attempt")
    )


TASK_KEY = ("k_run", "k_task")
ATTEMPT_KEY = ("k_run", "k_task", "k_attempt")
TASK_VERDICT = ("state", "finished_at", "waiting_until", "failure_kind", "error_type", "error")
USED = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
ENDED = (
    "state", "late", "cost_nano", "cost_basis", *USED, "turns", "finished_at", "duration_s", "api_s", "wrote", "model",
    "session_id", "failure_kind", "error_type", "http_status", "retry_after_s", "error", "denials", "warnings",
    "structured", "request", "output",
)  # fmt: skip


class Statements:
    """All statements of the writer for one database."""

    def __init__(self, dialect: Dialect) -> None:
        task, attempt, budget, run, slot = schema.task, schema.attempt, schema.budget, schema.run, schema.slot
        meta = schema.meta

        # written out: an IN is expanded at every execution, and these are compiled once
        final = or_(*(task.c.state == state.value for state in sorted(FINAL_STATES)))

        def bound(*names: str) -> dict[str, Any]:
            return {name: bindparam(name) for name in names}

        def prepared(statement: Executable, *names: str) -> Prepared:
            return Prepared(dialect, statement, names)

        self._last_run = prepared(select(meta.c.value).where(meta.c.key == bindparam("k_key")), "k_key")
        self._count_run = prepared(
            meta.update().where(meta.c.key == bindparam("k_key")).values(value=meta.c.value + 1), "k_key"
        )
        self.insert_run = _insert(dialect, run)
        self.insert_task = _insert(dialect, task)
        self.insert_event = _insert(dialect, schema.event, without=("id",))
        self.insert_slot = _insert(dialect, slot)
        self.insert_attempt = _insert(dialect, attempt)
        self.claim_task = prepared(
            _of_task(task.update())
            .where(
                task.c.attempts == bindparam("k_attempt") - 1, or_(task.c.state == "pending", task.c.state == "waiting")
            )
            .values(
                state="running",
                attempts=bindparam("k_attempt"),
                started_at=func.coalesce(task.c.started_at, bindparam("at")),
                waiting_until=None,
            ),
            *ATTEMPT_KEY,
            "at",
        )
        self.task_verdict = prepared(
            _of_task(task.update()).where(not_(final)).values(**bound(*TASK_VERDICT)),
            *TASK_KEY,
            *TASK_VERDICT,
        )
        self.reopen_task = prepared(
            _of_task(task.update())
            .where(final)
            .values(
                state="pending",
                finished_at=None,
                waiting_until=None,
                failure_kind=None,
                error_type=None,
                error=None,
                opened_attempts=task.c.attempts,
                prompt=func.coalesce(bindparam("prompt"), task.c.prompt),
                overrides=func.coalesce(bindparam("overrides"), task.c.overrides),
                requested_model=func.coalesce(bindparam("requested_model"), task.c.requested_model),
            ),
            *TASK_KEY,
            "prompt",
            "overrides",
            "requested_model",
        )
        self.progress_attempt = prepared(
            _of_attempt(attempt.update())
            .where(attempt.c.state == "running")
            .values(cost_basis="estimated", **bound("cost_nano", *USED)),
            *ATTEMPT_KEY,
            "cost_nano",
            *USED,
        )
        self.extend_attempt = prepared(
            _of_attempt(attempt.update())
            .where(attempt.c.state == "running")
            .values(reserved_nano=attempt.c.reserved_nano + bindparam("added")),
            *ATTEMPT_KEY,
            "added",
        )
        self.end_attempt = prepared(
            _of_attempt(attempt.update()).where(attempt.c.state == "running").values(**bound(*ENDED)),
            *ATTEMPT_KEY,
            *ENDED,
        )
        self.late_attempt = prepared(
            _of_attempt(attempt.update())
            .where(attempt.c.state != "running")
            .values(
                late=1,
                cost_nano=attempt.c.cost_nano + bindparam("cost_nano"),
                cost_basis=bindparam("cost_basis"),
                output=func.coalesce(func.nullif(attempt.c.output, ""), bindparam("output")),
                model=func.coalesce(attempt.c.model, bindparam("model")),
                session_id=func.coalesce(attempt.c.session_id, bindparam("session_id")),
                # the whole usage of the attempt, of which an earlier estimate may have held a part
                **{
                    name: case((attempt.c[name] < bindparam(name), bindparam(name)), else_=attempt.c[name])
                    for name in USED
                },
            ),
            *ATTEMPT_KEY,
            "cost_nano",
            *USED,
            "cost_basis",
            "output",
            "model",
            "session_id",
        )
        self.read_attempt = prepared(
            select(attempt.c.budget_id, attempt.c.reserved_nano, attempt.c.state, attempt.c.cost_basis).where(
                attempt.c.run == bindparam("k_run"),
                attempt.c.task == bindparam("k_task"),
                attempt.c.number == bindparam("k_attempt"),
            ),
            *ATTEMPT_KEY,
        )
        self.change_run = prepared(
            run.update().where(run.c.number == bindparam("k_run")).values(**bound("state", "finished_at", "error")),
            "k_run",
            "state",
            "finished_at",
            "error",
        )
        self.adopt_run = prepared(
            run.update().where(run.c.number == bindparam("k_run")).values(**bound("pool")), "k_run", "pool"
        )
        self.read_slot = prepared(
            select(slot.c.slot_id).where(slot.c.pool == bindparam("k_pool"), slot.c.slot_id == bindparam("k_slot")),
            "k_pool",
            "k_slot",
        )
        slot_values = [column.name for column in slot.columns if column.name not in {"pool", "slot_id"}]
        self.update_slot = prepared(
            slot.update()
            .where(slot.c.pool == bindparam("k_pool"), slot.c.slot_id == bindparam("k_slot"))
            .values(**bound(*slot_values)),
            "k_pool",
            "k_slot",
            *slot_values,
        )
        self.read_budget = prepared(
            select(
                budget.c.id,
                budget.c.name,
                budget.c.limit_nano,
                budget.c.spent_nano,
                budget.c.reserved_nano,
                budget.c.since_at,
                budget.c.play_money,
            )
            .where(budget.c.id == bindparam("k_id"))
            .with_for_update(),
            "k_id",
        )
        self.update_budget = prepared(
            budget.update()
            .where(budget.c.id == bindparam("k_id"))
            .values(**bound("limit_nano", "spent_nano", "reserved_nano")),
            "k_id",
            "limit_nano",
            "spent_nano",
            "reserved_nano",
        )

    def count_run(self, driver: Driver) -> int:
        """Give out the next run number."""
        self._count_run.many(driver, [("last_run",)])
        found = self._last_run.first(driver, ("last_run",))
        assert found is not None
        return int(found[0])
