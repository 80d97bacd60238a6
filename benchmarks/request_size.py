"""What a task of five words sends: the bytes of each request's body, prompt profile, after a reset."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from benchmarks.api_process import ApiProcess
from benchmarks.harness import Table, child, hand_over, run_part
from claude_pool_nb.testing import isolated_environment

PROMPT = "Name one colour of autumn"
TASKS = 20
MARK_BYTES = 2_600


def child_main(arguments: list[str]) -> None:
    from claude_pool_nb.pool import Pool

    with tempfile.TemporaryDirectory() as folder, ApiProcess() as api:
        home = Path(folder, "home")
        home.mkdir()
        environment = isolated_environment(home, api.url)
        os.environ.clear()
        os.environ.update(environment)
        with Pool(slots=2, model=arguments[0], store=":memory:") as pool:
            run = pool.fan_out([PROMPT] * TASKS)
            if run.counts() != {"completed": TASKS}:
                raise SystemExit(f"not all completed: {run!r}")
        sizes = api.sizes()
    hand_over(requests=len(sizes), first=sizes[0], smallest=min(sizes), largest=max(sizes))


def measure(rounds: int) -> list[Table]:
    table = Table(
        f"Request size: {TASKS} tasks of five words on 2 slots, prompt profile, each after a reset",
        "python -m benchmarks.request_size",
        ("model", "requests", "first, bytes", "smallest", "largest", "mark"),
    )
    for model in ("claude-haiku-4-5", "haiku"):
        size = child("benchmarks.request_size", model)
        mark = table.mark(f"≤ {MARK_BYTES:,} B", reached=size["largest"] <= MARK_BYTES) if model != "haiku" else ""
        table.row(model, size["requests"], *(f"{size[name]:,}" for name in ("first", "smallest", "largest")), mark)
    table.notes.append("Bytes are counted, not timed: one round.")
    return [table]


if __name__ == "__main__":
    run_part(measure, child_main)
