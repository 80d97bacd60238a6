"""What a caller hands to fan_out and map, read into rows.

Invariants: the caller's columns, values and index are kept as they are; what cannot be a row, and a column whose name
the answer's frame needs itself, is refused here, before anything is spent. A list stays a list: pandas is imported
only where the input has columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from claude_pool_nb.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

VALUE: Final = "value"
"""The name of the one column of a list, or of a Series without a name."""

_PROMPTS = "a list, a Series or a DataFrame with a prompt column"
_ROWS = "a DataFrame, a Series, a list, a dict of lists, mappings, or a polars frame"


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The rows of an input, in their order."""

    frame: pd.DataFrame | None = None
    """The caller's own columns (without prompts), with the index; None if there was only a list of prompts."""
    prompts: list[Any] | None = None
    """The prompts as they were given, where the input is prompts."""
    given: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Values as they were given, of columns that were no pandas columns: a template sees these."""

    def __len__(self) -> int:
        return len(self.prompts) if self.prompts is not None else len(self.frame) if self.frame is not None else 0

    # -- prompts -------------------------------------------------------------------------------------------------------

    @classmethod
    def of_prompts(cls, given: Any) -> Rows:
        """Prompts from a list (or anything that can be iterated), a Series, or a DataFrame with a `prompt` column.

        Raises:
            ConfigError: it is none of these, or a column has a name that the frame needs itself.

        Example:
            >>> Rows.of_prompts(["a", "b"]).prompts
            ['a', 'b']
        """
        if isinstance(given, str | bytes):
            raise ConfigError(f"fan_out takes many prompts: {_PROMPTS}; use run for a single text")
        if _is_series(given):
            return cls(given.to_frame().iloc[:, :0], prompts=given.tolist())
        if _is_frame(given):
            return cls._of_prompt_frame(given)
        if isinstance(given, Mapping) or not isinstance(given, Iterable):
            raise ConfigError(f"fan_out takes texts: {_PROMPTS}, not a {type(given).__name__}")
        return cls(prompts=list(given))

    @classmethod
    def _of_prompt_frame(cls, frame: pd.DataFrame) -> Rows:
        if "prompt" not in frame.columns:
            names = ", ".join(map(str, list(frame.columns)[:12]))
            raise ConfigError(
                f"the DataFrame has no column `prompt` (it has {names}); rename one, or pass df['column']; "
                "map makes the prompts from a template"
            )
        return cls(_checked(frame.drop(columns="prompt")), prompts=frame["prompt"].tolist())

    # -- rows of a template --------------------------------------------------------------------------------------------

    @classmethod
    def of(cls, given: Any) -> Rows:
        """Rows from a DataFrame, a Series, a list, a dict of lists, mappings, or any frame that speaks Arrow.

        The column of a Series has its name, that of a list (or a Series without a name) is `value`.

        Raises:
            ConfigError: it is none of these, or a column has a name that the frame needs itself.

        Example:
            >>> list(Rows.of(["a", "b"]).frame["value"])
            ['a', 'b']
            >>> Rows.of([{"text": "a", "stars": 3}, {"text": "b"}]).frame["stars"].dtype
            Int64Dtype()
        """
        if isinstance(given, str | bytes):
            raise ConfigError(f"map takes rows: {_ROWS}; put a single text into a list")
        if hasattr(given, "collect") and not isinstance(given, Iterable):
            raise ConfigError(f"a {type(given).__name__} has no rows yet; pass .collect() of it")
        if _is_series(given):
            return cls(_checked(given.to_frame(given.name if isinstance(given.name, str) else VALUE)))
        if _is_frame(given):
            return cls(_checked(given.copy(deep=False)))
        if hasattr(given, "__arrow_c_stream__") and (hasattr(given, "columns") or hasattr(given, "column_names")):
            return cls(_checked(_from_arrow(given)))
        if isinstance(given, Mapping):
            return cls._of_columns(given)
        if isinstance(given, set | frozenset):
            raise ConfigError("a set has no order, and rows have one; pass sorted(...) or a list")
        if not isinstance(given, Iterable):
            raise ConfigError(f"map takes rows: {_ROWS}, not a {type(given).__name__}")
        items = [_plain(item) for item in given]
        kinds = [isinstance(item, Mapping) for item in items]
        if not any(kinds):
            name = getattr(given, "name", None)
            return cls._of_columns({name if isinstance(name, str) and name else VALUE: items})
        if not all(kinds):
            at = kinds.index(not kinds[0])
            raise ConfigError(
                f"row {at} is a {type(items[at]).__name__} and row 0 a {type(items[0]).__name__}; "
                "rows are all mappings, or all plain values"
            )
        names = dict.fromkeys(name for item in items for name in item)
        return cls._of_columns({name: [item.get(name) for item in items] for name in names})

    @classmethod
    def _of_columns(cls, columns: Mapping[Any, Any]) -> Rows:
        """Rows from columns that are lists (or arrays, or Series) of one length."""
        import pandas as pd

        from claude_pool_nb.analysis import columns as col

        data: dict[str, Any] = {}
        given: dict[str, Sequence[Any]] = {}
        index: pd.Index | None = None
        for key, values in columns.items():
            name = str(key)
            if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
                raise ConfigError(
                    f"column {name!r} is a {type(values).__name__}, not a list; a value that all rows share is written "
                    f"as {name}=[...] in grid, or put into the template"
                )
            if hasattr(values, "dtype"):
                data[name] = values
                index = getattr(values, "index", None) if index is None and _is_series(values) else index
            else:
                given[name] = [_plain(value) for value in values]
                data[name] = col.inferred(given[name])
        lengths = {name: len(values) for name, values in data.items()}
        if len(set(lengths.values())) > 1:
            told = ", ".join(f"{name} has {length:,}" for name, length in list(lengths.items())[:6])
            raise ConfigError(f"the columns are not of one length: {told}")
        arrays = {name: getattr(values, "array", values) for name, values in data.items()}
        return cls(_checked(pd.DataFrame(arrays, index=index, copy=False)), given=given)

    def values(self, name: str) -> list[Any]:
        """The values of a column as plain Python objects.

        Example:
            >>> Rows.of({"stars": [3, None]}).values("stars")
            [3, None]
        """
        if name in self.given:
            return list(self.given[name])
        assert self.frame is not None
        column: list[Any] = self.frame.iloc[:, list(map(str, self.frame.columns)).index(name)].tolist()
        return column

    def names(self) -> list[str]:
        """The names of the columns.

        Example:
            >>> Rows.of([{"text": "a", "stars": 3}]).names()
            ['text', 'stars']
        """
        return [str(name) for name in self.frame.columns] if self.frame is not None else []

    def first_missing(self, name: str) -> int | None:
        """Position of the first row that has no value in a column.

        Example:
            >>> Rows.of(["a", None]).first_missing("value")
            1
        """
        import pandas as pd

        missing = pd.Series(self.values(name), dtype=object).isna()
        return int(missing.argmax()) if missing.any() else None

    def label(self, position: int) -> str:
        """How a row is called in a message: its position, and its label where that is another.

        Example:
            >>> Rows.of(["a", "b"]).label(1)
            'row 1'
        """
        label = position if self.frame is None else self.frame.index[position]
        return f"row {position}" if label == position else f"row {position} (index {label!r})"


def refuse_taken(names: Iterable[str], what: str) -> None:
    """Refuse names of columns that the answer's frame has itself.

    Raises:
        ConfigError: one of them is such a name.

    Example:
        >>> refuse_taken(["text", "output"], "the input")
        Traceback (most recent call last):
        claude_pool_nb.errors.ConfigError: the answer's frame has columns of its own named output; rename them in the input
    """  # noqa: E501 - the message is one line
    from claude_pool_nb.analysis.task_frames import TASK_COLUMNS

    taken = [name for name in names if name in TASK_COLUMNS or name.startswith("out_")]
    if taken:
        raise ConfigError(f"the answer's frame has columns of its own named {', '.join(taken)}; rename them in {what}")


def _checked(frame: pd.DataFrame) -> pd.DataFrame:
    """The caller's own columns, if they can stand beside the answer's."""
    names = [str(name) for name in frame.columns]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"two columns of the DataFrame have the same name, {twice}; rename one")
    refuse_taken(names, "the input")
    return frame


def _plain(value: Any) -> Any:
    """A number of numpy as Python's; anything else as it is."""
    if type(value).__module__ != "numpy" or getattr(value, "shape", None) != ():
        return value
    return value.item() if value.dtype.kind in "iufb" else value


def _is_series(given: Any) -> bool:
    """A pandas Series, without importing pandas."""
    return hasattr(given, "to_frame") and hasattr(given, "index") and hasattr(given, "iloc")


def _is_frame(given: Any) -> bool:
    """A pandas DataFrame, without importing pandas."""
    return hasattr(given, "columns") and hasattr(given, "index") and hasattr(given, "iloc")


def _from_arrow(given: Any) -> pd.DataFrame:
    """A frame of another library, by way of Arrow; numbers with gaps stay whole."""
    import pandas as pd

    try:
        import pyarrow as pa
    except ImportError:
        raise ConfigError(
            f"a {type(given).__module__.partition('.')[0]} frame is read by way of pyarrow, which is not installed: "
            "pip install pyarrow"
        ) from None
    table = pa.table(given)
    nullable = {
        getattr(pa, name)(): getattr(pd, f"{name.replace('int', 'Int').replace('uI', 'UI')}Dtype")()
        for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
    } | {pa.bool_(): pd.BooleanDtype()}
    columns = {
        name: column.to_pandas(types_mapper=nullable.get if column.null_count else None).array
        for name, column in zip(table.column_names, table.columns, strict=True)
    }
    return pd.DataFrame(columns, copy=False)
