"""A slot's session between its tasks."""

from __future__ import annotations

import asyncio

import pytest

from claude_pool_nb.engine.slots import SlotRunner
from claude_pool_nb.resolved import ResolvedConfig
from claude_pool_nb.testing.scripted_session import ScriptedBackend
from tests.waiting import until


async def test_a_slot_falls_asleep_so_long_after_its_last_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that comes and goes meanwhile begins the idle time anew; only then is the process given back."""
    loop = asyncio.get_running_loop()
    clock, ahead_s = loop.time, 0.0
    monkeypatch.setattr(loop, "time", lambda: clock() + ahead_s)
    options = ResolvedConfig()
    runner = SlotRunner("s1", ScriptedBackend(), idle_close_s=900)
    await runner.open(options)
    ahead_s = 600
    await runner.make_ready(options)  # as after a task
    ahead_s = 1_000
    await asyncio.sleep(0.01)
    assert runner.session is not None
    ahead_s = 1_600
    await until(lambda: runner.session is None)
    await runner.close()
