"""What tasks and attempts came to, in groups: counts, dollars, tokens, seconds and rates.

Invariants: an attempt is counted once, also a failed, interrupted, late or repeated one; play money and real money are
never in one row; a task with two tags is in the row of each, so that rows by tag are not to be added up. A rate, a mean
or a percentile of nothing is missing, a sum or a count of nothing is 0; dollars that are not known are missing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from claude_pool_nb.analysis import columns as col
from claude_pool_nb.analysis.costs import TOKENS
from claude_pool_nb.analysis.metric_rows import Rows, read_rows
from claude_pool_nb.analysis.periods import Period
from claude_pool_nb.pricing import list_price
from claude_pool_nb.records import NANO_PER_USD, FailureKind, TaskState
from claude_pool_nb.store.ledger import Ledger

_PICO = 1_000
_STATES = (
    TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED, TaskState.INTERRUPTED, TaskState.PENDING,
    TaskState.WAITING, TaskState.RUNNING, TaskState.PENDING_REVIEW,
)  # fmt: skip


def metric_frame(
    ledger: Ledger,
    by: Iterable[str] | str | None = None,
    *,
    run_ids: Iterable[str] | None = None,
    period: Period | None = None,
    tags: Iterable[str] = (),
    models: Iterable[str] = (),
) -> pd.DataFrame:
    """One row per group, in the order of the keys; without keys one row for each kind of money, and always one.

    The first column is `play_money`, then come the keys, then:

    - `tasks` and, of them, `completed`, `failed`, `cancelled`, `interrupted`, `pending`, `waiting`, `running`,
      `pending_review`; `success_rate`: completed of those that completed or failed; `cached`: answered without asking
      anybody, from a tape or with an earlier answer.
    - `attempts`, `retries` (those after a task's first), `late_attempts` (whose answer came after they were given up),
      `error_rate`: failed attempts of those that completed or failed; `failures` and `failures_<kind>`: attempts that
      failed, and tasks that failed without one (no money for them, no slot in time).
    - `cost_usd`, of which `estimated_usd` is not exact and `unknown_cost_attempts` are not in it; `reserved_usd`: held
      back for attempts that run now; `cost_per_task_usd`: all that was spent, for each task that was started;
      `cost_per_completed_usd`: the same for each completed one; `cost_mean_usd`: of the tasks that completed, and
      `cost_max_usd`: of any task, over all of its attempts; `budget_limit_usd`: the walls of the budgets drawn on, and
      `budget_share`: what of them was spent here.
    - `input_tokens`, `output_tokens`, `cache_read_tokens`, `cache_write_tokens`; `cache_hit_rate`: tokens read from the
      prompt cache of all that were sent; `cache_saved_usd`: what they would have cost more at the list price of plain
      input, less what writing them cost more than that.
    - `turns`, `turns_mean` of completed attempts; `output_tokens_per_s` of completed attempts.
    - `wait_s_*`: from being accepted to the first attempt; `duration_s_*`: of completed attempts; each with `mean`,
      `p50`, `p95`, `p99`, `min` and `max`. `api_s`: the part of all attempts that was spent waiting for the API.
    - `busy_s`: of all attempts that are over; `wall_s`: the time in which at least one of them ran; `slots` they ran
      in; `parallelism`: busy of wall; `utilisation`: busy of what the slots had while any of them ran.
    - `first_started_at`, `last_finished_at`.

    An attempt belongs to when it started, to the model that answered and to its slot; a task belongs where its last
    attempt does, and one that was never started to when it was accepted.

    Args:
        ledger: where to read.
        by: of `METRIC_KEYS`, and names of input columns or grid keys; one with the name of a key or a column of ours
            is `input_<name>`.
        run_ids: only of these runs.
        period: only what was started then.
        tags: only tasks with one of these tags.
        models: only what one of these models answered or was asked for.

    Returns:
        The frame; `attrs["totals"]` holds tasks, attempts and nanodollars of each kind of money, each counted once.

    Raises:
        ConfigError: there is nothing of such a name to group by.
        RunNotFound: an id is no run's id.

    Example:
        >>> with Ledger.open(":memory:") as ledger:
        ...     metric_frame(ledger)[["tasks", "cost_usd", "success_rate"]].values.tolist()
        [[0.0, 0.0, nan]]
    """
    keys = [by] if isinstance(by, str) else list(dict.fromkeys(by or ()))
    rows = read_rows(ledger, keys, run_ids=run_ids, period=period, tags=tags, models=models)
    groups = _Groups(rows, at_least_one=not keys)
    computed = {
        **_task_counts(rows, groups),
        **_attempt_counts(rows, groups),
        **_money(rows, groups),
        **_tokens(rows, groups),
        **_times(rows, groups),
    }
    own = {f"input_{name}" if name in computed else name: values for name, values in groups.columns().items()}
    frame = pd.DataFrame({**own, **computed}, copy=False)
    frame.attrs["by"] = list(own)[1:]
    frame.attrs["totals"] = [dict(total) for total in rows.totals]
    return frame


# -- groups ------------------------------------------------------------------------------------------------------------


class _Groups:
    """Which group each task and each attempt is in, and sums over them."""

    def __init__(self, rows: Rows, *, at_least_one: bool) -> None:
        cut = len(rows.tasks["state"])
        every = np.zeros(cut + len(rows.attempts["state"]), dtype=np.int64)
        for key in rows.keys:
            codes = np.concatenate([key.tasks, key.attempts])
            every = every * (key.size + 1) + np.where(codes < 0, key.size, codes)
            every = np.unique(every, return_inverse=True)[1]  # small again, so that many keys do not overflow
        first = np.unique(every, return_index=True)[1]
        self.of_tasks, self.of_attempts = every[:cut], every[cut:]
        self.count = len(first)
        self._codes = {key.name: np.concatenate([key.tasks, key.attempts])[first] for key in rows.keys}
        if at_least_one and not self.count:
            self.count = 1
            self._codes = {key.name: np.zeros(1, dtype=np.int64) for key in rows.keys}
        self._keys = rows.keys

    def columns(self) -> dict[str, Any]:
        """The keys' columns."""
        return {key.name: key.values(self._codes[key.name]) for key in self._keys}

    def number(self, groups: Any, which: Any = None) -> Any:
        """How many there are in each group."""
        return np.bincount(groups if which is None else groups[which], minlength=self.count).astype(np.int64)

    def total(self, groups: Any, values: Any, which: Any = None) -> Any:
        """Sums; what is missing counts nothing."""
        if which is not None:
            groups, values = groups[which], values[which]
        sums = np.bincount(groups, weights=np.nan_to_num(values), minlength=self.count)
        return sums.astype(np.float64)  # of nothing they would be whole

    def whole(self, groups: Any, values: Any, which: Any = None) -> Any:
        """Sums of whole numbers."""
        return np.rint(self.total(groups, values, which)).astype(np.int64)

    def spread(self, name: str, groups: Any, values: Any) -> dict[str, Any]:
        """Mean, percentiles, least and most; what is missing is left out."""
        there = ~np.isnan(values)
        groups, values = groups[there], values[there]
        order = np.lexsort((values, groups))
        ordered = np.append(values[order], np.nan)
        counts = self.number(groups)
        ends = np.cumsum(counts)
        starts = ends - counts
        some = counts > 0

        def quantile(share: float) -> Any:
            place = np.maximum(counts - 1, 0) * share
            below = np.floor(place).astype(np.int64)
            low = np.where(some, starts + below, -1)
            high = np.where(some, np.minimum(starts + below + 1, ends - 1), -1)
            return ordered[low] + (ordered[high] - ordered[low]) * (place - below)

        return {
            f"{name}_mean": _ratio(self.total(groups, values), counts),
            f"{name}_p50": quantile(0.50),
            f"{name}_p95": quantile(0.95),
            f"{name}_p99": quantile(0.99),
            f"{name}_min": quantile(0.0),
            f"{name}_max": quantile(1.0),
        }


def _ratio(part: Any, whole: Any) -> Any:
    """A quotient, missing where there is nothing to divide by."""
    whole = np.asarray(whole, dtype=np.float64)
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole != 0)


