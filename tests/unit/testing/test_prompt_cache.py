"""The simulated prompt cache: what is an entry, when it can be read, and how long."""

from __future__ import annotations

from typing import Any

from claude_pool_nb.testing import PromptCache


def block(text: str, ttl: str | None = None) -> dict[str, Any]:
    """A text block, marked for caching when it has a lifetime."""
    mark = {"cache_control": {"type": "ephemeral", "ttl": ttl}} if ttl else {}
    return {"type": "text", "text": text, **mark}


def body(*blocks: dict[str, Any], model: str = "m", tools: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    """A request with these system blocks."""
    return {
        "model": model,
        "system": list(blocks),
        "tools": tools or [],
        "messages": [{"role": "user", "content": "q"}],
    }


LONG = "x" * 4100


def test_readable_only_once_the_answer_begins() -> None:
    """A plan alone writes nothing; beginning the answer does."""
    cache = PromptCache()
    request = body(block(LONG, "5m"))
    plan = cache.plan(request)
    assert plan.write_tokens > 1024
    assert cache.plan(request).read_tokens == 0
    cache.begin(plan)
    again = cache.plan(request)
    assert (again.read_tokens, again.write_tokens, again.rest_tokens) == (plan.write_tokens, 0, plan.rest_tokens)


def test_other_bytes_or_another_model_share_nothing() -> None:
    """An entry is found by its bytes, the tools before it among them, and its model."""
    cache = PromptCache()
    cache.begin(cache.plan(body(block("a"), block(LONG, "5m"))))
    assert cache.plan(body(block("b"), block(LONG, "5m"))).read_tokens == 0
    assert cache.plan(body(block("a"), block(LONG, "5m"), model="n")).read_tokens == 0
    assert cache.plan(body(block("a"), block(LONG, "5m"), tools=[{"name": "Read"}])).read_tokens == 0
    assert cache.plan(body(block("a"), block(LONG, "5m"))).read_tokens > 0


def test_short_prefixes_are_not_cached() -> None:
    """Below the minimum nothing is written, whatever is marked."""
    plan = PromptCache(min_tokens=4096).plan(body(block(LONG, "5m")))
    assert (plan.write_tokens, plan.entries) == (0, ())


def test_longer_prefix_reads_the_shorter_and_writes_the_rest() -> None:
    """A second mark extends the entry of the first, and an unmarked block is plain input."""
    cache = PromptCache()
    first = cache.plan(body(block(LONG, "5m")))
    cache.begin(first)
    second = cache.plan(body(block(LONG, "5m"), block(LONG, "5m"), block(LONG)))
    assert second.read_tokens == first.write_tokens
    assert 1000 < second.write_tokens < 1100
    assert second.rest_tokens > 1000


def test_growing_conversation_is_read_at_its_last_mark() -> None:
    """When the mark moves on to the newest message, the prefix of the turn before is still read."""
    cache = PromptCache()
    turns: list[dict[str, Any]] = []
    reads = []
    for number in range(3):
        turns.append({"role": "user", "content": [block(f"{number}{LONG}", "5m")]})
        plan = cache.plan({"model": "m", "messages": turns})
        cache.begin(plan)
        reads.append((plan.read_tokens, plan.write_tokens))
        turns[-1] = {"role": "user", "content": [block(f"{number}{LONG}")]}
    assert reads[0][0] == 0
    assert reads[1][0] == reads[0][1]
    assert reads[2][0] == reads[1][0] + reads[1][1]


def test_lifetimes() -> None:
    """An entry dies after its lifetime, an hour where marked so, and every read renews it."""
    now = 0.0
    cache = PromptCache(clock=lambda: now)
    short, long = body(block("s" + LONG, "5m")), body(block("l" + LONG, "1h"))
    for request in (short, long):
        cache.begin(cache.plan(request))
    assert cache.plan(short).write_1h_tokens == 0
    now = 299.0
    renewed = cache.plan(short)
    assert renewed.read_tokens > 0
    cache.begin(renewed)
    now = 598.0
    assert cache.plan(short).read_tokens > 0
    now = 600.0
    assert cache.plan(short).read_tokens == 0
    assert cache.plan(long).read_tokens > 0
    now = 3601.0
    expired = cache.plan(long)
    assert (expired.read_tokens, expired.write_1h_tokens) == (0, expired.write_tokens)
