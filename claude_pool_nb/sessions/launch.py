"""How a claude process is started: executable, arguments, environment, working directory, and what it is told first.

Invariants: nothing private is in the arguments, which everybody on the machine can read: the system prompt and the
schema travel by stdin, MCP servers by a file of mode 0600. The environment is an allow-list. MCP is strict, and file
mentions and attachments are off, always.
"""

from __future__ import annotations

import fnmatch
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from claude_pool_nb.config import PermissionMode, ResolvedConfig, SlotMode
from claude_pool_nb.errors import CLINotFound, ConfigError
from claude_pool_nb.sessions.processes import MARK, WATCHER

_PASSED = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR", "TEMP", "TMP", "TERM",
    "XDG_*", "*_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
    "ANTHROPIC_*", "AWS_*", "GOOGLE_*", "GCLOUD_PROJECT", "CLOUD_ML_REGION", "CLOUDSDK_*", "VERTEX_REGION_*", "AZURE_*",
    "CLAUDE_CODE_USE_*", "CLAUDE_CODE_SKIP_*_AUTH", "CLAUDE_CODE_OAUTH_TOKEN", "CLAUDE_CODE_CLIENT_*",
    "CLAUDE_CODE_API_KEY_HELPER_TTL_MS", "CLAUDE_CONFIG_DIR", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
    "CLAUDE_CODE_GIT_BASH_PATH", "API_TIMEOUT_MS", "DISABLE_TELEMETRY", "DISABLE_ERROR_REPORTING",
)  # fmt: skip
"""Names, or patterns of names, of variables that reach the CLI."""

KEYS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")
"""Variables that hold credentials."""

PROMPT_RETRIES, AGENT_RETRIES = 1, 3
"""How often the CLI may ask the API again. Its first notice of a refused first request is taken as the answer, so that
the pool retries; in the middle of an agent's turn a retry of the CLI's saves the work done so far."""
FALLBACK_RETRIES = 3
"""With a fallback model: the CLI turns to it when the first model was overloaded so often."""


@dataclass(slots=True)
class Launch:
    """Everything needed to start one claude process."""

    argv: list[str]
    env: dict[str, str]
    cwd: str
    initialize: dict[str, Any]
    """What is sent first."""
    mcp_file: Path | None = None
    """The private file of MCP servers; the CLI reads it once, while it starts."""
    folder: Path | None = None
    """The working directory, where it was made for this process alone."""

    def remove_mcp_file(self) -> None:
        """Remove the file of MCP servers, which may hold secrets."""
        if self.mcp_file is not None:
            self.mcp_file.unlink(missing_ok=True)

    def remove_files(self) -> None:
        """Remove all that was made for this process alone."""
        self.remove_mcp_file()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def find_cli(cli_path: str | None = None) -> str:
    """Find the claude executable: the one named, the one claude-agent-sdk ships, or the one on the PATH.

    Raises:
        CLINotFound: there is none.

    Example:
        >>> find_cli().endswith("claude")
        True
    """
    if cli_path is not None:
        found = shutil.which(os.path.expanduser(cli_path))
        if found is None:
            raise CLINotFound(f"there is no executable at cli_path={cli_path!r}; name a claude CLI, or leave it out")
        return str(Path(found).absolute())
    # The package is found without being imported: its import takes up to two seconds.
    spec = importlib.util.find_spec("claude_agent_sdk")
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        bundled = Path(folder) / "_bundled" / "claude"
        if os.access(bundled, os.X_OK):
            return str(bundled)
    on_path = shutil.which("claude")
    if on_path is not None:
        return on_path
    raise CLINotFound


def verify(options: ResolvedConfig) -> None:
    """Refuse options that cannot work, or would not do what they say.

    Raises:
        ConfigError: with what to change.

    Example:
        >>> verify(ResolvedConfig())
    """
    if options.permission_mode is PermissionMode.BYPASS and not options.allow_bypass:
        raise ConfigError(
            "permission_mode='bypassPermissions' runs every tool unasked; if that is meant, say allow_bypass=True too"
        )
    if options.permission_mode is PermissionMode.PLAN and options.tools == ():
        raise ConfigError(
            "permission_mode='plan' needs tools: without any the CLI turns to another, dearer model; "
            "leave permission_mode out, or give tools (profile='agent')"
        )
    if options.model is not None and not options.model.strip():
        raise ConfigError("model is an empty text; name an alias (haiku, sonnet, opus) or a full id, or leave it out")
    for name, text in (("mcp_servers", options.mcp_servers), ("schema", options.schema or "{}")):
        try:
            valid = isinstance(json.loads(text), dict)
        except ValueError:
            valid = False
        if not valid:
            raise ConfigError(f"{name} must be a JSON object")
    if options.cwd is not None and not os.path.isdir(options.cwd):
        raise ConfigError(f"cwd={options.cwd!r} is not a directory")


def keeps_transcript(options: ResolvedConfig) -> bool:
    """True if the session's conversation is kept on disk, to be resumed later."""
    return options.conversation is not None or options.resume_session_id is not None


