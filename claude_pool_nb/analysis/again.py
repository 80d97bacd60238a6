"""Which rows of a run are meant to be run again, and with which prompts.

Invariants: a choice that could be read in two ways is refused, by position and with what to write instead; a new
template sees what the first one saw, the row's columns as they are in the frame, so that it works the same after a
kernel restart; every error is raised before anything is spent.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from claude_pool_nb.engine.intake import check_prompts
from claude_pool_nb.errors import ConfigError, nearest
from claude_pool_nb.templates import names as names_of
from claude_pool_nb.templates import render

BEFORE = ("prompt", "output", "error")
"""What a new template may name beside the row's own columns: the text that was sent, and what came of it."""


def chosen(frame: pd.DataFrame, rows: Any, variables: Mapping[str, Any] | None = None) -> list[int]:
    """The positions, in the frame of a run, of the rows that are meant.

    Args:
        frame: The frame of the run.
        rows: One of: a mask (a list or array of booleans as long as the frame, or a Series with its index or with the
            index of the input); positions from 0 on (whole numbers; negative ones count from the end); labels of the
            index (an Index); a part of the frame (a DataFrame); ids of tasks (texts in a list); or an expression over
            its columns (one text, as in `DataFrame.query`).
        variables: What an expression may name with `@`.

    Returns:
        Positions from 0 on, in the order of the frame, each once.

    Raises:
        ConfigError: it is none of these, does not fit the frame, or says of a row neither yes nor no.

    Example:
        >>> frame = pd.DataFrame({"task_id": ["r1.1", "r1.2"], "n": [1, 5]}, index=["x", "y"])
        >>> chosen(frame, "n > 3"), chosen(frame, [True, False]), chosen(frame, [-1]), chosen(frame, frame[frame.n < 3])
        ([1], [0], [1], [0])
    """
    if isinstance(rows, str):
        return chosen(frame, evaluated(frame, rows, variables))
    if isinstance(rows, pd.DataFrame):
        if "task_id" not in rows.columns:
            raise ConfigError("rows: the DataFrame has no column task_id, so it is no part of the run's frame")
        return _of_tasks(frame, rows["task_id"])
    if isinstance(rows, pd.Series):
        return _of_series(frame, rows)
    if isinstance(rows, pd.Index) and rows.dtype != bool:
        return _of_labels(frame, rows)
    if isinstance(rows, Mapping) or not isinstance(rows, Iterable):
        if isinstance(rows, int | np.integer) and not isinstance(rows, bool):
            return chosen(frame, [rows])
        raise ConfigError(f"rows: {_kind(rows)} chooses no rows; give a mask, positions, or an expression over columns")
    values = list(rows)
    if not values:
        return []
    if all(isinstance(value, str) for value in values):
        return _of_tasks(frame, values)
    if all(isinstance(value, int | np.integer) and not isinstance(value, bool) for value in values):
        return _of_positions(len(frame), [int(value) for value in values])
    if len(values) != len(frame):
        raise ConfigError(
            f"rows: the mask has {len(values):,} values and the run {len(frame):,} rows; give one for each"
        )
    return _of_mask(values)


def evaluated(frame: pd.DataFrame, expression: str, variables: Mapping[str, Any] | None = None) -> Any:
    """The value of an expression over the frame's columns, as in `DataFrame.query`; `@name` is a variable.

    Raises:
        ConfigError: it is wrong, or names what is not there.

    Example:
        >>> evaluated(pd.DataFrame({"n": [1, 5]}), "n > @least", {"least": 3}).tolist()
        [False, True]
    """
    if not expression.strip():
        raise ConfigError("rows: the expression is empty; write one over the columns, as in state == 'failed'")
    try:
        plain = pd.DataFrame(frame)
        found = plain.eval(expression, engine="python", local_dict=dict(variables or {}), global_dict={})
    except pd.errors.UndefinedVariableError as error:
        missing = str(error).split("'")[1] if "'" in str(error) else str(error)
        known = [str(name) for name in frame.columns]
        hint = f"; a variable is written @{missing}" if missing in (variables or {}) else nearest(missing, known)
        raise ConfigError(f"rows: there is no column {missing!r}{hint}") from None
    except Exception as error:  # the caller's own expression can fail in any way
        raise ConfigError(
            f"rows: {expression!r} cannot be evaluated over the frame's columns: {type(error).__name__}: {error}"
        ) from error
    return found


