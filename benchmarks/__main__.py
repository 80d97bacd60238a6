"""Takes every figure and prints the tables: `python -m benchmarks [--rounds N] [--write] [PART ...]`.

With `--write` they replace the tables in benchmarks/README.md. Ends with an error if a mark was missed.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

from benchmarks.machine import describe

PARTS = (
    "engine", "handover", "many", "frames", "experiments", "replay", "live_view", "request_size", "kernel",
    "cli_rates",
)  # fmt: skip
README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"which: {', '.join(PARTS)}; all if none is named")
    parser.add_argument("--rounds", type=int, default=3, help="every figure is the median of so many")
    parser.add_argument("--write", action="store_true", help="keep the tables in benchmarks/README.md")
    args = parser.parse_args()
    if unknown := set(args.parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    if args.write and args.parts:
        parser.error("--write keeps the tables of one run: leave the parts out")
    text = describe()
    print(text, flush=True)
    missed = []
    for part in args.parts or PARTS:
        for table in import_module(f"benchmarks.{part}").measure(args.rounds):
            print(table.markdown(), flush=True)
            text += "\n" + table.markdown()
            missed += table.missed
    if args.write:
        before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
        README.write_text(before + BEGIN + text + END + rest.partition(END)[2], encoding="utf-8")
    if missed:
        sys.exit("missed:\n" + "\n".join(f"- {mark}" for mark in missed))


if __name__ == "__main__":
    main()
