"""What is seen of an answer while it comes: written down coarsely, and played again.

Invariants: the pieces of a text joined are the text; times are tenths of a second after the prompt, and there are at
most `MOST_PIECES` of them, so that a tape is short and does not differ from one recording to the next for a
millisecond's sake. What the model thought is not kept, only that it did.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from claude_pool_nb.records import TurnResult, Usage
from claude_pool_nb.sessions.base import RetryNoticed, SessionEvent, TextDelta, ToolStarted, TurnStarted
from claude_pool_nb.sessions.cassette_entry import Entry
from claude_pool_nb.sessions.cassette_format import Happening, clean, clean_json

MOST_PIECES: Final = 20
"""Pieces of one answer's text that a tape has."""
_WEIGHTS: Final = Usage(100, 500, 10, 125)
"""What a token of each kind costs, next to each other: for the cost of an answer that was not played to its end."""


class StreamNotes:
    """Takes down what a session says in a turn.

    Example:
        >>> notes = StreamNotes()
        >>> for at, event in enumerate([TurnStarted(Usage(), 0), TextDelta("good "), TextDelta("morning")]):
        ...     notes.take(at / 2, event)
        >>> notes.written(TurnResult(output="good morning"))
        ((0.0, 'start'), (0.5, 'text', 5), (1.0, 'text', 7))
    """

    def __init__(self) -> None:
        self._notes: list[list[object]] = []

    def take(self, at_s: float, event: SessionEvent) -> None:
        """Note something that came so many seconds after the prompt."""
        at = round(at_s, 1)
        last = self._notes[-1] if self._notes else None
        match event:
            case TurnStarted():
                self._notes.append([at, "start"])
            case TextDelta(thinking=True):
                if last is None or last[1] != "thinking":
                    self._notes.append([at, "thinking"])
            case TextDelta(text=""):
                return
            case TextDelta():
                if last is not None and last[1] == "text" and last[0] == at:
                    last[2] = f"{last[2]}{event.text}"
                else:
                    self._notes.append([at, "text", event.text])
            case ToolStarted():
                self._notes.append([at, "tool", clean(event.tool), clean_json(event.tool_input)])
            case RetryNoticed():
                self._notes.append([at, "retry", event.status, round(event.delay_s, 1), clean(event.error)])
            case _:
                return  # what was used so far follows from the answer's own usage

    def written(self, answer: TurnResult) -> tuple[Happening, ...] | None:
        """As it stands on the tape, beside this answer; None if all came at once and there is nothing to tell."""
        notes = self._coarse()
        said = "".join(str(note[2]) for note in notes if note[1] == "text")
        safe = clean(said)
        if safe != said:  # a secret may go over several pieces: they become one
            texts = [number for number, note in enumerate(notes) if note[1] == "text"]
            notes[texts[-1]][2] = safe
            notes = [note for number, note in enumerate(notes) if number not in texts[:-1]]
        if safe == answer.output:  # then it need not be there twice
            notes = [[*note[:2], len(str(note[2]))] if note[1] == "text" else note for note in notes]
        told = tuple(tuple(note) for note in notes)
        return None if not told or told == at_once(answer) else told

    def _coarse(self) -> list[list[object]]:
        """The notes, with neighbouring pieces of text joined until there are few enough."""
        notes = [list(note) for note in self._notes]
        pieces = sum(note[1] == "text" for note in notes)
        each = -(-pieces // MOST_PIECES)
        joined: list[list[object]] = []
        room = 0
        for note in notes:
            if note[1] == "text" and room > 0 and joined[-1][1] == "text":
                joined[-1] = [note[0], "text", f"{joined[-1][2]}{note[2]}"]
                room -= 1
            else:
                joined.append(note)
                room = each - 1
        return joined


def at_once(answer: TurnResult) -> tuple[Happening, ...]:
    """The stream of an answer whose tape says nothing of it."""
    if answer.failure is not None and not answer.output:
        return ()
    return ((0.0, "start"), (0.0, "text", len(answer.output))) if answer.output else ((0.0, "start"),)


def played(entry: Entry) -> Iterator[tuple[float, SessionEvent]]:
    """What is to be seen of an answer, and how many seconds after the prompt.

    Example:
        >>> from claude_pool_nb.sessions.cassette_format import Asked, Request
        >>> entry = Entry(Request("hi", None, Asked.of({})), TurnResult(output="hello"))
        >>> [event for _, event in played(entry)][1]
        TextDelta(text='hello', thinking=False)
    """
    answer, place = entry.answer, 0
    for at, what, *details in at_once(answer) if entry.stream is None else entry.stream:
        match what:
            case "start":
                usage = Usage(
                    input_tokens=answer.usage.input_tokens,
                    cache_read_tokens=answer.usage.cache_read_tokens,
                    cache_write_tokens=answer.usage.cache_write_tokens,
                )
                yield at, TurnStarted(usage, cost_so_far(answer, usage), answer.model)
            case "text":
                size = details[0]
                text = size if isinstance(size, str) else answer.output[place : place + size]
                place += len(text)
                yield at, TextDelta(text)
            case "thinking":
                yield at, TextDelta("", thinking=True)
            case "tool":
                yield at, ToolStarted(str(details[0]), str(details[1]))
            case "retry":
                yield at, RetryNoticed(details[0], float(details[1]), str(details[2]))


def cost_so_far(answer: TurnResult, usage: Usage) -> int:
    """About what part of an answer's cost some of its tokens are, in nanodollars.

    Example:
        >>> answer = TurnResult(cost_nano=600, usage=Usage(input_tokens=10, output_tokens=10))
        >>> cost_so_far(answer, Usage(input_tokens=10))
        100
    """
    whole = _weight(answer.usage)
    return answer.cost_nano * min(_weight(usage), whole) // whole if whole else answer.cost_nano


def _weight(usage: Usage) -> int:
    return (
        usage.input_tokens * _WEIGHTS.input_tokens
        + usage.output_tokens * _WEIGHTS.output_tokens
        + usage.cache_read_tokens * _WEIGHTS.cache_read_tokens
        + usage.cache_write_tokens * _WEIGHTS.cache_write_tokens
    )
