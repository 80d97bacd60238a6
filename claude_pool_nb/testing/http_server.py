"""A small HTTP/1.1 server on a loop and a thread of its own, bound to 127.0.0.1.

It does what a scripted API needs and a general server hides: keep-alive, chunked answers written piece by piece,
and a socket that can be closed in the middle of one. One coroutine answers each request; requests of one
connection are answered in order, connections run beside each other. When the client leaves, its coroutine is
cancelled.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

_MAX_HEAD_BYTES = 256 * 1024
_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}


@dataclass(frozen=True, slots=True)
class Incoming:
    """One HTTP request, read completely; ``at`` is in unix seconds, header names are in lower case.

    Example:
        >>> Incoming(at=0.0, method="GET", path="/v1/models", headers={}, body=b"").path
        '/v1/models'
    """

    at: float
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Exchange:
    """The answering side of one request: `send` a whole response, or `begin`, `write` and `end` a chunked one.

    Example:
        >>> async def handler(incoming: Incoming, exchange: Exchange) -> None:
        ...     exchange.begin("text/plain")
        ...     exchange.write(b"part one, ")
        ...     exchange.write(b"part two")
        ...     exchange.end()
    """

    def __init__(self, transport: asyncio.Transport, incoming: Incoming) -> None:
        self._transport = transport
        self._incoming = incoming
        self.keep_alive = incoming.headers.get("connection", "").lower() != "close"

    def send(self, status: int, content_type: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Send a whole response."""
        head = self._head(status, content_type, {**(headers or {}), "content-length": str(len(body))})
        self._transport.write(head if self._incoming.method == "HEAD" else head + body)

    def begin(self, content_type: str, headers: Mapping[str, str] | None = None) -> None:
        """Send the head of a chunked 200 response."""
        self._transport.write(self._head(200, content_type, {**(headers or {}), "transfer-encoding": "chunked"}))

    def write(self, data: bytes) -> None:
        """Send one chunk; nothing when it is empty, which would end the response."""
        if data:
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def end(self) -> None:
        """End a chunked response properly."""
        self._transport.write(b"0\r\n\r\n")

    def cut(self) -> None:
        """Close the socket once what was written is out, in the middle of whatever that was."""
        self._transport.close()

    def _head(self, status: int, content_type: str, headers: Mapping[str, str]) -> bytes:
        """The status line and headers."""
        lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}", f"content-type: {content_type}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        lines += ["connection: " + ("keep-alive" if self.keep_alive else "close"), "", ""]
        return "\r\n".join(lines).encode("latin-1", "replace")


Handler = Callable[[Incoming, Exchange], Awaitable[None]]


