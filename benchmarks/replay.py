"""A tape of a thousand answers: recorded on the demo session, then replayed through a whole pool."""

from __future__ import annotations

import os
import tempfile
import time

from benchmarks.harness import Table, child, hand_over, medians, run_part
from claude_pool_nb.pool import Pool
from claude_pool_nb.sessions.cassette import Cassette

TASKS = 1_000
SLOTS = 8


def prompts(word: str) -> list[str]:
    return [f"Classify the sentiment of review {n}: the food was {word}, the waiter was not." for n in range(TASKS)]


def child_main(arguments: list[str]) -> None:
    folder = arguments[0]
    tape = os.path.join(folder, "tape.ndjson")

    def fan_out(name: str, word: str, **options: object) -> tuple[float, float, list[str]]:
        """Seconds of the whole pool from its start to its end, and of the call; the states."""
        begun = time.perf_counter()
        with Pool(slots=SLOTS, store=os.path.join(folder, f"{name}.sqlite"), **options) as pool:  # type: ignore[arg-type]
            called = time.perf_counter()
            run = pool.fan_out(prompts(word))
            call_s = time.perf_counter() - called
            states = [str(task.state) for task in pool.aio.task_records(run.id)]
        return time.perf_counter() - begun, call_s, states

    fan_out("warm", "good", backend="demo", demo_latency_s=0)  # imports, the price list, the ledger's schema
    _, plain_s, _ = fan_out("plain", "good", backend="demo", demo_latency_s=0)
    _, record_s, _ = fan_out("recorded", "good", backend="demo", demo_latency_s=0, record=tape)
    begun = time.perf_counter()
    size = len(Cassette(tape))
    load_s = time.perf_counter() - begun
    whole_s, replay_s, states = fan_out("replayed", "good", backend="replay", cassette=tape)
    if size != TASKS or set(states) != {"completed"}:
        raise SystemExit(f"{size} answers, {set(states)}")
    _, missing_s, states = fan_out("missing", "bad", backend="replay", cassette=tape)
    if set(states) != {"failed"}:
        raise SystemExit(f"not all missing: {set(states)}")
    hand_over(
        whole=whole_s,
        replay=replay_s,
        load=load_s,
        plain=plain_s,
        record=record_s,
        missing=missing_s,
        kilobytes=os.path.getsize(tape) / 1e3,
    )


def measure(rounds: int) -> list[Table]:
    every = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            every.append(child("benchmarks.replay", folder))
    middle = medians(every)
    table = Table(
        f"A tape of {TASKS:,} answers of the demo without latency, {SLOTS} slots, ledger on disk",
        "python -m benchmarks.replay",
        ("what", "figure", "mark"),
    )
    table.row(
        "replaying it: a pool started, all asked in one fan_out, closed",
        f"{middle['whole']:.2f} s",
        table.mark("< 2 s", reached=middle["whole"] < 2),
    )
    table.row("the fan_out of it", f"{middle['replay']:.2f} s", "")
    table.row("the same fan_out on the demo itself", f"{middle['plain']:.2f} s", "")
    table.row("the same while it is recorded", f"{middle['record']:.2f} s", "")
    table.row("reading the tape", f"{middle['load']:.3f} s", "")
    table.row("its size", f"{middle['kilobytes']:.0f} kB", "")
    table.row("a fan_out of which nothing is on it, each row told what differs", f"{middle['missing']:.2f} s", "")
    return [table]


if __name__ == "__main__":
    run_part(measure, child_main)
