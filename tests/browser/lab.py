"""A JupyterLab of its own, and a notebook in a browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
BROWSER = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
KERNEL_PYTHON = os.environ.get("CLAUDE_POOL_NB_TEST_KERNEL", sys.executable)
"""The Python whose kernels run the notebooks: another one has another ipykernel."""
KERNEL = "pool-tests"
"""The name of that kernel: `python3` would be the server's own."""
PATIENCE_MS = 30_000
"""For what takes a moment where nobody else keeps the machine busy."""
SCREENSHOTS = os.environ.get("CLAUDE_POOL_NB_SCREENSHOTS")
"""The folder in which screenshots are kept; none are taken without it."""


def kernel_version() -> tuple[int, ...]:
    """The version of ipykernel that runs the notebooks."""
    told = subprocess.run(
        [KERNEL_PYTHON, "-c", "import ipykernel; print(ipykernel.__version__)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return tuple(int(part) for part in told.stdout.strip().split(".")[:2])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


HAS_KERNEL = (
    "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.connectionStatus === 'connected'"
)
"""Whether the notebook in front is connected to its kernel."""


class Server:
    """A running JupyterLab."""

    def __init__(self, address: str, folder: Path) -> None:
        self.address = address
        self.folder = folder

    def request(self, method: str, path: str, body: object = None) -> Any:
        """Ask its REST interface."""
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(
            f"{self.address}{path}", data, {"Content-Type": "application/json"}, method=method
        )
        with urllib.request.urlopen(asked, timeout=20) as reply:
            text = reply.read()
        return json.loads(text) if text else None

    def end_kernels(self) -> None:
        """End what notebooks have left running."""
        for session in self.request("GET", "/api/sessions"):
            self.request("DELETE", f"/api/sessions/{session['id']}")

    def theme(self, name: str) -> None:
        """`JupyterLab Light` or `JupyterLab Dark`, from the next page on."""
        raw = json.dumps({"theme": name})
        self.request("PUT", "/lab/api/settings/@jupyterlab/apputils-extension:themes", {"raw": raw})


@contextmanager
def server(home: Path, environment: Mapping[str, str]) -> Iterator[Server]:
    """A JupyterLab whose home, settings and notebooks are below `home`."""
    port = _free_port()
    folder = home / "notebooks"
    folder.mkdir()
    spec = home / "data" / "kernels" / KERNEL / "kernel.json"
    spec.parent.mkdir(parents=True)
    argv = [KERNEL_PYTHON, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec.write_text(json.dumps({"argv": argv, "display_name": "Tests", "language": "python"}))
    dropped = ("PYTEST_", "CI")
    env = {name: value for name, value in environment.items() if not name.startswith(dropped)}
    env |= {"PYTHONPATH": str(ROOT), "HOME": str(home), "XDG_DATA_HOME": str(home / "xdg")}
    env |= {"JUPYTER_CONFIG_DIR": str(home / "config"), "JUPYTER_DATA_DIR": str(home / "data")}
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"),
        *("--IdentityProvider.token=", "--ServerApp.password=", f"--ServerApp.root_dir={folder}"),
        *("--ServerApp.disable_check_xsrf=True", "--LabApp.extension_manager=readonly", "--LabApp.news_url="),
        *("--LabApp.expose_app_in_browser=True", "--JupyterNotebookApp.expose_app_in_browser=True"),
    ]
    path = home / "lab.log"
    with path.open("wb") as log:
        process = subprocess.Popen(command, env=env, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
        made = Server(f"http://127.0.0.1:{port}", folder)
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    made.request("GET", "/api")
                    break
                except OSError:
                    assert process.poll() is None, path.read_text()
                    assert time.monotonic() < deadline, path.read_text()
                    time.sleep(0.1)
            quiet = {"raw": json.dumps({"fetchNews": "false"})}
            made.request("PUT", "/lab/api/settings/@jupyterlab/apputils-extension:notification", quiet)
            yield made
        finally:
            process.terminate()
            process.wait(60)


def write_notebook(path: Path, cells: list[str]) -> None:
    """A notebook with these cells, not executed."""
    made = [
        {"cell_type": "code", "id": f"c{i}", "metadata": {}, "source": cell, "outputs": [], "execution_count": None}
        for i, cell in enumerate(cells)
    ]
    kernel = {"name": KERNEL, "display_name": "Tests", "language": "python"}
    content = {"cells": made, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(content))


class Page:
    """A notebook in a browser, in JupyterLab (`front="doc/tree"`) or in Notebook 7 (`front="notebooks"`)."""

    def __init__(self, page: Any, lab: Server, name: str = "t.ipynb", *, front: str = "doc/tree") -> None:
        self.page = page
        self.lab = lab
        self.front = front
        self.path = lab.folder / name
        self.errors: list[str] = []
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.set_default_timeout(PATIENCE_MS)
        page.add_locator_handler(page.locator(".jp-Dialog").first, self._refuse)
        self.open()

    @staticmethod
    def _refuse(dialog: Any) -> None:
        """No test expects a dialog: it would only be seen as something else that is late."""
        raise AssertionError(f"JupyterLab asks: {dialog.inner_text()}")

    def open(self) -> None:
        """Load the page, also again."""
        self.page.goto(f"{self.lab.address}/{self.front}/{self.path.name}?reset")
        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)

    def connected(self) -> None:
        """Wait until the notebook is connected to its kernel, busy or not."""
        self.page.wait_for_function(HAS_KERNEL, timeout=2 * PATIENCE_MS)

    def cell(self, number: int) -> Any:
        """A cell."""
        return self.page.locator(".jp-Notebook .jp-Cell").nth(number)

    def start(self, cell: int) -> None:
        """Run a cell: the keys are pressed once, when there is a kernel to take them."""
        # Without one JupyterLab asks for it in a dialog; pressed again on suspicion, a cell runs twice.
        self.connected()
        before = self.prompt(cell)
        self.cell(cell).locator(".cm-content").first.click()
        self.page.keyboard.press("Control+Enter")
        script = (
            "([cell, before]) => document.querySelectorAll('.jp-Notebook .jp-Cell')[cell]"
            ".querySelector('.jp-InputPrompt').innerText.trim().replace(/:$/, '') !== before"
        )
        self.page.wait_for_function(script, arg=[cell, before])

    def end(self, cell: int, timeout_ms: int = 60_000) -> None:
        """Wait until a cell is done."""
        assert self._prompt(cell, r"\[\d+\]", timeout_ms), f"cell {cell} did not end"

    def aborted(self, cell: int) -> None:
        """Wait until a cell that was queued behind another is not to be run any more."""
        assert self._prompt(cell, r"\[ \]", PATIENCE_MS), f"cell {cell} is still queued, or ran"

    def run(self, cell: int) -> str:
        """Run a cell to its end; returns its text."""
        self.start(cell)
        self.end(cell)
        return self.text(cell)

    def text(self, cell: int) -> str:
        """The text of a cell's outputs."""
        return str(self.cell(cell).locator(".jp-Cell-outputArea").inner_text())

    def prompt(self, cell: int) -> str:
        """What stands beside a cell's input: `[ ]`, `[*]`, `[3]`."""
        return str(self.cell(cell).locator(".jp-InputPrompt").first.inner_text()).strip().rstrip(":")

    def _prompt(self, cell: int, wanted: str, timeout_ms: int) -> bool:
        from playwright.sync_api import TimeoutError as TooLate

        script = (
            "([cell, wanted]) => new RegExp(wanted).test("
            "document.querySelectorAll('.jp-Notebook .jp-Cell')[cell].querySelector('.jp-InputPrompt').innerText)"
        )
        try:
            self.page.wait_for_function(script, arg=[cell, wanted], timeout=timeout_ms)
        except TooLate:
            return False
        return True

    def shows(self, cell: int, pattern: str, timeout_ms: int = PATIENCE_MS) -> str:
        """Wait until the text of a cell's outputs matches; returns what matched."""
        script = (
            "([cell, wanted]) => { const area = document.querySelectorAll('.jp-Notebook .jp-Cell')[cell]"
            "?.querySelector('.jp-Cell-outputArea'); const found = area && area.innerText.match(new RegExp(wanted));"
            " return found && found[0]; }"
        )
        from playwright.sync_api import TimeoutError as TooLate

        try:
            found = self.page.wait_for_function(script, arg=[cell, pattern], timeout=timeout_ms)
        except TooLate:
            raise AssertionError(f"cell {cell} never showed {pattern!r} but {self.text(cell)!r}") from None
        return str(found.json_value())

    def click(self, name: str, cell: int) -> None:
        """Press a button of a cell's output."""
        self.cell(cell).get_by_role("button", name=name).first.click()

    def buttons(self, name: str, cell: int) -> Any:
        """The buttons of that name in a cell's output."""
        return self.cell(cell).get_by_role("button", name=name)

    def enter(self, label: str, value: str, cell: int) -> None:
        """Fill a field of a cell's output and press Enter."""
        field = self.cell(cell).get_by_label(label).first
        field.fill(value)
        field.press("Enter")

    def interrupt(self) -> None:
        """Press ■."""
        self.page.locator("[data-jp-item-name='interrupt']").first.click()

    def save(self) -> dict[str, Any]:
        """Save the notebook; returns what is in its file then."""
        before = self.path.stat().st_mtime_ns
        self.page.keyboard.press("Escape")
        self.page.keyboard.press("Control+s")
        deadline = time.monotonic() + 20
        while True:
            assert time.monotonic() < deadline, "the notebook was not saved"
            if self.path.stat().st_mtime_ns != before:
                try:
                    content: dict[str, Any] = json.loads(self.path.read_text())
                except json.JSONDecodeError:  # it is being written
                    pass
                else:
                    return content
            time.sleep(0.05)

    def picture(self, name: str, cell: int | None = None) -> None:
        """Keep a screenshot of a cell's output, or of the page, if screenshots are asked for."""
        if SCREENSHOTS is None:
            return
        folder = Path(SCREENSHOTS)
        folder.mkdir(parents=True, exist_ok=True)
        assert re.fullmatch(r"[a-z0-9-]+", name)
        what = self.page if cell is None else self.cell(cell).locator(".jp-Cell-outputArea")
        what.screenshot(path=str(folder / f"{name}.png"), animations="disabled")
