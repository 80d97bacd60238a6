"""The static picture of a moment: what a stopped watch leaves behind, and what is shown where nobody can watch.

Invariants: plain HTML that says everything without styles, scripts or a kernel; a few kilobytes, however many tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

from claude_pool_nb.display import html
from claude_pool_nb.display.pools import budget_line
from claude_pool_nb.display.runs import run_html
from claude_pool_nb.display.text import count, money, one_line, size
from claude_pool_nb.notebook.live.progress import Progress
from claude_pool_nb.notebook.live.render import MAX_CARDS, MAX_FAILURES


def picture_html(progress: Progress, notes: Sequence[str] = ()) -> str:
    """Tasks, budget, slots and the latest failures, as tables.

    Example:
        >>> from claude_pool_nb.records import SlotRecord, SlotState
        >>> progress = Progress(None, clock=lambda: 10.0)
        >>> progress.seed([], slots=[SlotRecord("s1", SlotState.IDLE)])
        >>> "s1" in picture_html(progress)
        True
    """
    slots = list(progress.slots.values())
    rows = [
        [
            html.escape(" · ".join(part for part in (slot.slot_id, slot.label) if part)),
            *(html.volatile(text) for text in (slot.state, slot.task_id, slot.model, size(slot.rss_bytes))),
            html.volatile(money(slot.cost_nano)),
            html.volatile(one_line(slot.error, 200)),
        ]
        for slot in slots[:MAX_CARDS]
    ]
    table = html.table(["slot", "state", "task", "model", "memory", "spent", "note"], rows)
    more = f"<div>and {count(len(slots) - MAX_CARDS, 'more slot')}</div>" if len(slots) > MAX_CARDS else ""
    money_line = f"<div>budget: {html.volatile(budget_line(progress.budget))}</div>"
    failed = "".join(
        f"<div>{html.volatile(f'failed: {reason.tasks} ({reason.kind}): {one_line(reason.message, 160)}')}</div>"
        for reason in progress.reasons(MAX_FAILURES)
    )
    said = "".join(f"<div>note: {html.escape(note)}</div>" for note in notes)
    return run_html(progress.summary()) + html.box(
        money_line + table + more + failed + said, label="the pool at this moment"
    )
