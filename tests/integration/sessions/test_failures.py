"""What bad luck with the API looks like from a session, on the real CLI."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest

from claude_pool_nb.config import PermissionMode, ResolvedConfig
from claude_pool_nb.errors import CLINotFound, ConfigError, MissingCredentials, SessionError, UnknownModel
from claude_pool_nb.records import CostBasis, FailureKind, TurnResult
from claude_pool_nb.sessions.base import Session, Turn, TurnStarted
from claude_pool_nb.sessions.claude_backend import ClaudeBackend
from claude_pool_nb.testing import Reply, ScriptedAPI
from claude_pool_nb.testing.conformance import hear
from tests.integration.sessions.conftest import OPTIONS
from tests.waiting import promptly

pytestmark = pytest.mark.cli


async def ask(session: Session, prompt: str = "hello", options: ResolvedConfig = OPTIONS) -> TurnResult:
    """One turn's result."""
    return (await hear(session, Turn(prompt, options))).result


@pytest.mark.parametrize(
    ("status", "kind", "error_type", "says"),
    [
        (400, FailureKind.REQUEST, "http_400", "change"),
        (401, FailureKind.AUTH, "http_401", "ANTHROPIC_API_KEY"),
        (403, FailureKind.AUTH, "http_403", "%pool unpause"),
        (404, FailureKind.REQUEST, "unknown_model", "alias"),
        (413, FailureKind.REQUEST, "http_413", "shorten"),
        (429, FailureKind.LIMIT, "http_429", "limit"),
        (500, FailureKind.TRANSPORT, "http_500", "in trouble"),
        (503, FailureKind.TRANSPORT, "http_503", "in trouble"),
        (529, FailureKind.LIMIT, "http_529", "overloaded"),
    ],
)
async def test_http_failures(
    session: Session, api: ScriptedAPI, status: int, kind: FailureKind, error_type: str, says: str
) -> None:
    """Each status becomes its failure without the CLI's own retries, costs nothing, and leaves the session in use."""
    api.fail(status=status, times=None)
    with promptly():
        result = await ask(session)
    assert result.failure is not None
    assert (result.failure.kind, result.failure.error_type) == (kind, error_type)
    assert result.failure.http_status == status
    assert says in result.failure.message
    assert "\n" not in result.failure.message
    assert result.cost_nano == 0
    if status not in {400, 404, 413}:  # those the CLI adapts and sends again by itself
        assert len(api.requests) == 1, "the pool does the retries, not the CLI"
    api.recover()
    api.reply("fine")
    assert not session.broken
    await session.reset()
    assert (await ask(session)).output == "fine"
    assert "hello" not in str(api.requests[-1].messages[:-1]), "the failed prompt was kept"


@pytest.mark.parametrize("retry_after_s", [3, 120])
async def test_rate_limit_says_how_long(session: Session, api: ScriptedAPI, retry_after_s: int) -> None:
    """The wait the API asked for is known, or known to be long."""
    api.fail(status=429, times=None, retry_after_s=retry_after_s)
    with promptly():
        result = await ask(session)
    assert result.failure is not None
    assert result.failure.retry_after_s is not None
    low, high = (3, 4) if retry_after_s == 3 else (60, 60)
    assert low <= result.failure.retry_after_s <= high


async def test_plain_rate_limit_names_no_wait(session: Session, api: ScriptedAPI) -> None:
    """Without a retry-after there is no wait to report: the pool's own back-off holds."""
    api.fail(status=429, times=None)
    failure = (await ask(session)).failure
    assert failure is not None
    assert failure.retry_after_s is None


async def test_refused_connection(session: Session, api: ScriptedAPI) -> None:
    """An API that is not there is a transport failure, within a few seconds; when it is back the session works."""
    api.stop()
    with promptly():
        result = await ask(session)
    assert result.failure is not None
    assert (result.failure.kind, result.failure.error_type) == (FailureKind.TRANSPORT, "connection")
    assert result.failure.http_status is None
    api.start()
    await session.reset()
    assert (await ask(session)).failure is None


@pytest.mark.parametrize(
    "broken",
    [
        Reply("one two three four", chunk_chars=4, cut_after_chunks=2),
        Reply("one two three four", chunk_chars=4, eof_after_chunks=2),
        Reply("one two three four", chunk_chars=4, malformed=True),
        Reply("one two three four", chunk_chars=4, stream_error="overloaded_error"),
    ],
    ids=["cut", "eof", "malformed", "error event"],
)
async def test_a_stream_the_cli_mends_is_a_success(session: Session, api: ScriptedAPI, broken: Reply) -> None:
    """A stream that breaks and is asked for again is an answer; all that was billed is in its cost."""
    api.script(broken)
    api.reply("mended")
    result = await ask(session)
    assert result.failure is None
    assert result.output == "mended"
    assert len(api.requests) >= 2
    assert result.cost_nano >= 1_100_000, "the answer at least was paid"
    assert result.cost_basis is CostBasis.ESTIMATED, "what broke off was paid too, and counted by nobody"
    await session.reset()
    assert (await ask(session)).cost_basis is CostBasis.EXACT


