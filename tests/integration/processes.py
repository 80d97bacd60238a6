"""What tests ask about processes; one may go while it is being asked about."""

from __future__ import annotations

import time
from pathlib import Path

import psutil

from tests.waiting import PROMPTLY_S


def alive(pid: int) -> bool:
    """Whether a process is there as more than a zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def gone(pids: list[int], within_s: float = PROMPTLY_S) -> list[int]:
    """The pids that are still there, when they had their time to go."""
    deadline = time.monotonic() + within_s
    left = pids
    while left and time.monotonic() < deadline:
        left = [pid for pid in left if alive(pid)]
        time.sleep(0.02)
    return left


def processes_of(pid: int) -> list[int]:
    """The claude processes below a process."""
    try:
        children = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return [child.pid for child in children if is_claude(child.pid)]


def is_claude(pid: int) -> bool:
    """Whether it is a live claude CLI."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and "claude" in Path((process.cmdline() or [""])[0]).name
    except psutil.Error:
        return False
