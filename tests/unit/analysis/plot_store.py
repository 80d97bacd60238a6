"""A ledger with attempts at known times and costs, for tests of what is drawn of them."""

from __future__ import annotations

from claude_pool_nb import events as ev
from claude_pool_nb.records import (
    AttemptState,
    CostBasis,
    Failure,
    FailureKind,
    RunRecord,
    TaskRecord,
    TurnResult,
    nano,
)
from claude_pool_nb.store.ledger import Ledger

LOST = Failure(FailureKind.TRANSPORT, "lost", "the connection was lost")
T0 = 1_000_000.0


class PlotStore:
    """A pool with a ledger in memory; times are seconds after `T0`, costs dollars."""

    def __init__(self, *, limit_usd: float | None = None, play_money: bool = False) -> None:
        self.ledger = Ledger.open(":memory:")
        self.enter(limit_usd=limit_usd, play_money=play_money)

    def enter(self, *, limit_usd: float | None = None, play_money: bool = False) -> None:
        """Go on as another pool on a budget of its own."""
        self.backend = "demo" if play_money else "claude"
        self.pool_id = self.ledger.register_pool(
            backend=self.backend, config_json="{}", notebook=None, play_money=play_money
        )
        self.budget = self.ledger.open_budget("nb", limit_usd=limit_usd, play_money=play_money)

    def write(self, *events: ev.Event) -> None:
        """Write and wait."""
        self.ledger.write(self.pool_id, self.budget.id, events).result(10)

    def run(self, *models: str, tags: tuple[str, ...] = (), created: float = 0.0, meta: str = "{}") -> str:
        """A run of one task for each model named."""
        run_id = f"r{self.ledger.new_run()}"
        at = T0 + created
        tasks = tuple(
            TaskRecord(
                id=f"{run_id}.{n}", run_id=run_id, number=n, row=n - 1, prompt="p", created_at=at, tags=tags,
                requested_model=model,
            )
            for n, model in enumerate(models, 1)
        )  # fmt: skip
        record = RunRecord(
            id=run_id, verb="map", total=len(tasks), pool_id=self.pool_id, backend=self.backend, budget="nb",
            created_at=at, meta=meta, tags=tags,
        )  # fmt: skip
        self.write(ev.RunAccepted(at, record, tasks))
        return run_id

    def start(self, task_id: str, at: float, *, number: int = 1, slot: str = "s1", model: str = "m1") -> None:
        """Start an attempt."""
        self.write(ev.TaskRunning(T0 + at, task_id, number, slot, 1, model))

    def attempt(
        self,
        task_id: str,
        at: float,
        end: float,
        cost_usd: float,
        *,
        number: int = 1,
        slot: str = "s1",
        model: str = "m1",
        state: AttemptState = AttemptState.COMPLETED,
        estimated: bool = False,
    ) -> None:
        """Start and end an attempt, and its task unless it is to be tried again."""
        self.start(task_id, at, number=number, slot=slot, model=model)
        failed = state is AttemptState.FAILED
        result = TurnResult(
            output="ok", cost_nano=nano(cost_usd), model=model, duration_s=end - at,
            cost_basis=CostBasis.ESTIMATED if estimated else CostBasis.EXACT, failure=LOST if failed else None,
        )  # fmt: skip
        self.write(ev.AttemptEnded(T0 + end, task_id, number, state, result))
        if failed:
            self.write(ev.TaskWaiting(T0 + end, task_id, T0 + end, LOST))
        else:
            self.write(ev.TaskCompleted(T0 + end, task_id))
