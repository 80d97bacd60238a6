"""Attempts: started, priced, stopped, ended, and tried again.

Invariants: an attempt starts in `_start` and nowhere else, never in a paused or draining pool, before the limit
clock, or without room in the budget; it is settled exactly once; what an attempt says after it was replaced is booked
as late and changes nothing else; a task that somebody stopped gets no further attempt.
"""

from __future__ import annotations

from dataclasses import replace
from heapq import heappop

from claude_pool_nb.core.board import NEVER
from claude_pool_nb.core.budget import money
from claude_pool_nb.core.commands import Dispatch, ReadBudget, ResetSlot, StopAttempt
from claude_pool_nb.core.entries import SlotEntry, TaskEntry
from claude_pool_nb.core.inputs import AttemptBegan, AttemptDone, AttemptSpent, ReservationRefused
from claude_pool_nb.core.queue import Lane, Pick
from claude_pool_nb.core.retry import decide
from claude_pool_nb.core.slots import SlotDesk
from claude_pool_nb.events import (
    AttemptEnded,
    AttemptProgress,
    ReservationExtended,
    TaskCompleted,
    TaskPendingAgain,
    TaskRunning,
)
from claude_pool_nb.records import (
    AttemptState,
    CostBasis,
    Failure,
    FailureKind,
    RunState,
    SlotState,
    StopReason,
    TaskState,
    TurnResult,
)

ASK_AGAIN_S = 1.0
"""How often the ledger is asked for the budget while only other pools' reservations stand in the way."""
BY_PERSON = frozenset({StopReason.CANCEL, StopReason.INTERRUPT, StopReason.DRAIN})
_ATTEMPT_STATE = {
    StopReason.CANCEL: AttemptState.CANCELLED,
    StopReason.INTERRUPT: AttemptState.INTERRUPTED,
    StopReason.DRAIN: AttemptState.INTERRUPTED,
}
STOPPED_POOL = "the pool was stopped before it could be tried again"


