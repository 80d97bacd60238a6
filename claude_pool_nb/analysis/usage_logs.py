"""Claude Code's own logs of what it has used on this machine, as a frame.

Claude Code writes one JSON line for each block of an answer, in a file per session below `projects/`. All lines of an
answer carry its message id and request id, and usage that grows until the last of them; a session that was resumed or
forked may hold the lines of another once more.

Invariants: files are read when asked for and never written; nothing of a message but its ids, model and usage is taken
over; an answer is counted once, with the most that any of its lines says; what cannot be read is counted and told, and
does not stop the rest; memory grows with the answers, not with the files.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from claude_pool_nb.analysis import columns as col
from claude_pool_nb.analysis.costs import floored
from claude_pool_nb.analysis.keys import USAGE_KEYS
from claude_pool_nb.analysis.periods import Period
from claude_pool_nb.errors import ConfigError, nearest
from claude_pool_nb.pricing import list_price, prices_as_of

USAGE_COLUMNS = (
    "at", "project", "session_id", "message_id", "request_id", "model", "input_tokens", "output_tokens",
    "cache_read_tokens", "cache_write_tokens", "cache_write_1h_tokens", "estimated_usd", "sidechain", "cli_version",
)  # fmt: skip
"""The columns of the frame. `cache_write_1h_tokens` are part of `cache_write_tokens`; a sidechain is a subagent's."""

_SYNTHETIC = "<synthetic>"
"""What the CLI names as the model of lines that it made up itself, such as errors."""
_HOUR_WRITE = 2.0
"""Writing to the cache for an hour costs so many times the plain input."""
_NANO_PER_PICO = 1e-3
_USD_PER_NANO = 1e-9


@dataclass(slots=True)
class _Answer:
    """One answer of the API."""

    at: str | None
    project: str
    session_id: str | None
    model: str | None
    sidechain: bool
    version: str | None
    tokens: list[int]
    """Input, output, cache read, cache write, and of that for an hour."""


@dataclass(slots=True)
class _Reading:
    """What was met on the way."""

    answers: dict[tuple[str, str | None], _Answer] = field(default_factory=dict)
    files: int = 0
    lines: int = 0
    repeated: int = 0
    bad: int = 0
    unreadable: list[str] = field(default_factory=list)


def usage_frame(
    root: str | os.PathLike[str] | None = None, *, period: Period | None = None, project: str | None = None
) -> pd.DataFrame:
    """One row per answer of the API that Claude Code's logs tell of, oldest first.

    Conversations of pools are among them, as the CLI keeps a log of those; other tasks of pools leave none.

    Args:
        root: Claude Code's folder, or any folder with logs in it; None for this user's own.
        period: only answers of then.
        project: only of projects with this text in their folder's name, whatever its case.

    Returns:
        The columns of `USAGE_COLUMNS`. `estimated_usd` is tokens times list price, missing where no price is known.
        `attrs` has `files`, `lines`, `repeated_lines`, `bad_lines`, `unreadable_files` and `prices`.

    Raises:
        ConfigError: `root` is no folder.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     list(usage_frame(folder).columns) == list(USAGE_COLUMNS)
        True
    """
    reading = _Reading()
    for folder in _folders(root):
        for file in sorted(folder.rglob("*.jsonl")):
            name = _project(file, folder)
            if project is None or project.lower() in name.lower():
                _read(file, name, reading)
    _tell(reading)
    frame = _frame(reading)
    if period is not None:
        seconds = (frame["at"] - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)
        frame = frame[np.asarray(period.holds(seconds.to_numpy(dtype=np.float64)), dtype=bool)]
    frame = frame.sort_values("at", kind="stable", ignore_index=True)
    frame.attrs.update(
        files=reading.files,
        lines=reading.lines,
        repeated_lines=reading.repeated,
        bad_lines=reading.bad,
        unreadable_files=len(reading.unreadable),
        prices=prices_as_of(),
    )
    return frame


