"""One transaction's worth of events, turned into rows.

Invariants: the operations of one task are executed in the order of its events, however many callers' events are
executed together; a reservation is granted only while `spent + reserved + amount <= limit`, read and written under the
write lock; a claim whose reservation is refused leaves no trace; a row that is not in the state its event supposes is
a `StoreConflict`, never a silent change; the budget's row moves by exactly what its attempts' rows say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from claude_pool_nb import events as ev
from claude_pool_nb.errors import StoreConflict
from claude_pool_nb.records import BudgetRecord, CostBasis, TaskRecord, TurnResult
from claude_pool_nb.store.ids import pool_number, run_number, task_key
from claude_pool_nb.store.statements import Driver, Prepared, Row, Statements
from claude_pool_nb.store.texts import as_json, cleaned, cleaned_json, storable

Key = tuple[int, int, int]
"""Run, task, attempt."""

_RANKS = 16
(_RUN, _TASK, _REOPEN, _CLAIM, _ATTEMPT, _PROGRESS, _EXTEND, _END, _VERDICT, _RUN_STATE, _ADOPT) = range(11)
_STATEMENTS = (
    "insert_run", "insert_task", "reopen_task", "claim_task", "insert_attempt", "progress_attempt", "extend_attempt",
    "end_attempt", "task_verdict", "change_run", "adopt_run",
)  # fmt: skip
"""What executes the rows of each rank."""

_WEAKEST = {basis: rank for rank, basis in enumerate((CostBasis.EXACT, CostBasis.ESTIMATED, CostBasis.UNKNOWN))}


def kind_of(event: type[ev.Event]) -> str:
    """The word for a class of events in the ledger.

    Example:
        >>> kind_of(ev.TaskPendingReview)
        'task_pending_review'
    """
    return re.sub(r"(?<!^)(?=[A-Z])", "_", event.__name__).lower()


_KINDS = {cls: kind_of(cls) for cls in (*ev.TASK_STATE_OF, ev.AttemptEnded, ev.AttemptProgress, ev.SlotChanged)}


@dataclass(frozen=True, slots=True)
class WriteResult:
    """What became of a write.

    Example:
        >>> WriteResult().refused
        frozenset()
    """

    refused: frozenset[tuple[str, int]] = frozenset()
    """Attempts (task id, number) whose reservation did not fit into the budget: nothing of them was written."""
    refused_extensions: frozenset[tuple[str, int]] = frozenset()
    """Running attempts whose reservation was not extended."""
    budget: BudgetRecord | None = None
    """The budget after this commit."""


class Caches:
    """What the writer remembers of its own rows, so that it need not ask the database. Changed after commits only."""

    def __init__(self) -> None:
        self.reserved: dict[Key, tuple[int | None, int]] = {}
        self.slots: set[tuple[int, str]] = set()

    def forget(self) -> None:
        """Trust the database alone from here."""
        self.reserved.clear()
        self.slots.clear()


@dataclass(slots=True)
class _Purse:
    """A budget as a transaction has it, in the making."""

    number: int
    name: str
    limit: int | None
    spent: int
    reserved: int
    since_at: float
    play_money: bool
    dirty: bool = False

    def record(self) -> BudgetRecord:
        """The budget as a record."""
        return BudgetRecord(
            self.number, self.name, self.limit, self.spent, self.reserved, self.since_at, self.play_money
        )


Refusals = tuple[frozenset[tuple[str, int]], frozenset[tuple[str, int]]]
"""Refused attempts, refused extensions."""


class Batch:
    """Collects the rows of some callers' events and executes them in few statements."""

    def __init__(self, driver: Driver, statements: Statements, caches: Caches, *, one_by_one: bool = False) -> None:
        self._driver = driver
        self._do = statements
        self._caches = caches
        self._one_by_one = one_by_one
        self._buckets: dict[int, list[Row]] = {}
        self._last: dict[tuple[int, int], int] = {}
        self._events: list[Row] = []
        self._slots: dict[tuple[int, str], Row] = {}
        self._reserved: dict[Key, tuple[int | None, int] | None] = {}
        self._budgets: dict[int, _Purse] = {}

    # -- collecting ----------------------------------------------------------------------------------------------------

    def add(self, pool_id: str, budget_id: int | None, events: Sequence[ev.Event]) -> Refusals:
        """Take one caller's events; what of them is refused."""
        pool = pool_number(pool_id)
        refused: set[tuple[str, int]] = set()
        refused_extensions: set[tuple[str, int]] = set()
        if budget_id is not None:
            self._budget(budget_id)
        for event in events:
            match event:
                case ev.SlotChanged():
                    self._slot_changed(pool, event)
                case ev.TaskRunning():
                    if not self._claim(pool, budget_id, event):
                        refused.add((event.task_id, event.attempt))
                case ev.AttemptEnded():
                    if (event.task_id, event.attempt) not in refused or event.result.cost_nano:
                        self._attempt_ended(pool, event)  # else it was stopped before it could be refused: never sent
                case ev.ReservationExtended():
                    if not self._extend(pool, event):
                        refused_extensions.add((event.task_id, event.attempt))
                case ev.RunAccepted():
                    self._run_accepted(pool, event)
                case ev.AttemptProgress():
                    self._progress(pool, event)
                case ev.TaskReopened():
                    self._reopen(pool, event)
                case ev.TaskCached():
                    self._answered(pool, budget_id, event)
                case ev.TaskEvent():
                    self._verdict(pool, event)
                case ev.RunChanged() | ev.RunAdopted():
                    self._run_changed(pool, event)
                case _:
                    self._pool_event(pool, budget_id, event)
        return frozenset(refused), frozenset(refused_extensions)

    def _put(self, run: int, task: int, rank: int, row: Row) -> None:
        """Queue a row behind everything its task (or run: task 0) has queued so far."""
        key = (run, task)
        last = self._last.get(key, 0)
        position = last - last % _RANKS + rank
        if position < last:
            position += _RANKS
        self._last[key] = position
        bucket = self._buckets.get(position)
        if bucket is None:
            self._buckets[position] = [row]
        else:
            bucket.append(row)

    def _run_accepted(self, pool: int, event: ev.RunAccepted) -> None:
        record = event.run
        run = run_number(record.id)
        tags = cleaned(" ".join(record.tags))
        self._put(
            run,
            0,
            _RUN,
            (
                run, record.verb, record.state.value, record.total, pool, record.backend, cleaned_json(record.config),
                cleaned_json(record.meta), tags, record.budget, record.created_at, record.finished_at,
                cleaned(record.error),
            ),
        )  # fmt: skip
        self._events.append((event.at, pool, "run_accepted", record.state.value, run, None, None, None, None))
        self._buckets.setdefault(_TASK, []).extend(_task_row(run, task) for task in event.tasks)
        self._events.extend(
            (event.at, pool, "task_pending", task.state.value, run, task.number, None, None, None)
            for task in event.tasks
        )

    def _claim(self, pool: int, budget_id: int | None, event: ev.TaskRunning) -> bool:
        reserved = event.reserved_nano
        if not self._reserve(budget_id, reserved):
            return False
        run, task = task_key(event.task_id)
        key = (run, task, event.attempt)
        self._put(run, task, _CLAIM, (*key, event.at))
        self._put(
            run,
            task,
            _ATTEMPT,
            (
                *key, budget_id, event.slot_id, "running", 0, event.requested_model, reserved, 0, None, 0, 0, 0, 0, 0,
                event.at, None, None, None, 0, None, None, None, None, None, None, None, None, None, None, None, None,
            ),
        )  # fmt: skip
        self._reserved[key] = (budget_id, reserved)
        payload = f'{{"reserved_nano": {reserved}}}'
        self._events.append((event.at, pool, "task_running", "running", *key, event.slot_id, payload))
        return True

    def _extend(self, pool: int, event: ev.ReservationExtended) -> bool:
        key = (*task_key(event.task_id), event.attempt)
        budget_id, reserved = self._reservation(key)
        if not self._reserve(budget_id, event.added_nano):
            return False
        self._put(key[0], key[1], _EXTEND, (*key, event.added_nano))
        self._reserved[key] = (budget_id, reserved + event.added_nano)
        payload = f'{{"added_nano": {event.added_nano}}}'
        self._events.append((event.at, pool, "reservation_extended", None, *key, None, payload))
        return True

    def _attempt_ended(self, pool: int, event: ev.AttemptEnded) -> None:
        run, task = task_key(event.task_id)
        key = (run, task, event.attempt)
        result = event.result
        payload = f'{{"cost_nano": {result.cost_nano}}}'
        self._events.append((event.at, pool, "attempt_ended", event.state.value, *key, None, payload))
        if event.late:
            self._execute()
            row = self._do.read_attempt.first(self._driver, key)
            if row is not None and row[2] != "running":
                basis = max(CostBasis(row[3] or "exact"), result.cost_basis, key=_WEAKEST.__getitem__)
                known = (basis.value, storable(result.output), result.model, result.session_id)
                late = (*key, result.cost_nano, *_used(result), *known)
                self._do.late_attempt.many(self._driver, [late])
                self._book(row[0], spent=result.cost_nano, released=0)
                return
        budget_id, reserved = self._reservation(key)
        self._put(run, task, _END, (*key, *ended_values(event)))
        self._reserved[key] = None
        self._book(budget_id, spent=result.cost_nano, released=reserved)

    def _progress(self, pool: int, event: ev.AttemptProgress) -> None:
        run, task = task_key(event.task_id)
        key = (run, task, event.attempt)
        use = event.usage
        used = (use.input_tokens, use.output_tokens, use.cache_read_tokens, use.cache_write_tokens)
        self._put(run, task, _PROGRESS, (*key, event.cost_nano, *used))
        payload = f'{{"cost_nano": {event.cost_nano}, "output_tokens": {use.output_tokens}}}'
        self._events.append((event.at, pool, "attempt_progress", None, *key, None, payload))

    def _reopen(self, pool: int, event: ev.TaskReopened) -> None:
        run, task = task_key(event.task_id)
        row = run, task, cleaned(event.prompt), cleaned_json(event.overrides), event.requested_model
        self._put(run, task, _REOPEN, row)
        changed = [name for name in ("prompt", "overrides", "requested_model") if getattr(event, name) is not None]
        # What was sent before is kept here: the task's row has the prompt of its next attempt.
        before = {} if event.previous_prompt is None else {"previous_prompt": event.previous_prompt}
        payload = as_json({"changed": changed, **before}) if changed else None
        self._events.append((event.at, pool, "task_reopened", "pending", run, task, None, None, payload))

    def _answered(self, pool: int, budget_id: int | None, event: ev.TaskCached) -> None:
        """A task completed with an earlier answer: number 0, because nothing was attempted; of the budget's money."""
        run, task = task_key(event.task_id)
        result, at = event.answer.result, event.at
        self._put(
            run,
            task,
            _ATTEMPT,
            (
                run, task, 0, budget_id, "", "completed", 0, None, 0, 0, result.cost_basis.value, 0, 0, 0, 0, 0, at, at,
                None, None, 0, result.model, None, None, None, None, None, None, None,
                as_json(result.warnings) if result.warnings else None,
                None if result.structured is None else as_json(result.structured), None, storable(result.output),
            ),
        )  # fmt: skip
        self._put(run, task, _VERDICT, (run, task, "completed", at, None, None, None, None))
        payload = as_json({"answer_of": event.answer.task_id})
        self._events.append((at, pool, "task_cached", "completed", run, task, None, None, payload))

    def _verdict(self, pool: int, event: ev.TaskEvent) -> None:
        run, task = task_key(event.task_id)
        state = ev.TASK_STATE_OF[type(event)]
        until: float | None = None
        kind: str | None = None
        error_type: str | None = None
        error: str | None = None
        match event:
            case ev.TaskWaiting():
                until = event.until
                kind = event.failure.kind.value
                error_type, error = event.failure.error_type, event.failure.message
            case ev.TaskFailed():
                kind, error_type, error = event.kind.value, event.error_type, event.error
            case ev.TaskInterrupted():
                error_type, error = "interrupted", event.error
            case ev.TaskCancelled():
                error_type = "cancelled"
        error, error_type = cleaned(error), cleaned(error_type)
        finished_at = event.at if state.is_final else None
        self._put(run, task, _VERDICT, (run, task, state.value, finished_at, until, kind, error_type, error))
        payload = None if error_type is None else as_json({"error_type": error_type, "error": error})
        self._events.append((event.at, pool, _KINDS[type(event)], state.value, run, task, None, None, payload))

    def _run_changed(self, pool: int, event: ev.RunChanged | ev.RunAdopted) -> None:
        run = run_number(event.run_id)
        if isinstance(event, ev.RunAdopted):
            self._put(run, 0, _ADOPT, (run, pool_number(event.pool_id)))
            self._events.append((event.at, pool, "run_adopted", None, run, None, None, None, None))
            return
        finished_at = event.at if event.state.is_final else None
        self._put(run, 0, _RUN_STATE, (run, event.state.value, finished_at, cleaned(event.error)))
        payload = None if event.error is None else as_json({"error": event.error})
        self._events.append((event.at, pool, "run_changed", event.state.value, run, None, None, None, payload))

    def _slot_changed(self, pool: int, event: ev.SlotChanged) -> None:
        state = event.state.value
        error = cleaned(event.error)
        self._slots[pool, event.slot_id] = (
            pool, event.slot_id, state, event.task_id, event.restarts, event.tasks_completed, event.cost_nano,
            event.at, error,
        )  # fmt: skip
        run, task = (None, None) if event.task_id is None else task_key(event.task_id)
        payload = None if error is None else as_json({"error": error})
        self._events.append((event.at, pool, "slot_changed", state, run, task, None, event.slot_id, payload))

    def _pool_event(self, pool: int, budget_id: int | None, event: ev.Event) -> None:
        """What concerns the pool as a whole: rare, so its fields are found by name."""
        values = {name: getattr(event, name) for name in event.__slots__}
        task_id = values.pop("task_id", None)
        if isinstance(event, ev.BudgetChanged) and budget_id is not None:
            purse = self._budget(budget_id)
            purse.limit, purse.dirty = event.limit_nano, True
        run, task = (None, None) if task_id is None else task_key(task_id)
        payload = as_json(values) if values else None
        self._events.append((event.at, pool, kind_of(type(event)), None, run, task, None, None, payload))

    # -- money ---------------------------------------------------------------------------------------------------------

    def _budget(self, budget_id: int) -> _Purse:
        """The budget as this transaction has it."""
        found = self._budgets.get(budget_id)
        if found is None:
            row = self._do.read_budget.first(self._driver, (budget_id,))
            if row is None:
                raise StoreConflict(f"there is no budget {budget_id} in the ledger; start the pool again")
            number, name, limit, spent, reserved, since, play = row
            found = _Purse(number, name, limit, spent, reserved, since, bool(play))
            self._budgets[budget_id] = found
        return found

    def _reserve(self, budget_id: int | None, amount: int) -> bool:
        """Hold an amount back if there is room for it."""
        if budget_id is None:
            return True
        purse = self._budget(budget_id)
        if purse.limit is not None and purse.spent + purse.reserved + amount > purse.limit:
            return False
        purse.reserved += amount
        purse.dirty = True
        return True

    def _book(self, budget_id: int | None, *, spent: int, released: int) -> None:
        """Book a cost and give a reservation back: the money is spent, whether or not it fits."""
        if budget_id is None:
            return
        purse = self._budget(budget_id)
        purse.spent += spent
        purse.reserved -= released
        purse.dirty = True

    def _reservation(self, key: Key) -> tuple[int | None, int]:
        """What is held back for a running attempt, and from which budget."""
        known = self._reserved[key] if key in self._reserved else self._caches.reserved.get(key)
        if known is not None:
            return known
        row = self._do.read_attempt.first(self._driver, key)
        if row is None or row[2] != "running" or key in self._reserved:
            raise StoreConflict(
                f"attempt {key[2]} of task r{key[0]}.{key[1]} is not running in the ledger: another pool has taken "
                "the task, or it is over"
            )
        return row[0], row[1]

    # -- executing -----------------------------------------------------------------------------------------------------

    def _execute(self) -> None:
        """Execute what is queued."""
        for position in sorted(self._buckets):
            rows = self._buckets[position]
            rank = position % _RANKS
            statement: Prepared = getattr(self._do, _STATEMENTS[rank])
            parts: Iterable[list[Row]] = ([row] for row in rows) if self._one_by_one else (rows,)
            for part in parts:
                if statement.many(self._driver, part) != len(part):
                    raise StoreConflict(_conflict(rank, part))
        self._buckets.clear()
        self._last.clear()

    def finish(self) -> None:
        """Execute everything that is left: rows, slots, events, budgets."""
        self._execute()
        if self._slots:
            new = [key for key in self._slots if not self._is_known(key)]
            if new:
                self._do.insert_slot.many(self._driver, [self._slots[key] for key in new])
            old = [row for key, row in self._slots.items() if key not in new]
            if old:
                self._do.update_slot.many(self._driver, old)
        if self._events:
            self._do.insert_event.many(self._driver, self._events)
        changed = [
            (purse.number, purse.limit, purse.spent, purse.reserved)
            for _, purse in sorted(self._budgets.items())
            if purse.dirty
        ]
        if changed:
            self._do.update_budget.many(self._driver, changed)

    def _is_known(self, key: tuple[int, str]) -> bool:
        """Whether a slot has a row."""
        return key in self._caches.slots or self._do.read_slot.first(self._driver, key) is not None

    def budget(self, budget_id: int | None) -> BudgetRecord | None:
        """The budget as it will be when this transaction is committed."""
        return None if budget_id is None else self._budget(budget_id).record()

    def committed(self) -> None:
        """Remember what is now in the database."""
        self._caches.slots.update(self._slots)
        for key, held in self._reserved.items():
            if held is None:
                self._caches.reserved.pop(key, None)
            else:
                self._caches.reserved[key] = held


