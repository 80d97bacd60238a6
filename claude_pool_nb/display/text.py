"""How numbers, times and long texts are written for people.

Invariants: money that was spent is never shown as zero; every text here is one line; nothing here depends on a locale,
so that saved notebooks compare.
"""

from __future__ import annotations

from collections.abc import Sequence

from claude_pool_nb.errors import plain
from claude_pool_nb.records import usd


def money(nano: int | None) -> str:
    """Nanodollars as dollars: cents for large sums, four or six digits for small ones; `no limit` for None.

    Example:
        >>> money(1_100_000), money(5_000_000_000), money(20), money(0), money(None)
        ('$0.0011', '$5.00', '<$0.000001', '$0.00', 'no limit')
    """
    if nano is None:
        return "no limit"
    dollars = usd(abs(nano))
    sign = "-" if nano < 0 else ""
    if dollars == 0 or dollars >= 1:
        return f"{sign}${dollars:,.2f}"
    if dollars < 0.000001:
        return f"{sign}<$0.000001"
    # What is not a whole dollar is not shown as one.
    return f"{sign}${min(dollars, 0.9999):.4f}" if dollars >= 0.001 else f"{sign}${dollars:.6f}"


def seconds(value: float | None) -> str:
    """A duration: tenths below a minute, then minutes, then hours.

    Example:
        >>> seconds(0.42), seconds(75), seconds(3700), seconds(None)
        ('0.4 s', '1 min 15 s', '1 h 1 min', '')
    """
    if value is None:
        return ""
    if value < 59.95:
        return f"{max(0.0, value):.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun.

    Example:
        >>> count(1, "task"), count(1200, "task")
        ('1 task', '1,200 tasks')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def one_line(text: str, width: int = 80) -> str:
    r"""The beginning of a text, on one line.

    Example:
        >>> one_line("a  poem\nabout rust", 10)
        'a poem ab…'
    """
    short = " ".join(plain(text[: width * 4]).split())
    return short if len(short) <= width else short[: width - 1] + "…"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of a table as lines, their columns under each other.

    Example:
        >>> aligned([["model", "tasks"], ["demo-small", "2"]])
        ['model       tasks', 'demo-small  2']
    """
    cells = [[plain(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]


def size(number: float | None) -> str:
    """Bytes as MB or GB.

    Example:
        >>> size(345_000_000), size(12_000_000_000), size(None)
        ('345 MB', '12.0 GB', '')
    """
    if number is None:
        return ""
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"
