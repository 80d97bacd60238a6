"""Maps from end to end: a table in, a table out, whatever happens in between."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from claude_pool_nb import AsyncPool, Pool
from claude_pool_nb.errors import ConfigError, UnknownModel
from claude_pool_nb.records import Failure, FailureKind, TurnResult
from claude_pool_nb.sessions.base import Turn
from claude_pool_nb.testing.scripted_session import ScriptedBackend
from tests.integration.pool.conftest import MakePool
from tests.waiting import wait_until

TYPED = pd.DataFrame(
    {
        "text": ["good", "bad", "meh"],
        "stars": pd.array([5, None, 3], dtype="Int64"),
        "share": [0.5, float("nan"), 1.0],
        "sure": [True, False, True],
        "kind": pd.Categorical(["x", "y", "x"]),
        "at": pd.to_datetime(["2026-01-01", None, "2026-01-03"], utc=True),
    },
    index=pd.Index(["a", "b", "b"], name="key"),
)
GRID = {"model": ["haiku", "sonnet"], "tone": ["kind", "blunt"]}
TEMPLATE = "In a {{ tone }} way: {{ text }}"


def demo(store: Path | str, **options: Any) -> Pool:
    """A demo pool without latency."""
    return Pool(backend="demo", demo_latency_s=0, store=store, **options)


def test_every_task_is_sent_with_its_own_text_options_and_sample(make_pool: MakePool) -> None:
    """What the session is asked is what stands in the row."""
    backend = ScriptedBackend(lambda turn: f"{turn.options.model} {turn.sample}: {turn.prompt}")
    pool = make_pool(backend)
    run = pool.map(TYPED, TEMPLATE, grid=GRID, n=2, system_prompt="Be brief.")
    frame = run.frame
    assert len(run) == len(backend.asked) == 24
    expected = frame["requested_model"].astype(str) + " " + frame["sample"].astype(str) + ": " + frame["prompt"]
    assert frame["output"].tolist() == expected.tolist()
    assert {turn.options.system_prompt for turn in backend.asked} == {"Be brief."}
    assert frame["row"].tolist() == [0] * 8 + [1] * 8 + [2] * 8
    assert frame.index.tolist() == ["a"] * 8 + ["b"] * 16
    assert pool.runs()["verb"].tolist() == ["map"]


def test_the_frame_is_the_same_after_a_restart(tmp_path: Path) -> None:
    """Input columns with their types, index, grid and answers come back from the ledger as they were."""
    with demo(tmp_path / "l.db") as pool:
        before = pool.map(TYPED, TEMPLATE, grid=GRID, n=2, schema="label: good|bad, score: float?").frame
    with demo(tmp_path / "l.db") as pool:
        after = pool.get_run("r1").frame
    pd.testing.assert_frame_equal(after, before)
    assert [*TYPED.columns, "tone", "run_id"] == list(after.columns)[:8]
    assert str(after["out_score"].dtype) == "Float64"


def test_a_frame_that_is_changed_later_changes_no_answer(make_pool: MakePool) -> None:
    """The columns in front are those of the call, not of whatever the variable holds now."""
    data = pd.DataFrame({"text": ["a", "b"]})
    pool = make_pool()
    run = pool.map(data, "{{ text }}")
    data.loc[0, "text"] = "changed"
    data.loc[2] = "added"
    assert run.frame["text"].tolist() == ["a", "b"]


def test_a_wrong_map_takes_no_run_number_and_sends_nothing(make_pool: MakePool) -> None:
    """An error in the last row, and one that only this pool knows, come before anything is accepted."""
    backend = ScriptedBackend()
    pool = make_pool(backend)
    with pytest.raises(ConfigError, match="row 1 has no value"):
        pool.map({"x": ["a", None]}, "{{ x }}")
    with pytest.raises(ConfigError, match="no slot has the role 'judge'"):
        pool.map(["a"], "{{ value }}", role="judge")
    with pytest.raises(UnknownModel):
        pool.map(["a"], "{{ value }}", grid={"model": ["haiku", "haikku"]})
    assert backend.asked == []
    assert pool.last is None
    assert pool.map(["a"], "{{ value }}").id == "r1"


def test_a_row_that_its_model_cannot_read_is_refused_by_name() -> None:
    """It is known before anything is spent: by the model of each row, and only where it is clear."""
    rows = ["short", "x" * 1_000_000]
    with demo(":memory:") as pool:
        with pytest.raises(
            ConfigError, match=r"row 1 makes a prompt of 1,000,004 .* about 250,001 tokens, and demo-small"
        ):
            pool.map(rows, "Say {{ value }}", n=2)
        assert pool.runs().empty
        assert "2 prompts are longer than demo-small reads (200,000 tokens): row 1 has about" in "".join(
            pool.preview(rows, "Say {{ value }}", n=2).warnings
        )
        assert pool.map(["x" * 850_000], "Say {{ value }}").counts() == {"completed": 1}


def test_a_long_row_goes_to_a_model_that_reads_it(make_pool: MakePool) -> None:
    """A model that reads a million tokens, and one whose size is not known, are sent what is asked."""
    pool = make_pool(ScriptedBackend())
    with pytest.raises(ConfigError, match="claude-haiku-4-5 reads 200,000"):
        pool.map(["x" * 1_000_000], "{{ value }}", grid={"model": ["claude-haiku-4-5", "haiku"]})
    assert pool.map(["x" * 1_000_000], "{{ value }}", model="haiku").counts() == {"completed": 1}
    assert pool.map(["x" * 1_000_000], "{{ value }}", model="claude-unheard-of").counts() == {"completed": 1}


def test_half_characters_break_neither_the_frame_nor_the_ledger(make_pool: MakePool) -> None:
    """Of a cut file or answer: the model is asked with them, and what is kept shows them as escapes."""
    half = "\ud83d"
    asked: list[str] = []

    def answer(turn: Turn) -> str:
        asked.append(turn.prompt)
        return f"cut {half}"

    pool = make_pool(ScriptedBackend(answer))
    run = pool.map([f"one {half}"], "{{ value }}")
    assert asked == [f"one {half}"]
    one = run.frame.iloc[0]
    assert (one["state"], one["value"], one["output"]) == ("completed", r"one \ud83d", r"cut \ud83d")
    assert pool.run("still at work").state == "completed"


def test_frames_of_runs_are_compared_by_the_rows_they_have() -> None:
    """A frame says which run it is of; rows that were left out of it are left out of the comparison."""
    with demo(":memory:") as pool:
        first = pool.map(["ping", "What is 6 * 7?"], "{{ value }}").frame
        second = pool.map(["ping", "What is 6 * 8?"], "{{ value }}").frame
        assert pool.compare(first, second).frame["agree"].tolist() == [True, False]
        chosen = first[first["value"] == "ping"]
        assert pool.compare(chosen, second[second["output"] == "pong"]).frame["agree"].tolist() == [True]
        assert pool.compare([chosen, "r2"]).frame["r1"]["output"].isna().tolist() == [False, True]
        with pytest.raises(ConfigError, match=r"compare takes runs, .* not a DataFrame$"):
            pool.compare(pd.DataFrame({"task_id": ["r1.1"]}))


def test_an_interrupted_map_is_resumed_to_the_same_frame(tmp_path: Path) -> None:
    """Stopped half way, resumed by another pool: the frame is that of an undisturbed run, nothing was paid twice."""

    def answer(turn: Turn) -> str:
        return f"{turn.options.model} {turn.sample} {turn.prompt}"

    with Pool(2, backend=ScriptedBackend(answer), store=tmp_path / "one.db") as pool:
        undisturbed = pool.map(TYPED, TEMPLATE, grid=GRID, n=2).frame
    first, second = ScriptedBackend(answer, delay_s=0.02), ScriptedBackend(answer)
    with Pool(2, backend=first, store=tmp_path / "two.db") as pool:
        run = pool.map(TYPED, TEMPLATE, grid=GRID, n=2, wait=False)
        wait_until(lambda: run.counts().get("completed", 0) >= 4)
        run.interrupt()
        run.wait()
        done = run.frame[run.frame["state"] == "completed"]
    assert 4 <= len(done) < 24
    with Pool(2, backend=second, store=tmp_path / "two.db") as pool:
        run = pool.get_run("r1")
        assert run.counts() == {"completed": len(done), "interrupted": 24 - len(done)}
        run.resume()
        resumed = run.frame
    assert len(second.asked) == 24 - len(done)
    paid = {(row.requested_model, row.sample, row.prompt) for row in done.itertuples()}
    assert paid.isdisjoint((turn.options.model, turn.sample, turn.prompt) for turn in second.asked)
    same = ["text", "stars", "tone", "row", "sample", "requested_model", "state", "prompt", "output"]
    pd.testing.assert_frame_equal(resumed[same], undisturbed[same])


def test_a_budget_that_ends_in_the_middle_leaves_every_row(make_pool: MakePool) -> None:
    """The rows that were not run say so, and the typed columns are there."""

    def answer(turn: Turn) -> TurnResult:
        return TurnResult(output="x", cost_nano=1_000_000_000, structured={"label": "good"})

    pool = make_pool(ScriptedBackend(answer), slots=1, budget_usd=2)
    frame = pool.map(list("abcd"), "{{ value }}", max_budget_usd=1, schema="label: good|bad").frame
    assert frame["value"].tolist() == list("abcd")
    assert frame["state"].tolist() == ["completed", "completed", "failed", "failed"]
    assert frame["error_type"].tolist()[2:] == ["BudgetExhausted"] * 2
    assert frame["out_label"].tolist()[:2] == ["good", "good"]


def test_typed_columns_are_there_when_nothing_fitted(make_pool: MakePool) -> None:
    """Fields come from the schema of the task or of the pool, not from answers; the text of a misfit is kept."""
    misfit = TurnResult(output="no data", failure=Failure(FailureKind.TASK, "schema", "did not fit"))
    pool = make_pool(ScriptedBackend(lambda turn: misfit), schema="label: good|bad, n: int")
    for frame in (pool.fan_out(["a"]).frame, pool.map(["a"], "{{ value }}").failed, pool.get_run("r1").failed[:0]):
        assert frame.dtypes[["out_label", "out_n"]].astype(str).tolist() == ["category", "Int64"]
    assert pool.get_run("r1").frame[["output", "failure_kind", "error_type"]].to_numpy().tolist() == [
        ["no data", "task", "schema"]
    ]
    own = pool.fan_out(["a"], schema="mood: str").frame
    assert [name for name in own.columns if name.startswith("out_")] == ["out_mood"]


async def test_an_awaited_map_is_rendered_beside_the_loop(tmp_path: Path) -> None:
    """The loop that serves running tasks renders nothing itself."""
    threads = set()

    def rows() -> Iterator[dict[str, str]]:
        for letter in "ab":
            threads.add(threading.get_ident())
            yield {"x": letter}

    async with AsyncPool(backend=ScriptedBackend(), store=":memory:") as pool:
        run = await pool.map(rows(), "{{ x }}", n=2)
        assert run.frame["x"].tolist() == ["a", "a", "b", "b"]
        again = await pool.fan_out(["a"], n=3, grid={"effort": ["low", "high"]})
        assert len(again.frame) == 6
    assert threads
    assert threading.get_ident() not in threads
    assert asyncio.get_running_loop().is_running()
