"""What metrics are made of: tasks and attempts as arrays, those that are asked for, each with its keys.

Invariants: each task and each attempt is in it at most once. An attempt belongs to the time at which it started, to the
model that answered it and to its slot; a task belongs where its last attempt does, and where it has none, to the time
at which it was accepted. So every key but `tag` puts each of them into exactly one group.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import Connection, Table, select

from claude_pool_nb.analysis import columns as col
from claude_pool_nb.analysis.costs import TOKENS
from claude_pool_nb.analysis.keys import METRIC_KEYS
from claude_pool_nb.analysis.periods import Period
from claude_pool_nb.errors import ConfigError, nearest
from claude_pool_nb.records import PLAY_BACKENDS
from claude_pool_nb.store import queries, schema
from claude_pool_nb.store.ids import typed_runs
from claude_pool_nb.store.ledger import Ledger

Arrays = dict[str, Any]
"""Columns by name, all of one length."""


@dataclass(frozen=True, slots=True)
class Key:
    """One thing to group by: a code for every task and every attempt, and what the codes stand for."""

    name: str
    """What the column is called."""
    tasks: Any
    """A code for each task; -1 for none."""
    attempts: Any
    """A code for each attempt."""
    size: int
    """How many codes there are."""
    values: Callable[[Any], Any]
    """From codes to a typed column; codes are in the order of their values."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Tasks and attempts that count, in the order of the ledger; with the key `tag` one may be there more than once."""

    tasks: Arrays
    """One value for each task."""
    attempts: Arrays
    """One value for each attempt."""
    keys: tuple[Key, ...]
    """What to group by, the kind of money first."""
    limits: Mapping[int, int | None]
    """The wall of each budget by its id, in nanodollars."""
    totals: tuple[Mapping[str, Any], ...]
    """Of each kind of money, what there is in all: `play_money`, `tasks`, `attempts`, `cost_nano`."""


def read_rows(
    ledger: Ledger,
    by: Sequence[str] = (),
    *,
    run_ids: Iterable[str] | None = None,
    period: Period | None = None,
    tags: Iterable[str] = (),
    models: Iterable[str] = (),
) -> Rows:
    """Read what is asked for.

    Args:
        ledger: where to read.
        by: of `METRIC_KEYS`, input columns or grid keys.
        run_ids: only of these runs.
        period: only what started then.
        tags: only of tasks with one of these tags.
        models: only what one of these models answered or was asked for.

    Raises:
        ConfigError: there is nothing of such a name to group by.
        RunNotFound: an id is no run's id.

    Example:
        >>> with Ledger.open(":memory:") as ledger:
        ...     len(read_rows(ledger).tasks["state"])
        0
    """
    inputs = [name for name in by if name not in METRIC_KEYS]
    runs, tasks, attempts, limits = _read(ledger, run_ids, with_inputs=bool(inputs))
    keys = _Keys(runs, tasks, attempts)
    for name in inputs:
        keys.must_know(name)
    wanted = list(tags)
    pick_tasks, pick_attempts = _picked(tasks, attempts, period, wanted, list(models))
    totals = _totals(tasks["play"][pick_tasks], attempts["play"][pick_attempts], attempts["cost_nano"][pick_attempts])
    made = {name: keys.key(name) for name in ("play_money", *by) if name != "tag"}
    if "tag" in by:
        names, tags_of = _tags_of(tasks["tags"], wanted)
        pick_tasks, task_codes = _once_for_each(pick_tasks, pick_tasks, tags_of)
        pick_attempts, attempt_codes = _once_for_each(pick_attempts, attempts["task"][pick_attempts], tags_of)
        made["tag"] = Key("tag", task_codes, attempt_codes, len(names), lambda codes: col.text(_at(names, codes)))
    return Rows(
        tasks=_taken(tasks, pick_tasks),
        attempts=_taken(attempts, pick_attempts),
        keys=tuple(
            made[name]
            if name == "tag"
            else Key(
                name,
                made[name].tasks[pick_tasks],
                made[name].attempts[pick_attempts],
                made[name].size,
                made[name].values,
            )
            for name in ("play_money", *by)
        ),
        limits=limits,
        totals=totals,
    )


# -- reading -----------------------------------------------------------------------------------------------------------


