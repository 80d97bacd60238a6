"""A Design: what map and fan_out ask for, rendered and checked before anything is spent."""

from __future__ import annotations

import datetime as dt
import json
import sys
import warnings
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from claude_pool_nb.analysis.design import Design
from claude_pool_nb.errors import ConfigError, UnknownModel, UnknownOption

REVIEWS = pd.DataFrame(
    {"text": ["good", "bad", "meh"], "stars": pd.array([5, None, 3], dtype="Int64")}, index=["a", "b", "b"]
)


def frame_of(design: Design) -> pd.DataFrame:
    """The caller's own columns, which there are."""
    assert design.table is not None
    return design.table.frame


def test_the_order_is_row_then_template_then_grid_then_sample() -> None:
    """Every combination is there once, and what belongs to a task stands at its position."""
    design = Design.of_map(
        ["x", "y"],
        {"short": "{{ value }} {{ tone }}", "long": "Please: {{ value }}"},
        grid={"model": ["haiku", "sonnet"], "tone": ["kind", "blunt"]},
        n=2,
        tags=["t"],
    )
    assert len(design) == 2 * 2 * 4 * 2
    assert design.rows == [0] * 16 + [1] * 16
    assert design.samples == [0, 1] * 16
    frame = frame_of(design)
    assert list(frame.columns) == ["value", "template", "tone"]
    assert frame["template"].tolist() == (["short"] * 8 + ["long"] * 8) * 2
    assert frame["tone"].tolist() == ["kind", "kind", "blunt", "blunt"] * 8
    assert [one.model for one in design.overrides] == (["haiku"] * 4 + ["sonnet"] * 4) * 4
    assert design.prompts[:4] == ["x kind", "x kind", "x blunt", "x blunt"]
    assert design.prompts[8:10] == ["Please: x", "Please: x"]
    assert len({id(one) for one in design.overrides}) == len(design.distinct_overrides()) == 4
    assert all(one.tags == ("t",) for one in design.overrides)


def test_the_index_and_the_columns_come_back_unchanged() -> None:
    """Labels, also repeated ones, and dtypes are those of the input; the input itself is not touched."""
    before = REVIEWS.copy()
    frame = frame_of(Design.of_map(REVIEWS, "{{ text }}", n=2))
    assert frame.index.tolist() == ["a", "a", "b", "b", "b", "b"]
    assert frame.dtypes.to_dict() == REVIEWS.dtypes.to_dict()
    pd.testing.assert_frame_equal(frame.iloc[::2], REVIEWS)
    pd.testing.assert_frame_equal(REVIEWS, before)


@pytest.mark.parametrize(
    ("data", "template"),
    [
        (["a", "b"], "{{ value }}"),
        (iter(["a", "b"]), "{{ value }}"),
        (pd.Series(["a", "b"]), "{{ value }}"),
        (pd.Series(["a", "b"], name="x"), "{{ x }}"),
        ({"x": ["a", "b"]}, "{{ x }}"),
        ({"x": pd.Series(["a", "b"], index=[7, 9])}, "{{ x }}"),
        (({"x": letter} for letter in "ab"), "{{ x }}"),
        (pl.DataFrame({"x": ["a", "b"]}), "{{ x }}"),
        (pl.Series("x", ["a", "b"]), "{{ x }}"),
        (pd.DataFrame({"x": ["a", "b"]}), "{{ x }}"),
    ],
)
def test_every_form_of_rows_is_read(data: Any, template: str) -> None:
    """What people have their rows in gives the same prompts."""
    assert Design.of_map(data, template).prompts == ["a", "b"]


