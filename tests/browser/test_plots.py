"""Plots in a real JupyterLab: drawn by what it brings itself, in its own theme, readable by all."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.browser.conftest import Open
from tests.browser.lab import Server

pytest.importorskip("altair")

START = """%load_ext claude_pool_nb
pool = %pool start --slots 3 --backend demo --store :memory: --demo-latency-s 0 --budget 1"""
RUN = "df = %pool fan_out [f'How was the food in {i}?' for i in range(20)] --tag night --live off"

LIGHTNESS = """svg => {
  const paint = document.createElement('canvas').getContext('2d');
  const light = colour => {
    paint.fillStyle = colour;
    return [1, 3, 5].reduce((sum, at) => sum + parseInt(paint.fillStyle.slice(at, at + 2), 16), 0) / 765;
  };
  let paper = svg;
  while (getComputedStyle(paper).backgroundColor === 'rgba(0, 0, 0, 0)') paper = paper.parentElement;
  const ink = svg.querySelector('.role-title text');
  return [light(getComputedStyle(paper).backgroundColor), light(getComputedStyle(ink).fill)];
}"""
"""Of paper and ink, from 0, black, to 1, white."""


@pytest.fixture(params=["light", "dark"])
def theme(request: pytest.FixtureRequest, lab: Server) -> Iterator[str]:
    """Both themes of JupyterLab."""
    name: str = request.param
    lab.theme(f"JupyterLab {name.title()}")
    yield name
    lab.theme("JupyterLab Light")


def test_jupyterlab_draws_each_plot_alone_and_in_its_theme(open_page: Open, theme: str) -> None:
    """Four charts with their descriptions, ink that stands out from the paper, and not one request to another host."""
    kinds = ("gantt", "cost", "budget", "latency")
    page = open_page(START, RUN, *(f"%pool plot {kind}" for kind in kinds), height=3000)
    asked: list[str] = []
    page.page.on("request", lambda request: asked.append(request.url))
    for cell in range(6):
        page.run(cell)
    for cell, kind in enumerate(kinds, 2):
        chart = page.cell(cell).locator(".jp-RenderedVegaCommon5 svg.marks")
        chart.wait_for(timeout=20_000)
        described = page.cell(cell).locator("[role=graphics-document]").first.get_attribute("aria-label") or ""
        assert "play money" in described, kind
        paper, ink = lightness = chart.evaluate(LIGHTNESS)
        assert (paper > ink) is (theme == "light"), (kind, lightness)
        assert abs(paper - ink) > 0.4, (kind, lightness)
        assert "NaN" not in chart.inner_html(), f"a mark of {kind} has no place"
    strangers = [url for url in asked if url.split(":")[0] in {"http", "https"} and "//127.0.0.1" not in url]
    assert strangers == []


def test_a_plot_has_no_serious_finding_of_axe(open_page: Open) -> None:
    """What axe-core finds in a chart is not serious."""
    pytest.importorskip("axe_core_python")
    page = open_page(START, RUN, "%pool plot gantt")
    for cell in range(3):
        page.run(cell)
    page.cell(2).locator("svg.marks").wait_for(timeout=20_000)
    spec = find_spec("axe_core_python")
    assert spec is not None
    assert spec.origin is not None
    page.page.add_script_tag(content=Path(spec.origin).with_name("axe.min.js").read_text(encoding="utf-8"))
    page.cell(2).locator(
        ".jp-RenderedVegaCommon5 .chart-wrapper, .jp-RenderedVegaCommon5 [role=graphics-document]"
    ).first.evaluate("one => one.id = 'looked-at'")
    found = page.page.evaluate("() => axe.run('#looked-at', {resultTypes: ['violations']})")
    serious = [
        (one["id"], [node["html"][:300] for node in one["nodes"]][:3])
        for one in found["violations"]
        if one["impact"] in {"serious", "critical"}
    ]
    assert serious == []
