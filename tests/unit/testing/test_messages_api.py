"""The scripted API over plain HTTP: what it answers, when, what it bills, and what it remembers."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from claude_pool_nb.testing import PromptCache, Reply, Request, ScriptedAPI

MODEL = "claude-haiku-4-5"


def body_of(prompt: Any = "Hello", *, stream: bool = False, **more: Any) -> dict[str, Any]:
    """A request's body."""
    messages = [{"role": "user", "content": prompt}]
    return {"model": MODEL, "max_tokens": 1000, "messages": messages, "stream": stream, **more}


def connect(api: ScriptedAPI) -> http.client.HTTPConnection:
    """A keep-alive connection to the API."""
    return http.client.HTTPConnection("127.0.0.1", api.port, timeout=10)


def post(api: ScriptedAPI, body: dict[str, Any], path: str = "/v1/messages") -> tuple[int, dict[str, str], Any]:
    """Status, headers and parsed JSON of one request on a connection of its own."""
    connection = connect(api)
    try:
        connection.request("POST", path, json.dumps(body))
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, json.loads(response.read())
    finally:
        connection.close()


def events_of(raw: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    """The events of a stream."""
    for part in raw.decode().split("\n\n"):
        if part:
            kind, data = part.split("\n", 1)
            yield kind.removeprefix("event: "), json.loads(data.removeprefix("data: "))


def post_stream(api: ScriptedAPI, body: dict[str, Any]) -> bytes:
    """The bytes of a streamed answer, which must end properly."""
    connection = connect(api)
    try:
        connection.request("POST", "/v1/messages", json.dumps({**body, "stream": True}))
        return connection.getresponse().read()
    finally:
        connection.close()


def test_both_forms_of_an_answer_say_the_same(api: ScriptedAPI) -> None:
    """A streamed answer carries the text, stop reason and usage of the whole one, and costs the same."""
    api.reply(Reply("Hello, world", chunk_chars=5, tool_calls=[("Read", {"path": "a"})]))
    _, _, whole = post(api, body_of())
    events = list(events_of(post_stream(api, body_of())))
    assert [kind for kind, _ in events] == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * 3,
        "content_block_stop",
        "content_block_start",
        *["content_block_delta"] * 3,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    deltas = [data["delta"] for kind, data in events if kind == "content_block_delta"]
    assert "".join(delta.get("text", "") for delta in deltas) == "Hello, world" == whole["content"][0]["text"]
    assert json.loads("".join(delta.get("partial_json", "") for delta in deltas)) == whole["content"][1]["input"]
    started = events[0][1]["message"]["usage"]
    assert (started["input_tokens"], started["output_tokens"]) == (1000, 1)
    closing = events[-2][1]
    assert closing["usage"] == whole["usage"]
    assert closing["delta"]["stop_reason"] == whole["stop_reason"] == "tool_use"
    assert [request.cost_nano for request in api.wait_for(2, finished=True)] == [1_100_000, 1_100_000]
    assert api.billed_usd == pytest.approx(0.0022, abs=1e-12)


def test_order_of_what_decides_an_answer(api: ScriptedAPI) -> None:
    """Failures come before the queue, the queue before rules, the first fitting rule before all else."""
    api.reply(lambda request: f"default {request.prompt}")
    api.on("a+", "rule one", times=1)
    api.on("a", "rule two")
    api.script("queued")
    api.fail(status=529, times=1)
    api.fail(status=500, times=1)

    def ask(prompt: str) -> object:
        status, _, answer = post(api, body_of(prompt))
        return answer["content"][0]["text"] if status == 200 else status

    assert [ask(prompt) for prompt in ["a", "a", "a", "a", "a", "b"]] == [
        529,
        500,
        "queued",
        "rule one",
        "rule two",
        "default b",
    ]


def test_failure_until_recovered(api: ScriptedAPI) -> None:
    """A failure without a count lasts until recover(), with its headers and error object, and bills nothing."""
    api.fail(status=429, times=None, retry_after_s=2, headers={"x-should-retry": "false"}, message="slow down")
    for _ in range(3):
        status, headers, answer = post(api, body_of(stream=True))
        assert status == 429
        assert (headers["retry-after"], headers["x-should-retry"]) == ("2", "false")
        assert answer["error"] == {"type": "rate_limit_error", "message": "slow down"}
    api.recover()
    assert post(api, body_of())[0] == 200
    assert [request.status for request in api.requests] == [429, 429, 429, 200]
    assert api.billed_nano == 1_100_000


def test_counts_that_never_end_are_refused(api: ScriptedAPI) -> None:
    """A count of zero is an error, not a failure for ever."""
    with pytest.raises(ValueError, match="at least 1"):
        api.fail(times=0)
    with pytest.raises(ValueError, match="at least 1"):
        api.on("x", "y", times=0)


def test_unknown_model_and_probe(api: ScriptedAPI) -> None:
    """A model outside the set is not found, and the trial of a name uses up neither the queue nor counted failures."""
    api.models = {MODEL}
    api.script("kept")
    status, _, answer = post(api, {**body_of(), "model": "claude-nope"})
    assert (status, answer["error"]["type"]) == (404, "not_found_error")
    api.fail(status=500, times=1)
    assert post(api, {**body_of(), "max_tokens": 1})[0] == 200
    assert api.requests[-1].probe
    assert api.requests[-1].cost_nano == 8 * 1000 + 5000
    assert post(api, body_of())[0] == 500
    assert post(api, body_of())[2]["content"][0]["text"] == "kept"


def test_what_the_cli_probes_is_answered_quietly(api: ScriptedAPI) -> None:
    """Token counts, the model list, HEAD and unknown paths get an answer and stay out of the message log."""
    api.models = {MODEL}
    assert post(api, body_of("x" * 4000), "/v1/messages/count_tokens?beta=true")[2]["input_tokens"] > 1000
    connection = connect(api)
    seen = []
    for method, path in [("HEAD", "/"), ("GET", "/v1/models?limit=9"), ("GET", "/nowhere")]:
        connection.request(method, path)
        response = connection.getresponse()
        seen.append((response.status, response.read()))
    connection.close()
    assert seen[0] == (200, b"")
    assert json.loads(seen[1][1])["data"][0]["id"] == MODEL
    assert seen[2][0] == 404
    assert api.requests == []
    assert [incoming.path for incoming in api.others][1:] == ["/", "/v1/models?limit=9", "/nowhere"]


def test_request_log_finds_the_prompt(api: ScriptedAPI) -> None:
    """The prompt is the last user text that is no reminder, also when a tool result came after it."""
    reminder = {"type": "text", "text": "<system-reminder>\nToday is Friday.\n</system-reminder>\n"}
    body = body_of([reminder, {"type": "text", "text": "The prompt"}, reminder], system=[{"type": "text", "text": "S"}])
    body["messages"] += [
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "Bash", "input": {}}]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t", "content": "42\n\n<system-reminder>x</system-reminder>\n"}
            ],
        },
    ]
    post(api, body)
    request = api.wait_for(1, finished=True)[0]
    assert request.prompt == "The prompt"
    assert request.prompts == [reminder["text"], "The prompt", reminder["text"]]
    assert request.tool_results == ["42"]
    assert (request.system, request.model, request.stream) == ("S", MODEL, False)
    assert request.size == len(json.dumps(body))
    assert json.loads(request.raw) == request.body == body
    assert request.at <= request.began_at <= request.ended_at


