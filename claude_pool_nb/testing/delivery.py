"""Sends a reply: waits as scripted, composes the message, and writes it whole or as events.

Invariant: a request is billed before the bytes it is billed for are written, so whoever has read an answer finds it
on the bill: nothing before the first byte and for an error, then the input and the share of the output that was
sent, at last the whole.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from . import sse
from .gate import Gate
from .http_server import Exchange
from .prices import ModelPrice
from .prompt_cache import CachePlan, PromptCache
from .replies import DEFAULT_INPUT_TOKENS, Reply, Request, Usage

_HTML = b"<!doctype html><html><body><h1>A page, not a message</h1></body></html>"


def send_json(exchange: Exchange, status: int, data: object, headers: Mapping[str, str] | None = None) -> None:
    """Send a JSON response.

    Example:
        >>> from unittest.mock import Mock
        >>> exchange = Mock()
        >>> send_json(exchange, 404, {"a": 1})
        >>> exchange.send.call_args.args[2]
        b'{"a": 1}'
    """
    exchange.send(status, "application/json", json.dumps(data).encode(), headers)


@dataclass(frozen=True, slots=True)
class Message:
    """A composed answer: content blocks with their ids, why it stops, and its full usage.

    Example:
        >>> Message("msg_1", [], "end_turn", Usage(output_tokens=3)).usage.output_tokens
        3
    """

    id: str
    blocks: list[dict[str, Any]]
    stop_reason: str
    usage: Usage


@dataclass(frozen=True, slots=True)
class Delivery:
    """One reply on its way to one request.

    Attributes:
        serial: A number of its own, for ids.
        latency_s: The API's wait before the first byte, for a reply that names none.
        cache: The simulated prompt cache, if any.
        gate: Where answers may be held.
        price: What the request's model costs.

    Example:
        >>> from unittest.mock import Mock
        >>> from claude_pool_nb.testing.prices import UNKNOWN_MODEL_PRICE
        >>> request, exchange = Request(), Mock()
        >>> asyncio.run(Delivery(request, Reply("hi"), exchange, 1, 0.0, None, Gate(), UNKNOWN_MODEL_PRICE).run())
        >>> exchange.send.call_count, request.status
        (1, 200)
    """

    request: Request
    reply: Reply
    exchange: Exchange
    serial: int
    latency_s: float
    cache: PromptCache | None
    gate: Gate
    price: ModelPrice

    async def run(self) -> None:
        """Wait as scripted, then send the reply in the form asked for."""
        request, reply, exchange = self.request, self.reply, self.exchange
        headers = {"request-id": f"req_{self.serial:08d}", **reply.headers}
        if reply.retry_after_s is not None:
            headers["retry-after"] = f"{reply.retry_after_s:g}"
        plan = self.cache.plan(request.body) if self.cache is not None else None
        latency_s = self.latency_s if reply.latency_s is None else reply.latency_s
        if latency_s > 0:
            await asyncio.sleep(latency_s)
        streamed = request.stream and reply.status == 200 and not reply.html
        if not streamed or self.gate.point == 0:
            await self.gate.enter()
        if reply.hang:
            await asyncio.get_running_loop().create_future()
        request.status = reply.status
        request.began_at = time.time()
        if reply.html:
            exchange.send(reply.status, "text/html", _HTML, headers)
            return
        if reply.status != 200:
            send_json(exchange, reply.status, {**reply.error(), "request_id": headers["request-id"]}, headers)
            return
        if plan is not None and self.cache is not None:
            self.cache.begin(plan)
        answer = compose(request, reply, plan, self.serial)
        if streamed:
            await self._stream(answer, headers)
            return
        self._bill(answer.usage)
        body = sse.message(answer.id, request.model, answer.blocks, answer.stop_reason, answer.usage)
        send_json(exchange, 200, body, headers)

    def _bill(self, usage: Usage) -> None:
        """Put a usage on the request's bill, in place of what was there."""
        self.request.usage = usage
        self.request.cost_nano = self.price.cost_nano(usage)

    async def _stream(self, answer: Message, headers: Mapping[str, str]) -> None:
        """Send a message as events, with whatever is to go wrong in between."""
        request, reply, exchange = self.request, self.reply, self.exchange
        usage = answer.usage
        first = min(1, usage.output_tokens)
        started = replace(usage, output_tokens=first)
        self._bill(started)
        chunks = list(sse.deltas(answer.blocks, reply.chunk_chars))
        ready = [sse.message_start(answer.id, request.model, started)]
        exchange.begin("text/event-stream; charset=utf-8", {**headers, "cache-control": "no-cache"})

        def flush() -> None:
            exchange.write(b"".join(ready))
            ready.clear()

        for number, (opening, delta, closing) in enumerate(chunks):
            if number in {reply.cut_after_chunks, reply.eof_after_chunks}:
                break
            if number:
                if self.gate.point == number:
                    flush()
                    await self.gate.enter()
                if reply.chunk_delay_s > 0:
                    flush()
                    await asyncio.sleep(reply.chunk_delay_s)
            ready += (opening, delta)
            # What is sent is billed, so the share counts from here even if the client leaves at the next wait.
            sent_tokens = max(first, usage.output_tokens * (number + 1) // len(chunks))
            self._bill(replace(usage, output_tokens=sent_tokens))
            if number == 0 and reply.malformed:
                ready.append(b"event: content_block_delta\ndata: {not json\n\n")
            if number == 0 and reply.stream_error is not None:
                ready.append(sse.event("error", reply.error()))
                break
            ready.append(closing)
        flush()
        if reply.cut_after_chunks is not None:
            request.cut = True
            exchange.cut()
        elif reply.eof_after_chunks is not None or reply.stream_error is not None:
            request.cut = True
            exchange.end()
        else:
            if self.gate.point is not None and self.gate.point >= len(chunks):
                await self.gate.enter()
            self._bill(usage)
            exchange.write(sse.message_end(answer.stop_reason, usage))
            exchange.end()


def compose(request: Request, reply: Reply, plan: CachePlan | None, serial: int) -> Message:
    """Return the message a reply is for a request: its blocks, its stop reason and its full usage.

    Example:
        >>> compose(Request(), Reply("hi"), None, 1).stop_reason
        'end_turn'
    """
    blocks = reply.blocks(request)
    for number, block in enumerate(blocks):
        if block["type"] == "tool_use":
            block["id"] = f"toolu_{serial:08d}_{number}"
    calls_tool = any(block["type"] == "tool_use" for block in blocks)
    stop_reason = reply.stop_reason or ("tool_use" if calls_tool else "end_turn")
    output_tokens = reply.output_tokens
    limit = request.body.get("max_tokens")
    if isinstance(limit, int) and output_tokens > limit:
        share = limit / output_tokens
        blocks = [
            {**block, "text": block["text"][: int(len(block["text"]) * share)]}
            for block in blocks
            if block["type"] == "text"
        ] or [{"type": "text", "text": ""}]
        output_tokens, stop_reason = limit, "max_tokens"
    if plan is None:
        usage = Usage(
            input_tokens=DEFAULT_INPUT_TOKENS if reply.input_tokens is None else reply.input_tokens,
            output_tokens=output_tokens,
            cache_read_tokens=reply.cache_read_tokens,
            cache_write_tokens=reply.cache_write_tokens,
            cache_write_1h_tokens=reply.cache_write_1h_tokens,
        )
    else:
        usage = Usage(
            input_tokens=plan.rest_tokens if reply.input_tokens is None else reply.input_tokens,
            output_tokens=output_tokens,
            cache_read_tokens=plan.read_tokens,
            cache_write_tokens=plan.write_tokens,
            cache_write_1h_tokens=plan.write_1h_tokens,
        )
    return Message(f"msg_{serial:08d}", blocks, stop_reason, usage)
