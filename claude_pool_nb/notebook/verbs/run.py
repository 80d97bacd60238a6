"""`%pool run PROMPT` and `%%pool run`: one prompt, its answer in the cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_pool_nb.notebook.call import Call
from claude_pool_nb.notebook.overrides import add_live_option, add_task_options, overrides_of
from claude_pool_nb.notebook.parser import Takes, VerbParser
from claude_pool_nb.notebook.prompts import add_vars_option, one_prompt
from claude_pool_nb.notebook.waiting import add_dry_run_option, answer_of, check_spending
from claude_pool_nb.records import TaskResult

if TYPE_CHECKING:
    from claude_pool_nb.analysis.preview import Preview


def parser() -> VerbParser:
    """Options, then the prompt."""
    options = VerbParser(
        "run",
        "Run one prompt and return its answer. As a cell magic the prompt is the body of the cell.",
        takes=Takes.PROMPT,
        text_name="PROMPT",
        text_help="the rest of the line, or the body of the cell, as it is written; -- ends the options",
        cell="only",
    )
    add_task_options(options)
    add_vars_option(options)
    add_live_option(options)
    add_dry_run_option(options)
    return options


def run(call: Call) -> TaskResult | Preview:
    """Run it, and raise TaskFailed if it fails."""
    from claude_pool_nb.analysis.design import Design

    overrides = overrides_of(call)
    prompt = one_prompt(call)
    design = Design.of_prompts([prompt], verb="run", **overrides)
    if call.args.dry_run:
        return call.pool.preview_design(design)
    check_spending(call, design)
    return answer_of(call, lambda: call.pool.submit(prompt, verb="run", **overrides))
