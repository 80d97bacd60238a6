"""The options that hold for one task in one slot: what `config.resolve` gives and a session is driven with.

Invariant: `launch_key` is a function of exactly the options that are fixed when a session is launched, so two configs
with the same key can be served by one session.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from functools import lru_cache

from claude_pool_nb.option_values import Effort, PermissionMode, SlotMode, shown
from claude_pool_nb.records import RetryPolicy


@dataclass(frozen=True, slots=True, repr=False)
class ResolvedConfig:
    """All options that hold for one task in one slot: what `pool.resolved_config(task)` shows."""

    profile: str = "prompt"
    """`prompt` (no tools, own system prompt) or `agent` (Claude Code's tools and prompt)."""
    model: str | None = None
    """Alias or full id; None for the CLI's default."""
    permission_mode: PermissionMode = PermissionMode.DEFAULT
    """Applied for every task."""
    system_prompt: str = ""
    """The base system prompt. With `preset` it is appended to Claude Code's own."""
    appended_prompt: str = ""
    """Slot identity and shared context, keys sorted; comes after the system prompt."""
    preset: bool = False
    """True: Claude Code's own system prompt comes first."""
    tools: tuple[str, ...] | None = ()
    """Tools the model sees; () for none, None for all of Claude Code's."""
    allowed_tools: tuple[str, ...] = ()
    """Tools that run without asking."""
    disallowed_tools: tuple[str, ...] = ()
    """Tools (or patterns) that are never run."""
    mcp_servers: str = "{}"
    """MCP servers as JSON text; always strict: no others are read."""
    setting_sources: tuple[str, ...] = ()
    """Claude Code settings files to read: none, or some of user, project, local."""
    max_turns: int | None = None
    """Agent turns per task."""
    max_output_tokens: int | None = None
    """Tokens that one answer may have."""
    effort: Effort | None = None
    """How hard the model thinks."""
    fallback_model: str | None = None
    """Model the CLI turns to when the first is overloaded."""
    schema: str | None = None
    """JSON schema of the answer, as JSON text."""
    cwd: str | None = None
    """Working directory of the session; None: an empty private one (prompt) or the notebook's (agent)."""
    cli_path: str | None = None
    """Another claude executable than the one claude-agent-sdk ships."""
    env: tuple[tuple[str, str], ...] = ()
    """More environment for the CLI."""
    conversation: str | None = None
    """The named conversation that the session holds; it is kept on disk to be resumed."""
    resume_session_id: str | None = None
    """Session to resume when a conversation's session is opened."""
    resume_at: str | None = None
    """Message of that session after which to go on (a failed turn is rolled back to it)."""
    slot_mode: SlotMode = SlotMode.ISOLATED
    """Persistent: the slot's conversation goes on; isolated: every task starts after a verified reset."""
    allow_bypass: bool = False
    """Must be set for bypassPermissions."""
    # -- not fixed at launch -------------------------------------------------------------------------------------------
    max_budget_usd: float | None = None
    """Wall for this task."""
    timeout_s: float | None = None
    """Wall time of one attempt."""
    idle_timeout_s: float | None = 300.0
    """An attempt from which nothing is heard for this long is stopped."""
    retry: RetryPolicy = RetryPolicy()
    """Which failures are tried again."""
    prime: bool = True
    """May wait for a first task that warms the prompt cache."""
    cache: bool = False
    """An identical request that was answered before gets that answer, free."""
    slot_assignment_timeout_s: float | None = None
    """A task that has not started after this time fails."""
    max_tasks_per_process: int | None = None
    """The process is replaced after this many tasks."""
    max_rss_bytes: int | None = None
    """The process is replaced when it has outgrown this."""
    idle_close_s: float | None = None
    """The process is closed after this long with nothing to do."""
    demo_latency_s: float | None = None
    """Demo backend only: time per answer; None for 0.05 to 0.4 s by content."""

    def __repr__(self) -> str:
        """All options, secrets left out: a notebook keeps what it shows."""
        every = (f"{f.name}={shown(f.name, getattr(self, f.name))}" for f in fields(self))
        return f"ResolvedConfig({', '.join(every)})"

    @property
    def launch_key(self) -> str:
        """A short hash of the options that are fixed when a session is launched.

        Example:
            >>> ResolvedConfig().launch_key == ResolvedConfig(timeout_s=3).launch_key
            True
        """
        return _launch_key(self)

    @property
    def why_not_cached(self) -> str | None:
        """Why an answer depends on more than the request and cannot be given to an identical one; None if it can.

        Example:
            >>> ResolvedConfig().why_not_cached is None
            True
            >>> ResolvedConfig(conversation="talk").why_not_cached
            'its conversation goes on'
        """
        if self.conversation is not None or self.slot_mode is SlotMode.PERSISTENT:
            return "its conversation goes on"
        if self.tools != () or self.mcp_servers != "{}":
            return "it has tools"
        if self.setting_sources:
            return f"it reads settings files ({', '.join(self.setting_sources)})"
        return None


_NOT_FIXED_AT_LAUNCH = frozenset(
    {
        "model",
        "permission_mode",
        "resume_session_id",
        "resume_at",
        "max_budget_usd",
        "timeout_s",
        "idle_timeout_s",
        "retry",
        "prime",
        "cache",
        "slot_assignment_timeout_s",
        "max_tasks_per_process",
        "max_rss_bytes",
        "idle_close_s",
        "demo_latency_s",
    }
)


@lru_cache(maxsize=256)
def _launch_key(config: ResolvedConfig) -> str:
    """The hash; kept, because it is asked for at every attempt and a pool has few configurations."""
    fixed = {f.name: getattr(config, f.name) for f in fields(config) if f.name not in _NOT_FIXED_AT_LAUNCH}
    return hashlib.sha256(json.dumps(fixed, sort_keys=True, default=str).encode()).hexdigest()[:16]
