"""What a person waits for in a fresh kernel: `%load_ext`, `%pool start`, and the first answer of the real CLI.

Every round starts a real ipykernel; nothing of this package has been imported in it before.
"""

from __future__ import annotations

import ast
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.api_process import ApiProcess
from benchmarks.harness import Table, medians, run_part
from claude_pool_nb.testing import isolated_environment

LOAD = """
import sys, time
_begun = time.perf_counter()
get_ipython().run_line_magic("load_ext", "claude_pool_nb")
_load_s = time.perf_counter() - _begun
_heavy = [name for name in ("claude_agent_sdk", "pandas", "sqlalchemy", "ipywidgets") if name in sys.modules]
"""
START = """
_begun = time.perf_counter()
get_ipython().run_line_magic("pool", "start --model claude-haiku-4-5 --store {store}")
_start_s = time.perf_counter() - _begun
_answer = get_ipython().run_line_magic("pool", "run Say one word").output
_first_s = time.perf_counter() - _begun
_again = time.perf_counter()
get_ipython().run_line_magic("pool", "run Say one word")
_second_s = time.perf_counter() - _again
"""
READING_S = 1.5
"""A person takes so long from one cell to the next at least; the extension imports meanwhile."""
WANTED = ("_load_s", "_heavy", "_start_s", "_first_s", "_second_s", "_answer")


def one_kernel(environment: dict[str, str], store: Path, cwd: str, pause_s: float) -> dict[str, Any]:
    """The figures of one fresh kernel."""
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel(kernel_name="python3", env=environment, cwd=cwd)
    try:
        for code in (LOAD, START.format(store=store)):
            time.sleep(pause_s)
            reply = client.execute_interactive(code, timeout=60, allow_stdin=False, output_hook=lambda _message: None)
            if reply["content"]["status"] != "ok":
                raise SystemExit("\n".join(reply["content"]["traceback"]))
        asked = {name: name for name in WANTED}
        reply = client.execute_interactive("", user_expressions=asked, silent=False, timeout=60, allow_stdin=False)
        given = reply["content"]["user_expressions"]
        client.execute_interactive("%pool stop", timeout=60, allow_stdin=False, output_hook=lambda _message: None)
        return {name: ast.literal_eval(given[name]["data"]["text/plain"]) for name in WANTED}
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def measure(rounds: int) -> list[Table]:
    root = os.getcwd()
    with tempfile.TemporaryDirectory() as folder, ApiProcess() as api:
        home = Path(folder, "home")
        home.mkdir()
        environment = {**isolated_environment(home, api.url), "PYTHONPATH": root}
        one_kernel(environment, Path(folder, "first.sqlite"), folder, 0)  # fills the caches of the disk; not counted
        taken, hasty = [], []
        for number in range(rounds):
            taken.append(one_kernel(environment, Path(folder, f"{number}.sqlite"), folder, READING_S))
            hasty.append(one_kernel(environment, Path(folder, f"{number}-hasty.sqlite"), folder, 0))
    heavy = sorted({name for one in taken for name in one["_heavy"]})
    times = [name for name in WANTED if name.endswith("_s")]
    middle, at_once = (medians({name: one[name] for name in times} for one in side) for side in (taken, hasty))
    table = Table(
        "A fresh kernel, the real CLI, API answers after 0 ms",
        "python -m benchmarks.kernel",
        ("what", "figure", "mark"),
    )
    loaded, answered, started = middle["_load_s"], middle["_first_s"], middle["_start_s"]
    table.row("`%load_ext claude_pool_nb`", f"{loaded:.2f} s", table.mark("< 0.3 s", reached=loaded < 0.3))
    table.row(
        "heavy imports by then",
        ", ".join(heavy) or "none",
        table.mark("no claude_agent_sdk", reached="claude_agent_sdk" not in heavy),
    )
    table.row("`%pool start`, 4 slots", f"{started:.2f} s", table.mark("< 0.3 s", reached=started < 0.3))
    table.row("`%pool start` to the first answer", f"{answered:.2f} s", table.mark("< 1.5 s", reached=answered < 1.5))
    table.row("`%pool start` at once after `%load_ext` (Run All)", f"{at_once['_start_s']:.2f} s", "")
    table.row("the same to the first answer", f"{at_once['_first_s']:.2f} s", "")
    table.row("the second answer", f"{middle['_second_s']:.2f} s", "")
    return [table]


if __name__ == "__main__":
    run_part(measure)
