"""A cassette: answers of models that were recorded, to be played again without a model.

Invariants: what is played depends on the request alone and on how often it was asked; the attempts of one task are
played in their order, whatever other tasks with the same request do meanwhile. A request that is not on the tape is
told of with the nearest one that is. Nothing is asked of a model by a cassette itself.
"""

from __future__ import annotations

import re
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Final

from claude_pool_nb.errors import CassetteError, nearest
from claude_pool_nb.records import Failure, FailureKind
from claude_pool_nb.sessions.cassette_entry import Entry
from claude_pool_nb.sessions.cassette_file import Group, TapeFile, located, read_tape
from claude_pool_nb.sessions.cassette_format import Request, beginning
from claude_pool_nb.sessions.cassette_nearest import Nearest, differences
from claude_pool_nb.sessions.cassette_places import Found, Line, Place, number_in_run

SPEEDS: Final = ("instant", "real")
"""How fast a tape is played: at once, or in the time that the answers took."""
NOT_ON_TAPE: Final = "not_on_tape"
"""The machine word for a request that was not recorded."""

STARTS_OVER: Final = "The tape's answers start over where a request is asked more often than it was recorded."


class CassetteMode(StrEnum):
    """What is done with a request: played, recorded, or either."""

    ONCE = "once"  # played if there is a tape, recorded if there is none
    NONE = "none"  # played, never recorded
    NEW = "new"  # played if it is on the tape, recorded if not
    ALL = "all"  # recorded, whatever the tape has


