"""The one thread that writes the ledger, and its group commit.

Invariants: what waits when a transaction begins is committed in it, what arrives meanwhile forms the next; a future is
resolved after the commit that holds its events, or with the error that kept them out, in which case nothing of them is
in the ledger and the same write may be tried again; one caller's wrong write fails that caller alone; the writer
outlives every error.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, IntegrityError

from claude_pool_nb.errors import PoolError, StoreConflict, StoreError
from claude_pool_nb.events import Event
from claude_pool_nb.store.batch import Batch, Caches, Refusals, WriteResult
from claude_pool_nb.store.opening import translate
from claude_pool_nb.store.statements import Driver, Statements

CallSoon = Callable[[Callable[[], None]], object]
"""Like `loop.call_soon_threadsafe`: runs a function soon, in another thread."""

MAX_GROUP = 512
"""So many writes share a commit at most."""


@dataclass(frozen=True, slots=True, eq=False)
class Write:
    """Events of one pool, to be committed together."""

    pool_id: str
    budget_id: int | None
    events: Sequence[Event]
    future: Future[WriteResult]
    call_soon: CallSoon | None


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """Something else to do in a transaction."""

    function: Callable[[Connection], Any]
    future: Future[Any]
    call_soon: CallSoon | None


@dataclass(frozen=True, slots=True, eq=False)
class Count:
    """The next run number, which no other process gets."""

    future: Future[int]
    call_soon: CallSoon | None


Item = Write | Call | Count
Outcome = tuple[Item, Any, BaseException | None]


class Writer:
    """Commits what it is handed, in order, in a thread of its own."""

    def __init__(self, engine: Engine, where: str, lock: threading.RLock) -> None:
        self._engine = engine
        self._where = where
        self._lock = lock
        self._queue: SimpleQueue[Item | None] = SimpleQueue()
        self._statements = Statements(engine.dialect)
        self._caches = Caches()
        self._connection: Connection | None = None
        self._driver: Driver | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="claude-pool-ledger", daemon=True)
        self._thread.start()

    def submit(self, item: Item) -> None:
        """Hand something over; its future tells the end of it.

        Raises:
            StoreError: the ledger is closed.
        """
        if self._closed.is_set():
            raise StoreError(f"the ledger {self._where} is closed; start a new pool")
        self._queue.put(item)

    def close(self) -> None:
        """Commit what waits, then end the thread. May be called twice."""
        if not self._closed.is_set():
            self._closed.set()
            self._queue.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        """Commit groups until told to end."""
        ending = False
        while not ending:
            first = self._queue.get()
            group: list[Item] = []
            ending = first is None
            if first is not None:
                group.append(first)
            with suppress(Empty):
                while len(group) < MAX_GROUP and not ending:
                    item = self._queue.get_nowait()
                    if item is None:
                        ending = True
                    else:
                        group.append(item)
            if group:
                _deliver(self._commit(group))
        with suppress(Empty):  # what was handed over while the ledger was being closed
            while True:
                item = self._queue.get_nowait()
                if item is not None:
                    closed = StoreError(f"the ledger {self._where} is closed; start a new pool")
                    _deliver([(item, None, closed)])
        if self._connection is not None:
            self._connection.close()

    def _commit(self, group: list[Item]) -> list[Outcome]:
        """Commit a group in one transaction; how each of it ended."""
        with self._lock:
            try:
                try:
                    return self._attempt(group, one_by_one=False)
                except DBAPIError as error:
                    if not _is_one_callers(error):
                        raise
                except (StoreConflict, ValueError, TypeError, AttributeError):
                    pass  # one caller's write is wrong: the replay finds out whose, and tells it
                self._caches.forget()
                return self._attempt(group, one_by_one=True)
            except Exception as error:  # noqa: BLE001 every caller is told, and the thread must live
                self._caches.forget()
                self._drop_connection(error)
                told = translate(error, self._where)
                return [(item, None, told) for item in group]

    def _attempt(self, group: list[Item], *, one_by_one: bool) -> list[Outcome]:
        """Do a group's work in one transaction: all writes together, or each in a savepoint of its own."""
        if self._connection is None:
            self._connection = self._engine.connect()
        if self._driver is None:
            self._driver = Driver(self._connection)
        connection, driver = self._connection, self._driver
        outcomes: list[Outcome] = []
        batches: list[Batch] = []
        plain = connection.dialect.name == "sqlite" and not one_by_one and not any(isinstance(i, Call) for i in group)
        with _at_the_driver(driver) if plain else connection.begin():
            batch: Batch | None = None
            waiting: list[tuple[Write, Refusals]] = []
            for item in group:
                if isinstance(item, Call):
                    if batch is not None:
                        outcomes += _finish(batch, waiting)
                        batch, waiting = None, []
                    outcomes.append(_called(connection, item))
                elif isinstance(item, Count):
                    outcomes.append((item, self._statements.count_run(driver), None))
                elif one_by_one:
                    outcomes.append(self._alone(connection, driver, item))
                else:
                    if batch is None:
                        batch = Batch(driver, self._statements, self._caches)
                        batches.append(batch)
                    waiting.append((item, batch.add(item.pool_id, item.budget_id, item.events)))
            if batch is not None:
                outcomes += _finish(batch, waiting)
        for batch in batches:
            batch.committed()
        return outcomes

    def _alone(self, connection: Connection, driver: Driver, item: Write) -> Outcome:
        """One write in a savepoint: if it is wrong, it alone is undone."""
        try:
            with connection.begin_nested():
                batch = Batch(driver, self._statements, self._caches, one_by_one=True)
                refusals = batch.add(item.pool_id, item.budget_id, item.events)
                batch.finish()
                return item, WriteResult(*refusals, batch.budget(item.budget_id)), None
        except DBAPIError as error:
            if not _is_one_callers(error):
                raise
            conflict = StoreConflict(f"the ledger refused a row ({error.orig}); another pool may have written it")
            conflict.__cause__ = error
            return item, None, conflict
        except (StoreConflict, ValueError, TypeError, AttributeError) as error:
            return item, None, error

    def _drop_connection(self, error: BaseException) -> None:
        """Begin anew with a fresh connection: after an error nobody knows what an old one holds."""
        connection, self._connection, self._driver = self._connection, None, None
        if connection is not None and self._engine.url.database != ":memory:":
            try:
                connection.close()
            except DBAPIError as second:
                error.add_note(f"closing the connection failed too: {second}")
                connection.invalidate()
        elif connection is not None:
            self._connection = connection  # in memory it holds the data