def _read(
    ledger: Ledger, run_ids: Iterable[str] | None, *, with_inputs: bool
) -> tuple[Arrays, Arrays, Arrays, dict[int, int | None]]:
    """Runs, tasks and attempts, all of one moment, and the walls of budgets."""
    numbers = None if run_ids is None else typed_runs(run_ids)
    b = schema.budget.c
    task_makers: dict[str, Callable[[Any], Any]] = {
        "number": col.whole, "state": col.task_state, "created_at": col.number, "started_at": col.number,
        "failure_kind": col.failure_kind, "tags": col.category, "profile": col.category, "conversation": col.category,
        "role": col.category, "requested_model": list, **({"inputs": list} if with_inputs else {}),
    }  # fmt: skip
    attempt_makers: dict[str, Callable[[Any], Any]] = {
        "task": col.whole, "number": col.whole, "state": col.attempt_state, "slot_id": _slot_ids,
        "requested_model": list, "model": col.category, "failure_kind": col.failure_kind, "cost_nano": col.whole,
        "cost_basis": col.cost_basis, "reserved_nano": col.whole, **dict.fromkeys((*TOKENS, "turns"), col.whole),
        "late": col.flag, "started_at": col.number, "finished_at": col.number, "duration_s": col.number,
        "api_s": col.number, "budget_id": lambda values: col.whole([value or 0 for value in values]),
    }  # fmt: skip
    with ledger.reading() as connection:
        budgets = [tuple(row) for row in connection.execute(select(b.id, b.limit_nano, b.play_money))]
        run_makers = dict.fromkeys(("backend", "pool", "verb", "budget", "meta"), list)
        runs = _arrays(connection, schema.run, {"number": col.whole, **run_makers}, numbers)
        tasks = _arrays(connection, schema.task, {"run": col.whole, **task_makers}, numbers)
        attempts = _arrays(connection, schema.attempt, {"run": col.whole, **attempt_makers}, numbers)
    key = tasks["run"] * 2**32 + tasks["number"]
    tasks["run"] = np.searchsorted(runs["number"], tasks["run"])  # from here on positions
    attempts["task"] = np.searchsorted(key, attempts.pop("run") * 2**32 + attempts["task"])
    last = np.full(len(key), -1, dtype=np.int64)
    last[attempts["task"]] = np.arange(len(attempts["task"]))  # attempts are in order: a task's last one stays
    tasks["last"] = last
    play_of_run = col.flag([backend in PLAY_BACKENDS for backend in runs["backend"]])
    tasks["play"] = play_of_run[tasks["run"]]
    attempts["play"] = tasks["play"][attempts["task"]]
    for number, _, play in budgets:
        attempts["play"][attempts["budget_id"] == number] = bool(play)
    tasks["play"][last >= 0] = attempts["play"][last[last >= 0]]
    attempts["counts"] = attempts["number"] > 0  # 0 is an earlier answer that was given again: nobody was asked
    asked, of = tasks["requested_model"], attempts["task"].tolist()
    attempts["requested_model"] = [
        name if counts else asked[task]
        for name, counts, task in zip(attempts["requested_model"], attempts["counts"].tolist(), of, strict=True)
    ]
    given = np.zeros(len(key), dtype=bool)
    given[last >= 0] = ~attempts["counts"][last[last >= 0]]
    tasks["started"] = (last >= 0) & ~given
    tasks["cached"] = given | col.flag([backend == "replay" for backend in runs["backend"]])[tasks["run"]]
    tasks["failure_seen"] = np.full(len(key), -1, dtype=np.int64)
    seen = np.where(attempts["state"] == "failed", attempts["failure_kind"].codes, -1)
    tasks["failure_seen"][last >= 0] = seen[last[last >= 0]]
    cost = np.bincount(attempts["task"], weights=attempts["cost_nano"], minlength=len(key))
    tasks["cost_nano"] = np.asarray(cost, dtype=np.int64)
    attempts["backend"] = col.category(runs["backend"])[tasks["run"]][attempts["task"]]
    attempts["pool"] = col.whole(runs["pool"])[tasks["run"]][attempts["task"]]
    return runs, tasks, attempts, {number: limit for number, limit, _ in budgets}


def _slot_ids(values: Sequence[Any]) -> Any:
    """Ids of slots, s10 after s9; an answer that was given again had none."""
    return col.category(values, sorted(set(values) - {""}, key=lambda name: (len(name), name)))


def _arrays(
    connection: Connection, table: Table, makers: Mapping[str, Callable[[Any], Any]], runs: Sequence[int] | None
) -> Arrays:
    """Some columns of a table, in the order of its keys."""
    query = select(*(table.c[name] for name in makers)).order_by(*table.primary_key.columns)
    if runs is not None:
        query = query.where((table.c.number if table is schema.run else table.c.run).in_(runs))
    columns = queries.plain_columns(connection, query)
    return {name: make(values) for (name, make), values in zip(makers.items(), columns, strict=True)}


# -- what counts -------------------------------------------------------------------------------------------------------


