"""The claude session keeps the protocol of sessions, on the real CLI."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Awaitable, Callable

import pytest

from claude_pool_nb.sessions.base import Session
from claude_pool_nb.sessions.claude_backend import ClaudeBackend
from claude_pool_nb.testing import Reply, Request, ScriptedAPI
from claude_pool_nb.testing.conformance import CHECKS, SessionHarness
from tests.integration.sessions.conftest import OPTIONS

pytestmark = pytest.mark.cli


class ClaudeHarness(SessionHarness):
    """Sessions on the real CLI; the scripted API brings them into trouble."""

    prompt = "Say hello."
    failing_prompt = "Fail please."
    slow_prompt = "Take your time."
    silent_prompt = "Say nothing."

    def __init__(self, api: ScriptedAPI) -> None:
        self.options = OPTIONS
        self._backend = ClaudeBackend()
        api.on("Fail please", Reply(status=400, message="bad request"))
        api.on("Take your time", Reply("slowly, " * 20, chunk_chars=8, chunk_delay_s=0.3))
        api.on("Say nothing", Reply(hang=True))
        api.reply(self._counted)

    @staticmethod
    def _counted(request: Request) -> Reply:
        # What differs between processes and turns but is no content: the ids in the metadata are not in the messages.
        return Reply("Hello there.", input_tokens=len(json.dumps(request.messages)) // 4)

    def session(self) -> Session:
        """A session on the real CLI."""
        return self._backend.session("s1")

    async def lose(self, session: Session) -> None:
        """Kill its process."""
        assert session.info.pid is not None
        os.kill(session.info.pid, signal.SIGKILL)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_claude_conforms(check: Callable[[SessionHarness], Awaitable[None]], api: ScriptedAPI) -> None:
    """The claude session passes every check of the suite."""
    await check(ClaudeHarness(api))
