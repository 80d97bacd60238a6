"""Frames that are read show all they hold, and nothing of it acts."""

from __future__ import annotations

import pickle

import pandas as pd

from claude_pool_nb.display.facts import MAX_CHARS, facts_frame


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


def test_it_is_a_frame_like_others() -> None:
    """What is made from it is plain, and it can be pickled."""
    facts = facts_frame(pd.DataFrame({"a": [1, 2]}), label="facts")
    assert type(facts[facts["a"] > 1]) is pd.DataFrame
    assert pickle.loads(pickle.dumps(facts)).equals(pd.DataFrame({"a": [1, 2]}))
