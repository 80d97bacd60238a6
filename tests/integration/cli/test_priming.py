"""One task warms the prompt cache, the others read it: on the real CLI, with a cache that an answer's begin fills."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from claude_pool_nb.pool import Pool
from claude_pool_nb.testing import ScriptedAPI
from claude_pool_nb.testing.prompt_cache import PromptCache
from tests.integration.cli.conftest import MakePool
from tests.waiting import wait_until

TASKS = [f"Which file holds chapter {number}?" for number in range(16)]


def agents(make_pool: MakePool, folder: Path, **options: Any) -> Pool:
    """A pool of Claude Code as it is, on eight slots, all of them open."""
    pool = make_pool(slots=8, profile="agent", cwd=folder, store=":memory:", **options)
    wait_until(lambda: pool.status().slots == {"idle": 8}, 60)
    return pool


def bill_of(api: ScriptedAPI, pool: Pool, at_once: int, **overrides: Any) -> float:
    """What sixteen tasks cost with an empty prompt cache; no answer begins before so many requests are there."""
    api.cache = PromptCache(min_tokens=1_024)
    before, known = api.billed_usd, len(api.requests)
    api.hold()
    run = pool.fan_out(TASKS, wait=False, **overrides)
    api.wait_for_held(at_once, 30)
    assert pool.status().warming == ((f"{run.id}.1",) if at_once == 1 else ())
    assert pool.status().running == at_once
    api.release()
    assert run.wait(60).counts() == {"completed": 16}
    written = [request.usage.cache_write_tokens for request in api.requests[known:]]
    assert sum(tokens > max(written) / 2 for tokens in written) == at_once  # who paid for the long prefix
    assert pool.status().warming == ()
    return api.billed_usd - before


def test_priming_saves_a_third_of_the_bill_or_more(api: ScriptedAPI, make_pool: MakePool, tmp_path: Path) -> None:
    """Sixteen agent tasks on eight slots cost at least 30 % less when the first one goes alone."""
    api.reply("In chapters.txt.")
    pool = agents(make_pool, tmp_path)
    together = bill_of(api, pool, 8, prime=False)
    primed = bill_of(api, pool, 1)
    print(f"together ${together:.4f}, primed ${primed:.4f}: {1 - primed / together:.0%} less")
    assert primed <= 0.7 * together
