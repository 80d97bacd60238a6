"""What a line asks to be run, as a `Design`: prompts as they are, or a template over rows.

Invariants: what the line cannot mean is told before anything is spent; with `--over` the body of a cell (or the value
of the line's expression) is the template, without it the prompts; a grid's values are the words that were written,
numbers as numbers, and in braces a Python expression.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from claude_pool_nb.errors import ConfigError
from claude_pool_nb.notebook.call import Call
from claude_pool_nb.notebook.overrides import overrides_of
from claude_pool_nb.notebook.parser import VerbParser, number
from claude_pool_nb.notebook.prompts import many_prompts, split

if TYPE_CHECKING:
    from claude_pool_nb.analysis.design import Design

ABOUT = (
    "With --over the body of the cell is a template, filled with the columns of every row: Classify {{ text }}\n"
    "Its names are columns, then names of the grid, then variables of the notebook. --- separates several templates."
)
"""How a template is told in the help of a verb."""
TEXT_HELP = (
    "Python: a list or Series of strings, or a DataFrame with a prompt column; with --over the template, "
    "a string or several"
)
_GRID = re.compile(r"\s*([A-Za-z_]\w*)\s*=(.*)$", re.DOTALL)


def add_design_options(parser: VerbParser) -> None:
    """Rows for a template, the grid, and samples."""
    add = parser.add_argument
    over = add("--over", metavar="EXPR", help="rows for the template, in Python: a DataFrame, a Series, a list, a dict")
    grid = add(
        "--grid",
        metavar="NAME=A,B",
        action="append",
        default=[],
        help="run each with every value: of an option (model=haiku,sonnet) or a name in the template (tone=kind,blunt);"
        " may be repeated; NAME={EXPR} takes a list from Python",
    )
    add("--n", metavar="N", type=number(int, least=1), default=1, help="samples of each")
    parser.take_verbatim(over, grid)


def design_of(call: Call) -> Design:
    """What the line asks for.

    Raises:
        ConfigError: something is wrong with it; the message names the row, the column or the line.
    """
    from claude_pool_nb.analysis.design import Design

    args = call.args
    grid = grid_of(call)
    if args.over is None:
        return Design.of_prompts(many_prompts(call), grid=grid, n=args.n, **overrides_of(call))
    if args.vars:
        call.parser.error("--over fills in variables of the notebook by itself; leave --vars out")
    data = call.evaluate(args.over)
    return Design.of_map(data, _template(call), grid=grid, n=args.n, variables=call.namespace(), **overrides_of(call))


def _template(call: Call) -> Any:
    """The body of the cell, in one part or several, or the value of the expression."""
    if call.cell is not None:
        parts = split(call, call.cell)
        return parts[0] if len(parts) == 1 else parts
    if not call.args.text:
        call.parser.error(
            f"the template is missing: write it below %%pool {call.parser.verb} --over, or as an expression"
        )
    return call.evaluate(call.args.text)


def grid_of(call: Call) -> dict[str, Any] | None:
    """The grid that a line names, in its order."""
    grid: dict[str, Any] = {}
    for text in call.args.grid:
        found = _GRID.match(text)
        if found is None:
            call.parser.error(f"--grid {text} is no name with values; write it like --grid model=haiku,sonnet")
        name, values = found.groups()
        if name in grid:
            call.parser.error(f"--grid {name} is there twice; write its values beside each other: {name}=a,b")
        grid[name] = _values(call, name, values.strip())
    return grid or None


def _values(call: Call, name: str, text: str) -> list[Any]:
    """The values of one name."""
    if text.startswith("{") and text.endswith("}"):
        several = call.evaluate(text[1:-1].strip())
        if isinstance(several, str | dict) or not hasattr(several, "__iter__"):
            raise ConfigError(
                f"--grid {name}={text} is a {type(several).__name__}; in braces it takes a list, like {{[1, 2]}}"
            )
        return list(several)
    words = cut_words(text)
    if not all(words):
        call.parser.error(f"--grid {name}={text} has an empty value; write '' for an empty text")
    return [_value(word) for word in words]


def cut_words(text: str) -> list[str]:
    """Words between commas that stand outside quotation marks.

    Example:
        >>> cut_words("kind,'short, blunt'")
        ['kind', "'short, blunt'"]
    """
    return [word.strip() for word in re.findall(r"""(?:^|,)((?:[^,'"]|"[^"]*"|'[^']*'|['"])*)""", text)]


def _value(word: str) -> Any:
    """A word as what it looks like: a number, true, false, null, or text."""
    if len(word) >= 2 and word[0] == word[-1] and word[0] in "\"'":
        return word[1:-1]
    try:
        plain = json.loads(word)
    except ValueError:
        return {"True": True, "False": False, "None": None}.get(word, word)
    return word if isinstance(plain, list | dict) else plain
