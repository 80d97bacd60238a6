"""Execute a notebook headless and show what it shows: the same notebook a person opens is what CI runs.

Invariants: the notebook file is not changed; its kernel sees a ledger of its own that is gone afterwards; a cell that
raises ends the run with that cell and its error.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from claude_pool_nb.errors import ConfigError, MissingExtra, PoolError


class NotebookFailed(PoolError):
    """A cell of the notebook raised; the message holds the cell and its error. Mend it and execute it again."""


@dataclass(frozen=True, slots=True)
class ExecutedNotebook:
    """A notebook after its execution."""

    path: Path
    """The file it is from."""
    code_cells: int
    """How many cells were executed."""
    tables: tuple[str, ...]
    """Every DataFrame it showed, as text."""
    duration_s: float
    """From the kernel's start to its end."""
    notebook: Any
    """The executed notebook itself (nbformat)."""


def execute_notebook(
    path: str | Path, *, timeout_s: float = 120.0, environment: Mapping[str, str] | None = None
) -> ExecutedNotebook:
    """Execute a notebook in a fresh kernel of this Python.

    Args:
        path: The notebook; relative paths in it are taken from its folder.
        timeout_s: Time for each cell.
        environment: More environment for the kernel.

    Raises:
        ConfigError: there is no such file.
        NotebookFailed: a cell raised or took too long.
        MissingExtra: nbclient is not installed.
    """
    from jupyter_client.manager import AsyncKernelManager

    try:
        import nbformat
        from nbclient import NotebookClient
        from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
    except ImportError as error:
        raise MissingExtra(
            f"Notebooks are executed by nbclient, which cannot be imported ({error}): pip install nbclient"
        ) from error

    file = Path(path).expanduser()
    if not file.is_file():
        raise ConfigError(f"there is no notebook {file}; give the path of an .ipynb file")
    notebook: Any = nbformat.reads(file.read_text("utf-8"), as_version=4)  # type: ignore[no-untyped-call]
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="claude-pool-nb-") as private:
        ledger = {"CLAUDE_POOL_NB_STORE": str(Path(private) / "ledger.sqlite")}
        manager = AsyncKernelManager(kernel_name="python3")
        if manager.kernel_spec is not None:
            manager.kernel_spec.argv[0] = sys.executable  # this environment's, whichever kernels are installed
        client = NotebookClient(
            notebook,
            km=manager,
            timeout=round(timeout_s),
            extra_arguments=["--log-level=40"],  # errors only: the kernel's notices are not the notebook's
            resources={"metadata": {"path": str(file.parent.absolute())}},
        )
        try:
            client.execute(env={**os.environ, **ledger, **(environment or {})})
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            raise NotebookFailed(f"{file}: {error}") from error
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return ExecutedNotebook(
        path=file,
        code_cells=len(cells),
        tables=tuple(_tables(cells)),
        duration_s=time.monotonic() - began,
        notebook=notebook,
    )


def _tables(cells: list[Any]) -> list[str]:
    """The texts of all DataFrames among the outputs."""
    data = [output.get("data", {}) for cell in cells for output in cell.get("outputs", [])]
    return [str(each["text/plain"]) for each in data if 'class="dataframe"' in str(each.get("text/html", ""))]


def main(arguments: list[str]) -> int:
    """Execute notebooks and print their tables: `python -m claude_pool_nb.testing.notebooks FILE...`."""
    if not arguments or arguments[0] in {"-h", "--help"}:
        print("usage: python -m claude_pool_nb.testing.notebooks NOTEBOOK...")
        return 0 if arguments else 2
    for argument in arguments:
        try:
            executed = execute_notebook(argument)
        except PoolError as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
            return 1
        for table in executed.tables:
            print(f"{table}\n")
        print(f"{executed.path}: {executed.code_cells} cells in {executed.duration_s:.1f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
