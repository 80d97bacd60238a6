"""What the scripted API is asked and what it answers: `Request`, `Usage` and `Reply`.

Invariants: a `Reply` is a value and may be used for any number of requests; a `Request` is written by the
server's thread alone and is complete once `Request.finished` is true.
"""

from __future__ import annotations

import json as jsonlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

DEFAULT_INPUT_TOKENS = 1000
DEFAULT_OUTPUT_TOKENS = 20
STRUCTURED_OUTPUT = "StructuredOutput"

_REMINDER = re.compile(r"<system-reminder>.*?</system-reminder>", re.DOTALL)

# What the real API says with a status: the type of its error, and a message.
_ERRORS = {
    400: ("invalid_request_error", "Invalid request"),
    401: ("authentication_error", "invalid x-api-key"),
    402: ("billing_error", "Your credit balance is too low"),
    403: ("permission_error", "Your API key does not have permission to use the specified resource"),
    404: ("not_found_error", "Not found"),
    413: ("request_too_large", "Request exceeds the maximum size"),
    429: ("rate_limit_error", "This request would exceed your rate limit"),
    500: ("api_error", "Internal server error"),
    504: ("timeout_error", "Request timed out"),
    529: ("overloaded_error", "Overloaded"),
}


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request, split as the Messages API splits them.

    ``cache_write_tokens`` contains ``cache_write_1h_tokens``; ``input_tokens`` contains neither reads nor writes.

    Example:
        >>> Usage(input_tokens=10, output_tokens=2).as_api()["output_tokens"]
        2
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0

    def as_api(self) -> dict[str, Any]:
        """Return the ``usage`` object of an API answer.

        Example:
            >>> Usage(cache_write_tokens=7).as_api()["cache_creation"]
            {'ephemeral_5m_input_tokens': 7, 'ephemeral_1h_input_tokens': 0}
        """
        return {
            "input_tokens": self.input_tokens,
            "cache_creation_input_tokens": self.cache_write_tokens,
            "cache_read_input_tokens": self.cache_read_tokens,
            "cache_creation": {
                "ephemeral_5m_input_tokens": self.cache_write_tokens - self.cache_write_1h_tokens,
                "ephemeral_1h_input_tokens": self.cache_write_1h_tokens,
            },
            "output_tokens": self.output_tokens,
            "service_tier": "standard",
        }


@dataclass(slots=True)
class Request:
    """One POST to ``/v1/messages`` as the server saw it, and what became of it.

    Attributes:
        at: Unix seconds when the whole request had arrived.
        began_at: Unix seconds of the answer's first byte; 0 while there was none.
        ended_at: Unix seconds when the exchange was over; 0 before.
        path: The path with its query, as sent.
        headers: Header names in lower case.
        raw: The body's bytes.
        body: The body, parsed; an empty dict when it is no JSON object.
        status: The HTTP status answered; 0 while none was.
        usage: What the answer reported, and after a cut what is billed; ``None`` when nothing is billed.
        cost_nano: What this request is billed, in nanodollars.
        cut: Whether it ended before the whole answer was out, by either side.
        probe: Whether this was a one-token trial of a model's name.

    Example:
        >>> request = Request(path="/v1/messages", body={"messages": [{"role": "user", "content": "Hello"}]})
        >>> request.prompt, request.stream
        ('Hello', False)
    """

    at: float = 0.0
    began_at: float = 0.0
    ended_at: float = 0.0
    path: str = "/v1/messages"
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes = b""
    body: dict[str, Any] = field(default_factory=dict)
    status: int = 0
    usage: Usage | None = None
    cost_nano: int = 0
    cut: bool = False
    probe: bool = False

    @property
    def finished(self) -> bool:
        """Whether the exchange is over."""
        return self.ended_at > 0

    @property
    def size(self) -> int:
        """Length of the body in bytes."""
        return len(self.raw)

    @property
    def model(self) -> str:
        """The model asked for."""
        return str(self.body.get("model", ""))

    @property
    def stream(self) -> bool:
        """Whether the answer is to come as server-sent events."""
        return bool(self.body.get("stream"))

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The conversation as sent."""
        messages = self.body.get("messages")
        return messages if isinstance(messages, list) else []

    @property
    def system(self) -> str:
        """The system prompt's blocks, joined with newlines."""
        return "\n".join(_texts(self.body.get("system")))

    @property
    def tools(self) -> list[str]:
        """The names of the tools offered."""
        return [str(tool.get("name", "")) for tool in self.body.get("tools") or []]

    @property
    def prompts(self) -> list[str]:
        """The text blocks of the last user message that has text, the CLI's own reminders included."""
        for message in reversed(self.messages):
            if message.get("role") == "user" and (texts := _texts(message.get("content"))):
                return texts
        return []

    @property
    def prompt(self) -> str:
        """The last user text that is no reminder of the CLI's own; the prompt, also while tools are at work."""
        for message in reversed(self.messages):
            if message.get("role") == "user":
                for text in reversed(_texts(message.get("content"))):
                    if not text or _REMINDER.sub("", text).strip():
                        return text
        return ""

    @property
    def tool_results(self) -> list[str]:
        """The texts of the tool results in the last message, without the CLI's own reminders.

        Example:
            >>> block = {"type": "tool_result", "tool_use_id": "t1", "content": "42"}
            >>> Request(body={"messages": [{"role": "user", "content": [block]}]}).tool_results
            ['42']
        """
        if not self.messages:
            return []
        content = self.messages[-1].get("content")
        if not isinstance(content, list):
            return []
        return [
            _REMINDER.sub("", "\n".join(_texts(block.get("content")))).rstrip()
            for block in content
            if isinstance(block, dict) and block.get("type") == "tool_result"
        ]


