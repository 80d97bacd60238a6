"""What outlives a pool: runs again, runs of a kernel that died, a disk that fills, and bounded memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from claude_pool_nb.engine import engine as engine_module
from claude_pool_nb.errors import ConfigError, PoolError, RunNotFound, StoreError, StoreFull
from claude_pool_nb.pool import Pool
from claude_pool_nb.records import Failure, FailureKind, RunState
from claude_pool_nb.sessions.base import Turn
from claude_pool_nb.testing.scripted_session import ScriptedBackend
from tests.integration.pool.conftest import Held, MakePool
from tests.waiting import wait_until

ROOT = Path(__file__).parents[3]


def test_retry_keeps_ids_rows_and_counts_attempts(make_pool: MakePool) -> None:
    """Retry runs just the failed rows; the frame is updated in place and every attempt stays booked."""
    bad = True

    def answer(turn: Turn) -> str | Failure:
        if bad and turn.prompt in {"1", "3"}:
            return Failure(FailureKind.REQUEST, "http_400", "no")
        return turn.prompt

    backend = ScriptedBackend(answer)
    pool = make_pool(backend)
    run = pool.fan_out(pd.Series(["0", "1", "2", "3"], index=list("wxyz")))
    before = run.frame
    assert list(before["state"]) == ["completed", "failed", "completed", "failed"]
    bad = False
    again = run.retry()
    assert again.id == run.id
    after = run.frame
    assert list(after.index) == list("wxyz")
    assert list(after["task_id"]) == list(before["task_id"])
    assert list(after["output"]) == ["0", "1", "2", "3"]
    assert list(after["attempts"]) == [1, 2, 1, 2]
    assert [turn.prompt for turn in backend.asked][4:] == ["1", "3"]
    assert len(pool.attempts()) == 6
    assert pool.attempts()["cost_usd"].sum() == pytest.approx(pool.budget.spent_nano / 1e9)
    assert run.retry().counts() == {"completed": 4}
    with pytest.raises(ConfigError, match="state='done'"):
        run.retry(state="done")


def test_a_closed_pool_s_run_is_resumed_by_the_next(tmp_path: Path) -> None:
    """What was interrupted is run by another pool on the same ledger, and only that."""
    held = Held()
    with Pool(2, backend=held.backend, store=tmp_path / "l.db") as first:
        frame = pd.DataFrame({"prompt": ["a", "b", "c"], "n": [1, 2, 3]}, index=[7, 8, 9])
        run_id = first.fan_out(frame, wait=False, tags=["night"]).id
    backend = ScriptedBackend()
    with Pool(2, backend=backend, store=tmp_path / "l.db") as second:
        assert second.last is None
        run = second.get_run(run_id)
        assert run.counts() == {"interrupted": 3}
        assert run.wait().done
        run.resume()
        assert run.state is RunState.COMPLETED
        answers = run.frame
        assert list(answers["n"]) == [1, 2, 3]
        assert list(answers.index) == [7, 8, 9]
        assert set(answers["tags"]) == {"night"}
        assert second.resume(run).counts() == {"completed": 3}
    assert sorted(turn.prompt for turn in backend.asked) == ["a", "b", "c"]


def test_a_run_keeps_the_options_it_was_made_with(tmp_path: Path) -> None:
    """A resumed run is run with the configuration and overrides of its first pool, not of the second."""
    held = Held()
    with Pool(1, backend=held.backend, store=tmp_path / "l.db", system_prompt="first") as first:
        run_id = first.fan_out(["a"], wait=False, max_turns=3).id
    backend = ScriptedBackend()
    with Pool(1, backend=backend, store=tmp_path / "l.db", system_prompt="second") as second:
        assert second.resolved_config(f"{run_id}.1").system_prompt == "first"
        second.resume(run_id)
        second.run("b")
    options = [turn.options for turn in backend.asked]
    assert [(o.system_prompt, o.max_turns) for o in options] == [("first", 3), ("second", None)]


def test_a_run_of_another_backend_is_not_resumed(tmp_path: Path) -> None:
    """A run of the demo is not run with real money."""
    held = Held()
    with Pool(1, backend=held.backend, store=tmp_path / "l.db") as first:
        run_id = first.fan_out(["a"], wait=False).id
    with (
        Pool(1, backend=ScriptedBackend().named("other"), store=tmp_path / "l.db") as second,
        pytest.raises(RunNotFound, match="scripted backend"),
    ):
        second.resume(run_id)


def test_a_run_of_a_pool_at_work_is_left_to_it(tmp_path: Path) -> None:
    """Another live pool's run can be looked at, but not waited for, stopped or taken over."""
    held = Held()
    with (
        Pool(1, backend=held.backend, store=tmp_path / "l.db") as first,
        Pool(1, backend=ScriptedBackend(), store=tmp_path / "l.db") as second,
    ):
        run_id = first.fan_out(["a", "b"], wait=False).id
        theirs = second.get_run(run_id)
        assert len(theirs.frame) == 2
        for verb in (theirs.wait, theirs.cancel, lambda: second.cancel(run_id)):
            with pytest.raises(PoolError, match="at work"):
                verb()
        second.resume(run_id, wait=False)
        held.let_go(first)
        assert first.get_run(run_id).wait(60).counts() == {"completed": 2}


