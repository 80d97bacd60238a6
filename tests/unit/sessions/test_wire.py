"""Lines in and out, whatever pieces they come in."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_pool_nb.errors import CLINotFound, SessionError, SessionLost
from claude_pool_nb.sessions.wire import RequestRefused, Wire

ECHO = """
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message["type"] == "control_request":
        subtype = message["request"]["subtype"]
        if subtype == "silent":
            continue
        if subtype == "die":
            sys.stderr.write("going down\\n"); sys.exit(7)
        body = {"request_id": message["request_id"], "subtype": "success", "response": {"was": subtype}}
        if subtype == "no":
            body |= {"subtype": "error", "error": "not that"}
        message = {"type": "control_response", "response": body}
    print(json.dumps(message), flush=True)
"""


async def spawned(heard: list[dict[str, Any]], lost: asyncio.Event, code: str = ECHO) -> Wire:
    """A wire to a small program."""
    wire = Wire(heard.append, lost.set)
    await wire.spawn([sys.executable, "-c", code], {}, "/")
    return wire


@given(
    st.lists(st.text(max_size=30), min_size=1, max_size=8),
    st.lists(st.integers(min_value=1, max_value=40), min_size=1, max_size=20),
)
def test_messages_survive_any_cut(texts: list[str], sizes: list[int]) -> None:
    """However the bytes are cut, every message arrives once, in order; lines of other text are passed over."""
    heard: list[dict[str, Any]] = []
    wire = Wire(heard.append, lambda: None)
    data = b"".join(
        b"[noise] not a message\n"
        + json.dumps({"type": "x", "text": text}, ensure_ascii=False).encode(errors="replace")
        + b"\n"
        for text in texts
    )
    at, turn = 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        wire.pipe_data_received(1, data[at : at + size])
        at, turn = at + size, turn + 1
    assert len(heard) == len(texts)
    assert [message["text"] for message in heard] == [text.encode(errors="replace").decode() for text in texts]


async def test_requests_are_answered_refused_and_timed_out() -> None:
    """Each request has its own answer, error or limit."""
    wire = await spawned([], asyncio.Event())
    both = await asyncio.gather(wire.request({"subtype": "a"}, 5), wire.request({"subtype": "b"}, 5))
    assert [answer["was"] for answer in both] == ["a", "b"]
    with pytest.raises(RequestRefused, match="not that"):
        await wire.request({"subtype": "no"}, 5)
    with pytest.raises(TimeoutError):
        await wire.request({"subtype": "silent"}, 0.05)
    wire.end_input()
    await wire.exited.wait()
    wire.abandon()


async def test_a_death_ends_what_is_waited_for() -> None:
    """When the process ends, requests fail, the end is told once, with its code and its last words."""
    told: list[int] = []
    wire = Wire(lambda message: None, lambda: told.append(1))
    await wire.spawn([sys.executable, "-c", ECHO], {}, "/")
    silent = asyncio.ensure_future(wire.request({"subtype": "silent"}, 30))
    with pytest.raises(SessionLost):
        await wire.request({"subtype": "die"}, 30)
    with pytest.raises(SessionLost):
        await silent
    assert told == [1]
    assert wire.returncode == 7
    assert wire.stderr == "going down"
    with pytest.raises(SessionLost):
        await wire.request({"subtype": "a"}, 1)
    wire.send({"type": "x"})
    wire.abandon()
    assert told == [1]


async def test_messages_before_the_end_are_all_heard() -> None:
    """What was written just before the end still arrives, and before the end is told."""
    heard: list[dict[str, Any]] = []
    lost = asyncio.Event()
    code = "import json\nfor n in range(2000): print(json.dumps({'type': 'x', 'n': n}))"
    wire = await spawned(heard, lost, code)
    await lost.wait()
    assert [message["n"] for message in heard] == list(range(2000))
    wire.abandon()


async def test_a_descendant_that_holds_the_pipe_does_not_hold_us() -> None:
    """The end is told soon after the process ended, though its child keeps stdout open."""
    code = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(3)'])"
    lost = asyncio.Event()
    wire = await spawned([], lost, code)
    async with asyncio.timeout(2):
        await lost.wait()
    wire.abandon()


async def test_unreadable_output_is_the_end() -> None:
    """A line that is cut inside is no message and no silence: the session is lost, and says why."""
    lost = asyncio.Event()
    wire = await spawned([], lost, 'import time; print(\'{"type": "x\', flush=True); time.sleep(30)')
    async with asyncio.timeout(5):
        await lost.wait()
    assert "unreadable" in wire.stderr
    wire.abandon()


async def test_what_cannot_be_started_is_told() -> None:
    """A missing program, a missing folder and a program that is none each have their own error."""
    with pytest.raises(CLINotFound, match="/nowhere/claude"):
        await Wire(print, lambda: None).spawn(["/nowhere/claude"], {}, "/")
    with pytest.raises(SessionError, match="/nowhere does not exist"):
        await Wire(print, lambda: None).spawn([sys.executable], {}, "/nowhere")
    with pytest.raises(SessionError, match="could not be started"):
        await Wire(print, lambda: None).spawn(["/etc/hostname"], {}, "/")


async def test_an_end_before_the_start_was_noticed_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is gone before `spawn` goes on, as under load, is over with its exit code."""
    loop = asyncio.get_running_loop()
    real = loop.subprocess_exec
    lost = asyncio.Event()
    wire = Wire(print, lost.set)

    async def late(*args: Any, **options: Any) -> Any:
        made = await real(*args, **options)
        await asyncio.wait_for(wire.exited.wait(), 5)
        return made

    monkeypatch.setattr(loop, "subprocess_exec", late)
    await wire.spawn(["/bin/sh", "-c", "exit 3"], dict(os.environ), "/")
    await asyncio.wait_for(lost.wait(), 5)
    assert wire.returncode == 3
    wire.abandon()
