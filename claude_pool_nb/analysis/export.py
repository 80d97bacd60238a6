r"""Frames as files: csv, parquet, jsonl, html, md, xlsx.

Invariants: a file is whole or not there; what is in it can do nothing: no cell is a formula to a spreadsheet, no text
is markup to a page, no secret is in it; numbers stay numbers; what is known of the data travels with it.

A text that a spreadsheet would take for a formula begins with one of = + - @, a tab or a line break. In csv, where
there is nothing but text, it gets an apostrophe in front (a plain number like -3 does not); in xlsx the cell says that
it is text, and keeps its text.
"""

from __future__ import annotations

import csv
import datetime as dt
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from claude_pool_nb.analysis import export_pages
from claude_pool_nb.analysis.files import place, written
from claude_pool_nb.errors import ConfigError, MissingExtra, nearest
from claude_pool_nb.redact import redact, redact_value

if TYPE_CHECKING:
    import pandas as pd

FORMATS = ("csv", "jsonl", "parquet", "xlsx", "html", "md")
"""Endings of files that can be written."""
SIDECAR = ".meta.json"
"""What is put behind the name of a csv or jsonl for the file with its metadata."""
METADATA_KEY = b"claude_pool_nb"
"""Where parquet keeps the metadata."""
XLSX_ROWS = 1_048_575
"""A sheet has no more rows, beside its head."""
XLSX_CHARS = 32_767
"""A cell has no more characters."""
_EXACT = 2**53
"""Larger whole numbers lose digits in a spreadsheet."""
_FORMULA = re.compile(r"[=+\-@\t\r\n＝＋－＠]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\Z")
_ILLEGAL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def form_of(path: str | Path) -> str:
    """The format of a file, by its ending.

    Raises:
        ConfigError: it is none of `FORMATS`.

    Example:
        >>> form_of("answers.CSV")
        'csv'
        >>> form_of("answers.xls")
        Traceback (most recent call last):
        claude_pool_nb.errors.ConfigError: 'answers.xls' has no known ending; did you mean 'xlsx'?
    """
    name = Path(path).name
    form = Path(path).suffix.lstrip(".").lower()
    if form not in FORMATS:
        hint = nearest(form, FORMATS) if form else f"; end it in .{', .'.join(FORMATS[:-1])} or .{FORMATS[-1]}"
        raise ConfigError(f"{name!r} has no known ending{hint}")
    return form


def export_frame(
    frame: pd.DataFrame,
    path: str | Path,
    *,
    about: Mapping[str, Any] | None = None,
    columns: Sequence[str] | None = None,
    overwrite: bool = False,
) -> Path:
    r"""Write a frame to a file, in the format of its ending.

    Parquet keeps types and categories, and comes back equal (a category of which nothing occurs comes back as one of
    objects; nested values are JSON text). Metadata is in parquet's schema, on xlsx's second sheet,
    at the head of html and md, and beside a csv or jsonl in a file of its own (`answers.csv.meta.json`).

    Args:
        frame: Any frame.
        path: It ends in one of `FORMATS`.
        about: What is known of it, as plain values.
        columns: Only these columns, in this order.
        overwrite: Replace files that exist.

    Returns:
        Where it was written.

    Raises:
        ConfigError: the ending is unknown, a file is there, its folder is not, or there is no such column.
        MissingExtra: a library for this format is not installed.

    Example:
        >>> import pandas as pd, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = export_frame(pd.DataFrame({"n": [-1], "text": ["=1+1"]}), f"{folder}/a.csv")
        ...     path.read_text(), path.with_name("a.csv.meta.json").exists()
        ("n,text\n-1,'=1+1\n", True)
    """
    form = form_of(path)
    beside = form in {"csv", "jsonl"}
    target = place(path, overwrite=overwrite)
    if beside:
        place(_sidecar(target), overwrite=overwrite)
    _WRITERS[form][0]()
    chosen = _chosen(frame, columns)
    clean = cleaned(chosen if form == "parquet" else _flat(chosen))
    known = redact_value({**(about or {}), "rows": len(clean), "columns": _described(clean, about or {})})
    write = _WRITERS[form][1]
    done = written(path, partial(write, frame=clean, about=known), overwrite=overwrite)
    if beside:
        text = json.dumps(known, ensure_ascii=False, indent=2, default=str)
        written(_sidecar(target), lambda file: file.write(f"{text}\n".encode()), overwrite=overwrite)
    return done


