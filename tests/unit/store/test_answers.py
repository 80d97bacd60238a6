"""Answers are found by the request that they were given to."""

from __future__ import annotations

from sqlalchemy import text

from claude_pool_nb import events as ev
from claude_pool_nb.records import AttemptState, EarlierAnswer, TaskState, TurnResult
from claude_pool_nb.store import queries
from claude_pool_nb.store.answers import PART, find_answers
from claude_pool_nb.store.ledger import Ledger

from .conftest import Writes


def answer(writes: Writes, task: str, request: str | None, output: str) -> None:
    """A task is asked and answers."""
    writes.start(task)
    result = TurnResult(output=output, model="m", structured={"label": 1}, warnings=("odd",), cost_nano=5)
    writes(
        ev.AttemptEnded(writes.now, task, 1, AttemptState.COMPLETED, result, request=request),
        ev.TaskCompleted(writes.now, task),
    )


def test_the_newest_answer_is_found_without_its_price(ledger: Ledger, writes: Writes) -> None:
    """Of several answers the last one counts; what it cost then is not what it costs now."""
    for said in ("old", "new"):
        run = writes.accept(["a", "b"])
        answer(writes, f"{run}.1", "x", said)
        answer(writes, f"{run}.2", None, "unnamed")
    result = TurnResult(output="new", model="m", structured={"label": 1}, warnings=("odd",))
    assert find_answers(ledger, ["x", "y"]) == {"x": EarlierAnswer("r2.1", result)}


def test_names_are_indexed_once_somebody_looks_for_one(ledger: Ledger, writes: Writes) -> None:
    """Who never looks pays for no index; who does finds through it what was answered before it was made, and after."""

    def is_indexed(name: str) -> bool:
        plan = text(f"EXPLAIN QUERY PLAN SELECT 1 FROM attempt WHERE request IN ('{name}')")
        with ledger.reading() as connection:
            return "attempt_request" in str(connection.execute(plan).all())

    run = writes.accept(["a", "b"])
    answer(writes, f"{run}.1", "x", "before")
    assert not is_indexed("x")
    assert find_answers(ledger, ["x"])["x"].result.output == "before"
    assert is_indexed("y")
    answer(writes, f"{run}.2", "y", "after")
    assert find_answers(ledger, ["y"])["y"].result.output == "after"


def test_more_are_asked_for_than_a_statement_takes(ledger: Ledger, writes: Writes) -> None:
    """Any number of requests can be asked for at once."""
    run = writes.accept(["a"] * 3)
    for number in (1, 2, 3):
        answer(writes, f"{run}.{number}", f"name {number * PART}", f"answer {number}")
    found = find_answers(ledger, [f"name {number}" for number in range(4 * PART)])
    assert {name: given.result.output for name, given in found.items()} == {
        f"name {number * PART}": f"answer {number}" for number in (1, 2, 3)
    }


def test_an_answer_given_again_is_in_the_ledger_without_an_attempt(ledger: Ledger, writes: Writes) -> None:
    """The task is completed with the answer; no attempt was made, nothing is booked, and a prune takes it away."""
    run = writes.accept(["a"])
    given = EarlierAnswer("r0.9", TurnResult(output="known", model="m", structured=[1]))
    writes(ev.TaskCached(1001.0, f"{run}.1", given), ev.RunChanged(1001.0, run, queries.RunState.COMPLETED))
    task = queries.task(ledger, f"{run}.1")
    assert (task.state, task.attempts, task.cost_nano, task.finished_at) == (TaskState.COMPLETED, 0, 0, 1001.0)
    kept = queries.attempts(ledger, f"{run}.1")
    assert [(attempt.number, attempt.result) for attempt in kept] == [(0, given.result)]
    assert writes.now_budget().spent_nano == 0
    assert queries.history(ledger, play_money=True) == []
    assert ledger.prune(2000.0) == 1
    assert queries.attempts(ledger, f"{run}.1") == []
