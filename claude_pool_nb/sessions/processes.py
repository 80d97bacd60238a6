"""Ending whole process trees, and leaving no orphan behind a kernel that died.

A claude process in mid-turn does not end when its kernel does, and what it started (shells, MCP servers) may outlive
it too. So one small watcher process per kernel waits for the kernel to go, and then ends every tree it was told of.
A process is named by pid and start time together, because pids are used again.

Invariants: nothing is signalled whose start time does not fit; the watcher lives outside the kernel's process group
and ends by itself; every process of ours carries `MARK` in its environment, by which descendants that left their
tree are found.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

if TYPE_CHECKING:
    import psutil

T = TypeVar("T")

CAN_BE_ENDED = hasattr(os, "killpg") and hasattr(os, "register_at_fork")
"""Whether this system has what it takes to end a whole tree for sure; where it has not, no session is started."""
MARK = "CLAUDE_POOL_NB_KERNEL"
"""Name of the environment variable that tells whose descendants are whose."""
_MARKS = itertools.count(1)
START_TIME_SLACK_S = 0.05
"""By how much two readings of one process's start time may differ."""


@dataclass(frozen=True, slots=True)
class ProcessId:
    """One process, for good: its pid, and when it started, in unix seconds."""

    pid: int
    started_at: float
    executable: str = ""


async def off_loop(function: Callable[..., T], *args: Any, **options: Any) -> T:
    """Run something slow in a thread; in this one when the interpreter is ending and has no threads to give.

    Example:
        >>> import asyncio
        >>> asyncio.run(off_loop(max, 1, 2))
        2
    """
    call = partial(function, *args, **options)
    try:
        waiting = asyncio.get_running_loop().run_in_executor(None, call)
    except RuntimeError:
        return call()
    return await waiting


def identify(pid: int) -> ProcessId | None:
    """Name a running process so that it cannot be mistaken for a later one; None if it is gone.

    Example:
        >>> import os
        >>> identify(os.getpid()).pid == os.getpid()
        True
    """
    import psutil

    try:
        process = psutil.Process(pid)
        with process.oneshot():
            executable = ""
            with suppress(psutil.AccessDenied):
                executable = process.exe()
            return ProcessId(pid, process.create_time(), executable)
    except psutil.NoSuchProcess:
        return None


def tree_of(pid: int) -> list[psutil.Process]:
    """The process and its descendants, oldest first; what left its tree but kept its session is among them."""
    import psutil

    try:
        root = psutil.Process(pid)
        found = {p.pid: p for p in (root, *root.children(recursive=True))}
    except psutil.NoSuchProcess:
        found = {}
    for process in psutil.process_iter():
        with suppress(OSError, psutil.Error):
            if process.pid not in found and os.getsid(process.pid) == pid:
                found[process.pid] = process
    return list(found.values())


def marked(mark: str) -> list[psutil.Process]:
    """The processes of this user whose environment has that mark: descendants, wherever they have gone.

    Example:
        >>> marked("nobody has this")
        []
    """
    import psutil

    found = []
    for process in psutil.process_iter():
        with suppress(OSError, psutil.Error):
            if process.environ().get(MARK) == mark:
                found.append(process)
    return found


def leftovers() -> list[psutil.Process]:
    """The processes of this user that a pool has started and whose kernel is gone, oldest first.

    Their mark begins with the kernel's pid. A process of that pid which is younger than they are is not their kernel.

    Example:
        >>> import os
        >>> os.getpid() in [process.pid for process in leftovers()]
        False
    """
    import psutil

    found: list[psutil.Process] = []
    for process in psutil.process_iter() if CAN_BE_ENDED else ():
        with suppress(OSError, psutil.Error):
            kernel = process.environ().get(MARK, "").partition("-")[0]
            if not kernel.isdigit() or process.uids().real != os.getuid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            alive = identify(int(kernel))
            if alive is None or alive.started_at > process.create_time():
                found.append(process)
    return sorted(found, key=lambda process: process.create_time())


def end_tree(pid: int, started_at: float | None = None, *, mark: str | None = None) -> int:
    """Kill a process and all its descendants at once; say how many were still there.

    Args:
        pid: The root; it must lead a session of its own.
        started_at: When it started; if given and no longer true, nothing is done to that pid.
        mark: What it has under `MARK`: a shell of the CLI leads a session of its own and outlives it as an orphan.

    Example:
        >>> end_tree(2**22 + 1)
        0
    """
    import psutil

    victims = {p.pid: p for p in (marked(mark) if mark is not None else ())}
    now = identify(pid)
    if now is None or started_at is None or abs(now.started_at - started_at) < START_TIME_SLACK_S:
        victims |= {p.pid: p for p in tree_of(pid)}
    ended = 0
    for process in victims.values():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            # is_running compares start times: a pid that was used again is left alone.
            if process.pid != os.getpid() and process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                process.kill()
                ended += 1
    return ended


