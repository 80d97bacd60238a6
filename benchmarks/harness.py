"""What all benchmarks share: rounds in fresh processes, medians, and tables.

Every part is a module with `measure(rounds) -> list[Table]`, runs alone as `python -m benchmarks.PART`, and takes
both sides of a comparison in turns within one run. A figure is the median of the rounds.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

median = statistics.median

PART_MARK = "@@"
"""Begins the line with which a child process hands its figures over."""


@dataclass
class Table:
    """Rows of text under a title, with the command that makes them and the marks they are held against."""

    title: str
    command: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)

    def row(self, *cells: object) -> None:
        """Add a row."""
        self.rows.append([str(cell) for cell in cells])

    def mark(self, text: str, *, reached: bool) -> str:
        """A mark as a cell, noted if it was missed."""
        if not reached:
            self.missed.append(f"{self.title}: {text}")
        return f"{text} {'✓' if reached else '✗ missed'}"

    def markdown(self) -> str:
        """The table as Markdown."""
        lines = [f"### {self.title}", "", f"`{self.command}`", ""]
        lines += ["| " + " | ".join(self.columns) + " |", "|" + "---|" * len(self.columns)]
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        if self.notes:
            lines += ["", *self.notes]
        return "\n".join(lines) + "\n"


def child(module: str, *arguments: object, killed: bool = False) -> dict[str, Any]:
    """Run `python -m module child ...` and return what it handed over.

    Args:
        module: A module of this package that calls `hand_over`.
        *arguments: Its arguments.
        killed: It is meant to end itself with SIGKILL.

    Raises:
        SystemExit: it failed.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, "child", *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")])},
    )
    if killed and done.returncode == -9:
        return {}
    for line in done.stdout.splitlines():
        if line.startswith(PART_MARK):
            figures: dict[str, Any] = json.loads(line.removeprefix(PART_MARK))
            return figures
    sys.exit(f"{module} {arguments} ended with {done.returncode} and no figures:\n{done.stdout}")


def hand_over(**figures: Any) -> None:
    """Give the figures of a child process to its parent."""
    print(PART_MARK + json.dumps(figures), flush=True)


def medians(rounds: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The median of each figure over the rounds."""
    every = list(rounds)
    return {name: median(one[name] for one in every) for name in every[0]}


def run_part(measure: Callable[[int], list[Table]], child_main: Callable[[list[str]], None] | None = None) -> None:
    """What `python -m benchmarks.PART [ROUNDS]` does."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["child"] and child_main is not None:
        child_main(arguments[1:])
        return
    for table in measure(int(arguments[0]) if arguments else 3):
        print(table.markdown(), flush=True)
