"""Which runs a caller means.

Invariants: an id that is no run's is an error; runs come in the order of their numbers, each once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from claude_pool_nb.errors import ConfigError
from claude_pool_nb.store import queries
from claude_pool_nb.store.ids import run_number

if TYPE_CHECKING:
    from claude_pool_nb.store.ledger import Ledger

ALL = "all"
"""The word for every run of the store."""
NO_RUN = "there is no run in this store yet; `%pool run` or `%pool fan_out` makes one"
"""What to say where the last run is meant and there is none."""


def run_ids(ledger: Ledger, run: Any) -> list[str] | None:
    """The ids of the runs that were named; None for all of the store.

    Args:
        ledger: where the runs are.
        run: an id, a run, a frame of one, or several of these; `all` and None mean all.

    Raises:
        RunNotFound: there is no such run.
        ConfigError: it is no run.

    Example:
        >>> from claude_pool_nb.store.ledger import Ledger
        >>> with Ledger.open(":memory:") as ledger:
        ...     run_ids(ledger, "all") is None
        True
    """
    if run is None or (isinstance(run, str) and run == ALL):
        return None
    if isinstance(run, list | tuple | set):
        found = {one for part in run for one in run_ids(ledger, part) or ()}
        if not found:
            raise ConfigError("run= names no run; name one, like 'r12', or leave it out")
        return sorted(found, key=run_number)
    attrs = getattr(run, "attrs", None)
    if isinstance(run, str):
        name: Any = run
    else:
        name = attrs.get("run_id") if isinstance(attrs, dict) else getattr(run, "id", None)
    if not isinstance(name, str):
        raise ConfigError(f"run= takes a run, its id (like 'r12') or its frame, not this {type(run).__name__}")
    return [queries.run(ledger, name).id]


def last_run_id(ledger: Ledger) -> str | None:
    """The run that was accepted last; None in an empty store."""
    last = queries.latest_run(ledger)
    return last.id if last is not None else None
