"""A comparison as text and HTML: what agrees, what each variant took, and where the answers differ, word by word.

Invariants: what was taken away is marked `[-so-]` and what was added `{+so+}`, in HTML too, so that colour never says
it alone; every text is the model's and is escaped; long texts are cut in what is shown, around their first difference,
and few rows are shown, the frame holds everything; dollars of different variants are never added up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from claude_pool_nb.display import html
from claude_pool_nb.display.text import aligned, count, money, one_line, seconds
from claude_pool_nb.errors import plain
from claude_pool_nb.records import nano

if TYPE_CHECKING:
    import pandas as pd

    from claude_pool_nb.analysis.compare import Comparison

MAX_ROWS = 10
"""So many rows that differ are shown."""
MAX_CHARS = 400
"""So much of each answer is shown."""
BEFORE_CHARS = 60
"""So much of what is the same is shown before the first difference of a long text."""
MAX_VARIANTS = 8
"""So many variants of a row are shown."""
MAX_CONFUSED = 12
"""A confusion table with more columns is not shown."""

_WORDS = re.compile(r"\s+|\w+|[^\w\s]")


def word_changes(old: str, new: str) -> list[tuple[str, str]]:
    """What has to be done to a text to make another of it: pairs of `=`, `-` or `+` and a piece of text.

    Example:
        >>> word_changes("a good day", "a bad day")
        [('=', 'a '), ('-', 'good'), ('+', 'bad'), ('=', ' day')]
    """
    before, after = _WORDS.findall(old), _WORDS.findall(new)
    changes: list[tuple[str, str]] = []
    for what, i, j, k, m in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if what == "equal":
            changes.append(("=", "".join(before[i:j])))
            continue
        if j > i:
            changes.append(("-", "".join(before[i:j])))
        if m > k:
            changes.append(("+", "".join(after[k:m])))
    return changes


def marked(old: str, new: str) -> str:
    """A text with its differing words marked against another.

    Example:
        >>> marked("a good day", "a bad day")
        'a [-good-]{+bad+} day'
    """
    forms = {"=": "{}", "-": "[-{}-]", "+": "{{+{}+}}"}
    return plain("".join(forms[what].format(piece) for what, piece in word_changes(old, new)))


def marked_html(old: str, new: str) -> str:
    """The same as HTML: `<del>` and `<ins>` around the same marks.

    Example:
        >>> marked_html("good", "<b>")
        '<del>[-good-]</del><ins>{+&lt;b&gt;+}</ins>'
    """
    forms = {"=": "{}", "-": "<del>[-{}-]</del>", "+": "<ins>{{+{}+}}</ins>"}
    return "".join(forms[what].format(html.escape(piece)) for what, piece in word_changes(old, new))


def cut(texts: Sequence[str]) -> list[str]:
    """Texts as they are shown beside each other: long ones from shortly before their first difference on.

    Example:
        >>> [len(text) for text in cut(["a" * 1000 + "b", "a" * 1000 + "c"])], cut(["hi", "ho"])
        ([62, 62], ['hi', 'ho'])
    """
    if all(len(text) <= MAX_CHARS for text in texts):
        return list(texts)
    same = 0
    if len(set(texts)) > 1:
        low, high = min(texts), max(texts)  # what these two have in common all have
        same = next((at for at, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low))
    start = max(0, same - BEFORE_CHARS)
    return [_between(text, start) for text in texts]


def _between(text: str, start: int) -> str:
    end = start + MAX_CHARS
    tail = f"… ({len(text):,} characters)" if len(text) > end else ""
    return f"{'…' if start else ''}{text[start:end]}{tail}"


# -- the whole ---------------------------------------------------------------------------------------------------------


def comparison_text(comparison: Comparison) -> str:
    """All of it as text.

    Example:
        >>> from claude_pool_nb import Pool
        >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
        ...     run = pool.fan_out(["ping"], grid={"model": ["demo-small", "demo-large"]})
        ...     print(comparison_text(pool.compare(run)).splitlines()[0])
        demo-small and demo-large: 1 of 1 row agrees (100 %)
    """
    parts = [_headline(comparison), "\n".join(aligned(_summary(comparison)))]
    parts += ["\n".join([title, *aligned(rows)]) for title, rows in _tables(comparison)]
    rows = _differing(comparison)
    if rows:
        parts.append(f"Rows that differ, marked [-only in {comparison.variants[0]}-] {{+only here+}}:")
    for title, first, others in rows:
        lines = [title, f"  {first[0]}: {plain(first[1])}"]
        lines += [
            f"  {label}: {marked(first[1], text) if text is not None else '(no answer)'}" for label, text in others
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(part for part in [*parts, *_rest(comparison, rows)] if part)


def comparison_html(comparison: Comparison) -> str:
    """The same as static HTML.

    Example:
        >>> from claude_pool_nb import Pool
        >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
        ...     run = pool.fan_out(["ping"], grid={"model": ["demo-small", "demo-large"]})
        ...     "1 of 1 row agrees" in comparison_html(pool.compare(run))
        True
    """
    parts = [f"<div><b>{html.escape(_headline(comparison))}</b></div>", _html_table(_summary(comparison))]
    parts += [_html_table(rows, caption=title) for title, rows in _tables(comparison)]
    rows = _differing(comparison)
    if rows:
        style = "text-align:left;vertical-align:top;white-space:pre-wrap;overflow-wrap:anywhere"
        said = f"Rows that differ, marked [-only in {comparison.variants[0]}-] {{+only here+}}"
        heads = ["row", "variant", "answer"]
        body = ""
        for title, first, others in rows:
            told = [(first[0], html.escape(first[1]))]
            told += [(n, "(no answer)" if text is None else marked_html(first[1], text)) for n, text in others]
            for at, (label, text) in enumerate(told):
                row = f'<th scope="rowgroup" rowspan="{len(told)}" style="{style}">{html.escape(title)}</th>'
                body += f'<tr>{"" if at else row}<th scope="row" style="{style}">{html.escape(label)}</th>'
                body += f'<td style="{style}">{text}</td></tr>'
        head = "".join(f'<th scope="col" style="text-align:left">{name}</th>' for name in heads)
        caption = f'<caption style="text-align:left">{html.escape(said)}</caption>'
        parts.append(f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
    parts += [f"<div style='{html.MUTED}'>{html.escape(line)}</div>" for line in _rest(comparison, rows)]
    return html.box("".join(parts), label="comparison")


def _headline(comparison: Comparison) -> str:
    """Who is compared, and how far they agree."""
    agree = comparison.frame["agree"]
    counted = int(agree.notna().sum())
    named = list(map(str, comparison.variants))
    shown = (
        named if len(named) <= MAX_VARIANTS else [*named[: MAX_VARIANTS - 1], f"{len(named) - MAX_VARIANTS + 1} more"]
    )
    who = f"{', '.join(shown[:-1])} and {shown[-1]}" if len(shown) > 1 else shown[0]
    if len(named) == 1:
        return f"{who}: {count(len(comparison.frame), 'row')}"
    if not counted:
        return f"{who}: no row has answers of two variants"
    same = int(agree.fillna(False).sum())
    verb = "agrees" if counted == 1 else "agree"
    return f"{who}: {same:,} of {count(counted, 'row')} {verb} ({_percent(same / counted)})"


def _summary(comparison: Comparison) -> list[list[str]]:
    """The table of the variants."""
    summary = comparison.summary
    several = len(summary) > 1
    head = ["variant", "model", "answered"]
    head += [f"agrees with {summary.index[0]}"] if several else []
    head += [name for name in ("consistency", "accuracy") if name in summary.columns]
    rows = [[*head, "cost", "per row", "time (p50)", "time (p95)"]]
    for label, line in zip(summary.index, summary.to_dict("records"), strict=True):
        play = " play money" if line["play_money"] else ""
        cells = [str(label), str(line["model"] or ""), f"{line['answered']:,} of {line['rows']:,}"]
        cells += [_percent(line["agreement"])] if several else []
        cells += [_percent(line[name]) for name in ("consistency", "accuracy") if name in line]
        cells += [f"{money(nano(line['cost_usd']))}{play}", _money(line["cost_usd_per_row"])]
        rows.append([*cells, _seconds(line["p50_duration_s"]), _seconds(line["p95_duration_s"])])
    return rows


def _tables(comparison: Comparison) -> Iterable[tuple[str, list[list[str]]]]:
    """The confusion tables, as far as they can be read."""
    for label, table in comparison.confusion.items():
        if table.empty or len(table.columns) > MAX_CONFUSED:
            continue
        rows = [["expected \\ answered", *map(str, table.columns)]]
        rows += [
            [str(name), *(f"{number:,}" for number in line)]
            for name, line in zip(table.index, table.to_numpy(), strict=True)
        ]
        yield f"{label}: expected answers down, given ones across", rows


_Shown = tuple[str, tuple[str, str], list[tuple[str, str | None]]]
"""A row's title, its first variant that answered, and the others."""


