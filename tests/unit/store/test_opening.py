"""What cannot be a ledger is refused by name before it is written to; what is one is private and up to date."""

from __future__ import annotations

import sqlite3
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from sqlalchemy import Connection, text

from claude_pool_nb import events as ev
from claude_pool_nb.errors import (
    ConfigError,
    RunNotFound,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreLocked,
    StoreTooNew,
)
from claude_pool_nb.records import AttemptState, TaskState, TurnResult
from claude_pool_nb.store import opening, queries
from claude_pool_nb.store.answers import find_answers
from claude_pool_nb.store.ledger import Ledger

from .conftest import Writes, writes_into


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a ledger can be."""
    return tmp_path / "new folder" / "ledger.sqlite"


def test_a_new_ledger_is_private(path: Path) -> None:
    """File and folder are made for their owner alone, also SQLite's side files."""
    with Ledger.open(path) as ledger:
        writes_into(ledger).accept(["a"])
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
        assert set(modes.values()) == {0o600}
        assert f"{path.name}-wal" in modes
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert ledger.path == path
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_default_is_in_the_users_data_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a store the ledger is the user's own, in a private directory even if it was open before."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    opening.default_path().parent.mkdir(parents=True)
    with Ledger.open() as ledger:
        assert ledger.path is not None
        assert ledger.path.is_relative_to(tmp_path)
        assert stat.S_IMODE(ledger.path.parent.stat().st_mode) == 0o700


def test_in_memory_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`:memory:` makes no file, and two of them share nothing."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    with Ledger.open(":memory:") as one, Ledger.open("sqlite://") as other:
        writes_into(one).accept(["a"])
        assert queries.latest_run(other) is None
        assert one.path is None
        with pytest.raises(RunNotFound, match="there is no run r9 in :memory:; `%pool runs`"):
            queries.run(one, "r9")
    assert list(here.iterdir()) == []


def test_a_ledger_is_there_again_after_closing(path: Path) -> None:
    """Everything is read back by the next process, read only too; run numbers go on."""
    with Ledger.open(path) as ledger:
        run = writes_into(ledger).accept(["a", "b"])
    with Ledger.open(path, read_only=True) as ledger:
        assert [task.prompt for task in queries.tasks(ledger, run)] == ["a", "b"]
        with pytest.raises(StoreError, match="read only"):
            ledger.new_run()
    with Ledger.open(f"sqlite:///{path}") as ledger:
        assert ledger.new_run() == 2


def test_read_only_makes_nothing(path: Path, tmp_path: Path) -> None:
    """A missing or empty file is said, not made into a ledger."""
    with pytest.raises(StoreError, match="no ledger"):
        Ledger.open(path, read_only=True)
    assert not path.parent.exists()
    (tmp_path / "empty").touch()
    with pytest.raises(StoreError, match="holds no ledger") as refused:
        Ledger.open(tmp_path / "empty", read_only=True)
    held = [file.path for file in psutil.Process().open_files()]
    assert str(tmp_path / "empty") not in held, refused


def test_what_is_no_ledger_is_refused(tmp_path: Path) -> None:
    """A directory, a text, another program's database, an unwritable place, a bad URL: each says what it is."""
    with pytest.raises(StoreError, match="directory"):
        Ledger.open(tmp_path)
    letter = tmp_path / "letter.txt"
    letter.write_text("Dear reader, " * 200)
    with pytest.raises(StoreCorrupt, match=r"letter\.txt"):
        Ledger.open(letter)
    assert letter.read_text().startswith("Dear reader")
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE meta (x)")
    with pytest.raises(StoreError):
        Ledger.open(tmp_path / "other.db")
    with sqlite3.connect(tmp_path / "another.db") as other:
        other.execute("CREATE TABLE songs (x)")
    with pytest.raises(StoreCorrupt, match="another program"):
        Ledger.open(tmp_path / "another.db")
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be opened"):
        Ledger.open(tmp_path / "file" / "ledger.sqlite")
    with pytest.raises(ConfigError, match="driver"):
        Ledger.open("nosuch://host/db")
    with pytest.raises(ConfigError, match="empty"):
        Ledger.open("")


def test_a_damaged_ledger_is_refused(path: Path) -> None:
    """A ledger whose pages were overwritten is StoreCorrupt when it is opened."""
    with Ledger.open(path) as ledger:
        writes_into(ledger).accept(["a"] * 50)
    raw = bytearray(path.read_bytes())
    raw[4096:] = b"\xff" * (len(raw) - 4096)
    raw[100:4096] = b"\xff" * (4096 - 100)
    path.write_bytes(raw)
    with pytest.raises(StoreCorrupt):
        Ledger.open(path)


def test_a_locked_ledger_is_refused_after_its_time(path: Path) -> None:
    """Another program's lock is waited for so long and no longer; afterwards the ledger opens."""
    Ledger.open(path).close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreLocked):
        Ledger.open(path, busy_timeout_s=0.05)
    other.execute("ROLLBACK")
    other.close()
    Ledger.open(path).close()


def test_a_lock_in_mid_run_fails_the_write_which_may_be_made_again(path: Path) -> None:
    """While another program holds the lock, a write ends in StoreLocked; the same write goes in afterwards."""
    with Ledger.open(path, busy_timeout_s=0.05) as ledger:
        writes = writes_into(ledger)
        run = writes.accept(["a"])
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreLocked):
            writes.start(f"{run}.1")
        assert queries.task(ledger, f"{run}.1").state == TaskState.PENDING  # readers never wait
        other.execute("ROLLBACK")
        other.close()
        assert writes.start(f"{run}.1").refused == frozenset()


