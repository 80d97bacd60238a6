"""A clock that is set while tasks wait."""

from __future__ import annotations

import time

import pytest

from claude_pool_nb.records import Failure, FailureKind, TaskState
from claude_pool_nb.sessions.base import Turn
from claude_pool_nb.testing.scripted_session import ScriptedBackend
from tests.integration.pool.conftest import MakePool
from tests.waiting import wait_until


@pytest.mark.parametrize("kind", [FailureKind.TRANSPORT, FailureKind.LIMIT])
def test_a_clock_that_is_set_back_makes_nobody_wait(
    make_pool: MakePool, monkeypatch: pytest.MonkeyPatch, kind: FailureKind
) -> None:
    """A retry comes when its wait is over, also when the clock went back by an hour meanwhile."""
    real = time.time
    asked: list[str] = []

    def answer(turn: Turn) -> str | Failure:
        asked.append(turn.prompt)
        return "ok" if len(asked) > 1 else Failure(kind, "once", "Not now.", retry_after_s=1.0)

    pool = make_pool(ScriptedBackend(answer))
    task = pool.submit("a")
    wait_until(lambda: task.state is TaskState.WAITING)
    monkeypatch.setattr(time, "time", lambda: real() - 3600.0)
    assert task.result(timeout_s=10).attempts == 2
    assert len(pool.fan_out(["b", "c"]).frame) == 2