def new_prompts(
    frame: pd.DataFrame,
    positions: Sequence[int],
    template: str,
    variables: Mapping[str, Any] | None = None,
    *,
    prompts: Sequence[str] | None = None,
    inputs: Sequence[str | None] | None = None,
    nested: Iterable[str] = (),
) -> list[str]:
    """A template rendered over rows of a run's frame.

    The template sees what that of a map sees (the row's input columns, its grid values, variables of the notebook) and,
    before the variables, `prompt`, `output` and `error` of the row as they are now.

    Args:
        frame: The frame of the run.
        positions: Which rows.
        template: Jinja.
        variables: Variables of the notebook; only what the template names is looked at.
        prompts: What was sent for each of these rows, if that is not what the frame shows.
        inputs: The inputs of each of these rows as the ledger has them: lists in cells, and what the grid set.
        nested: Columns whose values are lists or mappings, which the frame shows as JSON text.

    Raises:
        ConfigError: the template is wrong, needs a name that there is not, or a value that is missing in a row.

    Example:
        >>> frame = pd.DataFrame({"text": ["hi", "ho"], "run_id": "r1", "prompt": ["say hi", "say ho"]})
        >>> new_prompts(frame, [1], "Sing {{ text }}, do not {{ prompt }}")
        ['Sing ho, do not say ho']
    """
    if not isinstance(template, str) or not template.strip():
        raise ConfigError(f"template: {_kind(template)} is no template; give a text such as 'Classify {{{{ text }}}}'")
    if not len(positions):
        return []
    rows = pd.DataFrame(frame).iloc[list(positions)]
    labels = rows.index.tolist()
    given = [json.loads(text) if text else {} for text in inputs] if inputs is not None else [{}] * len(rows)
    own = own_columns(frame)
    set_by_grid = {str(name): None for one in given for name in one.get("grid") or {}}
    shared: dict[str, Any] = {}
    columns: dict[str, list[Any]] = {}
    for name in names_of(template):
        if name in own:
            columns[name] = _values(rows, own[name], [one.get("values") or {} for one in given], name in set(nested))
        elif name in set_by_grid:
            columns[name] = [one["grid"][name] for one in given]
        elif name in BEFORE and name in frame.columns:
            columns[name] = list(prompts) if name == "prompt" and prompts else rows[name].fillna("").tolist()
        elif variables is not None and name in variables:
            shared[name] = variables[name]
        else:
            raise ConfigError(_undefined(name, [*own, *set_by_grid, *BEFORE], variables))
    rendered: list[str] = []
    for place, label in enumerate(labels):
        try:
            rendered.append(render(template, {**shared, **{name: column[place] for name, column in columns.items()}}))
        except ConfigError as error:
            raise ConfigError(f"row {label!r}: {error}") from error
    return check_prompts(rendered, lambda place: f"the new prompt of row {labels[place]!r}")


def own_columns(frame: pd.DataFrame) -> dict[str, Any]:
    """The input columns and grid keys of a run's frame, by the name that a template has for them.

    Example:
        >>> own_columns(pd.DataFrame(columns=["text", "run_id", "prompt"]))
        {'text': 'text'}
    """
    columns = list(frame.columns)
    end = columns.index("run_id") if "run_id" in columns else len(columns)
    return {str(name): name for name in columns[:end]}


