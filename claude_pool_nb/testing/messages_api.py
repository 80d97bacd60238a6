"""A scripted Messages API on 127.0.0.1: what the real CLI talks to in tests, benchmarks and demonstrations.

It answers ``POST /v1/messages`` (streamed or not) and ``/v1/messages/count_tokens`` as scripted, bills every
answer by list price, and keeps a log of all it was sent.

What decides an answer, first to last: a model not in ``models`` (404), a failure set with `fail`, the queue of
`script`, the rules of `on` (the earliest that fits), the default of `reply`. A request with ``max_tokens`` 1, with
which the CLI tries a model's name, is answered apart from the queue, the rules and counted failures.

What is billed: the usage of a whole answer. Of an answer cut short by either side after its first byte, all of its
input and the share of its output that was sent. An answer that never began, or that was an error, costs nothing.

Invariant: scripted functions run on the server's thread, one at a time; an error of theirs answers that request
with a 500 the CLI does not retry, and is raised again by `ScriptedAPI.stop`.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import threading
import time
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Self

from .delivery import Delivery, send_json
from .environment import DUMMY_API_KEY, isolated_environment
from .gate import Gate
from .http_server import Exchange, Incoming, LoopbackServer
from .prices import LIST_PRICES, ModelPrice, price_of
from .prompt_cache import PromptCache
from .replies import Reply, Request, Script

_PROBE = Reply("ok", input_tokens=8, output_tokens=1)


@dataclass(slots=True)
class _Rule:
    """A script for requests whose prompt fits, as often as it is still to be used."""

    pattern: re.Pattern[str]
    script: Script
    left: int | None


@dataclass(slots=True)
class _Failure:
    """An HTTP failure, as often as it is still to be answered."""

    reply: Reply
    left: int | None


def _check_times(times: int | None) -> None:
    """Refuse a count that would never be used up."""
    if times is not None and times < 1:
        raise ValueError(f"times must be at least 1, or None for ever; got {times}")


class ScriptedAPI:
    """A Messages API that says what it is told to.

    Attributes:
        latency_s: Wait before the first byte of every answer whose reply names none; may be changed at any time.
        models: The model ids that exist, or ``None`` for any.
        prices: What the API bills by, see `claude_pool_nb.testing.prices`.
        cache: A `PromptCache` to simulate prompt caching, or ``None``.

    Example:
        >>> from urllib.request import Request as Http, urlopen
        >>> with ScriptedAPI() as api:
        ...     api.reply("Hello")
        ...     body = b'{"model": "claude-haiku-4-5", "messages": [{"role": "user", "content": "Hi"}]}'
        ...     answer = urlopen(Http(api.url + "/v1/messages", body)).read()
        ...     print(b"Hello" in answer, api.requests[0].prompt, api.billed_usd)
        True Hi 0.0011
    """

    def __init__(self) -> None:
        self.latency_s: float = 0.0
        self.models: Collection[str] | None = None
        self.prices: Mapping[str, ModelPrice] = LIST_PRICES
        self.cache: PromptCache | None = None
        self._server = LoopbackServer(self._handle, self._note_error)
        self._changed = threading.Condition()
        self._requests: list[Request] = []
        self._others: list[Incoming] = []
        self._errors: list[Exception] = []
        self._default: Script = Reply("ok")
        self._queue: deque[Script] = deque()
        self._rules: list[_Rule] = []
        self._failures: deque[_Failure] = deque()
        self._gate = Gate()
        self._in_flight = 0
        self._max_in_flight = 0
        self._serial = 0

    # -- life -----------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Begin to serve; after a `stop` on the same port as before.

        Raises:
            OSError: The port of before is taken by now.

        Example:
            >>> api = ScriptedAPI().start()
            >>> api.url.startswith("http://127.0.0.1:")
            True
            >>> api.stop()
        """
        self._server.start()
        return self

    def stop(self) -> None:
        """Cut what is open and refuse connections from now on.

        Raises:
            Exception: The first error of a scripted function, or of a request that was no HTTP.

        Example:
            >>> ScriptedAPI().start().stop()
        """
        self._server.stop()
        with self._changed:
            errors, self._errors = self._errors, []
        if errors:
            raise errors[0]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            self.stop()
        except Exception:
            # The error inside the block is the nearer one to the reader; ours would only hide it.
            if kind is None:
                raise

    @property
    def port(self) -> int:
        """The port served; 0 before the first start."""
        return self._server.port

    @property
    def url(self) -> str:
        """The base URL, for ``ANTHROPIC_BASE_URL``."""
        return f"http://127.0.0.1:{self.port}"

    def env(self, home: str | os.PathLike[str], *, api_key: str = DUMMY_API_KEY) -> dict[str, str]:
        """Return the environment of a CLI that reaches this server and no other.

        Args:
            home: The folder that becomes the CLI's home.
            api_key: The key it sends.

        Example:
            >>> with ScriptedAPI() as api:
            ...     api.env("/tmp/h")["ANTHROPIC_BASE_URL"] == api.url
            True
        """
        return isolated_environment(home, self.url, api_key=api_key)

    # -- what is answered -----------------------------------------------------------------------------------------

    def reply(self, answer: Script) -> None:
        """Set what is answered from now on where nothing else applies: a text, a `Reply` or a function of the request.

        Example:
            >>> ScriptedAPI().reply(lambda request: request.prompt.upper())
        """
        with self._changed:
            self._default = answer

    def script(self, *answers: Script) -> None:
        """Queue answers; each is used once, in order, before rules and default.

        Example:
            >>> ScriptedAPI().script("first", Reply("second", output_tokens=40))
        """
        with self._changed:
            self._queue.extend(answers)

    def on(self, pattern: str, answer: Script, times: int | None = None) -> None:
        """Answer requests whose prompt contains a match of ``pattern`` in this way.

        Args:
            pattern: A regular expression, searched in `Request.prompt`; dots match newlines.
            answer: What is answered.
            times: How often; ``None`` for ever.

        Example:
            >>> ScriptedAPI().on(r"capital of France", "Paris", times=1)
        """
        _check_times(times)
        with self._changed:
            self._rules.append(_Rule(re.compile(pattern, re.DOTALL), answer, times))

    def fail(
        self,
        *,
        status: int = 500,
        times: int | None = 1,
        retry_after_s: float | None = None,
        headers: Mapping[str, str] | None = None,
        message: str | None = None,
        error_type: str | None = None,
    ) -> None:
        """Answer the next requests with an HTTP failure, after those of earlier calls.

        Args:
            status: The HTTP status.
            times: For how many requests; ``None`` until `recover`.
            retry_after_s: The ``retry-after`` header, in seconds.
            headers: Further headers, for example ``{"x-should-retry": "false"}``.
            message: The error's message.
            error_type: The error's type; by default what the real API says with that status.

        Example:
            >>> ScriptedAPI().fail(status=429, times=2, retry_after_s=1)
        """
        _check_times(times)
        reply = Reply(
            status=status,
            retry_after_s=retry_after_s,
            headers=dict(headers or {}),
            message=message,
            error_type=error_type,
        )
        with self._changed:
            self._failures.append(_Failure(reply, times))

    def recover(self) -> None:
        """End all failures set with `fail`.

        Example:
            >>> api = ScriptedAPI()
            >>> api.fail(status=401, times=None)
            >>> api.recover()
        """
        with self._changed:
            self._failures.clear()

    # -- the gate -------------------------------------------------------------------------------------------------

    def hold(self, after_chunks: int = 0) -> None:
        """Let answers wait from now on until `release`.

        Args:
            after_chunks: Where: 0 before the first byte; n after the n-th delta of a stream, or before its end
                when it has fewer. An answer that is not streamed waits before its first byte in any case.

        Example:
            >>> with ScriptedAPI() as api:
            ...     api.hold()
            ...     api.release()
        """
        self._gate.hold(after_chunks)

    def release(self, count: int | None = None) -> None:
        """Let held answers go on.

        Args:
            count: How many, the longest held first, and the gate stays closed; ``None`` opens it.

        Example:
            >>> with ScriptedAPI() as api:
            ...     api.release(1)
        """
        self._gate.release(count)

    @property
    def held(self) -> int:
        """How many answers wait at the gate now."""
        return self._gate.held

    def wait_for_held(self, n_requests: int, timeout_s: float = 10.0) -> None:
        """Wait until that many answers are held at the gate.

        Args:
            n_requests: How many.
            timeout_s: How long at most.

        Raises:
            TimeoutError: They were not.

        Example:
            >>> ScriptedAPI().wait_for_held(0)
        """
        self._gate.wait_for_held(n_requests, timeout_s)

    # -- the log --------------------------------------------------------------------------------------------------

    @property
    def requests(self) -> list[Request]:
        """Every POST to ``/v1/messages`` so far, in order of arrival."""
        with self._changed:
            return list(self._requests)

    @property
    def others(self) -> list[Incoming]:
        """Every other HTTP request so far, token counts included."""
        with self._changed:
            return list(self._others)

    @property
    def billed_nano(self) -> int:
        """What all requests so far are billed, in nanodollars."""
        with self._changed:
            return sum(request.cost_nano for request in self._requests)

    @property
    def billed_usd(self) -> float:
        """What all requests so far are billed, in dollars."""
        return self.billed_nano / 1e9

    @property
    def in_flight(self) -> int:
        """How many requests are being answered now."""
        with self._changed:
            return self._in_flight

    @property
    def max_in_flight(self) -> int:
        """The most requests that were being answered at one time."""
        with self._changed:
            return self._max_in_flight

    def clear(self) -> None:
        """Forget the log; scripts, failures and the gate stay.

        Example:
            >>> api = ScriptedAPI()
            >>> api.clear()
            >>> api.requests
            []
        """
        with self._changed:
            self._requests = []
            self._others = []
            self._max_in_flight = self._in_flight

    def wait_for(self, n_requests: int, timeout_s: float = 10.0, *, finished: bool = False) -> list[Request]:
        """Wait until that many requests have arrived, and return the log.

        Args:
            n_requests: How many.
            timeout_s: How long at most.
            finished: Count only exchanges that are over.

        Raises:
            TimeoutError: They did not.

        Example:
            >>> with ScriptedAPI() as api:
            ...     api.wait_for(0)
            []
        """

        def count() -> int:
            return sum(request.finished or not finished for request in self._requests)

        with self._changed:
            if not self._changed.wait_for(lambda: count() >= n_requests, timeout_s):
                what = "finished requests" if finished else "requests"
                raise TimeoutError(f"waited {timeout_s:g} s for {n_requests} {what}; there are {count()}")
            return list(self._requests)

    def _note_error(self, error: Exception) -> None:
        """Keep an error of the server's thread for `stop`."""
        with self._changed:
            self._errors.append(error)

    # -- answering, on the server's thread ------------------------------------------------------------------------

    async def _handle(self, incoming: Incoming, exchange: Exchange) -> None:
        """Answer one HTTP request of any kind."""
        path = incoming.path.partition("?")[0]
        if incoming.method == "POST" and path == "/v1/messages":
            await self._handle_messages(incoming, exchange)
            return
        with self._changed:
            self._others.append(incoming)
            self._changed.notify_all()
        if incoming.method == "POST" and path == "/v1/messages/count_tokens":
            send_json(exchange, 200, {"input_tokens": max(len(incoming.body) // 4, 1)})
        elif path == "/v1/models":
            rows = [{"type": "model", "id": name, "display_name": name} for name in sorted(self.models or ())]
            send_json(exchange, 200, {"data": rows, "has_more": False, "first_id": None, "last_id": None})
        elif incoming.method == "HEAD" or path == "/":
            exchange.send(200, "text/plain", b"")
        else:
            send_json(exchange, 404, Reply(status=404).error())

    async def _handle_messages(self, incoming: Incoming, exchange: Exchange) -> None:
        """Log a request for a message, answer it, and bill it whatever way the exchange ends."""
        try:
            body = json.loads(incoming.body)
        except ValueError:
            body = None
        request = Request(at=incoming.at, path=incoming.path, headers=incoming.headers, raw=incoming.body)
        request.body = body if isinstance(body, dict) else {}
        request.probe = request.body.get("max_tokens") == 1
        with self._changed:
            self._requests.append(request)
            self._serial += 1
            serial = self._serial
            self._in_flight += 1
            self._max_in_flight = max(self._max_in_flight, self._in_flight)
            self._changed.notify_all()
        try:
            reply = self._choose(request)
            price = price_of(request.model, self.prices)
            await Delivery(request, reply, exchange, serial, self.latency_s, self.cache, self._gate, price).run()
        except asyncio.CancelledError:
            request.cut = True
            raise
        finally:
            with self._changed:
                self._in_flight -= 1
                request.ended_at = time.time()
                self._changed.notify_all()

    def _choose(self, request: Request) -> Reply:
        """The reply for a request, as the module's docstring orders it."""
        if not request.body:
            return Reply(status=400, message="The body is not a JSON object")
        if self.models is not None and request.model not in self.models:
            return Reply(status=404, message=f"model: {request.model}")
        with self._changed:
            script = self._next_script(request)
        if isinstance(script, Reply):
            return script
        if isinstance(script, str):
            return Reply(script)
        try:
            answer = script(request)
            return Reply(answer) if isinstance(answer, str) else answer
        except Exception as error:  # noqa: BLE001  answered as a failure here, and raised by stop()
            self._note_error(error)
            return Reply(status=500, message=f"scripted function: {error!r}", headers={"x-should-retry": "false"})

    def _next_script(self, request: Request) -> Script:
        """What is scripted for a request; takes from the queue and the counts."""
        failure = self._failures[0] if self._failures else None
        if failure is not None and not (request.probe and failure.left is not None):
            if failure.left is not None:
                failure.left -= 1
                if failure.left == 0:
                    self._failures.popleft()
            return failure.reply
        if request.probe:
            return _PROBE
        if self._queue:
            return self._queue.popleft()
        for rule in self._rules:
            if rule.left != 0 and rule.pattern.search(request.prompt):
                if rule.left is not None:
                    rule.left -= 1
                return rule.script
        return self._default
