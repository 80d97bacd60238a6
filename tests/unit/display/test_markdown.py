"""A model's Markdown can do nothing to the page, and code stays readable."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_pool_nb.display.markdown import safe_markdown


@pytest.mark.parametrize(
    "text",
    [
        "<img src=x>",
        "a ` <img src=x>\n# h `",
        "`` ` ``\n`<img src=x>",
        "\\`<img src=x>`",
        "- a\n  ```\n<img src=x>\n```",
        "```\ncode\n```~~\n<img src=x>",
        "~~~\ncode\n~~~\n<img src=x>",
        "| a |\n| - |\n| `<img src=x> | ` |",
        "```\r<img src=x>\r```\r<img src=y>".replace("<img src=x>", "x"),
        "> ```\n<img src=x>\n```",
        "`a\n<img src=x>`",
    ],
)
def test_no_tag_gets_out(text: str) -> None:
    """However code marks are arranged to confuse a renderer, a tag that it would see is escaped."""
    marked = pytest.importorskip("markdown_it").MarkdownIt("commonmark", {"html": True}).enable("table")
    assert "<img" not in marked.render(safe_markdown(text))


_pieces = st.sampled_from(
    ["<img src=x>", "`", "``", "```", "~~~", "\n", "\n\n", " ", "  ", "    ", "\t", "- ", "> ", "# ", "|", "\\", "a",
     "| - |\n", "![a](b)", "[a]: b", "[a][b]", "$", "<!--", "-->", "1. ", "---\n", "&lt;", "\r"]
)  # fmt: skip


@given(st.lists(_pieces, max_size=24).map("".join))
def test_no_arrangement_of_marks_gets_a_tag_or_an_image_out(text: str) -> None:
    """A CommonMark renderer that allows HTML finds neither tags nor images nor hidden links in it."""
    marked = pytest.importorskip("markdown_it").MarkdownIt("commonmark", {"html": True}).enable("table")
    assert not re.search(r"<(img|a|!--)", marked.render(safe_markdown(text)))


def test_code_is_left_as_it_is() -> None:
    """What every renderer takes for code keeps its brackets, dollars and ampersands."""
    text = "Use `a<b>` and:\n\n```html\n<div> $5 & more\n```\n\ndone"
    assert safe_markdown(text) == text


def test_a_poem_stays_a_poem() -> None:
    """Lines that a model broke stay broken; lists and headings are left alone."""
    assert safe_markdown("an old pond\na frog jumps in") == "an old pond  \na frog jumps in"
    assert safe_markdown("# A\n- b\n- c") == "# A\n- b\n- c"


def test_images_links_and_dollars_become_text() -> None:
    """Nothing remote is loaded, no link hides its target, no dollar starts LaTeX."""
    assert safe_markdown("![x](http://a) [y](http://b) $1 and $2") == (
        "&#33;[x]&#40;http://a) [y]&#40;http://b) &#36;1 and &#36;2"
    )


def test_an_open_fence_is_closed() -> None:
    """An answer cut in the middle of a code block does not swallow what stands below it."""
    assert safe_markdown("```py\nx = 1").endswith("\n```")