class Cassette:
    """A tape in use.

    Args:
        path: The file.
        mode: What is done with a request.
        backend: Who answers what is not on the tape; None if nobody does.
        speed: `instant`, or `real` for the time that the answers took.

    Raises:
        CassetteError: the tape cannot be used so; nothing was changed.

    Example:
        >>> import tempfile
        >>> from claude_pool_nb import Pool
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with Pool(backend="demo", demo_latency_s=0, store=":memory:", record=f"{folder}/tape.ndjson") as pool:
        ...         result = pool.run("ping")
        ...     len(Cassette(f"{folder}/tape.ndjson"))
        1
    """

    def __init__(
        self,
        path: str | Path,
        mode: CassetteMode | str = CassetteMode.NONE,
        *,
        backend: str | None = None,
        speed: str = "instant",
    ) -> None:
        self.path = str(path)
        self.speed = checked_speed(speed)
        mode = checked_mode(mode)
        if mode is CassetteMode.ONCE:
            place = located(self.path)
            mode = CassetteMode.NONE if place.exists() and place.stat().st_size else CassetteMode.ALL
        self.mode = mode
        """What is done with a request: never `once`, which is one of the others."""
        if self.records and backend is None:
            there = "which is not there" if mode is CassetteMode.ALL else "where something is missing"
            raise CassetteError(
                f"{self.path}, {there}, cannot be recorded on a pool that only replays; start one on claude or demo"
            )
        self.played = 0
        """Answers that were played."""
        self.recorded = 0
        """Answers that were recorded."""
        self.missing = 0
        """Requests that were not on the tape, and failed for it."""
        self.trouble: str | None = None
        """Why the tape could not be written, if it could not."""
        self.unseen: set[str] = set()
        """Histories of conversations that were played: no model has seen them."""
        self._file: TapeFile | None = None
        if self.records:
            self._file = TapeFile(self.path, backend=backend or "", replaces=mode is CassetteMode.ALL)
            self._contents = self._file.old
        else:
            self._contents = read_tape(self.path)
        self._groups = self._contents.groups
        self._places: dict[tuple[str, str], Place] = {}
        self._lines: dict[str, Line] = {}
        self._fresh: dict[str, dict[str, list[Entry]]] = {}
        self._alike: dict[str, list[str]] | None = None
        self._nearest: Nearest | None = None
        self._arrivals = 0

    @property
    def backend(self) -> str:
        """Who answered when it was recorded."""
        return self._contents.backend

    @property
    def plays(self) -> bool:
        """True if answers are taken from the tape."""
        return self.mode is not CassetteMode.ALL

    @property
    def records(self) -> bool:
        """True if answers are added to the tape."""
        return self.mode in {CassetteMode.ALL, CassetteMode.NEW}

    @property
    def warnings(self) -> list[str]:
        """What a person should know of the file."""
        if self._contents.cut:
            return [f"The last line of {self.path} was cut off when its recording was killed; that answer is lost."]
        return []

    def __len__(self) -> int:
        """How many answers it had when it was opened."""
        return sum(len(attempts) for group in self._groups.values() for attempts in group)

    def __repr__(self) -> str:
        done = f"{self.played} played, {self.recorded} recorded, {self.missing} missing"
        return f"<Cassette {self.path} ({self.mode}): {len(self)} answers of {self.backend}; {done}>"

    # -- playing -------------------------------------------------------------------------------------------------------

    def find(self, request: Request, task_id: str = "") -> Found | None:
        """The answer to a request; None if it is not on the tape.

        A task that asks for the first time gets what the task of the same place in its run got, or else the next of
        those that asked the same; one that asks again gets its own next attempt. Where the tape has no more, a
        recording goes on; a replay starts over.
        """
        place = self._places.get((request.key, task_id)) if task_id else None
        if place is None:
            line = self._line_of(request)
            if line is None:
                return None
            place = line.next(number_in_run(task_id))
            if task_id:
                self._places[request.key, task_id] = place
        if place.done >= len(place.attempts) and self.records:
            return None
        return Found(place.attempts[min(place.done, len(place.attempts) - 1)], place)

    def _line_of(self, request: Request) -> Line | None:
        """Where the next answer to a request is to be taken from.

        Which of several named slots a task gets is chance, and its name is told to the model: where the slot of now
        has no answer left, a replay takes one that another slot was given to the same request.
        """
        line = self._lines.get(request.key)
        if line is None and request.key in self._groups:
            line = self._lines[request.key] = Line(self._groups[request.key])
        if self.records:
            return line if line is not None and not line.is_empty else None
        if line is None or line.is_empty:
            if self._alike is None:
                self._alike = {}
                for group in self._groups.values():
                    taped = group[0][0].request
                    self._alike.setdefault(taped.anybody, []).append(taped.key)
            for key in self._alike.get(request.anybody, ()):
                other = self._lines.get(key)
                if other is None:
                    other = self._lines[key] = Line(self._groups[key])
                if not other.is_empty:
                    return other
                line = line or other
        return line

    def was_played(self, found: Found) -> None:
        """An answer was played to its end: the task's next attempt gets the next one."""
        self.played += 1
        found.place.done += 1

    def not_found(self, request: Request) -> Failure:
        """Why a request fails that is not on the tape: the nearest one that is, and what differs."""
        self.missing += 1
        if self._nearest is None:
            self._nearest = Nearest(self._contents.entries())
        entry = self._nearest.to(request)
        advice = f"Record it with record={self.path!r} or `%pool start --record {self.path}`."
        if entry is None:
            return Failure(FailureKind.REQUEST, NOT_ON_TAPE, f"The tape {self.path} has no answers. {advice}")
        begins = " ".join(beginning(entry.request.prompt).split())
        words = begins if len(begins) <= 40 else begins[:39] + "…"
        where = f"line {entry.line} of {self.path}" if entry.line else f"one that was just recorded to {self.path}"
        differing = "; ".join(differences(entry.request, request)) or "nothing that the tape shows"
        message = f"Not on the tape. The nearest, {where} ({words!r}), differs in {differing}. {advice}"
        return Failure(FailureKind.REQUEST, NOT_ON_TAPE, message)

    # -- recording -----------------------------------------------------------------------------------------------------

    def history_of(self, conversation: str | None) -> str | None:
        """Where a conversation stands on the tape, by its name; None if it is not on it."""
        found = None
        if conversation is not None:
            fresh = (entry for tasks in self._fresh.values() for entries in tasks.values() for entry in entries)
            for entry in (*self._contents.entries(), *fresh):
                if entry.conversation == conversation and entry.answer.failure is None:
                    found = entry.then
        return found

    def note(self, entry: Entry, task_id: str = "") -> None:
        """Add an answer; where the file cannot be written it is kept until the end, and `trouble` says why."""
        if self._file is None:
            return  # it was taken out while the answer came
        key = entry.request.key
        self._arrivals += 1
        owner = task_id or f"#{self._arrivals}"
        entry = replace(entry, task=number_in_run(task_id))
        tasks = self._fresh.setdefault(key, {})
        place = self._places.get((key, task_id)) if self.plays else None
        before = len(self._groups.get(key, ())) if self.plays else 0
        if place is not None:
            known = self._groups[key][place.number]
            entry = replace(entry, occurrence=place.number + 1, attempt=len(known) + len(tasks.get(owner, ())) + 1)
        else:
            number = before + list(tasks).index(owner) + 1 if owner in tasks else before + len(tasks) + 1
            entry = replace(entry, occurrence=number, attempt=len(tasks.get(owner, ())) + 1)
        tasks.setdefault(owner, []).append(entry)
        self.recorded += 1
        try:
            self._file.add(entry)
        except OSError as error:
            self.trouble = f"{self.path} could not be written ({error.strerror}): answers are kept until it can be"

    def close(self) -> None:
        """Put the tape in order and let it go; safe to call twice.

        Raises:
            CassetteError: it could not be written.
        """
        file, self._file = self._file, None
        if file is not None:
            file.finish(self._merged(), changed=bool(self._fresh))

    def _merged(self) -> dict[str, Group]:
        """All that is to be on the tape: what was, where it was; then what is new, in the order of the tasks."""
        merged = dict(self._groups)
        for key, tasks in sorted(self._fresh.items(), key=lambda item: min(map(_order, item[1].items()))):
            old = self._groups.get(key, [])
            group: Group = [list(attempts) for attempts in old] if self.plays else []
            added: Group = []
            for owner, entries in sorted(tasks.items(), key=_order):
                place = self._places.get((key, owner)) if self.plays else None
                if place is not None:
                    group[place.number] += entries
                else:
                    added.append(entries)
            merged[key] = _numbered(group + added, old)
        return merged


