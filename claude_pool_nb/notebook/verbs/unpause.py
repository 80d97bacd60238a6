"""`%pool unpause`: go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_pool_nb.notebook.call import Call
from claude_pool_nb.notebook.parser import VerbParser

if TYPE_CHECKING:
    from claude_pool_nb.pool import Pool


def parser() -> VerbParser:
    """No options of its own."""
    return VerbParser("unpause", "Start tasks again, after a pause or after its cause was mended.")


def run(call: Call) -> Pool:
    """Go on."""
    call.pool.unpause()
    return call.pool
