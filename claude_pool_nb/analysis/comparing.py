"""The verb `compare` of both pools."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from claude_pool_nb.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

    from claude_pool_nb.analysis.compare import Comparison
    from claude_pool_nb.store.ledger import Ledger


class Comparing:
    """Runs, models and grid cells side by side."""

    @property
    @abstractmethod
    def ledger(self) -> Ledger:
        """Where everything is written, and read from."""

    @abstractmethod
    def frame(self, run_id: str) -> pd.DataFrame:
        """One row per task of a run."""

    def compare(
        self,
        *runs: Any,
        on: str | Sequence[str] | None = None,
        by: str | Sequence[str] | None = None,
        expect: str | pd.Series[Any] | None = None,
        field: str | None = None,
    ) -> Comparison:
        """Put runs, or the models and grid cells of one run, side by side: row by row, and as a whole.

        Rows belong together by the index of the input. Of several samples of a row the majority answers (of equally
        many, the one that came first). Free text agrees regardless of case and spacing, a field of a structured answer
        only if it is equal.

        Args:
            *runs: Runs, their ids (also of earlier kernels), or their frames, whole or some of their rows. One alone is
                split by its models or its grid.
            on: Columns of the input that say which rows belong together, instead of the index.
            by: What to split by: `model`, or keys of the grid; the rest of the grid tells rows apart.
            expect: A column of the input with the answers that are expected, or a Series of them with the index of the
                input: gives accuracy (a row without an answer is wrong) and a confusion table per variant.
            field: The one column to compare, such as `out_label` (or `label`) or `output`; all fields that the runs'
                schemas share, or the output, by default.

        Returns:
            A Comparison, which displays as a whole: `.frame` (a row per row of the input, a group of columns per
            variant, `agree`), `.summary` (a row per variant), `.agreement`, `.confusion` and `.differing`.

        Raises:
            ConfigError: there is nothing to compare, or a column is not there.
            RunNotFound: an id is no run's.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     first = pool.fan_out(["What is 6 * 7?", "ping"])
            ...     second = pool.fan_out(["What is 6 * 7?", "Count the words: one two"])
            ...     compared = pool.compare(first, second)
            >>> compared.frame["r2"]["output"].tolist(), compared.frame["agree"].tolist()
            (['42', '2'], [True, False])
        """
        from claude_pool_nb.analysis.compare import compare
        from claude_pool_nb.analysis.variants import Source
        from claude_pool_nb.store import queries

        if len(runs) == 1 and not isinstance(runs[0], str) and isinstance(runs[0], Sequence):
            runs = tuple(runs[0])
        sources = []
        for run in runs:
            run_id = (
                run if isinstance(run, str) else getattr(run, "attrs", {}).get("run_id") or getattr(run, "id", None)
            )
            if not isinstance(run_id, str) or "." in run_id:
                what = repr(run) if isinstance(run, str | int) else f"a {type(run).__name__}"
                raise ConfigError(f"compare takes runs, their ids, like 'r12', or their frames, not {what}")
            record = queries.run(self.ledger, run_id)
            frame = self.frame(record.id)
            if "task_id" in getattr(run, "columns", ()):  # the rows that the caller chose, as the ledger has them
                frame = frame[frame["task_id"].isin(run["task_id"])]
            sources.append(Source.of(record.id, frame, record.meta))
        return compare(sources, on=on, by=by, expect=expect, field=field)
