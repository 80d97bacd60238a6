"""Ten thousand prompts in one call on the demo session: memory, how long the loop is held up, and the frame."""

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
import threading
import time

import psutil

from benchmarks.harness import Table, child, hand_over, medians, run_part
from claude_pool_nb.pool import Pool

TASKS = 10_000
SLOTS = 8
MB = 1e6
BEAT_S = 0.005


class Lag:
    """Beats on the pool's loop and notes how late the latest beat was."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.worst_s = 0.0
        self._loop = loop
        self._future = asyncio.run_coroutine_threadsafe(self._beat(), loop)

    async def _beat(self) -> None:
        while True:
            begun = self._loop.time()
            await asyncio.sleep(BEAT_S)
            self.worst_s = max(self.worst_s, self._loop.time() - begun - BEAT_S)

    def stop(self) -> float:
        """End it; the worst of all beats, in seconds."""
        self._future.cancel()
        return self.worst_s


class Peak:
    """Looks at this process's memory from a thread of its own."""

    def __init__(self) -> None:
        self.bytes = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        process = psutil.Process()
        while not self._end.wait(0.02):
            self.bytes = max(self.bytes, process.memory_info().rss)

    def stop(self) -> int:
        """End it; the most it saw."""
        self._end.set()
        self._thread.join()
        return self.bytes


def child_main(arguments: list[str]) -> None:
    import pandas as pd

    process = psutil.Process()
    with Pool(slots=SLOTS, backend="demo", demo_latency_s=0, store=arguments[0]) as pool:
        warm = pool.fan_out(["How many words are in this?"] * 50)
        len(warm.frame)
        prompts = [
            f"Classify the sentiment of review {n}: the food was good, the waiter was not." for n in range(TASKS)
        ]
        gc.collect()
        before = process.memory_info().rss
        lag, peak = Lag(pool._portal.loop), Peak()
        begun = time.perf_counter()
        run = pool.fan_out(prompts)
        took = time.perf_counter() - begun
        peak_bytes, worst_s = peak.stop(), lag.stop()
        gc.collect()
        after = process.memory_info().rss
        begun = time.perf_counter()
        frame = run.frame
        frame_s = time.perf_counter() - begun
        if len(frame) != TASKS or not (frame["state"] == "completed").all():
            raise SystemExit(f"not all completed: {run!r}")
        frame_bytes = int(frame.memory_usage(deep=True, index=True).sum())
        gc.collect()
        with_frame = process.memory_info().rss
    assert isinstance(frame, pd.DataFrame)
    hand_over(
        per_s=TASKS / took,
        grown=(after - before) / MB,
        peak=(peak_bytes - before) / MB,
        frame_bytes=frame_bytes / MB,
        beside=(with_frame - before - frame_bytes) / MB,
        lag_ms=worst_s * 1000,
        frame_s=frame_s,
    )


def measure(rounds: int) -> list[Table]:
    with tempfile.TemporaryDirectory() as folder:
        middle = medians(child("benchmarks.many", os.path.join(folder, f"{number}.sqlite")) for number in range(rounds))
    table = Table(
        f"{TASKS:,} prompts in one fan_out: demo without latency, {SLOTS} slots, ledger on disk",
        "python -m benchmarks.many",
        ("what", "figure", "mark"),
    )
    table.row("tasks/s", f"{middle['per_s']:,.0f}", "")
    table.row("memory grown when the call returns", f"{middle['grown']:.0f} MB", "")
    table.row("memory grown at its peak during the call", f"{middle['peak']:.0f} MB", "")
    table.row("the frame's own size", f"{middle['frame_bytes']:.0f} MB", "")
    table.row(
        "memory grown beside the results, the frame being held",
        f"{middle['beside']:.0f} MB",
        table.mark("< 50 MB", reached=middle["beside"] < 50),
    )
    table.row(
        "longest time the loop was late",
        f"{middle['lag_ms']:.0f} ms",
        table.mark("≤ 100 ms", reached=middle["lag_ms"] <= 100),
    )
    table.row(
        "building the frame", f"{middle['frame_s']:.2f} s", table.mark("< 0.5 s", reached=middle["frame_s"] < 0.5)
    )
    return [table]


if __name__ == "__main__":
    run_part(measure, child_main)
