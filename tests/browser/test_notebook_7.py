"""The live view in Notebook 7, which is built from JupyterLab's parts and is not JupyterLab."""

from __future__ import annotations

from tests.browser.conftest import Open
from tests.browser.test_live_view import FAN_OUT, LOOK, START, clicks

FRONT = "notebooks"


@clicks
def test_it_appears_steers_and_leaves_a_picture(open_page: Open) -> None:
    """It is there with its numbers, slots and pause act, Cancel ends the cell, and a static picture stays."""
    page = open_page(START, f"{FAN_OUT} --yes", LOOK, front=FRONT)
    assert "4 slots" in page.run(0)
    page.start(1)
    page.shows(1, r"running[^]*left of[^]*s4[^]*")
    page.enter("Slots", "2", 1)
    page.click("Pause", 1)
    page.shows(1, "paused")
    page.click("Go on", 1)
    page.click("Cancel", 1)
    page.end(1, 10_000)
    page.shows(1, "cancelled of 400 tasks")
    looked = page.run(2)
    assert "rows 400" in looked
    assert "widgets 0" in looked
    saved = page.save()
    assert "widgets" not in saved["metadata"]
    assert not [error for error in page.errors if "widget" in error.lower()]


def test_the_stop_button_ends_the_cell(open_page: Open) -> None:
    """■ raises, keeps all rows, and leaves no widget."""
    page = open_page(START, FAN_OUT.replace("df = %pool fan_out", "%pool fan_out --yes --into df"), LOOK, front=FRONT)
    page.run(0)
    page.start(1)
    page.shows(1, r"[1-9]\d* done")
    page.interrupt()
    page.end(1, 10_000)
    page.shows(1, "interrupted of 400 tasks")
    assert "widgets 0" in page.run(2)
