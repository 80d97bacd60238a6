"""`Preview`: what a call would run and cost, before it is made. `previewing` makes it.

Invariants: a price that is not known makes the sum unknown, never smaller; play money says that it is; a preview is a
picture of one moment and holds nothing of the pool.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from claude_pool_nb.analysis.estimates import Range
from claude_pool_nb.display.previews import PreviewCell, PreviewPicture, preview_html, preview_text
from claude_pool_nb.records import BudgetRecord, usd

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, repr=False)
class Preview:
    """What a call would run and cost. It shows as a small table; `estimate` is that table as a DataFrame.

    Example:
        >>> from claude_pool_nb import Pool
        >>> with Pool(backend="demo", demo_latency_s=0.1, store=":memory:") as pool:
        ...     preview = pool.preview(["a poem", "a limerick"], max_output_tokens=100)
        >>> preview.tasks, preview.prompts, preview.high_usd < 0.01
        (2, ('a poem', 'a limerick'), True)
        >>> list(preview.estimate["price_source"])
        ['list']
    """

    tasks: int
    """How many tasks there would be."""
    prompts: tuple[str, ...]
    """The first few, as they would be sent."""
    cells: tuple[PreviewCell, ...]
    """What each model and cell of the grid comes to; `estimate` is these as a frame."""
    cost: Range | None
    """Nanodollars of all of them; None if any price is unknown."""
    seconds: Range | None
    """From the first to the last on the slots at hand; None if there is no slot."""
    slots: int
    """The slots at hand."""
    cached: int = 0
    """How many of the tasks have their answer in the ledger, and cost nothing (with `cache`)."""
    budget: BudgetRecord | None = None
    """The budget as it is now; None where it is not known any more."""
    warnings: tuple[str, ...] = ()
    """What may go wrong with it."""
    notes: tuple[str, ...] = ()
    """What the estimate stands on."""
    play_money: bool = False
    """True for the demo's dollars."""
    timed: bool = False
    """True if its time is from history, not from assumptions."""
    actual_nano: int | None = None
    """What it did cost, for a run that was made."""
    ended: int = 0
    """How many of its tasks had ended by then."""
    completed: int = 0
    """How many of them had completed."""

    @property
    def low_usd(self) -> float | None:
        """Dollars that it costs at least, or nearly; None if a price is unknown."""
        return None if self.cost is None else usd(round(self.cost.low))

    @property
    def high_usd(self) -> float | None:
        """Dollars that it costs at most, or nearly; None if a price is unknown."""
        return None if self.cost is None else usd(round(self.cost.high))

    @property
    def seconds_low(self) -> float | None:
        """Seconds that it takes at least, or nearly."""
        return None if self.seconds is None else self.seconds.low

    @property
    def seconds_high(self) -> float | None:
        """Seconds that it takes at most, or nearly."""
        return None if self.seconds is None else self.seconds.high

    @property
    def budget_left_usd(self) -> float | None:
        """Dollars that the budget has now; None without a limit."""
        left = None if self.budget is None else self.budget.left_nano
        return None if left is None else usd(left)

    @property
    def left_after_usd(self) -> tuple[float, float] | None:
        """Dollars that it would have afterwards, at least and at most; None without a limit or a known price."""
        left = None if self.budget is None else self.budget.left_nano
        if left is None or self.cost is None:
            return None
        return usd(max(0, round(left - self.cost.high))), usd(max(0, round(left - self.cost.low)))

    @property
    def actual_usd(self) -> float | None:
        """Dollars that it did cost, for a run that was made (see `run.preview`)."""
        return None if self.actual_nano is None else usd(self.actual_nano)

    @property
    def estimate(self) -> pd.DataFrame:
        """One row per model and cell of the grid: tasks, tokens, where the price is from, low and high dollars."""
        import pandas as pd

        names = list(dict.fromkeys(name for cell in self.cells for name in cell.labels))
        frame = pd.DataFrame({name: [cell.labels.get(name) for cell in self.cells] for name in names})
        frame["model"] = pd.array([cell.model for cell in self.cells], dtype="string")
        for name in ("tasks", "input_tokens", "output_tokens_low", "output_tokens_high"):
            frame[name] = pd.array([getattr(cell, name) for cell in self.cells], dtype="Int64")
        frame["price_source"] = pd.Categorical(
            [cell.price_source for cell in self.cells], categories=["list", "history", "unknown"]
        )
        frame["history_tasks"] = pd.array([cell.history_tasks for cell in self.cells], dtype="Int64")
        for name, end in (("low_usd", "low_nano"), ("high_usd", "high_nano")):
            dollars = [None if (nano := getattr(cell, end)) is None else usd(nano) for cell in self.cells]
            frame[name] = pd.array(dollars, dtype="Float64")
        return frame

    def picture(self) -> PreviewPicture:
        """What its display shows."""
        left = self.left_after_usd
        return PreviewPicture(
            tasks=self.tasks,
            prompts=self.prompts,
            cells=self.cells,
            cost_nano=None if self.cost is None else (round(self.cost.low), round(self.cost.high)),
            seconds=None if self.seconds is None else (self.seconds.low, self.seconds.high),
            timed=self.timed,
            slots=self.slots,
            cached=self.cached,
            left_nano=None if self.budget is None else self.budget.left_nano,
            left_after_nano=None if left is None else (round(left[0] * 1e9), round(left[1] * 1e9)),
            play_money=self.play_money,
            warnings=self.warnings,
            notes=self.notes,
            actual_nano=self.actual_nano,
            ended=self.ended,
            completed=self.completed,
        )

    def _repr_html_(self) -> str:
        return preview_html(self.picture())

    def __repr__(self) -> str:
        return preview_text(self.picture())
