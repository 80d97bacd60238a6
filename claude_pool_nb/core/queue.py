"""Who is runnable, and who is next.

Runnable tasks stand in lanes: a heap per launch key, role, prime key and reservation class, so that a pick looks at
the heads of the lanes only, and a lane that cannot run now (cold cache, no money, no slot of its role) is passed over
as a whole.

A task whose conversation is in a slot that is just being made ready waits for that slot.

Invariants: a task stands in at most one lane (`task.lane`); of each conversation at most one task does, the first of
it that is not final; a pick is the first in line by priority and acceptance among those that can run now, or a task of
the same run and priority that needs no relaunch and is at most `2 x slots` places behind it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from heapq import heappop, heappush
from itertools import count
from typing import NamedTuple

from claude_pool_nb.core.budget import Budget, Estimate, round_up
from claude_pool_nb.core.entries import SlotEntry, TaskEntry
from claude_pool_nb.core.priming import Gate
from claude_pool_nb.records import SlotState, TaskState

Price = tuple[str, str, str | None, int | None]
"""How a lane's tasks are priced: (`cap` | `worst` | `estimate`, profile, model, amount)."""

LaneKey = tuple[str, str | None, str | None, str | None, Price]
"""(launch key, role, prime key, conversation, price)."""


class Lane:
    """Runnable tasks that are alike in all that decides whether and where they can run."""

    __slots__ = ("_fixed", "conversation", "estimate", "gate", "heap", "key", "launch_key", "refused", "role")

    def __init__(self, key: LaneKey, gate: Gate | None, estimate: Estimate, price: Price) -> None:
        self.key = key
        self.launch_key, self.role, self.conversation = key[0], key[1], key[3]
        self.gate = gate
        self.estimate = estimate
        self.heap: list[tuple[int, int, int, TaskEntry]] = []
        self._fixed = price[3]
        self.refused = price[0] == "worst" and price[3] is None  # strict, and no bound is known

    def head(self) -> tuple[int, int, int, TaskEntry] | None:
        """The first in line here; places that were given up are dropped on the way."""
        heap = self.heap
        while heap:
            if heap[0][3].lane is self:
                return heap[0]
            heappop(heap)
        return None

    def need(self) -> int | None:
        """What one of its tasks may cost; None if nobody knows."""
        seen = self.estimate.nano if self.key[4][0] == "estimate" else None
        return self._fixed if seen is None or (seen == 0 and self._fixed is not None) else seen

    def fits(self, budget: Budget) -> bool:
        """True if the budget has room for one of its tasks now."""
        room = budget.room_nano
        if room is None:
            return True
        if self.refused:
            return False
        need = self.need()
        if need is None:  # one at a time until one has settled
            return room > 0 and self.estimate.unknown_in_flight == 0
        return need <= room

    def may_fit_later(self, budget: Budget) -> bool:
        """True if it may fit when other pools give their reservations back."""
        need = self.need()
        return not self.refused and budget.may_fit_later(1 if need is None else need)

    def tasks(self) -> list[TaskEntry]:
        """All that stand here, in their order."""
        return [item[3] for item in sorted(self.heap) if item[3].lane is self]


class Talk:
    """A named conversation: the task whose turn it is, and those behind it."""

    __slots__ = ("behind", "current")

    def __init__(self) -> None:
        self.current: TaskEntry | None = None
        self.behind: list[tuple[int, int, TaskEntry]] = []


def _holds(slot: SlotEntry, task: TaskEntry) -> bool:
    """True if a task's named conversation is in a slot's session."""
    conversation = task.spec.record.conversation
    return conversation is not None and slot.conversation == conversation


class Pick(NamedTuple):
    """The next task, where it goes, and what it may cost."""

    task: TaskEntry
    slot: SlotEntry
    need_nano: int | None


