"""The view of a pool, its buttons and its parts, without a browser: what they ask of the pool and what they leave."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import ipywidgets
import pytest
from ipywidgets.widgets import widget as all_widgets

from claude_pool_nb import Pool
from claude_pool_nb.notebook.verbs.watch import watch_line
from claude_pool_nb.notebook.widgets import BudgetBar, PoolWatch, SlotGrid, TaskStrip
from tests.notebook.conftest import Runner

PATIENCE_S = 20.0


@pytest.fixture
def pool() -> Iterator[Pool]:
    """A pool of two slots on the demo, with a budget."""
    with Pool(slots=2, backend="demo", demo_latency_s=0, store=":memory:", budget_usd=5) as made:
        yield made


@pytest.fixture
def before() -> int:
    """How many widgets there were before the test."""
    return len(all_widgets._instances)


def _until(holds: Callable[[], bool]) -> None:
    """Wait until a view has caught up with its pool."""
    waiting, deadline = threading.Event(), PATIENCE_S
    while not holds():
        assert deadline > 0, "the view never showed it"
        waiting.wait(0.02)
        deadline -= 0.02


def _parts(view: PoolWatch) -> dict[str, ipywidgets.Widget]:
    """Its buttons and fields by their names."""
    row = next(child for child in view.children if isinstance(child, ipywidgets.HBox))
    return {part.description: part for part in row.children if not isinstance(part, ipywidgets.HTML)}


def _hint(view: PoolWatch) -> str:
    row = next(child for child in view.children if isinstance(child, ipywidgets.HBox))
    return str(row.children[-1].value)


def test_the_controls_steer_the_pool(pool: Pool, before: int) -> None:
    """Pause, Go on, Slots, Budget, Retry failed and Cancel do what they say, and two views of a pool agree."""
    first, second = pool.watch(), pool.watch()
    mine, theirs = _parts(first), _parts(second)
    mine["Pause"].click()
    assert pool.status().paused == "by the Pause button"
    _until(lambda: theirs["Pause"].description == "Go on")
    run = pool.fan_out(["a poem", "[demo:fail] this"], wait=False)
    theirs["Pause"].click()
    run.wait()
    _until(lambda: not mine["Retry failed"].disabled)
    assert run.results[1].attempts == 1
    mine["Retry failed"].click()
    run.wait()
    assert run.results[1].attempts == 2
    mine["Slots"].value = 3
    _until(lambda: theirs["Slots"].value == 3)
    assert len(pool.slot_records()) == 3
    mine["Budget USD"].value = "$1,000.50"
    assert pool.budget.limit_nano == 1_000_500_000_000
    _until(lambda: theirs["Budget USD"].value == "1000.5")
    mine["Budget USD"].value = "none"
    assert pool.budget.limit_nano is None
    _until(lambda: mine["Budget USD"].value == theirs["Budget USD"].value == "")
    pool.pause()
    waiting = pool.fan_out(["a poem"] * 3, wait=False)
    _until(lambda: not theirs["Cancel all"].disabled)
    theirs["Cancel all"].click()
    assert waiting.wait().counts() == {"cancelled": 3}
    for view in (first, second):
        view.stop()
    for view in (first, second):
        for child in view.children:
            child.layout.close()
            child.style.close()
            child.close()
        view.layout.close()
        view.close()
    assert len(all_widgets._instances) == before


def test_what_cannot_be_done_is_said(pool: Pool) -> None:
    """A wall that is no number and a size that is not possible change nothing, and the hint says why."""
    view = pool.watch()
    parts = _parts(view)
    parts["Budget USD"].value = "plenty"
    assert "'plenty' is no number of dollars" in _hint(view).replace("&#x27;", "'")
    _until(lambda: parts["Budget USD"].value == "5")
    for slip in ("", "1,5", "-1", "nan", "1e3"):  # an emptied field is no wish, and 1,5 is not fifteen dollars
        parts["Budget USD"].value = slip
        assert "no number of dollars" in _hint(view)
        assert pool.budget.limit_nano == 5_000_000_000
        _until(lambda: parts["Budget USD"].value == "5")
    parts["Slots"].value = 999
    assert "999 is not possible" in _hint(view)
    _until(lambda: parts["Slots"].value == 2)
    assert len(pool.slot_records()) == 2
    view.stop()


def test_a_view_ends_with_its_pool() -> None:
    """When the pool is stopped its view becomes a picture by itself, and so shows from then on."""
    with Pool(slots=1, backend="demo", demo_latency_s=0, store=":memory:") as pool:
        view = pool.watch()
        pool.run("a poem")
        _until(lambda: "1 done" in view.children[1].value)
    _until(lambda: not view.watching)
    assert "1 completed of 1 task" in view.children[0].value


def test_parts_follow_and_leave_nothing(pool: Pool, before: int) -> None:
    """Each part shows what happens after it was made; closed, nothing of it is left."""
    parts = [TaskStrip(pool), BudgetBar(pool), SlotGrid(pool, tails=True)]
    pool.fan_out(["a poem"] * 3)
    pool.set_budget(7)
    _until(lambda: ">DDD<" in parts[0].value)
    _until(lambda: "left of $7.00" in parts[1].value)
    _until(lambda: "<pre>" in parts[2].value)
    for part in parts:
        part.close()
    assert len(all_widgets._instances) == before


def test_where_nobody_watches_the_card_is_shown(demo: Runner) -> None:
    """`%pool watch` under a test gives the pool, whose card is static."""
    cell = demo("%pool watch")
    assert cell.error is None
    assert isinstance(cell.value, Pool)


def test_in_a_terminal_a_line_follows_until_all_is_done(pool: Pool, capsys: pytest.CaptureFixture[str]) -> None:
    """The watch of a terminal ends by itself when nothing is under way, and takes its line away."""
    pool.pause()
    run = pool.fan_out(["a poem"] * 3, wait=False)
    threading.Timer(0.5, pool.unpause).start()
    watch_line(pool)
    assert run.done
    shown = capsys.readouterr().err
    assert "0 done · 0 running · 3 queued of 3 tasks" in shown
    assert shown.endswith(" \r")
