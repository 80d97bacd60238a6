"""What `%pool doctor` looks at.

Invariants: of a credential only the name is told, never the value; looking changes nothing, sends nothing and starts
nothing but `claude --version`; a check that cannot be made says so and does not hide the others.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from claude_pool_nb.display.text import size
from claude_pool_nb.notebook.call import Call, current_pool
from claude_pool_nb.notebook.live.mode import decide, front_end
from claude_pool_nb.notebook.live.subshell import Reach, how_cancel_reaches
from claude_pool_nb.records import PLAY_BACKENDS

PACKAGES = (
    "claude-pool-nb",
    "claude-agent-sdk",
    "ipython",
    "ipykernel",
    "ipywidgets",
    "jupyterlab",
    "pandas",
    "sqlalchemy",
)
"""Packages whose versions are told."""
OPTIONAL = frozenset({"jupyterlab", "claude-pool-nb"})
"""Packages that may be missing: another front end, or a checkout that was not installed."""
LOW_DISK_BYTES = 200_000_000
"""Less free disk than this is told as a problem."""


@dataclass(frozen=True, slots=True)
class Check:
    """One finding."""

    what: str
    """What was looked at."""
    value: str
    """What it is."""
    ok: bool | None = True
    """Whether it is as it should be; None if that cannot be said."""
    advice: str = ""
    """What to do if it is not."""


def all_checks(call: Call) -> list[Check]:
    """Everything, in the order in which a person would ask."""
    parts: tuple[Callable[[Call], Iterator[Check]], ...] = (
        _versions,
        _cli,
        _credentials,
        _front_end,
        _ledger,
        _memory,
        _leftovers,
        _settings,
    )
    found: list[Check] = []
    for part in parts:
        try:
            found.extend(part(call))
        except Exception as error:  # noqa: BLE001 - one broken check must not hide the others
            found.append(
                Check(part.__name__.strip("_"), f"{type(error).__name__}: {error}", None, "could not be checked")
            )
    return found


def _versions(_call: Call) -> Iterator[Check]:
    yield Check("python", f"{sys.version.split()[0]} ({sys.executable})", sys.version_info >= (3, 11))
    for package in PACKAGES:
        try:
            yield Check(package, version(package))
        except PackageNotFoundError:
            missing = package not in OPTIONAL
            yield Check(
                package, "not installed", None if not missing else False, f"pip install {package}" if missing else ""
            )


def _cli(_call: Call) -> Iterator[Check]:
    from claude_pool_nb.errors import CLINotFound
    from claude_pool_nb.sessions.launch import find_cli
    from claude_pool_nb.sessions.processes import CAN_BE_ENDED

    if not CAN_BE_ENDED:
        yield Check("claude CLI", "not for this system", False, "it needs Linux or macOS: work in WSL, or on the demo")
        return
    pool = current_pool()
    try:
        path = find_cli(pool.setup.config.cli_path if pool is not None else None)
    except CLINotFound:
        yield Check("claude CLI", "not found", False, "reinstall claude-agent-sdk, which ships it, or set cli_path")
        return
    done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=False)
    said = (done.stdout or done.stderr).strip()
    yield Check("claude CLI", f"{said} ({path})", done.returncode == 0, "" if done.returncode == 0 else "reinstall it")


def _credentials(_call: Call) -> Iterator[Check]:
    from claude_pool_nb.config import ResolvedConfig
    from claude_pool_nb.errors import MissingCredentials
    from claude_pool_nb.sessions.credentials import find_credentials

    pool = current_pool()
    if pool is not None and pool.backend in PLAY_BACKENDS:
        yield Check("credentials", f"none needed for {'the demo' if pool.backend == 'demo' else 'a replay'}")
        return
    options = pool.resolved_config() if pool is not None else ResolvedConfig()
    try:
        found = find_credentials(options)
    except MissingCredentials:
        advice = "set ANTHROPIC_API_KEY, log in with `claude`, or use --backend demo"
        yield Check("credentials", "none found", False, advice)
        return
    yield Check("credentials", f"{found.source}{' (a subscription)' if found.subscription else ''}")


def _front_end(call: Call) -> Iterator[Check]:
    shell = call.magics.host
    yield Check("front end", f"{front_end(shell)} ({type(shell).__name__})")
    yield Check("live view", f"{decide(call.magics.live, shell)} (setting: {call.magics.live})")
    reach = how_cancel_reaches()
    yield Check("Cancel", reach.about, None if reach is Reach.NO_KERNEL else reach.works)


def _ledger(call: Call) -> Iterator[Check]:
    from claude_pool_nb.store.opening import MEMORY, is_file, is_memory, locate

    pool = current_pool()
    url = locate(pool.setup.store if pool is not None else call.magics.store)
    if not is_file(url):
        yield Check("ledger", MEMORY if is_memory(url) else url.render_as_string(hide_password=True))
        return
    path = Path(url.database or "")
    there = f"{path} ({size(path.stat().st_size)})" if path.exists() else f"{path} (not there yet)"
    yield Check("ledger", there)
    folder = next((parent for parent in path.parents if parent.exists()), Path.home())
    free = shutil.disk_usage(folder).free
    enough = free > LOW_DISK_BYTES
    yield Check("free disk", size(free), enough, "" if enough else "free some space, or pass another --store")


def _memory(call: Call) -> Iterator[Check]:
    from claude_pool_nb.sessions.claude_backend import SLOT_BYTES, available_memory

    free = available_memory()
    pool = current_pool()
    slots = sum(pool.status().slots.values()) if pool is not None else call.magics.slots
    enough = free >= slots * SLOT_BYTES
    advice = "" if enough else f"{slots} slots may need {size(slots * SLOT_BYTES)}: use fewer, or --backend demo"
    yield Check("free memory", size(free), enough, advice)


def _leftovers(_call: Call) -> Iterator[Check]:
    """Sessions of kernels that are gone."""
    from claude_pool_nb.sessions.processes import leftovers

    pids = [str(process.pid) for process in leftovers()]
    advice = f"their kernel is gone; end them with !kill -9 {' '.join(pids)}" if pids else ""
    yield Check("leftovers", ", ".join(pids) or "none", not pids, advice)


def _settings(call: Call) -> Iterator[Check]:
    magics = call.magics
    for name in sorted(type(magics).class_trait_names(config=True)):
        yield Check(f"setting {name}", str(getattr(magics, name)))
