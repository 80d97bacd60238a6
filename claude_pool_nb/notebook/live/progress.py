"""How far a run is, told by the pool's events.

Invariants: `feed` only takes note and may be called from any thread; `catch_up` is called by one thread and costs what
has happened since, not what there is. Every task is in exactly one state.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from claude_pool_nb import events
from claude_pool_nb.display.runs import FINAL, RunSummary
from claude_pool_nb.display.text import one_line
from claude_pool_nb.records import BudgetRecord, SlotRecord, SlotState

WINDOW_S = 30.0
"""The rate is that of this many seconds."""


@dataclass(frozen=True, slots=True)
class SlotCard:
    """One slot of the view."""

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


class Progress:
    """The state of one run and of the slots.

    Args:
        run_id: The run that is watched.
        clock: Unix seconds.

    Example:
        >>> progress = Progress("r1", clock=lambda: 10.0)
        >>> progress.seed({"r1.1": "completed", "r1.2": "pending"}, cost_nano=1_100_000)
        >>> progress.summary().done
        1
    """

    def __init__(self, run_id: str, *, clock: Callable[[], float] = time.time) -> None:
        self.run_id = run_id
        self.slots: dict[str, SlotCard] = {}
        self.paused: str | None = None
        self.budget: BudgetRecord | None = None
        self.warnings: list[str] = []
        self._clock = clock
        self._began_at = clock()
        self._prefix = run_id + "."
        self._news: deque[events.Event] = deque()
        self._states: dict[str, str] = {}
        self._counts: Counter[str] = Counter()
        self._prompts: dict[str, str] = {}
        self._settled_nano = 0
        self._running_nano: dict[str, int] = {}
        self._finished: deque[float] = deque()

    # -- what there was before -----------------------------------------------------------------------------------------

    def seed(
        self,
        states: Mapping[str, str],
        *,
        cost_nano: int = 0,
        prompts: Mapping[str, str] | None = None,
        slots: Iterable[SlotRecord] = (),
        budget: BudgetRecord | None = None,
        paused: str | None = None,
    ) -> None:
        """Take over what is known when the view begins; events that came before are in it."""
        self._news.clear()
        self._states = {task: str(state) for task, state in states.items()}
        self._counts = Counter(self._states.values())
        self._settled_nano = cost_nano
        self._prompts = {task: one_line(text, 48) for task, text in (prompts or {}).items()}
        self.budget, self.paused = budget, paused
        self.slots = {
            slot.id: SlotCard(
                slot.id,
                slot.state,
                slot.since_at,
                slot.task_id or "",
                self._prompts.get(slot.task_id or "", ""),
                slot.model or "",
                slot.cost_nano,
                slot.error or "",
            )
            for slot in slots
            if slot.state is not SlotState.STOPPED
        }

    # -- what happens --------------------------------------------------------------------------------------------------

    def feed(self, event: events.Event) -> None:
        """Take note of an event; from any thread."""
        self._news.append(event)

    def catch_up(self) -> bool:
        """Take in what was noted; True if there was anything."""
        changed = bool(self._news)
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
            case events.PoolPaused(reason=reason):
                self.paused = reason
            case events.PoolUnpaused():
                self.paused = None
            case events.BudgetSeen(budget=budget):
                self.budget = budget
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
            self._settled_nano += event.result.cost_nano
        state = events.TASK_STATE_OF.get(type(event))
        if state is None:
            return
        before = self._states.get(task)
        if before is not None:
            self._counts[before] -= 1
        self._states[task] = str(state)
        self._counts[str(state)] += 1
        if state.is_final:
            self._finished.append(event.at)
        if isinstance(event, events.TaskRunning):
            self._card(event)

    def _card(self, event: events.TaskRunning) -> None:
        card = self.slots.get(event.slot_id) or SlotCard(event.slot_id, "busy", event.at)
        self.slots[event.slot_id] = replace(
            card,
            state="busy",
            since_at=event.at,
            task_id=event.task_id,
            about=self._prompts.get(event.task_id, ""),
            model=event.requested_model or "",
        )

    def _take_slot(self, event: events.SlotChanged) -> None:
        if event.state is SlotState.STOPPED:
            self.slots.pop(event.slot_id, None)
            return
        card = self.slots.get(event.slot_id) or SlotCard(event.slot_id, str(event.state), event.at)
        busy = event.state is SlotState.BUSY
        self.slots[event.slot_id] = replace(
            card,
            state=str(event.state),
            since_at=event.at,
            task_id=event.task_id or "",
            about=self._prompts.get(event.task_id or "", ""),
            model=card.model if busy else "",
            cost_nano=event.cost_nano,
            error=event.error or "",
        )

    # -- what is known -------------------------------------------------------------------------------------------------

    def summary(self) -> RunSummary:
        """The run as a line."""
        budget = self.budget
        return RunSummary(
            self.run_id,
            counts={state: number for state, number in self._counts.items() if number},
            cost_nano=self._settled_nano + sum(self._running_nano.values()),
            elapsed_s=self._clock() - self._began_at,
            left_nano=None if budget is None else budget.left_nano,
            limited=budget is not None and budget.limit_nano is not None,
            play_money=budget is not None and budget.play_money,
            warnings=tuple(self.warnings),
            paused=self.paused,
        )

    def rate(self) -> float:
        """Tasks a second, over the last half minute."""
        now = self._clock()
        while self._finished and self._finished[0] < now - WINDOW_S:
            self._finished.popleft()
        span = min(WINDOW_S, now - self._began_at)
        return len(self._finished) / span if span > 0 else 0.0

    def left(self) -> tuple[float | None, int | None]:
        """How long the rest will take, and what it will cost, if it goes on like this; None if nobody can know."""
        todo = sum(number for state, number in self._counts.items() if state not in FINAL)
        rate = self.rate()
        done = self._counts["completed"]
        time_s = todo / rate if rate and not self.paused else None
        cost = self._settled_nano * todo // done if done else None
        return time_s, cost
