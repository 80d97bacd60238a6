"""The buttons and fields of a live view: Cancel, Pause, Retry failed, Slots, Budget, Text.

Invariants: a handler only asks the pool, and shows nothing but its own outcome in the hint beside the buttons; what
another view or a line of code changed is shown here too; setting a field from here never asks the pool.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from claude_pool_nb.display import html
from claude_pool_nb.display.text import count, one_line
from claude_pool_nb.errors import PoolError
from claude_pool_nb.notebook.live.progress import Progress
from claude_pool_nb.notebook.live.subshell import Reach, keep_responsive
from claude_pool_nb.records import usd

if TYPE_CHECKING:
    from claude_pool_nb.pool import Pool

STOP_HINT = "press ■ to stop"
"""What stands beside buttons that cannot work while a cell runs."""


_DOLLARS = re.compile(r"\$?\s*((?:\d+|\d{1,3}(?:,\d{3})+)(?:\.\d*)?|\.\d+)", re.ASCII)
"""A comma stands before three digits or is none of ours: to many people 1,5 is one and a half, and never fifteen."""


def entered_dollars(text: str) -> float | None:
    """A wall as a person writes it; None for no limit, which has to be said: an emptied field may be a slip.

    Raises:
        PoolError: it is neither.

    Example:
        >>> entered_dollars("7.50"), entered_dollars("$1,000"), entered_dollars("none")
        (7.5, 1000.0, None)
        >>> entered_dollars("1,5")
        Traceback (most recent call last):
        ...
        claude_pool_nb.errors.PoolError: '1,5' is no number of dollars; write 5 or 0.50, or none for no limit
    """
    wanted = text.strip()
    if wanted.lower() in {"none", "no limit"}:
        return None
    number = _DOLLARS.fullmatch(wanted)
    if number is None:
        said = f"{one_line(text, 20)!r} is" if wanted else "nothing is"
        raise PoolError(f"{said} no number of dollars; write 5 or 0.50, or none for no limit")
    return float(number[1].replace(",", ""))


class Controls:
    """The row of buttons and fields.

    Args:
        pool: What they steer.
        progress: What they know.
        cancels: The run or task that Cancel stops; `all` for everything.
        in_cell: The cell that shows them blocks the kernel, so that clicks have to reach it in another way.
        leave: What the button "Stop watching" does; None for no such button.
    """

    def __init__(
        self,
        pool: Pool,
        progress: Progress,
        *,
        cancels: str = "all",
        in_cell: bool = True,
        leave: Callable[[], object] | None = None,
    ) -> None:
        import ipywidgets as widgets

        self._pool, self._progress, self._cancels = pool, progress, cancels
        self._setting: int | None = None
        self._slots_shown = len(progress.slots)
        self._limit_shown = self._limit()
        self._cancelling = False
        auto = widgets.Layout(width="auto")
        self.cancel = widgets.Button(
            description="Cancel" if cancels != "all" else "Cancel all",
            icon="stop",
            tooltip="Stop what is not finished, for good; finished answers stay",
            layout=auto,
        )
        self.pause = widgets.Button(
            description="Pause", icon="pause", tooltip="Start no more tasks; what runs goes on", layout=auto
        )
        self.retry = widgets.Button(
            description="Retry failed",
            icon="refresh",
            tooltip="Try the failed tasks of this run again",
            disabled=True,
            layout=auto,
        )
        self.slots = widgets.BoundedIntText(
            value=max(1, self._slots_shown),
            min=1,
            max=999,
            description="Slots",
            continuous_update=False,
            style={"description_width": "auto"},
            layout=widgets.Layout(width="110px"),
        )
        self.budget = widgets.Text(
            value=self._limit_shown,
            placeholder="no limit",
            tooltip="The limit in dollars; none for no limit",
            description="Budget USD",
            continuous_update=False,
            style={"description_width": "auto"},
            layout=widgets.Layout(width="160px"),
        )
        self.text = widgets.ToggleButton(
            description="Text", icon="align-left", tooltip="Show the text that each slot writes", layout=auto
        )
        self.hint = widgets.HTML("")
        parts = [self.cancel, self.pause, self.retry, self.slots, self.budget, self.text]
        if leave is not None:
            stop = widgets.Button(
                description="Stop watching", icon="times", tooltip="Leave a picture of this moment", layout=auto
            )
            stop.on_click(lambda _button: leave())
            parts.append(stop)
        self._interactive = parts
        self.row = widgets.HBox(
            [*parts, self.hint], layout=widgets.Layout(flex_flow="row wrap", align_items="center", overflow="visible")
        )
        self.cancel.on_click(lambda _button: self._do(self._cancel))
        self.pause.on_click(lambda _button: self._do(self._pause_or_go_on))
        self.retry.on_click(lambda _button: self._do(self._retry))
        self.slots.observe(self._asked(self._scale), names="value")
        self.budget.observe(self._asked(self._move_wall), names="value")
        self.text.observe(self._show_text, names="value")
        self.reach = min((keep_responsive(part) for part in parts), key=lambda reach: reach.works)
        self.works = self.reach.works or not in_cell
        if not self.works:
            for part in parts:
                part.disabled = True
            self._say(STOP_HINT)
        elif not self.reach.works and self.reach is not Reach.NO_KERNEL:
            self._say("these answer when no cell runs")

    @property
    def widgets(self) -> list[Any]:
        """All widgets of the row, to be closed."""
        return [*self._interactive, self.hint, self.row]

    def tick(self) -> None:
        """Bring the row up to date with the pool."""
        if not self.works:
            return
        progress = self._progress
        paused = progress.paused is not None
        self.pause.description = "Go on" if paused else "Pause"
        self.pause.icon = "play" if paused else "pause"
        if not progress.open:
            self._cancelling = False
        self.cancel.disabled = self._cancelling or not progress.open
        self.retry.disabled = not progress.failures
        if self._slots_shown != len(progress.slots):
            self._slots_shown = len(progress.slots)
            self._set(self.slots, max(1, self._slots_shown))
        limit = self._limit()
        if limit != self._limit_shown:
            self._limit_shown = limit
            self._set(self.budget, limit)

    # -- what the clicks do --------------------------------------------------------------------------------------------

    def _cancel(self) -> str:
        self._cancelling = True
        self.cancel.disabled = True
        asked = self._pool.cancel(self._cancels)
        return f"{asked:,} cancelled"

    def _pause_or_go_on(self) -> str:
        if self._progress.paused is None:
            self._pool.pause("by the Pause button")
        else:
            self._pool.unpause()
        return ""

    def _retry(self) -> str:
        failed = list(self._progress.failures)
        self.retry.disabled = True
        for run_id in dict.fromkeys(task.split(".")[0] for task in failed):
            self._pool.retry(run_id, wait=False)
        return f"{len(failed):,} tried again"

    def _scale(self, slots: int) -> str:
        self._pool.scale(int(slots))
        return count(int(slots), "slot")

    def _move_wall(self, text: str) -> str:
        dollars = entered_dollars(text)
        self._pool.set_budget(dollars)
        self._limit_shown, self._progress.stale = text, True  # the next look writes it as all views do
        return "no limit" if dollars is None else f"the budget is ${dollars:,.2f}"

    def _show_text(self, change: Any) -> None:
        self._progress.tails = bool(change["new"])
        self._progress.stale = True

    # -- how they are done ---------------------------------------------------------------------------------------------

    def _do(self, act: Callable[[], str]) -> None:
        """Do it and say so; what cannot be done is said too: a handler has nowhere else to put it."""
        try:
            self._say(act())
        except Exception as error:  # noqa: BLE001 - a click has no cell in which an error would show
            self._cancelling = False
            self._limit_shown = "?"
            self._slots_shown = -1
            self._progress.stale = True
            self._say(str(error) if isinstance(error, PoolError) else repr(error))

    def _asked(self, act: Callable[[Any], str]) -> Callable[[Any], None]:
        """A handler of a field, for what a person entered."""

        def changed(change: Any) -> None:
            if self._setting != threading.get_ident():
                self._do(lambda: act(change["new"]))

        return changed

    def _set(self, field: Any, value: Any) -> None:
        """Show a value that was not entered here."""
        self._setting = threading.get_ident()
        try:
            field.value = value
        finally:
            self._setting = None

    def _limit(self) -> str:
        """The wall, as it is written in its field."""
        budget = self._progress.budget
        if budget is None or budget.limit_nano is None:
            return ""
        return f"{usd(budget.limit_nano):.9f}".rstrip("0").rstrip(".")

    def _say(self, text: str) -> None:
        self.hint.value = f"<span class='cpn' role='status'>{html.escape(one_line(text, 200))}</span>" if text else ""