def test_json_reply_follows_the_offered_tools(api: ScriptedAPI) -> None:
    """A JSON reply calls StructuredOutput where it is offered, ends after its result, and is text elsewhere."""
    api.reply(Reply(json={"n": 1}))
    tools = [{"name": "StructuredOutput", "input_schema": {"type": "object"}}]
    _, _, called = post(api, body_of(tools=tools))
    assert (called["content"][0]["name"], called["content"][0]["input"]) == ("StructuredOutput", {"n": 1})
    result = [{"type": "tool_result", "tool_use_id": called["content"][0]["id"], "content": "ok"}]
    assert post(api, body_of(result, tools=tools))[2]["stop_reason"] == "end_turn"
    assert json.loads(post(api, body_of())[2]["content"][0]["text"]) == {"n": 1}


def test_max_tokens_cuts_the_answer(api: ScriptedAPI) -> None:
    """An answer longer than max_tokens is cut in proportion, billed so, and says why."""
    api.reply(Reply("x" * 100, output_tokens=50))
    _, _, answer = post(api, {**body_of(), "max_tokens": 10})
    assert (answer["stop_reason"], answer["usage"]["output_tokens"]) == ("max_tokens", 10)
    assert len(answer["content"][0]["text"]) == 20


@pytest.mark.parametrize(
    ("fields", "complete", "output_tokens"),
    [
        ({"cut_after_chunks": 2}, False, 10),
        ({"eof_after_chunks": 2}, True, 10),
        ({"stream_error": "overloaded_error"}, True, 5),
        ({"malformed": True}, True, 20),
    ],
)
def test_streams_that_go_wrong(api: ScriptedAPI, fields: dict[str, Any], complete: bool, output_tokens: int) -> None:
    """Each kind of broken stream breaks as named, bills what was sent, and spares answers that are no stream."""
    api.reply(Reply("abcdefgh", chunk_chars=2, **fields))
    if complete:
        raw = post_stream(api, body_of())
    else:
        with pytest.raises(http.client.IncompleteRead) as caught:
            post_stream(api, body_of())
        raw = caught.value.partial
    assert (b"message_stop" in raw) == ("malformed" in fields)
    assert (b"not json" in raw) == ("malformed" in fields)
    assert (b"event: error\n" in raw) == ("stream_error" in fields)
    request = api.wait_for(1, finished=True)[0]
    assert request.usage is not None
    assert (request.usage.input_tokens, request.usage.output_tokens) == (1000, output_tokens)
    assert request.cut == ("malformed" not in fields)
    assert post(api, body_of())[2]["content"][0]["text"] == "abcdefgh"


