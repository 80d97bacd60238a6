"""Frames of tasks show the answers."""

import pickle
from collections.abc import Iterator

import pandas as pd
import pytest

from claude_pool_nb import Pool
from claude_pool_nb.analysis.task_frames import TASK_COLUMNS
from claude_pool_nb.display.answers import shown_columns


@pytest.fixture
def pool() -> Iterator[Pool]:
    """A pool on the demo, with nothing kept."""
    with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
        yield pool


def test_the_answers_are_seen(pool: Pool) -> None:
    """What was asked and answered is on the page, as text and as HTML, also in a head of the frame."""
    frame = pool.fan_out(["What is 6 * 7?", "Repeat: twelve"]).frame
    for shown in (frame, frame.head(1)):
        for text in (repr(shown), shown._repr_html_()):
            assert "6 * 7" in text
            assert "42" in text
            assert "27 more columns" in text
    assert list(frame.columns) == list(TASK_COLUMNS)


def test_own_columns_stand_for_the_prompt_and_failures_are_told(pool: Pool) -> None:
    """The caller's columns are shown in place of the prompt; the reason of a failure is shown where there is one."""
    table = pd.DataFrame({"prompt": ["What is 1 + 1?", "[demo:fail] x"], "product": ["kettle", "lamp"]})
    shown = shown_columns(pool.fan_out(table).frame)
    assert shown[:3] == ["task_id", "product", "state"]
    assert "prompt" not in shown
    assert {"failure_kind", "error"} <= set(shown)


def test_a_selection_of_columns_is_shown_as_pandas_shows_it(pool: Pool) -> None:
    """Who has chosen columns sees them and nothing else."""
    frame = pool.fan_out(["What is 6 * 7?"]).frame[["output", "wait_s"]]
    assert repr(frame) == repr(pd.DataFrame(frame))
    assert "more columns" not in frame._repr_html_()


def test_it_is_a_dataframe_in_every_other_way(pool: Pool) -> None:
    """It equals, pickles and groups like the frame that it is."""
    frame = pool.fan_out(["a", "b"]).frame
    plain = pd.DataFrame(frame)
    pd.testing.assert_frame_equal(plain, pickle.loads(pickle.dumps(frame)))
    assert frame.groupby("state", observed=True).size().to_dict() == {"completed": 2}
    assert frame.merge(plain[["task_id"]], on="task_id").shape == (2, 34)
    assert frame.attrs["run_id"] == frame["run_id"].iloc[0]


def test_dollars_are_no_formulas_and_markup_is_text(pool: Pool) -> None:
    """`$..$` is not typeset, and a tag in an answer is shown, not run."""
    html = pool.fan_out(["Repeat: $5 and $6 <script>alert(1)</script>"]).frame._repr_html_()
    assert "mathjax_ignore" in html
    assert "<script>alert" not in html
