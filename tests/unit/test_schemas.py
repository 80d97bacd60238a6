"""Schemas of answers: read from types, JSON and the short form, and back to instances."""

from __future__ import annotations

import dataclasses
import enum
import json
import sys
from typing import Any, Literal, TypedDict

import pandas as pd
import pydantic
import pytest
import typing_extensions

from claude_pool_nb.analysis.columns import TEXT, by_schema
from claude_pool_nb.config import PoolConfig, TaskOverrides
from claude_pool_nb.errors import ConfigError
from claude_pool_nb.records import TaskResult, TaskState
from claude_pool_nb.schemas import fields_of, schema_text


class Mood(enum.Enum):
    """Words of an answer."""

    GOOD = "good"
    BAD = "bad"


class Inner(TypedDict):
    """A part of an answer."""

    note: str


class Outer(TypedDict, total=False):
    """An answer as people write it on any Python."""

    count: typing_extensions.Required[int]
    parts: list[Inner]


@dataclasses.dataclass
class Label:
    """An answer as a dataclass."""

    mood: Mood
    score: float | None = None


class Node(pydantic.BaseModel):
    """A model that holds itself."""

    name: Literal["a", "b"]
    children: list[Node] = []


def fields(schema: Any) -> dict[str, Any]:
    """The fields that a schema ends up with."""
    return {
        name: {key: value for key, value in form.items() if key in {"type", "enum", "items"}}
        for name, form in fields_of(schema_text("schema", schema)).items()
    }


WORDS = {"type": "string", "enum": ["good", "bad"]}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("label: good|bad, score: float", {"label": WORDS, "score": {"type": "number"}}),
        ("label: Literal['good', \"bad\"]", {"label": WORDS}),
        ("label: str, n: int?", {"label": {"type": "string"}, "n": {"type": ["integer", "null"]}}),
        ("sure: bool | None", {"sure": {"type": ["boolean", "null"]}}),
        ("mood?: good|bad", {"mood": WORDS}),
        ("stars: 1|2|3", {"stars": {"enum": [1, 2, 3]}}),
        ("tags: list[str]", {"tags": {"type": "array", "items": {"type": "string"}}}),
        ("a: 'x, y'|'z: w'", {"a": {"type": "string", "enum": ["x, y", "z: w"]}}),
        ("title, type: int", {"title": {"type": "string"}, "type": {"type": "integer"}}),
        ("list[int]", {"value": {"type": "array", "items": {"type": "integer"}}}),
        ("good|bad", {"value": WORDS}),
        ({"label": Mood, "score": "float"}, {"label": WORDS, "score": {"type": "number"}}),
        (Mood, {"value": WORDS}),
        (int, {"value": {"type": "integer"}}),
        (list[int], {"value": {"type": "array", "items": {"type": "integer"}}}),
        (Literal["good", "bad"], {"value": WORDS}),
        (Label, {"mood": WORDS, "score": {"type": "number"}}),
        (Outer, {"count": {"type": "integer"}, "parts": {"type": "array", "items": {"$ref": "#/$defs/Inner"}}}),
        (Node, {"name": {"type": "string", "enum": ["a", "b"]}, "children": {"type": "array"}}),
        ({"properties": {"n": {"type": "integer"}}}, {"n": {"type": "integer"}}),
        ('{"type": "object", "properties": {"n": {"type": "integer"}}}', {"n": {"type": "integer"}}),
    ],
)
def test_every_form_names_its_fields(given: Any, expected: dict[str, Any]) -> None:
    """Types, JSON schemas and short forms come to the same fields, in their order."""
    found = fields(given)
    assert list(found) == list(expected)
    for name, form in expected.items():
        assert {key: found[name].get(key) for key in form} == form
    root = json.loads(schema_text("schema", given))
    assert root["type"] == "object"


def test_a_nested_short_form_is_an_object() -> None:
    """Braces nest, and a field that may be missing is not required."""
    made = json.loads(schema_text("schema", "people: list[{name: str, age: int?}], n: int"))
    inner = made["properties"]["people"]["items"]
    assert inner["required"] == ["name"]
    assert made["required"] == ["people", "n"]


