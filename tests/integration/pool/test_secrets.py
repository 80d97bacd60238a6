"""Keys that reach a pool from anywhere: none is stored, and none is shown."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pandas as pd

from claude_pool_nb import PoolConfig
from claude_pool_nb.pool import Pool
from claude_pool_nb.records import Denial, Failure, FailureKind, RetryPolicy, TurnResult
from claude_pool_nb.sessions.base import Turn
from claude_pool_nb.testing.scripted_session import ScriptedBackend

KEY = "sk-ant-api03-" + "Zq9" * 12


def _answer(turn: Turn) -> TurnResult | Failure | Exception:
    """Quote the key in everything that a session can say."""
    if "fails" in turn.prompt:
        return Failure(FailureKind.REQUEST, "refused", f"bad key {KEY}")
    if "lost" in turn.prompt:
        return RuntimeError(f"lost with {KEY}")
    return TurnResult(
        output=f"it is {KEY}",
        structured={"key": KEY, KEY: [KEY]},
        denials=(Denial("Bash", f'{{"command": "echo {KEY}"}}'),),
        warnings=(f"{KEY} answered",),
    )


def _fill(pool: Pool) -> list[str]:
    """Put the key wherever a person can; what was shown of it."""
    pool.run(f"say {KEY}", tags=[f"t-{KEY}"])
    pool.run("again", system_prompt=f"you are {KEY}")
    pool.run("schema", schema={"type": "object", "properties": {"key": {"type": "string", "description": KEY}}})
    pool.set_context("note", f"the key is {KEY}")
    pool.pause(f"because of {KEY}")
    pool.unpause()
    run = pool.fan_out(pd.DataFrame({"prompt": ["fails", "lost", "works"], "given": [KEY] * 3}))
    config = pool.aio._setup.config
    frame = run.frame.drop(columns=["given"])
    shown = [pool.attempts(), pool.events(), frame]
    return [*(table.to_csv() for table in shown), repr(pool.aio.engine.watchers.warnings), repr(config)]


def test_no_secret_is_in_the_ledger_or_shown(tmp_path: Path) -> None:
    """Prompts, inputs, options, context, answers, errors, denials and warnings lose the key on their way."""
    store = tmp_path / "pool.db"
    options = {
        "env": {"HIDDEN": "unknown-word-1"},
        "mcp_servers": {"x": {"command": "x", "env": {"K": "other-word-2"}}},
    }
    with Pool(
        slots=1,
        backend=ScriptedBackend(_answer),
        store=store,
        profile="agent",
        config=PoolConfig(system_prompt=KEY, **options),
        retry=RetryPolicy(max_attempts=1),
    ) as pool:
        shown = _fill(pool)
    for words in (KEY, "unknown-word-1", "other-word-2"):
        assert not [text for text in shown if words in text]
    database = sqlite3.connect(store)
    dump = "\n".join(database.iterdump())
    database.close()
    for words in (KEY, "unknown-word-1", "other-word-2"):
        found = [line[:80] for line in dump.splitlines() if words in line]
        assert not found
