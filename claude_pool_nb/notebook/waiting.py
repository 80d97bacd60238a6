"""How a verb waits for what it started: the live view around it, the result behind it, the spend gate before it.

Invariants: what there is when a wait ends, however it ends, is shown and stored under the name of `--into`; the gate
stands before real money only, and nothing is sent before it was passed.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from claude_pool_nb.display.previews import price_span
from claude_pool_nb.display.text import count, money
from claude_pool_nb.errors import Interrupted, PoolPaused, SpendGate
from claude_pool_nb.notebook.call import Call
from claude_pool_nb.notebook.live.view import LiveView
from claude_pool_nb.notebook.parser import VerbParser
from claude_pool_nb.records import NANO_PER_USD, StopReason, TaskResult

if TYPE_CHECKING:
    import pandas as pd

    from claude_pool_nb.analysis.design import Design
    from claude_pool_nb.analysis.preview import Preview
    from claude_pool_nb.handles import Run, Task
    from claude_pool_nb.pool import Pool

Waited = TypeVar("Waited", "Run", "Task")

STOPPED_WITHIN_S = 0.8
"""So long a cell that was interrupted waits for its turns to end."""
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


def frame_of(call: Call, start: Callable[[], Run]) -> pd.DataFrame:
    """Start a run, or look one up, wait for it, and return its frame; an interrupted one is stored all the same."""
    return _follow(call, start, lambda run: run.frame).frame


def answer_of(call: Call, start: Callable[[], Task]) -> TaskResult:
    """Start a task, or look one up, wait for it, and return its answer.

    Raises:
        TaskFailed: it did not complete.
    """
    return _follow(call, start, lambda task: call.pool.aio.task_result(task.id)).result()


def _follow(call: Call, start: Callable[[], Waited], there_is: Callable[[Waited], Any]) -> Waited:
    """Start, show, wait, and store what there is, however it ends and however often the kernel is interrupted.

    Raises:
        Interrupted: the kernel was interrupted; what was begun was stopped.
    """
    from claude_pool_nb.engine.portal import held_sigint

    pool = call.pool
    last = pool.last
    was_open = last.id if last is not None and not last.done else None
    what: Waited | None = None
    view: LiveView | None = None
    began = time.monotonic()
    with held_sigint() as interrupts:
        try:
            what = start()
            run_id = what.id.split(".")[0]
            one = what.id if is_task(what.id) else None
            view = LiveView(pool, pool.get_run(run_id), call.magics.host, mode=_mode(call), task_id=one, began=began)
            view.start()
            interrupts.let_go()
            pool.wait(what)
        except KeyboardInterrupt as interrupt:
            interrupts.holding = True
            raise _stopped(pool, what, was_open, interrupt) from None
        finally:
            interrupts.holding = True
            if what is not None:
                call.keep(there_is(what))
            if view is not None:
                view.finish()
    return what


def _stopped(pool: Pool, what: Run | Task | None, was_open: str | None, interrupt: KeyboardInterrupt) -> Interrupted:
    """Stop what an interrupt struck before the pool's own wait could answer it; what to raise then."""
    if isinstance(interrupt, Interrupted):
        return interrupt
    begun = what or pool.last
    if begun is None or begun.done or (what is None and begun.id == was_open):
        return Interrupted("the cell was interrupted; nothing was under way")
    pool.aio.stop_later(begun.id, StopReason.INTERRUPT)
    with contextlib.suppress(KeyboardInterrupt, TimeoutError, PoolPaused):
        pool.wait(begun, timeout_s=STOPPED_WITHIN_S)
    run_id = begun.id.split(".")[0]
    return Interrupted(f"{run_id} was stopped, what was finished is kept; `%pool resume {run_id}` goes on")


def _mode(call: Call) -> str:
    return str(getattr(call.args, "live", None) or call.magics.live)


def say(text: str) -> None:
    """Tell the reader of a cell something beside its value."""
    from IPython.display import display

    display({"text/plain": text}, raw=True)  # type: ignore[no-untyped-call]


def check_spending(call: Call, design: Design) -> None:
    """Ask before a cell spends a lot of real money.

    Raises:
        SpendGate: more than 100 tasks, or an estimate above a tenth of what is left and above one dollar.
    """
    pass_gate(call, lambda: call.pool.preview_design(design))


def pass_gate(call: Call, preview: Callable[[], Preview]) -> None:
    """The same for tasks that are previewed in another way.

    The upper end of the estimate decides: what is unlikely to be exceeded may be spent unasked. Tasks that the cache
    answers do not count.

    Args:
        call: The line; its `--yes` opens the gate.
        preview: What they would cost; asked for only where the gate stands.

    Raises:
        SpendGate: they are too many, or too dear.
    """
    pool = call.pool
    if pool.backend != "claude" or call.args.yes:
        return
    seen = preview()
    tasks, cost = seen.tasks - seen.cached, seen.cost
    price = "at an unknown price" if cost is None else f"at {price_span(round(cost.low), round(cost.high))}"
    add = f"add --yes to go on{', or --dry-run to see more' if hasattr(call.args, 'dry_run') else ''}"
    if tasks > FREE_TASKS:
        raise SpendGate(f"these are {count(tasks, 'task')}, {price}; {add}")
    left = pool.budget.left_nano
    if cost is not None and cost.high > FREE_NANO and (left is None or cost.high > left // 10):
        having = "there is no budget" if left is None else f"{money(left)} are left of the budget"
        raise SpendGate(f"this is {count(tasks, 'task')}, {price}, and {having}; {add}")


def add_dry_run_option(parser: VerbParser) -> None:
    """The wish to see what a line would do, and not to do it."""
    parser.add_argument("--dry-run", action="store_true", help="show what it would run and cost, and send nothing")
