"""The budget is a wall: for one pool, for two that share it, and after a restart."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from claude_pool_nb.config import SlotConfig
from claude_pool_nb.errors import TaskFailed
from claude_pool_nb.pool import Pool
from claude_pool_nb.pricing import worst_case_nano
from claude_pool_nb.records import FailureKind, TurnResult
from claude_pool_nb.sessions.base import Turn
from claude_pool_nb.testing.scripted_session import ScriptedBackend
from tests.integration.pool.conftest import MakePool

CENT = 10_000_000


def booked(pool: Pool) -> int:
    """What all attempts in the ledger cost, in nanodollars."""
    return round(float(pool.attempts()["cost_usd"].sum()) * 1e9)


def test_nine_of_a_hundred_fit_a_cent(make_pool: MakePool) -> None:
    """$0.01 and tasks capped at $0.0011 on 8 slots: 9 complete, the rest fail by name, and no more is booked."""
    backend = ScriptedBackend(cost_nano=1_100_000)
    pool = make_pool(backend, slots=8, budget_usd=0.01)
    run = pool.fan_out([f"{n}" for n in range(100)], max_budget_usd=0.0011)
    assert run.counts() == {"completed": 9, "failed": 91}
    assert set(run.failed["error_type"]) == {"BudgetExhausted"}
    assert set(run.failed["failure_kind"]) == {"budget"}
    assert len(backend.asked) == 9
    assert booked(pool) == pool.budget.spent_nano == 9_900_000
    assert pool.budget.reserved_nano == 0


def test_with_history_instead_of_caps(make_pool: MakePool) -> None:
    """The same holds without caps, once something is known of what tasks cost."""
    pool = make_pool(ScriptedBackend(cost_nano=1_100_000), slots=8)
    pool.fan_out(["a"] * 8)
    pool.set_budget(0.01, fresh=True)
    run = pool.fan_out([f"{n}" for n in range(100)])
    assert run.counts() == {"completed": 9, "failed": 91}
    assert pool.budget.spent_nano == 9_900_000


def test_raising_the_budget_and_retry_goes_on(make_pool: MakePool) -> None:
    """What failed for want of money is run by retry, with the same ids and rows."""
    pool = make_pool(ScriptedBackend(cost_nano=1_100_000), slots=4, budget_usd=0.01)
    run = pool.fan_out([f"{n}" for n in range(20)], max_budget_usd=0.0011)
    ids = list(run.frame["task_id"])
    pool.set_budget(1)
    assert run.retry().id == run.id
    assert run.counts() == {"completed": 20}
    assert list(run.frame["task_id"]) == ids
    assert set(run.frame["attempts"]) == {1}
    assert pool.budget.spent_nano == 22_000_000
    assert run.cost_usd == pytest.approx(0.022)


def varying(turn: Turn) -> TurnResult:
    """Costs from 0.1 to 1 cent, by the number in the prompt."""
    return TurnResult(output=turn.prompt, cost_nano=(1 + int(turn.prompt) % 10) * CENT // 10, model="scripted", turns=1)


def test_unknown_costs_go_over_by_at_most_the_calls_in_flight(make_pool: MakePool) -> None:
    """Costs that vary tenfold, with no cap: over by at most the calls in flight."""
    backend = ScriptedBackend(varying)
    pool = make_pool(backend, slots=4, budget_usd=0.05)
    run = pool.fan_out([f"{n}" for n in range(100)])
    assert pool.budget.spent_nano <= 5 * CENT + 4 * CENT
    assert run.counts().get("completed", 0) >= 4
    assert booked(pool) == pool.budget.spent_nano


def test_what_runs_is_stopped_when_it_outgrows_the_budget(make_pool: MakePool) -> None:
    """A running task that costs more than is left is interrupted and keeps what it had."""
    pool = make_pool(ScriptedBackend(delay_s=5, spending_nano=3 * CENT, cost_nano=6 * CENT), slots=1, budget_usd=0.025)
    with pytest.raises(TaskFailed) as caught:
        pool.run("x")
    result = caught.value.result
    assert result is not None
    assert result.failure is not None
    assert result.failure.kind is FailureKind.BUDGET
    assert result.output == "par"
    assert result.cost_usd == pytest.approx(0.03)


def test_a_cap_of_its_own_stops_a_task(make_pool: MakePool) -> None:
    """max_budget_usd holds for one task over all its attempts and is named in the failure."""
    pool = make_pool(ScriptedBackend(delay_s=5, spending_nano=3 * CENT), slots=1)
    with pytest.raises(TaskFailed, match="max_budget_usd") as caught:
        pool.run("x", max_budget_usd=0.02)
    assert caught.value.result is not None
    assert caught.value.result.failure is not None
    assert caught.value.result.failure.error_type == "TaskBudgetExhausted"


def test_the_same_budget_after_a_restart_is_still_used_up(tmp_path: Path) -> None:
    """A pool of the same budget name runs none after the first has used it up; a fresh one does."""
    store = tmp_path / "ledger.db"

    def pool(**options: object) -> Pool:
        backend = ScriptedBackend(cost_nano=1_100_000)
        return Pool(backend=backend, store=store, budget_name="course", **options)  # type: ignore[arg-type]

    with pool(budget_usd=0.01) as first:
        first.fan_out([f"{n}" for n in range(30)], max_budget_usd=0.0011)
    with pool(budget_usd=0.01) as second:
        assert second.budget.spent_nano == 9_900_000
        run = second.fan_out(["a", "b"], max_budget_usd=0.0011)
        assert run.counts() == {"failed": 2}
    with pool(budget_usd=0.01, fresh_budget=True) as third:
        assert third.fan_out(["a", "b"], max_budget_usd=0.0011).counts() == {"completed": 2}
        assert third.budget.spent_nano == 2_200_000


def test_two_pools_share_one_wall(tmp_path: Path) -> None:
    """Two pools that name one budget cannot spend it twice, and neither waits for ever."""
    store = tmp_path / "ledger.db"
    pools = [
        Pool(
            4,
            backend=ScriptedBackend(cost_nano=1_100_000, delay_s=0.005),
            store=store,
            budget_name="shared",
            budget_usd=0.05,
        )
        for _ in range(2)
    ]
    runs = [pool.fan_out([f"{n}" for n in range(60)], max_budget_usd=0.0011, wait=False) for pool in pools]
    threads = [threading.Thread(target=run.wait, args=(30,)) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    completed = sum(run.counts().get("completed", 0) for run in runs)
    assert completed == 45
    assert sum(run.counts().get("failed", 0) for run in runs) == 75
    for pool in pools:
        pool.close()
    with Pool(backend=ScriptedBackend(), store=store, budget_name="shared") as last:
        assert last.budget.spent_nano == 45 * 1_100_000
        assert last.budget.reserved_nano == 0
        assert booked(last) == last.budget.spent_nano


def test_an_idle_pool_sees_the_wall_that_another_one_moved(tmp_path: Path) -> None:
    """A budget that is shared and was raised by another pool pays for the next task, whatever was known of it here."""
    options: dict[str, Any] = {"store": tmp_path / "l.db", "budget_name": "shared", "slots": 1}
    with (
        Pool(backend=ScriptedBackend(), budget_usd=0.000001, **options) as mine,
        Pool(backend=ScriptedBackend(), **options) as other,
    ):
        with pytest.raises(TaskFailed, match="No room"):
            mine.run("x", max_budget_usd=0.5)
        other.set_budget(1)
        assert mine.run("x", max_budget_usd=0.5).output == "x"
        assert mine.last is not None
        other.set_budget(0)
        with pytest.raises(TaskFailed, match="No room"):
            mine.run("x", max_budget_usd=0.5)
        other.set_budget(1)
        assert mine.last.retry().counts() == {"completed": 1}


def test_strict_budget_is_not_exceeded(make_pool: MakePool) -> None:
    """strict_budget reserves the worst case: nothing over the wall, whatever the tasks cost."""
    pool = make_pool(
        ScriptedBackend(varying).named("claude"),
        slots=4,
        budget_usd=0.05,
        strict_budget=True,
        model="claude-haiku-4-5",
        max_output_tokens=700,
    )
    run = pool.fan_out([f"{n}" for n in range(60)])
    assert pool.budget.spent_nano <= 5 * CENT
    assert run.counts().get("completed", 0) > 0


def test_a_warning_at_four_fifths(make_pool: MakePool) -> None:
    """At 80 % of the budget there is one warning."""
    pool = make_pool(ScriptedBackend(cost_nano=CENT), slots=1, budget_usd=0.1)
    pool.fan_out([f"{n}" for n in range(9)], max_budget_usd=0.01)
    assert len([text for text in pool.warnings if "budget" in text]) == 1


def test_a_strict_budget_reserves_what_the_dearest_slot_may_cost() -> None:
    """A slot with a dearer model of its own may get the task: that worst case is what has to fit."""
    with Pool(slots=2, backend="demo", demo_latency_s=0, store=":memory:", model="demo-small") as plain:
        small = plain.resolved_config()
    worst = worst_case_nano(replace(small, max_output_tokens=4_096), "hello", backend="demo")
    assert worst is not None
    options = {"store": ":memory:", "model": "demo-small", "strict_budget": True, "budget_usd": 2 * worst / 1e9}
    with Pool(slots=2, backend="demo", demo_latency_s=0, **options) as pool:
        assert pool.run("hello").cost_usd > 0
    large = SlotConfig(model="demo-large", role="heavy")
    with Pool(slots=2, backend="demo", demo_latency_s=0, slot_configs=[large], **options) as pool:
        for role in (None, "heavy"):
            with pytest.raises(TaskFailed) as caught:
                pool.run("hello", role=role)
            assert caught.value.result is not None
            assert caught.value.result.failure is not None
            assert caught.value.result.failure.error_type == "BudgetExhausted"
        assert pool.budget.spent_nano == 0
