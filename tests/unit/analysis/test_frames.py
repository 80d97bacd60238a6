"""Frames have the columns, types, order and sums that are promised, whatever is in the ledger."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pandas as pd
import pytest

from claude_pool_nb import events as ev
from claude_pool_nb.analysis import columns, frames
from claude_pool_nb.errors import ConfigError, RunNotFound, TaskNotFound
from claude_pool_nb.records import (
    AttemptState,
    CostBasis,
    Denial,
    Failure,
    FailureKind,
    RunRecord,
    RunState,
    SlotRecord,
    TaskRecord,
    TurnResult,
    Usage,
)
from claude_pool_nb.store.ledger import Ledger

DESIGNED = [
    "run_id",
    "task_id",
    "row",
    "sample",
    "tags",
    "profile",
    "backend",
    "conversation",
    "requested_model",
    "model",
    "slot_id",
    "session_id",
    "state",
    "prompt",
    "output",
    "failure_kind",
    "error_type",
    "error",
    "attempts",
    "cached",
    "cost_usd",
    "cost_basis",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "turns",
    "created_at",
    "started_at",
    "finished_at",
    "wait_s",
    "duration_s",
    "api_s",
    "permission_denials",
]


class Lab:
    """A pool with a ledger in memory."""

    def __init__(self, backend: str = "claude") -> None:
        self.ledger = Ledger.open(":memory:")
        self.backend = backend
        self.pool_id = self.ledger.register_pool(backend=backend, config_json="{}", notebook=None, play_money=False)
        self.budget = self.ledger.open_budget("nb")

    def write(self, *events: ev.Event) -> None:
        """Write and wait."""
        self.ledger.write(self.pool_id, self.budget.id, events).result(10)

    def run(self, *tasks: dict[str, object], meta: str = "{}", backend: str | None = None) -> str:
        """Accept a run of tasks given by their fields."""
        run_id = f"r{self.ledger.new_run()}"
        records = tuple(
            TaskRecord(id=f"{run_id}.{n}", run_id=run_id, number=n, **{"prompt": "p", "created_at": 100.0, **task})
            for n, task in enumerate(tasks, 1)
        )
        record = RunRecord(
            id=run_id,
            verb="map",
            total=len(records),
            pool_id=self.pool_id,
            backend=backend or self.backend,
            meta=meta,
            created_at=100.0,
        )
        self.write(ev.RunAccepted(100.0, record, records))
        return run_id

    def attempt(self, task_id: str, number: int, result: TurnResult, state: AttemptState, slot: str = "s1") -> None:
        """Start and end an attempt."""
        self.write(ev.TaskRunning(101.0 + number, task_id, number, slot, 500, "haiku"))
        self.write(ev.AttemptEnded(102.0 + number, task_id, number, state, result))

    def complete(self, task_id: str, **result: object) -> None:
        """Complete a task at its first attempt."""
        fields: dict[str, object] = {
            "output": "ok", "cost_nano": 1_100_000, "usage": Usage(1, 2, 3, 4), "model": "m1", "turns": 1, **result,
        }  # fmt: skip
        self.attempt(task_id, 1, TurnResult(**fields), AttemptState.COMPLETED)  # type: ignore[arg-type]
        self.write(ev.TaskCompleted(103.0, task_id))


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A lab with an empty ledger."""
    made = Lab()
    yield made
    made.ledger.close()


