"""With `cache` an identical request is answered from the ledger: free, at once, and marked."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from claude_pool_nb.config import SlotConfig
from claude_pool_nb.errors import ConfigError, TaskFailed
from claude_pool_nb.records import CostBasis, Failure, FailureKind, TaskState, TurnResult, Usage
from claude_pool_nb.testing.scripted_session import ScriptedBackend
from tests.integration.pool.conftest import Held, MakePool

CENT = 10_000_000


def numbered() -> ScriptedBackend:
    """Every answer says how many were asked before."""
    backend = ScriptedBackend(cost_nano=CENT)
    backend.answer = lambda turn: f"{turn.prompt} {len(backend.asked)}"
    return backend


def test_the_second_time_is_free_and_says_so(make_pool: MakePool) -> None:
    """The answer is the first one; no slot, no tokens, no money; the first run's rows are as they were."""
    backend = numbered()
    pool = make_pool(backend)
    first = pool.run("hello", model="haiku")
    again = pool.run("hello", model="haiku", cache=True)
    assert (again.output, again.model, again.cached) == (first.output, first.model, True)
    assert (again.cost_usd, again.cost_basis, again.usage, again.turns) == (0.0, CostBasis.EXACT, Usage(), 0)
    assert (again.attempts, again.slot_id, again.session_id) == (0, None, None)
    assert not first.cached
    assert len(backend.asked) == 1
    assert pool.budget.spent_nano == CENT
    frame = pool.frame(again.run_id)
    row = frame.iloc[0]
    assert (row["state"], row["output"], row["cached"], row["cost_usd"]) == ("completed", first.output, True, 0.0)
    assert row["attempts"] == row["input_tokens"] == row["output_tokens"] == 0
    assert pd.isna(row["slot_id"])
    assert pd.isna(row["wait_s"])
    assert not pd.isna(row["finished_at"])
    assert len(pool.attempts()) == 1
    events = pool.events(run=again.run_id)
    assert list(events["kind"]) == ["run_accepted", "task_pending", "task_cached", "run_changed"]
    assert first.task_id in events["payload"].iloc[2]


def test_without_cache_everything_is_asked(make_pool: MakePool) -> None:
    """It is off unless asked for; a task may turn a pool's own cache off, and gets the newest answer afterwards."""
    backend = numbered()
    pool = make_pool(backend)
    assert [pool.run("hello").output for _ in range(2)] == ["hello 1", "hello 2"]
    assert pool.run("hello", cache=True).output == "hello 2"
    caching = make_pool(numbered(), cache=True)
    assert [caching.run("hello").cached for _ in range(2)] == [False, True]
    assert not caching.run("hello", cache=False).cached


def test_across_kernels(make_pool: MakePool, tmp_path: Path) -> None:
    """What an earlier pool was answered is known to the next one, of the same kind of money only."""
    store = tmp_path / "ledger.sqlite"
    make_pool(numbered(), store=store).run("hello")
    backend, real = numbered(), numbered()
    assert make_pool(backend, store=store).run("hello", cache=True).output == "hello 1"
    assert make_pool(real.named("other"), store=store).run("hello", cache=True).cached is False
    assert backend.asked == []


def test_part_of_a_run_may_be_known(make_pool: MakePool) -> None:
    """Known rows are there at once, the others are asked; the order is that of the input."""
    backend = numbered()
    pool = make_pool(backend)
    pool.fan_out(["b", "d"])
    run = pool.fan_out(["a", "b", "c", "d"], cache=True)
    assert list(run.frame["cached"]) == [False, True, False, True]
    assert run.counts() == {"completed": 4}
    assert sorted(turn.prompt for turn in backend.asked) == ["a", "b", "c", "d"]
    assert run.cost_usd == pytest.approx(0.02)
    every = pool.fan_out(["a", "b", "c", "d"], cache=True)
    assert [result.output for result in every] == [result.output for result in run]
    assert every.cost_usd == 0


def test_known_answers_come_although_nothing_can_run(make_pool: MakePool) -> None:
    """They take no slot and no money: a paused pool without a cent left gives them."""
    pool = make_pool(numbered(), budget_usd=1)
    pool.run("hello")
    pool.set_budget(0)
    pool.pause()
    assert pool.run("hello", cache=True).cached
    assert pool.status().tasks == {"completed": 2}


def test_only_whole_answers_are_given_again(make_pool: MakePool) -> None:
    """A failed answer, and what was interrupted, is asked again."""
    backend = ScriptedBackend(lambda _: Failure(FailureKind.REQUEST, "http_400", "no"))
    pool = make_pool(backend)
    for _ in range(2):
        with pytest.raises(TaskFailed):
            pool.run("hello", cache=True)
    backend.answer = lambda _: "yes"
    assert pool.run("hello", cache=True).output == "yes"
    assert len(backend.asked) == 3


