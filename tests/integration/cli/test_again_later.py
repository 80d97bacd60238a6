"""An experiment on the real CLI that is stopped half way and goes on in another kernel."""

from __future__ import annotations

import signal
from pathlib import Path

import pandas as pd

from claude_pool_nb.testing import Reply, ScriptedAPI
from claude_pool_nb.testing.replies import Request
from tests.integration.cli.conftest import MODEL, MakePool
from tests.notebook.kernels import kernel

TABLE = pd.DataFrame(
    {"text": [f"text {n}" for n in range(12)], "kind": pd.Categorical(list("bca") * 4, categories=list("abc"))},
    index=pd.date_range("2024-03-01", periods=12, name="day"),
)
TEMPLATE = "Rate {{ tone }}ly: {{ text }} ({{ kind }})"
SCHEMA = {"type": "object", "properties": {"score": {"type": "integer"}, "why": {"type": "string"}}}
GRID = {"model": [MODEL, "claude-sonnet-4-5"], "tone": ["kind", "blunt"]}
SAME = ["text", "kind", "tone", "row", "sample", "requested_model", "model", "state", "prompt", "output", "attempts",
        "out_score", "out_why", "input_tokens", "output_tokens"]  # fmt: skip
"""What two runs have in common where no row was stopped in mid-turn. Not the cost and its basis: the first task of a
process pays the CLI's trial of the model's name."""
OF_THE_ATTEMPTS = ["attempts", "input_tokens", "output_tokens"]


def rate(request: Request) -> Reply:
    """An answer that depends on the prompt alone."""
    return Reply(json={"score": len(request.prompt) % 7, "why": request.prompt.upper()})


def test_a_stopped_map_ends_in_the_next_kernel_as_if_undisturbed(
    api: ScriptedAPI, make_pool: MakePool, tmp_path: Path
) -> None:
    """Interrupt, a kernel that dies, resume: the frame of an undisturbed run, and no finished row is asked again."""
    api.reply(rate)
    api.latency_s = 0.1
    given, half, whole = (tmp_path / f"{name}.pkl" for name in ("given", "half", "whole"))
    TABLE.to_pickle(given)
    start = f"import pandas as pd\npool = %pool start --slots 2 --store {tmp_path / 'first.db'} --budget 5"
    with kernel() as live:
        live.run("%load_ext claude_pool_nb")
        started = live.run(f"{start}\ntable, schema = pd.read_pickle({str(given)!r}), {SCHEMA!r}")
        assert started.status == "ok", started.evalue
        grid = " ".join(f"--grid {name}={','.join(values)}" for name, values in GRID.items())
        asked = live.ask(f"%%pool fan_out --over table {grid} --schema schema --into half\n{TEMPLATE}")
        api.wait_for(12, 60, finished=True)
        live.interrupt()
        assert live.reply(asked).ename == "Interrupted"
        assert live.run(f"pd.DataFrame(half).to_pickle({str(half)!r})").status == "ok"
        live.manager.signal_kernel(signal.SIGKILL)
    before = pd.read_pickle(half)
    finished = (before["state"] == "completed").to_numpy()
    assert 4 <= finished.sum() < len(before) == 48
    api.latency_s = 0.0
    api.clear()
    api.reply(rate)
    with kernel() as live:
        live.run("%load_ext claude_pool_nb")
        live.run(start)
        resumed = live.run("whole = %pool resume")
        assert resumed.status == "ok", resumed.evalue
        live.run(f"pd.DataFrame(whole).to_pickle({str(whole)!r})")
        booked = live.run("print(round(pool.attempts()['cost_usd'].sum() * 1e9) == pool.budget.spent_nano)")
        assert booked.text.strip() == "True"
    again = sorted({(request.model, request.prompt) for request in api.requests if not request.probe})
    missing = before.loc[~finished, ["requested_model", "prompt"]].astype(object)
    assert again == sorted(missing.itertuples(index=False, name=None))
    after = pd.read_pickle(whole)
    pool = make_pool(store=tmp_path / "other.db", model=None)
    undisturbed = pd.DataFrame(pool.map(TABLE, TEMPLATE, grid=GRID, schema=SCHEMA).frame)
    assert set(undisturbed["state"]) == {"completed"}
    assert list(after.columns) == list(undisturbed.columns)
    pd.testing.assert_series_equal(after.dtypes, undisturbed.dtypes)
    alike = [name for name in SAME if name not in OF_THE_ATTEMPTS]
    pd.testing.assert_frame_equal(after[alike], undisturbed[alike], check_freq=False)
    once = (after["attempts"] == 1).to_numpy()
    assert once[finished].all()
    pd.testing.assert_frame_equal(after.loc[once, SAME], undisturbed.loc[once, SAME], check_freq=False)
    pd.testing.assert_frame_equal(after[finished], before[finished], check_categorical=False, check_freq=False)
