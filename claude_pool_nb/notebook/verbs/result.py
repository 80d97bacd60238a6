"""`%pool result ID`: the answer of a task that is done."""

from __future__ import annotations

from claude_pool_nb.errors import ConfigError, TaskFailed
from claude_pool_nb.notebook.call import Call
from claude_pool_nb.notebook.parser import VerbParser
from claude_pool_nb.notebook.waiting import is_task
from claude_pool_nb.records import TaskResult


def parser() -> VerbParser:
    """A task's id."""
    options = VerbParser("result", "The answer of a task; of one that failed, what there is of it.")
    options.add_argument("id", metavar="ID", help="r12.3, or r12 for the only task of that run")
    return options


def run(call: Call) -> TaskResult:
    """Look it up; a task that is still under way is waited for."""
    wanted = call.args.id
    task = call.pool.get_task(wanted if is_task(wanted) else _only_task(call, wanted))
    try:
        return task.result()
    except TaskFailed as error:
        if error.result is None:
            raise
        return error.result


def _only_task(call: Call, run_id: str) -> str:
    """The id of the task of a run that has but one."""
    total = call.pool.get_run(run_id).record.total
    if total != 1:
        raise ConfigError(f"{run_id} has {total} tasks; name one, like {run_id}.1, or `%pool wait {run_id}` for all")
    return f"{run_id}.1"
