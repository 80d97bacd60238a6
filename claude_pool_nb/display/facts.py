"""Frames that are read rather than computed with: every row is shown, with its whole text.

pandas shows ten rows of a long frame and fifty characters of a long text, which hides just what a person has asked for.

Invariants: what is shown is escaped, and so short that no page breaks; the frame itself holds everything.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from claude_pool_nb.display.html import box, escape
from claude_pool_nb.errors import plain

if TYPE_CHECKING:
    import pandas as pd

MAX_CHARS = 4_000
"""So much of one text is shown."""


def facts_frame(frame: pd.DataFrame, *, label: str) -> pd.DataFrame:
    """The same frame, which shows all of its rows, in full.

    Args:
        frame: The frame.
        label: What it is, for those who cannot see it.

    Example:
        >>> import pandas as pd
        >>> facts_frame(pd.DataFrame({"what": ["python", "model"], "ok": [True, False]}), label="facts")
        what    ok
        python  yes
        model   no
    """
    facts = _class()(frame)
    facts.attrs["label"] = label
    return facts  # type: ignore[no-any-return]


@lru_cache(maxsize=1)
def _class() -> Any:
    """The class, made when first needed: importing pandas takes its time."""
    import pandas as pd

    class FactsFrame(pd.DataFrame):
        """A DataFrame that shows every row in full; what is made from it is a plain DataFrame."""

        def __repr__(self) -> str:
            return _text(self)

        def _repr_html_(self) -> str:
            return _html(self)

        def __reduce_ex__(self, protocol: Any) -> Any:
            return pd.DataFrame, (), pd.DataFrame(self).__getstate__()

    return FactsFrame


def _text(frame: pd.DataFrame) -> str:
    rows = [[str(name) for name in frame.columns], *([said(v) for v in row] for row in frame.itertuples(index=False))]
    # Columns stand under each other; the texts of several lines, and the last ones, take what they need.
    widths = [min(40, max(len(row[i]) for row in rows if "\n" not in row[i])) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _html(frame: pd.DataFrame) -> str:
    style = "text-align:left;white-space:pre-wrap;overflow-wrap:anywhere;vertical-align:top"
    head = "".join(f'<th scope="col" style="text-align:left">{escape(name)}</th>' for name in frame.columns)
    body = "".join(
        "<tr>" + "".join(f'<td style="{style}">{escape(said(value))}</td>' for value in row) + "</tr>"
        for row in frame.itertuples(index=False)
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return box(table, label=str(frame.attrs.get("label", "facts")))


def said(value: Any) -> str:
    """A value as text: nothing for what is missing, and a very long text cut.

    Example:
        >>> said(True), said(None), said("x" * 4_002)[-24:]
        ('yes', '', '... (4,002 characters)')
    """
    import pandas as pd

    if value is None or value is pd.NA:
        return ""
    if isinstance(value, bool) or type(value).__name__ == "bool":
        return "yes" if value else "no"
    text = str(value)
    shown = plain(text[:MAX_CHARS])
    return shown if len(text) <= MAX_CHARS else f"{shown}... ({len(text):,} characters)"