def test_a_task_frame_has_the_designed_columns_and_types(lab: Lab) -> None:
    """Columns in their order, and the same types with no rows, with unfinished rows and with full ones."""
    empty = frames.task_frame(lab.ledger)
    run = lab.run({}, {"tags": ("a", "b"), "conversation": "c"})
    unfinished = frames.task_frame(lab.ledger, run_ids=[run])
    lab.complete(f"{run}.1", denials=(Denial("Bash", "{}"),), session_id="s")
    full = frames.task_frame(lab.ledger, run_ids=[run])
    for frame in (empty, unfinished, full):
        assert list(frame.columns) == DESIGNED
        assert frame.dtypes.astype(str).to_dict() == full.dtypes.astype(str).to_dict()
        assert "object" not in set(frame.dtypes.astype(str))
    assert full.dtypes["created_at"] == "datetime64[us, UTC]"
    assert full.dtypes["input_tokens"] == "Int64"
    assert full.dtypes["prompt"] == columns.TEXT
    assert full["state"].cat.categories[0] == "pending"
    assert empty["state"].dtype == full["state"].dtype
    assert full.attrs["run_id"] == run
    assert len(unfinished) == 2
    assert unfinished["state"].tolist() == ["pending", "pending"]
    assert full["wait_s"][0] == 2.0
    assert json.loads(full["permission_denials"][0]) == [{"tool": "Bash", "tool_input": "{}"}]
    assert full["tags"].tolist() == ["", "a b"]
    assert full["created_at"][0] == pd.Timestamp(100.0, unit="s", tz="UTC")


def test_all_frames_keep_their_types_when_empty(lab: Lab) -> None:
    """No frame changes its columns or types with its contents."""

    def made() -> list[pd.DataFrame]:
        return [
            frames.attempt_frame(lab.ledger),
            frames.run_frame(lab.ledger),
            frames.event_frame(lab.ledger),
            frames.cost_frame(lab.ledger, by=["model", "tag", "day", "state"]),
            frames.history_frame(lab.ledger),
        ]

    empty = made()
    run = lab.run({"tags": ("x",)}, {})
    lab.complete(f"{run}.1", warnings=("w",))
    lab.write(ev.RunChanged(104.0, run, RunState.COMPLETED))
    for before, after in zip(empty, made(), strict=True):
        assert len(after) > 0
        assert before.dtypes.astype(str).to_dict() == after.dtypes.astype(str).to_dict()
    slots = frames.slot_frame([SlotRecord("s1", pid=4)])
    assert frames.slot_frame([]).dtypes.astype(str).to_dict() == slots.dtypes.astype(str).to_dict()


def test_cost_and_tokens_are_summed_over_attempts(lab: Lab) -> None:
    """What a task cost is what all its attempts cost, and known no better than the least known of them."""
    run = lab.run({}, {})
    crash = Failure(FailureKind.CRASH, "process_killed", "x")
    first = TurnResult(failure=crash, cost_nano=5, cost_basis=CostBasis.ESTIMATED, usage=Usage(10, 10, 10, 10))
    lab.attempt(f"{run}.1", 1, first, AttemptState.FAILED)
    lab.write(ev.TaskWaiting(104.0, f"{run}.1", 104.0, crash))
    second = TurnResult(output="yes", cost_nano=7, usage=Usage(1, 2, 3, 4), model="m2")
    lab.attempt(f"{run}.1", 2, second, AttemptState.COMPLETED, slot="s2")
    lab.write(ev.TaskCompleted(105.0, f"{run}.1"))
    lab.complete(f"{run}.2")
    row, other = (row for _, row in frames.task_frame(lab.ledger, run_ids=[run]).iterrows())
    assert row["cost_usd"] == 12e-9
    assert (row["attempts"], row["cost_basis"], row["output"], row["slot_id"]) == (2, "estimated", "yes", "s2")
    assert [row[name] for name in ("input_tokens", "cache_write_tokens")] == [11, 14]
    assert pd.isna(row["failure_kind"])
    assert (other["cost_usd"], other["cost_basis"]) == (0.0011, "exact")
    attempts = frames.attempt_frame(lab.ledger, task_id=f"{run}.1")
    assert attempts["attempt"].tolist() == [1, 2]
    assert attempts["cost_usd"].sum() == 12e-9
    assert frames.run_frame(lab.ledger)["cost_usd"].tolist() == [pytest.approx(0.001100012)]