def _numbered(group: Group, old: Group) -> Group:
    """A group with its numbers set; what only the clock tells from what was there stays as it was."""
    result: Group = []
    for number, attempts in enumerate(group, 1):
        before = old[number - 1] if number <= len(old) else []
        row: list[Entry] = []
        for attempt, given in enumerate(attempts, 1):
            task = given.task if len(group) > 1 else None
            entry = replace(given, occurrence=number, attempt=attempt, task=task)
            known = before[attempt - 1] if attempt <= len(before) else None
            row.append(known if known is not None and known.same_but_for_times(entry) else entry)
        result.append(row)
    return result


def _order(item: tuple[str, list[Entry]]) -> tuple[int, int, int]:
    """The order of tasks in a notebook: runs, and tasks within them; what is of no task by its arrival."""
    owner = item[0]
    if match := re.fullmatch(r"r(\d+)\.(\d+)", owner):
        return 0, int(match[1]), int(match[2])
    arrived = re.fullmatch(r"#(\d+)", owner)
    return 1, int(arrived[1]) if arrived else 0, 0


def checked_mode(mode: CassetteMode | str) -> CassetteMode:
    """A mode.

    Raises:
        CassetteError: there is none of that name.

    Example:
        >>> checked_mode("new")
        <CassetteMode.NEW: 'new'>
    """
    words = [member.value for member in CassetteMode]
    if mode not in words:
        raise CassetteError(f"there is no mode {mode!r} of a cassette{nearest(str(mode), words)}")
    return CassetteMode(mode)


def checked_speed(speed: str) -> str:
    """A speed.

    Raises:
        CassetteError: there is none of that name.

    Example:
        >>> checked_speed("reel")
        Traceback (most recent call last):
        claude_pool_nb.errors.CassetteError: there is no speed 'reel'; did you mean 'real'?
    """
    if speed not in SPEEDS:
        raise CassetteError(f"there is no speed {speed!r}{nearest(str(speed), SPEEDS)}")
    return speed
