"""What every session must do: checks that run against the real CLI, the demo, a replay, and a session of yours.

A `SessionHarness` says how to make a session and how to bring it into the situations that the checks are about. Each
check takes a harness and raises AssertionError if the session breaks the protocol of `sessions.base`.

Invariant: no check knows what kind of session it is given; what a harness cannot do it says with None.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from claude_pool_nb.config import ResolvedConfig
from claude_pool_nb.errors import SessionError, SessionLost
from claude_pool_nb.records import FailureKind, TurnResult
from claude_pool_nb.sessions.base import Session, SessionEvent, TextDelta, Turn, TurnStarted


class SessionHarness(ABC):
    """How to make a session, and how to get it into trouble.

    The input tokens that its turns report must grow with what was sent, the history included.
    """

    options: ResolvedConfig
    """What sessions are opened with."""
    prompt: str = "Say hello."
    """Is answered at once."""
    failing_prompt: str = "Fail."
    """Is refused by the model's side (failure kind request), every time."""
    slow_prompt: str = "Take your time."
    """Its answer has several pieces; the last comes at least two seconds after the first."""
    silent_prompt: str = "Say nothing."
    """Nothing is answered to it for at least three seconds."""

    @abstractmethod
    def session(self) -> Session:
        """A session, not yet open."""

    @abstractmethod
    async def lose(self, session: Session) -> None:
        """Take away what the session lives on, as by kill -9."""

    def calm(self) -> None:  # noqa: B027  nothing to do where nothing is held
        """Let go of answers that are still held back."""

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Session]:
        """A session that is open, and closed at the end."""
        session = self.session()
        await session.open(self.options)
        try:
            yield session
        finally:
            await session.close(kill=True)

    def turn(self, prompt: str) -> Turn:
        """A turn of that prompt."""
        return Turn(prompt, self.options)


@dataclass(slots=True)
class Heard:
    """What a turn gave."""

    events: list[SessionEvent]

    @property
    def result(self) -> TurnResult:
        """Its end; there must be exactly one, and nothing after it."""
        results = [event for event in self.events if isinstance(event, TurnResult)]
        assert len(results) == 1, f"a turn ends with one TurnResult, not {len(results)}"
        assert self.events[-1] is results[0], "nothing comes after the TurnResult"
        return results[0]

    @property
    def text(self) -> str:
        """What was streamed."""
        return "".join(e.text for e in self.events if isinstance(e, TextDelta) and not e.thinking)


async def hear(
    session: Session, turn: Turn, on_event: Callable[[SessionEvent], Awaitable[None]] | None = None
) -> Heard:
    """Ask, and keep all that happens; `on_event` is called with each event."""
    heard = Heard([])
    async for event in session.ask(turn):
        heard.events.append(event)
        if on_event is not None:
            await on_event(event)
    return heard


async def check_one_result_last(harness: SessionHarness) -> None:
    """A turn streams its answer and ends with one result that has it all, with its price and usage."""
    async with harness.opened() as session:
        heard = await hear(session, harness.turn(harness.prompt))
        result = heard.result
        assert result.failure is None, result.failure
        assert result.output
        assert heard.text.strip() == result.output.strip(), "the stream and the result differ"
        assert any(isinstance(event, TurnStarted) for event in heard.events)
        assert result.usage.input_tokens > 0
        assert result.usage.output_tokens > 0
        assert result.cost_nano > 0
        assert result.model
        assert result.session_id == session.info.session_id
        assert not session.broken


async def check_launch_key(harness: SessionHarness) -> None:
    """The launch key is empty before `open` and that of the options after; a session is opened once."""
    session = harness.session()
    assert session.launch_key == ""
    async with harness.opened() as session:
        assert session.launch_key == harness.options.launch_key
        try:
            await session.open(harness.options)
        except SessionError:
            pass
        else:
            raise AssertionError("a session was opened twice")
        assert (await hear(session, harness.turn(harness.prompt))).result.failure is None, "the open session suffered"


async def check_reset_forgets(harness: SessionHarness) -> None:
    """Without a reset a turn carries the ones before; after it the same prompt sends as much as the first time."""
    async with harness.opened() as session:
        first = (await hear(session, harness.turn(harness.prompt))).result
        second = (await hear(session, harness.turn(harness.prompt))).result
        assert second.usage.input_tokens > first.usage.input_tokens, "the second turn did not carry the first"
        before = session.info.session_id
        await session.reset()
        third = (await hear(session, harness.turn(harness.prompt))).result
        assert third.usage.input_tokens == first.usage.input_tokens, "something of the turns before was sent"
        assert session.info.session_id != before, "a new conversation has a new session id"


async def check_costs_are_per_turn(harness: SessionHarness) -> None:
    """Every turn has its own cost, with resets between them and without."""
    async with harness.opened() as session:
        first = (await hear(session, harness.turn(harness.prompt))).result
        await session.reset()
        second = (await hear(session, harness.turn(harness.prompt))).result
        assert second.cost_nano == first.cost_nano
        third = (await hear(session, harness.turn(harness.prompt))).result
        assert third.cost_nano < 2 * first.cost_nano, "the cost of the turn before was counted again"


async def check_interrupt_keeps_what_was_said(harness: SessionHarness) -> None:
    """An interrupted turn ends at once, with what had been streamed; the session serves the next task."""
    async with harness.opened() as session:
        asked: list[float] = []

        async def stop(event: SessionEvent) -> None:
            if isinstance(event, TextDelta):
                asked.append(time.monotonic())
                await session.interrupt()

        heard = await hear(session, harness.turn(harness.slow_prompt), stop)
        assert asked, "nothing was streamed"
        assert time.monotonic() - asked[0] < 1, "the turn went on after the interrupt"
        assert heard.result.failure is not None
        assert heard.result.failure.error_type == "interrupted"
        assert heard.result.output.strip().startswith(heard.text.strip()[:20]), "the part that was streamed is lost"
        assert heard.result.cost_nano > 0, "the input was paid"
        harness.calm()
        assert not session.broken
        await session.reset()
        assert (await hear(session, harness.turn(harness.prompt))).result.failure is None