@contextmanager
def _at_the_driver(driver: Driver) -> Iterator[None]:
    """A transaction of SQLite without SQLAlchemy's own, which costs twice what the database takes."""
    driver.execute("BEGIN IMMEDIATE")
    try:
        yield
        driver.execute("COMMIT")
    except BaseException:
        with suppress(DBAPIError):  # after some errors SQLite has rolled back by itself
            driver.execute("ROLLBACK")
        raise


def _is_one_callers(error: DBAPIError) -> bool:
    """Whether a database error comes from a row that is wrong, not from the disk, a lock or the connection."""
    return isinstance(error, IntegrityError) or type(error).__name__ in {
        "DataError",
        "InterfaceError",
        "StatementError",
    }


def _finish(batch: Batch, waiting: list[tuple[Write, Refusals]]) -> list[Outcome]:
    """Execute a batch; its writes' results."""
    batch.finish()
    return [(item, WriteResult(*refusals, batch.budget(item.budget_id)), None) for item, refusals in waiting]


def _called(connection: Connection, item: Call) -> Outcome:
    """Do a call's work; its own refusals undo it alone."""
    try:
        with connection.begin_nested():
            return item, item.function(connection), None
    except PoolError as error:
        return item, None, error


def _deliver(outcomes: list[Outcome]) -> None:
    """Resolve futures: each loop is woken once, whatever the number of its futures."""
    by_loop: dict[CallSoon, list[Outcome]] = {}
    here: list[Outcome] = []
    for outcome in outcomes:
        call_soon = outcome[0].call_soon
        if call_soon is None:
            here.append(outcome)
        else:
            by_loop.setdefault(call_soon, []).append(outcome)
    for call_soon, theirs in by_loop.items():
        try:
            call_soon(lambda theirs=theirs: _resolve(theirs))  # type: ignore[misc]
        except RuntimeError:  # that loop is closed: nobody there waits, but somebody elsewhere may
            here += theirs
    _resolve(here)


def _resolve(outcomes: list[Outcome]) -> None:
    """Set results and errors; a future that was cancelled meanwhile stays so: its events are in the ledger."""
    for item, result, error in outcomes:
        if item.future.set_running_or_notify_cancel():
            if error is None:
                item.future.set_result(result)
            else:
                item.future.set_exception(error)
