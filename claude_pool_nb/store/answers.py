"""Answers in the ledger, found by the request that they were given to.

Invariants: only whole answers are found, those of completed attempts, whether or not anybody thought of asking again
when they were given; of several the newest; what is found cost nothing and used nothing, because nobody is asked again.
Names are indexed from the first time that somebody looks for one: they are random, so that an index of them costs
every attempt as much as its row does, also where nobody ever looks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import TypeVar
from weakref import WeakSet

from sqlalchemy import Connection, select, text

from claude_pool_nb.records import EarlierAnswer, TurnResult
from claude_pool_nb.store import schema
from claude_pool_nb.store.ledger import Ledger

T = TypeVar("T")

PART = 500
"""So many keys are asked for at once."""
INDEX = "CREATE INDEX IF NOT EXISTS attempt_request ON attempt (request) WHERE request IS NOT NULL"

_indexed: WeakSet[Ledger] = WeakSet()
"""Ledgers whose names are known to be indexed."""


def find_answers(ledger: Ledger, requests: Iterable[str]) -> dict[str, EarlierAnswer]:
    """The newest answer to each of some requests, where there is one.

    Args:
        ledger: where to look.
        requests: names of requests, as attempts have them.

    Raises:
        StoreError: the ledger cannot be used.

    Example:
        >>> with Ledger.open(":memory:") as ledger:
        ...     find_answers(ledger, ["no such request"])
        {}
    """
    attempt = schema.attempt.c
    newest: dict[str, tuple[int, int, int]] = {}
    found: dict[str, EarlierAnswer] = {}
    if ledger not in _indexed and not ledger.read_only:
        ledger.transact(_index)
        _indexed.add(ledger)
    with ledger.reading() as connection:
        for part in _parts(dict.fromkeys(requests)):
            keys = select(attempt.request, attempt.run, attempt.task, attempt.number).where(attempt.request.in_(part))
            for request, *key in connection.execute(keys):
                newest[request] = max(newest.get(request, (0, 0, 0)), (key[0], key[1], key[2]))
        by_run: dict[int, dict[int, list[tuple[int, str]]]] = {}
        for request, (run, task, number) in newest.items():
            by_run.setdefault(run, {}).setdefault(task, []).append((number, request))
        for run, tasks in by_run.items():
            for some in _parts(tasks):
                rows = connection.execute(
                    select(
                        attempt.task, attempt.number, attempt.model, attempt.warnings, attempt.structured,
                        attempt.output,
                    ).where(attempt.run == run, attempt.task.in_(some))
                )  # fmt: skip
                for row in rows:
                    for number, request in tasks[row.task]:
                        if number == row.number:
                            result = TurnResult(
                                output=row.output or "",
                                model=row.model,
                                structured=None if row.structured is None else json.loads(row.structured),
                                warnings=tuple(json.loads(row.warnings)) if row.warnings else (),
                            )
                            found[request] = EarlierAnswer(f"r{run}.{row.task}", result)
    return found


def _index(connection: Connection) -> None:
    """Index the names of requests, where that was not done before."""
    connection.execute(text(INDEX))


def _parts(values: Iterable[T]) -> Iterator[list[T]]:
    """Lists of at most `PART` values."""
    every = list(values)
    for start in range(0, len(every), PART):
        yield every[start : start + PART]
