"""`%pool budget [USD] [--fresh]`: what may be spent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_pool_nb.notebook.call import Call
from claude_pool_nb.notebook.parser import VerbParser, number
from claude_pool_nb.records import usd, utc

if TYPE_CHECKING:
    import pandas as pd


def _limit(text: str) -> float | None:
    """Dollars, or `none` for no limit."""
    return None if text.lower() == "none" else float(number(float, least=0, unit="dollars")(text))


def parser() -> VerbParser:
    """A new limit, if there is to be one."""
    options = VerbParser("budget", "Show the budget, or move its limit. The limit is a wall, not a warning.")
    options.add_argument("usd", nargs="?", metavar="USD", type=_limit, default=..., help="the new limit; none for none")
    options.add_argument("--fresh", action="store_true", help="open a new budget of that name, with nothing spent yet")
    return options


def run(call: Call) -> pd.DataFrame:
    """One row: name, limit, spent, reserved, left, since."""
    import pandas as pd

    args, pool = call.args, call.pool
    if args.usd is not ...:
        pool.set_budget(args.usd, fresh=args.fresh)
    elif args.fresh:
        call.parser.error("--fresh needs a limit, like %pool budget 5 --fresh")
    budget = pool.budget
    row = {
        "budget": budget.name,
        "limit_usd": None if budget.limit_nano is None else usd(budget.limit_nano),
        "spent_usd": usd(budget.spent_nano),
        "reserved_usd": usd(budget.reserved_nano),
        "left_usd": None if budget.left_nano is None else usd(budget.left_nano),
        "since": utc(budget.since_at),
        "play_money": budget.play_money,
    }
    return pd.DataFrame([row]).astype({"limit_usd": "float64", "left_usd": "float64", "budget": "string"})
