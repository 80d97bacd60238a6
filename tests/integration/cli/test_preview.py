"""Previews before the real CLI: what it bills is inside what was foretold, and nothing is sent to foretell it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from claude_pool_nb.testing import Reply, ScriptedAPI
from claude_pool_nb.testing.replies import Request
from tests.integration.cli.conftest import MakePool

TASKS = 30
"""Of each run: as many as take a second or two."""


def tenfold(seed: int) -> Callable[[Request], Reply]:
    """Answers that vary tenfold in length."""
    rng = random.Random(seed)

    def answer(_request: Request) -> Reply:
        written = int(100 * 10 ** rng.random())
        return Reply("word " * (written // 8), output_tokens=written)

    return answer


def prompts() -> list[str]:
    """Of one make."""
    return [f"Write about the number {at}, at the length it deserves" for at in range(TASKS)]


def test_the_bill_is_inside_after_one_run(api: ScriptedAPI, make_pool: MakePool) -> None:
    """Ten runs of answers that vary tenfold after one run of history: at least nine bills are inside the interval."""
    api.reply(tenfold(1))
    pool = make_pool(slots=4, budget_usd=50)
    before = pool.preview(prompts())
    assert api.requests == []
    assert pool.runs().empty
    assert pool.fan_out(prompts()).counts() == {"completed": TASKS}
    inside = 0
    widths = []
    for _ in range(10):
        sent, billed = len(api.requests), api.billed_usd
        seen = pool.preview(prompts())
        assert len(api.requests) == sent
        assert seen.low_usd is not None
        assert seen.high_usd is not None
        run = pool.fan_out(prompts())
        assert run.cost_usd == pytest.approx(api.billed_usd - billed)
        inside += seen.low_usd <= run.cost_usd <= seen.high_usd
        widths.append(seen.high_usd / seen.low_usd)
    assert inside >= 9
    assert widths[-1] < widths[0]
    many = pool.preview(prompts() * 7)  # two hundred tasks and a few
    assert many.high_usd is not None
    assert many.low_usd is not None
    assert many.high_usd <= 2 * many.low_usd
    assert before.low_usd is not None
    assert before.low_usd < pool.get_run("r1").cost_usd


def as_large_as_it_is(request: Request) -> Reply:
    """An answer that is billed for what the request holds."""
    return Reply(json={"n": 1}, input_tokens=request.size // 4, output_tokens=30)


def test_a_first_bill_is_inside_the_list_price(api: ScriptedAPI, make_pool: MakePool) -> None:
    """Without history the interval holds it too, whatever makes the requests larger."""
    api.reply(as_large_as_it_is)
    pool = make_pool(slots=1, budget_usd=50)
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    several: list[dict[str, Any]] = [
        {"max_output_tokens": 50},
        {"schema": schema},
        {"system_prompt": "word " * 2_000},
        {"tools": ["Read", "Grep"]},
    ]
    for overrides in several:
        seen = pool.preview(["count the cats " * 200] * 2, **overrides)
        assert list(seen.estimate["price_source"]) == ["list"]
        run = pool.fan_out(["count the cats " * 200] * 2, **overrides)
        assert run.counts() == {"completed": 2}
        assert seen.low_usd is not None
        assert seen.high_usd is not None
        assert seen.low_usd <= run.cost_usd <= seen.high_usd, overrides
