"""The real CLI talks to the scripted API: what it understands, and that both count the same money."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from claude_pool_nb.testing import PromptCache, Reply, ScriptedAPI

pytestmark = pytest.mark.cli

MODEL = "claude-haiku-4-5"
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}

Ask = Callable[..., Awaitable[Any]]


@pytest.fixture
def ask(api: ScriptedAPI, isolated_env: Path, tmp_path: Path) -> Ask:
    """Ask the real CLI one prompt in a process of its own; hands back the result message."""

    async def run(prompt: str = "Hello", env: dict[str, str] | None = None, **options: Any) -> Any:
        from claude_agent_sdk import ClaudeAgentOptions, ResultError, ResultMessage, query

        given: dict[str, Any] = {"tools": [], "setting_sources": [], "model": MODEL, "system_prompt": "x", **options}
        variables = {**api.env(isolated_env), "CLAUDE_CODE_MAX_RETRIES": "0", **(env or {})}
        result = None
        try:
            async for message in query(prompt=prompt, options=ClaudeAgentOptions(cwd=tmp_path, env=variables, **given)):
                if isinstance(message, ResultMessage):
                    result = message
        except ResultError:
            # A failed turn yields its result and then raises; the result is what these tests are about.
            assert result is not None
        assert result is not None, "the CLI ended without a result"
        return result

    return run


async def test_text(api: ScriptedAPI, ask: Ask) -> None:
    """A plain answer arrives as text, and the log has the prompt, the model and the system prompt."""
    api.reply(lambda request: f"You said {request.prompt}")
    result = await ask("five words of a prompt")
    assert (result.is_error, result.result) == (False, "You said five words of a prompt")
    (request,) = api.requests
    assert (request.model, request.stream, request.status) == (MODEL, True, 200)
    assert request.system.splitlines()[-1] == "x"
    assert request.headers["x-api-key"] == "sk-ant-api03-not-a-real-key"
    assert result.total_cost_usd == pytest.approx(0.0011, abs=1e-9)
    assert api.billed_nano == 1_100_000


async def test_tool_call(api: ScriptedAPI, ask: Ask, tmp_path: Path) -> None:
    """The CLI runs the tool it is told to, and its result comes back in the next request."""
    (tmp_path / "fact.txt").write_text("forty-two")

    def agent(request: Any) -> Reply:
        if not request.tool_results:
            return Reply("Reading.", tool_calls=[("Read", {"file_path": str(tmp_path / "fact.txt")})])
        return Reply(f"It says {'forty-two' in request.tool_results[0]}")

    api.reply(agent)
    result = await ask("What does it say?", tools=["Read"], allowed_tools=["Read"])
    assert result.result == "It says True"
    assert [request.prompt for request in api.requests] == ["What does it say?"] * 2
    assert result.total_cost_usd == pytest.approx(api.billed_usd, abs=1e-9)


async def test_json_schema(api: ScriptedAPI, ask: Ask) -> None:
    """A JSON reply becomes the structured output of a task with a schema, in one request."""
    api.reply(Reply(json={"n": 3}))
    result = await ask(output_format={"type": "json_schema", "schema": SCHEMA})
    assert result.structured_output == {"n": 3}
    assert len(api.requests) == 1
    assert result.total_cost_usd == pytest.approx(api.billed_usd, abs=1e-9)


async def test_rate_limit_with_retry_after(api: ScriptedAPI, ask: Ask) -> None:
    """The CLI waits as long as retry-after says, tries again, and counts the one answer."""
    api.fail(status=429, times=1, retry_after_s=1)
    result = await ask(env={"CLAUDE_CODE_MAX_RETRIES": "1"})
    assert (result.is_error, result.result) == (False, "ok")
    first, second = api.requests
    assert (first.status, second.status) == (429, 200)
    assert second.at - first.ended_at >= 0.95
    assert result.total_cost_usd == pytest.approx(api.billed_usd, abs=1e-9)


async def test_failure_that_is_not_to_be_retried(api: ScriptedAPI, ask: Ask) -> None:
    """x-should-retry ends the CLI's own retries, and the status is in its result."""
    api.fail(status=500, times=None, headers={"x-should-retry": "false"}, message="Broken")
    result = await ask(env={"CLAUDE_CODE_MAX_RETRIES": "5"})
    assert (result.is_error, result.api_error_status) == (True, 500)
    assert "Broken" in result.result
    assert [request.status for request in api.requests] == [500]


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply("abcdef", chunk_chars=2, cut_after_chunks=2), id="cut"),
        pytest.param(Reply("abcdef", chunk_chars=2, eof_after_chunks=2), id="eof"),
        pytest.param(Reply("abcdef", chunk_chars=2, malformed=True), id="malformed"),
        pytest.param(Reply("abcdef", chunk_chars=2, stream_error="overloaded_error"), id="error-event"),
    ],
)
async def test_broken_stream(api: ScriptedAPI, ask: Ask, reply: Reply) -> None:
    """The CLI asks again without streaming; the API bills both requests, the CLI counts no more than that."""
    api.reply(lambda request: reply if request.stream else "whole")
    result = await ask()
    assert (result.is_error, result.result) == (False, "whole")
    assert [request.stream for request in api.requests][-1] is False
    assert 0.0011 - 1e-9 <= result.total_cost_usd <= api.billed_usd + 1e-9


