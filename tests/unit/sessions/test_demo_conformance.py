"""The demo keeps the protocol of sessions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from claude_pool_nb.config import ResolvedConfig
from claude_pool_nb.sessions.base import Session
from claude_pool_nb.sessions.demo import DemoBackend
from claude_pool_nb.testing.conformance import CHECKS, SessionHarness


class DemoHarness(SessionHarness):
    """Sessions of the demo; what goes wrong is asked for with its markers."""

    prompt = "Summarise: the cat sat on the mat and the dog sat by the door."
    failing_prompt = "[demo:fail] refuse this"
    slow_prompt = "[demo:slow=3] Write a haiku about a slow river, with many words in it."
    silent_prompt = "[demo:hang] nothing"

    def __init__(self) -> None:
        self.options = replace(ResolvedConfig(), demo_latency_s=0.0)
        self._backend = DemoBackend()

    def session(self) -> Session:
        """A demo session."""
        return self._backend.session("s1")

    async def lose(self, session: Session) -> None:
        """There is no process to kill: closing it is the nearest."""
        await session.close(kill=True)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_demo_conforms(check: Callable[[SessionHarness], Awaitable[None]]) -> None:
    """The demo passes every check of the suite."""
    await check(DemoHarness())
