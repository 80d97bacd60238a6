"""%pool plot and %pool export: pictures and files from a line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd
import pytest
from IPython.core.completer import provisionalcompleter
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from claude_pool_nb.errors import ConfigError, NothingToPlot, RunNotFound
from tests.notebook.conftest import Runner
from tests.notebook.kernels import ROOT

VEGALITE = "application/vnd.vegalite.v5+json"


def completions(shell: InteractiveShell, text: str) -> list[str]:
    """What Tab offers."""
    with provisionalcompleter():
        return [found.text for found in shell.Completer.completions(text, len(text))]


def test_each_plot_is_a_chart_with_its_frame(demo: Runner, shell: InteractiveShell) -> None:
    """It returns altair's chart, takes --into, and shows as a chart and in words."""
    pytest.importorskip("altair")
    demo("df = %pool fan_out ['I love it', 'I hate it', 'a table'] --tag night")
    for kind in ("gantt", "cost", "budget", "latency"):
        chart = demo(f"%pool plot {kind} --into figure").value
        assert demo("figure").value is chart
        assert isinstance(chart.data, pd.DataFrame)
        data, metadata = shell.display_formatter.format(chart)
        assert VEGALITE in data
        assert "play money" in data["text/plain"]
        assert "text/html" not in data, "JupyterLab would show it in place of its own chart"
        assert set(metadata) <= {"image/png"}
    assert demo("%pool plot cost --by tag").value.data["label"].tolist() == ["night"]
    assert len(demo("%pool plot gantt r1 --width 300 --theme dark").value.data) == 3


def test_a_plot_is_saved_where_the_line_says(demo: Runner, tmp_path: Path) -> None:
    """--save writes by the ending, and --force alone replaces."""
    pytest.importorskip("altair")
    demo("%pool run hello")
    path = tmp_path / "a plot.json"
    assert demo(f"%pool plot latency --save '{path}'").error is None
    assert "vega-lite" in json.loads(path.read_text())["$schema"]
    assert isinstance(demo(f"%pool plot latency --save '{path}'").error, ConfigError)
    assert demo(f"%pool plot latency --save '{path}' --force").error is None


@pytest.mark.parametrize(
    ("line", "error", "says"),
    [
        ("plot", UsageError, "KIND"),
        ("plot gant", UsageError, "did you mean gantt"),
        ("plot gantt --by model", UsageError, "--by is for cost and latency"),
        ("plot budget --play", UsageError, "--play and --real"),
        ("plot gantt", NothingToPlot, "no run in this store"),
        ("plot cost r9", RunNotFound, "no run r9"),
        ("plot cost --width 3", UsageError, "at least 160"),
        ("export", UsageError, "PATH"),
        ("export a.csv", RunNotFound, "no run in this store"),
        ("export a.doc", ConfigError, "no known ending"),
        ("export a.csv --what taks", UsageError, "did you mean tasks"),
    ],
)
def test_a_wrong_line_is_one_clear_error(demo: Runner, line: str, error: type[Exception], says: str) -> None:
    """Nothing is drawn or written."""
    failed = demo(f"%pool {line}").error
    assert isinstance(failed, error)
    assert says in str(failed)


def test_an_export_says_what_it_wrote(demo: Runner, tmp_path: Path) -> None:
    """The value is a small frame: file, rows, columns, size, and where the metadata is."""
    demo("df = %pool fan_out ['a', 'b']")
    path = tmp_path / "answers.csv"
    done = demo(f"%pool export {path} r1 --columns task_id,output --into told")
    assert done.error is None
    told = dict(zip(done.value["what"], done.value["value"], strict=True))
    assert told["file"] == str(path)
    assert told["rows"] == "2 tasks"
    assert told["columns"] == "2"
    assert told["about it"] == f"{path}.meta.json"
    assert pd.read_csv(path)["task_id"].tolist() == ["r1.1", "r1.2"]
    assert "--force" in str(demo(f"%pool export {path}").error)
    assert demo(f"%pool export {path} all --what attempts --force").error is None
    assert "duration_s" in pd.read_csv(path)


def test_kinds_runs_and_paths_are_completed(
    demo: Runner, shell: InteractiveShell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each place of a line what can stand there."""
    demo("%pool run a")
    demo("%pool run b")
    (tmp_path / "here" / "folder").mkdir(parents=True)
    (tmp_path / "here" / "file.csv").touch()
    (tmp_path / "here" / ".hidden").touch()
    monkeypatch.chdir(tmp_path / "here")
    assert completions(shell, "%pool plot ") == ["gantt", "cost", "budget", "latency"]
    assert completions(shell, "%pool plot ga") == ["gantt"]
    assert completions(shell, "%pool plot gantt ") == ["r2", "r1", "all"]
    assert completions(shell, "%pool plot --theme dark gantt r") == ["r2", "r1"]
    assert completions(shell, "%pool plot cost --by m") == ["model", "month"]
    assert completions(shell, "%pool plot --theme ") == ["auto", "light", "dark"]
    assert completions(shell, "%pool plot cost --save f") == ["file.csv", "folder/"]
    assert completions(shell, "%pool export ") == ["file.csv", "folder/"]
    assert completions(shell, "%pool export .") == [".hidden"]
    assert completions(shell, "%pool export file.csv ") == ["r2", "r1", "all"]
    assert completions(shell, "%pool export file.csv --what a") == ["attempts"]


def test_a_saved_notebook_shows_its_plots_without_a_kernel_or_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The picture is in the file, with its description; the page made of it loads no part of a chart."""
    pytest.importorskip("vl_convert")
    nbclient = pytest.importorskip("nbclient")
    nbconvert = pytest.importorskip("nbconvert")
    nbformat = pytest.importorskip("nbformat")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    cells = [
        "%load_ext claude_pool_nb\n%pool start --backend demo --store :memory: --demo-latency-s 0",
        "df = %pool fan_out ['I love it', 'I hate it']",
        "%pool plot gantt",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    client = nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3")
    client.create_kernel_manager()
    client.km.kernel_spec.argv[0] = sys.executable
    client.execute()
    (output,) = notebook.cells[-1].outputs
    assert set(output.data) == {VEGALITE, "image/png", "text/plain"}
    assert output.metadata["image/png"]["alt"].startswith("Gantt chart of r1: 2 attempts of 2 tasks")
    assert len(json.dumps(output)) < 200_000
    page, _ = nbconvert.HTMLExporter(template_name="classic").from_notebook_node(notebook)
    assert "data:image/png;base64," in page
    assert "Gantt chart of r1: 2 attempts of 2 tasks" in page
    assert "vega-embed" not in page
    assert "vega-lite" not in page
