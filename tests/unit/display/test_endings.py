"""What a run leaves in its cell."""

from __future__ import annotations

from claude_pool_nb.display.endings import MAX_BYTES, Answer, RunEnding, Span, slots_picture
from claude_pool_nb.display.runs import RunSummary


def test_it_stays_small_and_escaped() -> None:
    """Ten thousand tasks on a hundred slots with answers of a megabyte leave less than 64 kB, and no tag of theirs."""
    spans = [Span(f"s{n % 100}", n / 10, n / 10 + 3, "completed", 1_000) for n in range(10_000)]
    nasty = "<script>1</script> $5 " * 50_000
    summary = RunSummary("r1", counts={"completed": 10_000}, errors=[nasty] * 3)
    html = RunEnding(summary, spans, [Answer(f"r1.{n}", "completed", nasty, nasty) for n in range(500)]).html()
    assert len(html.encode()) < MAX_BYTES
    assert "<script" not in html
    assert "and 68 more slots" in html
    assert html.count("<tr>") == 6


def test_the_picture_tells_neighbours_failures_and_gaps_apart() -> None:
    """Two tasks in a row look different, a failure is a cross, a pause is dots, and each slot says what it did."""
    spans = [
        Span("s1", 0, 2, "completed", 1_000_000),
        Span("s1", 2, 4, "completed", 1_000_000),
        Span("s10", 4, 6, "failed"),
        Span("s2", 8, None, "running"),
        Span("s2", 9, 10, "interrupted"),
    ]
    lines = slots_picture(spans, columns=10).splitlines()
    assert lines[0] == "s1  ██▓▓······  2 completed  $0.0020"
    assert lines[1].startswith("s2  ········█░  1 interrupted, 1 running")
    assert lines[2].startswith("s10 ····✕✕····  1 failed")


def test_no_word_is_wider_than_the_page() -> None:
    """An answer without a space breaks wherever the page ends, and the picture with its longest name fits a phone."""
    spans = [Span(f"s{n}", n, n + 1, "completed") for n in range(12)]
    first = [Answer("r1.1", "completed", "What?", "x" * 1_000_000)]
    html = RunEnding(RunSummary("r1", counts={"completed": 12}), spans, first).html()
    assert "overflow-wrap:anywhere'><span class='pool-volatile'>" + "x" * 99 + "…" in html
    bars = [line.split("  ")[0] for line in slots_picture(spans).splitlines()[:12]]
    assert max(map(len, bars)) <= 36


def test_one_task_is_one_line() -> None:
    """A single answer is shown by itself: nothing is folded below its line."""
    html = RunEnding(RunSummary("r1", counts={"completed": 1}), [Span("s1", 0, 1, "completed")]).html()
    assert "<details" not in html
