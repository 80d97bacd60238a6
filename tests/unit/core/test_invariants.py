"""The seven invariants of the core, over random inputs."""

from __future__ import annotations

from dataclasses import replace

import hypothesis.strategies as st
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from claude_pool_nb import events as e
from claude_pool_nb.core import commands as c
from claude_pool_nb.core import inputs as i
from claude_pool_nb.errors import ConfigError, PoolClosed
from claude_pool_nb.records import (
    EarlierAnswer,
    Failure,
    FailureKind,
    RetryPolicy,
    SlotState,
    StopReason,
    TaskState,
    TurnResult,
    Usage,
)
from tests.unit.core.world import FINAL_RUNS, World

COSTS = st.integers(0, 30)
RETRIES = st.sampled_from(
    [
        RetryPolicy(),
        RetryPolicy(max_attempts=1),
        RetryPolicy(max_attempts=5, initial_backoff_s=0.5, retry_timeouts=True, retry_tasks=True, retry_writes=True),
    ]
)
TASKS = st.fixed_dictionaries(
    {
        "priority": st.sampled_from([0, 0, 0, 1, -1]),
        "launch_key": st.sampled_from(["a", "a", "b"]),
        "requested_model": st.sampled_from(["haiku", "haiku", "opus"]),
        "retry": RETRIES,
    },
    optional={
        "role": st.sampled_from(["writer", "reader"]),
        "conversation": st.sampled_from(["c1", "c2"]),
        "cap_nano": st.integers(0, 40),
        "list_price_nano": st.integers(0, 30),
        "worst_case_nano": st.integers(0, 60),
        "prime_key": st.sampled_from(["p", "q"]),
        "deadline_in": st.floats(0.5, 400),
        "answer": st.just(EarlierAnswer("r0.1", TurnResult(output="known"))),
    },
)
FAILURES = st.builds(
    Failure,
    st.sampled_from(FailureKind),
    st.sampled_from(["oops", "oops", "unknown_model"]),
    st.just("It failed."),
    st.sampled_from([None, None, 3.0]),
)
REASONS = st.sampled_from([StopReason.CANCEL, StopReason.CANCEL, StopReason.INTERRUPT])