class AttemptDesk(SlotDesk):
    """The attempts' part of the decisions."""

    # -- who is next ---------------------------------------------------------------------------------------------------

    def _schedule(self, at: float) -> None:
        """Give idle slots what is runnable, and give up what can never be paid."""
        while self._paused is None and not self._draining and at >= self._limit.until_at:
            while self._idle:
                pick = self._queue.pick(self._idle.values(), at, len(self._slots))
                if pick is None:
                    break
                self._start(pick, at)
            if self._counts[TaskState.RUNNING] or not self._give_up_unaffordable(at):
                return

    def _start(self, pick: Pick, at: float) -> None:
        """An attempt starts."""
        task, slot, need = pick
        spec, run = task.spec, task.run
        assert task.lane is not None
        if need is None:
            task.unknown_of = task.lane.estimate
            task.unknown_of.unknown_in_flight += 1
        self._queue.take(task)
        if spec.prime_key is not None:
            self._queue.gate(spec.prime_key).start(task.id, at)
        task.reserved_nano = need or 0
        task.extension_nano = task.spent_now_nano = 0
        self._money.reserve(task.reserved_nano)
        task.attempts += 1
        task.started_seq = self._seq
        if task.started_at is None:
            task.started_at = at
        task.slot, slot.task = slot, task
        slot.previous = (slot.launch_key, slot.conversation)
        slot.launch_key, slot.conversation = spec.launch_key, spec.record.conversation
        if slot.conversation is not None:
            self._queue.hold(slot.conversation, slot)
        self._move(task, TaskState.RUNNING)
        run.running += 1
        run.started = True
        if run.state is not RunState.RUNNING:
            self._change_run(run, RunState.RUNNING, at)
        self._events.append(
            TaskRunning(at, task.id, task.attempts, slot.id, task.reserved_nano, spec.record.requested_model)
        )
        self._enter(slot, SlotState.BUSY, at)
        self._commands.append(Dispatch(slot.id, slot.epoch, task.id, task.attempts))

    def _give_up_unaffordable(self, at: float) -> bool:
        """With nothing of ours running, what does not fit now never will: unless other pools give something back.

        A pool that was idle does not hear of what others do to the budget they share, so the ledger is asked first.

        Returns:
            True if tasks were failed, so that those behind them may be looked at.
        """
        failed = wait = False
        for lane, later in self._queue.without_money():
            if not self._budget_is_news and not lane.refused:
                if not self._budget_is_asked:
                    self._budget_is_asked = True
                    self._commands.append(ReadBudget())
                continue
            if later:
                wait = True
                continue
            for task in lane.tasks():
                if task.lane is lane:  # a task that left and came back stands there twice
                    self._fail(task, at, self._unaffordable(lane))
                    failed = True
        if not wait:
            self._ask_budget_at = NEVER
        elif self._ask_budget_at == NEVER:
            self._ask_budget_at = at + ASK_AGAIN_S
        return failed

    def _unaffordable(self, lane: Lane) -> Failure:
        """Why a lane's tasks cannot be paid, with the numbers."""
        limit = money(self._money.limit_nano or 0)
        if lane.refused:
            message = (
                "With strict_budget=True a task needs a bound on what it can cost: set max_output_tokens and a model "
                "with a known price, or leave strict_budget out."
            )
            return Failure(FailureKind.BUDGET, "BudgetExhausted", message)
        need = lane.need()
        may = "of unknown price" if need is None else f"that may cost {money(need)}"
        left = money(max(0, self._money.room_nano or 0))
        message = (
            f"No room for a task {may}: {left} is left of {limit} ({money(self._money.spent_nano)} is spent). "
            "Raise it with `%pool budget USD`, then `%pool retry` runs it."
        )
        return Failure(FailureKind.BUDGET, "BudgetExhausted", message)

    def _advance(self, at: float) -> None:
        """Do what the clock asks for."""
        waiting, deadlines = self._waiting, self._deadlines
        while waiting and waiting[0][0] <= at:
            until, _, task = heappop(waiting)
            if task.state is TaskState.WAITING and task.waiting_until == until:
                self._events.append(TaskPendingAgain(at, task.id))
                self._pend(task, at)
        while deadlines and deadlines[0][0] <= at:
            deadline_at, _, task = heappop(deadlines)
            if self._is_unstarted(task, deadline_at):
                message = "No slot was free for it in time; raise slot_assignment_timeout_s or have more slots."
                self._fail(task, at, Failure(FailureKind.TIMEOUT, "no_slot_in_time", message))
        if at >= self._ask_budget_at:
            self._ask_budget_at = NEVER
            self._commands.append(ReadBudget())

    # -- while it runs -------------------------------------------------------------------------------------------------

    def _running(self, task_id: str, attempt: int) -> TaskEntry | None:
        """The task, if that attempt of it is the one that runs."""
        task = self._task(task_id)
        return task if task.state is TaskState.RUNNING and task.attempts == attempt else None

    def _attempt_began(self, given: AttemptBegan) -> None:
        """An answer begins: its prompt is in the cache."""
        task = self._running(given.task_id, given.attempt)
        if task is not None and task.spec.prime_key is not None:
            self._queue.gate(task.spec.prime_key).begin(given.at)

    def _attempt_spent(self, given: AttemptSpent) -> None:
        """A running attempt costs more: hold more back for it, or stop it."""
        task = self._running(given.task_id, given.attempt)
        if task is None:
            return
        if given.record:
            self._events.append(AttemptProgress(given.at, task.id, given.attempt, given.usage, given.cost_nano))
        cost = task.spent_now_nano = max(task.spent_now_nano, given.cost_nano)
        cap = task.spec.cap_nano
        if cap is not None and task.cost_nano + cost > cap:
            message = (
                f"It was stopped at {money(task.cost_nano + cost)}: its max_budget_usd is {money(cap)}. "
                "What it had written by then is kept."
            )
            self._stop_for_money(task, "TaskBudgetExhausted", message)
        elif cost > task.reserved_nano and self._money.limit_nano is not None and task.stop is None:
            added = self._money.extension(task.reserved_nano, cost)
            if added is None:
                self._stop_for_money(task, "BudgetExhausted", self._outgrown(task, cost))
                return
            task.reserved_nano += added
            task.extension_nano = added
            self._money.reserve(added)
            self._events.append(ReservationExtended(given.at, task.id, given.attempt, added))

    def _outgrown(self, task: TaskEntry, cost_nano: int) -> str:
        """Why a running attempt is stopped, with the numbers."""
        return (
            f"It was stopped at {money(cost_nano)}: {money(task.reserved_nano)} was held back for it, and the budget "
            f"of {money(self._money.limit_nano or 0)} has no more. Raise it with `%pool budget USD`; what it had "
            "written by then is kept."
        )

    def _stop_for_money(self, task: TaskEntry, error_type: str, message: str) -> None:
        """Interrupt a running attempt because it costs too much."""
        if task.stop is None and task.slot is not None:
            task.stop = StopReason.BUDGET
            task.stop_note = (error_type, message)
            self._commands.append(StopAttempt(task.slot.id, task.id, task.attempts, StopReason.BUDGET))

    def _stop_running(self, task: TaskEntry, reason: StopReason, *, kill: bool) -> None:
        """Stop a running attempt for good; asking twice is the same as asking once, killing is more."""
        asked = task.stop is not None
        if task.stop not in BY_PERSON:
            task.stop = reason
        if task.slot is not None and (not asked or (kill and not task.stop_killed)):
            task.stop_killed = task.stop_killed or kill
            self._commands.append(StopAttempt(task.slot.id, task.id, task.attempts, task.stop or reason, kill))

    def _refused(self, given: ReservationRefused) -> None:
        """The ledger did not grant what was reserved here.

        An attempt that was not sent never was: the ledger has not written its TaskRunning, so there is no event that
        takes it back; the task has the number of attempts it had before and stands in line again.
        """
        task = self._running(given.task_id, given.attempt)
        if task is None:
            self._money.read(given.budget)
            return
        if given.extension:
            self._money.unreserve(task.extension_nano)
            task.reserved_nano -= task.extension_nano
            task.extension_nano = 0
            self._money.read(given.budget)
            self._stop_for_money(task, "BudgetExhausted", self._outgrown(task, task.spent_now_nano))
            return
        self._money.unreserve(task.reserved_nano)
        self._money.read(given.budget)
        slot = self._leave_slot(task)
        task.attempts -= 1
        if task.attempts == 0:
            task.started_at = None
        if slot is not None:
            slot.launch_key, slot.conversation = slot.previous
            self._after_task(slot, given.at, sent=False)
        if task.stop is not None:
            self._end_by(task, given.at, task.stop)
        elif self._draining:
            self._end_by(task, given.at, StopReason.DRAIN, STOPPED_POOL)
        else:
            self._pend(task, given.at)

    def _leave_slot(self, task: TaskEntry) -> SlotEntry | None:
        """A task's attempt is over for its slot, its run and those who wait for it; its slot is given back."""
        slot, task.slot = task.slot, None
        task.run.running -= 1
        task.reserved_nano = task.extension_nano = task.spent_now_nano = 0
        if task.unknown_of is not None:
            task.unknown_of.unknown_in_flight -= 1
            task.unknown_of = None
        if task.spec.prime_key is not None:
            self._queue.gate(task.spec.prime_key).end(task.id)
        return slot

    # -- when it is over -----------------------------------------------------------------------------------------------

    def _attempt_done(self, given: AttemptDone) -> None:
        """An attempt is over: settle it, decide what becomes of its task, and make its slot ready."""
        task = self._task(given.task_id)
        if task.state is not TaskState.RUNNING or task.attempts != given.attempt:
            self._book_late(task, given)
            return
        at, result = given.at, given.result
        reason = task.stop or given.stopped
        whole = given.stopped is None or bool(result.output) or result.structured is not None
        if result.failure is None and whole:  # a stop that came too late: the answer is there and paid, it is kept
            reason, state = None, AttemptState.COMPLETED
        else:
            state = AttemptState.FAILED if reason is None else _ATTEMPT_STATE.get(reason, AttemptState.FAILED)
        self._settle(task, given, state)
        slot = self._leave_slot(task)
        if slot is not None:
            slot.cost_nano += result.cost_nano
            slot.stopped_by_pool = reason is not None
        if state is AttemptState.COMPLETED:
            self._limit.success()
            if task.spec.prime_key is not None:
                self._queue.gate(task.spec.prime_key).begin(at)
            if slot is not None:
                slot.tasks_completed += 1
            self._finish(task, TaskState.COMPLETED, TaskCompleted(at, task.id))
        elif reason is None or (task.stop is None and reason is StopReason.TIMEOUT):
            self._after_failure(task, given)
        else:
            self._end_by(task, at, reason)
        if slot is not None:
            self._after_task(slot, at)
        self._warn_budget(at)

    def _settle(self, task: TaskEntry, given: AttemptDone, state: AttemptState) -> None:
        """Book what an attempt cost and give its reservation back."""
        result, record = given.result, task.spec.record
        cost = result.cost_nano
        self._money.settle(task.reserved_nano, cost)
        task.cost_nano += cost
        if task.booked is None:
            task.booked = {}
        task.booked[given.attempt] = cost
        known = result.cost_basis is not CostBasis.UNKNOWN
        if known and (state is AttemptState.COMPLETED or (state is AttemptState.FAILED and cost)):
            self._money.estimate(record.profile, record.requested_model).add(cost)
        request = given.request if state is AttemptState.COMPLETED else None
        self._events.append(AttemptEnded(given.at, task.id, given.attempt, state, result, request=request))

    def _book_late(self, task: TaskEntry, given: AttemptDone) -> None:
        """An attempt that was replaced, or ended already, says what it cost: book what was not booked yet."""
        if task.booked is None or given.attempt not in task.booked:
            return
        more = max(0, given.result.cost_nano - task.booked[given.attempt])
        orphan = (task.id, given.attempt)
        if not more and orphan not in self._orphans:
            return
        self._orphans.discard(orphan)
        task.booked[given.attempt] += more
        task.cost_nano += more
        self._money.settle(0, more)
        state = AttemptState.COMPLETED if given.result.failure is None else AttemptState.FAILED
        result = replace(given.result, cost_nano=more)
        self._events.append(AttemptEnded(given.at, task.id, given.attempt, state, result, late=True))
        self._warn_budget(given.at)

    def _end_orphan(self, slot: SlotEntry, error: str, at: float) -> None:
        """A slot was lost with a task of which nothing was said: its attempt crashed."""
        task = slot.task
        assert task is not None
        failure = Failure(FailureKind.CRASH, "session_lost", f"The Claude session was lost: {error}")
        cost = task.spent_now_nano
        result = TurnResult(failure=failure, cost_nano=cost, cost_basis=CostBasis.ESTIMATED)
        self._orphans.add((task.id, task.attempts))
        self._attempt_done(AttemptDone(at, task.id, task.attempts, result))
        useless = ResetSlot(slot.id, slot.epoch)
        self._commands = [command for command in self._commands if command != useless]

    def _after_failure(self, task: TaskEntry, given: AttemptDone) -> None:
        """An attempt failed by itself: try again, or not."""
        at, result, spec = given.at, given.result, task.spec
        failure = result.failure
        if given.stopped is StopReason.TIMEOUT and (failure is None or failure.kind is not FailureKind.TIMEOUT):
            message = "It took longer than its timeout; raise timeout_s, or ask for less."
            failure = Failure(FailureKind.TIMEOUT, "timeout", message)
        assert failure is not None
        if failure.kind is FailureKind.CRASH:
            task.crashes += 1
        if failure.kind is FailureKind.LIMIT:
            self._limit.hit(
                at,
                started=task.started_seq,
                seq=self._seq,
                retry_after_s=failure.retry_after_s,
                policy=spec.retry,
                random=self._random,
            )
        elif failure.kind is FailureKind.AUTH and self._auth_failed(task, failure, at, wrote=result.wrote):
            return
        verdict = decide(
            spec.retry,
            failure,
            attempts=task.attempts - task.opened_attempts - task.uncounted,
            crashes=task.crashes,
            wrote=result.wrote,
            random=self._random,
        )
        why = verdict.why
        again = verdict.again
        if again and spec.cap_nano is not None and task.cost_nano >= spec.cap_nano:
            again, why = False, f"not tried again, because its max_budget_usd of {money(spec.cap_nano)} is used up"
        if again and self._draining:
            self._end_by(task, at, StopReason.DRAIN, STOPPED_POOL)
        elif again:
            until = self._limit.until_at if failure.kind is FailureKind.LIMIT else at + verdict.delay_s
            self._wait(task, at, until, failure)
        else:
            self._fail(task, at, replace(failure, message=f"{failure.message} ({why})") if why else failure)
            if failure.error_type == "unknown_model":
                self._fail_model(task.spec.record.requested_model, failure, at)

    def _auth_failed(self, task: TaskEntry, failure: Failure, at: float, *, wrote: bool) -> bool:
        """The key is bad: one task fails and the pool pauses; those under way at that moment go back in line.

        Returns:
            True if the task goes back in line.
        """
        if task.started_seq > self._auth_seq:
            self._auth_seq = self._seq
            if not self._draining:
                reason = failure.message
                if "unpause" not in reason:  # a session that knows its credentials says so better
                    reason = f"{reason} Mend the key, then `%pool unpause` goes on with what is left."
                self._pause(at, reason, by_person=False)
            return False
        if self._draining or (wrote and not task.spec.retry.retry_writes):
            return False
        task.uncounted += 1
        self._wait(task, at, at, failure)
        return True

    def _fail_model(self, model: str | None, failure: Failure, at: float) -> None:
        """There is no such model: nothing else that names it is asked."""
        if model is None:
            return
        for task in [t for t in self._tasks.values() if t.is_queued and t.spec.record.requested_model == model]:
            self._fail(task, at, failure)
