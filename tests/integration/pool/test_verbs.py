"""The verbs of the pool, as a stranger calls them."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pandas as pd
import pytest

from claude_pool_nb.aio import AsyncPool
from claude_pool_nb.errors import (
    BlockingCall,
    ConfigError,
    PoolClosed,
    RunNotFound,
    TaskFailed,
    TaskNotFound,
    UnknownOption,
)
from claude_pool_nb.pool import Pool, current, has_current
from claude_pool_nb.records import Failure, FailureKind, TaskState
from claude_pool_nb.testing.scripted_session import ScriptedBackend
from tests.integration.pool.conftest import Held, MakePool
from tests.waiting import wait_until


def refuse(message: str = "no") -> Failure:
    """A failure that is not tried again."""
    return Failure(FailureKind.REQUEST, "http_400", message)


def test_run_gives_the_answer_and_its_price(make_pool: MakePool) -> None:
    """A single prompt comes back as a result with what it cost."""
    pool = make_pool(ScriptedBackend(lambda turn: turn.prompt.upper(), cost_nano=1_100_000))
    result = pool.run("hello", tags=["a", "b"])
    assert (result.output, result.cost_usd, result.attempts, result.tags) == ("HELLO", 0.0011, 1, ("a", "b"))
    assert pool.budget.spent_nano == 1_100_000
    assert pool.last is not None
    assert pool.last.id == result.run_id


def test_run_raises_with_what_there_is(make_pool: MakePool) -> None:
    """A task that fails raises TaskFailed, which carries the result; the row is in the frame too."""
    pool = make_pool(ScriptedBackend(lambda _: refuse("the prompt does not suit")))
    with pytest.raises(TaskFailed, match="does not suit") as caught:
        pool.run("hello")
    assert caught.value.result is not None
    assert caught.value.result.failure is not None
    assert caught.value.result.failure.kind is FailureKind.REQUEST
    assert pool.last is not None
    assert list(pool.last.frame["failure_kind"]) == ["request"]


def test_fan_out_keeps_the_order_and_makes_errors_rows(make_pool: MakePool) -> None:
    """Rows come in the order of the prompts, whatever ends first; errors are rows."""
    backend = ScriptedBackend(lambda turn: refuse() if turn.prompt == "3" else turn.prompt * 2)
    run = make_pool(backend, slots=4).fan_out([str(n) for n in range(10)])
    assert [result.output for result in run] == [str(n) * 2 if n != 3 else "" for n in range(10)]
    assert run.counts() == {"completed": 9, "failed": 1}
    assert list(run.failed["row"]) == [3]
    assert str(run.state) == "completed"
    assert len(run) == 10


def test_a_dataframe_comes_back_in_front_unchanged(make_pool: MakePool) -> None:
    """Input columns, dtypes and index are in the frame as they were."""
    frame = pd.DataFrame(
        {
            "word": pd.Categorical(["x", "y", "x"]),
            "prompt": ["a", "b", "c"],
            "when": pd.to_datetime(["2024-01-01", "2024-02-01", None]),
            "score": [1.5, float("nan"), 3.0],
        },
        index=pd.Index([10, 20, 20], name="key"),
    )
    answers = make_pool().fan_out(frame).frame
    own = frame.drop(columns="prompt")
    pd.testing.assert_frame_equal(answers[list(own.columns)], own)
    assert list(answers.columns[:3]) == ["word", "when", "score"]
    assert list(answers["output"]) == ["a", "b", "c"]
    assert answers.attrs["run_id"] == "r1"


def test_a_series_keeps_its_index(make_pool: MakePool) -> None:
    """The index of a Series is the frame's."""
    answers = make_pool().fan_out(pd.Series(["a", "b"], index=["x", "y"])).frame
    assert list(answers.index) == ["x", "y"]


