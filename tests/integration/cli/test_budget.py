"""A budget of one cent on the real CLI."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from claude_pool_nb.errors import TaskFailed
from claude_pool_nb.testing import Reply, ScriptedAPI
from claude_pool_nb.testing.replies import Request
from tests.integration.cli.conftest import MakePool, booked_nano

ROOT = Path(__file__).parents[3]
CHILD = """
import sys
from claude_pool_nb.pool import Pool
with Pool(2, store=sys.argv[1], model="claude-haiku-4-5", budget_name="course", budget_usd=0.01) as pool:
    run = pool.fan_out(["a", "b"], max_budget_usd=0.0011)
    print(run.counts(), pool.budget.spent_nano)
"""


@pytest.mark.parametrize("history", [False, True], ids=["capped", "with history"])
def test_nine_of_a_hundred(api: ScriptedAPI, make_pool: MakePool, history: bool, tmp_path: Path) -> None:
    """100 tasks of $0.0011 on 8 slots: 9 complete, the booked sum is at most $0.01; a new process runs none."""
    pool = make_pool(slots=8, budget_name="course", budget_usd=None if history else 0.01)
    overrides = {} if history else {"max_budget_usd": 0.0011}
    if history:
        pool.fan_out([f"learn {n}" for n in range(8)])
        pool.set_budget(0.01, fresh=True)
        api.clear()
    run = pool.fan_out([f"{n}" for n in range(100)], **overrides)
    assert run.counts() == {"completed": 9, "failed": 91}
    assert set(run.failed["error_type"]) == {"BudgetExhausted"}
    assert len(api.requests) == 9
    assert pool.budget.spent_nano == 9_900_000 == api.billed_nano
    pool.close()
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path / "ledger.db")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "{'failed': 2} 9900000\n", done.stderr
    assert len(api.requests) == 9


def varying(request: Request) -> Reply:
    """Costs from $0.0011 to $0.011."""
    factor = 1 + int(request.prompt) % 10
    return Reply("ok " * 20 * factor, input_tokens=1000 * factor, output_tokens=20 * factor)


def test_tenfold_varying_costs_without_a_cap(api: ScriptedAPI, make_pool: MakePool) -> None:
    """Over by at most the calls in flight."""
    api.reply(varying)
    pool = make_pool(slots=4, budget_usd=0.02)
    run = pool.fan_out([f"{n}" for n in range(60)])
    assert run.counts().get("failed", 0) > 40
    assert pool.budget.spent_nano <= 20_000_000 + 4 * 11_000_000
    assert booked_nano(pool) == pool.budget.spent_nano
    assert pool.budget.spent_nano <= api.billed_nano


def test_strict_budget_is_exceeded_by_nothing(api: ScriptedAPI, make_pool: MakePool) -> None:
    """strict_budget=True reserves the worst case of each call."""
    api.reply(lambda request: Reply("ok", input_tokens=100 * (1 + int(request.prompt) % 10), output_tokens=200))
    pool = make_pool(slots=4, budget_usd=0.03, strict_budget=True, max_output_tokens=200)
    run = pool.fan_out([f"{n}" for n in range(40)])
    assert run.counts().get("completed", 0) >= 2
    assert pool.budget.spent_nano <= 30_000_000
    assert api.billed_nano <= 30_000_000


def test_a_task_that_outgrows_its_cap_is_stopped_in_mid_stream(api: ScriptedAPI, make_pool: MakePool) -> None:
    """A long answer over its max_budget_usd is interrupted and keeps what it had."""
    api.reply(Reply("word " * 400, output_tokens=4000, chunk_chars=20, chunk_delay_s=0.03))
    pool = make_pool(slots=1)
    with pytest.raises(TaskFailed, match="max_budget_usd") as caught:
        pool.run("x", max_budget_usd=0.002)
    assert caught.value.result is not None
    assert caught.value.result.output.startswith("word word")
    assert caught.value.result.cost_usd < 0.01
    api.reply("next")
    assert pool.run("y").output == "next"
