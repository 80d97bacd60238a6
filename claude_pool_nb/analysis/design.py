"""What a map or a fan_out asks for, before it is accepted: every prompt rendered, every option checked.

Invariants: making a Design finds everything that can be wrong with the call without a pool, spends nothing and changes
nothing; its tasks are in the order of the frame: input row, then template, then grid, then sample; tasks with equal
options share one `TaskOverrides` object, and samples of one prompt share its text.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import ismodule
from typing import Any, Final, Self

from claude_pool_nb.analysis.grids import TEMPLATE, Grid, shown
from claude_pool_nb.analysis.inputs import Rows, refuse_taken
from claude_pool_nb.analysis.tables import Table
from claude_pool_nb.config import TaskOverrides
from claude_pool_nb.engine.intake import check_prompts
from claude_pool_nb.errors import ConfigError, nearest

MAX_TASKS: Final = 1_000_000
"""A call may make so many tasks."""
SHOWN_NAMES: Final = 12
"""So many columns are named in a message."""


@dataclass(frozen=True, slots=True, eq=False)
class Design:
    """Tasks that are asked for: what `pool.accept` runs, and what a preview shows.

    Example:
        >>> design = Design.of_map(["good", "bad"], "Classify: {{ value }}", grid={"model": ["haiku", "sonnet"]}, n=3)
        >>> len(design), design.prompts[0], design.overrides[3]
        (12, 'Classify: good', TaskOverrides(model='sonnet'))
        >>> design.rows[-1], design.samples[-1]
        (1, 2)
    """

    verb: str
    """The word under which its run is listed: `map`, `fan_out`, `run`, `submit`."""
    prompts: list[str]
    """The text of each task."""
    overrides: list[TaskOverrides]
    """The options of each task; equal ones are one object."""
    rows: list[int]
    """Position of each task's input row, from 0."""
    samples: list[int]
    """Which of the n samples of its row each task is, from 0."""
    table: Table | None = None
    """The caller's own columns and the grid's, a row for each task; None if there are none."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """What the run's record tells of it: `template`, `grid`, `n`."""

    def __len__(self) -> int:
        """How many tasks there are."""
        return len(self.prompts)

    @classmethod
    def of_map(
        cls,
        data: Any,
        template: str | Sequence[str] | Mapping[str, str],
        *,
        grid: Mapping[str, Any] | None = None,
        n: int = 1,
        variables: Mapping[str, Any] | None = None,
        **overrides: Any,
    ) -> Self:
        """Fill a template with every row, for every combination of the grid, n times.

        Args:
            data: A DataFrame, a Series, a list, a dict of lists, mappings, or a polars frame.
            template: Jinja text, or several: a list, or a mapping of names to texts.
            grid: Values by name. A name of an option sets it, any other is a variable of the template.
            n: Samples of each.
            variables: More variables, looked at for what is neither a column nor in the grid.
            **overrides: Options of all tasks.

        Returns:
            The tasks, in the order: row, template, grid, sample.

        Raises:
            ConfigError: something is wrong with it; the message names the row, the column or the line.

        Example:
            >>> Design.of_map([{"txt": "good"}], "Classify: {{ text }}")
            Traceback (most recent call last):
            claude_pool_nb.errors.ConfigError: the template needs 'text', which is not defined; did you mean 'txt'?
        """
        from claude_pool_nb.templates import render

        count = _samples(n)
        rows = Rows.of(data)
        if not len(rows):
            raise ConfigError("the input has no rows, so there is nothing to run; nothing was sent")
        texts = _templates(template)
        several_templates = not isinstance(template, str)
        told = {label: f"template {label!r}: " if several_templates else "" for label in texts}
        needs = {label: _names(text, told[label], rows) for label, text in texts.items()}
        used = list(dict.fromkeys(name for several in needs.values() for name in several))
        if several_templates and TEMPLATE in rows.names():
            raise ConfigError(f"the frame tells the templates apart in a column {TEMPLATE!r}, which the input has too")
        for label, text in texts.items():
            _refuse_without_columns(text, needs[label], rows, told[label])
        every = Grid.of(grid, used=used, taken=[*rows.names(), *([TEMPLATE] if several_templates else ())])
        _refuse_twice(every, overrides)
        cells = every.cells()
        options = [every.overrides(cell, overrides) for cell in cells]
        values = _values(rows, used, every, variables or {})
        _refuse_too_many(len(rows) * len(texts) * len(cells) * count)
        from_grid = {label: [name for name in needs[label] if name in every.values] for label in texts}
        given = {name: several for name, several in values.items() if name in rows.names()}
        shared = {name: several for name, several in values.items() if name not in given}
        prompts: list[str] = []
        for at in range(len(rows)):
            row = {**shared, **{name: several[at] for name, several in given.items()}}
            for label, text in texts.items():
                known: dict[tuple[int, ...], str] = {}
                for cell in cells:
                    key = tuple(id(cell[name]) for name in from_grid[label])
                    if key not in known:
                        try:
                            known[key] = render(text, {**cell, **row})
                        except ConfigError as error:
                            raise _at_row(error, rows.label(at), told[label], every, cell) from error
                    prompts += [known[key]] * count
        labels = list(texts) if several_templates else None
        per_row = len(texts) * len(cells) * count
        return cls(
            verb="map",
            prompts=check_prompts(prompts, lambda at: f"the prompt of {rows.label(at // per_row)}"),
            overrides=[one for _ in range(len(rows) * len(texts)) for one in options for _ in range(count)],
            rows=[at for at in range(len(rows)) for _ in range(per_row)],
            samples=list(range(count)) * (len(prompts) // count),
            table=_table(rows, labels, every, cells, count),
            about={
                "template": template if isinstance(template, str) else texts,
                **({"grid": every.shown()} if every.values else {}),
                **({"n": count} if count > 1 else {}),
            },
        )

    @classmethod
    def of_prompts(
        cls, prompts: Any, *, grid: Mapping[str, Any] | None = None, n: int = 1, verb: str = "fan_out", **overrides: Any
    ) -> Self:
        """Take prompts as they are, for every combination of the grid, n times.

        Args:
            prompts: Texts: a list, a Series, or a DataFrame with a `prompt` column.
            grid: Values of options by name.
            n: Samples of each.
            verb: The word under which the run is listed.
            **overrides: Options of all tasks.

        Raises:
            ConfigError: something is wrong with it; the message names the prompt or the option.

        Example:
            >>> len(Design.of_prompts(["a poem", "a limerick"], n=2))
            4
        """
        count = _samples(n)
        rows = Rows.of_prompts(prompts)
        assert rows.prompts is not None
        texts = check_prompts(rows.prompts)
        every = Grid.of(grid, taken=rows.names())
        _refuse_twice(every, overrides)
        cells = every.cells()
        _refuse_too_many(len(texts) * len(cells) * count)
        options = [every.overrides(cell, overrides) for cell in cells]
        per_row = len(cells) * count
        return cls(
            verb=verb,
            prompts=[text for text in texts for _ in range(per_row)],
            overrides=[one for _ in texts for one in options for _ in range(count)],
            rows=[at for at in range(len(texts)) for _ in range(per_row)],
            samples=list(range(count)) * (len(texts) * len(cells)),
            table=_table(rows, None, every, cells, count) if rows.frame is not None or per_row > 1 else None,
            about={
                **({"grid": every.shown()} if every.values else {}),
                **({"n": count} if count > 1 else {}),
            },
        )

    def distinct_overrides(self) -> list[TaskOverrides]:
        """The options that its tasks have, each once.

        Example:
            >>> Design.of_prompts(["a", "b"], grid={"effort": ["low", "high"]}).distinct_overrides()
            [TaskOverrides(effort='low'), TaskOverrides(effort='high')]
        """
        return list({id(one): one for one in self.overrides}.values())

    def meta_json(self) -> str:
        """The form of its input and what was asked for, as JSON text for the run's record."""
        form = self.table.meta() if self.table is not None else {}
        return json.dumps({**form, **self.about}, ensure_ascii=False, default=str)

    def inputs_json(self) -> list[str] | None:
        """The caller's own columns of each task as JSON text, for its record."""
        return self.table.inputs_json() if self.table is not None else None


def _samples(n: Any) -> int:
    """How many samples of each row."""
    try:
        count = operator.index(n)
    except TypeError:
        count = 0
    if isinstance(n, bool) or count < 1:
        raise ConfigError(f"n={n!r} cannot work: n takes a whole number of at least 1")
    return count


def _templates(template: Any) -> dict[Any, str]:
    """Templates by what tells them apart."""
    if isinstance(template, str):
        texts: dict[Any, Any] = {0: template}
    elif isinstance(template, Mapping):
        texts = dict(template)
    elif isinstance(template, Iterable) and not isinstance(template, bytes):
        texts = dict(enumerate(template))
    else:
        texts = {}
    if not texts or not all(isinstance(text, str) for text in texts.values()):
        raise ConfigError("a template is text like 'Classify {{ text }}'; several are a list, or a mapping of names")
    for label, text in texts.items():
        if not text.strip():
            raise ConfigError(f"the template{'' if len(texts) == 1 else f' {label!r}'} is empty")
    return texts


def _names(text: str, told: str, rows: Rows) -> tuple[str, ...]:
    """The names that a template needs; its mistakes say which one it is."""
    from claude_pool_nb.templates import names

    try:
        return names(text)
    except ConfigError as error:
        raise ConfigError(f"{told}{error}{_rename(text, rows)}") from error


def _rename(text: str, rows: Rows) -> str:
    """What to do about a column whose name cannot stand in a template, as the end of a message."""
    apart = [name for name in rows.names() if not name.isidentifier()]
    name = next((name for name in apart if name in text or text in re.split(r"\W+", name)), None)
    if name is None:
        return ""
    new = re.sub(r"\W+", "_", name).strip("_") or "text"
    return f"; a template has no names like {name!r}: rename it first, with .rename(columns={{{name!r}: {new!r}}})"


def _refuse_without_columns(text: str, needs: Sequence[str], rows: Rows, told: str) -> None:
    """A template that says the same of every row is a mistake: most often `{text}` for `{{ text }}`."""
    columns = rows.names()
    if set(needs) & set(columns):
        return
    meant = next((name for name in columns if re.search(rf"(?<!{{){{\s*{re.escape(name)}\s*}}(?!}})", text)), None)
    if meant is not None:
        raise ConfigError(f"{told}the template has {{{meant}}}, which is plain text; write {{{{ {meant} }}}}")
    if len(rows) > 1 and not needs and not columns:
        raise ConfigError(f"{told}the input has rows but no columns, so all prompts are equal; use n for repetitions")
    if len(rows) > 1 and not needs:
        raise ConfigError(
            f"{told}the template uses no column of the input ({', '.join(columns[:SHOWN_NAMES])}), "
            f"so all prompts are equal; write one in as {{{{ {columns[0]} }}}}, "
            "or use n for repetitions"
        )


def _refuse_twice(grid: Grid, overrides: Mapping[str, Any]) -> None:
    twice = next((name for name in grid.values if name in overrides), None)
    if twice is not None:
        raise ConfigError(f"{twice} is given in the grid and beside it; leave one out")


def _refuse_too_many(tasks: int) -> None:
    if tasks > MAX_TASKS:
        raise ConfigError(f"these are {tasks:,} tasks; a call can make {MAX_TASKS:,}: take fewer rows, values or n")


def _values(rows: Rows, used: Iterable[str], grid: Grid, variables: Mapping[str, Any]) -> dict[str, Any]:
    """What the template uses: of columns the values of all rows, of others the value."""
    columns = set(rows.names())
    values: dict[str, Any] = {}
    for name in used:
        if name in columns:
            missing = rows.first_missing(name)
            if missing is not None:
                raise ConfigError(
                    f"{rows.label(missing)} has no value in the column {name!r}, which the template uses; "
                    f"fill it (fillna) or leave such rows out (dropna(subset=[{name!r}]))"
                )
            values[name] = rows.values(name)
        elif name in grid.values:
            continue
        elif name in variables:
            values[name] = variables[name]
        else:
            meant = _rename(name, rows) or _meant(name, rows, grid, variables)
            raise ConfigError(f"the template needs {name!r}, which is not defined{meant}")
    return values


def _meant(name: str, rows: Rows, grid: Grid, variables: Mapping[str, Any]) -> str:
    """What an undefined name may have been, as the end of a message: of a notebook's variables only what is close."""
    own = [*rows.names(), *grid.values]
    data = [key for key, value in variables.items() if not (key.startswith("_") or callable(value) or ismodule(value))]
    close = nearest(name, [*own, *data])
    if close.startswith("; did"):
        return close
    if not own:
        return "; the input has no columns"
    more = ", ..." if len(own) > SHOWN_NAMES else ""
    return f"; choose from {', '.join(own[:SHOWN_NAMES])}{more}{', or define a variable' if variables else ''}"


def _at_row(error: ConfigError, row: str, told: str, grid: Grid, cell: Mapping[str, Any]) -> ConfigError:
    """An error of rendering, with where it happened."""
    where = f"{row}, " + ", ".join(f"{name}={shown(cell[name])!r}" for name in cell) if grid.values else row
    return ConfigError(f"{where}: {told}{error}")


def _table(rows: Rows, labels: list[Any] | None, grid: Grid, cells: list[dict[str, Any]], count: int) -> Table:
    """The caller's own columns and the grid's, repeated as the tasks are."""
    import numpy as np
    import pandas as pd

    from claude_pool_nb.analysis import columns as col

    per_template = len(cells) * count
    per_row = per_template * len(labels or (0,))
    own = rows.frame if rows.frame is not None else pd.DataFrame(index=pd.RangeIndex(len(rows)))
    frame = own.take(np.repeat(np.arange(len(rows)), per_row))
    added: dict[str, Any] = {}
    if labels is not None:
        added[TEMPLATE] = col.inferred(labels), np.tile(np.repeat(np.arange(len(labels)), per_template), len(rows))
    turns = len(rows) * len(labels or (0,))
    for name in grid.columns():
        values = col.inferred([shown(cell[name]) for cell in cells])
        added[name] = values, np.tile(np.repeat(np.arange(len(cells)), count), turns)
    refuse_taken(added, "the grid")
    for name, (values, positions) in added.items():
        frame[name] = pd.Series(values).take(positions).array
    aside = [name for name in grid.values if name not in grid.columns()]
    told = [{name: shown(cell[name]) for name in aside} for cell in cells] if aside else None
    nested = [name for name, values in rows.given.items() if any(isinstance(one, list | dict) for one in values)]
    return Table(frame, [one for one in told for _ in range(count)] * turns if told is not None else None, nested)
