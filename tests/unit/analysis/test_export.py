"""What is exported comes back, does nothing to the program that opens it, and says where it is from."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from claude_pool_nb import Pool, Run
from claude_pool_nb.analysis import export, files
from claude_pool_nb.analysis.columns import TEXT
from claude_pool_nb.analysis.export import FORMATS, export_frame
from claude_pool_nb.errors import ConfigError, MissingExtra, RunNotFound

KEY = "sk-ant-api03-abcdefgh12345678"
EVIL = [
    '=HYPERLINK("http://a.b","x")', "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "＝1", "<script>alert(1)</script>",
    "a | b\nc", "![i](http://a.b/c.png) [l](http://a.b) $x$ `c`", f"my key is {KEY}", "#N/A", "bell \x07 \x1b[31mred",
    "\u2028 line \u202e turned",
]  # fmt: skip
TAME = ["-3", "+4.5", "-1e-9", "", " =1", "plain", "x=1"]


@pytest.fixture
def pool() -> Iterator[Pool]:
    """A demo pool."""
    with Pool(backend="demo", demo_latency_s=0, store=":memory:", slots=2) as made:
        yield made


@pytest.fixture
def run(pool: Pool) -> Run:
    """A map over a table of many types, with an index of its own."""
    table = pd.DataFrame(
        {
            "text": ["I love it", "I hate it", "it is a table"],
            "n": pd.array([1, None, 3], dtype="Int64"),
            "share": [0.1, float("nan"), -2.5],
            "day": pd.date_range("2026-03-28", periods=3, tz="Europe/Berlin"),
            "kind": pd.Categorical(["b", "a", None], categories=["a", "b", "c"], ordered=True),
        },
        index=pd.Index(["x", "y", "z"], name="key"),
    )
    return pool.map(table, "Classify: {{ text }}", grid={"model": ["demo-small", "demo-large"]}, tags=["t1"])


def texts(path: Path) -> pd.DataFrame:
    """Write the evil and the tame texts."""
    frame = pd.DataFrame({"text": [*EVIL, *TAME], "n": range(-3, len(EVIL) + len(TAME) - 3)})
    export_frame(frame, path)
    return frame


# -- there and back ----------------------------------------------------------------------------------------------------


def test_parquet_comes_back_equal(run: Run, tmp_path: Path) -> None:
    """Types, categories with those that do not occur, their order, time zones, index, attrs."""
    pytest.importorskip("pyarrow")
    back = pd.read_parquet(run.export(tmp_path / "a.parquet"))
    frame = pd.DataFrame(run.frame)
    # pandas itself forgets the type of the words of a category of which nothing occurs; before version 3, of any.
    categories = [name for name in frame if str(frame[name].dtype) == "category"]
    forgotten = [name for name in categories if TEXT == "string" or frame[name].isna().all()]
    assert TEXT == "string" or set(forgotten) <= {"failure_kind", "error_type"}
    for name in forgotten:
        back[name] = back[name].astype(frame[name].dtype)
    pd.testing.assert_frame_equal(back, frame)
    assert back.attrs == {"run_id": run.id}
    assert back["kind"].cat.categories.tolist() == ["a", "b", "c"]
    assert back["kind"].cat.ordered
    assert back["state"].cat.categories.equals(frame["state"].cat.categories)


@pytest.mark.parametrize("form", ["csv", "jsonl", "xlsx"])
def test_values_come_back_from_what_spreadsheets_and_scripts_read(run: Run, tmp_path: Path, form: str) -> None:
    """Every row and column is there; numbers are numbers and the same ones; what is missing is missing."""
    if form == "xlsx":
        pytest.importorskip("openpyxl")
    path = run.export(tmp_path / f"a.{form}")
    frame = pd.DataFrame(run.frame).reset_index()
    readers: dict[str, Any] = {
        "csv": pd.read_csv, "xlsx": pd.read_excel, "jsonl": lambda file: pd.read_json(file, lines=True),
    }  # fmt: skip
    back = readers[form](path)
    assert list(back.columns) == list(frame.columns)
    assert back["prompt"].tolist() == frame["prompt"].tolist()
    assert back["key"].tolist() == ["x", "x", "y", "y", "z", "z"]
    for name in ("cost_usd", "wait_s", "share", "input_tokens"):
        assert back[name].tolist() == pytest.approx(frame[name].astype(float).tolist(), nan_ok=True, rel=1e-14), name
    assert back["n"].isna().tolist() == frame["n"].isna().tolist()
    assert back["error"].isna().all()
    began = pd.to_datetime(back["started_at"], utc=True)
    assert (began - frame["started_at"]).abs().max() < pd.Timedelta("1ms")


# -- harmless ----------------------------------------------------------------------------------------------------------


def test_a_csv_has_no_formula_and_its_numbers_are_numbers(tmp_path: Path) -> None:
    """Texts that begin like a formula get an apostrophe; plain numbers, signs and all, get none."""
    path = tmp_path / "a.csv"
    frame = texts(path)
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(frame)
    for row, text, number in zip(rows, frame["text"], frame["n"], strict=True):
        assert row["n"] == str(number)
        evil = text[:1] in set("=+-@\t\r＝") and text not in TAME
        assert row["text"].startswith("'") is evil
    assert [row["text"] for row in rows[-len(TAME) :]] == TAME


def test_a_name_of_a_column_is_no_formula_either(tmp_path: Path) -> None:
    """Columns and index labels of the caller are text too."""
    frame = pd.DataFrame({"=1+1": ["a"]}, index=pd.Index(["@x"], name="+k"))
    assert export_frame(frame, tmp_path / "a.csv").read_text() == "'+k,'=1+1\n'@x,a\n"


def test_a_sheet_has_no_formula_and_keeps_its_texts(tmp_path: Path) -> None:
    """Cells say that they are text, so that what they hold need not change; #N/A is a word, not an error."""
    openpyxl = pytest.importorskip("openpyxl")
    path = tmp_path / "a.xlsx"
    frame = texts(path)
    sheet = openpyxl.load_workbook(path)["data"]
    cells = list(sheet.iter_rows(min_row=2))
    assert {row[0].data_type for row in cells} <= {"s", "n", "inlineStr"}
    assert all(row[0].data_type != "n" for row, text in zip(cells, frame["text"], strict=True) if text)
    assert [row[1].value for row in cells] == frame["n"].tolist()
    assert cells[0][0].value == EVIL[0]
    assert cells[0][0].quotePrefix
    assert not cells[-2][0].quotePrefix
    assert cells[EVIL.index("#N/A")][0].value == "#N/A"


