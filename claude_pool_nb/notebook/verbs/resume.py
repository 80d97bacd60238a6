"""`%pool resume RUN`: run exactly what was interrupted, also after the kernel died."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_pool_nb.notebook.call import Call
from claude_pool_nb.notebook.overrides import add_live_option
from claude_pool_nb.notebook.parser import VerbParser
from claude_pool_nb.notebook.waiting import frame_of

if TYPE_CHECKING:
    import pandas as pd


def parser() -> VerbParser:
    """A run."""
    options = VerbParser("resume", "Run what a run still misses: what was interrupted, and with --cancelled that too.")
    options.add_argument("run", metavar="RUN", help="r12; %%pool runs lists them")
    options.add_argument("--cancelled", action="store_true", help="also what was cancelled")
    add_live_option(options)
    return options


def run(call: Call) -> pd.DataFrame:
    """Resume, wait, and return the frame of the whole run."""
    return frame_of(call, call.pool.get_run(call.args.run).resume(cancelled=call.args.cancelled, wait=False))
