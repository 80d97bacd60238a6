"""Metrics are what one computes by hand: everything once, kinds of money apart, nothing made up."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from claude_pool_nb import Pool
from claude_pool_nb import events as ev
from claude_pool_nb.analysis import frames
from claude_pool_nb.analysis.keys import METRIC_KEYS
from claude_pool_nb.analysis.metrics import metric_frame
from claude_pool_nb.analysis.periods import Period
from claude_pool_nb.errors import ConfigError, RunNotFound
from claude_pool_nb.records import (
    AttemptState,
    CostBasis,
    Failure,
    FailureKind,
    RunRecord,
    TaskRecord,
    TaskState,
    TurnResult,
    Usage,
)
from claude_pool_nb.store import schema
from claude_pool_nb.store.ledger import Ledger

HAIKU, SONNET = "claude-haiku-4-5", "claude-sonnet-4-5"
LOST = Failure(FailureKind.TRANSPORT, "http_503", "The API was not to be had.")


class Book:
    """A ledger, and a pool that writes into it what happened when."""

    def __init__(self) -> None:
        self.ledger = Ledger.open(":memory:")
        self.pool_id = self.ledger.register_pool(backend="claude", config_json="{}", notebook=None, play_money=False)
        self.budget = self.ledger.open_budget("nb", limit_usd=1.0)

    def write(self, *events: ev.Event) -> None:
        """Write and wait."""
        self.ledger.write(self.pool_id, self.budget.id, events).result(10)

    def run(self, *tasks: Mapping[str, Any], backend: str = "claude", at: float = 100.0, meta: str = "{}") -> str:
        """Accept a run of tasks given by their fields."""
        run_id = f"r{self.ledger.new_run()}"
        records = tuple(
            TaskRecord(id=f"{run_id}.{n}", run_id=run_id, number=n, prompt="p", created_at=at, **task)
            for n, task in enumerate(tasks, 1)
        )
        record = RunRecord(
            id=run_id, verb="map", total=len(records), pool_id=self.pool_id, backend=backend, meta=meta, created_at=at
        )
        self.write(ev.RunAccepted(at, record, records))
        return run_id

    def tried(
        self,
        task_id: str,
        number: int,
        slot: str,
        begin: float,
        end: float,
        state: AttemptState = AttemptState.COMPLETED,
        *,
        asked: str | None = "haiku",
        **result: Any,
    ) -> None:
        """One attempt, from its beginning to its end."""
        given: dict[str, Any] = {"model": HAIKU, "duration_s": end - begin, "turns": 1, **result}
        self.write(ev.TaskRunning(begin, task_id, number, slot, 500_000_000, asked))
        self.write(ev.AttemptEnded(end, task_id, number, state, TurnResult(**given)))


@pytest.fixture
def book() -> Iterator[Book]:
    """An empty ledger with a budget of one dollar."""
    made = Book()
    yield made
    made.ledger.close()


@pytest.fixture
def told(book: Book) -> Book:
    """Five tasks: retried, at once, never affordable, not yet begun, cancelled."""
    r = book.run(
        {"tags": ("a", "b"), "requested_model": "haiku"},
        {"tags": ("a",), "requested_model": "sonnet"},
        {"requested_model": "haiku"},
        {"requested_model": "haiku"},
        {"requested_model": "haiku", "conversation": "talk"},
    )
    book.tried(
        f"{r}.1", 1, "s1", 101, 103, AttemptState.FAILED, failure=LOST, cost_nano=1_000_000, usage=Usage(10), api_s=1.0
    )
    book.write(ev.TaskWaiting(103, f"{r}.1", 110, LOST), ev.TaskPendingAgain(110, f"{r}.1"))
    usage = Usage(100, 40, 1000, 200)
    book.tried(f"{r}.1", 2, "s2", 110, 114, cost_nano=2_000_000, usage=usage, api_s=3.0, turns=2)
    book.write(ev.TaskCompleted(114, f"{r}.1"))
    book.tried(
        f"{r}.2", 1, "s1", 103, 104, asked="sonnet", cost_nano=3_000_000, cost_basis=CostBasis.ESTIMATED,
        usage=Usage(50, 10), api_s=0.5, model=SONNET,
    )  # fmt: skip
    book.write(ev.TaskCompleted(104, f"{r}.2"))
    book.write(ev.TaskFailed(104, f"{r}.3", FailureKind.BUDGET, "BudgetExhausted", "No room."))
    book.tried(f"{r}.5", 1, "s2", 101, 102, AttemptState.CANCELLED, cost_basis=CostBasis.UNKNOWN, model=None, turns=0)
    book.write(ev.TaskCancelled(102, f"{r}.5"))
    return book


EXPECTED = {
    "play_money": False,
    "tasks": 5, "completed": 2, "failed": 1, "cancelled": 1, "interrupted": 0, "pending": 1, "waiting": 0, "running": 0,
    "pending_review": 0, "success_rate": 2 / 3, "cached": 0,
    "attempts": 4, "retries": 1, "late_attempts": 0, "error_rate": 1 / 3,
    "failures": 2, "failures_transport": 1, "failures_crash": 0, "failures_limit": 0, "failures_auth": 0,
    "failures_request": 0, "failures_task": 0, "failures_denied": 0, "failures_budget": 1, "failures_timeout": 0,
    "failures_turns": 0,
    "cost_usd": 0.006, "estimated_usd": 0.003, "unknown_cost_attempts": 1, "reserved_usd": 0.0,
    "cost_per_task_usd": 0.002, "cost_per_completed_usd": 0.003, "cost_mean_usd": 0.003, "cost_max_usd": 0.003,
    "budget_limit_usd": 1.0, "budget_share": 0.006,
    "input_tokens": 160, "output_tokens": 50, "cache_read_tokens": 1000, "cache_write_tokens": 200,
    "cache_hit_rate": 1000 / 1360,
    "cache_saved_usd": (1000 * (1.0 - 0.1) - 200 * (1.25 - 1.0)) / 1e6,  # dollars per million tokens of that model
    "turns": 4, "turns_mean": 1.5, "output_tokens_per_s": 10.0,
    "wait_s_mean": 5 / 3, "wait_s_p50": 1.0, "wait_s_p95": 2.8, "wait_s_p99": 2.96, "wait_s_min": 1.0,
    "wait_s_max": 3.0,
    "duration_s_mean": 2.5, "duration_s_p50": 2.5, "duration_s_p95": 3.85, "duration_s_p99": 3.97,
    "duration_s_min": 1.0, "duration_s_max": 4.0,
    "api_s": 4.5, "busy_s": 8.0, "wall_s": 7.0, "slots": 2, "parallelism": 8 / 7, "utilisation": 8 / 14,
    "first_started_at": pd.Timestamp(101, unit="s", tz="UTC"),
    "last_finished_at": pd.Timestamp(114, unit="s", tz="UTC"),
}  # fmt: skip


def test_every_field_is_what_one_computes_by_hand(told: Book) -> None:
    """All columns, in their order, over five tasks that went five ways."""
    frame = metric_frame(told.ledger)
    assert list(frame.columns) == list(EXPECTED)
    got = frame.iloc[0].to_dict()
    for name, value in EXPECTED.items():
        if isinstance(value, float):
            assert got[name] == pytest.approx(value, rel=1e-12), name
        else:
            assert got[name] == value, name


def test_rows_by_tag_count_a_task_under_each_of_its_tags(told: Book) -> None:
    """So they add up to more than there is; what there is in all is counted once, and kept beside."""
    frame = metric_frame(told.ledger, ["tag"]).set_index("tag")
    assert frame.index.tolist() == ["", "a", "b"]
    assert frame["tasks"].tolist() == [3, 2, 1]
    assert frame["attempts"].tolist() == [1, 3, 2]
    assert frame["cost_usd"].tolist() == pytest.approx([0.0, 0.006, 0.003])
    assert frame.attrs["totals"] == [{"play_money": False, "tasks": 5, "attempts": 4, "cost_nano": 6_000_000}]
    chosen = metric_frame(told.ledger, ["tag"], tags=["a"])
    assert chosen["tag"].tolist() == ["a"]
    assert chosen["tasks"].tolist() == [2]
    assert metric_frame(told.ledger, tags=["a", "b"])["tasks"].tolist() == [2]


def test_a_task_is_in_the_row_of_its_last_attempt(told: Book) -> None:
    """Keys of attempts: the first try of a task counts in its own slot, the task in its last one's."""
    by_slot = metric_frame(told.ledger, "slot_id")
    assert by_slot["slot_id"].astype("object").where(by_slot["slot_id"].notna(), None).tolist() == ["s1", "s2", None]
    assert by_slot["attempts"].tolist() == [2, 2, 0]
    assert by_slot["tasks"].tolist() == [1, 2, 2]
    by_model = metric_frame(told.ledger, ["model"])
    assert by_model["model"].astype("object").tolist()[:2] == [HAIKU, SONNET]
    assert by_model["tasks"].tolist() == [1, 1, 3]
    assert by_model["cost_usd"].tolist() == pytest.approx([0.003, 0.003, 0.0])
    assert by_model["cache_saved_usd"].tolist() == pytest.approx([0.00085, 0.0, 0.0])


