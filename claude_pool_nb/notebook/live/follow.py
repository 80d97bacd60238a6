"""Following a pool from a thread of the view's own: events in, a call of `paint` out.

Invariants: the page is painted at most eight times a second, whatever happens in the pool, and not at all while nothing
does; the pool's own thread only puts events into a queue; what the follower's thread shows lands in the cell that
started it; a view that breaks never breaks the run.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from claude_pool_nb.display.pools import warming_line
from claude_pool_nb.errors import PoolError
from claude_pool_nb.notebook.live.progress import Progress
from claude_pool_nb.records import TaskRecord

if TYPE_CHECKING:
    from claude_pool_nb.engine.slots import Activity
    from claude_pool_nb.pool import Pool

TICK_S = 0.125
"""Eight looks a second."""
SECOND_S = 1.0
"""So often what is counted in seconds is painted again, and the slots' memory is looked at."""


class Follower:
    """Keeps a `Progress` up to date and calls `paint` when there is something new to see.

    Args:
        pool: The pool.
        run_id: The run to follow; None for all that the pool does.
        paint: Called on the follower's thread.
        ended: Called there once, when it follows no more: it was stopped, the pool is over, or `paint` failed.
    """

    def __init__(
        self,
        pool: Pool,
        run_id: str | None,
        paint: Callable[[], None],
        *,
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        self.pool = pool
        self.progress = Progress(run_id, find=self._find)
        self.broken: Exception | None = None
        self._paint, self._ended = paint, ended
        self._over = threading.Event()
        self._unsubscribe: Callable[[], None] = lambda: None
        self._thread: threading.Thread | None = None
        self._second_at = 0.0

    def begin(self) -> None:
        """Take in what there is; from then on nothing is missed."""
        pool, progress = self.pool, self.progress
        self._unsubscribe = pool.subscribe(progress.feed)
        if progress.run_id is not None:
            tasks = pool.aio.task_records(progress.run_id)
        else:
            runs = [run.id for run in pool.aio.engine.state.runs() if not run.finished_at]
            tasks = [task for run in runs for task in pool.aio.task_records(run)]
        slots = pool.slot_records()
        progress.seed(tasks, slots=slots, budget=pool.budget, paused=pool.status().paused)
        progress.describe(slots)

    def start(self, *steps: tuple[float, Callable[[], None]]) -> None:
        """Follow on a thread: take these steps, each at its time (`time.monotonic()`), then paint what is new."""
        context = contextvars.copy_context()
        self._thread = threading.Thread(
            target=context.run, args=(self._follow, steps), name="claude-pool-live-view", daemon=True
        )
        self._thread.start()

    def _follow(self, steps: Sequence[tuple[float, Callable[[], None]]]) -> None:
        try:
            for at, step in steps:
                if self._over.wait(max(0.0, at - time.monotonic())):
                    return
                self.look()
                step()
            while not self._over.wait(TICK_S):
                if self.look():
                    self._paint()
                if self.progress.closed or self.pool.closed:
                    self._over.set()
        except Exception as error:  # noqa: BLE001 - told in the static output; the run itself goes on
            self.broken = error
        finally:
            self._unsubscribe()
            self._ended()

    def wait_idle(self) -> None:
        """Wait until nothing is under way any more."""
        while self.progress.open and not self._over.wait(TICK_S):
            pass

    def look(self) -> bool:
        """Take in what happened; True if there is something new to see."""
        pool, progress = self.pool, self.progress
        changed = progress.catch_up()
        runners = pool.aio.engine.runners
        working = False
        for slot_id, card in tuple(progress.slots.items()):
            if card.state != "busy":
                continue
            working = True
            runner = runners.get(slot_id)
            if runner is not None and runner.activity.task_id == card.task_id:
                tail = runner.activity.tail if progress.tails else ""
                changed |= progress.act(slot_id, doing(runner.activity), tail)
        budget = pool.budget
        if budget != progress.budget:
            progress.budget, changed = budget, True
        hold = warming_line(pool.status()) if progress.open else ""
        if hold != progress.hold:
            progress.hold, changed = hold, True
        now = time.monotonic()
        if now - self._second_at >= SECOND_S:
            self._second_at = now
            if working or changed or progress.open:
                progress.describe(pool.slot_records())
                changed = True
        return changed

    def stop(self) -> None:
        """Follow no more; returns when nothing is painted any more."""
        self._over.set()
        self._unsubscribe()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def _find(self, task_id: str) -> TaskRecord | None:
        try:
            return self.pool.aio.task_record(task_id)
        except PoolError:
            return None


def doing(activity: Activity) -> str:
    """What a turn does at this moment.

    Example:
        >>> from claude_pool_nb.engine.slots import Activity
        >>> doing(Activity(tool="Bash")), doing(Activity(thinking=True)), doing(Activity(tail="So")), doing(Activity())
        ('uses Bash', 'thinking', 'writing', 'asking')
    """
    if activity.tool:
        return f"uses {activity.tool}"
    if activity.thinking:
        return "thinking"
    if activity.tail:
        return "writing"
    return activity.note or "asking"
