"""A stretch of time as people name it: `since` and `until` of the frames about money.

Invariants: an instant without a zone is UTC, as everywhere in the frames; `since` is included and `until` is not, but a
date alone names the whole day, so that the 1st until the 31st is a month.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from claude_pool_nb.errors import ConfigError

When = str | datetime | date | timedelta | None
"""An instant as a person gives it."""

_UNITS = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|d|w)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Period:
    """From one instant to before another, in unix seconds.

    Example:
        >>> january = Period.of("2026-01-01", "2026-01-31")
        >>> (january.until_at - january.since_at) / 86_400
        31.0
    """

    since_at: float | None = None
    """Its first instant; None without a beginning."""
    until_at: float | None = None
    """The first instant after it; None without an end."""

    @classmethod
    def of(cls, since: When = None, until: When = None, *, now_at: float | None = None) -> Period:
        """Read both ends.

        Args:
            since: A datetime, a date, ISO text, a timedelta or a span like `2h` or `7d` before now, `today`,
                `yesterday`; None for no beginning.
            until: The same; a date alone names its whole day.
            now_at: What spans are counted from; None for this moment.

        Raises:
            ConfigError: one is no instant, or there is nothing between them.

        Example:
            >>> Period.of("2h", now_at=7200.0)
            Period(since_at=0.0, until_at=None)
        """
        now = time.time() if now_at is None else now_at
        begin = None if since is None else _instant("since", since, now, whole_day=False)
        end = None if until is None else _instant("until", until, now, whole_day=True)
        if begin is not None and end is not None and end <= begin:
            raise ConfigError(f"nothing lies between since={_said(since)} and until={_said(until)}: exchange the two")
        return cls(begin, end)

    def holds(self, at: Any) -> Any:
        """Which of these unix seconds (an array) lie in it; a missing one does only if both ends are open."""
        inside = at == at if self.since_at is not None or self.until_at is not None else at != None  # noqa: E711, PLR0124
        if self.since_at is not None:
            inside &= at >= self.since_at
        if self.until_at is not None:
            inside &= at < self.until_at
        return inside


def _instant(name: str, value: Any, now: float, *, whole_day: bool) -> float:
    """Unix seconds."""
    if isinstance(value, timedelta):
        return now - value.total_seconds()
    if isinstance(value, datetime):
        return _utc(value).timestamp()
    if isinstance(value, date):
        return _day(value, whole_day=whole_day)
    if isinstance(value, str):
        text = value.strip().lower()
        if text == "now":
            return now
        if text in {"today", "yesterday"}:
            day = datetime.fromtimestamp(now, UTC).date() - timedelta(days=int(text == "yesterday"))
            return _day(day, whole_day=whole_day)
        if span := _SPAN.fullmatch(text):
            return now - float(span.group(1)) * _UNITS[span.group(2)]
        try:
            if re.fullmatch(r"\d{4}-?\d{2}-?\d{2}", text):
                return _day(date.fromisoformat(text), whole_day=whole_day)
            if re.match(r"\d{4}-?\d{2}-?\d{2}", text):
                return _utc(datetime.fromisoformat(value.strip())).timestamp()
        except ValueError:
            pass  # told below, as any other text that is no time
    raise ConfigError(
        f"{name}={_said(value)} is no time; give a datetime, a date like 2026-01-31, or a span before now like 2h or 7d"
    )


def _utc(value: datetime) -> datetime:
    """An aware datetime."""
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _day(day: date, *, whole_day: bool) -> float:
    """The beginning of a day in UTC, or of the next one."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() + (86_400.0 if whole_day else 0.0)


def _said(value: Any) -> str:
    """A value as it is told in a message."""
    return repr(value) if isinstance(value, str) else str(value)