def test_filters(told: Book) -> None:
    """By time of the attempt, by model asked for or answering, by run."""
    later = metric_frame(told.ledger, period=Period(since_at=103.0))
    assert later[["attempts", "tasks", "cost_usd"]].values.tolist() == [[2, 2, 0.005]]
    early = metric_frame(told.ledger, period=Period(until_at=103.0))
    # The tasks of the two attempts before: one has its last attempt later; those never begun were accepted before.
    assert early[["attempts", "tasks", "cost_usd"]].values.tolist() == [[2, 3, 0.001]]
    for name in ("sonnet", SONNET, "Sonnet"):
        assert metric_frame(told.ledger, models=[name])["cost_usd"].tolist() == [0.003]
    assert metric_frame(told.ledger, models=["haiku"])["tasks"].tolist() == [4]
    assert metric_frame(told.ledger, models=["haiku", "sonnet"])["tasks"].tolist() == [5]
    assert metric_frame(told.ledger, run_ids=["r9"])["tasks"].tolist() == [0]
    assert len(metric_frame(told.ledger, ["model"], run_ids=["r9"])) == 0
    with pytest.raises(RunNotFound):
        metric_frame(told.ledger, run_ids=["first"])


def test_play_money_has_rows_of_its_own(told: Book) -> None:
    """The demo's dollars and real ones are never in one row, whether a budget says so or the backend."""
    told.budget = told.ledger.open_budget("nb", play_money=True)
    play = told.run({"tags": ("a",)}, {}, backend="demo", at=200.0)
    told.tried(f"{play}.1", 1, "s1", 201, 202, cost_nano=7_000_000, model="demo-small", usage=Usage(0, 0, 1000, 0))
    told.write(ev.TaskCompleted(202, f"{play}.1"))
    frame = metric_frame(told.ledger)
    assert frame["play_money"].tolist() == [False, True]
    assert frame["cost_usd"].tolist() == [0.006, 0.007]
    assert frame["tasks"].tolist() == [5, 2]
    assert frame["cache_saved_usd"].tolist()[1] == pytest.approx(1000 * (0.25 - 0.025) / 1e6)
    assert [total["play_money"] for total in frame.attrs["totals"]] == [False, True]
    costs = frames.cost_frame(told.ledger, by=[])
    assert costs["cost_usd"].tolist() == pytest.approx([0.006, 0.007])


