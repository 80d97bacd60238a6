"""What many tasks will cost together: an interval, from what such tasks did cost or from list prices.

The sum over N new tasks is uncertain for two reasons: the new tasks differ among themselves, and a short history does
not tell their mean exactly. Both shrink with their numbers, so an interval for 200 tasks is narrow where that for one
is wide. Costs are skewed and never negative, so the interval is symmetric as a ratio, not as a difference.

Invariants: everything here is a pure function of numbers; an unknown price is None, never 0; a list price's interval
is made of stated assumptions, a history's of what was seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist, fmean
from typing import Final

from claude_pool_nb.pricing import DEFAULT_OUTPUT_TOKENS, ModelPrice, Tier, fixed_tokens, list_price
from claude_pool_nb.resolved import ResolvedConfig

COVERAGE: Final = 0.99
"""How often the interval is meant to hold the truth."""
PRIOR_CV: Final = 0.5
"""Spread (standard deviation over mean) that is believed before anything was seen; weighs as much as two tasks."""
PRIOR_TASKS: Final = 2
SHORT_ANSWER_TOKENS: Final = 4
"""What a short answer has (one word), where nothing else is known."""
ASSUMED_REQUESTS: Final = 10
"""Requests that a task with tools may make where no max_turns says otherwise."""
TEXT_LOW: Final = 0.8
"""So much less than estimated a text's tokens may be."""
TEXT_HIGH: Final = 1.5
"""So much more than estimated they may be."""
CACHED_FROM_TOKENS: Final = 1_024
"""A prefix of at least so many tokens may come from the prompt cache."""
_PICO: Final = 1_000


@dataclass(frozen=True, slots=True)
class Range:
    """From a low to a high value.

    Example:
        >>> Range(1.0, 2.0) + Range(3.0, 5.0)
        Range(low=4.0, high=7.0)
    """

    low: float
    """At least about this."""
    high: float
    """At most about this."""

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.high + other.high)

    @classmethod
    def around(cls, several: Sequence[Range]) -> Range:
        """The smallest that holds all of several.

        Example:
            >>> Range.around([Range(1.0, 2.0), Range(3.0, 5.0)])
            Range(low=1.0, high=5.0)
        """
        return cls(min(one.low for one in several), max(one.high for one in several))

    @property
    def middle(self) -> float:
        """The value as many times above the low end as below the high one."""
        return math.sqrt(self.low * self.high)


@dataclass(frozen=True, slots=True)
class Seen:
    """What one settled task took, over all its attempts."""

    prompt_tokens: float
    """Estimated tokens of its prompt."""
    cost_nano: int
    """What it cost."""
    input_tokens: int
    """Tokens read, at whatever price."""
    output_tokens: int
    """Tokens written."""
    duration_s: float
    """Seconds that it held a slot, until that was free for the next."""
    group: int = 0
    """The run it was in."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What some tasks will take together."""

    tasks: int
    """How many."""
    cost_nano: Range | None
    """Nanodollars; None if no price is known."""
    input_tokens: float
    """Tokens read."""
    output_tokens: Range
    """Tokens written."""
    work_s: Range
    """Seconds of slots."""
    longest_s: float
    """What the longest of them may take."""

    @classmethod
    def widest(cls, several: Sequence[Estimate]) -> Estimate:
        """What covers several estimates for the same tasks, one of which will hold."""
        costs = [one.cost_nano for one in several]
        known = [cost for cost in costs if cost is not None]
        return cls(
            tasks=several[0].tasks,
            cost_nano=Range.around(known) if len(known) == len(costs) else None,
            input_tokens=max(one.input_tokens for one in several),
            output_tokens=Range.around([one.output_tokens for one in several]),
            work_s=Range.around([one.work_s for one in several]),
            longest_s=max(one.longest_s for one in several),
        )


NOTHING: Final = Estimate(0, Range(0.0, 0.0), 0.0, Range(0.0, 0.0), Range(0.0, 0.0), 0.0)
"""What no task takes."""


