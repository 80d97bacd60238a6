"""Claude Code's logs are counted answer by answer, whatever else is in them, and no text is taken from them."""

from __future__ import annotations

import errno
import json
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from claude_pool_nb import Pool
from claude_pool_nb.analysis.periods import Period
from claude_pool_nb.analysis.usage_logs import USAGE_COLUMNS, usage_frame, usage_sums
from claude_pool_nb.errors import ConfigError

HAIKU = "claude-haiku-4-5"


def line(answer: str = "msg_1", request: str | None = "req_1", **fields: Any) -> dict[str, Any]:
    """An assistant's line in the form that the CLI writes."""
    usage = {
        "input_tokens": 1000, "output_tokens": 20, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0,
        **fields.pop("usage", {}),
    }  # fmt: skip
    return {
        "type": "assistant",
        "timestamp": "2026-01-31T10:00:00.500Z",
        "sessionId": "s-1",
        "version": "2.1.329",
        "isSidechain": False,
        **({} if request is None else {"requestId": request}),
        "message": {
            "id": answer, "role": "assistant", "model": HAIKU, "content": [{"type": "text", "text": "SECRET words"}],
            **fields.pop("message", {}), "usage": usage,
        },
        **fields,
    }  # fmt: skip


def write(folder: Path, name: str, *lines: Any, project: str = "-home-ada-work") -> Path:
    """A log."""
    file = folder / "projects" / project / name
    file.parent.mkdir(parents=True, exist_ok=True)
    texts = [one if isinstance(one, bytes) else json.dumps(one, separators=(",", ":")).encode() for one in lines]
    file.write_bytes(b"".join(text + b"\n" for text in texts))
    return file


def test_each_answer_counts_once_with_the_most_that_is_said_of_it(tmp_path: Path) -> None:
    """Several lines of one answer, growing while it streams, also in a second file, are one row."""
    grown = [line(usage={"output_tokens": tokens}) for tokens in (1, 1, 159, 40)]
    write(tmp_path, "a.jsonl", *grown, line("msg_2", "req_2"), line("msg_2", "req_3"))
    write(tmp_path, "b.jsonl", *grown[:3], line("msg_4", None), line("msg_4", None))
    write(tmp_path, "s-1/subagents/agent.jsonl", line("msg_5", "req_5", isSidechain=True))
    frame = usage_frame(tmp_path)
    assert list(frame.columns) == list(USAGE_COLUMNS)
    assert frame["message_id"].tolist() == ["msg_1", "msg_2", "msg_2", "msg_4", "msg_5"]
    assert frame["output_tokens"].tolist() == [159, 20, 20, 20, 20]
    assert frame["sidechain"].tolist() == [False] * 4 + [True]
    assert set(frame["project"]) == {"-home-ada-work"}
    assert frame["at"][0] == pd.Timestamp("2026-01-31 10:00:00.5", tz="UTC")
    assert {name: frame.attrs[name] for name in ("files", "lines", "repeated_lines", "bad_lines")} == {
        "files": 3, "lines": 12, "repeated_lines": 7, "bad_lines": 0,
    }  # fmt: skip
    assert "SECRET" not in frame.to_csv()


def test_dollars_are_list_price_with_both_kinds_of_cache_writes(tmp_path: Path) -> None:
    """Five-minute writes cost 1.25, writes for an hour 2 times the input; an unknown price is missing."""
    written = {"cache_creation_input_tokens": 300, "cache_creation": {"ephemeral_1h_input_tokens": 100}}
    lines = [
        line("m1", "r1"),
        line("m2", "r2", usage={"input_tokens": 0, "output_tokens": 0, "cache_read_input_tokens": 1000}),
        line("m3", "r3", usage={"input_tokens": 0, "output_tokens": 0, **written}),
        line("m4", "r4", message={"model": "claude-unheard-of"}),
    ]
    write(tmp_path, "a.jsonl", *lines)
    frame = usage_frame(tmp_path)
    assert frame["estimated_usd"].tolist()[:3] == pytest.approx([0.0011, 0.0001, (200 * 1.25 + 100 * 2) / 1e6])
    assert pd.isna(frame["estimated_usd"][3])
    sums = usage_sums(tmp_path, ["model"])
    assert sums[["answers", "sessions", "unpriced_answers"]].values.tolist() == [[3, 1, 0], [1, 1, 1]]
    assert sums["estimated_usd"].tolist()[0] == pytest.approx(0.00165)
    assert pd.isna(sums["estimated_usd"][1])