def test_what_is_not_known_is_missing_and_not_nothing(book: Book) -> None:
    """An unknown price makes the savings missing; a running attempt reserves, and is not busy yet."""
    r = book.run({}, {})
    book.tried(f"{r}.1", 1, "s1", 101, 102, model="claude-unheard-of", usage=Usage(1, 1, 500, 0))
    book.write(ev.TaskCompleted(102, f"{r}.1"), ev.TaskRunning(103, f"{r}.2", 1, "s2", 250_000_000, "haiku"))
    row = metric_frame(book.ledger).iloc[0]
    assert np.isnan(row["cache_saved_usd"])
    assert (row["running"], row["attempts"], row["reserved_usd"]) == (1, 2, 0.25)
    assert (row["busy_s"], row["slots"], row["last_finished_at"].timestamp()) == (1.0, 1, 102.0)
    book.write(ev.AttemptEnded(105, f"{r}.2", 1, AttemptState.FAILED, TurnResult(failure=LOST), late=True))
    row = metric_frame(book.ledger).iloc[0]
    assert (row["late_attempts"], row["reserved_usd"], row["wall_s"]) == (1, 0.0, 3.0)


def test_an_earlier_answer_given_again_is_a_task_without_an_attempt(told: Book) -> None:
    """It costs nothing and took nobody's time; it is of the model that once gave it, and counts as completed."""
    before = metric_frame(told.ledger).iloc[0]
    given = {
        "run": 1, "task": 4, "number": 0, "slot_id": "", "state": "completed", "late": 0, "reserved_nano": 0,
        "cost_nano": 0, "cost_basis": "exact", "input_tokens": 0, "output_tokens": 0, "cache_read_tokens": 0,
        "cache_write_tokens": 0, "turns": 0, "started_at": 120.0, "finished_at": 120.0, "wrote": 0, "model": SONNET,
    }  # fmt: skip

    def give(connection: Connection) -> None:
        connection.execute(schema.attempt.insert(), given)
        connection.execute(schema.task.update().where(schema.task.c.number == 4).values(state="completed"))

    told.ledger.transact(give)
    after = metric_frame(told.ledger).iloc[0]
    changed = {"completed": 3, "pending": 0, "cached": 1, "success_rate": 0.75, "cost_per_completed_usd": 0.002}
    assert {name: after[name] for name in changed} == changed
    for name in set(EXPECTED) - set(changed) - {"play_money"}:
        assert after[name] == before[name], name
    by_model = metric_frame(told.ledger, ["model"]).set_index("model")
    assert (by_model.loc[SONNET, "tasks"], by_model.loc[SONNET, "attempts"]) == (2, 1)
    by_asked = metric_frame(told.ledger, ["requested_model"]).set_index("requested_model")
    assert by_asked["tasks"].to_dict() == {"haiku": 4, "sonnet": 1}
    assert by_asked.loc["haiku", "cached"] == 1
    assert metric_frame(told.ledger, models=["haiku"])["cached"].item() == 1
    assert metric_frame(told.ledger, ["slot_id"])["slot_id"].tolist()[:2] == ["s1", "s2"]
    assert len(frames.attempt_frame(told.ledger)) == 4


