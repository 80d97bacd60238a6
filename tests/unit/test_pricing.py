"""List prices, estimates and upper bounds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_pool_nb.config import PoolConfig, TaskOverrides, resolve
from claude_pool_nb.pricing import (
    cost_nano,
    demo_model,
    estimate_task_nano,
    estimate_tokens,
    list_price,
    worst_case_nano,
)
from claude_pool_nb.records import Usage
from claude_pool_nb.testing.prices import price_of
from claude_pool_nb.testing.replies import Usage as BilledUsage

PROMPT = PoolConfig(profile="prompt", model="claude-haiku-4-5")


@pytest.mark.parametrize(
    ("model", "usage", "nano"),
    [
        ("claude-haiku-4-5", Usage(1000, 20), 1_100_000),
        ("claude-haiku-4-5-20251001", Usage(1000, 20), 1_100_000),
        ("anthropic.claude-haiku-4-5-20251001-v1:0", Usage(1000, 20), 1_100_000),
        ("haiku", Usage(1000, 20), 110_000),
        (None, Usage(1000, 20), 4_400_000),
        ("opus", Usage(1000, 20), 4_400_000),
        ("claude-haiku-4-5", Usage(0, 0, 1000, 1000), 100_000 + 1_250_000),
        ("haiku", Usage(0, 0, 200_000, 0), 200_000 * 50),
        ("demo-small", Usage(1000, 1000), 1_500_000),
    ],
)
def test_costs_are_list_prices(model: str | None, usage: Usage, nano: int) -> None:
    """Aliases, platform ids, cache prices and the tier of long requests, to the nanodollar."""
    assert cost_nano(model, usage) == nano


def test_an_unknown_price_is_none_and_never_nothing() -> None:
    """A model without a price has no cost, no estimate and no bound."""
    assert cost_nano("claude-of-tomorrow", Usage(1, 1)) is None
    options = resolve(PoolConfig(profile="prompt", model="claude-of-tomorrow", max_output_tokens=5))
    assert estimate_task_nano(options, "hi") is None
    assert worst_case_nano(options, "hi") is None


def test_the_demo_has_play_prices_for_every_name() -> None:
    """The same notebook runs on both: real names cost play money on the demo."""
    assert cost_nano("haiku", Usage(1000, 0), backend="demo") == 250_000
    assert demo_model("claude-haiku-4-5") == "demo-small"
    options = resolve(PoolConfig(profile="prompt", model="opus", max_output_tokens=10))
    estimate = estimate_task_nano(options, "hi", backend="demo")
    assert estimate == estimate_task_nano(
        resolve(PoolConfig(profile="prompt", model="demo-large", max_output_tokens=10)), "hi"
    )


def test_an_agent_task_is_estimated_far_above_a_prompt() -> None:
    """The request before the prompt is what most of it costs."""
    prompt = estimate_task_nano(resolve(PROMPT), "hi")
    agent = estimate_task_nano(resolve(PoolConfig(model="claude-haiku-4-5")), "hi")
    assert prompt is not None
    assert agent is not None
    assert agent > 4 * prompt


def test_the_worst_case_needs_a_bound() -> None:
    """Without max_output_tokens, or with tools and no max_turns, there is none."""
    assert worst_case_nano(resolve(PROMPT), "hi") is None
    tools = TaskOverrides(tools=["Read"], max_output_tokens=100)
    assert worst_case_nano(resolve(PROMPT, None, tools), "hi") is None
    bounded = worst_case_nano(
        resolve(PROMPT, None, TaskOverrides(tools=["Read"], max_output_tokens=100, max_turns=2)), "hi"
    )
    assert bounded is not None
    assert bounded >= 2 * 200_000 * 1_000


@given(st.text(max_size=300), st.integers(1, 5_000), st.booleans())
def test_the_worst_case_is_above_the_estimate(prompt: str, output: int, schema: bool) -> None:
    """Whatever the prompt, the bound holds two full answers and every byte of what is sent."""
    task = TaskOverrides(max_output_tokens=output, schema={"type": "object"} if schema else None)
    options = resolve(PROMPT, None, task)
    estimate, worst = estimate_task_nano(options, prompt), worst_case_nano(options, prompt)
    assert estimate is not None
    assert worst is not None
    assert worst >= 2 * estimate
    assert worst >= 2 * (len(prompt.encode()) * 1_000 + output * 5_000)


def test_a_conversation_may_send_all_that_fits() -> None:
    """The history of a conversation is not known here, so its worst case is a full context."""
    alone = worst_case_nano(resolve(PROMPT, None, TaskOverrides(max_output_tokens=9)), "hi")
    talking = worst_case_nano(resolve(PROMPT, None, TaskOverrides(max_output_tokens=9, conversation="c")), "hi")
    assert alone is not None
    assert talking is not None
    assert talking > 50 * alone


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [("word " * 100, 100, 150), ("日本語" * 50, 120, 250), ("é" * 100, 25, 100), ("\ud800", 1, 4)],
)
def test_tokens_are_about_right(text: str, least: int, most: int) -> None:
    """Four ASCII characters a token, other scripts about one a token, lone surrogates too."""
    assert least <= estimate_tokens(text) <= most


def test_prices_have_a_source() -> None:
    """A known price says under which id it is listed and how much a request holds."""
    price = list_price("sonnet")
    assert price is not None
    assert price.model == "claude-sonnet-5-5"
    assert price.context_tokens >= 200_000


@given(
    st.sampled_from(["claude-haiku-4-5", "claude-haiku-5-5", "claude-sonnet-5-5", "claude-opus-5-5"]),
    st.builds(Usage, st.integers(0, 300_000), st.integers(0, 50_000), st.integers(0, 300_000), st.integers(0, 300_000)),
)
def test_list_prices_are_those_the_cli_was_seen_to_bill(model: str, usage: Usage) -> None:
    """The scripted API's own table was held against the CLI's bills; both tables agree to the nanodollar."""
    billed = price_of(model).cost_nano(
        BilledUsage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cache_read_tokens,
            cache_write_tokens=usage.cache_write_tokens,
        )
    )
    assert cost_nano(model, usage) == billed
