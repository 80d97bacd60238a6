"""`%pool context`: facts that every session is told, appended to the system prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_pool_nb.errors import ConfigError
from claude_pool_nb.notebook.call import Call
from claude_pool_nb.notebook.parser import Takes, VerbParser, did_you_mean

if TYPE_CHECKING:
    import pandas as pd


def parser() -> VerbParser:
    """Nothing, a key, or a key and its text."""
    options = VerbParser(
        "context",
        "Facts that every session is told. No text: all of them. KEY: that one. KEY TEXT: set it for the next tasks.\n"
        "As a cell magic, %%pool context KEY sets it to the body of the cell.",
        takes=Takes.PROMPT,
        text_name="[KEY [TEXT]]",
        text_help="a name without blanks, and what is to be known under it, as it is written",
        cell="beside",
    )
    options.add_argument("--delete", metavar="KEY", help="forget this one")
    return options


def run(call: Call) -> pd.DataFrame | str:
    """Get, set or delete; returns the text of one key, or all of them."""
    pool, args = call.pool, call.args
    if args.delete is not None:
        _known(call, args.delete)
        pool.delete_context(args.delete)
        return _all(call)
    if call.cell is not None:
        if not args.head or len(args.head.split()) != 1:
            call.parser.error("the first line names one key: %%pool context KEY")
        pool.set_context(args.head, call.cell)
        return _all(call)
    key, _, text = args.text.strip().partition(" ")
    if not key:
        return _all(call)
    if not text:
        return _known(call, key)
    pool.set_context(key, text)
    return _all(call)


def _all(call: Call) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(sorted(call.pool.list_context().items()), columns=["key", "text"], dtype="string")


def _known(call: Call, key: str) -> str:
    """The text of a key."""
    known = call.pool.list_context()
    if key not in known:
        hint = did_you_mean(key, known) if known else "; there is none yet"
        raise ConfigError(f"the shared context has no {key!r}{hint}")
    return str(known[key])
