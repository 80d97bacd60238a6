"""Sessions that do not open."""

from __future__ import annotations

import asyncio

from claude_pool_nb.config import ResolvedConfig
from claude_pool_nb.errors import SessionLost
from claude_pool_nb.records import TaskState
from claude_pool_nb.sessions.base import Session
from claude_pool_nb.testing.scripted_session import ScriptedBackend, ScriptedSession
from tests.integration.pool.conftest import MakePool
from tests.waiting import PROMPTLY_S, promptly, wait_until


class _Hanging(ScriptedSession):
    """Knows its options at once, as the claude session does, and hangs until it is closed where they say so."""

    def __init__(self, backend: ScriptedBackend, slot_id: str) -> None:
        super().__init__(backend, slot_id)
        self._ended = asyncio.Event()

    async def open(self, options: ResolvedConfig) -> None:
        await super().open(options)
        if options.system_prompt == "hang":
            await self._ended.wait()
            raise SessionLost

    async def close(self, *, kill: bool = False) -> None:
        self._ended.set()
        await super().close(kill=kill)


class _Backend(ScriptedBackend):
    """Makes such sessions."""

    def session(self, slot_id: str) -> Session:
        return _Hanging(self, slot_id)


def test_a_task_whose_session_hangs_while_it_opens_is_cancelled_soon(make_pool: MakePool) -> None:
    """The session is killed, not waited for, and the slot serves the next task."""
    backend = _Backend()
    pool = make_pool(backend, slots=1)
    assert pool.run("first").output == "first"
    task = pool.submit("never", system_prompt="hang")
    wait_until(lambda: backend.opened > 1)
    with promptly():
        task.cancel()
        pool.wait(task, timeout_s=PROMPTLY_S)
    assert task.state is TaskState.CANCELLED
    assert pool.run("next").output == "next"
