"""What a view shows, told by the pool's events: the tasks of one run, or all that a pool does, and its slots.

Invariants: `feed` only takes note and may be called from any thread; `catch_up` is called by one thread and costs what
has happened since, not what there is. Every task is in exactly one state, and every attempt is paid for once: what the
view began with may be ahead of the events that it is told, or behind them.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice

from claude_pool_nb import events
from claude_pool_nb.display.runs import RunSummary
from claude_pool_nb.display.text import one_line, seconds
from claude_pool_nb.notebook.live.strip import Strip
from claude_pool_nb.records import (
    FINAL_STATES,
    BudgetRecord,
    Failure,
    FailureKind,
    SlotRecord,
    SlotState,
    TaskRecord,
    TaskState,
)

WINDOW_S = 30.0
"""The rate is that of this many seconds."""
ABOUT_CHARS = 60
"""So much of a prompt is shown in its slot's card."""


@dataclass(slots=True)
class SlotCard:
    """One slot of the view; written over in place, because it changes several times with every task."""

    slot_id: str
    """`s1`."""
    state: str
    """What it does."""
    since_at: float
    """Since when."""
    task_id: str = ""
    """The task it runs."""
    about: str = ""
    """The beginning of that task's prompt."""
    model: str = ""
    """The model that was asked for."""
    cost_nano: int = 0
    """What its attempts cost."""
    error: str = ""
    """Why it is errored."""
    label: str = ""
    """Its name and role, where it has them."""
    rss_bytes: int | None = None
    """Memory of its process."""
    doing: str = ""
    """What its turn does at this moment: a tool, thinking, writing."""
    tail: str = ""
    """The end of the text that it streams."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Why a task waits, and until when."""

    kind: str
    """The kind of its failure."""
    until_at: float
    """When it is tried again."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why one or more tasks failed."""

    kind: str
    """The kind of failure."""
    message: str
    """What happened, and what to do."""
    tasks: str
    """`r12.3`, or `5 tasks, r12.3 the latest`."""


REASONS_FROM = 200
"""Reasons are looked for among so many of the latest failures."""
WAITS = {
    FailureKind.LIMIT: "for the rate limit",
    FailureKind.TRANSPORT: "to try again after a lost connection",
    FailureKind.CRASH: "to try again after a crash",
    FailureKind.TIMEOUT: "to try again after a timeout",
}
"""Why tasks wait, in words."""


