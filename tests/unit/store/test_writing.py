"""What is written comes back, in order, and what is wrong is refused."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import threading
from concurrent.futures import Future
from pathlib import Path

import pytest

from claude_pool_nb import events as ev
from claude_pool_nb.errors import RunNotFound, StoreConflict, StoreError, TaskNotFound
from claude_pool_nb.records import (
    AttemptState,
    CostBasis,
    Denial,
    Failure,
    FailureKind,
    RunRecord,
    RunState,
    SlotState,
    TaskRecord,
    TaskState,
    TurnResult,
    Usage,
)
from claude_pool_nb.store import queries
from claude_pool_nb.store.ledger import Ledger

from .conftest import Writes, event_kinds, writes_into


def test_records_come_back_as_they_were_accepted(writes: Writes) -> None:
    """A run and a task with every field set read back equal."""
    number = writes.ledger.new_run()
    task = TaskRecord(
        id=f"r{number}.1",
        run_id=f"r{number}",
        number=1,
        prompt="zeile\x00 eins – ünïcode 🎉",
        row=4,
        sample=2,
        tags=("a", "b"),
        priority=-3,
        conversation="night",
        role="coder",
        profile="agent",
        requested_model="sonnet",
        overrides='{"model": "sonnet"}',
        inputs='{"values": {"x": 1}}',
        created_at=12.5,
    )
    run = RunRecord(
        id=f"r{number}",
        verb="map",
        total=1,
        pool_id=writes.pool_id,
        backend="demo",
        config='{"a": 1}',
        meta='{"columns": ["x"]}',
        tags=("night",),
        budget="nb",
        created_at=12.5,
    )
    writes(ev.RunAccepted(12.5, run, (task,)))
    assert queries.run(writes.ledger, run.id) == run
    assert queries.task(writes.ledger, task.id) == task
    assert queries.tasks(writes.ledger, run.id) == [task]
    assert queries.latest_run(writes.ledger) == run


def test_an_attempt_comes_back_with_its_whole_result(writes: Writes) -> None:
    """Everything a session reports of a turn is kept."""
    run = writes.accept(["p"])
    writes.start(f"{run}.1")
    result = TurnResult(
        output="half an ans",
        failure=Failure(FailureKind.LIMIT, "http_429", "asked to wait", 3.5, 429),
        cost_nano=28_311_250_007,
        cost_basis=CostBasis.ESTIMATED,
        usage=Usage(1, 2, 3, 4),
        turns=2,
        model="m",
        session_id="s",
        duration_s=1.5,
        api_s=1.25,
        structured={"a": [1, None], "b": "é"},
        denials=(Denial("Bash", '{"command": "ls"}'),),
        wrote=True,
        warnings=("another model",),
    )
    writes(
        ev.AttemptEnded(1001.0, f"{run}.1", 1, AttemptState.FAILED, result),
        ev.TaskWaiting(1001.0, f"{run}.1", 1004.5, result.failure),
    )
    (attempt,) = queries.attempts(writes.ledger, f"{run}.1")
    assert attempt.result == result
    assert (attempt.state, attempt.reserved_nano, attempt.finished_at) == (AttemptState.FAILED, 100, 1001.0)
    task = queries.task(writes.ledger, f"{run}.1")
    assert (task.state, task.waiting_until, task.failure_kind) == (TaskState.WAITING, 1004.5, FailureKind.LIMIT)
    assert task.cost_nano == 28_311_250_007


def test_one_write_may_hold_the_whole_life_of_a_task(writes: Writes) -> None:
    """Events of one task keep their order, although rows are executed statement by statement."""
    number = writes.ledger.new_run()
    run, task = f"r{number}", f"r{number}.1"
    failed = TurnResult(failure=Failure(FailureKind.TRANSPORT, "http_500", "x"), cost_nano=5)
    writes(
        ev.RunAccepted(1.0, RunRecord(id=run, verb="run", total=1), (TaskRecord(task, run, 1, "p"),)),
        ev.RunChanged(1.0, run, RunState.RUNNING),
        ev.TaskRunning(2.0, task, 1, "s1", 10),
        ev.AttemptEnded(3.0, task, 1, AttemptState.FAILED, failed),
        ev.TaskWaiting(3.0, task, 4.0, failed.failure),
        ev.TaskPendingAgain(4.0, task),
        ev.TaskRunning(5.0, task, 2, "s2", 10),
        ev.ReservationExtended(5.5, task, 2, 7),
        ev.AttemptEnded(6.0, task, 2, AttemptState.FAILED, failed),
        ev.TaskFailed(6.0, task, FailureKind.TRANSPORT, "http_500", "x"),
        ev.TaskReopened(7.0, task, prompt="better"),
        ev.TaskRunning(8.0, task, 3, "s1", 10),
        ev.AttemptEnded(9.0, task, 3, AttemptState.COMPLETED, TurnResult(output="done", cost_nano=6)),
        ev.TaskCompleted(9.0, task),
        ev.RunChanged(9.0, run, RunState.COMPLETED),
    )
    found = queries.task(writes.ledger, task)
    assert (found.state, found.attempts, found.opened_attempts, found.cost_nano) == (TaskState.COMPLETED, 3, 2, 16)
    assert (found.prompt, found.started_at, found.finished_at, found.error) == ("better", 2.0, 9.0, None)
    assert [a.reserved_nano for a in queries.attempts(writes.ledger, task)] == [10, 17, 10]
    assert queries.run(writes.ledger, run).finished_at == 9.0
    kinds = event_kinds(writes.ledger, task)
    assert kinds == [
        "task_pending", "task_running", "attempt_ended", "task_waiting", "task_pending_again", "task_running",
        "reservation_extended", "attempt_ended", "task_failed", "task_reopened", "task_running", "attempt_ended",
        "task_completed",
    ]  # fmt: skip
    budget = writes.now_budget()
    assert (budget.spent_nano, budget.reserved_nano) == (16, 0)


def test_a_final_state_changes_by_reopening_only(writes: Writes) -> None:
    """A second verdict, a second start and a second end are refused, and nothing of their write is kept."""
    run = writes.accept(["p"])
    task = f"{run}.1"
    writes.start(task)
    writes.finish(task)
    before = queries.event_rows(writes.ledger)
    wrong: list[tuple[ev.Event, ...]] = [
        (ev.Warned(1.0, "not kept"), ev.TaskFailed(1.0, task, FailureKind.TASK, "x", "x")),
        (ev.Warned(1.0, "not kept"), ev.TaskRunning(1.0, task, 2, "s1", 5)),
        (ev.Warned(1.0, "not kept"), ev.AttemptEnded(1.0, task, 1, AttemptState.COMPLETED, TurnResult(cost_nano=5))),
        (ev.Warned(1.0, "not kept"), ev.AttemptProgress(1.0, task, 1, Usage(), 5)),
        (ev.Warned(1.0, "not kept"), ev.ReservationExtended(1.0, task, 1, 5)),
        (ev.Warned(1.0, "not kept"), ev.RunChanged(1.0, "r999", RunState.RUNNING)),
    ]
    for events in wrong:
        with pytest.raises(StoreConflict):
            writes(*events)
    assert queries.event_rows(writes.ledger) == before
    assert queries.task(writes.ledger, task).state == TaskState.COMPLETED
    assert writes.now_budget().spent_nano == 70
    assert writes.now_budget().reserved_nano == 0


def test_a_wrong_write_fails_its_caller_alone(writes: Writes) -> None:
    """Writes that share a commit with a wrong one are kept, and the wrong one names its task."""
    run = writes.accept(["a", "b", "c", "d"])
    writes.start(f"{run}.4", reserved=100)
    entered, gate = threading.Event(), threading.Event()
    futures: list[Future[object]] = []

    def block(_connection: object) -> None:
        entered.set()
        gate.wait(60)

    blocker = threading.Thread(target=lambda: writes.ledger.transact(block))
    blocker.start()
    entered.wait(60)
    for number, attempt in ((1, 1), (2, 7), (3, 1)):  # these three wait together; attempt 7 cannot be next
        event = ev.TaskRunning(1.0, f"{run}.{number}", attempt, f"s{number}", 10)
        futures.append(writes.ledger.write(writes.pool_id, writes.budget.id, [event]))
    extended = ev.ReservationExtended(1.0, f"{run}.4", 1, 7)
    futures.append(writes.ledger.write(writes.pool_id, writes.budget.id, [extended]))
    gate.set()
    blocker.join()
    assert futures[0].result(10)
    assert futures[2].result(10)
    assert futures[3].result(10)
    with pytest.raises(StoreConflict, match=rf"{run}\.2"):
        futures[1].result(10)
    states = [task.state for task in queries.tasks(writes.ledger, run)]
    assert states == [TaskState.RUNNING, TaskState.PENDING, TaskState.RUNNING, TaskState.RUNNING]
    assert writes.now_budget().reserved_nano == 127
    writes.finish(f"{run}.4")
    assert writes.now_budget().reserved_nano == 20
    writes.finish(f"{run}.1")  # the reservation is found although the replay has emptied the writer's memory
    assert writes.now_budget().reserved_nano == 10


def test_a_late_result_keeps_its_cost_not_its_verdict(writes: Writes) -> None:
    """What an old attempt says after it was replaced is booked and marked, and changes no state."""
    run = writes.accept(["a"])
    task = f"{run}.1"
    lost = TurnResult(failure=Failure(FailureKind.CRASH, "process_killed", "x"), cost_nano=3, usage=Usage(1, 2, 0, 0))
    writes.start(task)
    writes(ev.AttemptEnded(1.0, task, 1, AttemptState.FAILED, lost), ev.TaskWaiting(1.0, task, 1.0, lost.failure))
    writes.start(task, attempt=2)
    late = TurnResult(output="too late", cost_nano=40, cost_basis=CostBasis.ESTIMATED, usage=Usage(1, 1, 1, 1))
    writes(ev.AttemptEnded(2.0, task, 1, AttemptState.COMPLETED, late, late=True))
    first, second = queries.attempts(writes.ledger, task)
    assert (first.late, first.state) == (True, AttemptState.FAILED)
    assert first.result is not None
    assert (first.result.cost_nano, first.result.output) == (43, "too late")
    assert (first.result.cost_basis, first.result.usage) == (CostBasis.ESTIMATED, Usage(1, 2, 1, 1))
    assert second.state == AttemptState.RUNNING
    assert (writes.now_budget().spent_nano, writes.now_budget().reserved_nano) == (43, 100)


def test_a_late_end_of_a_still_running_attempt_gives_its_reservation_back(writes: Writes) -> None:
    """An attempt whose end was never written ends when its late result comes."""
    run = writes.accept(["a"])
    writes.start(f"{run}.1")
    result = TurnResult(cost_nano=40)
    writes(ev.AttemptEnded(2.0, f"{run}.1", 1, AttemptState.CANCELLED, result, late=True))
    (attempt,) = queries.attempts(writes.ledger, f"{run}.1")
    assert (attempt.late, attempt.state) == (True, AttemptState.CANCELLED)
    assert (writes.now_budget().spent_nano, writes.now_budget().reserved_nano) == (40, 0)


def test_half_characters_do_not_lose_an_answer(writes: Writes) -> None:
    """A cut stream can leave half a surrogate pair; the answer is kept, with the half made visible."""
    run = writes.accept(["a \udc80"])
    writes.start(f"{run}.1")
    writes.finish(f"{run}.1", output="bad \ud83d end")
    (attempt,) = queries.attempts(writes.ledger, f"{run}.1")
    assert attempt.result is not None
    assert attempt.result.output == "bad \\ud83d end"
    assert queries.task(writes.ledger, f"{run}.1").prompt == "a \\udc80"


def test_slots_are_kept_as_they_are_now(writes: Writes) -> None:
    """Of a slot's changes every one is an event, and the last one is its row."""
    for at, state in enumerate((SlotState.STARTING, SlotState.IDLE, SlotState.BUSY)):
        writes(ev.SlotChanged(float(at), "s1", state), ev.SlotChanged(float(at), "s2", SlotState.IDLE))
    writes(ev.SlotChanged(9.0, "s1", SlotState.IDLE), ev.SlotChanged(10.0, "s1", SlotState.STOPPED, cost_nano=5))
    with writes.ledger.reading() as connection:
        rows = connection.exec_driver_sql("SELECT slot_id, state, cost_nano FROM slot ORDER BY slot_id").all()
    assert [tuple(row) for row in rows] == [("s1", "stopped", 5), ("s2", "idle", 0)]
    assert event_kinds(writes.ledger).count("slot_changed") == 8


