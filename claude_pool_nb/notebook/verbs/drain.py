"""`%pool drain`: take no more work, let what runs end, then stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_pool_nb.notebook.call import Call
from claude_pool_nb.notebook.parser import VerbParser, number

if TYPE_CHECKING:
    from claude_pool_nb.records import PoolStatus


def parser() -> VerbParser:
    """A time limit."""
    options = VerbParser(
        "drain", "Take no more work, let running tasks end, and stop. What waits is kept for %pool resume."
    )
    options.add_argument(
        "--timeout-s",
        metavar="S",
        type=number(float, least=0, unit="seconds"),
        help="end what still runs after this time",
    )
    return options


def run(call: Call) -> PoolStatus:
    """Drain it, and say what there was."""
    pool = call.pool
    if call.args.timeout_s is None:
        pool.drain()
    else:
        pool.drain(call.args.timeout_s)
    call.magics.started_with = None
    return pool.status()