def test_numbers_beside_gaps_are_rendered_as_they_were_written() -> None:
    """A whole number does not become 3.0 because another row has none."""
    rows = [{"n": 3, "t": "x"}, {"t": "y"}]
    with pytest.raises(ConfigError, match=r"row 1 has no value in the column 'n'"):
        Design.of_map(rows, "{{ n }}")
    assert Design.of_map(rows[:1], "{{ n }}").prompts == ["3"]
    frame = frame_of(Design.of_map(rows, "{{ t }}"))
    assert str(frame["n"].dtype) == "Int64"
    from_polars = frame_of(Design.of_map(pl.DataFrame(rows), "{{ t }}"))
    assert str(from_polars["n"].dtype) == "Int64"


def test_a_column_may_be_called_as_the_one_function_of_templates() -> None:
    """`range` with brackets is the function, without them the column; without a column it is undefined."""
    assert Design.of_map({"range": ["wide"]}, "{{ range }}").prompts == ["wide"]
    assert Design.of_map({"n": [2]}, "{% for i in range(n) %}{{ i }}{% endfor %}").prompts == ["01"]
    with pytest.raises(ConfigError, match="the template needs 'range'"):
        Design.of_map({"n": [2]}, "{{ n }} {{ range }}")


def test_numbers_of_numpy_in_a_list_are_numbers() -> None:
    """`list(array)` and `max(array)` give numpy's own: the column has the type that Python's would have."""
    rows = {"n": [np.int64(1), np.int64(2)], "x": [np.float32(0.5), 1.0], "yes": [np.bool_(True), False]}
    table = Design.of_map(rows, "{{ n }} {{ x }} {{ yes }}").table
    assert table is not None
    assert [str(dtype) for dtype in table.frame.dtypes] == ["int64", "float64", "bool"]


