"""Pools on scripted sessions: no process, no network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from claude_pool_nb.pool import Pool
from claude_pool_nb.testing.scripted_session import ScriptedBackend

MakePool = Callable[..., Pool]


@pytest.fixture
def make_pool() -> Iterator[MakePool]:
    """Make pools on a scripted backend and a ledger in memory; they are closed at the end."""
    with ExitStack() as stack:

        def make(backend: ScriptedBackend | None = None, **options: Any) -> Pool:
            given = {"slots": 2, "store": ":memory:", **options}
            pool = Pool(backend=backend or ScriptedBackend(), **given)
            stack.callback(pool.close)
            return pool

        yield make


class Held:
    """A backend whose turns wait until they are let go, and how to let them go from the test's thread."""

    def __init__(self, **options: Any) -> None:
        self.gate = asyncio.Event()
        self.backend = ScriptedBackend(held=self.gate, **options)

    def let_go(self, pool: Pool) -> None:
        """Let all turns go on."""
        pool._portal.loop.call_soon_threadsafe(self.gate.set)


@pytest.fixture
def held() -> Held:
    """A backend whose turns wait."""
    return Held()
