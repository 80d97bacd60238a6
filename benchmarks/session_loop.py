"""Our session beside a bare hand loop over claude-agent-sdk, in one process, on the scripted API.

Both do isolated tasks of the prompt profile: the hand loop is one SDK client per slot with `/clear` before each
prompt. Run it by hand: ``python -m benchmarks.session_loop [tasks] [rounds]``; it prints tasks per second at 1, 4
and 8 slots, the median of the rounds, and ours as a share of the hand loop's.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence

from benchmarks.hand_loop import MODEL, SYSTEM_PROMPT, Work, hand_loop, work_off
from claude_pool_nb.config import ResolvedConfig
from claude_pool_nb.records import TurnResult
from claude_pool_nb.sessions.base import Session, Turn
from claude_pool_nb.sessions.claude_backend import ClaudeBackend
from claude_pool_nb.testing import ScriptedAPI

OUR_OPTIONS = ResolvedConfig(model=MODEL, system_prompt=SYSTEM_PROMPT)


async def timed(workers: Sequence[Work], tasks: int) -> tuple[float, float]:
    """Tasks per second, and CPU milliseconds per task."""
    cpu = time.process_time()
    rate = await work_off(workers, tasks)
    return rate, (time.process_time() - cpu) / tasks * 1000


def our_work(session: Session) -> Work:
    """One task of ours."""

    async def work(number: int) -> None:
        async for event in session.ask(Turn(f"Say word {number}", OUR_OPTIONS)):
            if isinstance(event, TurnResult) and event.failure is not None:
                raise RuntimeError(event)
        await session.reset()

    return work


async def compare(slots: int, tasks: int, rounds: int) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Time both, in turns, on processes that were started together."""
    backend = ClaudeBackend()
    sessions = [backend.session(f"s{n}") for n in range(slots)]
    for session in sessions:
        await session.open(OUR_OPTIONS)
    our_workers = [our_work(session) for session in sessions]
    hand, ours = [], []
    async with hand_loop(slots) as hand_workers:
        await timed(hand_workers, 4 * slots)
        await timed(our_workers, 4 * slots)
        for _ in range(rounds):
            hand.append(await timed(hand_workers, tasks))
            ours.append(await timed(our_workers, tasks))
    await asyncio.gather(*(session.close() for session in sessions))
    await backend.close()
    return hand, ours


def main() -> None:
    tasks = int(sys.argv[1]) if len(sys.argv) > 1 else 96
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    with tempfile.TemporaryDirectory() as home, ScriptedAPI() as api:
        environment = api.env(home)
        os.environ.clear()
        os.environ.update(environment)
        print("slots  hand/s  ours/s  share  hand CPU ms  ours CPU ms   (CPU of this process, API included)")
        for slots in (1, 4, 8):
            hand, ours = asyncio.run(compare(slots, tasks, rounds))
            rates = [statistics.median(rate for rate, _ in side) for side in (hand, ours)]
            cpus = [statistics.median(cpu for _, cpu in side) for side in (hand, ours)]
            print(
                f"{slots:5d} {rates[0]:7.1f} {rates[1]:7.1f} {rates[1] / rates[0]:6.2f} {cpus[0]:12.2f} {cpus[1]:12.2f}"
            )


if __name__ == "__main__":
    main()
