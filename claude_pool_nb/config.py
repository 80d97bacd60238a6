"""Options of pools, slots and tasks, and the rule by which three levels of them become one.

Invariants: a field acts or is refused by name; nothing is accepted and ignored. `resolve` is a pure function: the same
levels give the same `ResolvedConfig`, and `launch_key` names exactly the options that are fixed when a session starts.

The rule: a single value is taken from the nearest level that has one (task, slot, pool, profile). Lists (allowed_tools,
disallowed_tools) are joined, pool first, without duplicates; `only(...)` replaces what is inherited. MCP servers are
merged by name. `UNSET` drops what is inherited: a value goes back to the profile's or the CLI's default, a list becomes
empty, a server is left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from types import MappingProxyType
from typing import Any, Final, Self

from claude_pool_nb.errors import ConfigError, nearest
from claude_pool_nb.model_names import DEMO_MODELS, MODEL_ALIASES, validate_model
from claude_pool_nb.option_values import (
    UNSET,
    Effort,
    Only,
    PermissionMode,
    SlotMode,
    Unset,
    from_plain,
    only,
    shown,
    to_plain,
    without_secrets,
)
from claude_pool_nb.options import ALL_TOOLS, CHECKS, refuse_unknown, unique
from claude_pool_nb.records import RetryPolicy
from claude_pool_nb.resolved import ResolvedConfig

__all__ = [
    "DEMO_MODELS",
    "MODEL_ALIASES",
    "PROFILES",
    "STRICT_MAX_OUTPUT_TOKENS",
    "UNSET",
    "Effort",
    "Only",
    "PermissionMode",
    "PoolConfig",
    "Profile",
    "ResolvedConfig",
    "SlotConfig",
    "SlotMode",
    "TaskOverrides",
    "Unset",
    "only",
    "resolve",
    "validate_model",
]

STRICT_MAX_OUTPUT_TOKENS: Final = 4_096
"""With a strict budget a task that names no max_output_tokens gets this: its worst case must have a bound."""


@dataclass(frozen=True, slots=True)
class Profile:
    """A named set of session options: what holds where no level says otherwise."""

    name: str
    """`prompt` or `agent`."""
    tools: tuple[str, ...] | None
    """Tools the model sees; None for all of Claude Code's."""
    preset: bool
    """True: Claude Code's own system prompt comes first."""
    system_prompt: str
    """The base system prompt."""
    permission_mode: PermissionMode
    """How the CLI decides about tools that would ask."""
    setting_sources: tuple[str, ...]
    """Claude Code settings files to read."""


PROFILES: Final[Mapping[str, Profile]] = MappingProxyType(
    {
        "prompt": Profile("prompt", (), False, "You are a helpful assistant.", PermissionMode.DEFAULT, ()),
        "agent": Profile("agent", None, True, "", PermissionMode.PLAN, ("user", "project", "local")),
    }
)
"""`prompt`: no tools, no settings files, own system prompt. `agent`: Claude Code as it is, in plan mode."""


