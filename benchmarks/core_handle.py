"""What the core costs: submit, and one task from its dispatch to its slot being ready again.

Run: `python -m benchmarks.core_handle`. No session, no ledger: the commands are answered at once.
"""

from __future__ import annotations

import sys
import time
from collections import deque

from claude_pool_nb.core import commands as c
from claude_pool_nb.core import inputs as i
from claude_pool_nb.core.state import PoolState
from claude_pool_nb.records import BudgetRecord, RunRecord, TaskRecord, TurnResult


def measure(n: int, slots: int, keys: int) -> tuple[float, float, float]:
    """Submit in ms; AttemptDone with its scheduling, and all inputs of a task, in microseconds per task."""
    state = PoolState("p", slots=slots, budget=BudgetRecord(1, "b", limit_nano=10**15))
    todo: deque[i.Input] = deque()

    def perform(commands: list[c.Command]) -> None:
        for command in commands:
            match command:
                case c.OpenSlot(slot_id=slot, epoch=epoch):
                    todo.append(i.SlotOpened(1.0, slot, epoch))
                case c.ResetSlot(slot_id=slot, epoch=epoch):
                    todo.append(i.SlotReady(1.0, slot, epoch))
                case c.Dispatch(task_id=task, attempt=attempt):
                    todo.append(i.AttemptDone(1.0, task, attempt, TurnResult(cost_nano=1000)))

    specs = tuple(
        i.TaskSpec(TaskRecord(f"r1.{k}", "r1", k, "x"), launch_key=f"k{k % keys}", list_price_nano=1000)
        for k in range(1, n + 1)
    )
    perform(state.start(0.0))
    while todo:
        perform(state.handle(todo.popleft()))
    before = time.perf_counter()
    commands = state.handle(i.Submit(1.0, RunRecord("r1", "map"), specs))
    submit_ms = (time.perf_counter() - before) * 1e3
    perform(commands)
    done = total = 0.0
    while todo:
        given = todo.popleft()
        before = time.perf_counter()
        commands = state.handle(given)
        took = time.perf_counter() - before
        total += took
        done += took if isinstance(given, i.AttemptDone) else 0.0
        perform(commands)
    if state.counts()["completed"] != n:
        sys.exit(f"not all tasks completed: {state!r}")
    return submit_ms, done / n * 1e6, total / n * 1e6


def main() -> None:
    print("| tasks | slots | launch keys | submit, ms | AttemptDone, us | all inputs of a task, us |")
    print("|---|---|---|---|---|---|")
    for n, slots, keys in ((5_000, 8, 1), (5_000, 8, 20), (10_000, 8, 1)):
        best = [min(figures) for figures in zip(*(measure(n, slots, keys) for _ in range(3)), strict=True)]
        print(f"| {n:,} | {slots} | {keys} | {best[0]:.0f} | {best[1]:.1f} | {best[2]:.1f} |")


if __name__ == "__main__":
    main()