def test_futures_are_resolved_in_the_loop_that_asked(ledger: Ledger) -> None:
    """With call_soon, results and errors arrive in the loop's thread, one wake-up for a commit."""
    pool = ledger.register_pool(backend="demo", config_json="{}", notebook=None, play_money=True)
    threads: set[str] = set()
    wakes: list[object] = []

    async def ask() -> list[int]:
        loop = asyncio.get_running_loop()

        def call_soon(function: object) -> None:
            wakes.append(function)
            loop.call_soon_threadsafe(function)  # type: ignore[arg-type]

        futures = [ledger.allocate_run(call_soon=call_soon) for _ in range(50)]
        for future in futures:
            future.add_done_callback(lambda _: threads.add(threading.current_thread().name))
        return list(await asyncio.gather(*(asyncio.wrap_future(future) for future in futures)))

    assert asyncio.run(ask()) == list(range(1, 51))
    assert threads == {threading.current_thread().name}
    assert len(wakes) <= 50
    assert pool == "p1"


def test_a_closed_loop_does_not_stop_the_writer(ledger: Ledger) -> None:
    """A future whose loop is gone is resolved all the same, and the writer goes on."""
    loop = asyncio.new_event_loop()
    loop.close()
    assert ledger.allocate_run(call_soon=loop.call_soon_threadsafe).result(10) == 1
    assert ledger.new_run() == 2


