"""The live view in a real JupyterLab: it appears, Cancel and ■ stop a run, and nothing of it is left but one line."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from claude_pool_nb.testing import ScriptedAPI

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(240),
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH"),
    pytest.mark.skipif(find_spec("jupyterlab") is None, reason="jupyterlab is not installed"),
    pytest.mark.skipif(find_spec("playwright") is None, reason="playwright is not installed"),
]

ROOT = Path(__file__).parents[2]
BROWSER = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
START = """%load_ext claude_pool_nb
pool = %pool start --slots 4 --backend demo --store :memory: --budget 9 --demo-latency-s 0.2
warm = %pool fan_out ['warm'] * 8 --live off
before = {slot.pid for slot in pool.slot_records()}
pool"""
FAN_OUT = "df = %pool fan_out [f'Say <b>{i}</b> for $1 or $2' for i in range(400)]"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


REAL = START.replace("--backend demo", "--model haiku").replace(" --demo-latency-s 0.2", "")


@pytest.fixture
def api() -> Iterator[ScriptedAPI]:
    """A scripted Messages API for the real CLI, slow enough to be watched."""
    with ScriptedAPI() as made:
        made.reply("An answer.")
        made.latency_s = 0.3
        yield made


@pytest.fixture
def lab(tmp_path: Path, api: ScriptedAPI) -> Iterator[tuple[str, Path]]:
    """A JupyterLab of its own, whose kernels reach no other API than the scripted one: its address and its folder."""
    port = _free_port()
    folder = tmp_path / "notebooks"
    folder.mkdir()
    dropped = ("PYTEST_", "CI")
    env = {name: value for name, value in api.env(tmp_path).items() if not name.startswith(dropped)}
    env |= {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "JUPYTER_CONFIG_DIR": str(tmp_path / "config")}
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"),
        *("--IdentityProvider.token=", "--ServerApp.password=", f"--ServerApp.root_dir={folder}"),
        *("--LabApp.extension_manager=readonly", "--LabApp.news_url="),
    ]
    log = (tmp_path / "lab.log").open("wb")
    server = subprocess.Popen(command, env=env, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"{address}/api", timeout=5):
                    break
            except OSError:
                assert server.poll() is None, (tmp_path / "lab.log").read_text()
                assert time.monotonic() < deadline, (tmp_path / "lab.log").read_text()
                time.sleep(0.1)
        yield address, folder
    finally:
        server.terminate()
        server.wait(20)
        log.close()


class Page:
    """A notebook in a browser."""

    def __init__(self, page: Any, cells: list[str], address: str, folder: Path) -> None:
        content = {
            "cells": [
                {
                    "cell_type": "code",
                    "id": f"c{i}",
                    "metadata": {},
                    "source": c,
                    "outputs": [],
                    "execution_count": None,
                }
                for i, c in enumerate(cells)
            ],
            "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
            "nbformat": 4,
            "nbformat_minor": 5,
        }
        (folder / "t.ipynb").write_text(json.dumps(content))
        self.page = page
        self.errors: list[str] = []
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.goto(f"{address}/lab/tree/t.ipynb?reset")
        page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)

    def start(self, cell: int) -> None:
        """Run a cell; a kernel that is not there yet swallows the keys, so they are pressed until it is."""
        for _ in range(20):
            self.page.locator(".jp-Cell").nth(cell).locator(".cm-content").first.click()
            self.page.keyboard.press("Control+Enter")
            if self._prompt(cell, r"\[[*\d]+\]", 2_000):
                return
        raise AssertionError(f"cell {cell} did not start")

    def end(self, cell: int, timeout_ms: int = 60_000) -> None:
        """Wait until a cell is done."""
        assert self._prompt(cell, r"\[\d+\]", timeout_ms), f"cell {cell} did not end"

    def run(self, cell: int) -> str:
        """Run a cell to its end; returns its text."""
        self.start(cell)
        self.end(cell)
        return self.text(cell)

    def text(self, cell: int) -> str:
        """The text of a cell's outputs."""
        return str(self.page.locator(".jp-Cell").nth(cell).locator(".jp-Cell-outputArea").inner_text())

    def _prompt(self, cell: int, wanted: str, timeout_ms: int) -> bool:
        from playwright.sync_api import TimeoutError as TooLate

        script = (
            "([cell, wanted]) => new RegExp(wanted).test("
            "document.querySelectorAll('.jp-Cell')[cell].querySelector('.jp-InputPrompt').innerText)"
        )
        try:
            self.page.wait_for_function(script, arg=[cell, wanted], timeout=timeout_ms)
        except TooLate:
            return False
        return True

    def outputs_hold(self, cell: int, text: str, timeout_ms: int = 10_000) -> None:
        """Wait until a cell shows a text."""
        self.page.locator(".jp-Cell").nth(cell).get_by_text(text).first.wait_for(timeout=timeout_ms)