class Tags(HTMLParser):
    """The tags of a page and the texts of its cells."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.cells: list[str] = []
        self.in_cell = False

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        """Note it."""
        self.tags.append(tag)
        if tag == "td":
            self.in_cell = True
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        """Note the end of a cell."""
        self.in_cell = self.in_cell and tag != "td"

    def handle_data(self, data: str) -> None:
        """Note the text of a cell."""
        if self.in_cell:
            self.cells[-1] += data


def test_a_page_shows_texts_and_runs_nothing(tmp_path: Path) -> None:
    """No tag comes of a cell, no terminal code, no turned-round line; each text is a cell."""
    path = tmp_path / "a.html"
    texts(path)
    page = Tags()
    page.feed(path.read_text("utf-8"))
    assert not {"script", "img", "a", "iframe", "svg", "link"} & set(page.tags)
    assert "<script>alert(1)</script>" in page.cells
    assert not {"\x1b", "\x07", "\u202e"} & set(path.read_text("utf-8"))
    assert "default-src 'none'" in path.read_text("utf-8")


def test_a_markdown_table_has_a_line_for_each_row(tmp_path: Path) -> None:
    """Bars and line breaks do not break it; no image, link, code, formula or tag comes of a cell."""
    path = tmp_path / "a.md"
    frame = texts(path)
    text = path.read_text("utf-8")
    lines = [line for line in text.split("\n") if line.startswith("| ")]
    assert len(lines) == 1 + 1 + len(frame)
    assert all(line.replace("\\|", "").count("|") == 3 for line in lines)
    for active in ("<script", "![i](", "[l](", " `c`", "$x$", "http://"):
        assert active not in text


@pytest.mark.parametrize("form", FORMATS)
def test_no_secret_leaves(tmp_path: Path, form: str) -> None:
    """Keys in texts, nested values, categories and metadata are taken out, in every format."""
    frame = pd.DataFrame(
        {"text": [KEY, "b"], "nested": [{"key": [KEY]}, None], "kind": pd.Categorical([f"use {KEY}", "b"])}
    )
    for library in {"parquet": ["pyarrow"], "xlsx": ["openpyxl"]}.get(form, []):
        pytest.importorskip(library)
    path = export_frame(frame, tmp_path / f"a.{form}", about={"runs": [{"run_id": "r1", "template": f"say {KEY}"}]})
    written = [file for file in tmp_path.iterdir() if file.is_file()]
    if form == "xlsx":
        written = _unzipped(path)
    elif form == "parquet":
        back = pd.read_parquet(path)
        assert KEY not in back.to_json()
    assert KEY.encode() not in b"".join(file.read_bytes() for file in written)
    assert frame["text"][0] == KEY, "the caller's frame is his own"


def _unzipped(path: Path) -> list[Path]:
    import zipfile

    folder = path.with_suffix("")
    zipfile.ZipFile(path).extractall(folder)
    return [file for file in folder.rglob("*") if file.is_file()]


def test_nested_and_mixed_values_are_texts(tmp_path: Path) -> None:
    """Lists and dicts are JSON in every format; what has no common type is text in parquet."""
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"nested": [[1, {"a": "ä"}], None], "mixed": [1, "a"], "set": [{"b", "a"}, None]})
    for form in ("csv", "jsonl", "parquet"):
        export_frame(frame, tmp_path / f"a.{form}")
    parquet = pd.read_parquet(tmp_path / "a.parquet")
    assert json.loads(parquet["nested"][0]) == [1, {"a": "ä"}]
    assert parquet["mixed"].tolist() == ["1", "a"]
    first = json.loads((tmp_path / "a.jsonl").read_text("utf-8").splitlines()[0])
    assert first == {"nested": '[1, {"a": "ä"}]', "mixed": 1, "set": '["a", "b"]'}
    assert pd.read_csv(tmp_path / "a.csv")["set"].tolist()[0] == '["a", "b"]'


def test_a_line_of_jsonl_is_a_line_to_every_reader(tmp_path: Path) -> None:
    """Unicode's own line breaks are written as escapes."""
    path = export_frame(pd.DataFrame({"text": ["a\u2028b\x85c\nd", "e"]}), tmp_path / "a.jsonl")
    lines = path.read_text("utf-8").splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["a\u2028b\x85c\nd", "e"]


