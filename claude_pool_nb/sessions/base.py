"""The session protocol: one live conversation partner of one slot.

A session belongs to one slot and one event loop, and is used by one task at a time. `ask` yields what happens and ends
with exactly one `TurnResult`, for failed, interrupted and lost turns too; it raises only what is a defect of ours. A
session that is `broken` after a turn cannot be used again: its slot opens a new one. Whoever drives the session (the
engine) enforces the wall and idle timeouts and climbs the ladder `interrupt` -> `close(kill=True)`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from claude_pool_nb.config import ResolvedConfig
from claude_pool_nb.records import TurnResult, Usage


@dataclass(frozen=True, slots=True)
class Turn:
    """One prompt, with the options that hold for this task."""

    prompt: str
    """The text, sent to the model as it is."""
    options: ResolvedConfig
    """All options; those fixed at launch are the ones the session was opened with (same launch_key)."""
    sample: int = 0
    """Which sample of its row: the demo answers differently for each."""
    task_id: str = ""
    """Whose turn it is: what a tape tells the attempts of one task from identical requests of others by."""


@dataclass(frozen=True, slots=True)
class TurnStarted:
    """The API accepted a request: its input is paid from here on."""

    usage: Usage
    """Tokens so far, over all model calls of the turn."""
    cost_nano: int
    """Estimated cost so far."""
    model: str | None = None
    """The model that answers."""


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the answer."""

    text: str
    thinking: bool = False


@dataclass(frozen=True, slots=True)
class ToolStarted:
    """The model calls a tool."""

    tool: str
    tool_input: str = ""


@dataclass(frozen=True, slots=True)
class UsageSeen:
    """What the turn has used so far."""

    usage: Usage
    cost_nano: int


@dataclass(frozen=True, slots=True)
class RetryNoticed:
    """The session itself tries the API again."""

    status: int | None
    delay_s: float
    error: str


SessionEvent = TurnStarted | TextDelta | ToolStarted | UsageSeen | RetryNoticed | TurnResult


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """What is known of a session's process."""

    pid: int | None = None
    """None where there is no process."""
    session_id: str | None = None
    """The CLI's id of the session."""
    model: str | None = None
    """The model it is set to."""
    rss_bytes: int | None = None
    """Memory of the process and its children."""
    started_at: float | None = None
    """When the process started: with the pid, what names it for good."""
    executable: str | None = None
    """The process's executable: what a later kernel checks before it ends an orphan."""
    resume_point: str | None = None
    """The last message of a conversation that is worth keeping: what `resume_at` takes after a failed turn."""


@runtime_checkable
class Session(Protocol):
    """A live conversation partner."""

    @property
    def info(self) -> SessionInfo:
        """Process, session id, model and memory, now."""

    @property
    def launch_key(self) -> str:
        """The options it was opened with; empty before `open`."""

    @property
    def broken(self) -> bool:
        """True if it cannot be used again: a new one has to be opened."""

    @property
    def needs_recycling(self) -> bool:
        """True if its process has outgrown its memory limit or served its number of tasks."""

    async def open(self, options: ResolvedConfig) -> None:
        """Start it with these options, ready for a first task (reset and verified, unless a conversation goes on).

        Raises:
            SessionError: it could not be opened; CLINotFound, MissingCredentials where that is why.
        """

    def ask(self, turn: Turn) -> AsyncIterator[SessionEvent]:
        """Send a prompt and yield what happens, ending with one TurnResult."""

    async def reset(self) -> None:
        """Forget the conversation, and verify that it is forgotten.

        Raises:
            ResetFailed: it did not confirm.
            SessionLost: its process is gone.
        """

    async def interrupt(self) -> None:
        """Stop the running turn; `ask` then ends with its TurnResult. Does nothing when idle."""

    async def close(self, *, kill: bool = False) -> None:
        """End it and its whole process tree; with `kill`, without asking. Never raises, never hangs."""


@dataclass(frozen=True, slots=True)
class BackendInfo:
    """What a backend is."""

    name: str
    """`claude`, `demo` or `replay`."""
    play_money: bool = False
    """True if its dollars are made up."""
    notice: str | None = None
    """Said on the status card: it is a demo; dollars are notional with a subscription login ..."""
    prices: str = "claude"
    """Whose list prices hold, for estimates and reservations: `claude` or `demo`."""


class Backend(Protocol):
    """Makes sessions."""

    @property
    def info(self) -> BackendInfo:
        """What it is."""

    async def check(self, options: ResolvedConfig, slots: int) -> list[str]:
        """Verify, before anything is started, that sessions can be had: CLI, credentials, memory, model name.

        Returns:
            Warnings to show (memory is short ...).

        Raises:
            MissingCredentials, CLINotFound, UnknownModel, ConfigError: with what to do next.
        """

    def session(self, slot_id: str) -> Session:
        """A session, not yet open."""

    def estimate_nano(self, model: str | None, usage: Usage) -> int | None:
        """What that usage costs at list price in nanodollars; None if no price is known."""

    async def close(self) -> None:
        """Give back what the backend itself holds (private files, watchers)."""
