"""Whole pools on a tape: what was recorded comes back as the same frame, and what was not says so."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from claude_pool_nb import (
    AsyncPool,
    CassetteError,
    ConfigError,
    Pool,
    RetryPolicy,
    SlotConfig,
    StoreCorrupt,
    TaskFailed,
)
from claude_pool_nb.records import Failure, FailureKind, TurnResult
from claude_pool_nb.sessions.base import BackendInfo, Turn
from claude_pool_nb.testing.scripted_session import ScriptedBackend
from tests.integration.pool.conftest import Held, MakePool
from tests.waiting import wait_until

MOVING = [
    "backend", "slot_id", "session_id", "cached", "created_at", "started_at", "finished_at", "wait_s", "duration_s",
    "api_s",
]  # fmt: skip
"""Columns that tell where and when a task ran; the times are those of the recording, to a tenth of a second."""
QUICK = RetryPolicy(initial_backoff_s=0.01, max_backoff_s=0.01)
SCHEMA = {"type": "object", "properties": {"sentiment": {"type": "string"}}, "required": ["sentiment"]}


def same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    """Two frames are equal but for where and when."""
    pd.testing.assert_frame_equal(one.drop(columns=MOVING), other.drop(columns=MOVING), check_categorical=False)


def notebook(**options: Any) -> pd.DataFrame:
    """What a notebook does: single prompts, many, typed ones, failures, retries, a conversation."""
    with Pool(store=":memory:", demo_latency_s=0, retry=QUICK, **options) as pool:
        pool.run("Write a haiku about rust.")
        table = pd.DataFrame({"prompt": [f"Classify: film {n} was great" for n in range(20)], "film": range(20)})
        pool.fan_out(table, model="haiku", tags=["films"])
        pool.fan_out(["I love it", "I hate it"], schema=SCHEMA, model="sonnet")
        pool.fan_out(["[demo:fail] no", "[demo:flaky] yes", "[demo:crash] yes", "[demo:deny] write", "same", "same"])
        pool.run("My name is Ada.", conversation="who")
        assert "Ada" in pool.run("What is my name?", conversation="who").output
        return pool.tasks()


def test_a_recording_comes_back_as_the_same_frame(tmp_path: Path) -> None:
    """Answers, failures, attempts, tokens, costs, warnings: everything but where and when; a replay needs no model."""
    tape = tmp_path / "tape.ndjson"
    recorded = notebook(backend="demo", record=tape, slots=4)
    replayed = notebook(backend="replay", cassette=tape, slots=2)
    same(recorded, replayed)
    assert set(replayed["backend"]) == {"replay"}
    assert replayed["cached"].all()
    assert replayed["attempts"].max() == 2
    assert list(replayed["duration_s"]) == pytest.approx(list(recorded["duration_s"]), abs=0.051)


def test_the_tape_is_the_same_on_one_slot_and_on_eight(tmp_path: Path) -> None:
    """Which session answered, and which first, is nowhere on it."""
    notebook(backend="demo", record=tmp_path / "one.ndjson", slots=1)
    notebook(backend="demo", record=tmp_path / "eight.ndjson", slots=8)
    one, eight = ((tmp_path / f"{name}.ndjson").read_bytes() for name in ("one", "eight"))
    assert one == eight
    assert len(one.splitlines()) > 30


def test_a_tape_is_readable_json(tmp_path: Path) -> None:
    """A header, the options once, then a line for each attempt, in the order of the tasks."""
    notebook(backend="demo", record=tmp_path / "tape.ndjson")
    head, *lines = [json.loads(line) for line in (tmp_path / "tape.ndjson").read_text(encoding="utf-8").splitlines()]
    assert head == {"format": "claude-pool-nb tape", "version": 1, "backend": "demo", "recorded_with": "0.1.0"}
    assert [line["prompt"] for line in lines if "prompt" in line][:3] == [
        "Write a haiku about rust.",
        "Classify: film 0 was great",
        "Classify: film 1 was great",
    ]
    assert sum("prompt" not in line for line in lines) == 2


def test_samples_and_rows_with_the_same_prompt_keep_their_answers(tmp_path: Path) -> None:
    """The third of three identical prompts gets the third answer again, on any number of slots."""
    lock, count = threading.Lock(), iter(range(100))

    def answer(_turn: Turn) -> str:
        with lock:
            return f"answer {next(count)}"

    backend = ScriptedBackend(answer)
    with Pool(slots=1, backend=backend, store=":memory:", record=tmp_path / "tape.ndjson") as pool:
        recorded = pool.fan_out(["again"] * 10).frame
    with Pool(slots=3, backend="replay", store=":memory:", cassette=tmp_path / "tape.ndjson") as pool:
        same(recorded, pool.fan_out(["again"] * 10).frame)
        assert list(pool.fan_out(["again"] * 2).frame["output"]) == ["answer 0", "answer 1"]
        assert any("start over" in warning for warning in pool.warnings)


def test_a_request_that_is_not_on_the_tape_fails_its_row_only(tmp_path: Path) -> None:
    """The row names the nearest request and what differs, and is tried once; pool.run raises it."""
    tape = tmp_path / "tape.ndjson"
    with Pool(backend="demo", demo_latency_s=0, store=":memory:", record=tape) as pool:
        pool.fan_out(["review 1: good", "review 2: bad"])
    with Pool(backend="replay", store=":memory:", cassette=tape) as pool:
        frame = pool.fan_out(["review 1: good", "review 3: bad"]).frame
        assert list(frame["state"]) == ["completed", "failed"]
        assert list(frame["attempts"]) == [1, 1]
        assert list(frame["error_type"])[1] == "not_on_tape"
        assert "differs in the prompt from character 8 on ('2: bad' on the tape, '3: bad' asked)" in frame["error"][1]
        with pytest.raises(TaskFailed, match="model \\(None on the tape, 'opus' asked\\)"):
            pool.run("review 1: good", model="opus")


def test_replay_dollars_are_play_money(tmp_path: Path) -> None:
    """A replay of dear answers books them, apart from real money, and its own budget holds."""
    tape = tmp_path / "tape.ndjson"
    dear = ScriptedBackend(cost_nano=10**9, price_nano=10**9, info=BackendInfo("claude"))
    store = tmp_path / "ledger.db"
    with Pool(backend=dear, store=store, record=tape, model="haiku") as pool:
        pool.fan_out(["a", "b", "c"])
    with Pool(backend="replay", store=store, cassette=tape, model="haiku", budget_usd=2, slots=1) as pool:
        assert pool.budget.play_money
        assert "replay" in pool.budget.name
        assert pool.fan_out(["a", "b", "c"]).counts() == {"completed": 2, "failed": 1}
        assert pool.budget.spent_nano == 2 * 10**9
        costs = pool.cost()
    assert set(costs["play_money"]) <= {True, False}
    assert costs.loc[~costs["play_money"].astype(bool), "cost_usd"].sum() == pytest.approx(3)


def test_a_conversation_is_replayed_over_restarts(tmp_path: Path) -> None:
    """It is resumed by what was said, not by ids of the machine where it was recorded; also a recording goes on."""
    tape = tmp_path / "tape.ndjson"

    def turn(prompt: str, ledger: str, **options: Any) -> str:
        with Pool(store=tmp_path / ledger, demo_latency_s=0, **options) as pool:
            return pool.run(prompt, conversation="who").output

    prompts = ("My name is Ada.", "Count the words: one two", "What is my name?")
    recorded = [turn(prompt, "a.db", backend="demo", record=tape) for prompt in prompts]
    assert [turn(prompt, "b.db", backend="replay", cassette=tape) for prompt in prompts] == recorded
    with pytest.raises(TaskFailed, match="what the conversation said before"):
        turn(prompts[1], "c.db", backend="replay", cassette=tape)


def test_real_speed_takes_the_time_it_took(tmp_path: Path) -> None:
    """At real speed an answer comes in its pieces; at once it does not wait, not even to be tried again."""
    tape = tmp_path / "tape.ndjson"
    calls = iter([Failure(FailureKind.LIMIT, "http_429", "slow down", retry_after_s=30.0), "late"])

    def answer(_turn: Turn) -> Any:
        given = next(calls)
        return given if isinstance(given, Failure) else TurnResult(output=given, duration_s=0.4, model="m")

    quick = RetryPolicy(initial_backoff_s=0.01)
    backend = ScriptedBackend(answer)
    with Pool(backend=backend, store=":memory:", record=tape, slots=1) as pool:
        task = pool.submit("a poem", retry=quick)
        wait_until(lambda: str(task.state) == "waiting")
        pool.cancel(task.id)
    with Pool(backend=backend, store=":memory:", record=tape, slots=1) as pool:  # the limit holds in the other one
        pool.run("a limerick")
    with Pool(backend="replay", store=":memory:", cassette=tape, slots=1) as pool:
        with pytest.raises(TaskFailed, match="slow down"):
            pool.run("a poem", retry=quick)
        frame = pool.tasks()
        assert frame["attempts"][0] == 3
        assert (frame["finished_at"] - frame["created_at"])[0].total_seconds() < 5
    with Pool(backend="replay", store=":memory:", cassette=tape, slots=1, speed="real") as pool:
        pool.run("a limerick")
        frame = pool.tasks()
        assert (frame["finished_at"] - frame["started_at"])[0].total_seconds() >= 0.39


def test_names_of_slots_do_not_bind_a_replay_to_them(tmp_path: Path) -> None:
    """Which named slot got a task was chance; each answer is still played once, and roles keep theirs."""
    tape = tmp_path / "tape.ndjson"
    slots = [SlotConfig(name=name, role=role) for name, role in (("Ada", "judge"), ("Bob", "author"), ("Eve", "judge"))]

    def answer(turn: Turn) -> str:
        return f"{turn.options.appended_prompt} {turn.prompt}"

    def story(**options: Any) -> pd.DataFrame:
        with Pool(store=":memory:", slot_configs=slots, **options) as pool:
            pool.fan_out([f"prompt {number}" for number in range(12)])
            pool.run("who?", role="author")
            pool.fan_out(["who?"] * 4, role="judge")
            return pool.tasks()

    recorded = story(backend=ScriptedBackend(answer, delay_s=0.002), record=tape, slots=3)
    replayed = story(backend="replay", cassette=tape, slots=3)
    assert list(replayed["output"][:13]) == list(recorded["output"][:13])
    assert sorted(replayed["output"][13:]) == sorted(recorded["output"][13:])
    assert (replayed["state"] == "completed").all()


def test_a_timeout_comes_back_as_one_and_a_cancelled_task_does_not(tmp_path: Path, held: Held) -> None:
    """What the pool's own clock stopped is an answer of sorts; what a person stopped was never answered."""
    tape = tmp_path / "tape.ndjson"
    with Pool(slots=2, backend=held.backend, store=":memory:", record=tape) as pool:
        recorded = pool.fan_out(["a saga"], timeout_s=0.1).frame
        task = pool.submit("a poem")
        wait_until(lambda: str(task.state) == "running")
        pool.cancel(task.id)
        pool.wait()
    with Pool(slots=2, backend="replay", cassette=tape, store=":memory:") as pool:
        replayed = pool.fan_out(["a saga"], timeout_s=0.1).frame
        with pytest.raises(TaskFailed, match="Not on the tape"):
            pool.run("a poem")
    same(recorded, replayed)
    assert list(replayed["error_type"]) == ["wall_timeout"]


