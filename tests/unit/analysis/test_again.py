"""Which rows a retry means, and the prompts that a new template makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from claude_pool_nb.analysis.again import chosen, new_prompts
from claude_pool_nb.errors import ConfigError


@pytest.fixture
def frame() -> pd.DataFrame:
    """Two rows of input on a grid of two, as a run's frame has them."""
    return pd.DataFrame(
        {
            "text": ["hi", "hi", "ho", "ho"],
            "n": [1, 1, 5, 5],
            "tone": ["kind", "blunt", "kind", "blunt"],
            "run_id": "r7",
            "task_id": ["r7.1", "r7.2", "r7.3", "r7.4"],
            "state": pd.Categorical(["completed", "failed", "completed", "failed"]),
            "prompt": ["a", "b", "c", "d"],
            "output": ["A", None, "C", None],
            "error": [None, "no", None, "no"],
        },
        index=["x", "x", "y", "y"],
    )


@pytest.mark.parametrize(
    ("rows", "places"),
    [
        ([True, False, False, True], [0, 3]),
        (np.array([False, False, True, False]), [2]),
        (pd.array([True, False, False, False], dtype="boolean"), [0]),
        (pd.Series([False, True], index=["x", "y"]), [2, 3]),
        (pd.Series([True, False], index=["y", "x"]), [2, 3]),
        (pd.Index(["y"]), [2, 3]),
        ([2, 0, 2], [0, 2]),
        ([-1], [3]),
        (range(2), [0, 1]),
        (np.array([1, 3]), [1, 3]),
        (1, [1]),
        ([], []),
        (["r7.4", "r7.1"], [0, 3]),
        ("n > 3 and tone == 'kind'", [2]),
        ("state == 'failed'", [1, 3]),
        ("output.isna()", [1, 3]),
        ("n > @least", [2, 3]),
        ("text.str.startswith('h') & (index == 'y')", [2, 3]),
    ],
)
def test_rows_are_chosen_in_every_usual_way(frame: pd.DataFrame, rows: Any, places: list[int]) -> None:
    """Masks, positions, labels, ids and expressions give positions in the frame's order."""
    assert chosen(frame, rows, {"least": 3}) == places


def test_the_frame_s_own_masks_and_parts(frame: pd.DataFrame) -> None:
    """A mask with repeated labels is that of the frame, and a part of it means its rows."""
    assert chosen(frame, frame["state"] == "failed") == [1, 3]
    assert chosen(frame, frame[frame["n"] > 3]) == [2, 3]
    assert chosen(frame, frame["task_id"].iloc[[3, 1]]) == [1, 3]
    assert chosen(frame.reset_index(drop=True), frame.reset_index(drop=True)["n"] == 1) == [0, 1]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([True], "the mask has 1 values and the run 4 rows"),
        ([True, None, False, False], "no value at position 1.*fillna"),
        (pd.array([True, pd.NA, False, False], dtype="boolean"), "no value at position 1"),
        ([1.0, float("nan"), 0.0, 0.0], "1.0 at position 0, which is neither"),
        (pd.Series([1.0, 2.0, 3.0, 4.0]), "Series of float64 is no mask"),
        (pd.Series([0, 1]), "Series of int64 is no mask"),
        (pd.Series([True, False], index=["x", "z"]), "nothing for the row 'y'"),
        (pd.Series([True, False, True], index=["x", "y", "z"]), "a row 'z' that the run has not"),
        (pd.Series([True, True, False], index=["x", "x", "y"]), "labels that repeat"),
        (pd.Index(["q"]), "no row 'q' in its index"),
        ([4], "no row at position 4"),
        ([-5], "no row at position -5"),
        (["r8.1"], "'r8.1' is no task of this run"),
        ("scor > 3", "no column 'scor'"),
        ("stat == 'failed'", "did you mean 'state'"),
        ("least > n", "a variable is written @least"),
        ("n >", "cannot be evaluated"),
        (" ", "expression is empty"),
        ({"n": 1}, "a dict chooses no rows"),
        (True, "a bool chooses no rows"),
        (pd.DataFrame({"n": [1]}), "no column task_id"),
    ],
)
def test_a_choice_that_does_not_fit_is_refused(frame: pd.DataFrame, rows: Any, says: str) -> None:
    """What is wrong is said with the position, the label or the right name."""
    with pytest.raises(ConfigError, match=says):
        chosen(frame, rows, {"least": 3})


def test_a_template_sees_inputs_then_what_came_of_them_then_variables(frame: pd.DataFrame) -> None:
    """Columns win over variables; a value is never scanned again."""
    frame.loc["y", "text"] = "{{ n }}"
    made = new_prompts(
        frame, [0, 3], "{{ text }}/{{ tone }}/{{ prompt }}/{{ output }}/{{ tail }}", {"tail": "!", "text": "no"}
    )
    assert made == ["hi/kind/a/A/!", "{{ n }}/blunt/d//!"]


def test_columns_of_any_name_and_type_reach_the_template() -> None:
    """Numbers as names, dates and lists are what they were."""
    frame = pd.DataFrame(
        {"when": pd.to_datetime(["2024-02-03"]), 7: ["seven"], "k": [["a", "b"]], "run_id": "r1", "prompt": "p"}
    )
    assert new_prompts(frame, [0], "{{ when.year }} {{ k[1] }}") == ["2024 b"]


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{ txet }}", "needs 'txet', which is no column of the run; did you mean 'text'"),
        ("{{ tone", "line 1"),
        ("   ", "no template"),
        ("{{ m }}", "row 'y' has no value in the column 'm'"),
        ("{{ n / 0 }}", "row 'x': the template cannot be rendered"),
        ("{{ text if n > 3 }}", "the new prompt of row 'x' is empty"),
    ],
)
def test_a_template_that_cannot_work_names_the_row(frame: pd.DataFrame, template: str, says: str) -> None:
    """Syntax, names, missing values and empty prompts are told before anything is sent."""
    frame.insert(0, "m", [1.0, 1.0, np.nan, 1.0])
    with pytest.raises(ConfigError, match=says):
        new_prompts(frame, range(4), template, {})