def _sidecar(path: Path) -> Path:
    """Where the metadata of a file without room for it goes."""
    return path.with_name(path.name + SIDECAR)


def _chosen(frame: pd.DataFrame, columns: Sequence[str] | None) -> pd.DataFrame:
    """Some of the columns."""
    if columns is None:
        return frame
    names = [columns] if isinstance(columns, str) else list(columns)
    if not names:
        raise ConfigError("columns= names no column; leave it out for all of them")
    for name in names:
        if name not in frame.columns:
            raise ConfigError(f"there is no column {name!r}{nearest(str(name), map(str, frame.columns))}")
    return frame[names]


def cleaned(frame: pd.DataFrame) -> pd.DataFrame:
    """A plain DataFrame without secrets: nested values are JSON text, texts can be written as UTF-8.

    Args:
        frame: Any frame; it is not changed.
    """
    import pandas as pd

    made = pd.DataFrame(frame).copy(deep=False)
    made.attrs = dict(frame.attrs)
    for position in range(made.shape[1]):
        column: Any = made.iloc[:, position]
        if isinstance(column.dtype, pd.CategoricalDtype):
            words = column.cat.categories
            if any(isinstance(word, str) and _safe(word) is not word for word in words):
                made.isetitem(position, column.astype(object).map(_safe_value, na_action="ignore"))
        elif column.dtype == object:
            nested = any(isinstance(value, dict | list | tuple | set) for value in column)
            made.isetitem(position, column.map(_json if nested else _safe_value, na_action="ignore").astype(object))
        elif pd.api.types.is_string_dtype(column.dtype):
            texts = column.tolist()
            safe = [_safe(text) if isinstance(text, str) else text for text in texts]
            if any(one is not other for one, other in zip(texts, safe, strict=True)):
                made.isetitem(position, pd.Series(safe, index=made.index, dtype=column.dtype))
    return made


def _safe(text: str) -> str:
    """A text without secrets that can be written; the same object where nothing had to be changed."""
    shown = redact(text)
    try:
        shown.encode()
    except UnicodeEncodeError:  # half of a pair of surrogates
        return shown.encode("utf-8", "replace").decode()
    return shown


def _safe_value(value: Any) -> Any:
    return _safe(value) if isinstance(value, str) else value


def _json(value: Any) -> str:
    """A nested value as text."""
    plain = sorted(value, key=str) if isinstance(value, set) else value
    return _safe(json.dumps(redact_value(plain), ensure_ascii=False, default=str))


# -- what is known of the columns --------------------------------------------------------------------------------------

_UNITS = {
    "_usd": "US dollars", "_s": "seconds", "_tokens": "tokens", "_bytes": "bytes",
}  # fmt: skip


def unit_of(name: str, dtype: Any, *, play_money: bool = False) -> str | None:
    """What the numbers of a column are, by its name and type.

    Example:
        >>> unit_of("cost_usd", "float64"), unit_of("wait_s", "float64"), unit_of("prompt", "str")
        ('US dollars', 'seconds', None)
    """
    kind = str(dtype)
    if kind.startswith("datetime64"):
        return kind[:-1].partition(", ")[2] or None  # the time zone
    if kind.startswith(("str", "object", "category", "bool")):
        return None
    unit = next((unit for ending, unit in _UNITS.items() if name.endswith(ending)), None)
    if unit is None and name.startswith("usd_per_"):
        unit = "US dollars"
    return "play dollars" if play_money and unit == "US dollars" else unit


