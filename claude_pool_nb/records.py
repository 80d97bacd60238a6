"""What things are: frozen records without behaviour, shared by every layer.

Invariants: money is integer nanodollars (`*_nano`); instants are unix seconds in UTC (`*_at`); durations are seconds
(`*_s`). The words that records use for states are those of `states.py`, and can be imported from here as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from claude_pool_nb.answer_types import parsed
from claude_pool_nb.errors import ConfigError
from claude_pool_nb.states import (
    FINAL_STATES,
    OPEN_RUN_STATES,
    AttemptState,
    CostBasis,
    FailureKind,
    RunState,
    SlotState,
    StopReason,
    TaskState,
)

__all__ = [
    "BACKENDS",
    "FINAL_STATES",
    "NANO_PER_USD",
    "OPEN_RUN_STATES",
    "PLAY_BACKENDS",
    "AttemptRecord",
    "AttemptState",
    "BudgetRecord",
    "CostBasis",
    "Denial",
    "EarlierAnswer",
    "Failure",
    "FailureKind",
    "PoolStatus",
    "RetryPolicy",
    "RunRecord",
    "RunState",
    "SlotRecord",
    "SlotState",
    "StopReason",
    "TaskRecord",
    "TaskResult",
    "TaskState",
    "TurnResult",
    "Usage",
    "nano",
    "usd",
    "utc",
]

T = TypeVar("T")

NANO_PER_USD = 1_000_000_000

BACKENDS = ("claude", "demo", "replay")
"""Who answers, by name; a pool may also be given an object that does."""
PLAY_BACKENDS = ("demo", "replay")
"""Backends whose dollars are play money, where no budget says so."""


def usd(nano: int) -> float:
    """Nanodollars as float dollars, for the edge.

    Example:
        >>> usd(1_100_000)
        0.0011
    """
    return nano / NANO_PER_USD


def nano(dollars: float) -> int:
    """Float dollars as nanodollars, rounded to the nearest.

    Example:
        >>> nano(0.0011)
        1100000
    """
    return round(dollars * NANO_PER_USD)


def utc(at: float | None) -> datetime | None:
    """Unix seconds as an aware UTC datetime.

    Example:
        >>> utc(0.0).isoformat()
        '1970-01-01T00:00:00+00:00'
    """
    return None if at is None else datetime.fromtimestamp(at, UTC)


# -- usage and results -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one attempt, summed over its model calls.

    Example:
        >>> Usage(input_tokens=10) + Usage(output_tokens=5)
        Usage(input_tokens=10, output_tokens=5, cache_read_tokens=0, cache_write_tokens=0)
    """

    input_tokens: int = 0
    """Tokens read at full price."""
    output_tokens: int = 0
    """Tokens written by the model."""
    cache_read_tokens: int = 0
    """Tokens read from the prompt cache, at a tenth of the price."""
    cache_write_tokens: int = 0
    """Tokens written to the prompt cache, at 1.25 times the price."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cache_read_tokens + other.cache_read_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
        )


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt did not succeed."""

    kind: FailureKind
    """The kind, which decides whether it is tried again."""
    error_type: str
    """A short machine word: `http_429`, `process_killed`, `idle_timeout`, `unknown_model` ..."""
    message: str
    """One line for a person: what happened and what to do next. Holds no secret."""
    retry_after_s: float | None = None
    """How long the API asked to wait, where it said so."""
    http_status: int | None = None
    """The status of the API's answer, where there was one."""


@dataclass(frozen=True, slots=True)
class Denial:
    """A tool call that was denied."""

    tool: str
    """The tool's name."""
    tool_input: str
    """What it was to be called with, as JSON text (cut at 2,000 characters)."""


@dataclass(frozen=True, slots=True)
class TurnResult:
    """What one attempt of a task gave, as a session reports it: also for failed, interrupted and killed turns."""

    output: str = ""
    """The answer; what there was of it if the turn was stopped."""
    failure: Failure | None = None
    """None if the turn succeeded."""
    cost_nano: int = 0
    """What this attempt cost, in nanodollars."""
    cost_basis: CostBasis = CostBasis.EXACT
    """How the cost is known."""
    usage: Usage = field(default_factory=Usage)
    """Tokens of all model calls of the attempt."""
    turns: int = 0
    """Agent turns."""
    model: str | None = None
    """The model that answered."""
    session_id: str | None = None
    """The CLI's id of the session."""
    duration_s: float = 0.0
    """From the prompt's sending to the result."""
    api_s: float = 0.0
    """The part spent waiting for the API."""
    structured: Any = None
    """The structured answer, if a schema was asked for."""
    denials: tuple[Denial, ...] = ()
    """Tool calls that were denied."""
    wrote: bool = False
    """True if a tool that changes things ran: such an attempt is not tried again unasked."""
    warnings: tuple[str, ...] = ()
    """Things to tell: another model answered than was asked for ..."""