def _usd(nanos: Any) -> Any:
    """Nanodollars as dollars."""
    return np.asarray(nanos, dtype=np.float64) / NANO_PER_USD


def _is(values: Any, *words: str) -> Any:
    """Which values of a category are one of these words."""
    codes = [values.categories.get_loc(word) for word in words]
    return np.isin(values.codes, codes)


# -- columns -----------------------------------------------------------------------------------------------------------


def _task_counts(rows: Rows, groups: _Groups) -> dict[str, Any]:
    """Tasks by state."""
    of, state = groups.of_tasks, rows.tasks["state"]
    counts = {str(name): groups.number(of, _is(state, name)) for name in _STATES}
    return {
        "tasks": groups.number(of),
        **counts,
        "success_rate": _ratio(counts["completed"], counts["completed"] + counts["failed"]),
        "cached": groups.number(of, rows.tasks["cached"]),
    }


def _attempt_counts(rows: Rows, groups: _Groups) -> dict[str, Any]:
    """Attempts, and how they failed."""
    of, a, t = groups.of_attempts, rows.attempts, rows.tasks
    failed, completed = _is(a["state"], "failed"), _is(a["state"], "completed")
    kinds = t["failure_kind"].codes
    unseen = _is(t["state"], "failed") & (kinds >= 0) & (kinds != t["failure_seen"])
    failures = {
        kind: groups.number(of, failed & _is(a["failure_kind"], kind))
        + groups.number(groups.of_tasks, unseen & _is(t["failure_kind"], kind))
        for kind in FailureKind
    }
    return {
        "attempts": groups.number(of),
        "retries": groups.number(of, a["number"] > 1),
        "late_attempts": groups.number(of, a["late"]),
        "error_rate": _ratio(groups.number(of, failed), groups.number(of, failed | completed)),
        "failures": sum(failures.values(), np.zeros(groups.count, dtype=np.int64)),
        **{f"failures_{kind}": number for kind, number in failures.items()},
    }