def _picked(
    tasks: Arrays, attempts: Arrays, period: Period | None, tags: Sequence[str], models: Sequence[str]
) -> tuple[Any, Any]:
    """The positions of tasks and attempts that pass all filters."""
    keep_tasks = np.ones(len(tasks["last"]), dtype=bool)
    keep_attempts = attempts["counts"].copy()
    last, of = tasks["last"], attempts["task"]
    if period is not None:
        during = period.holds(attempts["started_at"])
        keep_attempts &= during
        keep_tasks &= _of_last(during, last, period.holds(tasks["created_at"]))
    if models:
        names = {name.lower() for name in models}
        asked = col.flag([name is not None and name.lower() in names for name in attempts["requested_model"]])
        chosen = asked | _among(attempts["model"], names)
        without = col.flag([name is not None and name.lower() in names for name in tasks["requested_model"]])
        keep_attempts &= chosen
        keep_tasks &= _of_last(chosen, last, without)
    if tags:
        wanted = [bool(set(text.split()) & set(tags)) for text in tasks["tags"].categories]
        tagged = np.array(wanted, dtype=bool)[tasks["tags"].codes] if wanted else keep_tasks
        keep_tasks &= tagged
        keep_attempts &= tagged[of]
    return np.flatnonzero(keep_tasks), np.flatnonzero(keep_attempts)


def _among(values: Any, names: set[str]) -> Any:
    """Which of a category's values are among some names, whatever their case."""
    fits = np.array([*(str(name).lower() in names for name in values.categories), False], dtype=bool)
    return fits[values.codes]  # the code -1 is the last one


def _of_last(of_attempts: Any, last: Any, without: Any) -> Any:
    """What holds of each task: what does of its last attempt; `without` where it has none."""
    if not len(of_attempts):
        return without
    return np.where(last >= 0, of_attempts[last], without)


def _taken(arrays: Arrays, places: Any) -> Arrays:
    """The columns at some places; lists are left out, they only serve keys and filters."""
    return {name: values[places] for name, values in arrays.items() if not isinstance(values, list)}


def _totals(task_play: Any, attempt_play: Any, cost_nano: Any) -> tuple[Mapping[str, Any], ...]:
    """What there is in all, each kind of money for itself."""
    return tuple(
        {
            "play_money": play,
            "tasks": int((task_play == play).sum()),
            "attempts": int((attempt_play == play).sum()),
            "cost_nano": int(cost_nano[attempt_play == play].sum()),
        }
        for play in (False, True)
        if (task_play == play).any() or (attempt_play == play).any()
    )


# -- tags --------------------------------------------------------------------------------------------------------------


def _tags_of(tags: Any, wanted: Sequence[str]) -> tuple[list[str], Callable[[Any], tuple[Any, Any]]]:
    """The names of tags in order, and from positions of tasks to how many tags each has, and all their codes."""
    of_text = [sorted(set(text.split()) & set(wanted) if wanted else set(text.split())) for text in tags.categories]
    of_text = [names or [""] for names in of_text]
    names = sorted({name for some in of_text for name in some})
    code_of = {name: code for code, name in enumerate(names)}
    lengths = np.array([len(some) for some in of_text], dtype=np.int64)
    width = max((len(some) for some in of_text), default=0)
    codes = np.full((len(of_text), width), -1, dtype=np.int64)
    for row, some in enumerate(of_text):
        codes[row, : len(some)] = [code_of[name] for name in some]

    def find(tasks: Any) -> tuple[Any, Any]:
        texts = tags.codes[tasks]
        found = codes[texts]
        return lengths[texts], found[found >= 0]

    return names, find


def _once_for_each(places: Any, tasks: Any, tags_of: Callable[[Any], tuple[Any, Any]]) -> tuple[Any, Any]:
    """Each place as often as its task has tags, and the code of the tag for which it stands there."""
    counts, codes = tags_of(tasks)
    return np.repeat(places, counts), codes


# -- keys --------------------------------------------------------------------------------------------------------------


