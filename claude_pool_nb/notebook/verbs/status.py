"""`%pool status`: the pool at this moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_pool_nb.notebook.call import Call
from claude_pool_nb.notebook.parser import VerbParser

if TYPE_CHECKING:
    from claude_pool_nb.pool import Pool


def parser() -> VerbParser:
    """No options of its own."""
    return VerbParser("status", "The pool, which shows as a card: slots, tasks, budget, warnings.")


def run(call: Call) -> Pool:
    """The pool itself: its card is made when it is shown."""
    return call.pool
