"""A grid: every combination of the values that a caller wants tried on every row.

Invariants: a key that names an override sets it, any other is a variable of the template, and one that is neither is
refused with the nearest name; combinations come in the order of the keys, the last one changing fastest. A key has a
column of its own in the frame unless the frame has one of that name: `model` is told by `requested_model`,
`conversation` and `tags` by their own columns.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import product
from typing import Any, Final

from claude_pool_nb.analysis.inputs import refuse_taken
from claude_pool_nb.config import TaskOverrides
from claude_pool_nb.errors import ConfigError, nearest
from claude_pool_nb.option_values import UNSET

TEMPLATE: Final = "template"
"""The column that tells several templates apart."""
_TOLD_ELSEWHERE: Final = frozenset({"model", "conversation", "tags"})
"""Overrides that the frame has a column for; that of the model is `requested_model`."""


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """Names and their values, and which of them are overrides."""

    values: Mapping[str, Sequence[Any]]
    """By name, in the order in which they vary; the last one fastest."""

    @classmethod
    def of(cls, given: Mapping[str, Any] | None, *, used: Collection[str] = (), taken: Collection[str] = ()) -> Grid:
        """Check what a caller gave.

        Args:
            given: Values by name; a single value need not be a list.
            used: Names that the template uses.
            taken: Columns of the input.

        Raises:
            ConfigError: a name is neither an option nor in the template, or is a column already; a value is there
                twice; there are none.

        Example:
            >>> len(Grid.of({"model": ["haiku", "sonnet"], "tone": ["kind", "blunt"]}, used=["tone"]))
            4
            >>> Grid.of({"tnoe": ["kind"]}, used=["tone"])
            Traceback (most recent call last):
            claude_pool_nb.errors.ConfigError: grid: 'tnoe' is neither an option nor in the template; did you mean 'tone'?
        """  # noqa: E501 - the message is one line
        if given is None:
            return cls({})
        if not isinstance(given, Mapping):
            raise ConfigError(
                f"grid={given!r} cannot work: grid takes a mapping of names to lists, like {{'model': ['haiku']}}"
            )
        options = TaskOverrides.option_names()
        values: dict[str, list[Any]] = {}
        for key, several in given.items():
            name = str(key)
            if name in taken:
                raise ConfigError(f"grid: {name!r} is a column of the input too; rename one of them")
            if name not in options and name not in used:
                raise ConfigError(f"grid: {name!r} is neither an option nor in the template{_meant(name, used)}")
            values[name] = _listed(name, several)
        refuse_taken((name for name in values if name not in _TOLD_ELSEWHERE), "the grid")
        return cls(values)

    def __len__(self) -> int:
        """How many combinations there are; 1 without any name."""
        count = 1
        for several in self.values.values():
            count *= len(several)
        return count

    def cells(self) -> list[dict[str, Any]]:
        """The combinations, in order.

        Example:
            >>> Grid.of({"effort": ["low", "high"]}).cells()
            [{'effort': 'low'}, {'effort': 'high'}]
        """
        return [dict(zip(self.values, values, strict=True)) for values in product(*self.values.values())]

    def overrides(self, cell: Mapping[str, Any], common: Mapping[str, Any]) -> TaskOverrides:
        """The options of the tasks of one combination.

        Args:
            cell: One of `cells()`.
            common: Options of all tasks.

        Raises:
            ConfigError: an option has a value that cannot work.

        Example:
            >>> Grid.of({"effort": ["low"]}).overrides({"effort": "low"}, {"max_turns": 1})
            TaskOverrides(max_turns=1, effort='low')
        """
        names = TaskOverrides.option_names()
        return TaskOverrides.from_mapping({**common, **{name: cell[name] for name in cell if name in names}})

    def columns(self) -> list[str]:
        """The names that have a column of their own in the frame.

        Example:
            >>> Grid.of({"model": ["haiku"], "effort": ["low"]}).columns()
            ['effort']
        """
        return [name for name in self.values if name not in _TOLD_ELSEWHERE]

    def shown(self) -> dict[str, list[Any]]:
        """Its values as a frame and the ledger have them.

        Example:
            >>> Grid.of({"tools": [["Read", "Grep"], []]}).shown()
            {'tools': ['Read,Grep', '']}
        """
        return {name: [shown(value) for value in several] for name, several in self.values.items()}


def _meant(name: str, used: Collection[str]) -> str:
    """What may have been meant by a name, as the end of a sentence."""
    close = nearest(name, [*TaskOverrides.option_names(), *used])
    if close.startswith("; did"):
        return close
    return f"; write {{{{ {name} }}}} in the template, or name an option, like model or effort"


def shown(value: Any) -> Any:
    """A value of the grid as it stands in a column: plain ones as they are, others by name or as text.

    Example:
        >>> shown("kind"), shown(["a", "b"]), shown({"max_attempts": 1}), shown(dict)
        ('kind', 'a,b', '{"max_attempts": 1}', 'dict')
    """
    if value is UNSET:
        return None
    if isinstance(value, Enum):
        return shown(value.value)
    if isinstance(value, type):
        return value.__name__
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return ",".join(value)
    if isinstance(value, list | tuple | Mapping):
        return json.dumps(value, ensure_ascii=False, default=str)
    return value


def _listed(name: str, several: Any) -> list[Any]:
    """The values of one name."""
    if isinstance(several, str | bytes | Mapping | type) or not isinstance(several, Iterable):
        several = [several]
    values = list(several)
    if not values:
        raise ConfigError(f"grid: {name!r} has no values; give at least one, or leave it out")
    for at, value in enumerate(values):
        if any(type(value) is type(other) and repr(value) == repr(other) for other in values[:at]):
            raise ConfigError(f"grid: {name!r} has the value {value!r} twice; for repetitions use n")
    return values
