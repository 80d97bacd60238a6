"""Frames of a hundred thousand attempts: how long each takes, from a ledger on disk."""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.harness import Table, child, hand_over, medians, run_part

ATTEMPTS = 100_000
RUNS = 50
MARK_S = 2.0
MODELS = (("haiku", "claude-haiku-4-5"), ("sonnet", "claude-sonnet-4-5"))
TAGS = ("", "night", "night eval", "eval")
DAY_S = 86_400.0


def fill(store: str, attempts: int = ATTEMPTS) -> None:
    """Write a ledger of that many attempts: one task in ten was tried twice, one in fifty failed."""
    from claude_pool_nb.store import schema
    from claude_pool_nb.store.ledger import Ledger

    tasks, rng = -(-attempts * 10 // 11), random.Random(7)
    with Ledger.open(store) as ledger:
        pool = int(ledger.register_pool(backend="claude", config_json="{}", notebook=None, play_money=False)[1:])
        budget = ledger.open_budget("bench", limit_usd=1_000.0).id
        run_rows, task_rows, attempt_rows = [], [], []
        made = 0
        for run in range(1, RUNS + 1):
            here = tasks // RUNS + (run <= tasks % RUNS)
            began = 1_780_000_000.0 + run * DAY_S / 4
            run_rows.append(_run(run, pool, here, began))
            for number in range(1, here + 1):
                made += 1
                task, tries = _task(run, number, began, twice=made % 10 == 0, fails=made % 50 == 1, rng=rng)
                task_rows.append(task)
                attempt_rows += [{**one, "budget_id": budget} for one in tries]
        for table, rows in ((schema.run, run_rows), (schema.task, task_rows), (schema.attempt, attempt_rows)):
            ledger.transact(lambda connection, table=table, rows=rows: connection.execute(table.insert(), rows))


def _run(number: int, pool: int, total: int, at: float) -> dict[str, Any]:
    return {
        "number": number, "verb": "fan_out", "state": "completed", "total": total, "pool": pool, "backend": "claude",
        "config": "{}", "meta": "{}", "tags": "", "budget": "bench", "created_at": at, "finished_at": at + 3600.0,
        "error": None,
    }  # fmt: skip


def _task(
    run: int, number: int, at: float, *, twice: bool, fails: bool, rng: random.Random
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A task and its attempts."""
    alias, model = MODELS[number % 2]
    begun = at + number * 0.3
    end = begun
    tries = []
    for attempt in range(1, 3 if twice else 2):
        failed = fails or attempt < (2 if twice else 1)
        took = rng.lognormvariate(0.5, 0.6)
        tries.append(
            {
                "run": run, "task": number, "number": attempt, "slot_id": f"s{rng.randrange(8) + 1}",
                "state": "failed" if failed else "completed", "late": 0, "requested_model": alias,
                "reserved_nano": 2_000_000, "cost_nano": rng.randrange(500_000, 3_000_000), "cost_basis": "exact",
                "input_tokens": 120, "output_tokens": rng.randrange(20, 400), "cache_read_tokens": 3_000,
                "cache_write_tokens": 0, "turns": 1, "started_at": end, "finished_at": end + took, "duration_s": took,
                "api_s": took * 0.9, "wrote": 0, "model": model, "session_id": f"session-{rng.randrange(8)}",
                "failure_kind": "transport" if failed else None, "error_type": "http_503" if failed else None,
                "http_status": 503 if failed else None, "retry_after_s": None,
                "error": "The API was not to be had." if failed else None, "denials": None, "warnings": None,
                "structured": None, "output": f"The answer {number} " + "is so and so " * 8,
            }
        )  # fmt: skip
        end += took
    last = tries[-1]
    task = {
        "run": run, "number": number, "state": "failed" if fails else "completed", "row": number - 1, "sample": 0,
        "priority": 0, "attempts": len(tries), "opened_attempts": 0, "created_at": at, "started_at": begun,
        "finished_at": end, "waiting_until": None, "tags": TAGS[number % 4], "conversation": None, "role": None,
        "profile": "prompt", "requested_model": alias, "failure_kind": last["failure_kind"],
        "error_type": last["error_type"], "error": last["error"], "overrides": "{}", "inputs": None,
        "prompt": f"Classify the sentiment of review {number}: the food was good, the waiter was not.",
    }  # fmt: skip
    return task, tries


def _verbs(pool: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    """What is measured, by name."""
    yield "attempts()", pool.attempts
    yield "tasks()", pool.tasks
    yield 'cost(by=["model", "tag", "day"])', lambda: pool.cost(by=["model", "tag", "day"])
    yield "metrics()", pool.metrics
    yield 'metrics(by=["model", "tag"])', lambda: pool.metrics(by=["model", "tag"])
    yield 'metrics(by=["run_id", "hour"])', lambda: pool.metrics(by=["run_id", "hour"])


def child_main(arguments: list[str]) -> None:
    import pandas as pd

    from claude_pool_nb import Pool

    with Pool(slots=1, backend="demo", demo_latency_s=0, store=arguments[0]) as pool:
        pd.DataFrame({"a": [1]}).groupby("a").sum()  # pandas' own parts are loaded at first use
        took = {}
        for name, verb in _verbs(pool):
            begun = time.perf_counter()
            frame = verb()
            took[name] = time.perf_counter() - begun
            if not len(frame):
                raise SystemExit(f"{name} is empty")
    hand_over(**took)


def measure(rounds: int) -> list[Table]:
    with tempfile.TemporaryDirectory() as folder:
        store = os.path.join(folder, "ledger.sqlite")
        fill(store)
        middle = medians(child("benchmarks.frames", store) for _ in range(rounds))
    table = Table(
        f"Frames from a ledger of {ATTEMPTS:,} attempts on disk",
        "python -m benchmarks.frames",
        ("frame", "seconds", "mark"),
    )
    for name, took in middle.items():
        table.row(f"`{name}`", f"{took:.2f}", table.mark(f"< {MARK_S:g} s", reached=took < MARK_S))
    return [table]


if __name__ == "__main__":
    if sys.argv[1:2] == ["fill"]:
        fill(sys.argv[2])
    else:
        run_part(measure, child_main)
