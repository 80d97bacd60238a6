"""`%pool submit PROMPT`: one prompt in the background; the cell ends at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_pool_nb.notebook.call import Call
from claude_pool_nb.notebook.overrides import add_task_options, overrides_of
from claude_pool_nb.notebook.parser import Takes, VerbParser
from claude_pool_nb.notebook.prompts import add_vars_option, one_prompt
from claude_pool_nb.notebook.waiting import check_spending

if TYPE_CHECKING:
    from claude_pool_nb.handles import Task


def parser() -> VerbParser:
    """Options, then the prompt."""
    options = VerbParser(
        "submit",
        "Run one prompt in the background and return its task at once. %pool wait and %pool result give the answer.",
        takes=Takes.PROMPT,
        text_name="PROMPT",
        text_help="the rest of the line, or the body of the cell, as it is written; -- ends the options",
        cell="only",
    )
    add_task_options(options)
    add_vars_option(options)
    return options


def run(call: Call) -> Task:
    """Hand it to the pool."""
    from claude_pool_nb.analysis.design import Design

    overrides = overrides_of(call)
    prompt = one_prompt(call)
    check_spending(call, Design.of_prompts([prompt], verb="submit", **overrides))
    return call.pool.submit(prompt, **overrides)
