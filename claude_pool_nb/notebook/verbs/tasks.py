"""`%pool tasks`: all tasks in the ledger, or those in a state, with a tag, of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_pool_nb.notebook.call import Call
from claude_pool_nb.notebook.parser import VerbParser
from claude_pool_nb.records import TaskState

if TYPE_CHECKING:
    import pandas as pd


def parser() -> VerbParser:
    """Filters."""
    options = VerbParser("tasks", "All tasks in the ledger, oldest first, also those of earlier kernels.")
    options.add_argument("--state", choices=[str(state) for state in TaskState], help="only tasks in this state")
    options.add_argument("--tag", metavar="T", help="only tasks with this tag")
    options.add_argument("--run", metavar="ID", help="only tasks of this run")
    return options


def run(call: Call) -> pd.DataFrame:
    """Ask the ledger."""
    return call.pool.tasks(state=call.args.state, tag=call.args.tag, run=call.args.run)
