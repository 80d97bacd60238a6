"""A saved notebook says what happened, without a kernel, scripts or widgets."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
import pytest

from tests.notebook.kernels import ROOT

nbclient = pytest.importorskip("nbclient")
nbconvert = pytest.importorskip("nbconvert")


def test_every_run_is_in_the_page_of_a_saved_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five runs watched in live views leave five static lines, escaped answers, and no state of a widget."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    said = "'<script>document.title = 1</script> for $5 and $6'"
    cells = [
        "%load_ext claude_pool_nb\n%pool start --backend demo --store :memory: --demo-latency-s 0.3",
        "%config PoolMagics.live = 'widget'",
        *(f"df = %pool fan_out [{said}] * 8" for _ in range(4)),
        f"%pool run Repeat {said}",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    client = nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3")
    client.create_kernel_manager()
    client.km.kernel_spec.argv[0] = sys.executable
    client.execute()
    page, _ = nbconvert.HTMLExporter().from_notebook_node(notebook)
    for number in range(1, 5):
        assert f">r{number}</span></b>: 8 completed of 8 tasks" in page
    assert ">r5</span></b>: 1 completed of 1 task" in page
    kinds = {kind for cell in notebook.cells for output in cell.outputs for kind in output.get("data", {})}
    assert kinds == {"text/html", "text/plain", "text/markdown"}
    shown = "".join(output["data"].get("text/html", "") for cell in notebook.cells for output in cell.outputs)
    assert "<script" not in shown
    assert "<script>document" not in page
