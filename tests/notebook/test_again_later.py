"""An experiment that was stopped half way and goes on in another kernel ends as if nothing had happened."""

from __future__ import annotations

import signal
from pathlib import Path

import pandas as pd
import pytest

from claude_pool_nb.pool import Pool
from tests.notebook.kernels import Kernel, kernel, wait_for

OF_THE_ATTEMPTS = [
    "attempts", "cost_usd", "cost_basis", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens",
]  # fmt: skip
"""Sums over the attempts of a row: rows that were stopped in mid-turn have an attempt more."""
OF_THE_RUN = [
    "run_id", "task_id", "slot_id", "session_id", "created_at", "started_at", "finished_at", "wait_s", "duration_s",
    "api_s",
]  # fmt: skip
"""Ids and times, which no two runs have in common."""
TABLE = """
import pandas as pd
rows = 20
table = pd.DataFrame(
    {
        "text": [f"I love number {n}" if n % 2 else f"It is awful, number {n}" for n in range(rows)],
        "stars": pd.array([None if n % 7 == 0 else n % 5 for n in range(rows)], dtype="Int8"),
        "kind": pd.Categorical(["b", "a"] * (rows // 2), categories=["b", "a", "c"], ordered=True),
        "day": pd.date_range("2024-01-01", periods=rows, tz="Europe/Berlin"),
        7: [[n, {"half": n / 2}] for n in range(rows)],
    },
    index=pd.MultiIndex.from_arrays([pd.date_range("2024-03-01", periods=rows), range(rows)], names=["week", None]),
)
label = {
    "type": "object",
    "properties": {"label": {"type": "string", "enum": ["positive", "negative"]}, "score": {"type": "integer"}},
    "required": ["label", "score"],
}
"""
GRID = {"model": ["demo-small", "demo-large"], "tone": ["kind", "blunt"]}
TEMPLATE = "Classify {{ tone }}ly: {{ text }}, {{ kind }} of {{ day.year }}"
CELL = (
    "%%pool fan_out --over table --grid model=demo-small,demo-large --grid tone=kind,blunt --n 2 --schema label --into "
)


def begin(live: Kernel, store: Path, flag: Path) -> str:
    """Start a slow pool and the experiment; returns the asked cell. The flag is there once ten tasks are done."""
    assert live.run(f"%load_ext claude_pool_nb\n{TABLE}").status == "ok"
    started = live.run(f"pool = %pool start --slots 4 --backend demo --store {store} --demo-latency-s 0.1")
    assert started.status == "ok", started.evalue
    live.run(
        "from pathlib import Path\n"
        "done = []\n"
        "def note(event):\n"
        "    done.extend([event] if type(event).__name__ == 'TaskCompleted' else [])\n"
        f"    len(done) == 10 and Path({str(flag)!r}).touch()\n"
        "stop = pool.subscribe(note)"
    )
    asked = live.ask(f"{CELL}half\n{TEMPLATE}")
    wait_for(flag)
    return asked


def undisturbed(store: Path) -> pd.DataFrame:
    """The frame of the same experiment that nobody stopped, as the next kernel sees it."""
    names: dict[str, object] = {}
    exec(TABLE, names)
    with Pool(4, backend="demo", store=store, demo_latency_s=0) as pool:
        return pool.map(names["table"], TEMPLATE, grid=GRID, n=2, schema=names["label"]).frame


@pytest.mark.parametrize("how", ["interrupted", "killed"])
def test_a_stopped_map_ends_in_the_next_kernel_as_if_undisturbed(tmp_path: Path, how: str) -> None:
    """The frame equals that of an undisturbed run in values, types, index and order; nothing was paid twice."""
    store, before, after = tmp_path / "l.db", tmp_path / "before.pkl", tmp_path / "after.pkl"
    with kernel() as live:
        asked = begin(live, store, tmp_path / "flag")
        if how == "interrupted":
            live.interrupt()
            assert live.reply(asked).ename == "Interrupted"
            assert live.run(f"pd.DataFrame(half).to_pickle({str(before)!r})").status == "ok"
        live.manager.signal_kernel(signal.SIGKILL)
    with kernel() as live:
        live.run("%load_ext claude_pool_nb")
        live.run(f"import pandas as pd\npool = %pool start --slots 4 --backend demo --store {store} --demo-latency-s 0")
        if how == "killed":
            live.run(f"pd.DataFrame(pool.get_run('r1').frame).to_pickle({str(before)!r})")
        resumed = live.run("whole = %pool resume")
        assert resumed.status == "ok", resumed.evalue
        assert "r1 is the latest that was interrupted" in resumed.text
        live.run(f"pd.DataFrame(whole).to_pickle({str(after)!r})")
        live.run("answered = pool.attempts(run='r1').query(\"state == 'completed'\")")
        assert live.run("print(answered['task_id'].is_unique)").text.strip() == "True"
    half, whole, expected = pd.read_pickle(before), pd.read_pickle(after), undisturbed(tmp_path / "other.db")
    finished = half["state"] == "completed"
    assert 10 <= finished.sum() < len(half) == 160
    # The caller's columns, the grid, the answers, their types and the index.
    given = list(expected.columns[: expected.columns.get_loc("run_id")])
    assert given == ["text", "stars", "kind", "day", 7, "tone"]
    same = [name for name in expected.columns if name not in {*OF_THE_RUN, *OF_THE_ATTEMPTS}]
    assert {"out_label", "out_score", "output", "state", "row", "sample", *given} <= set(same)
    pd.testing.assert_frame_equal(whole[same], pd.DataFrame(expected[same]), check_freq=False)
    pd.testing.assert_series_equal(whole.dtypes, expected.dtypes)
    # Rows that had been finished are what they were, to the nanodollar and the second.
    pd.testing.assert_frame_equal(whole[finished.to_numpy()], half[finished.to_numpy()], check_categorical=False)
    assert set(whole.loc[finished.to_numpy(), "attempts"]) == {1}
    once = (whole["attempts"] == 1).to_numpy()
    pd.testing.assert_frame_equal(
        whole.loc[once, OF_THE_ATTEMPTS], pd.DataFrame(expected.loc[once, OF_THE_ATTEMPTS]), check_freq=False
    )
    assert (whole["attempts"] <= 2).all()
