"""The live view of one waiting cell: it appears after half a second, follows the run, and leaves a static line behind.

It is made ready a little before it appears, because the page takes its time over the first widgets of a notebook.

Invariants: the static output is made from the run's records, and is the same however the run was shown; no widget
outlives its cell; a view that breaks never breaks the run: its error is told below the line.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from claude_pool_nb.display.endings import FIRST, Answer, RunEnding, Span
from claude_pool_nb.display.runs import RunSummary
from claude_pool_nb.errors import PoolError
from claude_pool_nb.notebook.live.controls import Controls
from claude_pool_nb.notebook.live.follow import Follower
from claude_pool_nb.notebook.live.mode import Mode, decide
from claude_pool_nb.notebook.live.panel import Panel, close_all, in_output_widget, shown_live
from claude_pool_nb.records import PLAY_BACKENDS, TaskRecord, TaskState
from claude_pool_nb.store import queries

if TYPE_CHECKING:
    from claude_pool_nb.handles import Run
    from claude_pool_nb.notebook.live.progress import Progress
    from claude_pool_nb.pool import Pool

READY_AFTER_S = 0.2
"""What is done by then makes no widgets."""
APPEARS_AFTER_S = 0.5
"""What is done by then shows no view."""
MAX_ERRORS = 3
"""So many different errors are told in the static line."""


class Shown(Protocol):
    """A way to show progress."""

    @property
    def shown(self) -> bool:
        """Whether it is on the page."""

    def prepare(self) -> None:
        """Get ready to appear."""

    def show(self) -> None:
        """Appear."""

    def tick(self) -> None:
        """Come up to date."""

    def close(self, bundle: dict[str, str]) -> bool:
        """Go away; True if the static output was left in its place."""


class WidgetView:
    """Widgets in the output of the cell."""

    def __init__(self, progress: Progress, make: Callable[[], Panel]) -> None:
        self._progress, self._make = progress, make
        self._panel: Panel | None = None
        self._handle: Any = None

    @property
    def shown(self) -> bool:
        """Whether it is on the page."""
        return self._handle is not None

    def prepare(self) -> None:
        """Make the widgets: the page learns of them, and loads what shows them."""
        import ipywidgets as widgets

        self._panel = self._make()
        self._box = widgets.VBox(self._panel.children)

    def show(self) -> None:
        """Display them as they are now."""
        from IPython.display import display

        self.tick()
        bundle = shown_live(self._box, self._progress)
        self._handle = display(bundle, raw=True, display_id=True)  # type: ignore[no-untyped-call]

    def tick(self) -> None:
        """Bring them up to date."""
        if self._panel is not None:
            self._panel.tick()

    def close(self, bundle: dict[str, str]) -> bool:
        """Put the static output in their place, and close them all."""
        replaced = self._handle is not None and not in_output_widget()
        if replaced:
            self._handle.update(bundle, raw=True)
        if self._panel is not None:
            close_all([*self._panel.widgets, self._box])
        return replaced


class LiveView:
    """The view of one run in one cell.

    Args:
        pool: The pool that runs it.
        run: The run.
        shell: The IPython shell.
        mode: auto, widget, static or off.
        task_id: The one task that the cell waits for, if it is one: Cancel stops only it.
        began: When the cell began, as `time.monotonic()` says; now, if it is not given.
    """

    def __init__(
        self,
        pool: Pool,
        run: Run,
        shell: Any,
        *,
        mode: str = "auto",
        task_id: str | None = None,
        began: float | None = None,
    ) -> None:
        self._pool = pool
        self._run = run
        self.mode = decide(mode, shell)
        self._cancels = task_id or run.id
        self._began = time.monotonic() if began is None else began
        self._view: Shown | None = None
        self._follower: Follower | None = None

    def start(self) -> None:
        """Begin to follow the run."""
        if self.mode in {Mode.OFF, Mode.STATIC}:
            return
        follower = self._follower = Follower(self._pool, self._run.id, self._paint)
        if self.mode is Mode.LINE:
            from claude_pool_nb.notebook.live.terminal import LineView

            self._view = LineView(follower.progress)
        else:
            known = follower.progress
            self._view = WidgetView(known, lambda: Panel(known, Controls(self._pool, known, cancels=self._cancels)))
        follower.begin()
        follower.start(
            (self._began + READY_AFTER_S, self._view.prepare), (self._began + APPEARS_AFTER_S, self._view.show)
        )

    def _paint(self) -> None:
        if self._view is not None:
            self._view.tick()

    def finish(self) -> None:
        """Stop following, and leave the static line."""
        if self._follower is not None:
            self._follower.stop()
        if self.mode is Mode.OFF:
            return
        ending = self._ending()
        bundle = {"text/plain": ending.text(), "text/html": ending.html()}
        if self._view is not None and self._view.close(bundle):
            return
        from IPython.display import display

        display(bundle, raw=True)  # type: ignore[no-untyped-call]

    def _ending(self) -> RunEnding:
        """What became of the run, from its records: a frame would import pandas before the first answer is shown."""
        pool, run_id = self._pool.aio, self._run.id
        tasks = pool.task_records(run_id)
        summary = self._summary(tasks)
        if summary.total < 2:
            return RunEnding(summary)
        try:
            spans = [Span(*row) for row in queries.run_spans(pool.ledger, run_id)]
            outputs = [pool.task_result(task.id).output for task in tasks[:FIRST]]
        except PoolError as error:  # a ledger that cannot be read: the line is known without it
            return RunEnding(replace(summary, warnings=(*summary.warnings, str(error))))
        first = [
            Answer(task.id, str(task.state), task.prompt, output or task.error or "")
            for task, output in zip(tasks, outputs, strict=False)
        ]
        return RunEnding(summary, spans, first)

    def _summary(self, tasks: Sequence[TaskRecord]) -> RunSummary:
        """The run as a line, and the few most frequent reasons of its failures."""
        # A run of an earlier kernel may be of other money than this pool's.
        backend = self._run.record.backend
        budget = self._pool.budget if backend == self._pool.backend else None
        states = Counter(task.state for task in tasks)
        paused = self._pool.status().paused
        failed = (task.error for task in tasks if task.state is TaskState.FAILED)
        errors = Counter(error for error in failed if error and error != paused)
        told = [
            f"{number:,} tasks: {error}" if number > 1 else error for error, number in errors.most_common(MAX_ERRORS)
        ]
        broken = self._follower.broken if self._follower is not None else None
        notes = [f"the live view broke: {broken!r}"] if broken is not None else []
        return RunSummary(
            self._run.id,
            counts={str(state): states[state] for state in TaskState if state in states},
            cost_nano=sum(task.cost_nano for task in tasks),
            elapsed_s=time.monotonic() - self._began,
            left_nano=None if budget is None else budget.left_nano,
            limited=budget is not None and budget.limit_nano is not None,
            play_money=backend in PLAY_BACKENDS,
            errors=told,
            warnings=tuple(notes),
            paused=paused,
        )
