"""What the budget plot shows: what is left over time, and a forecast until the open tasks are done.

Invariants: what was spent is the sum of the attempts that drew on this budget and of nothing else; the forecast never
goes through the wall, because the pool does not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import and_, func, select

from claude_pool_nb.analysis import columns as col
from claude_pool_nb.analysis.plot_data import Figures, dollars, seconds, several
from claude_pool_nb.core.budget import WARN_SHARE
from claude_pool_nb.errors import NothingToPlot
from claude_pool_nb.records import NANO_PER_USD, BudgetRecord, usd
from claude_pool_nb.store import queries, schema
from claude_pool_nb.store.ids import typed_runs
from claude_pool_nb.store.ledger import Ledger

MAX_STEPS = 400
"""More changes than these are drawn together."""
WINDOW = 200
"""So many of the latest tasks say what the open ones will cost."""
_LIKELY = 1.645
"""Standard deviations on each side of nine tenths of the cases."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What the open tasks will take."""

    tasks: int
    """How many are open."""
    cost_usd: float
    """What they will cost together."""
    low_usd: float
    """The lower end of nine tenths of the cases."""
    high_usd: float
    """The upper end of them."""
    duration_s: float
    """How long they will take."""


def budget(ledger: Ledger, record: BudgetRecord, run_ids: Sequence[str] | None, *, now_at: float) -> Figures:
    """A budget over time: one row per change, then the forecast.

    Columns: `part` (`spent`, `forecast`), `elapsed_s` since the first start, `at`, `spent_usd`, `left_usd` (NaN without
    a limit), `low_usd` and `high_usd` (of what is left, or of what is spent without a limit; nine tenths of the cases).

    Args:
        ledger: where to read.
        record: the budget.
        run_ids: from the start of the first of these runs on; None from the budget's first attempt on.
        now_at: the end of what was, in unix seconds.

    Raises:
        NothingToPlot: nothing was spent from it.
    """
    rows = _bookings(ledger, record)
    first_run = None if run_ids is None else min(typed_runs(run_ids))
    shown = [row for row in rows if first_run is None or row[0] >= first_run]
    if not shown:
        raise NothingToPlot(f"nothing was sent on the budget {record.name!r} yet: there is nothing to draw")
    origin_at = min(row[4] for row in shown)
    settled = [row for row in shown if row[5]]
    at = [origin_at, *(row[3] for row in settled)]
    # What was pruned from the ledger, or spent before the first run asked for, is where the line begins.
    start = max(0, record.spent_nano - sum(row[5] for row in settled))
    spent = start + np.cumsum([0, *(row[5] for row in settled)])
    limit = record.limit_nano
    outlook = forecast(ledger, record, rows)
    ends_at = max(at[-1], now_at if outlook is not None else at[-1])
    if ends_at > at[-1]:
        at, spent = [*at, ends_at], np.append(spent, spent[-1])
    frame = pd.DataFrame({"part": "spent", "at_s": at, "spent_usd": spent / NANO_PER_USD})
    frame, gathered = _fewer(frame)
    frame["low_usd"] = frame["high_usd"] = np.nan
    left_usd = None if limit is None else usd(limit) - float(frame["spent_usd"].iloc[-1])
    if outlook is not None:
        ahead = pd.DataFrame(_ahead(outlook, ends_at, float(frame["spent_usd"].iloc[-1]), left_usd))
        frame = pd.concat([frame, ahead], ignore_index=True)
    made = pd.DataFrame(
        {
            "part": col.category(frame["part"].tolist(), ["spent", "forecast"]),
            "elapsed_s": (frame["at_s"] - origin_at).round(4),
            "at": col.instant(frame["at_s"].tolist()),
            "spent_usd": frame["spent_usd"],
            "left_usd": (usd(limit) - frame["spent_usd"]).clip(lower=0) if limit is not None else np.nan,
            "low_usd": frame["low_usd"],
            "high_usd": frame["high_usd"],
        }
    )
    return _figures(made, record, outlook, gathered, from_zero=not start)


def _bookings(ledger: Ledger, record: BudgetRecord) -> list[tuple[Any, ...]]:
    """Run, task, slot, when it was booked, when it started, nanodollars, profile, model: in the order of booking."""
    a, t = schema.attempt.c, schema.task.c
    booked_at = func.coalesce(a.finished_at, a.started_at)
    query = (
        select(a.run, a.task, a.slot_id, booked_at, a.started_at, a.cost_nano, t.profile, a.requested_model, a.state)
        .select_from(schema.attempt.join(schema.task, and_(t.run == a.run, t.number == a.task)))
        .where(a.budget_id == record.id, a.number > 0)  # 0: an earlier answer, given again
        .order_by(booked_at, a.run, a.task, a.number)
    )
    with ledger.reading() as connection:
        return queries.plain_rows(connection, query)


