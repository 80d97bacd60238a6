"""Defaults that a person or a project sets once: for `%pool start` and `Pool()`.

Read from, the first that says something wins: the environment (`CLAUDE_POOL_NB_SLOTS=8`), the table
`[tool.claude-pool-nb]` of the nearest pyproject.toml, the user's own config.toml, the built-in defaults.

Invariants: an unknown name anywhere is an error that names the right one. A project's pyproject.toml may set looks and
sizes only: opening somebody's notebook folder never gives that folder a say in what runs, with which rights, or where
it is stored. Where nobody has set anything, which is where most notebooks are, nothing is imported to read it: that
would be a sixth of `%pool start`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal, get_type_hints

from claude_pool_nb.errors import ConfigError, UnknownOption, nearest
from claude_pool_nb.options import CHECKS

ENV_PREFIX: Final = "CLAUDE_POOL_NB_"
TABLE: Final = "claude-pool-nb"
"""The table of a pyproject.toml, under `tool`."""

PROJECT_MAY_SET: Final = frozenset(
    {
        "slots",
        "max_slots",
        "profile",
        "model",
        "effort",
        "live",
        "max_output_tokens",
        "max_turns",
        "timeout_s",
        "idle_timeout_s",
        "prime",
        "demo_latency_s",
    }
)
"""What the pyproject.toml of a project may set: looks and sizes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Defaults in force, and where each is from.

    Example:
        >>> Settings(slots=2).pool_options()
        {'profile': 'prompt'}
    """

    slots: int = 4
    """How many slots a pool starts with."""
    profile: str = "prompt"
    """`prompt` or `agent`."""
    model: str | None = None
    """Alias or full id; None for the CLI's default."""
    backend: Literal["claude", "demo", "replay"] = "claude"
    """Who answers."""
    budget_usd: float | None = None
    """Wall for what a pool spends."""
    budget_name: str | None = None
    """Pools that name it share one budget."""
    strict_budget: bool | None = None
    """Reserve the worst case of every task."""
    record: str | None = None
    """Tape that a new pool's answers are recorded to."""
    cassette: str | None = None
    """Tape that backend `replay` plays."""
    store: str | None = None
    """File or URL of the ledger; None for the one in the user's data directory."""
    live: Literal["auto", "widget", "static", "off"] = "auto"
    """How a running cell shows what happens."""
    driver: Literal["thread", "inline"] = "thread"
    """Where the pool's loop runs."""
    effort: str | None = None
    """How hard the model thinks."""
    fallback_model: str | None = None
    """Model the CLI turns to when the first is overloaded."""
    system_prompt: str | None = None
    """The base system prompt."""
    permission_mode: str | None = None
    """How the CLI decides about tools that would ask."""
    tools: str | list[str] | None = None
    """Tools the model sees."""
    allowed_tools: str | list[str] | None = None
    """Tools that run without asking."""
    disallowed_tools: str | list[str] | None = None
    """Tools that are never run."""
    mcp_servers: dict[str, Any] | None = None
    """MCP servers by name."""
    setting_sources: str | list[str] | None = None
    """Claude Code settings files to read."""
    max_slots: int | None = None
    """Scaling stops here."""
    max_turns: int | None = None
    """Agent turns per task."""
    max_output_tokens: int | None = None
    """Tokens that one answer may have."""
    timeout_s: float | None = None
    """Wall time of one attempt."""
    idle_timeout_s: float | None = None
    """An attempt from which nothing is heard for this long is stopped."""
    prime: bool | None = None
    """Let the first task of many with a long common prefix go alone."""
    cache: bool | None = None
    """Give identical requests the answer that they had before, free."""
    unattended_mode: bool | None = None
    """Deny at once what would ask."""
    allow_bypass: bool | None = None
    """Must be set for permission_mode='bypassPermissions'."""
    cwd: str | None = None
    """Working directory of the sessions."""
    cli_path: str | None = None
    """Another claude executable."""
    env: dict[str, str] | None = None
    """More environment for the CLI."""
    demo_latency_s: float | None = None
    """Time per answer of the demo."""
    origins: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Where each setting that is not built in was found."""

    def pool_options(self) -> dict[str, Any]:
        """The settings that are options of a PoolConfig, those that are set.

        Example:
            >>> Settings(model="haiku", live="off").pool_options()
            {'profile': 'prompt', 'model': 'haiku'}
        """
        names = (name for name in setting_names() if name in CHECKS)
        return {name: value for name in names if (value := getattr(self, name)) is not None}


def setting_names() -> tuple[str, ...]:
    """The names of all settings.

    Example:
        >>> "live" in setting_names()
        True
    """
    return tuple(f.name for f in fields(Settings) if f.name != "origins")


def user_file() -> Path:
    """The user's own file; it need not be there.

    Example:
        >>> user_file().name
        'config.toml'
    """
    from platformdirs import user_config_path

    return user_config_path("claude-pool-nb", appauthor=False) / "config.toml"


def nearest_pyproject(cwd: Path) -> Path | None:
    """The pyproject.toml of a directory, or of the nearest one above it."""
    for directory in (cwd, *cwd.parents):
        path = directory / "pyproject.toml"
        if path.is_file():
            return path
    return None


def load_settings(cwd: str | Path | None = None) -> Settings:
    """Read the settings in force.

    Args:
        cwd: Where to look for a pyproject.toml, upwards; the current directory by default.

    Raises:
        UnknownOption: there is no setting of some name; the message says where it stands and what was meant.
        ConfigError: a value cannot work, a file is no TOML, or a project sets what it may not.

    Example:
        >>> load_settings("/").slots
        4
    """
    directory = Path.cwd() if cwd is None else Path(cwd).expanduser().absolute()
    own, project = user_file(), nearest_pyproject(directory)
    if not own.is_file() and (project is None or not _names_us(project)) and not any(map(_is_ours, os.environ)):
        return Settings()
    found: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, values in _sources(own, project):
        for name, value in values.items():
            found[name] = value
            origins[name] = origin
    checked = _checked(found, origins)
    return Settings(**checked, origins=origins)


def _is_ours(variable: str) -> bool:
    """Whether a variable of the environment may be a setting, in whatever case."""
    return variable.upper().startswith(ENV_PREFIX)


def _names_us(project: Path) -> bool:
    """False if a pyproject.toml has no table of ours, which nearly none has: the rest of it is not ours to read."""
    try:
        return TABLE.encode() in project.read_bytes()
    except OSError:
        return True  # it is read again, and what is wrong is said


def _sources(own: Path, project: Path | None) -> list[tuple[str, dict[str, Any]]]:
    """Where settings were found and what they say, the weakest first."""
    from pydantic_settings import EnvSettingsSource, PyprojectTomlConfigSettingsSource, TomlConfigSettingsSource
    from pydantic_settings.exceptions import SettingsError

    model = _models()[0]
    sources: list[tuple[str, dict[str, Any]]] = []
    if own.is_file():
        values = _read(own, lambda: TomlConfigSettingsSource(model, toml_file=own))
        _refuse_unknown(str(own), values)
        sources.append((str(own), values))
    if project is not None:
        values = _read(project, lambda: PyprojectTomlConfigSettingsSource(model, toml_file=project))
        _refuse_unknown(f"[tool.claude-pool-nb] of {project}", values)
        for name in values:
            if name not in PROJECT_MAY_SET:
                raise ConfigError(
                    f"[tool.claude-pool-nb] of {project} sets {name!r}; a project may set looks and sizes only "
                    f"({', '.join(sorted(PROJECT_MAY_SET))}): set {name} in {own} or as {ENV_PREFIX}{name.upper()}"
                )
        sources.append((str(project), values))
    known = set(setting_names())
    for variable in os.environ:
        name = variable.removeprefix(ENV_PREFIX).lower()
        if variable.startswith(ENV_PREFIX) and name not in known:
            hint = nearest(name, known)
            raise UnknownOption(f"{variable} is no setting{hint.replace(repr(_meant(hint)), _as_variable(hint))}")
    try:
        sources.append(("the environment", EnvSettingsSource(model)()))
    except SettingsError as error:
        raise ConfigError(f"{ENV_PREFIX}*: {error}; lists and mappings are written as JSON") from error
    return sources


def _read(path: Path, source: Any) -> dict[str, Any]:
    """What a TOML file says."""
    try:
        values: dict[str, Any] = source()()
    except (ValueError, TypeError, OSError) as error:
        raise ConfigError(f"{path} cannot be read as TOML: {error}") from error
    except AttributeError as error:
        raise ConfigError(f"{path} sets tool.claude-pool-nb, which is a table: [tool.claude-pool-nb]") from error
    return values


def _refuse_unknown(where: str, values: Mapping[str, Any]) -> None:
    """Raise for the first name that is no setting."""
    for name in values:
        if name not in setting_names():
            raise UnknownOption(f"{where} sets {name!r}, which is no setting{nearest(name, setting_names())}")


def _meant(hint: str) -> str:
    """The name in a hint of `nearest`."""
    return hint.split("'")[1] if "'" in hint else ""


def _as_variable(hint: str) -> str:
    """The environment variable of the name in a hint."""
    return f"{ENV_PREFIX}{_meant(hint).upper()}"


def _checked(found: Mapping[str, Any], origins: Mapping[str, str]) -> dict[str, Any]:
    """Values of the right types, each checked as the option it becomes."""
    from pydantic import ValidationError

    try:
        typed = _models()[1].model_validate(dict(found))
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        shown = "..." if name in {"env", "mcp_servers"} else repr(first["input"])  # these may hold secrets
        raise ConfigError(f"{name}={shown} ({origins.get(name, 'built in')}) cannot work: {first['msg']}") from error
    values = {name: getattr(typed, name) for name in found}
    for name, value in values.items():
        if name in CHECKS and value is not None:
            try:
                CHECKS[name](name, value)
            except ConfigError as error:
                raise type(error)(f"{error} (from {origins[name]})") from error
    slots = values.get("slots")
    if slots is not None and slots < 1:
        raise ConfigError(
            f"slots={slots} cannot work: slots takes a whole number of at least 1 (from {origins['slots']})"
        )
    return values


@lru_cache(maxsize=1)
def _models() -> tuple[Any, Any]:
    """The same fields as a model to read sources with, and one to check values with.

    Made when first needed: importing pydantic-settings takes its time.
    """
    from pydantic import ConfigDict, create_model
    from pydantic_settings import BaseSettings, SettingsConfigDict

    class Sources(BaseSettings):
        """Says how sources are read; never made."""

        model_config = SettingsConfigDict(
            env_prefix=ENV_PREFIX, pyproject_toml_table_header=("tool", TABLE), env_nested_delimiter=None
        )

    hints = get_type_hints(Settings)
    definitions: dict[str, Any] = {
        f.name: (hints[f.name], f.default) for f in fields(Settings) if f.name != "origins" and f.default is not MISSING
    }
    reader = create_model("SettingsReader", __base__=Sources, **definitions)
    checker = create_model("SettingsChecker", __config__=ConfigDict(extra="forbid"), **definitions)
    return reader, checker
