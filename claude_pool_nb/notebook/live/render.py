"""The HTML of the live view: a header, and a card per slot.

Invariants: text of prompts is escaped; every colour comes with a word; a screen reader hears milestones, not ticks.
"""

from __future__ import annotations

from collections.abc import Sequence

from claude_pool_nb.display import html
from claude_pool_nb.display.runs import RunSummary, states_line
from claude_pool_nb.display.text import count, money, seconds
from claude_pool_nb.notebook.live.progress import Progress, SlotCard

MAX_CARDS = 32
"""More slots than this are told as a number."""


def header(progress: Progress) -> str:
    """The line of the run, its bar, its money and what is left to do."""
    summary = progress.summary()
    facts = [f"spent {money(summary.cost_nano)}{' play money' if summary.play_money else ''}"]
    if summary.limited:
        facts.append(f"{money(summary.left_nano)} left")
    rate = progress.rate()
    if rate:
        facts.append(f"{rate:.1f} tasks/s" if rate >= 1 else f"{rate * 60:.1f} tasks/min")
    time_s, cost_nano = progress.left()
    if summary.done < summary.total:
        if time_s is not None:
            facts.append(f"about {seconds(time_s)} to go")
        if cost_nano is not None:
            facts.append(f"about {money(cost_nano)} more")
    facts.append(f"{seconds(summary.elapsed_s)} so far")
    notes = f"<div role='alert'><b>paused</b>: {html.escape(summary.paused)}</div>" if summary.paused else ""
    notes += "".join(f"<div>note: {html.escape(text)}</div>" for text in summary.warnings[:3])
    body = (
        f"<div><b>{html.escape(summary.run_id)}</b> {html.escape(_counts(summary))}</div>"
        f"{html.progress_bar(summary.done, summary.total, label='tasks done')}"
        f"<div style='{html.MUTED}'>{html.escape(' · '.join(facts))}</div>{notes}"
    )
    return html.box(body, label=f"progress of run {summary.run_id}")


def _counts(summary: RunSummary) -> str:
    counts = summary.counts
    queued = counts.get("pending", 0) + counts.get("waiting", 0)
    parts = [f"{counts.get('completed', 0):,} done", f"{counts.get('running', 0):,} running", f"{queued:,} queued"]
    parts += [f"{counts[state]:,} {state}" for state in ("failed", "cancelled", "interrupted") if counts.get(state)]
    return f"{' · '.join(parts)} of {count(summary.total, 'task')}"


def cards(slots: Sequence[SlotCard], now: float) -> str:
    """All slots; those beyond the first few as a number."""
    shown = "".join(card(slot, now) for slot in slots[:MAX_CARDS])
    more = len(slots) - MAX_CARDS
    rest = f"<div style='{html.MUTED}'>and {count(more, 'more slot')}</div>" if more > 0 else ""
    grid = "display:grid;grid-template-columns:repeat(auto-fill,minmax(210px,1fr));gap:6px;margin:4px 0"
    return html.box(f"<div role='list' style='{grid}'>{shown}</div>{rest}", label="slots")


_MARKS = {"busy": "▶", "idle": "·", "resetting": "↻", "starting": "…", "errored": "✕"}


def card(slot: SlotCard, now: float) -> str:
    """One slot: what it does, for how long, what it cost."""
    busy = slot.state == "busy"
    edge = html.ACCENT if busy else html.BORDER
    first = f"<b>{html.escape(slot.slot_id)}</b> {_MARKS.get(slot.state, '')} {html.escape(slot.state)}"
    if busy:
        first += f" <span style='{html.MUTED}'>{html.escape(seconds(now - slot.since_at))}</span>"
    second = " ".join(part for part in (slot.task_id, slot.model) if part)
    bad = f"<div style='{html.BAD}'>{html.escape(slot.error)}</div>" if slot.error else ""
    clip = "white-space:nowrap;overflow:hidden;text-overflow:ellipsis"
    return (
        f"<div role='listitem' style='border:1px solid {html.BORDER};border-left:3px solid {edge};border-radius:3px;"
        f"padding:3px 8px;min-width:0'><div style='{clip}'>{first}"
        f"<span style='float:right;{html.MUTED}'>{html.escape(money(slot.cost_nano))}</span></div>"
        f"<div style='{clip};{html.MUTED}'>{html.escape(second) or '&nbsp;'}</div>"
        f"<div style='{clip}'>{html.escape(slot.about) or '&nbsp;'}</div>{bad}</div>"
    )


def spoken(summary: RunSummary) -> str:
    """What a screen reader is told at a milestone."""
    return (
        "<div role='status' aria-live='polite' style='position:absolute;width:1px;height:1px;overflow:hidden;"
        f"clip:rect(0 0 0 0)'>{html.escape(states_line(summary))}</div>"
    )


def line(progress: Progress) -> str:
    """The whole view as one line of text, for a terminal."""
    summary = progress.summary()
    time_s, _ = progress.left()
    to_go = f", about {seconds(time_s)} to go" if time_s is not None else ""
    return f"{summary.run_id}: {_counts(summary)}, {money(summary.cost_nano)}{to_go}"
