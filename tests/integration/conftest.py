"""What tests of the real CLI share: it talks to the scripted API and to nobody else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from claude_pool_nb.testing import ScriptedAPI


@pytest.fixture
def scripted_cli(api: ScriptedAPI, isolated_env: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Send every CLI that is started to the scripted API."""
    environment = api.env(isolated_env)
    for name in set(os.environ) - set(environment):
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