def _task_row(run: int, task: TaskRecord) -> Row:
    """A task's row, as it was accepted."""
    return (
        run, task.number, task.state.value, task.row, task.sample, task.priority, task.attempts, task.opened_attempts,
        task.created_at, task.started_at, task.finished_at, task.waiting_until, cleaned(" ".join(task.tags)),
        task.conversation, task.role, task.profile, task.requested_model,
        task.failure_kind and task.failure_kind.value, cleaned(task.error_type), cleaned(task.error),
        cleaned_json(task.overrides), cleaned_json(task.inputs), storable(task.prompt),
    )  # fmt: skip


def _used(result: TurnResult) -> tuple[int, int, int, int]:
    """The tokens of an attempt in the order of the columns."""
    use = result.usage
    return use.input_tokens, use.output_tokens, use.cache_read_tokens, use.cache_write_tokens


def ended_values(event: ev.AttemptEnded) -> Row:
    """What an ended attempt's row gets, in the order of `statements.ENDED`."""
    result = event.result
    failure = result.failure
    why: Row = (None, None, None, None, None)
    if failure is not None:
        why = (
            failure.kind.value, cleaned(failure.error_type), failure.http_status, failure.retry_after_s,
            cleaned(failure.message),
        )  # fmt: skip
    denials = None
    if result.denials:
        denials = as_json([{"tool": denial.tool, "tool_input": denial.tool_input} for denial in result.denials])
    return (
        event.state.value, int(event.late), result.cost_nano, result.cost_basis.value, *_used(result), result.turns,
        event.at, result.duration_s, result.api_s, int(result.wrote), result.model, result.session_id, *why, denials,
        as_json(result.warnings) if result.warnings else None,
        None if result.structured is None else as_json(result.structured),
        event.request, storable(result.output),
    )  # fmt: skip


def _conflict(rank: int, rows: list[Row]) -> str:
    """What to say when rows are not as their events suppose."""
    if rank in {_RUN_STATE, _ADOPT}:
        return f"run r{rows[0][0]} is not in the ledger; it was pruned, or never accepted"
    tasks = ", ".join(f"r{row[0]}.{row[1]}" for row in rows[:3])
    supposed = {
        _REOPEN: "cannot be reopened: not final",
        _CLAIM: "cannot be started: not pending, or another pool has started it",
        _PROGRESS: "has no such running attempt: another pool has taken it, or it is over",
        _EXTEND: "has no such running attempt: another pool has taken it, or it is over",
        _END: "has no such running attempt: another pool has taken it, or it is over",
        _VERDICT: "is final already and keeps its state: another pool has taken it, or it was decided before",
    }.get(rank, "could not be written")
    return f"task {tasks} {supposed}"
