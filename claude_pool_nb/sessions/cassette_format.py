"""What stands on a tape: requests and their answers as lines of JSON that a person can read and `git diff` can show.

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
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from claude_pool_nb.options import MODEL_ALIASES
from claude_pool_nb.records import CostBasis, Denial, Failure, FailureKind, TurnResult, Usage
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
        return cls(digest(values.get("profile"), hashed), {"profile": values.get("profile"), **told})


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
            "tools": None if options.tools is None else list(options.tools),
            "allowed_tools": list(options.allowed_tools),
            "disallowed_tools": list(options.disallowed_tools),
            "mcp_servers": sorted(json.loads(options.mcp_servers)),
            "setting_sources": list(options.setting_sources),
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

    def __post_init__(self) -> None:
        """Hash it."""
        text = self.prompt if isinstance(self.prompt, str) else self.prompt.get("sha256")
        parts = digest(text, _full_model(self.model), self.asked.label, self.sample, self.after)
        object.__setattr__(self, "key", parts)

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


# -- answers -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Entry:
    """One answer of a tape: an attempt, failed ones too."""

    request: Request
    """What was asked."""
    answer: TurnResult
    """What came, without session id."""
    stream: tuple[Happening, ...] | None = None
    """What was seen of it as it came; None: all at once."""
    occurrence: int = 1
    """Which of several tasks that asked the same, from 1."""
    attempt: int = 1
    """Which attempt of that task, from 1."""
    conversation: str | None = None
    """The name of the conversation, for readers of the tape."""
    task: int | None = None
    """The number of the task in its run, where several tasks asked the same."""
    line: int | None = field(default=None, compare=False)
    """Where it stands."""

    @property
    def then(self) -> str:
        """The history after it: a failed turn is rolled back."""
        if self.answer.failure is not None:
            return self.request.after
        return self.request.then(self.answer.output)

    def same_but_for_times(self, other: Entry) -> bool:
        """True if only the clock tells them apart: then the tape keeps what it has."""
        return _timeless(self) == _timeless(other)


def _timeless(entry: Entry) -> Entry:
    """An entry as it would be if all took no time."""
    answer = replace(entry.answer, duration_s=0.0, api_s=0.0)
    if answer.failure is not None and answer.failure.retry_after_s is not None:
        answer = replace(answer, failure=replace(answer.failure, retry_after_s=0.0))
    return replace(entry, answer=answer, stream=None)


_ANSWER_DEFAULTS: Final = {f.name: getattr(TurnResult(), f.name) for f in fields(TurnResult)}


def cleaned(result: TurnResult) -> TurnResult:
    """A result as it may stand on a tape; times to a tenth of a second.

    Example:
        >>> cleaned(TurnResult(output="sk-ant-api03-abcdefgh12345678", session_id="x", duration_s=0.123))
        ... # doctest: +ELLIPSIS
        TurnResult(output='[redacted]', failure=None, ... session_id=None, duration_s=0.1, ...)
    """
    failure = result.failure
    if failure is not None:
        failure = replace(failure, error_type=clean(failure.error_type), message=clean(failure.message))
    return replace(
        result,
        output=clean(result.output),
        failure=failure,
        structured=clean_value(result.structured),
        denials=tuple(Denial(clean(denial.tool), _clean_json(denial.tool_input)) for denial in result.denials),
        warnings=tuple(map(clean, result.warnings)),
        session_id=None,
        duration_s=round(result.duration_s, 1),
        api_s=round(result.api_s, 1),
    )


def _clean_json(text: str) -> str:
    """JSON text without secrets; text that is none as text."""
    if clean(text) == text:
        return text
    try:
        return json.dumps(clean_value(json.loads(text)), ensure_ascii=False)
    except ValueError:
        return clean(text)


# -- lines -------------------------------------------------------------------------------------------------------------


def to_line(value: Mapping[str, Any]) -> bytes:
    r"""One line of a tape.

    Example:
        >>> to_line({"prompt": "wie schön"}).decode()
        '{"prompt": "wie schön"}\n'
    """
    try:
        return (json.dumps(value, ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:  # half of a surrogate pair is no UTF-8, but a model can be asked with it
        return (json.dumps(value) + "\n").encode()


def entry_json(entry: Entry) -> dict[str, Any]:
    """An entry as it stands on the tape: what is as usual is left out."""
    request, answer = entry.request, entry.answer
    told: dict[str, Any] = {"prompt": request.prompt, "model": request.model, "options": request.asked.label}
    optional = {
        "sample": request.sample or None,
        "conversation": entry.conversation,
        "after": request.after or None,
        "occurrence": entry.occurrence if entry.occurrence > 1 else None,
        "attempt": entry.attempt if entry.attempt > 1 else None,
        "task": entry.task,
    }
    told |= {name: value for name, value in optional.items() if value is not None}
    given: dict[str, Any] = {}
    for name, usual in _ANSWER_DEFAULTS.items():
        value = getattr(answer, name)
        if value != usual:
            given[name] = _plain(value)
    told["answer"] = given
    if entry.stream is not None:
        told["stream"] = [list(one) for one in entry.stream]
    return told


def _plain(value: Any) -> Any:
    """Records as mappings, without what is as usual."""
    if isinstance(value, Usage):
        return {f.name: n for f in fields(Usage) if (n := getattr(value, f.name))}
    if isinstance(value, Failure):
        return {f.name: v for f in fields(Failure) if (v := getattr(value, f.name)) is not None}
    if isinstance(value, tuple):
        return [{"tool": v.tool, "tool_input": v.tool_input} if isinstance(v, Denial) else v for v in value]
    return value


def entry_of(told: Mapping[str, Any], known: Mapping[str, Asked], line: int | None = None) -> Entry:
    """Read an entry.

    Raises:
        ValueError: something is missing or of the wrong type; the message names it.

    Example:
        >>> asked = Asked.of({"profile": "prompt"})
        >>> entry = entry_of({"prompt": "hi", "options": asked.label, "answer": {"output": "hello"}},
        ...                  {asked.label: asked})
        >>> entry.answer.output, entry.attempt
        ('hello', 1)
    """
    label = told.get("options")
    if not isinstance(label, str) or label not in known:
        raise ValueError(f"no line before it has the options {label!r}")
    prompt = told.get("prompt")
    if not isinstance(prompt, str) and not (isinstance(prompt, dict) and isinstance(prompt.get("sha256"), str)):
        raise ValueError("'prompt' is missing or no text")
    request = Request(
        prompt,
        _typed(told, "model", str, None),
        known[label],
        _typed(told, "sample", int, 0),
        _typed(told, "after", str, ""),
    )
    answer = told.get("answer")
    if not isinstance(answer, dict):
        raise ValueError("'answer' is missing or no object")
    stream = _typed(told, "stream", list, None)
    return Entry(
        request,
        _answer_of(answer),
        None if stream is None else tuple(_happening(one) for one in stream),
        _typed(told, "occurrence", int, 1),
        _typed(told, "attempt", int, 1),
        _typed(told, "conversation", str, None),
        _typed(told, "task", int, None),
        line,
    )


def _typed(told: Mapping[str, Any], name: str, kind: type, usual: Any) -> Any:
    """A field of that type, or what is usual."""
    value = told.get(name)
    if value is None:
        return usual
    if isinstance(value, bool) is not (kind is bool) or not isinstance(value, (int, float) if kind is float else kind):
        raise ValueError(f"{name!r} is {value!r}, which is no {kind.__name__}")
    return value


def _answer_of(told: Mapping[str, Any]) -> TurnResult:
    """Read an answer."""
    for name in told:
        if name not in _ANSWER_DEFAULTS:
            raise ValueError(f"an answer has no {name!r}")
    usage = _typed(told, "usage", dict, {})
    failure = _typed(told, "failure", dict, None)
    try:
        return TurnResult(
            output=_typed(told, "output", str, ""),
            failure=None if failure is None else Failure(**{**failure, "kind": FailureKind(failure.get("kind"))}),
            cost_nano=_typed(told, "cost_nano", int, 0),
            cost_basis=CostBasis(_typed(told, "cost_basis", str, "exact")),
            usage=Usage(**{name: _typed(usage, name, int, 0) for name in usage}),
            turns=_typed(told, "turns", int, 0),
            model=_typed(told, "model", str, None),
            duration_s=_typed(told, "duration_s", float, 0.0),
            api_s=_typed(told, "api_s", float, 0.0),
            structured=told.get("structured"),
            denials=tuple(Denial(str(d["tool"]), str(d["tool_input"])) for d in _typed(told, "denials", list, [])),
            wrote=_typed(told, "wrote", bool, False),
            warnings=tuple(str(text) for text in _typed(told, "warnings", list, [])),
        )
    except (TypeError, KeyError) as error:
        raise ValueError(f"its answer cannot be read ({error})") from error


_DETAILS: Final[Mapping[str, int]] = {"start": 0, "text": 1, "thinking": 0, "tool": 2, "retry": 3}


def _happening(told: Any) -> Happening:
    """Read one thing of a stream."""
    if (
        not isinstance(told, list)
        or len(told) < 2
        or not isinstance(told[0], int | float)
        or _DETAILS.get(told[1]) != len(told) - 2
    ):
        raise ValueError(f"its stream has {told!r}, which is none of {', '.join(_DETAILS)}")
    return tuple(told)
