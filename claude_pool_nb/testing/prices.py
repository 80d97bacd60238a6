"""List prices the scripted API bills by, in nanodollars per token.

Kept apart from the package's own pricing on purpose: what a test is billed must not come from the code under test.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .replies import Usage


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """What one model costs, in nanodollars per token (1,000 is one dollar per million tokens).

    Example:
        >>> ModelPrice.per_million(1, 5).cost_nano(Usage(input_tokens=1000, output_tokens=20))
        1100000
    """

    input_nano: int
    output_nano: int
    cache_read_nano: int
    cache_write_nano: int
    cache_write_1h_nano: int

    @classmethod
    def per_million(cls, input_usd: float, output_usd: float) -> ModelPrice:
        """Return the price for dollars per million tokens; cache reads 0.1, writes 1.25 (one hour: 2) times input.

        Example:
            >>> ModelPrice.per_million(3, 15).cache_write_nano
            3750
        """
        base = round(input_usd * 1000)
        return cls(
            input_nano=base,
            output_nano=round(output_usd * 1000),
            cache_read_nano=round(base / 10),
            cache_write_nano=round(base * 1.25),
            cache_write_1h_nano=base * 2,
        )

    def cost_nano(self, usage: Usage) -> int:
        """Return what a usage costs in nanodollars.

        Example:
            >>> ModelPrice.per_million(5, 25).cost_nano(Usage(cache_read_tokens=2))
            1000
        """
        written_5m = usage.cache_write_tokens - usage.cache_write_1h_tokens
        return (
            usage.input_tokens * self.input_nano
            + usage.output_tokens * self.output_nano
            + usage.cache_read_tokens * self.cache_read_nano
            + written_5m * self.cache_write_nano
            + usage.cache_write_1h_tokens * self.cache_write_1h_nano
        )


LIST_PRICES: Mapping[str, ModelPrice] = {
    "claude-haiku-4-5": ModelPrice.per_million(1, 5),
    "claude-haiku-5-5": ModelPrice.per_million(1, 5),
    "claude-sonnet": ModelPrice.per_million(3, 15),
    "claude-opus": ModelPrice.per_million(5, 25),
}
"""Prices by the beginning of a model's id; the longest that fits counts."""

UNKNOWN_MODEL_PRICE = ModelPrice.per_million(5, 25)
"""What a model without a list price is billed."""


def price_of(model: str, prices: Mapping[str, ModelPrice] = LIST_PRICES) -> ModelPrice:
    """Return the price of a model id, dated ids included.

    Example:
        >>> price_of("claude-haiku-4-5-20251001") == price_of("claude-haiku-4-5")
        True
    """
    fitting = [name for name in prices if model.startswith(name)]
    return prices[max(fitting, key=len)] if fitting else UNKNOWN_MODEL_PRICE
