"""A preview: what a call would run and cost, in a few lines and one small table.

Invariants: an unknown price is said, never shown as nothing; play money is marked; text and HTML say the same; times
are volatile, and nothing is said by colour alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from claude_pool_nb.display import html
from claude_pool_nb.display.text import aligned, count, money, one_line, seconds

MAX_CELLS = 24
"""So many rows of the table are shown."""
TEXT_WIDTH = 100
"""Characters of a prompt that are shown as text."""
HTML_CHARS = 1_500
"""Characters of a prompt that are shown in HTML."""


@dataclass(frozen=True, slots=True)
class PreviewCell:
    """One model and cell of the grid."""

    labels: Mapping[str, Any]
    """Its values in the grid, the model left out."""
    model: str
    """The model that would be asked."""
    tasks: int
    """How many tasks."""
    input_tokens: int
    """Tokens that they read."""
    output_tokens_low: int
    """Tokens that they write at least, or nearly."""
    output_tokens_high: int
    """Tokens that they write at most, or nearly."""
    price_source: str
    """`list`, `history` or `unknown`."""
    history_tasks: int = 0
    """Earlier tasks that the estimate stands on."""
    history_kind: str = ""
    """What they are: `such tasks` or `other prompts`."""
    low_nano: int | None = None
    """What they cost at least, or nearly; None for unknown."""
    high_nano: int | None = None
    """What they cost at most, or nearly; None for unknown."""


@dataclass(frozen=True, slots=True)
class PreviewPicture:
    """What the display of a preview shows.

    Example:
        >>> print(preview_text(PreviewPicture(tasks=2, cost_nano=(1_000_000, 3_000_000), slots=4)))
        preview: 2 tasks, nothing was sent
          price    $0.0010 to $0.0030
          time     unknown: no slot is at hand
    """

    tasks: int
    """How many tasks."""
    prompts: Sequence[str] = ()
    """The first few."""
    cells: Sequence[PreviewCell] = ()
    """Rows of the table."""
    cost_nano: tuple[int, int] | None = None
    """Low and high; None for unknown."""
    seconds: tuple[float, float] | None = None
    """Low and high; None for unknown."""
    timed: bool = False
    """True if the time is from history."""
    slots: int = 0
    """The slots at hand."""
    cached: int = 0
    """Tasks that cost nothing, because their answer is known."""
    left_nano: int | None = None
    """What the budget has; None without a limit."""
    left_after_nano: tuple[int, int] | None = None
    """What it would have then, at least and at most."""
    play_money: bool = False
    """True for the demo's dollars."""
    warnings: Sequence[str] = ()
    """What may go wrong."""
    notes: Sequence[str] = ()
    """What the estimate stands on."""
    actual_nano: int | None = None
    """What it did cost, for a run that was made."""
    ended: int = 0
    """How many of its tasks had ended by then."""
    completed: int = 0
    """How many of them had completed."""


def span(low: str, high: str) -> str:
    """From one to another, or about one if both are written the same.

    Example:
        >>> span("$1.00", "$2.00"), span("0.4 s", "0.4 s")
        ('$1.00 to $2.00', 'about 0.4 s')
    """
    return f"about {low}" if low == high else f"{low} to {high}"


def price_span(low_nano: int | None, high_nano: int | None) -> str:
    """A price from low to high; `unknown` where it is.

    Example:
        >>> price_span(1_000_000, 2_500_000_000), price_span(None, None), price_span(1_234_567_890, 2_000_000_000)
        ('$0.0010 to $2.50', 'unknown', '$1.23 to $2.00')
    """
    if low_nano is None or high_nano is None:
        return "unknown"
    return span(money(low_nano), money(high_nano))


def _rows(picture: PreviewPicture) -> list[tuple[str, str]]:
    """The lines above the table."""
    play = " play money" if picture.play_money else ""
    low, high = picture.cost_nano or (None, None)
    rows = [("price", price_span(low, high) + (play if low is not None else ""))]
    if picture.cached:
        rows.append(("cached", f"{picture.cached:,} of {count(picture.tasks, 'task')} answered from the ledger, free"))
    if picture.actual_nano is not None:
        rows.append(("came to", _actual(picture)))
        return rows
    rows.append(("time", _time(picture)))
    if picture.left_nano is not None:
        text = f"{money(picture.left_nano)}{play} left"
        if picture.left_after_nano is not None:
            least, most = picture.left_after_nano
            text += f", {span(money(least), money(most))} after it"
        rows.append(("budget", text))
    return rows


