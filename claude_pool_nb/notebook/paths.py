"""Paths of files that go on from what was typed, for tab completion.

Invariants: nothing is opened, and a folder that cannot be read offers nothing; hidden files are offered only when their
dot was typed.
"""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

MAX_SEEN = 2_000
"""So many entries of a folder are looked at."""


def paths_from(typed: str) -> list[str]:
    """Files and folders whose path begins with `typed`; folders end in a slash.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "answers.csv").write_text("")
        ...     Path(folder, "aside").mkdir()
        ...     [path.removeprefix(folder) for path in paths_from(f"{folder}/a")]
        ['/answers.csv', '/aside/']
        >>> paths_from("no/such/folder/x")
        []
    """
    head, separator, tail = typed.rpartition("/")
    try:
        with os.scandir(Path(head + separator).expanduser() if head or separator else ".") as entries:
            found = [
                f"{head}{separator}{entry.name}{'/' if entry.is_dir() else ''}"
                for entry in islice(entries, MAX_SEEN)
                if entry.name.startswith(tail)
                and (tail.startswith(".") or not entry.name.startswith("."))
                and " " not in entry.name
            ]
    except OSError:  # there is no such folder, or it is not ours to read
        return []
    return sorted(found)
