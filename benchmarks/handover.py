"""How quickly a slot gets its next task: sessions that take D, so that the ideal is slots / D tasks per second.

Beside it, in the same process: the same sessions in a bare loop that takes the next number and asks, with no pool and
no ledger. What that loses is the timers of the event loop and the machine.
"""

from __future__ import annotations

import asyncio
import math
import os
import tempfile
import time

from benchmarks.harness import Table, child, hand_over, medians, run_part
from claude_pool_nb.pool import Pool
from claude_pool_nb.resolved import ResolvedConfig
from claude_pool_nb.sessions.base import Turn
from claude_pool_nb.testing.scripted_session import ScriptedBackend

TASKS = 256
SLOTS = 8
DELAYS_MS = (20, 100, 500)
MARK_AT_MS, MARK = 100, 0.98


async def bare(backend: ScriptedBackend) -> float:
    """The time of the same tasks in the same sessions, handed over by nothing but an iterator."""
    left = iter(range(TASKS))
    options = ResolvedConfig()

    async def slot(number: int) -> None:
        session = backend.session(f"s{number}")
        await session.open(options)
        for task in left:
            async for _ in session.ask(Turn(f"Say word {task}", options)):
                pass
            await session.reset()

    begun = time.perf_counter()
    await asyncio.gather(*(slot(number) for number in range(SLOTS)))
    return time.perf_counter() - begun


def child_main(arguments: list[str]) -> None:
    store, delay_ms = arguments[0], int(arguments[1])
    backend = ScriptedBackend(delay_s=delay_ms / 1000)
    with Pool(slots=SLOTS, backend=backend, store=store) as pool:
        pool.fan_out(["warm up"] * SLOTS)
        begun = time.perf_counter()
        run = pool.fan_out([f"Say word {n}" for n in range(TASKS)])
        took = time.perf_counter() - begun
        if run.counts() != {"completed": TASKS}:
            raise SystemExit(f"not all completed: {run!r}")
    hand_over(took=took, bare=asyncio.run(bare(ScriptedBackend(delay_s=delay_ms / 1000))))


def measure(rounds: int) -> list[Table]:
    table = Table(
        f"Hand-over: {SLOTS} slots, {TASKS} tasks, ledger on disk",
        "python -m benchmarks.handover",
        ("D, ms", "ideal, tasks/s", "tasks/s", "efficiency", "lost per hand-over, ms", "bare loop", "mark"),
    )
    per_slot = math.ceil(TASKS / SLOTS)
    for delay_ms in DELAYS_MS:
        with tempfile.TemporaryDirectory() as folder:
            middle = medians(
                child("benchmarks.handover", os.path.join(folder, f"{n}.sqlite"), delay_ms) for n in range(rounds)
            )
        took = middle["took"]
        ideal = per_slot * delay_ms / 1000
        mark = table.mark(f"≥ {MARK:.0%}", reached=ideal / took >= MARK) if delay_ms == MARK_AT_MS else ""
        lost_ms = (took - ideal) / per_slot * 1000
        figures = f"{TASKS / ideal:.0f}", f"{TASKS / took:.1f}", f"{ideal / took:.1%}", f"{lost_ms:.2f}"
        table.row(delay_ms, *figures, f"{ideal / middle['bare']:.1%}", mark)
    table.notes.append("The time is that of the whole call: accepting the tasks and telling the end are in it.")
    return [table]


if __name__ == "__main__":
    run_part(measure, child_main)
