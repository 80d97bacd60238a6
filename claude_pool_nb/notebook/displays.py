"""How the pool's objects show in a cell.

Registered by name, so that loading the extension imports none of them. Invariants: records stay without behaviour; what
is shown is made when it is shown.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from claude_pool_nb.display.pools import PoolCard, pool_html, pool_text
from claude_pool_nb.display.results import result_markdown, result_text
from claude_pool_nb.display.runs import run_text

TEXTS: dict[tuple[str, str], Callable[[Any], str]] = {
    ("claude_pool_nb.pool", "Pool"): lambda pool: pool_text(pool.card()),
    ("claude_pool_nb.records", "PoolStatus"): lambda status: pool_text(PoolCard(status)),
    ("claude_pool_nb.records", "TaskResult"): result_text,
    ("claude_pool_nb.handles", "Run"): lambda run: run_text(run.summary()),
}
"""Text of each type; every one of them has one."""

HTML: dict[tuple[str, str], Callable[[Any], str]] = {
    ("claude_pool_nb.records", "PoolStatus"): lambda status: pool_html(PoolCard(status)),
}
"""HTML of each type that brings none of its own."""

MARKDOWN: dict[tuple[str, str], Callable[[Any], str]] = {
    ("claude_pool_nb.records", "TaskResult"): result_markdown,
}
"""Markdown of each type."""


def register(shell: Any) -> None:
    """Tell IPython how they show."""
    formatters = shell.display_formatter.formatters
    for (module, name), text in TEXTS.items():
        formatters["text/plain"].for_type_by_name(module, name, _printer(text))
    for (module, name), html in HTML.items():
        formatters["text/html"].for_type_by_name(module, name, html)
    for (module, name), markdown in MARKDOWN.items():
        formatters["text/markdown"].for_type_by_name(module, name, markdown)


def unregister(shell: Any) -> None:
    """Take it back."""
    formatters = shell.display_formatter.formatters
    for mime, table in (("text/plain", TEXTS), ("text/html", HTML), ("text/markdown", MARKDOWN)):
        for module, name in table:
            _forget(formatters[mime], module, name)


def _forget(formatter: Any, module: str, name: str) -> None:
    """Remove a formatter, whether its type was met already or not."""
    formatter.deferred_printers.pop((module, name), None)
    for kind in [kind for kind in formatter.type_printers if (kind.__module__, kind.__name__) == (module, name)]:
        formatter.pop(kind)


def _printer(text: Callable[[Any], str]) -> Callable[[Any, Any, bool], None]:
    """A text as IPython's pretty printer wants it."""

    def show(value: Any, printer: Any, cycle: bool) -> None:
        printer.text("..." if cycle else text(value))

    return show