def test_a_newer_ledger_is_refused_untouched(path: Path) -> None:
    """A schema that this code does not know is neither read nor written."""
    Ledger.open(path).close()
    with sqlite3.connect(path) as other:
        other.execute("UPDATE meta SET value = 99 WHERE key = 'schema_version'")
    for read_only in (False, True):
        with pytest.raises(StoreTooNew, match="schema 99"):
            Ledger.open(path, read_only=read_only)


@pytest.fixture
def next_version(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A package of tomorrow, whose schema has one column more."""
    calls: list[int] = []

    def step(connection: Connection) -> None:
        calls.append(opening.read_version(connection) or 0)
        connection.execute(text("ALTER TABLE task ADD COLUMN mood TEXT"))
        connection.execute(text("UPDATE task SET mood = 'glad'"))
        if len(calls) == 1:
            raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(opening, "SCHEMA_VERSION", opening.SCHEMA_VERSION + 1)
    monkeypatch.setattr(opening, "MIGRATIONS", {opening.SCHEMA_VERSION - 1: step})
    return calls


def test_an_older_ledger_is_migrated_whole_or_not_at_all(
    path: Path, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """A file of today's version is brought to tomorrow's; a migration that fails half-way leaves it as it was."""
    with Ledger.open(path) as ledger:
        run = writes_into(ledger).accept(["a", "b"])
    calls: list[int] = request.getfixturevalue("next_version")
    with pytest.raises(StoreError, match="older"):
        Ledger.open(path, read_only=True)
    with pytest.raises(sqlite3.OperationalError):
        Ledger.open(path)
    with sqlite3.connect(path) as other:
        assert "mood" not in {row[1] for row in other.execute("PRAGMA table_info(task)")}
        assert other.execute("PRAGMA user_version").fetchone() == (opening.SCHEMA_VERSION - 1,)
    with Ledger.open(path) as ledger:
        assert [task.prompt for task in queries.tasks(ledger, run)] == ["a", "b"]
    with sqlite3.connect(path) as other:
        assert other.execute("SELECT DISTINCT mood FROM task").fetchall() == [("glad",)]
        assert other.execute("PRAGMA user_version").fetchone() == (opening.SCHEMA_VERSION,)
    Ledger.open(path).close()
    assert calls == [opening.SCHEMA_VERSION - 1] * 2


def test_a_full_disk_fails_the_write_which_may_be_made_again(path: Path) -> None:
    """When no page can be added a write ends in StoreFull and leaves nothing; with space the same write goes in."""
    with Ledger.open(path) as ledger:
        writes = writes_into(ledger, limit_usd=1)
        run = writes.accept(["a"])
        writes.start(f"{run}.1")

        def limit(pages: int | None) -> None:
            def set_limit(connection: Connection) -> None:
                now = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
                connection.exec_driver_sql(f"PRAGMA max_page_count = {now if pages is None else pages}")

            assert ledger._writer is not None
            if ledger._writer._connection is not None:
                ledger.transact(set_limit)

        limit(None)
        with pytest.raises(StoreFull, match="full"):
            writes.finish(f"{run}.1", output="o" * 100_000)
        assert queries.task(ledger, f"{run}.1").state == TaskState.RUNNING
        assert writes.now_budget().spent_nano == 0
        assert ledger.new_run() == 2  # small things still work
        limit(1_000_000)
        writes.finish(f"{run}.1", output="o" * 100_000)
        assert writes.now_budget().spent_nano == 70
        assert writes.now_budget().reserved_nano == 0


def test_readers_see_one_moment_and_hold_nobody_up(path: Path) -> None:
    """A long read sees none of the commits made meanwhile, and the writer does not wait for it."""
    with Ledger.open(path) as ledger:
        writes: Writes = writes_into(ledger)
        run = writes.accept(["a"])
        count = text("SELECT count(*) FROM event")
        with ledger.reading() as connection:
            before = connection.execute(count).scalar_one()
            writes(ev.Warned(1.0, "meanwhile"))
            assert connection.execute(count).scalar_one() == before
        with ledger.reading() as connection:
            assert connection.execute(count).scalar_one() == before + 1
        seen: list[int] = []

        def look() -> None:
            seen.append(len(queries.tasks(ledger, run)))

        threads = [threading.Thread(target=look) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert seen == [1] * 8


def test_a_ledger_of_version_1_is_brought_up(path: Path) -> None:
    """A ledger whose attempts have no names for their requests is migrated with all that is in it, and takes them."""
    with Ledger.open(path) as ledger:
        writes = writes_into(ledger)
        run = writes.accept(["a", "b"])
        writes.start(f"{run}.1")
        writes.finish(f"{run}.1", output="before")
    with sqlite3.connect(path) as other:
        other.executescript(
            "ALTER TABLE attempt DROP COLUMN request;"
            "UPDATE meta SET value = 1 WHERE key = 'schema_version'; PRAGMA user_version = 1"
        )
    with Ledger.open(path) as ledger:
        writes = writes_into(ledger)
        writes.start(f"{run}.2")
        result = TurnResult(output="after")
        writes(ev.AttemptEnded(1.0, f"{run}.2", 1, AttemptState.COMPLETED, result, request="name"))
        outputs = [queries.attempts(ledger, f"{run}.{number}")[0].result for number in (1, 2)]
        assert [result.output for result in outputs if result] == ["before", "after"]
        assert find_answers(ledger, ["name"])["name"].task_id == f"{run}.2"