# -- with pool.cassette(...) -------------------------------------------------------------------------------------------


def test_a_block_records_once_and_plays_from_then_on(tmp_path: Path) -> None:
    """Within the block the tape answers, around it the model; the second time the model is not asked."""
    tape = tmp_path / "tape.ndjson"
    backend = ScriptedBackend()
    with Pool(slots=2, backend=backend, store=":memory:") as pool:
        pool.run("before")
        for _ in range(2):
            with pool.cassette(tape) as cassette:
                assert str(tape) in (pool.notice or "")
                assert pool.fan_out(["a", "b", "c"]).counts() == {"completed": 3}
            assert str(tape) not in (pool.notice or "")
            pool.run("after")
        assert (cassette.played, cassette.recorded, cassette.missing) == (3, 0, 0)
        with pool.cassette(tape) as cassette, pytest.raises(TaskFailed, match="Not on the tape"):
            pool.run("d")
        with pool.cassette(tape, "new") as cassette:
            pool.fan_out(["d", "a"])
        assert (cassette.played, cassette.recorded) == (1, 1)
    assert sorted(turn.prompt for turn in backend.asked) == ["a", "after", "after", "b", "before", "c", "d"]
    assert tape.read_text(encoding="utf-8").count('{"prompt": ') == 4


def test_a_block_waits_for_the_turns_that_run(tmp_path: Path, held: Held, make_pool: MakePool) -> None:
    """What was begun within the block is on the tape, and what was begun before it is not."""
    pool = make_pool(held.backend, slots=1)
    early = pool.submit("early")
    wait_until(lambda: len(held.backend.asked) == 1)
    with pool.cassette(tmp_path / "tape.ndjson"):
        held.let_go(pool)
        early.result(10)
        late = pool.submit("late")
        wait_until(lambda: len(held.backend.asked) == 2)
    assert late.result(10).output == "late"
    text = (tmp_path / "tape.ndjson").read_text(encoding="utf-8")
    assert '"late"' in text
    assert '"early"' not in text


