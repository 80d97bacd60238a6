"""What a caller hands to fan_out, and how its own columns come back in the frame.

Invariants: the caller's columns come first, unchanged, with their index; a column whose name the frame needs itself is
refused before anything is spent. The index and the columns are also written to the ledger as JSON, so that the frame of
a run can be shown after a kernel restart.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from claude_pool_nb.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(slots=True)
class Table:
    """Prompts, and the frame they came from, if they did."""

    prompts: list[Any]
    """One for each row."""
    frame: pd.DataFrame | None = None
    """The caller's columns without the prompts; None if there was only a list."""

    @classmethod
    def of(cls, given: Any) -> Table:
        """Prompts from a list (or anything that can be iterated), a Series, or a DataFrame with a `prompt` column.

        Raises:
            ConfigError: it is none of these, or a column has a name that the frame needs itself.

        Example:
            >>> Table.of(["a", "b"]).prompts
            ['a', 'b']
        """
        if isinstance(given, str | bytes):
            raise ConfigError("fan_out takes many prompts: a list, a Series or a DataFrame; use run for a single text")
        if hasattr(given, "to_frame") and hasattr(given, "index"):  # a Series, without importing pandas
            return cls(given.tolist(), given.to_frame().iloc[:, :0])
        if hasattr(given, "columns") and hasattr(given, "index"):
            return cls._of_frame(given)
        if isinstance(given, Mapping) or not isinstance(given, Iterable):
            raise ConfigError(
                "fan_out takes texts: a list, a Series or a DataFrame with a prompt column, "
                f"not a {type(given).__name__}"
            )
        return cls(list(given))

    @classmethod
    def _of_frame(cls, frame: pd.DataFrame) -> Table:
        if "prompt" not in frame.columns:
            names = ", ".join(map(str, list(frame.columns)[:12]))
            raise ConfigError(
                f"the DataFrame has no column `prompt` (it has {names}); rename one, or pass df['column']"
            )
        from claude_pool_nb.analysis.task_frames import TASK_COLUMNS

        own = frame.drop(columns="prompt")
        if not own.columns.is_unique:
            raise ConfigError("two columns of the DataFrame have the same name; rename one")
        taken = [str(name) for name in own.columns if name in TASK_COLUMNS or str(name).startswith("out_")]
        if taken:
            raise ConfigError(
                f"the answer's frame has columns of its own named {', '.join(taken)}; rename them in the input"
            )
        return cls(frame["prompt"].tolist(), own)

    def inputs_json(self) -> list[str | None] | None:
        """The index and columns of each row as JSON text."""
        if self.frame is None:
            return None
        names = [str(name) for name in self.frame.columns]
        columns = [self.frame[name].tolist() for name in self.frame.columns]
        rows = zip(*columns, strict=True) if columns else ((),) * len(self.prompts)
        return [
            json.dumps({"index": label, "values": dict(zip(names, row, strict=True))}, default=str)
            for label, row in zip(self.frame.index.tolist(), rows, strict=True)
        ]

    def meta_json(self) -> str:
        """The form of the input as JSON text."""
        if self.frame is None:
            return "{}"
        return json.dumps(
            {
                "columns": [str(name) for name in self.frame.columns],
                "dtypes": {str(name): str(dtype) for name, dtype in self.frame.dtypes.items()},
                "index_names": [None if name is None else str(name) for name in self.frame.index.names],
            }
        )

    def joined(self, answers: pd.DataFrame) -> pd.DataFrame:
        """The frame of answers with the caller's own columns and index in front, as they were given."""
        if self.frame is None:
            return answers
        import pandas as pd

        own = answers.drop(columns=[name for name in map(str, self.frame.columns) if name in answers.columns])
        own.index = self.frame.index
        joined = pd.concat([self.frame, own], axis=1)
        joined.attrs.update(answers.attrs)
        return joined
