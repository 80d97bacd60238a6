"""What runs on Windows: all but the real CLI's sessions and recording, and these say so.

Windows is played by taking away what Python has there not: the calls for process groups, users and forks, and fcntl.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import claude_pool_nb
from claude_pool_nb import Pool
from claude_pool_nb.store import recovery

WITHOUT_POSIX = """
import json, os, sys
# What others have imported by then keeps what it took; only this package meets the loss.
import asyncio, concurrent.futures.thread, logging, random, subprocess, tempfile, uuid
import IPython, ipywidgets, pandas, platformdirs.unix, psutil, pydantic_settings, genai_prices, jinja2
import sqlalchemy.dialects.sqlite
from IPython.core.interactiveshell import InteractiveShell
for name in ("fork", "getpgid", "getsid", "getuid", "killpg", "register_at_fork", "setsid"):
    delattr(os, name)
for name in ("fcntl", "resource"):
    sys.modules[name] = None
shell = InteractiveShell.instance()
said = []
for cell in json.loads(sys.argv[1]):
    result = shell.run_cell(cell)
    error = result.error_before_exec or result.error_in_exec
    said.append(f"{type(error).__name__}: {error}" if error else str(result.result))
print()
print(json.dumps(said))
"""


def on_windows(cells: list[str], folder: Path) -> list[str]:
    """What each cell gives, in a process without what Windows has not."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_POSIX, json.dumps(cells)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(claude_pool_nb.__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said: list[str] = json.loads(done.stdout.splitlines()[-1])
    return said


def test_the_demo_a_replay_and_an_export_run_on_windows(tmp_path: Path) -> None:
    """Everything that starts no process of the CLI works, the ledger on disk included."""
    with Pool(backend="demo", demo_latency_s=0, store=":memory:", record=tmp_path / "tape.ndjson") as pool:
        pool.run("Say hello")
    said = on_windows(
        [
            "%load_ext claude_pool_nb",
            "%pool start --backend demo --demo-latency-s 0 --store ledger.sqlite",
            "%pool run Say hello",
            "%pool fan_out ['a', 'b']",
            "%pool export answers.csv",
            "%pool start --backend replay --cassette tape.ndjson --store ledger.sqlite --replace",
            "%pool run Say hello",
            "%pool doctor",
            "%pool stop",
        ],
        tmp_path,
    )
    assert [text for text in said if "Error" in text] == []
    assert (tmp_path / "answers.csv").exists()
    assert "WSL" in said[7]
    assert "leftovers              none" in said[7]


def test_what_windows_cannot_do_is_refused_with_what_to_do_there(tmp_path: Path) -> None:
    """A session of the CLI might outlive its kernel, and two recordings of one tape be mixed."""
    said = on_windows(
        [
            "%load_ext claude_pool_nb",
            "%pool start --store :memory:",
            "%pool start --backend demo --store :memory: --record tape.ndjson",
        ],
        tmp_path,
    )
    assert said[1].startswith("NotYetSupported: sessions of the claude CLI need Linux or macOS; on Windows work in WSL")
    assert said[2].startswith("CassetteError: a tape is recorded on Linux and macOS")
    assert not (tmp_path / "tape.ndjson").exists()


def test_a_pool_is_alive_where_the_system_names_no_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of the boot moves with the clock on macOS: it must not make a living pool a dead one."""
    monkeypatch.setattr(recovery, "Path", lambda _path: Path("/nowhere/at/all"))
    recovery.boot_id.cache_clear()
    try:
        host, boot, pid, started_at = recovery.this_process()
        monkeypatch.setattr("psutil.boot_time", lambda: 0.0)
        recovery.boot_id.cache_clear()
        assert recovery.is_alive(host, boot, pid, started_at)
        assert not recovery.is_alive(host, boot, pid, started_at - 60)
    finally:
        recovery.boot_id.cache_clear()
