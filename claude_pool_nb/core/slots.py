"""Slots: opened, lost, reset, scaled and closed.

Invariants: a slot id is never used twice; every opening has its own epoch, and what an older session says is ignored;
a slot that is closing gets no task; a slot whose session is lost over and over without ever being ready in between is
given up (`errored`), and a pool that has no other slots pauses itself, so that nobody waits for ever.
"""

from __future__ import annotations

from claude_pool_nb.core.board import Board
from claude_pool_nb.core.commands import Closed, CloseSlot, OpenSlot, ResetSlot
from claude_pool_nb.core.entries import SlotEntry
from claude_pool_nb.errors import PoolClosed as PoolClosedError
from claude_pool_nb.events import PoolClosed, PoolScaled, SlotChanged, Warned
from claude_pool_nb.records import SlotState

FIRST_REOPEN_S = 0.5
"""The wait before the second reopening in a row; the first is at once, each further one waits twice as long."""
LONGEST_REOPEN_S = 30.0
_CLOSE_FIRST = {
    SlotState.ERRORED: 0,
    SlotState.STARTING: 1,
    SlotState.IDLE: 2,
    SlotState.RESETTING: 3,
    SlotState.BUSY: 4,
}
"""Which slots a smaller pool gives up first: a session that is open is worth more than one that is not."""


class SlotDesk(Board):
    """The slots' part of the decisions."""

    def _enter(self, slot: SlotEntry, state: SlotState, at: float, error: str | None = None) -> None:
        """A slot enters a state."""
        if state is SlotState.IDLE:
            self._idle[slot.id] = slot
        elif slot.state is SlotState.IDLE:
            self._idle.pop(slot.id, None)
        slot.state = state
        slot.since_at = at
        slot.error = error
        task_id = slot.task.id if slot.task else None
        self._events.append(
            SlotChanged(at, slot.id, state, task_id, error, slot.restarts, slot.tasks_completed, slot.cost_nano)
        )

    def _add_slots(self, n: int, at: float) -> None:
        """Open new slots."""
        for _ in range(n):
            self._slot_number += 1
            slot = SlotEntry(f"s{self._slot_number}")
            self._slots[slot.id] = slot
            self._open(slot, at)

    def _open(self, slot: SlotEntry, at: float, delay_s: float = 0.0) -> None:
        """Open a slot's session, under a new epoch."""
        slot.epoch += 1
        slot.launch_key, slot.conversation = "", None
        slot.stopped_by_pool = False
        self._enter(slot, SlotState.STARTING, at)
        self._commands.append(OpenSlot(slot.id, slot.epoch, delay_s))

    def _slot_ready(self, slot_id: str, epoch: int, was: SlotState, at: float) -> None:
        """A session is open, or reset: the slot can take a task."""
        slot = self._slot(slot_id)
        if slot.epoch == epoch and slot.state is was and not slot.closing:
            slot.stopped_by_pool = False
            slot.losses = 0
            self._enter(slot, SlotState.IDLE, at)

    def _slot_lost(self, slot_id: str, epoch: int, error: str, at: float) -> None:
        """A session is gone; its task has been told of already."""
        slot = self._slot(slot_id)
        if slot.epoch != epoch or slot.state in (SlotState.STOPPED, SlotState.ERRORED):
            return
        if slot.closing:
            self._stopped(slot, at)
            return
        if slot.stopped_by_pool:  # the price of a kill, a timeout ...: no sign that sessions cannot be kept
            self._open(slot, at)
            return
        slot.losses += 1
        if slot.losses > self._max_restarts:
            self._enter(slot, SlotState.ERRORED, at, error)
            message = f"Slot {slot.id} is given up: its session was lost {slot.losses} times in a row ({error})."
            self._events.append(Warned(at, f"{message} Mend the cause, then `%pool unpause` opens it again."))
            self._pause_without_slots(at)
            return
        slot.restarts += 1
        wait_s = 0.0 if slot.losses == 1 else min(FIRST_REOPEN_S * 2.0 ** (slot.losses - 2), LONGEST_REOPEN_S)
        self._open(slot, at, wait_s)

    def _pause_without_slots(self, at: float) -> None:
        """A pool all of whose slots are given up pauses itself."""
        alive = [slot for slot in self._slots.values() if slot.state is not SlotState.STOPPED]
        if self._draining or self._paused is not None or not alive:
            return
        if all(slot.state is SlotState.ERRORED for slot in alive):
            error = alive[-1].error or "no session could be kept"
            reason = f"no slot has a working session ({error}); mend the cause, then `%pool unpause` opens them again"
            self._pause(at, reason, by_person=False)

    def _revive(self, at: float) -> None:
        """Open the slots again that were given up."""
        for slot in self._slots.values():
            if slot.state is SlotState.ERRORED:
                slot.losses = 0
                self._open(slot, at)

    def _slot_closed(self, slot_id: str, epoch: int, at: float) -> None:
        """A session is closed, as commanded."""
        slot = self._slot(slot_id)
        if slot.epoch == epoch and slot.closing and slot.state is not SlotState.STOPPED:
            self._stopped(slot, at)

    def _after_task(self, slot: SlotEntry, at: float, *, sent: bool = True) -> None:
        """A slot's task is over: make the slot ready for the next one, or close it."""
        slot.task = None
        if slot.closing:
            self._enter(slot, SlotState.RESETTING, at)
            self._commands.append(CloseSlot(slot.id, slot.epoch))
        elif sent:
            self._enter(slot, SlotState.RESETTING, at)
            self._commands.append(ResetSlot(slot.id, slot.epoch))
        else:
            self._enter(slot, SlotState.IDLE, at)

    def _close(self, slot: SlotEntry, at: float) -> None:
        """Close a slot: now, or when its task is over."""
        slot.closing = True
        self._idle.pop(slot.id, None)
        if slot.state is SlotState.ERRORED:  # it has no session any more
            self._stopped(slot, at)
        elif slot.task is None:
            self._enter(slot, SlotState.RESETTING, at)
            self._commands.append(CloseSlot(slot.id, slot.epoch))

    def _stopped(self, slot: SlotEntry, at: float) -> None:
        """A slot is over."""
        self._enter(slot, SlotState.STOPPED, at)
        if self._draining:
            self._finish_drain(at)
        else:
            self._pause_without_slots(at)

    def _scale(self, slots: int, at: float) -> None:
        """Have this many slots."""
        if self._draining:
            raise PoolClosedError
        self._check_slots(slots)
        alive = [slot for slot in self._slots.values() if slot.state is not SlotState.STOPPED and not slot.closing]
        if slots == len(alive):
            return
        self._events.append(PoolScaled(at, slots))
        if slots < len(alive):
            alive.reverse()  # of two alike the younger one goes
            alive.sort(key=lambda slot: _CLOSE_FIRST[slot.state])
            for slot in alive[: len(alive) - slots]:
                self._close(slot, at)
            return
        missing = slots - len(alive)
        for slot in self._slots.values():
            if missing and slot.closing and slot.task is not None:  # was to be closed after its task: it stays
                slot.closing = False
                missing -= 1
        self._add_slots(missing, at)

    def _size(self) -> int:
        """How many slots the pool has."""
        return sum(slot.state is not SlotState.STOPPED and not slot.closing for slot in self._slots.values())

    def _finish_drain(self, at: float) -> None:
        """The pool is over once its last slot is."""
        if self._closed or any(slot.state is not SlotState.STOPPED for slot in self._slots.values()):
            return
        self._closed = True
        self._events.append(PoolClosed(at))
        self._tell = True
        self._commands.append(Closed())
