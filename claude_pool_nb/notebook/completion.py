"""Tab completion of `%pool` lines: verbs, options, values, ids, and variables where an expression stands.

Invariants: outside a `%pool` line it offers nothing and suppresses nothing; it never waits for the pool.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from claude_pool_nb.analysis.keys import COST_KEYS, METRIC_KEYS, USAGE_KEYS
from claude_pool_nb.model_names import MODEL_ALIASES
from claude_pool_nb.notebook.call import current_pool
from claude_pool_nb.notebook.parser import Takes, VerbParser, words
from claude_pool_nb.notebook.paths import paths_from
from claude_pool_nb.notebook.verbs import VERBS

if TYPE_CHECKING:
    from claude_pool_nb.notebook.magics import PoolMagics

_LINE = re.compile(r"^\s*(?:[^%#'\"]*=\s*)?%%?pool\s(.*)$", re.DOTALL)
_WORD = re.compile(r"[^\s=]*$")
_NAME = re.compile(r"[A-Za-z_]\w*$")
_IN_GRID = re.compile(r"--grid[ =]+(?:([A-Za-z_]\w*)=(?:\S*,)?)?([^\s=,]*)$")
_RUN_ID = re.compile(r"\br\d+\b")
_APART = re.compile(r"[\s,'\"]")
"""What a column's name cannot have to be written as a word of a list."""
_OVER = re.compile(r"--over[ =]+([A-Za-z_]\w*)")
MAX_IDS = 50
"""So many of the latest ids are offered."""

_KEYS = {"cost": COST_KEYS, "metrics": METRIC_KEYS, "usage": USAGE_KEYS}
_COLUMN_VERBS = frozenset({"compare", "metrics"})
"""Verbs that take columns of an input."""
_RUN_VERBS = frozenset({"retry", "resume", "compare"})
_TASK_VERBS = frozenset({"result", "show"})
_PLACED_VERBS = frozenset({"plot", "export"})
_PATHS = frozenset({"save", "record", "cassette", "store"})
"""Options whose value is a file."""
_BOTH_VERBS = frozenset({"wait", "cancel"})