def test_a_tape_whose_recording_was_killed_says_so_in_the_pool(tmp_path: Path, make_pool: MakePool) -> None:
    """What was cut off is told once, and the rest is played."""
    tape = tmp_path / "tape.ndjson"
    with Pool(backend=ScriptedBackend(), store=":memory:", record=tape) as pool:
        pool.run("a")
    tape.write_bytes(tape.read_bytes() + b'{"recording": "all"}\n{"prompt": "b", "mod')
    pool = make_pool()
    with pool.cassette(tape):
        assert pool.run("a").output == "a"
    assert any("cut off" in warning for warning in pool.warnings)


def test_an_error_in_a_block_takes_the_cassette_out(tmp_path: Path, make_pool: MakePool) -> None:
    """The exception goes through, the tape is in order, and the pool goes on without it."""
    pool = make_pool()

    def cell() -> None:
        with pool.cassette(tmp_path / "tape.ndjson"):
            pool.run("a")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cell()
    assert (tmp_path / "tape.ndjson").read_bytes().count(b"\n") == 3
    assert pool.run("b").output == "b"
    with pytest.raises(CassetteError, match="no mode"):
        pool.cassette(tmp_path / "tape.ndjson", "some").__enter__()
    assert pool.run("c").output == "c"


def test_a_pool_that_is_closed_in_a_block_leaves_the_tape_in_order(tmp_path: Path) -> None:
    """The end of the pool is the end of the recording."""
    with Pool(backend=ScriptedBackend(), store=":memory:") as pool, pool.cassette(tmp_path / "tape.ndjson"):
        pool.run("a")
        pool.close()
    assert b"recording" not in (tmp_path / "tape.ndjson").read_bytes().split(b"\n", 1)[1]


