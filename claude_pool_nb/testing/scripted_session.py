"""Sessions whose every turn is written down beforehand: for tests of the engine and for benchmarks, with no process.

Example:
    >>> from claude_pool_nb import Pool
    >>> backend = ScriptedBackend(lambda turn: turn.prompt.upper(), cost_nano=1_100_000)
    >>> with Pool(slots=2, backend=backend, store=":memory:") as pool:
    ...     pool.run("hello").output
    'HELLO'
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace

from claude_pool_nb.config import ResolvedConfig
from claude_pool_nb.errors import SessionError, SessionLost
from claude_pool_nb.records import CostBasis, Failure, FailureKind, TurnResult, Usage
from claude_pool_nb.sessions.base import BackendInfo, SessionEvent, SessionInfo, TextDelta, Turn, TurnStarted

ROUNDED_UP_S = 0.0005
"""asyncio rounds a timer up to the next millisecond: without this a turn would take that much longer than it says."""

Answer = Callable[[Turn], "str | TurnResult | Failure | Exception"]
"""What a prompt gives: text, a whole result, a failure, or an exception that loses the session."""


def echo(turn: Turn) -> str:
    """The prompt itself."""
    return turn.prompt


class ScriptedSession:
    """A session that answers as its backend says."""

    def __init__(self, backend: ScriptedBackend, slot_id: str) -> None:
        self._backend = backend
        self._slot_id = slot_id
        self._options: ResolvedConfig | None = None
        self._broken = False
        self._woken: asyncio.Future[bool] | None = None
        self.turns = 0

    @property
    def info(self) -> SessionInfo:
        """There is no process."""
        return SessionInfo(session_id=f"{self._slot_id}-{id(self):x}")

    @property
    def launch_key(self) -> str:
        """The options it was opened with."""
        return self._options.launch_key if self._options is not None else ""

    @property
    def broken(self) -> bool:
        """True after a loss."""
        return self._broken

    @property
    def needs_recycling(self) -> bool:
        """Never."""
        return False

    async def open(self, options: ResolvedConfig) -> None:
        """Open, unless the backend says that it fails."""
        self._backend.opened += 1
        if self._backend.open_failures > 0:
            self._backend.open_failures -= 1
            raise SessionError("a scripted failure to open; it is tried again")
        self._options = options

    async def ask(self, turn: Turn) -> AsyncIterator[SessionEvent]:
        """Answer as scripted, after the scripted time."""
        if self._broken or self._options is None:
            raise SessionLost
        backend = self._backend
        backend.asked.append(turn)
        self.turns += 1
        if backend.spending_nano:
            yield TurnStarted(Usage(input_tokens=1), backend.spending_nano)
        if (backend.delay_s or backend.held is not None) and await self._stopped():
            yield TextDelta("par")
            yield TurnResult(output="par", failure=_INTERRUPTED, cost_nano=backend.cost_nano // 2, model="scripted")
            return
        given = backend.answer(turn)
        if isinstance(given, Exception):
            self._broken = True
            given = Failure(FailureKind.CRASH, "process_lost", str(given))
        if isinstance(given, Failure):
            yield TurnResult(failure=given, cost_basis=CostBasis.EXACT)
        elif isinstance(given, TurnResult):
            yield given
        else:
            yield TurnResult(output=given, cost_nano=backend.cost_nano, model="scripted", turns=1, usage=backend.usage)

    async def _stopped(self) -> bool:
        """Wait for the scripted time (or the gate); True if the turn was interrupted meanwhile."""
        woken: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._woken = woken
        if self._backend.held is None:  # a timer and nothing else: a turn is to take what it says and no more
            timer = asyncio.get_running_loop().call_later(self._backend.delay_s - ROUNDED_UP_S, self._wake, False)
            try:
                return await woken
            finally:
                timer.cancel()
        gate = asyncio.ensure_future(self._backend.held.wait())
        gate.add_done_callback(lambda _gate: self._wake(False))
        try:
            return await woken
        finally:
            gate.cancel()

    def _wake(self, interrupted: bool) -> None:
        """End the wait of the running turn."""
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(interrupted)

    async def reset(self) -> None:
        """Forget."""
        self._backend.resets += 1

    async def interrupt(self) -> None:
        """Stop the running turn, unless the backend is deaf."""
        if not self._backend.deaf:
            self._wake(True)

    async def close(self, *, kill: bool = False) -> None:
        """End it; a turn that still runs ends too."""
        self._broken = True
        self._wake(True)


_INTERRUPTED = Failure(FailureKind.TASK, "interrupted", "interrupted")


@dataclass
class ScriptedBackend:
    """Makes scripted sessions.

    Attributes:
        answer: What each turn gives.
        delay_s: Time per turn.
        cost_nano: Cost of each answer that is given as text.
    """

    answer: Answer = echo
    delay_s: float = 0.0
    cost_nano: int = 1_000_000
    usage: Usage = Usage(input_tokens=10, output_tokens=5)
    price_nano: int | None = None
    """What estimates say a turn costs; None for unknown."""
    spending_nano: int = 0
    """Reported as spent as soon as a turn begins."""
    deaf: bool = False
    """Interrupts do nothing: only a kill helps."""
    open_failures: int = 0
    """So many times opening fails."""
    held: asyncio.Event | None = None
    """A gate: turns wait until it is set."""
    info: BackendInfo = BackendInfo("scripted", play_money=True, notice="scripted answers, play money")
    asked: list[Turn] = field(default_factory=list)
    opened: int = 0
    resets: int = 0

    async def check(self, options: ResolvedConfig, slots: int) -> list[str]:
        """Nothing is needed."""
        return []

    def session(self, slot_id: str) -> ScriptedSession:
        """A session, not yet open."""
        return ScriptedSession(self, slot_id)

    def estimate_nano(self, model: str | None, usage: Usage) -> int | None:
        """The scripted price."""
        return self.price_nano

    async def close(self) -> None:
        """Nothing is held."""

    def named(self, name: str) -> ScriptedBackend:
        """The same under another name."""
        return replace(self, info=replace(self.info, name=name))
