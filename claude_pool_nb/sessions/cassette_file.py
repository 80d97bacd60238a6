"""A tape on disk: read whole, added to line by line while it is recorded, put in order at the end.

Invariants: an answer is in the file before anybody is told of it, so that a killed kernel loses none; a tape that is
put in order has the same bytes however many sessions recorded it and in which order they finished; it takes the place
of the old one in one step; one recording at a time has a tape. What is wrong with a tape is told with file and line.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from io import FileIO
from pathlib import Path
from typing import Any, Final

from claude_pool_nb.errors import CassetteError
from claude_pool_nb.sessions.cassette_entry import Entry, entry_json, entry_of, to_line
from claude_pool_nb.sessions.cassette_format import FORMAT, OPTION_NAMES, VERSION, Asked

Group = list[list[Entry]]
"""The answers to one request: for each task that asked it, its attempts."""

RECORDING: Final = "recording"
"""Begins the lines that a recording which did not end in order has left; its value says whether they replace others."""


@dataclass(slots=True)
class Contents:
    """What a tape holds."""

    backend: str
    """Who answered: `claude`, `demo` ..."""
    groups: dict[str, Group] = field(default_factory=dict)
    """Answers by the keys of their requests, in the order of the file."""
    unfinished: bool = False
    """True if its recording was killed."""
    cut: bool = False
    """True if its last line was cut off by that."""

    def entries(self) -> Iterable[Entry]:
        """All answers, in the order of the file."""
        return (entry for group in self.groups.values() for attempts in group for entry in attempts)


def package_version() -> str:
    """The version of this package."""
    version: str = import_module(__name__.partition(".")[0]).__version__
    return version


def header(backend: str) -> dict[str, Any]:
    """The first line of a tape."""
    return {"format": FORMAT, "version": VERSION, "backend": backend, "recorded_with": package_version()}


# -- reading -----------------------------------------------------------------------------------------------------------


def read_tape(path: str) -> Contents:
    """Read a tape.

    Raises:
        CassetteError: there is none, or it cannot be read; the message names the line.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile(suffix=".ndjson") as file:
        ...     written = file.write(to_line(header("demo")))
        ...     file.flush()
        ...     read_tape(file.name).backend
        'demo'
    """
    place = located(path)
    try:
        data = place.read_bytes()
    except FileNotFoundError:
        raise CassetteError(f"there is no tape {path!r}; `record=PATH` makes one") from None
    except IsADirectoryError:
        raise CassetteError(f"{path} is a folder; name a file in it, like {path.rstrip('/')}/tape.ndjson") from None
    except OSError as error:
        raise CassetteError(f"{path} cannot be read ({error.strerror}); name a file that can be read") from None
    if not data:
        raise CassetteError(f"{path} is empty, it is no tape; `record={path!r}` makes it one")
    return _read(path, data)


def located(path: str) -> Path:
    """Where it is, also when the working directory has become another."""
    return Path(path).expanduser().absolute()


def _read(path: str, data: bytes) -> Contents:
    lines = data.split(b"\n")  # nothing else ends a line: answers may hold any other separator
    last_is_whole = lines[-1] == b""
    contents = Contents(_backend_of(path, lines[0]))
    known: dict[str, Asked] = {}
    numbered: dict[str, dict[int, list[Entry]]] = {}
    replaced: set[str] | None = None
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        try:
            told = _object(line)
            if RECORDING in told:
                contents.unfinished = True
                replaced = set() if told[RECORDING] == "all" else None
            elif "prompt" not in told and isinstance(told.get("options"), str):
                known[told["options"]] = _asked_of(told)
            else:
                entry = entry_of(told, known, number)
                key = entry.request.key
                if replaced is not None and key not in replaced:
                    replaced.add(key)
                    numbered[key] = {}
                numbered.setdefault(key, {}).setdefault(entry.occurrence, []).append(entry)
        except ValueError as error:
            if number == len(lines) and not last_is_whole and contents.unfinished:
                contents.cut = True
                break
            raise CassetteError(f"{path}, line {number}: {error}; mend the line, or record the tape anew") from None
    for key, tasks in numbered.items():
        contents.groups[key] = [sorted(tasks[n], key=lambda entry: entry.attempt) for n in sorted(tasks)]
    return contents


def _asked_of(told: Mapping[str, Any]) -> Asked:
    """The options of a line that only has options."""
    unknown = told.keys() - {"options", "profile"} - OPTION_NAMES
    if unknown:
        raise ValueError(f"there is no option {min(unknown)!r}")
    return Asked.of(told)


def _object(line: bytes) -> dict[str, Any]:
    """The JSON object of a line."""
    try:
        told = json.loads(line)
    except UnicodeDecodeError:
        raise ValueError("no UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON ({error.msg} at character {error.pos + 1})") from None
    if not isinstance(told, dict):
        raise ValueError("no JSON object")
    return told


def _backend_of(path: str, line: bytes) -> str:
    """Who answered, from a header that this package can read."""
    try:
        told = _object(line)
    except ValueError:
        told = {}
    if told.get("format") != FORMAT:
        raise CassetteError(f"{path}, line 1: this is no tape of claude-pool-nb; name one that `record=PATH` has made")
    version = told.get("version")
    if version != VERSION:
        newer = isinstance(version, int) and version > VERSION
        advice = "upgrade claude-pool-nb, or record it anew" if newer else "record it anew"
        raise CassetteError(
            f"{path}, line 1: the tape has format version {version!r}, and this claude-pool-nb "
            f"({package_version()}) reads version {VERSION}; {advice}"
        )
    return str(told.get("backend") or "claude")


# -- writing -----------------------------------------------------------------------------------------------------------


class TapeFile:
    """A tape that is being recorded.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     tape = TapeFile(f"{folder}/tape.ndjson", backend="demo", replaces=True)
        ...     tape.finish({})
        ...     os.listdir(folder)  # nothing was recorded
        []
    """

    def __init__(self, path: str, *, backend: str, replaces: bool) -> None:
        """Open it, and read what it has.

        Args:
            path: Where.
            backend: Who answers.
            replaces: A request that is asked again loses the answers it had.

        Raises:
            CassetteError: it cannot be written, is recorded elsewhere, or holds answers of another backend.
        """
        self.path = path
        self._place = located(path)
        self._replaces = replaces
        self._labels: set[str] = set()
        self._marked = False
        self.old = Contents(backend)
        fresh = not self._place.exists()
        self._file = self._opened()
        try:
            if self._place.stat().st_size:
                self.old = read_tape(path)
                if self.old.backend != backend:
                    raise CassetteError(
                        f"{path} holds answers of {self.old.backend}, and {backend} would answer now; record to "
                        "another file, or delete this one first"
                    )
                if self.old.cut:
                    self._cut_off()
            else:
                self._write(to_line(header(backend)))
        except BaseException:
            self._file.close()
            if fresh:
                self._place.unlink(missing_ok=True)
            raise
        self._fresh = fresh

    def _opened(self) -> FileIO:
        """The file, to be added to, and by nobody else."""
        try:
            import fcntl
        except ImportError:
            raise CassetteError(
                "a tape is recorded on Linux and macOS, which lock files as it needs; "
                "on Windows record in WSL: the tape can be replayed everywhere"
            ) from None
        try:
            file = self._place.open("ab", buffering=0)
        except IsADirectoryError:
            hint = f"{self.path.rstrip('/')}/tape.ndjson"
            raise CassetteError(f"{self.path} is a folder; record to a file in it, like {hint}") from None
        except FileNotFoundError:
            raise CassetteError(
                f"there is no folder {self._place.parent} to record {self._place.name} in; make it first"
            ) from None
        except OSError as error:
            raise CassetteError(
                f"{self.path} cannot be written ({error.strerror}); record to a file that can be"
            ) from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise CassetteError(
                f"{self.path} is being recorded by another pool; stop that one, or record to another file"
            ) from None
        except OSError:
            pass  # a file system without locks: two recordings of one tape are then not told apart
        return file

    def _cut_off(self) -> None:
        """Take away the half of a line with which a killed recording ended."""
        data = self._place.read_bytes()
        self._file.truncate(data.rfind(b"\n") + 1)

    def add(self, entry: Entry) -> None:
        """Write an answer down, at once.

        Raises:
            OSError: the disk is full, or gone.
        """
        text = b""
        if not self._marked:
            text += to_line({RECORDING: "all" if self._replaces else "new"})
        asked = entry.request.asked
        if asked.label not in self._labels:
            text += to_line({"options": asked.label, **asked.values})
        self._write(text + to_line(entry_json(entry)))
        self._labels.add(asked.label)
        self._marked = True

    def _write(self, data: bytes) -> None:
        """Add whole lines, or nothing."""
        before = os.fstat(self._file.fileno()).st_size
        try:
            left = memoryview(data)
            while left:
                left = left[self._file.write(left) :]
        except OSError:
            with contextlib.suppress(OSError):
                self._file.truncate(before)
            raise

    def finish(self, groups: Mapping[str, Group], *, changed: bool = False) -> None:
        """Put the whole tape in order, in the place of what is there, and let it go.

        Args:
            groups: All that is to be on it.
            changed: That is not what was on it.

        Raises:
            CassetteError: it cannot be written; what was added is in the file as it came.
        """
        try:
            if not groups and self._fresh:
                self._place.unlink(missing_ok=True)
            elif changed or self.old.unfinished:
                self._replace(tape_bytes(self.old.backend, groups))
        except OSError as error:
            raise CassetteError(
                f"{self.path} could not be put in order ({error.strerror}); all answers are in it as they came"
            ) from error
        finally:
            self._file.close()

    def _replace(self, data: bytes) -> None:
        """Write beside it, then take its place; a link stays one."""
        place = self._place.resolve()
        descriptor, name = tempfile.mkstemp(prefix=f".{place.name}.", dir=place.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            there = os.fstat(self._file.fileno())
            Path(name).chmod(there.st_mode & 0o777)
            Path(name).replace(place)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise


def tape_bytes(backend: str, groups: Mapping[str, Group]) -> bytes:
    """A whole tape: its header, then the answers, each set of options before the first request that has it."""
    lines = [to_line(header(backend))]
    labels: set[str] = set()
    for group in groups.values():
        for attempts in group:
            for entry in attempts:
                asked = entry.request.asked
                if asked.label not in labels:
                    labels.add(asked.label)
                    lines.append(to_line({"options": asked.label, **asked.values}))
                lines.append(to_line(entry_json(entry)))
    return b"".join(lines)
