"""Frames of sums as they are shown: dollars as dollars, rates as percentages, seconds as durations.

Invariants: only what is shown is formatted, the frame holds plain numbers; headings are the names of columns; what a
selection of rows shows is shown the same way, and the line with the totals only below all rows; a frame of which only
some columns are left is shown as pandas shows it, because somebody has chosen them. What differs from run to run is
marked as such in the HTML.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from claude_pool_nb.display.html import MUTED, box, escape, volatile
from claude_pool_nb.display.text import count, money, seconds
from claude_pool_nb.records import nano

if TYPE_CHECKING:
    import pandas as pd

MAX_ROWS = 60
"""So many rows are shown."""
MAX_CHARS = 60
"""So much of one key is shown."""
_TELLING = (
    "tasks", "completed", "failed", "cancelled", "interrupted", "attempts", "success_rate", "cost_usd",
    "cost_per_completed_usd", "input_tokens", "output_tokens", "cache_hit_rate", "cache_saved_usd", "wait_s_p50",
    "duration_s_p50", "duration_s_p95",
)  # fmt: skip
"""What is shown of a frame with many columns."""
_ALWAYS = frozenset({"tasks", "attempts", "cost_usd"})
_PERCENT = ("_rate", "_share", "utilisation")
_VOLATILE = frozenset({"parallelism", "utilisation", "output_tokens_per_s", "slots"})


def sums_frame(frame: pd.DataFrame, *, label: str) -> pd.DataFrame:
    """The same frame, which shows what its numbers mean.

    Args:
        frame: The frame; `attrs["by"]` names its keys, `attrs["totals"]` what there is in all.
        label: What it is, for those who cannot see it.

    Example:
        >>> import pandas as pd
        >>> sums_frame(pd.DataFrame({"model": ["haiku"], "tasks": [1200], "cost_usd": [0.0011]}), label="costs")
        model  tasks  cost_usd
        haiku  1,200   $0.0011
    """
    shown = _class()(frame)
    shown.attrs.update(frame.attrs, label=label, rows=len(frame), columns=list(frame.columns))
    shown.attrs.setdefault("by", [])
    return shown  # type: ignore[no-any-return]


@lru_cache(maxsize=1)
def _class() -> Any:
    """The class, made when first needed: importing pandas takes its time."""
    import pandas as pd

    class SumsFrame(pd.DataFrame):
        """A DataFrame of sums that shows them for reading."""

        @property
        def _constructor(self) -> Any:
            return SumsFrame

        def __repr__(self) -> str:
            return _text(self) if _is_of_sums(self) else repr(pd.DataFrame(self))

        def _repr_html_(self) -> str | None:
            if _is_of_sums(self):
                return _html(self)
            plain: Any = pd.DataFrame(self)._repr_html_()  # type: ignore[operator]
            return plain  # type: ignore[no-any-return]

        def __reduce_ex__(self, protocol: Any) -> Any:
            return pd.DataFrame, (), pd.DataFrame(self).__getstate__()

    return SumsFrame


def _is_of_sums(frame: pd.DataFrame) -> bool:
    """Whether it still has all the columns that it was made with."""
    return list(frame.columns) == frame.attrs.get("columns")


def shown_columns(frame: pd.DataFrame) -> list[str]:
    """The columns that are shown in a table: the keys, and of the rest what says something.

    Example:
        >>> import pandas as pd
        >>> shown_columns(pd.DataFrame({"model": ["haiku"], "tasks": [1], "cost_usd": [0.0], "failed": [0]}))
        ['model', 'tasks', 'cost_usd']
    """
    keys = [name for name in frame.attrs.get("by", ()) if name in frame.columns]
    many = "success_rate" in frame.columns
    rest = [name for name in (_TELLING if many else frame.columns) if name in frame.columns and name not in keys]
    rest = [name for name in rest if name != "play_money" and (name in _ALWAYS or _says_something(frame[name]))]
    both = "play_money" in frame.columns and frame["play_money"].nunique() > 1
    return [*(["play_money"] if both else []), *keys, *rest]


def _says_something(column: pd.Series[Any]) -> bool:
    """Whether not all of it is missing or 0."""
    import pandas as pd

    there = column[column.notna()]
    return bool(len(there)) and not (pd.api.types.is_numeric_dtype(there) and bool((there == 0).all()))


def _cells(frame: pd.DataFrame) -> tuple[list[str], list[list[str]], bool]:
    """Headings, rows of texts, and whether it is one row that is shown as a list of names and values."""
    if len(frame) == 1 and not frame.attrs.get("by") and "success_rate" in frame.columns:
        names = [
            name for name in frame.columns if name != "play_money" and (name in _ALWAYS or _says_something(frame[name]))
        ]
        return ["", ""], [[name, said(name, frame[name].iloc[0])] for name in names], True
    names = shown_columns(frame)
    top = frame[names].head(MAX_ROWS)
    columns = [[said(name, value) for value in top[name]] for name in names]
    return names, [list(row) for row in zip(*columns, strict=True)], False


def said(name: str, value: Any) -> str:
    """A value of a column as text; what is missing, or no tag, is a dash.

    Example:
        >>> said("cost_usd", 0.0011), said("success_rate", 0.981), said("wait_s_p50", 75.0), said("tasks", 1200)
        ('$0.0011', '98.1 %', '1 min 15 s', '1,200')
    """
    import pandas as pd

    if value is None or pd.isna(value) or value == "":
        return "-"
    if isinstance(value, bool) or type(value).__name__ == "bool":
        return "yes" if value else "no"
    if isinstance(value, pd.Timestamp):
        return value.strftime("%Y-%m-%d" if name in {"day", "month"} else "%Y-%m-%d %H:%M")
    if isinstance(value, str):
        return value if len(value) <= MAX_CHARS else value[: MAX_CHARS - 1] + "…"
    if name.endswith("_usd"):
        return money(nano(float(value)))
    if name.endswith(_PERCENT):
        return f"{100 * float(value):.1f} %"
    if _is_duration(name):
        return f"{float(value):.2f} s" if 0 <= float(value) < 9.995 else seconds(float(value))
    if isinstance(value, float):
        return f"{value:,.1f}" if abs(value) >= 0.1 or value == 0 else f"{value:.2g}"
    return f"{value:,}"


def _is_duration(name: str) -> bool:
    return (name.endswith("_s") or "_s_" in name) and not name.endswith("_per_s")


def _differs(name: str) -> bool:
    """Whether a column's values differ from run to run."""
    return _is_duration(name) or name.endswith("_at") or name in _VOLATILE


