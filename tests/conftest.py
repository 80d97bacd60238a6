"""Fixtures every test shares: no test sees this user's accounts, settings or files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_pool_nb.testing import ScriptedAPI

_OURS = ("ANTHROPIC_", "CLAUDE")


@pytest.fixture(autouse=True)
def isolated_env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Take every account and setting out of the environment, and give the test a home of its own."""
    for name in list(os.environ):
        if name.upper().startswith(_OURS):  # CLAUDE_POOL_NB_* among them
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    for name, folder in {
        "HOME": home,
        "XDG_CONFIG_HOME": home / ".config",
        "XDG_DATA_HOME": home / ".local" / "share",
        "XDG_CACHE_HOME": home / ".cache",
    }.items():
        monkeypatch.setenv(name, str(folder))
    return home


@pytest.fixture
def api() -> Iterator[ScriptedAPI]:
    """A scripted Messages API that answers "ok" until told otherwise."""
    with ScriptedAPI() as scripted:
        yield scripted
