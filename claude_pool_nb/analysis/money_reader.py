"""The frames about money, time and tokens that a pool shows: one set of verbs for the blocking and the awaitable pool.

Invariant: all of them read the whole store, also what earlier kernels did, unless a filter says otherwise.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from claude_pool_nb.analysis import selection
from claude_pool_nb.analysis.periods import Period, When
from claude_pool_nb.display.sums import sums_frame
from claude_pool_nb.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

    from claude_pool_nb.store.ledger import Ledger


class _Filters(TypedDict):
    """Which attempts a frame is about."""

    run_ids: list[str] | None
    period: Period | None
    tags: list[str]
    models: list[str]


class MoneyFrames:
    """What was spent, on what, how fast and how well. Play money (the demo's) and real money are never added up."""

    @property
    @abstractmethod
    def ledger(self) -> Ledger:
        """Where everything is written, and read from."""

    def _filters(
        self, run: Any, since: When, until: When, tags: str | Iterable[str] | None, model: str | Iterable[str] | None
    ) -> _Filters:
        """The filters that the frames have in common, as the readers of the ledger take them."""
        return {
            "run_ids": selection.run_ids(self.ledger, run),
            "period": _period(since, until),
            "tags": _words("tags", tags),
            "models": _words("model", model),
        }

    def attempts(
        self,
        *,
        run: Any = None,
        since: When = None,
        until: When = None,
        tags: str | Iterable[str] | None = None,
        model: str | Iterable[str] | None = None,
        state: str | Iterable[str] | None = None,
        limit: int | None = None,
        outputs: bool = True,
    ) -> pd.DataFrame:
        """Every attempt ever made in this store: what each cost, how long it took, how it ended.

        Args:
            run: Only of this run, its id or its frame, or of several.
            since: Only those started from then on: a datetime, a date, or a span like `2h` or `7d` before now.
            until: Only those started before; a date alone names its whole day.
            tags: Only of tasks with one of these tags.
            model: Only those that this model answered or was asked for, or one of several.
            state: Only those in this state, or in one of several.
            limit: At most so many, the latest.
            outputs: False leaves the outputs out, which are most of the memory.

        Raises:
            ConfigError: A filter cannot be understood.
            RunNotFound: There is no such run.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     result = pool.run("a poem", model="haiku")
            ...     pool.attempts(run=result.run_id, model="haiku", since="1h")["state"].tolist()
            ['completed']
        """
        from claude_pool_nb.analysis.costs import attempt_frame

        if limit is not None and (not isinstance(limit, int) or limit < 0):
            raise ConfigError(f"limit={limit!r} cannot work; give a whole number of rows, or None for all")
        return attempt_frame(
            self.ledger,
            **self._filters(run, since, until, tags, model),
            states=_words("state", state),
            limit=limit,
            outputs=outputs,
        )

    def cost(
        self,
        by: str | Sequence[str] = ("model",),
        *,
        since: When = None,
        until: When = None,
        tags: str | Iterable[str] | None = None,
        model: str | Iterable[str] | None = None,
        run: Any = None,
    ) -> pd.DataFrame:
        """What was spent, by model, tag, run, day ...; the dearest first. Every attempt counts, failed ones too.

        A task with two tags is counted under both; what is shown below the table counts it once.

        Args:
            by: What to break down by: backend, conversation, day, failure_kind, hour, model, month, profile,
                requested_model, run_id, slot_id, state, tag. None of them gives one row.
            since: Only from then on: a datetime, a date, or a span like `2h` or `7d` before now.
            until: Only before; a date alone names its whole day.
            tags: Only tasks with one of these tags.
            model: Only what this model answered or was asked for, or one of several.
            run: Only this run, its id or its frame, or several.

        Raises:
            ConfigError: A key or a filter cannot be understood.
            RunNotFound: There is no such run.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     run = pool.fan_out(["a poem", "a limerick"], tags=["night"])
            ...     list(pool.cost(by=["tag"])["tag"])
            ['night']
        """
        from claude_pool_nb.analysis.costs import cost_frame

        frame = cost_frame(
            self.ledger,
            by=_words("by", by),
            **self._filters(run, since, until, tags, model),
        )
        return sums_frame(frame, label="costs")

    def metrics(
        self,
        by: str | Sequence[str] | None = None,
        *,
        since: When = None,
        until: When = None,
        tags: str | Iterable[str] | None = None,
        model: str | Iterable[str] | None = None,
        run: Any = None,
    ) -> pd.DataFrame:
        """What tasks and attempts came to: counts by state, rates, dollars, tokens, cache savings, percentiles of time.

        One row per group, or one row in all; real and play money in rows of their own. Columns carry their units:
        `_usd` dollars, `_s` seconds; a rate is between 0 and 1. Each attempt counts once, failed and repeated ones too;
        a task with two tags is in the row of each, so rows by tag are not to be added up.

        An attempt belongs to when it started, to the model that answered and to its slot; a task belongs where its last
        attempt does, and one that was never started to when it was accepted.

        Args:
            by: What to group by, one or several of: backend, budget, conversation, day, failure_kind, hour, model,
                month, pool_id, profile, requested_model, role, run_id, slot_id, state, tag, verb; and any input column
                or grid key of the runs. None for one row.
            since: Only what started from then on: a datetime, a date, or a span like `2h` or `7d` before now.
            until: Only what started before; a date alone names its whole day.
            tags: Only tasks with one of these tags.
            model: Only what this model answered or was asked for, or one of several.
            run: Only this run, its id or its frame, or several.

        Returns:
            A frame of which the most telling columns are shown; `claude_pool_nb.analysis.metrics.metric_frame` tells
            what each of them means.

        Raises:
            ConfigError: A key or a filter cannot be understood.
            RunNotFound: There is no such run.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     run = pool.fan_out(["a poem", "a limerick"], model="haiku", tags=["night"])
            ...     pool.metrics(by=["model", "tag"])[["model", "tag", "completed", "attempts"]].values.tolist()
            [['demo-small', 'night', 2, 2]]
        """
        from claude_pool_nb.analysis.metrics import metric_frame

        frame = metric_frame(
            self.ledger,
            by=_words("by", by),
            **self._filters(run, since, until, tags, model),
        )
        return sums_frame(frame, label="metrics")

    def usage_history(
        self,
        root: str | os.PathLike[str] | None = None,
        *,
        by: str | Sequence[str] | None = None,
        since: When = None,
        until: When = None,
        project: str | None = None,
    ) -> pd.DataFrame:
        """What Claude Code itself has used on this machine, by its own logs: one row per answer of the API.

        Reads `projects/**/*.jsonl` in Claude Code's folder, now and only because you ask; nothing is written or sent,
        and no text of a message is taken over. Dollars are list price times tokens: an estimate, `estimated_usd`.

        Args:
            root: Claude Code's folder, or one that has logs in it; None for CLAUDE_CONFIG_DIR, or ~/.claude.
            by: Sum by these instead: cli_version, day, hour, model, month, project, session_id, sidechain.
            since: Only from then on: a datetime, a date, or a span like `2h` or `7d` before now.
            until: Only before; a date alone names its whole day.
            project: Only of projects with this text in their folder's name.

        Returns:
            The frame, oldest first. `attrs` counts what was read: `files`, `lines`, `repeated_lines` (several lines
            tell of one answer), `bad_lines` (no JSON).

        Raises:
            ConfigError: There is no such folder, or a key or a filter cannot be understood.

        Example:
            >>> import tempfile
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", store=":memory:") as pool, tempfile.TemporaryDirectory() as folder:
            ...     len(pool.usage_history(folder))
            0
        """
        from claude_pool_nb.analysis.usage_logs import usage_frame, usage_sums

        keys = None if by is None else _words("by", by)
        period = _period(since, until)
        if keys is None:
            return usage_frame(root, period=period, project=project)
        return sums_frame(usage_sums(root, keys, period=period, project=project), label="usage of Claude Code")


def _period(since: When, until: When) -> Period | None:
    """The stretch of time between; None for all."""
    return None if since is None and until is None else Period.of(since, until)


def _words(name: str, given: str | Iterable[str] | None) -> list[str]:
    """One word or several, as a list."""
    words: list[Any] = [given] if isinstance(given, str) or not isinstance(given, Iterable) else list(given)
    for word in words:
        if not isinstance(word, str) and given is not None:
            raise ConfigError(f"{name} takes a text or a list of texts, not {word!r}")
    return [] if given is None else words