def test_a_sheet_cuts_what_no_cell_holds_and_says_so(tmp_path: Path) -> None:
    """Long texts, time zones, large and infinite numbers, control characters."""
    openpyxl = pytest.importorskip("openpyxl")
    frame = pd.DataFrame(
        {
            "text": ["x" * 40_000, "bell \x07"],
            "when": pd.to_datetime(["2026-07-01 12:00", None]).tz_localize("Europe/Berlin"),
            "large": [2**60, 1],
            "share": [float("inf"), 0.5],
        }
    )
    book = openpyxl.load_workbook(export_frame(frame, tmp_path / "a.xlsx"))
    first, second = ([cell.value for cell in row] for row in book["data"].iter_rows(min_row=2))
    assert len(first[0]) == 32_767
    assert first[1:] == [pd.Timestamp("2026-07-01 10:00"), str(2**60), "inf"]
    assert second == ["bell \ufffd", None, 1, 0.5]
    about = [[cell.value for cell in row] for row in book["about"].iter_rows()]
    assert ["notes", "1 texts were cut to 32,767 characters, which is what a cell holds", None] in about
    assert ["when", str(frame["when"].dtype), "UTC"] in about


# -- what travels with it ----------------------------------------------------------------------------------------------


def about_of(path: Path) -> dict[str, Any]:
    """The metadata of an export."""
    if path.suffix == ".parquet":
        from pyarrow import parquet

        found: dict[str, Any] = json.loads(parquet.read_schema(path).metadata[export.METADATA_KEY])
    else:
        found = json.loads(path.with_name(path.name + export.SIDECAR).read_text("utf-8"))
    return found


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_metadata_says_what_made_the_data(run: Run, tmp_path: Path, form: str) -> None:
    """Models, tags, template, grid, prices, versions, money and the units of the columns."""
    about = about_of(run.export(tmp_path / f"a.{form}"))
    assert about["what"] == "tasks"
    assert about["rows"] == 6
    assert about["models"] == ["demo-large", "demo-small"]
    assert about["tags"] == ["t1"]
    assert about["money"] == "play money"
    assert about["prices_as_of"].startswith("genai-prices ")
    assert about["versions"]["claude-pool-nb"]
    assert "claude-cli" not in about["versions"]
    told = about["runs"][0]
    assert (told["run_id"], told["template"]) == (run.id, "Classify: {{ text }}")
    assert told["grid"] == {"model": ["demo-small", "demo-large"]}
    assert about["columns"]["cost_usd"] == {"type": "float64", "unit": "play dollars"}
    assert about["columns"]["wait_s"]["unit"] == "seconds"
    assert about["columns"]["day"]["unit"] == "Europe/Berlin"
    assert "unit" not in about["columns"]["prompt"]


