"""Instants are understood as people write them, and refused clearly where they cannot be."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pandas as pd
import pytest

from claude_pool_nb.analysis.periods import Period
from claude_pool_nb.errors import ConfigError

NOW = datetime(2026, 3, 10, 12, 30, tzinfo=UTC).timestamp()
DAY = 86_400.0


def at(*parts: int) -> float:
    """Unix seconds of a UTC time."""
    return datetime(*parts, tzinfo=UTC).timestamp()  # type: ignore[arg-type, misc]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("90s", NOW - 90),
        ("30m", NOW - 1800),
        ("2h", NOW - 7200),
        ("1.5 H", NOW - 5400),
        ("7d", NOW - 7 * DAY),
        ("2w", NOW - 14 * DAY),
        ("now", NOW),
        ("today", at(2026, 3, 10)),
        ("Yesterday", at(2026, 3, 9)),
        ("2026-01-31", at(2026, 1, 31)),
        ("20260131", at(2026, 1, 31)),
        ("2026-01-31 08:15", at(2026, 1, 31, 8, 15)),
        ("2026-01-31T08:15:00+02:00", at(2026, 1, 31, 6, 15)),
        ("2026-01-31T08:15:00Z", at(2026, 1, 31, 8, 15)),
        (date(2026, 1, 31), at(2026, 1, 31)),
        (datetime(2026, 1, 31, 8), at(2026, 1, 31, 8)),
        (datetime(2026, 1, 31, 8, tzinfo=timezone(timedelta(hours=-5))), at(2026, 1, 31, 13)),
        (pd.Timestamp("2026-01-31 08:00"), at(2026, 1, 31, 8)),
        (timedelta(hours=2), NOW - 7200),
    ],
)
def test_since(given: Any, expected: float) -> None:
    """Spans count back from now; what has no zone is UTC."""
    assert Period.of(given, now_at=NOW).since_at == expected


def test_a_day_as_the_end_is_in_it_whole() -> None:
    """From the first of a month until its last is that month; an instant as the end is not in it."""
    january = Period.of("2026-01-01", "2026-01-31")
    assert (january.since_at, january.until_at) == (at(2026, 1, 1), at(2026, 2, 1))
    assert Period.of(until=date(2026, 1, 31)).until_at == at(2026, 2, 1)
    assert Period.of(until="yesterday", now_at=NOW).until_at == at(2026, 3, 10)
    today = Period.of("today", "today", now_at=NOW)
    assert today.since_at is not None
    assert today.until_at == today.since_at + DAY
    assert Period.of(until="2026-01-31 00:00").until_at == at(2026, 1, 31)
    held = Period(10.0, 20.0).holds(np.array([9.9, 10.0, 19.9, 20.0, np.nan]))
    assert held.tolist() == [False, True, True, False, False]
    assert Period().holds(np.array([1.0, np.nan])).tolist() == [True, True]
    assert Period(until_at=5.0).holds(np.array([1.0, np.nan, 5.0])).tolist() == [True, False, False]


@pytest.mark.parametrize(
    "wrong", ["noon", "", "2026-02-30", "2026-13-01", "7 years", "-2h", "12:30", 5, 1.5, True, [1]]
)
def test_what_is_no_time_is_told(wrong: Any) -> None:
    """The message has the name, the value, and what it takes."""
    for name in ("since", "until"):
        with pytest.raises(ConfigError, match=f"{name}=.*is no time; give a datetime, a date like"):
            Period.of(**{name: wrong})


def test_an_end_before_the_beginning_is_told() -> None:
    """Nothing would be found: that is no answer."""
    with pytest.raises(ConfigError, match="nothing lies between since='1h' and until='2h'"):
        Period.of("1h", "2h")
