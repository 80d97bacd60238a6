"""The caller's own columns beside the tasks of a run, and how they come back in its frame.

Invariants: the caller's columns come first, unchanged, with their index, then the grid's; both are repeated as the
tasks are. They are also written to the ledger as JSON, so that the frame of a run is the same after a kernel restart:
names, types, categories and index come back; what neither JSON nor pandas has a form for comes back as its text.

A task's `inputs` are JSON text `{"index": label or list of labels, "values": {column: value}, "grid": {name: value}}`;
what else there is to know of them is in the `meta` of their run, see `Table.meta`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """One row for each task of a run: the columns that the caller gave."""

    frame: pd.DataFrame
    """Input columns, then those of the grid, with the input's index."""
    aside: Sequence[Mapping[str, Any]] | None = None
    """What the grid gave each task that has no column of its own, because the frame has one (`model`)."""
    nested: Sequence[str] = ()
    """Columns of lists or mappings, which were given in rows: the frame has them as JSON text."""

    def inputs_json(self) -> list[str]:
        """The index and columns of each task as JSON text."""
        names = [str(name) for name in self.frame.columns]
        columns = [self.frame.iloc[:, at].tolist() for at in range(len(names))]
        rows = zip(*columns, strict=True) if columns else ((),) * len(self.frame)
        made = [
            {"index": label, "values": dict(zip(names, row, strict=True))}
            for label, row in zip(self.frame.index.tolist(), rows, strict=True)
        ]
        if self.aside is not None:
            for one, grid in zip(made, self.aside, strict=True):
                one["grid"] = grid
        return [json.dumps(one, ensure_ascii=False, default=_plain) for one in made]

    def meta(self) -> dict[str, Any]:
        """The form of the input: `columns` (names, in order), `labels` (where a name is no text), `dtypes` by name,
        `categories` by name, `nested` (columns of lists that are shown as JSON), `index_names`, and of each level of
        the index its `index_dtypes` and `index_categories`.
        """
        names = [str(name) for name in self.frame.columns]
        index = self.frame.index
        levels = [index.get_level_values(at) for at in range(index.nlevels)]
        form: dict[str, Any] = {
            "columns": names,
            "dtypes": dict(zip(names, map(str, self.frame.dtypes), strict=True)),
            "index_names": [None if name is None else str(name) for name in index.names],
            "index_dtypes": [str(level.dtype) for level in levels],
        }
        if any(not isinstance(label, str) for label in self.frame.columns):
            form["labels"] = [json.loads(json.dumps(label, default=_plain)) for label in self.frame.columns]
        categories = {
            name: _categories(dtype)
            for name, dtype in zip(names, self.frame.dtypes, strict=True)
            if str(dtype) == "category"
        }
        if categories:
            form["categories"] = categories
        if "category" in form["index_dtypes"]:
            form["index_categories"] = [
                _categories(level.dtype) if str(level.dtype) == "category" else None for level in levels
            ]
        return form | ({"nested": list(self.nested)} if self.nested else {})

    def joined(self, answers: pd.DataFrame) -> pd.DataFrame:
        """The frame of answers with the caller's own columns and index in front, as they were given."""
        import pandas as pd

        own = answers.drop(columns=[name for name in self.frame.columns if name in answers.columns])
        own.index = self.frame.index
        joined = pd.concat([self.frame, own], axis=1)
        joined.attrs.update(answers.attrs)
        return joined


def _plain(value: Any) -> Any:
    """A value that JSON has no form for: missing ones as null, numpy's as Python's, all others as text."""
    if type(value).__name__ in {"NAType", "NaTType"}:
        return None
    return value.tolist() if type(value).__module__ == "numpy" and hasattr(value, "tolist") else str(value)


def _categories(dtype: Any) -> dict[str, Any]:
    """The categories of a type, as JSON has them."""
    values = json.loads(json.dumps(dtype.categories.tolist(), default=_plain))
    return {"values": values, "dtype": str(dtype.categories.dtype), "ordered": bool(dtype.ordered)}


