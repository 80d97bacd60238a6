"""`%pool wait [ID]`: block until a run or a task is done."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from claude_pool_nb.notebook.call import Call
from claude_pool_nb.notebook.overrides import add_live_option
from claude_pool_nb.notebook.parser import VerbParser
from claude_pool_nb.notebook.waiting import answer_of, frame_of, is_task, open_runs

if TYPE_CHECKING:
    import pandas as pd

    from claude_pool_nb.records import TaskResult


def parser() -> VerbParser:
    """An id, or nothing for all that is under way."""
    options = VerbParser("wait", "Wait for a run (its frame), a task (its answer), or all runs of this pool.")
    options.add_argument("id", nargs="?", metavar="ID", help="r12 or r12.3; nothing for all that is under way")
    add_live_option(options)
    return options


def run(call: Call) -> pd.DataFrame | TaskResult:
    """Wait; the interrupt stops what is waited for."""
    wanted = call.args.id
    if wanted and is_task(wanted):
        return answer_of(call, lambda: call.pool.get_task(wanted))
    if wanted:
        return frame_of(call, lambda: call.pool.get_run(wanted))
    frame = None
    for each in open_runs(call.pool):
        frame = frame_of(call, partial(call.pool.get_run, each.id))
    if frame is not None:
        return frame
    if call.pool.last is not None:
        call.pool.wait(call.pool.last)  # it has ended; the ledger, which is read next, may not have been told all yet
    return call.pool.tasks()
