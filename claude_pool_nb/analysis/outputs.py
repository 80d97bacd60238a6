"""What leaves a pool: plots of it, and its frames as files.

Invariants: everything is read from the ledger, so that runs of a pool that is gone look the same; nothing here changes
anything but the files that were asked for.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from claude_pool_nb.analysis.plots import Plots
    from claude_pool_nb.records import BudgetRecord
    from claude_pool_nb.store.ledger import Ledger


class Outputs:
    """The verbs of both pools that make pictures and files."""

    @property
    @abstractmethod
    def ledger(self) -> Ledger:
        """Where everything is written, and read from."""

    @property
    @abstractmethod
    def budget(self) -> BudgetRecord:
        """The budget the pool draws on, as of now."""

    @property
    def plot(self) -> Plots:
        """Plots: `pool.plot.gantt()`, `.cost()`, `.budget()`, `.latency()`; altair charts with their frame in `.data`.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     run = pool.fan_out(["a poem", "a limerick"])
            ...     pool.plot.latency().data["phase"].tolist()
            ['wait', 'run']
        """
        from claude_pool_nb.analysis.plots import Plots

        return Plots(self.ledger, self.budget)