class _Level:
    """What the three levels share: names and values are checked when one is made."""

    __slots__ = ()

    def __new__(cls, *args: object, **options: object) -> Self:
        """Refuse unknown names before dataclasses would, with the nearest one."""
        if args:
            raise ConfigError(f"{cls.__name__} takes its options by name, as in {cls.__name__}(model='haiku')")
        refuse_unknown(cls.__name__, options, cls.option_names())
        return super().__new__(cls)

    def __post_init__(self) -> None:
        """Bring every value into its normal form, or refuse it."""
        for name in self.option_names():
            value = getattr(self, name)
            if value is not None and value is not UNSET:
                object.__setattr__(self, name, CHECKS[name](name, value))

    @classmethod
    def option_names(cls) -> tuple[str, ...]:
        """The names of its options.

        Example:
            >>> "max_turns" in TaskOverrides.option_names()
            True
        """
        return tuple(f.name for f in fields(cls))  # type: ignore[arg-type]

    @classmethod
    def from_mapping(cls, options: Mapping[str, Any]) -> Self:
        """Make one from a mapping (of JSON or TOML).

        Raises:
            UnknownOption, ReplacedOption, NotYetSupported: a name is refused.
            ConfigError: a value cannot work.

        Example:
            >>> PoolConfig.from_mapping({"model": "haiku"}).model
            'haiku'
        """
        return cls(**{str(name): from_plain(value) for name, value in options.items()})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Bring back what `to_json` wrote.

        Example:
            >>> TaskOverrides.from_json('{"tags": ["night"]}').tags
            ('night',)
        """
        return cls.from_mapping(json.loads(text))

    def to_mapping(self) -> dict[str, Any]:
        """The options that differ from the defaults, as plain data, without what may be secret in MCP servers.

        Example:
            >>> TaskOverrides(effort="low", model=UNSET).to_mapping()
            {'model': {'unset': True}, 'effort': 'low'}
        """
        default = type(self)()
        changed = (name for name in self.option_names() if getattr(self, name) != getattr(default, name))
        mapping = {name: to_plain(getattr(self, name)) for name in changed}
        if "mcp_servers" in mapping:
            mapping["mcp_servers"] = without_secrets(mapping["mcp_servers"])
        return mapping

    def __repr__(self) -> str:
        """What it is made with, secrets left out: a notebook keeps what it shows."""
        default = type(self)()
        changed = (name for name in self.option_names() if getattr(self, name) != getattr(default, name))
        return f"{type(self).__name__}({', '.join(f'{name}={shown(name, getattr(self, name))}' for name in changed)})"

    def to_json(self) -> str:
        """The options that differ from the defaults, as JSON text for the ledger.

        Example:
            >>> TaskOverrides(max_turns=3).to_json()
            '{"max_turns": 3}'
        """
        return json.dumps(self.to_mapping(), ensure_ascii=False)


_MAY_BE_NONE = frozenset({"idle_timeout_s", "max_tasks_per_process", "max_rss_bytes", "idle_close_s"})
"""Options with a default for which None means no limit."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PoolConfig(_Level):
    """Options that hold for every slot and task of a pool, unless these say otherwise.

    Example:
        >>> PoolConfig(profile="prompt", model="haiku", budget_usd=5).budget_usd
        5.0
    """

    profile: str = "agent"
    """`prompt` (no tools, own system prompt) or `agent` (Claude Code's tools and prompt)."""
    model: str | None = None
    """Alias (haiku, sonnet, opus) or full id; None for the CLI's default."""
    permission_mode: PermissionMode | str | None = None
    """How the CLI decides about tools that would ask; None for the profile's (agent: plan, prompt: default)."""
    max_turns: int | None = None
    """Agent turns per task."""
    system_prompt: str | None = None
    """The base system prompt; with the agent profile it is appended to Claude Code's own."""
    preset: bool | None = None
    """True: Claude Code's own system prompt comes first; None for the profile's."""
    tools: Any = None
    """Tools the model sees: a list, `all` (Claude Code's), `none`; None for the profile's."""
    allowed_tools: Any = ()
    """Tools that run without asking."""
    disallowed_tools: Any = ()
    """Tools (or patterns) that are never run."""
    mcp_servers: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """MCP servers by name; always strict: no others are read."""
    setting_sources: Any = None
    """Claude Code settings files to read (user, project, local); None for the profile's."""
    effort: Effort | str | None = None
    """How hard the model thinks."""
    fallback_model: str | None = None
    """Model the CLI turns to when the first is overloaded."""
    schema: Any = None
    """What answers look like: a pydantic model, dataclass, TypedDict or JSON schema, or `label: str, score: float`."""
    max_output_tokens: int | None = None
    """Tokens that one answer may have."""
    budget_usd: float | None = None
    """Wall for what the pool spends; None for no wall."""
    strict_budget: bool = False
    """Reserve the worst case of every task, so that the budget cannot be exceeded at all. Tools then need max_turns."""
    slot_mode: SlotMode | str = SlotMode.ISOLATED
    """`isolated`: every task starts afresh; `persistent`: a slot's conversation goes on."""
    min_slots: int = 1
    """Scaling stops here."""
    max_slots: int = 64
    """And here."""
    max_restarts: int = 3
    """How often in a row a slot's lost session is opened again."""
    slot_assignment_timeout_s: float | None = None
    """A task that has not started after this time fails; None: it waits its turn."""
    retry: Any = RetryPolicy()
    """Which failures are tried again."""
    timeout_s: float | None = None
    """Wall time of one attempt; None for no limit."""
    idle_timeout_s: float | None = 300.0
    """An attempt from which nothing is heard for this long is stopped; None for no limit."""
    unattended_mode: bool = False
    """Nobody is there to be asked: what would ask is denied at once and told in the result."""
    allow_bypass: bool = False
    """Must be set for permission_mode='bypassPermissions', which lets every tool run unasked."""
    prime: bool = True
    """Of tasks with a long common prefix let the first go alone, so that the others read it from the prompt cache."""
    cache: bool = False
    """An identical request that was answered before gets that answer from the ledger, free. Tasks with tools or in a
    conversation are always sent."""
    cwd: Any = None
    """Working directory; None: an empty private one (prompt) or the notebook's (agent)."""
    cli_path: Any = None
    """Another claude executable than the one claude-agent-sdk ships."""
    env: Mapping[str, str] = field(default_factory=dict, hash=False)
    """More environment for the CLI."""
    max_tasks_per_process: int | None = 1_000
    """A process is replaced after this many tasks."""
    max_rss_bytes: int | None = 805_306_368
    """A process is replaced when it has outgrown this."""
    idle_close_s: float | None = 900.0
    """A process that has had nothing to do for this long is closed; the next task opens one. Persistent slots keep
    theirs, which alone holds their conversation."""
    demo_latency_s: float | None = None
    """Demo backend only: time per answer; None for 0.05 to 0.4 s by content, 0 for none."""

    def to_mapping(self) -> dict[str, Any]:
        """The options that differ from the defaults, as plain data. `env` may hold secrets and is left out.

        Example:
            >>> PoolConfig(model="haiku", env={"TOKEN": "secret"}).to_mapping()
            {'model': 'haiku'}
        """
        mapping = _Level.to_mapping(self)
        mapping.pop("env", None)
        return mapping

    def __post_init__(self) -> None:
        """Check the values, then those that depend on each other."""
        for option in fields(self):
            value = getattr(self, option.name)
            default = option.default_factory() if option.default_factory is not MISSING else option.default
            if value is UNSET:  # a pool has nothing to inherit but the defaults
                object.__setattr__(self, option.name, default)
            elif value is None and default is not None and option.name not in _MAY_BE_NONE:
                raise ConfigError(f"{option.name}=None cannot work: leave {option.name} out for its default")
        _Level.__post_init__(self)
        if self.profile not in PROFILES:
            raise ConfigError(f"there is no profile {self.profile!r}{nearest(self.profile, PROFILES)}")
        if self.min_slots > self.max_slots:
            raise ConfigError(f"min_slots={self.min_slots} is more than max_slots={self.max_slots}")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SlotConfig(_Level):
    """Options of one slot, its identity among them. None inherits.

    Example:
        >>> SlotConfig(name="Ada", role="reviewer").role
        'reviewer'
    """

    name: str | Unset | None = None
    """Its name; told to the model."""
    role: str | Unset | None = None
    """Its role: tasks may ask for it."""
    description: str | Unset | None = None
    """What it is good at; told to the model."""
    model: str | Unset | None = None
    """As in PoolConfig."""
    permission_mode: PermissionMode | str | Unset | None = None
    """As in PoolConfig."""
    max_turns: int | Unset | None = None
    """As in PoolConfig."""
    system_prompt: str | Unset | None = None
    """Replaces the pool's."""
    tools: Any = None
    """Replaces the pool's."""
    allowed_tools: Any = None
    """Adds to the pool's; `only(...)` replaces them."""
    disallowed_tools: Any = None
    """Adds to the pool's; `only(...)` replaces them."""
    mcp_servers: Any = field(default=None, hash=False)
    """Merged by name with the pool's; UNSET for a name drops that server."""
    effort: Effort | str | Unset | None = None
    """As in PoolConfig."""
    fallback_model: str | Unset | None = None
    """As in PoolConfig."""
    max_output_tokens: int | Unset | None = None
    """As in PoolConfig."""
    timeout_s: float | Unset | None = None
    """As in PoolConfig."""
    idle_timeout_s: float | Unset | None = None
    """As in PoolConfig."""
    cwd: Any = None
    """As in PoolConfig."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TaskOverrides(_Level):
    """Options of one task. None inherits.

    Example:
        >>> TaskOverrides(model="haiku", allowed_tools=only("Read")).allowed_tools
        only('Read')
    """

    model: str | Unset | None = None
    """As in PoolConfig."""
    conversation: str | Unset | None = None
    """Name of the conversation that the task goes on with."""
    role: str | Unset | None = None
    """Only slots of this role may run it."""
    system_prompt: str | Unset | None = None
    """Replaces the slot's and the pool's."""
    tools: Any = None
    """Replaces the slot's and the pool's."""
    allowed_tools: Any = None
    """Adds to the slot's and the pool's; `only(...)` replaces them."""
    disallowed_tools: Any = None
    """Adds to the slot's and the pool's; `only(...)` replaces them."""
    mcp_servers: Any = field(default=None, hash=False)
    """Merged by name; UNSET for a name drops that server."""
    schema: Any = None
    """What the answer looks like, as in PoolConfig."""
    max_turns: int | Unset | None = None
    """Agent turns."""
    max_output_tokens: int | Unset | None = None
    """Tokens that the answer may have."""
    max_budget_usd: float | Unset | None = None
    """Wall for this task, over all its attempts."""
    timeout_s: float | Unset | None = None
    """Wall time of one attempt; UNSET for no limit."""
    idle_timeout_s: float | Unset | None = None
    """As in PoolConfig; UNSET for the usual 300 s."""
    effort: Effort | str | Unset | None = None
    """How hard the model thinks."""
    permission_mode: PermissionMode | str | Unset | None = None
    """How the CLI decides about tools that would ask."""
    fallback_model: str | Unset | None = None
    """Model the CLI turns to when the first is overloaded."""
    tags: Any = None
    """Words to find the task by."""
    priority: int | Unset | None = None
    """Higher goes first; 0 is usual."""
    retry: Any = None
    """Which failures are tried again."""
    cwd: Any = None
    """Working directory."""
    prime: bool | Unset | None = None
    """May wait for a first task that warms the prompt cache."""
    cache: bool | Unset | None = None
    """An identical request that was answered before gets that answer from the ledger, free, marked `cached`: no slot,
    no tokens, $0. Identical is the same model, system prompt, prompt, schema, effort, max_output_tokens and sample."""


def resolve(
    pool: PoolConfig,
    slot: SlotConfig | None = None,
    task: TaskOverrides | None = None,
    *,
    context: Mapping[str, str] = MappingProxyType({}),
    backend: str | None = None,
    resume_session_id: str | None = None,
    resume_at: str | None = None,
) -> ResolvedConfig:
    """Join the three levels into the options that hold for one task in one slot.

    Args:
        pool: The pool's options.
        slot: The slot's; None where the slot is not known yet.
        task: The task's.
        context: The shared context, told to the model with its keys sorted.
        backend: Where it is to run; model names are checked for it.
        resume_session_id: The session of the task's conversation.
        resume_at: The message of that session after which to go on.

    Raises:
        UnknownModel: the backend has no such model.
        ConfigError: options that cannot go together.

    Example:
        >>> levels = PoolConfig(allowed_tools=["Read"]), SlotConfig(model="opus"), TaskOverrides(allowed_tools=["Grep"])
        >>> config = resolve(*levels)
        >>> config.model, config.allowed_tools, config.permission_mode.value
        ('opus', ('Read', 'Grep'), 'plan')
        >>> resolve(PoolConfig(model="opus"), task=TaskOverrides(model=UNSET)).model is None
        True
    """
    slot = slot or _NO_SLOT
    task = task or _NO_TASK
    levels: tuple[_Level, ...] = (task, slot, pool)
    profile = PROFILES[pool.profile]

    def pick(name: str, default: Any = None) -> Any:
        for level in levels:
            value = getattr(level, name, None)
            if value is UNSET:
                return default
            if value is not None:
                return value
        return default

    tools = pick("tools", profile.tools)
    config = ResolvedConfig(
        profile=profile.name,
        model=pick("model"),
        permission_mode=pick(
            "permission_mode", PermissionMode.DONT_ASK if pool.unattended_mode else profile.permission_mode
        ),
        system_prompt=pick("system_prompt", profile.system_prompt),
        appended_prompt=_appended(slot, context),
        preset=pick("preset", profile.preset),
        tools=None if tools == ALL_TOOLS else tools,
        allowed_tools=_joined("allowed_tools", pool, slot, task),
        disallowed_tools=_joined("disallowed_tools", pool, slot, task),
        mcp_servers=_servers(pool, slot, task),
        setting_sources=pick("setting_sources", profile.setting_sources),
        max_turns=pick("max_turns"),
        max_output_tokens=pick("max_output_tokens", STRICT_MAX_OUTPUT_TOKENS if pool.strict_budget else None),
        effort=pick("effort"),
        fallback_model=pick("fallback_model"),
        schema=pick("schema"),
        cwd=pick("cwd"),
        cli_path=pick("cli_path"),
        env=tuple(pool.env.items()),
        conversation=pick("conversation"),
        resume_session_id=resume_session_id,
        resume_at=resume_at,
        slot_mode=SlotMode(pool.slot_mode),
        allow_bypass=pool.allow_bypass,
        max_budget_usd=pick("max_budget_usd"),
        timeout_s=pick("timeout_s"),
        idle_timeout_s=_idle_timeout(pool, slot, task),
        retry=pick("retry", RetryPolicy()),
        prime=pick("prime", True),
        cache=pick("cache", False),
        slot_assignment_timeout_s=pool.slot_assignment_timeout_s,
        max_tasks_per_process=pool.max_tasks_per_process,
        max_rss_bytes=pool.max_rss_bytes,
        idle_close_s=pool.idle_close_s,
        demo_latency_s=pool.demo_latency_s,
    )
    _refuse_contradictions(config, strict=pool.strict_budget, backend=backend)
    asked_here = task.cache is True or (task == _NO_TASK and slot == _NO_SLOT)
    if config.cache and asked_here and (why := config.why_not_cached) is not None:
        raise ConfigError(f"cache=True cannot work: {why}, so the answer depends on more than the request")
    return config


_NO_SLOT = SlotConfig()
_NO_TASK = TaskOverrides()


def _idle_timeout(pool: PoolConfig, *nearer: _Level) -> float | None:
    """The pool's None means no limit, a nearer None inherits, UNSET is the usual time."""
    usual: float | None = ResolvedConfig().idle_timeout_s
    for level in reversed(nearer):
        value: Any = getattr(level, "idle_timeout_s", None)
        if value is not None:
            return usual if value is UNSET else value
    return pool.idle_timeout_s


