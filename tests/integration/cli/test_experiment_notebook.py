"""The notebook of prompt experiments on the real CLI, by changing one cell; then from a tape of that, with nothing."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from claude_pool_nb.testing import ScriptedAPI, demo_reply
from claude_pool_nb.testing.notebooks import execute_notebook
from tests.integration.cli.test_cassettes import MOVING
from tests.integration.processes import processes_of

ROOT = Path(__file__).parents[3]
NOTEBOOK = ROOT / "notebooks" / "01_prompt_experiments.ipynb"


def started_with(line: str, folder: Path) -> pd.DataFrame:
    """Execute the notebook with that start, and give the frame that its story ends with."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    starts = [cell for cell in notebook.cells if cell.source.startswith("%pool start")]
    assert len(starts) == 1
    starts[0].source = line
    frame, copy = folder / "frame.pickle", folder / "copy.ipynb"
    notebook.cells.append(nbformat.v4.new_code_cell(f"pd.DataFrame(answers).to_pickle({str(frame)!r})"))
    nbformat.write(notebook, copy)
    execute_notebook(copy, environment={"PYTHONPATH": str(ROOT)})
    return pd.read_pickle(frame)


@pytest.mark.timeout(240)
def test_one_cell_makes_it_real_and_a_tape_makes_it_free(
    api: ScriptedAPI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the CLI every row is answered and billed; replayed with no CLI, no key and no network it is the same frame."""
    api.reply(demo_reply)
    tape = tmp_path / "tape.ndjson"
    recorded = started_with(f"%pool start --slots 4 --budget 5 --store :memory: --record {tape}", tmp_path)
    assert recorded["state"].tolist() == ["completed"] * 96
    assert recorded["out_sentiment"].notna().all()
    assert set(recorded["backend"]) == {"claude"}
    assert recorded["cost_usd"].sum() == pytest.approx(api.billed_usd)

    asked = len(api.requests)
    for name in [name for name in os.environ if name.startswith(("ANTHROPIC_", "CLAUDE"))]:
        monkeypatch.delenv(name)
    nothing = tmp_path / "claude"
    nothing.write_text("#!/bin/false\n", encoding="utf-8")
    monkeypatch.setenv("CLAUDE_POOL_NB_CLI_PATH", str(nothing))
    replayed = started_with(
        f"%pool start --slots 4 --budget 5 --store :memory: --backend replay --cassette {tape}", tmp_path
    )
    assert len(api.requests) == asked
    assert processes_of(os.getpid()) == []
    assert replayed["cached"].all()
    pd.testing.assert_frame_equal(recorded.drop(columns=MOVING), replayed.drop(columns=MOVING), check_categorical=False)
