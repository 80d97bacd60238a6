"""List prices: what a task will cost before it is sent, and what a stopped one has cost.

Invariants: an unknown price is None, never 0; nothing is asked of the network. What the CLI reports as billed always
goes before these figures: they serve estimates, reservations, and turns that ended without a bill.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from claude_pool_nb.model_names import DEFAULT_MODEL, DEMO_MODELS, MODEL_ALIASES
from claude_pool_nb.option_values import SlotMode

if TYPE_CHECKING:
    from claude_pool_nb.records import Usage
    from claude_pool_nb.resolved import ResolvedConfig

DEFAULT_OUTPUT_TOKENS: Final = 1_000
"""What an answer is taken to have where no max_output_tokens says otherwise."""

EMPTY_ANSWER_CALLS: Final = 2
"""The CLI asks a second time by itself when an answer has no visible text."""

SCHEMA_CALLS: Final = 7
"""With a schema the CLI lets the model correct itself up to five times, and then end."""

_PRESET_TOKENS: Final = 22_000
"""What a request holds before the prompt with Claude Code's own prompt and tools: a body of 86 kB."""

_ALL_TOOLS_TOKENS: Final = 14_600
"""The same without Claude Code's prompt: 59 kB."""

_PLAIN_TOKENS: Final = 620
"""The same without tools: 2.5 kB."""

_TOOL_TOKENS: Final = 1_200
"""What one named tool adds."""

_DEMO_TOKENS: Final = 20
"""What a request of the demo holds before the prompt."""

_MARGIN: Final = 1.5
"""Measured sizes are taken this much larger where the worst is asked for; texts count a token per byte there."""

_PICO: Final = 1_000
"""Prices are kept in picodollars per token: list prices have fractions of a nanodollar."""


@dataclass(frozen=True, slots=True)
class Tier:
    """Picodollars per token, for requests of at least so many input tokens."""

    above_tokens: int
    """Holds for requests with more input tokens than this."""
    input_pico: int
    """Tokens read at full price."""
    output_pico: int
    """Tokens written."""
    cache_read_pico: int
    """Tokens read from the prompt cache."""
    cache_write_pico: int
    """Tokens written to the prompt cache."""


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """The list price of a model.

    Example:
        >>> price = list_price("demo-small")
        >>> price.input_usd_per_mtok, price.output_usd_per_mtok
        (0.25, 1.25)
    """

    model: str
    """The id that the price is listed under."""
    tiers: tuple[Tier, ...]
    """From the smallest requests up."""
    context_tokens: int
    """The most that one request can hold."""

    @property
    def input_usd_per_mtok(self) -> float:
        """Dollars per million input tokens of a request of usual size."""
        return self.tiers[0].input_pico / 1e6

    @property
    def output_usd_per_mtok(self) -> float:
        """Dollars per million output tokens of a request of usual size."""
        return self.tiers[0].output_pico / 1e6

    def tier(self, input_tokens: int) -> Tier:
        """The prices that hold for a request of so many input tokens."""
        for tier in reversed(self.tiers):
            if input_tokens > tier.above_tokens:
                return tier
        return self.tiers[0]


