"""The live view of a waiting cell in a real JupyterLab: it appears, its buttons act, and what it leaves is static."""

from __future__ import annotations

import pytest

from tests.browser.conftest import Open
from tests.browser.lab import Page, kernel_version

START = """%load_ext claude_pool_nb
pool = %pool start --slots 4 --backend demo --store :memory: --budget 9 --demo-latency-s 0.2
warm = %pool fan_out ['warm'] * 8 --live off
before = {slot.pid for slot in pool.slot_records()}
pool"""
FAN_OUT = "df = %pool fan_out [f'Say <b>{i}</b> for $1 or $2' for i in range(400)]"
REAL = START.replace("--backend demo", "--model haiku").replace(" --demo-latency-s 0.2", "")
LOOK = """import ipywidgets.widgets.widget as w
print('rows', len(df), 'completed', (df.state == 'completed').sum(), 'states', sorted(set(df.state)))
print('widgets', len(w._instances))
answer = %pool run --live off still alive
after = {slot.pid for slot in pool.slot_records()}
print('alive', answer.state, 'same processes', before == after, 'restarts', pool.slots()['restarts'].sum())"""

CLICKS = kernel_version() >= (7, 0)
clicks = pytest.mark.skipif(not CLICKS, reason="this ipykernel takes no clicks while a cell runs")
both = pytest.mark.parametrize("start", [START, pytest.param(REAL, marks=pytest.mark.cli)], ids=["demo", "real CLI"])


def _nothing_is_left(page: Page, cell: int) -> None:
    """The cell shows no widget, and the kernel has none."""
    looked = page.run(cell)
    assert "rows 400" in looked
    assert "widgets 0" in looked
    assert "alive completed same processes True restarts 0" in looked
    assert not page.errors


@both
@clicks
def test_cancel_stops_and_keeps(open_page: Open, start: str) -> None:
    """The view appears with its numbers and slots; Cancel ends the cell early and keeps all rows."""
    page = open_page(start, f"{FAN_OUT} --yes", LOOK)
    assert "4 slots" in page.run(0)
    page.start(1)
    page.shows(1, "of 400 tasks")
    shown = page.shows(1, r"running[^]*left of[^]*s4[^]*")
    assert "Say <b>" in shown, "the prompt's tags are text"
    assert page.cell(1).locator("mjx-container").count() == 0, "a dollar became LaTeX"
    page.shows(1, r"[1-9]\d* done")
    page.click("Cancel", 1)
    page.end(1, 10_000)
    page.shows(1, "cancelled of 400 tasks")
    assert page.buttons("Cancel", 1).count() == 0
    _nothing_is_left(page, 2)


@both
def test_interrupt_stops_raises_and_leaves_the_sessions(open_page: Open, start: str) -> None:
    """■ ends the cell with a KeyboardInterrupt, keeps all rows, and the same sessions answer the next prompt."""
    page = open_page(start, FAN_OUT.replace("df = %pool fan_out", "%pool fan_out --yes --into df"), LOOK)
    page.run(0)
    page.start(1)
    page.shows(1, r"[1-9]\d* done")
    if not CLICKS:
        page.shows(1, "press ■ to stop")
        assert page.buttons("Cancel", 1).is_disabled()
    page.interrupt()
    page.end(1, 10_000)
    page.shows(1, "KeyboardInterrupt")
    page.shows(1, "interrupted of 400 tasks")
    _nothing_is_left(page, 2)


def test_run_all_stops_after_an_interrupt(open_page: Open) -> None:
    """The cells behind an interrupted one are not run."""
    page = open_page(START, FAN_OUT, "print('this ran')")
    page.run(0)
    page.page.locator(".jp-Notebook .jp-Cell").nth(1).locator(".cm-content").first.click()
    page.page.keyboard.press("Escape")
    page.start(1)
    page.cell(2).locator(".cm-content").first.click()
    page.page.keyboard.press("Control+Enter")
    page.shows(1, r"[1-9]\d* done")
    assert page.prompt(2) == "[*]", "it waits for the cell before it"
    page.interrupt()
    page.end(1, 10_000)
    page.aborted(2)
    assert "this ran" not in page.page.locator(".jp-Notebook").inner_text().replace("print('this ran')", "")


@clicks
def test_pause_and_go_on(open_page: Open) -> None:
    """Pause stops the start of tasks while the cell waits, and the same button goes on to the end."""
    page = open_page(START, FAN_OUT.replace("400", "160"))
    page.run(0)
    page.start(1)
    page.click("Pause", 1)
    page.shows(1, "paused: by the Pause button")
    page.picture("cell-paused", 1)
    page.click("Go on", 1)
    page.end(1, 30_000)
    page.shows(1, "160 completed of 160 tasks")


@clicks
def test_slots_and_budget_change_while_the_cell_runs(open_page: Open) -> None:
    """A number in Slots opens and closes slots, one in Budget moves the wall, and nonsense is answered in words."""
    page = open_page(
        START, FAN_OUT, "pool.budget.limit_nano, len([s for s in pool.slot_records() if s.state != 'stopped'])"
    )
    page.run(0)
    page.start(1)
    page.shows(1, r"[1-9]\d* done")
    page.enter("Slots", "6", 1)
    page.shows(1, r"s6\s")
    page.enter("Budget USD", "7.5", 1)
    page.shows(1, r"left of \$7\.50")
    page.enter("Budget USD", "plenty", 1)
    page.shows(1, "'plenty' is no number of dollars")
    page.enter("Slots", "2", 1)
    page.page.wait_for_function("() => !/s6\\s/.test(document.querySelectorAll('.jp-Cell')[1].innerText)")
    page.click("Cancel", 1)
    page.end(1, 10_000)
    assert "(7500000000, 2)" in page.run(2)


@clicks
def test_text_shows_what_slots_write(open_page: Open) -> None:
    """The button Text adds the end of each slot's stream to its card; tags and turned-round letters of it stay text."""
    said = "'Repeat: <img src=x onerror=document.title=1> \\u202e \\x1b[31m ' + 'long ' * 400"
    page = open_page(START.replace("latency-s 0.2", "latency-s 1.5"), f"df = %pool fan_out [{said}] * 200")
    page.run(0)
    page.start(1)
    page.shows(1, "4 running")
    assert page.cell(1).locator("pre").count() == 0
    page.click("Text", 1)
    page.shows(1, "writing")
    page.page.wait_for_function("() => /long long/.test(document.querySelector('.cpn-g pre')?.innerText)")
    page.picture("cell-text", 1)
    assert page.cell(1).locator("img").count() == 0
    page.click("Text", 1)
    page.page.wait_for_function("() => !document.querySelector('.cpn-g pre')")
    page.click("Cancel", 1)
    page.end(1, 10_000)
    assert page.page.title() != "1"
    assert page.cell(1).locator("img").count() == 0


def test_a_reload_in_mid_run_loses_no_run(open_page: Open) -> None:
    """After a reload the run goes on; ■ stops it, and the frame is there; a watch shows the pool again."""
    page = open_page(START, FAN_OUT, "pool.last.counts()", "%pool watch")
    page.run(0)
    page.start(1)
    page.shows(1, r"[1-9]\d* done")
    page.save()
    page.open()
    page.connected()
    page.interrupt()
    assert "'interrupted'" in page.run(2)
    page.start(3)
    page.shows(3, "s4")
