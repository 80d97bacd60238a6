"""Ids and the numbers behind them: `r12`, `r12.3` and `p7` are how people and events name what the tables number.

Invariant: an id that a person may have typed goes through a `typed_...` function, which answers for one that cannot be;
the others trust ids that the pool itself has made.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from claude_pool_nb.errors import RunNotFound, TaskNotFound


def run_number(run_id: str) -> int:
    """The number of a run.

    Example:
        >>> run_number("r12")
        12
    """
    return int(run_id[1:])


def task_key(task_id: str) -> tuple[int, int]:
    """The numbers of a task's run and of the task.

    Example:
        >>> task_key("r12.3")
        (12, 3)
    """
    run, _, task = task_id.partition(".")
    return int(run[1:]), int(task)


def pool_number(pool_id: str) -> int:
    """The number of a pool.

    Example:
        >>> pool_number("p7")
        7
    """
    return int(pool_id[1:])


def typed_run(run_id: str) -> int:
    """The number of a run whose id somebody typed.

    Raises:
        RunNotFound: it is no run's id.

    Example:
        >>> typed_run("12")
        Traceback (most recent call last):
        claude_pool_nb.errors.RunNotFound: '12' is no run's id; ids look like r12, and `%pool runs` lists them
    """
    if not re.fullmatch(r"r[0-9]{1,9}", run_id):
        raise RunNotFound(f"{run_id!r} is no run's id; ids look like r12, and `%pool runs` lists them")
    return run_number(run_id)


def typed_runs(run_ids: Iterable[str]) -> list[int]:
    """The numbers of runs whose ids somebody typed.

    Raises:
        RunNotFound: one is no run's id.

    Example:
        >>> typed_runs(["r1", "r12"])
        [1, 12]
    """
    return [typed_run(run_id) for run_id in run_ids]


def typed_task(task_id: str) -> tuple[int, int]:
    """The numbers of the run and of the task whose id somebody typed.

    Raises:
        TaskNotFound: it is no task's id.

    Example:
        >>> typed_task("r12.3")
        (12, 3)
    """
    if not re.fullmatch(r"r[0-9]{1,9}\.[0-9]{1,9}", task_id):
        raise TaskNotFound(f"{task_id!r} is no task's id; ids look like r12.3, and `%pool tasks` lists them")
    return task_key(task_id)
