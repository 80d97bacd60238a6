"""`%pool scale N`: change the number of slots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_pool_nb.notebook.call import Call
from claude_pool_nb.notebook.parser import VerbParser, number

if TYPE_CHECKING:
    import pandas as pd


def parser() -> VerbParser:
    """A number."""
    options = VerbParser("scale", "Change the number of slots; busy ones finish their task first.")
    options.add_argument("slots", metavar="N", type=number(int, least=1), help="how many there are to be")
    return options


def run(call: Call) -> pd.DataFrame:
    """Scale, and return the slots."""
    call.pool.scale(call.args.slots)
    return call.pool.slots()
