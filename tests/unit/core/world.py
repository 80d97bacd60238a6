"""A world for the core without sessions, clock or disk: a ledger of dicts, and commands kept until answered."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from claude_pool_nb import events as e
from claude_pool_nb.core import commands as c
from claude_pool_nb.core import inputs as i
from claude_pool_nb.core.state import PoolState
from claude_pool_nb.records import (
    AttemptRecord,
    AttemptState,
    BudgetRecord,
    Failure,
    FailureKind,
    RetryPolicy,
    RunRecord,
    RunState,
    StopReason,
    TaskRecord,
    TaskState,
    TurnResult,
)

FINAL_RUNS = (RunState.COMPLETED, RunState.CANCELLED, RunState.INTERRUPTED, RunState.FAILED)
FROM = {
    e.TaskRunning: {TaskState.PENDING},
    e.TaskWaiting: {TaskState.RUNNING},
    e.TaskPendingAgain: {TaskState.WAITING},
    e.TaskCompleted: {TaskState.RUNNING},
    e.TaskCached: {TaskState.PENDING},
    e.TaskFailed: {TaskState.RUNNING, TaskState.PENDING, TaskState.WAITING},
    e.TaskCancelled: {TaskState.RUNNING, TaskState.PENDING, TaskState.WAITING},
    e.TaskInterrupted: {TaskState.RUNNING, TaskState.PENDING, TaskState.WAITING},
    e.TaskReopened: {state for state in TaskState if state.is_final},
}


class Ledger:
    """Tables as dicts; refuses what the budget has no room for, and any event that does not follow from the rows."""

    def __init__(self, budget: BudgetRecord | None) -> None:
        self.budget = budget
        self.runs: dict[str, RunRecord] = {}
        self.tasks: dict[str, TaskRecord] = {}
        self.attempts: dict[tuple[str, int], AttemptRecord] = {}
        self.paused: str | None = None
        self.closed = False

    def write(self, events: tuple[e.Event, ...]) -> tuple[set[tuple[str, int]], set[tuple[str, int]]]:
        """Apply events in their order; returns refused attempts and refused extensions."""
        refused: set[tuple[str, int]] = set()
        extensions: set[tuple[str, int]] = set()
        for event in events:
            if isinstance(event, e.TaskRunning):
                if not self._grant(event.reserved_nano):
                    refused.add((event.task_id, event.attempt))
                    continue
                key = (event.task_id, event.attempt)
                assert key not in self.attempts
                self.attempts[key] = AttemptRecord(
                    event.task_id, event.attempt, event.slot_id, reserved_nano=event.reserved_nano
                )
            elif isinstance(event, e.ReservationExtended):
                if not self._grant(event.added_nano):
                    extensions.add((event.task_id, event.attempt))
                    continue
                key = (event.task_id, event.attempt)
                row = self.attempts[key]
                assert row.state is AttemptState.RUNNING
                self.attempts[key] = replace(row, reserved_nano=row.reserved_nano + event.added_nano)
            self._apply(event)
        return refused, extensions

    def _grant(self, amount: int) -> bool:
        """Reserve if there is room."""
        b = self.budget
        if b is None:
            return True
        if b.limit_nano is not None and b.spent_nano + b.reserved_nano + amount > b.limit_nano:
            return False
        self.budget = replace(b, reserved_nano=b.reserved_nano + amount)
        return True

    def _apply(self, event: e.Event) -> None:
        """Bring the rows up to date."""
        if isinstance(event, e.AttemptEnded):
            self._end(event)
        elif type(event) in FROM and isinstance(event, e.TaskEvent):
            row = self.tasks[event.task_id]
            assert row.state in FROM[type(event)], f"{event} does not follow from {row.state}"
            self.tasks[event.task_id] = self._next(row, event)
        elif isinstance(event, e.RunAccepted):
            self.runs[event.run.id] = event.run
            for task in event.tasks:
                assert task.id not in self.tasks
                self.tasks[task.id] = task
        elif isinstance(event, e.RunChanged):
            run = self.runs[event.run_id]
            over = event.state in FINAL_RUNS
            assert run.state is not event.state
            self.runs[run.id] = replace(run, state=event.state, finished_at=event.at if over else None)
        elif isinstance(event, e.BudgetChanged) and self.budget is not None:
            self.budget = replace(self.budget, limit_nano=event.limit_nano)
        elif isinstance(event, e.PoolPaused):
            self.paused = event.reason
        elif isinstance(event, e.PoolUnpaused):
            self.paused = None
        elif isinstance(event, e.PoolClosed):
            assert not self.closed
            self.closed = True

    def _end(self, event: e.AttemptEnded) -> None:
        """Book an attempt."""
        key = (event.task_id, event.attempt)
        row = self.attempts[key]
        assert (row.state is AttemptState.RUNNING) != event.late
        b, cost = self.budget, event.result.cost_nano
        held = 0 if event.late else row.reserved_nano
        if b is not None:
            self.budget = replace(b, reserved_nano=b.reserved_nano - held, spent_nano=b.spent_nano + cost)
        self.attempts[key] = replace(row, state=event.state, reserved_nano=0, late=event.late)
        task = self.tasks[event.task_id]
        self.tasks[task.id] = replace(task, cost_nano=task.cost_nano + cost)

    @staticmethod
    def _next(row: TaskRecord, event: e.TaskEvent) -> TaskRecord:
        """A task's row after an event."""
        row = replace(row, state=e.TASK_STATE_OF[type(event)], waiting_until=None)
        at = event.at
        match event:
            case e.TaskRunning():
                assert event.attempt == row.attempts + 1
                first = at if row.started_at is None else row.started_at
                return replace(row, attempts=event.attempt, started_at=first)
            case e.TaskWaiting():
                return replace(row, waiting_until=event.until)
            case e.TaskFailed():
                return replace(
                    row, finished_at=at, failure_kind=event.kind, error_type=event.error_type, error=event.error
                )
            case e.TaskInterrupted():
                return replace(row, finished_at=at, error=event.error)
            case e.TaskCompleted() | e.TaskCached() | e.TaskCancelled():
                return replace(row, finished_at=at)
            case e.TaskReopened():
                prompt = row.prompt if event.prompt is None else event.prompt
                clean = replace(row, failure_kind=None, error_type=None, error=None, finished_at=None)
                return replace(clean, opened_attempts=row.attempts, prompt=prompt)
        return row