def test_a_failure_is_counted_once_and_one_without_an_attempt_too(book: Book) -> None:
    """A task that failed with its attempt is one failure; one that could not be tried again is a second, of its own."""
    r = book.run({}, {})
    for number in (1, 2):
        book.tried(f"{r}.{number}", 1, "s1", 101 + number, 102 + number, AttemptState.FAILED, failure=LOST)
    book.write(ev.TaskFailed(104, f"{r}.1", FailureKind.TRANSPORT, "http_503", "x"))
    book.write(ev.TaskWaiting(104, f"{r}.2", 105, LOST), ev.TaskPendingAgain(105, f"{r}.2"))
    book.write(ev.TaskFailed(106, f"{r}.2", FailureKind.BUDGET, "BudgetExhausted", "x"))
    row = metric_frame(book.ledger).iloc[0]
    assert (row["failures_transport"], row["failures_budget"], row["failures"]) == (2, 1, 3)
    by_kind = metric_frame(book.ledger, ["failure_kind"])
    assert by_kind["failure_kind"].tolist() == ["transport", "budget"]
    assert by_kind["tasks"].tolist() == [1, 1]


def test_times_of_slots_that_work_side_by_side_and_apart(book: Book) -> None:
    """Wall time is when anything ran; gaps between are not; each slot offers the time of its own pool."""
    r = book.run({}, {}, {}, {})
    for number, (slot, begin, end) in enumerate(
        [("s1", 100, 110), ("s2", 104, 106), ("s2", 108, 112), ("s1", 1000, 1001)], 1
    ):
        book.tried(f"{r}.{number}", 1, slot, begin, end)
    row = metric_frame(book.ledger).iloc[0]
    assert (row["wall_s"], row["busy_s"], row["slots"]) == (13.0, 17.0, 2)
    assert row["utilisation"] == pytest.approx(17 / 26)
    by_slot = metric_frame(book.ledger, ["slot_id"])
    assert by_slot["wall_s"].tolist() == [11.0, 6.0]
    assert by_slot["utilisation"].tolist() == [1.0, 1.0]
    book.tried(book.run({}) + ".1", 1, "s10", 2000, 2001)
    assert metric_frame(book.ledger, ["slot_id"])["slot_id"].tolist() == ["s1", "s2", "s10"]


