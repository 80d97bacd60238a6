"""What goes out of the machine: the bytes that the real CLI sends for our tasks, and what it is started with."""

from __future__ import annotations

import json
import re
import stat
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from claude_pool_nb.config import ResolvedConfig
from claude_pool_nb.records import CostBasis
from claude_pool_nb.sessions.base import Session, Turn
from claude_pool_nb.sessions.claude_backend import ClaudeBackend
from claude_pool_nb.testing import Reply, ScriptedAPI
from claude_pool_nb.testing.conformance import hear
from tests.integration.sessions.conftest import OPTIONS

pytestmark = pytest.mark.cli


async def ask(session: Session, prompt: str, options: ResolvedConfig = OPTIONS) -> str:
    """One turn's answer; it must succeed."""
    result = (await hear(session, Turn(prompt, options))).result
    assert result.failure is None, result.failure
    return result.output


def bare(raw: bytes, prompt: str) -> str:
    """A body without its prompt and its ids, which alone may differ."""
    text = raw.decode().replace(json.dumps(prompt, ensure_ascii=False)[1:-1], "PROMPT")
    return re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "ID", text)


async def test_every_task_sends_the_same_bytes(backend: ClaudeBackend, api: ScriptedAPI) -> None:
    """First and later tasks of two processes differ in prompt and ids alone, are one request each, and small."""
    prompts = [f"say five words number {n}" for n in range(6)]
    sessions = [backend.session("s1"), backend.session("s2")]
    costs = []
    for session in sessions:
        await session.open(OPTIONS)
    for number, prompt in enumerate(prompts):
        session = sessions[number % 2]
        result = (await hear(session, Turn(prompt, OPTIONS))).result
        assert result.cost_basis is CostBasis.EXACT
        costs.append(result.cost_nano)
        await session.reset()
    for session in sessions:
        await session.close()
    assert len(api.requests) == len(prompts)
    assert api.others == [], "nothing else was asked of the API"
    bodies = {bare(request.raw, prompt) for request, prompt in zip(api.requests, prompts, strict=True)}
    assert len(bodies) == 1
    assert max(request.size for request in api.requests) <= 2600
    assert costs == [request.cost_nano for request in api.requests]


@pytest.mark.parametrize(
    "prompt",
    [
        "/clear",
        "/clear the table, please",
        "/cost",
        "/compact now",
        " /help",
        "!ls",
        "#remember this",
        "line one\n/clear\nline three",
        'quotes " and \\ and \u2028 and \U0001f600 and {"type": "user"}',
    ],
)
async def test_prompts_are_sent_as_they_are(session: Session, api: ScriptedAPI, prompt: str) -> None:
    """What looks like a command, or like the protocol, is text for the model."""
    await ask(session, prompt)
    assert api.requests[-1].prompt == prompt
    assert len(api.requests) == 1


async def test_a_broken_character_does_not_break_the_session(session: Session, api: ScriptedAPI) -> None:
    """Half of a surrogate pair, which no encoding has, is sent as a replacement character."""
    await ask(session, "a\ud800b")
    assert api.requests[-1].prompt == "a\ufffdb"


async def test_no_file_is_read_for_a_prompt(
    session: Session, backend: ClaudeBackend, api: ScriptedAPI, tmp_path: Path
) -> None:
    """A path after an @ is text: no file's content leaves the machine, with tools or without."""
    canary = tmp_path / "canary.txt"
    canary.write_text("CANARY-9c1d", encoding="utf-8")
    prompt = f"@{canary} and @/etc/passwd what is in these?"
    await ask(session, prompt)
    agent = replace(OPTIONS, profile="agent", tools=("Read",), cwd=str(tmp_path))
    other = backend.session("s2")
    await other.open(agent)
    await ask(other, "@canary.txt what is in this?", agent)
    await other.close()
    for request in api.requests:
        assert b"CANARY-9c1d" not in request.raw
        assert b"root:" not in request.raw
    assert api.requests[0].prompt == prompt


async def test_a_megabyte_is_sent_whole(session: Session, api: ScriptedAPI) -> None:
    """A prompt of a megabyte arrives whole, and so does a long answer."""
    prompt = "0123456789abcdef" * 65536
    answer = "word " * 60_000
    api.reply(Reply(answer, chunk_chars=5000))
    assert (await ask(session, prompt)).strip() == answer.strip()
    assert api.requests[-1].prompt == prompt


async def test_nothing_is_left_on_disk(session: Session, isolated_env: Path) -> None:
    """Without a conversation there is no transcript."""
    await ask(session, "a private thing: PRIVATE-77")
    await session.reset()
    await ask(session, "another: PRIVATE-78")
    await session.close()
    assert not list(isolated_env.glob(".claude/projects/*/*.jsonl"))
    for path in isolated_env.rglob("*"):
        if path.is_file():
            assert b"PRIVATE-7" not in path.read_bytes(), path


