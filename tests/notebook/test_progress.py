"""The live view's numbers follow the pool's events."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from claude_pool_nb import events
from claude_pool_nb.notebook.live.follow import Follower
from claude_pool_nb.notebook.live.mode import Mode, decide
from claude_pool_nb.notebook.live.picture import picture_html
from claude_pool_nb.notebook.live.progress import Progress
from claude_pool_nb.notebook.live.render import budget, cards, failures, header, line
from claude_pool_nb.notebook.live.strip import LETTERS, MAX_CELLS, Strip
from claude_pool_nb.pool import Pool
from claude_pool_nb.records import (
    AttemptState,
    BudgetRecord,
    Failure,
    FailureKind,
    RunRecord,
    SlotRecord,
    SlotState,
    TaskRecord,
    TaskState,
    TurnResult,
    Usage,
)
from tests.integration.pool.conftest import Held
from tests.waiting import wait_until


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def __call__(self) -> float:
        """The time it was set to."""
        return self.now


def _follow(*told: events.Event, tasks: int = 3) -> tuple[Progress, Clock]:
    clock = Clock()
    progress = Progress("r1", clock=clock)
    progress.seed(
        [TaskRecord(f"r1.{n}", "r1", n, f"prompt <b>{n}</b>") for n in range(1, tasks + 1)],
        slots=[SlotRecord("s1", SlotState.IDLE), SlotRecord("s2", SlotState.STOPPED)],
        budget=BudgetRecord(1, "nb", limit_nano=10_000_000),
    )
    for event in told:
        progress.feed(event)
    progress.catch_up()
    return progress, clock


def test_a_task_is_in_one_state() -> None:
    """Running, ended, waiting, running again, failed: the counts always add up to all tasks."""
    told = [
        events.TaskRunning(101, "r1.1", 1, "s1", 0, "haiku"),
        events.AttemptEnded(102, "r1.1", 1, AttemptState.FAILED, TurnResult(cost_nano=500)),
        events.TaskWaiting(102, "r1.1", 105, Failure(FailureKind.LIMIT, "http_429", "slow down")),
        events.TaskPendingAgain(105, "r1.1"),
        events.TaskRunning(105, "r1.1", 2, "s1", 0),
        events.AttemptEnded(106, "r1.1", 2, AttemptState.COMPLETED, TurnResult(cost_nano=700)),
        events.TaskFailed(106, "r1.1", FailureKind.LIMIT, "http_429", "no"),
        events.TaskCompleted(106, "r1.2"),
    ]
    for number in range(len(told) + 1):
        progress, _ = _follow(*told[:number])
        assert progress.summary().total == 3
    assert progress.summary().counts == {"failed": 1, "completed": 1, "pending": 1}
    assert progress.summary().cost_nano == 1200


def test_other_runs_change_only_the_slots() -> None:
    """A task of another run shows in its slot and in nothing else."""
    progress, _ = _follow(
        events.TaskRunning(101, "r11.1", 1, "s1", 0, "opus"),
        events.AttemptEnded(101, "r11.1", 1, AttemptState.COMPLETED, TurnResult(cost_nano=5)),
        events.TaskCompleted(102, "r11.1"),
    )
    assert progress.summary().counts == {"pending": 3}
    assert progress.summary().cost_nano == 0
    assert progress.slots["s1"].task_id == "r11.1"


def test_money_of_running_attempts_counts_once() -> None:
    """What a running attempt has used is told, and replaced by what it did cost."""
    spending = events.AttemptProgress(102, "r1.1", 1, Usage(), 900)
    running = events.TaskRunning(101, "r1.1", 1, "s1", 0)
    progress, _ = _follow(running, spending)
    assert progress.summary().cost_nano == 900
    progress.feed(events.AttemptEnded(103, "r1.1", 1, AttemptState.COMPLETED, TurnResult(cost_nano=1000)))
    progress.catch_up()
    assert progress.summary().cost_nano == 1000


def test_rate_and_what_is_left() -> None:
    """The rate is that of the last half minute; time and money to go follow from it."""
    progress, clock = _follow(
        events.AttemptEnded(101, "r1.1", 1, AttemptState.COMPLETED, TurnResult(cost_nano=1000)),
        events.TaskCompleted(101, "r1.1"),
        events.TaskCompleted(102, "r1.2"),
    )
    clock.now = 104.0
    assert progress.rate() == 0.5
    assert progress.left() == (2.0, 500)
    progress.feed(events.PoolPaused(104, "bad key"))
    progress.catch_up()
    assert progress.left()[0] is None
    assert "bad key" in header(progress)
    clock.now = 200.0
    assert progress.rate() == 0.0


def test_the_page_escapes_prompts_and_names_states() -> None:
    """A prompt can put no tag on the page, and every state is a word."""
    progress, clock = _follow(
        events.TaskRunning(101, "r1.1", 1, "s1", 0, "haiku"),
        events.SlotChanged(101, "s1", SlotState.BUSY, "r1.1", cost_nano=1_100_000),
    )
    clock.now = 103.0
    html = cards(list(progress.slots.values()), clock.now)
    assert "<b>1</b>" not in html
    assert "&lt;b&gt;1" in html
    for part in ("s1", "busy", "r1.1", "haiku", "2 s", "0.0011"):
        assert part in html
    assert "s2" not in html
    assert "1 running" in line(progress)


def test_nobody_watches_a_test(monkeypatch: object) -> None:
    """Under pytest and without a kernel there is only the static output; off is off everywhere."""
    assert decide("auto", None) is Mode.STATIC
    assert decide("widget", None) is Mode.STATIC
    assert decide("off", None) is Mode.OFF


def test_an_attempt_is_paid_for_once_however_late_its_event_comes() -> None:
    """What the view began with already held the first attempt's cost; only the one that ran is added."""
    progress = Progress("r1", clock=Clock())
    running = TaskRecord("r1.1", "r1", 1, "a", TaskState.RUNNING, attempts=2, cost_nano=300)
    done = TaskRecord("r1.2", "r1", 2, "b", TaskState.COMPLETED, attempts=1, cost_nano=50)
    progress.seed([running, done])
    for task, attempt, cost in (("r1.1", 1, 300), ("r1.2", 1, 50), ("r1.1", 2, 400)):
        progress.feed(events.AttemptEnded(101, task, attempt, AttemptState.COMPLETED, TurnResult(cost_nano=cost)))
    progress.catch_up()
    assert progress.summary().cost_nano == 750