def test_keys_of_time_are_utc_and_in_order(book: Book) -> None:
    """Day, hour and month are timestamps; a task that was never begun is where it was accepted."""
    at = pd.Timestamp("2026-01-31 23:30", tz="UTC").timestamp()
    r = book.run({}, {}, at=at)
    book.tried(f"{r}.1", 1, "s1", at + 3600, at + 3601, cost_nano=5)
    for key, first, second in (
        ("hour", "2026-01-31 23:00", "2026-02-01 00:00"),
        ("day", "2026-01-31", "2026-02-01"),
        ("month", "2026-01-01", "2026-02-01"),
    ):
        frame = metric_frame(book.ledger, [key])
        assert frame[key].tolist() == [pd.Timestamp(first, tz="UTC"), pd.Timestamp(second, tz="UTC")]
        assert frame["attempts"].tolist() == [0, 1]
        assert frame["tasks"].tolist() == [1, 1]
        assert frames.cost_frame(book.ledger, [key])[key].tolist() == [pd.Timestamp(second, tz="UTC")]


def test_input_columns_and_grid_keys_are_keys_too(book: Book) -> None:
    """A column that some run was made from can be grouped by, with its type; what has none of it is missing."""
    tones = [("kind", 1), ("blunt", 2), ("kind", 2)]
    inputs = [{"inputs": json.dumps({"index": n, "values": {"tone": t, "n": k}})} for n, (t, k) in enumerate(tones)]
    r = book.run(*inputs, meta=json.dumps({"columns": ["tone", "n"]}))
    book.run({})
    for number in (1, 2, 3):
        book.tried(f"{r}.{number}", 1, "s1", 100 + number, 101 + number, cost_nano=number * 1_000_000)
    frame = metric_frame(book.ledger, ["tone"])
    assert frame["tone"].fillna("-").tolist() == ["blunt", "kind", "-"]
    assert frame["cost_usd"].tolist() == pytest.approx([0.002, 0.004, 0.0])
    by_number = metric_frame(book.ledger, ["n", "tone"], run_ids=[r])
    assert by_number["n"].dtype.kind == "i" or str(by_number["n"].dtype) == "Int64"
    assert by_number[["n", "tone", "tasks"]].values.tolist() == [[1, "kind", 1], [2, "blunt", 1], [2, "kind", 1]]
    odd = book.run({"inputs": json.dumps({"values": {"tasks": 7, "state": "new", "play_money": True}})})
    named = metric_frame(book.ledger, ["tasks", "input_state", "state"], run_ids=[odd])
    assert named[["input_tasks", "input_state", "state", "tasks"]].values.tolist() == [[7, "new", "pending", 1]]
    assert named.attrs["by"] == ["input_tasks", "input_state", "state"]
    assert not metric_frame(book.ledger, ["input_play_money"], run_ids=[odd])["play_money"].iloc[0]
    with pytest.raises(ConfigError, match="did you mean 'tone'"):
        metric_frame(book.ledger, ["tome"])
    with pytest.raises(ConfigError, match="did you mean 'requested_model'"):
        metric_frame(book.ledger, ["requested_modle"])


