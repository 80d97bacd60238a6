"""`%pool stop`: stop the pool now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_pool_nb.notebook.call import Call
from claude_pool_nb.notebook.parser import VerbParser

if TYPE_CHECKING:
    from claude_pool_nb.records import PoolStatus


def parser() -> VerbParser:
    """No options of its own."""
    return VerbParser("stop", "Stop the pool now: what runs is interrupted, and can be resumed by the next pool.")


def run(call: Call) -> PoolStatus:
    """Stop it, and say what there was."""
    pool = call.pool
    pool.close()
    call.magics.started_with = None
    return pool.status()
