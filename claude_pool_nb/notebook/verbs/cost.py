"""`%pool cost [--by model,tag,day] [--since 7d]`: what was spent, here or by Claude Code itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_pool_nb.notebook.call import Call
from claude_pool_nb.notebook.parser import VerbParser, words
from claude_pool_nb.notebook.verbs.metrics import add_filters

if TYPE_CHECKING:
    import pandas as pd


def parser() -> VerbParser:
    """What to sum by, and filters."""
    options = VerbParser("cost", "What was spent, tokens and dollars, every attempt counted; the dearest first.")
    options.add_argument("--by", metavar="A,B", type=words, help="sum by these: model, tag, day, run_id, state ...")
    add_filters(options)
    return options


def run(call: Call) -> pd.DataFrame:
    """Ask the ledger."""
    args = call.args
    by = ["model"] if args.by is None else args.by
    return call.pool.cost(by, since=args.since, until=args.until, tags=args.tag, model=args.model, run=args.run)
