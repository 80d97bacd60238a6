"""The interval of a bill: how often it holds, how wide it is, and what it is worth without history."""

from __future__ import annotations

import math
import random
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_pool_nb.analysis.estimates import (
    Estimate,
    Fit,
    Range,
    Seen,
    from_history,
    from_list_price,
    on_slots,
    together,
)
from claude_pool_nb.config import PoolConfig, TaskOverrides, resolve
from claude_pool_nb.resolved import ResolvedConfig

HAIKU = ResolvedConfig(model="claude-haiku-4-5")
"""$1 a million tokens in, $5 out."""


def tenfold(rng: random.Random, tasks: int, *, prompt: int = 10) -> list[Seen]:
    """Tasks whose answers vary tenfold in length, billed by list price."""
    made = []
    for _ in range(tasks):
        written = int(100 * 10 ** rng.random())
        made.append(Seen(prompt, (620 + prompt) * 1_000 + written * 5_000, 620 + prompt, written, written / 100))
    return made


def bill(tasks: list[Seen]) -> int:
    """What they cost together."""
    return sum(task.cost_nano for task in tasks)


@pytest.mark.parametrize("history", [10, 50, 200])
@pytest.mark.parametrize("tasks", [1, 40, 200])
def test_the_interval_holds_the_bill_of_nine_in_ten_runs(history: int, tasks: int) -> None:
    """After one run of history, ten runs of answers that vary tenfold: nearly always nine bills are inside."""
    kept = inside = 0
    for seed in range(100):
        rng = random.Random(seed)
        cost = from_history(tenfold(rng, history), HAIKU, tasks, 10 * tasks, backend="claude").cost_nano
        assert cost is not None
        hits = sum(cost.low <= bill(tenfold(rng, tasks)) <= cost.high for _ in range(10))
        inside += hits
        kept += hits >= 9
    assert kept >= 93
    assert inside >= 970


@pytest.mark.parametrize("history", [50, 200])
def test_the_interval_is_narrow_for_many_tasks(history: int) -> None:
    """At most a factor of two wide at 200 tasks, and narrower the more there are."""
    for seed in range(50):
        seen = tenfold(random.Random(seed), history)
        widths = []
        for tasks in (1, 20, 200, 2_000):
            cost = from_history(seen, HAIKU, tasks, 10 * tasks, backend="claude").cost_nano
            assert cost is not None
            widths.append(cost.high / cost.low)
        assert widths == sorted(widths, reverse=True)
        assert widths[2] <= 2.0


def test_long_prompts_are_no_dearer_than_they_are() -> None:
    """What a token of the prompt costs is taken from the price, or from what was seen: other lengths are foretold."""
    rng = random.Random(7)
    short = [one for _ in range(100) for one in tenfold(rng, 1, prompt=rng.randint(10, 60))]
    longer = [one for _ in range(100) for one in tenfold(rng, 1, prompt=rng.randint(2_000, 3_000))]
    tokens = sum(round(one.prompt_tokens) for one in longer)
    cost = from_history(short, HAIKU, 100, tokens, backend="claude").cost_nano
    assert cost is not None
    assert cost.low <= bill(longer) <= cost.high
    translated = [Seen(x, x * 6_000, x, x, 1.0) for x in range(10, 110)]  # as long an answer as the prompt
    twice = from_history(translated, HAIKU, 100, 100 * 100, backend="claude")
    assert twice.cost_nano is not None
    assert twice.cost_nano.low <= 100 * 100 * 6_000 <= twice.cost_nano.high
    assert twice.output_tokens.low <= 100 * 100 <= twice.output_tokens.high


def test_two_equal_tasks_promise_no_third() -> None:
    """A spread that was not seen is believed in; many equal tasks make it small."""
    few = Fit.of([10.0] * 5, [1.0] * 5).sum_of(100, 10)
    many = Fit.of([10.0] * 500, [1.0] * 500).sum_of(100, 10)
    assert few.high / few.low > 1.5
    assert many.high / many.low < 1.05