# -- runs, tasks, attempts, slots, budgets -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Which failures are tried again, and when.

    Transport, crash and limit failures are retried (the first crash at once). Auth, request, denied, budget and turns
    never are; timeout and task failures are when asked for. An attempt that ran a writing tool is retried only with
    `retry_writes`.

    Example:
        >>> RetryPolicy(max_attempts=1).max_attempts
        1
    """

    max_attempts: int = 3
    """Attempts in all, the first included."""
    initial_backoff_s: float = 5.0
    """The wait before the second attempt."""
    multiplier: float = 2.0
    """Each further wait is this many times longer."""
    max_backoff_s: float = 300.0
    """No wait is longer than this."""
    jitter: bool = True
    """Spread the waits between half and the whole of it, so that tasks do not come back all at once."""
    retry_timeouts: bool = False
    """Try timed-out attempts again too."""
    retry_tasks: bool = False
    """Try attempts again whose schema or check failed."""
    retry_writes: bool = False
    """Try attempts again that ran a tool which changes things."""


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """A task as it was accepted, and where it is now."""

    id: str
    """`r12.3`."""
    run_id: str
    """`r12`."""
    number: int
    """Its number in the run, from 1: the order in which tasks were accepted."""
    prompt: str
    """The text for the model, as it is."""
    state: TaskState = TaskState.PENDING
    """Where it is."""
    row: int = 0
    """Position of its input row, from 0."""
    sample: int = 0
    """Which of the n samples of its row, from 0."""
    tags: tuple[str, ...] = ()
    """Words to find it by."""
    priority: int = 0
    """Higher goes first."""
    conversation: str | None = None
    """The named conversation it belongs to."""
    role: str | None = None
    """Only slots of this role may run it."""
    profile: str = "prompt"
    """Name of the set of session options."""
    requested_model: str | None = None
    """The model that was asked for."""
    overrides: str = "{}"
    """Its TaskOverrides as JSON text."""
    inputs: str | None = None
    """Its input columns and grid keys as JSON text, for frames after a restart."""
    attempts: int = 0
    """How many attempts were started."""
    cost_nano: int = 0
    """What all its attempts cost."""
    created_at: float = 0.0
    """When it was accepted."""
    started_at: float | None = None
    """When its first attempt started."""
    finished_at: float | None = None
    """When it became final."""
    waiting_until: float | None = None
    """When a waiting task may run again."""
    opened_attempts: int = 0
    """Attempts that were started before the last reopening: the retry policy counts from here."""
    failure_kind: FailureKind | None = None
    """Why it failed."""
    error_type: str | None = None
    """A short machine word for that."""
    error: str | None = None
    """One line for a person."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """The tasks that one call made."""

    id: str
    """`r12`."""
    verb: str
    """`run`, `submit`, `fan_out`, `map`."""
    state: RunState = RunState.PENDING
    """Where it is."""
    total: int = 0
    """How many tasks it has."""
    pool_id: str = ""
    """The pool that owns it now."""
    backend: str = "claude"
    """`claude`, `demo` or `replay`: demo dollars are play money."""
    config: str = "{}"
    """The pool's configuration when it was made, as JSON text: a resume uses it."""
    meta: str = "{}"
    """The form of its input (column order, index) as JSON text."""
    tags: tuple[str, ...] = ()
    """Words to find it by."""
    budget: str | None = None
    """Name of the budget it draws on."""
    created_at: float = 0.0
    """When it was accepted."""
    finished_at: float | None = None
    """When its last task became final."""
    error: str | None = None
    """Why the pool could not run it."""


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One try of a task: a receipt."""

    task_id: str
    """Whose try it is."""
    number: int
    """From 1; the fencing token of every write about it."""
    slot_id: str
    """Where it ran."""
    state: AttemptState = AttemptState.RUNNING
    """Where it is."""
    reserved_nano: int = 0
    """What the budget holds back for it."""
    started_at: float = 0.0
    """When the prompt was released for sending."""
    finished_at: float | None = None
    """When its result was there."""
    result: TurnResult | None = None
    """What it gave."""
    late: bool = False
    """True if its result came after it was replaced: the cost counts, the verdict does not."""


@dataclass(frozen=True, slots=True)
class SlotRecord:
    """A slot as it is now."""

    id: str
    """`s1`."""
    state: SlotState = SlotState.STARTING
    """What it does."""
    name: str | None = None
    """Its name, from its SlotConfig."""
    role: str | None = None
    """Its role: tasks may ask for it."""
    description: str | None = None
    """What it is good at; told to the model."""
    host: str = "local"
    """The machine it is on."""
    task_id: str | None = None
    """The task it runs."""
    model: str | None = None
    """The model of its session."""
    session_id: str | None = None
    """The CLI's id of its session."""
    conversation: str | None = None
    """The named conversation that its session holds."""
    pid: int | None = None
    """The process of its session."""
    rss_bytes: int | None = None
    """Memory of that process."""
    tasks_completed: int = 0
    """Tasks it completed."""
    cost_nano: int = 0
    """What its attempts cost."""
    restarts: int = 0
    """How often its session was replaced after a crash."""
    since_at: float = 0.0
    """When it entered its state."""
    error: str | None = None
    """Why it is errored."""


