"""`%pool fan_out EXPR` and `%%pool fan_out`: many prompts at once, one row each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_pool_nb.notebook.call import Call
from claude_pool_nb.notebook.designs import ABOUT, TEXT_HELP, add_design_options, design_of
from claude_pool_nb.notebook.overrides import add_live_option, add_task_options
from claude_pool_nb.notebook.parser import Takes, VerbParser
from claude_pool_nb.notebook.prompts import add_vars_option
from claude_pool_nb.notebook.waiting import add_dry_run_option, check_spending, frame_of

if TYPE_CHECKING:
    import pandas as pd

    from claude_pool_nb.analysis.preview import Preview
    from claude_pool_nb.handles import Run


def parser() -> VerbParser:
    """Options on either side of the expression."""
    options = VerbParser(
        "fan_out",
        "Run many prompts at once and return a DataFrame, one row per prompt, in order; an error is a row.\n"
        f"As a cell magic the prompts are the body of the cell, separated by a line of exactly ---.\n{ABOUT}",
        takes=Takes.EXPRESSION,
        text_name="EXPR",
        text_help=TEXT_HELP,
        cell="only",
    )
    add_design_options(options)
    add_task_options(options)
    add_vars_option(options)
    add_live_option(options)
    add_dry_run_option(options)
    options.add_argument("--no-wait", action="store_true", help="return the run at once; %%pool wait waits for it")
    return options


def run(call: Call) -> pd.DataFrame | Run | Preview:
    """Run them, and return their frame (or the run, with --no-wait)."""
    design = design_of(call)
    if call.args.dry_run:
        return call.pool.preview_design(design)
    check_spending(call, design)
    if call.args.no_wait:
        return call.pool.accept(design, wait=False)
    return frame_of(call, lambda: call.pool.accept(design, wait=False))
