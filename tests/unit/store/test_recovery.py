"""A dead kernel's work: everything acknowledged is there, what was open is interrupted, and its bill adds up."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from claude_pool_nb import events as ev
from claude_pool_nb.errors import StoreConflict
from claude_pool_nb.records import AttemptState, CostBasis, Failure, FailureKind, RunState, TaskState, TurnResult, Usage
from claude_pool_nb.store import queries, recovery, shelf
from claude_pool_nb.store.ledger import Ledger
from claude_pool_nb.store.recovery import Orphan, is_alive, this_process

from .conftest import event_kinds, writes_into


def gone(_host: str, _boot: str, _pid: int, _start: float) -> bool:
    """Every pool's process has ended."""
    return False


def test_what_a_dead_pool_left_is_interrupted_and_its_bill_booked(ledger: Ledger) -> None:
    """Open tasks are interrupted, final ones are not; a running attempt costs what is known or all it reserved."""
    writes = writes_into(ledger, limit_usd=1)
    run = writes.accept(["done", "spoke", "silent", "waiting", "pending", "review"])
    writes(ev.RunChanged(1000.0, run, RunState.RUNNING))
    writes.start(f"{run}.1")
    writes.finish(f"{run}.1", cost=70)
    writes.start(f"{run}.2", reserved=100)
    writes(ev.AttemptProgress(1001.0, f"{run}.2", 1, Usage(5, 6, 7, 8), 33))
    writes.start(f"{run}.3", reserved=100)
    writes(ev.ReservationExtended(1001.0, f"{run}.3", 1, 20))
    writes.start(f"{run}.4")
    failure = Failure(FailureKind.LIMIT, "http_429", "wait")
    failed = TurnResult(failure=failure, cost_nano=4)
    writes(
        ev.AttemptEnded(1001.0, f"{run}.4", 1, AttemptState.FAILED, failed),
        ev.TaskWaiting(1001.0, f"{run}.4", 2000.0, failure),
    )
    writes.start(f"{run}.6")
    writes(
        ev.AttemptEnded(1001.0, f"{run}.6", 1, AttemptState.COMPLETED, TurnResult(cost_nano=1)),
        ev.TaskPendingReview(1001.0, f"{run}.6"),
    )
    finished = writes.accept(["x"])
    writes(ev.TaskCancelled(1001.0, f"{finished}.1"))  # killed before it could say that the run is over
    assert ledger.recover().pools == ()  # this process is alive

    found = ledger.recover(gone)
    assert (found.pools, found.runs) == ((writes.pool_id,), (run,))
    assert found.tasks == tuple(f"{run}.{n}" for n in (2, 3, 4, 5))
    assert found.booked_nano == 33 + 120
    states = [task.state.value for task in queries.tasks(ledger, run)]
    assert states == ["completed", *["interrupted"] * 4, "pending_review"]
    assert [task.cost_nano for task in queries.tasks(ledger, run)] == [70, 33, 120, 4, 0, 1]
    (spoke,) = queries.attempts(ledger, f"{run}.2")
    assert spoke.state == AttemptState.INTERRUPTED
    assert spoke.result is not None
    assert (spoke.result.cost_basis, spoke.result.usage) == (CostBasis.ESTIMATED, Usage(5, 6, 7, 8))
    assert (writes.now_budget().spent_nano, writes.now_budget().reserved_nano) == (70 + 33 + 120 + 4 + 1, 0)
    assert [queries.run(ledger, one).state for one in (run, finished)] == [RunState.INTERRUPTED, RunState.COMPLETED]
    kinds = event_kinds(ledger, f"{run}.3")
    assert kinds[-2:] == ["attempt_ended", "task_interrupted"]
    assert ledger.recover(gone) == recovery.Recovery()  # once is enough
    assert (pool := queries.pool(ledger, writes.pool_id)) is not None
    assert pool.ended == "gone"


def test_an_interrupted_run_is_taken_over_and_goes_on(ledger: Ledger) -> None:
    """Another pool adopts the run and reopens its tasks; when that pool dies too, it is that pool's run."""
    writes = writes_into(ledger)
    run = writes.accept(["a", "b"])
    writes.start(f"{run}.1")
    ledger.recover(gone)
    new = writes_into(ledger)
    new(
        ev.RunAdopted(1.0, run, new.pool_id),
        ev.TaskReopened(1.0, f"{run}.1"),
        ev.TaskReopened(1.0, f"{run}.2", overrides='{"model": "opus"}'),
        ev.RunChanged(1.0, run, RunState.RUNNING),
    )
    first, second = queries.tasks(ledger, run)
    assert (first.state, first.attempts, first.opened_attempts, first.error) == (TaskState.PENDING, 1, 1, None)
    assert (second.attempts, second.overrides) == (0, '{"model": "opus"}')
    assert queries.run(ledger, run).finished_at is None
    new.start(f"{run}.1", attempt=2)
    new.finish(f"{run}.1", attempt=2)
    assert queries.run(ledger, run).pool_id == new.pool_id
    found = ledger.recover(gone)
    assert (found.pools, found.tasks) == ((new.pool_id,), (f"{run}.2",))


def test_a_pool_that_was_taken_for_dead_changes_nothing_any_more(tmp_path: Path) -> None:
    """A pool whose tasks another process has interrupted cannot end them again: its bill is booked once."""
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path) as mine, Ledger.open(path) as theirs:
        writes = writes_into(mine)
        run = writes.accept(["a"])
        writes.start(f"{run}.1", reserved=100)
        assert theirs.recover(gone).tasks == (f"{run}.1",)
        with pytest.raises(StoreConflict):
            writes(ev.AttemptEnded(1001.0, f"{run}.1", 1, AttemptState.COMPLETED, TurnResult(cost_nano=70)))
        with pytest.raises(StoreConflict):
            writes(ev.TaskCompleted(1001.0, f"{run}.1"))
        assert queries.task(mine, f"{run}.1").state == TaskState.INTERRUPTED
        assert (writes.now_budget().spent_nano, writes.now_budget().reserved_nano) == (100, 0)