async def check_interrupt_before_the_first_word(harness: SessionHarness) -> None:
    """A turn that nobody answers ends with the interrupt too."""
    async with harness.opened() as session:
        running = asyncio.ensure_future(hear(session, harness.turn(harness.silent_prompt)))
        await asyncio.sleep(0.2)  # let the prompt be sent: there is nothing to wait for, by design
        assert not running.done()
        await session.interrupt()
        async with asyncio.timeout(2):
            heard = await running
        assert heard.result.failure is not None
        harness.calm()
        await session.reset()
        assert (await hear(session, harness.turn(harness.prompt))).result.failure is None


async def check_idle_interrupt_does_nothing(harness: SessionHarness) -> None:
    """An interrupt that comes too late changes nothing."""
    async with harness.opened() as session:
        await session.interrupt()
        assert (await hear(session, harness.turn(harness.prompt))).result.failure is None


async def check_failure_is_data(harness: SessionHarness) -> None:
    """A refused prompt is a result with its kind and a message; the session goes on, and the prompt is not kept."""
    async with harness.opened() as session:
        clean = (await hear(session, harness.turn(harness.prompt))).result
        await session.reset()
        failed = (await hear(session, harness.turn(harness.failing_prompt))).result
        assert failed.failure is not None
        assert failed.failure.kind is FailureKind.REQUEST, failed.failure
        assert failed.failure.message
        assert failed.failure.error_type
        assert not session.broken
        await session.reset()
        after = (await hear(session, harness.turn(harness.prompt))).result
        assert after.failure is None
        assert after.usage.input_tokens == clean.usage.input_tokens, "the failed prompt was sent along"


async def check_null_byte(harness: SessionHarness) -> None:
    """A prompt with a null byte is refused by name, and nothing is spent."""
    async with harness.opened() as session:
        result = (await hear(session, harness.turn("a\x00b"))).result
        assert result.failure is not None
        assert result.failure.error_type == "null_byte"
        assert result.failure.kind is FailureKind.REQUEST
        assert result.cost_nano == 0
        assert (await hear(session, harness.turn(harness.prompt))).result.failure is None


async def check_lost_in_mid_turn(harness: SessionHarness) -> None:
    """A session that is lost while it answers ends the turn as a crash, keeps what was said, and is broken."""
    async with harness.opened() as session:

        async def lose(event: SessionEvent) -> None:
            if isinstance(event, TextDelta):
                await harness.lose(session)

        async with asyncio.timeout(5):
            heard = await hear(session, harness.turn(harness.slow_prompt), lose)
        result = heard.result
        harness.calm()
        assert result.failure is not None
        assert result.failure.kind is FailureKind.CRASH, result.failure
        assert result.output, "the part that was streamed is lost"
        assert result.cost_nano > 0, "what was spent is not booked"
        assert session.broken
        try:
            await session.reset()
        except SessionLost:
            pass
        else:
            raise AssertionError("a lost session was reset")


async def check_close_ends_a_turn(harness: SessionHarness) -> None:
    """Closing in mid-turn ends the turn with a result, and returns in time."""
    async with harness.opened() as session:
        begun = asyncio.Event()

        async def note(event: SessionEvent) -> None:
            if isinstance(event, TextDelta):
                begun.set()

        running = asyncio.ensure_future(hear(session, harness.turn(harness.slow_prompt), note))
        await begun.wait()
        async with asyncio.timeout(2.5):
            await session.close(kill=True)
            heard = await running
        harness.calm()
        assert heard.result.failure is not None


async def check_close_is_final(harness: SessionHarness) -> None:
    """Close may be called again; a closed session refuses to be used."""
    async with harness.opened() as session:
        pid = session.info.pid
        async with asyncio.timeout(4):
            await session.close()
            await session.close()
            await session.close(kill=True)
        assert session.info.pid is None, f"it still names process {pid}"
        assert session.broken
        for use in (lambda: hear(session, harness.turn(harness.prompt)), session.reset):
            try:
                await use()
            except SessionLost:
                continue
            raise AssertionError("a closed session was used")


async def check_unopened_close(harness: SessionHarness) -> None:
    """A session that was never opened can be closed, and is not broken before."""
    session = harness.session()
    assert not session.broken
    await session.close()


async def check_abandoned_turn(harness: SessionHarness) -> None:
    """A caller that gives up in mid-turn can close the session at once, and another one works."""
    async with harness.opened() as session:
        try:
            async with asyncio.timeout(0.3):
                await hear(session, harness.turn(harness.silent_prompt))
        except TimeoutError:
            pass
        async with asyncio.timeout(2.5):
            await session.close(kill=True)
    harness.calm()
    async with harness.opened() as other:
        assert (await hear(other, harness.turn(harness.prompt))).result.failure is None


CHECKS: tuple[Callable[[SessionHarness], Awaitable[None]], ...] = (
    check_one_result_last,
    check_launch_key,
    check_reset_forgets,
    check_costs_are_per_turn,
    check_interrupt_keeps_what_was_said,
    check_interrupt_before_the_first_word,
    check_idle_interrupt_does_nothing,
    check_failure_is_data,
    check_null_byte,
    check_lost_in_mid_turn,
    check_close_ends_a_turn,
    check_close_is_final,
    check_unopened_close,
    check_abandoned_turn,
)
"""All of them, for `pytest.mark.parametrize`."""
