"""Isolated tasks on the real CLI, three ways in turns: the pool, a bare hand loop, and one process per task.

- *pool*: `Pool(...).fan_out(prompts)`, ledger on disk; the time is that of the whole call.
- *hand loop*: one `ClaudeSDKClient` per slot, `/clear` before each prompt, no pool, no ledger, nothing checked.
- *per task*: `claude_agent_sdk.query()`, which starts a process for every prompt.

All three have the same model, system prompt, no tools, no settings files, strict MCP, no transcripts, and the same
environment. Warm sides are connected and have done a few tasks each before the clock starts.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.api_process import ApiProcess
from benchmarks.hand_loop import MODEL, SYSTEM_PROMPT, hand_loop, per_task, work_off
from benchmarks.harness import Table, child, hand_over, median, run_part
from claude_pool_nb.testing import isolated_environment

SLOTS = (1, 2, 4, 8)
LATENCIES_MS = (0, 200)
SHARE_MARK, SHARE_AT = 0.90, (1, 4, 8)
TIMES_MARK, TIMES_AT = 8.0, (1, 4)


def amounts(slots: int, latency_ms: int) -> tuple[int, int, int]:
    """Tasks of one round: warm, per task; and for warming up."""
    if latency_ms:
        return 20 * slots, 4 * slots, 4 * slots
    return {1: 80, 2: 160, 4: 240, 8: 240}[slots], {1: 8, 2: 12, 4: 16, 8: 16}[slots], 6 * slots


async def compare(slots: int, latency_ms: int, rounds: int, folder: str) -> dict[str, list[float]]:
    from claude_pool_nb.pool import Pool

    warm, cold, first = amounts(slots, latency_ms)
    pool = Pool(
        slots=slots,
        model=MODEL,
        system_prompt=SYSTEM_PROMPT,
        store=os.path.join(folder, f"{slots}-{latency_ms}.sqlite"),
    )

    def in_pool(tasks: int) -> float:
        begun = time.perf_counter()
        run = pool.fan_out([f"Say word {n}" for n in range(tasks)])
        took = time.perf_counter() - begun
        if run.counts() != {"completed": tasks}:
            raise RuntimeError(f"not all completed: {run!r}")
        return tasks / took

    figures: dict[str, list[float]] = {"pool": [], "hand": [], "per_task": []}
    try:
        async with hand_loop(slots) as hand:
            await asyncio.to_thread(in_pool, first)
            await work_off(hand, first)
            for _ in range(rounds):
                figures["pool"].append(await asyncio.to_thread(in_pool, warm))
                figures["hand"].append(await work_off(hand, warm))
                figures["per_task"].append(await work_off([per_task()] * slots, cold))
    finally:
        await asyncio.to_thread(pool.close)
    return figures


def child_main(arguments: list[str]) -> None:
    slots, latency_ms, rounds = map(int, arguments)
    with tempfile.TemporaryDirectory() as folder, ApiProcess() as api:
        api.set_latency(latency_ms / 1000)
        home, work = Path(folder, "home"), Path(folder, "work")
        home.mkdir()
        work.mkdir()
        environment = isolated_environment(home, api.url)
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(work)
        figures = asyncio.run(compare(slots, latency_ms, rounds, folder))
    hand_over(**figures)


def measure(rounds: int, latencies: Sequence[int] = LATENCIES_MS) -> list[Table]:
    tables = []
    for latency_ms in latencies:
        table = Table(
            f"Isolated tasks on the real CLI, prompt profile, API answers after {latency_ms} ms",
            "python -m benchmarks.cli_rates",
            ("slots", "pool, tasks/s", "hand loop", "per task", "pool / hand loop", "pool / per task", "marks"),
        )
        for slots in SLOTS:
            figures = child("benchmarks.cli_rates", slots, latency_ms, rounds)
            pool, hand, per_task = (median(figures[side]) for side in ("pool", "hand", "per_task"))
            marks = []
            if latency_ms == 0 and slots in SHARE_AT:
                marks.append(table.mark(f"≥ {SHARE_MARK:.0%}", reached=pool / hand >= SHARE_MARK))
            if latency_ms == 0 and slots in TIMES_AT:
                marks.append(table.mark(f"≥ {TIMES_MARK:.0f}x", reached=pool / per_task >= TIMES_MARK))
            rates = f"{pool:.1f}", f"{hand:.1f}", f"{per_task:.2f}"
            table.row(slots, *rates, f"{pool / hand:.0%}", f"{pool / per_task:.1f}x", ", ".join(marks))
        tables.append(table)
    return tables


if __name__ == "__main__":
    run_part(measure, child_main)
