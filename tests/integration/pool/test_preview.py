"""Previews of a pool: nothing is changed, history is found, and what may go wrong is said."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import func, select

from claude_pool_nb import AsyncPool, ConfigError, Pool
from claude_pool_nb.records import CostBasis, TurnResult, Usage
from claude_pool_nb.sessions.base import BackendInfo, Turn
from claude_pool_nb.store import schema
from claude_pool_nb.testing.scripted_session import ScriptedBackend

HAIKU = "claude-haiku-4-5"
"""$1 a million tokens in, $5 out."""
TOPICS = ["rust", "python", "the sea", "a cat", "winter", "Ada", "trains", "bread", "chess", "rain"]


def billed(rng: random.Random, low: int = 100) -> Callable[[Turn], TurnResult]:
    """Answers that vary tenfold in length, billed by list price."""

    def answer(turn: Turn) -> TurnResult:
        written = int(low * 10 ** rng.random())
        read = 620 + len(turn.prompt) // 4
        return TurnResult(
            output="word " * 3,
            cost_nano=read * 1_000 + written * 5_000,
            cost_basis=CostBasis.EXACT,
            usage=Usage(read, written),
            turns=1,
            model=HAIKU,
            duration_s=written / 100,
        )

    return answer


def scripted(seed: int = 0, low: int = 100) -> ScriptedBackend:
    """A backend that is billed like the real one."""
    return ScriptedBackend(billed(random.Random(seed), low), info=BackendInfo("claude"))


def poems(number: int, about: str = "Write a short poem about {} please, number {}") -> list[str]:
    """Prompts of one make."""
    return [about.format(TOPICS[at % len(TOPICS)], at) for at in range(number)]


def rows(pool: Pool) -> dict[str, int]:
    """How many rows each table of the ledger has."""
    with pool.ledger.reading() as connection:
        return {
            name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for name, table in schema.metadata.tables.items()
        }


def test_a_preview_changes_nothing(tmp_path: Path) -> None:
    """No row is written, no run number taken, nothing asked; also while the pool is paused."""
    backend = scripted()
    with Pool(slots=2, backend=backend, store=tmp_path / "ledger.db", model=HAIKU, budget_usd=5) as pool:
        run = pool.fan_out(poems(6))
        pool.pause("coffee")
        before, asked, budget = rows(pool), len(backend.asked), pool.budget
        preview = pool.preview(
            pd.DataFrame({"topic": TOPICS}), "Write about {{ topic }}", grid={"effort": ["low"]}, n=2
        )
        again = pool.preview(poems(10))
        assert rows(pool) == before
        assert len(backend.asked) == asked
        assert pool.budget == budget
        assert pool.last is not None
        assert pool.last.id == run.id
        assert (preview.tasks, again.tasks) == (20, 10)
        assert preview.prompts == ("Write about rust", "Write about python", "Write about the sea")
        assert "paused (coffee)" in preview.warnings[0]
        pool.unpause()
        assert pool.run("next").run_id == "r2"


def test_after_one_run_the_bill_is_foretold(tmp_path: Path) -> None:
    """Ten further runs of answers that vary tenfold: nine bills inside, and a factor of two at most at 200 tasks."""
    with Pool(slots=8, backend=scripted(3), store=tmp_path / "ledger.db", model=HAIKU) as pool:
        first = pool.preview(poems(200))
        assert list(first.estimate["price_source"]) == ["list"]
        pool.fan_out(poems(200))
        wide = pool.preview(poems(200))
        assert list(wide.estimate["price_source"]) == ["history"]
        assert list(wide.estimate["history_tasks"]) == [200]
        assert wide.high_usd is not None
        assert wide.low_usd is not None
        assert wide.high_usd <= 2 * wide.low_usd
        inside = 0
        for _ in range(10):
            run = pool.fan_out(poems(40))
            seen = run.preview
            assert seen.actual_usd == pytest.approx(run.cost_usd)
            assert seen.low_usd is not None
            assert seen.high_usd is not None
            inside += seen.low_usd <= run.cost_usd <= seen.high_usd
        assert inside >= 9


def test_what_a_run_was_thought_to_cost_knows_nothing_of_itself(tmp_path: Path) -> None:
    """The first run is foretold from list prices, also when it is looked at later and by another pool."""
    store = tmp_path / "ledger.db"
    with Pool(slots=2, backend=scripted(), store=store, model=HAIKU) as pool:
        run = pool.fan_out(poems(20), grid={"effort": ["low", "high"]})
        assert set(run.preview.estimate["price_source"]) == {"list"}
    with Pool(slots=2, backend=scripted(), store=store, model="claude-opus-4-5") as pool:
        seen = pool.get_run("r1").preview
        assert set(seen.estimate["model"]) == {HAIKU}
        assert list(seen.estimate["effort"]) == ["low", "high"]
        assert seen.budget_left_usd is None
        assert "came to" in repr(seen)
        assert "as estimated before it ran" in seen._repr_html_()


def test_other_prompts_are_worth_less_than_such_tasks(tmp_path: Path) -> None:
    """They make a wider interval, which says so; another model or backend is no history at all."""
    store = tmp_path / "ledger.db"
    with Pool(slots=4, backend=scripted(), store=store, model=HAIKU) as pool:
        pool.fan_out(poems(100))
        same = pool.preview(poems(100))
        other = pool.preview([f"Summarise chapter {at} of this long book" for at in range(100)])
        hard = pool.preview(poems(100), effort="high")
        sonnet = pool.preview(poems(100), model="sonnet")
        alias = pool.preview(poems(100), model="claude-haiku-4-5-20251001")
    widths = [high / low for p in (same, other, hard) if (high := p.high_usd) and (low := p.low_usd)]
    assert widths[0] < 2 < widths[1]
    assert widths[2] == pytest.approx(widths[1], rel=0.1)
    assert "other prompts" in repr(other)
    assert list(sonnet.estimate["price_source"]) == ["list"]
    assert alias.high_usd == same.high_usd
    with Pool(backend="demo", demo_latency_s=0, store=store, model=HAIKU) as pool:
        assert list(pool.preview(poems(100)).estimate["price_source"]) == ["list"]


def test_a_template_is_known_again(tmp_path: Path) -> None:
    """Texts that share no word are of one kind when one template made them, one system prompt stands before them, or
    they are many and of one length.
    """
    texts = [" ".join(chr(97 + (at * 7 + k) % 26) * 5 for k in range(4)) for at in range(40)]
    with Pool(slots=4, backend=scripted(), store=tmp_path / "ledger.db", model=HAIKU) as pool:
        pool.map(texts, "{{ value }}")
        pool.fan_out(texts, system_prompt="Translate.")
        assert "such task" in repr(pool.preview(texts[::-1], "{{ value }}"))
        assert "such task" in repr(pool.preview([text[::-1] for text in texts], system_prompt="Translate."))
        assert "such task" in repr(pool.preview([text[::-1] for text in texts]))
        assert "other prompts" in repr(pool.preview([text * 3 for text in texts]))
        assert "other prompts" in repr(pool.preview(["zzz yyy", "xxx www"]))


def test_failures_that_cost_nothing_are_no_history(tmp_path: Path) -> None:
    """Neither tasks that a budget refused, nor those that were never asked."""
    with Pool(slots=2, backend=scripted(), store=tmp_path / "ledger.db", model=HAIKU, budget_usd=0.05) as pool:
        run = pool.fan_out(poems(60))
        done = run.counts()["completed"]
        assert 0 < done < 60
        pool.set_budget(None)
        assert list(pool.preview(poems(10)).estimate["history_tasks"]) == [done]


# -- what is said ------------------------------------------------------------------------------------------------------


def demo(**options: Any) -> Pool:
    """A demo pool."""
    return Pool(backend="demo", demo_latency_s=0, store=":memory:", **options)


def test_an_unknown_price_is_said_and_is_never_zero() -> None:
    """One unknown model makes the whole sum unknown; the known part is shown."""
    with Pool(slots=1, backend=scripted(), store=":memory:", model=HAIKU) as pool:
        seen = pool.preview(["a poem"] * 3, grid={"model": [HAIKU, "claude-nobody-knows-9"]}, max_output_tokens=50)
        assert (seen.low_usd, seen.high_usd, seen.left_after_usd) == (None, None, None)
        assert list(seen.estimate["price_source"]) == ["list", "unknown"]
        assert seen.estimate["low_usd"].isna().tolist() == [False, True]
        assert "claude-nobody-knows-9" in seen.warnings[0]
        for text in (repr(seen), seen._repr_html_()):
            assert "unknown" in text
            assert "$0.00 " not in text.replace("<span>$</span>", "$").replace("<", " ")


def test_the_end_of_the_budget_is_foretold() -> None:
    """Before it ends in the middle of a run, with about how many tasks it will pay for."""
    with demo(budget_usd=0.001) as pool:
        pool.fan_out(poems(10))
        left = pool.budget.left_nano
        assert left is not None
        seen = pool.preview(poems(500))
        assert seen.budget_left_usd == pytest.approx(left / 1e9)
        assert seen.left_after_usd == (0.0, 0.0)
        assert "the budget ends after about" in "".join(seen.warnings)
        assert "of 500 tasks" in "".join(seen.warnings)
        assert seen.play_money
        assert "play money" in repr(seen)


def test_a_prompt_that_no_model_can_read_is_named() -> None:
    """The first of them, and how many."""
    with demo() as pool:
        seen = pool.preview(["short", "word " * 200_000, "word " * 300_000])
        assert "2 prompts are longer" in "".join(seen.warnings)
        assert "prompt 1 has about 250,000" in "".join(seen.warnings)
        assert len(repr(seen)) < 3_000
        assert len(seen._repr_html_()) < 12_000


def test_slots_of_their_own_model_count_as_dear_as_they_are() -> None:
    """A task may land in any of them."""
    with demo(slots=2) as pool:
        plain = pool.preview(["a poem"], max_output_tokens=100)
        pool.configure_slot("s2", model="sonnet")
        seen = pool.preview(["a poem"], max_output_tokens=100)
        assert seen.low_usd == plain.low_usd
        assert seen.high_usd is not None
        assert plain.high_usd is not None
        assert seen.high_usd > 5 * plain.high_usd
        assert list(seen.estimate["model"]) == ["demo-small or demo-large"]
        with pytest.raises(ConfigError, match="no slot has the role"):
            pool.preview(["a poem"], role="judge")


def test_bad_input_is_refused_as_map_refuses_it() -> None:
    """The same errors, and nothing begun."""
    with demo() as pool:
        for call, said in (
            (lambda: pool.preview([]), "no prompts"),
            (lambda: pool.preview(["a"], modle="haiku"), "did you mean 'model'"),
            (lambda: pool.preview([{"text": "a"}], "{{ txt }}"), "did you mean 'text'"),
            (lambda: pool.preview(["a"], tools=["Read"], permission_mode="bypassPermissions"), "bypassPermissions"),
        ):
            with pytest.raises(ConfigError, match=said):
                call()
        assert pool.runs().empty


def test_secrets_and_dollars_in_prompts() -> None:
    """What is secret is not shown, what is a dollar sign is no formula, what is HTML is text."""
    with demo() as pool:
        key = "sk-ant-" + "api03-" + "a1B2" * 12
        seen = pool.preview([f"my key is {key}", "$x$ <b>bold</b>"])
        assert key not in repr(seen) + seen._repr_html_() + "".join(seen.prompts)
        assert "<b>bold" not in seen._repr_html_()
        assert "$x$" not in seen._repr_html_()


def test_what_the_cache_answers_is_free() -> None:
    """With `cache` the tasks whose request was answered before cost nothing, and the preview says how many they are."""
    with demo() as pool:
        pool.fan_out(poems(6), cache=True)
        seen = pool.preview(poems(8), cache=True)
        assert (seen.tasks, seen.cached) == (8, 6)
        assert "6 of 8 tasks answered from the ledger" in repr(seen)
        whole = pool.preview(poems(8))
        assert whole.cached == 0
        assert whole.high_usd is not None
        assert seen.high_usd is not None
        assert seen.high_usd < whole.high_usd
        again = pool.preview(poems(6), cache=True)
        assert (again.cached, again.low_usd, again.high_usd) == (6, 0.0, 0.0)
        run = pool.fan_out(poems(8), cache=True)
        assert run.preview.cached == 6
        assert run.frame["cached"].sum() == 6


async def _async_preview() -> None:
    async with AsyncPool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
        assert pool.preview(["good", "bad"], "Is this good? {{ value }}", n=2).tasks == 4


def test_the_awaitable_pool_has_it_too() -> None:
    """As a plain method: there is nothing to wait for."""
    import asyncio

    asyncio.run(_async_preview())


def test_ten_thousand_rows() -> None:
    """They are previewed in a moment, and the display stays small."""
    frame = pd.DataFrame({"text": [f"review {at} " + "very " * (at % 60) for at in range(10_000)]})
    with demo() as pool:
        seen = pool.preview(frame, "Classify: {{ text }}")
    assert seen.tasks == 10_000
    assert len(seen._repr_html_()) < 8_000