def test_real_money_is_not_spent_on_what_is_played(tmp_path: Path) -> None:
    """In a pool of real money an answer from a tape costs nothing; in one of play money it costs what it did."""
    for real in (True, False):
        tape = tmp_path / f"{real}.ndjson"
        info = BackendInfo("claude", play_money=not real)
        with Pool(backend=ScriptedBackend(info=info), store=":memory:", model="haiku") as pool:
            for _ in range(2):
                with pool.cassette(tape):
                    pool.run("a")
            assert list(pool.tasks()["cost_usd"]) == [0.001, 0.0 if real else 0.001]
            assert pool.budget.spent_nano == (1_000_000 if real else 2_000_000)


def test_what_was_played_free_makes_no_real_task_look_cheap(tmp_path: Path) -> None:
    """Reservations and previews stand on what was paid, however often a tape was played since, and after a restart."""
    backend = ScriptedBackend(cost_nano=5_000_000, info=BackendInfo("claude", play_money=False))
    options: dict[str, Any] = {"store": tmp_path / "ledger.db", "model": "haiku", "budget_usd": 1, "slots": 2}
    with Pool(backend=backend, **options) as pool:
        for _ in range(9):
            with pool.cassette(tmp_path / "tape.ndjson"):
                pool.map(list("abcdefghijklmnopqrst"), "Say {{ value }}")
        assert pool.budget.spent_nano == 100_000_000
        assert pool.preview(["a"] * 10, "Say {{ value }}").low_usd == pytest.approx(0.05, rel=0.5)
        pool.run("paid")
        assert pool.attempts()["reserved_usd"].iloc[-1] == pytest.approx(0.005)
    with Pool(backend=backend, **options) as pool:
        pool.run("paid again")
        assert pool.attempts()["reserved_usd"].iloc[-1] == pytest.approx(0.005)


