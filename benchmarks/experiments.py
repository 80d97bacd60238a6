"""Prompt experiments: a map of ten thousand rows until it is queued, and a small one on the real CLI until its frame.

By hand is what one writes without a pool: jinja2 over the rows, `asyncio.gather` behind a semaphore, and for the small
job the SDK's `query()`, which starts a process for every prompt. It keeps no ledger, reserves no budget and checks
nothing.
"""

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.api_process import ApiProcess
from benchmarks.hand_loop import MODEL, SYSTEM_PROMPT, sdk_options
from benchmarks.harness import Table, child, hand_over, medians, run_part
from benchmarks.many import MB, Peak
from claude_pool_nb.testing import isolated_environment

if TYPE_CHECKING:
    import pandas as pd

ROWS = 10_000
SLOTS = 8
TEMPLATE = "Classify as positive, negative or neutral ({{ stars }} stars): {{ text }}"
SCHEMA = "label: positive|negative|neutral, score: float"
SMALL_ROWS, SMALL_SLOTS = 8, 4
TONES = ("kind", "blunt")
SMALL_TEMPLATE = "In a {{ tone }} way: {{ text }}"


def reviews(rows: int) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(
        {
            "id": range(rows),
            "text": [f"Review {n}: the food was good, the waiter was not, and it was too loud." for n in range(rows)],
            "stars": [n % 5 + 1 for n in range(rows)],
        }
    )


def queue_in_pool(store: str) -> None:
    from claude_pool_nb.analysis.design import Design
    from claude_pool_nb.pool import Pool

    data = reviews(ROWS)
    process = psutil.Process()
    with Pool(slots=SLOTS, backend="demo", demo_latency_s=0, store=store) as pool:
        pool.map(data.head(50), TEMPLATE, schema=SCHEMA)
        pool.pause()
        gc.collect()
        before = process.memory_info().rss
        peak = Peak()
        begun = time.perf_counter()
        design = Design.of_map(data, TEMPLATE, schema=SCHEMA)
        rendered = time.perf_counter()
        run = pool.accept(design, wait=False)
        queued = time.perf_counter()
        peak_bytes = peak.stop()
        if run.counts() != {"pending": ROWS}:
            raise SystemExit(f"not all queued: {run!r}")
        begun_preview = time.perf_counter()
        pool.preview(data, TEMPLATE, schema=SCHEMA)
        preview_s = time.perf_counter() - begun_preview
    hand_over(
        render_s=rendered - begun,
        total_s=queued - begun,
        peak=(peak_bytes - before) / MB,
        preview_s=preview_s,
    )


def queue_by_hand() -> None:
    import jinja2

    data = reviews(ROWS)
    process = psutil.Process()

    async def main() -> None:
        places, gate = asyncio.Semaphore(SLOTS), asyncio.Event()

        async def one(prompt: str) -> str:
            async with places:
                await gate.wait()
                return prompt

        gc.collect()
        before = process.memory_info().rss
        peak = Peak()
        begun = time.perf_counter()
        template = jinja2.Environment(undefined=jinja2.StrictUndefined).from_string(TEMPLATE)
        prompts = [template.render(row) for row in data.to_dict("records")]
        rendered = time.perf_counter()
        together = asyncio.gather(*(one(prompt) for prompt in prompts))
        await asyncio.sleep(0)  # every task has begun
        queued = time.perf_counter()
        peak_bytes = peak.stop()
        gate.set()
        if len(await together) != ROWS:
            raise SystemExit("not all ran")
        hand_over(render_s=rendered - begun, total_s=queued - begun, peak=(peak_bytes - before) / MB)

    asyncio.run(main())


