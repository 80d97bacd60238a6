"""`%pool watch` in a real JupyterLab: a view of its own that outlives its cell, and agrees with the others."""

from __future__ import annotations

from tests.browser.conftest import Open
from tests.browser.test_live_view import CLICKS

START = """%load_ext claude_pool_nb
pool = %pool start --slots 3 --backend demo --store :memory: --budget 9 --demo-latency-s 0.2
w = pool.configure_slot('s2', name='Ada', role='judge')"""
RUN = "run = pool.fan_out([f'How many words has sentence {i}?' for i in range(200)], wait=False)"
WIDGETS = "import ipywidgets.widgets.widget as w; print('widgets', len(w._instances))"


def test_two_views_agree_and_leave_a_picture(open_page: Open) -> None:
    """Both follow the runs of other cells; a pause in one shows in both; each leaves static HTML, and no widget."""
    slow = START.replace("latency-s 0.2", "latency-s 0.5")  # it is to run until it is cancelled
    page = open_page(slow, "%pool watch", "view = pool.watch(); view", RUN, "view.stop()", "%pool stop", WIDGETS)
    from playwright.sync_api import expect

    for cell in (0, 1, 2, 3):
        page.run(cell)
    for cell in (1, 2):
        page.shows(cell, r"[1-9]\d* done")
        page.shows(cell, "Ada · judge")
    page.click("Pause", 1)
    for cell in (1, 2):
        page.shows(cell, "paused: by the Pause button")
        page.buttons("Go on", cell).wait_for()
    page.picture("watch-paused", 1)
    page.enter("Budget USD", "4", 2)
    for cell in (1, 2):
        page.shows(cell, r"left of \$4\.00")
    expect(page.cell(1).get_by_label("Budget USD")).to_have_value("4")
    page.click("Go on", 2)
    page.page.wait_for_function("() => !/paused:/.test(document.querySelector('.jp-Notebook').innerText)")
    page.run(4)
    page.shows(2, "budget: .* of \\$4")
    assert page.buttons("Pause", 2).count() == 0
    page.click("Cancel all", 1)
    page.shows(1, r"[1-9]\d* cancelled")
    page.run(5)
    page.shows(1, "cancelled of 200 tasks")
    assert page.buttons("Stop watching", 1).count() == 0
    assert "widgets 0" in page.run(6)
    assert not page.errors


def test_retry_failed_after_the_wall_was_moved(open_page: Open) -> None:
    """Tasks without room in the budget fail with their reason; a higher wall and Retry failed complete them."""
    page = open_page(START.replace("--budget 9", "--budget 0.000001"), "%pool watch", RUN, "run.wait().counts()")
    for cell in (0, 1, 2):
        page.run(cell)
    page.shows(1, "200 failed")
    page.shows(1, "budget · 200 tasks, .* the latest: No room for a task")
    page.picture("watch-failed", 1)
    page.enter("Budget USD", "3", 1)
    page.shows(1, "the budget is \\$3.00")
    page.click("Retry failed", 1)
    page.shows(1, "200 tried again")
    page.shows(1, "0 queued", 60_000)
    assert "{'completed': 200}" in page.run(3)
    page.shows(1, "200 done")
    page.click("Stop watching", 1)
    page.shows(1, "200 completed of 200 tasks")
    assert not page.errors


def test_parts_stand_alone(open_page: Open) -> None:
    """Strip, bar and grid follow the pool in a layout of one's own, and closing them leaves nothing."""
    mine = """import ipywidgets
from claude_pool_nb.notebook.widgets import BudgetBar, SlotGrid, TaskStrip
parts = [TaskStrip(pool), BudgetBar(pool), SlotGrid(pool, tails=True)]
box = ipywidgets.VBox(parts)
box"""
    close = "for part in parts: part.close()\nbox.layout.close(); box.close()\n" + WIDGETS
    page = open_page(START, mine, RUN, close)
    for cell in (0, 1):
        page.run(cell)
    page.shows(1, "no tasks under way")
    page.run(2)
    page.shows(1, "each letter: 2 tasks|D D|DD")
    page.shows(1, "left of \\$9")
    page.shows(1, "r1\\.\\d+ · .*(asking|writing)")
    page.picture("parts", 1)
    assert "widgets 0" in page.run(3)
    assert not page.errors


def test_cancel_reaches_an_awaited_cell(open_page: Open) -> None:
    """A cell that awaits its run has no view of its own: the watching one stops it, or says that it cannot."""
    cell = "run = pool.fan_out([f'Say {n}' for n in range(400)], wait=False)\nprint(await run)"
    page = open_page(START, "w = %pool watch\nw", cell)
    for number in (0, 1):
        page.run(number)
    page.start(2)
    page.shows(1, r"[1-9]\d* done")
    if CLICKS:
        page.click("Cancel", 1)
        page.end(2, 10_000)
        assert "cancelled" in page.text(2)
    else:
        page.shows(1, "these answer when no cell runs")
        page.interrupt()
        page.end(2, 10_000)
