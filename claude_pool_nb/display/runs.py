"""One run in a line: how far it is, what it cost, what is left. The line that a live view leaves behind.

Invariants: text and HTML say the same; times, ids and rates are marked volatile; every task is counted once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from claude_pool_nb.display import html
from claude_pool_nb.display.text import count, money, one_line, seconds
from claude_pool_nb.records import FINAL_STATES

ORDER = ("completed", "running", "pending", "waiting", "pending_review", "failed", "cancelled", "interrupted")
"""The order in which states are told."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What the line of a run says.

    Example:
        >>> RunSummary("r1", counts={"completed": 2, "failed": 1}, cost_nano=3_300_000).total
        3
    """

    run_id: str
    """`r12`."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """How many of its tasks are in each state."""
    cost_nano: int = 0
    """What they cost."""
    elapsed_s: float | None = None
    """How long it took so far."""
    left_nano: int | None = None
    """What the budget still has; None for no limit."""
    limited: bool = False
    """True if there is a budget with a limit."""
    play_money: bool = False
    """True for the demo's dollars."""
    errors: Sequence[str] = ()
    """The first few different errors, one line each."""
    warnings: Sequence[str] = ()
    """What a person should know."""
    paused: str | None = None
    """Why the pool is paused."""

    @property
    def total(self) -> int:
        """All its tasks."""
        return sum(self.counts.values())

    @property
    def done(self) -> int:
        """Those that are final."""
        return sum(number for state, number in self.counts.items() if state in FINAL_STATES)


def states_line(summary: RunSummary) -> str:
    """`2 completed, 1 failed of 3 tasks`.

    Example:
        >>> states_line(RunSummary("r1", counts={"completed": 2, "failed": 1}))
        '2 completed, 1 failed of 3 tasks'
    """
    parts = [f"{summary.counts[state]:,} {state}" for state in ORDER if summary.counts.get(state)]
    return f"{', '.join(parts) or 'nothing'} of {count(summary.total, 'task')}"


def run_text(summary: RunSummary) -> str:
    """The line, and below it what went wrong.

    Example:
        >>> print(run_text(RunSummary("r1", counts={"completed": 3}, cost_nano=3_300_000, elapsed_s=0.4)))
        r1: 3 completed of 3 tasks · $0.0033 · 0.4 s
    """
    parts = [f"{summary.run_id}: {states_line(summary)}", _money(summary)]
    if summary.elapsed_s is not None:
        parts.append(seconds(summary.elapsed_s))
    return "\n".join([" · ".join(parts), *_notes(summary)])


def _money(summary: RunSummary) -> str:
    text = money(summary.cost_nano)
    if summary.play_money:
        text += " play money"
    if summary.limited:
        text += f", {money(summary.left_nano)} left"
    return text


def _notes(summary: RunSummary) -> list[str]:
    notes = [f"paused: {summary.paused}"] if summary.paused else []
    notes += [f"error: {one_line(error, 200)}" for error in summary.errors]
    return notes + [f"note: {one_line(warning, 200)}" for warning in summary.warnings]


def run_html(summary: RunSummary) -> str:
    """The same as static HTML.

    Example:
        >>> "3 completed of 3 tasks" in run_html(RunSummary("r1", counts={"completed": 3}))
        True
    """
    parts = [
        f"<b>{html.volatile(summary.run_id)}</b>: {html.escape(states_line(summary))}",
        html.volatile(_money(summary)),
    ]
    if summary.elapsed_s is not None:
        parts.append(html.volatile(seconds(summary.elapsed_s)))
    notes = "".join(f"<div>{html.volatile(note)}</div>" for note in _notes(summary))
    return html.box(f"<div>{' · '.join(parts)}</div>{notes}", label=f"run {summary.run_id}")