def test_an_empty_store_has_one_row_of_nothing_and_the_same_types(told: Book) -> None:
    """Without keys one row of zeros; with keys none; types never depend on what is there."""
    keys = [key for key in METRIC_KEYS if key != "tag"]
    with Ledger.open(":memory:") as ledger:
        row = metric_frame(ledger)
        assert row[["tasks", "attempts", "cost_usd", "busy_s"]].values.tolist() == [[0, 0, 0.0, 0.0]]
        assert row[["success_rate", "wait_s_p50", "cost_per_task_usd", "first_started_at"]].isna().all(axis=None)
        for by in ([], keys, ["tag"]):
            empty, full = metric_frame(ledger, by), metric_frame(told.ledger, by)
            assert empty.dtypes.astype(str).to_dict() == full.dtypes.astype(str).to_dict()
            assert len(empty) == (0 if by else 1)
            assert "object" not in set(full.dtypes.astype(str))


# -- against another way of computing it -------------------------------------------------------------------------------

STATES = [state.value for state in TaskState]
TRIES = st.tuples(
    st.sampled_from(["completed", "failed", "cancelled", "interrupted", "running"]),
    st.sampled_from([HAIKU, SONNET, "claude-unheard-of", None]),
    st.sampled_from(["s1", "s2", "s10"]),
    st.floats(0, 200_000, allow_nan=False),
    st.integers(0, 900_000).map(lambda millis: millis / 1000),
    st.integers(0, 10**12),
    st.integers(0, 10**6),
)
TASKS = st.tuples(
    st.integers(1, 12),
    st.sampled_from(STATES),
    st.sampled_from(["", "a", "b a", "c"]),
    st.sampled_from(["haiku", "sonnet", None]),
    st.sampled_from(["claude", "demo", "replay"]),
    st.lists(TRIES, max_size=3),
)


def fill(ledger: Ledger, tasks: list[Any]) -> None:
    """Write tasks and attempts as rows."""
    runs: dict[int, dict[str, Any]] = {}
    task_rows, attempt_rows = [], []
    for number, (run, state, tags, asked, backend, tries) in enumerate(tasks, 1):
        known = runs.setdefault(
            run,
            {
                "number": run, "verb": "map", "state": "completed", "total": 1, "pool": run % 3, "backend": backend,
                "config": "{}", "meta": "{}", "tags": "", "created_at": 0.0,
            },
        )  # fmt: skip
        assert known["number"] == run
        task_rows.append(
            {
                "run": run, "number": number, "state": state, "row": 0, "sample": 0, "priority": 0,
                "attempts": len(tries), "opened_attempts": 0, "created_at": float(number * 1000),
                "started_at": tries[0][3] + number * 1000 if tries else None, "tags": tags, "profile": "prompt",
                "requested_model": asked, "overrides": "{}", "prompt": "p",
                "failure_kind": "budget" if state == "failed" else None,
            }
        )  # fmt: skip
        for attempt, (ended, model, slot, begin, took, cost, tokens) in enumerate(tries, 1):
            over = ended != "running"
            attempt_rows.append(
                {
                    "run": run, "task": number, "number": attempt, "slot_id": slot, "state": ended, "late": 0,
                    "requested_model": asked, "reserved_nano": 5, "cost_nano": cost, "cost_basis": "exact",
                    "input_tokens": tokens, "output_tokens": tokens, "cache_read_tokens": 0, "cache_write_tokens": 0,
                    "turns": 1, "started_at": number * 1000 + begin,
                    "finished_at": number * 1000 + begin + took if over else None,
                    "duration_s": took if over else None, "api_s": None, "wrote": 0, "model": model,
                    "failure_kind": "crash" if ended == "failed" else None,
                }
            )  # fmt: skip
    for table, rows in (
        (schema.run, list(runs.values())), (schema.task, task_rows), (schema.attempt, attempt_rows),
    ):  # fmt: skip
        if rows:
            ledger.transact(lambda connection, table=table, rows=rows: connection.execute(table.insert(), rows))


