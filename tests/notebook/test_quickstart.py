"""The notebooks give what is saved in them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
EACH = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@EACH
@pytest.mark.timeout(180)
def test_a_notebook_gives_what_is_saved_in_it(path: Path) -> None:
    """Nbval runs every cell and compares its outputs with the saved ones."""
    modules = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval", "--nbval-current-env"),
            *("--nbval-sanitize-with", str(ROOT / "tests" / "notebook" / "nbval_sanitize.cfg"), str(path)),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": modules},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


@EACH
def test_a_notebook_is_saved_with_outputs_and_without_errors(path: Path) -> None:
    """What a reader sees on GitHub: answers below the cells, no widget that needs a kernel, no error."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    assert len(outputs) > 20
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert "widgets" not in notebook["metadata"]
    assert "vnd.jupyter.widget" not in json.dumps(outputs)
    assert "/home/" not in path.read_text(encoding="utf-8")
