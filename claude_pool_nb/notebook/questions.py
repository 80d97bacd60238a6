"""Prompts that end in a question mark.

IPython takes a line that ends in `?` for a wish to see help, so that `%pool run What is Rust?` would never be run.
Lines of verbs that take a prompt are rewritten to the call they mean before IPython looks for question marks.

Invariants: only whole `%pool run ...?` and `%pool submit ...?` lines outside of other text are touched; `%pool?` and
`%pool run?` still show help; the body of a cell magic is left alone.
"""

from __future__ import annotations

import io
import re
import tokenize

_LINE = re.compile(
    r"^([ \t]*)((?:[A-Za-z_]\w*[ \t]*=[ \t]*)?)%pool[ \t]+((?:run|submit|pause|context)[ \t]+\S.*\?)[ \t]*$"
)


def run_questions(lines: list[str]) -> list[str]:
    r"""Rewrite the lines of a cell.

    Example:
        >>> run_questions(["x = %pool run Why?\n", "%pool?\n"])
        ["x = get_ipython().run_line_magic('pool', 'run Why?')\n", '%pool?\n']
        >>> run_questions(["%%pool run\n", "%pool run Why?\n"])
        ['%%pool run\n', '%pool run Why?\n']
    """
    if not any(_LINE.match(line.rstrip("\n")) for line in lines):
        return lines
    first = next((line for line in lines if line.strip()), "")
    if first.startswith("%%"):
        return lines
    inside = _inside_strings(lines)
    return [line if number in inside else _rewritten(line) for number, line in enumerate(lines)]


def _rewritten(line: str) -> str:
    body = line.rstrip("\n")
    found = _LINE.match(body)
    if found is None:
        return line
    indent, target, rest = found.groups()
    return f"{indent}{target}get_ipython().run_line_magic('pool', {rest!r})" + line[len(body) :]


def _inside_strings(lines: list[str]) -> set[int]:
    """The numbers of lines that begin inside a string of several lines."""
    # Magic lines are no Python: they stand as comments while the strings around them are found.
    text = "".join(re.sub(r"^[ \t]*(?:[A-Za-z_]\w*[ \t]*=[ \t]*)?[%!?].*", "#", line) for line in lines)
    inside: set[int] = set()
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.end[0] > token.start[0]:
                inside.update(range(token.start[0], token.end[0]))
    except (tokenize.TokenError, SyntaxError):
        return inside  # IPython itself will say what is wrong with the cell
    return inside
