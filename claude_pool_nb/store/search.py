"""Full-text search over prompts and answers of all tasks in the ledger.

SQLite's FTS5 keeps an index of words, not of texts. Nobody pays for it but those who search: each search takes what is
new into it, for about a second and in small transactions that running tasks hardly notice, and looks through the texts
of what the index does not have yet. The same is done with all texts where there is no such index (another database, an
SQLite without FTS5, a ledger that is opened read only), and for signs and scripts that put no spaces between words.

Invariants: what is found is found in the latest prompt or answer of a task, and is the same whether the index has it or
not; a row of `search_task` says that the index has its task as it is now; the index is derived, may be dropped at any
time, and keeps nothing of a pruned task.
"""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, and_, column, delete, exists, func, or_, select, table, text
from sqlalchemy.exc import DBAPIError

from claude_pool_nb.errors import StoreError
from claude_pool_nb.records import FINAL_STATES
from claude_pool_nb.store import schema
from claude_pool_nb.store.opening import translate

if TYPE_CHECKING:
    from claude_pool_nb.store.ledger import Ledger

log = logging.getLogger("claude_pool_nb")

INDEX_S = 1.0
"""For so long a search takes tasks into the index."""
PART = 250
"""So many in one transaction: every prompt waits for a commit."""
MARK = "search_event"
"""The key in `meta` of the last event that the index was told of."""
_MOST = 50_000
_CHANGES = ("task_pending", "task_cached", "task_reopened", "attempt_ended")
"""Events after which a task's texts may be others."""
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
"""Scripts that put no spaces between words: for the index a sentence of theirs would be one word."""
_ACCENTS = "".join(chr(768 + at) for at in range(50) if 0x361F8_08029FDF >> at & 1)
"""What FTS5 takes for a part of the letter before it."""
_SIGN = rf"(?:[^\w{_ACCENTS}]|_)"
_PIECE = re.compile(rf"[^\W_](?:[^\W_]|[{_ACCENTS}])*")
_TABLES = (
    "CREATE TABLE search_task (doc INTEGER PRIMARY KEY AUTOINCREMENT, run INTEGER NOT NULL, task INTEGER NOT NULL, "
    "UNIQUE (run, task))",
    "CREATE VIRTUAL TABLE search USING fts5(prompt, output, content='', columnsize=0, "
    "tokenize='unicode61 remove_diacritics 0')",
    # merged by hand in small steps: left to itself it takes three times as long, at the worst moments
    "INSERT INTO search (search, rank) VALUES ('automerge', 0)",
    "INSERT INTO search (search, rank) VALUES ('crisismerge', 1000)",
)
_MERGE = "INSERT INTO search (search, rank) VALUES ('merge', 100)"
_TAKE = (
    "INSERT INTO search (rowid, prompt, output) SELECT d.doc, t.prompt, a.output FROM search_task d "
    "JOIN task t ON t.run = d.run AND t.number = d.task LEFT JOIN attempt a "
    "ON a.run = t.run AND a.task = t.number AND a.number = t.attempts WHERE d.doc > :before"
)

_known = table("search_task", column("doc"), column("run"), column("task"))


@dataclass(frozen=True, slots=True)
class Word:
    """Something that is looked for."""

    text: str
    """As it was written."""
    quoted: bool = False
    """A quoted one is found as it stands, another one at the beginning of words."""
    pieces: tuple[str, ...] = field(init=False)
    """The words in it; none if it begins or ends with a sign (C++, 100%): then it is found wherever it stands."""

    def __post_init__(self) -> None:
        """Take it apart as the index does."""
        said = _small(self.text)
        within = re.fullmatch(rf"{_SIGN}.*|.*{_SIGN}", said, re.DOTALL) is None and _UNSPACED.search(said) is None
        object.__setattr__(self, "pieces", tuple(_PIECE.findall(said)) if within else ())

    def is_in(self, said: str, spread: str) -> bool:
        """Whether it is in a text in small letters, or in the words of it, as the index finds it."""
        if not self.pieces:
            return _small(self.text) in said
        return f" {' '.join(self.pieces)}{' ' if self.quoted else ''}" in spread


def _small(given: str) -> str:
    """In small letters, as FTS5 has them."""
    return given.lower().replace("ς", "σ")


