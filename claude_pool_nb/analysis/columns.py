"""Columns of frames: from plain Python values to the type that pandas has for them.

Invariants: a column's type depends on what it means, never on which values happen to be there, so that an empty frame
has the types of a full one; a missing value is the type's own (`<NA>`, `NaN`, `NaT`); the only columns of type object
are input columns that mix types.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from claude_pool_nb.records import (
    NANO_PER_USD,
    AttemptState,
    CostBasis,
    FailureKind,
    RunState,
    SlotState,
    TaskState,
)

TEXT: Any = "str" if int(pd.__version__.split(".")[0]) >= 3 else "string"
"""The text type of this pandas."""

Values = Sequence[Any] | np.ndarray[Any, Any]


def text(values: Values) -> Any:
    r"""Texts; None is missing. Half characters, of which pandas takes none, are escapes, as the ledger has them.

    Example:
        >>> bool(pd.Series(text(["a", None])).isna()[1])
        True
        >>> list(text(["\ud83d"]))
        ['\\ud83d']
    """
    try:
        return pd.array(list(values), dtype=TEXT)
    except UnicodeEncodeError:
        whole = [v.encode("utf-8", "backslashreplace").decode() if isinstance(v, str) else v for v in values]
        return pd.array(whole, dtype=TEXT)


def integer(values: Values) -> Any:
    """Whole numbers of which some may be missing.

    Example:
        >>> pd.Series(integer([1, None])).dtype
        Int64Dtype()
    """
    if None not in values:
        return pd.arrays.IntegerArray(whole(values), np.zeros(len(values), dtype=bool))
    missing = np.array([value is None for value in values], dtype=bool)
    return pd.arrays.IntegerArray(np.array([value or 0 for value in values], dtype=np.int64), missing)


def whole(values: Values) -> Any:
    """Whole numbers of which none is missing."""
    return np.fromiter(values, dtype=np.int64, count=len(values))


def number(values: Values) -> Any:
    """Numbers; None is NaN."""
    return np.array(values, dtype=np.float64)


def dollars(nanos: Values) -> Any:
    """Nanodollars as dollars; None is NaN.

    Example:
        >>> dollars([1_100_000]).tolist()
        [0.0011]
    """
    return number(nanos) / NANO_PER_USD


def flag(values: Values) -> Any:
    """True or false, never missing."""
    return np.fromiter(map(bool, values), dtype=bool, count=len(values))


def instant(values: Values) -> Any:
    """Unix seconds as UTC timestamps.

    Example:
        >>> str(instant([0.0, None])[0])
        '1970-01-01 00:00:00+00:00'
    """
    seconds = number(values)
    missing = np.isnan(seconds)
    micros = np.round(np.where(missing, 0.0, seconds) * 1e6).astype(np.int64)
    stamps = micros.view("M8[us]")
    stamps[missing] = np.datetime64("NaT", "us")
    return pd.DatetimeIndex(stamps).tz_localize("UTC").array


def category(values: Values, among: Iterable[str] | None = None, *, ordered: bool = False) -> Any:
    """Words out of a small set; the set is what occurs, sorted, if it is not given.

    Example:
        >>> list(category(["b", None, "a"]).categories)
        ['a', 'b']
    """
    names = sorted(set(values) - {None}) if among is None else list(among)
    code_of = _Codes((name, code) for code, name in enumerate(names))
    codes = np.fromiter(map(code_of.__getitem__, values), dtype=np.int32, count=len(values))
    return pd.Categorical.from_codes(codes, categories=pd.Index(names, dtype=TEXT), ordered=ordered)


class _Codes(dict[Any, int]):
    """Codes of words; what is none of them is missing. A lookup that takes no Python for a word that is there."""

    def __missing__(self, _word: Any) -> int:
        return -1


def _words(enum: Iterable[Any]) -> list[str]:
    """The words of an enum in its order."""
    return [member.value for member in enum]


def task_state(values: Values) -> Any:
    """States of tasks."""
    return category(values, _words(TaskState))


def attempt_state(values: Values) -> Any:
    """States of attempts."""
    return category(values, _words(AttemptState))


def run_state(values: Values) -> Any:
    """States of runs."""
    return category(values, _words(RunState))


def slot_state(values: Values) -> Any:
    """States of slots."""
    return category(values, _words(SlotState))


def failure_kind(values: Values) -> Any:
    """Kinds of failure."""
    return category(values, _words(FailureKind))


def cost_basis(values: Values) -> Any:
    """How costs are known, the strongest first: they compare."""
    return category(values, _words(CostBasis), ordered=True)


def nested(values: Values) -> Any:
    """Values of any form as JSON text."""
    return text([None if value is None else json.dumps(value, ensure_ascii=False, default=str) for value in values])


def inferred(values: Values) -> Any:
    """A column of which only the values are known: the narrowest type that keeps them all.

    Example:
        >>> pd.Series(inferred([1, None])).dtype
        Int64Dtype()
        >>> pd.Series(inferred([{"a": 1}, None]))[0]
        '{"a": 1}'
    """
    kinds = {type(value) for value in values if value is not None}
    some_missing = any(value is None for value in values)
    if kinds <= {str}:
        return text(values)
    if kinds == {bool}:
        return pd.array(list(values), dtype="boolean") if some_missing else flag(values)
    if kinds == {int} and all(value is None or abs(value) < 2**63 for value in values):
        return integer(values) if some_missing else whole(values)
    if kinds <= {int, float}:
        return number(values)
    if kinds & {dict, list}:
        return nested(values)
    return np.array([*values, None], dtype=object)[:-1]  # the None keeps numpy from guessing


def by_schema(values: Values, form: Any) -> Any:
    """A field of structured answers in the type that its schema names; text where an answer does not keep to it.

    Args:
        values: What the answers have in the field; None where there is none.
        form: The field's schema without references, as `schemas.fields_of` gives it; None if it has none.

    Example:
        >>> pd.Series(by_schema([3, None], {"type": "integer"})).dtype
        Int64Dtype()
        >>> list(by_schema(["bad", None], {"enum": ["good", "bad"]}).categories)
        ['good', 'bad']
    """
    form = form if isinstance(form, dict) else {}
    words = form.get("enum") or ([form["const"]] if "const" in form else None)
    named = form.get("type")
    if words is not None:
        words = [word for word in words if word is not None]
        if all(isinstance(word, str) for word in words):
            named = "word"
        else:
            kinds = {type(word) for word in words}
            named = next((name for name, types in _ACCEPTED.items() if kinds <= set(types)), None)
    elif isinstance(named, list):
        real = [name for name in named if name != "null"]
        named = real[0] if len(real) == 1 else None
    fits = _ACCEPTED.get(str(named))
    if fits is None:
        return nested(values) if named in {"object", "array"} else inferred(values)
    given = [value for value in values if value is not None]
    if any(type(value) not in fits for value in given) or (named == "word" and not set(given) <= set(words or ())):
        return text([value if value is None or isinstance(value, str) else json.dumps(value) for value in values])
    match named:
        case "word":
            return category(values, words)
        case "string":
            return text(values)
        case "integer" if all(abs(value) < 2**63 for value in given):
            return integer(values)
        case "integer":
            return text([None if value is None else str(value) for value in values])
        case "number":
            return pd.array(number(values), dtype="Float64")
        case _:
            return pd.array(list(values), dtype="boolean")


_ACCEPTED: dict[str, tuple[type, ...]] = {
    "word": (str,), "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,),
}  # fmt: skip
"""What JSON gives for the types of a schema."""
