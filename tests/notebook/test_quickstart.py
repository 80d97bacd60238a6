"""The quickstart gives what is saved in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "notebooks" / "00_quickstart.ipynb"


@pytest.mark.timeout(180)
def test_quickstart_gives_what_is_saved_in_it() -> None:
    """Nbval runs every cell and compares its outputs with the saved ones."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval", "--nbval-current-env"),
            *("--nbval-sanitize-with", str(ROOT / "tests" / "notebook" / "nbval_sanitize.cfg"), str(QUICKSTART)),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_quickstart_is_saved_with_outputs_and_without_errors() -> None:
    """What a reader sees on GitHub: answers below the cells, no widget that needs a kernel, no error."""
    notebook = json.loads(QUICKSTART.read_text(encoding="utf-8"))
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    assert len(outputs) > 20
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert "widgets" not in notebook["metadata"]
    assert "vnd.jupyter.widget" not in json.dumps(outputs)
    assert "/home/" not in QUICKSTART.read_text(encoding="utf-8")