def test_an_interrupted_answer_is_no_answer(make_pool: MakePool, held: Held) -> None:
    """What there was of a cancelled answer is not taken for one."""
    pool = make_pool(held.backend)
    task = pool.submit("hello")
    pool.cancel(task.id)
    with pytest.raises(TaskFailed):
        task.result(5)
    held.let_go(pool)
    assert not pool.run("hello", cache=True).cached


def test_structured_answers_and_warnings_come_back(make_pool: MakePool) -> None:
    """The fields of a typed answer are columns again, and what was to know about it still is."""
    schema = {"type": "object", "properties": {"label": {"type": "string"}}}
    given = TurnResult(output='{"label": "good"}', structured={"label": "good"}, warnings=("odd",), model="scripted")
    pool = make_pool(ScriptedBackend(lambda _: given))
    pool.run("hello", schema=schema)
    again = pool.run("hello", schema=schema, cache=True)
    assert (again.cached, again.structured, again.warnings) == (True, {"label": "good"}, ("odd",))
    assert pool.frame(again.run_id)["out_label"].tolist() == ["good"]
    assert not pool.run("hello", cache=True).cached


def test_what_the_slot_tells_is_part_of_the_request(make_pool: MakePool) -> None:
    """A slot's identity and the shared context change what is sent: an answer to other words is not taken."""
    pool = make_pool(numbered(), slots=1, slot_configs=[SlotConfig(name="Ada")])
    pool.run("hello")
    assert pool.run("hello", cache=True).cached
    pool.set_context("tone", "dry")
    assert not pool.run("hello", cache=True).cached
    assert pool.run("hello", cache=True).cached
    pool.configure_slot("s1", name="Bob")
    assert not pool.run("hello", cache=True).cached


def test_prompts_with_secrets_are_always_asked(make_pool: MakePool) -> None:
    """Two keys look alike once they are redacted: neither gets the other's answer."""
    backend = ScriptedBackend(lambda turn: "ab"["B" in turn.prompt])
    pool = make_pool(backend)
    texts = [f"what is sk-ant-api03-{letter * 20}" for letter in "AB"]
    assert [pool.run(text, cache=True).output for text in texts] == ["a", "b"]


def test_rows_that_are_alike_are_each_asked(make_pool: MakePool) -> None:
    """In one run nothing is known of the others yet; the next run knows."""
    backend = numbered()
    pool = make_pool(backend)
    assert list(pool.fan_out(["x", "x"], cache=True).frame["cached"]) == [False, False]
    assert list(pool.fan_out(["x", "x"], cache=True).frame["cached"]) == [True, True]


def test_an_answer_that_was_given_again_can_be_asked_anew(make_pool: MakePool) -> None:
    """The first attempt of such a task is its first: what was given before is replaced."""
    backend = numbered()
    pool = make_pool(backend)
    pool.run("hello")
    again = pool.run("hello", cache=True)
    with pytest.raises(ConfigError, match="always asks anew"):
        pool.get_run(again.run_id).retry(state="completed", cache=True)
    pool.get_run(again.run_id).retry(state="completed")
    task = pool.get_task(again.task_id)
    assert task.result(5).output == "hello 2"
    row = pool.frame(again.run_id).iloc[0]
    assert (row["cached"], row["attempts"], row["output"]) == (False, 1, "hello 2")
    assert task.state is TaskState.COMPLETED


def test_many_are_found_quickly(make_pool: MakePool) -> None:
    """A large run is answered whole, without a single request."""
    backend = numbered()
    pool = make_pool(backend)
    prompts = [f"prompt {number}" for number in range(1_200)]
    first = pool.fan_out(prompts)
    again = pool.fan_out(prompts, cache=True)
    assert list(again.frame["output"]) == list(first.frame["output"])
    assert len(backend.asked) == 1_200


def test_samples_are_answers_of_their_own(make_pool: MakePool) -> None:
    """The n-th sample of a row is answered by an earlier n-th sample, and by no other."""
    backend = numbered()
    pool = make_pool(backend, slots=1)
    first = pool.map(["x"], "{{ value }}", n=2)
    again = pool.map(["x"], "{{ value }}", n=3, cache=True)
    assert again.frame["cached"].tolist() == [True, True, False]
    assert again.frame["output"].tolist()[:2] == first.frame["output"].tolist()
    assert len(backend.asked) == 3
    metrics = pool.metrics()
    assert metrics[["tasks", "cached", "attempts"]].values.tolist() == [[5, 2, 3]]


def test_a_preview_knows_what_is_free(make_pool: MakePool) -> None:
    """What the ledger answers costs nothing, and is said; without cache it costs."""
    pool = make_pool(numbered())
    pool.map(["x", "y"], "{{ value }}")
    preview = pool.preview(["x", "y", "z"], "{{ value }}", cache=True)
    assert (preview.tasks, preview.cached) == (3, 2)
    assert "2 of 3 tasks answered from the ledger" in repr(preview)
    free = pool.preview(["x", "y"], "{{ value }}", cache=True)
    assert (free.low_usd, free.high_usd, free.seconds_high, free.cached) == (0.0, 0.0, 0.0, 2)
    assert pool.preview(["x", "y"], "{{ value }}").cached == 0
