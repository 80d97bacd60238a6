"""The demo session: offline, deterministic, priced in play money; the pool behaves on it as on the real thing.

Invariants: no process, no network, no file. With `demo_latency_s=0` a turn takes no time at all. Answers depend on the
prompt, the model, the sample and (in a conversation) the history, never on the slot. A failed or stopped turn does not
stay in the history. A long system prompt is written to a made-up prompt cache once its answer begins, and read from
it by later turns, at the prices of such. Prompts can make things go wrong on purpose: see `demo_model.MARKERS`.
"""

from __future__ import annotations

import asyncio
import json
import math
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Final

from claude_pool_nb.errors import ResetFailed, SessionError, SessionLost
from claude_pool_nb.model_names import validate_model
from claude_pool_nb.pricing import cost_nano, demo_model, estimate_tokens
from claude_pool_nb.records import CostBasis, Denial, Failure, FailureKind, TurnResult, Usage
from claude_pool_nb.resolved import ResolvedConfig
from claude_pool_nb.sessions.base import (
    BackendInfo,
    SessionEvent,
    SessionInfo,
    TextDelta,
    ToolStarted,
    Turn,
    TurnStarted,
)
from claude_pool_nb.sessions.demo_model import Answer, Exchange, answer, markers

NOTICE: Final = "This is a demo: the answers are made up, offline, and the dollars are play money."

_CACHEABLE_TOKENS: Final = 1_024
"""The smallest system prompt that the made-up prompt cache keeps, as with most real models."""
_CACHED_S: Final = 300.0
_OVERHEAD_TOKENS: Final = 20
_CHUNK_WORDS: Final = 4
_MAX_LATENCY_S: Final = 0.4
_MIN_LATENCY_S: Final = 0.05


@dataclass(slots=True)
class _Shared:
    """What the sessions of one backend know together."""

    latency_s: float | None
    token: str = field(default_factory=lambda: secrets.token_hex(3))
    tried: set[tuple[str, str, int]] = field(default_factory=set)
    """What has gone wrong once, on purpose, and now works."""
    histories: dict[str, list[Exchange]] = field(default_factory=dict)
    """Conversations by session id: they can go on in another slot."""
    cached: dict[tuple[str, str, str, str | None], float] = field(default_factory=dict)
    """Long prefixes whose answer has begun, and when they were last read: the prompt cache."""


class DemoBackend:
    """Makes demo sessions.

    Args:
        latency_s: Time per answer where the task's options say nothing; None for 0.05 to 0.4 s by content, 0 for none.

    Example:
        >>> DemoBackend(latency_s=0).info.play_money
        True
    """

    def __init__(self, latency_s: float | None = None) -> None:
        self._shared = _Shared(latency_s)

    @property
    def info(self) -> BackendInfo:
        """What it is."""
        return BackendInfo(name="demo", play_money=True, notice=NOTICE, prices="demo")

    async def check(self, options: ResolvedConfig, slots: int) -> list[str]:
        """Verify that the model's name is one; everything else is always there.

        Raises:
            UnknownModel: there is no such model, not on a real account either.
        """
        for name in (options.model, options.fallback_model):
            if name is not None:
                validate_model(name, backend="demo")
        return []

    def session(self, slot_id: str) -> DemoSession:
        """A session, not yet open."""
        return DemoSession(slot_id, self._shared)

    def estimate_nano(self, model: str | None, usage: Usage) -> int | None:
        """What that usage costs in play money."""
        return cost_nano(model, usage, backend="demo")

    async def close(self) -> None:
        """Forget the conversations."""
        self._shared.histories.clear()


