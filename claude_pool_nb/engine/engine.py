"""The engine: performs the core's commands on an event loop and feeds the outcomes back.

It holds no state that decides anything; that is the core's. What it does hold: the live sessions, which prompts were
not sent yet, and who waits for what.

Invariants: everything here runs on one loop. What the core decides within one tick of the loop goes to the ledger as
one batch, and `Dispatch` and `Tell` of that tick are performed after its commit: an attempt and its reservation are
on disk before the prompt is sent, a result and its cost before anybody is told. When the ledger cannot write, nothing
is dispatched, what came back is kept in memory in its order, and the same batch is written when the pool is unpaused.
"""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import logging
import threading
import time
from collections.abc import Coroutine, Iterable
from dataclasses import replace

from claude_pool_nb import events
from claude_pool_nb.core import commands, inputs
from claude_pool_nb.core.state import PoolState
from claude_pool_nb.engine.clock import Clock
from claude_pool_nb.engine.intake import Intake
from claude_pool_nb.engine.journal import Batch, Journal
from claude_pool_nb.engine.money import SharedBudget
from claude_pool_nb.engine.results import cleaned, ended_by_task, merged, result_of, without_secrets
from claude_pool_nb.engine.runners import Runners, why
from claude_pool_nb.engine.slots import TurnReport
from claude_pool_nb.engine.waiting import Waiters
from claude_pool_nb.engine.watching import Watchers
from claude_pool_nb.errors import PoolClosed, PoolError, PoolPaused, RunNotFound, StoreError, TaskNotFound
from claude_pool_nb.records import (
    AttemptRecord,
    BudgetRecord,
    CostBasis,
    Failure,
    FailureKind,
    SlotRecord,
    StopReason,
    TaskRecord,
    TaskResult,
    TaskState,
    TurnResult,
    Usage,
    usd,
)
from claude_pool_nb.redact import redact
from claude_pool_nb.sessions.base import Backend, Turn
from claude_pool_nb.store import queries
from claude_pool_nb.store.ledger import Ledger, WriteResult

log = logging.getLogger("claude_pool_nb")

PROGRESS_EVERY_S = 1.0
"""How often the ledger is told what a running attempt has used so far."""
KEPT_TASKS = 20_000
"""Final tasks that are kept in memory; older runs are read from the ledger."""
FIRST_APART_S = 0.0005
"""The first prompts of a run go out this far apart: what starts together may end together, and then wait in line. The
loop's timers are whole milliseconds, so that they leave by twos: one by one would cost the last more than it saves."""
DRAIN_STEP_S = 3.0
"""How long each step of stopping what still runs may take: asking, then killing."""


