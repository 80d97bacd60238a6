"""Recording and replaying from cells, in a shell: one line is changed and the notebook goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from IPython.core.error import UsageError

from claude_pool_nb import CassetteError, ConfigError, PoolExists, TaskFailed
from claude_pool_nb.display.results import result_text
from tests.notebook.conftest import DEMO, Runner

CELLS = (
    "%pool run Write a haiku about rust.",
    "df = %pool fan_out ['I love it', 'I hate it', '[demo:fail] x'] -m haiku\n"
    "list(zip(df.state, df.output, df.cost_usd))",
)


def test_one_line_makes_a_notebook_replay(run_cell: Runner, tmp_path: Path) -> None:
    """`--record` and then `--cassette`: the same cells show the same, and the card says which tape."""
    tape = tmp_path / "tape.ndjson"
    card = run_cell(f"{DEMO} --record {tape}").value
    assert f"Records to {tape}." in card._repr_html_()
    recorded = [run_cell(source) for source in CELLS]
    again = run_cell(f"%pool start --cassette {tape} --store :memory: --replace").value
    assert again.backend == "replay"
    assert f"Replays {tape} (4 answers of demo)" in again._repr_html_()
    replayed = [run_cell(source) for source in CELLS]
    assert replayed[0].value.output == recorded[0].value.output
    assert "no model was asked" in result_text(replayed[0].value)
    assert replayed[1].value == recorded[1].value
    doctor = run_cell("found = %pool doctor\nfound.astype(str).to_string()").value
    assert "none needed for a replay" in doctor
    missing = run_cell("%pool run Write a haiku about dust.").error
    assert isinstance(missing, TaskFailed)
    assert "'rust.' on the tape, 'dust.' asked" in str(missing)
    assert f"line 3 of {tape}" in str(missing)


def test_the_same_line_is_the_same_replay(run_cell: Runner, tmp_path: Path) -> None:
    """A cell that is run twice keeps its pool; another speed is another pool."""
    tape = tmp_path / "tape.ndjson"
    run_cell(f"{DEMO} --record {tape}")
    run_cell(CELLS[0])
    line = f"%pool start --backend replay --cassette {tape} --store :memory:"
    first = run_cell(f"{line} --replace").value
    assert run_cell(line).value is first
    assert isinstance(run_cell(f"{line} --speed real").error, PoolExists)
    assert run_cell(f"{line} --speed real --replace").value.setup.speed == "real"


def test_a_setting_makes_a_notebook_replay_unchanged(
    run_cell: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CI replays with two variables, and records with one: not a cell is changed."""
    tape = tmp_path / "tape.ndjson"
    monkeypatch.setenv("CLAUDE_POOL_NB_RECORD", str(tape))
    run_cell(DEMO)
    before = run_cell(CELLS[1]).value
    run_cell("%pool stop")
    monkeypatch.setenv("CLAUDE_POOL_NB_BACKEND", "replay")
    monkeypatch.setenv("CLAUDE_POOL_NB_CASSETTE", str(tape))
    run_cell("%reload_ext claude_pool_nb")
    assert run_cell("%pool start --store :memory:").value.backend == "replay"
    assert run_cell(CELLS[1]).value == before


def test_what_cannot_be_is_told_and_starts_nothing(run_cell: Runner, tmp_path: Path) -> None:
    """A tape that is none, of another version or missing, and options that contradict each other."""
    (tmp_path / "old.ndjson").write_text('{"format": "claude-pool-nb tape", "version": 7}\n', encoding="utf-8")
    (tmp_path / "nb.ndjson").write_text('{"cells": []}\n', encoding="utf-8")
    for line, kind, words in (
        (f"--cassette {tmp_path}/old.ndjson", CassetteError, "old.ndjson, line 1: the tape has format version 7"),
        (f"--cassette {tmp_path}/nb.ndjson", CassetteError, "nb.ndjson, line 1: this is no tape"),
        (f"--cassette {tmp_path}/none.ndjson", CassetteError, "there is no tape"),
        (f"--backend demo --record {tmp_path}", CassetteError, "is a folder"),
        ("--backend replay", ConfigError, "cassette=PATH"),
        (f"--backend demo --cassette {tmp_path}/x", ConfigError, "backend='replay'"),
        ("--speed slow", UsageError, "slow"),
    ):
        error = run_cell(f"%pool start --store :memory: {line}").error
        assert isinstance(error, kind), line
        assert words in str(error)
        assert run_cell("%pool status").error is not None
