"""What a preview warns of, and what its estimate stands on: one line each, with what to do.

Invariants: every line is said once, however many tasks it is about; nothing is warned of that cannot happen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from claude_pool_nb.analysis.likeness import Likeness
from claude_pool_nb.display.text import count
from claude_pool_nb.errors import ConfigError
from claude_pool_nb.option_values import SlotMode
from claude_pool_nb.pricing import estimate_tokens, fixed_tokens, list_price, prices_as_of
from claude_pool_nb.records import BudgetRecord, PoolStatus, TaskState

if TYPE_CHECKING:
    from claude_pool_nb.analysis.design import Design
    from claude_pool_nb.analysis.estimates import Range
    from claude_pool_nb.analysis.previewing import Lot
    from claude_pool_nb.config import TaskOverrides
    from claude_pool_nb.pricing import ModelPrice
    from claude_pool_nb.resolved import ResolvedConfig

SURELY_READ_CHARS: Final = 100_000
"""Every model reads so many characters, whatever they are."""
CLEARLY: Final = 1.2
"""So far may the estimate of a prompt's tokens be off: beyond, a row is refused."""


def unknown_prices(lots: Sequence[Lot]) -> list[str]:
    """Models without a price."""
    names = dict.fromkeys(repr(lot.options[0].model) for lot in lots if lot.estimate.cost_nano is None)
    if not names:
        return []
    return [
        f"no list price is known for {', '.join(names)}, so the sum is unknown; "
        "run a few such tasks first (with max_budget_usd), and their cost tells"
    ]


def too_long(lots: Sequence[Lot], tokens: Sequence[int], names: Sequence[str], backend: str) -> list[str]:
    """Prompts that the model cannot read at once.

    Args:
        lots: The tasks.
        tokens: Estimated tokens of every prompt.
        names: What every task is called.
        backend: Where they would run.
    """
    said = []
    for lot in lots:
        price, room = _room(lot.options[0], backend)
        long = [at for at in lot.paid if tokens[at] > room]
        if long and price is not None:
            said.append(
                f"{count(len(long), 'prompt is', 'prompts are')} longer than {price.model} reads "
                f"({price.context_tokens:,} tokens): {names[long[0]]} has about {tokens[long[0]]:,}; "
                "shorten it or leave it out"
            )
    return said


def refuse_unreadable(
    design: Design, wherever: Callable[[TaskOverrides], Sequence[ResolvedConfig]], backend: str
) -> None:
    """Refuse a map with a row that its model cannot read at once, wherever it runs.

    Tokens are estimated, so a prompt is refused only where it is clearly too long; what is about as long as a model
    reads is warned of by a preview, and the API has the last word.

    Args:
        design: The tasks.
        wherever: Says which options a task has in the slots that may run it.
        backend: Where they would run.

    Raises:
        ConfigError: there is one; the message names the row.
    """
    long = [at for at, prompt in enumerate(design.prompts) if len(prompt) > SURELY_READ_CHARS]
    for at in long:
        options = wherever(design.overrides[at])
        price, room = max((_room(one, backend) for one in options), key=lambda one: one[1])
        tokens = estimate_tokens(design.prompts[at])
        if price is not None and tokens > room * CLEARLY:
            raise ConfigError(
                f"row {design.rows[at]} makes a prompt of {len(design.prompts[at]):,} characters, about {tokens:,} "
                f"tokens, and {price.model} reads {price.context_tokens:,}; shorten it, leave it out, "
                "or choose a model that reads more"
            )


def _room(options: ResolvedConfig, backend: str) -> tuple[ModelPrice | None, float]:
    """A model as the price list has it, and how many tokens a prompt for it may have; infinitely many if unknown."""
    price = list_price(options.model, backend=backend)
    return price, math.inf if price is None else price.context_tokens - fixed_tokens(options, backend=backend)


def budget_ends(cost: Range | None, budget: BudgetRecord, tasks: int) -> list[str]:
    """Whether the budget ends in the middle.

    Example:
        >>> from claude_pool_nb.analysis.estimates import Range
        >>> budget_ends(Range(2e9, 4e9), BudgetRecord(1, "nb", limit_nano=1_000_000_000), 100)
        ['the budget ends after about 25 to 50 of 100 tasks; the others then fail as rows']
    """
    left = budget.left_nano
    if left is None or cost is None or cost.high <= left:
        return []
    fewest = int(left * tasks / cost.high)
    most = min(tasks, int(left * tasks / cost.low)) if cost.low > 0 else tasks
    after = f"{fewest:,}" if fewest == most else f"{fewest:,} to {most:,}"
    word = "ends" if cost.low > left else "may end"
    return [f"the budget {word} after about {after} of {count(tasks, 'task')}; the others then fail as rows"]


def pool_at_work(status: PoolStatus) -> list[str]:
    """What the pool has to do first."""
    said = [f"the pool is paused ({status.paused}): nothing starts before unpause"] if status.paused else []
    waiting = sum(status.tasks.get(str(state), 0) for state in (TaskState.PENDING, TaskState.WAITING))
    if waiting:
        said.append(
            f"{count(waiting, 'task is', 'tasks are')} waiting already, and counted neither in time nor in money"
        )
    return said


def conversations(lots: Sequence[Lot]) -> list[str]:
    """Tasks that send more than their prompt."""
    for lot in lots:
        options = lot.options[0]
        if options.conversation is not None or options.slot_mode is SlotMode.PERSISTENT:
            return ["tasks of a conversation send all of it again, so later ones cost more than is estimated here"]
    return []


def grounds(lots: Sequence[Lot]) -> list[str]:
    """What the estimate stands on."""
    notes = []
    same = sum(len(lot.history.seen) for lot in lots if lot.history.likeness is Likeness.SAME)
    other = sum(len(lot.history.seen) for lot in lots if lot.history.likeness is Likeness.MODEL)
    if same:
        notes.append(f"history: {count(same, 'such task')} in the ledger")
    if other:
        notes.append(
            f"history: {count(other, 'task')} of the same model with other prompts, "
            "whose answers may be several times longer or shorter"
        )
    for lot in lots:
        if not lot.history.seen and lot.estimate.cost_nano is not None:
            low, high = (
                end / lot.estimate.tasks for end in (lot.estimate.output_tokens.low, lot.estimate.output_tokens.high)
            )
            notes.append(
                f"list price ({prices_as_of()}), {low:,.0f} to {high:,.0f} tokens a task assumed to be written"
            )
    return list(dict.fromkeys(notes))