def _values(rows: pd.DataFrame, name: Any, given: Sequence[Mapping[str, Any]], nested: bool) -> list[Any]:
    """A column as Python values.

    Raises:
        ConfigError: one is missing.
    """
    column: list[Any] = rows[name].tolist()
    missing = rows[name].isna().to_numpy()
    if missing.any():
        label = rows.index.tolist()[int(missing.argmax())]
        raise ConfigError(
            f"row {label!r} has no value in the column {str(name)!r}, which the template uses; leave such rows out"
        )
    for place, one in enumerate(given):
        stored = one.get(str(name))
        if isinstance(stored, list | dict):
            column[place] = stored
        elif nested and isinstance(column[place], str):
            column[place] = json.loads(column[place])
    return column


def _undefined(name: str, known: Sequence[str], variables: Mapping[str, Any] | None) -> str:
    kept = "variables are not kept with a run: " + (
        "define it again" if variables is not None else "pass it in variables={...}"
    )
    close = nearest(name, [*known, *(one for one in variables or () if not one.startswith("_"))])
    hint = close if close.startswith("; did") else f"; the run has {', '.join(known)}"
    return f"the template needs {name!r}, which is no column of the run{hint}; {kept}"


def _of_mask(values: Sequence[Any]) -> list[int]:
    found: list[int] = []
    for place, value in enumerate(values):
        if isinstance(value, bool | np.bool_):
            if value:
                found.append(place)
        elif value is None or value is pd.NA or value != value:  # noqa: PLR0124 - NaN
            raise ConfigError(
                f"rows: the mask has no value at position {place}: neither yes nor no; write .fillna(False) behind it"
            )
        else:
            raise ConfigError(f"rows: the mask has {value!r} at position {place}, which is neither True nor False")
    return found


def _of_series(frame: pd.DataFrame, mask: pd.Series[Any]) -> list[int]:
    # Before pandas 3 a column of texts, read from a file for example, may be one of objects.
    if mask.name == "task_id" and pd.api.types.infer_dtype(mask) == "string":
        return _of_tasks(frame, mask)
    if not (pd.api.types.is_bool_dtype(mask.dtype) or mask.dtype == object):
        if mask.name == "task_id":
            return _of_tasks(frame, mask)
        raise ConfigError(
            f"rows: a Series of {mask.dtype} is no mask; compare it with something, or give positions as a list"
        )
    if not mask.index.equals(frame.index):
        if not mask.index.is_unique:
            raise ConfigError(
                f"rows: the mask has {len(mask):,} values under labels that repeat, and they are not those of the run; "
                "make it from run.frame"
            )
        absent = frame.index.difference(mask.index).tolist()
        strange = mask.index.difference(frame.index).tolist()
        if absent or strange:
            which = f"nothing for the row {absent[0]!r}" if absent else f"a row {strange[0]!r} that the run has not"
            raise ConfigError(
                f"rows: the mask has {len(mask):,} values and the run {len(frame):,} rows: it has {which}; "
                "make it from run.frame"
            )
        mask = mask.reindex(frame.index)  # the input's own mask: it holds for all that was made of a row
    return _of_mask(mask.tolist())


def _of_labels(frame: pd.DataFrame, labels: pd.Index[Any]) -> list[int]:
    absent = labels.difference(frame.index).tolist()
    if absent:
        raise ConfigError(f"rows: the run has no row {absent[0]!r} in its index; its rows are those of run.frame.index")
    return [int(place) for place in np.flatnonzero(frame.index.isin(labels))]


def _of_tasks(frame: pd.DataFrame, ids: Iterable[Any]) -> list[int]:
    wanted = list(ids)
    places = {task_id: place for place, task_id in enumerate(frame["task_id"])}
    for one in wanted:
        if one not in places:
            raise ConfigError(f"rows: {one!r} is no task of this run; its tasks are {frame['task_id'].iloc[0]} ... "
                              f"{frame['task_id'].iloc[-1]}")  # fmt: skip
    return sorted({places[one] for one in wanted})


def _of_positions(count: int, positions: Sequence[int]) -> list[int]:
    for place in positions:
        if not -count <= place < count:
            raise ConfigError(
                f"rows: there is no row at position {place}; the run has {count:,}, from 0 to {count - 1}"
            )
    return sorted({place % count for place in positions})


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
