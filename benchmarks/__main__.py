"""Takes every figure and prints the tables: `python -m benchmarks [--rounds N] [--write] [PART ...]`.

With `--write` they replace the tables in benchmarks/README.md; with parts, only their own. Ends with an error if a mark
was missed.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from datetime import date
from importlib import import_module
from pathlib import Path

from benchmarks.harness import Table
from benchmarks.machine import describe, used_before

PARTS = (
    "engine", "handover", "many", "frames", "experiments", "replay", "live_view", "request_size", "kernel",
    "cli_rates",
)  # fmt: skip
README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->\n"


def replaced(old: str, tables: Sequence[Table], before: str) -> str:
    """The figures with some tables taken anew; new ones come last."""
    parts = re.split(r"(?m)^(?=### )", old)
    for table in tables:
        table.notes.append(f"Taken alone, on {date.today()}; in use by others before: {before}.")
        at = next((n for n, part in enumerate(parts) if part.startswith(f"### {table.title}\n")), None)
        if at is None:
            parts[-1] = parts[-1].rstrip() + "\n\n"
            parts.append(table.markdown())
        else:
            parts[at] = table.markdown() + ("\n" if at < len(parts) - 1 else "")
    return "".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"which: {', '.join(PARTS)}; all if none is named")
    parser.add_argument("--rounds", type=int, default=3, help="every figure is the median of so many")
    parser.add_argument("--write", action="store_true", help="keep the tables in benchmarks/README.md")
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    busy = used_before()
    about = describe()
    print(about, flush=True)
    tables = []
    missed = []
    for part in args.parts or PARTS:
        for table in import_module(f"benchmarks.{part}").measure(args.rounds):
            print(table.markdown(), flush=True)
            tables.append(table)
            missed += table.missed
    if args.write:
        before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
        old, _, behind = rest.partition(END)
        figures = (
            replaced(old, tables, busy) if args.parts else "\n".join([about, *(table.markdown() for table in tables)])
        )
        README.write_text(before + BEGIN + figures + END + behind, encoding="utf-8")
    if missed:
        sys.exit("missed:\n" + "\n".join(f"- {mark}" for mark in missed))


if __name__ == "__main__":
    main()
