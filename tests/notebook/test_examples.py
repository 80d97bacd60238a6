"""The example notebooks give what is saved in them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

each_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)


@each_notebook
@pytest.mark.timeout(180)
def test_a_notebook_gives_what_is_saved_in_it(notebook: Path) -> None:
    """Nbval runs every cell and compares its outputs with the saved ones."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval", "--nbval-current-env"),
            *("--nbval-sanitize-with", str(ROOT / "tests" / "notebook" / "nbval_sanitize.cfg"), str(notebook)),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


@each_notebook
def test_a_notebook_is_saved_with_outputs_and_without_errors(notebook: Path) -> None:
    """What a reader sees on GitHub: answers below the cells, no widget that needs a kernel, no unmeant error."""
    text = notebook.read_text(encoding="utf-8")
    saved = json.loads(text)
    shown = 0
    for cell in saved["cells"]:
        outputs = cell.get("outputs", [])
        shown += len(outputs)
        if "raises-exception" not in cell["metadata"].get("tags", []):
            assert not [output for output in outputs if output["output_type"] == "error"]
        assert "vnd.jupyter.widget" not in json.dumps(outputs)
    assert shown > 10
    assert "widgets" not in saved["metadata"]
    assert "/home/" not in text
    assert len(text) < 1_000_000
