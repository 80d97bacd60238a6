"""What the figures were taken on: enough to compare by, and nothing that names the machine."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version

import psutil


def used_before() -> str:
    """How busy the machine is with other things, now."""
    return f"{psutil.cpu_percent(interval=2.0):.0f} % of the processor, load {os.getloadavg()[0]:.1f}"


def describe() -> str:
    """A table of the machine and the versions."""
    from claude_pool_nb.sessions.launch import find_cli

    cli = subprocess.run([find_cli(None), "--version"], capture_output=True, text=True, check=True).stdout.split()[0]
    rows = {
        "taken": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{os.cpu_count()} cores ({platform.machine()}), {psutil.virtual_memory().total / 2**30:.0f} GB",
        "system": f"{platform.system()} {platform.release().split('-')[0]}",
        "Python": platform.python_version(),
        "claude CLI": cli,
        "claude-agent-sdk": version("claude-agent-sdk"),
        "SQLAlchemy, pandas": f"{version('sqlalchemy')}, {version('pandas')}",
        "in use by others before": used_before(),
    }
    return "| | |\n|---|---|\n" + "".join(f"| {name} | {value} |\n" for name, value in rows.items())
