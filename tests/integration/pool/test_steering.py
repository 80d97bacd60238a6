"""Slots, roles, context, priorities, options: what a task is told and where it runs."""

from __future__ import annotations

import pytest

from claude_pool_nb.config import PoolConfig, SlotConfig
from claude_pool_nb.errors import ConfigError, SlotNotFound
from claude_pool_nb.pool import Pool
from claude_pool_nb.records import TaskState
from claude_pool_nb.testing.scripted_session import ScriptedBackend
from tests.integration.pool.conftest import Held, MakePool
from tests.waiting import wait_until


def test_roles_choose_the_slot(make_pool: MakePool) -> None:
    """A task with a role runs in a slot that has it, given at the start or later; a role nobody has is refused."""
    pool = make_pool(slots=3, slot_configs=[SlotConfig(name="Ada", role="reviewer", description="careful")])
    for _ in range(3):
        assert pool.run("x", role="reviewer").slot_id == "s1"
    with pytest.raises(ConfigError, match="no slot has the role 'writer'"):
        pool.run("x", role="writer")
    pool.configure_slot("s3", role="writer")
    assert pool.run("x", role="writer").slot_id == "s3"
    assert [slot.id for slot in pool.find_slots(role="writer")] == ["s3"]
    assert [slot.name for slot in pool.find_slots(name="Ada")] == ["Ada"]
    assert list(pool.slots()["slot_id"]) == ["s1", "s2", "s3"]


def test_configure_slot_holds_from_the_next_task(make_pool: MakePool) -> None:
    """A slot's own options reach its tasks; a wrong one is refused and changes nothing."""
    backend = ScriptedBackend()
    pool = make_pool(backend, slots=1, model="haiku")
    pool.run("before")
    pool.configure_slot("s1", model="sonnet", description="a poet")
    pool.run("after")
    assert [turn.options.model for turn in backend.asked] == ["haiku", "sonnet"]
    assert "a poet" in backend.asked[1].options.appended_prompt
    with pytest.raises(ConfigError, match="max_turns"):
        pool.configure_slot("s1", max_turns=0)
    with pytest.raises(ConfigError, match="modle"):
        pool.configure_slot("s1", modle="x")
    with pytest.raises(SlotNotFound, match="s9"):
        pool.configure_slot("s9", model="haiku")
    assert pool.resolved_config(slot_id="s1").model == "sonnet"


def test_context_changes_what_the_next_task_sees(make_pool: MakePool) -> None:
    """Shared context is appended to the system prompt, keys sorted, from the next task on."""
    backend = ScriptedBackend()
    pool = make_pool(backend, slots=1)
    pool.set_context("b", "second")
    pool.set_context("a", "first")
    pool.run("x")
    told = backend.asked[-1].options.appended_prompt
    assert told.index("first") < told.index("second")
    assert pool.list_context() == {"a": "first", "b": "second"}
    assert pool.delete_context("a") == "first"
    assert pool.get_context("a") is None
    pool.run("x")
    assert "first" not in backend.asked[-1].options.appended_prompt
    with pytest.raises(ConfigError):
        pool.set_context("", "x")


def test_context_outlives_the_pool(tmp_path: object) -> None:
    """The next pool of the same notebook has the context of the last."""
    store = f"{tmp_path}/l.db"
    with Pool(1, backend=ScriptedBackend(), store=store) as first:
        first.set_context("style", "terse")
    with Pool(1, backend=ScriptedBackend(), store=store) as second:
        assert second.get_context("style") == "terse"


def test_priority_goes_first_and_equals_stay_in_order(make_pool: MakePool, held: Held) -> None:
    """A higher priority is taken first; the rest is first in, first out."""
    pool = make_pool(held.backend, slots=1)
    blocker = pool.submit("blocker")
    wait_until(lambda: blocker.state is TaskState.RUNNING)
    for prompt, priority in (("low", -1), ("a", 0), ("b", 0), ("high", 5)):
        pool.submit(prompt, priority=priority)
    held.let_go(pool)
    pool.wait(timeout_s=60)
    assert [turn.prompt for turn in held.backend.asked] == ["blocker", "high", "a", "b", "low"]


def test_tasks_of_a_conversation_run_one_after_the_other(make_pool: MakePool) -> None:
    """One conversation's tasks never run side by side, whatever the number of slots."""
    backend = ScriptedBackend(delay_s=0.02)
    pool = make_pool(backend, slots=4)
    tasks = [pool.submit(f"{n}", conversation="talk") for n in range(5)]
    for task in tasks:
        task.result(5)
    assert [turn.prompt for turn in backend.asked] == [f"{n}" for n in range(5)]
    spans = pool.attempts().sort_values("started_at")
    assert (spans["started_at"].iloc[1:].to_numpy() >= spans["finished_at"].iloc[:-1].to_numpy()).all()


