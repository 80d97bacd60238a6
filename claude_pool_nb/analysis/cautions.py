"""What a preview warns of, and what its estimate stands on: one line each, with what to do.

Invariants: every line is said once, however many tasks it is about; nothing is warned of that cannot happen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from claude_pool_nb.analysis.likeness import Likeness
from claude_pool_nb.display.text import count
from claude_pool_nb.option_values import SlotMode
from claude_pool_nb.pricing import fixed_tokens, list_price, prices_as_of
from claude_pool_nb.records import BudgetRecord, PoolStatus, TaskState

if TYPE_CHECKING:
    from claude_pool_nb.analysis.estimates import Range
    from claude_pool_nb.analysis.previewing import Lot


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
        price = list_price(lot.options[0].model, backend=backend)
        if price is None:
            continue
        room = price.context_tokens - fixed_tokens(lot.options[0], backend=backend)
        long = [at for at in lot.paid if tokens[at] > room]
        if long:
            said.append(
                f"{count(len(long), 'prompt is', 'prompts are')} longer than {price.model} reads "
                f"({price.context_tokens:,} tokens): {names[long[0]]} has about {tokens[long[0]]:,}; "
                "shorten it or leave it out"
            )
    return said


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
