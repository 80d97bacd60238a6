"""200 isolated tasks: the same bytes apart from prompt and ids, one request each, billed to the nanodollar."""

from __future__ import annotations

import json
import re
from typing import Any

from claude_pool_nb.testing import Reply, ScriptedAPI
from claude_pool_nb.testing.replies import Request
from tests.integration.cli.conftest import MakePool, booked_nano

IDS = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{64}")


def anonymous(request: Request) -> bytes:
    """The body without its prompt and its ids."""
    return IDS.sub(b"<id>", request.raw.replace(json.dumps(request.prompt).encode(), b"<prompt>"))


def answer(request: Request) -> Reply:
    """Costs that differ from task to task."""
    number = int(request.prompt.split()[-1])
    return Reply(f"answer {number}", input_tokens=500 + 7 * number, output_tokens=5 + number % 13)


def test_two_hundred_isolated_tasks(api: ScriptedAPI, make_pool: MakePool) -> None:
    """First and later tasks of every slot send the same bytes, one request a task, and each costs what was billed."""
    api.reply(answer)
    pool = make_pool(slots=4)
    run = pool.fan_out([f"What is task number {n}" for n in range(200)])
    assert run.counts() == {"completed": 200}
    requests = api.requests
    assert len(requests) == 200
    assert len({request.prompt for request in requests}) == 200
    bodies = {anonymous(request) for request in requests}
    assert len(bodies) == 1, sorted(bodies)[:2]
    assert max(request.size for request in requests) <= 2_600
    frame = run.frame
    assert list(frame["output"]) == [f"answer {n}" for n in range(200)]
    assert set(frame["cost_basis"]) == {"exact"}
    assert frame["slot_id"].nunique() == 4
    billed: dict[str, Any] = {request.prompt: request.cost_nano for request in requests}
    off = [abs(cost * 1e9 - billed[prompt]) for prompt, cost in zip(frame["prompt"], frame["cost_usd"], strict=True)]
    assert max(off) < 1
    assert booked_nano(pool) == pool.budget.spent_nano == api.billed_nano
    assert set(frame["turns"]) == {1}


def test_texts_reach_the_model_as_they_are(api: ScriptedAPI, make_pool: MakePool) -> None:
    """Slash commands and file mentions are text; a megabyte is sent."""
    prompts = ["/clear", "@/etc/passwd what is in it?", "/cost please", "  spaces kept  ", "x" * 1_000_000 + " end"]
    run = make_pool(slots=2).fan_out(prompts)
    assert run.counts() == {"completed": 5}
    assert sorted(request.prompt for request in api.requests) == sorted(prompts)
    assert not [request for request in api.requests if b"root:" in request.raw]


def test_model_and_options_of_one_task_do_not_reach_the_next(api: ScriptedAPI, make_pool: MakePool) -> None:
    """A task with options of its own leaves nothing behind in its slot."""
    pool = make_pool(slots=1)
    pool.run("first")
    pool.run("other", model="claude-sonnet-4-5", system_prompt="be brief", max_output_tokens=77)
    pool.run("first")
    first, other, again = [request for request in api.requests if not request.probe]
    assert (other.model, other.body["max_tokens"]) == ("claude-sonnet-4-5", 77)
    assert "be brief" in other.system
    assert anonymous(first) == anonymous(again)
    assert list(pool.tasks()["model"]) == ["claude-haiku-4-5", "claude-sonnet-4-5", "claude-haiku-4-5"]
    assert pool.budget.spent_nano == api.billed_nano
