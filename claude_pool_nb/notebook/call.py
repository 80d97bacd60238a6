"""One `%pool` line on its way: what a verb gets to work with.

Invariants: a name for `--into` is checked before anything is spent, and is set also when the verb is interrupted; an
expression of the user fails with the user's own error, a name that does not exist with the nearest one that does.
"""

from __future__ import annotations

import argparse
import linecache
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

from claude_pool_nb.errors import ConfigError, NoPool
from claude_pool_nb.notebook.parser import VerbParser, did_you_mean

if TYPE_CHECKING:
    from claude_pool_nb.notebook.magics import PoolMagics
    from claude_pool_nb.pool import Pool

_OF_A_LINE = "%pool"
"""What the file names of users' expressions begin with."""


@dataclass(slots=True)
class Call:
    """A verb, its arguments, and the notebook it was written in."""

    magics: PoolMagics
    """The magics object: the shell and the defaults."""
    parser: VerbParser
    """The options of the verb, for its errors."""
    args: argparse.Namespace
    """What was written."""
    cell: str | None = None
    """The body of the cell, if it is a cell magic."""
    local_ns: Mapping[str, Any] = field(default_factory=dict)
    """The variables of the function that the line stands in, if it does."""

    @property
    def pool(self) -> Pool:
        """The kernel's current pool.

        Raises:
            NoPool: if there is none.
        """
        pool = current_pool()
        if pool is None:
            raise NoPool
        return pool

    def namespace(self) -> dict[str, Any]:
        """All variables that the line can see."""
        return {**self.magics.host.user_ns, **self.local_ns}

    def variable(self, name: str) -> Any:
        """A variable of the notebook.

        Raises:
            ConfigError: if there is none of that name.
        """
        names = self.namespace()
        if name not in names:
            raise ConfigError(f"there is no variable {name!r} in this notebook{self._nearest(name)}")
        return names[name]

    def evaluate(self, text: str) -> Any:
        """The value of a Python expression of the user.

        Raises:
            UsageError: if it is no expression.
            ConfigError: if it names a variable that does not exist.
        """
        if not text:
            self.parser.error(f"{self.parser.text_name} is missing: {self.parser.text_help}")
        try:
            code = compile(text, _source(self.parser.verb, text), "eval")
        except SyntaxError as error:
            self.parser.error(f"{text!r} is no Python expression: {error.msg}")
        try:
            # The user's own expression in the user's own notebook; one namespace, so that comprehensions see it all.
            return eval(code, self.namespace())
        except NameError as error:
            if error.name is None:
                raise
            raise ConfigError(
                f"there is no variable {error.name!r} in this notebook{self._nearest(error.name)}"
            ) from None

    def _nearest(self, name: str) -> str:
        mine = [known for known in self.namespace() if not known.startswith("_")]
        hint = did_you_mean(name, mine)
        return hint if hint.startswith("; did") else "; define it in a cell above"

    def keep(self, value: Any) -> Any:
        """Store a value under the name that `--into` gave, and hand it on."""
        name = getattr(self.args, "into", None)
        if name:
            self.magics.host.user_ns[name] = value
        return value


def _source(verb: str, text: str) -> str:
    """A file name for an expression, under which tracebacks find its text."""
    name = f"<{_OF_A_LINE} {verb}>"
    linecache.cache[name] = len(text), None, text.splitlines(keepends=True), name
    return name


def below_ours(trace: TracebackType | None) -> TracebackType | None:
    """A traceback from the user's own expression on, if the error came from there; else all of it.

    Example:
        >>> below_ours(None) is None
        True
    """
    inner = trace
    while inner is not None:
        if inner.tb_frame.f_code.co_filename.startswith(f"<{_OF_A_LINE} "):
            return inner
        inner = inner.tb_next
    return trace


def current_pool() -> Pool | None:
    """The kernel's pool, if there is one that still takes work; imports nothing if there never was one."""
    import sys

    module = sys.modules.get("claude_pool_nb.pool")
    pool: Pool | None = module.current() if module and module.has_current() else None
    return pool