CHILD = """
import sys, time
from claude_pool_nb.pool import Pool
from claude_pool_nb.testing.scripted_session import ScriptedBackend
pool = Pool(2, backend=ScriptedBackend(delay_s=0.05, cost_nano=1_100_000), store=sys.argv[1], budget_name="b")
done = 0
def watch(event):
    global done
    if type(event).__name__ == "TaskCompleted":
        done += 1
        if done == 6:
            print("six", flush=True)
pool.subscribe(watch)
pool.fan_out([f"{n}" for n in range(40)])
"""


def child(code: str, *args: str) -> subprocess.Popen[str]:
    """A python process of its own that runs this code."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *args],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_a_run_of_a_killed_process_is_resumed_and_the_bill_adds_up(tmp_path: Path) -> None:
    """After kill -9 in mid-run finished rows are there, are not paid twice, and resume runs exactly the others."""
    store = tmp_path / "l.db"
    with Pool(1, backend=ScriptedBackend(), store=store, budget_name="b") as early:
        process = child(CHILD, str(store))
        assert process.stdout is not None
        assert process.stdout.readline() == "six\n"
        process.kill()
        process.wait(60)
        assert early.resume("r1").state is RunState.COMPLETED  # a pool that was there before finds it dead too
    backend = ScriptedBackend(cost_nano=1_100_000)
    with Pool(2, backend=backend, store=store, budget_name="b") as pool:
        run = pool.get_run("r1")
        assert run.counts() == {"completed": 40}
        attempts = pool.attempts(run="r1")
        per_task = attempts[attempts["state"] == "completed"].groupby("task_id").size()
        assert set(per_task) == {1}
        assert len(per_task) == 40
        assert set(attempts["state"]) <= {"completed", "interrupted"}
        assert round(float(pool.attempts()["cost_usd"].sum()) * 1e9) == pool.budget.spent_nano
        assert pool.budget.reserved_nano == 0


def test_a_new_pool_says_that_a_run_was_interrupted(tmp_path: Path) -> None:
    """The next kernel lists the run as interrupted and names what to do; resume runs exactly what is missing."""
    process = child(CHILD, str(tmp_path / "l.db"))
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    backend = ScriptedBackend(cost_nano=1_100_000)
    with Pool(2, backend=backend, store=tmp_path / "l.db", budget_name="b") as pool:
        assert any("r1" in warning and "resume" in warning for warning in pool.warnings)
        run = pool.get_run()
        assert run.state is RunState.INTERRUPTED
        counts = run.counts()
        assert counts["completed"] >= 6
        assert len(run.frame) == 40
        missing = {str(row) for row in run.frame.query("state == 'interrupted'")["row"]}
        run.resume()
        assert run.counts() == {"completed": 40}
        assert {turn.prompt for turn in backend.asked} == missing
        assert len(backend.asked) == counts["interrupted"]


class Disk:
    """A ledger whose disk is full while it is told to be."""

    def __init__(self, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        ledger = pool.ledger
        writer = ledger._writer
        assert writer is not None
        commit = writer._commit

        def maybe(group: list[Any]) -> list[Any]:
            if self.full:
                return [(item, None, StoreFull()) for item in group]
            return commit(group)

        monkeypatch.setattr(writer, "_commit", maybe)


def test_a_full_disk_is_told_before_anything_is_sent(make_pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a full disk a call raises and nothing is sent; after unpause the pool works."""
    backend = ScriptedBackend()
    pool = make_pool(backend)
    wait_until(lambda: pool.status().slots == {"idle": 2})
    disk = Disk(pool, monkeypatch)
    disk.full = True
    with pytest.raises(StoreFull):
        pool.run("x")
    with pytest.raises(StoreFull):
        pool.fan_out(["y"])
    assert backend.asked == []
    disk.full = False
    pool.unpause()
    assert pool.run("z").output == "z"