ADDITIVE = [
    "tasks", "completed", "failed", "cancelled", "interrupted", "pending", "waiting", "running", "pending_review",
    "cached", "attempts", "retries", "failures", "failures_crash", "failures_budget", "cost_usd", "reserved_usd",
    "input_tokens", "output_tokens", "turns", "busy_s",
]  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(st.lists(TASKS, max_size=12), st.lists(st.sampled_from([k for k in METRIC_KEYS if k != "tag"]), max_size=3))
def test_rows_add_up_to_the_whole_and_agree_with_the_other_frames(tasks: list[Any], by: list[str]) -> None:
    """Whatever happened: by any keys but tag the rows sum to the total, which is that of tasks() and attempts()."""
    with Ledger.open(":memory:") as ledger:
        fill(ledger, tasks)
        whole, parts = metric_frame(ledger), metric_frame(ledger, by)
        for name in ADDITIVE:
            for play in (False, True):
                total = whole.loc[whole["play_money"] == play, name].sum()
                assert parts.loc[parts["play_money"] == play, name].sum() == pytest.approx(total), name
        every, attempts = frames.task_frame(ledger), frames.attempt_frame(ledger)
        assert whole["tasks"].sum() == len(every)
        for state in STATES:
            assert whole[state].sum() == (every["state"] == state).sum()
        assert whole["cost_usd"].sum() == pytest.approx(attempts["cost_usd"].sum())
        for play, some in attempts.groupby("play_money"):
            row = whole[whole["play_money"] == play].iloc[0]
            ran = some.loc[some["state"] == "completed", "duration_s"]
            for share, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99")):
                wanted = ran.quantile(share)
                assert row[f"duration_s_{name}"] == pytest.approx(wanted, nan_ok=True)
            assert row["wall_s"] <= row["busy_s"] + 1e-6
        assert parts.drop(columns=["play_money", *dict.fromkeys(by)]).shape[1] == whole.shape[1] - 1
        slots = metric_frame(ledger, ["model", "slot_id"]).dropna(subset=["slot_id"])
        for _, row in slots.iterrows():
            same = attempts["model"].isna() if pd.isna(row["model"]) else attempts["model"] == row["model"]
            chosen = attempts[same & (attempts["slot_id"] == row["slot_id"])]
            chosen = chosen[chosen["play_money"] == row["play_money"]]
            assert row["attempts"] == len(chosen)
            assert row["cost_usd"] == pytest.approx(chosen["cost_usd"].sum())


