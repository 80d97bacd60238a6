"""`%pool doctor`: look at everything the pool needs, and say what to do where something is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claude_pool_nb.notebook.call import Call
from claude_pool_nb.notebook.parser import VerbParser

if TYPE_CHECKING:
    import pandas as pd


def parser() -> VerbParser:
    """No options of its own."""
    return VerbParser("doctor", "Look at versions, credentials, front end, ledger, memory and leftovers.")


def run(call: Call) -> pd.DataFrame:
    """One row per finding: what, value, ok, what to do."""
    import pandas as pd

    from claude_pool_nb.display.facts import facts_frame
    from claude_pool_nb.notebook.checks import all_checks

    rows = [(check.what, check.value, check.ok, check.advice) for check in all_checks(call)]
    frame = pd.DataFrame(rows, columns=["what", "value", "ok", "advice"])
    types = {"what": "string", "value": "string", "ok": "boolean", "advice": "string"}
    return facts_frame(frame.astype(types), label="findings of the doctor")
