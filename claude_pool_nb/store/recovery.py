"""What became of pools whose process is gone.

Invariants: a pool is declared gone only if its process cannot be alive (same machine, and no process of that pid and
start time, or the machine was booted since); then everything it had not finished becomes interrupted in one
transaction, and what its running attempts may have cost is booked: their last known cost, else all that was reserved.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Connection, and_, case, func, select

from claude_pool_nb.store import schema

Alive = Callable[[str, str, int, float], bool]
"""Takes host, boot id, pid and start time of a pool's process."""

UNFINISHED = ("pending", "waiting", "running")
START_TOLERANCE_S = 1.5
"""A process is the same if its start time differs by no more: clocks are adjusted."""


class Orphan(NamedTuple):
    """A process that a pool launched and never saw the end of."""

    pid: int
    """Its id."""
    start_time: float
    """When it started, unix seconds: another process may have got its id since."""
    executable: str
    """What it runs."""
    pool_id: str
    """The pool that launched it."""
    slot_id: str
    """The slot it belonged to."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What was found of pools that are gone, and put right.

    Example:
        >>> Recovery().tasks
        ()
    """

    pools: tuple[str, ...] = ()
    """Pools found gone."""
    runs: tuple[str, ...] = ()
    """Runs that are interrupted now."""
    tasks: tuple[str, ...] = ()
    """Tasks that are interrupted now."""
    booked_nano: int = 0
    """What was booked for attempts whose end nobody saw."""
    orphans: tuple[Orphan, ...] = ()
    """Processes to end, if they are still the same; say `forget_process` of each afterwards."""


@cache
def boot_id() -> str:
    """A word that changes when this machine boots, where the system has one.

    Elsewhere process ids and their start times, which the system keeps, tell pools apart. The time of the boot would
    not do in its place: it moves with the clock, and a living pool would be taken for dead.

    Example:
        >>> boot_id() == boot_id()
        True
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return "unknown"


def this_process() -> tuple[str, str, int, float]:
    """Host, boot id, pid and start time of this process.

    Example:
        >>> is_alive(*this_process())
        True
    """
    import psutil

    return socket.gethostname(), boot_id(), os.getpid(), psutil.Process().create_time()


def is_alive(host: str, boot: str, pid: int, start_time: float) -> bool:
    """Whether a pool's process may still be alive: on another machine nobody can tell, so it may.

    Example:
        >>> is_alive("another-host", "x", 1, 0.0)
        True
        >>> is_alive(socket.gethostname(), "an earlier boot", os.getpid(), 0.0)
        False
    """
    import psutil

    if host != socket.gethostname():
        return True
    if boot != boot_id():
        return False
    try:
        process = psutil.Process(pid)
        return bool(abs(process.create_time() - start_time) <= START_TOLERANCE_S) and process.status() != "zombie"
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def recover(connection: Connection, alive: Alive, at: float) -> Recovery:
    """Interrupt what pools that are gone have left unfinished. The caller holds the transaction."""
    pool = schema.pool.c
    rows = connection.execute(
        select(pool.id, pool.host, pool.boot_id, pool.pid, pool.process_start_at).where(pool.ended_at.is_(None))
    ).all()
    gone = [row.id for row in rows if not alive(row.host, row.boot_id, row.pid, row.process_start_at)]
    recoveries = [_recover_pool(connection, number, at) for number in gone]
    process = schema.process.c
    ended = select(pool.id).where(pool.ended_at.is_not(None))
    orphans = connection.execute(
        select(process.pid, process.start_time, process.executable, process.pool, process.slot_id).where(
            process.pool.in_(ended)
        )
    ).all()
    return Recovery(
        pools=tuple(f"p{number}" for number in gone),
        runs=tuple(run for found in recoveries for run in found.runs),
        tasks=tuple(task for found in recoveries for task in found.tasks),
        booked_nano=sum(found.booked_nano for found in recoveries),
        orphans=tuple(Orphan(row[0], row[1], row[2], f"p{row[3]}", row[4]) for row in orphans),
    )


def _recover_pool(connection: Connection, number: int, at: float) -> Recovery:
    """Put right what one pool has left."""
    runs = list(connection.execute(select(schema.run.c.number).where(schema.run.c.pool == number)).scalars())
    booked = sum(_end_attempts(connection, number, run, at) for run in runs)
    tasks: list[str] = []
    interrupted: list[str] = []
    for run in runs:
        unfinished = _interrupt_tasks(connection, number, run, at)
        tasks += [f"r{run}.{task}" for task in unfinished]
        if _end_run(connection, number, run, at):
            interrupted.append(f"r{run}")
    connection.execute(schema.pool.update().where(schema.pool.c.id == number).values(ended_at=at, ended="gone"))
    connection.execute(
        schema.slot.update()
        .where(schema.slot.c.pool == number, schema.slot.c.state != "stopped")
        .values(state="stopped", task_id=None, since_at=at, error="its kernel is gone")
    )
    connection.execute(schema.event.insert(), {"at": at, "pool": number, "kind": "pool_gone"})
    return Recovery(runs=tuple(interrupted), tasks=tuple(tasks), booked_nano=booked)


def _end_attempts(connection: Connection, pool: int, run: int, at: float) -> int:
    """End a run's running attempts and settle their reservations; what was booked."""
    attempt = schema.attempt.c
    running = and_(attempt.run == run, attempt.state == "running")
    cost = case((attempt.cost_basis.is_(None), attempt.reserved_nano), else_=attempt.cost_nano)
    rows = connection.execute(
        select(attempt.task, attempt.number, attempt.budget_id, attempt.reserved_nano, cost.label("cost")).where(
            running
        )
    ).all()
    if not rows:
        return 0
    held: dict[int, tuple[int, int]] = {}
    for row in rows:
        if row.budget_id is not None:
            spent, released = held.get(row.budget_id, (0, 0))
            held[row.budget_id] = (spent + row.cost, released + row.reserved_nano)
    connection.execute(
        schema.attempt.update()
        .where(running)
        .values(
            state="interrupted",
            cost_nano=cost,
            cost_basis="estimated",
            finished_at=at,
            failure_kind="crash",
            error_type="kernel_gone",
            error="The kernel ended while this attempt ran; its cost is an estimate",
        )
    )
    budget = schema.budget
    for budget_id, (spent, released) in held.items():
        connection.execute(
            budget.update()
            .where(budget.c.id == budget_id)
            .values(spent_nano=budget.c.spent_nano + spent, reserved_nano=budget.c.reserved_nano - released)
        )
    connection.execute(
        schema.event.insert(),
        [
            {
                "at": at, "pool": pool, "kind": "attempt_ended", "state": "interrupted", "run": run, "task": row.task,
                "attempt": row.number, "payload": f'{{"cost_nano": {row.cost}}}',
            }
            for row in rows
        ],
    )  # fmt: skip
    return sum(row.cost for row in rows)


