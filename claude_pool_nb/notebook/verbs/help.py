"""`%pool help [VERB]`: all verbs, or the options of one."""

from __future__ import annotations

from claude_pool_nb.notebook.call import Call
from claude_pool_nb.notebook.parser import VerbParser
from claude_pool_nb.notebook.verbs import overview


class HelpText(str):
    """A text that shows as it is, without quotation marks."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def parser() -> VerbParser:
    """A verb, if one is meant."""
    options = VerbParser("help", "Show all verbs, or the options of one.")
    options.add_argument("verb", nargs="?", metavar="VERB", help="the verb")
    return options


def run(call: Call) -> HelpText:
    """The text."""
    from claude_pool_nb.notebook.magics import find_verb

    if not call.args.verb:
        return HelpText(overview())
    return HelpText(call.magics.parser(find_verb(call.args.verb).name).help_text())
