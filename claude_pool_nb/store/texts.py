"""Texts as the ledger keeps them.

Invariants: every database takes what is made here, and it holds no secret. Prompts and answers come without secrets
(looking through a long one takes a while, which is nothing for the writer's thread): for them `storable` is enough.
"""

from __future__ import annotations

import json
from typing import Any

from claude_pool_nb.redact import redact, redact_json, redact_value


def storable(text: str | None) -> str | None:
    r"""Text that every database takes: half characters, as a cut stream may leave them, become visible escapes.

    Example:
        >>> storable("caf\u00e9 \ud83d")
        'café \\ud83d'
    """
    if text is None or text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def as_json(value: Any) -> str:
    """A nested value as JSON text, readable for a person and for LIKE, without secrets."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    if redact(text) is not text:
        text = json.dumps(redact_value(value), ensure_ascii=False, default=str)
    return storable(text) or "null"


def cleaned(text: str | None) -> str | None:
    """A message as it is stored: what the CLI or the API said may quote a key."""
    return text if text is None else storable(redact(text))


def cleaned_json(text: str | None) -> str | None:
    """Options or inputs, which are JSON, as they are stored: without secrets."""
    return text if text is None else storable(redact_json(text))
