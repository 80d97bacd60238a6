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

    Attributes:
        input_nano: Uncached input.
        output_nano: Output.
        cache_read_nano: Input read from the prompt cache.
        cache_write_nano: Input written to it for five minutes.
        cache_write_1h_nano: Input written to it for an hour.
        long_after_tokens: A request with more input than this, cached or not, is long; ``None`` if none is.
        long_factor: What every token of a long request costs more.

    Example:
        >>> ModelPrice.per_million(1, 5).cost_nano(Usage(input_tokens=1000, output_tokens=20))
        1100000
    """

    input_nano: int
    output_nano: int
    cache_read_nano: int
    cache_write_nano: int
    cache_write_1h_nano: int
    long_after_tokens: int | None = None
    long_factor: int = 1

    @classmethod
    def per_million(
        cls,
        input_usd: float,
        output_usd: float,
        *,
        cache_read_share: float = 0.1,
        long_after_tokens: int | None = None,
        long_factor: int = 1,
    ) -> ModelPrice:
        """Return the price for dollars per million tokens; cache writes cost 1.25 (one hour: 2) times the input.

        Args:
            input_usd: Dollars per million uncached input tokens.
            output_usd: Dollars per million output tokens.
            cache_read_share: What a cache read costs, as a share of uncached input.
            long_after_tokens: See `ModelPrice`.
            long_factor: See `ModelPrice`.

        Example:
            >>> ModelPrice.per_million(3, 15).cache_write_nano
            3750
        """
        base = round(input_usd * 1000)
        return cls(
            input_nano=base,
            output_nano=round(output_usd * 1000),
            cache_read_nano=round(base * cache_read_share),
            cache_write_nano=round(base * 1.25),
            cache_write_1h_nano=base * 2,
            long_after_tokens=long_after_tokens,
            long_factor=long_factor,
        )

    def cost_nano(self, usage: Usage) -> int:
        """Return what a usage costs in nanodollars.

        Example:
            >>> ModelPrice.per_million(5, 25).cost_nano(Usage(cache_read_tokens=2))
            1000
        """
        written_5m = usage.cache_write_tokens - usage.cache_write_1h_tokens
        cost_nano = (
            usage.input_tokens * self.input_nano
            + usage.output_tokens * self.output_nano
            + usage.cache_read_tokens * self.cache_read_nano
            + written_5m * self.cache_write_nano
            + usage.cache_write_1h_tokens * self.cache_write_1h_nano
        )
        prompt_tokens = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
        is_long = self.long_after_tokens is not None and prompt_tokens > self.long_after_tokens
        return cost_nano * self.long_factor if is_long else cost_nano


LIST_PRICES: Mapping[str, ModelPrice] = {
    "claude-haiku-4-5": ModelPrice.per_million(1, 5),
    "claude-haiku-5-5": ModelPrice.per_million(0.1, 0.5, long_after_tokens=100_000, long_factor=5),
    "claude-sonnet-4": ModelPrice.per_million(3, 15),
    "claude-sonnet-5-5": ModelPrice.per_million(2, 10, cache_read_share=0.05),
    "claude-opus-4": ModelPrice.per_million(5, 25),
    "claude-opus-5-5": ModelPrice.per_million(4, 20, cache_read_share=0.05),
}
"""Prices by the beginning of a model's id; the longest that fits counts."""

UNKNOWN_MODEL_PRICE = LIST_PRICES["claude-opus-5-5"]
"""What a model without a list price is billed; the CLI counts a name it does not know in the same way."""


def price_of(model: str, prices: Mapping[str, ModelPrice] = LIST_PRICES) -> ModelPrice:
    """Return the price of a model id, dated ids included.

    Example:
        >>> price_of("claude-haiku-4-5-20251001") == price_of("claude-haiku-4-5")
        True
    """
    fitting = [name for name in prices if model.startswith(name)]
    return prices[max(fitting, key=len)] if fitting else UNKNOWN_MODEL_PRICE
