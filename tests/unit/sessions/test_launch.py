"""How a claude process would be started, without starting one."""

from __future__ import annotations

import json
import multiprocessing
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from claude_pool_nb.config import Effort, PermissionMode, ResolvedConfig
from claude_pool_nb.errors import MissingCredentials
from claude_pool_nb.sessions.credentials import find_credentials
from claude_pool_nb.sessions.launch import environment, find_cli, plan
from claude_pool_nb.sessions.processes import Watcher
from tests.waiting import PROMPTLY_S

NOBODY = {"HOME": "/nowhere"}


def test_every_launch_option_reaches_the_cli(tmp_path: Path) -> None:
    """Each option that is fixed at launch is in the arguments, the environment or the first message."""
    options = ResolvedConfig(
        profile="agent",
        model="haiku",
        permission_mode=PermissionMode.ACCEPT_EDITS,
        tools=("Read", "Bash"),
        allowed_tools=("Bash(git *)",),
        disallowed_tools=("WebFetch",),
        setting_sources=("user", "project"),
        max_turns=7,
        effort=Effort.HIGH,
        fallback_model="sonnet",
        max_output_tokens=99,
        cwd=str(tmp_path),
        conversation="c",
        resume_session_id="abc",
        resume_at="def",
        system_prompt="base",
        appended_prompt="more",
        preset=True,
    )
    launch = plan(options)
    line = " ".join(launch.argv)
    for part in (
        "--model haiku",
        "--permission-mode acceptEdits",
        "--tools Read,Bash",
        "--allowedTools Bash(git *)",
        "--disallowedTools WebFetch",
        "--setting-sources=user,project",
        "--max-turns 7",
        "--effort high",
        "--fallback-model sonnet",
        "--resume=abc",
        "--resume-session-at=def",
        "--strict-mcp-config",
    ):
        assert part in line
    assert "--no-session-persistence" not in line
    assert launch.cwd == str(tmp_path)
    assert launch.env["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] == "99"
    assert launch.initialize["appendSystemPrompt"] == "base\n\nmore"
    assert launch.initialize["systemPromptSnapshot"] is False
    assert "systemPrompt" not in launch.initialize


def test_the_file_of_servers_is_private() -> None:
    """Nobody else reads it, and it goes."""
    launch = plan(ResolvedConfig(mcp_servers='{"s": {"command": "x", "env": {"TOKEN": "t"}}}'))
    path = launch.mcp_file
    assert path is not None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "mcpServers": {"s": {"command": "x", "env": {"TOKEN": "t"}}}
    }
    assert launch.argv[launch.argv.index("--mcp-config") + 1] == str(path)
    launch.remove_files()
    assert not path.exists()


