"""The scripted API's price table."""

from __future__ import annotations

from claude_pool_nb.testing import ModelPrice, Usage
from claude_pool_nb.testing.prices import UNKNOWN_MODEL_PRICE, price_of


def test_longest_name_counts() -> None:
    """A dated id has the price of its model, a longer name wins over a shorter, and no name is left without price."""
    own = {"claude-a": ModelPrice.per_million(1, 1), "claude-a-2": ModelPrice.per_million(2, 2)}
    assert price_of("claude-a-2-20260101", own).input_nano == 2000
    assert price_of("claude-a-1", own).input_nano == 1000
    assert price_of("gpt", own) is UNKNOWN_MODEL_PRICE


def test_long_requests_cost_more_from_the_first_token() -> None:
    """Above the threshold, which counts cached input too, every token has the higher price."""
    price = price_of("claude-haiku-5-5")
    assert price.cost_nano(Usage(input_tokens=100_000, output_tokens=10)) == 100_000 * 100 + 10 * 500
    assert price.cost_nano(Usage(input_tokens=60_000, cache_read_tokens=40_001, output_tokens=10)) == 5 * (
        60_000 * 100 + 40_001 * 10 + 10 * 500
    )


def test_one_hour_writes_cost_twice_the_input() -> None:
    """The two kinds of cache writes are priced apart."""
    usage = Usage(cache_write_tokens=10, cache_write_1h_tokens=4)
    assert ModelPrice.per_million(1, 5).cost_nano(usage) == 6 * 1250 + 4 * 2000
