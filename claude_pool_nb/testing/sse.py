"""The wire forms of an answer: one JSON message, or the same message as a list of server-sent events.

Invariant: both forms of a message carry the same content, stop reason and final usage.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from .replies import Usage


def event(kind: str, data: dict[str, Any]) -> bytes:
    r"""Return one server-sent event.

    Example:
        >>> event("ping", {"type": "ping"})
        b'event: ping\ndata: {"type":"ping"}\n\n'
    """
    return f"event: {kind}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def message(
    message_id: str, model: str, blocks: list[dict[str, Any]], stop_reason: str | None, usage: Usage
) -> dict[str, Any]:
    """Return a message object as the API answers it without streaming.

    Example:
        >>> message("msg_1", "m", [], "end_turn", Usage())["role"]
        'assistant'
    """
    return {
        "id": message_id,
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": blocks,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": usage.as_api(),
    }


def message_start(message_id: str, model: str, usage: Usage) -> bytes:
    """Return the event that opens a stream; it carries the whole input usage.

    Example:
        >>> b'"input_tokens":9' in message_start("msg_1", "m", Usage(input_tokens=9))
        True
    """
    return event("message_start", {"type": "message_start", "message": message(message_id, model, [], None, usage)})


def message_end(stop_reason: str, usage: Usage) -> bytes:
    """Return the two events that close a stream: the final usage and the stop.

    Example:
        >>> message_end("end_turn", Usage(output_tokens=5)).count(b"event: ")
        2
    """
    delta = {
        "type": "message_delta",
        "delta": {"stop_reason": stop_reason, "stop_sequence": None},
        "usage": usage.as_api(),
    }
    return event("message_delta", delta) + event("message_stop", {"type": "message_stop"})


def deltas(blocks: list[dict[str, Any]], chunk_chars: int | None) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield the chunks of a stream's content: what opens a block, the delta itself, what closes the block.

    The first and last part are empty except at a block's ends, so that a stream can stop between any two chunks
    and still have been well-formed.

    Example:
        >>> [len(after) > 0 for _, _, after in deltas([{"type": "text", "text": "abcd"}], 2)]
        [False, True]
    """
    for index, block in enumerate(blocks):
        shell = {**block, "text": ""} if block["type"] == "text" else {**block, "input": {}}
        if block["type"] == "text":
            content, kind, key = block["text"], "text_delta", "text"
        else:
            content, kind, key = json.dumps(block["input"]), "input_json_delta", "partial_json"
        opening = event("content_block_start", {"type": "content_block_start", "index": index, "content_block": shell})
        closing = event("content_block_stop", {"type": "content_block_stop", "index": index})
        step = chunk_chars or max(len(content), 1)
        pieces = [content[at : at + step] for at in range(0, len(content), step)] or [""]
        for number, piece in enumerate(pieces):
            delta = {"type": "content_block_delta", "index": index, "delta": {"type": kind, key: piece}}
            yield (
                opening if number == 0 else b"",
                event("content_block_delta", delta),
                closing if number == len(pieces) - 1 else b"",
            )
