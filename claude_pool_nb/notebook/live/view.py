"""The live view of one waiting cell: it appears after half a second, follows the run, and leaves a static line behind.

Invariants: the page is changed at most eight times a second, whatever happens in the pool; the thread that changes it
carries the cell's context, so that its output lands in that cell; the static line is made from the tasks' records,
and is the same however the run was shown; a view that breaks never breaks the run: its error is told below the line.
"""

from __future__ import annotations

import contextvars
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

from claude_pool_nb.display.runs import RunSummary, run_html, run_text
from claude_pool_nb.notebook.live.mode import Mode, decide
from claude_pool_nb.notebook.live.progress import Progress
from claude_pool_nb.records import TaskState

if TYPE_CHECKING:
    from claude_pool_nb.handles import Run
    from claude_pool_nb.pool import Pool

APPEARS_AFTER_S = 0.5
"""What is done by then shows no view."""
TICK_S = 0.125
"""Eight updates a second."""
MAX_ERRORS = 3
"""So many different errors are told in the static line."""


class Shown(Protocol):
    """A way to show progress."""

    @property
    def shown(self) -> bool:
        """Whether it is on the page."""

    def show(self) -> None:
        """Appear."""

    def tick(self) -> None:
        """Come up to date."""


class LiveView:
    """The view of one run in one cell.

    Args:
        pool: The pool that runs it.
        run: The run.
        shell: The IPython shell.
        mode: auto, widget, static or off.
        task_id: The one task that the cell waits for, if it is one: Cancel stops only it.
    """

    def __init__(self, pool: Pool, run: Run, shell: Any, *, mode: str = "auto", task_id: str | None = None) -> None:
        self._pool = pool
        self._run = run
        self.mode = decide(mode, shell)
        self._cancels = task_id or run.id
        self._began = time.monotonic()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._progress = Progress(run.id)
        self._unsubscribe: Any = None
        self._view: Any = None
        self._broken: Exception | None = None

    def start(self) -> None:
        """Begin to follow the run."""
        if self.mode in {Mode.OFF, Mode.STATIC}:
            return
        self._unsubscribe = self._pool.subscribe(self._progress.feed)
        tasks = self._pool.aio.task_records(self._run.id)
        self._progress.seed(
            {task.id: str(task.state) for task in tasks},
            cost_nano=sum(task.cost_nano for task in tasks),
            prompts={task.id: task.prompt for task in tasks},
            slots=self._pool.slot_records(),
            budget=self._pool.budget,
            paused=self._pool.status().paused,
        )
        self._view = self._make_view()
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._follow,), name="claude-pool-live-view", daemon=True
        )
        self._thread.start()

    def _make_view(self) -> Shown:
        if self.mode is Mode.LINE:
            from claude_pool_nb.notebook.live.terminal import LineView

            return LineView(self._progress)
        from claude_pool_nb.notebook.live.widget import WidgetView

        return WidgetView(self._progress, cancel=self._cancel, pause=self._pause)

    def _cancel(self) -> None:
        self._pool.cancel(self._cancels)

    def _pause(self, wanted: bool) -> None:
        if wanted:
            self._pool.pause("paused by the Pause button")
        else:
            self._pool.unpause()

    def _follow(self) -> None:
        if self._over.wait(APPEARS_AFTER_S):
            return
        try:
            self._progress.catch_up()
            self._view.show()
            while not self._over.wait(TICK_S):
                self._progress.catch_up()
                self._progress.budget = self._pool.budget
                self._view.tick()
        except Exception as error:  # noqa: BLE001 - told in the static line; the run itself goes on
            self._broken = error

    def finish(self) -> None:
        """Stop following, and leave the static line."""
        self._over.set()
        if self._unsubscribe is not None:
            self._unsubscribe()
        if self._thread is not None:
            self._thread.join()
        if self.mode is Mode.OFF:
            return
        summary = self._summary()
        bundle = {"text/plain": run_text(summary), "text/html": run_html(summary)}
        if self.mode is Mode.LINE and self._view.shown:
            self._view.clear()
        if self.mode is Mode.WIDGET and self._view.shown:
            self._view.close(bundle)
            return
        from IPython.display import display

        display(bundle, raw=True)  # type: ignore[no-untyped-call]

    def _summary(self) -> RunSummary:
        """What became of the run, from its records: a frame would import pandas before the first answer is shown."""
        # A run of an earlier kernel may be of other money than this pool's.
        backend = self._run.record.backend
        budget = self._pool.budget if backend == self._pool.backend else None
        tasks = self._pool.aio.task_records(self._run.id)
        states = [task.state for task in tasks]
        paused = self._pool.status().paused
        errors = dict.fromkeys(task.error for task in tasks if task.error and task.error != paused)
        notes = [f"the live view broke: {self._broken!r}"] if self._broken is not None else []
        return RunSummary(
            self._run.id,
            counts={str(state): states.count(state) for state in TaskState if state in states},
            cost_nano=sum(task.cost_nano for task in tasks),
            elapsed_s=time.monotonic() - self._began,
            left_nano=None if budget is None else budget.left_nano,
            limited=budget is not None and budget.limit_nano is not None,
            play_money=backend in {"demo", "replay"},
            errors=tuple(errors)[:MAX_ERRORS],
            warnings=tuple(notes),
            paused=paused,
        )