def test_events_from_before_the_beginning_change_nothing_for_good() -> None:
    """Events that were already in the records are told again, in their order: the counts end where they were."""
    progress = Progress("r1", clock=Clock())
    progress.feed(events.TaskRunning(101, "r1.1", 1, "s1", 0))
    progress.feed(events.TaskCompleted(102, "r1.1"))
    progress.seed([TaskRecord("r1.1", "r1", 1, "a", TaskState.COMPLETED, attempts=1, cost_nano=5)])
    progress.catch_up()
    assert progress.counts == {"completed": 1}
    assert progress.strip.letters() == "D"


def test_a_pool_is_followed_over_its_runs() -> None:
    """Runs that overlap are one picture; a run that begins when all is done begins a new one; a retry comes back."""
    first = TaskRecord("r1.1", "r1", 1, "first")
    progress = Progress(None, clock=Clock(), find=lambda task: replace(first, id=task, state=TaskState.FAILED))
    for number in (1, 2):
        tasks = tuple(TaskRecord(f"r{number}.{n}", f"r{number}", n, "x") for n in (1, 2))
        progress.feed(events.RunAccepted(100, RunRecord(f"r{number}", "fan_out"), tasks))
    progress.catch_up()
    assert (progress.title, progress.counts) == ("r1, r2", {"pending": 4})
    for task in ("r1.1", "r1.2", "r2.1", "r2.2"):
        progress.feed(events.TaskFailed(101, task, FailureKind.TASK, "bad", "no good"))
    progress.catch_up()
    assert [reason.tasks for reason in progress.reasons(5)] == ["4 tasks, r2.2 the latest"]
    progress.feed(events.RunAccepted(102, RunRecord("r3", "run"), (TaskRecord("r3.1", "r3", 1, "y"),)))
    progress.catch_up()
    assert (progress.title, progress.counts, progress.reasons(5)) == ("r3", {"pending": 1}, [])
    progress.feed(events.TaskCompleted(103, "r3.1"))
    progress.feed(events.TaskReopened(104, "r1.1"))
    progress.catch_up()
    assert (progress.title, progress.counts) == ("r1", {"pending": 1})


