"""The parts of the live view as widgets for own layouts: `PoolWatch`, `SlotGrid`, `BudgetBar`, `TaskStrip`.

Invariants: each follows its pool until it is closed or the pool is; several of one pool say the same; closing one
leaves no layout or style behind; what is shown in a cell of its own becomes static HTML when it stops.

Example:
    >>> from claude_pool_nb import Pool
    >>> from claude_pool_nb.notebook.widgets import BudgetBar
    >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:", budget_usd=5) as pool:
    ...     bar = BudgetBar(pool)
    ...     "$5.00 left of" in bar.value
    ...     bar.close()
    True
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ipywidgets

from claude_pool_nb.display.pools import pool_text
from claude_pool_nb.notebook.live import render
from claude_pool_nb.notebook.live.controls import Controls
from claude_pool_nb.notebook.live.follow import Follower
from claude_pool_nb.notebook.live.looks import STYLE
from claude_pool_nb.notebook.live.panel import Panel, close_all, in_output_widget, shown_live
from claude_pool_nb.notebook.live.picture import picture_html

if TYPE_CHECKING:
    from claude_pool_nb.notebook.live.progress import Progress
    from claude_pool_nb.pool import Pool

__all__ = ["BudgetBar", "PoolWatch", "SlotGrid", "TaskStrip"]


class _Part(ipywidgets.HTML):  # type: ignore[misc]
    """One piece of HTML that follows a pool."""

    def __init__(self, pool: Pool, run_id: str | None, shown: Callable[[Progress], str]) -> None:
        super().__init__()
        self._shown = shown
        self._follower = Follower(pool, run_id, self._paint)
        self._follower.begin()
        self._paint()
        self._follower.start()

    def _paint(self) -> None:
        self.value = STYLE + self._shown(self._follower.progress)

    def close(self) -> None:
        """Follow no more, and go away."""
        self._follower.stop()
        for part in (self.layout, self.style):
            part.close()
        super().close()


class SlotGrid(_Part):
    """A card for each slot: who it is, what it does, for how long, memory and cost.

    Args:
        pool: The pool.
        tails: Show the end of the text that each slot writes, too.

    Example:
        >>> from claude_pool_nb import Pool
        >>> with Pool(slots=2, backend="demo", demo_latency_s=0, store=":memory:") as pool:
        ...     grid = SlotGrid(pool)
        ...     "<b>s2</b>" in grid.value
        ...     grid.close()
        True
    """

    def __init__(self, pool: Pool, *, tails: bool = False) -> None:
        def shown(progress: Progress) -> str:
            progress.tails = tails
            return render.cards(list(progress.slots.values()), progress.now, tails=tails)

        super().__init__(pool, None, shown)


class BudgetBar(_Part):
    """What is spent, reserved and left of the budget, with a mark at four fifths.

    Example:
        >>> from claude_pool_nb import Pool
        >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
        ...     bar = BudgetBar(pool)
        ...     "no limit" in bar.value
        ...     bar.close()
        True
    """

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool, None, lambda progress: render.budget(progress.budget))


class TaskStrip(_Part):
    """All tasks of a run, or all that the pool does, as a strip of lettered cells.

    Args:
        pool: The pool.
        run_id: `r12`; None for all that the pool does.

    Example:
        >>> from claude_pool_nb import Pool
        >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
        ...     run = pool.fan_out(["a poem", "a limerick"])
        ...     strip = TaskStrip(pool, run.id)
        ...     "2 completed of 2 tasks" in strip.value
        ...     strip.close()
        True
    """

    def __init__(self, pool: Pool, run_id: str | None = None) -> None:
        super().__init__(pool, run_id, render.strip)


class PoolWatch(ipywidgets.VBox):  # type: ignore[misc]
    """The whole live view of what a pool does now, with its buttons, until it is stopped or the pool is.

    Args:
        pool: The pool.

    Example:
        >>> from claude_pool_nb import Pool
        >>> with Pool(slots=2, backend="demo", demo_latency_s=0, store=":memory:") as pool:
        ...     view = PoolWatch(pool)
        ...     run = pool.fan_out(["a poem", "a limerick"])
        ...     view.stop()
        >>> view.watching
        False
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._handles: list[Any] = []
        self._follower = Follower(pool, None, self._paint, ended=self._end)
        self._follower.begin()
        progress = self._follower.progress
        self._panel = Panel(progress, Controls(pool, progress, in_cell=False, leave=self.stop))
        super().__init__(self._panel.children)
        self.watching = True
        self._follower.start()

    def _paint(self) -> None:
        self._panel.tick()

    def stop(self) -> None:
        """Follow no more; what was shown becomes a static picture of this moment."""
        self._follower.stop()

    def _end(self) -> None:
        """Put the picture in the place of the widgets; on the follower's thread, whose output lands in the cell."""
        bundle = self._picture()
        self.children = (ipywidgets.HTML(bundle["text/html"]),)  # for those who put it into a layout of their own
        self.watching = False
        close_all(self._panel.widgets)
        for handle in self._handles:
            handle.update(bundle, raw=True)
        if self._handles:
            close_all([*self.children, self])

    def _picture(self) -> dict[str, str]:
        broken = self._follower.broken
        notes = [f"the live view broke: {broken!r}"] if broken is not None else []
        return {
            "text/plain": "\n".join([pool_text(self._pool.card()), *notes]),
            "text/html": picture_html(self._follower.progress, notes),
        }

    def _ipython_display_(self) -> None:
        """Show it so that it can be replaced when it stops."""
        from IPython.display import display

        if not self.watching:
            display(self._picture(), raw=True)  # type: ignore[no-untyped-call]
            return
        bundle = shown_live(self, self._follower.progress)
        if in_output_widget():  # there the picture stays in the widget
            display(bundle, raw=True)  # type: ignore[no-untyped-call]
        else:
            self._handles.append(display(bundle, raw=True, display_id=True))  # type: ignore[no-untyped-call]
