"""The variants of an experiment, and which of their tasks belong to the same row.

Invariants: every task of the runs is in exactly one variant and in exactly one row; a row is one of the input (told by
its label in the index, or by columns that the caller names), and, where a grid is compared in part, one cell of its
rest; rows keep the order of the runs they come from.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from claude_pool_nb.analysis.again import own_columns
from claude_pool_nb.display.text import count
from claude_pool_nb.errors import ConfigError, nearest

AGREE: Final = "agree"
"""The column that says whether all variants that answered a row agree."""
COLUMN_OF: Final = {"model": "requested_model"}
"""Columns that tell a key of the grid, where they have another name."""


@dataclass(frozen=True, slots=True)
class Source:
    """A run to compare.

    Example:
        >>> Source("r1", pd.DataFrame()).grid
        ()
    """

    run_id: str
    """Its id."""
    frame: pd.DataFrame
    """Its frame."""
    grid: tuple[str, ...] = ()
    """What tells the tasks of one row apart, but for samples: columns of the frame."""

    @classmethod
    def of(cls, run_id: str, frame: pd.DataFrame, meta: str) -> Source:
        """A run with the form of its input.

        Example:
            >>> Source.of("r1", pd.DataFrame(), '{"grid": {"model": ["haiku", "sonnet"]}}').grid
            ('requested_model',)
        """
        known = json.loads(meta)
        several = ["template"] if isinstance(known.get("template"), dict) else []
        names = [*several, *(known.get("grid") or {})]
        return cls(run_id, frame, tuple(COLUMN_OF.get(name, name) for name in names))


# -- variants ----------------------------------------------------------------------------------------------------------

Part = tuple[Source, list[int]]
"""A run, and the positions of the tasks of one variant."""


def listed(by: str | Sequence[str] | None) -> list[str]:
    """One name or several, as a list."""
    return [by] if isinstance(by, str) else list(by or ())


def variants_of(sources: Sequence[Source], by: Sequence[str]) -> dict[tuple[Any, ...], Part]:
    """The tasks of each variant; what names it are the run (if there are several) and the values it was split by."""
    parts: dict[tuple[Any, ...], Part] = {}
    several = len(sources) > 1
    ids = [source.run_id for source in sources]
    if len(set(ids)) < len(ids):
        twice = next(one for one in ids if ids.count(one) > 1)
        raise ConfigError(f"{twice} is there twice; a run is compared with another one, or split with by=")
    for source in sources:
        names = split_by(source, sources, by)
        columns = [source.frame[name].astype(object).tolist() for name in names]
        head = (source.run_id,) if several else ()
        for place, values in enumerate(zip(*columns, strict=True) if columns else [()] * len(source.frame)):
            key = (*head, *(None if is_missing(value) else value for value in values))
            parts.setdefault(key, (source, []))[1].append(place)
    return parts


def split_by(source: Source, sources: Sequence[Source], by: Sequence[str]) -> list[str]:
    """The columns that make variants of a run."""
    if not by:
        if len(sources) == 1:
            models = ["requested_model"] if source.frame["requested_model"].nunique() > 1 else []
            return list(source.grid) or models
        return [name for name in source.grid if not all(name in other.grid for other in sources)]
    names = []
    for name in by:
        column = COLUMN_OF.get(name, name)
        if column not in source.frame.columns:
            choices = ["model", *source.grid, *own_columns(source.frame)]
            raise ConfigError(f"by: {source.run_id} has no column {name!r}{nearest(name, choices)}")
        names.append(column)
    return names


def too_few(sources: Sequence[Source], by: Sequence[str]) -> str:
    """Why there is nothing to compare, and what to write instead."""
    run_id = sources[0].run_id
    empty = next((source.run_id for source in sources if not len(source.frame)), None)
    if empty is not None:
        return f"{empty} has no rows, so there is nothing to compare"
    if by:
        return (
            f"all of {run_id} has the same {', '.join(by)}, so there is nothing to compare; name another run beside it"
        )
    return (
        f"{run_id} alone has one variant: name a second run, a column to split it by (by='model'), "
        "or a column of expected answers (expect='label')"
    )


def names_of(parts: Mapping[tuple[Any, ...], Part], taken: Iterable[Any], alone: str) -> dict[tuple[Any, ...], str]:
    """A name for each variant, that no column of the frame has."""
    reserved = {*map(str, taken), AGREE}
    names = {key: " / ".join("none" if value is None else str(value) for value in key) or alone for key in parts}
    if len(set(names.values())) < len(names) or reserved & set(names.values()):
        names = {key: f"variant {name}" for key, name in names.items()}
    while len(set(names.values())) < len(names) or reserved & set(names.values()):
        names = {key: f"{place}: {name}" for place, (key, name) in enumerate(names.items(), start=1)}
    return names


# -- rows --------------------------------------------------------------------------------------------------------------


class Rows:
    """The rows of a comparison, and which of them each task belongs to.

    Args:
        sources: The runs.
        on: Columns of the input that tell rows apart; the index if there are none.
        told: Columns that make variants; the rest of the grid tells rows apart.

    Example:
        >>> Rows([Source("r1", pd.DataFrame({"row": [0, 0, 1]}, index=["x", "x", "x"]))], [], []).of_task
        {'r1': [('x', 0), ('x', 0), ('x', 1)]}
    """

    def __init__(self, sources: Sequence[Source], on: Sequence[str], told: Iterable[str]) -> None:
        self.sources = sources
        hidden = set(told)
        self.rest = [n for n in sources[0].grid if n not in hidden and all(n in source.grid for source in sources)]
        self.keys: dict[Hashable, tuple[int, int]] = {}
        """Each row, in order, and where a task of it stands: number of the run, position."""
        self.of_task: dict[str, list[Hashable]] = {}
        """By run, the row of each task."""
        for number, source in enumerate(sources):
            keys: list[Hashable] = [*_labels(source)] if not on else _named(source, on)
            for name in self.rest:
                values = map(_hashable, source.frame[name].astype(object).tolist())
                keys = list(zip(keys, values, strict=True))
            self.of_task[source.run_id] = keys
            for place, key in enumerate(keys):
                self.keys.setdefault(key, (number, place))

    def column(self, name: str, what: str) -> dict[Hashable, Any]:
        """A column of the input, by row.

        Raises:
            ConfigError: no run has it.
        """
        found: dict[Hashable, Any] = {}
        known: dict[str, None] = {}
        for source in self.sources:
            own = own_columns(source.frame)
            known.update(dict.fromkeys(own))
            if name in own:
                values = source.frame[own[name]].astype(object).tolist()
                for key, value in zip(self.of_task[source.run_id], values, strict=True):
                    found.setdefault(key, value)
        if not found:
            there = nearest(name, known) if known else "; the runs have no columns of their own, only prompts"
            raise ConfigError(f"{what}: the input has no column {name!r}{there}")
        return found

    def aligned(self, given: pd.Series[Any], what: str) -> dict[Hashable, Any]:
        """A Series with the index of the input, by row.

        Raises:
            ConfigError: it is no Series, no run has a row of that index, or its labels repeat otherwise than the rows'.
        """
        if not isinstance(given, pd.Series):
            raise ConfigError(
                f"{what} takes the name of a column, or a Series with the index of the input, "
                f"not a {type(given).__name__}"
            )
        by_label: dict[Hashable, list[Any]] = {}
        for label, value in zip(map(_hashable, given.index.tolist()), given.astype(object).tolist(), strict=True):
            by_label.setdefault(label, []).append(value)
        found: dict[Hashable, Any] = {}
        for source in self.sources:
            labels = _labels(source)
            rows_of = Counter(label for label, _ in set(labels))
            for key, (label, nth) in zip(self.of_task[source.run_id], labels, strict=True):
                values = by_label.get(label)
                if values is None:
                    continue
                same = len({_hashable(value) for value in values}) == 1
                if len(values) != rows_of[label] and not same:
                    raise ConfigError(
                        f"{what}: the Series has {len(values)} values for {label!r}, and {source.run_id} "
                        f"{count(rows_of[label], 'such row')}; make it from the frame that was mapped"
                    )
                found.setdefault(key, values[0] if same else values[nth])
        if not found:
            raise ConfigError(
                f"{what}: no row of {self.sources[0].run_id} is in the index of the Series; "
                "make it from the frame that was mapped"
            )
        return found

    def front(self, told: Iterable[str]) -> pd.DataFrame:
        """The columns of the input, a row for each row, with its index."""
        hidden = set(told)
        parts = []
        for number, source in enumerate(self.sources):
            places = [place for which, place in self.keys.values() if which == number]
            names = [name for name in own_columns(source.frame).values() if name not in hidden]
            names += [name for name in self.rest if name not in names]
            if not names and self._one_prompt_each():
                names = ["prompt"]
            if places or not number:
                parts.append(pd.DataFrame(source.frame)[names].iloc[places])
        return parts[0] if len(parts) == 1 else pd.concat(parts)

    def _one_prompt_each(self) -> bool:
        """Whether all variants asked the same of a row."""
        asked = {
            (key, prompt)
            for source in self.sources
            for key, prompt in zip(self.of_task[source.run_id], source.frame["prompt"].tolist(), strict=True)
        }
        return len(asked) == len(self.keys)


def _labels(source: Source) -> list[tuple[Hashable, int]]:
    """The label of each task's row, and which of the rows with that label it is."""
    met: dict[Hashable, dict[int, int]] = {}
    keys: list[tuple[Hashable, int]] = []
    for label, row in zip(map(_hashable, source.frame.index.tolist()), source.frame["row"].tolist(), strict=True):
        rows = met.setdefault(label, {})
        keys.append((label, rows.setdefault(row, len(rows))))
    return keys


def _named(source: Source, on: Sequence[str]) -> list[Hashable]:
    """The values of columns that tell rows apart.

    Raises:
        ConfigError: they do not, or are not there.
    """
    frame, own = source.frame, own_columns(source.frame)
    for name in on:
        if name not in frame.columns:
            raise ConfigError(f"on: {source.run_id} has no column {name!r}{nearest(name, own)}")
    columns = [frame[name].astype(object).tolist() for name in on]
    keys = [tuple(map(_hashable, values)) for values in zip(*columns, strict=True)]
    row_of: dict[Hashable, int] = {}
    for key, row in zip(keys, frame["row"].tolist(), strict=True):
        if row_of.setdefault(key, row) != row:
            raise ConfigError(
                f"on: {', '.join(on)} does not tell the rows of {source.run_id} apart: "
                f"{', '.join(map(str, key))} is there twice; add a column to on"
            )
    return list(keys)


def _hashable(value: Any) -> Hashable:
    if is_missing(value):
        return None
    return json.dumps(value, default=str) if isinstance(value, list | dict) else value


def is_missing(value: Any) -> bool:
    """Whether there is no value: None, NaN, NaT or NA."""
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value)  # noqa: PLR0124
