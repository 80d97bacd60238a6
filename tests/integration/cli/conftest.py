"""Pools of the real CLI, and the scripted API they talk to."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from claude_pool_nb.pool import Pool
from tests.integration.processes import processes_of
from tests.waiting import wait_until

MODEL = "claude-haiku-4-5"
MakePool = Callable[..., Pool]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here runs the real CLI."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.cli)


@pytest.fixture(autouse=True)
def every_cli_is_scripted(scripted_cli: None) -> None:
    """No test here forgets it."""


@pytest.fixture
def make_pool(tmp_path: Path) -> Iterator[MakePool]:
    """Make pools of the real CLI; they are closed at the end, and no process of theirs is left."""
    with ExitStack() as stack:

        def make(**options: Any) -> Pool:
            given = {"slots": 2, "store": tmp_path / "ledger.db", "model": MODEL, **options}
            pool = Pool(**given)
            stack.callback(pool.close)
            return pool

        yield make
    wait_until(lambda: not processes_of(os.getpid()))


def pids_of(pool: Pool) -> list[int]:
    """The processes of a pool's slots."""
    return [slot.pid for slot in pool.slot_records() if slot.pid is not None]


def booked_nano(pool: Pool) -> int:
    """What all attempts in the ledger cost."""
    return round(float(pool.attempts()["cost_usd"].sum()) * 1e9)
