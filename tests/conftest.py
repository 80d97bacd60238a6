"""Fixtures every test shares: no test sees this user's accounts, settings or files."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from hypothesis import settings

from claude_pool_nb.testing import ScriptedAPI, isolated_environment

# anyio loads its parts at first use, and pytest rewrites them as it does: from deep inside a coroutine CPython 3.11 now
# and then fails at that ("AST constructor recursion depth mismatch"). Here it is shallow.
for _name in dir(anyio):
    getattr(anyio, _name)

# The first example of a property pays for imports, and a busy machine for the rest: how long one took says nothing.
settings.register_profile("house", deadline=None)
settings.load_profile("house")


def pytest_unconfigure() -> None:
    """IPython's shells collect garbage at exit, each through all that the tests have left: that took minutes."""
    gc.freeze()


_ACCOUNT = ("ANTHROPIC_", "CLAUDE")  # CLAUDE_POOL_NB_* among them


def _isolate(home: Path, patch: pytest.MonkeyPatch) -> None:
    """Leave of the environment what names no account and no settings, and point every folder below a home."""
    wanted = isolated_environment(home, "http://127.0.0.1:9")
    for name in list(os.environ):
        if name not in wanted or name.startswith(_ACCOUNT):
            patch.delenv(name)
    for name, value in wanted.items():
        if os.environ.get(name) != value and not name.startswith(_ACCOUNT):
            patch.setenv(name, value)


@pytest.fixture(scope="session", autouse=True)
def isolated_session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Isolate what fixtures of a wider scope than one test see."""
    with pytest.MonkeyPatch.context() as patch:
        _isolate(tmp_path_factory.mktemp("home"), patch)
        yield


@pytest.fixture(autouse=True)
def isolated_env(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give each test an environment without accounts or settings, and a home of its own, which it returns."""
    home = tmp_path / "home"
    home.mkdir()
    _isolate(home, monkeypatch)
    return home


@pytest.fixture
def api() -> Iterator[ScriptedAPI]:
    """A scripted Messages API that answers "ok" until told otherwise."""
    with ScriptedAPI() as scripted:
        yield scripted
