"""What must never be stored, shown or recorded: keys, tokens, private keys.

Invariants: `redact` never lengthens a text without a secret and returns it unchanged (the same object); it is linear in
the text's length; what it leaves in place of a secret says which kind it was and nothing of its value.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

_PATTERNS: Final[tuple[tuple[str, tuple[str, ...], re.Pattern[str]], ...]] = (
    ("anthropic key", ("sk-ant-",), re.compile(r"sk-ant-[A-Za-z0-9_-]{8,512}")),
    ("openai key", ("sk-",), re.compile(r"(?<![A-Za-z0-9])sk-(?:proj-|svcacct-|admin-)?[A-Za-z0-9_-]{20,512}")),
    ("aws key", ("AKIA", "ASIA"), re.compile(r"(?<![A-Z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Z0-9])")),
    (
        "aws secret",
        ("secret_access_key", "SECRET_ACCESS_KEY", "SecretAccessKey"),
        re.compile(r"(?i:(?<=secret_access_key)|(?<=secretaccesskey))[\"']?\s{0,8}[=:]\s{0,8}[\"']?[A-Za-z0-9/+=]{40}"),
    ),
    (
        "github token",
        ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
        re.compile(r"(?:gh[pousr]_[A-Za-z0-9]{20,255}|github_pat_[A-Za-z0-9_]{20,255})"),
    ),
    ("slack token", ("xox",), re.compile(r"xox[abeoprs]-[A-Za-z0-9-]{10,255}")),
    ("google key", ("AIza",), re.compile(r"AIza[A-Za-z0-9_-]{35}")),
    (
        "bearer token",
        ("earer ", "EARER "),
        re.compile(r"(?<=[Bb]earer )[A-Za-z0-9._~+/=-]{16,4096}|(?<=BEARER )[A-Za-z0-9._~+/=-]{16,4096}"),
    ),
    (
        "json web token",
        ("eyJ",),
        re.compile(r"eyJ[A-Za-z0-9_-]{8,4096}\.eyJ[A-Za-z0-9_-]{8,4096}\.[A-Za-z0-9_-]{8,4096}"),
    ),
    (
        "private key",
        ("PRIVATE KEY",),
        re.compile(
            r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?-----"
            r"(?:[^-]|-(?!----END)){0,20000}(?:-----END [A-Z ]{0,30}PRIVATE KEY(?: BLOCK)?-----)?"
        ),
    ),
)

_MARKS: Final = tuple(mark for _, marks, _ in _PATTERNS for mark in marks if mark != "sk-ant-")  # which holds "sk-"
"""What says that a pattern is worth trying; nearly all texts have none of these. Looking for one after the other is
several times as fast as one expression for all."""

_SECRET_NAMES: Final = re.compile(r"(?:^|_)(?:KEY|TOKEN|SECRET|PASSWORD)$")
_SECRET_PREFIXES: Final = ("ANTHROPIC_", "CLAUDE_", "AWS_")
_SHORTEST: Final = 8

_WATCHED: Final = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")
"""Keys are often set in a cell, after the import: a change of these is seen at once."""


@dataclass(frozen=True, slots=True)
class _Known:
    """The secret values of an environment; replaced as a whole, because threads read it."""

    values: tuple[tuple[str, str], ...]
    """Values and their names, the longest first."""
    watched: tuple[str | None, ...] | None
    """What the watched variables were; None for an environment that was given."""


def redact(text: str) -> str:
    """Take out keys, tokens and private keys, and the secret values of this process's environment.

    Args:
        text: Any text; a prompt, an error, a page.

    Returns:
        The text with `[redacted: kind]` in their places.

    Example:
        >>> redact("key sk-ant-api03-abcdefgh12345678 leaked")
        'key [redacted: anthropic key] leaked'
        >>> redact("nothing to hide")
        'nothing to hide'
    """
    if len(text) < _SHORTEST:
        return text  # no secret is as short, and most of what the ledger writes down is
    if _known.watched is not None and _known.watched != tuple(map(os.environ.get, _WATCHED)):
        learn_environment()
    for value, name in _known.values:
        if value in text:
            text = text.replace(value, f"[redacted: {name}]")
    for mark in _MARKS:
        if mark in text:
            break
    else:
        return text
    for kind, marks, pattern in _PATTERNS:
        if any(mark in text for mark in marks):
            text = pattern.sub(f"[redacted: {kind}]", text)
    return text


def redact_value(value: Any) -> Any:
    """Take secrets out of all texts of a nested value: lists, dicts and their keys.

    Example:
        >>> redact_value({"key": ["sk-ant-api03-abcdefgh12345678", 3]})
        {'key': ['[redacted: anthropic key]', 3]}
    """
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {redact_value(key): _of_key(key, item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [redact_value(item) for item in value]
    return value


def _of_key(key: object, item: object) -> Any:
    """A value; its key may be the telling word."""
    if isinstance(key, str) and isinstance(item, str):
        known = f"{redact(key)}="
        if not redact(f"{key}={item}").startswith(known):
            return "[redacted]"
    return redact_value(item)


def redact_json(text: str) -> str:
    """Take secrets out of JSON text, which stays JSON.

    Example:
        >>> redact_json('{"system_prompt": "use sk-ant-api03-abcdefgh12345678"}')
        '{"system_prompt": "use [redacted: anthropic key]"}'
    """
    if redact(text) is text:
        return text
    try:
        value = json.loads(text)
    except ValueError:
        return redact(text)
    return json.dumps(redact_value(value), ensure_ascii=False)


def learn_environment(environ: Mapping[str, str] | None = None) -> None:
    """Note the secret values of the environment, so that `redact` knows them whatever they look like.

    Called at import, and by `redact` itself when a key was set since.

    Args:
        environ: An environment to go by from now on; the process's own by default.

    Example:
        >>> learn_environment({"ANTHROPIC_AUTH_TOKEN": "my own gateway's word"})
        >>> redact("401 for my own gateway's word")
        '401 for [redacted: ANTHROPIC_AUTH_TOKEN]'
        >>> learn_environment()
    """
    global _known  # noqa: PLW0603  one assignment, seen whole by every thread
    found = os.environ if environ is None else environ
    values = {
        value: name
        for name, value in found.items()
        if name.startswith(_SECRET_PREFIXES) and _SECRET_NAMES.search(name) and len(value) >= _SHORTEST
    }
    ordered = tuple(sorted(values.items(), key=lambda item: -len(item[0])))
    _known = _Known(ordered, tuple(map(os.environ.get, _WATCHED)) if environ is None else None)


_known = _Known((), None)
learn_environment()
