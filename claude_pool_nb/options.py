"""What a single option may be, and the names that are refused.

Invariant: a check either returns the value in its one normal form or raises a ConfigError that names the option, the
value and what it takes; nothing is corrected silently.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar

from claude_pool_nb.errors import ConfigError, NotYetSupported, ReplacedOption, UnknownOption, nearest
from claude_pool_nb.model_names import validate_model
from claude_pool_nb.option_values import (
    NOT_STORED,
    SECRET_FIELDS,
    UNSET,
    UNSET_JSON,
    Effort,
    Only,
    PermissionMode,
    SlotMode,
)
from claude_pool_nb.records import RetryPolicy
from claude_pool_nb.schemas import schema_text


def _wrong(name: str, value: object, takes: str) -> ConfigError:
    """The error that every check raises."""
    shown = repr(value)
    return ConfigError(f"{name}={shown if len(shown) <= 80 else shown[:77] + '...'} cannot work: {name} takes {takes}")


def _text(name: str, value: object) -> str:
    """A string."""
    if not isinstance(value, str):
        raise _wrong(name, value, "text")
    return value


def _writable(name: str, text: str) -> str:
    """A text that a ledger, a file's name and a program's arguments can take."""
    if "\0" in text or (not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text)):
        raise _wrong(name, text, "text without null bytes and half characters")
    return text


def _word(name: str, value: object) -> str:
    """A string that is not empty."""
    text = _text(name, value).strip()
    if not text:
        raise _wrong(name, value, "a name that is not empty")
    return _writable(name, text)


def _model(name: str, value: object) -> str:
    """A model's name, of any backend."""
    return validate_model(_word(name, value))


def _boolean(name: str, value: object) -> bool:
    """True or False, nothing that merely looks like it."""
    if not isinstance(value, bool):
        raise _wrong(name, value, "True or False")
    return value


MOST: Final = 1_000_000_000
"""Numbers end here: what they are multiplied with has to fit into the ledger's integers as well."""


def _number(least: float, *, above: bool = False, most: float = MOST, unit: str = "") -> Callable[[str, object], float]:
    """A finite number from `least` on (or above it)."""
    takes = f"a number {'above' if above else 'of at least'} {least:g}{unit}"

    def check(name: str, value: object) -> float:
        number = _plain_number(value)
        if number is None or not math.isfinite(number) or number < least or (above and number == least):
            raise _wrong(name, value, takes)
        if number > most:
            raise _wrong(name, value, f"{takes}, at most {most:,.0f}")
        return float(number)

    return check


def _integer(least: int | None = None, most: int = MOST) -> Callable[[str, object], int]:
    """A whole number, from `least` on (or from `-most`)."""
    takes = "a whole number" + ("" if least is None else f" of at least {least}")

    def check(name: str, value: object) -> int:
        number = _plain_number(value)
        if (
            number is None
            or not math.isfinite(number)
            or number != int(number)
            or (least is not None and number < least)
        ):
            raise _wrong(name, value, takes)
        if abs(number) > most:
            raise _wrong(name, value, f"{takes}, at most {most:,}")
        return int(number)

    return check


def _plain_number(value: object) -> float | None:
    """An int or float (numpy's too), but no bool and no text."""
    if isinstance(value, bool | str | bytes) or value is None:
        return None
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None


E = TypeVar("E", bound=StrEnum)


def _choice(kind: type[E], replaced: Mapping[str, str] = MappingProxyType({})) -> Callable[[str, object], E]:
    """One of the words of an enum."""

    def check(name: str, value: object) -> E:
        if isinstance(value, str):
            for member in kind:
                if member.value == value:
                    return member
            if value in replaced:
                raise ReplacedOption(f"{name}={value!r}: {replaced[value]}")
            raise ConfigError(f"{name}={value!r} cannot work{nearest(value, [m.value for m in kind])}")
        raise _wrong(name, value, "one of " + ", ".join(m.value for m in kind))

    return check


def unique(values: Iterable[str]) -> tuple[str, ...]:
    """Values in their order, each once.

    Example:
        >>> unique(["a", "b", "a"])
        ('a', 'b')
    """
    return tuple(dict.fromkeys(values))


def _words(name: str, value: object) -> tuple[str, ...]:
    """A sequence of words, or text with commas; without duplicates."""
    if isinstance(value, str):
        return unique(_writable(name, word) for part in _split_commas(value) if (word := part.strip()))
    if isinstance(value, Iterable) and not isinstance(value, bytes | Mapping):
        items = list(value)
        if all(isinstance(item, str) and item.strip() for item in items):
            return unique(_writable(name, item.strip()) for item in items)
    raise _wrong(name, value, "a list of words (or text with commas)")


