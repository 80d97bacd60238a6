"""`%pool prune --before DATE`: delete old runs from the ledger."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from claude_pool_nb.notebook.call import Call
from claude_pool_nb.notebook.parser import VerbParser

if TYPE_CHECKING:
    import pandas as pd


def _date(text: str) -> datetime:
    """A date, or a date and time; without a zone it is UTC."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no date; write it as 2026-01-31") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def parser() -> VerbParser:
    """A date."""
    options = VerbParser("prune", "Delete finished runs from the ledger, with all their tasks, attempts and events.")
    options.add_argument("--before", metavar="DATE", type=_date, required=True, help="runs finished before this day")
    return options


def run(call: Call) -> pd.DataFrame:
    """Delete, and return the runs that are left."""
    call.pool.ledger.prune(call.args.before.timestamp())
    return call.pool.runs()
