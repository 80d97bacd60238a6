"""Frames that are read show all they hold, and nothing of it acts."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import pandas as pd
import pytest

from claude_pool_nb.display.facts import MAX_CHARS, facts_frame
from claude_pool_nb.display.results import result_markdown, result_text
from claude_pool_nb.display.runs import RunSummary, run_text
from claude_pool_nb.errors import TaskFailed
from claude_pool_nb.records import Failure, FailureKind, TaskResult, TaskState


def test_every_row_is_shown_in_full() -> None:
    """Neither many rows nor texts of more than fifty characters are left out."""
    frame = pd.DataFrame({"what": [f"row {n}" for n in range(200)], "value": ["word " * 40 + "end"] * 200})
    facts = facts_frame(frame, label="facts")
    for shown in (repr(facts), facts._repr_html_()):
        assert shown.count("word end") == 200
        assert "row 199" in shown
    assert facts["value"].iloc[0].endswith("end")


def test_what_it_shows_is_text() -> None:
    """Markup, LaTeX, ANSI codes and marks of direction are shown, not obeyed; a very long text is cut."""
    nasty = "<script>x</script> $5 and $6 \x1b[31mred \u202edesrever"
    facts = facts_frame(pd.DataFrame({"value": [nasty, "y" * 1_000_000]}), label="facts")
    html, text = facts._repr_html_(), repr(facts)
    assert "<script>" not in html
    assert "$5" not in html
    assert "<span>$</span>5" in html
    assert not {"\x1b", "\u202e"} & set(html + text)
    assert len(html) < 3 * MAX_CHARS
    assert "(1,000,000 characters)" in text


@pytest.mark.parametrize("show", [result_text, result_markdown])
def test_an_answer_moves_no_cursor_and_turns_no_words(show: Callable[[TaskResult], str]) -> None:
    """What a model wrote cannot colour a terminal, hide a line of it, or turn round what a person reads."""
    said = "a\x1b[2J\x07\x9b31m\u202egnp.exe\u2066 \r\nשלום\tß"
    failure = Failure(FailureKind.REQUEST, "http_400", said)
    shown = show(TaskResult("r1.1", "r1", TaskState.FAILED, said, failure=failure))
    assert not set("\x1b\x07\x9b\r\u202e\u2066") & set(shown)
    assert "שלום\tß" in shown
    (line,) = TaskFailed(said)._render_traceback_()
    assert "\x1b" not in line
    assert "\x1b" not in run_text(RunSummary("r1", counts={"failed": 1}, errors=(said,)))


def test_it_is_a_frame_like_others() -> None:
    """What is made from it is plain, and it can be pickled."""
    facts = facts_frame(pd.DataFrame({"a": [1, 2]}), label="facts")
    assert type(facts[facts["a"] > 1]) is pd.DataFrame
    assert pickle.loads(pickle.dumps(facts)).equals(pd.DataFrame({"a": [1, 2]}))
