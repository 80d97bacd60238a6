"""How a verb waits for what it started: the live view around it, the result behind it, the spend gate before it.

Invariants: what there is when a wait ends, however it ends, is shown and stored under the name of `--into`; the gate
stands before real money only, and nothing is sent before it was passed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from claude_pool_nb.display.text import count, money
from claude_pool_nb.errors import SpendGate, TaskFailed
from claude_pool_nb.notebook.call import Call
from claude_pool_nb.notebook.live.view import LiveView
from claude_pool_nb.records import NANO_PER_USD, TaskResult

if TYPE_CHECKING:
    import pandas as pd

    from claude_pool_nb.handles import Run, Task
    from claude_pool_nb.pool import Pool

FREE_TASKS = 100
"""More tasks than this ask for --yes."""
FREE_NANO = NANO_PER_USD
"""An estimate up to this never asks."""


def is_task(wanted: str) -> bool:
    """Whether an id is that of a task: `r12.3`.

    Example:
        >>> is_task("r12.3"), is_task("r12")
        (True, False)
    """
    return "." in wanted


def open_runs(pool: Pool) -> list[Run]:
    """The runs of this pool that are not done yet, oldest first; those of other kernels are not ours to wait for."""
    runs = [pool.get_run(record.id) for record in pool.aio.engine.state.runs()]
    return [run for run in runs if not run.done]


def frame_of(call: Call, run: Run) -> pd.DataFrame:
    """Wait for a run and return its frame; an interrupted one is stored before the interrupt goes on."""
    view = LiveView(call.pool, run, call.magics.host, mode=_mode(call))
    view.start()
    try:
        call.pool.wait(run)
    finally:
        frame = run.frame
        call.keep(frame)
        view.finish()
    return frame


def answer_of(call: Call, task: Task) -> TaskResult:
    """Wait for a task and return its answer.

    Raises:
        TaskFailed: it did not complete.
    """
    run = task.run
    view = LiveView(call.pool, run, call.magics.host, mode=_mode(call), task_id=task.id)
    view.start()
    try:
        call.pool.wait(task)
    finally:
        if task.done:
            call.keep(_what_there_is(task))
        view.finish()
    return task.result()


def _what_there_is(task: Task) -> TaskResult | None:
    """The result of a task that is done, failed or not."""
    try:
        return task.result()
    except TaskFailed as error:
        return error.result


def _mode(call: Call) -> str:
    return str(getattr(call.args, "live", None) or call.magics.live)


def check_spending(call: Call, prompts: list[str], overrides: dict[str, Any]) -> None:
    """Ask before a cell spends a lot of real money.

    Raises:
        SpendGate: more than 100 tasks, or an estimate above a tenth of what is left and above one dollar.
    """
    pool = call.pool
    if pool.backend != "claude" or call.args.yes:
        return
    estimate = estimate_nano(pool, prompts, overrides)
    left = pool.budget.left_nano
    about = "at an unknown price" if estimate is None else f"about {money(estimate)}"
    if len(prompts) > FREE_TASKS:
        raise SpendGate(f"These are {count(len(prompts), 'task')}, {about}; add --yes to go on.")
    if estimate is not None and estimate > FREE_NANO and (left is None or estimate > left // 10):
        having = "there is no budget" if left is None else f"{money(left)} are left of the budget"
        raise SpendGate(f"This may cost {about}, and {having}; add --yes to go on.")


def estimate_nano(pool: Pool, prompts: list[str], overrides: dict[str, Any]) -> int | None:
    """What prompts would cost at list price; None if a price is not known."""
    from claude_pool_nb.config import TaskOverrides, resolve
    from claude_pool_nb.pricing import estimate_task_nano

    options = resolve(pool.setup.config, None, TaskOverrides.from_mapping(overrides), backend=pool.backend)
    total = 0
    for prompt in prompts:
        one = estimate_task_nano(options, prompt)
        if one is None:
            return None
        total += one
    return total