def test_what_is_broken_is_counted_and_told_and_the_rest_is_read(tmp_path: Path) -> None:
    """Corrupt lines, other lines, made-up answers and odd values stop nothing."""
    odd = [
        b"not json at all",
        b'{"type":"assistant","message":{"usage":{,}}}',
        b'{"type":"assistant","usage":"\xff\xfe"}',
        b"",
        b"\x00\x00",
        {"type": "user", "message": {"role": "user", "usage": {"input_tokens": 5}, "x": "assistant"}},
        {"type": "assistant", "message": None, "usage": 1},
        {"type": "assistant", "message": {"usage": None, "id": "x"}},
        line("m0", "r0", message={"model": "<synthetic>"}),
        line("m1", "r1", usage={"input_tokens": None, "output_tokens": "7", "cache_read_input_tokens": -3}),
        line("m2", "r2", timestamp="some day", sessionId=None),
    ]
    file = write(tmp_path, "a.jsonl", *odd)
    with file.open("ab") as more:
        more.write(b'{"type":"assistant","message":{"usa')  # the CLI is just writing it
    with pytest.warns(UserWarning, match="4 lines of Claude Code's logs are no JSON"):
        frame = usage_frame(tmp_path)
    assert frame["message_id"].tolist() == ["m1", "m2"]
    assert frame.loc[0, ["input_tokens", "output_tokens", "cache_read_tokens"]].tolist() == [0, 0, 0]
    assert pd.isna(frame["at"][1])
    assert frame.attrs["bad_lines"] == 4


def test_a_file_that_may_not_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other files are still read; root, who may read everything, is refused by hand."""
    secret = write(tmp_path, "a.jsonl", line())
    write(tmp_path, "b.jsonl", line("m2", "r2"))
    opened = Path.open

    def refused(path: Path, *given: Any, **options: Any) -> Any:
        if path == secret:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *given, **options)

    monkeypatch.setattr(Path, "open", refused)
    with pytest.warns(UserWarning, match=r"1 of Claude Code's logs could not be read: .*a\.jsonl"):
        assert len(usage_frame(tmp_path)) == 1


def test_a_file_that_is_gone_is_told(tmp_path: Path) -> None:
    """A link to nowhere is what a log deleted meanwhile looks like."""
    write(tmp_path, "b.jsonl", line())
    (tmp_path / "projects" / "-home-ada-work" / "a.jsonl").symlink_to(tmp_path / "gone")
    with pytest.warns(UserWarning, match=r"1 of Claude Code's logs could not be read: .*No such file"):
        frame = usage_frame(tmp_path)
    assert (len(frame), frame.attrs["unreadable_files"]) == (1, 1)


def test_where_logs_are_looked_for(isolated_env: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder that is named, else the variable, else the home; no folder is no error unless it was named."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        empty = usage_frame()
    assert len(empty) == 0
    write(isolated_env / ".claude", "a.jsonl", line())
    write(isolated_env / ".config" / "claude", "b.jsonl", line("m2", "r2"))
    full = usage_frame()
    assert len(full) == 2
    assert empty.dtypes.astype(str).to_dict() == full.dtypes.astype(str).to_dict()
    assert "object" not in set(full.dtypes.astype(str))
    write(tmp_path / "other", "a.jsonl", line(), line("m2", "r2"), line("m3", "r3"))
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "other"))
    assert len(usage_frame()) == 3
    assert len(usage_frame(tmp_path / "other" / "projects" / "-home-ada-work")) == 3
    assert usage_frame(tmp_path / "other" / "projects" / "-home-ada-work")["project"][0] == "-home-ada-work"
    with pytest.raises(ConfigError, match=r"no folder .*nowhere"):
        usage_frame(tmp_path / "nowhere")


def test_filters_and_sums(tmp_path: Path) -> None:
    """By time, by project, and summed by any key; an unknown one is told with the nearest."""
    write(tmp_path, "a.jsonl", line(), line("m2", "r2", timestamp="2026-02-01T00:30:00Z", sessionId="s-2"))
    write(tmp_path, "b.jsonl", line("m3", "r3"), project="-home-ada-Play")
    with Pool(backend="demo", store=":memory:") as pool:
        assert len(pool.usage_history(tmp_path)) == 3
        assert len(pool.usage_history(tmp_path, project="play")) == 1
        assert pool.usage_history(tmp_path, since="2026-02-01")["message_id"].tolist() == ["m2"]
        assert len(pool.usage_history(tmp_path, until="2026-01-31")) == 2
        days = pool.usage_history(tmp_path, by=["month", "project"])
        assert days["answers"].tolist() == [1, 1, 1]
        assert days["estimated_usd"].sum() == pytest.approx(0.0033)
        assert "$0.0011" in repr(days)
        total = pool.usage_history(tmp_path, by=[])
        assert total[["answers", "sessions"]].values.tolist() == [[3, 2]]
        assert len(pool.usage_history(tmp_path, by="day", project="none of that name")) == 0
        with pytest.raises(ConfigError, match="did you mean 'project'"):
            pool.usage_history(tmp_path, by="projects")
    assert len(usage_frame(tmp_path, period=Period(0.0, 1.0))) == 0


def test_rows_are_oldest_first(tmp_path: Path) -> None:
    """Whatever the order of files."""
    times = ["2026-01-03T00:00:00Z", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"]
    for number, at in enumerate(times):
        write(tmp_path, f"{number}.jsonl", line(f"m{number}", f"r{number}", timestamp=at))
    assert usage_frame(tmp_path)["message_id"].tolist() == ["m1", "m2", "m0"]
