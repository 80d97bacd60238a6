"""The verb of both pools that puts a cassette into them: for tests, and for a part of a notebook.

Invariant: whatever happens within the block, the cassette is out of the pool after it and its tape in order.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from claude_pool_nb.aio import AsyncPool
    from claude_pool_nb.engine.engine import Engine
    from claude_pool_nb.sessions.cassette import Cassette


class AsyncCassettes:
    """What `AsyncPool` does with cassettes."""

    @property
    @abstractmethod
    def engine(self) -> Engine:
        """The engine of a started pool."""

    @asynccontextmanager
    async def cassette(
        self, path: str | Path, mode: str = "once", *, speed: str = "instant"
    ) -> AsyncIterator[Cassette]:
        """Play requests from a tape, and record those that are not on it; see `Pool.cassette`.

        Raises:
            CassetteError: the tape cannot be used.
        """
        from claude_pool_nb.engine import taping

        engine = self.engine
        taped = await taping.insert(engine, str(path), mode=mode, speed=speed)
        try:
            yield taped.cassette
        except BaseException:
            await taping.take_out(engine, taped, wait=False)
            raise
        await taping.take_out(engine, taped)


class Cassettes:
    """What `Pool` does with cassettes."""

    aio: AsyncPool
    """The pool behind it."""

    @property
    @abstractmethod
    def closed(self) -> bool:
        """True once its sessions have ended."""

    @abstractmethod
    def _call(self, coro: Coroutine[Any, Any, Any], *, then_waits: bool = False) -> Any:
        """Run a verb on the pool's loop."""

    @contextmanager
    def cassette(self, path: str | Path, mode: str = "once", *, speed: str = "instant") -> Iterator[Cassette]:
        """Within the block, play requests from a tape and record those that are not on it.

        Among real money what is played costs nothing; in a pool of play money it costs what it did when it was
        recorded. The end of the block waits for the turns that run.

        Args:
            path: The tape.
            mode: `once`: play if there is a tape, record if there is none. `none`: play only. `new`: play what is on
                the tape and record the rest. `all`: record everything; a request that is asked again replaces what
                the tape has. Where nothing is recorded, a request that is not on the tape fails and says what differs
                from the nearest one.
            speed: `instant`, or `real` for the time that the answers took.

        Yields:
            The cassette; `played`, `recorded` and `missing` count what was done.

        Raises:
            CassetteError: the tape cannot be used.

        Example:
            >>> import tempfile
            >>> from claude_pool_nb import Pool
            >>> with (
            ...     tempfile.TemporaryDirectory() as folder,
            ...     Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool,
            ... ):
            ...     for _ in range(2):
            ...         with pool.cassette(f"{folder}/tape.ndjson") as tape:
            ...             result = pool.run("ping")
            ...         print(result.output, tape.recorded, tape.played)
            pong 1 0
            pong 0 1
        """
        from claude_pool_nb.engine import taping

        engine = self.aio.engine
        taped = self._call(taping.insert(engine, str(path), mode=mode, speed=speed))
        try:
            yield taped.cassette
        except BaseException:
            if not self.closed:
                self._call(taping.take_out(engine, taped, wait=False))
            raise
        if not self.closed:
            self._call(taping.take_out(engine, taped))