@pytest.mark.parametrize(
    ("prompts", "said"),
    [
        ([], "no prompts"),
        (["a", None], "prompt 1 is missing"),
        (["a", " "], "prompt 1 is empty"),
        (["a", 3], "prompt 1 is a int"),
        (["a\0b", "c"], "null byte"),
        ("text", "many prompts"),
        ({"a": 1}, "dict"),
        (pd.DataFrame({"text": ["a"]}), "no column `prompt`"),
        (pd.DataFrame({"prompt": ["a"], "output": ["b"]}), "output"),
    ],
)
def test_bad_prompts_are_refused_before_anything_is_spent(make_pool: MakePool, prompts: object, said: str) -> None:
    """What cannot be run is named, and nothing was made or sent."""
    backend = ScriptedBackend()
    pool = make_pool(backend)
    with pytest.raises(ConfigError, match=said):
        pool.fan_out(prompts)
    assert pool.last is None
    assert backend.asked == []


def test_unknown_options_name_the_nearest(make_pool: MakePool) -> None:
    """A typo in an option is refused, at the pool and at a call."""
    with pytest.raises(UnknownOption, match="did you mean 'model'"):
        Pool(backend=ScriptedBackend(), store=":memory:", modle="x")
    pool = make_pool()
    with pytest.raises(UnknownOption, match="did you mean 'model'"):
        pool.run("hello", modle="x")
    assert pool.last is None
    assert not [name for name in ("r1",) if pool.status().tasks]


def test_bad_pool_arguments_start_nothing() -> None:
    """A pool that cannot work is refused and is not the kernel's current one."""
    for options, said in (
        ({"slots": 0}, "slots=0"),
        ({"slots": 2.5}, "slots=2.5"),
        ({"slots": True}, "slots=True"),
        ({"slot_configs": None}, "slot_configs takes a list"),
        ({"backend": None}, "backend=None"),
        ({"budget_usd": -1}, "budget_usd"),
        ({"driver": "fast"}, "driver"),
        ({"max_slots": 2, "slots": 3}, "slots=3"),
        ({"budget_usd": 1e99}, "budget_usd"),
        ({"budget_name": 3}, "budget_name"),
        ({"budget_name": "half \ud83d"}, "budget_name"),
        ({"store": 3}, "store=3"),
        ({"store": "half \ud83d.sqlite"}, "half a character"),
    ):
        with pytest.raises(ConfigError, match=said):
            Pool(**{"backend": ScriptedBackend(), "store": ":memory:", **options})  # type: ignore[arg-type]
    assert not has_current()


@pytest.mark.parametrize(
    "options",
    [
        {"priority": 10**30},
        {"max_output_tokens": 10**30},
        {"timeout_s": 1e300},
        {"max_budget_usd": 1e30},
        {"tags": ["caf\udce9"]},
        {"conversation": "half \ud83d"},
        {"role": "half \ud83d"},
    ],
)
def test_what_the_ledger_could_not_take_is_refused_and_the_pool_goes_on(
    make_pool: MakePool, options: dict[str, object]
) -> None:
    """A number or a text that no database takes is told by name, and stops nobody else's work."""
    pool = make_pool()
    with pytest.raises(ConfigError, match=next(iter(options))):
        pool.run("hello", **options)
    assert pool.run("hello").output == "hello"


def test_wrong_values_for_the_steering_verbs_change_nothing(make_pool: MakePool) -> None:
    """Sizes, sums, times and keys that cannot work are named in a line, and the pool goes on as it was."""
    pool = make_pool(slots=2, budget_usd=1)
    for verb, value in (
        (pool.scale, 2.5),
        (pool.scale, "3"),
        (pool.scale, True),
        (pool.scale, 65),
        (pool.set_budget, "5"),
        (pool.set_budget, 1e99),
        (pool.drain, "soon"),
        (pool.drain, float("nan")),
        (pool.drain, None),
        (lambda key: pool.set_context(key, "x"), "half \ud83d"),
    ):
        with pytest.raises(ConfigError, match=r"cannot work|not possible"):
            verb(value)  # type: ignore[operator]
    assert len(pool.slots()) == 2
    assert pool.budget.limit_nano == 1_000_000_000
    pool.set_budget(np.int64(5))
    assert pool.budget.limit_nano == 5_000_000_000
    assert pool.run("hello").output == "hello"


