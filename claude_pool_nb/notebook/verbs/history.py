"""`%pool history [--q WORDS] [--since WHEN] [--limit N]`: the latest tasks, or those with these words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_pool_nb.notebook.call import Call
from claude_pool_nb.notebook.parser import VerbParser, number

if TYPE_CHECKING:
    import pandas as pd


def parser() -> VerbParser:
    """Words to look for."""
    options = VerbParser("history", "The latest tasks in the ledger, oldest first, also those of earlier kernels.")
    options.add_argument(
        "--q",
        metavar="WORDS",
        nargs="+",
        help='only tasks with all these words in prompt or answer; "several words" in quotation marks are a phrase',
    )
    options.add_argument("--since", metavar="WHEN", help="only from then on: 2026-01-31, or 2h or 7d before now")
    options.add_argument("--limit", metavar="N", type=number(int, least=1), default=100, help="how many (default: 100)")
    return options


def run(call: Call) -> pd.DataFrame:
    """Ask the ledger."""
    words = [f'"{word}"' if " " in word and '"' not in word else word for word in call.args.q or ()]
    return call.pool.history(" ".join(words), limit=call.args.limit, since=call.args.since)