async def test_html_is_a_failure(session: Session, api: ScriptedAPI) -> None:
    """A proxy's page instead of a message is a transport failure."""
    api.reply(Reply(html=True))
    failure = (await ask(session)).failure
    assert failure is not None
    assert failure.kind is FailureKind.TRANSPORT


async def test_unknown_model_keeps_the_session(session: Session, api: ScriptedAPI) -> None:
    """A model that the API does not have fails the task that names it; the next task has its own model."""
    api.models = {"claude-haiku-4-5"}
    result = await ask(session, options=replace(OPTIONS, model="claude-nothing-9"))
    assert result.failure is not None
    assert (result.failure.kind, result.failure.error_type) == (FailureKind.REQUEST, "unknown_model")
    assert (await ask(session)).failure is None
    assert api.requests[-1].model == "claude-haiku-4-5"


async def test_model_and_mode_are_applied_for_every_task(session: Session, api: ScriptedAPI) -> None:
    """A task's model holds for that task alone; a trial of a full id that the CLI sends unasked is booked too."""
    trials = 0
    for model in ("claude-sonnet-4-5", None, "claude-haiku-4-5", "haiku", "claude-haiku-4-5", "claude-sonnet-4-5"):
        before = len(api.requests)
        mode = PermissionMode.DONT_ASK if model == "haiku" else PermissionMode.DEFAULT
        result = await ask(session, options=replace(OPTIONS, model=model, permission_mode=mode))
        sent = api.requests[before:]
        assert result.model is not None
        assert (model or "opus") in result.model
        assert result.warnings == ()
        tried = any(request.probe for request in sent)
        trials += tried
        assert (result.cost_basis is CostBasis.ESTIMATED) == tried
        if tried:
            assert result.cost_nano >= sum(request.cost_nano for request in sent)
        await session.reset()
    assert trials == 2, "each full id is tried once in a process"


async def test_another_model_than_asked_for_is_told() -> None:
    """An answer of another model than was asked for is a warning."""
    aliased = replace(OPTIONS, model="haiku", env=(("ANTHROPIC_DEFAULT_HAIKU_MODEL", "claude-sonnet-4-5"),))
    other = ClaudeBackend().session("s2")
    await other.open(aliased)
    result = await ask(other, options=aliased)
    await other.close()
    assert result.model == "claude-sonnet-4-5"
    assert any("haiku" in warning for warning in result.warnings)


async def test_never_answering_api_is_interrupted(session: Session, api: ScriptedAPI) -> None:
    """A turn that hangs at the API ends with the interrupt, costs nothing, and the slot goes on."""
    api.reply(Reply(hang=True))
    running = asyncio.ensure_future(ask(session))
    await asyncio.to_thread(api.wait_for, 1)
    with promptly():
        await session.interrupt()
        result = await running
    assert result.failure is not None
    assert result.failure.error_type == "interrupted"
    assert result.cost_nano == 0
    api.reply("back")
    await session.reset()
    assert (await ask(session)).output == "back"


async def test_stream_start_tells_the_input_before_the_end(session: Session, api: ScriptedAPI) -> None:
    """While an answer is still held back its input is known and priced."""
    api.reply(Reply("one two three", chunk_chars=4, input_tokens=5000))
    api.hold(after_chunks=1)
    started = asyncio.get_running_loop().create_future()

    async def note(event: object) -> None:
        if isinstance(event, TurnStarted):
            started.set_result(event)

    running = asyncio.ensure_future(hear(session, Turn("hello", OPTIONS), note))
    async with asyncio.timeout(5):
        event = await started
    assert not running.done()
    assert event.usage.input_tokens == 5000
    assert event.cost_nano >= 5_000_000
    assert event.model == "claude-haiku-4-5"
    api.release()
    assert (await running).result.failure is None


async def test_a_schema_gives_a_structured_answer(backend: ClaudeBackend, api: ScriptedAPI) -> None:
    """With a schema the answer is data, in one request; the schema is not in the arguments of the process."""
    schema = '{"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}'
    options = replace(OPTIONS, schema=schema)
    session = backend.session("s1")
    await session.open(options)
    api.reply(Reply(json={"n": 3}))
    result = await ask(session, options=options)
    await session.close()
    assert result.failure is None
    assert result.structured == {"n": 3}
    assert not result.wrote
    assert len(api.requests) == 1


@pytest.mark.parametrize("reply", [Reply("not data at all"), Reply(json={"n": "three"})], ids=["words", "wrong type"])
async def test_an_answer_beside_the_schema_fails(backend: ClaudeBackend, api: ScriptedAPI, reply: Reply) -> None:
    """What does not fit fails as `task`, with the words kept and the cost booked; the session serves the next turn."""
    schema = '{"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}'
    options = replace(OPTIONS, schema=schema)
    session = backend.session("s1")
    await session.open(options)
    api.reply(reply)
    result = await ask(session, options=options)
    assert result.failure is not None
    assert (result.failure.kind, result.failure.error_type) == (FailureKind.TASK, "schema")
    assert result.structured is None
    assert result.output
    assert result.cost_nano == api.billed_nano
    await session.reset()
    api.reply(Reply(json={"n": 3}))
    assert (await ask(session, options=options)).structured == {"n": 3}
    await session.close()


