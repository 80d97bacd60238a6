"""Requests have the same name if nothing that decides the answer differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from claude_pool_nb.config import PoolConfig, TaskOverrides, resolve
from claude_pool_nb.engine.requests import Requests
from claude_pool_nb.option_values import SlotMode
from claude_pool_nb.resolved import ResolvedConfig
from claude_pool_nb.sessions.base import BackendInfo

CLAUDE = Requests(BackendInfo("claude"), {})


def name(requests: Requests = CLAUDE, *, prompt: str = "hello", sample: int = 0, **options: Any) -> str | None:
    """The name of a request."""
    return requests.name(prompt, ResolvedConfig(**options), sample)


@pytest.mark.parametrize(
    "other",
    [
        {"prompt": "hello "},
        {"sample": 1},
        {"model": "opus"},
        {"system_prompt": "Be short."},
        {"appended_prompt": "You are Ada."},
        {"schema": '{"type": "object"}'},
        {"effort": "low"},
        {"max_output_tokens": 10},
        {"preset": True},
        {"env": (("MAX_THINKING_TOKENS", "4000"),)},
    ],
    ids=str,
)
def test_what_decides_the_answer_is_part_of_the_name(other: dict[str, Any]) -> None:
    """Every option that the model sees gives another name."""
    assert name(model="haiku") != name(**{"model": "haiku", **other})


@pytest.mark.parametrize(
    "other",
    [
        {"cwd": "/"},
        {"timeout_s": 3.0},
        {"max_budget_usd": 1.0},
        {"prime": False},
        {"cache": True},
        {"max_turns": 3},
        {"fallback_model": "opus"},
        {"env": (("ANTHROPIC_API_KEY", "another"),), "model": "claude-haiku-5-5"},
    ],
    ids=str,
)
def test_what_does_not_decide_it_is_not(other: dict[str, Any]) -> None:
    """Where and how a task runs changes nothing, nor whose key pays for it."""
    before = Requests(BackendInfo("claude"), {"ANTHROPIC_API_KEY": "one"})
    own = {"env": (("ANTHROPIC_API_KEY", ""),)} if "env" in other else {}
    assert name(before, **{"model": "haiku", **own}) == name(before, **{"model": "haiku", **other})


def test_a_model_is_what_its_name_resolves_to() -> None:
    """An alias is its full id, an environment may say otherwise, and none is the CLI's default."""
    assert name(model="haiku") == name(model="claude-haiku-5-5") != name(model="claude-haiku-4-5")
    assert name(model=None) == name(model="opus")
    pinned = Requests(BackendInfo("claude"), {"ANTHROPIC_DEFAULT_HAIKU_MODEL": "claude-haiku-4-5"})
    assert name(pinned, model="haiku") == name(pinned, model="claude-haiku-4-5") != name(pinned, model="sonnet")
    assert pinned.answers(ResolvedConfig(model="haiku"), "claude-haiku-4-5-20251001")
    assert not pinned.answers(ResolvedConfig(model="haiku"), "claude-haiku-5-5")
    assert not CLAUDE.answers(ResolvedConfig(model="haiku"), "claude-sonnet-5-5")


def test_real_and_demo_never_mix_nor_two_gateways() -> None:
    """The same request to another backend, or to another address, has another name."""
    demo = Requests(BackendInfo("demo", play_money=True), {})
    there = Requests(BackendInfo("claude"), {"ANTHROPIC_BASE_URL": "http://127.0.0.1:1"})
    assert len({name(model="demo-small"), name(demo, model="demo-small"), name(there, model="demo-small")}) == 3
    assert name(demo, model="haiku") == name(demo, model="demo-small")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"tools": ("Read",)}, "tools"),
        ({"tools": None}, "tools"),
        ({"mcp_servers": '{"x": {"url": "u"}}'}, "tools"),
        ({"conversation": "talk"}, "conversation"),
        ({"slot_mode": SlotMode.PERSISTENT}, "conversation"),
        ({"setting_sources": ("project",)}, "settings"),
    ],
)
def test_what_depends_on_more_than_the_request_has_no_name(options: dict[str, Any], why: str) -> None:
    """Tools, files and conversations: the same words may get another answer."""
    assert name(**options) is None
    assert why in (ResolvedConfig(**options).why_not_cached or "")


def test_secrets_have_no_names() -> None:
    """An option whose stored form is redacted is never taken for another one that is redacted alike."""
    assert name(system_prompt="key sk-ant-api03-abcdefgh12345678") is None


def test_claude_codes_own_prompt_names_the_directory(tmp_path: Path) -> None:
    """Where the model is told where it is, that is part of the request."""
    assert name(preset=True, cwd=str(tmp_path)) != name(preset=True)


def test_asking_for_the_cache_where_it_cannot_be_is_refused_by_name() -> None:
    """`cache=True` on a task with tools is an error; a pool's own cache leaves such tasks out instead."""
    from claude_pool_nb.errors import ConfigError

    prompt, agent = PoolConfig(profile="prompt", cache=True), PoolConfig(cache=True)
    with pytest.raises(ConfigError, match="it has tools"):
        resolve(PoolConfig(), task=TaskOverrides(cache=True))
    with pytest.raises(ConfigError, match="its conversation goes on"):
        resolve(prompt, task=TaskOverrides(cache=True, conversation="talk"))
    with pytest.raises(ConfigError, match="it has tools"):
        resolve(agent)
    assert resolve(prompt, task=TaskOverrides(conversation="talk")).why_not_cached is not None
    assert not resolve(prompt, task=TaskOverrides(cache=False)).cache