def _money(rows: Rows, groups: _Groups) -> dict[str, Any]:
    """Dollars."""
    of, a, t = groups.of_attempts, rows.attempts, rows.tasks
    cost = groups.whole(of, a["cost_nano"])
    started, completed = t["started"], _is(t["state"], "completed")
    asked = completed & started
    dearest = np.full(groups.count, -1.0)
    np.maximum.at(dearest, groups.of_tasks[started], t["cost_nano"][started])
    limit, walled = _limits(rows, groups)
    return {
        "cost_usd": _usd(cost),
        "estimated_usd": _usd(groups.whole(of, a["cost_nano"], ~_is(a["cost_basis"], "exact"))),
        "unknown_cost_attempts": groups.number(of, _is(a["cost_basis"], "unknown")),
        "reserved_usd": _usd(groups.whole(of, a["reserved_nano"], _is(a["state"], "running"))),
        "cost_per_task_usd": _usd(_ratio(cost, groups.number(groups.of_tasks, started))),
        "cost_per_completed_usd": _usd(_ratio(cost, groups.number(groups.of_tasks, completed))),
        "cost_mean_usd": _usd(
            _ratio(groups.whole(groups.of_tasks, t["cost_nano"], asked), groups.number(groups.of_tasks, asked))
        ),
        "cost_max_usd": _usd(np.where(dearest < 0, np.nan, dearest)),
        "budget_limit_usd": _usd(np.where(limit > 0, limit, np.nan)),
        "budget_share": _ratio(groups.whole(of, a["cost_nano"], walled), limit),
    }


