"""`%pool resume [RUN]`: run exactly what was interrupted, also after the kernel died."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_pool_nb.errors import RunNotFound
from claude_pool_nb.notebook.call import Call
from claude_pool_nb.notebook.overrides import add_live_option
from claude_pool_nb.notebook.parser import VerbParser
from claude_pool_nb.notebook.verbs.retry import run_again
from claude_pool_nb.notebook.waiting import add_dry_run_option, say
from claude_pool_nb.records import OPEN_RUN_STATES

if TYPE_CHECKING:
    import pandas as pd

    from claude_pool_nb.analysis.preview import Preview
    from claude_pool_nb.pool import Pool


def parser() -> VerbParser:
    """A run, and whether what was cancelled is meant too."""
    options = VerbParser(
        "resume",
        "Run what a run still misses: what was interrupted, and with --cancelled that too.\n"
        "Without RUN it is the latest run that was interrupted, also in an earlier kernel.",
    )
    options.add_argument("run", nargs="?", metavar="RUN", help="r12; %%pool runs lists them")
    options.add_argument("--cancelled", action="store_true", help="also what was cancelled")
    options.add_argument("--yes", action="store_true", help="spend more than a cell may spend unasked")
    add_dry_run_option(options)
    add_live_option(options)
    return options


def run(call: Call) -> pd.DataFrame | Preview:
    """Resume, wait, and return the frame of the whole run (or with --dry-run what would be run)."""
    pool, cancelled = call.pool, call.args.cancelled
    wanted = call.args.run or _latest(pool, cancelled)
    return run_again(call, pool.aio.planned_resume(wanted, cancelled=cancelled))


def _latest(pool: Pool, cancelled: bool) -> str:
    """The latest run of this pool's backend that has something to resume; says which it is.

    Raises:
        RunNotFound: there is none.
    """
    pool.ledger.recover()  # a kernel may have died since this pool was started
    runs = pool.runs()
    missing = runs["interrupted"] + (runs["cancelled"] if cancelled else 0)
    mine = runs[(missing > 0) & (runs["backend"] == pool.backend) & ~runs["state"].isin(OPEN_RUN_STATES)]
    if mine.empty:
        raise RunNotFound(f"no run of the {pool.backend} backend was interrupted; `%pool runs` lists all of them")
    found = mine.iloc[-1]
    say(f"{found['run_id']} is the latest that was interrupted: {missing[mine.index[-1]]} of {found['total']} to run")
    return str(found["run_id"])
