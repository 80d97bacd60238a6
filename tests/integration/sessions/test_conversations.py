"""Conversations on the real CLI: they go on, outlive their process, and forget what failed."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace

import pytest

from claude_pool_nb.config import ResolvedConfig, SlotMode
from claude_pool_nb.records import CostBasis, TurnResult
from claude_pool_nb.sessions.base import Session, TextDelta, Turn
from claude_pool_nb.sessions.claude_backend import ClaudeBackend
from claude_pool_nb.testing import Reply, ScriptedAPI
from claude_pool_nb.testing.conformance import hear
from tests.integration.sessions.conftest import OPTIONS

pytestmark = pytest.mark.cli

TALK = replace(OPTIONS, conversation="talk")


async def ask(session: Session, prompt: str, options: ResolvedConfig = TALK) -> TurnResult:
    """One turn's result."""
    return (await hear(session, Turn(prompt, options))).result


def said(api: ScriptedAPI) -> list[str]:
    """The texts of the user in the last request, without the CLI's own."""
    texts = []
    for message in api.requests[-1].messages:
        if message["role"] != "user":
            continue
        content = message["content"]
        blocks = [content] if isinstance(content, str) else [b.get("text", "") for b in content]
        texts += [text.strip() for text in blocks if text.strip() and not text.lstrip().startswith("<")]
    return texts


async def test_a_failed_turn_is_rolled_back(backend: ClaudeBackend, api: ScriptedAPI) -> None:
    """After a failed and after an interrupted turn the conversation goes on as if they had not been."""
    session = backend.session("s1")
    await session.open(TALK)
    await ask(session, "one")
    api.fail(status=500)
    assert (await ask(session, "bad")).failure is not None
    assert not session.broken
    await ask(session, "two")
    assert said(api) == ["one", "two"]

    async def stop(event: object) -> None:
        if isinstance(event, TextDelta):
            await session.interrupt()

    api.script(Reply("slowly, " * 30, chunk_chars=8, chunk_delay_s=0.2))
    stopped = (await hear(session, Turn("long", TALK), stop)).result
    assert stopped.failure is not None
    assert stopped.output
    await ask(session, "three")
    assert said(api) == ["one", "two", "three"]
    await session.close()


async def test_a_conversation_outlives_its_process(backend: ClaudeBackend, api: ScriptedAPI) -> None:
    """A new process takes the conversation up; its costs are per turn and exact; new context is seen."""
    session = backend.session("s1")
    await session.open(TALK)
    await ask(session, "one")
    second = await ask(session, "two")
    info = session.info
    await session.close()
    later = replace(TALK, resume_session_id=info.session_id, appended_prompt="New context.")
    again = backend.session("s2")
    await again.open(later)
    third = await ask(again, "three", later)
    assert said(api) == ["one", "two", "three"]
    assert "New context." in api.requests[-1].system
    assert third.session_id == info.session_id
    assert (third.cost_nano, third.cost_basis) == (second.cost_nano, CostBasis.EXACT)
    assert third.usage == second.usage
    await again.close()


async def test_a_killed_turn_is_left_out_when_resumed(backend: ClaudeBackend, api: ScriptedAPI) -> None:
    """A process that dies in mid-turn leaves a resume point: the next one goes on from the last good answer."""
    session = backend.session("s1")
    await session.open(TALK)
    await ask(session, "one")
    api.script(Reply(hang=True))
    running = asyncio.ensure_future(ask(session, "lost"))
    await asyncio.to_thread(api.wait_for, 2)
    info = session.info
    assert info.pid is not None
    os.kill(info.pid, signal.SIGKILL)
    assert (await running).failure is not None
    info = session.info
    await session.close()
    assert info.resume_point is not None
    later = replace(TALK, resume_session_id=info.session_id, resume_at=info.resume_point)
    again = backend.session("s2")
    await again.open(later)
    result = await ask(again, "two", later)
    assert result.failure is None
    assert said(api) == ["one", "two"]
    await again.close()


async def test_a_persistent_slot_goes_on(backend: ClaudeBackend, api: ScriptedAPI) -> None:
    """In a persistent slot tasks see the ones before, without a transcript on disk, and a failed one is taken out."""
    options = replace(OPTIONS, slot_mode=SlotMode.PERSISTENT)
    session = backend.session("s1")
    await session.open(options)
    first = await ask(session, "one", options)
    second = await ask(session, "two", options)
    assert second.cost_nano == first.cost_nano
    api.fail(status=529)
    assert (await ask(session, "bad", options)).failure is not None
    await ask(session, "three", options)
    assert said(api) == ["one", "two", "three"]
    await session.close()