class _Keys:
    """Makes keys out of runs, tasks and attempts."""

    def __init__(self, runs: Arrays, tasks: Arrays, attempts: Arrays) -> None:
        self._runs, self._tasks, self._attempts = runs, tasks, attempts
        self._inputs: list[dict[str, Any]] | None = None

    def must_know(self, name: str) -> None:
        """Refuse what is neither a key nor a column that some task was made from."""
        values = self._input_values()
        known = {str(column) for meta in self._runs["meta"] for column in json.loads(meta).get("columns") or ()}
        known |= {column for one in values for column in one}
        if name.removeprefix("input_") not in known and name not in known:
            raise ConfigError(f"metrics cannot be grouped by {name!r}{nearest(name, {*METRIC_KEYS, *known})}")

    def key(self, name: str) -> Key:
        """A key by its name."""
        tasks, attempts, runs = self._tasks, self._attempts, self._runs
        match name:
            case "play_money":
                return Key(name, tasks["play"].astype(np.int64), attempts["play"].astype(np.int64), 2, col.flag)
            case "day" | "hour" | "month":
                return self._time(name)
            case "model" | "slot_id":
                codes = attempts[name].codes.astype(np.int64)
                return self._words(name, self._from_last(codes, -1), codes, attempts[name].categories)
            case "requested_model":
                both = col.category([*tasks[name], *attempts[name]])
                cut = len(tasks[name])
                codes = both.codes.astype(np.int64)
                last = self._from_last(codes[cut:], codes[:cut])
                return self._words(name, last, codes[cut:], both.categories)
            case "run_id":
                of_run = tasks["run"]
                ids = [f"r{number}" for number in runs["number"]]
                return self._of_tasks(name, of_run, len(ids), lambda codes: col.text(_at(ids, codes)))
            case "backend" | "verb" | "budget":
                known = col.category(runs[name])
                return self._words_of_tasks(name, known.codes.astype(np.int64)[tasks["run"]], known.categories)
            case "pool_id":
                numbers, of_run = np.unique(col.whole(runs["pool"]), return_inverse=True)
                ids = [f"p{number}" for number in numbers]
                return self._of_tasks(name, of_run[tasks["run"]], len(ids), lambda codes: col.text(_at(ids, codes)))
            case "conversation":
                known = tasks[name]
                names = list(known.categories)
                codes = known.codes.astype(np.int64)
                return self._of_tasks(name, codes, len(names), lambda codes: col.text(_at(names, codes)))
            case "state":
                return self._of_tasks(name, *_coded(tasks[name]), lambda codes: _from_codes(tasks[name], codes))
            case "failure_kind" | "profile" | "role":
                return self._of_tasks(name, *_coded(tasks[name]), lambda codes: _from_codes(tasks[name], codes))
            case _:
                return self._input(name)

    def _from_last(self, of_attempts: Any, without: Any) -> Any:
        """A code for each task: that of its last attempt."""
        return _of_last(of_attempts, self._tasks["last"], np.broadcast_to(without, self._tasks["last"].shape))

    def _of_tasks(self, name: str, codes: Any, size: int, values: Callable[[Any], Any]) -> Key:
        """A key that an attempt has from its task."""
        return Key(name, codes, codes[self._attempts["task"]], size, values)

    def _words_of_tasks(self, name: str, codes: Any, words: Any) -> Key:
        return self._words(name, codes, codes[self._attempts["task"]], words)

    def _words(self, name: str, tasks: Any, attempts: Any, words: Any) -> Key:
        """A key with a small set of words."""
        return Key(name, tasks, attempts, len(words), lambda codes: pd.Categorical.from_codes(codes, categories=words))

    def _time(self, name: str) -> Key:
        """A key of the time at which something was begun."""
        started = self._attempts["started_at"]
        begun = self._from_last(started, self._tasks["created_at"])
        both = pd.DatetimeIndex(col.instant(np.concatenate([begun, started]))).tz_localize(None)
        unit = {"day": "D", "hour": "h", "month": "M"}[name]
        cut = both.to_numpy().astype(f"M8[{unit}]").astype("M8[us]")
        instants, codes = np.unique(cut, return_inverse=True)

        def values(codes: Any) -> Any:
            return pd.DatetimeIndex(instants[codes]).tz_localize("UTC").array

        return Key(name, codes[: len(begun)], codes[len(begun) :], len(instants), values)

    def _input(self, name: str) -> Key:
        """A key that is a column of the input, or of the grid."""
        own = name
        given = self._input_values()
        if not any(own in one for one in given):
            own = name.removeprefix("input_")
        column = pd.Series(col.inferred([one.get(own) for one in given]))
        codes, uniques = pd.factorize(column, sort=True)
        known = pd.Series(uniques, dtype=column.dtype)

        def values(codes: Any) -> Any:
            return known.reindex(np.where(codes < 0, len(known), codes)).array

        return self._of_tasks(name, codes.astype(np.int64), len(known), values)

    def _input_values(self) -> list[dict[str, Any]]:
        """The input columns of each task."""
        if self._inputs is None:
            texts = self._tasks["inputs"]
            parsed = json.loads(f"[{','.join(text or 'null' for text in texts)}]")  # one call takes half the time
            self._inputs = [(one or {}).get("values") or {} for one in parsed]
        return self._inputs


def _coded(values: Any) -> tuple[Any, int]:
    """The codes of a category, and how many there are."""
    return values.codes.astype(np.int64), len(values.categories)


def _from_codes(like: Any, codes: Any) -> Any:
    """A category with other codes."""
    return pd.Categorical.from_codes(codes, dtype=like.dtype)


def _at(names: Sequence[str], codes: Any) -> list[str | None]:
    """Names by their codes."""
    return [None if code < 0 else names[code] for code in codes]
