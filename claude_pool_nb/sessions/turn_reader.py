"""What one turn says, read as it streams: the events for whoever watches, and the accounts for its result.

Invariants: text that arrives between two looks is one TextDelta, however many pieces it came in; `usage` never
shrinks; a message of another turn changes nothing here, because every turn has a reader of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

from claude_pool_nb.records import Denial, Usage
from claude_pool_nb.sessions.base import RetryNoticed, SessionEvent, TextDelta, ToolStarted, TurnStarted, UsageSeen
from claude_pool_nb.sessions.classify import RetryNotice

CHARS_PER_TOKEN = 4
"""For the output of a call whose own count has not come yet."""
KEPT_INPUT_CHARS = 2000
"""How much of a tool's input is kept."""

STRUCTURED_OUTPUT = "StructuredOutput"
"""The tool by which the CLI has a typed answer given."""
_MISMATCH = "Output does not match required schema:"

READ_ONLY_TOOLS = frozenset(
    {
        "Read", "Glob", "Grep", "LS", "WebFetch", "WebSearch", "NotebookRead", "TodoWrite", STRUCTURED_OUTPUT,
        "ToolSearch", "LSP", "BashOutput", "TaskOutput", "ExitPlanMode", "EnterPlanMode", "AskUserQuestion",
        "ListMcpResources", "ListMcpResourcesTool", "ReadMcpResource", "ReadMcpResourceTool",
    }
)  # fmt: skip
"""Tools that change nothing outside the conversation; every other tool counts as writing."""


class Urgency(IntEnum):
    """How soon a watcher should look after a message."""

    NONE = 0
    SOON = 1
    NOW = 2


