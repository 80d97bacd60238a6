"""Variants of an experiment side by side: runs, or the models and grid values of one run, row by row.

Invariants: a row of the comparison is a row of the input, whichever variants have it; every task of the runs is counted
in exactly one variant; answers are those of completed tasks only, all others are missing, never empty; play money and
real money are never added up, because each variant is of one run, and costs stay by variant. Free text is compared
without regard to case and spacing, a field of a structured answer (`out_...`) exactly. Of several samples of a row the
majority answers, of equally many the one that came first.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pandas as pd

from claude_pool_nb.analysis import columns as col
from claude_pool_nb.analysis.variants import (
    AGREE,
    Part,
    Rows,
    Source,
    is_missing,
    listed,
    names_of,
    split_by,
    too_few,
    variants_of,
)
from claude_pool_nb.display.comparisons import compared_frame, comparison_html, comparison_text
from claude_pool_nb.display.text import count, one_line
from claude_pool_nb.errors import ConfigError, nearest
from claude_pool_nb.records import PLAY_BACKENDS

RIGHT: Final = "right"
"""Of each variant: whether its answer is the expected one."""
EXPECTED: Final = "expected"
"""The expected answers, where the input has no column of them."""
NO_ANSWER: Final = "(no answer)"
"""In a confusion table: the task did not complete."""
OTHER: Final = "(other)"
"""In a confusion table: answers beyond the most frequent ones."""
MAX_LABELS: Final = 30
"""A confusion table has at most so many different answers."""


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """Variants side by side, as `pool.compare` gives them; it displays as a whole.

    Example:
        >>> from claude_pool_nb import Pool
        >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
        ...     first = pool.fan_out(["What is 6 * 7?", "ping"])
        ...     second = pool.fan_out(["What is 6 * 7?", "Count the words: one two"])
        ...     comparison = pool.compare(first, second)
        >>> comparison.frame["agree"].tolist(), comparison.variants
        ([True, False], ('r1', 'r2'))
    """

    frame: pd.DataFrame
    """One row per row of the input: its columns, a group of columns per variant (`frame["r1"]`), and `agree`."""
    summary: pd.DataFrame
    """One row per variant: rows, answers, agreement with the first variant, accuracy, cost and latency."""
    agreement: pd.DataFrame
    """The share of rows on which each two variants agree, of those that both answered."""
    confusion: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    """By variant, if answers were expected: how often each expected answer (row) was given as each answer (column)."""
    fields: tuple[str, ...] = ("output",)
    """The columns that are compared."""
    notes: tuple[str, ...] = ()
    """What to know of it."""

    @property
    def variants(self) -> tuple[str, ...]:
        """The names of the variants."""
        return tuple(self.summary.index)

    @property
    def differing(self) -> pd.DataFrame:
        """The rows on which the variants that answered do not agree.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     run = pool.fan_out(["What is 6 * 7?"], grid={"model": ["demo-small", "demo-large"]})
            ...     len(pool.compare(run).differing)
            0
        """
        return pd.DataFrame(self.frame)[(~self.frame[AGREE]).fillna(False).astype(bool).to_numpy()]

    def _repr_html_(self) -> str:
        return comparison_html(self)

    def __repr__(self) -> str:
        return comparison_text(self)


def compare(
    sources: Sequence[Source],
    *,
    on: str | Sequence[str] | None = None,
    by: str | Sequence[str] | None = None,
    expect: str | pd.Series[Any] | None = None,
    field: str | None = None,
) -> Comparison:
    """Put variants side by side.

    Args:
        sources: The runs.
        on: Columns of the input that say which rows belong together; the index by default.
        by: Columns that make variants: `model`, or a key of the grid; of one run all keys of its grid by default.
        expect: The column of the input with the expected answers, or a Series of them with the input's index.
        field: The one column to compare, `out_label` or `label` for short; all fields of structured answers, or the
            output, by default.

    Raises:
        ConfigError: there are no two variants, or a column is not there.

    Example:
        >>> tasks = {"run_id": "r1", "task_id": ["r1.1", "r1.2"], "row": 0, "state": "completed", "prompt": "?"}
        >>> numbers = {"cost_usd": 0.1, "duration_s": 1.0, "backend": "claude", "output_tokens": 1}
        >>> answers = {"requested_model": ["haiku", "sonnet"], "output": ["Yes", " yes"]}
        >>> frame = pd.DataFrame({**tasks, **numbers, **answers}, index=[0, 0])
        >>> compare([Source("r1", frame)]).frame["agree"].tolist()
        [True]
    """
    if not sources:
        raise ConfigError("compare takes two runs, or one that is split by its models or its grid")
    names = listed(by)
    parts = variants_of(sources, names)
    if len(parts) < 2 and expect is None:
        raise ConfigError(too_few(sources, names))
    told = {name for source in sources for name in split_by(source, sources, names)}
    rows = Rows(sources, listed(on), told)
    front = rows.front(told)
    expected, named = None, None
    if isinstance(expect, str):
        expected, named = rows.column(expect, "expect"), expect
    elif expect is not None:
        expected = rows.aligned(expect, "expect")
        named = EXPECTED if expect.name is None else str(expect.name)
        if not {named, EXPECTED} & set(front.columns):
            front = front.assign(**{EXPECTED: col.inferred([expected.get(key) for key in rows.keys])})
    fields = _fields(sources, field, named)
    labels = names_of(parts, front.columns, sources[0].run_id)
    cells = {labels[key]: _cells(part, rows, fields) for key, part in parts.items()}
    data: dict[tuple[Any, str], Any] = {(name, ""): front[name].array for name in front.columns}
    types = {name: next(s.frame[name].dtype for s in sources if name in s.frame.columns) for name in fields}
    for label, by_key in cells.items():
        data |= {(label, name): values for name, values in _group(by_key, rows, types, expected).items()}
    agree = [_same([by_key[key] for by_key in cells.values() if key in by_key]) for key in rows.keys]
    data[AGREE, ""] = pd.array(agree, dtype="boolean")
    frame = pd.DataFrame(dict(enumerate(data.values())), index=front.index)
    frame.columns = pd.MultiIndex.from_tuples(list(data), names=["variant", None])
    made = Comparison(
        compared_frame(frame),
        _summary({labels[key]: part for key, part in parts.items()}, cells, fields[0], expected),
        _agreement(cells, rows),
        {label: _confusion(by_key, expected, fields[0]) for label, by_key in cells.items()}
        if expected is not None
        else {},
        tuple(fields),
        tuple(_notes(cells, rows, front, expected, sources, fields)),
    )
    object.__setattr__(made.frame, "_comparison", made)
    return made


# -- answers -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Cell:
    """What a variant has for a row."""

    values: tuple[Any, ...] | None
    """Its answer, by field; None if no sample was completed."""
    plain: tuple[Any, ...] | None
    """The same in the form in which answers are compared."""
    state: str
    """`completed` if a sample was, else the state of the first."""
    samples: int
    """How many there are."""
    votes: int
    """How many of them gave this answer."""
    cost_usd: float
    """Of all of them."""
    duration_s: float
    """On average, of those that have one."""


def _fields(sources: Sequence[Source], field: str | None, expect: str | None) -> list[str]:
    """The columns that are compared: what all runs have of them."""
    structured = [
        name
        for name in sources[0].frame.columns
        if str(name).startswith("out_") and all(name in source.frame.columns for source in sources)
    ]
    if field is not None:
        for name in (field, f"out_{field}"):
            if name in ("output", *structured):
                return [name]
            lacking = [source.run_id for source in sources if name not in source.frame.columns]
            if str(name).startswith("out_") and len(lacking) < len(sources):
                raise ConfigError(f"field: {', '.join(lacking)} has no column {name!r}; compare runs of one schema")
        raise ConfigError(f"field: no run has a column {field!r}{nearest(field, ['output', *structured])}")
    if expect is None or len(structured) == 1:
        return structured or ["output"]
    if f"out_{expect}" in structured:
        return [f"out_{expect}"]
    if structured:
        raise ConfigError(f"expect: which of {', '.join(structured)} is expected to be {expect}? Say field=...")
    return ["output"]


def comparable(value: Any, name: str) -> Any:
    r"""An answer in the form in which it is compared: free text without regard to case and spacing.

    Example:
        >>> comparable("  Very\nGood ", "output"), comparable("Good", "out_label"), comparable(3.0, "output")
        ('very good', 'Good', '3')
    """
    if is_missing(value):
        return None
    if name == "output":
        text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
        return " ".join(text.split()).casefold()
    return json.dumps(value, default=str) if isinstance(value, list | dict) else value


def _cells(part: Part, rows: Rows, fields: Sequence[str]) -> dict[Hashable, _Cell]:
    """By row, what a variant has; of several samples the answer of the majority."""
    source, places = part
    keys = rows.of_task[source.run_id]
    frame = source.frame.iloc[places]
    missing = [None] * len(places)
    answers = zip(*(frame[n].astype(object).tolist() if n in frame.columns else missing for n in fields), strict=True)
    table = zip(
        places, answers, frame["state"].astype(str).tolist(), frame["cost_usd"].tolist(), frame["duration_s"].tolist(),
        strict=True,
    )  # fmt: skip
    found: dict[Hashable, list[tuple[tuple[Any, ...], str, float, float]]] = {}
    for place, answer, state, cost_usd, duration_s in table:
        found.setdefault(keys[place], []).append((answer, state, cost_usd, duration_s))
    return {key: _cell(several, fields) for key, several in found.items()}


def _cell(several: Sequence[tuple[tuple[Any, ...], str, float, float]], fields: Sequence[str]) -> _Cell:
    given = [answer for answer, state, _, _ in several if state == "completed"]
    forms = [tuple(map(comparable, answer, fields)) for answer in given]
    winner, votes = Counter(forms).most_common(1)[0] if forms else (None, 0)
    times = [duration_s for _, _, _, duration_s in several if not is_missing(duration_s)]
    return _Cell(
        values=given[forms.index(winner)] if winner is not None else None,
        plain=winner,
        state="completed" if given else several[0][1],
        samples=len(several),
        votes=votes,
        cost_usd=sum(cost_usd for _, _, cost_usd, _ in several if not is_missing(cost_usd)),
        duration_s=sum(times) / len(times) if times else float("nan"),
    )


def _same(cells: Iterable[_Cell]) -> bool | None:
    """Whether all that answered agree; None if fewer than two did."""
    forms = [cell.plain for cell in cells if cell.plain is not None]
    return all(form == forms[0] for form in forms) if len(forms) > 1 else None


def _right(cell: _Cell | None, expected: Any, name: str) -> bool | None:
    """Whether an answer is the expected one; None if none is expected, or the variant has not got the row."""
    wanted = comparable(expected, name)
    if cell is None or wanted is None:
        return None
    return cell.plain is not None and bool(cell.plain[0] == wanted)


# -- frames ------------------------------------------------------------------------------------------------------------


def _group(
    by_key: Mapping[Hashable, _Cell], rows: Rows, types: Mapping[str, Any], expected: Mapping[Hashable, Any] | None
) -> dict[str, Any]:
    """The columns of a variant."""
    cells = [by_key.get(key) for key in rows.keys]
    group: dict[str, Any] = {}
    for at, (name, dtype) in enumerate(types.items()):
        values = pd.Series(
            [c.values[at] if c is not None and c.values is not None else None for c in cells], dtype=object
        )
        # Runs may have different words in a category.
        wanted_type = dtype.categories.dtype if isinstance(dtype, pd.CategoricalDtype) else dtype
        try:
            group[name] = values.astype(wanted_type).array
        except (TypeError, ValueError):  # whole numbers have no form for a row that is missing
            group[name] = values.convert_dtypes().array
    if any(cell is not None and cell.samples > 1 for cell in cells):
        group["samples"] = col.integer([cell.samples if cell else None for cell in cells])
        group["votes"] = col.integer([cell.votes if cell else None for cell in cells])
    if expected is not None:
        name = next(iter(types))
        wanted = [expected.get(key) for key in rows.keys]
        group[RIGHT] = pd.array([_right(c, w, name) for c, w in zip(cells, wanted, strict=True)], dtype="boolean")
    group["state"] = col.task_state([cell.state if cell else None for cell in cells])
    group["cost_usd"] = col.number([cell.cost_usd if cell else None for cell in cells])
    group["duration_s"] = col.number([cell.duration_s if cell else None for cell in cells])
    return group


def _summary(
    parts: Mapping[str, Part],
    cells: Mapping[str, Mapping[Hashable, _Cell]],
    name: str,
    expected: Mapping[Hashable, Any] | None,
) -> pd.DataFrame:
    """One row per variant."""
    first = next(iter(cells.values()))
    lines: list[dict[str, Any]] = []
    for label, (source, places) in parts.items():
        mine, frame = cells[label], source.frame.iloc[places]
        both = [_same([first[key], cell]) for key, cell in mine.items() if key in first]
        line = {
            "run_id": source.run_id,
            "model": _models(frame),
            "rows": len(mine),
            "tasks": len(places),
            "answered": sum(cell.plain is not None for cell in mine.values()),
            "agreement": _share(both),
        }
        if len(places) > len(mine):
            counted = [cell for cell in mine.values() if cell.plain is not None]
            line["consistency"] = _mean([cell.votes / cell.samples for cell in counted])
        if expected is not None:
            line["accuracy"] = _share([_right(cell, expected.get(key), name) for key, cell in mine.items()])
        durations = frame["duration_s"].astype(float)
        lines.append(
            {
                **line,
                "cost_usd": float(frame["cost_usd"].sum()),
                "cost_usd_per_row": float(frame["cost_usd"].sum()) / len(mine) if mine else float("nan"),
                "play_money": bool(frame["backend"].isin(PLAY_BACKENDS).all()),
                "output_tokens": float(frame["output_tokens"].astype(float).mean()),
                "p50_duration_s": float(durations.quantile(0.5)),
                "p95_duration_s": float(durations.quantile(0.95)),
            }
        )
    return pd.DataFrame(lines, index=pd.Index(list(parts), name="variant"))


def _models(frame: pd.DataFrame) -> str | None:
    """The models that were asked for, or where none was, those that answered."""
    asked = frame["requested_model"].astype(object)
    names = asked.where(asked.notna(), frame["model"].astype(object) if "model" in frame.columns else None)
    return ", ".join(map(str, names.dropna().unique())) or None


def _share(several: Iterable[bool | None]) -> float:
    """How many are True, of those that are anything."""
    return _mean([float(one) for one in several if one is not None])


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers) if numbers else float("nan")


def _agreement(cells: Mapping[str, Mapping[Hashable, _Cell]], rows: Rows) -> pd.DataFrame:
    """The share of rows on which each two agree."""
    names = list(cells)
    shares = [
        [_share([_same([a[key], b[key]]) for key in rows.keys if key in a and key in b]) for b in cells.values()]
        for a in cells.values()
    ]
    return pd.DataFrame(shares, index=pd.Index(names, name="variant"), columns=names)


def _confusion(by_key: Mapping[Hashable, _Cell], expected: Mapping[Hashable, Any], name: str) -> pd.DataFrame:
    """How often each expected answer was given as each answer."""
    wanted: dict[Any, str] = {}
    pairs: Counter[tuple[str, str]] = Counter()
    for key in by_key:
        value = expected.get(key)
        if not is_missing(value):
            wanted.setdefault(comparable(value, name), str(value))
    for key, cell in by_key.items():
        value = expected.get(key)
        if is_missing(value):
            continue
        answer = NO_ANSWER
        if cell.plain is not None and cell.values is not None:
            answer = wanted.get(comparable(cell.plain[0], name), one_line(str(cell.values[0]), 40))
        pairs[wanted[comparable(value, name)], answer] += 1
    given = Counter(answer for _, answer in pairs.elements())
    kept = {answer for answer, _ in given.most_common(MAX_LABELS)} | set(wanted.values())
    counts: Counter[tuple[str, str]] = Counter()
    for (value, answer), number in pairs.items():
        counts[value, answer if answer in kept or answer == NO_ANSWER else OTHER] += number
    down = sorted(set(wanted.values()))
    last = [word for word in (OTHER, NO_ANSWER) if any(answer == word for _, answer in counts)]
    across = down + sorted({answer for _, answer in counts} - set(down) - set(last)) + last
    table = [[counts[value, answer] for answer in across] for value in down]
    return pd.DataFrame(table, index=pd.Index(down, name="expected"), columns=pd.Index(across, name="answered"))


def _notes(
    cells: Mapping[str, Mapping[Hashable, _Cell]],
    rows: Rows,
    front: pd.DataFrame,
    expected: Mapping[Hashable, Any] | None,
    sources: Sequence[Source],
    fields: Sequence[str],
) -> Iterable[str]:
    """What a reader has to know."""
    typed = [any(str(name).startswith("out_") for name in source.frame.columns) for source in sources]
    if fields == ["output"] and any(typed) and not all(typed):
        plain = ", ".join(source.run_id for source, has in zip(sources, typed, strict=True) if not has)
        yield f"{plain} has no schema, so whole outputs are compared"
    for label, by_key in cells.items():
        absent = len(rows.keys) - len(by_key)
        if absent:
            which = next(place for place, key in enumerate(rows.keys) if key not in by_key)
            yield f"{label} lacks {count(absent, 'row')} that others have; the first is {front.index.tolist()[which]!r}"
        silent = sum(cell.plain is None for cell in by_key.values())
        if silent:
            yield f"{label} has no answer to {count(silent, 'row')}"
    unknown = sum(is_missing(expected.get(key)) for key in rows.keys) if expected is not None else 0
    if unknown:
        yield f"nothing is expected of {count(unknown, 'row')}, which do not count for accuracy"
