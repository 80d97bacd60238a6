"""`%pool runs`: all runs, also those of earlier kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_pool_nb.notebook.call import Call
from claude_pool_nb.notebook.parser import VerbParser

if TYPE_CHECKING:
    import pandas as pd


def parser() -> VerbParser:
    """No options of its own."""
    return VerbParser("runs", "All runs in the ledger, oldest first; %pool resume goes on with interrupted ones.")


def run(call: Call) -> pd.DataFrame:
    """Ask the ledger."""
    return call.pool.runs()