def test_input_columns_come_first_with_their_types_and_index(lab: Lab) -> None:
    """The input's columns, dtypes and index are given back, repeated per sample, in row, grid, sample order."""
    meta = {"columns": ["text", "n", "day", "kind"], "dtypes": {"day": "datetime64[us]", "kind": "category"}}
    tasks = []
    for row, label in ((1, "y"), (0, "x")):  # accepted the other way round: the frame is in the input's order
        for sample in (0, 1):
            values = {"kind": "k", "day": f"2026-01-0{row + 1}", "n": row or None, "text": "t", "extra": [1]}
            inputs = json.dumps({"index": label, "values": values})
            tasks.append({"row": row, "sample": sample, "inputs": inputs})
    run = lab.run(*tasks, meta=json.dumps({**meta, "index_names": ["key"]}))
    frame = frames.task_frame(lab.ledger, run_ids=[run])
    assert list(frame.columns) == ["text", "n", "day", "kind", "extra", *DESIGNED]
    assert list(frame.index) == ["x", "x", "y", "y"]
    assert frame.index.name == "key"
    assert frame["row"].tolist() == [0, 0, 1, 1]
    assert frame["sample"].tolist() == [0, 1, 0, 1]
    types = frame.dtypes.astype(str).to_dict()
    assert [types[name] for name in ("n", "day", "kind")] == ["Int64", "datetime64[us]", "category"]
    assert frame["extra"].tolist() == ["[1]"] * 4
    assert frame["day"].iloc[-1] == pd.Timestamp("2026-01-02")


def test_a_multi_index_comes_back(lab: Lab) -> None:
    """Labels that are lists make an index of several levels."""
    inputs = [{"inputs": json.dumps({"index": [a, b], "values": {"state": 1}})} for a, b in (("x", 1), ("x", 2))]
    run = lab.run(*({"row": row, **task} for row, task in enumerate(inputs)))
    frame = frames.task_frame(lab.ledger, run_ids=[run])
    assert frame.index.tolist() == [("x", 1), ("x", 2)]
    assert frame["input_state"].tolist() == [1, 1]  # never in the place of a column of ours


def test_structured_answers_become_typed_columns(lab: Lab) -> None:
    """Fields of the schema are columns behind the output, typed by it, also where no answer came."""
    schema = {
        "type": "object",
        "properties": {
            "label": {"type": "string"},
            "score": {"type": "number"},
            "stars": {"type": ["integer", "null"]},
            "sure": {"type": "boolean"},
            "parts": {"type": "array"},
        },
    }
    options = json.dumps({"schema": json.dumps(schema)})
    run = lab.run(*({"overrides": options, "row": row} for row in range(3)))
    before = frames.task_frame(lab.ledger, run_ids=[run])
    answer = {"label": "é", "score": 1, "stars": 3, "sure": True, "parts": [{"a": 1}], "more": "x"}
    lab.complete(f"{run}.1", structured=answer)
    lab.complete(f"{run}.2", structured={"label": 4, "stars": None})
    frame = frames.task_frame(lab.ledger, run_ids=[run])
    place = list(frame.columns).index("output")
    names = ["out_label", "out_score", "out_stars", "out_sure", "out_parts"]
    assert list(frame.columns)[place + 1 : place + 8] == [*names, "out_more", "failure_kind"]
    types = frame.dtypes.astype(str).to_dict()
    assert [types[name] for name in names] == [columns.TEXT, "Float64", "Int64", "boolean", columns.TEXT]
    assert [before.dtypes.astype(str)[name] for name in names] == [types[name] for name in names]
    assert frame["out_label"].tolist()[:2] == ["é", "4"]
    assert frame["out_parts"][0] == '[{"a": 1}]'
    assert frame["out_stars"].isna().tolist() == [False, True, True]


