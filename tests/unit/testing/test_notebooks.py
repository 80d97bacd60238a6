"""Executing notebooks, where what executes them is missing."""

from __future__ import annotations

import sys

import pytest

from claude_pool_nb.testing import notebooks


def test_without_nbclient_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The package itself does not need it, so a plain installation has not got it."""
    monkeypatch.setitem(sys.modules, "nbclient", None)
    assert notebooks.main(["quickstart.ipynb"]) == 1
    assert "pip install nbclient" in capsys.readouterr().err
