r"""Frames as pages to be read: html and Markdown.

Invariants: text stays text: no markup, script, image, link or formula comes of a cell, and a row of a table is never
broken by what is in it; nothing is loaded from anywhere; a page says what it shows before it shows it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from claude_pool_nb.errors import plain

if TYPE_CHECKING:
    import pandas as pd

_STYLE = """
:root { color-scheme: light dark; }
body { font: 14px/1.45 system-ui, sans-serif; margin: 1.5rem; }
table { border-collapse: collapse; }
th, td { border: 1px solid #8886; padding: 0.25rem 0.5rem; text-align: left; vertical-align: top; }
table.data { width: max-content; }
td div { white-space: pre-wrap; overflow-wrap: anywhere; max-width: 40rem; max-height: 30rem; overflow: auto; }
td.number { text-align: right; white-space: nowrap; }
th[scope=col] { position: sticky; top: 0; background: Canvas; }
caption { text-align: left; padding: 0.5rem 0; font-weight: bold; }
"""
_ACTIVE = re.compile(r"[\\`*\[\]!~|$#<>&]|(?<!\w)_|_(?!\w)")
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
_ADDRESS = re.compile(r"(?i)(?<=https)(?=://)|(?<=http)(?=://)|(?<=www)(?=\.)")


def flattened(about: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested metadata as lines of a name and a text; the columns, which have a table of their own, are left out.

    Example:
        >>> list(flattened({"rows": 2, "runs": [{"run_id": "r1", "tags": ["a", "b"]}]}))
        [('rows', '2'), ('r1 tags', 'a, b')]
    """
    for key, value in about.items():
        name = f"{prefix}{key}".replace("_", " ")
        if key == "columns" and not prefix:
            continue
        if isinstance(value, Mapping):
            yield from flattened(value, f"{name} ")
        elif isinstance(value, list | tuple) and any(isinstance(one, Mapping) for one in value):
            for number, one in enumerate(value, 1):
                rest = {key: part for key, part in one.items() if key != "run_id"}
                yield from flattened(rest, f"{one.get('run_id', f'{name} {number}')} ")
        elif isinstance(value, list | tuple):
            if value:
                yield name, ", ".join(map(str, value))
        elif value is not None:
            yield name, str(value)


def texts_of(column: pd.Series[Any], escaped: Callable[[str], str]) -> list[str]:
    """The values of a column as texts that are ready for a page; nothing for what is missing.

    Args:
        column: Any column.
        escaped: What makes a text ready.

    Example:
        >>> import pandas as pd
        >>> texts_of(pd.Series([0.25, None]), str), texts_of(pd.Series([True]), str), texts_of(pd.Series(["<"]), escape)
        (['0.25', ''], ['true'], ['&lt;'])
    """
    import pandas as pd

    values: list[Any] = column.tolist()
    gone: list[bool] = column.isna().tolist()
    if pd.api.types.is_bool_dtype(column.dtype):
        return ["" if none else str(value).lower() for value, none in zip(values, gone, strict=True)]
    if pd.api.types.is_numeric_dtype(column.dtype):
        return ["" if none else str(value) for value, none in zip(values, gone, strict=True)]
    known: dict[str, str] = {}  # most columns say the same few things again and again
    made = []
    for value, none in zip(values, gone, strict=True):
        text = "" if none else str(value).lower() if isinstance(value, bool) else str(value)
        shown = known.get(text)
        if shown is None:
            shown = known[text] = escaped(plain(text))
        made.append(shown)
    return made


def _rows(frame: pd.DataFrame, escaped: Callable[[str], str]) -> Iterator[tuple[str, ...]]:
    """The rows of a frame as texts that are ready for a page."""
    return zip(*(texts_of(frame.iloc[:, position], escaped) for position in range(frame.shape[1])), strict=True)


def _title(about: Mapping[str, Any]) -> str:
    """What a page is headed by."""
    runs = [str(run.get("run_id")) for run in about.get("runs", ())]
    of = f" of {', '.join(runs[:3])}{' and others' if len(runs) > 3 else ''}" if runs else ""
    return f"{about.get('what', 'data')}{of}{' (play money)' if about.get('money') == 'play money' else ''}"


def html_page(frame: pd.DataFrame, about: Mapping[str, Any]) -> str:
    """A page of its own: what is known of the data, then the data.

    Args:
        frame: What to show.
        about: Metadata with `columns`.
    """
    import pandas as pd

    title = escape(_title(about))
    facts = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(plain(text))}</td></tr>' for name, text in flattened(about)
    )
    units = about.get("columns", {})
    heads = "".join(
        f'<th scope="col">{escape(plain(str(name)))}'
        + (f" ({escape(units[str(name)]['unit'])})" if units.get(str(name), {}).get("unit") else "")
        + "</th>"
        for name in frame.columns
    )
    numeric = [pd.api.types.is_numeric_dtype(dtype) for dtype in frame.dtypes]
    rows = "\n".join(
        "<tr>"
        + "".join(
            f"<td class=number>{value}</td>" if is_number else f"<td><div>{value}</div></td>"
            for value, is_number in zip(row, numeric, strict=True)
        )
        + "</tr>"
        for row in _rows(frame, escape)
    )
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
        f"<table><caption>About</caption>\n<tbody>{facts}</tbody></table>\n"
        f"<table class=data><caption>{len(frame):,} rows</caption>\n<thead><tr>{heads}</tr></thead>\n"
        f"<tbody>\n{rows}\n</tbody></table>\n</body>\n</html>\n"
    )


def cell(text: str) -> str:
    r"""A text as the cell of a Markdown table.

    Example:
        >>> print(cell("a | b\n**c** <img src=x> http://x.y"))
        a \| b<br>\*\*c\*\* &lt;img src=x&gt; http\://x.y
    """
    active = _ACTIVE.sub(lambda found: _ENTITIES.get(found.group(), f"\\{found.group()}"), text.replace("\r\n", "\n"))
    return re.sub(r"[\r\n]", "<br>", _ADDRESS.sub(r"\\", active))


def markdown_page(frame: pd.DataFrame, about: Mapping[str, Any]) -> str:
    """A Markdown page: what is known of the data, then the data as a table.

    Args:
        frame: What to show.
        about: Metadata with `columns`.
    """
    units = about.get("columns", {})
    lines = [f"# {cell(_title(about))}", ""]
    lines += [f"- {cell(name)}: {cell(plain(text))}" for name, text in flattened(about)]
    heads = []
    for name in frame.columns:
        unit = units.get(str(name), {}).get("unit")
        heads.append(cell(plain(str(name))) + (f" ({unit})" if unit else ""))
    lines += ["", f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    lines += [f"| {' | '.join(row)} |" for row in _rows(frame, cell)]
    return "\n".join(lines) + "\n"