@dataclass(frozen=True, slots=True)
class BudgetRecord:
    """A named budget."""

    id: int
    """Its row in the ledger."""
    name: str
    """Who shares it: pools that name it draw on the same money."""
    limit_nano: int | None = None
    """The wall; None for no wall."""
    spent_nano: int = 0
    """Booked."""
    reserved_nano: int = 0
    """Held back for running attempts."""
    since_at: float = 0.0
    """Since when it counts."""
    play_money: bool = False
    """True for the demo's dollars."""

    @property
    def left_nano(self) -> int | None:
        """What may still be reserved; None without a limit."""
        return None if self.limit_nano is None else max(0, self.limit_nano - self.spent_nano - self.reserved_nano)


@dataclass(frozen=True, slots=True)
class TaskResult:
    """What `pool.run` and `Task.result` give: the answer and what it cost, over all attempts of the task.

    Example:
        >>> TaskResult(task_id="r1.1", run_id="r1", state=TaskState.COMPLETED, output="hi", cost_usd=0.0011).output
        'hi'
    """

    task_id: str
    """`r12.3`."""
    run_id: str
    """`r12`."""
    state: TaskState
    """completed, failed, cancelled or interrupted."""
    output: str = ""
    """The answer; what there was of it if the task did not complete."""
    cost_usd: float = 0.0
    """Dollars of all its attempts."""
    cost_basis: CostBasis = CostBasis.EXACT
    """How the cost is known; the weakest of its attempts."""
    usage: Usage = field(default_factory=Usage)
    """Tokens of all its attempts."""
    turns: int = 0
    """Agent turns of the last attempt."""
    model: str | None = None
    """The model that answered."""
    requested_model: str | None = None
    """The model that was asked for."""
    session_id: str | None = None
    """The CLI's id of the session."""
    slot_id: str | None = None
    """Where the last attempt ran."""
    attempts: int = 0
    """How many there were."""
    structured: Any = None
    """The structured answer, if a schema was asked for."""
    denials: tuple[Denial, ...] = ()
    """Tool calls that were denied."""
    warnings: tuple[str, ...] = ()
    """Things to know about it."""
    failure: Failure | None = None
    """Why it did not complete."""
    wait_s: float = 0.0
    """From being accepted to its first attempt."""
    duration_s: float = 0.0
    """Of the last attempt."""
    api_s: float = 0.0
    """The part of it spent waiting for the API."""
    tags: tuple[str, ...] = ()
    """Its tags."""
    backend: str = "claude"
    """`demo` answers are made up, `replay` ones are from a tape; the dollars of both are play money."""
    cached: bool = False
    """True if nobody was asked: an earlier answer to the same request, or one from a tape."""

    def parsed(self, kind: type[T]) -> T:
        """The structured answer as an instance of the type that was given as `schema`.

        Args:
            kind: A pydantic model, a dataclass, a TypedDict or another type.

        Raises:
            ConfigError: there is no structured answer, or it does not fit the type.

        Example:
            >>> from dataclasses import dataclass
            >>> @dataclass
            ... class Label:
            ...     name: str
            ...     score: float
            >>> result = TaskResult("r1.1", "r1", TaskState.COMPLETED, structured={"name": "good", "score": 1})
            >>> result.parsed(Label).score
            1.0
        """
        if self.structured is None:
            raise ConfigError(f"task {self.task_id} has no structured answer; ask for one with schema={kind.__name__}")
        instance: T = parsed(kind, self.structured)
        return instance


@dataclass(frozen=True, slots=True)
class EarlierAnswer:
    """An answer in the ledger that an identical request gets again, free.

    Example:
        >>> EarlierAnswer("r3.5", TurnResult(output="hi")).result.cost_nano
        0
    """

    task_id: str
    """The task that was given it."""
    result: TurnResult
    """The answer and the model that gave it. It cost nothing and used no tokens, because nobody is asked again."""


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """The pool at one moment.

    Example:
        >>> PoolStatus(pool_id="p", backend="demo").pending
        0
    """

    pool_id: str
    """The pool's id in the ledger."""
    backend: str
    """`claude`, `demo` or `replay`."""
    slots: Mapping[str, int] = field(default_factory=dict)
    """How many slots are in each state."""
    tasks: Mapping[str, int] = field(default_factory=dict)
    """How many tasks of this pool are in each state."""
    budget: BudgetRecord | None = None
    """The budget it draws on."""
    paused: str | None = None
    """Why it is paused; None if it is not."""
    closed: bool = False
    """True once it takes no more work."""
    warming: tuple[str, ...] = ()
    """Tasks that go ahead to warm the prompt cache, while others that share their prefix wait for them."""

    @property
    def pending(self) -> int:
        """Tasks that have not started or wait to be tried again."""
        return self.tasks.get("pending", 0) + self.tasks.get("waiting", 0)

    @property
    def running(self) -> int:
        """Tasks that are in a slot."""
        return self.tasks.get("running", 0)
