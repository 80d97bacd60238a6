"""The answers on a tape: what one is, how it stands in a line of JSON, and how it is read from one.

Invariants: what is as usual is not written, so that lines are short; what is written comes back as it was, and what
cannot be read is told by name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

from claude_pool_nb.records import CostBasis, Denial, Failure, FailureKind, TurnResult, Usage
from claude_pool_nb.sessions.cassette_format import Asked, Happening, Request, clean, clean_json, clean_value

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
        wait_s = None if failure.retry_after_s is None else round(failure.retry_after_s, 1)
        failure = replace(
            failure, error_type=clean(failure.error_type), message=clean(failure.message), retry_after_s=wait_s
        )
    return replace(
        result,
        output=clean(result.output),
        failure=failure,
        structured=clean_value(result.structured),
        denials=tuple(Denial(clean(denial.tool), clean_json(denial.tool_input)) for denial in result.denials),
        warnings=tuple(map(clean, result.warnings)),
        session_id=None,
        duration_s=round(result.duration_s, 1),
        api_s=round(result.api_s, 1),
    )


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
    if isinstance(value, int | float) and value < 0:
        raise ValueError(f"{name!r} is {value!r}, and cannot be below 0")
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