def _limits(rows: Rows, groups: _Groups) -> tuple[Any, Any]:
    """The walls of the budgets that each group drew on, in nanodollars, and which attempts drew on one."""
    budget = rows.attempts["budget_id"]
    limit_of = {number: limit for number, limit in rows.limits.items() if limit is not None}
    walled = np.isin(budget, list(limit_of))
    width = int(budget.max(initial=0)) + 1
    pairs = np.unique(groups.of_attempts[walled] * width + budget[walled])
    limits = np.array([limit_of[number] for number in (pairs % width).tolist()], dtype=np.float64)
    return np.bincount(pairs // width, weights=limits, minlength=groups.count), walled


def _tokens(rows: Rows, groups: _Groups) -> dict[str, Any]:
    """Tokens, and what the prompt cache saved."""
    of, a = groups.of_attempts, rows.attempts
    tokens = {name: groups.whole(of, a[name]) for name in TOKENS}
    sent = tokens["input_tokens"] + tokens["cache_read_tokens"] + tokens["cache_write_tokens"]
    completed = _is(a["state"], "completed")
    timed = completed & (a["duration_s"] > 0)
    saved = _saved_pico(a)
    unknown = groups.number(of, np.isnan(saved)) > 0
    return {
        **tokens,
        "cache_hit_rate": _ratio(tokens["cache_read_tokens"], sent),
        "cache_saved_usd": np.where(unknown, np.nan, _usd(groups.total(of, saved) / _PICO)),
        "turns": groups.whole(of, a["turns"]),
        "turns_mean": _ratio(groups.total(of, a["turns"], completed), groups.number(of, completed)),
        "output_tokens_per_s": _ratio(
            groups.total(of, a["output_tokens"], timed), groups.total(of, a["duration_s"], timed)
        ),
    }


def _saved_pico(a: dict[str, Any]) -> Any:
    """What the prompt cache saved each attempt, in picodollars; missing where no price is known."""
    saved = np.zeros(len(a["task"]))
    used = np.flatnonzero((a["cache_read_tokens"] > 0) | (a["cache_write_tokens"] > 0))
    if not len(used):
        return saved
    read, written = a["cache_read_tokens"][used], a["cache_write_tokens"][used]
    model, backend = a["model"], a["backend"]
    pair = model.codes[used].astype(np.int64) * (len(backend.categories) + 1) + backend.codes[used]
    size = (a["input_tokens"][used] + read + written) / np.maximum(a["turns"][used], 1)  # of one request
    for code in np.unique(pair):
        here = pair == code
        name = model[used[here][0]]
        price = None if pd.isna(name) else list_price(str(name), backend=str(backend[used[here][0]]))
        if price is None:
            saved[used[here]] = np.nan
            continue
        tiers = price.tiers
        tier = np.maximum(np.searchsorted([t.above_tokens for t in tiers], size[here], side="left") - 1, 0)
        per_read = np.array([t.input_pico - t.cache_read_pico for t in tiers], dtype=np.float64)[tier]
        per_write = np.array([t.cache_write_pico - t.input_pico for t in tiers], dtype=np.float64)[tier]
        saved[used[here]] = read[here] * per_read - written[here] * per_write
    return saved


def _times(rows: Rows, groups: _Groups) -> dict[str, Any]:
    """Seconds."""
    of, a, t = groups.of_attempts, rows.attempts, rows.tasks
    over = ~np.isnan(a["finished_at"])
    begin, end, here = a["started_at"][over], np.maximum(a["finished_at"][over], a["started_at"][over]), of[over]
    busy = groups.total(here, end - begin)
    wall = _union(here, begin, end, groups.count)
    slots, offered = _offered(here, a["pool"][over], a["slot_id"].codes[over], begin, end, groups.count)
    ran = _is(a["state"], "completed") & ~np.isnan(a["duration_s"])
    first, last = np.full(groups.count, np.inf), np.full(groups.count, -np.inf)
    np.minimum.at(first, of, a["started_at"])
    np.maximum.at(last, here, end)
    return {
        **groups.spread("wait_s", groups.of_tasks, t["started_at"] - t["created_at"]),
        **groups.spread("duration_s", of, np.where(ran, a["duration_s"], np.nan)),
        "api_s": groups.total(of, a["api_s"]),
        "busy_s": busy,
        "wall_s": wall,
        "slots": slots,
        "parallelism": _ratio(busy, wall),
        "utilisation": _ratio(busy, offered),
        "first_started_at": col.instant(np.where(np.isinf(first), np.nan, first)),
        "last_finished_at": col.instant(np.where(np.isinf(last), np.nan, last)),
    }


def _union(groups: Any, begin: Any, end: Any, count: int) -> Any:
    """The seconds of each group that are covered by at least one interval."""
    if not len(groups):
        return np.zeros(count)
    order = np.lexsort((begin, groups))
    groups, begin, end = groups[order], begin[order], end[order]
    origin = begin.min()
    begin, end = begin - origin, end - origin
    apart = groups * (end.max() + 1.0)  # groups one behind the other, so that one running maximum serves all
    reached = np.maximum.accumulate(end + apart)
    before = np.concatenate([[-np.inf], reached[:-1]])
    covered = np.maximum(end + apart - np.maximum(begin + apart, before), 0.0)
    return np.bincount(groups, weights=covered, minlength=count)


def _offered(groups: Any, pools: Any, slots: Any, begin: Any, end: Any, count: int) -> tuple[Any, Any]:
    """How many slots of whichever pool took part, and the seconds they had while any of their pool's was busy."""
    if not len(groups):
        return np.zeros(count, dtype=np.int64), np.zeros(count)
    pairs, pair_of = np.unique(np.stack([groups, pools]), axis=1, return_inverse=True)
    wall = _union(pair_of, begin, end, pairs.shape[1])
    triples = np.unique(np.stack([pair_of, slots]), axis=1)
    taking = np.bincount(triples[0], minlength=pairs.shape[1])
    offered = np.bincount(pairs[0], weights=wall * taking, minlength=count)
    return np.bincount(pairs[0], weights=taking, minlength=count).astype(np.int64), offered