def test_reading_what_was_read_changes_nothing() -> None:
    """The ledger holds the text, and a resumed run must launch its sessions the same."""
    for given in ("label: good|bad?", Node, Outer, list[Label], {"properties": {"n": {}}}):
        once = schema_text("schema", given)
        assert schema_text("schema", once) == once
        overrides = TaskOverrides(schema=given)
        assert TaskOverrides.from_json(overrides.to_json()) == overrides


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ("label: strr", "no type 'strr'; did you mean 'str'"),
        ("label: ", "a type is missing"),
        ("a: int: b", "two colons"),
        ("a: int, a: str", "'a' is there twice"),
        ("2nd: int", "'2nd' is no name of a field"),
        ("a: list[int", "brackets do not match"),
        ("a: 'x", "quotation mark is missing"),
        ("a: int|zoo", "mixes types and words"),
        ("a: set[int]", "no type 'set' with brackets"),
        ("a: x||y", "empty choice"),
        ("", "schema is empty"),
        ("{label: str}", "no JSON: .*short form has no braces"),
        ("[1]", "a JSON list"),
        ({}, "cannot work"),
        (3, "schema=3 cannot work"),
        (object(), "cannot work"),
        (type("Foo", (), {}), "schema=Foo is no type that an answer can have"),
        ({"label": 3}, "field 'label' is 3"),
        ({"type": "array"}, "an answer is an object"),
        ({"type": "str"}, "no type 'str' in JSON schemas; did you mean 'string'"),
        ({"type": "object", "properties": {"a": {"type": "strin"}}}, r"schema\.a: there is no type 'strin'"),
        ({"type": "object", "properties": ["a"]}, r"schema\.properties is not a mapping"),
        ({"type": "object", "properties": {"a": {"enum": []}}}, r"schema\.a\.enum is not a list of values"),
        ({"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}}, "leads nowhere"),
        ({"type": "object", "properties": {"a": {"$ref": "https://x"}}}, "leads nowhere"),
        ({"type": "object", "properties": {"ab": {}}, "required": ["abc"], "additionalProperties": False}, "requires"),
        ({"type": "object", "properties": {"a": {"items": 3}}}, r"schema\.a\.items is 3"),
    ],
)
def test_what_is_no_schema_is_told_with_its_place(given: Any, error: str) -> None:
    """The message says what is wrong and where, at every level that takes a schema."""
    with pytest.raises(ConfigError, match=error):
        TaskOverrides(schema=given)
    with pytest.raises(ConfigError, match=error):
        PoolConfig(schema=given)


@pytest.mark.parametrize(
    ("form", "values", "dtype"),
    [
        (WORDS, ["bad", None], "category"),
        ({"const": "x"}, ["x", None], "category"),
        ({"enum": [1, 2]}, [2, None], "Int64"),
        ({"enum": [1, 0.5]}, [1, None], "Float64"),
        ({"type": "integer"}, [], "Int64"),
        ({"type": ["number", "null"]}, [1, None], "Float64"),
        ({"type": "boolean"}, [True, None], "boolean"),
        ({"type": "string"}, [None, None], str(TEXT)),
    ],
)
def test_columns_have_the_type_of_their_field(form: Any, values: list[Any], dtype: str) -> None:
    """Whatever answers came, none included, the dtype is the schema's."""
    column = pd.Series(by_schema(values, form))
    assert str(column.dtype) == dtype
    assert column.isna().tolist() == [value is None for value in values]


def test_a_column_keeps_what_does_not_fit_its_type() -> None:
    """A word beside the list, a float for a whole number and a huge number are shown, not lost."""
    assert by_schema(["good", "neither"], WORDS).tolist() == ["good", "neither"]
    assert by_schema([1, 1.5], {"type": "integer"}).tolist() == ["1", "1.5"]
    assert by_schema([2**70, 1], {"type": "integer"}).tolist() == [str(2**70), "1"]


def test_a_frame_for_a_schema_is_told_and_not_compared() -> None:
    """The wrong variable after --schema is most often a DataFrame, which refuses to be compared with anything."""
    with pytest.raises(ConfigError, match="schema=a 0 1 cannot work: schema takes a pydantic model"):
        TaskOverrides.from_mapping({"schema": pd.DataFrame({"a": [1]})})


def test_an_answer_becomes_an_instance() -> None:
    """What was asked for as a type is had as that type, also where the answer was wrapped."""
    done = TaskResult("r1.1", "r1", TaskState.COMPLETED)
    label = dataclasses.replace(done, structured={"mood": "bad", "score": 1}).parsed(Label)
    assert label == Label(Mood.BAD, 1.0)
    assert dataclasses.replace(done, structured={"value": [1, 2]}).parsed(list[int]) == [1, 2]
    assert dataclasses.replace(done, structured={"value": "bad"}).parsed(Mood) is Mood.BAD
    outer = dataclasses.replace(done, structured={"count": 1, "parts": [{"note": "x"}]}).parsed(Outer)
    assert outer["parts"][0]["note"] == "x"
    tree = dataclasses.replace(done, structured={"name": "a", "children": [{"name": "b"}]}).parsed(Node)
    assert tree.children[0].name == "b"
    with pytest.raises(ConfigError, match="no structured answer; ask for one with schema=Label"):
        done.parsed(Label)
    with pytest.raises(ConfigError, match=r"the answer is no Label: score: .*number"):
        dataclasses.replace(done, structured={"mood": "bad", "score": "x"}).parsed(Label)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="pydantic takes it itself there")
def test_a_typed_dict_of_typing_keeps_its_docstring() -> None:
    """What is told of it is told to the model on older Pythons too."""
    assert json.loads(schema_text("schema", Outer))["description"] == "An answer as people write it on any Python."
