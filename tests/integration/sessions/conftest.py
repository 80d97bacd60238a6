"""Sessions on the real CLI, and the scripted API they talk to."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from claude_pool_nb.config import ResolvedConfig
from claude_pool_nb.sessions.base import Session
from claude_pool_nb.sessions.claude_backend import ClaudeBackend

OPTIONS = ResolvedConfig(model="claude-haiku-4-5", system_prompt="Answer in one word.")


@pytest.fixture(autouse=True)
def every_cli_is_scripted(scripted_cli: None) -> None:
    """No test here forgets it."""


@pytest.fixture
def backend() -> ClaudeBackend:
    """The backend under test."""
    return ClaudeBackend()


@pytest_asyncio.fixture
async def session(backend: ClaudeBackend) -> AsyncIterator[Session]:
    """An open session of the prompt profile."""
    made = backend.session("s1")
    await made.open(OPTIONS)
    yield made
    await made.close(kill=True)
