"""Sessions with a cassette in them: what is on the tape is played, what is not is asked of the session inside.

Invariants: a recording changes nothing of what the session inside does or says; a turn that somebody stopped, and one
that a key was refused for, is not recorded: it tells of the moment and not of the request. An answer that was played
costs what it did cost, in play money; among real money it costs nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace

from claude_pool_nb.errors import ResetFailed, SessionLost
from claude_pool_nb.records import CostBasis, Failure, FailureKind, TurnResult, Usage
from claude_pool_nb.resolved import ResolvedConfig
from claude_pool_nb.sessions.base import Session, SessionEvent, SessionInfo, TextDelta, Turn, TurnStarted
from claude_pool_nb.sessions.cassette import STARTS_OVER, Cassette
from claude_pool_nb.sessions.cassette_entry import Entry, cleaned
from claude_pool_nb.sessions.cassette_format import BEFORE, Request, clean
from claude_pool_nb.sessions.cassette_places import Found
from claude_pool_nb.sessions.cassette_silent import SilentSession
from claude_pool_nb.sessions.cassette_stream import StreamNotes, cost_so_far, played
from claude_pool_nb.sessions.classify import crashed, interrupted, null_byte, timed_out

_POINT = "tape-"
"""Begins the resume point of a conversation that is replayed; its history's hash follows."""


