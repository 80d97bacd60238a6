"""`%pool usage [--by model,day] [--since 7d]`: what Claude Code itself has used on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_pool_nb.notebook.call import Call
from claude_pool_nb.notebook.parser import VerbParser, words

if TYPE_CHECKING:
    import pandas as pd


def parser() -> VerbParser:
    """What to sum by, and filters."""
    options = VerbParser("usage", "What Claude Code itself has used on this machine, by its own logs, at list price.")
    options.add_argument(
        "--by", metavar="A,B", type=words, default=["model"], help="model, project, day, session_id ..."
    )
    options.add_argument("--since", metavar="WHEN", help="only from then on: 2026-01-31, or 2h or 7d before now")
    options.add_argument("--until", metavar="WHEN", help="only before; a date is its whole day")
    options.add_argument("--project", metavar="TEXT", help="only projects with this text in their folder's name")
    options.add_argument("--root", metavar="PATH", help="Claude Code's folder, if it is not the usual one")
    return options


def run(call: Call) -> pd.DataFrame:
    """Read the logs, now."""
    args = call.args
    return call.pool.usage_history(args.root, by=args.by, since=args.since, until=args.until, project=args.project)