def test_overrides_reach_the_session_and_resolved_config_shows_them(make_pool: MakePool) -> None:
    """What a call asks for is what its session gets, and what resolved_config says."""
    backend = ScriptedBackend()
    pool = make_pool(backend, config=PoolConfig(profile="prompt", model="haiku", max_turns=5))
    result = pool.run("x", model="sonnet", system_prompt="be brief", max_output_tokens=100, effort="low", timeout_s=9)
    options = backend.asked[0].options
    assert (options.model, options.system_prompt, options.max_turns) == ("sonnet", "be brief", 5)
    assert (options.max_output_tokens, options.timeout_s) == (100, 9)
    assert pool.resolved_config(result.task_id) == options
    assert pool.resolved_config().model == "haiku"
    assert result.requested_model == "sonnet"
    assert pool.config.max_turns == 5


def test_tags_find_tasks(make_pool: MakePool) -> None:
    """Tags are columns and filters."""
    pool = make_pool()
    pool.run("x", tags=["night", "test"])
    pool.run("y")
    assert list(pool.tasks(tag="night")["prompt"]) == ["x"]
    assert list(pool.tasks(state="completed")["tags"]) == ["night test", ""]
    with pytest.raises(ConfigError, match="complete"):
        pool.tasks(state="complete")


def test_patience_has_an_end(make_pool: MakePool, held: Held) -> None:
    """A task that no slot takes in time fails by name; the one that runs is not touched."""
    pool = make_pool(held.backend, slots=1, slot_assignment_timeout_s=0.2)
    first = pool.submit("first")
    wait_until(lambda: first.state is TaskState.RUNNING)
    late = pool.submit("late")
    wait_until(lambda: late.state is TaskState.FAILED)
    held.let_go(pool)
    assert first.result(5).output == "first"
    assert list(late.run.frame["error_type"]) == ["no_slot_in_time"]


def test_secrets_are_sent_but_not_stored(make_pool: MakePool) -> None:
    """A prompt that holds a key reaches the model as it is; the ledger and the frame have it redacted, retries too."""
    backend = ScriptedBackend(lambda turn: turn.prompt)
    pool = make_pool(backend)
    secret = "sk-ant-api03-" + "a" * 40
    run = pool.fan_out([f"what is {secret}?"])
    assert backend.asked[0].prompt == f"what is {secret}?"
    assert secret not in run.frame.to_csv()
    assert secret not in str(run.results)


def test_the_frame_has_the_documented_columns(make_pool: MakePool) -> None:
    """run.frame: input columns, then those of the design, with proper dtypes, also while nothing has run."""
    pool = make_pool(slots=1)
    pool.pause()
    run = pool.fan_out(["a", "b"], wait=False, tags=["t"])
    expected = [
        "run_id", "task_id", "row", "sample", "tags", "profile", "backend", "conversation", "requested_model",
        "model", "slot_id", "session_id", "state", "prompt", "output", "failure_kind", "error_type", "error",
        "attempts", "cached", "cost_usd", "cost_basis", "input_tokens", "output_tokens", "cache_read_tokens",
        "cache_write_tokens", "turns", "created_at", "started_at", "finished_at", "wait_s", "duration_s", "api_s",
        "permission_denials",
    ]  # fmt: skip
    waiting = run.frame
    assert list(waiting.columns) == expected
    pool.unpause()
    done = run.wait(60).frame
    assert list(done.columns) == expected
    assert [str(dtype) for dtype in done.dtypes] == [str(dtype) for dtype in waiting.dtypes]
    assert str(done["state"].dtype) == "category"
    assert str(done["finished_at"].dtype).endswith("UTC]")
    assert done["cost_usd"].sum() == pytest.approx(pool.budget.spent_nano / 1e9)
    assert (done["wait_s"] >= 0).all()
    assert not [name for name in done.columns if done[name].dtype == object]


def test_a_role_that_left_with_its_slot_is_refused(make_pool: MakePool) -> None:
    """A task for a role whose slot was scaled away is refused, and not kept waiting for ever."""
    pool = make_pool(slots=2)
    pool.configure_slot("s2", role="judge")
    assert pool.run("x", role="judge").slot_id == "s2"
    pool.scale(1)
    with pytest.raises(ConfigError, match="no slot has the role 'judge'"):
        pool.run("x", role="judge")
    pool.configure_slot("s1", role="judge")
    assert pool.run("x", role="judge").slot_id == "s1"


def test_who_waits_for_a_role_that_is_gone_is_told_of(make_pool: MakePool, held: Held) -> None:
    """When the only slot of a role is given another one, a warning says what its tasks wait for."""
    pool = make_pool(held.backend, slots=2)
    pool.configure_slot("s2", role="judge")
    first, second = pool.submit("a", role="judge"), pool.submit("b", role="judge")
    wait_until(lambda: first.state is TaskState.RUNNING)
    assert not pool.warnings
    pool.configure_slot("s2", role="poet")
    wait_until(lambda: any("No slot has the role 'judge'" in warning for warning in pool.warnings))
    held.let_go(pool)
    pool.configure_slot("s1", role="judge")
    assert second.result(5).slot_id == "s1"