def restored(inputs: Sequence[str | None], metas: Sequence[str]) -> tuple[dict[Any, Any], pd.Index | None]:
    """The caller's columns by their names, and the index, from what the ledger has of them.

    Args:
        inputs: The inputs of each task.
        metas: The form of the input of each of their runs.

    Example:
        >>> columns, index = restored(['{"index": "x", "values": {"n": 1}}'], ['{"columns": ["n"]}'])
        >>> list(map(int, columns["n"])), index.tolist()
        ([1], ['x'])
    """
    if not any(inputs):
        return {}, None
    import pandas as pd

    given: list[dict[str, Any]] = [one or {} for one in json.loads(f"[{','.join(text or 'null' for text in inputs)}]")]
    values: list[dict[str, Any]] = [one.get("values") or {} for one in given]
    labels: dict[str, Any] = {}
    types: dict[str, list[Any]] = {}
    index_types: list[Any] = []
    for known in map(json.loads, metas):
        names = known.get("columns") or ()
        labels.update(zip(names, map(_label, known.get("labels") or names), strict=True))
        for name in names:
            kind = (known.get("dtypes") or {}).get(name), (known.get("categories") or {}).get(name)
            types.setdefault(name, []).append(kind)
        if known.get("index_names"):
            index_types.append([known.get(f"index_{part}") for part in ("names", "dtypes", "categories")])
    for one in values:
        for name in one:
            labels.setdefault(name, name)
    data = {
        label: _typed([one.get(name) for one in values], *_agreed(types.get(name), (None, None)))
        for name, label in labels.items()
    }
    if not all("index" in one for one in given):
        return data, None
    found = [one["index"] for one in given]
    names, dtypes, kinds = _agreed(index_types, (None, None, None))
    widths = {len(label) if isinstance(label, list) else 0 for label in found}
    if len(widths) > 1:  # of several runs
        return data, pd.Index([_label(label) for label in found], dtype=object, tupleize_cols=False)
    if widths == {0}:
        typed = _typed(found, *((parts or [None])[0] for parts in (dtypes, kinds)))
        return data, pd.Index(typed, name=(names or [None])[0])
    count = len(found[0])
    none = [None] * count
    levels = [
        pd.Index(_typed(list(level), dtype, kind))
        for level, dtype, kind in zip(zip(*found, strict=True), dtypes or none, kinds or none, strict=True)
    ]
    return data, pd.MultiIndex.from_arrays(levels, names=names or none)


def _agreed(several: Sequence[Any] | None, otherwise: Any) -> Any:
    """What all runs say of their input; nothing of it holds if they do not agree."""
    return several[0] if several and all(one == several[0] for one in several) else otherwise


def _label(label: Any) -> Any:
    """A name or label; a list was a tuple."""
    return tuple(label) if isinstance(label, list) else label


def _typed(values: Sequence[Any], dtype: str | None, categories: Mapping[str, Any] | None) -> Any:
    """A column in the type that it had, if it can be had again without losing a value."""
    import numpy as np
    import pandas as pd

    from claude_pool_nb.analysis import columns as col

    if dtype == "object":
        # As an Index, because pandas makes text of an array of texts, and aligns a Series.
        return pd.Index(list(values), dtype=object, tupleize_cols=False)
    found = pd.Series(col.inferred(values))
    wanted: Any = dtype
    if dtype is None:
        return found.array
    try:
        if categories is not None and dtype == "category":
            known = pd.Index(_typed(categories["values"], categories["dtype"], None))
            wanted = pd.CategoricalDtype(known, ordered=categories["ordered"])
            found = found.astype(known.dtype)
        elif dtype.startswith("uint"):  # may be greater than what a column of unknown numbers keeps
            return pd.Series(np.array(values, dtype=dtype)).array
        typed = found.astype(wanted)
    except (ValueError, TypeError, OverflowError):
        return found.array  # the values are right; only the type is another than it was
    return typed.array if (typed.isna() == found.isna()).all() else found.array
