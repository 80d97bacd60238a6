"""The README is true: its Python blocks run in order on the demo session, and print what is printed below them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from traitlets.config import Config

README = Path(__file__).parents[2] / "README.md"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass
class Block:
    """A fenced block of Python, and the output that follows it at once."""

    source: str
    output: str | None


def blocks(text: str) -> list[Block]:
    """The Python blocks of a Markdown text."""
    found: list[Block] = []
    end = -1
    for fence in FENCE.finditer(text):
        language, body = fence.groups()
        if language == "python":
            found.append(Block(body.rstrip("\n"), None))
        elif language == "text" and found and text[end : fence.start()].strip() == "":
            found[-1].output = body
        end = fence.end()
    return found


def steady(output: str) -> str:
    """An output without what differs between two runs: times, dates, versions, starting slots, spaces at line ends."""
    output = output.replace(" starting\n", " idle\n")
    output = re.sub(r"\d+\.\d+ s\b", "N s", output)
    output = re.sub(r"\d{4}-\d\d-\d\d", "DATE", output)
    output = re.sub(r"genai-prices \d+\.\d+\.\d+", "genai-prices VERSION", output)
    output = output.replace("<NA>", " NaN")  # as pandas 2 shows it
    return "\n".join(line.rstrip() for line in output.strip().splitlines())


def run(shell: InteractiveShell, source: str) -> str:
    """Run a cell; what it printed, displayed and gave, as text."""
    with capture_output() as captured:
        done = shell.run_cell(source)
    done.raise_error()
    displayed = [output.data.get("text/plain", "") for output in captured.outputs]
    printed = re.sub(r"^Out\[\d+\]: ?\n?", "", captured.stdout, flags=re.MULTILINE)
    return "\n".join(part.strip("\n") for part in [*displayed, printed] if part.strip())


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    """A shell for a notebook named reviews.ipynb, on whose machine the demo is the default."""
    monkeypatch.setenv("JPY_SESSION_NAME", "reviews.ipynb")
    monkeypatch.setenv("CLAUDE_POOL_NB_BACKEND", "demo")
    InteractiveShell.clear_instance()
    yield InteractiveShell.instance(colors="nocolor", config=Config({"HistoryManager": {"enabled": False}}))
    InteractiveShell.clear_instance()


def test_python_blocks_run_and_print_what_is_below_them(shell: InteractiveShell) -> None:
    """Whoever types the README's cells in order sees the README's outputs."""
    found = blocks(README.read_text(encoding="utf-8"))
    assert len(found) >= 6
    try:
        for block in found:
            output = run(shell, block.source)
            if block.output is not None:
                assert steady(output) == steady(block.output), block.source
    finally:
        shell.run_line_magic("unload_ext", "claude_pool_nb")


def test_readme_links_to_files_that_exist() -> None:
    """No link of the README leads nowhere."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (README.parent / link).exists()] == []
