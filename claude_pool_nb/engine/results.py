"""A task's result, put together from its record and its attempts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from claude_pool_nb.events import AttemptEnded, Event, TaskCached
from claude_pool_nb.records import (
    AttemptRecord,
    AttemptState,
    CostBasis,
    Denial,
    Failure,
    TaskRecord,
    TaskResult,
    TaskState,
    TurnResult,
    Usage,
    usd,
)
from claude_pool_nb.redact import redact, redact_json, redact_value
from claude_pool_nb.sessions.processes import off_loop

LONG_CHARS = 100_000
"""A longer output is looked through beside the loop."""
_WEAKER = (CostBasis.EXACT, CostBasis.ESTIMATED, CostBasis.UNKNOWN)


def without_secrets(turn: TurnResult) -> TurnResult:
    """A turn's result as it may be shown and stored: answers and errors may quote a key."""
    output = redact(turn.output)
    if output is turn.output and not (turn.failure or turn.denials or turn.warnings) and turn.structured is None:
        return turn  # nearly all: an answer, and nothing in it
    return _cleaned(turn, output)


def _cleaned(turn: TurnResult, output: str) -> TurnResult:
    """The same, of which more than the output has to be looked through."""
    failure, structured, denials, warnings = turn.failure, turn.structured, turn.denials, turn.warnings
    if failure is not None:
        failure = replace(failure, error_type=redact(failure.error_type), message=redact(failure.message))
    if structured is not None:
        structured = redact_value(structured)
    if denials:
        denials = tuple(Denial(denial.tool, redact_json(denial.tool_input)) for denial in denials)
    if warnings:
        warnings = tuple(map(redact, warnings))
    return replace(turn, output=output, failure=failure, structured=structured, denials=denials, warnings=warnings)


async def cleaned(turn: TurnResult) -> TurnResult:
    """The same; for a long output beside the loop."""
    if len(turn.output) > LONG_CHARS:
        return await off_loop(without_secrets, turn)
    return without_secrets(turn)


def result_of(task: TaskRecord, attempts: Sequence[AttemptRecord], backend: str) -> TaskResult:
    """What there is of a task: the last attempt's answer, and the cost and tokens of all of them."""
    ended = [a for a in attempts if a.result is not None]
    # A task that is to be run again has no answer until it was.
    answered = task.attempts > task.opened_attempts or (not task.attempts and task.state is TaskState.COMPLETED)
    last = ended[-1] if ended and answered else None
    turn = last.result if last is not None and last.result is not None else TurnResult()
    failure: Failure | None = None
    if task.state is not TaskState.COMPLETED:
        failure = turn.failure
        if task.state is TaskState.CANCELLED and failure is not None and failure.error_type == "interrupted":
            how = f"`%pool retry {task.run_id} --state cancelled` runs it again"
            failure = replace(failure, error_type="cancelled", message=f"The turn was cancelled; {how}.")
        if task.failure_kind is not None:
            failure = Failure(
                task.failure_kind,
                task.error_type or "",
                task.error or "",
                retry_after_s=turn.failure.retry_after_s if turn.failure else None,
                http_status=turn.failure.http_status if turn.failure else None,
            )
    usage = Usage()
    for attempt in ended:
        if attempt.result is not None:
            usage += attempt.result.usage
    bases = [attempt.result.cost_basis for attempt in ended if attempt.result is not None]
    return TaskResult(
        task_id=task.id,
        run_id=task.run_id,
        state=task.state,
        output=turn.output,
        cost_usd=usd(sum(a.result.cost_nano for a in ended if a.result is not None)),
        cost_basis=max(bases, key=_WEAKER.index, default=CostBasis.EXACT),
        usage=usage,
        turns=turn.turns,
        model=turn.model,
        requested_model=task.requested_model,
        session_id=turn.session_id,
        slot_id=last.slot_id or None if last is not None else None,
        attempts=task.attempts,
        structured=turn.structured,
        denials=turn.denials,
        warnings=turn.warnings,
        failure=failure,
        wait_s=max(0.0, task.started_at - task.created_at) if task.started_at is not None else 0.0,
        duration_s=turn.duration_s,
        api_s=turn.api_s,
        tags=task.tags,
        backend=backend,
        cached=backend == "replay" or (task.state is TaskState.COMPLETED and not task.attempts),
    )


def ended_by_task(uncommitted: Iterable[Event]) -> dict[str, list[AttemptEnded]]:
    """The attempts that are over and not in the ledger yet: what was paid for is shown, whatever the disk says."""
    found: dict[str, list[AttemptEnded]] = {}
    for event in uncommitted:
        if isinstance(event, TaskCached):  # an answer without an attempt is kept as number 0
            event = AttemptEnded(event.at, event.task_id, 0, AttemptState.COMPLETED, event.answer.result)  # noqa: PLW2901
        if isinstance(event, AttemptEnded) and not event.late:
            found.setdefault(event.task_id, []).append(event)
    return found


def merged(attempts: list[AttemptRecord], ended: Sequence[AttemptEnded]) -> list[AttemptRecord]:
    """A task's attempts from the ledger, brought up to what is not in it yet."""
    if not ended:
        return attempts
    found = {attempt.number: attempt for attempt in attempts}
    for event in ended:
        known = found.get(event.attempt) or AttemptRecord(event.task_id, event.attempt, slot_id="")
        found[event.attempt] = replace(known, state=event.state, finished_at=event.at, result=event.result)
    return [found[number] for number in sorted(found)]