class PoolMatcher:
    """What IPython's completer asks.

    Args:
        magics: The magics object, for the options of its verbs.
    """

    def __init__(self, magics: PoolMagics) -> None:
        self._magics = magics
        self.match = self._make()

    def _make(self) -> Any:
        from IPython.core.completer import SimpleCompletion, context_matcher

        @context_matcher()  # type: ignore[untyped-decorator, unused-ignore]
        def pool_matcher(context: Any) -> dict[str, Any]:
            before = context.full_text[: _offset(context)]
            # A cell magic's first line is its line; below it there is free text.
            line = before.rsplit("\n", 1)[-1]
            if "\n" in before and before.lstrip().startswith("%%pool"):
                return {"completions": []}
            found = _LINE.match(line)
            if not found:
                return {"completions": []}
            below = context.full_text[_offset(context) :].partition("\n")[2]
            fragment, words, kind = self.offers(found.group(1), below)
            if not words:
                return {"completions": []}
            return {
                "completions": [SimpleCompletion(text=word, type=kind) for word in words],
                "matched_fragment": fragment,
                "suppress": True,
                "ordered": True,
            }

        return pool_matcher

    def offers(self, typed: str, below: str = "") -> tuple[str, list[str], str]:
        """What fits after `typed` (all that stands behind `%pool `): the fragment, the words, and their kind.

        Args:
            typed: The line up to the cursor.
            below: The body of the cell, whose template names what a grid can vary.
        """
        verb, blank, rest = typed.lstrip().partition(" ")
        if not blank:
            return verb, [name for name in VERBS if name.startswith(verb)], "keyword"
        if verb not in VERBS:
            return "", [], ""
        if verb == "help":
            return rest, [name for name in VERBS if name.startswith(rest)], "keyword"
        parser = self._magics.parser(verb)
        in_grid = _IN_GRID.search(rest)
        if in_grid and parser.action_of("--grid"):
            name, value = in_grid.groups()
            if name is not None:
                return value, _starting(value, self._grid_values(name)), "param"
            return value, _starting(value, [f"{name}=" for name in self._grid_names(rest, below)]), "param"
        fragment = _WORD.search(rest)
        word = fragment.group() if fragment else ""
        before = rest[: len(rest) - len(word)]
        previous = before.rstrip(" =").rsplit(" ", 1)[-1]
        if before[-1:] in {" ", "="} and parser.takes_value(previous):
            return word, _starting(word, self._values(parser, previous, word, rest)), "param"
        if word.startswith("-"):
            return word, _starting(word, parser.options()), "param"
        if parser.takes is Takes.EXPRESSION:
            name = _NAME.search(word)
            start = name.group() if name else ""
            if word and not start:
                return "", [], ""
            return start, self._variables(start), "instance"
        if parser.takes is Takes.WORDS:
            offered = self._in_place(parser, before, word) if verb in _PLACED_VERBS else self._ids(verb)
            return word, _starting(word, offered), "instance"
        return "", [], ""

    def _in_place(self, parser: VerbParser, before: str, word: str) -> list[str]:
        """What a verb takes at this place: one of few words, a run, a file."""
        place = parser.placed(before)
        if place is None:
            return []
        if place.choices is not None:
            return [str(choice) for choice in place.choices]
        return [*self._run_ids(), "all"] if place.dest == "run" else paths_from(word)

    def _values(self, parser: VerbParser, option: str, word: str, line: str) -> Iterable[str]:
        action = parser.action_of(option)
        if action is None:
            return ()
        if offered := parser.offered(option):
            return offered
        if action.dest in {"model", "fallback_model"}:
            return MODEL_ALIASES
        if action.dest in {"schema", "into", "over", "template"}:
            return self._variables("")
        if action.dest == "run":
            return self._run_ids()
        if action.dest in {"by", "on", "expect"}:
            before, comma, _ = word.rpartition(",") if action.type is words else ("", "", "")
            names = [*_KEYS.get(parser.verb, ()), *(self._columns(line) if parser.verb in _COLUMN_VERBS else ())]
            if parser.verb == "compare" and action.dest == "by":
                names = ["model", *names]
            return [f"{before}{comma}{name}" for name in dict.fromkeys(names)]
        if action.dest in _PATHS:
            return paths_from(word)
        return ()

    def _grid_names(self, line: str, below: str) -> list[str]:
        """What a grid can vary: names of the template that the rows do not have, then options."""
        from claude_pool_nb.config import TaskOverrides
        from claude_pool_nb.errors import ConfigError
        from claude_pool_nb.templates import names

        over = _OVER.search(line)
        rows = self._magics.host.user_ns.get(over.group(1)) if over else None
        columns = {str(column) for column in getattr(rows, "columns", ())}
        try:
            used = names(below) if over else ()
        except ConfigError:  # the template is still being written
            used = ()
        return list(dict.fromkeys([*(name for name in used if name not in columns), *TaskOverrides.option_names()]))

    @staticmethod
    def _grid_values(name: str) -> list[str]:
        """Values of an option that has few."""
        from claude_pool_nb.config import Effort, PermissionMode

        words: dict[str, Iterable[str]] = {
            "model": MODEL_ALIASES,
            "fallback_model": MODEL_ALIASES,
            "effort": Effort,
            "permission_mode": PermissionMode,
        }
        return [str(word) for word in words.get(name, ())]

    def _variables(self, start: str) -> list[str]:
        names = self._magics.host.user_ns
        hidden = self._magics.host.user_ns_hidden
        return sorted(
            name for name in names if name.startswith(start) and not name.startswith("_") and name not in hidden
        )

    def _ids(self, verb: str) -> list[str]:
        if verb in _RUN_VERBS:
            return self._run_ids()
        if verb in _TASK_VERBS:
            return self._task_ids()
        if verb in _BOTH_VERBS:
            return [*(["all"] if verb == "cancel" else []), *self._run_ids(), *self._task_ids()]
        return []

    def _run_ids(self) -> list[str]:
        """The latest runs, those of earlier kernels too: these are what is resumed."""
        from claude_pool_nb.store import queries

        pool = current_pool()
        return [run.id for run in reversed(queries.runs(pool.ledger, limit=MAX_IDS))] if pool else []

    def _columns(self, line: str) -> list[str]:
        """The columns of the input, grid included, of the first run that a line names, or of the latest one."""
        from claude_pool_nb.errors import RunNotFound
        from claude_pool_nb.store import queries

        pool = current_pool()
        if pool is None:
            return []
        named = _RUN_ID.search(line)
        try:
            run = queries.run(pool.ledger, named.group()) if named else queries.latest_run(pool.ledger)
        except RunNotFound:
            return []
        names = (json.loads(run.meta).get("columns") or ()) if run else ()
        return [name for name in names if not _APART.search(name)]

    def _task_ids(self) -> list[str]:
        pool = current_pool()
        return [task.id for task in pool.aio.engine.state.tasks()][: -MAX_IDS - 1 : -1] if pool else []


def _offset(context: Any) -> int:
    """The cursor as an offset into the whole text."""
    lines = context.full_text.split("\n")
    return sum(len(line) + 1 for line in lines[: context.cursor_line]) + int(context.cursor_position)


def _starting(word: str, choices: Iterable[str]) -> list[str]:
    return [choice for choice in choices if choice.startswith(word)]
