"""Why a request is not on a tape: the nearest one that is, and what differs.

Invariant: looking costs about the same on a tape of ten answers and of ten thousand, because every row of a run may
miss: candidates are the neighbours in two sorted lists, one of the prompts and one of the prompts turned round.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Any

from claude_pool_nb.sessions.cassette_entry import Entry
from claude_pool_nb.sessions.cassette_format import BEFORE, Request, beginning

NEIGHBOURS = 3
"""So many prompts to either side are looked at."""
FEW, MANY = 12, 48
"""So many requests (of other models, options, samples) are looked at of another prompt, and of the very one."""
SHOWN_CHARS = 24
"""So much of a differing text is shown."""


class Nearest:
    """Finds the request on a tape that is most like another one.

    Example:
        >>> from claude_pool_nb.records import TurnResult
        >>> from claude_pool_nb.sessions.cassette_format import Asked
        >>> asked = Asked.of({"profile": "prompt"})
        >>> ask = lambda prompt: Request(prompt, "haiku", asked)
        >>> nearest = Nearest([Entry(ask(p), TurnResult()) for p in ("review 7: good", "a poem")])
        >>> found = nearest.to(ask("review 8: good"))
        >>> differences(found.request, ask("review 8: good"))
        ["the prompt from character 8 on ('7: good' on the tape, '8: good' asked)"]
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        first: dict[str, Entry] = {}
        for entry in entries:
            first.setdefault(entry.request.key, entry)
        self._of_text: dict[str, list[Entry]] = {}
        for entry in first.values():
            self._of_text.setdefault(beginning(entry.request.prompt), []).append(entry)
        self._forward = sorted(self._of_text)
        self._backward = sorted(text[::-1] for text in self._of_text)

    def to(self, request: Request) -> Entry | None:
        """The entry whose request is most like this one; None on an empty tape."""
        text = beginning(request.prompt)
        texts = dict.fromkeys(
            [*_around(text, self._forward), *(near[::-1] for near in _around(text[::-1], self._backward))]
        )
        near = [entry for one in texts for entry in self._of_text[one][: MANY if one == text else FEW]]
        return max(near, key=lambda entry: _likeness(entry.request, request), default=None)


def _around(text: str, listed: Sequence[str]) -> Sequence[str]:
    """The neighbours of a text in a sorted list, itself included."""
    at = bisect_left(listed, text)
    return listed[max(0, at - NEIGHBOURS) : at + NEIGHBOURS + 1]


def _likeness(one: Request, other: Request) -> tuple[float, int]:
    """How much of the prompt is the same, less a bit for everything else that is not."""
    a, b = beginning(one.prompt), beginning(other.prompt)
    start = _common(a, b)
    end = _common(a[start:][::-1], b[start:][::-1])
    same = (start + end) / max(len(a), len(b), 1) if a != b else 1.0
    others = (one.model != other.model) + (one.asked != other.asked) + (one.after != other.after)
    return same - 0.1 * others, -abs(one.sample - other.sample)


def _common(a: str, b: str) -> int:
    """How many characters two texts begin with in common, found by halving."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def differences(taped: Request, wanted: Request) -> list[str]:
    """What differs between two requests, the prompt first; each as a few words.

    Example:
        >>> from claude_pool_nb.sessions.cassette_format import Asked
        >>> asked, strict = Asked.of({"profile": "prompt"}), Asked.of({"profile": "prompt", "max_turns": 2})
        >>> differences(Request("hi", "haiku", asked), Request("hi", "sonnet", strict))
        ["model ('haiku' on the tape, 'sonnet' asked)", 'max_turns (None on the tape, 2 asked)']
    """
    found = []
    if taped.prompt != wanted.prompt:
        found.append(_text_difference("the prompt", beginning(taped.prompt), beginning(wanted.prompt)))
    if taped.model != wanted.model:
        found.append(_difference("model", taped.model, wanted.model))
    before, now = taped.asked.values, wanted.asked.values
    differing = [name for name in dict.fromkeys([*before, *now]) if before.get(name) != now.get(name)]
    found += [_option_difference(name, before.get(name), now.get(name)) for name in differing]
    if taped.sample != wanted.sample:
        found.append(_difference("sample", taped.sample, wanted.sample))
    if taped.after != wanted.after:
        found.append(f"what the conversation said before ({_history(taped)} on the tape, {_history(wanted)} asked)")
    return found


def _history(request: Request) -> str:
    """What came before, in a word."""
    if request.after == BEFORE:
        return "begun before the recording"
    return f"history {request.after}" if request.after else "nothing"


def _option_difference(name: str, taped: Any, wanted: Any) -> str:
    if name in {"system_prompt", "appended_prompt"}:
        texts = [beginning(value or "") for value in (taped, wanted)]
        what = "the system prompt" if name == "system_prompt" else "identity or shared context"
        return _text_difference(what, *texts)
    return _difference(name, taped, wanted)


def _difference(name: str, taped: Any, wanted: Any) -> str:
    return f"{name} ({_short(repr(taped), 60)} on the tape, {_short(repr(wanted), 60)} asked)"


def _text_difference(what: str, taped: str, wanted: str) -> str:
    at = _common(taped, wanted)
    if at == len(taped) == len(wanted):
        return f"{what}, after its first {at:,} characters"
    shown = [repr(_short(text[at:], SHOWN_CHARS)) if text[at:] else "its end" for text in (taped, wanted)]
    return f"{what} from character {at + 1:,} on ({shown[0]} on the tape, {shown[1]} asked)"


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
