"""The session inside a replay: it has an id and can be reset and closed, and says nothing.

Invariants: no process, no network, no file; a new conversation has a new id; a closed one cannot be used again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from claude_pool_nb.errors import SessionError, SessionLost
from claude_pool_nb.resolved import ResolvedConfig
from claude_pool_nb.sessions.base import SessionEvent, SessionInfo, Turn


class SilentSession:
    """What is inside a session that only replays: a conversation partner who is never asked.

    Example:
        >>> SilentSession("s1").info.session_id is None
        True
    """

    def __init__(self, slot_id: str) -> None:
        self._slot_id = slot_id
        self._options: ResolvedConfig | None = None
        self._number = 0
        self._session_id: str | None = None
        self._broken = False

    @property
    def info(self) -> SessionInfo:
        """Session id and model; there is no process."""
        model = self._options.model if self._options is not None else None
        return SessionInfo(session_id=self._session_id, model=model)

    @property
    def launch_key(self) -> str:
        """The options it was opened with; empty before `open`."""
        return self._options.launch_key if self._options is not None else ""

    @property
    def broken(self) -> bool:
        """True once it is closed."""
        return self._broken

    @property
    def needs_recycling(self) -> bool:
        """Never: nothing grows."""
        return False

    async def open(self, options: ResolvedConfig) -> None:
        """Start it.

        Raises:
            SessionError: it is open already, or closed.
        """
        if self._options is not None or self._broken:
            raise SessionError(f"the replaying session of slot {self._slot_id} cannot be opened twice; make a new one")
        self._options = options
        self._session_id = options.resume_session_id or self._next_id()

    def _next_id(self) -> str:
        self._number += 1
        return f"replay-{self._slot_id}-{self._number}"

    async def ask(self, turn: Turn) -> AsyncIterator[SessionEvent]:
        """It has no answers of its own.

        Raises:
            SessionLost: always.
        """
        raise SessionLost("a replaying session was asked what is not on its tape")
        yield  # what makes it a generator

    async def reset(self) -> None:
        """Forget the conversation.

        Raises:
            SessionLost: it is closed, or was never opened.
        """
        if self._broken or self._options is None:
            raise SessionLost(f"the replaying session of slot {self._slot_id} is not open")
        self._session_id = self._next_id()

    async def interrupt(self) -> None:
        """There is nothing to stop."""

    async def close(self, *, kill: bool = False) -> None:
        """End it."""
        self._broken = True