class World:
    """A core with its ledger; what was commanded stays open until a test answers it."""

    def __init__(self, slots: int = 1, *, limit: int | None = None, others: int = 0, **options: object) -> None:
        self.at = 1000.0
        budget = BudgetRecord(1, "b", limit_nano=limit, spent_nano=others)
        self.ledger = Ledger(budget)
        self.options = dict(options)
        self.state = PoolState("p", slots=slots, budget=budget, **options)  # type: ignore[arg-type]
        self.specs: dict[str, i.TaskSpec] = {}
        self.opening: dict[str, int] = {}
        self.resetting: dict[str, int] = {}
        self.closing: dict[str, int] = {}
        self.in_flight: dict[tuple[str, int], str] = {}
        self.stops: list[c.StopAttempt] = []
        self.inbox: deque[i.Input] = deque()  # what the ledger has to say, not yet said
        self.wake = float("inf")
        self.closed = False
        self.last: list[c.Command] = []
        self.events: list[e.Event] = []  # of the last call
        self.told: list[str] = []
        self.slots_max = slots
        self.runs = 0
        self.perform(self.state.start(self.at))

    # -- telling ---------------------------------------------------------------------------------------------------

    def tell(self, given: i.Input) -> list[c.Command]:
        """Tell the core and keep what it commands."""
        commands = self.state.handle(given)
        self.perform(commands)
        return commands

    def perform(self, commands: list[c.Command]) -> None:
        """What an engine does, as far as it is the engine alone."""
        assert all(not isinstance(command, c.Write) for command in commands[1:])
        self.last, self.events = commands, []
        refused: set[tuple[str, int]] = set()
        for command in commands:
            match command:
                case c.Write(events=events):
                    self.events = list(events)
                    refused, extensions = self.ledger.write(events)
                    assert self.ledger.budget is not None
                    for key in sorted(refused):
                        self.inbox.append(i.ReservationRefused(self.at, *key, self.ledger.budget))
                    for key in sorted(extensions):
                        self.inbox.append(i.ReservationRefused(self.at, *key, self.ledger.budget, extension=True))
                case c.OpenSlot(slot_id=slot, epoch=epoch):
                    self.resetting.pop(slot, None)
                    self.opening[slot] = epoch
                case c.ResetSlot(slot_id=slot, epoch=epoch):
                    self.resetting[slot] = epoch
                case c.CloseSlot(slot_id=slot, epoch=epoch):
                    self.opening.pop(slot, None)
                    self.resetting.pop(slot, None)
                    self.closing[slot] = epoch
                case c.Dispatch(slot_id=slot, task_id=task, attempt=attempt):
                    if (task, attempt) not in refused:
                        assert slot not in self.in_flight.values()
                        self.in_flight[task, attempt] = slot
                case c.StopAttempt():
                    self.stops.append(command)
                case c.Tell(task_ids=tasks):
                    self.told += tasks
                case c.WakeAt(at=at):
                    assert at < self.wake
                    self.wake = at
                case c.ReadBudget():
                    self.inbox.append(i.BudgetRead(self.at, self.ledger.budget))  # type: ignore[arg-type]
                case c.Closed():
                    self.closed = True

    # -- short forms -------------------------------------------------------------------------------------------------

    def open(self, *slots: str) -> World:
        """Slots' sessions are open (all that wait for it, if none is named)."""
        for slot in slots or tuple(self.opening):
            self.tell(i.SlotOpened(self.at, slot, self.opening.pop(slot)))
        return self

    def ready(self, *slots: str) -> World:
        """Slots are reset (all that wait for it, if none is named)."""
        for slot in slots or tuple(self.resetting):
            self.tell(i.SlotReady(self.at, slot, self.resetting.pop(slot)))
        return self

    def lose(self, slot: str, error: str = "gone") -> World:
        """A slot's session is lost."""
        self.opening.pop(slot, None)
        self.resetting.pop(slot, None)
        for key in [key for key, where in self.in_flight.items() if where == slot]:
            del self.in_flight[key]
        self.tell(i.SlotLost(self.at, slot, self.state.slot_epoch(slot), error))
        return self

    def make(self, *tasks: dict[str, object]) -> i.Submit:
        """A run, from the fields of its tasks (`record` fields and `TaskSpec` fields together)."""
        self.runs += 1
        run_id = f"r{self.runs}"
        specs = []
        for number, fields in enumerate(tasks, 1):
            record = {k: v for k, v in fields.items() if k in TaskRecord.__dataclass_fields__}
            rest = {k: v for k, v in fields.items() if k not in record}
            task_id = f"{run_id}.{number}"
            row = TaskRecord(task_id, run_id, number, f"prompt {task_id}", created_at=self.at, **record)  # type: ignore[arg-type]
            self.specs[task_id] = i.TaskSpec(row, **rest)  # type: ignore[arg-type]
            specs.append(self.specs[task_id])
        return i.Submit(self.at, RunRecord(run_id, "map", total=len(specs), created_at=self.at), tuple(specs))

    def submit(self, *tasks: dict[str, object]) -> World:
        """Submit a run."""
        self.tell(self.make(*tasks))
        return self

    def done(
        self,
        task: str,
        cost: int = 0,
        fail: Failure | None = None,
        stopped: StopReason | None = None,
        wrote: bool = False,
    ) -> World:
        """A task's running attempt is over."""
        attempt = self.state.task(task).attempts
        self.in_flight.pop((task, attempt), None)
        result = TurnResult(output="x", failure=fail, cost_nano=cost, wrote=wrote)
        self.tell(i.AttemptDone(self.at, task, attempt, result, stopped))
        return self

    def stop(self, *tasks: str, reason: StopReason = StopReason.CANCEL, kill: bool = False) -> World:
        """Stop tasks."""
        self.tell(i.Stop(self.at, tasks, reason, kill))
        return self

    def later(self, seconds: float) -> World:
        """Time goes by; what was asked for in it comes."""
        end = self.at + seconds
        while self.wake <= end:
            self.at = max(self.at, self.wake)
            self.wake = float("inf")
            self.tell(i.Tick(self.at))
        self.at = end
        return self

    def listen(self) -> World:
        """The ledger says what it has to say."""
        while self.inbox:
            self.tell(replace(self.inbox.popleft(), at=self.at))
        return self

    def running(self) -> list[str]:
        """What is in flight, in the order in which it was sent."""
        return [task for task, _ in self.in_flight]

    def rebuilt(self) -> PoolState:
        """A second core, from the ledger's rows."""
        return PoolState.rebuild(
            "p",
            runs=self.ledger.runs.values(),
            tasks=[replace(self.specs[row.id], record=row) for row in self.ledger.tasks.values()],
            attempts=self.ledger.attempts.values(),
            paused=self.ledger.paused,
            slots=1,
            budget=self.ledger.budget,
            **self.options,
        )


def failure(kind: FailureKind, error_type: str = "oops", retry_after_s: float | None = None) -> Failure:
    """A failure of a kind."""
    return Failure(kind, error_type, f"It was {kind}.", retry_after_s)


CRASH = failure(FailureKind.CRASH, "process_killed")
TRANSPORT = failure(FailureKind.TRANSPORT)
AUTH = failure(FailureKind.AUTH, "http_401")
REQUEST = failure(FailureKind.REQUEST, "http_400")
LIMIT = failure(FailureKind.LIMIT, "http_429")
PLAIN = RetryPolicy(jitter=False)
