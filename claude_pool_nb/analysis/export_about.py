"""What is known of exported data: which runs, asked how, with which versions and prices.

Invariants: only facts that the ledger or this installation has; what is not known is left out; no secrets.
"""

from __future__ import annotations

import json
import platform
import re
import sys
import time
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from claude_pool_nb.records import PLAY_BACKENDS, utc
from claude_pool_nb.store import queries

if TYPE_CHECKING:
    import pandas as pd

    from claude_pool_nb.records import RunRecord
    from claude_pool_nb.store.ledger import Ledger

MAX_RUNS = 200
"""So many runs are told one by one, the latest."""


def about_export(ledger: Ledger, frame: pd.DataFrame, what: str, run_ids: Sequence[str] | None) -> dict[str, Any]:
    """What is known of a frame from the ledger.

    Args:
        ledger: where it was read.
        frame: the frame.
        what: `tasks`, `attempts` ...
        run_ids: of which runs it is; None for all.

    Returns:
        Plain values: `what, exported_at, money, models, tags, prices_as_of, versions, runs`.

    Example:
        >>> import pandas as pd
        >>> from claude_pool_nb.store.ledger import Ledger
        >>> with Ledger.open(":memory:") as ledger:
        ...     sorted(about_export(ledger, pd.DataFrame(), "tasks", None))
        ['exported_at', 'money', 'prices_as_of', 'runs', 'versions', 'what']
    """
    from claude_pool_nb.pricing import prices_as_of

    records = queries.runs(ledger, limit=MAX_RUNS) if run_ids is None else [queries.run(ledger, r) for r in run_ids]
    at = utc(time.time())
    about: dict[str, Any] = {
        "what": what,
        "exported_at": at.isoformat(timespec="seconds") if at is not None else None,
        "money": money_of(ledger, records),
    }
    for name, title in (("model", "models"), ("requested_model", "requested_models")):
        if name in frame:
            about[title] = sorted({str(value) for value in frame[name].dropna().unique()})
    tags = {tag for record in records for tag in record.tags}
    if "tags" in frame:
        tags |= {tag for text in frame["tags"].dropna().unique() for tag in str(text).split()}
    if tags:
        about["tags"] = sorted(tags)
    about["prices_as_of"] = prices_as_of()
    about["versions"] = versions({record.backend for record in records})
    if any(json.loads(record.config).get("cli_path") for record in records):
        about["versions"].pop("claude-cli", None)  # another one was used, and its version is not in the ledger
    if run_ids is None and len(records) == MAX_RUNS:
        about["notes"] = [f"only the latest {MAX_RUNS} runs are told one by one"]
    about["runs"] = [_run(record) for record in records[-MAX_RUNS:]]
    return about


def money_of(ledger: Ledger, records: Sequence[RunRecord]) -> str:
    """`US dollars`, `play money`, or both."""
    kinds = set()
    plays: dict[str, bool] = {}
    for record in records:
        if record.pool_id not in plays:
            row = queries.pool(ledger, record.pool_id)
            plays[record.pool_id] = row.play_money if row is not None else record.backend in PLAY_BACKENDS
        kinds.add("play money" if plays[record.pool_id] else "US dollars")
    return " and ".join(sorted(kinds)) or "US dollars"


def _run(record: RunRecord) -> dict[str, Any]:
    """A run, and what a map keeps of how it was asked."""
    created, finished = utc(record.created_at), utc(record.finished_at)
    told: dict[str, Any] = {
        "run_id": record.id,
        "verb": record.verb,
        "state": str(record.state),
        "tasks": record.total,
        "backend": record.backend,
        "tags": list(record.tags),
        "created_at": created.isoformat(timespec="seconds") if created is not None else None,
        "finished_at": finished.isoformat(timespec="seconds") if finished is not None else None,
    }
    meta = json.loads(record.meta)
    told |= {name: meta[name] for name in ("template", "templates", "grid", "n") if meta.get(name) is not None}
    return told


@lru_cache(maxsize=1)
def _bundled_cli() -> str | None:
    """The version of the CLI that comes with the SDK, read without the second that importing it takes."""
    spec = find_spec("claude_agent_sdk")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        path = Path(folder) / "_cli_version.py"
        if path.exists():
            found = re.search(r"__cli_version__ = [\"']([^\"']+)", path.read_text(encoding="utf-8"))
            return found.group(1) if found else None
    return None


def versions(backends: set[str]) -> dict[str, str]:
    """Versions of what made the data, as far as they are known.

    Args:
        backends: Those of the runs; only `claude` has to do with a CLI.

    Example:
        >>> "python" in versions({"demo"}), "claude-cli" in versions({"demo"})
        (True, False)
    """
    package = sys.modules[__name__.split(".", maxsplit=1)[0]]
    known = {"claude-pool-nb": str(package.__version__), "python": platform.python_version()}
    wanted = ["pandas", "genai-prices", *(["claude-agent-sdk"] if "claude" in backends else [])]
    for name in wanted:
        try:
            known[name] = version(name)
        except PackageNotFoundError:
            continue  # run from a checkout of it
    bundled = _bundled_cli() if "claude" in backends else None
    if bundled:
        known["claude-cli"] = f"{bundled} (the one that comes with the SDK)"
    return known