def test_the_frames_are_those_of_the_sdk() -> None:
    """The control protocol that we speak is the one claude-agent-sdk speaks to the CLI it ships."""
    script = """
import asyncio, json
from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, Transport

class Fake(Transport):
    def __init__(self): self.sent, self.inbox = [], asyncio.Queue()
    async def connect(self): pass
    async def close(self): pass
    async def end_input(self): pass
    def is_ready(self): return True
    async def write(self, data):
        frame = json.loads(data)
        self.sent.append(frame)
        if frame["type"] == "control_request":
            body = {"subtype": "success", "request_id": frame["request_id"], "response": {}}
            await self.inbox.put({"type": "control_response", "response": body})
    async def read_messages(self):
        while True:
            yield await self.inbox.get()

async def main():
    fake = Fake()
    client = ClaudeSDKClient(ClaudeAgentOptions(verbatim_prompts=True), transport=fake)
    await client.connect()
    await client.set_model("haiku")
    await client.set_permission_mode("dontAsk")
    await client.interrupt()
    await client.query("/clear")
    print(json.dumps(fake.sent))

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    frames = json.loads(done.stdout)
    requests = [frame["request"] for frame in frames if frame["type"] == "control_request"]
    ours = plan(ResolvedConfig()).initialize
    assert {key: ours[key] for key in requests[0]} == requests[0]
    assert requests[1:] == [
        {"subtype": "set_model", "model": "haiku"},
        {"subtype": "set_permission_mode", "mode": "dontAsk"},
        {"subtype": "interrupt"},
    ]
    prompt = frames[-1]
    from claude_pool_nb.sessions.claude import user_message

    mine = user_message("/clear", composed=True)
    assert set(prompt) <= set(mine)
    assert (prompt["message"], prompt["client_composed"]) == (mine["message"], mine["client_composed"])


def test_the_sdk_is_not_imported_to_find_its_cli() -> None:
    """Neither finding the CLI nor planning a launch costs the seconds that the SDK's import takes."""
    code = (
        "import sys; from claude_pool_nb.sessions.launch import plan; from claude_pool_nb.config import ResolvedConfig;"
        "from claude_pool_nb.sessions.claude_backend import ClaudeBackend;"
        "ClaudeBackend().session('s1'); plan(ResolvedConfig());"
        "print('claude_agent_sdk' in sys.modules, 'pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["False", "False"]


def test_a_cli_of_ones_own_is_taken(tmp_path: Path) -> None:
    """cli_path wins over the one that is shipped."""
    own = tmp_path / "claude"
    own.write_text("#!/bin/sh\n", encoding="utf-8")
    own.chmod(0o755)
    assert find_cli(str(own)) == str(own)
    assert find_cli() != str(own)


@pytest.mark.parametrize(
    "name",
    [
        "PATH",
        "LC_ALL",
        "https_proxy",
        "NO_PROXY",
        "ANTHROPIC_BASE_URL",
        "AWS_PROFILE",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "CLOUD_ML_REGION",
        "CLAUDE_CODE_USE_BEDROCK",
        "CLAUDE_CODE_OAUTH_TOKEN",
        "CLAUDE_CONFIG_DIR",
        "NODE_EXTRA_CA_CERTS",
        "XDG_RUNTIME_DIR",
    ],
)
def test_what_the_cli_needs_is_passed(name: str) -> None:
    """Accounts, clouds, proxies, certificates and folders reach the CLI."""
    assert environment(ResolvedConfig(), {name: "x"})[name] == "x"


@pytest.mark.parametrize(
    "name",
    [
        "CLAUDECODE",
        "CLAUDE_CODE_ENTRYPOINT",
        "NODE_OPTIONS",
        "LD_PRELOAD",
        "OPENAI_API_KEY",
        "DATABASE_URL",
        "GITHUB_TOKEN",
    ],
)
def test_what_it_does_not_need_stays_here(name: str) -> None:
    """Everything else stays in the kernel, unless a person passes it."""
    assert name not in environment(ResolvedConfig(), {name: "x"})
    assert environment(ResolvedConfig(env=((name, "y"),)), {name: "x"})[name] == "y"


def test_credentials_are_found_where_the_cli_looks(tmp_path: Path) -> None:
    """Key, token, cloud, stored login and helper program each count; a login's dollars are notional."""
    home = tmp_path / ".claude"
    home.mkdir()
    env = {"HOME": str(tmp_path)}
    with pytest.raises(MissingCredentials):
        find_credentials(ResolvedConfig(), env)
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX"):
        assert not find_credentials(ResolvedConfig(), {**env, name: "1"}).subscription
    assert find_credentials(ResolvedConfig(), {**env, "CLAUDE_CODE_OAUTH_TOKEN": "t"}).subscription
    assert find_credentials(ResolvedConfig(env=(("ANTHROPIC_API_KEY", "k"),)), env).source == "ANTHROPIC_API_KEY"
    with pytest.raises(MissingCredentials):
        find_credentials(ResolvedConfig(), {**env, "CLAUDE_CODE_USE_BEDROCK": "0", "ANTHROPIC_API_KEY": ""})
    (home / "settings.json").write_text('{"apiKeyHelper": "/bin/key"}', encoding="utf-8")
    with pytest.raises(MissingCredentials):
        find_credentials(ResolvedConfig(), env)
    assert "apiKeyHelper" in find_credentials(replace(ResolvedConfig(), setting_sources=("user",)), env).source
    (home / ".credentials.json").write_text('{"claudeAiOauth": {"accessToken": "t"}}', encoding="utf-8")
    assert find_credentials(ResolvedConfig(), env).subscription
    elsewhere = {**NOBODY, "CLAUDE_CONFIG_DIR": str(home)}
    assert find_credentials(ResolvedConfig(), elsewhere).subscription


def test_a_watcher_is_shared_and_let_go(tmp_path: Path) -> None:
    """It stays while another pool has something to watch, and is gone after that."""
    watcher = Watcher()
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    try:
        watcher.prepare()
        watcher.watch(child.pid)
        watcher.close()
        assert watcher.running, "it still has something to watch"
        watcher.forget(child.pid)
        watcher.close()
        assert not watcher.running
        assert child.poll() is None, "what was forgotten is left alone"
    finally:
        child.kill()
        child.wait()


def test_a_watcher_that_was_killed_is_replaced() -> None:
    """The next process is watched by a new one, with all that the old one knew; the old one's pipe is closed."""
    watcher = Watcher()
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    try:
        watcher.prepare()
        watcher.watch(child.pid)
        first = watcher.pid
        assert first is not None
        assert watcher._process is not None
        pipe = watcher._process.stdin
        os.kill(first, 9)
        os.waitpid(first, 0)
        watcher.prepare()
        watcher.cancel()
        assert watcher.running
        assert watcher.pid != first
        assert pipe is not None
        assert pipe.closed
        assert watcher._process.stdin is not None
        watcher._process.stdin.close()  # as if this kernel died
        assert child.wait(PROMPTLY_S) == -9
        watcher._process.wait(PROMPTLY_S)  # until then it counts as running, and would be written to
    finally:
        child.kill()
        child.wait()
        watcher.forget(child.pid)
        watcher.close()


def _forked(watcher: Watcher, pipe: object) -> None:
    """In a forked copy: it watches nothing of its parent's."""
    pipe.send((watcher.running, watcher.pid, len(watcher._watched)))  # type: ignore[attr-defined]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_of_the_kernel_does_not_end_its_sessions() -> None:
    """A forked worker of the notebook's does not inherit what to watch."""
    watcher = Watcher()
    watcher.prepare()
    watcher.watch(os.getpid() + 10**6)
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    worker = context.Process(target=_forked, args=(watcher, there))
    worker.start()
    told = here.recv()
    worker.join(60)
    assert told == (False, None, 0)
    assert watcher.running
    watcher.forget(os.getpid() + 10**6)
    watcher.close()
