"""What a run leaves in its cell: the line, what failed and why, what each slot did and when, and the first answers.

Invariants: plain HTML that says everything without styles, scripts or a kernel; never longer than `MAX_BYTES`, however
many tasks and slots there were; what differs from run to run is marked volatile, and its number of lines does not show
outside the marks; the text is the line alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from claude_pool_nb.display import html
from claude_pool_nb.display.runs import RunSummary, run_html, run_text
from claude_pool_nb.display.text import count, money, one_line, seconds

MAX_BYTES = 64_000
"""The most that a run leaves in a saved notebook."""
COLUMNS = 32
"""How wide the picture of the slots is, in characters: with the slot's name it fits a phone."""
MAX_SLOTS = 32
"""More slots than this are told as a number."""
FIRST = 5
"""So many answers are shown."""
_ENDS = {"completed": "█▓", "failed": "✕✕", "cancelled": "░░", "interrupted": "░░", "running": "██"}
"""How an attempt is drawn; neighbours by turns, so that they can be told apart."""


@dataclass(frozen=True, slots=True)
class Span:
    """One attempt in its slot."""

    slot_id: str
    """`s1`."""
    started_at: float
    """Unix seconds."""
    finished_at: float | None
    """Unix seconds; None while it runs."""
    state: str
    """The state of the attempt."""
    cost_nano: int = 0
    """What it cost."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One of the first rows."""

    task_id: str
    """`r12.3`."""
    state: str
    """Where the task is."""
    prompt: str
    """What was asked."""
    output: str
    """What was answered, or the error."""


@dataclass(frozen=True, slots=True)
class RunEnding:
    """A run that is over, or was left.

    Example:
        >>> summary = RunSummary("r1", counts={"completed": 2})
        >>> spans = [Span("s1", 0.0, 1.0, "completed"), Span("s1", 1.0, 2.0, "failed")]
        >>> print(slots_picture(spans, columns=6))
        s1 ███✕✕✕  1 completed, 1 failed  $0.00
           0 s  2.0 s
        >>> len(RunEnding(summary, spans).html()) < MAX_BYTES
        True
    """

    summary: RunSummary
    """The line and its notes."""
    spans: Sequence[Span] = ()
    """All attempts."""
    first: Sequence[Answer] = ()
    """The first rows."""

    def text(self) -> str:
        """The line, and below it what went wrong."""
        return run_text(self.summary)

    def html(self) -> str:
        """The line, what went wrong, and the rest folded below it."""
        line = run_html(self.summary)
        if self.summary.total < 2 or not self.spans:
            return line
        slots = len({span.slot_id for span in self.spans})
        shown = f"<summary>{html.volatile(count(slots, 'slot'))} at work, and the first answers</summary>"
        # What each slot did stands behind its line, or below it where there is no room.
        style = "white-space:pre-wrap;overflow-x:auto;font-size:min(1em,2.9vw)"
        picture = f"<pre style='{style}'>{html.volatile(slots_picture(self.spans))}</pre>"
        rows = [[_lines(f"{row.task_id} · {row.state}", row.prompt), _lines(row.output)] for row in self.first[:FIRST]]
        table = html.table(["task", "answer"], rows)
        table = table.replace('scope="col"', 'scope="col" style="text-align:left"')
        table = table.replace("<td>", '<td style="vertical-align:top">')
        body = f"<details>{shown}{picture}{table}</details>"
        return line + html.box(body, label="slots and first answers")


def _lines(*texts: str) -> str:
    """Texts below each other in a cell that may be narrower than their longest word."""
    style = "text-align:left;overflow-wrap:anywhere"
    return "".join(f"<div style='{style}'>{html.volatile(one_line(text, 100))}</div>" for text in texts)


def slots_picture(spans: Sequence[Span], *, columns: int = COLUMNS) -> str:
    """What each slot did and when, a line of characters each: █ and ▓ by turns are tasks, ✕ failed, ░ stopped, · idle.

    Args:
        spans: All attempts.
        columns: How wide the picture is.
    """
    begin = min(span.started_at for span in spans)
    end = max(span.finished_at or span.started_at for span in spans)
    scale = columns / max(end - begin, 1e-9)
    by_slot: dict[str, list[Span]] = {}
    for span in sorted(spans, key=lambda one: one.started_at):
        by_slot.setdefault(span.slot_id, []).append(span)
    names = sorted(by_slot, key=lambda name: (len(name), name))
    width = max(len(name) for name in names[:MAX_SLOTS])
    lines = []
    for name in names[:MAX_SLOTS]:
        cells = ["·"] * columns
        ends: dict[str, int] = {}
        for number, span in enumerate(by_slot[name]):
            ends[span.state] = ends.get(span.state, 0) + 1
            first = min(columns - 1, int((span.started_at - begin) * scale))
            last = min(columns, max(first + 1, round(((span.finished_at or end) - begin) * scale)))
            mark = _ENDS.get(span.state, "██")[number % 2]
            for at in range(first, last):
                cells[at] = mark if cells[at] != "✕" or last - first > 1 else "✕"
        cost = money(sum(span.cost_nano for span in by_slot[name]))
        said = ", ".join(f"{ends[state]:,} {state}" for state in sorted(ends, key=list(_ENDS).index))
        lines.append(f"{name:<{width}} {''.join(cells)}  {said}  {cost}")
    took = seconds(end - begin)
    lines.append(f"{'':<{width}} 0 s{took:>{max(1, columns - 3) if columns > 10 else len(took) + 2}}")
    if len(names) > MAX_SLOTS:
        lines.append(f"and {count(len(names) - MAX_SLOTS, 'more slot')}")
    return "\n".join(lines)