def _differing(comparison: Comparison) -> list[_Shown]:
    """The first rows that differ."""
    frame = comparison.differing.iloc[:MAX_ROWS]
    variants = comparison.variants
    own = [column[0] for column in frame.columns if column[1] == "" and column[0] != "agree"]
    told: list[_Shown] = []
    for place, label in enumerate(frame.index.tolist()):
        row = frame.iloc[place]
        title = ", ".join(f"{name}={one_line(_told(row[name, '']), 60)}" for name in own[:4])
        answers = [_answer(row, variant, comparison.fields) for variant in variants]
        first = next(at for at, answer in enumerate(answers) if answer is not None)
        kept = cut([answer for answer in answers if answer is not None])
        texts = [kept.pop(0) if answer is not None else None for answer in answers]
        reference = texts[first] or ""
        others = [(str(n), text) for at, (n, text) in enumerate(zip(variants, texts, strict=True)) if at != first]
        told.append(
            (f"{label}{': ' if title else ''}{title}", (str(variants[first]), reference), others[: MAX_VARIANTS - 1])
        )
    return told


def _answer(row: Any, variant: str, fields: Sequence[str]) -> str | None:
    if str(row[variant, "state"]) != "completed":
        return None
    if len(fields) == 1:
        return _told(row[variant, fields[0]])
    return ", ".join(f"{name.removeprefix('out_')}={_told(row[variant, name])}" for name in fields)


