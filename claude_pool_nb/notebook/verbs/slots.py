"""`%pool slots`: what each slot does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_pool_nb.notebook.call import Call
from claude_pool_nb.notebook.parser import VerbParser

if TYPE_CHECKING:
    import pandas as pd


def parser() -> VerbParser:
    """No options of its own."""
    return VerbParser("slots", "All slots as a DataFrame: state, task, model, process, memory, what they cost.")


def run(call: Call) -> pd.DataFrame:
    """Ask the pool."""
    return call.pool.slots()
