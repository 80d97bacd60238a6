"""A cassette in a pool that runs: put in for a while, and taken out again.

Invariants: a turn is on the tape from its first word to its last or not at all: a slot that is busy changes when its
turn is over. Sessions stay open and warm. What comes after a cassette was taken out is not on it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from claude_pool_nb.errors import ConfigError, PoolClosed
from claude_pool_nb.sessions.cassette import Cassette
from claude_pool_nb.sessions.cassette_backend import CassetteBackend
from claude_pool_nb.sessions.cassette_session import CassetteSession

if TYPE_CHECKING:
    from claude_pool_nb.engine.engine import Engine
    from claude_pool_nb.engine.slots import SlotRunner
    from claude_pool_nb.sessions.base import Session


async def insert(engine: Engine, path: str, *, mode: str, speed: str) -> CassetteBackend:
    """Put a cassette into a pool.

    Raises:
        CassetteError: the tape cannot be used.
        PoolClosed: the pool is stopped.
    """
    if engine.closed:
        raise PoolClosed
    inner = engine.backend
    name = inner.info.name
    cassette = await asyncio.to_thread(Cassette, path, mode, backend=None if name == "replay" else name, speed=speed)
    taped = CassetteBackend(cassette, inner)
    engine.backend = taped
    for warning in cassette.warnings:
        engine.watchers.warn(warning)
    for runner in engine.runners.values():
        _wrap(engine, runner, taped)
    return taped


def _wrap(engine: Engine, runner: SlotRunner, taped: CassetteBackend) -> None:
    """Put the cassette into a slot's session."""

    def wrapped(session: Session) -> Session:
        made = taped.wrap(session)
        if engine.state.slot(runner.slot_id).tasks_completed and runner.goes_on:
            made.has_begun()
        return made

    runner.change(taped, wrapped)


async def take_out(engine: Engine, taped: CassetteBackend, *, wait: bool = True) -> None:
    """Take a cassette out of a pool, and put its tape in order.

    Args:
        engine: The pool's.
        taped: What `insert` gave.
        wait: For the turns that run: they belong on the tape.

    Raises:
        CassetteError: the tape could not be put in order.
        ConfigError: another cassette was put in since, and has to be taken out first.
    """
    if engine.closed:  # its end has closed the tape too
        return
    if engine.backend is not taped:
        raise ConfigError(f"another cassette was put in after {taped.cassette.path}; take that one out first")
    inner = taped.inner
    assert inner is not None
    engine.backend = inner
    changes = [runner.change(inner, _unwrapped) for runner in engine.runners.values()]
    if wait and changes:
        await asyncio.gather(*changes)
    await asyncio.to_thread(taped.cassette.close)


def _unwrapped(session: Session) -> Session:
    """The session without the cassette."""
    return session.inner if isinstance(session, CassetteSession) else session
