"""Opening the ledger's database: where it is, whether it can be used, which schema it has.

Invariants: what cannot be used is a `StoreError` here, before any prompt is sent; the file is readable by its owner
alone; every transaction of the writer takes the write lock at its beginning, so that it never fails half-way for want
of it; a newer schema is refused, an older one is migrated in one transaction.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from platformdirs import user_data_dir
from sqlalchemy import Connection, Engine, create_engine, event, inspect, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import NullPool, StaticPool

from claude_pool_nb.errors import ConfigError, StoreCorrupt, StoreError, StoreFull, StoreLocked, StoreTooNew
from claude_pool_nb.store import schema
from claude_pool_nb.store.statements import Driver

SCHEMA_VERSION = 2
"""The schema that this code writes."""

APPLICATION_ID = 0x436C506E
"""Marks an SQLite file as a ledger."""


def _name_requests(connection: Connection) -> None:
    """Version 2: attempts name their request, so that an identical one can be answered from the ledger."""
    connection.execute(text("ALTER TABLE attempt ADD COLUMN request TEXT"))


MIGRATIONS: Mapping[int, Callable[[Connection], None]] = {1: _name_requests}
"""From a version to the step that makes it the next one. Steps run in one transaction with everything after them."""

MEMORY = ":memory:"


def default_path() -> Path:
    """The ledger's file when none is named.

    Example:
        >>> default_path().name
        'ledger.sqlite'
    """
    return Path(user_data_dir("claude-pool-nb", appauthor=False)) / "ledger.sqlite"


def locate(store: str | os.PathLike[str] | None) -> URL:
    """Turn what a person gives as `store` into a database URL.

    Args:
        store: None for the user's own ledger, `:memory:` for none on disk, a path, or an SQLAlchemy URL.

    Raises:
        ConfigError: the URL cannot be understood.

    Example:
        >>> locate(":memory:").database
        ':memory:'
        >>> locate("sqlite:////tmp/x.sqlite").database
        '/tmp/x.sqlite'
    """
    if store is None:
        return URL.create("sqlite", database=str(default_path()))
    given = os.fspath(store)
    if not given:
        raise ConfigError("store is empty; give a path, ':memory:', or a database URL")
    if "\0" in given or any("\ud800" <= char <= "\udfff" for char in given):
        raise ConfigError(
            f"store={given!r} holds a null byte or half a character; give a path, ':memory:', or a database URL"
        )
    if given == MEMORY:
        return URL.create("sqlite", database=MEMORY)
    if "://" in given:
        try:
            url = make_url(given)
        except ArgumentError as error:
            raise ConfigError(f"store={given!r} is no database URL; give a path, ':memory:', or a URL") from error
        if url.get_backend_name() == "sqlite" and not url.database:
            return url.set(database=MEMORY)
        return url
    return URL.create("sqlite", database=str(Path(given).expanduser().absolute()))


def is_memory(url: URL) -> bool:
    """Whether the ledger lives only as long as its process."""
    return url.get_backend_name() == "sqlite" and url.database == MEMORY


def is_file(url: URL) -> bool:
    """Whether the ledger is an SQLite file."""
    return url.get_backend_name() == "sqlite" and not is_memory(url)


def translate(error: BaseException, where: str) -> BaseException:
    """Say what a database error means for the person, as one of our errors; others come back as they are.

    Example:
        >>> type(translate(sqlite3.OperationalError("database or disk is full"), "x.sqlite")).__name__
        'StoreFull'
    """
    cause: BaseException | None = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, sqlite3.Error):
        code = getattr(cause, "sqlite_errorcode", 0) & 0xFF
        said = str(cause)
        if code == sqlite3.SQLITE_FULL or "disk is full" in said:
            return StoreFull(
                f"the disk of the ledger {where} is full: nothing more is sent; free some space, then `%pool unpause`"
            )
        if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED} or "locked" in said:
            return StoreLocked(
                f"the ledger {where} is locked by another program; close it, or pass another file with store=PATH"
            )
        if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB} or "malformed" in said or "not a database" in said:
            return StoreCorrupt(
                f"the ledger {where} is damaged or no ledger at all ({said}); "
                "move it away, or pass another file with store=PATH"
            )
        if code in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_AUTH}:
            return StoreError(
                f"the ledger {where} cannot be written ({said}); mend its permissions, or pass another file with "
                "store=PATH"
            )
    if isinstance(error, DBAPIError | sqlite3.Error):
        return StoreError(f"the ledger {where} cannot be used ({cause}); pass another one with store=PATH")
    return error


def connect(url: URL, *, read_only: bool, busy_timeout_s: float) -> tuple[Engine, Engine]:
    """Make the engines for writing and for reading (the same one in memory), with the file in place and checked.

    Raises:
        StoreError: the file or the database cannot be used.
    """
    if is_file(url):
        _prepare_file(Path(url.database or ""), default=url.database == str(default_path()), read_only=read_only)
    if is_memory(url):
        engine = create_engine(url, poolclass=StaticPool, connect_args={"check_same_thread": False})
        _configure_sqlite(engine, begin="BEGIN", busy_timeout_s=busy_timeout_s, query_only=False, wal=False)
        return engine, engine
    if is_file(url):
        args = {"check_same_thread": False, "timeout": busy_timeout_s}
        writer = create_engine(url, poolclass=NullPool, connect_args=args)
        reader = create_engine(url, pool_size=4, max_overflow=16, connect_args=args)
        _configure_sqlite(
            writer, begin="BEGIN IMMEDIATE", busy_timeout_s=busy_timeout_s, query_only=read_only, wal=not read_only
        )
        _configure_sqlite(reader, begin="BEGIN", busy_timeout_s=busy_timeout_s, query_only=True, wal=False)
        return writer, reader
    try:
        engine = create_engine(url, pool_pre_ping=True)
    except (NoSuchModuleError, ModuleNotFoundError, ArgumentError) as error:
        shown = url.render_as_string(hide_password=True)
        raise ConfigError(f"store={shown!r} needs a database driver that is not installed ({error})") from error
    return engine, engine


def _prepare_file(path: Path, *, default: bool, read_only: bool) -> None:
    """Make the directory and the file, private to their owner; refuse what cannot be a ledger."""
    if path.is_dir():
        raise StoreError(f"store={str(path)!r} is a directory; name a file in it, for example {path / 'ledger.sqlite'}")
    if read_only and not path.exists():
        raise StoreError(f"there is no ledger at {path}; `%pool start` makes one, or pass another file with store=PATH")
    try:
        if not path.parent.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        elif default:
            path.parent.chmod(0o700)
        if not read_only:
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            path.chmod(0o600)
    except OSError as error:
        raise StoreError(
            f"the ledger {path} cannot be opened for writing ({error.strerror}); "
            "mend its permissions, or pass another file with store=PATH"
        ) from error


def _configure_sqlite(engine: Engine, *, begin: str, busy_timeout_s: float, query_only: bool, wal: bool) -> None:
    """Set pragmas on every connection, and begin transactions ourselves: sqlite3 begins them too late."""

    @event.listens_for(engine, "connect")
    def _pragmas(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {round(busy_timeout_s * 1000)}")
        if wal:
            cursor.execute("PRAGMA journal_mode = WAL")
            cursor.execute("PRAGMA journal_size_limit = 16777216")
        cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("PRAGMA temp_store = MEMORY")
        if query_only:
            cursor.execute("PRAGMA query_only = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        Driver(connection).execute(begin)


def ensure_schema(connection: Connection, where: str) -> None:
    """Make the tables in an empty database, or bring older ones up to date. The caller holds the transaction.

    Raises:
        StoreTooNew: a newer package wrote it.
        StoreCorrupt: it is some other program's database.
    """
    version = read_version(connection)
    if version is None:
        if connection.dialect.name == "sqlite" and inspect(connection).get_table_names():
            raise StoreCorrupt(
                f"{where} is a database of another program, no ledger; pass another file with store=PATH"
            )
        schema.metadata.create_all(connection)
        connection.execute(
            schema.meta.insert(), [{"key": "schema_version", "value": SCHEMA_VERSION}, {"key": "last_run", "value": 0}]
        )
        _mark_version(connection, SCHEMA_VERSION)
        return
    check_version(version, where)
    for step in range(version, SCHEMA_VERSION):
        MIGRATIONS[step](connection)
    if version < SCHEMA_VERSION:
        _mark_version(connection, SCHEMA_VERSION)


def read_version(connection: Connection) -> int | None:
    """The schema's version in this database; None if there are no tables of ours."""
    if not inspect(connection).has_table("meta"):
        return None
    query = select(schema.meta.c.value).where(schema.meta.c.key == "schema_version")
    found = connection.execute(query).scalar()
    return None if found is None else int(found)


def check_version(version: int, where: str) -> None:
    """Refuse a schema that is newer than this code."""
    if version > SCHEMA_VERSION:
        raise StoreTooNew(
            f"the ledger {where} has schema {version}, this package knows {SCHEMA_VERSION}: "
            "upgrade claude-pool-nb, or pass another file with store=PATH"
        )


def _mark_version(connection: Connection, version: int) -> None:
    """Write the version where our code looks, and where SQLite's own tools look."""
    connection.execute(
        schema.meta.update().where(schema.meta.c.key == "schema_version").values(value=version),
    )
    if connection.dialect.name == "sqlite":
        connection.execute(text(f"PRAGMA user_version = {version}"))
        connection.execute(text(f"PRAGMA application_id = {APPLICATION_ID}"))
