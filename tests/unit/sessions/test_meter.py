"""What a turn cost, by the totals that the CLI keeps for its session."""

from __future__ import annotations

from typing import Any

import pytest

from claude_pool_nb.records import CostBasis, Usage
from claude_pool_nb.sessions.meter import Meter

STREAMED = (Usage(output_tokens=7), 700)


def totals(dollars: float, tokens: int, **entry: Any) -> dict[str, Any]:
    """A result message of the CLI, or the part of it that is about money."""
    return {"total_cost_usd": dollars, "modelUsage": {"m": {"inputTokens": tokens, **entry}}}


def test_what_is_not_known_from_before_is_estimated_once() -> None:
    """The first turn of a resumed session costs what was streamed of it; the next ones what the totals grew by."""
    meter = Meter()
    meter.forget()
    meter.go_on({"total_cost_usd": 0.004})  # half an answer is none
    assert meter.read(totals(0.005, 50), STREAMED, cut=False) == (*STREAMED, CostBasis.ESTIMATED)
    assert meter.read(totals(0.006, 60), STREAMED, cut=False) == (Usage(10), 1_000_000, CostBasis.EXACT)


def test_a_resumed_session_goes_on_from_what_it_cost_before() -> None:
    """Where the CLI tells its totals, the first turn is exact too, and a reset begins at nothing."""
    meter = Meter()
    meter.forget()
    meter.go_on({"total_cost_usd": 0.004, "model_usage": {"m": {"inputTokens": 40}}})
    assert meter.read(totals(0.005, 50), STREAMED, cut=False) == (Usage(10), 1_000_000, CostBasis.EXACT)
    meter.begin()
    assert meter.read(totals(0.001, 10), STREAMED, cut=False) == (Usage(10), 1_000_000, CostBasis.EXACT)


@pytest.mark.parametrize(("entry", "cut"), [({"costBasis": "unknown"}, False), ({}, True)])
def test_a_growth_that_is_not_the_whole_truth_is_an_estimate(entry: dict[str, Any], cut: bool) -> None:
    """A model that the CLI prices by guess, or a stream that broke off: the amount is kept, and said to be about."""
    assert Meter().read(totals(0.001, 10, **entry), STREAMED, cut=cut) == (Usage(10), 1_000_000, CostBasis.ESTIMATED)
