"""`%pool preview EXPR` and `%%pool preview`: what fan_out would run and cost; nothing is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_pool_nb.notebook.call import Call
from claude_pool_nb.notebook.designs import TEXT_HELP, add_design_options, design_of
from claude_pool_nb.notebook.overrides import add_task_options
from claude_pool_nb.notebook.parser import Takes, VerbParser
from claude_pool_nb.notebook.prompts import add_vars_option

if TYPE_CHECKING:
    from claude_pool_nb.analysis.preview import Preview


def parser() -> VerbParser:
    """The options of fan_out."""
    options = VerbParser(
        "preview",
        "What fan_out would run and cost with the same options: tasks, prompts, tokens, a low and a high price, time,\n"
        "and what is left of the budget after. Nothing is sent, started or written.",
        takes=Takes.EXPRESSION,
        text_name="EXPR",
        text_help=TEXT_HELP,
        cell="only",
    )
    add_design_options(options)
    add_task_options(options)
    add_vars_option(options)
    return options


def run(call: Call) -> Preview:
    """Look."""
    return call.pool.preview_design(design_of(call))