class Progress:
    """The state of one run, or of all that a pool does, and of the slots.

    Args:
        run_id: The run that is watched; None for all that the pool does. When all of that is done, the next run that is
            accepted begins a new picture.
        clock: Unix seconds.
        find: The record of a task that was not told of, as one of another run.

    Example:
        >>> from claude_pool_nb.records import TaskRecord, TaskState
        >>> progress = Progress("r1", clock=lambda: 10.0)
        >>> done = TaskRecord("r1.1", "r1", 1, "a poem", TaskState.COMPLETED, cost_nano=1_100_000)
        >>> progress.seed([done, TaskRecord("r1.2", "r1", 2, "a limerick")])
        >>> progress.summary().done, progress.strip.letters()
        (1, 'DQ')
    """

    def __init__(
        self,
        run_id: str | None,
        *,
        clock: Callable[[], float] = time.time,
        find: Callable[[str], TaskRecord | None] = lambda _task_id: None,
    ) -> None:
        self.run_id = run_id
        self.slots: dict[str, SlotCard] = {}
        self.paused: str | None = None
        self.closed = False
        self.budget: BudgetRecord | None = None
        self.warnings: list[str] = []
        self.hold = ""
        self.tails = False
        self.stale = False  # set from any thread: something is to be painted that no event tells of
        self._clock = clock
        self._find = find
        self._prefix = "" if run_id is None else run_id + "."
        self._news: deque[events.Event] = deque()
        self._begin()

    def _begin(self) -> None:
        """A picture without tasks."""
        self.strip = Strip()
        self.failures: dict[str, Failure] = {}
        self._reasons: Counter[tuple[str, str]] = Counter()
        self._began_at = self._clock()
        self._runs: dict[str, None] = {}
        self._states: dict[str, str] = {}
        self._places: dict[str, int] = {}
        self._counts: Counter[str] = Counter()
        self._waits: dict[str, Wait] = {}
        self._prompts: dict[str, str] = {}
        self._settled_nano = 0
        self._booked: dict[str, int] = {}
        self._running_nano: dict[str, int] = {}
        self._finished: deque[float] = deque()

    # -- what there was before -----------------------------------------------------------------------------------------

    def seed(
        self,
        tasks: Iterable[TaskRecord],
        *,
        slots: Iterable[SlotRecord] = (),
        budget: BudgetRecord | None = None,
        paused: str | None = None,
    ) -> None:
        """Take over what is known when the view begins."""
        for task in tasks:
            self._add(task)
        self.budget, self.paused = budget, paused
        self.slots = {
            slot.id: SlotCard(
                slot.id,
                slot.state,
                slot.since_at,
                slot.task_id or "",
                self.about(slot.task_id),
                slot.model or "",
                slot.cost_nano,
                slot.error or "",
            )
            for slot in slots
            if slot.state is not SlotState.STOPPED
        }

    def _add(self, task: TaskRecord) -> None:
        """One more task, as it is now."""
        state = str(task.state)
        self._runs[task.run_id] = None
        if task.attempts:
            self._booked[task.id] = task.attempts - (task.state is TaskState.RUNNING)
        self._places[task.id] = len(self._states)
        self._states[task.id] = state
        self._prompts[task.id] = task.prompt
        self._counts[state] += 1
        self._settled_nano += task.cost_nano
        self.strip.add(state)
        if task.state is TaskState.WAITING and task.waiting_until is not None:
            self._waits[task.id] = Wait(task.failure_kind or "", task.waiting_until)
        elif task.state is TaskState.FAILED and task.failure_kind is not None:
            self._fail(task.id, Failure(task.failure_kind, task.error_type or "", task.error or ""))

    def describe(self, slots: Iterable[SlotRecord]) -> None:
        """Take over what no event tells of the slots: names, roles, memory, the model that answers."""
        for slot in slots:
            card = self.slots.get(slot.id)
            if card is not None:
                card.label = " · ".join(part for part in (slot.name, slot.role) if part)
                card.rss_bytes = slot.rss_bytes
                card.model = card.model or slot.model or ""

    def act(self, slot_id: str, doing: str, tail: str) -> bool:
        """Take over what a slot's turn does at this moment; True if that is news."""
        card = self.slots.get(slot_id)
        if card is None or (card.doing == doing and card.tail == tail):
            return False
        card.doing, card.tail = doing, tail
        return True

    # -- what happens --------------------------------------------------------------------------------------------------

    def feed(self, event: events.Event) -> None:
        """Take note of an event; from any thread."""
        self._news.append(event)

    def catch_up(self) -> bool:
        """Take in what was noted; True if there was anything."""
        changed, self.stale = self.stale or bool(self._news), False
        while self._news:
            self._take(self._news.popleft())
        return changed

    def _take(self, event: events.Event) -> None:
        match event:
            case events.TaskEvent(task_id=task_id) if task_id.startswith(self._prefix):
                self._take_task(event)
            case events.TaskRunning():
                self._card(event)
            case events.SlotChanged():
                self._take_slot(event)
            case events.RunAccepted(tasks=tasks) if self.run_id is None:
                if self.open == 0 and any(task.id not in self._states for task in tasks):
                    self._begin()
                for task in tasks:
                    if task.id not in self._states:
                        self._add(task)
            case events.PoolPaused(reason=reason):
                self.paused = reason
            case events.PoolUnpaused():
                self.paused = None
            case events.PoolClosed():
                self.closed = True
            case events.Warned(message=message) if message not in self.warnings:
                self.warnings.append(message)
            case _:  # other runs, and what the view does not show
                return

    def _take_task(self, event: events.TaskEvent) -> None:
        task = event.task_id
        if isinstance(event, events.AttemptProgress):
            self._running_nano[task] = event.cost_nano
        elif isinstance(event, events.AttemptEnded):
            self._running_nano.pop(task, None)
            if event.attempt > self._booked.get(task, 0):
                self._settled_nano += event.result.cost_nano
        elif isinstance(event, events.TaskRunning):
            self._card(event)
        elif isinstance(event, events.TaskReopened) and task not in self._states:
            self._add_known(task)
        state = events.TASK_STATE_OF.get(type(event))
        before = self._states.get(task)
        if state is None or before is None:
            return
        self._counts[before] -= 1
        self._states[task] = str(state)
        self._counts[str(state)] += 1
        self.strip.change(self._places[task], before, str(state))
        self._waits.pop(task, None)
        if task in self.failures:
            failure = self.failures.pop(task)
            self._reasons[failure.kind, failure.message] -= 1
        if isinstance(event, events.TaskWaiting):
            self._waits[task] = Wait(event.failure.kind, event.until)
        elif isinstance(event, events.TaskFailed):
            self._fail(task, Failure(event.kind, event.error_type, event.error))
        if state.is_final:
            self._finished.append(event.at)

    def _fail(self, task_id: str, failure: Failure) -> None:
        self.failures[task_id] = failure
        self._reasons[failure.kind, failure.message] += 1

    def reasons(self, limit: int) -> list[Reason]:
        """Why tasks failed, each reason once, the latest first."""
        found: dict[tuple[str, str], Reason] = {}
        for task_id, failure in islice(reversed(self.failures.items()), REASONS_FROM):
            key = failure.kind, failure.message
            if key not in found:
                number = self._reasons[key]
                tasks = task_id if number == 1 else f"{number:,} tasks, {task_id} the latest"
                found[key] = Reason(failure.kind, failure.message or failure.error_type, tasks)
                if len(found) == limit:
                    break
        return list(found.values())

    def _add_known(self, task_id: str) -> None:
        """A task of an earlier run is tried again."""
        record = self._find(task_id)
        if record is not None:
            if self.open == 0:
                self._begin()
            self._add(record)

    def about(self, task_id: str | None) -> str:
        """The beginning of a task's prompt."""
        if not task_id:
            return ""
        if task_id not in self._prompts:
            record = self._find(task_id)
            return one_line(record.prompt, ABOUT_CHARS) if record is not None else ""
        return one_line(self._prompts[task_id], ABOUT_CHARS)

    def _card(self, event: events.TaskRunning) -> None:
        card = self._at_work_on(event.slot_id, event.task_id)
        card.state, card.since_at = "busy", event.at
        card.model = event.requested_model or card.model

    def _take_slot(self, event: events.SlotChanged) -> None:
        if event.state is SlotState.STOPPED:
            self.slots.pop(event.slot_id, None)
            return
        card = self._at_work_on(event.slot_id, event.task_id or "")
        card.state, card.since_at = str(event.state), event.at
        card.cost_nano, card.error = event.cost_nano, event.error or ""

    def _at_work_on(self, slot_id: str, task_id: str) -> SlotCard:
        """The card of a slot, with this task on it, or none; what its last turn did is over."""
        card = self.slots.get(slot_id)
        if card is None:
            card = self.slots[slot_id] = SlotCard(slot_id, "busy", 0.0)
        if card.task_id != task_id:
            card.task_id, card.about = task_id, self.about(task_id)
        card.doing = card.tail = ""
        return card

    # -- what is known -------------------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """What time it is."""
        return self._clock()

    @property
    def title(self) -> str:
        """What it is a picture of."""
        if self.run_id is not None:
            return self.run_id
        runs = list(self._runs)
        return ", ".join(runs[:3]) + (f" and {len(runs) - 3} more" if len(runs) > 3 else "") or "the pool"

    @property
    def counts(self) -> dict[str, int]:
        """How many tasks are in each state, without zeros."""
        return {state: number for state, number in self._counts.items() if number}

    @property
    def open(self) -> int:
        """How many tasks are not final."""
        return sum(number for state, number in self._counts.items() if state not in FINAL_STATES)

    @property
    def reserved_nano(self) -> int:
        """What running attempts hold of the budget."""
        return 0 if self.budget is None else self.budget.reserved_nano

    def summary(self) -> RunSummary:
        """The run as a line."""
        budget = self.budget
        return RunSummary(
            self.title,
            counts=self.counts,
            cost_nano=self._settled_nano + sum(self._running_nano.values()),
            elapsed_s=self._clock() - self._began_at,
            left_nano=None if budget is None else budget.left_nano,
            limited=budget is not None and budget.limit_nano is not None,
            play_money=budget is not None and budget.play_money,
            warnings=tuple(self.warnings),
            paused=self.paused,
        )

    def waits(self) -> list[str]:
        """Why tasks wait, most of them first: `3 for the rate limit (8 s to go)`."""
        now = self._clock()
        kinds: dict[str, list[float]] = {}
        for wait in self._waits.values():
            kinds.setdefault(wait.kind, []).append(wait.until_at)
        said = []
        for kind, untils in sorted(kinds.items(), key=lambda one: -len(one[1])):
            why = WAITS.get(FailureKind(kind)) if kind else None
            left_s = round(max(0.0, min(untils) - now))
            to_go = f"{left_s} s" if left_s < 60 else seconds(left_s)
            said.append(f"{len(untils):,} {why or 'to try again'} ({to_go} to go)")
        return said + ([self.hold] if self.hold else [])

    def rate(self) -> float:
        """Tasks a second, over the last half minute."""
        now = self._clock()
        while self._finished and self._finished[0] < now - WINDOW_S:
            self._finished.popleft()
        return len(self._finished) / max(1.0, min(WINDOW_S, now - self._began_at))

    def left(self) -> tuple[float | None, int | None]:
        """How long the rest will take, and what it will cost, if it goes on like this; None if nobody can know."""
        todo, rate, done = self.open, self.rate(), self._counts["completed"]
        time_s = todo / rate if rate and not self.paused else None
        cost = self._settled_nano * todo // done if done else None
        return time_s, cost
