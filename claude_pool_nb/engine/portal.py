"""Where the pool's coroutines run, and how a cell waits for them.

Two drivers with one face. `LoopThread` (the default) keeps one event loop on one daemon thread for the life of the
kernel, so that warm sessions live between cells. `InlineLoop` runs everything in the calling thread on a private loop
made re-entrant by nest-asyncio, for debuggers and profilers; the kernel's own loop is never patched, because that loses
queued cells.

Invariants: a blocking call from the pool's own loop is refused, because it would wait for itself. While a cell waits,
SIGINT is counted, not raised: the waiter decides what the first, second and third interrupt do, and nothing is lost.
"""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol, TypeVar

from claude_pool_nb.errors import BlockingCall, ConfigError, PoolClosed, PoolError

T = TypeVar("T")

POLL_S = 0.1
"""How often a blocked thread looks up: locks of some platforms cannot be interrupted, and a signal that arrives while
the loop sleeps is only seen when something wakes it."""

_THREAD_ENDED = "the pool's thread has ended, and its work with it; restart the kernel, then `%pool resume` goes on"

Interrupted = Callable[[int], None]
"""Called on the pool's loop with the number of the interrupt, from 1."""


class Portal(Protocol):
    """A place where coroutines of the pool run."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Its event loop."""

    @property
    def alive(self) -> bool:
        """False once nothing can run here any more."""

    def call(self, coro: Coroutine[Any, Any, T], *, then_waits: bool = False) -> T:
        """Run a short coroutine to its end and return what it gives.

        An interrupt strikes when it is done: whoever handles SIGINT outside gets it then, which is a KeyboardInterrupt
        by default; with `then_waits` the `wait` that follows does (the work was accepted, so it has to be stopped).
        """

    def wait(self, future: cf.Future[T], interrupted: Interrupted) -> int:
        """Block until a future of the pool is done; SIGINT is counted and handed to `interrupted`.

        Returns:
            How many interrupts there were. What the future gives is left to the caller.

        Raises:
            KeyboardInterrupt: at the third interrupt.
        """

    def stop(self) -> None:
        """End it."""


class _SigintLatch:
    """Counts interrupts in place of raising; the third raises KeyboardInterrupt."""

    def __init__(self, interrupted: Interrupted) -> None:
        self.count = 0
        self._interrupted = interrupted

    def __call__(self, _signal: int, _frame: FrameType | None) -> None:
        self.count += 1
        if self.count >= 3:
            raise KeyboardInterrupt
        self._interrupted(self.count)


@contextmanager
def counting_sigint(interrupted: Interrupted) -> Iterator[_SigintLatch]:
    """Count SIGINT for the time of the block, where that is possible: in the main thread."""
    latch = _SigintLatch(interrupted)
    if threading.current_thread() is not threading.main_thread():
        yield latch
        return
    old = signal.signal(signal.SIGINT, latch)
    try:
        yield latch
    finally:
        signal.signal(signal.SIGINT, old)


class _SigintHold:
    """What SIGINT does in a block of `held_sigint`: counted while `holding`, else what it did before."""

    def __init__(self) -> None:
        self.holding = True
        """Whether an interrupt is kept back. Set it first of all when a wait has ended: an assignment is not
        interrupted, a call may be."""
        self.count = 0
        self.before: Callable[[int, FrameType | None], Any] | int | None = signal.default_int_handler

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.holding:
            self.count += 1
        elif callable(self.before):
            self.before(number, frame)

    def let_go(self) -> None:
        """Interrupts strike again from here on; one that was kept back does so now.

        Raises:
            KeyboardInterrupt: there was one.
        """
        self.holding = False
        if self.count:
            self.count = 0
            raise KeyboardInterrupt


@contextmanager
def held_sigint() -> Iterator[_SigintHold]:
    """Keep SIGINT back for the time of the block, so that what it makes is made and what it has is stored.

    Raises:
        KeyboardInterrupt: behind the block, if an interrupt was kept back and nothing else is raised.

    Example:
        >>> with held_sigint() as hold:
        ...     hold.count
        0
    """
    hold = _SigintHold()
    if threading.current_thread() is not threading.main_thread():
        yield hold
        return
    hold.before = signal.signal(signal.SIGINT, hold)
    try:
        yield hold
    finally:
        signal.signal(signal.SIGINT, hold.before)
    if hold.count:
        raise KeyboardInterrupt


