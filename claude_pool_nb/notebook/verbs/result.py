"""`%pool result ID`: the answer of a task that is done."""

from __future__ import annotations

from claude_pool_nb.errors import TaskFailed
from claude_pool_nb.notebook.call import Call
from claude_pool_nb.notebook.parser import VerbParser
from claude_pool_nb.records import TaskResult


def parser() -> VerbParser:
    """A task's id."""
    options = VerbParser("result", "The answer of a task; of one that failed, what there is of it.")
    options.add_argument("id", metavar="ID", help="r12.3, or r12 for the only task of that run")
    return options


def run(call: Call) -> TaskResult:
    """Look it up; a task that is still under way is waited for."""
    wanted = call.args.id
    task = call.pool.get_task(wanted if "." in wanted else f"{wanted}.1")
    try:
        return task.result()
    except TaskFailed as error:
        if error.result is None:
            raise
        return error.result
