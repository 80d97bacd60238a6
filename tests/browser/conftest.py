"""A JupyterLab for all browser tests, whose kernels reach no other API than the scripted one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import pytest

from claude_pool_nb.testing import ScriptedAPI
from tests.browser.lab import BROWSER, CHROMIUM, Page, Server, server, write_notebook

NEEDED = ("jupyterlab", "notebook", "playwright")
MISSING = (
    "no chromium on PATH"
    if CHROMIUM is None
    else next((f"{name} is not installed" for name in NEEDED if find_spec(name) is None), "")
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all of them, and skip them with a reason where there is no browser."""
    for item in items:
        if "browser" in item.path.parts:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.timeout(240))
            if MISSING:
                item.add_marker(pytest.mark.skip(reason=MISSING))


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The JupyterLab."""
    home = tmp_path_factory.mktemp("lab")
    with ScriptedAPI() as api:
        api.reply("An answer.")
        api.latency_s = 0.3  # slow enough to be watched
        with server(home, api.env(home)) as made:
            yield made


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """The browser, for one module: while it lives its driver keeps a loop running, and no test can have another."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=BROWSER)
        yield browser
        browser.close()


Open = Callable[..., Page]


@pytest.fixture
def open_page(lab: Server, chromium: Any, request: pytest.FixtureRequest) -> Iterator[Open]:
    """Opens a new notebook with these cells, or the latest one again, in a page so wide."""
    contexts = []
    names = iter(range(1, 100))
    latest = ""

    def opened(*cells: str, width: int = 1200, height: int = 1000, front: str = "doc/tree") -> Page:
        nonlocal latest
        context = chromium.new_context(viewport={"width": width, "height": height})
        contexts.append(context)
        if cells:
            latest = f"{request.node.name.partition('[')[0]}-{next(names)}.ipynb"
            write_notebook(lab.folder / latest, list(cells))
        return Page(context.new_page(), lab, latest, front=front)

    yield opened
    for context in contexts:
        context.close()
    lab.end_kernels()
