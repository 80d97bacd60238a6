"""The isolated environment, and the fixtures that put every test into one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from claude_pool_nb.testing import isolated_environment, isolated_process


def test_nothing_of_the_callers_accounts_gets_through() -> None:
    """Keys, providers, proxies and settings folders of the caller are dropped; the rest stays."""
    inherited = {
        "PATH": "/bin",
        "ANTHROPIC_AUTH_TOKEN": "real",
        "ANTHROPIC_API_KEY": "real",
        "CLAUDE_CODE_USE_BEDROCK": "1",
        "CLAUDECODE": "1",
        "CLAUDE_POOL_NB_SLOTS": "3",
        "AWS_PROFILE": "real",
        "https_proxy": "http://elsewhere",
        "XDG_CONFIG_HOME": "/real",
        "HOME": "/real",
    }
    env = isolated_environment("/tmp/h", "http://127.0.0.1:1", inherited=inherited)
    assert "real" not in env.values()
    assert not any("/real" in value for value in env.values())
    assert env["PATH"] == "/bin"
    assert {name for name in env if name.startswith(("ANTHROPIC_", "CLAUDE"))} == {
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_BASE_URL",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
    }


def test_process_environment_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process's own environment is replaced inside the block and restored, after an error too."""
    monkeypatch.setenv("CLAUDE_MARK", "1")
    before = dict(os.environ)
    with pytest.raises(LookupError), isolated_process("/tmp/h", "http://127.0.0.1:1") as env:  # noqa: PT012
        assert dict(os.environ) == env
        raise LookupError
    assert dict(os.environ) == before


def test_every_test_has_a_home_of_its_own(isolated_env: Path, tmp_path: Path) -> None:
    """The fixture that every test runs in leaves no account and points each folder below the test's own."""
    assert isolated_env.is_relative_to(tmp_path)
    assert Path.home() == isolated_env
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        assert Path(os.environ[name]).is_relative_to(isolated_env)
    assert not [name for name in os.environ if name.upper().startswith(("ANTHROPIC_", "CLAUDE"))]


def test_testing_is_loaded_lazily() -> None:
    """Importing the package loads no server until a name of it is used."""
    code = (
        "import sys, claude_pool_nb.testing as t; assert 'claude_pool_nb.testing.messages_api' not in sys.modules;"
        "assert sorted(t.__all__) == [n for n in dir(t) if n in t.__all__]; [getattr(t, n) for n in t.__all__]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[3])