def _interrupt_tasks(connection: Connection, pool: int, run: int, at: float) -> list[int]:
    """Interrupt a run's unfinished tasks; their numbers."""
    task = schema.task.c
    unfinished = and_(task.run == run, task.state.in_(UNFINISHED))
    numbers = list(connection.execute(select(task.number).where(unfinished).order_by(task.number)).scalars())
    if numbers:
        connection.execute(
            schema.task.update()
            .where(unfinished)
            .values(
                state="interrupted",
                finished_at=at,
                waiting_until=None,
                failure_kind=None,
                error_type="kernel_gone",
                error=f"The kernel that ran it is gone; `%pool resume r{run}` runs it",
            )
        )
        connection.execute(
            schema.event.insert(),
            [
                {"at": at, "pool": pool, "kind": "task_interrupted", "state": "interrupted", "run": run, "task": number}
                for number in numbers
            ],
        )
    return numbers


def _end_run(connection: Connection, pool: int, run: int, at: float) -> bool:
    """Give an unfinished run its end; whether that is an interruption."""
    table, task = schema.run, schema.task.c
    state = connection.execute(select(table.c.state).where(table.c.number == run)).scalar_one()
    if state not in {"pending", "running", "paused"}:
        return False
    count = select(func.count()).where(task.run == run, task.state.in_(["interrupted", "pending_review"]))
    interrupted = bool(connection.execute(count).scalar_one())
    end = "interrupted" if interrupted else "completed"
    connection.execute(table.update().where(table.c.number == run).values(state=end, finished_at=at))
    connection.execute(schema.event.insert(), {"at": at, "pool": pool, "kind": "run_changed", "state": end, "run": run})
    return interrupted