def test_why_tasks_wait_and_fail_is_told_while_they_do() -> None:
    """Tasks behind a rate limit say so with the seconds left, and no more once they run; a retried failure is gone."""
    limit = Failure(FailureKind.LIMIT, "http_429", "slow down")
    progress, clock = _follow(
        events.TaskWaiting(101, "r1.1", 108, limit),
        events.TaskWaiting(101, "r1.2", 112, limit),
        events.TaskFailed(101, "r1.3", FailureKind.REQUEST, "http_400", "<b>bad</b> prompt"),
    )
    assert progress.waits() == ["2 for the rate limit (8 s to go)"]
    assert "2 for the rate limit" in header(progress)
    assert "&lt;b&gt;bad" in failures(progress)
    clock.now = 110
    progress.feed(events.TaskRunning(110, "r1.1", 2, "s1", 0))
    progress.feed(events.TaskReopened(110, "r1.3"))
    progress.catch_up()
    assert progress.waits() == ["1 for the rate limit (2 s to go)"]
    assert failures(progress) == ""


@given(
    st.integers(1, 900),
    st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(sorted(LETTERS))), max_size=300),
)
def test_the_strip_counts_every_task_once(total: int, changes: list[tuple[int, str]]) -> None:
    """However many tasks and changes: at most 200 cells, and each is what its own tasks are."""
    strip, states = Strip(), ["pending"] * total
    for state in states:
        strip.add(state)
    for place, state in changes:
        strip.change(place % total, states[place % total], state)
        states[place % total] = state
    letters, each = strip.letters(), strip.tasks_per_cell
    assert len(letters) == -(-total // each) <= MAX_CELLS
    for cell, letter in enumerate(letters):
        mine = states[cell * each : (cell + 1) * each]
        if letter == "f":
            assert 0 < mine.count("failed") < len(mine)
        else:
            assert letter in {LETTERS[state] for state in mine}
        assert (letter == "R") == ("running" in mine)


def test_what_a_model_writes_is_text() -> None:
    """Tags, event handlers, colours of a terminal, turned-round words, a line of a megabyte: all stays short text."""
    nasty = "<script>1</script><img onerror=x>\x1b[31m\u202e" + "x" * 1_000_000
    progress = Progress("r1", clock=Clock())
    progress.seed([TaskRecord("r1.1", "r1", 1, nasty)], slots=[SlotRecord("s1", SlotState.BUSY, task_id="r1.1")])
    progress.act("s1", "uses " + "<i>", nasty[:2000])
    progress.feed(events.TaskFailed(101, "r1.1", FailureKind.TASK, "bad", nasty))
    progress.catch_up()
    page = cards(list(progress.slots.values()), 102, tails=True) + failures(progress) + picture_html(progress)
    assert len(page) < 6_000
    for sign in ("<script", "<img", "<i>", "\x1b", "\u202e"):
        assert sign not in page


def test_a_scarce_budget_is_warned_of_in_words() -> None:
    """From four fifths on, the bar says how much is spent; money that is reserved is no warning."""
    record = BudgetRecord(1, "nb", limit_nano=1_000, spent_nano=799, reserved_nano=200)
    assert "⚠" not in budget(record)
    assert "⚠ 80 % is spent" in budget(replace(record, spent_nano=800))
    assert "no limit" in budget(replace(record, limit_nano=None))


def test_the_view_says_that_the_prompt_cache_is_warmed() -> None:
    """While one task goes ahead for the others the view says why the slots stand idle, and then no more."""
    held = Held()
    options = {"slots": 3, "store": ":memory:", "system_prompt": "Be kind. " * 2_000}
    with Pool(backend=held.backend, **options) as pool:
        run = pool.fan_out(["a", "b", "c"], wait=False)
        wait_until(lambda: len(held.backend.asked) == 1)
        follower = Follower(pool, run.id, lambda: None)
        follower.begin()
        assert follower.look()
        assert "waiting: warming the prompt cache: r1.1 goes first" in line(follower.progress)
        assert "warming the prompt cache" in header(follower.progress)
        held.let_go(pool)
        run.wait(60)
        follower.look()
        assert "warming" not in line(follower.progress)
        follower.stop()
