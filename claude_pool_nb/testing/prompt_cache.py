"""A stand-in for the API's prompt cache: which part of a request is read from it, and which is written to it.

The prefix of a request is its tools, then its system blocks, then its messages, each without its cache mark. Up
to every marked block the prefix is an entry, found again by the same bytes for the same model.

Invariants: an entry becomes readable only when the answer that wrote it begins (`begin`), so requests that start
together all pay for writing it; reads and writes of one request never overlap.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

_LOOKBACK_BLOCKS = 20
_BYTES_PER_TOKEN = 4
_TTL_S = {"5m": 300.0, "1h": 3600.0}


@dataclass(frozen=True, slots=True)
class CachePlan:
    """What the cache does for one request, in tokens.

    Attributes:
        read_tokens: Read from an entry.
        write_tokens: Written, both kinds together.
        write_1h_tokens: The part of it that lives for an hour.
        rest_tokens: Input after the last cached block.
        entries: Keys that become readable when the answer begins, each with its lifetime in seconds.

    Example:
        >>> CachePlan(read_tokens=0, write_tokens=0, write_1h_tokens=0, rest_tokens=5, entries=()).rest_tokens
        5
    """

    read_tokens: int
    write_tokens: int
    write_1h_tokens: int
    rest_tokens: int
    entries: tuple[tuple[bytes, float], ...]


@dataclass(slots=True)
class PromptCache:
    """The entries of one simulated cache.

    Attributes:
        min_tokens: A prefix below this many tokens is not cached; tokens are counted as bytes / 4.
        clock: Seconds, for the lifetime of entries.

    Example:
        >>> cache = PromptCache(min_tokens=1)
        >>> block = {"type": "text", "text": "x" * 400, "cache_control": {"type": "ephemeral"}}
        >>> body = {"model": "m", "system": [block], "messages": []}
        >>> first = cache.plan(body)
        >>> cache.begin(first)
        >>> second = cache.plan(body)
        >>> first.write_tokens == second.read_tokens > 100, second.write_tokens
        (True, 0)
    """

    min_tokens: int = 1024
    clock: Callable[[], float] = time.monotonic
    _expires_at: dict[bytes, float] = field(default_factory=dict, repr=False)
    _ttl_s: dict[bytes, float] = field(default_factory=dict, repr=False)

    def plan(self, body: dict[str, Any]) -> CachePlan:
        """Return what a request reads and writes; nothing is written yet.

        Example:
            >>> PromptCache().plan({"model": "m", "messages": []}).write_tokens
            0
        """
        digest = hashlib.sha256(str(body.get("model", "")).encode())
        size = 0
        places: list[tuple[bytes, int, str | None]] = []
        for block, ttl in _blocks(body):
            data = json.dumps(block, sort_keys=True, separators=(",", ":")).encode()
            digest.update(b"\0" + data)
            size += len(data)
            places.append((digest.digest(), size // _BYTES_PER_TOKEN, ttl))
        marks = [index for index, place in enumerate(places) if place[2] is not None]
        total = size // _BYTES_PER_TOKEN
        read = self._longest_readable(places, marks)
        read_tokens = places[read][1] if read is not None else 0
        write_tokens = write_1h_tokens = 0
        reached = read_tokens
        entries: list[tuple[bytes, float]] = []
        for index in marks:
            key, tokens, ttl = places[index]
            if tokens < self.min_tokens or ttl is None:
                continue
            entries.append((key, _TTL_S.get(ttl, _TTL_S["5m"])))
            if tokens > reached:
                write_tokens += tokens - reached
                write_1h_tokens += tokens - reached if ttl == "1h" else 0
                reached = tokens
        if read is not None and all(key != places[read][0] for key, _ in entries):
            entries.append((places[read][0], self._ttl_s[places[read][0]]))
        return CachePlan(read_tokens, write_tokens, write_1h_tokens, total - reached, tuple(entries))

    def begin(self, plan: CachePlan) -> None:
        """Make what a request writes readable, and what it read live on: its answer has begun.

        Example:
            >>> cache = PromptCache()
            >>> cache.begin(cache.plan({"model": "m"}))
        """
        now = self.clock()
        for key, ttl_s in plan.entries:
            self._ttl_s[key] = max(ttl_s, self._ttl_s.get(key, 0.0))
            self._expires_at[key] = now + self._ttl_s[key]

    def clear(self) -> None:
        """Forget every entry.

        Example:
            >>> PromptCache().clear()
        """
        self._expires_at.clear()
        self._ttl_s.clear()

    def _longest_readable(self, places: list[tuple[bytes, int, str | None]], marks: list[int]) -> int | None:
        """The last block that ends a live entry, at most twenty blocks before a mark."""
        now = self.clock()
        for mark in reversed(marks):
            for index in range(mark, max(mark - _LOOKBACK_BLOCKS, -1), -1):
                if self._expires_at.get(places[index][0], float("-inf")) > now:
                    return index
        return None


def _blocks(body: dict[str, Any]) -> Iterator[tuple[Any, str | None]]:
    """The blocks of a request in the order of its prefix, each with the lifetime it is marked with, if any."""
    for tool in body.get("tools") or []:
        yield _unmarked(tool)
    yield from _content(body.get("system"))
    for message in body.get("messages") or []:
        role = {"role": message.get("role")}
        for block, ttl in _content(message.get("content")):
            yield [role, block], ttl


def _content(content: object) -> Iterator[tuple[Any, str | None]]:
    """The blocks of a content field, which is a string or a list; a string is the same as one text block."""
    if isinstance(content, str):
        yield {"type": "text", "text": content}, None
    elif isinstance(content, list):
        for block in content:
            yield _unmarked(block)


def _unmarked(block: object) -> tuple[Any, str | None]:
    """A block without its cache mark, and the mark's lifetime."""
    if not isinstance(block, dict):
        return block, None
    mark = block.get("cache_control")
    if not isinstance(mark, dict):
        return block, None
    return {name: value for name, value in block.items() if name != "cache_control"}, str(mark.get("ttl", "5m"))