def _actual(picture: PreviewPicture) -> str:
    """What a run did cost, beside what it was thought to."""
    assert picture.actual_nano is not None
    text = money(picture.actual_nano) + (" play money" if picture.play_money else "")
    if picture.ended < picture.tasks:
        return f"{text} so far ({picture.ended:,} of {count(picture.tasks, 'task')} ended)"
    if picture.completed < picture.tasks:
        return f"{text} for the {picture.completed:,} of {count(picture.tasks, 'task')} that completed, and the others"
    if picture.cost_nano is None:
        return text
    low, high = picture.cost_nano
    if picture.actual_nano < low:
        return f"{text}, less than was thought"
    return f"{text}, {'as was thought' if picture.actual_nano <= high else 'more than was thought'}"


def _time(picture: PreviewPicture) -> str:
    if picture.seconds is None:
        return "unknown: no slot is at hand"
    low, high = picture.seconds
    guess = "" if picture.timed else ", a guess: no such task has run yet"
    return f"{span(seconds(low), seconds(high))} on {count(picture.slots, 'slot')}{guess}"


def _head(picture: PreviewPicture) -> list[str]:
    """The names of the table's columns."""
    labels = dict.fromkeys(name for cell in picture.cells for name in cell.labels)
    price = "price (play money)" if picture.play_money else "price"
    return [*labels, "model", "tasks", "tokens in", "tokens out", price, "price from"]


def _table(picture: PreviewPicture) -> list[list[str]]:
    """The rows of the table."""
    labels = list(dict.fromkeys(name for cell in picture.cells for name in cell.labels))
    rows = [
        [
            *(one_line(str(cell.labels.get(name, "")), 30) for name in labels),
            cell.model,
            f"{cell.tasks:,}",
            f"{cell.input_tokens:,}",
            span(f"{cell.output_tokens_low:,}", f"{cell.output_tokens_high:,}"),
            price_span(cell.low_nano, cell.high_nano),
            f"{cell.history_tasks:,} {cell.history_kind}"
            if cell.price_source == "history"
            else _SOURCES[cell.price_source],
        ]
        for cell in picture.cells[:MAX_CELLS]
    ]
    left = len(picture.cells) - len(rows)
    return rows + ([[f"and {left:,} more", *[""] * (len(_head(picture)) - 1)]] if left > 0 else [])


_SOURCES = {"list": "list price", "unknown": "unknown"}


def _title(picture: PreviewPicture) -> str:
    what = "nothing was sent" if picture.actual_nano is None else "as estimated before it ran"
    return f"preview: {count(picture.tasks, 'task')}, {what}"


def preview_text(picture: PreviewPicture) -> str:
    """The preview as text.

    Example:
        >>> cell = PreviewCell({"tone": "kind"}, "haiku", 2, 1200, 40, 200, "list", 0, "", 1_000_000, 3_000_000)
        >>> seen = PreviewPicture(2, ["a poem"], [cell], (1_000_000, 3_000_000), (1.0, 2.0), slots=4, warnings=["hot"])
        >>> print(preview_text(seen))
        preview: 2 tasks, nothing was sent
          price    $0.0010 to $0.0030
          time     1.0 s to 2.0 s on 4 slots, a guess: no such task has run yet
          warning  hot
          tone  model  tasks  tokens in  tokens out  price               price from
          kind  haiku  2      1,200      40 to 200   $0.0010 to $0.0030  list price
          prompt: a poem
    """
    rows = [
        *_rows(picture),
        *(("warning", one_line(text, 300)) for text in picture.warnings),
        *(("from", one_line(text, 300)) for text in picture.notes),
    ]
    lines = [_title(picture), *(f"  {name:<7}  {value}" for name, value in rows)]
    if picture.cells:
        lines += [f"  {line}" for line in aligned([_head(picture), *_table(picture)])]
    lines += [f"  prompt: {one_line(prompt, TEXT_WIDTH)}" for prompt in picture.prompts]
    return "\n".join(lines)


def preview_html(picture: PreviewPicture) -> str:
    """The preview as static HTML.

    Example:
        >>> "3 tasks" in preview_html(PreviewPicture(tasks=3))
        True
    """
    facts = [(name, html.volatile(value) if name == "time" else html.escape(value)) for name, value in _rows(picture)]
    facts += [("warning", html.escape(text)) for text in picture.warnings]
    facts += [("from", html.escape(text)) for text in picture.notes]
    body = f"<b>{html.escape(_title(picture))}</b>{html.pairs(facts)}"
    if picture.cells:
        body += html.table(_head(picture), [[html.escape(cell) for cell in row] for row in _table(picture)])
    style = "white-space:pre-wrap;overflow-wrap:anywhere;margin:4px 0;text-align:left"
    for number, prompt in enumerate(picture.prompts, start=1):
        cut = prompt if len(prompt) <= HTML_CHARS else f"{prompt[:HTML_CHARS]}... ({len(prompt):,} characters)"
        body += (
            f"<details{' open' if number == 1 else ''}><summary>prompt {number}</summary>"
            f"<div style='{style}'>{html.escape(cut)}</div></details>"
        )
    return html.box(body, label=f"preview of {count(picture.tasks, 'task')}")
