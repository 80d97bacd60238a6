"""Typed answers of the real CLI: what fits becomes columns, what does not is a failed row that keeps its text."""

from __future__ import annotations

from typing import Literal, TypedDict

import pytest

from claude_pool_nb import TaskFailed
from claude_pool_nb.testing import Reply, Request, ScriptedAPI
from tests.integration.cli.conftest import MODEL, MakePool

TOOL = "StructuredOutput"
OUTPUT_TOKEN_USD = 5e-6
WRONG = {"label": "neither", "score": "high"}


class Label(TypedDict):
    """What is asked for."""

    label: Literal["positive", "negative"]
    score: float


def answer(request: Request) -> Reply:
    """What the model says to a prompt that names its own fate."""
    told = str(request.messages)
    if "in words" in told:
        return Reply("I would say that it is positive.")
    if "broken" in told:
        return Reply('{"label": "positive", "score": ')
    if "wrong" in told:
        return Reply("Let me see.", tool_calls=[(TOOL, WRONG)])
    if "mended" in told and not request.tool_results:
        return Reply(tool_calls=[(TOOL, WRONG)])
    return Reply(tool_calls=[(TOOL, {"label": "positive", "score": 1})])


def test_what_does_not_fit_is_a_failed_row_that_keeps_its_text(api: ScriptedAPI, make_pool: MakePool) -> None:
    """Good, mended and hopeless answers of one map: every row is there, typed, with its reason and its cost."""
    api.reply(answer)
    pool = make_pool(retry=1)
    run = pool.map(["fine", "mended", "in words", "broken", "wrong"], "{{ value }}", schema=Label, tags=["typed"])
    frame = run.frame.set_index("value")
    assert frame["state"].to_dict() == {
        "fine": "completed", "mended": "completed", "in words": "failed", "broken": "failed", "wrong": "failed",
    }  # fmt: skip
    assert frame["out_label"].dtype == "category"
    assert list(frame["out_label"].cat.categories) == ["positive", "negative"]
    assert str(frame["out_score"].dtype) == "Float64"
    assert frame["out_label"].isna().tolist() == [False, False, True, True, True]
    failed = run.failed.set_index("value")
    assert set(failed["failure_kind"]) == {"task"}
    assert set(failed["error_type"]) == {"schema"}
    assert failed.loc["in words", "output"] == "I would say that it is positive."
    assert failed.loc["broken", "output"] == '{"label": "positive", "score": '
    assert failed.loc["wrong", "output"] == '{"label": "neither", "score": "high"}'
    assert "/score: must be number" in failed.loc["wrong", "error"]
    # The CLI gives up on "wrong" once its last answer is refused, sometimes before the API has counted that answer:
    # those 20 tokens are then an estimate, and the row says so.
    counted = frame["cost_basis"] == "exact"
    assert counted.drop("wrong").all()
    assert run.cost_usd == pytest.approx(api.billed_usd, abs=1e-9 if counted["wrong"] else 20 * OUTPUT_TOKEN_USD)
    assert run.results[0].parsed(Label) == {"label": "positive", "score": 1.0}


def test_a_type_that_is_no_object_is_asked_for_inside_one(api: ScriptedAPI, make_pool: MakePool) -> None:
    """The tool's schema is that of an object, and the value comes out of it again."""
    api.reply(Reply(json={"value": ["a", "b"]}))
    pool = make_pool(store=":memory:")
    result = pool.run("two letters", schema=list[str])
    assert result.parsed(list[str]) == ["a", "b"]
    (offered,) = [tool["input_schema"] for tool in api.requests[-1].body["tools"] if tool["name"] == TOOL]
    assert offered["type"] == "object"
    assert offered["properties"]["value"]["items"] == {"type": "string"}


def test_one_answer_beside_the_schema_raises_with_its_text(api: ScriptedAPI, make_pool: MakePool) -> None:
    """pool.run raises, and what the model gave is in the result."""
    api.reply(Reply(tool_calls=[(TOOL, WRONG)]))
    pool = make_pool(store=":memory:", retry=1)
    with pytest.raises(TaskFailed, match="must be number") as caught:
        pool.run("rate this", schema="label: positive|negative, score: float")
    assert caught.value.result is not None
    assert caught.value.result.output == '{"label": "neither", "score": "high"}'
    assert caught.value.result.structured is None


def test_a_map_over_models_and_tones_reaches_the_api(api: ScriptedAPI, make_pool: MakePool) -> None:
    """Every combination is asked once, with its model and its own text, and the rows stay in their order."""
    api.reply(lambda request: f"{request.model}: {request.prompt}")
    pool = make_pool()
    other = "claude-sonnet-4-5"
    run = pool.map(["a", "b"], "{{ tone }} {{ value }}", grid={"model": [MODEL, other], "tone": ["kind", "blunt"]})
    frame = run.frame
    texts = [f"{tone} {value}" for value in "ab" for _ in range(2) for tone in ("kind", "blunt")]
    assert list(frame["prompt"]) == texts
    models = [MODEL, MODEL, other, other] * 2
    assert list(frame["output"]) == [f"{model}: {text}" for model, text in zip(models, texts, strict=True)]
    asked = [(request.model, request.prompt) for request in api.requests if not request.probe]
    assert sorted(asked) == sorted(zip(models, texts, strict=True))
