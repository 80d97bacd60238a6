"""What stands on a tape: requests, as a person can read them and `git diff` can show them.

Invariants: a request is known by what the model saw (prompt, model, options that matter to an answer, what the
conversation had said before, which sample) and by nothing of where it ran: no slot, no process, no working directory,
no account, no environment. Every text is without secrets and without the path of the home folder before it is hashed
or written, so that the tape of one machine plays on another. The same things give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from claude_pool_nb.model_names import MODEL_ALIASES
from claude_pool_nb.redact import redact, redact_value
from claude_pool_nb.resolved import ResolvedConfig
from claude_pool_nb.sessions.base import Turn

FORMAT: Final = "claude-pool-nb tape"
"""What the first line of a tape says it is."""
VERSION: Final = 1
"""Of the format; another one is refused."""
LONG_CHARS: Final = 20_000
"""Of a longer prompt the tape has the beginning and a hash."""
KEPT_CHARS: Final = 500
"""So much of it."""
BEFORE: Final = "before the tape"
"""The history of a conversation that had begun when the recording did."""

Kept = str | Mapping[str, Any]
"""A text as it stands on the tape: whole, or of a long one its beginning, length and hash."""
Happening = tuple[Any, ...]
"""One thing of a stream: seconds after the prompt, what it was, and its details."""

_USUAL: Final[Mapping[str, Any]] = {
    "permission_mode": "default",
    "system_prompt": "",
    "appended_prompt": "",
    "preset": False,
    "tools": [],
    "allowed_tools": [],
    "disallowed_tools": [],
    "mcp_servers": [],
    "setting_sources": [],
    "max_turns": None,
    "max_output_tokens": None,
    "effort": None,
    "fallback_model": None,
    "schema": None,
}
"""Options that matter to an answer, and what they are where the tape does not say."""

OPTION_NAMES: Final = frozenset(_USUAL)
"""Their names."""

_CONTEXT: Final = "Shared context:\n"
"""Begins what is told to the model in every slot."""
_MARK = re.compile(r"\[redacted: [^\]\n]{1,60}\]")


# -- texts -------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=4)
def _home_pattern(home: str) -> re.Pattern[str] | None:
    """Finds the path of the home folder, whole; None where it is the root."""
    path = home.rstrip("/\\")
    return re.compile(re.escape(path) + r"(?![\w.-])") if len(Path(path or "/").parts) > 1 else None


def clean(text: str) -> str:
    """A text as it may stand on a tape: no secrets, and `~` for the home folder.

    What was taken out is not named by its variable, which another machine may not have.

    Example:
        >>> clean("key sk-ant-api03-abcdefgh12345678 leaked")
        'key [redacted] leaked'
    """
    found = redact(text)
    if "[redacted: " in found:
        found = _MARK.sub("[redacted]", found)
    home = os.environ.get("HOME") or str(Path.home())
    if home in found and (pattern := _home_pattern(home)) is not None:
        found = pattern.sub("~", found)
    return found


def clean_value(value: Any) -> Any:
    """The same for all texts of a nested value, keys included.

    Example:
        >>> clean_value({"token": ["sk-ant-api03-abcdefgh12345678", 3]})
        {'token': ['[redacted]', 3]}
    """
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        known = redact_value(value)  # a key may be the telling word
        return {clean(str(key)): clean_value(item) for key, item in known.items()}
    if isinstance(value, list | tuple):
        return [clean_value(item) for item in value]
    return value


def clean_json(text: str) -> str:
    """The same for JSON text, which stays JSON; text that is none (it was cut) is text.

    Example:
        >>> clean_json('{"token": "sk-ant-api03-abcdefgh12345678"}')
        '{"token": "[redacted]"}'
    """
    if clean(text) == text:
        return text
    try:
        return json.dumps(clean_value(json.loads(text)), ensure_ascii=False)
    except ValueError:
        return clean(text)


def kept(text: str) -> Kept:
    """A text as it stands on the tape.

    Example:
        >>> kept("short")
        'short'
        >>> sorted(kept("x" * 30_000))
        ['begins', 'chars', 'sha256']
    """
    text = clean(text)
    if len(text) <= LONG_CHARS:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return {"begins": text[:KEPT_CHARS], "chars": len(text), "sha256": digest}


def beginning(text: Kept) -> str:
    """As much of a text as the tape has."""
    return text if isinstance(text, str) else str(text.get("begins", ""))


def digest(*parts: Any) -> str:
    """A short hash of plain data.

    Example:
        >>> digest("a", 1) == digest("a", 1) != digest("a", 2)
        True
    """
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:12]


# -- requests ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asked:
    """The options of a request that matter to its answer; most requests of a tape share theirs."""

    label: str
    """A short hash of them, by which the lines of requests name them."""
    values: Mapping[str, Any] = field(compare=False)
    """Those that are not as usual, in a fixed order."""
    anybody: str = field(default="", compare=False)
    """The hash that they would have in a slot without a name, role or description."""

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Asked:
        """From the values as they stand on a tape.

        Example:
            >>> Asked.of({"profile": "prompt", "tools": []}).values
            {'profile': 'prompt'}
        """
        known = {name: values.get(name, usual) for name, usual in _USUAL.items()}
        told = {name: value for name, value in known.items() if value != _USUAL[name]}
        hashed = {**told, "fallback_model": _full_model(known["fallback_model"])}
        profile = values.get("profile")
        anybody = {**hashed, "appended_prompt": _without_identity(known["appended_prompt"])}
        return cls(digest(profile, hashed), {"profile": profile, **told}, digest(profile, anybody))


def _without_identity(appended: Kept) -> Kept:
    """What is told to the model in any slot: the shared context, which comes after the slot's own identity."""
    text = beginning(appended)
    at = 0 if text.startswith(_CONTEXT) else text.find(f"\n\n{_CONTEXT}")
    if at < 0:
        return ""
    return text[at:].lstrip("\n") if isinstance(appended, str) else appended