class CassetteSession:
    """A session with a cassette in it.

    Args:
        inner: The session that is asked what is not on the tape; a `SilentSession` where nobody is.
        cassette: The tape.
        free: True if what is played costs nothing: the pool's money is real.
        clock: Seconds, for what is recorded.

    Example:
        >>> import tempfile
        >>> from claude_pool_nb.sessions.demo import DemoBackend
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     cassette = Cassette(f"{folder}/tape.ndjson", "all", backend="demo")
        ...     isinstance(CassetteSession(DemoBackend().session("s1"), cassette), Session)
        ...     cassette.close()
        True
    """

    def __init__(
        self,
        inner: Session,
        cassette: Cassette,
        *,
        free: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.inner = inner
        self._tape = cassette
        self._free = free
        self._clock = clock
        self._history = ""
        self._stop = asyncio.Event()
        self._playing = False
        self._asking = False
        self._stopped = False
        self._closed = False

    # -- what it is ----------------------------------------------------------------------------------------------------

    @property
    def info(self) -> SessionInfo:
        """That of the session inside; a replay's conversation is resumed by its history alone."""
        info = self.inner.info
        if self.is_silent and self._history:
            return replace(info, resume_point=_POINT + self._history)
        return info

    @property
    def is_silent(self) -> bool:
        """True if no model is behind it."""
        inner = self.inner
        return inner.is_silent if isinstance(inner, CassetteSession) else isinstance(inner, SilentSession)

    @property
    def launch_key(self) -> str:
        """The options it was opened with."""
        return self.inner.launch_key

    @property
    def broken(self) -> bool:
        """True if it cannot be used again."""
        return self.inner.broken

    @property
    def needs_recycling(self) -> bool:
        """That of the session inside."""
        return self.inner.needs_recycling

    # -- life ----------------------------------------------------------------------------------------------------------

    async def open(self, options: ResolvedConfig) -> None:
        """Start it with these options.

        Raises:
            SessionError: it could not be opened.
        """
        await self.inner.open(options)
        self.adopt(options)

    def adopt(self, options: ResolvedConfig) -> None:
        """Know from the options where the conversation stands."""
        if options.resume_session_id is not None:
            point = options.resume_at or ""
            known = point.removeprefix(_POINT) if point.startswith(_POINT) else None
            self._history = (
                known or self._tape.history_of(options.conversation and clean(options.conversation)) or BEFORE
            )

    def has_begun(self) -> None:
        """The session inside has said things that are not on the tape."""
        self._history = BEFORE

    async def reset(self) -> None:
        """Forget the conversation.

        Raises:
            ResetFailed: it did not confirm, or a turn is running.
            SessionLost: it is gone.
        """
        if self._playing:
            raise ResetFailed("an answer is being played")
        await self.inner.reset()
        self._history = ""

    async def interrupt(self) -> None:
        """Stop the running turn. Does nothing when idle."""
        self._stopped = self._asking
        if self._playing:
            self._stop.set()
        else:
            await self.inner.interrupt()

    async def close(self, *, kill: bool = False) -> None:
        """End it; a running turn ends too."""
        self._closed = True
        self._stopped = self._asking
        self._stop.set()
        await self.inner.close(kill=kill)

    # -- turns ---------------------------------------------------------------------------------------------------------

    async def ask(self, turn: Turn) -> AsyncIterator[SessionEvent]:
        """Play or ask, and yield what happens, ending with one TurnResult.

        Raises:
            SessionLost: the session is not open.
        """
        if self._closed or not self.inner.launch_key:
            raise SessionLost("the session is not open; its slot opens a new one")
        if "\x00" in turn.prompt:
            yield TurnResult(failure=null_byte(), session_id=self.inner.info.session_id)
            return
        request = Request.of(turn, self._history)
        found = self._tape.find(request, turn.task_id) if self._tape.plays else None
        self._stopped, self._asking = False, True
        try:
            if found is not None:
                async with aclosing(self._play(found)) as events:
                    async for event in events:
                        yield event
            elif not self._tape.records:
                failure = self._tape.not_found(request)
                yield TurnResult(failure=failure, session_id=self.inner.info.session_id)
            elif self._history in self._tape.unseen:
                yield TurnResult(failure=_UNSEEN, session_id=self.inner.info.session_id)
            else:
                async with aclosing(self._record(turn, request)) as events:
                    async for event in events:
                        yield event
        finally:
            self._asking = False

    async def _record(self, turn: Turn, request: Request) -> AsyncGenerator[SessionEvent, None]:
        """Ask the session inside, and take down what it says."""
        begun = heard = self._clock()
        notes = StreamNotes()
        async with aclosing(_generator(self.inner.ask(turn))) as events:
            async for event in events:
                now = self._clock()
                if isinstance(event, TurnResult):
                    answer = self._as_answered(event, turn.options, now - begun, now - heard)
                    trouble = self._tape.trouble
                    if answer is not None:
                        self._note(request, turn, answer, notes)
                    if self._tape.trouble and not trouble:
                        event = replace(event, warnings=(*event.warnings, self._tape.trouble))  # noqa: PLW2901
                else:
                    heard = now
                    notes.take(now - begun, event)
                yield event

    def _note(self, request: Request, turn: Turn, answer: TurnResult, notes: StreamNotes) -> None:
        """Put an answer on the tape."""
        answer = cleaned(answer)
        name = turn.options.conversation
        entry = Entry(request, answer, notes.written(answer), conversation=None if name is None else clean(name))
        self._tape.note(entry, turn.task_id)
        self._history = entry.then

    def _as_answered(
        self, result: TurnResult, options: ResolvedConfig, took_s: float, silent_s: float
    ) -> TurnResult | None:
        """A result as it is recorded; None if it tells of something else than the request."""
        failure = result.failure
        if failure is None or not self._stopped:
            return None if failure is not None and failure.kind is FailureKind.AUTH else result
        # Whoever drives the session does not say why it is stopped; its own clocks are the same as ours.
        for why, limit_s, waited_s in (
            ("wall_timeout", options.timeout_s, took_s),
            ("idle_timeout", options.idle_timeout_s, silent_s),
        ):
            if limit_s is not None and waited_s >= limit_s:
                return replace(result, failure=timed_out(why, options))
        return None

    async def _play(self, found: Found) -> AsyncGenerator[SessionEvent, None]:
        """Say what the tape says; in its time if it is asked to be real."""
        entry, answer = found.entry, found.entry.answer
        real = self._tape.speed == "real"
        begun, said, spent = time.monotonic(), "", TurnStarted(Usage(), 0)
        self._stop.clear()
        self._playing = True
        try:
            for at_s, event in played(entry):
                if real:
                    await self._until(begun + at_s)
                if self._stop.is_set():
                    break
                if isinstance(event, TurnStarted):
                    event = spent = replace(event, cost_nano=self._cost(event.cost_nano))  # noqa: PLW2901
                elif isinstance(event, TextDelta):
                    said += event.text
                yield event
            if real:
                await self._until(begun + answer.duration_s)
            if self._stop.is_set():
                yield self._stopped_result(answer, said, spent, time.monotonic() - begun)
                return
        finally:
            self._playing = False
        self._tape.was_played(found)
        if answer.failure is None:
            self._history = entry.then
            if not self.is_silent:
                self._tape.unseen.add(entry.then)
        yield self._played_result(answer, found, real=real)

    def _played_result(self, answer: TurnResult, found: Found, *, real: bool) -> TurnResult:
        """The tape's answer, as this session's."""
        failure = answer.failure
        if failure is not None and not real:
            failure = replace(failure, retry_after_s=0.0)  # who replays at once does not wait to be tried again either
        return replace(
            answer,
            failure=failure,
            session_id=self.inner.info.session_id,
            cost_nano=self._cost(answer.cost_nano),
            warnings=(*answer.warnings, *((STARTS_OVER,) if found.starts_over else ())),
        )

    def _stopped_result(self, answer: TurnResult, said: str, spent: TurnStarted, took_s: float) -> TurnResult:
        """What there is of an answer that was not played to its end."""
        whole = max(len(answer.output), 1)
        usage = replace(spent.usage, output_tokens=answer.usage.output_tokens * min(len(said), whole) // whole)
        return TurnResult(
            output=said,
            failure=crashed(None, "") if self._closed else interrupted(),
            cost_nano=self._cost(cost_so_far(answer, usage)) if spent.model or said else 0,
            cost_basis=CostBasis.ESTIMATED,
            usage=usage,
            model=answer.model,
            session_id=self.inner.info.session_id,
            duration_s=took_s,
        )

    def _cost(self, cost_nano: int) -> int:
        """What a played answer costs."""
        return 0 if self._free else cost_nano

    async def _until(self, at: float) -> None:
        """Wait for an instant, or until the turn is stopped."""
        left_s = at - time.monotonic()
        if left_s > 0 and not self._stop.is_set():
            try:
                async with asyncio.timeout(left_s):
                    await self._stop.wait()
            except TimeoutError:
                return


_UNSEEN = Failure(
    FailureKind.REQUEST,
    "not_on_tape",
    "Not on the tape, and what the conversation said before was played from it: no model has seen that. Record the "
    "whole conversation, with mode='all'.",
)


async def _generator(events: AsyncIterator[SessionEvent]) -> AsyncGenerator[SessionEvent, None]:
    """Any iterator of events as a generator, which can be closed."""
    try:
        async for event in events:
            yield event
    finally:
        close = getattr(events, "aclose", None)
        if close is not None:
            await close()
