"""`%pool show ID`: all about one task: what was sent, with which options, its attempts and events."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from claude_pool_nb.notebook.call import Call
from claude_pool_nb.notebook.parser import VerbParser

if TYPE_CHECKING:
    import pandas as pd


def parser() -> VerbParser:
    """A task's id."""
    options = VerbParser("show", "All about one task: the exact prompt, its options, its attempts and its events.")
    options.add_argument("id", metavar="ID", help="r12.3, or r12 for the first task of that run")
    return options


def run(call: Call) -> pd.DataFrame:
    """One row per thing known: what, name, value."""
    import pandas as pd

    from claude_pool_nb.display.facts import facts_frame

    wanted = call.args.id if "." in call.args.id else f"{call.args.id}.1"
    pool = call.pool
    task = pool.get_task(wanted)
    frame = task.run.frame
    rows = [("task", name, value) for name, value in frame[frame["task_id"] == wanted].iloc[0].items()]
    rows += [("option", name, value) for name, value in asdict(pool.resolved_config(wanted)).items()]
    for kind, table in (
        ("attempt", pool.attempts(run=task.run.id)),
        ("event", pool.events(run=task.run.id)),
    ):
        for number, (_, row) in enumerate(table[table["task_id"] == wanted].iterrows(), start=1):
            rows += [(f"{kind} {number}", name, value) for name, value in row.items() if name != "task_id"]
    known = [(what, str(name), str(value)) for what, name, value in rows if not _is_missing(value)]
    frame = pd.DataFrame(known, columns=["what", "name", "value"], dtype="string")
    return facts_frame(frame, label=f"all about task {wanted}")


def _is_missing(value: Any) -> bool:
    """Whether there is nothing to show."""
    import pandas as pd

    if hasattr(value, "__len__"):
        return len(value) == 0
    return value is None or bool(pd.isna(value))
