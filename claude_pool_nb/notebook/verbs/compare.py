"""`%pool compare A B`: runs, models or grid cells side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_pool_nb.notebook.call import Call
from claude_pool_nb.notebook.parser import VerbParser, words
from claude_pool_nb.notebook.verbs.retry import last_run

if TYPE_CHECKING:
    import pandas as pd


def parser() -> VerbParser:
    """Runs, and how they are put side by side."""
    options = VerbParser(
        "compare",
        "Put runs side by side, or the models and grid cells of one run (the last, if none is named).\n"
        "Returns a DataFrame: a row per row of the input, a group of columns per variant (df['r1']), and agree.\n"
        "It shows what agrees, the cost and time of each variant, and the words that differ; df.comparison has it all.",
    )
    add = options.add_argument
    add("runs", nargs="*", metavar="RUN", help="r12 r13; one alone is split by its models or its grid")
    add("--on", metavar="A,B", type=words, help="columns of the input that say which rows belong together (the index)")
    add("--by", metavar="A,B", type=words, help="split by these: model, or keys of the grid")
    add("--expect", metavar="COL", help="column of the input with the expected answers: accuracy and confusion")
    add("--field", metavar="COL", help="compare this column alone: output, or a field such as label (out_label)")
    return options


def run(call: Call) -> pd.DataFrame:
    """Compare; nothing is run."""
    args = call.args
    runs = args.runs or [last_run(call)]
    return call.pool.compare(*runs, on=args.on, by=args.by, expect=args.expect, field=args.field).frame