@pytest.fixture
def open_page(lab: tuple[str, Path]) -> Iterator[Any]:
    """Opens a notebook with these cells."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=BROWSER)
        try:
            yield lambda *cells: Page(browser.new_page(viewport={"width": 1200, "height": 1000}), list(cells), *lab)
        finally:
            browser.close()


LOOK = """import ipywidgets.widgets.widget as w
print('rows', len(df), 'completed', (df.state == 'completed').sum(), 'states', sorted(set(df.state)))
print('widgets', len(w._instances))
answer = %pool run --live off still alive
after = {slot.pid for slot in pool.slot_records()}
print('alive', answer.state, 'same processes', before == after, 'restarts', pool.slots()['restarts'].sum())"""


@pytest.mark.parametrize("start", [START, pytest.param(REAL, marks=pytest.mark.cli)], ids=["demo", "real CLI"])
def test_cancel_stops_and_keeps(open_page: Any, start: str) -> None:
    """The view appears with its numbers and slots; Cancel ends the cell within a second or so and keeps all rows."""
    page = open_page(start, f"{FAN_OUT} --yes", LOOK)
    assert "4 slots" in page.run(0)
    page.start(1)
    page.outputs_hold(1, "of 400 tasks")
    page.outputs_hold(1, "s4")
    shown = page.text(1)
    assert "running" in shown
    assert "left" in shown
    assert "Say <b>" in shown, "the prompt's tags are text"
    assert page.page.locator(".jp-Cell").nth(1).locator("mjx-container").count() == 0, "a dollar became LaTeX"
    page.page.wait_for_function("() => /[1-9]\\d* done/.test(document.body.innerText)", timeout=10_000)
    began = time.monotonic()
    page.page.get_by_role("button", name="Cancel").click()
    page.end(1, 10_000)
    assert time.monotonic() - began < 3.0
    page.outputs_hold(1, "cancelled of 400 tasks")
    assert page.page.get_by_role("button", name="Cancel").count() == 0
    looked = page.run(2)
    assert "rows 400" in looked
    assert "'cancelled', 'completed'" in looked
    assert "widgets 0" in looked
    assert "alive completed same processes True restarts 0" in looked
    assert not page.errors


@pytest.mark.parametrize("start", [START, pytest.param(REAL, marks=pytest.mark.cli)], ids=["demo", "real CLI"])
def test_interrupt_stops_raises_and_leaves_the_sessions(open_page: Any, start: str) -> None:
    """■ ends the cell with a KeyboardInterrupt, keeps all rows, and the same sessions answer the next prompt."""
    page = open_page(
        start,
        FAN_OUT.replace("df = %pool fan_out", "%pool fan_out --yes --into df"),
        LOOK,
    )
    page.run(0)
    page.start(1)
    page.page.wait_for_function("() => /[1-9]\\d* done/.test(document.body.innerText)", timeout=10_000)
    began = time.monotonic()
    page.page.locator("[data-jp-item-name='interrupt']").first.click()
    page.end(1, 10_000)
    assert time.monotonic() - began < 3.0
    page.outputs_hold(1, "KeyboardInterrupt")
    page.outputs_hold(1, "interrupted of 400 tasks")
    looked = page.run(2)
    assert "rows 400" in looked
    assert "'completed', 'interrupted'" in looked
    assert "widgets 0" in looked
    assert "alive completed same processes True restarts 0" in looked
    assert not page.errors


def test_pause_and_go_on(open_page: Any) -> None:
    """Pause stops the start of tasks while the cell waits, and the same button goes on to the end."""
    page = open_page(START, FAN_OUT.replace("400", "60"))
    page.run(0)
    page.start(1)
    page.page.get_by_role("button", name="Pause").click(timeout=10_000)
    page.outputs_hold(1, "by the Pause button")
    page.page.get_by_role("button", name="Go on").click()
    page.end(1, 30_000)
    page.outputs_hold(1, "60 completed of 60 tasks")
