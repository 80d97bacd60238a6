"""One claude process and the lines it speaks: NDJSON both ways, with control requests among them.

This is the protocol claude-agent-sdk speaks to the CLI it ships, without importing it (that takes up to two seconds);
a test holds our frames against the SDK's own. The process leads a session of its own, so that a kernel interrupt, a
signal to the kernel's whole process group, does not reach it.

Invariants: every message goes to `on_message` in the order of its arrival, on the loop's thread; `lost` is called
exactly once, after the last message, when nothing can follow; requests still open then fail with SessionLost.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from claude_pool_nb.errors import CLINotFound, SessionError, SessionLost

STDERR_KEPT_CHARS = 4000
"""How much of what the CLI says on stderr is kept, for error messages."""
DRAIN_S = 0.25
"""How long output is awaited from a process that has ended while its pipe is still held open by a descendant."""


class RequestRefused(SessionError):
    """The CLI refused a control request; the message is its own."""


class Wire(asyncio.SubprocessProtocol):
    """A running claude process.

    Example:
        >>> Wire(on_message=print, lost=print).pid is None
        True
    """

    def __init__(self, on_message: Callable[[dict[str, Any]], None], lost: Callable[[], None]) -> None:
        self._on_message = on_message
        self._lost = lost
        self._transport: asyncio.SubprocessTransport | None = None
        self._stdin: asyncio.WriteTransport | None = None
        self._pending: list[bytes] = []
        self._numbers = itertools.count(1)
        self._requests: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._stderr = ""
        self._over = False
        self._drained = False
        self.exited = asyncio.Event()
        """Set when the process has ended."""
        self.pid: int | None = None
        """Its process id; None before `spawn`."""
        self.returncode: int | None = None
        """Its exit code; negative for a signal; None while it runs."""

    @property
    def over(self) -> bool:
        """True once nothing can come from it any more."""
        return self._over

    @property
    def stderr(self) -> str:
        """The end of what it said on stderr."""
        return self._stderr.strip()

    async def spawn(self, argv: Sequence[str], env: Mapping[str, str], cwd: str) -> None:
        """Start the process.

        Raises:
            CLINotFound: there is no such executable.
            SessionError: it could not be started (no permission, no such cwd, no memory).
        """
        loop = asyncio.get_running_loop()
        try:
            await loop.subprocess_exec(lambda: self, *argv, env=dict(env), cwd=cwd, start_new_session=True)
        except FileNotFoundError as error:
            if error.filename == cwd:
                raise SessionError(f"the working directory {cwd} does not exist; pass another one with cwd=") from None
            raise CLINotFound(f"there is no claude CLI at {argv[0]}; set cli_path to one, or leave it out") from None
        except OSError as error:
            raise SessionError(f"the claude CLI at {argv[0]} could not be started: {error}") from None

    def send(self, message: Mapping[str, Any]) -> None:
        """Send one message; nothing happens if the process is gone (`lost` says so)."""
        if self._stdin is not None and not self._over and not self._stdin.is_closing():
            self._stdin.write(json.dumps(message).encode() + b"\n")

    async def request(self, body: Mapping[str, Any], timeout_s: float) -> dict[str, Any]:
        """Send a control request and return its answer.

        Raises:
            RequestRefused: the CLI answered with an error.
            SessionLost: the process is gone.
            TimeoutError: no answer came.
        """
        if self._over:
            raise SessionLost
        key = f"r{next(self._numbers)}"
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._requests[key] = answer
        self.send({"type": "control_request", "request_id": key, "request": dict(body)})
        try:
            async with asyncio.timeout(timeout_s):
                return await answer
        finally:
            self._requests.pop(key, None)

    def end_input(self) -> None:
        """Close its stdin: an idle CLI then ends by itself."""
        if self._stdin is not None and not self._stdin.is_closing():
            self._stdin.close()

    def abandon(self) -> None:
        """Give back the pipes; for a process that was ended."""
        if self._transport is not None:
            self._transport.close()
        self._end()

    # -- what the loop calls --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It runs. Under load it may be heard, and even have ended, before `spawn` goes on."""
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._transport = transport
        self.pid = transport.get_pid()
        stdin = transport.get_pipe_transport(0)
        self._stdin = stdin if isinstance(stdin, asyncio.WriteTransport) else None

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Cut what arrived into lines and hand them out."""
        if fd != 1:
            self._stderr = (self._stderr + data.decode(errors="replace"))[-STDERR_KEPT_CHARS:]
            return
        if b"\n" not in data:
            self._pending.append(data)
            return
        *lines, tail = b"".join([*self._pending, data]).split(b"\n")
        self._pending = [tail] if tail else []
        for line in lines:
            # Some builds of the CLI write lines of other text among the messages.
            if line.startswith(b"{"):
                try:
                    message = json.loads(line)
                except ValueError:
                    # Lines are whole here, so nothing later mends this one: what it said is lost, and so is the rest.
                    self._stderr = f"{self._stderr}\nunreadable output: {line[:200]!r}"[-STDERR_KEPT_CHARS:]
                    self._end()
                    return
                self._take(message)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        """The end of stdout is the end of all messages; the exit code follows."""
        if fd == 1:
            self._drained = True
            self._end_soon()

    def process_exited(self) -> None:
        """Messages may still be in the pipe; a descendant that holds it open must not keep us waiting."""
        assert self._transport is not None
        self.returncode = self._transport.get_returncode()
        self.exited.set()
        self._end_soon()

    def _take(self, message: dict[str, Any]) -> None:
        """Route one message."""
        kind = message.get("type")
        if kind == "control_response":
            response = message.get("response", {})
            future = self._requests.get(response.get("request_id", ""))
            if future is not None and not future.done():
                if response.get("subtype") == "error":
                    future.set_exception(RequestRefused(str(response.get("error") or "refused")))
                else:
                    future.set_result(response.get("response") or {})
        elif kind == "control_request":
            # Nobody is asked: what would prompt is denied, and the denial stands in the result.
            error = {"subtype": "error", "request_id": message.get("request_id"), "error": "nobody is there to ask"}
            self.send({"type": "control_response", "response": error})
        else:
            self._on_message(message)

    def _end_soon(self) -> None:
        """End when both the output and the process have ended; a moment after the first, whatever the other does."""
        if self._drained and self.exited.is_set():
            self._end()
        elif not self._over:
            asyncio.get_running_loop().call_later(DRAIN_S, self._end)

    def _end(self) -> None:
        """Say once that nothing follows."""
        if self._over:
            return
        self._over = True
        for future in self._requests.values():
            if not future.done():
                future.set_exception(SessionLost())
        self._lost()