def _tags(name: str, value: object) -> tuple[str, ...]:
    """Words without blanks: a frame and the ledger join them with blanks."""
    tags = _words(name, value)
    if any(tag.split() != [tag] for tag in tags):
        raise _wrong(name, value, "words without blanks (or text with commas)")
    return tags


def _split_commas(text: str) -> list[str]:
    """Split at commas outside parentheses: `Bash(git log, git diff),Read` is two rules."""
    parts, depth, start = [], 0, 0
    for at, char in enumerate(text):
        if char == "(":
            depth += 1
        elif char == ")":
            depth = max(0, depth - 1)
        elif char == "," and depth == 0:
            parts.append(text[start:at])
            start = at + 1
    return [*parts, text[start:]]


def _rules(name: str, value: object) -> tuple[str, ...] | Only:
    """A list that adds to the inherited one, or `only(...)`."""
    if isinstance(value, Mapping) and set(value) == {"only"}:
        value = Only(_words(name, value["only"]))
    if isinstance(value, Only):
        return Only(_words(name, value.values))
    return _words(name, value)


ALL_TOOLS: Final = "all"
"""The value of `tools` that means all of Claude Code's."""


def _tools(name: str, value: object) -> tuple[str, ...] | str:
    """`all`, `none` or a list of tools."""
    if isinstance(value, str) and value.strip().lower() in ("all", "default"):
        return ALL_TOOLS
    if isinstance(value, str) and value.strip().lower() in ("", "none"):
        return ()
    return _words(name, value)


# the bytes of another encoding, which Python spells as half characters, may be in a value, as they may in os.environ
_VARIABLE = re.compile("[^=\0\ud800-\udfff]+\0[^\0\ud800-\udc7f\udd00-\udfff]*")


def _mapping_of_text(name: str, value: object) -> dict[str, str]:
    """Environment variables."""
    if isinstance(value, Mapping) and all(isinstance(k, str) and isinstance(v, str) for k, v in value.items()):
        if not all(_VARIABLE.fullmatch(f"{variable}\0{text}") for variable, text in value.items()):
            raise _wrong(name, _keys_only(value), "names without = and texts without null bytes and half characters")
        return dict(sorted(value.items()))
    raise _wrong(name, _keys_only(value), "a mapping of names to texts")


def _keys_only(value: object) -> object:
    """What may be shown of a mapping that can hold secrets."""
    return dict.fromkeys(value, "...") if isinstance(value, Mapping) else value


def _servers(name: str, value: object) -> dict[str, Any]:
    """MCP servers by name; UNSET for a name drops the inherited server."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ConfigError(f"{name} is no JSON: {error}") from error
    if isinstance(value, Mapping) and set(value) == {"mcpServers"}:
        value = value["mcpServers"]
    if not isinstance(value, Mapping):
        raise _wrong(name, value, "a mapping of server names to their settings")
    servers: dict[str, Any] = {}
    for key, server in value.items():
        if server is UNSET or server == UNSET_JSON:
            servers[str(key)] = UNSET
        elif isinstance(server, Mapping) and ({"command", "url"} & set(server)):
            servers[str(key)] = json.loads(json.dumps(server))
            for field_name in SECRET_FIELDS:
                for variable, held in (server.get(field_name) or {}).items():
                    if isinstance(held, str) and held.startswith(NOT_STORED):
                        raise ConfigError(
                            f"{name}[{key!r}].{field_name}[{variable!r}] was not stored, as it may be a secret; "
                            f"give {name} anew"
                        )
        else:
            raise _wrong(f"{name}[{key!r}]", _keys_only(server), "a mapping with a command or a url, or UNSET")
    return servers


def _retry(name: str, value: object) -> RetryPolicy:
    """A RetryPolicy, a mapping of its fields, or a number of attempts."""
    if isinstance(value, Mapping):
        known = {f.name for f in fields(RetryPolicy)}
        for key in value:
            if key not in known:
                raise UnknownOption(f"{name} has no field {key!r}{nearest(str(key), known)}")
        value = RetryPolicy(**value)
    elif isinstance(value, int) and not isinstance(value, bool):
        value = RetryPolicy(max_attempts=value)
    if not isinstance(value, RetryPolicy):
        raise _wrong(name, value, "a RetryPolicy, a mapping of its fields or a number of attempts")
    _integer(1)(f"{name}.max_attempts", value.max_attempts)
    _number(0)(f"{name}.initial_backoff_s", value.initial_backoff_s)
    _number(1)(f"{name}.multiplier", value.multiplier)
    _number(0)(f"{name}.max_backoff_s", value.max_backoff_s)
    for switch in ("jitter", "retry_timeouts", "retry_tasks", "retry_writes"):
        _boolean(f"{name}.{switch}", getattr(value, switch))
    return value


def _directory(name: str, value: object) -> str:
    """An existing directory, as an absolute path."""
    if not isinstance(value, str | Path):
        raise _wrong(name, value, "the path of a directory")
    path = Path(value).expanduser()
    if not path.is_dir():
        raise _wrong(name, str(value), "the path of a directory that exists")
    return str(path.absolute())


def _file(name: str, value: object) -> str:
    """An existing file, as an absolute path."""
    if not isinstance(value, str | Path):
        raise _wrong(name, value, "the path of a file")
    path = Path(value).expanduser()
    if not path.is_file():
        raise _wrong(name, str(value), "the path of a file that exists")
    return str(path.absolute())


def _sources(name: str, value: object) -> tuple[str, ...]:
    """Some of Claude Code's settings files."""
    words = _words(name, value)
    for word in words:
        if word not in ("user", "project", "local"):
            raise ConfigError(f"{name}={word!r} cannot work{nearest(word, ('user', 'project', 'local'))}")
    return words