class DemoSession:
    """A conversation partner who is made up.

    Example:
        >>> import asyncio
        >>> async def talk():
        ...     session = DemoBackend(latency_s=0).session("s1")
        ...     await session.open(ResolvedConfig())
        ...     return [event async for event in session.ask(Turn("ping", ResolvedConfig()))][-1].output
        >>> asyncio.run(talk())
        'pong'
    """

    def __init__(self, slot_id: str, shared: _Shared) -> None:
        self._slot_id = slot_id
        self._shared = shared
        self._options: ResolvedConfig | None = None
        self._launch_key = ""
        self._model = "demo-small"
        self._number = 0
        self._session_id: str | None = None
        self._history: list[Exchange] = []
        self._broken = False
        self._stop = asyncio.Event()
        self._asking = False
        self._tasks = 0
        self._warning: str | None = None

    @property
    def info(self) -> SessionInfo:
        """Session id and model; there is no process."""
        return SessionInfo(session_id=self._session_id, model=self._model if self._options else None)

    @property
    def launch_key(self) -> str:
        """The options it was opened with; empty before `open`."""
        return self._launch_key

    @property
    def broken(self) -> bool:
        """True if it was lost (on purpose) or closed."""
        return self._broken

    @property
    def needs_recycling(self) -> bool:
        """True after max_tasks_per_process tasks, as on the real thing."""
        limit = self._options.max_tasks_per_process if self._options else None
        return limit is not None and self._tasks >= limit

    async def open(self, options: ResolvedConfig) -> None:
        """Start it with these options.

        Raises:
            SessionError: it is open already, or closed.
        """
        if self._options is not None or self._broken:
            raise SessionError(f"the demo session of slot {self._slot_id} cannot be opened twice; make a new one")
        self._options = options
        self._launch_key = options.launch_key
        self._model = demo_model(options.model)
        if options.resume_session_id is None:
            self._begin()
            return
        self._session_id = options.resume_session_id
        known = self._shared.histories.get(self._session_id)
        if known is None:
            self._warning = "The demo keeps conversations in memory only: what an earlier kernel said is forgotten."
        self._history = self._shared.histories.setdefault(self._session_id, [])

    def _begin(self) -> None:
        """A new conversation, of which nothing is known."""
        self._number += 1
        self._session_id = f"demo-{self._shared.token}-{self._slot_id}-{self._number}"
        self._history = []
        if self._options is not None and self._options.conversation is not None:
            self._shared.histories[self._session_id] = self._history

    async def reset(self) -> None:
        """Forget the conversation.

        Raises:
            SessionLost: the session was lost or closed.
            ResetFailed: a turn is running.
        """
        if self._broken or self._options is None:
            raise SessionLost(f"the demo session of slot {self._slot_id} is not open")
        if self._asking:
            raise ResetFailed(f"the demo session of slot {self._slot_id} is in mid-turn")
        self._begin()

    async def interrupt(self) -> None:
        """Stop the running turn; it keeps what it has said. Does nothing when idle."""
        if self._asking:
            self._stop.set()

    async def close(self, *, kill: bool = False) -> None:
        """End it; a running turn ends too."""
        self._broken = True
        self._stop.set()

    async def ask(self, turn: Turn) -> AsyncIterator[SessionEvent]:
        """Send a prompt and yield what happens, ending with one TurnResult.

        Raises:
            SessionLost: the session is not open.
        """
        if self._broken or self._options is None:
            raise SessionLost(f"the demo session of slot {self._slot_id} is not open")
        self._stop.clear()
        self._asking = True
        self._tasks += 1
        self._model = demo_model(turn.options.model)
        began = time.perf_counter()
        usage, said, started = self._input_usage(turn), "", False
        try:
            marked = markers(turn.prompt)
            refused = self._refusal(turn, marked)
            if refused is not None:
                await self._pause(self._latency_s(turn, marked) / 4)
                if refused.kind is FailureKind.CRASH:
                    self._broken = True
                yield self._result("", refused, Usage(), began)
                return
            found = answer(
                turn.prompt, model=self._model, history=self._history, schema=turn.options.schema, sample=turn.sample
            )
            latency_s = self._latency_s(turn, marked)
            await self._pause(None if "hang" in marked else latency_s * 0.3)
            if not self._stop.is_set():
                started = True
                self._keep_prefix(turn, usage)
                yield TurnStarted(usage, self._cost(usage), self._model)
                if "deny" in marked:
                    yield ToolStarted("Write", '{"file_path": "notes.txt"}')
                text, cut = _cut(found.text, turn.options.max_output_tokens)
                async for piece in self._spoken(text, latency_s * 0.7):
                    said += piece
                    yield TextDelta(piece)
                usage = replace(usage, output_tokens=estimate_tokens(said))
                if said == text and not self._stop.is_set():
                    yield self._done(turn, found, text, cut, usage, began, denied="deny" in marked)
                    return
            stopped = Failure(
                FailureKind.CRASH if self._broken else FailureKind.TASK,
                "process_lost" if self._broken else "interrupted",
                "The turn was stopped; `%pool resume` or `%pool retry` runs it again.",
            )
            yield self._result(said, stopped, usage if started else Usage(), began)
        finally:
            self._asking = False

    def _done(
        self, turn: Turn, found: Answer, text: str, cut: bool, usage: Usage, began: float, *, denied: bool
    ) -> TurnResult:
        """The result of a turn that ran to its end; it becomes part of the conversation."""
        failure = None
        if found.broken or (cut and found.structured is not None):
            failure = Failure(
                FailureKind.TASK,
                "schema",
                "The answer does not fit the schema; the demo's small model does that now and then: try demo-large."
                if found.broken
                else "The answer was cut at max_output_tokens and does not fit the schema; raise max_output_tokens.",
            )
        else:
            self._history.append(Exchange(turn.prompt, text))
        result = self._result(text, failure, usage, began)
        return replace(
            result,
            structured=None if failure else found.structured,
            denials=(Denial("Write", json.dumps({"file_path": "notes.txt"})),) if denied else (),
            warnings=(*result.warnings, *(("The answer was cut at max_output_tokens.",) if cut else ())),
        )

    def _result(self, text: str, failure: Failure | None, usage: Usage, began: float) -> TurnResult:
        """A result with what it cost."""
        elapsed_s = time.perf_counter() - began
        warnings = (self._warning,) if self._warning else ()
        self._warning = None
        return TurnResult(
            output=text,
            failure=failure,
            cost_nano=self._cost(usage),
            cost_basis=CostBasis.EXACT,
            usage=usage,
            turns=1,
            model=self._model,
            session_id=self._session_id,
            duration_s=elapsed_s,
            api_s=elapsed_s,
            warnings=warnings,
        )

    def _cost(self, usage: Usage) -> int:
        """Play money."""
        return cost_nano(self._model, usage, backend="demo") or 0

    def _input_usage(self, turn: Turn) -> Usage:
        """What the turn sends: system prompt, history, prompt."""
        options = turn.options
        tokens = _OVERHEAD_TOKENS + estimate_tokens(turn.prompt)
        system = estimate_tokens(options.system_prompt) + estimate_tokens(options.appended_prompt)
        prefix = system + estimate_tokens(options.schema or "")
        for exchange in self._history:
            tokens += estimate_tokens(exchange.prompt) + estimate_tokens(exchange.answer)
        if system < _CACHEABLE_TOKENS:
            return Usage(input_tokens=tokens + prefix)
        if time.monotonic() - self._shared.cached.get(self._prefix(turn), -math.inf) < _CACHED_S:
            return Usage(input_tokens=tokens, cache_read_tokens=prefix)
        return Usage(input_tokens=tokens, cache_write_tokens=prefix)

    def _prefix(self, turn: Turn) -> tuple[str, str, str, str | None]:
        """What names the part of a request that others share."""
        options = turn.options
        return self._model, options.system_prompt, options.appended_prompt, options.schema

    def _keep_prefix(self, turn: Turn, usage: Usage) -> None:
        """Once an answer begins, its long prefix can be read from the cache."""
        if usage.cache_read_tokens or usage.cache_write_tokens:
            self._shared.cached[self._prefix(turn)] = time.monotonic()

    def _latency_s(self, turn: Turn, marked: dict[str, float | None]) -> float:
        """How long the answer takes."""
        if "slow" in marked:
            return 3.0 if marked["slow"] is None else marked["slow"]
        latency_s = turn.options.demo_latency_s
        if latency_s is None:
            latency_s = self._shared.latency_s
        if latency_s is None:
            share = (len(turn.prompt) * 7919 + turn.sample * 104_729 + sum(turn.prompt.encode()[:64])) % 1000 / 1000
            latency_s = _MIN_LATENCY_S + (_MAX_LATENCY_S - _MIN_LATENCY_S) * share
        return latency_s

    async def _pause(self, seconds: float | None) -> None:
        """Wait, or until the turn is stopped; None waits for that alone."""
        if seconds is None:
            await self._stop.wait()
        elif seconds > 0:
            try:
                async with asyncio.timeout(seconds):
                    await self._stop.wait()
            except TimeoutError:
                return

    async def _spoken(self, text: str, over_s: float) -> AsyncIterator[str]:
        """The text in pieces, over some time; it ends early when the turn is stopped."""
        if over_s <= 0:
            if text and not self._stop.is_set():
                yield text
            return
        pieces = _pieces(text)
        for piece in pieces:
            await self._pause(over_s / len(pieces))
            if self._stop.is_set():
                return
            yield piece

    def _refusal(self, turn: Turn, marked: dict[str, float | None]) -> Failure | None:
        """What a prompt's markers make go wrong."""
        if "\x00" in turn.prompt:
            return Failure(FailureKind.REQUEST, "null_byte", "The prompt has a null byte; take it out.")
        if "fail" in marked:
            return Failure(
                FailureKind.REQUEST, "http_400", "The prompt asked the demo to fail with [demo:fail].", http_status=400
            )
        for name, failure in _ONCE.items():
            if name in marked:
                key = (name, turn.prompt, turn.sample)
                if key not in self._shared.tried:
                    self._shared.tried.add(key)
                    return failure
        return None