@lru_cache(maxsize=512)
def asked_of(options: ResolvedConfig) -> Asked:
    """What of the options of a task matters to its answer.

    MCP servers count by their names: where they run and what they are told in secret is the machine's.

    Example:
        >>> asked_of(ResolvedConfig(cwd="/tmp", timeout_s=3)) == asked_of(ResolvedConfig())
        True
        >>> asked_of(ResolvedConfig(max_turns=3)) == asked_of(ResolvedConfig())
        False
    """
    return Asked.of(
        {
            "profile": options.profile,
            "permission_mode": str(options.permission_mode),
            "system_prompt": kept(options.system_prompt),
            "appended_prompt": kept(options.appended_prompt),
            "preset": options.preset,
            "tools": clean_value(options.tools),
            "allowed_tools": clean_value(options.allowed_tools),
            "disallowed_tools": clean_value(options.disallowed_tools),
            "mcp_servers": clean_value(sorted(json.loads(options.mcp_servers))),
            "setting_sources": clean_value(options.setting_sources),
            "max_turns": options.max_turns,
            "max_output_tokens": options.max_output_tokens,
            "effort": None if options.effort is None else str(options.effort),
            "fallback_model": options.fallback_model,
            "schema": None if options.schema is None else clean_value(json.loads(options.schema)),
        }
    )


def _full_model(name: str | None) -> str | None:
    """An alias and the id that it stands for are the same model."""
    if name is None:
        return None
    base, long = name.removesuffix("[1m]"), name.endswith("[1m]")
    return MODEL_ALIASES.get(base, base) + ("[1m]" if long else "")


@dataclass(frozen=True, slots=True)
class Request:
    """What a model was asked, or is to be."""

    prompt: Kept
    """The prompt."""
    model: str | None
    """The model asked for; None for the CLI's default."""
    asked: Asked
    """The options."""
    sample: int = 0
    """Which sample of its row."""
    after: str = ""
    """A hash of what the conversation had said before; empty at its beginning."""
    key: str = field(init=False, compare=False)
    """A hash of all of it."""
    anybody: str = field(init=False, compare=False)
    """The key that it would have in a slot without an identity."""

    def __post_init__(self) -> None:
        """Hash it."""
        text = self.prompt if isinstance(self.prompt, str) else self.prompt.get("sha256")
        for name, options in (("key", self.asked.label), ("anybody", self.asked.anybody)):
            value = digest(text, _full_model(self.model), options, self.sample, self.after)
            object.__setattr__(self, name, value)

    @classmethod
    def of(cls, turn: Turn, after: str = "") -> Request:
        """The request that a turn makes.

        Example:
            >>> one = Request.of(Turn("hi", ResolvedConfig(model="haiku")))
            >>> one.key == Request.of(Turn("hi", ResolvedConfig(model="haiku", cwd="/tmp"))).key
            True
            >>> one.key == Request.of(Turn("hi", ResolvedConfig(model="sonnet"))).key
            False
        """
        options = turn.options
        return cls(kept(turn.prompt), options.model, asked_of(options), turn.sample, after)

    def then(self, output: str) -> str:
        """The hash of the conversation with this request and its answer added."""
        text = self.prompt if isinstance(self.prompt, str) else self.prompt.get("sha256")
        return digest(self.after, text, clean(output))