def _texts(content: object) -> list[str]:
    """The texts of a content field, which is a string or a list of blocks."""
    if isinstance(content, str):
        return [content]
    if isinstance(content, list):
        return [str(b.get("text", "")) for b in content if isinstance(b, dict) and b.get("type") == "text"]
    return []


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of the scripted API: what is said, what it costs, when and how it fails.

    Attributes:
        text: The visible answer.
        tool_calls: Pairs of tool name and input, after the text.
        json: An object answered as a StructuredOutput call where the request offers that tool, else as JSON text.
        input_tokens: Uncached input; ``None`` is 1000, or with a prompt cache what is left after its prefix.
        output_tokens: What the whole answer is billed as output.
        cache_read_tokens: Reported as read from the cache (without a `PromptCache`, which counts for itself).
        cache_write_tokens: Reported as written to it, both kinds together (likewise).
        cache_write_1h_tokens: The part of them that is of the one-hour kind (likewise).
        latency_s: Wait before the first byte; ``None`` is the API's own ``latency_s``.
        chunk_chars: Characters per delta of a stream; ``None`` sends each block whole.
        chunk_delay_s: Wait before each delta but the first.
        status: The HTTP status; anything but 200 is answered with an error object and billed nothing.
        headers: Further response headers.
        message: The error object's message, for a status other than 200 and for ``stream_error``.
        error_type: The error object's type; by default what the real API says with that status.
        retry_after_s: The ``retry-after`` header.
        cut_after_chunks: Close the socket after this many deltas. Streams only, as the next three.
        eof_after_chunks: End the response properly after this many deltas, without ``message_stop``.
        malformed: Put a data line that is no JSON after the first delta.
        stream_error: Send an ``error`` event of this type after the first delta, and end.
        html: Answer with an HTML page, streamed or not, as a gateway in between does.
        hang: Never answer; the exchange ends when the client leaves or the server stops.
        stop_reason: By default ``tool_use`` with tool calls, else ``end_turn``.

    A request whose ``max_tokens`` is below ``output_tokens`` is answered as the real API does: the text cut in
    proportion, ``max_tokens`` billed, and that as stop reason.

    Example:
        >>> Reply("hi", output_tokens=3).blocks(Request())
        [{'type': 'text', 'text': 'hi'}]
    """

    text: str = ""
    tool_calls: Sequence[tuple[str, Mapping[str, Any]]] = field(default=(), kw_only=True)
    json: Any = field(default=None, kw_only=True)
    input_tokens: int | None = field(default=None, kw_only=True)
    output_tokens: int = field(default=DEFAULT_OUTPUT_TOKENS, kw_only=True)
    cache_read_tokens: int = field(default=0, kw_only=True)
    cache_write_tokens: int = field(default=0, kw_only=True)
    cache_write_1h_tokens: int = field(default=0, kw_only=True)
    latency_s: float | None = field(default=None, kw_only=True)
    chunk_chars: int | None = field(default=None, kw_only=True)
    chunk_delay_s: float = field(default=0.0, kw_only=True)
    status: int = field(default=200, kw_only=True)
    headers: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    message: str | None = field(default=None, kw_only=True)
    error_type: str | None = field(default=None, kw_only=True)
    retry_after_s: float | None = field(default=None, kw_only=True)
    cut_after_chunks: int | None = field(default=None, kw_only=True)
    eof_after_chunks: int | None = field(default=None, kw_only=True)
    malformed: bool = field(default=False, kw_only=True)
    stream_error: str | None = field(default=None, kw_only=True)
    html: bool = field(default=False, kw_only=True)
    hang: bool = field(default=False, kw_only=True)
    stop_reason: str | None = field(default=None, kw_only=True)

    def blocks(self, request: Request) -> list[dict[str, Any]]:
        """Return the content blocks this reply has for a request; tool calls still without ids.

        Example:
            >>> Reply(json={"n": 1}).blocks(Request())
            [{'type': 'text', 'text': '{"n": 1}'}]
        """
        calls = list(self.tool_calls)
        text = self.text
        if self.json is not None:
            # A tool result in the last message means that the structured answer was already given.
            if STRUCTURED_OUTPUT in request.tools and not request.tool_results:
                calls.append((STRUCTURED_OUTPUT, self.json))
            else:
                text = text or jsonlib.dumps(self.json)
        blocks: list[dict[str, Any]] = [{"type": "text", "text": text}] if text or not calls else []
        blocks.extend({"type": "tool_use", "name": name, "input": arguments} for name, arguments in calls)
        return blocks

    def error(self) -> dict[str, Any]:
        """Return the error object for this reply's status or stream error.

        Example:
            >>> Reply(status=429).error()["error"]["type"]
            'rate_limit_error'
        """
        kind, message = _ERRORS.get(self.status, _ERRORS[500])
        if self.stream_error is not None:
            kind, message = self.stream_error, self.stream_error.removesuffix("_error").capitalize()
        kind, message = self.error_type or kind, self.message or message
        return {"type": "error", "error": {"type": kind, "message": message}}


Answer = Reply | str
"""What a scripted function returns."""

Script = Reply | str | Callable[[Request], Answer]
"""What can be scripted: a reply, its text, or a function of the request (called on the server's thread)."""