class Queue:
    """All tasks that are accepted and not started."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._lanes: dict[LaneKey, Lane] = {}
        self._talks: dict[str, Talk] = {}
        self._gates: dict[str, Gate] = {}
        self._holders: dict[str, SlotEntry] = {}
        self._ticket = count()

    def gate(self, prime_key: str) -> Gate:
        """The gate of a prime key."""
        found = self._gates.get(prime_key)
        if found is None:
            found = self._gates[prime_key] = Gate()
        return found

    def push(self, task: TaskEntry) -> None:
        """A task is pending: it stands in line, or behind the task whose turn its conversation has."""
        conversation = task.spec.record.conversation
        if conversation is not None:
            talk = self._talks.get(conversation)
            if talk is None:
                talk = self._talks[conversation] = Talk()
            current = talk.current
            if current is None:
                talk.current = task
            elif current is not task:
                if current.state is not TaskState.PENDING or current.order < task.order:
                    heappush(talk.behind, (task.order, next(self._ticket), task))
                    return
                # an earlier task of the conversation was reopened: it goes before the one that has not started
                current.lane = None
                heappush(talk.behind, (current.order, next(self._ticket), current))
                talk.current = task
        self._stand(task)

    def leave(self, task: TaskEntry) -> None:
        """A task is final: it gives up its place, and its conversation's turn goes to the next."""
        task.lane = None
        conversation = task.spec.record.conversation
        if conversation is None:
            return
        talk = self._talks.get(conversation)
        if talk is None or talk.current is not task:
            return
        talk.current = None
        while talk.behind:
            following = heappop(talk.behind)[2]
            if following.state is TaskState.PENDING and following.lane is None:
                talk.current = following
                self._stand(following)
                return
        del self._talks[conversation]

    def warming(self) -> tuple[str, ...]:
        """The tasks that go alone to warm the prompt cache for others that stand behind them."""
        leaders: dict[str, None] = {}
        for lane in list(self._lanes.values()):  # another thread may look while one is added
            leader = lane.gate.leader if lane.gate is not None else None
            if leader is not None and any(item[3].lane is lane for item in tuple(lane.heap)):
                leaders[leader] = None
        return tuple(leaders)

    def pick(self, idle: Collection[SlotEntry], at: float, slots: int) -> Pick | None:
        """Who is next for these idle slots, and where.

        Args:
            idle: Slots that can take a task, longest idle first.
            at: The instant.
            slots: How many slots the pool has, for the window of launch-key affinity.
        """
        roles = {slot.role for slot in idle}
        budget = self._budget
        best: tuple[int, int, int, TaskEntry] | None = None
        gone: list[Lane] = []
        for lane in self._lanes.values():
            head = lane.head()
            if head is None:
                gone.append(lane)
            elif (
                (best is None or head < best)
                and (lane.role is None or lane.role in roles)
                and not self._is_closed(lane, at)
                and lane.fits(budget)
            ):
                best = head
        for lane in gone:
            del self._lanes[lane.key]
        if best is None:
            return None
        first = best[3]
        slot = self._slot_for(first, idle)
        if slot.launch_key not in ("", first.spec.launch_key) and not _holds(slot, first):
            nearer = self._without_relaunch(best, slot, at, slots)
            if nearer is not None:
                first = nearer
        chosen = first.lane
        assert chosen is not None
        return Pick(first, slot, chosen.need())

    def take(self, task: TaskEntry) -> None:
        """A picked task leaves the line; its conversation's turn stays with it."""
        assert task.lane is not None
        heappop(task.lane.heap)
        task.lane = None

    def without_money(self) -> Iterator[tuple[Lane, bool]]:
        """Lanes that do not fit the budget now, and whether they may when other pools give something back."""
        budget = self._budget
        if budget.limit_nano is None:
            return
        for lane in list(self._lanes.values()):
            if lane.head() is not None and not lane.fits(budget):
                yield lane, lane.may_fit_later(budget)

    def hold(self, conversation: str, slot: SlotEntry) -> None:
        """A conversation goes on in this slot: what another slot's session has of it is out of date."""
        before = self._holders.get(conversation)
        if before is not None and before is not slot and before.conversation == conversation:
            before.conversation, before.launch_key = None, ""
        self._holders[conversation] = slot

    def _is_closed(self, lane: Lane, at: float) -> bool:
        """True if a lane's tasks have to wait: for the first of their prefix, or for the slot of their conversation.

        A slot that is made ready is back in milliseconds; to go on in another one would cost a launch.
        """
        if lane.gate is not None and lane.gate.is_closed(at):
            return True
        if lane.conversation is None:
            return False
        slot = self._holders.get(lane.conversation)
        return (
            slot is not None
            and slot.conversation == lane.conversation
            and slot.state is SlotState.RESETTING
            and not slot.closing
        )

    def _stand(self, task: TaskEntry) -> None:
        """Put a task into its lane."""
        spec = task.spec
        price = self._price(task)
        key = (spec.launch_key, spec.record.role, spec.prime_key, spec.record.conversation, price)
        lane = self._lanes.get(key)
        if lane is None:
            gate = None if spec.prime_key is None else self.gate(spec.prime_key)
            estimate = self._budget.estimate(spec.record.profile, spec.record.requested_model)
            lane = self._lanes[key] = Lane(key, gate, estimate, price)
        task.lane = lane
        heappush(lane.heap, (task.negative_priority, task.order, next(self._ticket), task))

    def _price(self, task: TaskEntry) -> Price:
        """How a task's reservation is found."""
        spec, record = task.spec, task.spec.record
        if self._budget.strict:
            return ("worst", record.profile, record.requested_model, spec.worst_case_nano)
        if spec.cap_nano is not None:
            return ("cap", record.profile, record.requested_model, max(0, spec.cap_nano - task.cost_nano))
        listed = None if spec.list_price_nano is None else round_up(spec.list_price_nano)
        return ("estimate", record.profile, record.requested_model, listed)

    @staticmethod
    def _slot_for(task: TaskEntry, idle: Collection[SlotEntry]) -> SlotEntry:
        """The idle slot that suits a task best: its conversation, its launch key, an unused one, the longest idle."""
        record, launch_key = task.spec.record, task.spec.launch_key
        best: SlotEntry | None = None
        best_score = 99
        for slot in idle:
            if record.role is not None and slot.role != record.role:
                continue
            if _holds(slot, task):
                return slot
            score = 0 if slot.launch_key == launch_key else 2 if not slot.launch_key else 4
            if slot.role != record.role:
                score += 1  # keep slots with a role for the tasks that ask for it
            if score < best_score:
                best, best_score = slot, score
        assert best is not None, "the caller made sure that one has the role"
        return best

    def _without_relaunch(
        self, first: tuple[int, int, int, TaskEntry], slot: SlotEntry, at: float, slots: int
    ) -> TaskEntry | None:
        """A task near the first in line, of its run and priority, that the slot can run without a relaunch."""
        negative_priority, order, _, task = first
        best: tuple[int, int, int, TaskEntry] | None = None
        for lane in self._lanes.values():
            if lane.launch_key != slot.launch_key or (lane.role is not None and lane.role != slot.role):
                continue
            head = lane.head()
            if (
                head is not None
                and head[0] == negative_priority
                and head[1] - order <= 2 * slots
                and head[3].run is task.run
                and (best is None or head < best)
                and not self._is_closed(lane, at)
                and lane.fits(self._budget)
            ):
                best = head
        return None if best is None else best[3]