def test_a_lazy_frame_is_asked_for_its_rows() -> None:
    """Nothing is collected behind the caller's back, and polars warns of nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ConfigError, match=r"a LazyFrame has no rows yet; pass \.collect\(\) of it"):
            Design.of_map(pl.LazyFrame({"text": ["a"]}), "{{ text }}")


def test_polars_without_pyarrow_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way there is an optional package, and the message names it."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"polars frame .* pip install pyarrow"):
        Design.of_map(pl.DataFrame({"x": ["a"]}), "{{ x }}")


def test_a_column_goes_before_the_grid_and_the_grid_before_a_variable() -> None:
    """The nearest meaning of a name holds, and variables that nobody names are not looked at."""
    design = Design.of_map(
        {"a": ["row"]},
        "{{ a }} {{ b }} {{ c }}",
        grid={"b": ["grid"]},
        variables={"a": "var", "b": "var", "c": "var", "module": sys},
    )
    assert design.prompts == ["row grid var"]
    with pytest.raises(ConfigError, match="'module' is a module"):
        Design.of_map({"a": ["x"]}, "{{ module }}", variables={"module": sys})


def test_nested_values_are_seen_as_they_were_given() -> None:
    """A template reaches into mappings and lists; the frame has them as JSON text."""
    rows = [{"p": {"name": "x", "tags": ["a", "b"]}}, {"p": {"name": "y", "tags": []}}]
    design = Design.of_map(rows, "{{ p.name }}: {{ p.tags | join('+') }}")
    assert design.prompts == ["x: a+b", "y: "]


def test_data_is_never_rendered_again() -> None:
    """Braces in a cell stay braces."""
    assert Design.of_map(["{{ 1 + 1 }}"], "{{ value }}").prompts == ["{{ 1 + 1 }}"]


@pytest.mark.parametrize(
    ("data", "template", "options", "error"),
    [
        (REVIEWS, "{{ txt }}", {}, "needs 'txt', which is not defined; did you mean 'text'"),
        (REVIEWS, "{{ tone }}", {"variables": {"tones": 1}}, "did you mean 'tones'"),
        (REVIEWS, "a\n{{ text ", {}, r"line 2: .*\n    \{\{ text \n    \^"),
        (REVIEWS, ["{{ text }}", "{{ text "], {}, "template 1: the template is wrong in line 1"),
        (REVIEWS, " ", {}, "the template is empty"),
        (REVIEWS, 3, {}, "a template is text"),
        (REVIEWS, "{{ stars }}", {}, r"row 1 \(index 'b'\) has no value in the column 'stars'"),
        ([1.5, float("nan")], "{{ value }}", {}, "row 1 has no value"),
        ({"at": [pd.NaT]}, "{{ at }}", {}, "row 0 has no value"),
        (REVIEWS.iloc[:0], "{{ text }}", {}, "no rows"),
        ([], "{{ value }}", {}, "no rows"),
        (REVIEWS.rename(columns={"text": "output"}), "{{ output }}", {}, "columns of its own named output"),
        ({"out_x": ["a"]}, "{{ out_x }}", {}, "columns of its own named out_x"),
        (pd.DataFrame([["a", "b"]], columns=["x", "x"]), "{{ x }}", {}, "same name, x"),
        (["a", {"x": 1}], "{{ value }}", {}, "row 1 is a dict and row 0 a str"),
        ({"x": ["a"], "y": ["b", "c"]}, "{{ x }}", {}, "not of one length: x has 1, y has 2"),
        ({"x": ["a"], "y": "b"}, "{{ x }}", {}, "column 'y' is a str, not a list"),
        ("text", "{{ value }}", {}, "put a single text into a list"),
        ({"b", "a"}, "{{ value }}", {}, "a set has no order"),
        (7, "{{ value }}", {}, "not a int"),
        (["a", ""], "{{ value }}", {}, "the prompt of row 1 is empty"),
        (["a", "b\0"], "{{ value }}", {}, "row 1 holds a null byte"),
        (["a", "x" * 2_000_001], "{{ value }}", {}, "row 1: .*longer than 2,000,000"),
        (["a"], "{{ value }}", {"n": 0}, "n=0 cannot work"),
        (["a"], "{{ value }}", {"n": True}, "n=True cannot work"),
        (["a"], "{{ value }}", {"n": 2_000_000}, "2,000,000 tasks"),
        (["a"], "{{ value }} {{ tone }}", {"grid": {"tnoe": ["x"]}}, "'tnoe' .* did you mean 'tone'"),
        (["a"], "{{ value }}", {"grid": {"zzz": ["x"]}}, r"write \{\{ zzz \}\} in the template"),
        (["a"], "{{ value }}", {"grid": {"value": ["x"]}}, "'value' is a column of the input too"),
        (["a"], "{{ value }} {{ row }}", {"grid": {"row": [1]}}, "named row; rename them in the grid"),
        (["a"], "{{ value }}", {"grid": {"model": []}}, "'model' has no values"),
        (["a"], "{{ value }}", {"grid": {"model": ["haiku", "haiku"]}}, "'haiku' twice; for repetitions use n"),
        (["a"], "{{ value }}", {"grid": {"model": ["haiku"]}, "model": "opus"}, "in the grid and beside it"),
        (["a"], "{{ value }}", {"grid": ["haiku"]}, "grid takes a mapping"),
        (REVIEWS, "Classify {text}", {}, r"has \{text\}, which is plain text; write \{\{ text \}\}"),
        (REVIEWS, ["{{ text }}", "Hello"], {}, r"template 1: .*no column of the input \(text, stars\)"),
        (
            {"my text": ["a"]},
            "{{ my text }}",
            {},
            r"rename it first.*\{'my text': 'my_text'\}",
        ),
        ([{"p": {"name": "x"}}], "{{ p.nam }}", {}, "row 0: .*no attribute 'nam'"),
        ({"template": ["a"]}, ["{{ template }}"], {}, "'template', which the input has too"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(data: Any, template: Any, options: dict[str, Any], error: str) -> None:
    """The message names the line, the row, the column or the option."""
    with pytest.raises(ConfigError, match=error):
        Design.of_map(data, template, **options)


def test_an_undefined_name_is_not_looked_for_among_what_no_template_can_use() -> None:
    """Of a notebook's variables only data can have been meant; where nothing is close, the columns are named."""
    variables = {"exit": exit, "json": json, "_text": "", "labels": ["good"]}
    with pytest.raises(
        ConfigError, match=r"needs 'text', which is not defined; choose from value, or define a variable$"
    ):
        Design.of_map(["a"], "{{ value }} {{ text }}", variables=variables)
    with pytest.raises(ConfigError, match="did you mean 'labels'"):
        Design.of_map(["a"], "{{ value }} {{ lables }}", variables=variables)
    with pytest.raises(ConfigError, match=r"needs 'my', which is not defined; a template has no names like 'my-text'"):
        Design.of_map({"my-text": ["a"]}, "{{ my-text }}")
    with pytest.raises(ConfigError, match=r"needs 'text', which is not defined; the input has no columns$"):
        Design.of_map(pd.DataFrame(index=[1, 2]), "{{ text }}")
    wide = {f"c{number}": [1] for number in range(100)}
    with pytest.raises(ConfigError, match=r"choose from c0, c1, .*c11, \.\.\.$"):
        Design.of_map(wide, "{{ text }} {{ c1 }}")