@pytest.mark.parametrize("form", ["html", "md", "xlsx"])
def test_pages_and_sheets_say_it_too(run: Run, tmp_path: Path, form: str) -> None:
    """Where a person reads, the metadata stands with the data."""
    path = run.export(tmp_path / f"a.{form}")
    if form == "xlsx":
        book = pytest.importorskip("openpyxl").load_workbook(path)
        assert book.sheetnames == ["tasks", "about"]
        text = str([[cell.value for cell in row] for row in book["about"].iter_rows()])
    else:
        text = path.read_text("utf-8")
    for fact in ("play money", "demo-large", "t1", "genai-prices", "Classify: {{ text }}", "seconds"):
        assert fact in text


# -- what is exported --------------------------------------------------------------------------------------------------


def test_the_last_run_is_exported_unless_another_is_named(pool: Pool, tmp_path: Path) -> None:
    """None is the last run, `all` every one; attempts, events, runs and costs go the same way."""
    first = pool.fan_out(["a", "b"])
    pool.fan_out(["c"])
    counts = {
        name: len(pd.read_csv(pool.export(tmp_path / f"{name}.csv", given, what=what)))
        for name, given, what in (
            ("last", None, "tasks"), ("first", first, "tasks"), ("id", "r1", "tasks"), ("frame", first.frame, "tasks"),
            ("both", ["r2", "r1"], "tasks"), ("all", "all", "tasks"), ("attempts", "all", "attempts"),
            ("runs", "all", "runs"), ("cost", "r1", "cost"), ("metrics", "all", "metrics"),
        )
    }  # fmt: skip
    assert counts == {
        "last": 1, "first": 2, "id": 2, "frame": 2, "both": 3, "all": 3, "attempts": 3, "runs": 2, "cost": 1,
        "metrics": 1,
    }  # fmt: skip
    events = pd.read_csv(pool.export(tmp_path / "events.csv", "r2", what="events"))
    assert set(events["run_id"]) == {"r2"}
    assert len(pool.events()) > len(events) > 0


