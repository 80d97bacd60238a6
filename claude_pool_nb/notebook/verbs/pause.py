"""`%pool pause`: start no more tasks; what runs goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_pool_nb.notebook.call import Call
from claude_pool_nb.notebook.parser import Takes, VerbParser

if TYPE_CHECKING:
    from claude_pool_nb.pool import Pool


def parser() -> VerbParser:
    """A reason, if one is to be shown."""
    return VerbParser(
        "pause",
        "Start no more tasks until %pool unpause; what runs goes on, the queue is kept.",
        takes=Takes.PROMPT,
        text_name="[REASON]",
        text_help="shown on the card",
    )


def run(call: Call) -> Pool:
    """Pause it."""
    call.pool.pause(call.args.text.strip() or "by %pool pause")
    return call.pool
