"""The ledger: what one process knows of it, writes to it and asks of it.

Invariants: one writer thread per ledger, and everything is written through it; readers have connections of their own
and never wait for the writer (in memory they share its connection and take turns); what a call or a future has
acknowledged is on disk and survives the end of the process in any form. It does not promise a power cut.
"""

from __future__ import annotations

import atexit
import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from sqlalchemy import URL, Connection, Engine, Table, delete, select
from sqlalchemy.exc import DBAPIError

from claude_pool_nb.errors import ConfigError, StoreError
from claude_pool_nb.events import Event
from claude_pool_nb.records import BudgetRecord, nano
from claude_pool_nb.redact import redact_json
from claude_pool_nb.store import opening, recovery, schema
from claude_pool_nb.store.batch import WriteResult
from claude_pool_nb.store.ids import pool_number
from claude_pool_nb.store.recovery import Alive, Orphan, Recovery
from claude_pool_nb.store.search import drop_index
from claude_pool_nb.store.writer import Call, CallSoon, Count, Write, Writer

__all__ = ["Ledger", "Orphan", "Recovery", "WriteResult"]

T = TypeVar("T")


class Ledger:
    """An open ledger. Made by `Ledger.open`; usable from every thread.

    Example:
        >>> with Ledger.open(":memory:") as ledger:
        ...     pool = ledger.register_pool(backend="demo", config_json="{}", notebook=None, play_money=True)
        ...     ledger.allocate_run().result()
        1
    """

    def __init__(self, url: URL, *, read_only: bool, busy_timeout_s: float) -> None:
        self._url = url
        self._read_only = read_only
        self._lock = threading.RLock()
        self._writer: Writer | None = None
        self._is_closed = False
        try:
            self._write_engine, self._read_engine = opening.connect(
                url, read_only=read_only, busy_timeout_s=busy_timeout_s
            )
        except DBAPIError as error:
            raise opening.translate(error, self.where) from error
        try:
            self._check()
        except BaseException as error:
            _dispose(self._write_engine, self._read_engine)
            if isinstance(error, DBAPIError):
                raise opening.translate(error, self.where) from error
            raise
        if not read_only:
            self._writer = Writer(self._write_engine, self.where, self._lock)
            reference = weakref.ref(self)
            self._at_exit: Callable[[], None] = lambda: _close(reference)
            atexit.register(self._at_exit)

    @classmethod
    def open(
        cls, store: str | os.PathLike[str] | None = None, *, read_only: bool = False, busy_timeout_s: float = 5.0
    ) -> Ledger:
        """Open a ledger; made if there is none.

        Args:
            store: None for the user's own, `:memory:` for none on disk, a path, or an SQLAlchemy URL.
            read_only: look, never write; nothing is made.
            busy_timeout_s: how long to wait for another program's lock.

        Raises:
            StoreError: it cannot be used: locked, damaged, newer than this package, full, or not writable.
            ConfigError: `store` cannot be understood.

        Example:
            >>> Ledger.open(":memory:").path is None
            True
        """
        return cls(opening.locate(store), read_only=read_only, busy_timeout_s=busy_timeout_s)

    def _check(self) -> None:
        """Make or migrate the tables, or see that they can be read."""
        if self._read_only:
            with self._read_engine.connect() as connection, connection.begin():
                version = opening.read_version(connection)
            if version is None:
                raise StoreError(f"{self.where} holds no ledger; `%pool start` makes one")
            opening.check_version(version, self.where)
            if version < opening.SCHEMA_VERSION:
                raise StoreError(f"the ledger {self.where} is of an older version; open it for writing to bring it up")
            return
        with self._write_engine.connect() as connection, connection.begin():
            opening.ensure_schema(connection, self.where)

    # -- what it is ----------------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The database's URL, without a password."""
        return self._url.render_as_string(hide_password=True)

    @property
    def path(self) -> Path | None:
        """The file, if it is one."""
        return Path(self._url.database) if opening.is_file(self._url) and self._url.database else None

    @property
    def where(self) -> str:
        """How to name it to a person."""
        return opening.MEMORY if opening.is_memory(self._url) else str(self.path or self.url)

    @property
    def read_only(self) -> bool:
        """Whether it was opened for looking only."""
        return self._read_only

    def __repr__(self) -> str:
        return f"<Ledger {self.where}{' (read only)' if self._read_only else ''}>"

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    # -- writing -------------------------------------------------------------------------------------------------------

    def write(
        self,
        pool_id: str,
        budget_id: int | None,
        events: Sequence[Event],
        *,
        call_soon: CallSoon | None = None,
    ) -> Future[WriteResult]:
        """Commit events in their order, in one transaction. Returns at once; never blocks.

        The future's result is there after the commit. If it ends in an error, nothing of the events is in the ledger,
        and the same call may be made again.

        Args:
            pool_id: whose events they are.
            budget_id: the budget that reservations are taken from; None for no budget.
            events: state changes, bookings.
            call_soon: `loop.call_soon_threadsafe` of the caller's loop: then the future is resolved in that loop's
                thread, together with all others of the same commit. None: in the writer's thread.

        Raises:
            StoreError: the ledger is closed or read only.

        The future's errors: `StoreFull`, `StoreLocked`, `StoreCorrupt`; `StoreConflict` if a row is not in the state
        that its event supposes.

        Example:
            >>> from claude_pool_nb.events import PoolScaled
            >>> with Ledger.open(":memory:") as ledger:
            ...     pool = ledger.register_pool(backend="demo", config_json="{}", notebook=None, play_money=True)
            ...     ledger.write(pool, None, [PoolScaled(0.0, slots=4)]).result().budget is None
            True
        """
        future: Future[WriteResult] = Future()
        self._writing().submit(Write(pool_id, budget_id, events, future, call_soon))
        return future

    def allocate_run(self, *, call_soon: CallSoon | None = None) -> Future[int]:
        """Give out the next run number; no other process gets it."""
        future: Future[int] = Future()
        self._writing().submit(Count(future, call_soon))
        return future

    def new_run(self) -> int:
        """Give out the next run number, and wait for it."""
        return self.allocate_run().result()

    def flush(self) -> None:
        """Wait until everything written so far is committed."""
        self.transact(lambda _connection: None)

    def close(self) -> None:
        """Commit what waits and let go of the database. May be called twice.

        It can still be read: of one in memory the connection is kept, which is the data, of another one the next read
        makes a new one. Both are closed when the ledger is forgotten.
        """
        if self._writer is not None:
            atexit.unregister(self._at_exit)
            self._writer.close()
        if not opening.is_memory(self._url):
            _dispose(self._write_engine, self._read_engine)
        if not self._is_closed:
            self._is_closed = True
            weakref.finalize(self, _dispose, self._write_engine, self._read_engine)

    def _writing(self) -> Writer:
        """The writer, if there is one."""
        if self._writer is None:
            raise StoreError(f"the ledger {self.where} was opened read only; open it without read_only to write")
        return self._writer

    def transact(self, function: Callable[[Connection], T]) -> T:
        """Do something in a transaction of the writer, and wait for its commit. For the modules of the store.

        Raises:
            StoreError: it could not be committed; nothing of it is in the ledger.
        """
        future: Future[T] = Future()
        self._writing().submit(Call(function, future, None))
        return future.result()

    def _do_later(self, function: Callable[[Connection], None]) -> Future[None]:
        """Do something in the next transaction, without waiting."""
        future: Future[None] = Future()
        self._writing().submit(Call(function, future, None))
        return future

    # -- pools and their processes -------------------------------------------------------------------------------------

    def register_pool(self, *, backend: str, config_json: str, notebook: str | None, play_money: bool) -> str:
        """Write down that this process has a pool. Returns its id, `p7`.

        Args:
            backend: `claude`, `demo` or `replay`.
            config_json: the pool's configuration.
            notebook: whose pool it is, if known.
            play_money: its dollars are not real.
        """
        host, boot, pid, start = recovery.this_process()
        row = {
            "backend": backend,
            "config": redact_json(config_json),
            "notebook": notebook,
            "play_money": int(play_money),
            "host": host,
            "boot_id": boot,
            "pid": pid,
            "process_start_at": start,
            "started_at": time.time(),
        }
        number = self.transact(lambda connection: _inserted(connection, schema.pool, row))
        return f"p{number}"

    def close_pool(self, pool_id: str) -> None:
        """Write down that a pool has ended as it should."""
        number, at = pool_number(pool_id), time.time()

        def closing(connection: Connection) -> None:
            pool = schema.pool
            connection.execute(
                pool.update().where(pool.c.id == number, pool.c.ended_at.is_(None)).values(ended_at=at, ended="closed")
            )

        self.transact(closing)

    def recover(self, alive: Alive | None = None) -> Recovery:
        """Interrupt what pools that are gone have left unfinished, and settle their reservations.

        Args:
            alive: tells from host, boot id, pid and start time whether a pool's process may still be alive; None for
                the machine's own word on it.

        Returns:
            What was interrupted, and the processes that are left to be ended.
        """
        at = time.time()
        return self.transact(lambda connection: recovery.recover(connection, alive or recovery.is_alive, at))

    def record_process(self, pool_id: str, slot_id: str, pid: int, start_time: float, executable: str) -> Future[None]:
        """Write down a launched process, so that it can be ended if this kernel dies. Nobody need wait for it."""
        process = schema.process
        pool = pool_number(pool_id)
        row = {"pool": pool, "slot_id": slot_id, "pid": pid, "start_time": start_time, "executable": executable}

        def recording(connection: Connection) -> None:
            connection.execute(
                delete(process).where(process.c.pool == pool, process.c.slot_id == slot_id, process.c.pid == pid)
            )
            connection.execute(process.insert(), row)

        return self._do_later(recording)

    def forget_process(self, pool_id: str, slot_id: str, pid: int | None = None) -> Future[None]:
        """Write down that a launched process has ended; without pid, all of that slot."""
        process = schema.process
        query = delete(process).where(process.c.pool == pool_number(pool_id), process.c.slot_id == slot_id)
        if pid is not None:
            query = query.where(process.c.pid == pid)

        def forgetting(connection: Connection) -> None:
            connection.execute(query)

        return self._do_later(forgetting)

    # -- budgets -------------------------------------------------------------------------------------------------------

    def open_budget(
        self, name: str, *, limit_usd: float | None = None, fresh: bool = False, play_money: bool = False
    ) -> BudgetRecord:
        """Find the newest budget of a name, or make it.

        Args:
            name: who shares it. Play money and real money have budgets of their own under the same name.
            limit_usd: moves its wall; None leaves the wall that it has (a new one has none).
            fresh: begin a new one, with nothing spent.
            play_money: its dollars are not real.

        Raises:
            ConfigError: the limit is negative or no number.

        Example:
            >>> with Ledger.open(":memory:") as ledger:
            ...     first = ledger.open_budget("nb", limit_usd=5)
            ...     ledger.open_budget("nb") == first
            True
        """
        limit = _limit(limit_usd)
        at = time.time()

        def opened(connection: Connection) -> BudgetRecord:
            budget = schema.budget
            row = connection.execute(
                select(budget.c.id)
                .where(budget.c.name == name, budget.c.play_money == int(play_money))
                .order_by(budget.c.id.desc())
                .limit(1)
            ).first()
            if row is None or fresh:
                number = _inserted(
                    connection,
                    budget,
                    {
                        "name": name, "limit_nano": limit, "spent_nano": 0, "reserved_nano": 0, "since_at": at,
                        "play_money": int(play_money),
                    },
                )  # fmt: skip
            else:
                number = row.id
                if limit is not None:
                    connection.execute(budget.update().where(budget.c.id == number).values(limit_nano=limit))
            return _read_budget(connection, number)

        return self.transact(opened)

    def budget(self, budget_id: int) -> BudgetRecord:
        """A budget as it is now.

        Raises:
            StoreError: there is none of that id.
        """
        with self.reading() as connection:
            return _read_budget(connection, budget_id)

    # -- reading -------------------------------------------------------------------------------------------------------

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection for looking: one moment of the ledger, which later commits do not change.

        Raises:
            StoreError: the database cannot be read.
        """
        try:
            if opening.is_memory(self._url):
                with self._lock, self._read_engine.connect() as connection:
                    yield connection
            else:
                with self._read_engine.connect() as connection, connection.begin():
                    yield connection
        except DBAPIError as error:
            raise opening.translate(error, self.where) from error

    def prune(self, before_at: float) -> int:
        """Delete runs that were finished before an instant (unix seconds), with all that belongs to them.

        Budgets keep what was spent. Returns the number of runs deleted.
        """
        return self.transact(lambda connection: _prune(connection, before_at))


def _dispose(*engines: Engine) -> None:
    """Close the connections that nobody uses."""
    for engine in engines:
        engine.dispose()


def _close(reference: weakref.ref[Ledger]) -> None:
    """Close a ledger that nobody has closed, when the interpreter ends."""
    ledger = reference()
    if ledger is not None:
        ledger.close()


def _inserted(connection: Connection, table: Table, row: Mapping[str, object]) -> int:
    """Insert a row; its new key."""
    key = connection.execute(table.insert(), row).inserted_primary_key
    assert key is not None
    return int(key[0])


def _read_budget(connection: Connection, budget_id: int) -> BudgetRecord:
    """One budget."""
    row = connection.execute(select(schema.budget).where(schema.budget.c.id == budget_id)).first()
    if row is None:
        raise StoreError(f"there is no budget {budget_id} in the ledger; `%pool budget USD` opens one")
    return BudgetRecord(
        id=row.id,
        name=row.name,
        limit_nano=row.limit_nano,
        spent_nano=row.spent_nano,
        reserved_nano=row.reserved_nano,
        since_at=row.since_at,
        play_money=bool(row.play_money),
    )


def _limit(limit_usd: float | None) -> int | None:
    """A wall in nanodollars."""
    if limit_usd is None:
        return None
    if not math.isfinite(limit_usd) or limit_usd < 0:
        raise ConfigError(f"a budget of {limit_usd} dollars cannot work; give a number of dollars, 0 or more")
    return nano(limit_usd)


def _prune(connection: Connection, before_at: float) -> int:
    """Delete old final runs."""
    run = schema.run.c
    old = list(
        connection.execute(
            select(run.number).where(
                run.state.in_(["completed", "cancelled", "interrupted", "failed"]), run.finished_at < before_at
            )
        ).scalars()
    )
    for start in range(0, len(old), 500):
        part = old[start : start + 500]
        for table, column in (
            (schema.event, schema.event.c.run),
            (schema.attempt, schema.attempt.c.run),
            (schema.task, schema.task.c.run),
            (schema.run, run.number),
        ):
            connection.execute(delete(table).where(column.in_(part)))
    if old:
        drop_index(connection)
    return len(old)