def test_a_pool_closed_in_order_is_not_recovered(ledger: Ledger) -> None:
    """What closed as it should is left alone; only its forgotten processes are told."""
    pool = ledger.register_pool(backend="demo", config_json='{"a": 1}', notebook="n", play_money=True)
    ledger.record_process(pool, "s1", 11, 1.5, "/bin/claude")
    ledger.record_process(pool, "s1", 11, 2.5, "/bin/claude")
    ledger.record_process(pool, "s2", 12, 3.5, "/bin/claude")
    ledger.forget_process(pool, "s2", 12)
    ledger.close_pool(pool)
    found = ledger.recover(gone)
    assert found.pools == ()
    assert found.orphans == (Orphan(11, 2.5, "/bin/claude", pool, "s1"),)
    ledger.forget_process(pool, "s1").result(10)
    assert ledger.recover(gone).orphans == ()


def test_a_process_is_the_same_only_with_its_start_time() -> None:
    """A pid that another process got since, or an earlier boot, is not alive; another machine's may be."""
    host, boot, pid, start = this_process()
    assert is_alive(host, boot, pid, start)
    assert not is_alive(host, boot, pid, start - 60)
    assert not is_alive(host, "before", pid, start)
    assert is_alive("elsewhere", "before", 1, 0.0)
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    started = psutil.Process(child.pid).create_time()
    child.wait()
    assert not is_alive(socket.gethostname(), boot, child.pid, started)


WORKER = """
import sys
from claude_pool_nb import events as ev
from claude_pool_nb.records import AttemptState, RunRecord, TaskRecord, TurnResult
from claude_pool_nb.store.ledger import Ledger

ledger = Ledger.open(sys.argv[1])
pool = ledger.register_pool(backend="demo", config_json="{}", notebook=None, play_money=True)
budget = ledger.open_budget("nb", limit_usd=1, play_money=True)
run = f"r{ledger.new_run()}"
tasks = tuple(TaskRecord(f"{run}.{n}", run, n, "p" * 100) for n in range(1, 30_001))
ledger.write(pool, budget.id, [ev.RunAccepted(0.0, RunRecord(run, "run", total=30_000), tasks)]).result()
print("accepted", flush=True)


def said(task):
    def say(future):
        future.result()
        sys.stdout.write(task + "\\n")
        sys.stdout.flush()

    return say


for task in tasks:
    start = ledger.write(pool, budget.id, [ev.TaskRunning(1.0, task.id, 1, "s1", 9)])
    if task.number % 7 == 0:
        start.result()
    result = TurnResult(output="o" * 200, cost_nano=7)
    ended = ev.AttemptEnded(2.0, task.id, 1, AttemptState.COMPLETED, result)
    ledger.write(pool, budget.id, [ended, ev.TaskCompleted(2.0, task.id)]).add_done_callback(said(task.id))
"""


def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """A writing process is killed in full flight; every finish it was told of is there, and the budget adds up."""
    path = tmp_path / "ledger.sqlite"
    child = subprocess.Popen([sys.executable, "-c", WORKER, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "accepted\n"
    told = [child.stdout.readline().strip() for _ in range(500)]
    os.kill(child.pid, signal.SIGKILL)
    told += [line.strip() for line in child.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    child.stdout.close()
    child.wait()
    with Ledger.open(path) as ledger:
        found = ledger.recover()
        assert found.pools == ("p1",)
        tasks = {task.id: task for task in queries.tasks(ledger, "r1")}
        assert len(told) >= 500
        assert len(tasks) == 30_000
        assert {tasks[task_id].state for task_id in told} == {TaskState.COMPLETED}
        assert {tasks[task_id].cost_nano for task_id in told} == {7}
        assert {task.state for task in tasks.values()} == {TaskState.COMPLETED, TaskState.INTERRUPTED}
        budget = ledger.budget(1)
        assert budget.spent_nano == sum(task.cost_nano for task in tasks.values())
        assert budget.reserved_nano == 0
        with ledger.reading() as connection:
            assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"


def test_context_and_conversations_are_kept_by_name(ledger: Ledger) -> None:
    """The last put wins, scopes do not mix, and what is deleted is gone."""
    shelf.set_context(ledger, "nb", "b", "1")
    shelf.set_context(ledger, "nb", "a", "é")
    shelf.set_context(ledger, "nb", "b", "2")
    shelf.set_context(ledger, "other", "b", "3")
    assert list(shelf.list_context(ledger, "nb").items()) == [("a", "é"), ("b", "2")]
    assert shelf.delete_context(ledger, "nb", "b")
    assert not shelf.delete_context(ledger, "nb", "b")
    assert shelf.list_context(ledger, "nb") == {"a": "é"}
    assert shelf.list_context(ledger, "other") == {"b": "3"}
    night = shelf.Conversation("night", session_id="s", cwd="/tmp", last_message="m1", turns=3, pool_id="p1")
    shelf.put_conversation(ledger, shelf.Conversation("night"))
    shelf.put_conversation(ledger, night)
    found = shelf.get_conversation(ledger, "night")
    assert found is not None
    assert (found.session_id, found.last_message, found.turns) == ("s", "m1", 3)
    assert [one.name for one in shelf.list_conversations(ledger)] == ["night"]
    assert shelf.get_conversation(ledger, "day") is None