@dataclass(frozen=True, slots=True)
class Words:
    """What is looked for: all of these, in any order, whatever their case."""

    every: tuple[Word, ...]

    @classmethod
    def of(cls, query: str) -> Words:
        """Split what a person wrote.

        Example:
            >>> [word.text for word in Words.of('rust "borrow checker" poem').every]
            ['rust', 'borrow checker', 'poem']
            >>> Words.of('"never closed').every[0].quoted
            True
        """
        found = re.findall(r'"([^"]*)(?:"|$)|([^\s"]+)', query)
        words = [Word(quoted.strip(), True) if quoted.strip() else Word(plain) for quoted, plain in found]
        return cls(tuple(word for word in words if word.text))

    def match(self) -> str | None:
        """The same for FTS5; None if its index cannot tell.

        Example:
            >>> Words.of('rust "borrow checker"').match()
            '"rust"* AND "borrow checker"'
            >>> Words.of("->").match() is None
            True
        """
        if not all(word.pieces for word in self.every):
            return None
        return " AND ".join(f'"{" ".join(word.pieces)}"{"" if word.quoted else "*"}' for word in self.every)


def find_tasks(
    ledger: Ledger, query: str, *, limit: int | None = None, since_at: float | None = None
) -> list[tuple[int, int]]:
    """The tasks in whose prompt or answer all words occur: run and task numbers, oldest first.

    Args:
        ledger: where to look.
        query: words, and "quoted phrases".
        limit: no more than the latest so many.
        since_at: only tasks accepted from then on, unix seconds.

    Raises:
        StoreError: the ledger cannot be read.

    Example:
        >>> from claude_pool_nb.store.ledger import Ledger
        >>> with Ledger.open(":memory:") as ledger:
        ...     find_tasks(ledger, "rust")
        []
    """
    words = Words.of(query)
    if not words.every:
        return []
    match = words.match()
    indexed = match is not None and _catch_up(ledger)
    with ledger.reading() as connection:
        found = set(_looked_through(connection, words, limit, since_at, rest=indexed))
        if indexed and match is not None:
            found.update(_looked_up(connection, match, limit, since_at))
    return sorted(found)[-limit if limit else 0 :]


def drop_index(connection: Connection) -> None:
    """Forget all that was indexed; the next search begins anew. The caller holds the transaction."""
    if _has_fts5(connection):
        for name in ("search", "search_task"):
            connection.execute(text(f"DROP TABLE IF EXISTS {name}"))
        connection.execute(delete(schema.meta).where(schema.meta.c.key == MARK))


# -- looking -----------------------------------------------------------------------------------------------------------


def _looked_up(connection: Connection, match: str, limit: int | None, since_at: float | None) -> list[tuple[int, int]]:
    """What the index has, the latest first."""
    query = "SELECT d.run, d.task FROM search JOIN search_task d ON d.doc = search.rowid "
    if since_at is not None:
        query += "JOIN task t ON t.run = d.run AND t.number = d.task AND t.created_at >= :since "
    query += "WHERE search MATCH :words ORDER BY d.run DESC, d.task DESC LIMIT :limit"
    given: dict[str, Any] = {"words": match, "limit": -1 if limit is None else limit}
    if since_at is not None:
        given["since"] = since_at
    return [(row[0], row[1]) for row in connection.execute(text(query), given)]


def _looked_through(
    connection: Connection, words: Words, limit: int | None, since_at: float | None, *, rest: bool
) -> list[tuple[int, int]]:
    """What is found in the texts of all tasks, or of the rest that the index does not have; the latest first."""
    task, attempt = schema.task.c, schema.attempt.c
    query = (
        select(task.run, task.number, task.prompt, attempt.output)
        .select_from(
            schema.task.outerjoin(
                schema.attempt,
                and_(attempt.run == task.run, attempt.task == task.number, attempt.number == task.attempts),
            )
        )
        .order_by(task.run.desc(), task.number.desc())
        .execution_options(yield_per=100)
    )
    if since_at is not None:
        query = query.where(task.created_at >= since_at)
    if rest:
        query = query.where(~exists().where(_known.c.run == task.run, _known.c.task == task.number))
    sqlite = connection.dialect.name == "sqlite"
    for word in words.every:
        for piece in word.pieces or (word.text,):
            if piece.isascii():  # the database knows only the letters of ASCII whatever their case
                # SQLite's LIKE takes no notice of case by itself, in half the time
                both = [c.contains if sqlite else c.icontains for c in (task.prompt, attempt.output)]
                query = query.where(or_(*(holds(piece, autoescape=True) for holds in both)))
    found: list[tuple[int, int]] = []
    for run, number, prompt, output in connection.execute(query):
        texts = [(said, f" {' '.join(_PIECE.findall(said))} ") for said in (_small(prompt), _small(output or ""))]
        if all(any(word.is_in(*one) for one in texts) for word in words.every):
            found.append((run, number))
            if limit is not None and len(found) >= limit:
                break
    return found


