"""What people read of results, runs and pools."""

from __future__ import annotations

import re

from claude_pool_nb.display.pools import PoolCard, pool_html, pool_text
from claude_pool_nb.display.previews import PreviewPicture, preview_text
from claude_pool_nb.display.results import result_markdown, result_text
from claude_pool_nb.display.runs import RunSummary, run_html, run_text
from claude_pool_nb.display.text import money
from claude_pool_nb.records import (
    BudgetRecord,
    CostBasis,
    Denial,
    Failure,
    FailureKind,
    PoolStatus,
    TaskResult,
    TaskState,
)

EVIL = "<script>alert(1)</script> $1 and $2"


def _visible(html: str) -> str:
    """The text of HTML, as a page without styles shows it."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", html)).strip()


def test_failure_and_denials_are_told() -> None:
    """A failed task says why, which tools were denied, and what it cost all the same."""
    result = TaskResult(
        "r1.1",
        "r1",
        TaskState.FAILED,
        "half an ans",
        cost_usd=0.0011,
        cost_basis=CostBasis.ESTIMATED,
        failure=Failure(FailureKind.LIMIT, "http_429", "too many requests; try again later"),
        denials=(Denial("Bash", "{}"), Denial("Bash", "{}")),
        attempts=3,
    )
    for shown in (result_text(result), _visible(result_markdown(result))):
        assert "half an ans" in shown
        assert "too many requests; try again later" in shown
        assert "2 tool calls denied: Bash" in shown
        assert "3 attempts" in shown
        assert "about" in shown


def test_demo_answers_say_so() -> None:
    """A made-up answer can not be taken for a model's."""
    result = TaskResult("r1.1", "r1", TaskState.COMPLETED, "hi", backend="demo")
    assert "play money" in result_text(result)
    assert "play money" in result_markdown(result)


def test_model_text_is_escaped_everywhere() -> None:
    """No tag of an answer, an error or a warning reaches the page; no dollar pair becomes LaTeX."""
    result = TaskResult("r1.1", "r1", TaskState.COMPLETED, EVIL, warnings=(EVIL,))
    summary = RunSummary("r1", counts={"failed": 1}, errors=(EVIL,), warnings=(EVIL,), paused=EVIL)
    card = PoolCard(PoolStatus("p1", "demo", paused=EVIL), notice=EVIL, warnings=(EVIL,), store=EVIL)
    for html in (result_markdown(result), run_html(summary), pool_html(card)):
        assert "<script" not in html
        assert not re.search(r"\$(?!</span>)", html), html


def test_the_line_of_a_run_says_the_same_as_text_and_html() -> None:
    """The static output stands alone in both forms, and its times are marked volatile."""
    summary = RunSummary(
        "r7",
        counts={"completed": 2, "failed": 1},
        cost_nano=3_300_000,
        elapsed_s=1.25,
        left_nano=996_700_000,
        limited=True,
        play_money=True,
        errors=("no route",),
    )
    text, html = run_text(summary), run_html(summary)
    for part in ("r7", "2 completed, 1 failed of 3 tasks", "$0.0033 play money, $0.9967 left", "1.2 s", "no route"):
        assert part in text
        assert part in _visible(html)
    assert "<span class='pool-volatile'>1.2 s</span>" in html
    assert "<style" not in html
    assert "<svg" not in html


def test_the_card_tells_the_wall_and_the_pause() -> None:
    """Money, its wall, what is held back, and why nothing is started are on the card."""
    budget = BudgetRecord(1, "nb", limit_nano=5_000_000_000, spent_nano=310_000_000, reserved_nano=80_000_000)
    status = PoolStatus(
        "p1", "claude", slots={"idle": 2, "busy": 6}, tasks={"pending": 41}, budget=budget, paused="bad key"
    )
    text = pool_text(PoolCard(status, warnings=("little memory",)))
    for part in (
        "8 slots",
        "paused",
        "$0.3100 spent, $0.0800 reserved of $5.00",
        "bad key",
        "little memory",
        "41 pending",
    ):
        assert part in text
        assert part in _visible(pool_html(PoolCard(status, warnings=("little memory",))))


def test_money_that_was_spent_is_never_zero() -> None:
    """A cost below the last digit is told as less than it, not as nothing."""
    assert money(1) == "<$0.000001"
    assert money(12_000) == "$0.000012"
    assert money(-2_500_000_000) == "-$2.50"


def test_a_time_that_is_one_is_not_told_as_two() -> None:
    """From and to that read the same are told once, as prices are."""
    assert "about 0.0 s on 1 slot" in preview_text(PreviewPicture(tasks=1, seconds=(0.01, 0.02), slots=1))