@given(
    ys=st.lists(st.floats(0, 1e9), min_size=1, max_size=30),
    tasks=st.integers(1, 10_000),
    away=st.floats(0, 1e5),
)
def test_a_sum_is_never_negative_nor_turned_round(ys: list[float], tasks: int, away: float) -> None:
    """Whatever was seen and however far the new prompts are from it."""
    xs = [float(at % 7) for at in range(len(ys))]
    found = Fit.of(xs, ys, slope=3.0, slope_sd=max(fmean(ys), 1.0)).sum_of(tasks, away)
    assert 0 <= found.low <= found.high
    assert math.isfinite(found.high)


def test_caps_hold_whatever_was_seen() -> None:
    """No task costs more than its wall, and no answer is longer than it may be."""
    seen = tenfold(random.Random(1), 50)
    capped = resolve(
        PoolConfig(profile="prompt", model="claude-haiku-4-5"),
        task=TaskOverrides(max_budget_usd=0.001, max_output_tokens=50),
    )
    made = from_history(seen, capped, 200, 2_000, backend="claude")
    assert made.cost_nano == Range(200 * 1_000_000, 200 * 1_000_000)
    assert made.output_tokens.high <= 200 * 2 * 50
    dear = resolve(PoolConfig(model="opus"), task=TaskOverrides(max_budget_usd=0.001))
    assert from_list_price(dear, [10] * 4, backend="claude").cost_nano == Range(4_000_000, 4_000_000)


# -- list prices -------------------------------------------------------------------------------------------------------


def listed(tokens: list[int], **options: object) -> Range:
    """An estimate by list price."""
    found = from_list_price(resolve(PoolConfig(**{"profile": "prompt", **options})), tokens, backend="claude").cost_nano
    assert found is not None
    return found


def test_an_unknown_price_is_none_and_the_tokens_are_known() -> None:
    """Never zero."""
    made = from_list_price(ResolvedConfig(model="claude-nobody-knows-9"), [100, 200], backend="claude")
    assert made.cost_nano is None
    assert made.input_tokens > 300


def test_aliases_have_the_price_of_their_model() -> None:
    """Haiku is the model that the CLI takes for it."""
    assert listed([100], model="haiku") == listed([100], model="claude-haiku-5-5")


def test_a_long_request_is_in_the_dearer_tier() -> None:
    """Only the prompts beyond its limit: haiku 5.5 is five times as dear above 100,000 tokens."""
    one, many = listed([150_000], model="haiku"), listed([150_000, *[1_000] * 10], model="haiku")
    assert one.low > 4 * listed([75_000] * 2, model="haiku").low
    assert many.low == pytest.approx(one.low + listed([1_000] * 10, model="haiku").low)


def test_the_low_end_reads_the_cache_and_the_high_end_writes_it() -> None:
    """A long prefix costs a tenth or a quarter more, in the agent profile; tools make several requests."""
    agent = listed([10] * 20, profile="agent", model="claude-haiku-4-5")
    assert agent.low < 20 * 22_000 * 1_000
    assert agent.high > 20 * 22_000 * 1_250
    bounded = listed([10] * 20, profile="agent", model="claude-haiku-4-5", max_turns=2)
    assert bounded.high < agent.high


# -- sums and time -----------------------------------------------------------------------------------------------------


def test_independent_parts_are_not_all_dear_at_once() -> None:
    """The sum's interval lies inside the sum of the intervals, around the same middle."""
    parts = [Range(80.0, 125.0)] * 9
    found = together(parts)
    assert 9 * 80 < found.low < 900 < found.high < 9 * 125
    assert together(parts[:1]).low == pytest.approx(80.0)


def test_time_on_slots() -> None:
    """No slots, no time; few tasks on many slots take as long as the longest."""
    one = Estimate(2, None, 0.0, Range(0, 0), Range(10.0, 20.0), 12.0)
    assert on_slots([one], 0) is None
    assert on_slots([one], 8) == Range(5.0, 12.0)
    assert on_slots([one] * 4, 1) == Range(40.0, 92.0)
