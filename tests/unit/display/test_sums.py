"""Frames of sums are shown for reading, and stay plain frames underneath."""

from __future__ import annotations

import pickle

import pandas as pd
import pytest

from claude_pool_nb import Pool
from claude_pool_nb.display.sums import MAX_ROWS, said, shown_columns, sums_frame


@pytest.fixture
def metrics() -> pd.DataFrame:
    """Two models, three tags, on the demo."""
    with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
        pool.fan_out(["I love it"] * 3, model="haiku", tags=["a", "b"])
        pool.fan_out(["I hate it"] * 2, model="sonnet", tags=["a"])
        return pool.metrics(by=["model", "tag"])


def test_a_table_shows_what_says_something(metrics: pd.DataFrame) -> None:
    """Keys, counts and dollars; nothing that is 0 everywhere; and what there is in all, counted once."""
    assert shown_columns(metrics)[:5] == ["model", "tag", "tasks", "completed", "attempts"]
    assert "failed" not in shown_columns(metrics)
    text, html = repr(metrics), metrics._repr_html_()  # type: ignore[operator]
    for shown in (text, html):
        assert "demo-large" in shown
        assert "In all 5 tasks, 5 attempts" in shown
        assert "of play money. A task with two tags is in the row of each." in shown
        assert "100.0 %" in shown
        assert "more columns: see .columns" in shown
    assert "$0.0" in text
    assert "$0" not in html.replace("<span>$</span>0", "")
    assert "<span class='pool-volatile'>" in html
    assert text.splitlines()[1].startswith("demo-large  a")


def test_a_selection_is_shown_the_same_way_but_without_the_totals(metrics: pd.DataFrame) -> None:
    """A head has other totals; columns that were chosen are a frame as any other, as is its pickle."""
    assert "In all" not in repr(metrics.head(1))
    assert "$0.0" in repr(metrics.head(1))
    assert "In all" in repr(metrics.sort_values("cost_usd"))
    assert "$" not in repr(metrics[["model", "cost_usd"]])
    assert "<table" in metrics[["model", "cost_usd"]]._repr_html_()  # type: ignore[operator]
    assert "$" not in repr(metrics.describe())
    assert repr(metrics.T)
    assert type(pickle.loads(pickle.dumps(metrics))) is pd.DataFrame
    assert metrics.groupby("model", observed=True)["tasks"].sum().tolist() == [2, 6]
    assert metrics["cost_usd"].dtype == "float64"


def test_one_row_is_a_list_of_names_and_values() -> None:
    """All that says something, below each other; nothing yet is said too."""
    with Pool(backend="demo", demo_latency_s=0, store=":memory:", budget_usd=1) as pool:
        assert repr(pool.metrics()).split() == ["tasks", "0", "attempts", "0", "cost_usd", "$0.00"]
        assert repr(pool.cost()).startswith("nothing yet\n")
        assert "nothing yet" in pool.cost()._repr_html_()  # type: ignore[operator]
        pool.run("I love it")
        text, html = repr(pool.metrics()), pool.metrics()._repr_html_()  # type: ignore[operator]
    lines = {line.split()[0]: line.split(maxsplit=1)[1] for line in text.splitlines() if "  " in line}
    assert (lines["tasks"], lines["success_rate"], lines["turns_mean"]) == ("1", "100.0 %", "1.0")
    assert lines["duration_s_p95"].endswith(" s")
    assert "failed" not in lines
    assert text.endswith("The dollars are play money.")
    assert 'scope="row"' in html


def test_many_rows_and_long_or_nasty_keys() -> None:
    """No more rows than fit a page, no text longer than a line, and nothing of it acts."""
    frame = pd.DataFrame(
        {
            "tag": ["<script>x</script> $5", "y" * 500, *(f"t{n}" for n in range(200))],
            "tasks": 1,
            "cost_usd": 0.5,
        }
    )
    frame.attrs["by"] = ["tag"]
    shown = sums_frame(frame, label="costs")
    assert "142 more rows" in repr(shown)
    assert len(repr(shown).splitlines()) < MAX_ROWS + 5
    assert max(map(len, repr(shown).splitlines())) < 120
    html = shown._repr_html_()  # type: ignore[operator]
    assert "<script>" not in html
    assert "<span>$</span>5" in html


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("cost_usd", float("nan"), "-"),
        ("cost_usd", 12.5, "$12.50"),
        ("budget_share", 0.0312, "3.1 %"),
        ("utilisation", 1.0, "100.0 %"),
        ("duration_s_p99", 75.2, "1 min 15 s"),
        ("duration_s_p50", 0.021, "0.02 s"),
        ("wait_s_max", 12.34, "12.3 s"),
        ("output_tokens_per_s", 105.71, "105.7"),
        ("parallelism", 0.0123, "0.012"),
        ("output_tokens", 1234567, "1,234,567"),
        ("play_money", True, "yes"),
        ("day", pd.Timestamp("2026-01-31", tz="UTC"), "2026-01-31"),
        ("hour", pd.Timestamp("2026-01-31 14:00", tz="UTC"), "2026-01-31 14:00"),
        ("model", None, "-"),
    ],
)
def test_values_as_text(name: str, value: object, text: str) -> None:
    """The name of a column tells its unit."""
    assert said(name, value) == text