def test_a_disk_that_fills_in_mid_run_loses_nothing(make_pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was paid for stays readable, nothing more is sent, and unpause writes it all and goes on."""
    held = Held(cost_nano=1_100_000)
    pool = make_pool(held.backend, slots=3)
    run = pool.fan_out([f"{n}" for n in range(9)], wait=False)
    wait_until(lambda: len(held.backend.asked) == 3)
    disk = Disk(pool, monkeypatch)
    disk.full = True
    held.let_go(pool)
    with pytest.raises(StoreFull):
        run.wait(60)
    wait_until(lambda: run.counts().get("completed") == 3)
    assert len(held.backend.asked) == 3
    assert sorted(result.output for result in run if result.output) == ["0", "1", "2"]
    with pytest.raises(StoreFull):
        pool.unpause()
    assert len(held.backend.asked) == 3
    disk.full = False
    pool.unpause()
    assert run.wait(60).counts() == {"completed": 9}
    assert list(run.frame["output"]) == [f"{n}" for n in range(9)]
    assert set(run.frame["attempts"]) == {1}
    assert pool.budget.spent_nano == 9 * 1_100_000
    assert round(float(pool.attempts()["cost_usd"].sum()) * 1e9) == pool.budget.spent_nano


def test_cancel_works_while_the_disk_is_full(make_pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopping needs no disk: what runs ends, and is written later."""
    held = Held()
    pool = make_pool(held.backend, slots=2)
    run = pool.fan_out(["a", "b", "c"], wait=False)
    wait_until(lambda: len(held.backend.asked) == 2)
    disk = Disk(pool, monkeypatch)
    disk.full = True
    run.cancel()
    wait_until(lambda: run.counts() == {"cancelled": 3})
    disk.full = False
    pool.unpause()
    assert list(run.frame["state"]) == ["cancelled"] * 3


def test_a_pool_that_ends_on_a_full_disk_says_what_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Close ends every session and then raises, because finished work could not be written."""
    held = Held()
    pool = Pool(1, backend=held.backend, store=":memory:")
    pool.submit("a")
    wait_until(lambda: len(held.backend.asked) == 1)
    disk = Disk(pool, monkeypatch)
    disk.full = True
    with pytest.raises(StoreError):
        pool.close()
    assert pool.closed
    pool.close()


def test_old_runs_are_forgotten_and_still_there(make_pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long-lived pool keeps a bounded number of final tasks in memory; older runs are read from the ledger."""
    monkeypatch.setattr(engine_module, "KEPT_TASKS", 50)
    fails = True
    backend = ScriptedBackend(
        lambda turn: Failure(FailureKind.REQUEST, "http_400", "no") if fails and turn.prompt == "0" else turn.prompt
    )
    pool = make_pool(backend)
    runs = [pool.fan_out([f"{n}" for n in range(20)]) for _ in range(10)]
    assert len(pool.aio.engine.state.tasks()) <= 60
    assert pool.status().tasks == {"completed": 190, "failed": 10}
    first = runs[0]
    assert first.wait().counts() == {"completed": 19, "failed": 1}
    assert len(first.results) == len(first.frame) == 20
    assert pool.get_task(f"{first.id}.5").result().output == "4"
    fails = False
    assert first.retry().counts() == {"completed": 20}
    assert pool.status().tasks == {"completed": 191, "failed": 9}


def test_ten_thousand_prompts_in_bounded_memory(make_pool: MakePool) -> None:
    """The engine keeps little beside the tasks themselves, and the loop stays responsive."""
    pool = make_pool(slots=8)
    pool.run("warm")
    backend = pool.aio.engine.backend
    assert isinstance(backend, ScriptedBackend)
    process = psutil.Process()
    before = process.memory_info().rss
    run = pool.fan_out([f"prompt {n}" for n in range(10_000)])
    backend.asked.clear()
    grown = process.memory_info().rss - before
    assert run.counts() == {"completed": 10_000}
    assert grown < 120e6


def test_meta_of_a_frame_survives_in_the_ledger(tmp_path: Path) -> None:
    """The columns of a DataFrame are in the frame of the next kernel too."""
    frame = pd.DataFrame({"prompt": ["a"], "n": [1], "nested": [{"k": 1}]})
    with Pool(1, backend=ScriptedBackend(), store=tmp_path / "l.db") as first:
        run_id = first.fan_out(frame).id
    with Pool(1, backend=ScriptedBackend(), store=tmp_path / "l.db") as second:
        row = second.get_run(run_id).frame.iloc[0]
        assert row["n"] == 1
        assert json.loads(str(row["nested"]).replace("'", '"')) == {"k": 1}


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """SQLite out of pages: the call raises StoreFull and sends nothing; with room again, unpause goes on."""
    backend = ScriptedBackend()
    with Pool(2, backend=backend, store=tmp_path / "l.db") as pool:
        pool.run("warm")

        def limit(pages: int | None) -> None:
            def set_limit(connection: Any) -> None:
                now = connection.exec_driver_sql("PRAGMA page_count").scalar()
                connection.exec_driver_sql(f"PRAGMA max_page_count={pages or now}")

            pool.ledger.transact(set_limit)

        limit(None)
        with pytest.raises(StoreFull, match="unpause"):
            pool.fan_out(["long " * 2_000 + f"{n}" for n in range(50)])
        assert len(backend.asked) == 1
        limit(1_000_000)
        pool.unpause()
        run = pool.last
        assert run is not None
        assert run.wait(60).counts() == {"completed": 50}
        assert len(run.frame) == 50


def test_a_persistent_slot_says_when_it_has_forgotten(make_pool: MakePool) -> None:
    """A lost process takes the slot's conversation with it: that is told, and only where there was one."""
    from claude_pool_nb.config import PoolConfig

    def answer(turn: Turn) -> str | Exception:
        return OSError("gone") if turn.prompt == "die" else turn.prompt

    for mode, told in (("isolated", 0), ("persistent", 1)):
        config = PoolConfig(slot_mode=mode, retry={"max_attempts": 1})
        pool = make_pool(ScriptedBackend(answer), slots=1, config=config)
        pool.fan_out(["my name is Ada", "die", "what is my name?"])
        assert sum("conversation begins anew" in warning for warning in pool.warnings) == told
