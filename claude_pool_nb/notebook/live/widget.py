"""The live view as widgets: three pieces of HTML and two buttons.

Invariants: widgets are made, changed and closed here alone; one change of the view is at most three messages, however
many slots and tasks there are; when it is over no widget, layout or style of it is left; a handler of a click only asks
the pool, it never shows anything.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from claude_pool_nb.notebook.live import render
from claude_pool_nb.notebook.live.progress import Progress
from claude_pool_nb.notebook.live.subshell import Reach, keep_responsive

SPEAK_EVERY_S = 10.0
"""A screen reader is told at most this often."""


class WidgetView:
    """A live view in the output of a cell.

    Args:
        progress: What is shown.
        cancel: Called once, when Cancel is clicked.
        pause: Called with True to pause and False to go on.
    """

    def __init__(self, progress: Progress, *, cancel: Callable[[], object], pause: Callable[[bool], object]) -> None:
        self._progress = progress
        self._cancel = cancel
        self._pause = pause
        self._handle: Any = None
        self._widgets: list[Any] = []
        self._spoken_at = 0.0
        self.reach = Reach.NO_KERNEL

    @property
    def shown(self) -> bool:
        """Whether it is on the page."""
        return self._handle is not None

    def show(self) -> None:
        """Make the widgets and display them."""
        import ipywidgets as widgets
        from IPython.display import display

        self._header = widgets.HTML(render.header(self._progress))
        self._cards = widgets.HTML(self._cards_html())
        self._speech = widgets.HTML(render.spoken(self._progress.summary()))
        self._cancel_button = widgets.Button(
            description="Cancel", icon="stop", tooltip="Stop this run; finished answers stay"
        )
        self._pause_button = widgets.Button(
            description="Pause", icon="pause", tooltip="Start no more tasks; what runs goes on"
        )
        self._hint = widgets.HTML("")
        row = widgets.HBox([self._cancel_button, self._pause_button, self._hint])
        box = widgets.VBox([self._header, row, self._cards, self._speech])
        self._widgets = [box, row, self._header, self._cards, self._speech, self._hint]
        self._widgets += [self._cancel_button, self._pause_button]
        self._cancel_button.on_click(self._cancel_clicked)
        self._pause_button.on_click(self._pause_clicked)
        self.reach = min((keep_responsive(w) for w in (self._cancel_button, self._pause_button)), key=lambda r: r.works)
        if not self.reach.works:
            for button in (self._cancel_button, self._pause_button):
                button.disabled = True
            self._hint.value = "<span>press ■ (interrupt) to stop</span>"
        self._handle = display(box, display_id=True)  # type: ignore[no-untyped-call]

    def _cards_html(self) -> str:
        return render.cards(list(self._progress.slots.values()), time.time())

    def _cancel_clicked(self, _button: Any) -> None:
        self._cancel_button.disabled = True
        self._cancel_button.description = "Cancelling …"
        self._cancel()

    def _pause_clicked(self, _button: Any) -> None:
        self._pause(self._progress.paused is None)

    def tick(self) -> None:
        """Bring the page up to date; what did not change sends nothing."""
        self._header.value = render.header(self._progress)
        self._cards.value = self._cards_html()
        self._pause_button.description = "Go on" if self._progress.paused else "Pause"
        self._pause_button.icon = "play" if self._progress.paused else "pause"
        now = time.monotonic()
        if now - self._spoken_at >= SPEAK_EVERY_S:
            self._spoken_at = now
            self._speech.value = render.spoken(self._progress.summary())

    def close(self, bundle: dict[str, str]) -> None:
        """Put the static output in the view's place, and close all widgets."""
        self._handle.update(bundle, raw=True)
        for widget in self._widgets:
            for part in (getattr(widget, "layout", None), getattr(widget, "style", None)):
                if part is not None:
                    part.close()
            widget.close()
        self._widgets.clear()