@dataclass(frozen=True, slots=True)
class Fit:
    """A straight line through what was seen: how a quantity goes with the length of the prompt.

    The slope is drawn towards what is believed beforehand, so that prompts of one length say nothing about others, and
    the spread towards `PRIOR_CV`, so that two equal tasks do not promise a third.
    """

    tasks: int
    mean_x: float
    mean_y: float
    slope: float
    variance: float
    precision: float
    """Of the slope: how much the lengths that were seen tell about it."""

    @classmethod
    def of(cls, xs: Sequence[float], ys: Sequence[float], *, slope: float = 0.0, slope_sd: float = 0.0) -> Fit:
        """The line through some points.

        Args:
            xs: Tokens of the prompts.
            ys: What the tasks took; as many, and at least one.
            slope: What a token of the prompt is believed to add.
            slope_sd: How far that may be off; 0 if it is certain.

        Example:
            >>> Fit.of([10, 20, 30], [100, 200, 300], slope_sd=1000).slope > 9.9
            True
        """
        n, mean_x, mean_y = len(xs), fmean(xs), fmean(ys)
        sxx = sum((x - mean_x) ** 2 for x in xs)
        sxy = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True))
        syy = sum((y - mean_y) ** 2 for y in ys)
        believed = PRIOR_TASKS * (PRIOR_CV * mean_y) ** 2
        degrees = n - 1 + PRIOR_TASKS
        if slope_sd > 0:
            weight = max((syy + believed) / degrees, 1e-12) / slope_sd**2
            slope = (sxy + weight * slope) / (sxx + weight)
            precision = sxx + weight
        else:
            precision = math.inf
        left = max(0.0, syy - 2 * slope * sxy + slope**2 * sxx)
        return cls(n, mean_x, mean_y, slope, (left + believed) / degrees, precision)

    def sum_of(self, tasks: int, mean_x: float, *, unlike: float = 0.0) -> Range:
        """The sum over new tasks.

        Args:
            tasks: How many.
            mean_x: The mean length of their prompts in tokens.
            unlike: How far their mean may be from that of what was seen, as a share: 0 for tasks of the same kind.

        Example:
            >>> few = Fit.of([10] * 200, [1.0, 5.0] * 100).sum_of(2, 10)
            >>> many = Fit.of([10] * 200, [1.0, 5.0] * 100).sum_of(200, 10)
            >>> few.high / few.low > many.high / many.low
            True
        """
        mean, spread = self._mean(tasks, mean_x, unlike)
        factor = math.exp(quantile(self.tasks - 1 + PRIOR_TASKS) * spread)
        return Range(tasks * mean / factor, tasks * mean * factor)

    def _mean(self, tasks: int, mean_x: float, unlike: float) -> tuple[float, float]:
        """The mean per task, and the standard deviation of its logarithm."""
        away = mean_x - self.mean_x
        # A line may cross zero where nothing was seen; a task always costs something.
        mean = max(self.mean_y + self.slope * away, 0.05 * self.mean_y)
        if mean < 1e-9:
            return 0.0, 0.0
        variance = self.variance * (1 / tasks + 1 / self.tasks + away**2 / self.precision)
        return mean, math.sqrt(math.log1p((math.sqrt(variance) / mean) ** 2 + unlike**2))


@lru_cache(maxsize=512)
def quantile(degrees: int) -> float:
    """How many standard errors cover `COVERAGE`, where the spread itself is known from so many tasks (Student's t).

    Example:
        >>> round(quantile(1000), 2), round(quantile(10), 1)
        (2.58, 3.2)
    """
    z = NormalDist().inv_cdf(0.5 + COVERAGE / 2)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return float(z + sum(term / degrees**power for power, term in enumerate(terms, start=1)))