async def test_max_turns(backend: ClaudeBackend, api: ScriptedAPI) -> None:
    """A task that needs more agent turns than it may have fails as `turns`, and its cost is booked."""
    options = replace(OPTIONS, profile="agent", tools=("Read",), allowed_tools=("Read",), max_turns=1)
    session = backend.session("s1")
    await session.open(options)
    api.reply(Reply(tool_calls=[("Read", {"file_path": "/nowhere"})]))
    result = await ask(session, options=options)
    await session.close()
    assert result.failure is not None
    assert result.failure.kind is FailureKind.TURNS
    assert result.cost_nano == api.billed_nano
    assert not result.wrote


async def test_denied_tools_are_seen(backend: ClaudeBackend, api: ScriptedAPI, tmp_path: Path) -> None:
    """A tool that would ask is denied at once and stands in the result; one that ran and may have written is told."""
    options = replace(OPTIONS, profile="agent", tools=("Write",), cwd=str(tmp_path))
    session = backend.session("s1")
    await session.open(options)
    call = Reply(tool_calls=[("Write", {"file_path": str(tmp_path / "a.txt"), "content": "x"})])
    api.script(call, "denied then")
    result = await ask(session, options=options)
    assert result.failure is None
    assert [denial.tool for denial in result.denials] == ["Write"]
    assert "a.txt" in result.denials[0].tool_input
    assert not result.wrote
    assert not (tmp_path / "a.txt").exists()
    await session.reset()
    api.script(call, "written")
    accepting = replace(options, permission_mode=PermissionMode.ACCEPT_EDITS)
    result = await ask(session, options=accepting)
    await session.close()
    assert result.wrote
    assert (tmp_path / "a.txt").exists()


# -- before anything is started --------------------------------------------------------------------------------------


async def test_missing_cli(backend: ClaudeBackend) -> None:
    """A CLI that is not there is named, by check and by open."""
    options = replace(OPTIONS, cli_path="/nowhere/claude")
    with pytest.raises(CLINotFound, match="/nowhere/claude"):
        await backend.check(options, 1)
    with pytest.raises(CLINotFound, match="/nowhere/claude"):
        await backend.session("s1").open(options)


async def test_a_cli_that_is_none(backend: ClaudeBackend, tmp_path: Path) -> None:
    """A program that ends at once is an error with what it said, not a wait."""
    fake = tmp_path / "claude"
    fake.write_text("#!/bin/sh\necho 'this is no claude' >&2\nexit 3\n", encoding="utf-8")
    fake.chmod(0o755)
    with pytest.raises(SessionError, match="this is no claude"):
        await backend.session("s1").open(replace(OPTIONS, cli_path=str(fake)))


async def test_missing_key(backend: ClaudeBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without credentials nothing starts, and the demo is named."""
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    with pytest.raises(MissingCredentials, match="--backend demo"):
        await backend.check(OPTIONS, 1)


async def test_wrong_options_are_refused_by_name(backend: ClaudeBackend) -> None:
    """What cannot work is said before anything is started."""
    with pytest.raises(UnknownModel, match="haiku"):
        await backend.check(replace(OPTIONS, model="haikku"), 1)
    with pytest.raises(ConfigError, match="allow_bypass"):
        await backend.check(replace(OPTIONS, permission_mode=PermissionMode.BYPASS), 1)
    with pytest.raises(ConfigError, match="plan"):
        await backend.check(replace(OPTIONS, permission_mode=PermissionMode.PLAN), 1)
    with pytest.raises(ConfigError, match="/nowhere"):
        await backend.session("s1").open(replace(OPTIONS, cwd="/nowhere"))
    assert any("slots=" in warning for warning in await backend.check(OPTIONS, 10_000))
    assert await backend.check(OPTIONS, 1) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="the CLI refuses this to root alone")
async def test_bypass_as_root_is_told(backend: ClaudeBackend) -> None:
    """The CLI's own refusal reaches the person, with what to do."""
    options = replace(OPTIONS, permission_mode=PermissionMode.BYPASS, allow_bypass=True)
    with pytest.raises(SessionError, match=r"root.*another user"):
        await backend.session("s1").open(options)


async def test_an_unknown_conversation_is_told(backend: ClaudeBackend) -> None:
    """A conversation whose transcript is gone is an error of its own."""
    options = replace(OPTIONS, conversation="c", resume_session_id="00000000-0000-4000-8000-000000000000")
    with pytest.raises(SessionError, match="transcript is gone"):
        await backend.session("s1").open(options)