def test_html_answer(api: ScriptedAPI) -> None:
    """A gateway's page is no message, keeps its status, and bills nothing."""
    api.script(Reply(html=True), Reply(html=True, status=502))
    connection = connect(api)
    for status in (200, 502):
        connection.request("POST", "/v1/messages", json.dumps(body_of(stream=True)))
        response = connection.getresponse()
        assert (response.status, response.getheader("content-type")) == (status, "text/html")
        assert response.read().startswith(b"<!doctype html>")
    connection.close()
    assert api.billed_nano == 0


def test_gate_before_the_first_byte(api: ScriptedAPI) -> None:
    """Held answers send nothing, are released in the order they came, and an opened gate holds no more."""
    api.reply(lambda request: request.prompt)
    api.hold()
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(post_stream, api, body_of("first"))
        api.wait_for_held(1)
        second = pool.submit(post, api, body_of("second"))
        api.wait_for_held(2)
        assert api.in_flight == 2
        assert [request.began_at for request in api.requests] == [0, 0]
        api.release(1)
        assert b"first" in first.result(10)
        assert api.held == 1
        assert not second.done()
        api.release()
        assert second.result(10)[0] == 200
        assert pool.submit(post, api, body_of("third")).result(10)[0] == 200
    assert api.max_in_flight == 2


def test_gate_inside_a_stream_and_client_leaving(api: ScriptedAPI) -> None:
    """A client that leaves in mid-stream is billed the input and what it was sent, and no longer waits."""
    api.reply(Reply("abcdefgh", chunk_chars=2))
    api.hold(after_chunks=3)
    connection = connect(api)
    connection.request("POST", "/v1/messages", json.dumps(body_of(stream=True)))
    response = connection.getresponse()
    api.wait_for_held(1)
    seen = b""
    while b'"ef"' not in seen:
        seen += response.read1()
    assert b'"gh"' not in seen
    assert not api.requests[0].finished
    response.close()
    connection.close()
    request = api.wait_for(1, finished=True)[0]
    assert request.cut
    assert api.billed_nano == 1000 * 1000 + 15 * 5000
    assert api.held == 0


def test_client_leaving_before_the_first_byte_costs_nothing(api: ScriptedAPI) -> None:
    """An answer that never began is not billed, whether it hangs or is late."""
    api.script(Reply(hang=True), Reply("late", latency_s=60))
    for number in (1, 2):
        connection = connect(api)
        connection.request("POST", "/v1/messages", json.dumps(body_of()))
        api.wait_for(number)
        connection.close()
        request = api.wait_for(number, finished=True)[-1]
        assert (request.cut, request.status, request.cost_nano) == (True, 0, 0)


def test_latency_is_live_and_a_reply_may_have_its_own(api: ScriptedAPI) -> None:
    """The API's latency holds for the next request, unless its reply says otherwise."""
    api.latency_s = 0.2
    api.script("slow", Reply("quick", latency_s=0))
    post(api, body_of())
    post(api, body_of())
    slow, quick = [request.began_at - request.at for request in api.requests]
    assert slow >= 0.19
    assert quick < slow


