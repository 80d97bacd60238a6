"""`%pool history [--q TEXT]`: all tasks ever, also those of earlier kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_pool_nb.notebook.call import Call
from claude_pool_nb.notebook.parser import VerbParser

if TYPE_CHECKING:
    import pandas as pd


def parser() -> VerbParser:
    """A text to look for."""
    options = VerbParser("history", "All tasks in the ledger, oldest first, also those of earlier kernels.")
    options.add_argument("--q", metavar="TEXT", help="only tasks whose prompt or answer has this text")
    return options


def run(call: Call) -> pd.DataFrame:
    """Ask the ledger."""
    return call.pool.history(call.args.q)