def end_orphans(processes: Iterable[ProcessId | tuple[int, float, str]]) -> int:
    """End the trees of an earlier kernel, where pid, start time, user and executable all fit; say how many.

    Example:
        >>> end_orphans([(2**22 + 1, 0.0, "/usr/bin/claude")])
        0
    """
    import psutil

    ended = 0
    for entry in processes if CAN_BE_ENDED else ():
        wanted = entry if isinstance(entry, ProcessId) else ProcessId(*entry)
        now = identify(wanted.pid)
        if now is None or abs(now.started_at - wanted.started_at) >= START_TIME_SLACK_S:
            continue
        if wanted.executable and now.executable != wanted.executable:
            continue
        with suppress(psutil.Error):
            if psutil.Process(wanted.pid).uids().real == os.getuid():
                ended += end_tree(wanted.pid, wanted.started_at) > 0
    return ended


class Watcher:
    """The process that ends what a dead kernel left; one per kernel, started with the first tree.

    Example:
        >>> watcher = Watcher()
        >>> watcher.running
        False
    """

    def __init__(self) -> None:
        self._begin()
        if CAN_BE_ENDED:
            os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        """Watch nothing; a forked copy of the kernel begins anew, for its parent's processes are not its own."""
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._watched: set[int] = set()
        self._starting = 0
        self._mark = f"{os.getpid()}-{uuid4().hex}"

    @property
    def running(self) -> bool:
        """True while the watcher process is there."""
        return self._process is not None and self._process.poll() is None

    def new_mark(self) -> str:
        """What one process's environment is to hold under `MARK`: it names this kernel and that process."""
        return f"{self._mark}.{next(_MARKS)}"

    @property
    def pid(self) -> int | None:
        """Its process id."""
        return self._process.pid if self._process is not None else None

    def prepare(self) -> None:
        """A process is about to be started: be there; `watch` or `cancel` must follow."""
        with self._lock:
            self._starting += 1
            self._start()

    def watch(self, pid: int) -> None:
        """It was started: end its tree if this kernel dies."""
        with self._lock:
            self._starting -= 1
            self._watched.add(pid)
            self._say(f"+{pid}\n")

    def cancel(self) -> None:
        """It was not started."""
        with self._lock:
            self._starting -= 1

    def forget(self, pid: int) -> None:
        """That process is gone."""
        with self._lock:
            self._watched.discard(pid)
            if self.running:
                self._say(f"-{pid}\n")

    def close(self) -> None:
        """Let the watcher process go, unless it still has something to watch (another pool's sessions)."""
        with self._lock:
            if self._watched or self._starting or self._process is None:
                return
            self._close_pipe()
            process, self._process = self._process, None
            with suppress(subprocess.TimeoutExpired):
                process.wait(2)

    def _start(self) -> None:
        """Start it, and tell it what was told to one that has gone."""
        if self.running:
            return
        # -S and no package of ours: it starts in milliseconds, and psutil is found by the path it is given.
        import psutil

        where = os.path.dirname(os.path.dirname(psutil.__file__))
        self._close_pipe()  # of one that has gone
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _WATCHER, where, str(os.getpid()), MARK, self._mark],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
            env={"PATH": os.environ.get("PATH", os.defpath)},
        )
        for pid in self._watched:
            self._write(f"+{pid}\n")

    def _close_pipe(self) -> None:
        """Close the pipe to it, if it was ever started."""
        if self._process is not None and self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()

    def _say(self, line: str) -> None:
        """Tell it something; a watcher that was killed is started again."""
        if not self.running:
            self._start()  # which tells it of every watched pid
            return
        self._write(line)

    def _write(self, line: str) -> None:
        """Write to its pipe; if it has just died the next word starts a new one."""
        assert self._process is not None
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()


_WATCHER = r"""
import os, select, signal, sys
sys.path.append(sys.argv[1])
kernel = int(sys.argv[2])
signal.signal(signal.SIGINT, signal.SIG_IGN)
watched, rest = set(), b""
while True:
    # The pipe's end is the usual sign; a forked copy of the kernel may hold it open, so the parent is looked at too.
    ready = select.select([0], [], [], 0.5)[0]
    if ready:
        data = os.read(0, 4096)
        if not data:
            break
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            (watched.add if line[:1] == b"+" else watched.discard)(int(line[1:]))
    elif os.getppid() != kernel:
        break
import psutil
def ours(process):
    try:
        if os.getsid(process.pid) in watched:
            return True
        return process.environ().get(sys.argv[3], "").startswith(sys.argv[4])
    except (OSError, psutil.Error):
        return False
for sweep in range(3):
    victims = {}
    for pid in watched:
        try:
            root = psutil.Process(pid)
            victims.update((p.pid, p) for p in [root, *root.children(recursive=True)])
        except psutil.Error:
            pass
    victims.update((p.pid, p) for p in psutil.process_iter() if p.pid != os.getpid() and ours(p))
    for process in victims.values():
        try:
            process.kill()
        except psutil.Error:
            pass
    if not victims:
        break
"""

WATCHER = Watcher()
"""This kernel's."""


def memory_of(pid: int, *, descendants: bool = True) -> int | None:
    """Resident bytes of a process and its descendants; None if it is gone.

    Descendants are looked for among all processes of the machine; without them it is one reading.

    Example:
        >>> import os
        >>> memory_of(os.getpid()) > 0
        True
    """
    import psutil

    try:
        root = psutil.Process(pid)
        total = int(root.memory_info().rss)
        for child in root.children(recursive=True) if descendants else ():
            with suppress(psutil.Error):
                total += child.memory_info().rss
    except psutil.Error:
        return None
    return total


def terminate(pid: int) -> None:
    """Ask a process group to end."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGTERM)
