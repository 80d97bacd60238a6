"""What was recorded on the real CLI replays without it: no executable, no key, no network, the same frame."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from claude_pool_nb import Pool, RetryPolicy
from claude_pool_nb.testing import Reply, Request, ScriptedAPI
from tests.integration.cli.conftest import MODEL, MakePool
from tests.integration.processes import processes_of

MOVING = [
    "backend", "slot_id", "session_id", "cached", "created_at", "started_at", "finished_at", "wait_s", "duration_s",
    "api_s",
]  # fmt: skip
"""Columns that tell where and when a task ran; the times are those of the recording, to a tenth of a second."""
SCHEMA = {"type": "object", "properties": {"label": {"type": "string"}}, "required": ["label"]}
PLANTED = "sk-ant-api03-planted-secret-0123456789"


def script(api: ScriptedAPI) -> None:
    """A model that counts, fails, is refused a tool, and knows what was said."""
    api.on("Fail", Reply(status=400, message="no such thing"))
    api.on("Flaky", Reply(status=500, message="down"), times=1)
    api.on("leak", Reply(f"the key is {PLANTED}"))

    def counted(request: Request) -> Reply:
        return Reply(f"{len(request.messages)} messages", input_tokens=100 * len(request.messages))

    api.reply(counted)


def notebook(pool: Pool) -> pd.DataFrame:
    """Single prompts, many, a failure, a retry, a conversation."""
    pool.run("Say hello.")
    table = pd.DataFrame({"prompt": [f"Review {number}" for number in range(6)], "film": range(6)})
    pool.fan_out(table, tags=["films"], max_output_tokens=200)
    quick = RetryPolicy(initial_backoff_s=0.05, jitter=False)
    pool.fan_out(["Fail now", "Flaky now", "same", "same", "please leak"], retry=quick)
    for prompt in ("one", "two"):
        pool.run(prompt, conversation="talk")
    pool.run("in other words", system_prompt="Be brief.", effort="low")
    return pool.tasks()


def test_a_notebook_replays_without_cli_key_and_network(
    api: ScriptedAPI, make_pool: MakePool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only where and when the tasks ran differs; the tape holds no key, and no path of this home."""
    script(api)
    tape = tmp_path / "tape.ndjson"
    monkeypatch.setenv("CLAUDE_POOL_NB_SECRET_TOKEN", "not on the tape either")
    with make_pool(record=tape, slots=3, retry=RetryPolicy(initial_backoff_s=0.05)) as pool:
        assert str(tape) in (pool.notice or "")
        recorded = notebook(pool)
    assert sorted(recorded["state"]) == ["completed"] * 14 + ["failed"]
    assert recorded["attempts"].max() == 2
    text = tape.read_text(encoding="utf-8")
    for secret in (PLANTED, os.environ["ANTHROPIC_API_KEY"], os.environ["HOME"], os.environ["ANTHROPIC_BASE_URL"]):
        assert secret not in text
    assert "the key is [redacted]" in text

    asked = len(api.requests)
    for name in [name for name in os.environ if name.startswith(("ANTHROPIC_", "CLAUDE"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "another"))
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("asyncio.create_subprocess_exec", no_process)
    nothing = tmp_path / "claude"
    nothing.write_text("#!/bin/false\n", encoding="utf-8")
    with Pool(
        backend="replay", cassette=tape, store=":memory:", model=MODEL, slots=2, cli_path=nothing, cwd=tmp_path
    ) as pool:
        replayed = notebook(pool)
        assert [slot.pid for slot in pool.slot_records()] == [None, None]
    assert processes_of(os.getpid()) == []
    assert len(api.requests) == asked
    assert replayed["cached"].all()
    for frame in (recorded, replayed):  # a key is named by its kind where it is known, and by nothing on the tape
        frame["output"] = frame["output"].str.replace(r"\[redacted[^]]*\]", "[redacted]", regex=True)
    pd.testing.assert_frame_equal(recorded.drop(columns=MOVING), replayed.drop(columns=MOVING), check_categorical=False)
    assert replayed["cost_usd"].sum() > 0
    assert list(replayed["duration_s"]) == pytest.approx(list(recorded["duration_s"]), abs=0.051)


def no_process(*_arguments: Any, **_options: Any) -> None:
    """What would start a process."""
    raise AssertionError("a replay started a process")


def test_tools_and_what_was_denied_are_on_the_tape(api: ScriptedAPI, make_pool: MakePool, tmp_path: Path) -> None:
    """A turn with tool calls comes back with its denials, its turns and its stream."""
    tool = Reply("", tool_calls=[("Write", {"file_path": str(tmp_path / "notes.txt"), "content": "x"})])
    api.reply(lambda request: "I may not." if request.tool_results else tool)
    tape = tmp_path / "tape.ndjson"
    options: dict[str, Any] = {"tools": ["Write"], "unattended_mode": True, "slots": 1}
    with make_pool(record=tape, **options) as pool:
        first = pool.run("Write it down")
    with Pool(backend="replay", cassette=tape, store=":memory:", model=MODEL, **options) as pool:
        again = pool.run("Write it down")
    assert [denial.tool for denial in first.denials] == ["Write"]
    assert (again.denials, again.turns, again.output, again.cost_usd) == (
        first.denials,
        first.turns,
        first.output,
        first.cost_usd,
    )
    assert '"tool", "Write"' in tape.read_text(encoding="utf-8")