class Engine:
    """Performs commands; one for each pool."""

    def __init__(
        self,
        state: PoolState,
        ledger: Ledger,
        backend: Backend,
        intake: Intake,
        *,
        pool_id: str,
        budget: BudgetRecord,
        idle_close_s: float | None = None,
    ) -> None:
        self.state = state
        self.ledger = ledger
        self.backend = backend
        self.intake = intake
        self.pool_id = pool_id
        self.closed = False
        self.thread_id = 0
        self.watchers = Watchers()
        self.runners = Runners(
            state, intake, ledger, pool_id,
            backend=lambda: self.backend, tell=self.handle, warn=self.watchers.warn, idle_close_s=idle_close_s,
        )  # fmt: skip
        self._money = SharedBudget(state, budget)
        self._journal = Journal(
            ledger, pool_id, lambda: self._money.record.id, written=self._written, failed=self._not_written
        )
        self._waiters = Waiters(self._why_not)
        self._tasks: set[asyncio.Task[None]] = set()
        self._unsent: dict[tuple[str, int], StopReason | None] = {}
        self._wake: asyncio.TimerHandle | None = None
        self._wake_at = float("inf")
        self._clock = Clock()
        self._ending: str | None = None
        self._reset_next: commands.ResetSlot | None = None
        self._final_runs: dict[str, int] = {}  # how many tasks each has; the one that ended first comes first
        self._final_tasks = 0
        self._released = False

    @property
    def budget(self) -> BudgetRecord:
        """The budget, as of the last commit."""
        return self._money.record

    @property
    def store_error(self) -> StoreError | None:
        """Why the ledger cannot be written; None if it can."""
        return self._journal.error

    # -- the two ends of the core --------------------------------------------------------------------------------------

    def start(self) -> None:
        """Open the slots."""
        self._loop = asyncio.get_running_loop()
        self.thread_id = threading.get_ident()
        self._journal.bind()
        self._perform(self.state.start(time.time()))
        for slot in self.state.slots():
            self.label(slot.id)

    def label(self, slot_id: str) -> None:
        """Let the core know the name, role and description of a slot's configuration, and that it has none any more."""
        config = self.intake.slot_configs.get(slot_id)
        if config is not None:
            given = (
                value if isinstance(value, str) else "" for value in (config.name, config.role, config.description)
            )
            self.handle(inputs.LabelSlot(time.time(), slot_id, *given))

    def handle(self, told: inputs.Input) -> None:
        """Tell the core something and perform what it asks for."""
        self._perform(self.state.handle(self._clock.forward(told)))

    def _perform(self, asked: Iterable[commands.Command]) -> None:
        for command in asked:
            match command:
                case commands.Write():
                    self._journal.note(command.events)
                case commands.Dispatch():
                    self._unsent[command.task_id, command.attempt] = None
                    self._journal.defer(command)
                case commands.Tell() | commands.Closed() | commands.ReadBudget():
                    self._journal.defer(command)
                case commands.OpenSlot():
                    self._spawn(self.runners.open(command))
                case commands.ResetSlot() if command.slot_id == self._ending:
                    self._reset_next = command
                case commands.ResetSlot():
                    self._spawn(self._reset_slot(command))
                case commands.CloseSlot():
                    self._spawn(self.runners.close(command))
                case commands.StopAttempt():
                    self._stop_attempt(command)
                case commands.WakeAt():
                    self._wake_up_at(command.at)
        self._journal.commit_soon()

    def _spawn(self, coro: Coroutine[object, object, None]) -> None:
        task = self._loop.create_task(coro)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a defect of claude-pool-nb: please report it", exc_info=error)
            self.watchers.warn(redact(f"internal error: {error!r}; please report it"))

    def _wake_up_at(self, at: float) -> None:
        if at >= self._wake_at:
            return
        if self._wake is not None:
            self._wake.cancel()
        self._wake_at = at
        self._wake = self._loop.call_later(max(0.0, at - self._clock.at(time.time())), self._tick)

    def _tick(self) -> None:
        self._wake, self._wake_at = None, float("inf")
        self.handle(inputs.Tick(time.time()))

    # -- the ledger ----------------------------------------------------------------------------------------------------

    def _written(self, batch: Batch, done: WriteResult) -> None:
        self._money.book(batch.events, done)
        if done.budget is not None and self._money.see(done.budget):
            self.handle(inputs.BudgetRead(time.time(), self._money.as_core_sees()))
        if done.refused or done.refused_extensions:
            self._take_back(batch, done)
        apart_s = FIRST_APART_S if any(isinstance(event, events.RunAccepted) for event in batch.events) else 0.0
        later_s = 0.0
        for command in batch.deferred:
            match command:
                case commands.Dispatch() if (command.task_id, command.attempt) not in done.refused:
                    if later_s:
                        self._loop.call_later(later_s, self._dispatch, command)
                    else:
                        self._dispatch(command)
                    later_s += apart_s
                case commands.Tell():
                    self._tell(command)
                case commands.Closed():
                    self._finish()
                case commands.ReadBudget():
                    self.handle(inputs.BudgetRead(time.time(), self._money.as_core_sees()))
        self.watchers.tell(batch.events)
        if self.state.paused is not None and not self.state.paused_by_person:
            self._waiters.wake_stuck()

    def _not_written(self, batch: Batch, first: bool) -> None:
        """The ledger failed: it is kept for later; stop dispatching and say so."""
        if first:
            error = self._journal.error
            log.warning("%s", error)
            self.handle(inputs.Pause(time.time(), str(error), by_person=False))
        for key, reason in tuple(self._unsent.items()):
            if reason is not None:
                self._report_unsent(*key, reason)
        if any(isinstance(command, commands.Closed) for command in batch.deferred):
            self._finish()  # the pool ends although its last words cannot be written
        self._waiters.wake_stuck()

    def retry_writes(self) -> None:
        """Write what could not be written; called when the pool is unpaused."""
        self._journal.retry()

    async def committed(self) -> None:
        """Wait until all that was decided so far is in the ledger.

        Raises:
            StoreError: the ledger failed.
        """
        await self._journal.committed()

    def _take_back(self, batch: Batch, done: WriteResult) -> None:
        """Another pool was quicker: the core learns what the ledger did not grant."""
        for event in batch.events:
            match event:
                case events.TaskRunning() if (event.task_id, event.attempt) in done.refused:
                    self._unsent.pop((event.task_id, event.attempt), None)
                    budget = self._money.as_core_sees(less_nano=event.reserved_nano)
                    told = inputs.ReservationRefused(time.time(), event.task_id, event.attempt, budget)
                case events.ReservationExtended() if (event.task_id, event.attempt) in done.refused_extensions:
                    budget = self._money.as_core_sees(less_nano=event.added_nano)
                    told = inputs.ReservationRefused(time.time(), event.task_id, event.attempt, budget, extension=True)
                case _:
                    continue
            self.handle(told)

    # -- attempts ------------------------------------------------------------------------------------------------------

    def _dispatch(self, command: commands.Dispatch) -> None:
        key = command.task_id, command.attempt
        if key not in self._unsent:
            return  # it was stopped while the ledger could not be written
        reason = self._unsent[key]
        if reason is not None:
            self._report_unsent(*key, reason)
        else:
            self._spawn(self._attempt(command))  # it may still be stopped before its first step

    def _stop_attempt(self, command: commands.StopAttempt) -> None:
        key = command.task_id, command.attempt
        if key in self._unsent:
            # The prompt was not sent yet and never will be. That is said after the commit of its attempt, because the
            # ledger may refuse its reservation; where no commit comes, at once.
            self._unsent[key] = self._unsent[key] or command.reason
            if self.store_error is not None:
                self._loop.call_soon(self._report_unsent, *key, command.reason)
            return
        runner = self.runners.get(command.slot_id)
        if runner is not None:
            runner.stop(command.reason, kill=command.kill)

    def _report_unsent(self, task_id: str, attempt: int, reason: StopReason) -> None:
        """An attempt was stopped before its prompt was sent: it is over, at no cost."""
        if self._unsent.pop((task_id, attempt), None) is not None:
            self._done(task_id, attempt, TurnResult(failure=_STOPPED), reason)

    async def _attempt(self, command: commands.Dispatch) -> None:
        task_id, attempt = command.task_id, command.attempt
        reason = self._unsent.get((task_id, attempt))
        if reason is not None:
            self._report_unsent(task_id, attempt, reason)
            return
        self._unsent.pop((task_id, attempt), None)
        runner = self.runners.of(command.slot_id)
        intake = self.intake
        try:
            options = intake.options_of(task_id, command.slot_id)
        except PoolError as error:  # the slot's configuration or the shared context made the task impossible
            failure = Failure(FailureKind.REQUEST, type(error).__name__, str(error))
            self._done(task_id, attempt, without_secrets(TurnResult(failure=failure)), None)
            return
        record = self.state.spec(task_id).record
        turn = Turn(intake.prompt_of(record), options, sample=record.sample, task_id=task_id)
        relaunch = False
        if options.conversation is not None and not intake.conversations.holds(options.conversation, runner):
            relaunch = True
            turn = replace(turn, options=intake.conversations.resumed(options))
        last_recorded = time.monotonic()
        estimate = self.backend.estimate_nano

        def began() -> None:
            self.handle(inputs.AttemptBegan(time.time(), task_id, attempt))

        def spent(usage: Usage, cost_nano: int) -> None:
            nonlocal last_recorded
            now = time.monotonic()
            due = now - last_recorded >= PROGRESS_EVERY_S
            if due:
                last_recorded = now
            self.handle(inputs.AttemptSpent(time.time(), task_id, attempt, cost_nano, usage, due))

        try:
            result, stopped = await runner.attempt(task_id, turn, TurnReport(began, spent), relaunch=relaunch)
        except Exception as error:  # noqa: BLE001 - a defect of a session fails its attempt, not the pool
            failure = Failure(FailureKind.CRASH, "internal_error", why(error))
            result, stopped = TurnResult(failure=failure, cost_basis=CostBasis.UNKNOWN), None
            await runner.give_up()
        if stopped is not None and result.cost_basis is CostBasis.UNKNOWN:
            cost = estimate(result.model or options.model, result.usage)
            result = replace(result, cost_nano=max(result.cost_nano, cost or 0))
        result = await cleaned(result)
        if options.conversation is not None:
            intake.conversations.turned(options.conversation, runner, result)
        self._ending = command.slot_id
        request = None
        if result.failure is None and self.intake.requests.answers(options, result.model):
            request = self.intake.request_of(record, options)
        self._done(task_id, attempt, result, stopped, request)
        self._ending, reset, self._reset_next = None, self._reset_next, None
        if reset is not None:
            await self._reset_slot(reset)  # here and now: a session that forgets at once is ready in the same tick
        else:
            self.runners.note_process(command.slot_id)  # a reset sees it itself

    async def _reset_slot(self, command: commands.ResetSlot) -> None:
        await self.runners.reset(command)
        self._journal.commit_now()  # the slot's next prompt waits for this and for nothing else

    def _done(
        self,
        task_id: str,
        attempt: int,
        result: TurnResult,
        stopped: StopReason | None,
        request: str | None = None,
    ) -> None:
        for warning in result.warnings:
            self.watchers.warn(warning)
        self.handle(inputs.AttemptDone(time.time(), task_id, attempt, result, stopped, request))

    # -- who waits -----------------------------------------------------------------------------------------------------

    def when_final(self, key: str) -> cf.Future[None]:
        """A future that is done when the run (`r12`) or task (`r12.3`) is final.

        It raises PoolPaused if the pool paused itself, StoreError if the ledger failed, PoolClosed if the pool ended.

        Raises:
            RunNotFound, TaskNotFound: there is none of that id.
        """
        if not self._is_final(key):
            return self._waiters.add(key)
        future: cf.Future[None] = cf.Future()
        if self._journal.is_committed or self.store_error is not None:
            future.set_result(None)  # what could not be written is kept in memory, where results are read too
        else:
            self._spawn(self._resolve_when_committed(future))
        return future

    def when_closed(self) -> cf.Future[None]:
        """A future that is done when the pool is drained."""
        future: cf.Future[None] = cf.Future()
        if self.closed:
            future.set_result(None)
        else:
            self._waiters.add_closing(future)
        return future

    async def _resolve_when_committed(self, future: cf.Future[None]) -> None:
        error: BaseException | None = None
        try:
            await self.committed()
        except StoreError as failed:
            error = failed
        if not future.done():
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

    def _is_final(self, key: str) -> bool:
        """True if the run or task is final; what the core does not hold is asked of the ledger."""
        if "." in key:
            try:
                return self.state.task(key).state.is_final
            except TaskNotFound:
                return queries.task(self.ledger, key).state.is_final
        try:
            return self.state.run(key).state.is_final
        except RunNotFound:
            return queries.run(self.ledger, key).state.is_final

    def _why_not(self, key: str) -> PoolError | None:
        """Why waiting for it would be for ever, if it would."""
        if self.store_error is not None:
            return self.store_error
        try:
            queued = self.state.task(key).state in _QUEUED if "." in key else self.state.queued_tasks(key) > 0
        except (RunNotFound, TaskNotFound):
            return PoolError(f"{key} belongs to another pool that is still at work; wait for it there")
        if self.closed:
            return PoolClosed()
        if self.state.paused is not None and queued:
            how = "" if "unpause" in self.state.paused else "; its queue is kept, `%pool unpause` goes on"
            return PoolPaused(f"the pool is paused: {self.state.paused}{how}")
        return None

    def _tell(self, command: commands.Tell) -> None:
        self._waiters.told(command.task_ids)
        self._waiters.told(command.run_ids)
        for run_id in command.run_ids:
            self._final_tasks -= self._final_runs.pop(run_id, 0)
            self._final_runs[run_id] = count = len(self.state.task_ids(run_id))
            self._final_tasks += count
        self._forget_old()

    def _forget_old(self) -> None:
        """Keep memory bounded: the oldest final runs are in the ledger, and are taken back from there if need be."""
        while self._final_tasks > KEPT_TASKS and len(self._final_runs) > 1:
            run_id = next(iter(self._final_runs))
            self._final_tasks -= self._final_runs.pop(run_id)
            self.intake.forget(self.state.forget(run_id))

    def _finish(self) -> None:
        self.closed = True
        if self._wake is not None:
            self._wake.cancel()
        self._waiters.closed()

    # -- its end -------------------------------------------------------------------------------------------------------

    async def drain(self, timeout_s: float) -> None:
        """Take no more work, let running tasks end for at most `timeout_s`, then stop them, then the slots.

        Always returns: what cannot be stopped is killed, what cannot be killed is left behind.

        Raises:
            StoreError: finished work could not be written.
        """
        if not self.closed:
            done = asyncio.wrap_future(self.when_closed())
            self.handle(inputs.Drain(time.time()))
            for wait_s in (timeout_s, DRAIN_STEP_S, DRAIN_STEP_S):
                if (await asyncio.wait({done}, timeout=wait_s))[0]:
                    break
                self.handle(inputs.DrainTimedOut(time.time()))
            else:
                if not (await asyncio.wait({done}, timeout=DRAIN_STEP_S))[0]:
                    self._finish()
        await self._release()

    async def _release(self) -> None:
        """After the drain: give back what the backend and the ledger hold."""
        if self._released:
            return
        self._released = True
        await self.runners.kill_all()
        try:
            await self.backend.close()  # may tell that a tape could not be put in order
        finally:
            try:
                if self.store_error is not None:
                    self.retry_writes()
                await self.committed()
                self.ledger.close_pool(self.pool_id)
            finally:
                self.ledger.close()

    async def set_budget(self, limit_nano: int | None, *, fresh: bool) -> None:
        """Move the wall, or open a new budget."""
        if fresh:
            await self.committed()
            self._money.replaced(
                await asyncio.to_thread(
                    self.ledger.open_budget,
                    self.budget.name,
                    limit_usd=None if limit_nano is None else usd(limit_nano),
                    fresh=True,
                    play_money=self.budget.play_money,
                )
            )
            self.handle(inputs.BudgetRead(time.time(), self._money.as_core_sees()))
        self.handle(inputs.SetBudget(time.time(), limit_nano))
        await self.committed()

    # -- what there is of a task ---------------------------------------------------------------------------------------

    def task_result(self, task: TaskRecord) -> TaskResult:
        """What there is of a task, over all its attempts; may be asked from any thread."""
        late = ended_by_task(self._journal.uncommitted())
        attempts = merged(queries.attempts(self.ledger, task.id), late.get(task.id, ()))
        return result_of(task, attempts, self.backend.info.name)

    def task_results(self, tasks: list[TaskRecord]) -> list[TaskResult]:
        """The same for the tasks of one run."""
        if not tasks:
            return []
        late = ended_by_task(self._journal.uncommitted())
        attempts: dict[str, list[AttemptRecord]] = {}
        for attempt in queries.run_attempts(self.ledger, tasks[0].run_id):
            attempts.setdefault(attempt.task_id, []).append(attempt)
        backend = self.backend.info.name
        return [result_of(task, merged(attempts.get(task.id, []), late.get(task.id, ())), backend) for task in tasks]

    def slots(self) -> list[SlotRecord]:
        """The slots as they are now, with process, session and memory."""
        return self.runners.describe()


_QUEUED = frozenset({TaskState.PENDING, TaskState.WAITING})
_STOPPED = Failure(FailureKind.TASK, "stopped", "stopped before its prompt was sent")