@pytest.mark.parametrize("model", ["haiku", "sonnet", "opus", MODEL, "claude-sonnet-4-5", "claude-opus-4-5"])
async def test_costs_agree(api: ScriptedAPI, ask: Ask, model: str) -> None:
    """The CLI and the API count the same money for every kind of token, for aliases and full names."""
    api.reply(
        Reply(
            "ok",
            input_tokens=12_345,
            output_tokens=678,
            cache_read_tokens=9_876,
            cache_write_tokens=5_432,
            cache_write_1h_tokens=1_234,
        )
    )
    result = await ask(model=model)
    assert result.total_cost_usd == pytest.approx(api.billed_usd, abs=1e-9)


async def test_costs_agree_for_a_long_request(api: ScriptedAPI, ask: Ask) -> None:
    """A request of more than 100,000 tokens costs claude-haiku-5-5 users more in both accounts."""
    api.reply(Reply("ok", input_tokens=60_000, cache_read_tokens=40_001, output_tokens=100))
    result = await ask(model="haiku")
    assert result.total_cost_usd == pytest.approx(api.billed_usd, abs=1e-9)
    assert api.billed_usd > 0.03


async def test_costs_agree_with_prompt_caching(api: ScriptedAPI, ask: Ask, tmp_path: Path) -> None:
    """A long system prompt is written by the first process and read by the next, and both are paid for as counted."""
    api.cache = PromptCache()
    # The CLI's first system block differs from process to process unless it is left out.
    env = {"CLAUDE_CODE_ATTRIBUTION_HEADER": "0"}
    results = [await ask(f"prompt {n}", system_prompt="word " * 2000, env=env) for n in range(2)]
    first, second = api.requests
    assert first.usage is not None
    assert second.usage is not None
    assert first.usage.cache_read_tokens == 0
    assert second.usage.cache_read_tokens > 2000
    for result, request in zip(results, api.requests, strict=True):
        assert result.total_cost_usd == pytest.approx(request.cost_nano / 1e9, abs=1e-9)
    assert second.cost_nano < first.cost_nano / 2


async def test_interrupt_in_mid_stream(api: ScriptedAPI, isolated_env: Path, tmp_path: Path) -> None:
    """An interrupted turn closes the stream at once, and the API bills what it had sent."""
    from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, ResultMessage

    api.reply(Reply("abcdefgh", chunk_chars=2))
    api.hold(after_chunks=2)
    options = ClaudeAgentOptions(
        tools=[], setting_sources=[], model=MODEL, system_prompt="x", cwd=tmp_path, env=api.env(isolated_env)
    )
    async with ClaudeSDKClient(options) as client:
        await client.query("Hello")
        await asyncio.to_thread(api.wait_for_held, 1)
        await client.interrupt()
        (result,) = [m async for m in client.receive_response() if isinstance(m, ResultMessage)]
        (request,) = await asyncio.to_thread(api.wait_for, 1, finished=True)
    assert (result.is_error, result.terminal_reason) == (True, "aborted_streaming")
    assert request.cut
    assert api.billed_nano == 1000 * 1000 + 10 * 5000


async def test_unknown_model(api: ScriptedAPI, ask: Ask) -> None:
    """A model the API does not have is a 404 that the CLI reports as such, and costs nothing."""
    api.models = {"claude-sonnet-4-5"}
    result = await ask()
    assert (result.is_error, result.api_error_status, result.total_cost_usd) == (True, 404, 0)
    assert MODEL in result.result
    assert api.billed_nano == 0


async def test_stopped_api_refuses_connections(api: ScriptedAPI, ask: Ask) -> None:
    """While the API is stopped the CLI's connections are refused; started again, it answers at the same address."""
    api.stop()
    result = await ask()
    assert (result.is_error, result.api_error_status) == (True, None)
    assert "ECONNREFUSED" in result.result
    api.start()
    assert (await ask()).result == "ok"


async def test_warm_session_and_its_model_trial(api: ScriptedAPI, isolated_env: Path, tmp_path: Path) -> None:
    """After /clear the log still finds the prompt, and the trial of a new model takes nothing from the queue."""
    from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, ResultMessage

    options = ClaudeAgentOptions(
        tools=[], setting_sources=[], model=MODEL, system_prompt="x", cwd=tmp_path, env=api.env(isolated_env)
    )
    async with ClaudeSDKClient(options) as client:

        async def ask(prompt: str) -> str | None:
            await client.query(prompt)
            (result,) = [m async for m in client.receive_response() if isinstance(m, ResultMessage)]
            return result.result

        api.script("one", "two")
        assert await ask("first prompt") == "one"
        await ask("/clear")
        await client.set_model("claude-opus-4-5")
        assert await ask("second prompt") == "two"
    asked = [(request.model, request.prompt) for request in api.requests if not request.probe]
    assert asked == [(MODEL, "first prompt"), ("claude-opus-4-5", "second prompt")]
    assert [request.model for request in api.requests if request.probe] == ["claude-opus-4-5"]