def test_columns_can_be_chosen(run: Run, tmp_path: Path) -> None:
    """In the order in which they are named; the index stays."""
    path = run.export(tmp_path / "a.csv", columns=["output", "text"])
    assert list(pd.read_csv(path).columns) == ["key", "output", "text"]
    assert set(about_of(path)["columns"]) == {"key", "output", "text"}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"path": "a.xls"}, "did you mean 'xlsx'"),
        ({"path": "a"}, r"end it in \.csv"),
        ({"path": "no/a.csv"}, "mkdir -p"),
        ({"path": "."}, "known ending"),
        ({"path": "folder.csv"}, "is a folder"),
        ({"path": "a.csv", "what": "taks"}, "did you mean 'tasks'"),
        ({"path": "a.csv", "columns": ["promt"]}, "did you mean 'prompt'"),
        ({"path": "a.csv", "columns": []}, "names no column"),
        ({"path": "a.csv", "by": "model"}, "by= is for the export of cost and metrics"),
    ],
)
def test_what_cannot_be_exported_is_said_and_writes_nothing(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], says: str
) -> None:
    """The message names the right word."""
    pool.fan_out(["a"])
    here = tmp_path / "here"
    (here / "folder.csv").mkdir(parents=True)
    monkeypatch.chdir(here)
    with pytest.raises(ConfigError, match=says):
        pool.export(**given)
    assert [file.name for file in here.iterdir()] == ["folder.csv"]


def test_an_empty_store_has_no_last_run(pool: Pool, tmp_path: Path) -> None:
    """It says how to make one; a run that is not there is told as everywhere."""
    with pytest.raises(RunNotFound, match="no run in this store yet"):
        pool.export(tmp_path / "a.csv")
    with pytest.raises(RunNotFound, match="no run r9"):
        pool.export(tmp_path / "a.csv", "r9")


@pytest.mark.parametrize(("form", "library"), [("parquet", "pyarrow.parquet"), ("xlsx", "openpyxl")])
def test_a_missing_library_is_named_with_its_extra(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, library: str
) -> None:
    """Before anything is written."""
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtra, match=r"pip install 'claude-pool-nb\[export\]'"):
        run.export(tmp_path / f"a.{form}")
    assert not (tmp_path / f"a.{form}").exists()


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_file_that_is_there_stays_unless_it_may_go(run: Run, tmp_path: Path) -> None:
    """Also the file with the metadata beside it."""
    path = tmp_path / "a.csv"
    path.write_text("mine")
    with pytest.raises(ConfigError, match="--force"):
        run.export(path)
    assert path.read_text() == "mine"
    run.export(path, overwrite=True)
    assert path.read_text() != "mine"
    path.unlink()
    with pytest.raises(ConfigError, match=r"a\.csv\.meta\.json exists"):
        run.export(path)
    assert not path.exists()


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    """An error in the middle leaves the old file, and nothing beside it."""
    path = tmp_path / "a.txt"
    path.write_text("old")

    def broken(file: Any) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(ConfigError, match="No space left"):
        files.written(path, broken, overwrite=True)
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["a.txt"]


def test_a_file_that_came_meanwhile_is_kept(tmp_path: Path) -> None:
    """Another program's file is not lost between the check and the move."""
    path = tmp_path / "a.txt"
    with pytest.raises(ConfigError, match="meanwhile"):
        files.written(path, lambda _file: path.write_text("theirs"))
    assert path.read_text() == "theirs"


@pytest.mark.skipif(os.name == "nt", reason="modes of POSIX")
def test_a_file_has_the_mode_of_the_users_umask(tmp_path: Path) -> None:
    """Not that of a temporary file; a file that is replaced keeps its own, and a link stays a link."""
    before = os.umask(0o027)
    try:
        path = files.written(tmp_path / "a.txt", lambda file: file.write(b"1"))
        assert path.stat().st_mode & 0o777 == 0o640
        path.chmod(0o600)
        link = tmp_path / "link.txt"
        link.symlink_to(path)
        files.written(link, lambda file: file.write(b"2"), overwrite=True)
        assert link.is_symlink()
        assert path.read_text() == "2"
        assert path.stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)