def small_job(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder, ApiProcess() as api:
        home, work = Path(folder, "home"), Path(folder, "work")
        home.mkdir()
        work.mkdir()
        environment = isolated_environment(home, api.url)
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(work)
        hand_over(rounds=list(_small_rounds(rounds, folder)))


def _small_rounds(rounds: int, folder: str) -> Iterator[dict[str, float]]:
    from claude_pool_nb.pool import Pool

    data = reviews(SMALL_ROWS)
    store = os.path.join(folder, "small.sqlite")
    with Pool(slots=SMALL_SLOTS, model=MODEL, system_prompt=SYSTEM_PROMPT, store=store) as pool:
        pool.map(data.head(SMALL_SLOTS), SMALL_TEMPLATE, grid={"tone": ["warm"]})
        for _ in range(rounds):
            begun = time.perf_counter()
            frame = pool.map(data, SMALL_TEMPLATE, grid={"tone": TONES}).frame
            in_pool_s = time.perf_counter() - begun
            begun = time.perf_counter()
            by_hand = asyncio.run(_map_by_hand(data))
            by_hand_s = time.perf_counter() - begun
            if len(frame) != len(by_hand) or not (frame["state"] == "completed").all():
                raise SystemExit("the two sides do not agree")
            yield {"pool_s": in_pool_s, "hand_s": by_hand_s}


async def _map_by_hand(data: pd.DataFrame) -> pd.DataFrame:
    """Rows times tones through `query()`, so many at once."""
    import jinja2
    import pandas as pd
    from claude_agent_sdk import ResultMessage, query

    template = jinja2.Environment(undefined=jinja2.StrictUndefined).from_string(SMALL_TEMPLATE)
    options = sdk_options({})
    places = asyncio.Semaphore(SMALL_SLOTS)

    async def one(row: dict[str, Any]) -> dict[str, Any]:
        async with places:
            async for message in query(prompt=template.render(row), options=options):
                if isinstance(message, ResultMessage):
                    row |= {"output": message.result, "cost_usd": message.total_cost_usd}
        return row

    rows = [{**row, "tone": tone} for row in data.to_dict("records") for tone in TONES]
    return pd.DataFrame(await asyncio.gather(*map(one, rows)))


def child_main(arguments: list[str]) -> None:
    match arguments:
        case ["pool", store]:
            queue_in_pool(store)
        case ["hand"]:
            queue_by_hand()
        case ["small", rounds]:
            small_job(int(rounds))


def measure(rounds: int) -> list[Table]:
    return [_queued(rounds), _small(rounds)]


def _queued(rounds: int) -> Table:
    sides: dict[str, list[dict[str, Any]]] = {"pool": [], "hand": []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            sides["pool"].append(child("benchmarks.experiments", "pool", os.path.join(folder, f"{number}.sqlite")))
            sides["hand"].append(child("benchmarks.experiments", "hand"))
    pool, hand = medians(sides["pool"]), medians(sides["hand"])
    table = Table(
        f"A map of {ROWS:,} rows with a schema, until it is queued: ledger on disk",
        "python -m benchmarks.experiments",
        ("what", "pool", "by hand", "mark"),
    )
    table.row("rendered and checked", f"{pool['render_s']:.2f} s", f"{hand['render_s']:.2f} s", "")
    table.row(
        "rendered and queued",
        f"{pool['total_s']:.2f} s",
        f"{hand['total_s']:.2f} s",
        table.mark("< 2 s", reached=pool["total_s"] < 2),
    )
    table.row(
        "memory grown at its peak",
        f"{pool['peak']:.0f} MB",
        f"{hand['peak']:.0f} MB",
        table.mark("< 300 MB", reached=pool["peak"] < 300),
    )
    table.row("its preview", f"{pool['preview_s']:.2f} s", "none", table.mark("< 1 s", reached=pool["preview_s"] < 1))
    table.notes.append("By hand: jinja2, and `asyncio.gather` behind a semaphore; nothing is written down or priced.")
    return table


def _small(rounds: int) -> Table:
    middle = medians(child("benchmarks.experiments", "small", rounds)["rounds"])
    tasks = SMALL_ROWS * len(TONES)
    table = Table(
        f"{SMALL_ROWS} rows x {len(TONES)} tones on the real CLI, {SMALL_SLOTS} at once, until the frame is there",
        "python -m benchmarks.experiments",
        ("what", "pool", "by hand", "by hand / pool"),
    )
    table.row(
        f"{tasks} tasks", f"{middle['pool_s']:.1f} s", f"{middle['hand_s']:.1f} s",
        f"{middle['hand_s'] / middle['pool_s']:.1f}x",
    )  # fmt: skip
    table.notes.append("By hand: `query()` in `asyncio.gather` behind a semaphore, a process for every prompt.")
    return table


if __name__ == "__main__":
    run_part(measure, child_main)
