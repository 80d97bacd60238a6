"""The caller's own columns beside the tasks of a run, and how they come back in its frame.

Invariants: the caller's columns come first, unchanged, with their index, then the grid's; both are repeated as the
tasks are. They are also written to the ledger as JSON, so that the frame of a run can be shown after a kernel restart.
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
        """The form of the input."""
        return {
            "columns": [str(name) for name in self.frame.columns],
            "dtypes": {str(name): str(dtype) for name, dtype in self.frame.dtypes.items()},
            "index_names": [None if name is None else str(name) for name in self.frame.index.names],
        }

    def joined(self, answers: pd.DataFrame) -> pd.DataFrame:
        """The frame of answers with the caller's own columns and index in front, as they were given."""
        import pandas as pd

        own = answers.drop(columns=[name for name in map(str, self.frame.columns) if name in answers.columns])
        own.index = self.frame.index
        joined = pd.concat([self.frame, own], axis=1)
        joined.attrs.update(answers.attrs)
        return joined


def _plain(value: Any) -> Any:
    """A value that JSON has no form for: missing ones as null, numpy's as Python's, all others as text."""
    if type(value).__name__ in {"NAType", "NaTType"}:
        return None
    return value.item() if type(value).__module__ == "numpy" and hasattr(value, "item") else str(value)