def test_wrong_options_have_their_own_errors() -> None:
    """An unknown keyword and a model of the grid that is none are refused by name."""
    with pytest.raises(UnknownOption, match="did you mean 'model'"):
        Design.of_map(["a"], "{{ value }}", modle="haiku")
    with pytest.raises(UnknownModel, match="did you mean 'haiku'"):
        Design.of_map(["a"], "{{ value }}", grid={"model": ["haikku"]})


def test_an_error_of_one_cell_names_row_and_combination() -> None:
    """What only some rows of some combinations do is found, and told where."""
    with pytest.raises(ConfigError, match=r"row 1, factor=2: .*can only concatenate"):
        Design.of_map({"x": [1, "b"]}, "{{ x + factor }}", grid={"factor": [2]})


def test_a_row_of_a_megabyte_is_fine() -> None:
    """Size alone is no mistake."""
    assert len(Design.of_map(["x" * 1_000_000], "{{ value }}").prompts[0]) == 1_000_000


def test_prompts_take_a_grid_of_options_and_samples() -> None:
    """A list of prompts is repeated as the rows of a map are, with the position as its index."""
    design = Design.of_prompts(["a", "b"], grid={"effort": ["low", "high"]}, n=2)
    assert design.prompts == ["a"] * 4 + ["b"] * 4
    assert frame_of(design).index.tolist() == design.rows == [0] * 4 + [1] * 4
    assert frame_of(design)["effort"].tolist() == ["low", "low", "high", "high"] * 2
    assert Design.of_prompts(["a", "b"]).table is None
    with pytest.raises(ConfigError, match="'tone' is neither an option nor in the template"):
        Design.of_prompts(["a"], grid={"tone": ["kind"]})


def test_what_the_ledger_keeps_is_plain_json() -> None:
    """Missing values are null, numbers stay numbers, and a grid value without a column is kept aside."""
    data = REVIEWS.assign(day=pd.to_datetime(["2026-01-01", None, "2026-01-03"]), made=dt.date(2026, 1, 2))
    design = Design.of_map(data, "{{ text }}", grid={"model": ["haiku"], "tools": [["Read", "Grep"]]})
    texts = design.inputs_json()
    assert texts is not None
    one = json.loads(texts[1])
    assert one["index"] == "b"
    assert one["values"] == {"text": "bad", "stars": None, "day": None, "made": "2026-01-02", "tools": "Read,Grep"}
    assert one["grid"] == {"model": "haiku"}
    meta = json.loads(design.meta_json())
    assert meta["columns"] == ["text", "stars", "day", "made", "tools"]
    assert meta["template"] == "{{ text }}"
    assert meta["grid"] == {"model": ["haiku"], "tools": ["Read,Grep"]}