_dollars = _number(0, above=True, most=1_000_000, unit=" dollars")
_seconds = _number(0, above=True, unit=" seconds")

CHECKS: Final[Mapping[str, Callable[[str, object], object]]] = MappingProxyType(
    {
        "profile": _word,
        "model": _model,
        "fallback_model": _model,
        "permission_mode": _choice(PermissionMode),
        "effort": _choice(Effort),
        "slot_mode": _choice(SlotMode, {"ephemeral": "a fresh conversation for every task is called 'isolated' here"}),
        "system_prompt": _text,
        "preset": _boolean,
        "tools": _tools,
        "allowed_tools": _rules,
        "disallowed_tools": _rules,
        "mcp_servers": _servers,
        "setting_sources": _sources,
        "schema": schema_text,
        "max_turns": _integer(1),
        "max_output_tokens": _integer(1),
        "max_budget_usd": _dollars,
        "budget_usd": _number(0, unit=" dollars"),
        "strict_budget": _boolean,
        "timeout_s": _seconds,
        "idle_timeout_s": _seconds,
        "slot_assignment_timeout_s": _seconds,
        "idle_close_s": _seconds,
        "demo_latency_s": _number(0, unit=" seconds"),
        "retry": _retry,
        "prime": _boolean,
        "cache": _boolean,
        "min_slots": _integer(1),
        "max_slots": _integer(1),
        "max_restarts": _integer(0),
        "max_tasks_per_process": _integer(1),
        "max_rss_bytes": _integer(1, most=10**15),
        "unattended_mode": _boolean,
        "allow_bypass": _boolean,
        "cwd": _directory,
        "cli_path": _file,
        "env": _mapping_of_text,
        "conversation": _word,
        "role": _word,
        "name": _word,
        "description": _text,
        "tags": _tags,
        "priority": _integer(),
    }
)
"""The check of every option, by its name."""

# -- names that are refused --------------------------------------------------------------------------------------------

_ALWAYS_SUPERVISED = "slots are always supervised here; max_restarts says how often a lost one is opened again"

REPLACED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "budget_microdollars": "was replaced by budget_usd (dollars)",
        "slot_assignment_timeout_secs": "was replaced by slot_assignment_timeout_s, an option of the pool",
        "json_schema": "was replaced by schema",
        "scaling": "was replaced by min_slots and max_slots",
        "supervisor_enabled": f"is gone: {_ALWAYS_SUPERVISED}",
        "supervisor_interval_secs": f"is gone: {_ALWAYS_SUPERVISED}",
        "detect_permission_prompts": "is gone: denied tools are always reported, see TaskResult.denials",
        "record": "is an argument of Pool and of `%pool start`, no field of their configuration",
        "cassette": "is an argument of Pool and of `%pool start`, no field of their configuration",
        "strict_mcp_config": "is gone: MCP is always strict, no servers are read but those in mcp_servers",
    }
)
"""Names known from claude-pool or looked for here, and where what they did is to be found."""

NOT_YET: Final[Mapping[str, str]] = MappingProxyType(
    {
        "worktree_isolation": "git worktrees are not supported yet; set cwd instead",
        "worktree_base_dir": "git worktrees are not supported yet; set cwd instead",
    }
)
"""Names that do nothing yet, and are refused."""


def refuse_unknown(owner: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Raise the error that fits the first name that is not known.

    Raises:
        ReplacedOption: it has another name here.
        NotYetSupported: it will come.
        UnknownOption: with the nearest name.

    Example:
        >>> refuse_unknown("TaskOverrides", ["json_schema"], ["schema"])
        Traceback (most recent call last):
        claude_pool_nb.errors.ReplacedOption: json_schema was replaced by schema
    """
    options = set(known)
    for name in names:
        if name in options:
            continue
        if name in REPLACED:
            raise ReplacedOption(f"{name} {REPLACED[name]}")
        if name in NOT_YET:
            raise NotYetSupported(f"{name}: {NOT_YET[name]}")
        raise UnknownOption(f"{owner} has no option {name!r}{nearest(name, options)}")