def forecast(ledger: Ledger, record: BudgetRecord, bookings: Sequence[tuple[Any, ...]]) -> Forecast | None:
    """What the open tasks on a budget will cost and take, from what the latest ones did; None if there is no telling.

    Args:
        ledger: where to read.
        record: the budget.
        bookings: all attempts that drew on it, in the order of booking.
    """
    t, r, p = schema.task.c, schema.run.c, schema.pool.c
    query = (
        select(t.profile, t.requested_model, func.count())
        .select_from(schema.task.join(schema.run, r.number == t.run).join(schema.pool, p.id == r.pool))
        .where(
            r.budget == record.name,
            p.play_money == int(record.play_money),
            t.state.in_(("pending", "waiting", "running")),
        )
        .group_by(t.profile, t.requested_model)
    )
    with ledger.reading() as connection:
        waiting = {(row[0], row[1]): int(row[2]) for row in connection.execute(query)}
    number = sum(waiting.values())
    ended = [row for row in bookings if row[8] != "running"]
    if not number or not ended:
        return None
    costs: dict[tuple[int, int], list[Any]] = {}
    for row in ended:
        known = costs.setdefault((row[0], row[1]), [(row[6], row[7]), 0.0])
        known[1] += row[5] / NANO_PER_USD
    latest = list(costs.values())[-WINDOW:]
    mean, variance = _sums(waiting, latest)
    spread = _LIKELY * sqrt(variance)
    lately = ended[-WINDOW:]
    slots = max(1, len({row[2] for row in lately}))
    duration_s = sum(row[3] - row[4] for row in lately) / len({row[:2] for row in lately})
    return Forecast(number, mean, max(0.0, mean - spread), mean + spread, max(1e-3, number * duration_s / slots))


def _sums(waiting: Mapping[tuple[Any, Any], int], latest: Sequence[Sequence[Any]]) -> tuple[float, float]:
    """Mean and variance of what the open tasks will cost together."""
    mean = variance = 0.0
    for kind, number in waiting.items():
        alike = [cost for known, cost in latest if known == kind]
        costs = np.array(alike if len(alike) > 2 else [cost for _, cost in latest])
        of_one = float(costs.var(ddof=1)) if len(costs) > 1 else float(costs.mean()) ** 2
        mean += number * float(costs.mean())
        # The mean itself is known only as well as there are tasks behind it.
        variance += number * of_one + number**2 * of_one / len(costs)
    return mean, variance


def _ahead(outlook: Forecast, now_s: float, spent_usd: float, left_usd: float | None) -> list[dict[str, Any]]:
    """Rows of the forecast: from now straight to its end, or to the wall and along it."""
    rows = []
    shares = [0.0, 1.0]
    if left_usd is not None and outlook.cost_usd > left_usd:
        shares = [0.0, max(0.0, left_usd) / outlook.cost_usd, 1.0]
    for share in shares:
        low, high = spent_usd + outlook.low_usd * share, spent_usd + outlook.high_usd * share
        spent = spent_usd + outlook.cost_usd * share
        if left_usd is not None:
            wall = spent_usd + left_usd
            spent, low, high = min(spent, wall), max(0.0, wall - high), max(0.0, wall - low)
        rows.append(
            {
                "part": "forecast",
                "at_s": now_s + outlook.duration_s * share,
                "spent_usd": spent,
                "low_usd": low,
                "high_usd": high,
            }
        )
    return rows


def _fewer(frame: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """The last change of each piece of time, and how many pieces there are; 0 if all changes are there."""
    if len(frame) <= MAX_STEPS:
        return frame, 0
    at = frame["at_s"]
    span = max(1e-9, float(at.iloc[-1] - at.iloc[0]))
    piece = ((at - at.iloc[0]) / span * (MAX_STEPS - 1)).astype("int64")
    kept = ~piece.duplicated(keep="last")
    kept.iloc[0] = True
    return frame[kept].reset_index(drop=True), MAX_STEPS


def _figures(
    made: pd.DataFrame, record: BudgetRecord, outlook: Forecast | None, gathered: int, *, from_zero: bool
) -> Figures:
    past = made[made["part"] == "spent"]
    spent = float(past["spent_usd"].iloc[-1])
    limit = None if record.limit_nano is None else usd(record.limit_nano)
    notes = [f"{dollars(spent)} spent" if limit is None else f"{dollars(spent)} of {dollars(limit)} spent"]
    words = [f"Line chart of the budget {record.name!r} over {seconds(float(past['elapsed_s'].iloc[-1]))}"]
    words.append(f"{notes[0]}{'' if limit is None else f', {dollars(max(0.0, limit - spent))} left'}")
    if limit and spent >= WARN_SHARE * limit:
        notes.append("more than 80 % is spent")
        words.append("More than 80 % is spent, which is where the pool warns")
    if not from_zero:
        words.append(f"The line begins at {dollars(float(past['spent_usd'].iloc[0]))}, spent before what is shown")
    if outlook is not None:
        told = (
            f"{several(outlook.tasks, 'open task')} will take about {seconds(outlook.duration_s)} and "
            f"{dollars(outlook.cost_usd)} ({dollars(outlook.low_usd)} to {dollars(outlook.high_usd)})"
        )
        notes.append(f"forecast: {told}")
        words.append(f"Forecast: {told}")
        if limit is not None and outlook.cost_usd > limit - spent:
            fit = int(outlook.tasks * max(0.0, limit - spent) / outlook.cost_usd)
            notes.append(f"the wall comes after about {fit:,} of them")
            words.append(f"The wall comes after about {fit:,} of them; %pool budget USD moves it")
    else:
        words.append("No task is open, so there is no forecast")
    if limit is None:
        words.append("There is no wall; %pool budget USD sets one")
    if gathered:
        notes.append(f"changes drawn together in {gathered} pieces of time")
    play = record.play_money
    title = f"Budget {record.name}: {'spent' if limit is None else 'left'} over time" + " (play money)" * play
    money = " In play money." if play else ""
    return Figures(made, title, " · ".join(notes), ". ".join(words) + "." + money, play)
