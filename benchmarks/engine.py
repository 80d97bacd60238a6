"""What the engine costs per task: a session that answers at once, so that all of the time is the pool's own.

The ledger is in memory or on disk with every row: run, task, attempt, events, budget. The last round ends its own
process with SIGKILL in the statement after `fan_out` returned, and the rows are counted by another process.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import tempfile
import time

from benchmarks.harness import Table, child, hand_over, medians, run_part
from claude_pool_nb.pool import Pool
from claude_pool_nb.testing.scripted_session import ScriptedBackend

TASKS = 5_000
SLOTS = 8
MARK_PER_S = 2_000


def child_main(arguments: list[str]) -> None:
    store, then = arguments
    prompts = [f"Say word {n}" for n in range(TASKS)]
    with Pool(slots=SLOTS, backend=ScriptedBackend(), store=store) as pool:
        pool.fan_out(prompts[:200])  # imports and caches are warm, as in the second cell of a notebook
        begun, cpu = time.perf_counter(), time.process_time()
        run = pool.fan_out(prompts)
        if then == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        took, cpu = time.perf_counter() - begun, time.process_time() - cpu
        if run.counts() != {"completed": TASKS}:
            raise SystemExit(f"not all completed: {run!r}")
        hand_over(per_s=TASKS / took, us=took / TASKS * 1e6, cpu_us=cpu / TASKS * 1e6)


def rows_after_kill(folder: str) -> dict[str, int]:
    """Rows of the big run that another process finds after SIGKILL."""
    store = os.path.join(folder, "killed.sqlite")
    child("benchmarks.engine", store, "kill", killed=True)
    with sqlite3.connect(store) as ledger:
        (run,) = ledger.execute("SELECT max(run) FROM task").fetchone()
        count = "SELECT count(*) FROM {} WHERE run = ? AND state = 'completed'"
        return {table: ledger.execute(count.format(table), (run,)).fetchone()[0] for table in ("task", "attempt")}


def measure(rounds: int) -> list[Table]:
    table = Table(
        f"Engine alone: a session that answers at once, {SLOTS} slots, {TASKS:,} tasks in one fan_out",
        "python -m benchmarks.engine",
        ("ledger", "tasks/s", "µs per task", "CPU µs per task", "mark"),
    )
    figures: dict[str, list[dict[str, float]]] = {"memory": [], "disk": []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            figures["memory"].append(child("benchmarks.engine", ":memory:", "report"))
            figures["disk"].append(child("benchmarks.engine", os.path.join(folder, f"{number}.sqlite"), "report"))
        found = rows_after_kill(folder)
    for name, taken in figures.items():
        middle = medians(taken)
        mark = table.mark(f"≥ {MARK_PER_S:,}/s", reached=middle["per_s"] >= MARK_PER_S) if name == "disk" else ""
        table.row(name, f"{middle['per_s']:,.0f}", f"{middle['us']:.0f}", f"{middle['cpu_us']:.0f}", mark)
    whole = all(count == TASKS for count in found.values())
    table.notes.append(
        f"SIGKILL in the statement after `fan_out` returned: {found['task']:,} completed tasks and "
        f"{found['attempt']:,} completed attempts in the ledger "
        f"({table.mark(f'all {TASKS:,}', reached=whole)})."
    )
    return [table]


if __name__ == "__main__":
    run_part(measure, child_main)
