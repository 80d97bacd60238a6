"""A turn read as it streams."""

from __future__ import annotations

from typing import Any

from claude_pool_nb.records import Usage
from claude_pool_nb.sessions.base import RetryNoticed, TextDelta, ToolStarted, TurnStarted, UsageSeen
from claude_pool_nb.sessions.turn_reader import TurnReader, Urgency


def price(model: str | None, usage: Usage) -> int | None:
    """A thousand nanodollars a token; models called unknown have no price."""
    return None if model == "unknown" else 1000 * (usage.input_tokens + usage.output_tokens)


def start(tokens: int, model: str = "m", parent: str | None = None) -> dict[str, Any]:
    """The start of a call's answer."""
    usage = {"input_tokens": tokens, "output_tokens": 1}
    event = {"type": "message_start", "message": {"model": model, "usage": usage}}
    return {"type": "stream_event", "event": event, "parent_tool_use_id": parent}


def delta(parent: str | None = None, **what: str) -> dict[str, Any]:
    """A piece of an answer."""
    return {
        "type": "stream_event",
        "event": {"type": "content_block_delta", "delta": what},
        "parent_tool_use_id": parent,
    }


def count(output: int, parent: str | None = None) -> dict[str, Any]:
    """The count at the end of a call."""
    event = {"type": "message_delta", "usage": {"output_tokens": output}}
    return {"type": "stream_event", "event": event, "parent_tool_use_id": parent}


def test_pieces_between_two_looks_are_one_event() -> None:
    """A thousand pieces are one TextDelta, in order, with thinking apart."""
    reader = TurnReader(price)
    assert reader.feed(start(10)) is Urgency.NOW
    reader.feed(delta(thinking="hm "))
    reader.feed(delta(thinking="so"))
    for number in range(1000):
        assert reader.feed(delta(text=f"{number} ")) is Urgency.SOON
    events = reader.take()
    assert isinstance(events[0], TurnStarted)
    assert events[1] == TextDelta("hm so", thinking=True)
    assert events[2] == TextDelta("".join(f"{n} " for n in range(1000)))
    assert len(events) == 3
    assert reader.take() == []


def test_accounts_of_interleaved_subagents_do_not_mix() -> None:
    """Calls of subagents that run beside the main one are counted each for itself, and none twice."""
    reader = TurnReader(price)
    reader.feed(start(100))
    reader.feed(start(30, parent="a"))
    reader.feed(start(7, parent="b"))
    reader.feed(count(5, parent="a"))
    reader.feed(count(3, parent="b"))
    reader.feed(delta(text="x" * 40))
    reader.feed(count(12))
    reader.feed(start(200))
    reader.feed(count(2))
    usage, cost = reader.so_far()
    assert usage == Usage(100 + 30 + 7 + 200, 5 + 3 + 12 + 2)
    assert cost == 1000 * (337 + 22)


def test_what_was_streamed_is_estimated_until_it_is_counted() -> None:
    """Four characters are a token, until the API has counted; a tool's input counts too."""
    reader = TurnReader(price)
    reader.feed(start(10))
    reader.feed(delta(text="x" * 40))
    reader.feed(delta(partial_json="y" * 41))
    assert reader.so_far()[0].output_tokens == 21
    reader.feed(count(30))
    assert reader.so_far()[0].output_tokens == 30


def test_a_model_without_a_price_has_no_cost() -> None:
    """An unknown price is None, not nothing."""
    reader = TurnReader(price)
    reader.feed(start(10, model="unknown"))
    assert reader.so_far() == (Usage(10, 1), None)


def test_a_subagents_text_is_not_the_answer() -> None:
    """Only the main conversation's text is told and kept; the last message that has text is the answer."""
    reader = TurnReader(price)
    reader.feed(start(1))
    reader.feed(delta(text="Looking. "))
    reader.feed(delta(parent="a", text="inner"))
    reader.feed(start(1))
    reader.feed(delta(text="Found."))
    reader.feed(start(1))
    assert reader.answer == "Found."
    assert all("inner" not in event.text for event in reader.take() if isinstance(event, TextDelta))


def test_only_tools_that_ran_and_write_count_as_writing() -> None:
    """A read-only tool, a denied call and one refused before it ran change nothing."""

    def call(name: str, key: str) -> dict[str, Any]:
        block = {"type": "tool_use", "name": name, "id": key, "input": {"a": 1}}
        return {"type": "assistant", "message": {"content": [block]}}

    def outcome(key: str, text: str) -> dict[str, Any]:
        block = {"type": "tool_result", "tool_use_id": key, "content": text, "is_error": True}
        return {"type": "user", "message": {"content": [block]}}

    reader = TurnReader(price)
    reader.feed(call("Read", "1"))
    assert ToolStarted("Read", '{"a": 1}') in reader.take()
    reader.feed(call("Write", "2"))
    reader.feed({"type": "system", "subtype": "permission_denied", "tool_use_id": "2"})
    reader.feed(call("Bash", "3"))
    assert reader.wrote, "it runs now"
    reader.feed(outcome("3", "<tool_use_error>Blocked</tool_use_error>"))
    assert not reader.wrote
    reader.feed(call("Bash", "4"))
    reader.feed(outcome("4", "exit code 1"))
    assert reader.wrote, "a command that failed may have changed things before"
    other = TurnReader(price)
    other.feed(call("mcp__db__drop", "5"))
    assert other.wrote


def test_a_result_of_another_turn_does_not_end_this_one() -> None:
    """A background task may wake the CLI between tasks; its result is not ours."""
    reader = TurnReader(price, "ours")
    reader.feed({"type": "result", "user_message_uuid": "other", "result": "not this"})
    assert reader.result is None
    reader.feed({"type": "result", "user_message_uuids": ["other", "ours"], "result": "this"})
    assert reader.result is not None


def test_retries_are_told_at_once() -> None:
    """A retry of the CLI's own wakes whoever watches."""
    reader = TurnReader(price)
    notice = {
        "type": "system",
        "subtype": "api_retry",
        "error_status": 529,
        "retry_delay_ms": 500,
        "error": "overloaded",
    }
    assert reader.feed(notice) is Urgency.NOW
    assert reader.take() == [RetryNoticed(529, 0.5, "overloaded")]


def test_a_subscriptions_limit_says_when_it_ends() -> None:
    """The end of a limit is kept when it was reached, and not when it is only near."""
    reader = TurnReader(price)
    near = {"type": "rate_limit_event", "rate_limit_info": {"status": "allowed_warning", "resetsAt": 1000}}
    reader.feed(near)
    assert reader.resets_at is None
    reader.feed({"type": "rate_limit_event", "rate_limit_info": {"status": "rejected", "resetsAt": 2000}})
    assert reader.resets_at == 2000.0


def test_silence_with_signs_of_life_is_told() -> None:
    """While a tool's input streams there is no text, but a watcher hears that the turn lives."""
    reader = TurnReader(price)
    reader.feed(start(10))
    reader.take()
    reader.feed(delta(partial_json="z" * 8))
    assert reader.take() == [UsageSeen(Usage(10, 2), 12_000)]