def _joined(name: str, *levels: _Level) -> tuple[str, ...]:
    """A list over the levels, farthest first."""
    values: tuple[str, ...] = ()
    for level in levels:
        value = getattr(level, name)
        if value is UNSET:
            values = ()
        elif isinstance(value, Only):
            values = value.values
        elif value is not None:
            values += value
    return unique(values)


def _servers(*levels: _Level) -> str:
    """MCP servers over the levels, farthest first, as JSON text."""
    servers: dict[str, Any] = {}
    for level in levels:
        value = level.mcp_servers  # type: ignore[attr-defined]
        if value is UNSET:
            servers = {}
        elif value is not None:
            servers |= value
    kept = {name: server for name, server in servers.items() if server is not UNSET}
    return json.dumps(kept, ensure_ascii=False, sort_keys=True) if kept else "{}"


def _appended(slot: SlotConfig, context: Mapping[str, str]) -> str:
    """Identity of the slot and shared context, as text for the model."""
    parts = []
    role = f"{'an' if str(slot.role)[:1].lower() in 'aeiou' else 'a'} {slot.role}" if slot.role else ""
    if slot.name or role:
        parts.append(f"You are {', '.join(str(who) for who in (slot.name, role) if who)}.")
    if slot.description:
        parts.append(str(slot.description))
    text = " ".join(parts)
    if context:
        lines = [f"- {key}: {context[key]}" for key in sorted(context)]
        text = "\n\n".join(filter(None, [text, "Shared context:\n" + "\n".join(lines)]))
    return text


def _refuse_contradictions(config: ResolvedConfig, *, strict: bool, backend: str | None) -> None:
    """Refuse options that are right one by one and wrong together."""
    for name in (config.model, config.fallback_model):
        if name is not None:
            validate_model(name, backend=backend)
    has_tools = config.tools != () or config.mcp_servers != "{}"
    if config.permission_mode is PermissionMode.PLAN and not has_tools:
        raise ConfigError(
            "permission_mode='plan' cannot work without tools: the CLI would silently turn haiku into sonnet, "
            "at 20 times the price; leave permission_mode out, or give tools"
        )
    if config.permission_mode is PermissionMode.BYPASS and not config.allow_bypass:
        raise ConfigError(
            "permission_mode='bypassPermissions' lets every tool run unasked on this machine; "
            "if that is meant, set allow_bypass=True too"
        )
    if strict and has_tools and config.max_turns is None:
        raise ConfigError("strict_budget=True needs max_turns where tools are used: the worst case must have a bound")