def test_costs_and_metrics_agree_and_take_the_same_filters(told: Book) -> None:
    """`cost` sums the same attempts as `metrics`, whatever is filtered."""
    for filters in ({}, {"tags": ["b"]}, {"models": ["sonnet"]}, {"period": Period(since_at=103.0)}):
        for key in ("model", "requested_model", "run_id", "day", "hour", "month", "slot_id", "conversation"):
            cost = frames.cost_frame(told.ledger, [key], **filters)  # type: ignore[arg-type]
            metrics = metric_frame(told.ledger, [key], **filters)  # type: ignore[arg-type]
            both = cost.merge(metrics[metrics["attempts"] > 0], on=["play_money", key], suffixes=("", "_m"))
            assert len(both) == len(cost), (filters, key)
            assert both["cost_usd"].tolist() == pytest.approx(both["cost_usd_m"].tolist())
            assert both["attempts"].tolist() == both["attempts_m"].tolist()
            assert cost.attrs["totals"][0]["cost_nano"] == metrics.attrs["totals"][0]["cost_nano"]
    by_tag = frames.cost_frame(told.ledger, ["tag"], tags=["b"])
    assert by_tag["tag"].tolist() == ["b"]


def test_attempts_are_filtered(told: Book) -> None:
    """Each filter of `attempts` keeps what it says."""

    def ids(**filters: Any) -> list[str]:
        frame = frames.attempt_frame(told.ledger, **filters)
        return [f"{task}#{number}" for task, number in zip(frame["task_id"], frame["attempt"], strict=True)]

    assert ids() == ["r1.1#1", "r1.1#2", "r1.2#1", "r1.5#1"]
    assert ids(states=["completed"]) == ["r1.1#2", "r1.2#1"]
    assert ids(models=[SONNET]) == ["r1.2#1"]
    assert ids(models=["HAIKU"]) == ["r1.1#1", "r1.1#2", "r1.5#1"]
    assert ids(tags=["b", "c"]) == ["r1.1#1", "r1.1#2"]
    assert ids(period=Period(102.0, 110.0)) == ["r1.2#1"]
    assert list(frames.attempt_frame(told.ledger, only=["cost_usd"]).columns) == [
        "run_id", "task_id", "attempt", "cost_usd",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="did you mean 'failed'"):
        ids(states=["fail"])


def test_the_verbs_of_a_pool() -> None:
    """Handles, words and spans are taken as people give them; what cannot be understood is told."""
    with Pool(backend="demo", demo_latency_s=0, store=":memory:", slots=2) as pool:
        first = pool.fan_out(["a", "b"], model="haiku", tags=["x"])
        second = pool.fan_out(["c"], model="sonnet")
        assert pool.metrics(run=first)["tasks"].tolist() == [2]
        assert pool.metrics(run=[first, second.id])["tasks"].tolist() == [3]
        assert pool.metrics("requested_model", since="1h")["completed"].tolist() == [2, 1]
        assert pool.metrics(until="1h")["attempts"].tolist() == [0]
        assert pool.cost("tag", run=first)["tag"].tolist() == ["x"]
        assert len(pool.attempts(state="completed", since="1h", tags="x", limit=1)) == 1
        assert "output" not in pool.attempts(outputs=False)
        assert bool(pool.metrics()["play_money"].iloc[0])
        for wrong in ({"run": 12}, {"tags": 3}, {"model": [None]}, {"since": "noon"}, {"by": ["colour"]}):
            with pytest.raises(ConfigError):
                pool.metrics(**wrong)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="limit"):
            pool.attempts(limit=-1)


def test_a_run_is_named_the_same_way_everywhere() -> None:
    """Every frame takes a run, its id, its frame, several of them and `all`; one that does not exist is an error."""
    with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
        first, second = pool.fan_out(["a", "b"]), pool.fan_out(["c"])
        for verb in (pool.tasks, pool.attempts, pool.events):
            every = set(verb()["run_id"].dropna())
            assert every == {"r1", "r2"}, verb
            for given, ids in ((first, {"r1"}), ("r2", {"r2"}), (second.frame, {"r2"}), ([first, "r2"], every)):
                assert set(verb(run=given)["run_id"]) == ids, (verb, ids)
            assert set(verb(run="all")["run_id"].dropna()) == every, verb
            with pytest.raises(RunNotFound):
                verb(run="r99")
        with pytest.raises(RunNotFound):
            pool.cost(run="r99")