_ONCE: Final = {
    "flaky": Failure(FailureKind.TRANSPORT, "http_503", "The demo fails once with [demo:flaky].", http_status=503),
    "limit": Failure(
        FailureKind.LIMIT,
        "http_429",
        "The demo meets a limit once with [demo:limit].",
        retry_after_s=0.2,
        http_status=429,
    ),
    "crash": Failure(FailureKind.CRASH, "process_killed", "The demo loses its session once with [demo:crash]."),
    "auth": Failure(
        FailureKind.AUTH,
        "http_401",
        "The demo refuses its key once with [demo:auth]; `%pool unpause` goes on.",
        http_status=401,
    ),
}


def _pieces(text: str) -> list[str]:
    """A text in pieces of a few words, nothing lost."""
    pieces, start = [], 0
    for count, at in enumerate((i for i, char in enumerate(text) if char.isspace()), 1):
        if count % _CHUNK_WORDS == 0:
            pieces.append(text[start : at + 1])
            start = at + 1
    pieces.append(text[start:])
    return [piece for piece in pieces if piece] or [""]


def _cut(text: str, max_output_tokens: int | None) -> tuple[str, bool]:
    """As much of a text as it may have tokens, and whether that is less than all."""
    if max_output_tokens is None or estimate_tokens(text) <= max_output_tokens:
        return text, False
    return text[: 4 * max_output_tokens], True