@dataclass(slots=True)
class _Call:
    """One call of the model, as far as it has come."""

    usage: Usage = Usage()
    model: str | None = None
    chars: int = 0
    counted_by_api: bool = False

    @property
    def counted(self) -> Usage:
        """Its tokens, with what was streamed since its last count."""
        streamed = -(-self.chars // CHARS_PER_TOKEN)
        return replace(self.usage, output_tokens=max(self.usage.output_tokens, streamed))


class TurnReader:
    """Reads the messages of one turn.

    Example:
        >>> reader = TurnReader(lambda model, usage: 0)
        >>> delta = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "hi"}}
        >>> reader.feed({"type": "stream_event", "event": delta}).name
        'SOON'
        >>> reader.take()
        [TextDelta(text='hi', thinking=False)]
    """

    def __init__(self, price: Callable[[str | None, Usage], int | None], prompt_id: str | None = None) -> None:
        self._price = price
        self._prompt_id = prompt_id
        self._events: list[SessionEvent] = []
        self._text: list[str] = []
        self._thinking: list[str] = []
        self._answer: list[str] = []
        self._last_answer = ""
        self._settled: dict[str | None, Usage] = {}
        self._calls: dict[str | None, _Call] = {}
        self._cut = False
        self._stirred = False
        self._tools: dict[str, str] = {}
        self._denied: set[str] = set()
        self.started = False
        """True once the API accepted a request of this turn."""
        self.model: str | None = None
        """The model that answers."""
        self.result: dict[str, Any] | None = None
        """The message that ends the turn."""
        self.error: str | None = None
        """The CLI's word for what went wrong, where an assistant message carried one."""
        self.resets_at: float | None = None
        """When the account's limit is lifted, where it was reached and the CLI said so; unix seconds."""
        self.retry: dict[str, Any] | None = None
        """The last notice of the CLI that it tries the API again."""
        self.last_message_id: str | None = None
        """The uuid of the last message of the conversation itself."""
        self.offered: str | None = None
        """The data that the model gave last as its typed answer, as JSON text, whether or not it fitted."""
        self.mismatch: str | None = None
        """What the CLI said that did not fit in it."""
        self.refusal: RetryNotice | None = None
        """The notice that was taken as the answer."""

    # -- feeding --------------------------------------------------------------------------------------------------

    def feed(self, message: dict[str, Any]) -> Urgency:
        """Take one message of the CLI."""
        kind = message.get("type")
        if kind == "stream_event":
            return self._stream(message["event"], message.get("parent_tool_use_id"))
        if kind == "result":
            return self._end(message)
        if kind == "assistant":
            return self._assistant(message)
        if kind == "user":
            self._tool_results(message)
            return self._stir()
        if kind == "system":
            return self._system(message)
        if kind == "rate_limit_event":
            limit = message.get("rate_limit_info") or {}
            if limit.get("status") == "rejected" and limit.get("resetsAt"):
                self.resets_at = float(limit["resetsAt"])
        return self._stir()

    def _stream(self, event: dict[str, Any], stream: str | None) -> Urgency:
        """An event of the API's stream; `stream` names the subagent it belongs to, if any."""
        kind = event.get("type")
        call = self._calls.setdefault(stream, _Call())
        if kind == "content_block_delta":
            delta = event["delta"]
            text, thought = delta.get("text"), delta.get("thinking")
            call.chars += len(text or thought or delta.get("partial_json") or "")
            if stream is None and text:
                self._flush(thinking=True)
                self._text.append(text)
                self._answer.append(text)
            elif stream is None and thought:
                self._flush(thinking=False)
                self._thinking.append(thought)
            return self._stir()
        if kind == "message_start":
            self._settle(call)
            self._cut = self._cut or (call.model is not None and not call.counted_by_api)
            body = event["message"]
            self._calls[stream] = _Call(usage_of(body.get("usage") or {}), body.get("model"))
            if stream is None:
                self.model = body.get("model") or self.model
                self._close_answer()
            return self._begin()
        if kind == "message_delta":
            call.usage = _larger(call.usage, usage_of(event.get("usage") or {}))
            call.chars = 0
            # The CLI closes a call that was cut off by itself, without the API's reason for stopping.
            call.counted_by_api = (event.get("delta") or {}).get("stop_reason") is not None
        return self._stir()

    def _begin(self) -> Urgency:
        """A call of the model began to answer."""
        if self.started:
            return self._stir()
        self.started = True
        usage, cost = self.so_far()
        self._events.append(TurnStarted(usage, cost or 0, self.model))
        return Urgency.NOW

    def _end(self, message: dict[str, Any]) -> Urgency:
        """The end of a turn: of ours, unless it names other prompts (a background task may wake the CLI by itself)."""
        named = {message.get("user_message_uuid"), *(message.get("user_message_uuids") or ())} - {None}
        if named and self._prompt_id is not None and self._prompt_id not in named:
            return self._stir()
        self.result = message
        return Urgency.NOW

    def _assistant(self, message: dict[str, Any]) -> Urgency:
        """A finished block of an answer: what matters here are tool calls and errors."""
        body = message["message"]
        inner = message.get("parent_tool_use_id") is not None
        if message.get("error"):
            self.error = str(message["error"])
        elif not inner:
            self.last_message_id = message.get("uuid") or self.last_message_id
        urgency = self._stir()
        for block in body.get("content") or ():
            if isinstance(block, dict) and block.get("type") in {"tool_use", "server_tool_use"}:
                name = str(block.get("name"))
                self._tools[str(block.get("id"))] = name
                self._flush()
                self._events.append(ToolStarted(name, as_text(block.get("input"))))
                if name == STRUCTURED_OUTPUT and not inner:
                    self.offered = json.dumps(block.get("input"), ensure_ascii=False)
                urgency = Urgency.NOW
        return urgency

    def _tool_results(self, message: dict[str, Any]) -> None:
        """Results of tools: a refused call changed nothing, and a typed answer may not have fitted."""
        content = message["message"].get("content")
        for block in content if isinstance(content, list) else ():
            if block.get("type") != "tool_result":
                continue
            told, tool_use_id = str(block.get("content")), str(block.get("tool_use_id"))
            if told.startswith("<tool_use_error>"):
                self._denied.add(tool_use_id)
            elif self._tools.get(tool_use_id) == STRUCTURED_OUTPUT and told.startswith(_MISMATCH):
                self.mismatch = told.removeprefix(_MISMATCH).strip()

    def _system(self, message: dict[str, Any]) -> Urgency:
        """A word of the CLI about itself."""
        subtype = message.get("subtype")
        if subtype == "api_retry":
            self.retry = message
            # Without a status it was no refusal: a stream may have broken off of which nothing was told.
            self._cut = self._cut or message.get("error_status") is None
            delay_s = float(message.get("retry_delay_ms") or 0) / 1000
            self._events.append(RetryNoticed(message.get("error_status"), delay_s, str(message.get("error") or "")))
            return Urgency.NOW
        if subtype == "permission_denied":
            self._denied.add(str(message.get("tool_use_id")))
        if subtype in {"init", "status"}:
            return Urgency.NONE
        return self._stir()

    # -- looking --------------------------------------------------------------------------------------------------

    def take(self) -> list[SessionEvent]:
        """What happened since the last look."""
        self._flush()
        if self._stirred and self.started and not any(isinstance(event, TurnStarted) for event in self._events):
            usage, cost = self.so_far()
            self._events.append(UsageSeen(usage, cost or 0))
        self._stirred = False
        events, self._events = self._events, []
        return events

    def so_far(self) -> tuple[Usage, int | None]:
        """Tokens of the turn until now and what they cost at list price; None where no price is known."""
        calls = dict(self._settled)
        for call in self._calls.values():
            calls[call.model] = calls.get(call.model, Usage()) + call.counted
        total, cost = Usage(), 0
        known = True
        for model, usage in calls.items():
            if usage == Usage():
                continue
            total += usage
            price = self._price(model, usage)
            known = known and price is not None
            cost += price or 0
        return total, cost if known else None

    @property
    def cut(self) -> bool:
        """True if a call of the model broke off: what it cost was not counted by the API."""
        return self._cut or any(c.model is not None and not c.counted_by_api for c in self._calls.values())

    @property
    def answer(self) -> str:
        """The text of the answer so far; of the last message that has any."""
        return "".join(self._answer) or self._last_answer

    @property
    def wrote(self) -> bool:
        """True if a tool was called, and not denied, that may have changed something."""
        return any(name not in READ_ONLY_TOOLS for key, name in self._tools.items() if key not in self._denied)

    def deny(self, tool_use_ids: set[str]) -> None:
        """Take calls that were denied out of what ran."""
        self._denied |= tool_use_ids

    # -- helpers --------------------------------------------------------------------------------------------------

    def _stir(self) -> Urgency:
        """Something happened that is no event by itself."""
        self._stirred = True
        return Urgency.SOON

    def _flush(self, *, thinking: bool | None = None) -> None:
        """Make one event of the pieces that came; of both kinds, or of the one named."""
        if self._thinking and thinking is not False:
            self._events.append(TextDelta("".join(self._thinking), thinking=True))
            self._thinking = []
        if self._text and thinking is not True:
            self._events.append(TextDelta("".join(self._text)))
            self._text = []

    def _close_answer(self) -> None:
        """A new message begins: the text of the one before is kept until there is newer."""
        if self._answer:
            self._last_answer = "".join(self._answer)
            self._answer = []

    def _settle(self, call: _Call) -> None:
        """Add a call to what is settled."""
        self._settled[call.model] = self._settled.get(call.model, Usage()) + call.counted


def usage_of(raw: dict[str, Any]) -> Usage:
    """A `usage` object of the API as ours.

    Example:
        >>> usage_of({"input_tokens": 3, "output_tokens": 1}).input_tokens
        3
    """
    return Usage(
        int(raw.get("input_tokens") or 0),
        int(raw.get("output_tokens") or 0),
        int(raw.get("cache_read_input_tokens") or 0),
        int(raw.get("cache_creation_input_tokens") or 0),
    )


def model_usage_of(raw: dict[str, Any] | None) -> Usage:
    """The tokens of a result's `modelUsage`, over all models: cumulative within a session.

    Example:
        >>> model_usage_of({"m": {"inputTokens": 3, "outputTokens": 1}}).output_tokens
        1
    """
    total = Usage()
    for entry in (raw or {}).values():
        total += Usage(
            int(entry.get("inputTokens") or 0),
            int(entry.get("outputTokens") or 0),
            int(entry.get("cacheReadInputTokens") or 0),
            int(entry.get("cacheCreationInputTokens") or 0),
        )
    return total


def denials_of(raw: list[dict[str, Any]] | None) -> tuple[Denial, ...]:
    """The denied tool calls of a result.

    Example:
        >>> denials_of([{"tool_name": "Bash", "tool_input": {"command": "ls"}}])
        (Denial(tool='Bash', tool_input='{"command": "ls"}'),)
    """
    return tuple(Denial(str(d.get("tool_name")), as_text(d.get("tool_input"))) for d in raw or ())


def as_text(value: object) -> str:
    """A tool's input as JSON text, cut."""
    return json.dumps(value, ensure_ascii=False)[:KEPT_INPUT_CHARS]


def _larger(one: Usage, other: Usage) -> Usage:
    """Field by field the larger: a call's counts only grow."""
    return Usage(
        max(one.input_tokens, other.input_tokens),
        max(one.output_tokens, other.output_tokens),
        max(one.cache_read_tokens, other.cache_read_tokens),
        max(one.cache_write_tokens, other.cache_write_tokens),
    )
