"""Replaying and recording sessions keep the protocol of sessions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from claude_pool_nb.config import ResolvedConfig
from claude_pool_nb.records import Failure, FailureKind, TurnResult, Usage
from claude_pool_nb.sessions.base import Session, SessionEvent, TextDelta, Turn, TurnStarted
from claude_pool_nb.sessions.cassette import Cassette
from claude_pool_nb.sessions.cassette_backend import CassetteBackend
from claude_pool_nb.sessions.cassette_session import CassetteSession
from claude_pool_nb.sessions.cassette_silent import SilentSession
from claude_pool_nb.sessions.demo import DemoBackend
from claude_pool_nb.testing.conformance import CHECKS, SessionHarness
from tests.unit.sessions.test_demo_conformance import DemoHarness

OPTIONS = ResolvedConfig(model="haiku")


PIECES = {
    "Say hello.": ((0.1, "Hello "), (0.2, "there.")),
    "Take your time.": ((0.1, "slowly, "), (1.5, "more "), (3.0, "slowly")),
    "Say nothing.": ((9.0, "at last"),),
}


class Told(SilentSession):
    """A model whose answers take their time on a clock of its own."""

    def __init__(self) -> None:
        super().__init__("s1")
        self.now = 0.0
        self.sent = 0

    async def reset(self) -> None:
        """Forget."""
        await super().reset()
        self.sent = 0

    async def ask(self, turn: Turn) -> AsyncIterator[SessionEvent]:
        """Answer as above."""
        pieces = PIECES.get(turn.prompt)
        if pieces is None:
            yield TurnResult(failure=Failure(FailureKind.REQUEST, "http_400", "no"), model="m")
            return
        begun, self.sent = self.now, self.sent + len(turn.prompt)
        usage = Usage(input_tokens=self.sent)
        self.now = begun + pieces[0][0]
        yield TurnStarted(usage, self.sent, "m")
        for at, text in pieces:
            self.now = begun + at
            yield TextDelta(text)
        output = "".join(text for _, text in pieces)
        usage = replace(usage, output_tokens=2)
        yield TurnResult(output=output, cost_nano=100, usage=usage, turns=1, model="m", duration_s=pieces[-1][0])


@pytest.fixture
async def tape(tmp_path: Path) -> Path:
    """A tape of it: all prompts of the suite, and one of them a second time in a conversation."""
    path = tmp_path / "tape.ndjson"
    told = Told()
    cassette = Cassette(path, "all", backend="demo")
    session = CassetteSession(told, cassette, clock=lambda: told.now)
    await session.open(OPTIONS)
    for prompts in (["Say hello.", "Say hello."], ["Fail."], ["Take your time."], ["Say nothing."]):
        for prompt in prompts:
            async for _ in session.ask(Turn(prompt, OPTIONS)):
                pass
        await session.reset()
    cassette.close()
    return path


class ReplayHarness(SessionHarness):
    """Sessions that play the tape in the time that the answers took."""

    options = OPTIONS

    def __init__(self, tape: Path) -> None:
        self._backend = CassetteBackend.replaying(tape, speed="real")

    def session(self) -> Session:
        """A replaying session."""
        return self._backend.session("s1")

    async def lose(self, session: Session) -> None:
        """There is no process to kill: closing it is the nearest."""
        await session.close(kill=True)


class RecordingHarness(DemoHarness):
    """Sessions of the demo that are recorded."""

    def __init__(self, tape: Path) -> None:
        super().__init__()
        self._recording = CassetteBackend.recording(DemoBackend(), tape)

    def session(self) -> Session:
        """A recorded session."""
        return self._recording.session("s1")

    async def close(self) -> None:
        """Close the tape."""
        await self._recording.close()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_a_replay_conforms(check: Callable[[SessionHarness], Awaitable[None]], tape: Path) -> None:
    """The replaying session passes every check of the suite."""
    await check(ReplayHarness(tape))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_a_recording_conforms(check: Callable[[SessionHarness], Awaitable[None]], tmp_path: Path) -> None:
    """A session that is recorded passes what it passes when it is not."""
    harness = RecordingHarness(tmp_path / "tape.ndjson")
    try:
        await check(harness)
    finally:
        await harness.close()


async def test_what_somebody_stopped_is_not_on_the_tape(tmp_path: Path) -> None:
    """An interrupted turn tells of the moment; the same request is asked again."""
    backend = CassetteBackend.recording(DemoBackend(), tmp_path / "tape.ndjson")
    options = ResolvedConfig(demo_latency_s=5.0)
    session = backend.session("s1")
    await session.open(options)
    async for event in session.ask(Turn("Count the words: one two three four five six seven eight", options)):
        if not isinstance(event, TurnResult):
            await session.interrupt()
    await session.close()
    assert backend.cassette.recorded == 0
    await backend.close()
    assert not (tmp_path / "tape.ndjson").exists()


async def test_what_took_too_long_is_on_the_tape_as_that(tmp_path: Path) -> None:
    """A turn that its own timeout stopped fails the same way when it is played."""
    told = Told()
    path = tmp_path / "tape.ndjson"
    cassette = Cassette(path, "all", backend="demo")
    session = CassetteSession(told, cassette, clock=lambda: told.now)
    options = replace(OPTIONS, timeout_s=2.0)

    async def stopped(turn: Turn) -> AsyncIterator[SessionEvent]:
        yield TextDelta("slow")
        told.now += 2.0
        await session.interrupt()
        yield TurnResult(output="slow", failure=Failure(FailureKind.TASK, "interrupted", "stopped"))

    told.ask = stopped  # type: ignore[method-assign]
    await session.open(options)
    async for _ in session.ask(Turn("a saga", options)):
        pass
    cassette.close()
    replay = CassetteBackend.replaying(path).session("s1")
    await replay.open(options)
    result = [event async for event in replay.ask(Turn("a saga", options))][-1]
    assert isinstance(result, TurnResult)
    assert result.failure is not None
    assert (result.failure.kind, result.failure.error_type) == (FailureKind.TIMEOUT, "wall_timeout")
    assert result.output == "slow"


async def test_a_refused_key_is_not_on_the_tape(tmp_path: Path) -> None:
    """It tells of the account."""
    backend = CassetteBackend.recording(DemoBackend(latency_s=0), tmp_path / "tape.ndjson")
    session = backend.session("s1")
    await session.open(OPTIONS)
    for wanted in ("auth", None):
        result = [event async for event in session.ask(Turn("[demo:auth] a poem", OPTIONS, task_id="r1.1"))][-1]
        assert isinstance(result, TurnResult)
        assert (result.failure.kind.value if result.failure else None) == wanted
    await backend.close()
    assert len(Cassette(tmp_path / "tape.ndjson")) == 1
