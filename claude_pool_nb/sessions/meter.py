"""What a session has cost so far, by the totals that its CLI keeps.

Invariant: a turn costs what the totals grew by. Where they are not known from before, or are not the whole of it, the
turn's cost is an estimate and says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from claude_pool_nb.records import CostBasis, Usage, nano
from claude_pool_nb.sessions.turn_reader import model_usage_of


class Meter:
    """The totals of one session, from one turn to the next.

    Example:
        >>> meter = Meter()
        >>> first = {"total_cost_usd": 0.001, "modelUsage": {"m": {"inputTokens": 10}}}
        >>> second = {"total_cost_usd": 0.003, "modelUsage": {"m": {"inputTokens": 15}}}
        >>> costs = [meter.read(raw, (Usage(), None), cut=False) for raw in (first, second)]
        >>> [(usage.input_tokens, cost, str(basis)) for usage, cost, basis in costs]
        [(10, 1000000, 'exact'), (5, 2000000, 'exact')]
    """

    def __init__(self) -> None:
        self._before: tuple[int, Usage] | None = (0, Usage())

    def begin(self) -> None:
        """A conversation begins: the totals begin at nothing."""
        self._before = (0, Usage())

    def forget(self) -> None:
        """The totals go on from an amount that is not known, as those of a resumed session do."""
        self._before = None

    def go_on(self, spent: Mapping[str, Any]) -> None:
        """The totals go on from what the CLI answered to `get_usage`, if that says it all."""
        if "total_cost_usd" in spent and "model_usage" in spent:
            self._before = (nano(float(spent["total_cost_usd"])), model_usage_of(spent["model_usage"]))

    def read(
        self, raw: Mapping[str, Any], so_far: tuple[Usage, int | None], *, cut: bool
    ) -> tuple[Usage, int | None, CostBasis]:
        """Tokens and nanodollars of the turn that a `result` message ends, and how they are known.

        Args:
            raw: The message.
            so_far: Tokens and price of the turn by what was streamed; the price is None where none is known.
            cut: True if a stream of the turn broke off: that was paid, but never counted by the API.
        """
        total_nano, total = nano(float(raw.get("total_cost_usd") or 0.0)), model_usage_of(raw.get("modelUsage"))
        before, self._before = self._before, (total_nano, total)
        if before is None:
            return *so_far, CostBasis.ESTIMATED
        # The CLI prices a model it does not know at a rate of its own.
        guessed = any(entry.get("costBasis") == "unknown" for entry in (raw.get("modelUsage") or {}).values())
        basis = CostBasis.ESTIMATED if guessed or cut else CostBasis.EXACT
        return _difference(total, before[1]), total_nano - before[0], basis


def _difference(now: Usage, before: Usage) -> Usage:
    """What was added to cumulative counts."""
    return Usage(
        now.input_tokens - before.input_tokens,
        now.output_tokens - before.output_tokens,
        now.cache_read_tokens - before.cache_read_tokens,
        now.cache_write_tokens - before.cache_write_tokens,
    )
