"""The logs that the real CLI writes are read as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from claude_pool_nb.testing import Reply, ScriptedAPI
from tests.integration.cli.conftest import MODEL, MakePool


def test_logs_of_the_real_cli_tell_what_was_booked(api: ScriptedAPI, make_pool: MakePool, isolated_env: Path) -> None:
    """A conversation's turns, which the CLI keeps a log of, have the tokens and dollars of their attempts."""
    sent = {"input_tokens": 2_000, "cache_read_tokens": 700, "cache_write_tokens": 500, "cache_write_1h_tokens": 200}
    api.reply(Reply("ok", output_tokens=30, **sent))
    pool = make_pool(slots=1)
    for prompt in ("one", "two"):
        pool.run(prompt, conversation="talk")
    pool.run("leaves no log")
    logged, booked = pool.usage_history(), pool.attempts().iloc[:2]
    assert len(logged) == 2
    assert logged.attrs["bad_lines"] == 0
    assert set(logged["model"]) == {MODEL}
    for name in ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"):
        assert logged[name].tolist() == booked[name].tolist()
    assert logged["estimated_usd"].tolist() == pytest.approx(booked["cost_usd"].tolist(), rel=1e-9)
    assert logged["cache_write_1h_tokens"].tolist() == [200, 200]
    assert logged["session_id"].tolist() == booked["session_id"].tolist()
    assert logged["at"].between(booked["started_at"].min(), booked["finished_at"].max()).all()