def test_filters_and_limit(lab: Lab) -> None:
    """Each filter keeps what it says; a limit keeps the latest, oldest first; a tag is a word, not a pattern."""
    first = lab.run({"prompt": "100% sure", "tags": ("a", "ab")}, {"prompt": "100 sure", "tags": ("ab",)})
    second = lab.run({"prompt": "other"})
    lab.complete(f"{first}.1", output="Rust_y")

    def ids(**filters: object) -> list[str]:
        return frames.task_frame(lab.ledger, **filters)["task_id"].tolist()  # type: ignore[arg-type]

    everything = [f"{first}.1", f"{first}.2", f"{second}.1"]
    assert ids() == everything
    assert ids(states=["completed"]) == everything[:1]
    assert ids(states="pending") == everything[1:]
    assert ids(tags=["a"]) == everything[:1]
    assert ids(tags="ab") == everything[:2]
    assert ids(tags=["%"]) == []
    assert ids(limit=2) == everything[1:]
    assert ids(task_ids=[f"{first}.2", f"{second}.1"]) == everything[1:]
    assert ids(run_ids=[second]) == everything[2:]
    assert ids(run_ids=[]) == []
    assert frames.history_frame(lab.ledger, "sure", limit=1)["task_id"].tolist() == everything[1:2]
    with pytest.raises(ConfigError, match="did you mean 'completed'"):
        ids(states=["complete"])
    with pytest.raises(RunNotFound):
        ids(run_ids=["12"])
    with pytest.raises(TaskNotFound):
        ids(task_ids=["r1"])


def test_costs_by_tag_and_model_keep_play_money_apart(lab: Lab) -> None:
    """A task with two tags counts under both; the demo's dollars are rows of their own."""
    run = lab.run({"tags": ("a", "b")}, {"tags": ("a",)}, {})
    for number in (1, 2, 3):
        lab.complete(f"{run}.{number}")
    lab.budget = lab.ledger.open_budget("nb", play_money=True)
    play = lab.run({"tags": ("a",)}, backend="demo")
    lab.complete(f"{play}.1", cost_basis=CostBasis.ESTIMATED)
    frame = frames.cost_frame(lab.ledger, by=["tag"])
    got = frame[["play_money", "tag", "tasks", "cost_usd", "estimated_usd"]].values.tolist()
    assert got == [
        [False, "a", 2, 0.0022, 0.0],
        [False, "", 1, 0.0011, 0.0],
        [False, "b", 1, 0.0011, 0.0],
        [True, "a", 1, 0.0011, 0.0011],
    ]
    assert frames.attempt_frame(lab.ledger, play_money=True)["run_id"].tolist() == [play]
    assert frames.attempt_frame(lab.ledger, play_money=False)["run_id"].tolist() == [run] * 3
    total = frames.cost_frame(lab.ledger, by=[], run_ids=[run])
    assert (total["tasks"].tolist(), total["input_tokens"].tolist()) == ([3], [3])
    with pytest.raises(ConfigError, match="did you mean 'model'"):
        frames.cost_frame(lab.ledger, by=["modle"])


def test_run_frame_counts_states(lab: Lab) -> None:
    """A run's row says where its tasks are."""
    run = lab.run({}, {}, {}, {})
    lab.complete(f"{run}.1")
    lab.write(ev.TaskCancelled(1.0, f"{run}.2"), ev.TaskInterrupted(1.0, f"{run}.3"))
    lab.run({})
    row = frames.run_frame(lab.ledger, run_ids=[run]).iloc[0]
    assert [row[name] for name in ("total", "unfinished", "completed", "failed", "cancelled", "interrupted")] == [
        4, 1, 1, 0, 1, 1,
    ]  # fmt: skip
    assert frames.run_frame(lab.ledger, limit=1)["run_id"].tolist() == ["r2"]


def test_ten_thousand_rows_keep_their_order(lab: Lab) -> None:
    """A large frame has every row, in the order of the input."""
    run = lab.run(*({"row": row, "inputs": json.dumps({"values": {"i": row}})} for row in range(10_000)))
    frame = frames.task_frame(lab.ledger, run_ids=[run])
    assert frame["i"].tolist() == list(range(10_000))
    assert frame["task_id"].iloc[-1] == f"{run}.10000"