def test_many_connections_stay_open(api: ScriptedAPI) -> None:
    """Sixteen connections are served beside each other, each for many requests, and every one is logged once."""
    api.reply(lambda request: request.prompt)
    api.hold()

    def client(number: int) -> list[str]:
        connection = connect(api)
        answers = []
        for turn in range(10):
            connection.request("POST", "/v1/messages", json.dumps(body_of(f"{number}.{turn}")))
            answers.append(json.loads(connection.getresponse().read())["content"][0]["text"])
        connection.close()
        return answers

    with ThreadPoolExecutor(16) as pool:
        clients = [pool.submit(client, number) for number in range(16)]
        api.wait_for_held(16)
        api.release()
        answers = [client.result(20) for client in clients]
    assert answers == [[f"{number}.{turn}" for turn in range(10)] for number in range(16)]
    assert len({request.prompt for request in api.requests}) == len(api.requests) == 160
    assert api.max_in_flight == 16
    assert api.billed_nano == 160 * 1_100_000


def test_stop_refuses_and_start_serves_the_same_port() -> None:
    """A stopped API cuts what is open and refuses connections; started again it has the same address and log."""
    api = ScriptedAPI().start()
    port = api.port
    api.hold()
    with ThreadPoolExecutor(1) as pool:
        cut = pool.submit(post, api, body_of())
        api.wait_for_held(1)
        api.stop()
        with pytest.raises((ConnectionError, http.client.RemoteDisconnected)):
            cut.result(10)
    with pytest.raises(ConnectionRefusedError):
        post(api, body_of())
    api.release()
    with api:
        assert api.port == port
        assert post(api, body_of())[0] == 200
    assert [request.cut for request in api.requests] == [True, False]


def test_error_of_a_scripted_function_comes_out() -> None:
    """What a scripted function raises answers that request with a 500 and is raised by stop()."""

    def broken(request: Request) -> str:
        raise LookupError(request.prompt)

    api = ScriptedAPI().start()
    api.script(broken)
    status, headers, answer = post(api, body_of("boom"))
    assert (status, headers["x-should-retry"]) == (500, "false")
    assert "LookupError" in answer["error"]["message"]
    assert post(api, body_of())[0] == 200
    with pytest.raises(LookupError, match="boom"):
        api.stop()


def test_waiting_for_what_does_not_come(api: ScriptedAPI) -> None:
    """A wait that fails says what it waited for and what there is."""
    with pytest.raises(TimeoutError, match=r"0\.01 s for 2 requests; there are 0"):
        api.wait_for(2, 0.01)


def test_bodies_that_are_no_json_object(api: ScriptedAPI) -> None:
    """A body that is no JSON object is refused as the real API does."""
    connection = connect(api)
    for body in (b"{", b"[]", b""):
        connection.request("POST", "/v1/messages", body)
        response = connection.getresponse()
        assert (response.status, json.loads(response.read())["error"]["type"]) == (400, "invalid_request_error")
    connection.close()


def test_requests_in_pieces(api: ScriptedAPI) -> None:
    """A chunked body, a body that arrives byte by byte, and two requests in one packet are all understood."""
    body = json.dumps(body_of("pieces")).encode()
    sized = b"POST /v1/messages HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    chunked = b"POST /v1/messages HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n5\r\n     \r\n0\r\n\r\n" % (
        len(body),
        body,
    )
    with socket.create_connection(("127.0.0.1", api.port), timeout=10) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in chunked:
            sock.sendall(bytes([byte]))
        sock.sendall(sized + sized)
        seen = b""
        while seen.count(b"HTTP/1.1 200 OK") < 3:
            seen += sock.recv(65536)
    assert [request.prompt for request in api.wait_for(3)] == ["pieces"] * 3


def test_cache_over_http(api: ScriptedAPI) -> None:
    """Two requests that wait together both write the shared prefix; one that comes after reads it, at a tenth."""
    api.cache = PromptCache()
    system = [{"type": "text", "text": "s" * 8000, "cache_control": {"type": "ephemeral"}}]
    api.hold()
    with ThreadPoolExecutor(2) as pool:
        together = [pool.submit(post, api, body_of(f"p{number}", system=system)) for number in range(2)]
        api.wait_for_held(2)
        api.release()
        usages = [answer.result(10)[2]["usage"] for answer in together]
    usages.append(post(api, body_of("p2", system=system))[2]["usage"])
    written = [usage["cache_creation_input_tokens"] for usage in usages]
    assert written[0] == written[1] > 2000
    assert written[2] == 0
    assert [usage["cache_read_input_tokens"] for usage in usages] == [0, 0, written[0]]
    assert usages[0]["cache_creation"]["ephemeral_5m_input_tokens"] == written[0]
    costs = [request.cost_nano for request in api.requests]
    rest = usages[2]["input_tokens"]
    assert costs[2] == rest * 1000 + written[0] * 100 + 20 * 5000
    assert costs[0] == rest * 1000 + written[0] * 1250 + 20 * 5000