def test_the_first_open_pool_is_current(make_pool: MakePool) -> None:
    """A kernel has one current pool, the first that was made and not closed."""
    first, second = make_pool(), make_pool()
    assert current() is first
    first.close()
    assert current() is second


def test_submit_returns_at_once_and_handles_work_from_threads(make_pool: MakePool, held: Held) -> None:
    """A handle can be waited for, looked at and cancelled from any thread."""
    pool = make_pool(held.backend)
    task, other = pool.submit("one"), pool.submit("two")
    wait_until(lambda: task.state is TaskState.RUNNING)
    assert not task.done
    with pytest.raises(TimeoutError, match="goes on"):
        task.result(timeout_s=0.05)
    thread = threading.Thread(target=other.cancel)
    thread.start()
    thread.join()
    wait_until(lambda: other.state is TaskState.CANCELLED)
    held.let_go(pool)
    outputs: list[str] = []
    waiter = threading.Thread(target=lambda: outputs.append(task.result(5).output))
    waiter.start()
    waiter.join(60)
    assert outputs == ["one"]
    assert task.run.id == task.id.split(".", maxsplit=1)[0]
    assert "completed" in repr(task)


def test_fan_out_without_waiting_goes_on_by_itself(make_pool: MakePool, held: Held) -> None:
    """The work goes on between cells; its handle can be waited for later."""
    pool = make_pool(held.backend)
    run = pool.fan_out(["a", "b", "c"], wait=False)
    frame = run.frame
    assert len(frame) == 3
    assert not run.done
    held.let_go(pool)
    assert run.wait(60).counts() == {"completed": 3}


def test_wait_without_an_argument_waits_for_everything(make_pool: MakePool, held: Held) -> None:
    """All runs that are open are waited for, within one time limit."""
    pool = make_pool(held.backend)
    runs = [pool.fan_out(["a", "b"], wait=False), pool.fan_out(["c"], wait=False)]
    with pytest.raises(TimeoutError):
        pool.wait(timeout_s=0.05)
    held.let_go(pool)
    pool.wait(timeout_s=60)
    assert all(run.done for run in runs)


def test_a_handle_is_awaited_on_another_loop(make_pool: MakePool) -> None:
    """`await run` and `await task` work on the kernel's own loop."""
    pool = make_pool(ScriptedBackend(delay_s=0.02))

    async def cell() -> tuple[str, int]:
        task = pool.submit("hello")
        run = pool.fan_out(["a", "b"], wait=False)
        return (await task).output, len(await run)

    assert asyncio.run(cell()) == ("hello", 2)


def test_results_are_whole_as_soon_as_a_task_is_final(make_pool: MakePool) -> None:
    """Nobody sees a completed task without its answer, however close they look."""
    pool = make_pool(slots=4)
    for _ in range(30):
        task = pool.submit("hello")
        wait_until(lambda task=task: task.done)  # type: ignore[misc]
        assert task.result().output == "hello"
        assert task.run.results[0].output == "hello"


def test_async_pool_has_the_same_verbs() -> None:
    """AsyncPool: awaiting gives the finished object."""

    async def main() -> None:
        backend = ScriptedBackend(lambda turn: refuse() if turn.prompt == "bad" else turn.prompt.upper())
        async with AsyncPool(2, backend=backend, store=":memory:") as pool:
            assert (await pool.run("a")).output == "A"
            run = await pool.fan_out(["b", "bad"])
            assert run.counts() == {"completed": 1, "failed": 1}
            task = await pool.submit("c")
            assert (await task).output == "C"
            with pytest.raises(TaskFailed):
                await pool.run("bad")
            with pytest.raises(BlockingCall):
                task.result()
            await pool.scale(3)
            assert sum(pool.status().slots.values()) == 3
        with pytest.raises(PoolClosed):
            await pool.run("late")

    asyncio.run(main())