def usage_sums(
    root: str | os.PathLike[str] | None,
    by: Sequence[str],
    *,
    period: Period | None = None,
    project: str | None = None,
) -> pd.DataFrame:
    """The sums of `usage_frame` by some of `USAGE_KEYS`, the dearest first.

    Where the price of a group's tokens is not known, its `estimated_usd` is missing; `unpriced_answers` are how many.

    Raises:
        ConfigError: a key is none of `USAGE_KEYS`; `root` is no folder.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     list(usage_sums(folder, ["model"]).columns)[:3]
        ['model', 'sessions', 'answers']
    """
    keys = list(dict.fromkeys(by))
    for key in keys:
        if key not in USAGE_KEYS:
            raise ConfigError(f"usage cannot be summed by {key!r}{nearest(key, USAGE_KEYS)}")
    frame = usage_frame(root, period=period, project=project)
    for name in {"day", "hour", "month"} & set(keys):
        frame[name] = floored(frame["at"], name)
    frame["unpriced"] = frame["estimated_usd"].isna()
    frame["group"] = 0
    counts = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_1h_tokens")
    result = (
        frame.groupby(keys or ["group"], observed=True, dropna=False, sort=True)
        .agg(
            sessions=("session_id", "nunique"),
            answers=("input_tokens", "size"),
            **{name: (name, "sum") for name in counts},
            estimated_usd=("estimated_usd", "sum"),
            unpriced_answers=("unpriced", "sum"),
        )
        .reset_index()
    )
    result["estimated_usd"] = result["estimated_usd"].where(result["unpriced_answers"] == 0)
    if not keys:
        result = result.drop(columns="group")
    result = result.sort_values("estimated_usd", ascending=False, kind="stable", ignore_index=True)
    result.attrs = {**frame.attrs, "by": keys}
    return result


# -- finding -----------------------------------------------------------------------------------------------------------


def _folders(root: str | os.PathLike[str] | None) -> list[Path]:
    """Where logs are."""
    if root is not None:
        given = Path(root).expanduser()
        if not given.is_dir():
            raise ConfigError(f"there is no folder {given}; give Claude Code's own, usually ~/.claude")
        inner = given / "projects"
        return [inner if inner.is_dir() else given]
    own = os.environ.get("CLAUDE_CONFIG_DIR")
    places = [Path(own).expanduser()] if own else [Path.home() / ".claude", Path.home() / ".config" / "claude"]
    return [place / "projects" for place in places if (place / "projects").is_dir()]


def _project(file: Path, folder: Path) -> str:
    """The name of a project's folder: Claude Code makes it from the path of the project."""
    parts = file.relative_to(folder).parts
    return parts[0] if len(parts) > 1 else folder.name


# -- reading -----------------------------------------------------------------------------------------------------------


def _read(file: Path, project: str, reading: _Reading) -> None:
    """Take the answers of one file."""
    try:
        with file.open("rb") as lines:
            reading.files += 1
            for line in lines:
                reading.lines += 1
                _take(line, project, reading)
    except OSError as error:
        reading.unreadable.append(f"{file} ({error.strerror or type(error).__name__})")


def _take(line: bytes, project: str, reading: _Reading) -> None:
    """Take an answer, or what one more line says of it."""
    text = line.strip()
    if not text:
        return
    if not (text.startswith(b"{") and text.endswith(b"}")):
        reading.bad += line.endswith(b"\n")  # without an end it is just being written
        return
    if b'"usage"' not in text or b'"assistant"' not in text:
        return  # the most of a log: not worth parsing
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError):
        reading.bad += 1
        return
    message = entry.get("message")
    if entry.get("type") != "assistant" or not isinstance(message, dict):
        return
    usage, model = message.get("usage"), message.get("model")
    if not isinstance(usage, dict) or model == _SYNTHETIC:
        return
    name = message.get("id") or entry.get("uuid") or f"line {reading.lines}"
    request = entry.get("requestId")
    key = (str(name), request if isinstance(request, str) else None)
    tokens = list(_tokens(usage))
    known = reading.answers.get(key)
    if known is not None:
        reading.repeated += 1
        known.tokens = [max(pair) for pair in zip(known.tokens, tokens, strict=True)]
        return
    reading.answers[key] = _Answer(
        at=_text(entry.get("timestamp")),
        project=project,
        session_id=_text(entry.get("sessionId")),
        model=_text(model),
        sidechain=entry.get("isSidechain") is True,
        version=_text(entry.get("version")),
        tokens=tokens,
    )


