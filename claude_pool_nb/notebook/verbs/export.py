"""`%pool export PATH [RUN]`: write answers to a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_pool_nb.analysis.outputs import EXPORTS
from claude_pool_nb.notebook.call import Call
from claude_pool_nb.notebook.parser import VerbParser, words

if TYPE_CHECKING:
    import pandas as pd


def parser() -> VerbParser:
    """Where to, of which run, and what."""
    options = VerbParser(
        "export",
        "Write answers to a file, by its ending: csv, jsonl, parquet, xlsx, html or md, with what is known of them.",
    )
    options.add_argument("path", metavar="PATH", help="like answers.csv")
    options.add_argument("run", nargs="?", metavar="RUN", help="r12, or all; nothing for the last run")
    options.add_argument("--what", choices=EXPORTS, default="tasks", help=f"{', '.join(EXPORTS)}; tasks by default")
    options.add_argument("--by", metavar="A,B", type=words, help="with --what cost or metrics: sum by these")
    options.add_argument("--columns", metavar="A,B", type=words, help="only these columns, in this order")
    options.add_argument("--force", action="store_true", help="replace a file that exists")
    return options


def run(call: Call) -> pd.DataFrame:
    """What was written, and where."""
    import pandas as pd

    from claude_pool_nb.analysis.export import SIDECAR
    from claude_pool_nb.display.facts import facts_frame

    args = call.args
    path, frame = call.pool.exported(
        args.path, args.run, what=args.what, by=args.by, columns=args.columns, overwrite=args.force
    )
    rows = [
        ("file", str(path)),
        ("rows", f"{len(frame):,} {args.what}"),
        ("columns", f"{len(args.columns or frame.columns):,}"),
        ("size", f"{path.stat().st_size / 1000:,.1f} kB"),
    ]
    beside = path.with_name(path.name + SIDECAR)
    if path.suffix.lower() in {".csv", ".jsonl"}:
        rows.append(("about it", str(beside)))
    made = pd.DataFrame(rows, columns=["what", "value"], dtype="string")
    return facts_frame(made, label=f"export to {path.name}")
