"""What leaves a pool: plots of it, and its frames as files.

Invariants: everything is read from the ledger, so that runs of a pool that is gone look the same; nothing here changes
anything but the files that were asked for.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from claude_pool_nb.analysis import selection
from claude_pool_nb.errors import ConfigError, RunNotFound, nearest

if TYPE_CHECKING:
    import pandas as pd

    from claude_pool_nb.analysis.plots import Plots
    from claude_pool_nb.records import BudgetRecord
    from claude_pool_nb.store.ledger import Ledger


EXPORTS = ("tasks", "attempts", "events", "runs", "cost", "metrics")
"""What can be exported."""


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

    @abstractmethod
    def frame(self, run_id: str) -> pd.DataFrame:
        """One row per task of a run, in the order of its input."""

    def export(
        self,
        path: str | Path,
        run: Any = None,
        *,
        what: str = "tasks",
        by: str | Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Write a frame to a file, with what is known of it: models, prices' date, versions, template, tags, units.

        The ending of the path says the format: csv, jsonl (both with the metadata in `PATH.meta.json` beside them),
        parquet (comes back equal, metadata in its schema), xlsx (metadata on the second sheet), html, md (metadata at
        the head). Formulas are defused, markup is escaped, keys and tokens are taken out.

        Args:
            path: Where to; a file that is there is kept unless `overwrite`.
            run: A run, its id, its frame, or several of these; `all` for all of the store; None for the last run.
            what: `tasks`, `attempts`, `events`, `runs`, `cost` or `metrics`.
            by: For `cost` and `metrics`, what to sum by; the model if it is left out.
            columns: Only these columns, in this order.
            overwrite: Replace files that exist.

        Returns:
            Where it was written.

        Raises:
            ConfigError: the ending is unknown, a file is there, its folder is not, or there is no such column.
            RunNotFound: there is no such run, or none at all.
            MissingExtra: a library for this format is not installed.

        Example:
            >>> import tempfile
            >>> import pandas as pd
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     run = pool.fan_out(["a poem", "a limerick"])
            ...     with tempfile.TemporaryDirectory() as folder:
            ...         path = pool.export(f"{folder}/answers.csv", run, columns=["task_id", "state"])
            ...         print(path.read_text())
            task_id,state
            r1.1,completed
            r1.2,completed
            <BLANKLINE>
        """
        return self.exported(path, run, what=what, by=by, columns=columns, overwrite=overwrite)[0]

    def exported(
        self,
        path: str | Path,
        run: Any = None,
        *,
        what: str = "tasks",
        by: str | Sequence[str] | None = None,
        columns: Sequence[str] | None = None,
        overwrite: bool = False,
    ) -> tuple[Path, pd.DataFrame]:
        """Like `export`, with the frame that was written.

        Example:
            >>> import tempfile
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     run = pool.fan_out(["a poem", "a limerick"])
            ...     with tempfile.TemporaryDirectory() as folder:
            ...         path, frame = pool.exported(f"{folder}/answers.md")
            >>> path.name, len(frame)
            ('answers.md', 2)
        """
        from claude_pool_nb.analysis.export import export_frame, form_of
        from claude_pool_nb.analysis.export_about import about_export
        from claude_pool_nb.analysis.files import place

        form_of(path)
        place(path, overwrite=overwrite)
        if what not in EXPORTS:
            raise ConfigError(f"there is no export of {what!r}{nearest(str(what), EXPORTS)}")
        if by is not None and what not in {"cost", "metrics"}:
            raise ConfigError(f"by= is for the export of cost and metrics, not of {what}")
        if run is None:
            last = selection.last_run_id(self.ledger)
            if last is None:
                raise RunNotFound(selection.NO_RUN)
            ids: list[str] | None = [last]
        else:
            ids = selection.run_ids(self.ledger, run)
        frame = self._frame_of(what, ids, by)
        about = about_export(self.ledger, frame, what, ids)
        return export_frame(frame, path, about=about, columns=columns, overwrite=overwrite), frame

    def _frame_of(self, what: str, ids: list[str] | None, by: str | Sequence[str] | None) -> pd.DataFrame:
        """The frame that is exported."""
        from claude_pool_nb.analysis import frames
        from claude_pool_nb.analysis.metrics import metric_frame

        ledger = self.ledger
        keys = ["model"] if by is None else [by] if isinstance(by, str) else list(by)
        match what:
            case "tasks":
                return self.frame(ids[0]) if ids and len(ids) == 1 else frames.task_frame(ledger, run_ids=ids)
            case "attempts":
                return frames.attempt_frame(ledger, run_ids=ids)
            case "runs":
                return frames.run_frame(ledger, run_ids=ids)
            case "cost":
                return frames.cost_frame(ledger, keys, run_ids=ids)
            case "metrics":
                return metric_frame(ledger, by=keys, run_ids=ids)
            case _:
                return frames.event_frame(ledger, run_ids=ids)
