"""Variants side by side: which rows belong together, who agrees, who is right, and what is shown of it."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest

from claude_pool_nb.analysis.compare import Comparison, compare
from claude_pool_nb.analysis.variants import Source
from claude_pool_nb.display.comparisons import MAX_CHARS, marked, word_changes
from claude_pool_nb.errors import ConfigError


def source(
    run_id: str,
    outputs: list[Any],
    *,
    index: Any = None,
    rows: list[int] | None = None,
    grid: tuple[str, ...] = (),
    backend: str = "claude",
    **columns: Any,
) -> Source:
    """A run: its own columns come first, the others as a frame of tasks has them."""
    count = len(outputs)
    own = {name: values for name, values in columns.items() if not name.startswith("out_") and name not in SET}
    tasks: dict[str, Any] = {
        "run_id": run_id,
        "task_id": [f"{run_id}.{number + 1}" for number in range(count)],
        "row": rows or list(range(count)),
        "requested_model": "haiku",
        "model": "haiku",
        "state": ["failed" if output is None else "completed" for output in outputs],
        "prompt": [f"prompt {row}" for row in rows or range(count)],
        "output": pd.array(outputs, dtype="str"),
        "cost_usd": 0.5,
        "backend": backend,
        "output_tokens": 10,
        "duration_s": np.arange(count, dtype=float),
    }
    return Source(
        run_id, pd.DataFrame({**own, **tasks, **{n: columns[n] for n in columns if n not in own}}, index=index), grid
    )


SET = {"requested_model", "state", "cost_usd", "prompt", "duration_s"}


def test_rows_are_joined_by_the_index_of_the_input() -> None:
    """Another order, and rows that only one has, are no matter; what is missing is missing, not wrong."""
    first = source("r1", ["yes", "no", "No way"], index=["x", "y", "z"], text=list("abc"))
    second = source("r2", ["No", "  YES ", "new"], index=["y", "x", "w"], text=list("bad"))
    made = compare([first, second])
    frame = made.frame
    assert list(frame.index) == ["x", "y", "z", "w"]
    assert list(frame["text"]) == ["a", "b", "c", "d"]
    assert list(frame["r1"]["output"].fillna("-")) == ["yes", "no", "No way", "-"]
    assert list(frame["r2"]["output"].fillna("-")) == ["  YES ", "No", "-", "new"]
    assert frame["agree"].tolist() == [True, True, pd.NA, pd.NA]
    assert made.agreement.loc["r1", "r2"] == 1.0
    assert made.summary["rows"].tolist() == [3, 3]
    assert made.notes[0] == "r1 lacks 1 row that others have; the first is 'w'"
    assert list(frame.columns.get_level_values(0).unique()) == ["text", "r1", "r2", "agree"]


def test_labels_that_repeat_are_told_apart_by_their_order() -> None:
    """An index with doubles, as concat makes it, joins first with first and second with second."""
    made = compare([source("r1", list("abc"), index=[0, 0, 1]), source("r2", list("axc"), index=[0, 0, 1])])
    assert made.frame["agree"].tolist() == [True, False, True]
    assert list(made.frame.index) == [0, 0, 1]
    assert list(made.frame["prompt"]) == ["prompt 0", "prompt 1", "prompt 2"]


def test_on_joins_by_columns() -> None:
    """`on` takes the place of the index, and has to tell rows apart."""
    first = source("r1", list("ab"), index=[0, 1], key=[7, 8])
    second = source("r2", list("ba"), index=[0, 1], key=[8, 7])
    assert compare([first, second]).frame["agree"].tolist() == [False, False]
    assert compare([first, second], on="key").frame["agree"].tolist() == [True, True]
    with pytest.raises(ConfigError, match="does not tell the rows of r2 apart: 8 is there twice"):
        compare([first, source("r2", list("ba"), key=[8, 8])], on="key")


def test_a_grid_is_split_whole_or_in_part() -> None:
    """Alone, every cell is a variant; split by one key, the others tell rows apart."""
    grid = source(
        "r1",
        list("aabbcddd"),
        rows=[0, 0, 0, 0, 1, 1, 1, 1],
        index=["x"] * 4 + ["y"] * 4,
        grid=("requested_model", "tone"),
        requested_model=["haiku", "haiku", "sonnet", "sonnet"] * 2,
        tone=["kind", "blunt"] * 4,
    )
    whole = compare([grid])
    assert whole.variants == ("haiku / kind", "haiku / blunt", "sonnet / kind", "sonnet / blunt")
    assert whole.frame["agree"].tolist() == [False, False]
    assert list(whole.frame.index) == ["x", "y"]
    by_tone = compare([grid], by="tone")
    assert by_tone.variants == ("kind", "blunt")
    assert list(by_tone.frame["requested_model"]) == ["haiku", "sonnet"] * 2
    assert by_tone.frame["agree"].tolist() == [True, True, False, True]
    assert by_tone.summary["cost_usd"].tolist() == [2.0, 2.0]
    assert compare([grid], by="model").variants == ("haiku", "sonnet")
    both = compare([grid, source("r2", list("cd"), index=["x", "y"])], by="model")
    assert both.variants == ("r1 / haiku", "r1 / sonnet", "r2 / haiku")


def test_the_majority_of_samples_answers() -> None:
    """Of equally many the first; failed samples have no vote, but a cost."""
    many = source("r1", ["b", "a", "A ", "x", "y", None], rows=[0, 0, 0, 1, 1, 1], index=[0, 0, 0, 1, 1, 1])
    one = source("r2", ["a", "x"])
    made = compare([many, one])
    assert made.frame["r1"]["output"].tolist() == ["a", "x"]
    assert made.frame["r1"][["samples", "votes", "cost_usd", "duration_s"]].values.tolist() == [
        [3, 2, 1.5, 1],
        [3, 1, 1.5, 4],
    ]
    assert made.frame["agree"].tolist() == [True, True]
    assert made.summary.loc["r1", "consistency"] == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert "consistency" in repr(made)


def test_expected_answers_give_accuracy_and_confusion() -> None:
    """Text without regard to case and spacing; no answer is wrong; a row without expectation does not count."""
    run = source("r1", ["Good", "bad ", "good", None, "hm"], label=["good", "bad", "bad", "good", None])
    made = compare([run], expect="label")
    assert made.frame["r1"]["right"].tolist() == [True, True, False, False, pd.NA]
    assert made.summary.loc["r1", "accuracy"] == 0.5
    table = made.confusion["r1"]
    assert table.loc["bad"].to_dict() == {"bad": 1, "good": 1, "(no answer)": 0}
    assert table.loc["good"].to_dict() == {"bad": 0, "good": 1, "(no answer)": 1}
    assert table.to_numpy().sum() == 4
    two = compare([run, source("r2", ["good", "bad", "bad", "good", "x"])], expect="label")
    assert two.summary["accuracy"].tolist() == [0.5, 1.0]


def test_expected_answers_may_be_a_series_with_the_index_of_the_input() -> None:
    """It is aligned as pandas aligns, whichever order it has; what it says nothing of does not count."""
    first = source("r1", ["yes", "no", "yes"], index=["x", "y", "z"])
    second = source("r2", ["no", "no", "no"], index=["x", "y", "z"])
    made = compare([first, second], expect=pd.Series(["no", "yes"], index=["y", "x"], name="truth"))
    assert list(made.summary["accuracy"]) == [1.0, 0.5]
    assert made.frame["expected"].tolist()[:2] == ["yes", "no"]
    assert pd.isna(made.frame["expected"].iloc[2])
    assert made.confusion["r2"].loc["yes", "no"] == 1
    assert "nothing is expected of 1 row, which do not count for accuracy" in made.notes


def test_a_series_of_expected_answers_with_labels_that_repeat() -> None:
    """Rows with one label are told apart by their order, where the Series has as many; samples may repeat a value."""
    run = source("r1", ["a", "a", "b", "c"], index=[7, 7, 7, 8], rows=[0, 0, 1, 2], model=["m"] * 4)
    assert compare([run], expect=pd.Series(["a", "b", "c"], index=[7, 7, 8])).summary["accuracy"].item() == 1
    assert compare([run], expect=pd.Series(["a", "a", "a", "c"], index=run.frame.index)).summary["accuracy"].item() < 1
    with pytest.raises(ConfigError, match=r"expect: the Series has 3 values for 7, and r1 2 such rows"):
        compare([run], expect=pd.Series(["a", "a", "b", "c"], index=run.frame.index))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (pd.Series(["a"], index=["elsewhere"]), "expect: no row of r1 is in the index of the Series"),
        (["a", "b"], "expect takes the name of a column, or a Series .*, not a list"),
    ],
)
def test_expected_answers_that_belong_to_no_row_are_told(given: Any, says: str) -> None:
    """Nothing is guessed from positions."""
    with pytest.raises(ConfigError, match=says):
        compare([source("r1", ["a", "b"])], expect=given)


def test_runs_with_and_without_a_schema_are_compared_by_what_both_have() -> None:
    """A run that has no such field has answered all the same: its answer is not taken for a missing one."""
    typed = source("r1", ['{"label": "a"}', "b"], out_label=["a", "b"], out_score=[1, 2])
    plain = source("r2", ["a", "b"])
    made = compare([typed, plain])
    assert made.fields == ("output",)
    assert made.frame["agree"].tolist() == [False, True]
    assert "r2 has no schema, so whole outputs are compared" in made.notes
    other = source("r3", ["{}", "{}"], out_label=["a", "c"])
    assert compare([typed, other]).fields == ("out_label",)
    with pytest.raises(ConfigError, match="field: r2 has no column 'out_label'; compare runs of one schema"):
        compare([typed, plain], field="label")


def test_an_optional_field_without_a_value_is_told_as_none() -> None:
    """Both are answers: null is one, and says so where they differ."""
    empty = pd.array([None], dtype="str")
    made = compare([source("r1", ["{}"], hint=empty, out_note=["x"]), source("r2", ["{}"], out_note=empty)])
    assert "0: hint=none" in repr(made)
    assert "r2: [-x-]{+none+}" in repr(made)
    assert "nan" not in repr(made)


def test_fields_are_compared_exactly_and_numbers_as_numbers() -> None:
    """`out_` fields are equal or not; the one that is expected is found by its name."""
    first = source(
        "r1", list("ab"), out_label=["Good", "bad"], out_score=pd.array([1, 2], dtype="Int64"), label=["good", "bad"]
    )
    second = source("r2", list("xy"), out_label=["good", "bad"], out_score=pd.array([1, 2], dtype="Int64"))
    made = compare([first, second])
    assert made.fields == ("out_label", "out_score")
    assert made.frame["agree"].tolist() == [False, True]
    assert made.frame["r1"]["out_score"].dtype == "Int64"
    assert compare([first, second], field="score").frame["agree"].tolist() == [True, True]
    assert compare([first, second], field="output").fields == ("output",)
    expected = compare([first, second], expect="label")
    assert expected.fields == ("out_label",)
    assert expected.summary["accuracy"].tolist() == [0.5, 1.0]
    numbers = compare([source("r1", ["3", "4.0"], n=[3.0, 4.0])], expect="n")
    assert numbers.frame["r1"]["right"].tolist() == [True, False]


def test_an_answer_that_failed_agrees_with_nobody() -> None:
    """What a failed task has said is no answer."""
    failed = source("r1", ["a", "b"], state=["failed", "completed"])
    made = compare([failed, source("r2", ["a", "b"])])
    assert made.frame["agree"].tolist() == [pd.NA, True]
    assert made.frame["r1"]["output"].isna().tolist() == [True, False]
    assert made.frame["r1"]["state"].tolist() == ["failed", "completed"]
    assert made.summary["answered"].tolist() == [1, 2]
    assert "r1 has no answer to 1 row" in made.notes


def test_names_of_variants_never_hide_a_column() -> None:
    """A model named as a column of the input, or as `agree`, gets another name."""
    run = source("r1", list("ab"), rows=[0, 0], index=[0, 0], requested_model=["agree", "text"], text=["t", "t"])
    made = compare([run])
    assert made.variants == ("variant agree", "variant text")
    assert made.frame["text"].tolist() == ["t"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "r1 alone has one variant"),
        ({"by": "modle"}, "by: r1 has no column 'modle'; did you mean 'model'"),
        ({"by": "model"}, "all of r1 has the same model"),
        ({"on": "txt", "expect": "text"}, "on: r1 has no column 'txt'; did you mean 'text'"),
        ({"expect": "txt"}, "did you mean 'text'"),
        ({"expect": "text", "field": "labl"}, "field: no run has a column 'labl'"),
    ],
)
def test_what_cannot_be_compared_is_said(options: dict[str, Any], says: str) -> None:
    """The message names the right column, or what to write."""
    with pytest.raises(ConfigError, match=says):
        compare([source("r1", list("ab"), text=list("ab"))], **options)


def test_a_run_beside_itself_and_empty_runs() -> None:
    """Both are refused by name."""
    run = source("r1", ["a"])
    with pytest.raises(ConfigError, match="r1 is there twice"):
        compare([run, run])
    with pytest.raises(ConfigError, match="r1 has no rows"):
        compare([source("r1", [])])
    with pytest.raises(ConfigError, match="r2 has no rows"):
        compare([run, source("r2", [])])


# -- what is shown -----------------------------------------------------------------------------------------------------


def shown(*outputs: str, **columns: Any) -> Comparison:
    """A comparison of runs with one answer each."""
    return compare([source(f"r{number}", [output], **columns) for number, output in enumerate(outputs, start=1)])


def test_differing_words_are_marked_in_text_and_html() -> None:
    """Marks are text in both, and the model's text is escaped."""
    made = shown("It is a <b>good</b> day", "It is a <b>bad</b> day")
    assert "r2: It is a <b>[-good-]{+bad+}</b> day" in repr(made)
    html = made._repr_html_()
    assert "&lt;b&gt;<del>[-good-]</del><ins>{+bad+}</ins>&lt;/b&gt;" in html
    assert "<b>good" not in html
    assert "0 of 1 row agrees (0 %)" in repr(made)


