"""Names of models: aliases, full ids, and whether the model that answered is the one that was asked for."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from claude_pool_nb.errors import UnknownModel, nearest

ALIASES = ("default", "best", "haiku", "sonnet", "opus", "opusplan", "fable")
"""Names that the CLI maps to its latest model of that family."""
_LONG_CONTEXT = re.compile(r"\[\d+[km]\]$", re.IGNORECASE)
_CLOUD = ("CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_FOUNDRY", "CLAUDE_CODE_USE_MANTLE")


def is_full_id(model: str) -> bool:
    """True for a full model id, False for an alias.

    Example:
        >>> is_full_id("claude-haiku-4-5"), is_full_id("haiku"), is_full_id("sonnet[1m]")
        (True, False, False)
    """
    return _LONG_CONTEXT.sub("", model).lower() not in ALIASES


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
    if wanted in {"default", "best", "opusplan"}:
        return True
    if wanted in ALIASES:
        return wanted in got
    # A cloud's id carries the plain one inside (us.anthropic.claude-...-v1:0), a dated id begins with it.
    return wanted == got or got.startswith(wanted + "-") or wanted in got or got in wanted


def check_model(model: str | None, env: Mapping[str, str] | None = None) -> None:
    """Refuse a name that is neither an alias nor a full id.

    Raises:
        UnknownModel: it names the nearest alias.

    Example:
        >>> check_model("haiku")
        >>> check_model("haikoo", {})
        Traceback (most recent call last):
        ...
        claude_pool_nb.errors.UnknownModel: There is no model 'haikoo'; did you mean 'haiku'?
    """
    if model is None:
        return
    name = _LONG_CONTEXT.sub("", model).lower()
    source = os.environ if env is None else env
    if name in ALIASES or name.startswith("claude-"):
        return
    if any(source.get(key) for key in _CLOUD) or source.get("ANTHROPIC_BASE_URL"):
        # A cloud or a gateway has names of its own.
        return
    raise UnknownModel(f"There is no model {model!r}{nearest(model, [*ALIASES, 'claude-...'])}")
