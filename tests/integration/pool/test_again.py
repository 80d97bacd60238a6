"""Retry by rows, with a new template and new options: the run's own frame is brought up to date."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from claude_pool_nb.aio import AsyncPool
from claude_pool_nb.errors import ConfigError, PoolClosed, RunNotFound
from claude_pool_nb.handles import Run
from claude_pool_nb.pool import Pool
from claude_pool_nb.records import Failure, FailureKind
from claude_pool_nb.sessions.base import Turn
from claude_pool_nb.store import queries
from claude_pool_nb.testing.scripted_session import ScriptedBackend
from tests.integration.pool.conftest import Held, MakePool
from tests.waiting import wait_until


def table() -> pd.DataFrame:
    """Three rows with a prompt each."""
    return pd.DataFrame({"prompt": ["one", "two", "three"], "n": [1, 2, 3], "who": list("abc")}, index=[10, 20, 30])


def test_chosen_rows_run_again_with_a_new_template(make_pool: MakePool) -> None:
    """Completed rows too: the frame shows the new answer, the old one and its cost stay in the attempts."""
    backend = ScriptedBackend(cost_nano=1_000_000)
    pool = make_pool(backend)
    run = pool.fan_out(table())
    mask = run.frame["n"] > 1
    again = run.retry(rows=mask, template="{{ who }} says {{ prompt }} {{ n + extra }}", variables={"extra": 5})
    assert again.id == run.id
    frame = run.frame
    assert list(frame["prompt"]) == ["one", "b says two 7", "c says three 8"]
    assert list(frame["output"]) == list(frame["prompt"])
    assert list(frame["attempts"]) == [1, 2, 2]
    assert list(frame.index) == [10, 20, 30]
    assert list(frame["cost_usd"]) == [0.001, 0.002, 0.002]
    assert run.cost_usd == pytest.approx(0.005)
    attempts = pool.attempts(run=run.id)
    assert list(attempts["output"]) == ["one", "two", "b says two 7", "three", "c says three 8"]
    assert pool.budget.spent_nano == 5_000_000
    reopened = pool.events(run=run.id).query("kind == 'task_reopened'")["payload"]
    assert '"previous_prompt": "two"' in reopened.iloc[0]


def test_new_options_take_the_place_of_the_old_ones(make_pool: MakePool) -> None:
    """Options not named stay; the frame says which model was asked for now."""
    backend = ScriptedBackend()
    pool = make_pool(backend)
    run = pool.fan_out(["a", "b"], model="haiku", max_turns=3)
    run.retry(rows=[1], model="sonnet")
    last = backend.asked[-1].options
    assert (last.model, last.max_turns) == ("sonnet", 3)
    assert list(run.frame["requested_model"]) == ["haiku", "sonnet"]
    run.retry(rows=[1], max_turns=4)
    last = backend.asked[-1].options
    assert (last.model, last.max_turns) == ("sonnet", 4)
    of_the_second = pool.attempts(run=run.id).query("task_id == 'r1.2'")
    assert list(of_the_second["requested_model"]) == ["haiku", "sonnet", "sonnet"]


def test_states_and_rows_narrow_each_other(make_pool: MakePool) -> None:
    """`state` alone means all rows in it; with rows it is those of them that are in it."""
    backend = ScriptedBackend(
        lambda turn: Failure(FailureKind.REQUEST, "http_400", "no") if turn.prompt in "bc" else turn.prompt
    )
    pool = make_pool(backend)
    run = pool.fan_out(list("abcd"))

    def ran(**choice: object) -> list[int]:
        before = run.frame["attempts"]
        after = run.retry(**choice).frame["attempts"]  # type: ignore[arg-type]
        return [place for place, more in enumerate(after - before) if more]

    assert ran() == [1, 2]
    assert ran(rows=[0, 1], state="failed") == [1]
    assert ran(rows=[0, 1]) == [0, 1]
    assert ran(state="completed") == [0, 3]
    assert ran(state=["completed", "failed"]) == [0, 1, 2, 3]
    assert ran(state="incomplete") == [1, 2]
    assert ran(state="all") == [0, 1, 2, 3]
    assert ran(rows="state == 'completed' and prompt > 'a'") == [3]
    assert ran(rows=run.failed) == [1, 2]
    assert ran(rows=[False] * 4) == []
    assert ran(state="cancelled") == []


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        ({"rows": [True]}, "the mask has 1"),
        ({"rows": "m > 1"}, "no column 'm'"),
        ({"rows": [0], "template": "{{ whoo }}"}, "did you mean 'who'"),
        ({"rows": [0], "template": "{{ n"}, "line 1"),
        ({"rows": [0], "template": "{{ extra }}"}, r"pass it in variables=\{...\}"),
        ({"rows": [0], "modle": "haiku"}, "did you mean 'model'"),
        ({"rows": [0], "model": "haikku"}, "no model 'haikku'"),
        ({"rows": [0], "tags": ["x"]}, "tags stays what it was"),
        ({"rows": [0], "conversation": "x"}, "conversation stays what it was"),
        ({"rows": [0], "cache": True}, "a retry always asks anew"),
        ({"state": "done"}, "state='done'"),
        ({"rows": [0], "max_turns": 0}, "max_turns"),
    ],
)
def test_what_cannot_be_changes_nothing(make_pool: MakePool, choice: dict[str, object], says: str) -> None:
    """Every error is raised before a task is reopened, and the run is what it was."""
    backend = ScriptedBackend()
    pool = make_pool(backend)
    run = pool.fan_out(table())
    before, events = run.frame, len(pool.events())
    with pytest.raises(ConfigError, match=says):
        run.retry(**choice)  # type: ignore[arg-type]
    pd.testing.assert_frame_equal(run.frame, before)
    assert len(pool.events()) == events
    assert len(backend.asked) == 3
    assert run.retry(rows=[0]).frame["output"].iloc[0] == "one"


def test_rows_that_run_are_not_run_again(make_pool: MakePool) -> None:
    """A row that is not final is named; those that are final can be retried beside it."""
    held = Held()
    pool = make_pool(held.backend)
    run = pool.fan_out(["a"], wait=False)
    wait_until(lambda: len(held.backend.asked) == 1)
    with pytest.raises(ConfigError, match=r"r1\.1 is running; wait"):
        run.retry(rows=[0])
    held.let_go(pool)
    run.wait(60)
    assert run.retry(rows=[0]).frame["attempts"].tolist() == [2]


def test_a_new_template_after_a_restart(tmp_path: Path) -> None:
    """The inputs of the ledger do: columns, types and index are those of the first kernel, variables are not kept."""
    given = table().assign(when=pd.to_datetime("2024-02-03"), share=[0.5, None, 1.5])
    with Pool(2, backend=ScriptedBackend(), store=tmp_path / "l.db") as first:
        run_id = first.fan_out(given).id
    backend = ScriptedBackend()
    with Pool(2, backend=backend, store=tmp_path / "l.db") as second:
        run = second.get_run(run_id)
        with pytest.raises(ConfigError, match="row 20 has no value in the column 'share'"):
            run.retry(state="all", template="{{ share }}")
        with pytest.raises(ConfigError, match=r"needs 'tail'.*pass it in variables"):
            run.retry(state="all", template="{{ tail }}")
        assert backend.asked == []
        frame = run.retry(rows="share > 0", template="{{ who }} {{ when.year }} {{ share }}").frame
        assert list(frame["prompt"]) == ["a 2024 0.5", "two", "c 2024 1.5"]
        assert list(frame["output"]) == ["a 2024 0.5", "two", "c 2024 1.5"]
        assert list(frame["attempts"]) == [2, 1, 2]
        assert list(frame.index) == [10, 20, 30]
        assert {turn.prompt for turn in backend.asked} == {"a 2024 0.5", "c 2024 1.5"}
        assert queries.task(second.ledger, f"{run_id}.1").prompt == "a 2024 0.5"


def test_new_prompts_and_options_survive_a_kernel_that_dies_in_mid_retry(tmp_path: Path) -> None:
    """What a retry was to send is in the ledger before it is sent: a resume sends just that."""
    held = Held()
    with Pool(1, backend=ScriptedBackend(), store=tmp_path / "l.db") as first:
        run_id = first.fan_out(table(), model="haiku").id
    with Pool(1, backend=held.backend, store=tmp_path / "l.db") as second:
        run = second.get_run(run_id)
        run.retry(rows=[0, 2], template="new {{ n }}", model="sonnet", wait=False)
        wait_until(lambda: len(held.backend.asked) == 1)
    backend = ScriptedBackend()
    with Pool(1, backend=backend, store=tmp_path / "l.db") as third:
        run = third.get_run(run_id)
        assert list(run.frame["state"]) == ["interrupted", "completed", "interrupted"]
        frame = run.resume().frame
        sent = [(turn.prompt, turn.options.model) for turn in backend.asked]
        assert sent == [("new 1", "sonnet"), ("new 3", "sonnet")]
        assert list(frame["output"]) == ["new 1", "two", "new 3"]
        assert list(frame["requested_model"]) == ["sonnet", "haiku", "sonnet"]


def test_a_row_that_was_reopened_shows_no_answer_to_another_prompt(make_pool: MakePool) -> None:
    """Until it is answered anew it has none, in the frame and in the results; its cost so far is still told."""
    pool = make_pool(ScriptedBackend(cost_nano=1_000_000))
    run = pool.fan_out(table())
    pool.pause()
    run.retry(rows=[0, 2], template="new {{ n }}", wait=False)
    assert list(run.frame["output"].fillna("-")) == ["-", "two", "-"]
    run.interrupt()
    run.wait(60)
    frame = run.frame
    assert list(frame["state"]) == ["interrupted", "completed", "interrupted"]
    assert list(frame["prompt"]) == ["new 1", "two", "new 3"]
    assert list(frame["output"].fillna("-")) == ["-", "two", "-"]
    assert list(frame["cost_usd"]) == [0.001] * 3
    assert [result.output for result in run.results] == ["", "two", ""]
    assert [result.cost_usd for result in run.results] == [0.001] * 3
    assert list(pool.attempts(run=run.id)["output"]) == ["one", "two", "three"]
    pool.unpause()
    frame = run.resume().frame
    assert list(frame["output"]) == ["new 1", "two", "new 3"]
    assert list(frame["cost_usd"]) == [0.002, 0.001, 0.002]


def test_a_retry_asks_anew_although_the_answer_is_known(make_pool: MakePool) -> None:
    """A cached row is a row like any other: retried, it is asked and paid for."""
    backend = ScriptedBackend(lambda turn: f"answer {len(backend.asked)}", cost_nano=1_000_000)
    pool = make_pool(backend, slots=1)
    pool.fan_out(["a", "b"], cache=True)
    run = pool.fan_out(["a", "b"], cache=True)
    assert list(run.frame["cached"]) == [True, True]
    run.retry(rows=[1])
    frame = run.frame
    assert list(frame["output"]) == ["answer 1", "answer 3"]
    assert list(frame["cached"]) == [True, False]
    assert list(frame["cost_usd"]) == [0.0, 0.001]
    run.retry(rows=[0], template="b")
    assert list(run.frame["output"]) == ["answer 4", "answer 3"]


def test_a_secret_in_a_new_prompt_is_sent_and_not_stored(make_pool: MakePool) -> None:
    """The text goes out as it is; the ledger and the frame have it redacted."""
    secret = "sk-ant-" + "x" * 40
    backend = ScriptedBackend(lambda turn: "fine")
    pool = make_pool(backend)
    run = pool.fan_out([f"key {secret}", "b"])
    run.retry(rows=[0], template="{{ prompt }} again")
    run.retry(rows=[1], template="{{ key }}", variables={"key": secret})
    assert [turn.prompt for turn in backend.asked[2:]] == [f"key {secret} again", secret]
    assert not run.frame["prompt"].str.contains(secret).any()
    assert secret not in pool.events().to_csv()


def test_a_retry_takes_a_run_of_the_same_store_by_its_id(make_pool: MakePool) -> None:
    """Wrong ids and a pool that has ended are refused by name."""
    pool = make_pool()
    run = pool.fan_out(["a"])
    assert pool.retry("r1", rows=[0]).frame["attempts"].tolist() == [2]
    assert pool.retry(run, rows=[0]).id == "r1"
    with pytest.raises(RunNotFound):
        pool.retry("r9")
    pool.close()
    with pytest.raises(PoolClosed):
        run.retry(rows=[0])


async def test_awaitable_pools_retry_the_same_way() -> None:
    """`AsyncPool.retry` and `resume` take what the blocking ones take."""

    def answer(turn: Turn) -> str:
        return turn.prompt.upper()

    async with AsyncPool(1, backend=ScriptedBackend(answer), store=":memory:") as pool:
        run = await pool.fan_out(["a", "b"])
        again = await pool.retry(run, rows=[1], template="{{ prompt }}{{ output }}")
        assert isinstance(again, Run)
        assert list(again.frame["output"]) == ["A", "BB"]
        assert (await pool.resume(run)).counts() == {"completed": 2}