def from_history(
    seen: Sequence[Seen],
    options: ResolvedConfig,
    tasks: int,
    prompt_tokens: int,
    *,
    backend: str,
    unlike: float = 0.0,
    other_prompts: bool = False,
) -> Estimate:
    """What tasks will take by what such tasks took.

    Args:
        seen: What was settled; at least one task.
        options: The new tasks' options: their caps hold, whatever was seen.
        tasks: How many there are.
        prompt_tokens: Estimated tokens of all their prompts.
        backend: Whose prices hold.
        unlike: How far the new answers' mean length may be from the old ones', as a share.
        other_prompts: True if these asked for something else: how their answers went with the length of the prompt
            then says nothing, and only what is read counts.

    Example:
        >>> seen = [Seen(10, 1_100_000, 1000, 20, 0.5)] * 50
        >>> made = from_history(seen, ResolvedConfig(model="claude-haiku-4-5"), 200, 2000, backend="claude")
        >>> made.cost_nano.low < 200 * 1_100_000 < made.cost_nano.high
        True
    """
    xs = [one.prompt_tokens for one in seen]
    mean_x = prompt_tokens / tasks
    price = list_price(options.model, backend=backend)
    mean_cost = fmean(one.cost_nano for one in seen)
    input_nano = price.tiers[0].input_pico / _PICO if price is not None else 0.0
    typical_x = max(fmean(xs), 1.0)
    open_to = 0.0 if other_prompts else 0.5 / typical_x
    per_token = 0.0 if other_prompts else max(input_nano, open_to * mean_cost)
    cost = Fit.of(xs, [one.cost_nano for one in seen], slope=input_nano, slope_sd=per_token)
    cap = options.max_output_tokens
    written = [float(one.output_tokens) for one in seen]
    output = Fit.of(xs, written, slope_sd=open_to * fmean(written))
    read = [float(one.input_tokens) for one in seen]
    took = Fit.of(xs, [one.duration_s for one in seen], slope_sd=open_to * fmean(one.duration_s for one in seen))
    output_nano = fmean(written) * price.tiers[0].output_pico / _PICO if price is not None else mean_cost
    share = min(1.0, output_nano / mean_cost) if mean_cost > 0 else 1.0  # what is read is as known as ever
    nano = cost.sum_of(tasks, mean_x, unlike=unlike * share)
    tokens = output.sum_of(tasks, mean_x, unlike=unlike)
    if cap is not None and not _has_tools(options):
        tokens = Range(min(tokens.low, tasks * cap), min(tokens.high, tasks * cap * 2))
    if options.max_budget_usd is not None:
        wall = tasks * options.max_budget_usd * 1e9
        nano = Range(min(nano.low, wall), min(nano.high, wall))
    longest = sorted(one.duration_s for one in seen)[-1 - len(seen) // 50]
    return Estimate(
        tasks=tasks,
        cost_nano=nano,
        input_tokens=max(tasks * (fmean(read) + (mean_x - fmean(xs))), 0.0),
        output_tokens=tokens,
        work_s=took.sum_of(tasks, mean_x, unlike=unlike),
        longest_s=longest,
    )


def from_list_price(options: ResolvedConfig, prompts: Sequence[int], *, backend: str) -> Estimate:
    """What tasks will take by list prices and assumptions: nothing like them was seen.

    Texts are estimated, answers taken to have from `SHORT_ANSWER_TOKENS` to max_output_tokens (else 1,000), tasks with
    tools to make from one request to max_turns (else `ASSUMED_REQUESTS`), and a long prefix to be read from the prompt
    cache at best and written to it every time at worst.

    Args:
        options: The tasks' options.
        prompts: Estimated tokens of each prompt.
        backend: Whose prices hold.

    Example:
        >>> options = ResolvedConfig(model="claude-haiku-4-5", max_output_tokens=20)
        >>> made = from_list_price(options, [1, 40], backend="claude")
        >>> made.cost_nano.low < 2 * 721_000 < made.cost_nano.high
        True
        >>> from_list_price(ResolvedConfig(model="claude-unheard-of"), [4], backend="claude").cost_nano is None
        True
    """
    tasks, asked = len(prompts), sum(prompts)
    fixed = fixed_tokens(options, backend=backend)
    most = options.max_output_tokens or DEFAULT_OUTPUT_TOKENS
    least = min(SHORT_ANSWER_TOKENS, most)
    requests = (options.max_turns or ASSUMED_REQUESTS) if _has_tools(options) else 1
    output = Range(float(tasks * least), float(tasks * most * requests))
    price = list_price(options.model, backend=backend)
    cost = None
    if price is not None:
        low = high = 0.0
        for tier, number, tokens in _by_tier(price, fixed, prompts):
            cacheable = fixed >= CACHED_FROM_TOKENS
            best = tier.cache_read_pico if cacheable else tier.input_pico
            worst = max(tier.cache_write_pico, tier.input_pico) if cacheable else tier.input_pico
            again = (requests - 1) * (fixed * number + tokens) * tier.cache_read_pico
            low += TEXT_LOW * (number * fixed * best + tokens * tier.input_pico)
            low += number * least * tier.output_pico
            high += TEXT_HIGH * (number * fixed * worst + tokens * tier.input_pico + again)
            high += number * requests * most * tier.output_pico
        cost = Range(low / _PICO, high / _PICO)
        if options.max_budget_usd is not None:
            wall = tasks * options.max_budget_usd * 1e9
            cost = Range(min(cost.low, wall), min(cost.high, wall))
    work, longest = _assumed_time(options, tasks, most * requests, backend)
    return Estimate(tasks, cost, float(tasks * fixed + asked), output, work, longest)


def _assumed_time(options: ResolvedConfig, tasks: int, most_tokens: int, backend: str) -> tuple[Range, float]:
    """Time by assumption: half a second to four for a request to begin, and 20 to 150 tokens a second.

    The demo waits as long as it is told.
    """
    if backend == "demo":
        told = options.demo_latency_s
        least, most = (0.05, 0.4) if told is None else (told, told)
        return Range(tasks * least, tasks * most), most
    longest = 4 + most_tokens / 20
    return Range(tasks * (0.5 + SHORT_ANSWER_TOKENS / 150), tasks * longest), longest


def _by_tier(price: ModelPrice, fixed: int, prompts: Sequence[int]) -> list[tuple[Tier, int, int]]:
    """The prompts by the price that holds for requests of their size: tier, how many, their tokens together."""
    if price.tier(fixed + max(prompts)) is price.tiers[0]:
        return [(price.tiers[0], len(prompts), sum(prompts))]
    found: dict[Tier, tuple[int, int]] = {}
    for tokens in prompts:
        tier = price.tier(fixed + tokens)
        number, total = found.get(tier, (0, 0))
        found[tier] = number + 1, total + tokens
    return [(tier, number, total) for tier, (number, total) in found.items()]


def together(ranges: Sequence[Range]) -> Range:
    """The sum of quantities that are off independently of each other: they will not all be high at once.

    Example:
        >>> both = together([Range(80, 125), Range(80, 125)])
        >>> both.low > 160, both.high < 250
        (True, True)
    """
    middle = sum(one.middle for one in ranges)
    below = math.sqrt(sum((one.middle - one.low) ** 2 for one in ranges))
    above = math.sqrt(sum((one.high - one.middle) ** 2 for one in ranges))
    return Range(max(middle - below, 0.0), middle + above)


def on_slots(estimates: Sequence[Estimate], slots: int) -> Range | None:
    """Seconds until all of them are done on so many slots; None if there is no slot.

    Example:
        >>> one = Estimate(10, None, 0.0, Range(0, 0), Range(10.0, 20.0), 2.0)
        >>> on_slots([one], 4)
        Range(low=2.5, high=7.0)
    """
    if slots < 1:
        return None
    if not estimates:
        return Range(0.0, 0.0)
    tasks = sum(one.tasks for one in estimates)
    work = Range(sum(one.work_s.low for one in estimates), sum(one.work_s.high for one in estimates))
    busy = min(slots, tasks)
    # No slot has nothing to do before the last task was taken; from then on it takes as long as the longest one.
    tail = max(one.longest_s for one in estimates)
    return Range(work.low / busy, work.high / busy + tail if tasks > busy else max(tail, work.high / busy))


def _has_tools(options: ResolvedConfig) -> bool:
    return options.tools != () or options.mcp_servers != "{}"
