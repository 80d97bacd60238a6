"""The HTML of the live view: header, budget, strip of tasks, slots, failures; and the same as a line of text.

Invariants: whatever a person or a model wrote is escaped; every colour comes with a word or a letter; a screen reader
hears milestones, not ticks. All of this may be sent eight times a second, so it is short: its looks are told once, in
`looks.STYLE`, attributes of one word have no quotes, and end tags that HTML knows of itself are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from claude_pool_nb.core.budget import WARN_SHARE
from claude_pool_nb.display.runs import RunSummary, states_line
from claude_pool_nb.display.text import count, money, one_line, seconds, size
from claude_pool_nb.errors import plain
from claude_pool_nb.notebook.live.progress import Progress, SlotCard
from claude_pool_nb.notebook.live.strip import LETTERS, SOME_FAILED, WORDS
from claude_pool_nb.records import BudgetRecord

MAX_CARDS = 32
"""More slots than this are told as a number."""
MAX_FAILURES = 5
"""So many of the latest failures are shown."""
TAIL_CHARS = 240
"""So much of a streamed text is shown in a card."""


def _text(text: object) -> str:
    """Text as HTML. Widgets are never searched for LaTeX, so a dollar may stay as it is."""
    return escape(plain(str(text)))


def header(progress: Progress) -> str:
    """Counts, bar, money, rate and what is left to do."""
    summary = progress.summary()
    chips = "".join(_chip(state, number) for state, number in _shown(summary))
    counts = f"<span><b>{_text(summary.run_id)}</b></span>{chips}"
    counts += f"<span class=cpn-m>of {_text(count(summary.total, 'task'))}</span>"
    facts = "".join(f"<span>{_text(fact)}</span>" for fact in _facts(progress, summary))
    notes = "".join(f"<div>waiting: {_text(why)}</div>" for why in progress.waits())
    if summary.paused:
        notes += f"<div><b>paused</b>: {_text(summary.paused)}</div>"
    notes += "".join(f"<div>note: {_text(one_line(text, 300))}</div>" for text in summary.warnings[:3])
    return (
        f"<div class=cpn role=group aria-label='progress of {_text(summary.run_id)}'>"
        f"<div class=cpn-l>{counts}</div>{_bar(summary)}<div class='cpn-l cpn-m'>{facts}</div>{notes}</div>"
    )


def _shown(summary: RunSummary) -> list[tuple[str, int]]:
    """States to tell: done, running and queued always, the others where there are any."""
    always = {"completed", "running", "pending"}
    return [
        (state, number)
        for state, number in ((state, summary.counts.get(state, 0)) for state in LETTERS)
        if number or state in always
    ]


def _chip(state: str, number: int) -> str:
    letter = LETTERS[state]
    return f"<span><span class='cpn-k cpn-t{letter}' aria-hidden=true>{letter}</span>{number:,} {WORDS[state]}</span>"


def _bar(summary: RunSummary) -> str:
    """How much is done, failed and running, as shares of all tasks."""
    total = max(1, summary.total)
    parts = "".join(
        f"<i class=cpn-t{LETTERS[state]} style='width:{100 * summary.counts[state] / total:.1f}%'></i>"
        for state in ("completed", "failed", "cancelled", "interrupted", "running")
        if summary.counts.get(state)
    )
    return (
        f"<div class=cpn-p role=progressbar aria-label='tasks done' aria-valuemin=0 aria-valuemax='{total}' "
        f"aria-valuenow='{summary.done}'>{parts}</div>"
    )


def _facts(progress: Progress, summary: RunSummary) -> list[str]:
    """Rate, what is to go, how long it has taken."""
    facts = []
    rate = progress.rate() * 60
    if rate:
        facts.append(f"{rate:,.0f} tasks/min" if rate >= 10 else f"{rate:.1f} tasks/min")
    time_s, cost_nano = progress.left()
    if progress.open:
        if time_s is not None:
            facts.append(f"about {_whole(time_s)} to go")
        if cost_nano is not None:
            facts.append(f"about {money(cost_nano)} more")
    return [*facts, f"{_whole(summary.elapsed_s or 0.0)} so far", f"cost {money(summary.cost_nano)}"]


def _whole(value_s: float) -> str:
    """A duration in whole seconds: what shows it changes once a second."""
    return f"{int(value_s)} s" if value_s < 59.5 else seconds(value_s)


def budget(record: BudgetRecord | None) -> str:
    """What is spent, reserved and left, as numbers and as a bar with a mark where it gets scarce."""
    if record is None:
        return ""
    play = " play money" if record.play_money else ""
    said = [f"spent {money(record.spent_nano)}{play}", f"reserved {money(record.reserved_nano)}"]
    if record.limit_nano is None:
        facts = "".join(f"<span>{_text(text)}</span>" for text in [*said, "no limit"])
        return f"<div class='cpn cpn-l' role=group aria-label='budget'><span><b>budget</b></span>{facts}</div>"
    limit = max(1, record.limit_nano)
    spent, reserved = (min(1.0, part / limit) for part in (record.spent_nano, record.reserved_nano))
    said.append(f"{money(record.left_nano)} left of {money(record.limit_nano)}")
    facts = "".join(f"<span>{_text(text)}</span>" for text in said)
    scarce = is_scarce(record)
    if scarce:
        facts += f"<span class=cpn-b><b>⚠ {100 * record.spent_nano / limit:.0f} % is spent</b></span>"
    return (
        f"<div class=cpn role=group aria-label='budget'>"
        f"<div class=cpn-l><span><b>budget</b></span>{facts}</div>"
        f"<div class=cpn-p role=meter aria-label='budget spent' "
        f"aria-valuemin=0 aria-valuemax=100 aria-valuenow='{min(100.0, 100 * spent):.0f}'>"
        f"<i class='cpn-t{'F' if scarce else 'D'}' style='width:{100 * spent:.2f}%'></i>"
        f"<i class=cpn-h style='width:{100 * min(reserved, 1 - spent):.2f}%'></i>"
        f"<u style='left:{100 * WARN_SHARE:.0f}%'></u></div></div>"
    )


def is_scarce(record: BudgetRecord | None) -> bool:
    """Whether four fifths of a budget are spent."""
    return record is not None and record.limit_nano is not None and record.spent_nano >= WARN_SHARE * record.limit_nano


def strip(progress: Progress) -> str:
    """All tasks in order, a letter each, or for each group of them."""
    cells = progress.strip
    shown = "".join(f"<b class=cpn-t{letter}>{letter * number}</b>" for letter, number in cells.runs())
    if not shown:
        return "<div class='cpn cpn-m'>no tasks under way</div>"
    many = f"<div class=cpn-m>each letter: {cells.tasks_per_cell} tasks</div>" if cells.tasks_per_cell > 1 else ""
    if many and SOME_FAILED in cells.letters():
        many = many.replace("</div>", "; f: some of them failed</div>")
    said = _text(states_line(progress.summary()))
    return f"<div class=cpn><div class=cpn-s role=img aria-label='tasks in order: {said}'>{shown}</div>{many}</div>"


def cards(slots: Sequence[SlotCard], now: float, *, tails: bool = False) -> str:
    """All slots; those beyond the first few as a number."""
    shown = "".join(card(slot, now, tail=tails) for slot in slots[:MAX_CARDS])
    more = len(slots) - MAX_CARDS
    rest = f"<div class=cpn-m>and {count(more, 'more slot')}</div>" if more > 0 else ""
    return f"<div class=cpn><ul class=cpn-g aria-label=slots>{shown}</ul>{rest}</div>"


_MARKS = {"busy": "▶", "idle": "·", "resetting": "↻", "starting": "…", "errored": "✕"}


def card(slot: SlotCard, now: float, *, tail: bool = False) -> str:
    """One slot: who it is, what it does, for how long, what it cost."""
    parts = [slot.task_id, slot.model, _whole(now - slot.since_at) if slot.state == "busy" else "", slot.doing]
    facts = " · ".join(part for part in parts if part)
    label = f" <u>{_text(slot.label)}</u>" if slot.label else ""
    memory = size(slot.rss_bytes)
    right = f"{memory} · {money(slot.cost_nano)}" if memory else money(slot.cost_nano)
    about = f"<p class=cpn-b>{_text(one_line(slot.error, 300))}" if slot.error else f"<p>{_text(slot.about)}"
    text = f"<pre>{_text(slot.tail[-TAIL_CHARS:]) or '&nbsp;'}</pre>" if tail else ""
    return (
        f"<li class=cpn-{_text(slot.state)}><p><b>{_text(slot.slot_id)}</b> {_MARKS.get(slot.state, '')} "
        f"{_text(slot.state)}{label}<u>{_text(right)}</u><p>{_text(facts)}{about}{text}"
    )


def failures(progress: Progress) -> str:
    """Why tasks failed, the latest reason first."""
    reasons = progress.reasons(MAX_FAILURES)
    if not reasons:
        return ""
    items = "".join(
        f"<li><span class=cpn-b>{_text(reason.kind)}</span> · <b>{_text(reason.tasks)}</b>: "
        f"{_text(one_line(reason.message, 160))}</li>"
        for reason in reasons
    )
    shown = f"<ul class=cpn-f aria-label='why tasks failed'>{items}</ul>"
    return f"<div class=cpn><b>failed</b>{shown}</div>"


def spoken(progress: Progress) -> str:
    """What a screen reader is told now and then: how far it is, and what holds it up."""
    summary = progress.summary()
    said = [states_line(summary), *([f"paused: {summary.paused}"] if summary.paused else progress.waits()[:1])]
    if is_scarce(progress.budget):
        said.append("most of the budget is spent")
    return f"<div class=cpn-v role=status aria-live=polite>{_text('; '.join(said))}</div>"


def line(progress: Progress) -> str:
    """The whole view as one line of text, for a terminal."""
    summary = progress.summary()
    counts = " · ".join(f"{number:,} {WORDS[state]}" for state, number in _shown(summary))
    time_s, _ = progress.left()
    to_go = f", about {_whole(time_s)} to go" if time_s is not None and progress.open else ""
    done = 10 * summary.done // max(1, summary.total)
    bar = "█" * done + "░" * (10 - done)
    why = f", waiting: {waits[0]}" if (waits := progress.waits()) else ""
    why = f", paused: {summary.paused}" if summary.paused else why
    return f"{summary.run_id} {bar} {counts} of {count(summary.total, 'task')}, {money(summary.cost_nano)}{to_go}{why}"