class LoopThread:
    """One event loop on one daemon thread.

    Example:
        >>> portal = LoopThread()
        >>> async def answer():
        ...     return 42
        >>> portal.call(answer())
        42
        >>> portal.stop()
    """

    def __init__(self, name: str = "claude-pool") -> None:
        self._loop = asyncio.new_event_loop()
        self._unanswered = False
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), name=name, daemon=True)
        self._thread.start()
        started.wait()

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.call_soon(started.set)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Its event loop."""
        return self._loop

    @property
    def alive(self) -> bool:
        """False once its thread has ended."""
        return self._thread.is_alive() and not self._loop.is_closed()

    def _refuse_own_loop(self) -> None:
        if threading.current_thread() is self._thread:
            raise BlockingCall

    def call(self, coro: Coroutine[Any, Any, T], *, then_waits: bool = False) -> T:
        """Run a short coroutine to its end and return what it gives."""
        try:
            self._refuse_own_loop()
            if not self.alive:
                raise PoolClosed(_THREAD_ENDED)
        except PoolError:
            coro.close()
            raise
        with counting_sigint(lambda _count: None) as latch:  # from here on the work may be accepted
            future = asyncio.run_coroutine_threadsafe(coro, self._loop)
            self._block(future)
        if latch.count:
            self._unanswered = then_waits and not future.exception()
            if not self._unanswered:
                signal.raise_signal(signal.SIGINT)
        return future.result()

    def wait(self, future: cf.Future[T], interrupted: Interrupted) -> int:
        """Block until `future` is done, counting interrupts."""
        self._refuse_own_loop()
        earlier, self._unanswered = int(self._unanswered), False
        if earlier:
            self._post(interrupted, earlier)
        with counting_sigint(lambda count: self._post(interrupted, count + earlier)) as latch:
            self._block(future)
        return earlier + latch.count

    def _block(self, future: cf.Future[T]) -> None:
        while not future.done():
            cf.wait([future], timeout=POLL_S)
            if not self._thread.is_alive() and not future.done():
                raise PoolClosed(_THREAD_ENDED)

    def _post(self, interrupted: Interrupted, count: int) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(interrupted, count)

    def stop(self) -> None:
        """Cancel what still runs, end the loop and its thread. Safe to call twice."""
        if self._loop.is_closed() or not self._thread.is_alive():
            return

        async def end() -> None:
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            asyncio.get_running_loop().stop()

        self._loop.call_soon_threadsafe(lambda: asyncio.ensure_future(end()))
        if threading.current_thread() is not self._thread:
            self._thread.join(2.0)


class _PrivateLoop(asyncio.SelectorEventLoop):
    """A class of its own, because nest-asyncio patches the class of a loop, and so every other loop of that class."""


class InlineLoop:
    """A private loop in the calling thread, re-entrant by nest-asyncio: nothing runs between cells.

    Raises:
        ConfigError: on Python 3.14 and later, where nest-asyncio breaks anyio.
    """

    _loop: asyncio.AbstractEventLoop
    _unanswered: bool

    def __init__(self) -> None:
        if sys.version_info >= (3, 14):
            raise ConfigError(
                "driver='inline' does not work on Python 3.14, where nest-asyncio breaks anyio; use driver='thread'"
            )
        import nest_asyncio

        self._loop = _PrivateLoop()
        self._unanswered = False
        nest_asyncio.apply(self._loop)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Its event loop."""
        return self._loop

    @property
    def alive(self) -> bool:
        """False once it was stopped."""
        return not self._loop.is_closed()

    def call(self, coro: Coroutine[Any, Any, T], *, then_waits: bool = False) -> T:
        """Run a coroutine to its end in this thread."""
        with counting_sigint(lambda _count: None) as latch:
            result = self._loop.run_until_complete(coro)
        self._unanswered = bool(latch.count) and then_waits
        if latch.count and not then_waits:
            signal.raise_signal(signal.SIGINT)
        return result

    def wait(self, future: cf.Future[T], interrupted: Interrupted) -> int:
        """Run the loop until `future` is done, counting interrupts."""
        earlier, self._unanswered = int(self._unanswered), False

        async def until_done() -> None:
            wrapped = asyncio.wrap_future(future)
            while not wrapped.done():
                await asyncio.wait({wrapped}, timeout=POLL_S)

        if earlier:
            self._loop.call_soon(interrupted, earlier)
        with counting_sigint(lambda count: self._queue(interrupted, count + earlier)) as latch:
            self._loop.run_until_complete(until_done())
        return earlier + latch.count

    def _queue(self, interrupted: Interrupted, count: int) -> None:
        self._loop.call_soon(interrupted, count)

    def stop(self) -> None:
        """Cancel what still runs and close the loop. Safe to call twice."""
        if self._loop.is_closed():
            return

        async def end() -> None:
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self._loop.run_until_complete(end())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()


async def wait_elsewhere(future: cf.Future[T], post: Callable[[Interrupted, int], None], interrupted: Interrupted) -> T:
    """Await a future of the pool from another loop (the kernel's, in `await run`).

    The heartbeat is needed because ipykernel's SIGINT handler queues its cancellation from inside the signal handler,
    which does not wake a sleeping loop. The first two cancellations are handed to `interrupted`; whoever does so
    resolves the future, and the cancellation is then raised again.
    """
    wrapped = asyncio.wrap_future(future)
    count = 0
    while True:
        try:
            await asyncio.wait({wrapped}, timeout=POLL_S)
        except asyncio.CancelledError:
            count += 1
            if count >= 3:
                raise
            post(interrupted, count)
            continue
        if wrapped.done():
            if count:
                raise asyncio.CancelledError
            return wrapped.result()
