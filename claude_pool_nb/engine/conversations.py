"""Named conversations: where each one lives, and how it goes on elsewhere.

A conversation's tasks run one after the other in one session. It outlives its slot, its process and the kernel: the
ledger knows the session's id and the last message that succeeded, and a session that is opened for it resumes there.
A failed turn is rolled back: it stays in the process's history, so the session is replaced by one that resumes at the
last good message.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from claude_pool_nb.config import ResolvedConfig
from claude_pool_nb.records import TurnResult
from claude_pool_nb.store import shelf
from claude_pool_nb.store.ledger import Ledger
from claude_pool_nb.store.shelf import Conversation

if TYPE_CHECKING:
    from claude_pool_nb.engine.slots import SlotRunner
    from claude_pool_nb.sessions.base import Session


class Conversations:
    """The conversations of one ledger, by name."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._known: dict[str, Conversation] = {}
        self._held: dict[str, Session] = {}

    def get(self, name: str) -> Conversation:
        """The conversation of that name, new if there is none."""
        if name not in self._known:
            self._known[name] = shelf.get_conversation(self._ledger, name) or Conversation(name)
        return self._known[name]

    def holds(self, name: str, runner: SlotRunner) -> bool:
        """True if the slot's live session is the conversation, as it stands now."""
        session = runner.session
        return session is not None and not session.broken and self._held.get(name) is session

    def resumed(self, options: ResolvedConfig) -> ResolvedConfig:
        """The options with which a new session goes on with the conversation."""
        assert options.conversation is not None
        known = self.get(options.conversation)
        return replace(options, resume_session_id=known.session_id, resume_at=known.last_message)

    def turned(self, name: str, runner: SlotRunner, result: TurnResult) -> None:
        """A turn of the conversation is over: keep where it stands, or roll a failed turn back."""
        if result.failure is not None:
            self._held.pop(name, None)
            return
        session = runner.session
        known = self.get(name)
        if session is not None:
            self._held[name] = session
        point = session.info.resume_point if session is not None else None
        now = self._known[name] = replace(
            known,
            session_id=result.session_id or known.session_id,
            last_message=point if point is not None else known.last_message,
            turns=known.turns + 1,
            cwd=runner.options.cwd if runner.options is not None else None,
        )
        shelf.put_conversation(self._ledger, now)
