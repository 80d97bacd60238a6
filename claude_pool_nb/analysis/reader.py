"""The frames that a pool shows, read from the ledger: one set of verbs for the blocking and the awaitable pool."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from claude_pool_nb.analysis import selection
from claude_pool_nb.analysis.comparing import Comparing
from claude_pool_nb.analysis.money_reader import MoneyFrames
from claude_pool_nb.analysis.outputs import Outputs
from claude_pool_nb.analysis.periods import Period, When
from claude_pool_nb.display.answers import answers_frame
from claude_pool_nb.errors import ConfigError
from claude_pool_nb.records import SlotRecord, TaskState

if TYPE_CHECKING:
    import pandas as pd

    from claude_pool_nb.store.ledger import Ledger


class Frames(MoneyFrames, Outputs, Comparing):
    """Everything that can be looked at as a DataFrame; oldest first, with proper dtypes, also when empty."""

    @property
    @abstractmethod
    def ledger(self) -> Ledger:
        """Where everything is written, and read from."""

    @abstractmethod
    def slot_records(self) -> list[SlotRecord]:
        """The slots as they are now."""

    def frame(self, run_id: str) -> pd.DataFrame:
        """One row per task of a run, in the order of its input.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     run = pool.fan_out(["a poem", "a limerick"])
            ...     len(pool.frame(run.id))
            2
        """
        from claude_pool_nb.analysis import frames

        return frames.task_frame(self.ledger, run_ids=[run_id])

    def tasks(
        self, *, state: str | None = None, tag: str | None = None, run: Any = None, limit: int | None = None
    ) -> pd.DataFrame:
        """The tasks of this store.

        Args:
            state: Only those in this state.
            tag: Only those with this tag.
            run: Only those of this run, its id or its frame, or of several.
            limit: At most so many, the latest.

        Raises:
            ConfigError: There is no such state.
            RunNotFound: There is no such run.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     run = pool.fan_out(["a poem", "a limerick"], tags=["night"])
            ...     len(pool.tasks(state="completed", tag="night"))
            2
        """
        from claude_pool_nb.analysis import frames

        frame = frames.task_frame(
            self.ledger,
            run_ids=selection.run_ids(self.ledger, run),
            states=[_task_state(state)] if state else (),
            tags=[tag] if tag else (),
            limit=limit,
        )
        return answers_frame(frame)

    def slots(self) -> pd.DataFrame:
        """The slots of this pool as they are now.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:", slots=2) as pool:
            ...     list(pool.slots()["slot_id"])
            ['s1', 's2']
        """
        from claude_pool_nb.analysis import frames

        return frames.slot_frame(self.slot_records())

    def runs(self) -> pd.DataFrame:
        """The runs of this store.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     run = pool.fan_out(["a poem", "a limerick"])
            ...     pool.runs()[["run_id", "verb", "total"]].to_dict("records")
            [{'run_id': 'r1', 'verb': 'fan_out', 'total': 2}]
        """
        from claude_pool_nb.analysis import frames

        return frames.run_frame(self.ledger)

    def events(self, *, run: Any = None) -> pd.DataFrame:
        """Every state change of this store, or of a run: given as itself, as its id or its frame; or of several.

        Raises:
            RunNotFound: There is no such run.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     result = pool.run("a poem")
            ...     len(pool.events(run=result.run_id)) > 2
            True
        """
        from claude_pool_nb.analysis import frames

        return frames.event_frame(self.ledger, run_ids=selection.run_ids(self.ledger, run))

    def history(self, q: str | None = None, limit: int | None = 100, *, since: When = None) -> pd.DataFrame:
        """Earlier tasks of this store, also those of earlier kernels, oldest first.

        Args:
            q: Only those in whose prompt or answer all of these words occur, in any order and whatever their case: a
                word at the beginning of words, a `"quoted phrase"` as it stands.
            limit: At most so many, the latest; None for all.
            since: Only those accepted from then on: a datetime, a date, `2026-01-31`, or `2h` or `7d` before now.

        Raises:
            ConfigError: `since` is no time.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     run = pool.fan_out(["a poem on rust", "a limerick on rust and dust"])
            ...     list(pool.history("dust rust")["task_id"]), len(pool.history('"on rust"', since="1h"))
            (['r1.2'], 2)
        """
        from claude_pool_nb.analysis import frames

        since_at = Period.of(since).since_at
        return answers_frame(frames.history_frame(self.ledger, q=q, limit=limit, since_at=since_at))

    def conversations(self) -> pd.DataFrame:
        """The named conversations of this store.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     result = pool.run("My name is Ada.", conversation="talk")
            ...     list(pool.conversations()["name"])
            ['talk']
        """
        from claude_pool_nb.analysis import frames

        return frames.conversation_frame(self.ledger)


def _task_state(word: str) -> TaskState:
    try:
        return TaskState(word)
    except ValueError:
        raise ConfigError(f"there is no task state {word!r}; choose from {', '.join(TaskState)}") from None
