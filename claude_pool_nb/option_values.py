"""Values that options have: the special ones, the enums, and how each is stored and shown.

Invariants: `UNSET` and `only(...)` survive JSON; what may be secret in a value is neither stored nor shown.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from claude_pool_nb.records import RetryPolicy
from claude_pool_nb.redact import redact


class Unset:
    """The type of `UNSET`: an option that drops what it would inherit, back to the profile's or the CLI's default.

    Example:
        >>> UNSET, bool(UNSET), Unset() is UNSET
        (UNSET, False, True)
    """

    __slots__ = ()
    _instance: Unset | None = None

    def __new__(cls) -> Unset:
        """There is one."""
        if cls._instance is None:
            cls._instance = super().__new__(cls)
        return cls._instance

    def __repr__(self) -> str:
        return "UNSET"

    def __bool__(self) -> bool:
        return False

    def __reduce__(self) -> tuple[type[Unset], tuple[()]]:
        return (Unset, ())


UNSET: Final = Unset()


@dataclass(frozen=True, slots=True)
class Only:
    """A list that stands for itself: what it would inherit is left out. Made by `only`."""

    values: tuple[str, ...]

    def __repr__(self) -> str:
        return f"only({', '.join(map(repr, self.values))})"


def only(*values: str) -> Only:
    """Replace an inherited list instead of adding to it; `only()` is the empty list.

    Example:
        >>> only("Read", "Grep")
        only('Read', 'Grep')
    """
    return Only(tuple(values))


class SlotMode(StrEnum):
    """Whether a slot's conversation goes on from task to task."""

    ISOLATED = "isolated"
    PERSISTENT = "persistent"


class PermissionMode(StrEnum):
    """How the CLI decides about tools that would ask."""

    DEFAULT = "default"
    ACCEPT_EDITS = "acceptEdits"
    PLAN = "plan"
    DONT_ASK = "dontAsk"
    BYPASS = "bypassPermissions"


class Effort(StrEnum):
    """How hard the model thinks."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    XHIGH = "xhigh"
    MAX = "max"


# -- values as they are stored and shown -------------------------------------------------------------------------------

UNSET_JSON: Final[Mapping[str, bool]] = MappingProxyType({"unset": True})
"""What `UNSET` is in JSON."""
SECRET_FIELDS: Final = ("env", "headers")
"""Parts of an MCP server's settings whose values may be secret."""
NOT_STORED: Final = "[not stored: "
"""What stands in place of such a value begins with this."""


def without_secrets(servers: object) -> object:
    """MCP servers with the values of their environment and headers replaced by what tells them apart and no more.

    Example:
        >>> without_secrets({"x": {"url": "u", "headers": {"Authorization": "hush"}}})
        {'x': {'url': 'u', 'headers': {'Authorization': '[not stored: 53ae]'}}}
    """
    if not isinstance(servers, Mapping):
        return servers
    cleaned: dict[str, Any] = {}
    for name, server in servers.items():
        cleaned[name] = server
        if isinstance(server, Mapping):
            secret = {f: {k: _fingerprint(v) for k, v in server[f].items()} for f in SECRET_FIELDS if server.get(f)}
            cleaned[name] = {**server, **secret}
    return cleaned


def _fingerprint(value: object) -> str:
    """Two bytes of a hash: enough to tell a changed value, too few to find it by."""
    return f"{NOT_STORED}{hashlib.blake2b(str(value).encode(), digest_size=2).hexdigest()}]"


def shown(name: str, value: object) -> str:
    """An option's value as it may be shown: of what may be secret only the names.

    Example:
        >>> shown("env", {"TOKEN": "hush"}), shown("model", "haiku")
        ("{'TOKEN': '...'}", "'haiku'")
    """
    if name == "env" and isinstance(value, Mapping | tuple):
        return repr(dict.fromkeys(dict(value), "..."))
    if name == "mcp_servers" and isinstance(value, str):
        return repr(json.dumps(without_secrets(json.loads(value))))
    if isinstance(value, StrEnum):
        return repr(value.value)
    return redact(repr(without_secrets(value) if name == "mcp_servers" else value))


def to_plain(value: object) -> object:
    """An option's value as plain JSON data; `from_plain` and its check bring it back.

    Example:
        >>> to_plain(UNSET), to_plain(only("Read"))
        ({'unset': True}, {'only': ['Read']})
    """
    if value is UNSET:
        return dict(UNSET_JSON)
    if isinstance(value, Only):
        return {"only": list(value.values)}
    if isinstance(value, RetryPolicy):
        return asdict(value)
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, StrEnum):
        return value.value
    return list(value) if isinstance(value, tuple) else value


def from_plain(value: object) -> object:
    """Bring UNSET back from JSON data; the option's check does the rest.

    Example:
        >>> from_plain({"unset": True})
        UNSET
    """
    # Only a mapping is compared: a DataFrame that was given by mistake is neither equal nor unequal.
    return UNSET if isinstance(value, Mapping) and value == UNSET_JSON else value
