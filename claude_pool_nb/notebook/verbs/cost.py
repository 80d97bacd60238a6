"""`%pool cost [--by model,tag]`: what was spent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_pool_nb.notebook.call import Call
from claude_pool_nb.notebook.parser import VerbParser, words

if TYPE_CHECKING:
    import pandas as pd


def parser() -> VerbParser:
    """What to sum by."""
    options = VerbParser("cost", "What was spent, tokens and dollars, every attempt counted.")
    options.add_argument("--by", metavar="A,B", type=words, help="sum by these: model, tag, run_id, state, slot_id ...")
    return options


def run(call: Call) -> pd.DataFrame:
    """Ask the ledger."""
    return call.pool.cost(by=call.args.by) if call.args.by else call.pool.cost()