class _Connection(asyncio.Protocol):
    """Reads requests off one socket and has them answered one after another."""

    def __init__(self, server: LoopbackServer) -> None:
        self._server = server
        self._buffer = bytearray()
        self._task: asyncio.Task[None] | None = None
        self._head: tuple[str, str, dict[str, str]] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.transports.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._server.transports.discard(self._transport)
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._next()

    def _next(self) -> None:
        """Start on the next request once it is complete and the one before it is answered."""
        transport = self._transport
        if self._task is not None or transport is None or transport.is_closing():
            return
        try:
            incoming = self._parse()
        except ValueError as error:
            transport.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            transport.close()
            self._server.on_error(error)
            return
        if incoming is not None:
            exchange = Exchange(transport, incoming)
            self._task = self._server.loop.create_task(self._answer(incoming, exchange))

    async def _answer(self, incoming: Incoming, exchange: Exchange) -> None:
        """Run the handler; a failure of its own closes the connection and is reported."""
        assert self._transport is not None
        try:
            await self._server.handler(incoming, exchange)
        except asyncio.CancelledError:
            return
        except Exception as error:  # noqa: BLE001  reported to the owner, who raises it
            self._server.on_error(error)
            self._transport.close()
            return
        self._task = None
        if not exchange.keep_alive:
            self._transport.close()
        else:
            self._next()

    def _parse(self) -> Incoming | None:
        """Take one whole request off the buffer, or leave it and return None."""
        if self._head is None:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > _MAX_HEAD_BYTES:
                    raise ValueError("an HTTP head of more than 256 kB reached the loopback server")
                return None
            lines = self._buffer[:end].decode("latin-1").split("\r\n")
            del self._buffer[: end + 4]
            method, path, _ = lines[0].split(" ", 2)
            headers: dict[str, str] = {}
            for line in lines[1:]:
                name, _, value = line.partition(":")
                headers[name.strip().lower()] = value.strip()
            self._head = (method, path, headers)
            if headers.get("expect", "").lower() == "100-continue" and self._transport is not None:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        method, path, headers = self._head
        body = self._parse_chunked() if "transfer-encoding" in headers else self._parse_sized(headers)
        if body is None:
            return None
        self._head = None
        return Incoming(time.time(), method, path, headers, body)

    def _parse_sized(self, headers: Mapping[str, str]) -> bytes | None:
        """Take a body whose length the head gives."""
        length = int(headers.get("content-length", "0"))
        if len(self._buffer) < length:
            return None
        body = bytes(self._buffer[:length])
        del self._buffer[:length]
        return body

    def _parse_chunked(self) -> bytes | None:
        """Take a chunked body; it is read again from its start until all of it is there."""
        parts: list[bytes] = []
        at = 0
        while True:
            line_end = self._buffer.find(b"\r\n", at)
            if line_end < 0:
                return None
            size = int(bytes(self._buffer[at:line_end]).split(b";")[0], 16)
            start = line_end + 2
            if len(self._buffer) < start + size + 2:
                return None
            parts.append(bytes(self._buffer[start : start + size]))
            at = start + size + 2
            if size == 0:
                del self._buffer[:at]
                return b"".join(parts)


class LoopbackServer:
    """Owns the loop, its thread and the listening socket; the port stays the same over a stop and a start.

    Args:
        handler: Answers one request; cancelled when its client leaves or the server stops.
        on_error: Told of what a handler raised and of requests that are no HTTP, on the server's thread.

    Example:
        >>> from urllib.request import urlopen
        >>> async def hello(incoming: Incoming, exchange: Exchange) -> None:
        ...     exchange.send(200, "text/plain", b"hello")
        >>> server = LoopbackServer(hello, on_error=print)
        >>> server.start()
        >>> urlopen(f"http://127.0.0.1:{server.port}/").read()
        b'hello'
        >>> server.stop()
    """

    def __init__(self, handler: Handler, on_error: Callable[[Exception], None]) -> None:
        self.handler = handler
        self.on_error = on_error
        self.port = 0
        self.transports: set[asyncio.Transport] = set()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def running(self) -> bool:
        """Whether the server accepts connections."""
        return self._thread is not None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The server's loop; only while it runs."""
        if self._loop is None:
            raise RuntimeError("the loopback server is not running; call start() first")
        return self._loop

    def start(self) -> None:
        """Bind 127.0.0.1 and serve on a thread; returns when connections are accepted."""
        if self._thread is not None:
            return
        ready = threading.Event()
        failure: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, args=(ready, failure), name="scripted-api", daemon=True)
        self._thread.start()
        ready.wait()
        if failure:
            self._thread.join()
            self._thread = None
            raise failure[0]

    def stop(self) -> None:
        """Close every connection, stop serving, and wait for the thread to end."""
        if self._thread is None or self._loop is None:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._thread = None
        self._loop = None

    def _run(self, ready: threading.Event, failure: list[BaseException]) -> None:
        """The thread: serve until the loop is stopped, then cut whatever is still open."""
        loop = asyncio.new_event_loop()
        try:
            try:
                server = loop.run_until_complete(
                    loop.create_server(lambda: _Connection(self), "127.0.0.1", self.port, backlog=512)
                )
                self.port = server.sockets[0].getsockname()[1]
                self._loop = loop
            except OSError as error:
                failure.append(error)
                return
            finally:
                ready.set()
            loop.run_forever()
            server.close()
            loop.run_until_complete(self._cut_everything())
        finally:
            loop.close()

    async def _cut_everything(self) -> None:
        """Close every socket and wait for the coroutines that were answering on them."""
        for transport in list(self.transports):
            transport.abort()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # lets connection_lost run for what was aborted