def test_a_replay_takes_another_tape_for_a_while_and_records_none(tmp_path: Path) -> None:
    """A pool without a model plays the block's tape, and then its own again."""
    for name in ("one", "two"):
        with Pool(backend=ScriptedBackend(), store=":memory:", record=tmp_path / name) as pool:
            pool.run(name)
    with Pool(backend="replay", cassette=tmp_path / "one", store=":memory:") as pool:
        with pool.cassette(tmp_path / "two"):
            assert pool.run("two").output == "two"
            with pytest.raises(TaskFailed):
                pool.run("one")
        assert pool.run("one").output == "one"
        with pytest.raises(CassetteError, match="only replays"), pool.cassette(tmp_path / "three"):
            pass


async def test_an_async_pool_has_them_too(tmp_path: Path) -> None:
    """The same verbs, awaited."""
    async with AsyncPool(backend=ScriptedBackend(), store=":memory:", record=tmp_path / "all.ndjson") as pool:
        for _ in range(2):
            async with pool.cassette(tmp_path / "tape.ndjson") as cassette:
                await pool.run("a")
        assert cassette.played == 1
    async with AsyncPool(backend="replay", cassette=tmp_path / "all.ndjson", store=":memory:") as pool:
        assert (await pool.run("a")).output == "a"


# -- what cannot be ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "replay"}, "needs the tape"),
        ({"backend": "replay", "cassette": "x", "record": "y"}, "a replay is not recorded"),
        ({"backend": "demo", "cassette": "x"}, "give backend='replay' too"),
        ({"backend": "demo", "speed": "real"}, "is of a replay"),
        ({"backend": "replay", "cassette": "x", "speed": "slow"}, "no speed 'slow'"),
        ({"backend": "demo", "record": 3}, "takes the path"),
        ({"backend": "demo", "record": ""}, "takes the path"),
        ({"backend": "demo", "casette": "x"}, "did you mean 'cassette'"),
        ({"backend": "demo", "config": None, "recrod": "x"}, "did you mean 'record'"),
    ],
)
def test_arguments_that_contradict_each_other_are_refused(options: dict[str, Any], message: str) -> None:
    """Nothing is started, and the message says what to write instead."""
    with pytest.raises(ConfigError, match=message):
        Pool(store=":memory:", **options)


def test_a_tape_that_cannot_be_used_starts_nothing(tmp_path: Path) -> None:
    """A bad tape leaves no ledger behind, and a ledger that cannot be opened leaves no tape."""
    (tmp_path / "bad.ndjson").write_text('{"format": "claude-pool-nb tape", "version": 9}\n', encoding="utf-8")
    with pytest.raises(CassetteError, match="line 1: the tape has format version 9"):
        Pool(backend="replay", cassette=tmp_path / "bad.ndjson", store=tmp_path / "ledger.db")
    (tmp_path / "no.db").write_bytes(b"no ledger" * 200)
    with pytest.raises(StoreCorrupt):
        Pool(backend="demo", record=tmp_path / "new.ndjson", store=tmp_path / "no.db")
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["bad.ndjson", "no.db"]
