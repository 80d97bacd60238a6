"""Before much is spent, real money asks for a yes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from claude_pool_nb import (
    Pool,
    SpendGate,
)
from claude_pool_nb.analysis.design import Design
from claude_pool_nb.analysis.estimates import Range
from claude_pool_nb.analysis.preview import Preview
from tests.notebook.conftest import Runner


@pytest.fixture
def real_money(demo: Runner, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """A demo pool that is taken for one with real money, at a dollar a task."""
    monkeypatch.setattr(Pool, "backend", "claude")
    _tasks_cost(monkeypatch, 1_000_000_000)
    return demo


def _tasks_cost(monkeypatch: pytest.MonkeyPatch, nano: int) -> None:
    """Every preview says that a task costs half to all of that."""
    seen = Pool.preview_design

    def dear(self: Pool, design: Design) -> Preview:
        return replace(seen(self, design), cost=Range(len(design) * nano / 2, len(design) * nano))

    monkeypatch.setattr(Pool, "preview_design", dear)


def test_many_tasks_ask_for_a_yes(real_money: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than 100 tasks are not sent unasked, however cheap."""
    _tasks_cost(monkeypatch, 1)
    asked = real_money("%pool fan_out ['x'] * 101")
    assert isinstance(asked.error, SpendGate)
    assert "--yes" in str(asked.error)
    assert real_money("%pool tasks").value.empty
    assert len(real_money("%pool fan_out ['x'] * 101 --yes").value) == 101
    assert len(real_money("%pool fan_out ['x'] * 100").value) == 100


def test_a_large_estimate_asks_for_a_yes(real_money: Runner) -> None:
    """An estimate above a tenth of what is left, and above a dollar, is not spent unasked."""
    real_money("%pool budget 100")
    assert real_money("%pool fan_out ['x'] * 9").error is None
    assert isinstance(real_money("%pool fan_out ['x'] * 11").error, SpendGate)
    real_money("%pool budget 2")
    assert real_money("%pool run x").error is None
    assert isinstance(real_money("%pool fan_out ['x'] * 2").error, SpendGate)
    real_money("%pool budget none")
    assert isinstance(real_money("%pool submit --vars x\n").error, SpendGate) is False
    assert isinstance(real_money("%pool fan_out ['x'] * 2").error, SpendGate)


def test_play_money_never_asks(demo: Runner) -> None:
    """The demo has no gate."""
    assert len(demo("%pool fan_out ['x'] * 150").value) == 150
