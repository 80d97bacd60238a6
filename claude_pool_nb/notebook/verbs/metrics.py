"""`%pool metrics [--by model,tag] [--since 2h]`: what tasks and attempts came to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_pool_nb.notebook.call import Call
from claude_pool_nb.notebook.parser import VerbParser, words

if TYPE_CHECKING:
    import pandas as pd


def parser() -> VerbParser:
    """What to group by, and filters."""
    options = VerbParser("metrics", "Counts, rates, dollars, tokens and percentiles of time; %pool cost is shorter.")
    options.add_argument("--by", metavar="A,B", type=words, help="a row for each: model, tag, day, run_id, slot_id ...")
    add_filters(options)
    return options


def add_filters(options: VerbParser) -> None:
    """What `metrics` and `cost` can be narrowed to."""
    options.add_argument("--since", metavar="WHEN", help="only from then on: 2026-01-31, or 2h or 7d before now")
    options.add_argument("--until", metavar="WHEN", help="only before; a date is its whole day")
    options.add_argument("--tag", metavar="A,B", type=words, help="only tasks with one of these tags")
    options.add_argument("-m", "--model", metavar="M", type=words, help="only what these models answered or were asked")
    options.add_argument("--run", metavar="ID", type=words, help="only these runs")


def run(call: Call) -> pd.DataFrame:
    """Ask the ledger."""
    args = call.args
    return call.pool.metrics(
        by=args.by, since=args.since, until=args.until, tags=args.tag, model=args.model, run=args.run
    )
