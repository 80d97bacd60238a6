"""The names of models: aliases, full ids and the demo's; which a backend takes, and whether the one asked for answered.

Invariant: a name that cannot be one is refused here, before anything is spent on it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from claude_pool_nb.errors import UnknownModel, nearest

MODEL_ALIASES: Final[Mapping[str, str]] = MappingProxyType(
    {"haiku": "claude-haiku-5-5", "sonnet": "claude-sonnet-5-5", "opus": "claude-opus-5-5"}
)
"""The aliases and the model ids that the CLI maps them to."""

DEFAULT_MODEL: Final = "claude-opus-5-5"
"""What the CLI uses when no model is named."""

DEMO_MODELS: Final = ("demo-small", "demo-large")
"""The models of the demo session; the aliases work there too (haiku is the small one)."""

_LONG_CONTEXT = re.compile(r"\[\d+[km]\]$", re.IGNORECASE)
_PLATFORM_PREFIXES = ("us.", "eu.", "apac.", "global.", "us-gov.", "jp.", "au.", "arn:")


def validate_model(name: str, *, backend: str | None = None) -> str:
    """Check a model's name before anything is spent on it.

    Args:
        name: An alias (haiku, sonnet, opus), a full id (`claude-...`, or one of Bedrock or Vertex), or a demo model.
        backend: Where it is to run. The demo's models are refused on `claude`; `replay` and None allow either.

    Returns:
        The name, without surrounding white space.

    Raises:
        UnknownModel: it is none of these; the message names the nearest alias.

    Example:
        >>> validate_model("haiku")
        'haiku'
        >>> validate_model("haikku")
        Traceback (most recent call last):
        claude_pool_nb.errors.UnknownModel: there is no model 'haikku'; did you mean 'haiku'?
    """
    wanted = name.strip()
    if wanted in DEMO_MODELS:
        if backend in (None, "demo", "replay"):
            return wanted
        raise UnknownModel(f"model {wanted!r} is one of the demo's; use haiku, sonnet or opus, or backend='demo'")
    base = wanted.removesuffix("[1m]")
    full_id = base.startswith(("claude-", *_PLATFORM_PREFIXES)) or "anthropic." in base
    if base in MODEL_ALIASES or (full_id and not any(c.isspace() for c in base)):
        return wanted
    choices = [*MODEL_ALIASES, *DEMO_MODELS] if backend in (None, "demo", "replay") else [*MODEL_ALIASES]
    hint = nearest(base.lower(), choices)
    raise UnknownModel(
        f"there is no model {name!r}{hint}" + ("" if "did you mean" in hint else " or a full id (claude-...)")
    )


def is_full_id(model: str) -> bool:
    """True for a full model id, False for an alias.

    Example:
        >>> is_full_id("claude-haiku-4-5"), is_full_id("haiku"), is_full_id("sonnet[1m]")
        (True, False, False)
    """
    return _LONG_CONTEXT.sub("", model).lower() not in MODEL_ALIASES


def same_model(requested: str | None, answered: str) -> bool:
    """True if the model that answered is the one asked for, or of the family that an alias names.

    Example:
        >>> same_model("haiku", "claude-haiku-5-5"), same_model("haiku", "claude-sonnet-5-5")
        (True, False)
        >>> same_model("claude-haiku-4-5", "claude-haiku-4-5-20251001"), same_model(None, "claude-opus-5-5")
        (True, True)
    """
    if requested is None:
        return True
    wanted = _LONG_CONTEXT.sub("", requested).lower()
    got = _LONG_CONTEXT.sub("", answered).lower()
    if wanted in MODEL_ALIASES:
        return wanted in got
    # A cloud's id carries the plain one inside (us.anthropic.claude-...-v1:0), a dated id begins with it.
    return wanted == got or got.startswith(wanted + "-") or wanted in got or got in wanted
