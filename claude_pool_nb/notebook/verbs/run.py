"""`%pool run PROMPT` and `%%pool run`: one prompt, its answer in the cell."""

from __future__ import annotations

from claude_pool_nb.notebook.call import Call
from claude_pool_nb.notebook.overrides import add_live_option, add_task_options, overrides_of
from claude_pool_nb.notebook.parser import Takes, VerbParser
from claude_pool_nb.notebook.prompts import add_vars_option, one_prompt
from claude_pool_nb.notebook.waiting import answer_of, check_spending
from claude_pool_nb.records import TaskResult


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
    return options


def run(call: Call) -> TaskResult:
    """Run it, and raise TaskFailed if it fails."""
    overrides = overrides_of(call)
    prompt = one_prompt(call)
    check_spending(call, [prompt], overrides)
    return answer_of(call, lambda: call.pool.submit(prompt, verb="run", **overrides))