def _told(value: Any) -> str:
    """A value of an answer; an optional one may be missing."""
    missing = value is None or type(value).__name__ in {"NAType", "NaTType"} or value != value  # noqa: PLR0124 - NaN
    return "none" if missing else str(value)


def _rest(comparison: Comparison, rows: Sequence[Any]) -> list[str]:
    """What was left out, and what is to know."""
    more = len(comparison.differing) - len(rows)
    lines = [f"{count(more, 'more row')} {'differs' if more == 1 else 'differ'}: see .differing"] if more else []
    wide = [label for label, table in comparison.confusion.items() if len(table.columns) > MAX_CONFUSED]
    lines += [f"confusion of {', '.join(wide)}: too wide to show, see .confusion"] if wide else []
    return [*lines, *(f"note: {note}" for note in comparison.notes)]


def _percent(share: float) -> str:
    return "" if share != share else f"{share * 100:.0f} %"  # noqa: PLR0124 - NaN


def _money(usd: float) -> str:
    return "" if usd != usd else money(nano(usd))  # noqa: PLR0124 - NaN


def _seconds(value: float) -> str:
    return "" if value != value else seconds(value)  # noqa: PLR0124 - NaN


def _html_table(rows: Sequence[Sequence[str]], caption: str = "") -> str:
    """A table whose first row and column are headings."""
    head, *body = rows
    left = "text-align:left"
    times = {at for at, name in enumerate(head) if name.startswith("time")}
    title = f'<caption style="{left}">{html.escape(caption)}</caption>' if caption else ""
    heads = "".join(f'<th scope="col" style="{left}">{html.escape(name)}</th>' for name in head)
    lines = ""
    for first, *rest in body:
        cells = (html.volatile(c) if at in times else html.escape(c) for at, c in enumerate(rest, start=1))
        lines += f'<tr><th scope="row" style="{left}">{html.escape(first)}</th>'
        lines += "".join(f'<td style="{left}">{cell}</td>' for cell in cells) + "</tr>"
    return f"<table>{title}<thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>"


# -- the frame ---------------------------------------------------------------------------------------------------------


def compared_frame(frame: pd.DataFrame) -> Any:
    """The same frame, which shows the comparison that it belongs to, once it has one."""
    return _class()(frame)


@lru_cache(maxsize=1)
def _class() -> Any:
    """The class, made when first needed: importing pandas takes its time."""
    import pandas as pd

    class ComparedFrame(pd.DataFrame):
        """The frame of a comparison; what is made from it is a plain DataFrame."""

        _comparison: Any = None

        @property
        def comparison(self) -> Any:
            """The comparison that it belongs to, with its summary and confusion."""
            return self._comparison

        def __repr__(self) -> str:
            return pd.DataFrame(self).__repr__() if self._comparison is None else comparison_text(self._comparison)

        def _repr_html_(self) -> Any:
            if self._comparison is None:
                return pd.DataFrame(self)._repr_html_()  # type: ignore[operator]
            return comparison_html(self._comparison)

        def __reduce_ex__(self, protocol: Any) -> Any:
            return pd.DataFrame, (), pd.DataFrame(self).__getstate__()

    return ComparedFrame
