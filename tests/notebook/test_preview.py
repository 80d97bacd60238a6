"""`%pool preview` and `--dry-run`: what a cell would do, shown and not done."""

from __future__ import annotations

import pytest

from claude_pool_nb import ConfigError, Pool, SpendGate
from claude_pool_nb.analysis.preview import Preview
from tests.notebook.conftest import Runner


def shown(value: object) -> Preview:
    """A value that must be a preview, and one that shows itself."""
    assert isinstance(value, Preview)
    assert repr(value).startswith("preview: ")
    assert "nothing was sent" in value._repr_html_()
    return value


@pytest.mark.parametrize(
    "cell",
    [
        "%pool preview ['a poem', 'a limerick']",
        "%%pool preview\na poem\n---\na limerick",
        "%pool fan_out ['a poem', 'a limerick'] --dry-run",
        "%%pool fan_out --dry-run\na poem\n---\na limerick",
    ],
)
def test_every_form_sends_nothing(demo: Runner, cell: str) -> None:
    """The same preview for the same prompts, and no run."""
    seen = shown(demo(cell).value)
    assert (seen.tasks, seen.prompts) == (2, ("a poem", "a limerick"))
    assert demo("%pool runs").value.empty


def test_a_map_is_previewed_with_its_grid(demo: Runner) -> None:
    """One row for each cell of the grid, in its order; the same with --dry-run, and stored by --into."""
    demo("rows = [{'text': 'good'}, {'text': 'bad'}]; what = 'mood'")
    line = "--over rows --grid model=haiku,sonnet --grid tone=kind,blunt --n 3 --schema 'label: str' --into seen"
    body = "\nJudge the {{ what }}, {{ tone }}: {{ text }}"
    seen = shown(demo(f"%%pool preview {line}{body}").value)
    assert seen.tasks == 24
    assert seen.prompts[:2] == ("Judge the mood, kind: good", "Judge the mood, blunt: good")
    table = seen.estimate
    assert list(zip(table["model"], table["tone"], table["tasks"], strict=True)) == [
        ("demo-small", "kind", 6),
        ("demo-small", "blunt", 6),
        ("demo-large", "kind", 6),
        ("demo-large", "blunt", 6),
    ]
    assert demo("seen.tasks").value == 24
    dry = shown(demo(f"%%pool fan_out --dry-run {line}{body}").value)
    assert (dry.tasks, dry.high_usd) == (24, seen.high_usd)
    assert demo("%pool tasks").value.empty


def test_one_prompt_and_what_is_wrong_with_it(demo: Runner) -> None:
    """--dry-run on run; errors are those of the real thing."""
    seen = shown(demo("%pool run --dry-run --max-output-tokens 50 a poem").value)
    assert seen.prompts == ("a poem",)
    assert isinstance(demo("%pool preview []").error, ConfigError)
    assert isinstance(demo("%%pool preview --over [{'a': 1}]\n{{ b }}").error, ConfigError)
    assert demo("%pool runs").value.empty


def test_history_makes_it_exact(demo: Runner) -> None:
    """After a run it says so, and the time is no guess any more; a run says what it was thought to cost."""
    demo("prompts = [f'How many words has line {n}?' for n in range(30)]")
    assert "list price" in repr(demo("%pool preview prompts").value)
    demo("df = %pool fan_out prompts")
    seen = shown(demo("%pool preview prompts").value)
    assert "30 such tasks" in repr(seen)
    assert "guess" not in repr(seen)
    assert seen.low_usd is not None
    assert seen.high_usd is not None
    demo("df = %pool fan_out prompts")
    cost = demo("df['cost_usd'].sum()").value
    assert seen.low_usd <= cost <= seen.high_usd
    made = demo("pool = %pool status\nfrom claude_pool_nb.pool import current\ncurrent().last.preview").value
    assert made.actual_usd == pytest.approx(cost)
    assert "came to" in made._repr_html_()


def test_the_gate_names_the_price_and_the_dry_run_passes_it(demo: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message has low and high; what only looks is not asked for a yes."""
    monkeypatch.setattr(Pool, "backend", "claude")
    stopped = demo("%pool fan_out ['a poem'] * 101")
    assert isinstance(stopped.error, SpendGate)
    assert "101 tasks, at $" in str(stopped.error)
    assert " to $" in str(stopped.error)
    assert "--dry-run" in str(stopped.error)
    assert shown(demo("%pool fan_out ['a poem'] * 101 --dry-run").value).tasks == 101
    assert shown(demo("%pool preview ['a poem'] * 101").value).tasks == 101
    assert demo("%pool runs").value.empty


def test_the_gate_lets_pass_what_the_ledger_answers(demo: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """What costs nothing needs no yes, and a dry run says that it costs nothing."""
    demo("%pool run a poem")
    monkeypatch.setattr(Pool, "backend", "claude")
    assert isinstance(demo("%pool fan_out ['a poem'] * 101").error, SpendGate)
    seen = demo("%pool fan_out --dry-run --cache ['a poem'] * 101").value
    assert (seen.cached, seen.high_usd) == (101, 0.0)
    assert demo("%pool fan_out --cache ['a poem'] * 101").value["cached"].all()


def test_a_retry_with_another_model_is_priced_as_that(demo: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate sees the prompts and options that would be sent again, not those of the first time."""
    demo("df = %pool fan_out ['[[fail]] ' + 'word ' * 2000] * 99 --retry-attempts 1")
    demo("%pool budget 60")
    monkeypatch.setattr(Pool, "backend", "claude")
    assert demo("%pool retry --max-output-tokens 10").error is None
    line = "%pool retry -m sonnet --max-output-tokens 10000 --state all"
    dear = demo(line)
    assert isinstance(dear.error, SpendGate)
    assert "99 tasks, at $" in str(dear.error)
    assert "--yes" in str(dear.error)
    assert list(shown(demo(f"{line} --dry-run").value).estimate["model"]) == ["demo-large"]
