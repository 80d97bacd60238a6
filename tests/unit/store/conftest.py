"""A ledger, and a small pool that writes into it the way the engine does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from claude_pool_nb import events as ev
from claude_pool_nb.records import (
    AttemptState,
    BudgetRecord,
    CostBasis,
    RunRecord,
    TaskRecord,
    TurnResult,
    Usage,
)
from claude_pool_nb.store import queries, schema
from claude_pool_nb.store.batch import WriteResult
from claude_pool_nb.store.ledger import Ledger


@dataclass
class Writes:
    """Writes events of one pool into a ledger."""

    ledger: Ledger
    pool_id: str
    budget: BudgetRecord
    now: float = 1000.0

    def __call__(self, *events: ev.Event) -> WriteResult:
        """Write and wait for the commit."""
        return self.ledger.write(self.pool_id, self.budget.id, events).result(timeout=10)

    def accept(self, prompts: list[str], **fields: object) -> str:
        """Accept a run of some prompts; its id."""
        number = self.ledger.new_run()
        run_id = f"r{number}"
        tasks = tuple(
            TaskRecord(
                id=f"{run_id}.{i}", run_id=run_id, number=i, prompt=prompt, row=i - 1, created_at=self.now, **fields
            )
            for i, prompt in enumerate(prompts, 1)
        )
        record = RunRecord(
            id=run_id,
            verb="fan_out",
            total=len(tasks),
            pool_id=self.pool_id,
            backend="demo",
            budget=self.budget.name,
            created_at=self.now,
        )
        self(ev.RunAccepted(self.now, record, tasks))
        return run_id

    def start(self, task_id: str, attempt: int = 1, reserved: int = 100) -> WriteResult:
        """Start an attempt."""
        return self(ev.TaskRunning(self.now, task_id, attempt, "s1", reserved, "haiku"))

    def finish(self, task_id: str, attempt: int = 1, cost: int = 70, output: str = "an answer") -> WriteResult:
        """End an attempt well, and its task."""
        result = TurnResult(
            output=output,
            cost_nano=cost,
            cost_basis=CostBasis.EXACT,
            usage=Usage(10, 20, 30, 40),
            turns=1,
            model="claude-haiku-4-5",
            session_id="abc",
            duration_s=0.5,
            api_s=0.4,
        )
        return self(
            ev.AttemptEnded(self.now, task_id, attempt, AttemptState.COMPLETED, result),
            ev.TaskCompleted(self.now, task_id),
        )

    def now_budget(self) -> BudgetRecord:
        """The budget as the ledger has it."""
        return self.ledger.budget(self.budget.id)


def event_kinds(ledger: Ledger, task_id: str | None = None) -> list[str]:
    """The kinds of all events, or of those of a task, in their order."""
    columns = schema.event.c.keys()
    events = [dict(zip(columns, row, strict=True)) for row in queries.event_rows(ledger)]
    return [event["kind"] for event in events if task_id in {None, f"r{event['run']}.{event['task']}"}]


def writes_into(ledger: Ledger, *, limit_usd: float | None = None, name: str = "nb") -> Writes:
    """A pool registered in a ledger."""
    pool_id = ledger.register_pool(backend="demo", config_json="{}", notebook="a.ipynb", play_money=True)
    return Writes(ledger, pool_id, ledger.open_budget(name, limit_usd=limit_usd, play_money=True))


@pytest.fixture(params=["disk", "memory"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger, on disk and in memory."""
    with Ledger.open(tmp_path / "ledger.sqlite" if request.param == "disk" else ":memory:") as opened:
        yield opened


@pytest.fixture
def writes(ledger: Ledger) -> Writes:
    """A pool without a wall."""
    return writes_into(ledger)