def test_an_async_pool_that_is_started_twice_at_once_is_one_pool() -> None:
    """Two that start it at the same time share its sessions, and closing it leaves none."""

    async def main() -> None:
        backend = ScriptedBackend()
        pool = AsyncPool(slots=2, backend=backend, store=":memory:")
        await asyncio.gather(pool.start(), pool.start())
        await asyncio.gather(*(pool.run(text) for text in "abcd"))
        assert backend.opened == 2
        await pool.close()

    asyncio.run(main())


def test_a_blocking_call_on_the_loop_is_refused(make_pool: MakePool) -> None:
    """A verb that would wait for itself says so, and the pool goes on."""
    pool = make_pool()
    seen: list[BaseException] = []

    def watcher(_event: object) -> None:
        try:
            pool.run("inside")
        except BlockingCall as error:
            seen.append(error)

    unsubscribe = pool.subscribe(watcher)
    assert pool.run("outside").output == "outside"
    unsubscribe()
    assert seen
    assert "AsyncPool" in str(seen[0])


def test_a_failing_watcher_does_not_stop_the_pool(make_pool: MakePool) -> None:
    """A watcher's own error is told as a warning, and work goes on."""
    pool = make_pool()

    def watcher(_event: object) -> None:
        raise ValueError("my mistake")

    pool.subscribe(watcher)
    assert pool.run("hello").output == "hello"
    assert any("my mistake" in warning for warning in pool.warnings)


def test_unknown_ids_are_named(make_pool: MakePool) -> None:
    """A run or task that is not there is an error that names it, not a wait."""
    pool = make_pool()
    for verb, wrong, kind in (
        (pool.get_run, "r99", RunNotFound),
        (pool.get_task, "r99.1", TaskNotFound),
        (pool.cancel, "r99", RunNotFound),
        (pool.cancel, "nonsense", RunNotFound),
        (pool.cancel, None, RunNotFound),
        (pool.wait, "r99", RunNotFound),
        (pool.get_run, 99, RunNotFound),
        (pool.get_task, 99, TaskNotFound),
        (pool.retry, "r99", RunNotFound),
    ):
        with pytest.raises(kind, match=str(wrong)) as caught:
            verb(wrong)  # type: ignore[operator]
        assert "sqlite" not in str(caught.value), "a ledger in memory is named as it was given"
    with pytest.raises(RunNotFound, match="no run yet"):
        pool.get_run()


def test_a_handle_stands_for_its_id(make_pool: MakePool, held: Held) -> None:
    """What waits or cancels takes a run, a task, or the id of either."""
    pool = make_pool(held.backend, slots=1)
    run = pool.fan_out(["a", "b"], wait=False)
    task = pool.submit("c")
    assert pool.cancel(task) == 1
    assert pool.cancel("r1.2") == 1
    held.let_go(pool)
    pool.wait("r1.1")
    pool.wait(run.id)
    assert run.counts() == {"cancelled": 1, "completed": 1}
    assert pool.cancel(run) == 0


def test_after_close_everything_can_still_be_read(make_pool: MakePool) -> None:
    """What was finished is readable after the pool's end; new work is refused in one line."""
    with Pool(backend=ScriptedBackend(), store=":memory:") as pool:
        run = pool.fan_out(["a", "b"])
        task = pool.submit("c")
        task.result()
    assert list(run.frame["output"]) == ["a", "b"]
    assert [result.output for result in run] == ["a", "b"]
    assert task.result().output == "c"
    assert run.wait().done
    assert pool.status().closed
    assert len(pool.tasks()) == 3
    for verb in (
        lambda: pool.run("x"),
        lambda: pool.scale(2),
        lambda: pool.fan_out(["x"]),
        run.retry,
        pool.unpause,
        lambda: pool.set_context("a", "b"),
        lambda: pool.delete_context("a"),
    ):
        with pytest.raises(PoolClosed):
            verb()
    pool.close()