# -- the index ---------------------------------------------------------------------------------------------------------


def _has_fts5(connection: Connection) -> bool:
    """Whether this is an SQLite that can index words."""
    if connection.dialect.name != "sqlite":
        return False
    return "fts5" in set(connection.execute(text("PRAGMA module_list")).scalars())


def _catch_up(ledger: Ledger) -> bool:
    """Take into the index what is new, as much as there is time for; False if there can be no index."""
    if ledger.read_only:
        return False
    with ledger.reading() as connection:
        if not _has_fts5(connection):
            return False
        last = connection.execute(select(func.max(schema.event.c.id))).scalar() or 0
        known = connection.execute(select(schema.meta.c.value).where(schema.meta.c.key == MARK)).scalar()
    try:
        if known != last:
            ledger.transact(_note_changes)
        _take_new(ledger)
    except StoreError as error:  # a full disk keeps nobody from looking
        log.info("the search index could not be brought up to date: %s", error)
        return False
    return True


def _note_changes(connection: Connection) -> None:
    """Tasks whose texts have changed are not in the index any more."""
    meta, event = schema.meta, schema.event.c
    last = connection.execute(select(func.max(event.id))).scalar() or 0
    known = connection.execute(select(meta.c.value).where(meta.c.key == MARK)).scalar()
    if known is None:
        for statement in _TABLES:
            _tell(connection, text(statement))
        connection.execute(meta.insert(), {"key": MARK, "value": last})
        return
    changed = select(event.run, event.task).where(event.id > known, event.task.is_not(None), event.kind.in_(_CHANGES))
    for run, number in connection.execute(changed.distinct()).all():
        connection.execute(delete(_known).where(_known.c.run == run, _known.c.task == number))
    connection.execute(meta.update().where(meta.c.key == MARK).values(value=last))


def _take_new(ledger: Ledger) -> None:
    """Take final tasks that the index does not have, the oldest first, until the time is over."""
    task = schema.task.c
    new = (
        select(task.run, task.number)
        .where(
            task.state.in_(sorted(FINAL_STATES)),
            ~exists().where(_known.c.run == task.run, _known.c.task == task.number),
        )
        .order_by(task.run, task.number)
        .limit(_MOST)
    )
    with ledger.reading() as connection:
        keys = [{"run": row[0], "task": row[1]} for row in connection.execute(new)]
    end = time.monotonic() + INDEX_S
    for start in range(0, len(keys), PART):
        ledger.transact(partial(_take, keys=keys[start : start + PART]))
        if time.monotonic() >= end:
            break
    if keys:
        ledger.transact(lambda connection: _tell(connection, text(_MERGE)))


def _take(connection: Connection, keys: list[dict[str, int]]) -> None:
    """Take some tasks as they are now."""
    latest = text("SELECT seq FROM sqlite_sequence WHERE name = 'search_task'")
    before = connection.execute(latest).scalar() or 0
    _tell(connection, text("INSERT OR REPLACE INTO search_task (run, task) VALUES (:run, :task)"), keys)
    _tell(connection, text(_TAKE), {"before": before})


def _tell(connection: Connection, statement: Any, given: Any = None) -> None:
    """Execute a statement of the index; what goes wrong is the searcher's matter, not that of who else writes."""
    try:
        connection.execute(statement, given)
    except DBAPIError as error:
        told = translate(error, "of the search index")
        raise told if isinstance(told, StoreError) else StoreError(str(told)) from error
