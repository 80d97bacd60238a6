"""The live view as widgets: a few pieces of HTML around one row of controls.

Invariants: one change of the view is two messages (an envelope weighs as much as a header), however many slots and
tasks there are, and one more where a button changes; when it is over no widget, layout or style of it is left.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from claude_pool_nb.notebook.live import render
from claude_pool_nb.notebook.live.controls import Controls
from claude_pool_nb.notebook.live.looks import STYLE
from claude_pool_nb.notebook.live.progress import Progress

SPEAK_EVERY_S = 5.0
"""A screen reader is told at most this often."""


class Panel:
    """The widgets of a view.

    Args:
        progress: What is known of the work.
        controls: What steers it.
    """

    def __init__(self, progress: Progress, controls: Controls) -> None:
        import ipywidgets as widgets
        from ipywidgets.widgets.widget_string import HTMLStyle

        self._progress = progress
        self.controls = controls
        shared: dict[str, Any] = {"layout": widgets.Layout(margin="1px 2px"), "style": HTMLStyle()}
        self._style = widgets.HTML(STYLE, layout=widgets.Layout(display="none"), style=shared["style"])
        self._above, self._below, self._speech = (widgets.HTML("", **shared) for _ in range(3))
        self._spoken_at = 0.0
        self.tick()
        self.children: tuple[Any, ...] = (
            self._style,
            self._above,
            self.controls.row,
            self._below,
            self._speech,
        )

    def tick(self) -> None:
        """Bring the page up to date; what did not change sends nothing."""
        progress = self._progress
        self._above.value = render.header(progress) + render.budget(progress.budget)
        slots = render.cards(list(progress.slots.values()), progress.now, tails=progress.tails)
        self._below.value = render.strip(progress) + slots + render.failures(progress)
        self.controls.tick()
        now = time.monotonic()
        if now - self._spoken_at >= SPEAK_EVERY_S:
            self._spoken_at = now
            self._speech.value = render.spoken(progress)

    @property
    def widgets(self) -> list[Any]:
        """All widgets of the view, to be closed."""
        return [*self.children, *self.controls.widgets]


def shown_live(widget: Any, progress: Progress) -> dict[str, Any]:
    """The widget as a display; what a page without its kernel shows of it is a line about the work."""
    text = f"{render.line(progress)} (a live view, which needs its kernel; this is how it began)"
    return {**widget._repr_mimebundle_(), "text/plain": text}


def in_output_widget() -> bool:
    """Whether an `ipywidgets.Output` takes what the cell shows: it takes no updates of it."""
    from ipywidgets import Output
    from ipywidgets.widgets import widget

    made = getattr(widget, "_instances", {})  # private, and the only list of them
    return any(isinstance(one, Output) and one.msg_id for one in tuple(made.values()))


def close_all(widgets: Iterable[Any]) -> None:
    """Close widgets, their layouts and styles too: ipywidgets leaves those."""
    every = list(widgets)
    for widget in every:
        for part in (getattr(widget, "layout", None), getattr(widget, "style", None)):
            if part is not None:
                part.close()
        widget.close()