def plan(options: ResolvedConfig) -> Launch:
    """Work out how to start a process with these options; makes its private files.

    Raises:
        ConfigError: an option cannot work.
        CLINotFound: there is no CLI.

    Example:
        >>> launch = plan(ResolvedConfig(model="haiku", system_prompt="secret words"))
        >>> "--model" in launch.argv, any("secret" in a for a in launch.argv), launch.initialize["systemPrompt"]
        (True, False, 'secret words')
        >>> launch.remove_files()
    """
    verify(options)
    launch = Launch([find_cli(options.cli_path)], {}, "", {})
    launch.cwd = _workdir(options, launch)
    launch.env = environment(options)
    launch.initialize = _initialize(options)
    argv = launch.argv
    argv += ["--print", "--output-format", "stream-json", "--input-format", "stream-json", "--verbose"]
    argv += ["--include-partial-messages", "--strict-mcp-config"]
    argv += [f"--setting-sources={','.join(options.setting_sources)}"]
    if options.model is not None:
        argv += ["--model", options.model]
    argv += ["--permission-mode", options.permission_mode.value]
    if options.allow_bypass:
        argv += ["--allow-dangerously-skip-permissions"]
    if options.tools is not None:
        argv += ["--tools", ",".join(options.tools)]
    if options.allowed_tools:
        argv += ["--allowedTools", ",".join(options.allowed_tools)]
    if options.disallowed_tools:
        argv += ["--disallowedTools", ",".join(options.disallowed_tools)]
    if options.max_turns is not None:
        argv += ["--max-turns", str(options.max_turns)]
    if options.effort is not None:
        argv += ["--effort", options.effort.value]
    if options.fallback_model is not None:
        argv += ["--fallback-model", options.fallback_model]
    if not keeps_transcript(options):
        argv += ["--no-session-persistence"]
    if options.resume_session_id is not None:
        argv += [f"--resume={options.resume_session_id}"]
        if options.resume_at is not None:
            argv += [f"--resume-session-at={options.resume_at}"]
    servers = json.loads(options.mcp_servers)
    if servers:
        argv += ["--mcp-config", str(_private_file(servers, launch))]
    return launch


def environment(options: ResolvedConfig, inherited: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of the CLI: what is on the allow-list, our settings, and then `options.env`.

    Example:
        >>> env = environment(ResolvedConfig(), {"PATH": "/bin", "DATABASE_URL": "secret", "CLAUDECODE": "1"})
        >>> env["PATH"], "DATABASE_URL" in env, "CLAUDECODE" in env
        ('/bin', False, False)
    """
    source = os.environ if inherited is None else inherited
    env = {name: value for name, value in source.items() if _passes(name)}
    retries = PROMPT_RETRIES if options.tools == () else AGENT_RETRIES
    if options.fallback_model is not None:
        retries = max(retries, FALLBACK_RETRIES)
    env["CLAUDE_CODE_MAX_RETRIES"] = str(retries)
    env["CLAUDE_CODE_DISABLE_ATTACHMENTS"] = "1"
    env["CLAUDE_CODE_DISABLE_FILE_MENTIONS"] = "1"
    if options.max_output_tokens is not None:
        env["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] = str(options.max_output_tokens)
    env |= dict(options.env)
    env[MARK] = WATCHER.new_mark()
    return env


def has_other_key(env: Mapping[str, str], options: ResolvedConfig) -> bool:
    """Whether the environment names other credentials by now than a process was started with.

    Example:
        >>> has_other_key({"ANTHROPIC_API_KEY": "not this one"}, ResolvedConfig())
        True
    """
    given = dict(options.env)
    return any(env.get(name) != given.get(name, os.environ.get(name)) for name in KEYS)


def _passes(name: str) -> bool:
    """Whether a variable is on the allow-list."""
    upper = name.upper()
    return any(fnmatch.fnmatchcase(upper, pattern) for pattern in _PASSED)


def _initialize(options: ResolvedConfig) -> dict[str, Any]:
    """The first control request: texts go here, where nobody else reads them."""
    body: dict[str, Any] = {"subtype": "initialize", "hooks": None}
    texts = [text for text in (options.system_prompt, options.appended_prompt) if text]
    if options.preset:
        if texts:
            body["appendSystemPrompt"] = "\n\n".join(texts)
    else:
        body["systemPrompt"] = "\n\n".join(texts)
    if options.conversation is not None or options.slot_mode is SlotMode.PERSISTENT:
        # Shared context may change between tasks of one conversation; a snapshot would keep what was first.
        body["systemPromptSnapshot"] = False
    if options.schema is not None:
        body["jsonSchema"] = json.loads(options.schema)
    return body


def _workdir(options: ResolvedConfig, launch: Launch) -> str:
    """Where the process works.

    The CLI tells the model its working directory, so a task without tools gets the same empty one in every slot and
    kernel: requests stay the same bytes, and a conversation, which the CLI files by directory, is found again.
    """
    if options.cwd is not None:
        return os.path.abspath(options.cwd)
    if options.profile != "prompt":
        return os.getcwd()
    if options.tools == () or keeps_transcript(options):
        return str(empty_directory())
    launch.folder = Path(tempfile.mkdtemp(prefix="claude-pool-nb-"))
    return str(launch.folder)


def empty_directory() -> Path:
    """The empty private directory of sessions without tools; the same one every time.

    Example:
        >>> list(empty_directory().iterdir())
        []
    """
    import platformdirs

    path = Path(platformdirs.user_data_dir("claude-pool-nb", appauthor=False)) / "empty"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def _private_file(servers: dict[str, Any], launch: Launch) -> Path:
    """Write the MCP servers where only this user reads them."""
    body = servers if "mcpServers" in servers else {"mcpServers": servers}
    handle, name = tempfile.mkstemp(prefix="claude-pool-nb-", suffix=".json")  # mode 0600
    launch.mcp_file = Path(name)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(body, file)
    return launch.mcp_file