def _note(frame: pd.DataFrame, *, listed: bool) -> str:
    """What there is in all, and what is not shown."""
    notes = []
    if len(frame) > MAX_ROWS:
        notes.append(f"{count(len(frame) - MAX_ROWS, 'more row')}.")
    totals: Sequence[Any] = frame.attrs.get("totals") or ()
    if len(frame) == frame.attrs.get("rows") and frame.attrs.get("by"):
        several = "tag" in frame.attrs["by"] and frame["tasks"].sum() > sum(total["tasks"] for total in totals)
        for total in totals:
            what = f"{money(total['cost_nano'])}{' of play money' if total['play_money'] else ''}"
            notes.append(f"In all {count(total['tasks'], 'task')}, {count(total['attempts'], 'attempt')}, {what}.")
        if several:
            notes.append("A task with two tags is in the row of each.")
    elif listed and bool(frame["play_money"].iloc[0]):
        notes.append("The dollars are play money.")
    hidden = len(frame.columns) - len(shown_columns(frame)) if not listed and "success_rate" in frame.columns else 0
    if hidden and len(frame):
        notes.append(f"{hidden} more columns: see .columns")
    return " ".join(notes)


def _text(frame: pd.DataFrame) -> str:
    names, rows, listed = _cells(frame)
    if not rows:
        return "nothing yet\n" + "  ".join(names)
    left = {0} if listed else {i for i, name in enumerate(names) if _is_words(frame, name)}
    table = rows if listed else [names, *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = [
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
    note = _note(frame, listed=listed)
    return "\n".join([*lines, "", note] if note else lines)


def _is_words(frame: pd.DataFrame, name: str) -> bool:
    import pandas as pd

    return not pd.api.types.is_numeric_dtype(frame[name])


def _html(frame: pd.DataFrame) -> str:
    names, rows, listed = _cells(frame)
    label = str(frame.attrs.get("label", "sums"))
    if not rows:
        return box("<p>nothing yet</p>", label=label)

    def cell(name: str, text: str, *, words: bool) -> str:
        side = "left" if words else "right"
        return f'<td style="text-align:{side}">{volatile(text) if _differs(name) else escape(text)}</td>'

    if listed:
        head = ""
        body = "".join(
            f'<tr><th scope="row" style="text-align:left">{escape(name)}</th>{cell(name, text, words=False)}</tr>'
            for name, text in rows
        )
    else:
        words = [_is_words(frame, name) for name in names]
        sides = ["left" if is_words else "right" for is_words in words]
        heads = zip(names, sides, strict=True)
        head = "".join(f'<th scope="col" style="text-align:{side}">{escape(name)}</th>' for name, side in heads)
        head = f"<thead><tr>{head}</tr></thead>"
        body = "".join(
            "<tr>" + "".join(cell(n, text, words=w) for n, text, w in zip(names, row, words, strict=True)) + "</tr>"
            for row in rows
        )
    note = _note(frame, listed=listed)
    below = f'<p style="{MUTED}">{escape(note)}</p>' if note else ""
    return box(f"<table>{head}<tbody>{body}</tbody></table>{below}", label=label)
