"""Names of models: aliases, full ids, and whether the one that answered is the one that was asked for."""

from __future__ import annotations

import re

from claude_pool_nb.options import MODEL_ALIASES

_LONG_CONTEXT = re.compile(r"\[\d+[km]\]$", re.IGNORECASE)


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
