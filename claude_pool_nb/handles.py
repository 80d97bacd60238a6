"""What the verbs hand back: `Task` and `Run`, which can be waited for, awaited, stopped and looked at from any thread.

A handle holds ids and its pool, never a copy of anything: what it shows is read from the core or the ledger when it is
asked. It works the same after a kernel restart, for a run of a pool that is gone.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from claude_pool_nb.display.runs import RunSummary, run_html
from claude_pool_nb.records import PLAY_BACKENDS, RunRecord, RunState, StopReason, TaskResult, TaskState, usd

if TYPE_CHECKING:
    import pandas as pd

    from claude_pool_nb.aio import AsyncPool
    from claude_pool_nb.analysis.preview import Preview


def key_of(what: object) -> str:
    """The id of a run or task, or as text what was given in its place: that names none, and is told as such.

    Example:
        >>> key_of("r12.3"), key_of(12)
        ('r12.3', '12')
    """
    return what.id if isinstance(what, Task | Run) else str(what)


class Task:
    """One prompt on its way, or done.

    Example:
        >>> from claude_pool_nb import Pool
        >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
        ...     task = pool.submit("How many words are in this?")
        ...     str(task.result(timeout_s=10).state), task.done, task.run.id
        ('completed', True, 'r1')
        >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
        ...     pool.pause()
        ...     task = pool.submit("not that")
        ...     task.cancel()
        ...     pool.wait(task)
        ...     str(task.state)
        'cancelled'
    """

    def __init__(self, pool: AsyncPool, task_id: str) -> None:
        self._pool = pool
        self.id = task_id

    @property
    def state(self) -> TaskState:
        """Where it is."""
        return self._pool.task_record(self.id).state

    @property
    def done(self) -> bool:
        """True once it is completed, failed, cancelled or interrupted."""
        return self.state.is_final

    @property
    def run(self) -> Run:
        """The run it belongs to."""
        return Run(self._pool, self.id.split(".")[0])

    def result(self, timeout_s: float | None = None) -> TaskResult:
        """Wait for the answer.

        Args:
            timeout_s: How long, in seconds; None for as long as it takes.

        Raises:
            TaskFailed: it did not complete; `.result` holds what there is of it.
            TimeoutError: it is not done yet; it goes on.
            PoolPaused: the pool paused itself.
        """
        return self._pool.blocking.result(self.id, timeout_s)

    def cancel(self) -> None:
        """Stop it for good; what it has cost is booked."""
        self._pool.stop_later(self.id, StopReason.CANCEL)

    def __await__(self) -> Generator[Any, None, TaskResult]:
        return self._pool.result(self.id).__await__()

    def __repr__(self) -> str:
        return f"<Task {self.id} {self.state}>"


class Run:
    """The tasks that one call made: one row per prompt, in order; an error is a row.

    Example:
        >>> from claude_pool_nb import Pool
        >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
        ...     run = pool.fan_out(["a poem", "a limerick"])
        ...     len(run), str(run.state), list(run.frame["state"])
        (2, 'completed', ['completed', 'completed'])
        >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
        ...     pool.pause()
        ...     run = pool.fan_out(["a poem", "a limerick"], wait=False)
        ...     run.interrupt()
        ...     stopped = run.wait().counts()
        ...     pool.unpause()
        ...     resumed = run.resume().counts()
        ...     run.retry()  # nothing has failed
        ...     run.cancel()  # nor is anything left to stop
        ...     stopped, resumed, len(run.failed), [result.output for result in run.results if not result.output]
        <Run r1 completed: 2 completed, $0.0001>
        ({'interrupted': 2}, {'completed': 2}, 0, [])
    """

    def __init__(self, pool: AsyncPool, run_id: str) -> None:
        self._pool = pool
        self.id = run_id

    @property
    def record(self) -> RunRecord:
        """What was accepted, and where it is."""
        return self._pool.run_record(self.id)

    @property
    def state(self) -> RunState:
        """Where it is; `completed` means that all its tasks are final, whatever failed."""
        return self._pool.run_record(self.id).state

    @property
    def done(self) -> bool:
        """True once all its tasks are final."""
        return self.state.is_final

    @property
    def frame(self) -> pd.DataFrame:
        """One row per task, in the order of the input; unfinished ones too."""
        return self._pool.frame(self.id)

    @property
    def failed(self) -> pd.DataFrame:
        """The rows of the frame that did not complete."""
        frame = self.frame
        return frame[frame["state"].isin(["failed", "cancelled", "interrupted"])]

    @property
    def results(self) -> list[TaskResult]:
        """What there is of every task, in order."""
        return self._pool.task_results(self.id)

    @property
    def cost_usd(self) -> float:
        """Dollars of all its attempts so far."""
        return usd(sum(task.cost_nano for task in self._pool.task_records(self.id)))

    @property
    def preview(self) -> Preview:
        """What it was thought to cost, by what had run before it, beside what it did cost."""
        return self._pool.preview_run(self.id)

    def counts(self) -> dict[str, int]:
        """How many of its tasks are in each state."""
        counts: dict[str, int] = {}
        for task in self._pool.task_records(self.id):
            counts[str(task.state)] = counts.get(str(task.state), 0) + 1
        return counts

    def wait(self, timeout_s: float | None = None) -> Run:
        """Wait until all its tasks are final.

        Raises:
            TimeoutError: it is not done yet; it goes on.
            PoolPaused: the pool paused itself; the rest of the run is kept.
        """
        self._pool.blocking.wait(self, timeout_s)
        return self

    def cancel(self) -> None:
        """Stop what has not finished, for good; finished rows stay."""
        self._pool.stop_later(self.id, StopReason.CANCEL)

    def interrupt(self, *, kill: bool = False) -> None:
        """Stop what has not finished; `resume` goes on with it."""
        self._pool.stop_later(self.id, StopReason.INTERRUPT, kill=kill)

    def retry(
        self,
        state: str | Iterable[str] | None = None,
        *,
        rows: Any = None,
        template: str | None = None,
        variables: Mapping[str, Any] | None = None,
        wait: bool = True,
        **overrides: Any,
    ) -> Run:
        """Try its failed tasks again, or those rows that you choose, as they were or with a new template or options.

        Each keeps its id and its row in the frame, and gets a new attempt; nothing has to be merged. What the attempts
        so far gave and cost stays in `pool.attempts()`. The arguments are those of `Pool.retry`.

        Raises:
            ConfigError: something of this cannot be; nothing was changed and nothing spent.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     run = pool.fan_out(["What is 6 * 7?", "What is 2 + 2?"])
            ...     frame = run.retry(rows="output == '4'", template="{{ prompt }} And 20 + 3?").frame
            ...     frame["attempts"].tolist(), frame["prompt"].tolist()
            ([1, 2], ['What is 6 * 7?', 'What is 2 + 2? And 20 + 3?'])
        """
        return self._pool.blocking.retry(
            self.id, state=state, rows=rows, template=template, variables=variables, wait=wait, **overrides
        )

    def resume(self, *, cancelled: bool = False, wait: bool = True) -> Run:
        """Run what was interrupted (and, if asked, what was cancelled)."""
        return self._pool.blocking.resume(self.id, cancelled=cancelled, wait=wait)

    def export(
        self,
        path: str | Path,
        *,
        what: str = "tasks",
        columns: Sequence[str] | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Write its frame to a file, by its ending: csv, jsonl, parquet, xlsx, html or md; see `Pool.export`.

        Example:
            >>> import tempfile
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     run = pool.fan_out(["a poem", "a limerick"])
            ...     with tempfile.TemporaryDirectory() as folder:
            ...         run.export(f"{folder}/answers.jsonl").read_text().count("completed")
            2
        """
        return self._pool.export(path, self.id, what=what, columns=columns, overwrite=overwrite)

    def __len__(self) -> int:
        return self._pool.run_record(self.id).total

    def __iter__(self) -> Iterator[TaskResult]:
        return iter(self.results)

    def __await__(self) -> Generator[Any, None, Run]:
        return self._pool.finished(self).__await__()

    def summary(self) -> RunSummary:
        """How far it is and what it cost, now.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     summary = pool.fan_out(["a poem", "a limerick"]).summary()
            >>> summary.counts, summary.play_money
            ({'completed': 2}, True)
        """
        record = self.record
        end = record.finished_at or time.time()
        tasks = self._pool.task_records(self.id)
        return RunSummary(
            self.id,
            counts={str(state): number for state, number in self.counts().items()},
            cost_nano=sum(task.cost_nano for task in tasks),
            elapsed_s=max(0.0, end - record.created_at),
            play_money=record.backend in PLAY_BACKENDS,
            errors=tuple(dict.fromkeys(task.error for task in tasks if task.error))[:3],
        )

    def _repr_html_(self) -> str:
        return run_html(self.summary())

    def __repr__(self) -> str:
        counts = ", ".join(f"{number} {state}" for state, number in self.counts().items())
        return f"<Run {self.id} {self.state}: {counts}, ${self.cost_usd:.4f}>"