async def test_private_texts_are_not_in_the_arguments(
    backend: ClaudeBackend, api: ScriptedAPI, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """System prompt, schema and MCP servers are not in argv; no file is left of them."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    servers = json.dumps({"s": {"command": "/bin/false", "args": [], "env": {"TOKEN": "SECRET-mcp"}}})
    schema = '{"type": "object", "properties": {"secret_schema": {"type": "string"}}}'
    options = replace(
        OPTIONS, system_prompt="SECRET-prompt", appended_prompt="SECRET-context", schema=schema, mcp_servers=servers
    )
    session = backend.session("s1")
    await session.open(options)
    assert session.info.pid is not None
    process = psutil.Process(session.info.pid)
    line = " ".join(process.cmdline())
    assert "SECRET" not in line
    assert "secret_schema" not in line
    assert not list(tmp_path.glob("claude-pool-nb-*")), "the file of servers is gone once they are started"
    api.reply(Reply(json={"secret_schema": "x"}))
    await ask(session, "hello", options)
    await session.close()
    assert "SECRET-prompt\n\nSECRET-context" in api.requests[0].system
    assert not list(tmp_path.glob("claude-pool-nb-*"))


async def test_environment_is_an_allow_list(
    backend: ClaudeBackend, monkeypatch: pytest.MonkeyPatch, isolated_env: Path
) -> None:
    """What is not on the list does not reach the CLI, and what a person passes does."""
    monkeypatch.setenv("DATABASE_PASSWORD", "hunter2")
    monkeypatch.setenv("CLAUDECODE", "1")
    monkeypatch.setenv("CLAUDE_CODE_ENTRYPOINT", "cli")
    monkeypatch.setenv("HTTPS_PROXY", "")
    options = replace(OPTIONS, env=(("MY_OWN", "yes"),), max_output_tokens=77)
    session = backend.session("s1")
    await session.open(options)
    assert session.info.pid is not None
    env = psutil.Process(session.info.pid).environ()
    cwd = psutil.Process(session.info.pid).cwd()
    await session.close()
    assert "DATABASE_PASSWORD" not in env
    assert "hunter2" not in env.values()
    assert env.get("CLAUDECODE") is None
    assert env.get("CLAUDE_CODE_ENTRYPOINT") != "cli"
    assert env["MY_OWN"] == "yes"
    assert env["HOME"] == str(isolated_env)
    assert env["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] == "77"
    assert list(Path(cwd).iterdir()) == []
    assert stat.S_IMODE(Path(cwd).stat().st_mode) == 0o700


async def test_max_output_tokens_bounds_the_request(backend: ClaudeBackend, api: ScriptedAPI) -> None:
    """The limit is in the request itself."""
    options = replace(OPTIONS, max_output_tokens=77)
    session = backend.session("s1")
    await session.open(options)
    await ask(session, "hello", options)
    await session.close()
    assert api.requests[0].body["max_tokens"] == 77


async def test_agent_profile_has_tools_and_the_preset(backend: ClaudeBackend, api: ScriptedAPI) -> None:
    """The agent profile sends Claude Code's prompt and tools, and our texts after them."""
    options = ResolvedConfig(
        profile="agent", model="claude-haiku-4-5", preset=True, tools=None, appended_prompt="Our own words."
    )
    session = backend.session("s1")
    await session.open(options)
    await ask(session, "hello", options)
    await session.close()
    request = api.requests[0]
    assert {"Bash", "Read", "Edit"} <= set(request.tools)
    assert request.system.rstrip().endswith("Our own words.")
    assert len(request.system) > 5000


MCP_SERVER = """
import json, os, sys
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    method = message["method"]
    if method == "initialize":
        result = {
            "protocolVersion": message["params"]["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "s", "version": "1"},
        }
    elif method == "tools/list":
        schema = {"type": "object", "properties": {}}
        result = {"tools": [{"name": "word", "description": "gives a word", "inputSchema": schema}]}
    else:
        result = {"content": [{"type": "text", "text": "the word is " + os.environ["WORD"]}]}
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
"""


async def test_mcp_servers_are_had_and_no_others(
    backend: ClaudeBackend, api: ScriptedAPI, tmp_path: Path, isolated_env: Path
) -> None:
    """A server that was named gives its tools, its secrets included; one of the user's own settings is not started."""
    script = tmp_path / "server.py"
    script.write_text(MCP_SERVER, encoding="utf-8")
    other = {"mcpServers": {"other": {"command": sys.executable, "args": [str(script)], "env": {"WORD": "no"}}}}
    (isolated_env / ".claude.json").write_text(json.dumps(other), encoding="utf-8")
    servers = {"s": {"command": sys.executable, "args": [str(script)], "env": {"WORD": "SECRET-word"}}}
    options = replace(OPTIONS, profile="agent", mcp_servers=json.dumps(servers), allowed_tools=("mcp__s__word",))
    session = backend.session("s1")
    await session.open(options)
    assert session.info.pid is not None
    children = psutil.Process(session.info.pid).children(recursive=True)
    for _ in range(2):
        await session.reset()
        api.clear()
        api.script(Reply(tool_calls=[("mcp__s__word", {})]), "had it")
        result = (await hear(session, Turn("go", options))).result
        assert result.failure is None
        assert "mcp__s__word" in api.requests[0].tools
    await session.close()
    assert not [tool for tool in api.requests[0].tools if "other" in tool]
    assert "the word is SECRET-word" in api.requests[1].tool_results[0]
    assert result.wrote, "what a server's tool does is not known"
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
