"""`%pool cancel ID|all`: stop for good; what is done stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_pool_nb.notebook.call import Call
from claude_pool_nb.notebook.parser import VerbParser
from claude_pool_nb.notebook.waiting import is_task

if TYPE_CHECKING:
    import pandas as pd


def parser() -> VerbParser:
    """An id, or all."""
    options = VerbParser("cancel", "Stop a run, a task, or all tasks of this pool, for good. What is done stays.")
    options.add_argument("id", metavar="ID", help="r12, r12.3, or all")
    return options


def run(call: Call) -> pd.DataFrame:
    """Cancel, wait until it holds, and return the tasks meant."""
    wanted, pool = call.args.id, call.pool
    pool.cancel(wanted)
    if wanted == "all":
        pool.wait()
    else:
        pool.wait(pool.get_task(wanted) if is_task(wanted) else pool.get_run(wanted))
    if wanted == "all":
        return pool.tasks()
    tasks = pool.tasks(run=wanted.split(".")[0])
    return tasks[tasks["task_id"] == wanted] if is_task(wanted) else tasks