def test_what_is_not_there_is_said_by_name(writes: Writes) -> None:
    """Unknown and misspelt ids are errors that say where to look."""
    run = writes.accept(["a"])
    for bad in ("r999", "12", "x", "", "r1.1", "r-1"):
        with pytest.raises(RunNotFound):
            queries.run(writes.ledger, bad)
        with pytest.raises(RunNotFound):
            queries.tasks(writes.ledger, bad)
    for bad in (f"{run}.2", "r9.1", run, "", "r1.x"):
        with pytest.raises(TaskNotFound):
            queries.task(writes.ledger, bad)


def test_a_closed_ledger_says_so(ledger: Ledger) -> None:
    """Closing commits what waits; writing afterwards is an error, closing again is none."""
    future = ledger.allocate_run()
    ledger.close()
    assert future.result(1) == 1
    with pytest.raises(StoreError, match="closed"):
        ledger.allocate_run()
    ledger.close()


@pytest.mark.parametrize("store", [":memory:", "ledger.sqlite"])
def test_a_closed_ledger_can_be_read_and_is_let_go_with_its_last_reader(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame may be asked for after the pool has ended; no connection outlives the ledger."""
    monkeypatch.chdir(tmp_path)
    ledger = Ledger.open(store)
    writes_into(ledger).accept(["a"])
    ledger.close()
    with ledger.reading() as connection:
        assert queries.task(ledger, "r1.1").prompt == "a"
        driver = connection.connection.driver_connection
        assert driver is not None
    driver.execute("SELECT 1")
    del ledger
    gc.collect()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        driver.execute("SELECT 1")


def test_prune_deletes_old_runs_whole(writes: Writes) -> None:
    """Old final runs go with all their rows; unfinished and newer ones stay, and so does what was spent."""
    old, unfinished, new = (writes.accept(["a"]) for _ in range(3))
    for run, at in ((old, 50.0), (new, 500.0)):
        writes.start(f"{run}.1")
        writes.finish(f"{run}.1")
        writes(ev.RunChanged(at, run, RunState.COMPLETED))
    assert writes.ledger.prune(100.0) == 1
    assert [run.id for run in queries.runs(writes.ledger)] == [unfinished, new]
    assert queries.event_rows(writes.ledger, run_ids=[old]) == []
    assert queries.attempts(writes.ledger, f"{old}.1") == []
    assert writes.now_budget().spent_nano == 140
    assert writes.ledger.new_run() == 4