def _described(frame: pd.DataFrame, about: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Type and unit of every column."""
    play = about.get("money") == "play money"
    described = {}
    for name, dtype in frame.dtypes.items():
        described[str(name)] = {"type": str(dtype)}
        unit = unit_of(str(name), dtype, play_money=play)
        if unit is not None:
            described[str(name)]["unit"] = unit
    return described


# -- formats -----------------------------------------------------------------------------------------------------------


def _extra(library: str) -> Any:
    """A library that only some formats need."""
    try:
        return import_module(library)
    except ImportError as error:
        raise MissingExtra(
            f"this format needs {library}, which cannot be imported ({error}): pip install 'claude-pool-nb[export]'"
        ) from None


def defused(text: str) -> str:
    """A text that no spreadsheet takes for a formula.

    Example:
        >>> defused("=1+1"), defused("-3.5"), defused("-a"), defused("a=1")
        ("'=1+1", '-3.5', "'-a", 'a=1')
    """
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.match(text) else text


def _flat(frame: pd.DataFrame) -> pd.DataFrame:
    """The index as columns, if it says anything."""
    import pandas as pd

    if isinstance(frame.index, pd.RangeIndex) and frame.index.name is None:
        return frame if frame.index.equals(pd.RangeIndex(len(frame))) else frame.reset_index(names=_free(frame, 1))
    names = [str(name) if name is not None else None for name in frame.index.names]
    free = _free(frame, len(names))
    return frame.reset_index(
        names=[free[at] if name is None or name in frame.columns else name for at, name in enumerate(names)]
    )


def _free(frame: pd.DataFrame, count: int) -> list[str]:
    """Names for index levels that no column has."""
    names: list[str] = []
    number = 0
    while len(names) < count:
        name = "index" if number == 0 and count == 1 else f"index_{number}"
        if name not in frame.columns:
            names.append(name)
        number += 1
    return names


def _csv(file: Any, *, frame: pd.DataFrame, about: Mapping[str, Any]) -> None:
    import pandas as pd

    flat = frame.copy(deep=False)
    returns = any("\r" in str(name) for name in flat.columns)
    for position in range(flat.shape[1]):
        column: Any = flat.iloc[:, position]
        if pd.api.types.is_numeric_dtype(column.dtype) or pd.api.types.is_datetime64_any_dtype(column.dtype):
            continue
        texts = [defused(value) if isinstance(value, str) else value for value in column.tolist()]
        returns = returns or any("\r" in text for text in texts if isinstance(text, str))
        made: Any = pd.Series(texts, index=flat.index, dtype=object)
        flat.isetitem(position, made)
    flat.columns = pd.Index([defused(str(name)) for name in flat.columns])
    # The csv module does not quote a carriage return, which readers take for the end of a row.
    quoting: Any = csv.QUOTE_NONNUMERIC if returns else csv.QUOTE_MINIMAL
    flat.to_csv(file, index=False, lineterminator="\n", encoding="utf-8", quoting=quoting)


def _jsonl(file: Any, *, frame: pd.DataFrame, about: Mapping[str, Any]) -> None:
    flat = frame.copy(deep=False)
    flat.columns = [str(name) for name in flat.columns]
    text = flat.to_json(
        orient="records", lines=True, date_format="iso", date_unit="us", force_ascii=False, double_precision=15,
        default_handler=str,
    )  # fmt: skip
    # Line breaks to some readers, though not to JSON.
    for separator in ("\u2028", "\u2029", "\x85"):
        text = text.replace(separator, f"\\u{ord(separator):04x}")
    file.write(text.encode())


def _parquet(file: Any, *, frame: pd.DataFrame, about: Mapping[str, Any]) -> None:
    import pandas as pd

    arrow, parquet = _extra("pyarrow"), _extra("pyarrow.parquet")
    plain = frame.copy(deep=False)
    for position in range(plain.shape[1]):
        column = plain.iloc[:, position]
        if column.dtype != object:
            continue
        try:
            arrow.Array.from_pandas(column)
        except (arrow.ArrowException, TypeError, ValueError, OverflowError):  # types that have no common one
            texts = [None if value is None or value is pd.NA else str(value) for value in column]
            plain.isetitem(position, pd.array(texts, dtype="string"))
    table = arrow.Table.from_pandas(plain)
    known = {
        **(table.schema.metadata or {}),
        METADATA_KEY: json.dumps(about, ensure_ascii=False, default=str).encode(),
        b"PANDAS_ATTRS": json.dumps(redact_value(plain.attrs), default=str).encode(),
    }
    parquet.write_table(table.replace_schema_metadata(known), file)


def _xlsx(file: Any, *, frame: pd.DataFrame, about: Mapping[str, Any]) -> None:
    openpyxl = _extra("openpyxl")
    if len(frame) > XLSX_ROWS:
        raise ConfigError(f"a sheet holds {XLSX_ROWS:,} rows, and there are {len(frame):,}; export .parquet or .csv")
    cells, styles = _extra("openpyxl.cell"), _extra("openpyxl.styles")
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet(str(about.get("what", "data"))[:31])
    sheet.freeze_panes = "A2"
    cut = 0

    def cell(value: Any, *, bold: bool = False) -> Any:
        """What is written: the value itself, or a cell that says what it is."""
        nonlocal cut
        shown = _cell_value(value)
        if isinstance(value, str) and len(value) > XLSX_CHARS:
            cut += 1
        formula = isinstance(shown, str) and _FORMULA.match(shown) is not None
        if not bold and not formula and not (isinstance(shown, str) and shown.startswith("#")):
            return shown
        made = cells.WriteOnlyCell(sheet, value=shown)
        if isinstance(shown, str):
            made.data_type = "s"  # openpyxl takes a text that begins with = for a formula, and #N/A for an error
            made.quotePrefix = formula
        if bold:
            made.font = styles.Font(bold=True)
        return made

    def column(values: pd.Series[Any]) -> list[Any]:
        """The cells of a column."""
        gone = values.isna().tolist()
        return [None if none else cell(value) for value, none in zip(values.tolist(), gone, strict=True)]

    sheet.append([cell(str(name), bold=True) for name in frame.columns])
    for row in zip(*(column(frame.iloc[:, position]) for position in range(frame.shape[1])), strict=True):
        sheet.append(row)
    if cut:
        note = f"{cut:,} texts were cut to {XLSX_CHARS:,} characters, which is what a cell holds"
        about = {**about, "notes": [*about.get("notes", ()), note]}
    second = book.create_sheet("about")
    for name, value in export_pages.flattened(about):
        second.append([cell(name, bold=True), cell(value)])
    second.append([])
    second.append([cell(name, bold=True) for name in ("column", "type", "unit")])
    for name, facts in about["columns"].items():
        # A sheet knows no time zones: times with one are written in UTC.
        unit = "UTC" if facts["type"].startswith("datetime64") and "unit" in facts else facts.get("unit")
        second.append([cell(name), cell(facts["type"]), cell(unit)])
    book.save(file)


def _cell_value(value: Any) -> Any:
    """A value as a spreadsheet has it: naive UTC times, exact numbers, texts that fit."""
    if isinstance(value, str):
        text = _ILLEGAL.sub("\N{REPLACEMENT CHARACTER}", value)
        return text if len(text) <= XLSX_CHARS else f"{text[: XLSX_CHARS - 1]}…"
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float):
        return value if isfinite(value) else str(value)
    if isinstance(value, int):
        return value if abs(value) <= _EXACT else str(value)
    if isinstance(value, dt.datetime):
        moment = value.astimezone(dt.UTC).replace(tzinfo=None) if value.tzinfo is not None else value
        exact = getattr(moment, "to_pydatetime", None)
        return exact(warn=False) if exact is not None else moment
    if isinstance(value, dt.date | dt.time | dt.timedelta):
        return value
    return _cell_value(value.item() if hasattr(value, "item") else str(value))


def _page(make: Callable[[Any, Mapping[str, Any]], str]) -> Callable[..., None]:
    """A writer of a page of text."""

    def write(file: Any, *, frame: pd.DataFrame, about: Mapping[str, Any]) -> None:
        file.write(make(frame, about).encode())

    return write


def _nothing() -> None:
    """What most formats need beside pandas."""


_WRITERS: dict[str, tuple[Callable[[], object], Callable[..., None]]] = {
    "csv": (_nothing, _csv),
    "jsonl": (_nothing, _jsonl),
    "parquet": (partial(_extra, "pyarrow.parquet"), _parquet),
    "xlsx": (partial(_extra, "openpyxl"), _xlsx),
    "html": (_nothing, _page(export_pages.html_page)),
    "md": (_nothing, _page(export_pages.markdown_page)),
}
"""By format: what checks that it can be written, and what writes it."""
