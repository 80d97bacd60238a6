"""The demo's model: good enough to teach with, the same for everybody, and always in the form that was asked for."""

from __future__ import annotations

import json
import subprocess
import sys
from enum import Enum
from typing import Any, Literal

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from claude_pool_nb.sessions.demo_model import BROKEN_PER_MILLE, Exchange, answer, markers
from claude_pool_nb.sessions.demo_text import arithmetic, best_label, find


def say(prompt: str, model: str = "demo-large", **options: Any) -> str:
    """The model's answer."""
    return answer(prompt, model=model, **options).text


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Classify the sentiment: I love this phone", "positive"),
        ("Classify the sentiment: not good at all", "negative"),
        ("What is the sentiment of this review?\nThe table has four legs.", "neutral"),
        ("Nice screen, but the battery is terrible. Positive or negative?", "negative"),
        ("Classify this ticket as bug, feature or billing: I was charged twice", "billing"),
        ("Classify as spam or ham: You won a prize, click here", "spam"),
        ("Extract the emails from: ada@example.org, bob@x.co", "ada@example.org, bob@x.co"),
        ("Extract all dates: on 2024-05-06 and 3 March 2021", "2024-05-06, 3 March 2021"),
        ("Extract the names: Ada Lovelace met Charles Babbage in London.", "Ada Lovelace, Charles Babbage, London"),
        ("Extract the emails from: nobody wrote", "none"),
        ("How many words are in this text: one two three", "3"),
        ("Count the sentences: One. Two! Three at 3.5 percent?", "3"),
        ("What is 17 * 23?", "391"),
        ("Calculate (2 + 3) * 4", "20"),
        ("What is 1 divided by 8?", "0.125"),
        ("Repeat after me: hello world", "hello world"),
        ("Reply with exactly: OK", "OK"),
        ("Summarise: Rust is a language. Rust is fast and safe. It rains.", "Rust is fast and safe."),
        ("Rate this from 1 to 5: great, I love it", "5"),
        ("ping", "pong"),
    ],
)
def test_it_does_what_a_lesson_needs(prompt: str, expected: str) -> None:
    """Classifying, extracting, counting, sums, repeating, summing up."""
    assert say(prompt) == expected


def test_a_haiku_has_three_lines_about_the_topic() -> None:
    """And another sample is another haiku."""
    haikus = {say("Write a haiku about rust", sample=n) for n in range(8)}
    assert len(haikus) > 2
    assert all(len(haiku.splitlines()) == 3 and "rust" in haiku.lower() for haiku in haikus)


def test_the_large_model_reads_more_carefully_than_the_small_one() -> None:
    """Negation separates them, so that comparing models in a lesson shows something."""
    reviews = [
        f"The {thing} is not good" for thing in ("soup", "chair", "phone", "film", "hotel", "lamp", "car", "book")
    ]
    right = {
        model: sum(say(f"Classify the sentiment: {review}", model) == "negative" for review in reviews)
        for model in ("demo-small", "demo-large")
    }
    assert right["demo-large"] >= 7
    assert right["demo-small"] <= 2


def test_memory_is_the_history_and_nothing_else() -> None:
    """What was told in the conversation is known, what was told elsewhere is not."""
    told = [Exchange("My name is Ada and my colour is green.", "Hello Ada!")]
    assert say("What is my name?", history=told) == "Your name is Ada."
    assert "green" in say("What is my colour?", history=told)
    assert "Ada" not in say("What is my name?")


def test_answers_do_not_depend_on_the_process() -> None:
    """Another process with another hash seed says the same."""
    ask = "print(answer('A poem about rain', model='demo-small').text)"
    code = f"from claude_pool_nb.sessions.demo_model import answer; {ask}"
    other = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        check=True,
    )
    assert other.stdout.strip() == say("A poem about rain", "demo-small")


@given(st.text(max_size=400))
@settings(max_examples=150)
def test_any_prompt_gets_an_answer(prompt: str) -> None:
    """No text makes it fail, and none makes it say nothing."""
    for model in ("demo-small", "demo-large"):
        assert isinstance(say(prompt, model), str)


@pytest.mark.parametrize("text", ["2 ** 999999", "9" * 400 + " * " + "9" * 400, "1/0", "(((((", "7 % 0", "- - - 3"])
def test_hostile_sums_do_no_harm(text: str) -> None:
    """A sum that cannot be done is no sum."""
    assert isinstance(say(f"What is {text}?"), str)
    result = arithmetic(text)
    assert result is None or len(result) < 1000