def _flat(model: str, input_usd: float, output_usd: float, context_tokens: int) -> ModelPrice:
    """A price without tiers, with the usual prices of the cache."""
    pico = round(input_usd * 1e6)
    tier = Tier(0, pico, round(output_usd * 1e6), pico // 10, pico * 5 // 4)
    return ModelPrice(model, (tier,), context_tokens)


_DEMO_PRICES: Final = {
    "demo-small": _flat("demo-small", 0.25, 1.25, 200_000),
    "demo-large": _flat("demo-large", 3.0, 15.0, 200_000),
}
"""Play money."""


def demo_model(model: str | None) -> str:
    """The demo's model for a name: the same notebook runs with and without an account.

    Example:
        >>> demo_model("haiku"), demo_model("claude-opus-5-5"), demo_model(None)
        ('demo-small', 'demo-large', 'demo-small')
    """
    if model in DEMO_MODELS:
        return model
    return "demo-large" if model is not None and "haiku" not in model else "demo-small"


@lru_cache(maxsize=512)
def list_price(model: str | None, *, backend: str = "claude") -> ModelPrice | None:
    """The list price of a model: alias, full id (of Bedrock or Vertex too) or demo model.

    Args:
        model: Its name; None for the backend's default.
        backend: With `demo` every name has the play price of its demo model.

    Returns:
        The price, or None if none is known.

    Example:
        >>> list_price("claude-haiku-4-5").input_usd_per_mtok
        1.0
        >>> list_price("claude-unheard-of") is None
        True
    """
    if backend == "demo" or model in DEMO_MODELS:
        return _DEMO_PRICES[demo_model(model)]
    return _listed(_canonical(model or DEFAULT_MODEL))


def _canonical(model: str) -> str:
    """The id as Anthropic lists it: without platform, region, version and date suffixes that platforms add."""
    name = MODEL_ALIASES.get(model.removesuffix("[1m]"), model.removesuffix("[1m]"))
    name = name.rsplit("/", 1)[-1].rsplit("anthropic.", 1)[-1]
    return re.sub(r"-v\d+(:\d+)?$", "", name.split("@", 1)[0])


def _listed(model: str) -> ModelPrice | None:
    """The price in genai-prices' own data, which comes with the package."""
    from genai_prices import Usage as ListedUsage
    from genai_prices import calc_price

    try:
        found = calc_price(ListedUsage(input_tokens=0, output_tokens=0), model, provider_id="anthropic")
    except LookupError:
        return None
    prices: Any = found.model_price
    columns = (prices.input_mtok, prices.output_mtok, prices.cache_read_mtok, prices.cache_write_mtok)
    starts = sorted({0, *(tier.start for column in columns for tier in getattr(column, "tiers", ()))})
    tiers = []
    for start in starts:
        read_in, written, cache_read, cache_write = (_column_pico(column, start) for column in columns)
        if read_in is None or written is None:
            return None
        tiers.append(
            Tier(
                start,
                read_in,
                written,
                read_in // 10 if cache_read is None else cache_read,
                read_in * 5 // 4 if cache_write is None else cache_write,
            )
        )
    return ModelPrice(found.model.id, tuple(tiers), found.model.context_window or 200_000)


def _column_pico(column: Any, start: int) -> int | None:
    """One price of a tier, in picodollars per token."""
    if column is None:
        return None
    price = getattr(column, "base", column)
    for tier in getattr(column, "tiers", ()):
        if start >= tier.start:
            price = tier.price
    return int(price * 1_000_000)


def warm_up() -> None:
    """Read the price list, which takes a fifth of a second the first time; for a thread of its own.

    Example:
        >>> warm_up()
    """
    list_price(None)


@lru_cache(maxsize=1)
def prices_as_of() -> str:
    """Where the list prices are from, to be shown beside an estimate.

    Example:
        >>> prices_as_of().startswith("genai-prices ")
        True
    """
    from importlib.metadata import version

    return f"genai-prices {version('genai-prices')}"


def cost_nano(model: str | None, usage: Usage, *, backend: str = "claude") -> int | None:
    """What that usage costs at list price, in nanodollars; None if no price is known.

    Example:
        >>> from claude_pool_nb.records import Usage
        >>> cost_nano("claude-haiku-4-5", Usage(input_tokens=1000, output_tokens=20))
        1100000
    """
    price = list_price(model, backend=backend)
    if price is None:
        return None
    tier = price.tier(usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens)
    pico = (
        usage.input_tokens * tier.input_pico
        + usage.output_tokens * tier.output_pico
        + usage.cache_read_tokens * tier.cache_read_pico
        + usage.cache_write_tokens * tier.cache_write_pico
    )
    return round(pico / _PICO)


def estimate_tokens(text: str) -> int:
    """About how many tokens a text has: four ASCII characters a token, other scripts about one each.

    Example:
        >>> estimate_tokens("four five six seven"), estimate_tokens("")
        (5, 0)
    """
    if text.isascii():
        return (len(text) + 3) // 4
    return tokens_of_size(len(text), _size(text))


def tokens_of_size(chars: int, size: int) -> int:
    """The same for a text of which only its characters and bytes are known.

    Example:
        >>> tokens_of_size(19, 19), tokens_of_size(2, 6)
        (5, 3)
    """
    return math.ceil(chars / 4 + (size - chars) * 0.4)


def _size(text: str) -> int:
    """Bytes on the wire: no token is shorter than one."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def estimate_task_nano(options: ResolvedConfig, prompt: str, *, backend: str = "claude") -> int | None:
    """What a task costs if it goes as usual: one request, with max_output_tokens or 1,000 tokens of answer.

    Args:
        options: The task's resolved options.
        prompt: Its prompt.
        backend: Whose prices hold.

    Returns:
        Nanodollars, or None if no price is known.

    Example:
        >>> from claude_pool_nb.resolved import ResolvedConfig
        >>> estimate_task_nano(ResolvedConfig(model="claude-haiku-4-5", max_output_tokens=20), "hi")
        721000
    """
    return task_estimate(options, backend=backend)(prompt)


def task_estimate(options: ResolvedConfig, *, backend: str = "claude") -> Callable[[str], int | None]:
    """The same for many tasks with these options, by their prompts: what they have in common is weighed once.

    Example:
        >>> from claude_pool_nb.resolved import ResolvedConfig
        >>> task_estimate(ResolvedConfig(model="claude-haiku-4-5", max_output_tokens=20))("hi")
        721000
    """
    price = list_price(options.model, backend=backend)
    fixed = fixed_tokens(options)
    output = options.max_output_tokens or DEFAULT_OUTPUT_TOKENS

    def estimate(prompt: str) -> int | None:
        if price is None:
            return None
        asked = estimate_tokens(prompt)
        tier = price.tier(fixed + asked)
        fixed_pico = tier.cache_write_pico if options.preset else tier.input_pico
        return round((fixed * fixed_pico + asked * tier.input_pico + output * tier.output_pico) / _PICO)

    return estimate


def worst_case_nano(options: ResolvedConfig, prompt: str, *, backend: str = "claude") -> int | None:
    """The most that one attempt of a task can cost; a strict budget reserves it.

    Every byte is taken for a token, all of them as written to the cache. Without tools there are as many requests as
    the CLI may make by itself; with tools (and in a conversation, whose history is not known here) every request is
    taken to fill the model's context.

    Args:
        options: The task's resolved options.
        prompt: Its prompt.
        backend: Whose prices hold.

    Returns:
        Nanodollars, or None if there is no bound: no known price, no max_output_tokens, or tools without max_turns.

    Example:
        >>> from claude_pool_nb.resolved import ResolvedConfig
        >>> worst_case_nano(ResolvedConfig(model="claude-haiku-4-5"), "hi") is None
        True
    """
    output = options.max_output_tokens
    models = [options.model] if options.fallback_model is None else [options.model, options.fallback_model]
    prices = [list_price(model, backend=backend) for model in models]
    has_tools = options.tools != () or options.mcp_servers != "{}"
    if output is None or (has_tools and options.max_turns is None):
        return None
    calls = SCHEMA_CALLS if options.schema is not None else EMPTY_ANSWER_CALLS
    if has_tools:
        calls = max(calls, (options.max_turns or 0) + 1)
    unknown_history = options.conversation is not None or options.slot_mode is SlotMode.PERSISTENT
    sent = math.ceil(_overhead(options) * _MARGIN) + _size(prompt) + sum(map(_size, _fixed_texts(options)))
    worst = 0
    for price in prices:
        if price is None:
            return None
        pico = 0
        for call in range(calls):
            fills = has_tools or unknown_history
            read = price.context_tokens if fills else min(price.context_tokens, sent + call * (output + 300))
            tier = price.tier(read)
            pico += read * max(tier.cache_write_pico, tier.input_pico) + output * tier.output_pico
        worst = max(worst, pico)
    return math.ceil(worst / _PICO)


def fixed_tokens(options: ResolvedConfig, *, backend: str = "claude") -> int:
    """About how many tokens every request of such a task has beside its prompt.

    Example:
        >>> from claude_pool_nb.resolved import ResolvedConfig
        >>> fixed_tokens(ResolvedConfig()), fixed_tokens(ResolvedConfig(system_prompt="Be very brief."))
        (620, 624)
    """
    overhead = _DEMO_TOKENS if backend == "demo" else _overhead(options)
    return overhead + sum(estimate_tokens(text) for text in _fixed_texts(options))


def _overhead(options: ResolvedConfig) -> int:
    """Tokens of a request before any text of ours."""
    if options.preset:
        return _PRESET_TOKENS
    return _ALL_TOOLS_TOKENS if options.tools is None else _PLAIN_TOKENS + _TOOL_TOKENS * len(options.tools)


def _fixed_texts(options: ResolvedConfig) -> tuple[str, ...]:
    """Our texts that every request of the task carries."""
    return (options.system_prompt, options.appended_prompt, options.schema or "")