def _tokens(usage: dict[str, Any]) -> Iterator[int]:
    """Input, output, cache read, cache write, and of that for an hour."""
    for name in ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"):
        yield _whole(usage.get(name))
    parts = usage.get("cache_creation")
    yield _whole(parts.get("ephemeral_1h_input_tokens")) if isinstance(parts, dict) else 0


def _whole(value: Any) -> int:
    """A number of tokens; 0 for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**40 else 0


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _tell(reading: _Reading) -> None:
    """Warn of what could not be read."""
    if reading.bad:
        what = "1 line" if reading.bad == 1 else f"{reading.bad:,} lines"
        warnings.warn(f"{what} of Claude Code's logs are no JSON and are left out", stacklevel=4)
    if reading.unreadable:
        shown = ", ".join(reading.unreadable[:3]) + (" ..." if len(reading.unreadable) > 3 else "")
        warnings.warn(f"{len(reading.unreadable)} of Claude Code's logs could not be read: {shown}", stacklevel=4)


# -- the frame ---------------------------------------------------------------------------------------------------------


def _frame(reading: _Reading) -> pd.DataFrame:
    """Columns from answers."""
    answers = list(reading.answers.values())
    tokens = np.array([answer.tokens for answer in answers], dtype=np.int64).reshape(len(answers), 5)
    models = col.category([answer.model for answer in answers])
    at = pd.to_datetime(
        pd.Series([answer.at for answer in answers], dtype="object"), utc=True, errors="coerce", format="ISO8601"
    )
    return pd.DataFrame(
        {
            "at": at.astype("datetime64[us, UTC]").array,
            "project": col.category([answer.project for answer in answers]),
            "session_id": col.text([answer.session_id for answer in answers]),
            "message_id": col.text([message for message, _ in reading.answers]),
            "request_id": col.text([request for _, request in reading.answers]),
            "model": models,
            "input_tokens": tokens[:, 0],
            "output_tokens": tokens[:, 1],
            "cache_read_tokens": tokens[:, 2],
            "cache_write_tokens": tokens[:, 3],
            "cache_write_1h_tokens": tokens[:, 4],
            "estimated_usd": _dollars(models, tokens),
            "sidechain": col.flag([answer.sidechain for answer in answers]),
            "cli_version": col.category([answer.version for answer in answers]),
        },
        copy=False,
    )


def _dollars(models: Any, tokens: Any) -> Any:
    """Tokens times list price; each row is one request, so that its size tells which price holds."""
    dollars = np.full(len(tokens), np.nan)
    for code, name in enumerate(models.categories):
        price = list_price(str(name))
        if price is None:
            continue
        here = np.flatnonzero(models.codes == code)
        read_in, written, cache_read, cache_write, for_an_hour = tokens[here].T.astype(np.float64)
        size = read_in + cache_read + cache_write
        tier = np.maximum(np.searchsorted([t.above_tokens for t in price.tiers], size, side="left") - 1, 0)

        def of(name: str, tiers: Any = price.tiers, tier: Any = tier) -> Any:
            return np.array([getattr(one, name) for one in tiers], dtype=np.float64)[tier]

        hour = np.minimum(for_an_hour, cache_write)
        pico = (
            read_in * of("input_pico")
            + written * of("output_pico")
            + cache_read * of("cache_read_pico")
            + (cache_write - hour) * of("cache_write_pico")
            + hour * of("input_pico") * _HOUR_WRITE
        )
        dollars[here] = pico * _NANO_PER_PICO * _USD_PER_NANO
    return dollars