@pytest.mark.parametrize(
    ("old", "new"), [("", "a b"), ("a b", ""), ("a, b", "a; b"), ("same", "same"), ("a\nb", "a b")]
)
def test_changes_lead_from_one_text_to_the_other(old: str, new: str) -> None:
    """What is left without what was added is the old text; without what was taken away, the new one."""
    changes = word_changes(old, new)
    assert "".join(piece for what, piece in changes if what != "+") == old
    assert "".join(piece for what, piece in changes if what != "-") == new
    assert all(piece for _, piece in changes)
    assert marked("a", "a") == "a"


def test_long_texts_are_cut_where_they_differ_and_stay_whole_in_the_frame() -> None:
    """A megabyte is compared and kept, and a screenful of it shown."""
    long = "word " * 200_000
    made = shown(f"{long}left {long}", f"{long}right {long}")
    text = repr(made)
    assert "[-left-]{+right+}" in text
    assert "(2,000,005 characters)" in text
    assert len(text) < 6 * MAX_CHARS
    assert len(made.frame["r1"]["output"].iloc[0]) == 2_000_005


def test_few_rows_are_shown_of_many() -> None:
    """The rest is counted."""
    made = compare([source("r1", ["a"] * 30), source("r2", ["b"] * 30)])
    assert repr(made).count("r2: [-a-]{+b+}") == 10
    assert "20 more rows differ: see .differing" in repr(made)
    assert len(made.differing) == 30
    one_too_many = compare([source("r1", ["a"] * 11), source("r2", ["b"] * 11)])
    assert "1 more row differs: see .differing" in repr(one_too_many)


def test_play_money_and_real_money_stand_apart() -> None:
    """Each variant says what its dollars are, and nothing adds them up."""
    made = compare([source("r1", ["a"]), source("r2", ["a"], backend="demo")])
    assert made.summary["play_money"].tolist() == [False, True]
    assert "$0.5000 play money" in repr(made)
    assert "$1.00" not in repr(made)


def test_the_frame_shows_the_comparison_and_what_is_made_from_it_does_not() -> None:
    """It is a DataFrame in every other respect."""
    made = shown("a", "b")
    assert repr(made.frame) == repr(made)
    assert made.frame._repr_html_() == made._repr_html_()
    assert made.frame.comparison is made
    part = made.frame.head(1)
    assert type(part) is pd.DataFrame
    again = pickle.loads(pickle.dumps(made.frame))
    pd.testing.assert_frame_equal(again, pd.DataFrame(made.frame))
    assert "play_money" not in made.frame.to_csv()


def test_dollar_signs_are_no_formulas() -> None:
    """In HTML a dollar sign stands in an element of its own."""
    html = shown("costs $5", "costs $6")._repr_html_()
    assert "<span>$</span>" in html
    assert "mathjax_ignore" in html