def test_markers_are_read_and_not_answered() -> None:
    """A marker has an effect and is not part of the text."""
    assert markers("x [demo:slow=0.5] [demo:flaky] [demo:unknown]") == {"slow": 0.5, "flaky": None}
    assert say("Repeat after me: hello [demo:slow=1]") == "hello"


# -- schemas -----------------------------------------------------------------------------------------------------------


class Mood(Enum):
    """Values of an enum."""

    GOOD = "good"
    BAD = "bad"


class Item(BaseModel):
    """A nested object."""

    name: str
    price: float = Field(ge=0, le=100)


class Review(BaseModel):
    """What a lesson asks for."""

    label: Literal["positive", "negative", "neutral"]
    mood: Mood
    stars: int = Field(ge=1, le=5)
    confidence: float = Field(gt=0, lt=1)
    emails: list[str]
    items: list[Item] = Field(min_length=2, max_length=3)
    reason: str | None
    is_complaint: bool
    summary: str = Field(min_length=3, max_length=20)
    children: list[Review] = []


def test_a_models_schema_is_filled_from_the_text() -> None:
    """Enums by sentiment, emails and numbers from the text, bounds and lengths kept."""
    text = "I hate the 12.50 dollar chair, write to ada@example.org"
    found = answer(f"Extract: {text}", model="demo-large", schema=json.dumps(Review.model_json_schema()))
    review = Review.model_validate_json(found.text)
    assert (review.label, review.mood, review.is_complaint) == ("negative", Mood.BAD, True)
    assert review.emails == ["ada@example.org"]
    assert review.stars <= 2
    assert review.items[0].price == 12.5
    assert found.structured == json.loads(found.text)


names = st.sampled_from(["label", "rating", "emails", "name", "date", "reason", "is_urgent", "word_count", "x"])
leaves = st.one_of(
    st.fixed_dictionaries(
        {"type": st.just("string")}, optional={"minLength": st.integers(0, 5), "maxLength": st.integers(5, 9)}
    ),
    st.fixed_dictionaries(
        {"type": st.just("string"), "format": st.sampled_from(["email", "date", "date-time", "uri"])}
    ),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["integer", "number"])},
        optional={"minimum": st.integers(-9, 2), "maximum": st.integers(4, 9)},
    ),
    st.fixed_dictionaries(
        {"type": st.just("integer"), "multipleOf": st.integers(2, 4)},
        optional={"exclusiveMinimum": st.integers(-9, 0), "exclusiveMaximum": st.integers(9, 20)},
    ),
    st.just({"type": "boolean"}),
    st.just({"type": ["null", "string"]}),
    st.fixed_dictionaries({"enum": st.lists(st.one_of(st.integers(), st.text(), st.none()), min_size=1, max_size=4)}),
    st.fixed_dictionaries({"const": st.integers()}),
)


def objects(children: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects, arrays and choices of other schemas."""
    return st.one_of(
        st.dictionaries(names, children, max_size=4).flatmap(
            lambda properties: st.lists(st.sampled_from(sorted(properties) or ["x"]), unique=True, max_size=3).map(
                lambda required: {
                    "type": "object",
                    "properties": properties,
                    "required": [r for r in required if r in properties],
                }
            )
        ),
        st.fixed_dictionaries(
            {"type": st.just("array"), "items": children},
            optional={"minItems": st.integers(0, 4), "maxItems": st.integers(4, 6)},
        ),
        st.lists(children, min_size=1, max_size=3).map(lambda choices: {"anyOf": choices}),
    )


@given(st.recursive(leaves, objects, max_leaves=8), st.text(max_size=120))
@settings(max_examples=250, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_instances_are_valid_whatever_the_schema_and_the_text(schema: dict[str, Any], text: str) -> None:
    """The answer fits the schema by an independent validator's judgement."""
    found = answer(f"Extract: {text}", model="demo-large", schema=json.dumps(schema))
    jsonschema.validate(json.loads(found.text), schema)


def test_the_small_model_breaks_the_form_now_and_then() -> None:
    """About as often as it says it does; the large one never."""
    schema = json.dumps({"type": "object", "properties": {"label": {"type": "string"}}, "required": ["label"]})
    broken = {
        model: sum(answer(f"Extract: text {n}", model=model, schema=schema).broken for n in range(1000))
        for model in ("demo-small", "demo-large")
    }
    assert 0 < broken["demo-small"] < 4 * BROKEN_PER_MILLE["demo-small"]
    assert broken["demo-large"] == 0


def test_labels_by_topic_and_by_lot_are_labels() -> None:
    """The label is always one of those named."""
    labels = ["zig", "zag"]
    assert {best_label(f"text {n}", labels, careful=True) for n in range(20)} == set(labels)
    assert find("number", "from 1,200.50 to -3") == ["1,200.50", "-3"]
