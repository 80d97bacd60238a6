"""How the live view looks and what it leaves: themes, widths, accessibility, saved notebooks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import Open
from tests.browser.lab import Page, Server

START = """%load_ext claude_pool_nb
pool = %pool start --slots 5 --backend demo --store :memory: --demo-latency-s 0.3
w = pool.configure_slot('s2', name='Ada', role='judge')
first = %pool fan_out ['Summarise: ' + 'the quick brown fox ' * 400] * 20 --live off
budget = pool.set_budget(pool.get_run().cost_usd / 0.83)"""
"""A pool whose budget is scarce, and yet enough for what comes."""
RUN = "df = %pool fan_out [f'How many words has review {i}?' + ' [demo:fail]' * (i % 9 == 4) for i in range(150)]"
NARROW, WIDE = 360, 1600


@pytest.fixture(params=["light", "dark"])
def theme(request: pytest.FixtureRequest, lab: Server) -> Iterator[str]:
    """Both themes of JupyterLab."""
    name: str = request.param
    lab.theme(f"JupyterLab {name.title()}")
    yield name
    lab.theme("JupyterLab Light")


def _axe(page: Page, cell: int) -> list[dict[str, Any]]:
    """What axe-core finds in a cell's output that is serious or worse."""
    spec = find_spec("axe_core_python")
    assert spec is not None
    assert spec.origin is not None
    page.page.add_script_tag(content=Path(spec.origin).with_name("axe.min.js").read_text(encoding="utf-8"))
    page.cell(cell).locator(".jp-Cell-outputArea").evaluate("area => area.id = 'looked-at'")
    found = page.page.evaluate("() => axe.run('#looked-at', {resultTypes: ['violations']})")
    return [
        {"id": one["id"], "help": one["help"], "nodes": [node["html"] for node in one["nodes"]][:4]}
        for one in found["violations"]
        if one["impact"] in {"serious", "critical"}
    ]


def _fits(page: Page, cell: int) -> bool:
    """Whether nothing of a cell's output is wider than the cell."""
    script = (
        "area => [...area.querySelectorAll('*')].filter(one => !one.closest('.cpn-v') && !one.closest('pre') && "
        "one.getBoundingClientRect().right > area.getBoundingClientRect().right + 1).length === 0"
    )
    return bool(page.cell(cell).locator(".jp-Cell-outputArea").evaluate(script))


@pytest.mark.parametrize("width", [NARROW, 1200, WIDE])
def test_the_view_fits_and_can_be_read_by_all(open_page: Open, theme: str, width: int) -> None:
    """In both themes and from a phone's width to a wide screen nothing is cut, and axe finds nothing serious."""
    page = open_page(START, RUN, width=width, height=1400)
    page.run(0)
    page.start(1)
    page.shows(1, r"[2-9]\d done")
    page.shows(1, r"tasks/min")
    page.picture(f"cell-{theme}-{width}", 1)
    assert _fits(page, 1)
    if find_spec("axe_core_python") is not None:
        assert _axe(page, 1) == []
    page.interrupt()
    page.end(1)
    page.shows(1, "slots at work")
    page.cell(1).locator("summary").first.click()
    page.picture(f"ending-{theme}-{width}", 1)
    assert _fits(page, 1)
    assert page.cell(1).locator("details pre").evaluate("one => one.scrollWidth <= one.clientWidth")
    if find_spec("axe_core_python") is not None:
        assert _axe(page, 1) == []


def test_everything_can_be_reached_by_keyboard(open_page: Open) -> None:
    """From Cancel on, the tab key visits every button and field of the view, and the space bar presses them."""
    start = START.replace("/ 0.83", "+ 9")
    page = open_page(start, "%pool watch", "run = pool.fan_out(['How many words?'] * 300, wait=False)")
    for cell in (0, 1, 2):
        page.run(cell)
    page.shows(1, r"[1-9]\d* running")
    page.buttons("Cancel all", 1).first.focus()
    name = "() => document.activeElement.labels?.[0]?.innerText || document.activeElement.innerText.trim()"
    reached = [page.page.evaluate(name)]
    for _ in range(5):
        page.page.keyboard.press("Tab")
        reached.append(page.page.evaluate(name))
    assert reached == ["Cancel all", "Pause", "Slots", "Budget USD", "Text", "Stop watching"]
    page.page.keyboard.press("Space")
    page.shows(1, "of 300 tasks · ")


def test_a_saved_notebook_says_it_all(open_page: Open, lab: Server, tmp_path: Path, chromium: Any) -> None:
    """Saved and opened without a kernel, in a fresh kernel, and as a page with the network off, every run is there."""
    runs = [f"df{n} = %pool fan_out ['How many words has sentence {n}?'] * {n + 5}" for n in range(5)]
    page = open_page(START, *runs, "%pool run What is $5 and $6?", height=2400)
    for cell in range(len(runs) + 2):
        page.run(cell)
    saved = page.save()
    assert "widgets" not in saved["metadata"]
    assert "widget-view" not in json.dumps(saved)
    assert max(len(json.dumps(cell["outputs"])) for cell in saved["cells"]) < 64_000
    lab.end_kernels()
    again = open_page(height=2400)
    for n in range(5):
        again.shows(n + 1, f"{n + 5} completed of {n + 5} tasks")
        assert again.cell(n + 1).locator("summary").count() == 1
    assert not [error for error in again.errors if "widget" in error.lower()]

    from nbconvert import HTMLExporter

    html, _ = HTMLExporter().from_filename(str(again.path))
    (tmp_path / "saved.html").write_text(html)
    context = chromium.new_context(offline=True, java_script_enabled=False)
    offline = context.new_page()
    offline.goto(f"file://{tmp_path / 'saved.html'}")
    text = offline.locator("body").inner_text()
    context.close()
    for n in range(5):
        assert f"{n + 5} completed of {n + 5} tasks" in text
