"""`%pool retry [RUN]`: try the failed tasks of a run again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_pool_nb.errors import RunNotFound
from claude_pool_nb.notebook.call import Call
from claude_pool_nb.notebook.overrides import add_live_option
from claude_pool_nb.notebook.parser import VerbParser
from claude_pool_nb.notebook.waiting import frame_of

if TYPE_CHECKING:
    import pandas as pd


def parser() -> VerbParser:
    """A run, and which of its tasks."""
    options = VerbParser(
        "retry", "Try the failed tasks of a run again; each keeps its row. The last run if none is named."
    )
    options.add_argument("run", nargs="?", metavar="RUN", help="r12; nothing for the last run")
    options.add_argument(
        "--state", default="failed", choices=["failed", "cancelled", "interrupted"], help="which tasks"
    )
    add_live_option(options)
    return options


def run(call: Call) -> pd.DataFrame:
    """Retry, wait, and return the frame of the whole run."""
    pool = call.pool
    last = pool.last
    run_id = call.args.run or (last.id if last else None)
    if run_id is None:
        raise RunNotFound(
            "There is no run yet; %pool fan_out makes one, and %pool runs lists those of earlier kernels."
        )
    return frame_of(call, lambda: pool.retry(run_id, state=call.args.state, wait=False))