class Pools(RuleBasedStateMachine):
    """Random inputs; what was commanded is answered in any order, or not at all for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.world: World
        self.stopped: set[str] = set()  # accepted stops
        self.foreign = False  # other pools changed the ledger's budget since the core last read it
        self.foreign_held = 0
        self.openings: dict[str, int] = {}  # how often a task was opened
        self.endings: dict[str, int] = {}

    @initialize(
        slots=st.integers(1, 4), limit=st.none() | st.integers(0, 300), strict=st.booleans(), restarts=st.integers(0, 3)
    )
    def begin(self, slots: int, limit: int | None, strict: bool, restarts: int) -> None:
        """A pool starts."""
        self.world = World(slots, limit=limit, strict_budget=strict, max_restarts=restarts, max_slots=6)

    # -- telling, with what must hold at every single call -------------------------------------------------------------

    def tell(self, given: i.Input) -> None:
        """Tell the core, and look at all that it decided."""
        world, state = self.world, self.world.state
        runnable_before = self.foreign
        world.tell(given)
        refused = {(r.task_id, r.attempt) for r in world.inbox if isinstance(r, i.ReservationRefused)}
        sent = [command for command in world.last if isinstance(command, c.Dispatch)]
        for event in world.events:
            if isinstance(event, e.RunAccepted):
                self.openings |= dict.fromkeys((task.id for task in event.tasks), 1)
            elif isinstance(event, e.TaskReopened):
                self.openings[event.task_id] += 1
                self.stopped.discard(event.task_id)
            elif isinstance(event, (e.TaskCompleted, e.TaskCached, e.TaskFailed, e.TaskCancelled, e.TaskInterrupted)):
                self.endings[event.task_id] = self.endings.get(event.task_id, 0) + 1
                assert self.endings[event.task_id] == self.openings[event.task_id]  # 1: exactly once per opening
                assert event.task_id in [t for x in world.last if isinstance(x, c.Tell) for t in x.task_ids]
                if isinstance(event, e.TaskCached):  # it takes nothing: no slot, no attempt, no money
                    assert state.task(event.task_id).attempts == 0
                    assert event.task_id not in {command.task_id for command in sent}
            elif isinstance(event, e.TaskRunning):
                assert event.task_id not in self.stopped  # 5
                # 3: the ledger refuses nothing that the core could have known
                assert runnable_before or (event.task_id, event.attempt) not in refused
        if sent:
            assert state.paused is None
            assert not state.draining
            assert world.at >= state._limit.until_at
            assert (state._money.room_nano or 0) >= 0  # 3: spent and reserved are within the budget
        for command in sent:
            self.in_turn(command)

    def in_turn(self, sent: c.Dispatch) -> None:
        """4: nobody who could have taken that slot was passed over."""
        state = self.world.state
        task, slot = state._tasks[sent.task_id], state._slots[sent.slot_id]
        assert task.spec.record.role in (None, slot.role)
        for other in self.runnable():
            if other.spec.record.role not in (None, slot.role):
                continue
            if (other.negative_priority, other.order) < (task.negative_priority, task.order):
                assert other.run is task.run
                assert other.negative_priority == task.negative_priority
                assert slot.previous[0] == task.spec.launch_key != other.spec.launch_key
                assert task.order - other.order <= 2 * len(state._slots)

    def runnable(self) -> list:
        """What could run now, by the letter of the rules and without any of the core's short cuts."""
        state, money = self.world.state, self.world.state._money
        found = []
        busy_talks = {t.spec.record.conversation for t in state._tasks.values() if t.state is TaskState.RUNNING}
        waiting = [t for t in state._tasks.values() if t.state is TaskState.WAITING]
        for task in state._tasks.values():
            record, spec = task.spec.record, task.spec
            if task.state is not TaskState.PENDING:
                continue
            if record.conversation is not None:
                earlier = [
                    t
                    for t in state._tasks.values()
                    if t.spec.record.conversation == record.conversation
                    and t.state is TaskState.PENDING
                    and t.order < task.order
                ]
                if any(
                    slot.conversation == record.conversation and slot.state is SlotState.RESETTING and not slot.closing
                    for slot in state._slots.values()
                ):
                    continue
                behind = [t for t in waiting if t.spec.record.conversation == record.conversation]
                if earlier or behind or record.conversation in busy_talks:
                    continue
            if spec.prime_key is not None and state._queue.gate(spec.prime_key).is_closed(self.world.at):
                continue
            room = money.room_nano
            if room is not None:
                known = money.estimate(record.profile, record.requested_model)
                if money.strict:
                    need = spec.worst_case_nano
                    if need is None:
                        continue
                elif spec.cap_nano is not None:
                    need = max(0, spec.cap_nano - task.cost_nano)
                else:
                    need = spec.list_price_nano if known.nano is None else known.nano
                if need is None and (room <= 0 or known.unknown_in_flight):
                    continue
                if need is not None and need > room:
                    continue
            found.append(task)
        return found

    # -- what people do ------------------------------------------------------------------------------------------------

    @rule(tasks=st.lists(TASKS, min_size=0, max_size=8))
    def submit(self, tasks: list[dict]) -> None:
        """Work arrives."""
        tasks = [dict(task) for task in tasks]
        for task in tasks:
            if "deadline_in" in task:
                task["deadline_at"] = self.world.at + task.pop("deadline_in")
        given = self.world.make(*tasks)
        if self.world.state.draining:
            try:
                self.world.state.handle(given)
            except PoolClosed:
                for spec in given.tasks:
                    del self.world.specs[spec.record.id]
                return
            raise AssertionError("a draining pool took work")
        self.tell(given)

    @rule(data=st.data(), reason=REASONS, kill=st.booleans(), everything=st.booleans())
    def stop(self, data: st.DataObject, reason: StopReason, kill: bool, everything: bool) -> None:
        """Somebody stops tasks."""
        ids = list(self.world.ledger.tasks)
        chosen = [] if everything or not ids else data.draw(st.lists(st.sampled_from(ids), min_size=1, max_size=5))
        for task_id in chosen or ids:
            if not self.world.state.task(task_id).state.is_final:
                self.stopped.add(task_id)
        self.tell(i.Stop(self.world.at, tuple(chosen), reason, kill))

    @rule(data=st.data(), new_prompt=st.booleans())
    def reopen(self, data: st.DataObject, new_prompt: bool) -> None:
        """Final tasks are run again."""
        final = [t.id for t in self.world.ledger.tasks.values() if t.state.is_final]
        if not final or self.world.state.draining or self.world.inbox:
            return
        chosen = data.draw(st.lists(st.sampled_from(final), min_size=1, max_size=4, unique=True))
        for task_id in chosen:
            record = self.world.state.task(task_id)
            if new_prompt:
                record = replace(record, prompt=record.prompt + "!")
            self.world.specs[task_id] = replace(self.world.specs[task_id], record=record, deadline_at=None)
        self.tell(i.Reopen(self.world.at, tuple(self.world.specs[task_id] for task_id in chosen)))

    @rule(limit=st.none() | st.integers(0, 400))
    def set_budget(self, limit: int | None) -> None:
        """The wall moves."""
        self.tell(i.SetBudget(self.world.at, limit))

    @rule()
    def pause(self) -> None:
        """Somebody pauses."""
        self.tell(i.Pause(self.world.at, "lunch"))

    @rule()
    def unpause(self) -> None:
        """Somebody unpauses."""
        self.tell(i.Unpause(self.world.at))

    @rule(slots=st.integers(0, 7))
    def scale(self, slots: int) -> None:
        """More slots, or fewer."""
        if self.world.state.draining:
            return
        try:
            self.tell(i.Scale(self.world.at, slots))
        except ConfigError:
            assert not 1 <= slots <= 6
        else:
            assert self.world.state._size() == slots

    @rule(data=st.data(), role=st.sampled_from(["writer", "reader", None]))
    def label(self, data: st.DataObject, role: str | None) -> None:
        """A slot gets a role."""
        slots = [slot.id for slot in self.world.state.slots()]
        if slots:
            self.tell(i.LabelSlot(self.world.at, data.draw(st.sampled_from(slots)), role=role))

    @precondition(lambda self: len(self.world.ledger.runs) > 3)
    @rule()
    def drain(self) -> None:
        """The pool is to end."""
        self.stopped |= {t.id for t in self.world.state.tasks() if not t.state.is_final}
        self.stopped -= {t.id for t in self.world.state.tasks() if t.state is TaskState.RUNNING}
        self.tell(i.Drain(self.world.at))

    @rule()
    def drain_timed_out(self) -> None:
        """A drain's time is over."""
        self.tell(i.DrainTimedOut(self.world.at))

    # -- what sessions do ----------------------------------------------------------------------------------------------

    @precondition(lambda self: self.world.opening)
    @rule(data=st.data())
    def open(self, data: st.DataObject) -> None:
        """A session is open."""
        slot = data.draw(st.sampled_from(sorted(self.world.opening)))
        self.tell(i.SlotOpened(self.world.at, slot, self.world.opening.pop(slot)))

    @precondition(lambda self: self.world.resetting)
    @rule(data=st.data())
    def ready(self, data: st.DataObject) -> None:
        """A session is reset."""
        slot = data.draw(st.sampled_from(sorted(self.world.resetting)))
        self.tell(i.SlotReady(self.world.at, slot, self.world.resetting.pop(slot)))

    @precondition(lambda self: self.world.closing)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        """A session is closed."""
        slot = data.draw(st.sampled_from(sorted(self.world.closing)))
        self.tell(i.SlotClosed(self.world.at, slot, self.world.closing.pop(slot)))

    @rule(data=st.data(), old=st.booleans())
    def lose(self, data: st.DataObject, old: bool) -> None:
        """A session is lost, now or long ago."""
        slots = [slot.id for slot in self.world.state.slots()]
        if not slots:
            return
        slot = data.draw(st.sampled_from(slots))
        epoch = self.world.state.slot_epoch(slot)
        if old:
            before = repr(self.world.state)
            self.tell(i.SlotLost(self.world.at, slot, epoch - 1, "long gone"))
            assert repr(self.world.state) == before or self.world.events
            return
        if self.world.state.slot(slot).task_id and slot not in self.world.in_flight.values():
            return  # its attempt was refused by the ledger, and that is said first
        self.world.opening.pop(slot, None)
        self.world.resetting.pop(slot, None)
        for key in [key for key, where in self.world.in_flight.items() if where == slot]:
            del self.world.in_flight[key]
        self.tell(i.SlotLost(self.world.at, slot, epoch, "gone"))

    @precondition(lambda self: self.world.in_flight)
    @rule(data=st.data(), cost=COSTS, fail=st.none() | st.none() | FAILURES, wrote=st.booleans(), obey=st.booleans())
    def done(self, data: st.DataObject, cost: int, fail: Failure | None, wrote: bool, obey: bool) -> None:
        """An attempt is over: as asked for, by itself, or well."""
        task_id, attempt = data.draw(st.sampled_from(sorted(self.world.in_flight)))
        del self.world.in_flight[task_id, attempt]
        asked = [s.reason for s in self.world.stops if (s.task_id, s.attempt) == (task_id, attempt)]
        stopped = asked[-1] if asked and obey else data.draw(st.sampled_from([None, None, StopReason.TIMEOUT]))
        result = TurnResult(failure=fail, cost_nano=cost, wrote=wrote)
        self.tell(i.AttemptDone(self.world.at, task_id, attempt, result, stopped))
        if fail is None and stopped is None:
            assert self.world.state.task(task_id).state is TaskState.COMPLETED

    @precondition(lambda self: self.world.in_flight)
    @rule(data=st.data(), cost=COSTS, begun=st.booleans())
    def progress(self, data: st.DataObject, cost: int, begun: bool) -> None:
        """An attempt goes on."""
        task_id, attempt = data.draw(st.sampled_from(sorted(self.world.in_flight)))
        if begun:
            self.tell(i.AttemptBegan(self.world.at, task_id, attempt))
        self.tell(i.AttemptSpent(self.world.at, task_id, attempt, cost, Usage(), record=begun))

    @rule(data=st.data(), cost=COSTS, fail=st.none() | FAILURES)
    def late(self, data: st.DataObject, cost: int, fail: Failure | None) -> None:
        """6: what an old attempt says changes nothing, but is booked."""
        old = sorted(set(self.world.ledger.attempts) - set(self.world.in_flight))
        if not old:
            return
        task_id, attempt = data.draw(st.sampled_from(old))
        state = self.world.state
        before, spent = state.task(task_id), state._money.own_spent
        given = i.AttemptDone(self.world.at, task_id, attempt, TurnResult(failure=fail, cost_nano=cost))
        due = self.world.wake <= self.world.at
        self.tell(given)
        after = state.task(task_id)
        more = after.cost_nano - before.cost_nano
        assert more >= 0
        assert state._money.own_spent == spent + more
        if not due and before.state.is_final:
            assert after == replace(before, cost_nano=after.cost_nano)

    # -- what the rest of the world does -------------------------------------------------------------------------------

    @precondition(lambda self: self.world.inbox)
    @rule()
    def listen(self) -> None:
        """The ledger says something."""
        given = self.world.inbox.popleft()
        self.foreign = True  # what it says may be older than what happened since
        self.tell(replace(given, at=self.world.at))

    @rule()
    def read_budget(self) -> None:
        """The engine tells what the ledger has."""
        if self.world.inbox:
            return
        self.tell_budget()

    def tell_budget(self) -> None:
        """All of the ledger's news are known."""
        assert self.world.ledger.budget is not None
        self.foreign = False
        self.tell(i.BudgetRead(self.world.at, self.world.ledger.budget))

    @rule(spent=st.integers(0, 40), held=st.integers(0, 40))
    def others(self, spent: int, held: int) -> None:
        """Another pool spends, and holds something back."""
        b = self.world.ledger.budget
        assert b is not None
        if (
            b.limit_nano is not None
            and b.spent_nano + b.reserved_nano - self.foreign_held + spent + held > b.limit_nano
        ):
            return
        self.foreign = True
        self.world.ledger.budget = replace(
            b, spent_nano=b.spent_nano + spent, reserved_nano=b.reserved_nano - self.foreign_held + held
        )
        self.foreign_held = held

    @rule(seconds=st.sampled_from([0.1, 1.0, 7.0, 300.0]))
    def later(self, seconds: float) -> None:
        """Time goes by."""
        world = self.world
        end = world.at + seconds
        for _ in range(50):
            if world.wake > end:
                break
            world.at = max(world.at, world.wake)
            world.wake = float("inf")
            self.tell(i.Tick(world.at))
        world.at = max(world.at, end)

    # -- what must hold all the time -----------------------------------------------------------------------------------

    @invariant()
    def holds(self) -> None:
        """2 and 4, runs that end with their tasks, and counts that add up."""
        world, state = self.world, self.world.state
        state.check()
        if state.paused is None and not state.draining and world.at >= state._limit.until_at:
            due = world.wake <= world.at
            for slot in state._slots.values():
                if slot.state is SlotState.IDLE and not slot.closing and not due:
                    could = [t.id for t in self.runnable() if t.spec.record.role in (None, slot.role)]
                    assert not could, f"{slot.id} is idle while {could} could run"
        for run in world.ledger.runs.values():
            tasks = [t for t in world.ledger.tasks.values() if t.run_id == run.id]
            assert (run.state in FINAL_RUNS) == all(t.state.is_final for t in tasks)

    @invariant()
    def rebuilds(self) -> None:
        """7: the rows give the same state."""
        if any(isinstance(given, i.ReservationRefused) for given in self.world.inbox):
            return  # the core does not know yet what the rows say
        mine, theirs = self.world.state.durable(), self.world.rebuilt().durable()
        if self.foreign:
            del mine["budget"], theirs["budget"]
        assert mine == theirs

    def teardown(self) -> None:
        """Everything is answered well: every task ends without being told twice, and a drain always ends."""
        if not hasattr(self, "world"):
            return
        world = self.world
        if not world.state.draining:
            self.tell(i.Unpause(world.at))
            for turn in range(200):  # a single slot takes on one role after the other
                self.work_off()
                if all(task.state.is_final for task in world.state.tasks()):
                    break
                slot = next(slot.id for slot in world.state.slots() if slot.state is SlotState.IDLE)
                self.tell(i.LabelSlot(world.at, slot, role=("writer", "reader")[turn % 2]))
            else:
                raise AssertionError(f"tasks wait for ever: {world.state!r}")
        self.tell(i.Drain(world.at))
        self.work_off()
        assert world.closed
        assert world.ledger.closed
        assert all(t.state.is_final for t in world.ledger.tasks.values())
        assert set(self.endings) == set(self.openings)
        budget = world.ledger.budget
        assert budget is not None
        assert budget.reserved_nano == self.foreign_held * (not self.foreign_released)

    foreign_released = False

    def work_off(self) -> None:
        """Answer all commands, only waking when it was asked for."""
        world = self.world
        for _ in range(3000):
            if world.inbox:
                given = world.inbox.popleft()
                self.foreign = True
                self.tell(replace(given, at=world.at))
            elif world.opening:
                slot = next(iter(world.opening))
                self.tell(i.SlotOpened(world.at, slot, world.opening.pop(slot)))
            elif world.resetting:
                slot = next(iter(world.resetting))
                self.tell(i.SlotReady(world.at, slot, world.resetting.pop(slot)))
            elif world.closing:
                slot = next(iter(world.closing))
                self.tell(i.SlotClosed(world.at, slot, world.closing.pop(slot)))
            elif world.in_flight:
                key = next(iter(world.in_flight))
                del world.in_flight[key]
                self.tell(i.AttemptDone(world.at, *key, TurnResult(cost_nano=1)))
            elif world.wake < float("inf"):
                if self.foreign_held and not self.foreign_released:  # the other pool ends
                    b = world.ledger.budget
                    assert b is not None
                    world.ledger.budget = replace(b, reserved_nano=b.reserved_nano - self.foreign_held)
                    self.foreign_released = self.foreign = True
                world.at = max(world.at, world.wake)
                world.wake = float("inf")
                self.tell(i.Tick(world.at))
            else:
                return
        raise AssertionError(f"it never comes to rest: {world.state!r}")


TestPools = Pools.TestCase
TestPools.settings = settings(
    max_examples=200,
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
