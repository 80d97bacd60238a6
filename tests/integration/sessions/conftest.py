"""Sessions on the real CLI, and the scripted API they talk to."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from claude_pool_nb.config import ResolvedConfig
from claude_pool_nb.sessions.base import Session
from claude_pool_nb.sessions.claude_backend import ClaudeBackend
from claude_pool_nb.testing import ScriptedAPI

OPTIONS = ResolvedConfig(model="claude-haiku-4-5", system_prompt="Answer in one word.")


@pytest.fixture(autouse=True)
def cli_env(api: ScriptedAPI, isolated_env: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send every CLI that is started to the scripted API."""
    environment = api.env(isolated_env)
    for name in set(os.environ) - set(environment):
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


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
