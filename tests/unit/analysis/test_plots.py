"""Plots draw what is in the ledger, say it in words, and load nothing."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from claude_pool_nb import Pool
from claude_pool_nb.analysis import charts, plot_budget, plot_data
from claude_pool_nb.analysis.plots import KINDS, Plots
from claude_pool_nb.errors import ConfigError, MissingExtra, NothingToPlot, RunNotFound
from claude_pool_nb.records import AttemptState
from tests.unit.analysis.plot_store import T0, PlotStore

pytest.importorskip("altair")
FAILED, INTERRUPTED = AttemptState.FAILED, AttemptState.INTERRUPTED


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is twelve seconds after the first start."""
    monkeypatch.setattr("claude_pool_nb.analysis.plots.time", SimpleNamespace(time=lambda: T0 + 12))


@pytest.fixture
def store() -> PlotStore:
    """An empty store with a wall at $1."""
    return PlotStore(limit_usd=1.0)


@pytest.fixture
def busy(store: PlotStore) -> PlotStore:
    """A run of four tasks on two slots: one tried twice, one still running."""
    run = store.run("m1", "m1", "m2", "m2", tags=("night",))
    store.attempt(f"{run}.1", 0, 4, 0.10)
    store.attempt(f"{run}.2", 1, 3, 0.05, slot="s10", state=FAILED, estimated=True)
    store.attempt(f"{run}.2", 5, 9, 0.10, number=2)
    store.attempt(f"{run}.3", 3, 6, 0.20, slot="s10", model="m2")
    store.start(f"{run}.4", 7, slot="s10", model="m2")
    return store


def drawn(store: PlotStore, kind: str, **given: Any) -> Any:
    """A plot of a store."""
    return getattr(Plots(store.ledger, store.budget), kind)(**given)


# -- what is behind them -----------------------------------------------------------------------------------------------


def test_the_gantt_has_every_attempt_where_and_when_it_was(busy: PlotStore) -> None:
    """Seconds from the first start, slots, states and costs; a retry knows where its task was before."""
    figures = plot_data.gantt(busy.ledger, ["r1"], now_at=T0 + 12)
    frame = figures.frame.set_index(["task_id", "attempt"])
    assert list(figures.frame["task_id"]) == ["r1.1", "r1.2", "r1.3", "r1.2", "r1.4"]
    assert frame["start_s"].to_dict() == {
        ("r1.1", 1): 0, ("r1.2", 1): 1, ("r1.3", 1): 3, ("r1.2", 2): 5, ("r1.4", 1): 7,
    }  # fmt: skip
    assert frame.loc[("r1.4", 1), "end_s"] == 12
    assert frame.loc[("r1.4", 1), "duration_s"] == 5
    assert frame.loc[("r1.4", 1), "model"] == "m2"
    assert frame.loc[("r1.2", 2), ["previous_slot_id", "previous_end_s"]].tolist() == ["s10", 3]
    assert frame["previous_slot_id"].notna().sum() == 1
    assert frame["cost_usd"].sum() == pytest.approx(0.45)
    # Busy: 4 + 2 + 4 + 3 + 5 seconds of two slots in 12.
    assert "The slots were busy 75 % of the time" in figures.description
    assert "5 attempts of 4 tasks, 1 retry among them" in figures.description
    assert "2 slots (s1, s10)" in figures.description
    assert "r1.4 on s10 with 5.0 s" in figures.description
    assert figures.title == "r1: 4 tasks on 2 slots in 12.0 s"


def test_the_chart_has_the_frame_behind_it(busy: PlotStore) -> None:
    """`.data` is a plain DataFrame, and slots are in the order of their numbers."""
    chart = drawn(busy, "gantt")
    assert type(chart.data) is pd.DataFrame
    assert len(chart.data) == 5
    spec = charts.specification(chart)
    assert spec["layer"][0]["encoding"]["y"]["sort"] == ["s1", "s10"]
    assert spec["layer"][0]["encoding"]["x"]["title"] == "seconds since the first start"


def test_many_attempts_are_drawn_together_and_none_is_lost(store: PlotStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit a bar stands for several attempts, in the worst of their states; sums stay what they were."""
    monkeypatch.setattr(plot_data, "MAX_POINTS", 10)
    run = store.run(*["m1"] * 40)
    for n in range(40):
        state = INTERRUPTED if n == 21 else AttemptState.COMPLETED
        store.attempt(f"{run}.{n + 1}", n, n + 1, 0.01, slot=f"s{n % 2 + 1}", state=state)
    figures = plot_data.gantt(store.ledger, [run], now_at=T0 + 40)
    frame = figures.frame
    assert len(frame) == 10
    assert frame["attempts"].tolist() == [4] * 10
    assert frame["busy_s"].sum() == 40
    assert frame["cost_usd"].sum() == pytest.approx(0.4)
    assert frame.loc[frame["state"] == "interrupted", "slot_id"].tolist() == ["s2"]
    assert "Each bar is a piece of time of a slot" in figures.subtitle
    assert "40 attempts" in figures.description
    assert drawn(store, "gantt")._repr_mimebundle_()[0]["text/plain"]


def test_costs_by_model_and_tag_are_summed_by_hand(busy: PlotStore) -> None:
    """The dearest first; estimated costs apart; an attempt that has cost nothing yet is no bar."""
    figures = plot_data.cost(busy.ledger, ["model", "tag"], None, play_money=None)
    frame = figures.frame.set_index("label")
    assert list(frame.index) == ["m1 · night", "m2 · night"]
    assert frame.loc["m1 · night", ["cost_usd", "exact_usd", "estimated_usd"]].tolist() == pytest.approx(
        [0.25, 0.2, 0.05]
    )
    assert frame.loc["m1 · night", ["tasks", "attempts"]].tolist() == [2, 3]
    assert frame.loc["m1 · night", "usd_per_task"] == pytest.approx(0.125)
    assert "$0.45 for 4 tasks, 5 attempts; $0.05 of it estimated" in figures.description


def test_a_task_with_two_tags_is_in_two_bars_and_once_in_the_sum(store: PlotStore) -> None:
    """The bars say that they overlap; the title's sum counts once."""
    run = store.run("m1", tags=("a", "b"))
    store.attempt(f"{run}.1", 0, 1, 0.3)
    figures = plot_data.cost(store.ledger, ["tag"], None, play_money=None)
    assert figures.frame["label"].tolist() == ["a", "b"]
    assert figures.subtitle == "$0.30 for 1 task, 1 attempt · a task with several tags counts under each"


def test_days_are_in_their_order_and_no_more_bars_than_can_be_read(
    store: PlotStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The latest days stay, the earlier ones are one bar; nothing is lost of the sum."""
    monkeypatch.setattr(plot_data, "MAX_BARS", 3)
    run = store.run(*["m1"] * 5)
    for n in range(5):
        store.attempt(f"{run}.{n + 1}", n * 86_400, n * 86_400 + 1, (n + 1) / 100)
    days = plot_data.cost(store.ledger, ["day"], None, play_money=None).frame
    assert days["label"].tolist() == ["(3 earlier)", "1970-01-15", "1970-01-16"]
    assert days["cost_usd"].tolist() == pytest.approx([0.06, 0.04, 0.05])
    models = store.run(*[f"m{n}" for n in range(5)])
    for n in range(5):
        store.attempt(f"{models}.{n + 1}", n, n + 1, (n + 1) / 100, model=f"x{n}")
    frame = plot_data.cost(store.ledger, ["model"], [models], play_money=None).frame
    assert frame["label"].tolist() == ["x4", "x3", "(3 others)"]
    assert frame["tasks"].tolist() == [1, 1, 3]


def test_times_are_quantiles_by_hand(store: PlotStore) -> None:
    """Waiting is from acceptance to the first start, running is the last attempt; the commonest model is first."""
    run = store.run("m1", "m2", "m2", "m2")
    store.attempt(f"{run}.1", 2, 3, 0.01, state=FAILED)
    store.attempt(f"{run}.1", 10, 14, 0.01, number=2)
    for n, took in ((2, 1), (3, 2), (4, 9)):
        store.attempt(f"{run}.{n}", n, n + took, 0.01, model="m2")
    frame = plot_data.latency(store.ledger, ["model"], None, play_money=None).frame
    assert frame[["label", "phase", "tasks"]].astype(str).to_numpy().tolist() == [
        ["m2", "wait", "3"], ["m2", "run", "3"], ["m1", "wait", "1"], ["m1", "run", "1"],
    ]  # fmt: skip
    by = frame.set_index(["label", "phase"])
    assert by.loc[("m1", "wait"), "p50_s"] == 2
    assert by.loc[("m1", "run"), "p50_s"] == 4
    assert by.loc[("m2", "run"), ["p25_s", "p50_s", "p75_s", "max_s", "mean_s"]].tolist() == [1.5, 2, 5.5, 9, 4]
    assert by.loc[("m2", "wait"), ["p50_s", "max_s"]].tolist() == [3, 4]


def test_the_budget_falls_by_what_was_booked(busy: PlotStore) -> None:
    """What is left after each booking, in their order; the open task is forecast from those that have ended."""
    record = busy.ledger.budget(busy.budget.id)
    figures = plot_budget.budget(busy.ledger, record, None, now_at=T0 + 12)
    frame = figures.frame
    past = frame[frame["part"] == "spent"]
    assert past["elapsed_s"].tolist() == [0, 3, 4, 6, 9, 12]
    assert past["left_usd"].tolist() == pytest.approx([1, 0.95, 0.85, 0.65, 0.55, 0.55])
    # One open task, three ended ones of 0.10, 0.15 and 0.20 dollars and 13 seconds of work on two slots.
    ahead = frame[frame["part"] == "forecast"]
    assert ahead["left_usd"].tolist() == pytest.approx([0.55, 0.55 - 0.15])
    assert ahead["elapsed_s"].tolist() == pytest.approx([12, 12 + 13 / 3 / 2], abs=1e-3)
    spread = 1.645 * (0.0025 + 0.0025 / 3) ** 0.5
    assert ahead[["low_usd", "high_usd"]].iloc[1].tolist() == pytest.approx([0.4 - spread, 0.4 + spread])
    assert "$0.45 of $1.00 spent, $0.55 left" in figures.description
    assert "Forecast: 1 open task will take about 2.2 s and $0.15" in figures.description


def test_the_forecast_does_not_go_through_the_wall(busy: PlotStore) -> None:
    """Where the open tasks cost more than is left, the line ends at the wall, and the words say after how many."""
    run = busy.run(*["m1"] * 9, created=10)
    assert run == "r2"
    record = busy.ledger.budget(busy.budget.id)
    figures = plot_budget.budget(busy.ledger, record, None, now_at=T0 + 12)
    ahead = figures.frame[figures.frame["part"] == "forecast"]
    assert ahead["left_usd"].tolist() == pytest.approx([0.55, 0, 0])
    assert (ahead["low_usd"] >= 0).all()
    # Ten open tasks of 0.15 dollars; 0.55 are left.
    assert "The wall comes after about 3 of them" in figures.description


def test_a_budget_plot_from_a_run_on_begins_with_what_was_spent_before(busy: PlotStore) -> None:
    """Earlier runs are the height at which the line begins, not lost."""
    run = busy.run("m1", created=100)
    busy.attempt(f"{run}.1", 101, 103, 0.05)
    record = busy.ledger.budget(busy.budget.id)
    frame = plot_budget.budget(busy.ledger, record, [run], now_at=T0 + 103).frame
    past = frame[frame["part"] == "spent"]
    assert past["spent_usd"].tolist() == pytest.approx([0.45, 0.5])
    assert past["elapsed_s"].tolist() == [0, 2]


def test_a_budget_of_many_changes_keeps_its_ends(store: PlotStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn together or not, the line begins and ends where the money does."""
    monkeypatch.setattr(plot_budget, "MAX_STEPS", 10)
    run = store.run(*["m1"] * 60)
    for n in range(60):
        store.attempt(f"{run}.{n + 1}", n, n + 1, 0.01)
    record = store.ledger.budget(store.budget.id)
    figures = plot_budget.budget(store.ledger, record, None, now_at=T0 + 60)
    assert len(figures.frame) <= 11
    assert figures.frame["spent_usd"].iloc[[0, -1]].tolist() == pytest.approx([0, 0.6])
    assert "drawn together" in figures.subtitle


def test_without_a_wall_the_budget_shows_what_is_spent() -> None:
    """No limit: nothing is left of nothing, so the line rises, and the words say how to set one."""
    store = PlotStore()
    run = store.run("m1")
    store.attempt(f"{run}.1", 0, 1, 0.25)
    chart = drawn(store, "budget")
    assert chart.data["left_usd"].isna().all()
    assert chart.title["text"] == ["Budget nb: spent over time"]
    assert "There is no wall; %pool budget USD sets one" in chart.description


@pytest.mark.parametrize("kind", ["cost", "latency"])
def test_play_money_is_never_drawn_with_real_money(busy: PlotStore, kind: str) -> None:
    """A store with both shows one of them, says so, and says how to see the other."""
    real = busy.budget
    busy.enter(play_money=True)
    run = busy.run("demo-small")
    busy.attempt(f"{run}.1", 0, 1, 5.0, model="demo-small")
    shown = getattr(Plots(busy.ledger, real), kind)()
    assert "demo-small" not in set(shown.data["label"])
    assert "play money" not in shown.title["text"][0]
    assert "play_money=True" in " ".join(shown.title["subtitle"]).replace("\N{NO-BREAK SPACE}", " ")
    played = drawn(busy, kind)
    assert set(played.data["model"]) == {"demo-small"}
    assert "play money" in " ".join(played.title["text"])
    assert "play money" in played.description
    assert set(getattr(Plots(busy.ledger, real), kind)(play_money=True).data["model"]) == {"demo-small"}


# -- how they are drawn ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "theme"), [*((kind, "auto") for kind in KINDS), ("gantt", "dark"), ("cost", "light")])
def test_a_chart_shows_as_specification_picture_and_words(busy: PlotStore, kind: str, theme: str) -> None:
    """Vega-Lite 5 that JupyterLab draws, a small PNG for pages without scripts, and the figures in words."""
    converter = pytest.importorskip("vl_convert")
    chart = drawn(busy, kind, theme=theme, width=300)
    data, metadata = chart._repr_mimebundle_()
    assert set(data) == {charts.VEGALITE, "image/png", "text/plain"}
    spec = data[charts.VEGALITE]
    text = json.dumps(spec)
    assert len(text) < 100_000
    assert re.findall(r"https?://[^\"]*", text) == [charts.VEGALITE_SCHEMA]
    assert len(spec["description"]) > 80
    assert spec["description"] in data["text/plain"]
    assert metadata["image/png"]["alt"] == spec["description"]
    assert data["image/png"].startswith(b"\x89PNG")
    assert len(data["image/png"]) <= 2 * charts.MAX_PNG_BYTES
    # Named inks would hide the front end's own theme.
    assert ("background" in spec["config"]) is (theme != "auto")
    vega = converter.vegalite_to_vega(spec, vl_version="5.20")
    assert vega["description"] == spec["description"]


@pytest.mark.parametrize("kind", KINDS)
def test_axes_name_their_units(busy: PlotStore, kind: str) -> None:
    """Every axis of numbers says seconds or dollars."""
    text = json.dumps(charts.specification(drawn(busy, kind)))
    units = {
        "gantt": ["seconds since the first start"],
        "cost": ["US dollars"],
        "budget": ["left (US dollars)", "seconds since the first start"],
        "latency": ["seconds waiting for a slot", "seconds running"],
    }
    assert all(f'"title": "{unit}"' in text for unit in units[kind])


def test_states_differ_in_shape_as_well_as_in_colour(busy: PlotStore) -> None:
    """What failed has a mark of its own; each state has its own colour and its own shape, in one legend."""
    spec = charts.specification(drawn(busy, "gantt"))
    encodings = [layer["encoding"] for layer in spec["layer"]]
    colours = next(one["color"]["scale"] for one in encodings if "color" in one)
    shapes = next(one["shape"]["scale"] for one in encodings if "shape" in one)
    assert colours["domain"] == shapes["domain"] == ["completed", "failed", "running"]
    assert len(set(colours["range"])) == len(set(shapes["range"])) == 3


def test_a_specification_holds_only_what_is_drawn(busy: PlotStore) -> None:
    """Columns of the frame that no mark or tooltip uses do not make the notebook longer."""
    spec = charts.specification(drawn(busy, "gantt"))
    rows = next(iter(spec["datasets"].values()))
    assert "started_at" not in rows[0]
    assert {"start_s", "end_s", "slot_id", "state", "previous_slot_id"} <= set(rows[0])


def test_a_changed_chart_still_shows_as_all_three(busy: PlotStore) -> None:
    """It is altair's: properties can be set, and the copy displays like the original."""
    wider = drawn(busy, "gantt").properties(width=700)
    spec = wider._repr_mimebundle_()[0][charts.VEGALITE]
    assert spec["width"] == 700
    assert len(wider.data) == 5


def test_altairs_limit_of_rows_does_not_bite(busy: PlotStore) -> None:
    """A chart made here is drawn whatever limit a user's altair has, and that limit stays as it was."""
    import altair as alt

    with alt.data_transformers.enable("default", max_rows=1):
        assert len(next(iter(charts.specification(drawn(busy, "gantt"))["datasets"].values()))) == 5
        assert alt.data_transformers.options == {"max_rows": 1}


# -- files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", charts.FORMATS)
def test_a_plot_is_saved_by_its_ending(busy: PlotStore, tmp_path: Path, form: str) -> None:
    """Pictures, a page with all its scripts inside, a specification; an existing file stays."""
    pytest.importorskip("vl_convert")
    path = tmp_path / f"plot.{form}"
    drawn(busy, "gantt", save=path)
    start = {"png": b"\x89PNG", "svg": b"<svg", "pdf": b"%PDF", "html": b"<!DOCTYPE html>", "json": b'{"config"'}[form]
    assert path.read_bytes().lstrip()[: len(start)] == start
    if form in {"html", "svg"}:
        text = path.read_text("utf-8")
        assert not re.search(r"<(script|link|image)[^>]+(src|href)=[\"']https?:", text)
        assert "Gantt chart of r1" in text
    with pytest.raises(ConfigError, match="exists; choose another name"):
        drawn(busy, "gantt", save=path)
    drawn(busy, "cost", save=path, overwrite=True)
    assert [one.name for one in tmp_path.iterdir() if one.name != "home"] == [path.name]


# -- what cannot be drawn ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_store_says_that_there_is_nothing(store: PlotStore, kind: str) -> None:
    """One line, with what to do."""
    with pytest.raises(NothingToPlot) as nothing:
        drawn(store, kind)
    assert "\n" not in str(nothing.value)


def test_a_run_of_which_nothing_was_sent_has_nothing_to_draw(store: PlotStore) -> None:
    """Tasks without attempts are no bars."""
    store.run("m1")
    with pytest.raises(NothingToPlot, match="no attempt in r1"):
        drawn(store, "gantt")


@pytest.mark.parametrize(
    ("kind", "given", "error", "says"),
    [
        ("cost", {"by": "modle"}, ConfigError, "did you mean 'model'"),
        ("latency", {"by": ["failure"]}, ConfigError, "cannot be broken down"),
        ("cost", {"by": ()}, ConfigError, "at least one of"),
        ("gantt", {"run": "r7"}, RunNotFound, "no run r7"),
        ("gantt", {"run": []}, ConfigError, "names no run"),
        ("gantt", {"run": 7}, ConfigError, "not this int"),
        ("gantt", {"width": 20}, ConfigError, "160 to 4000"),
        ("gantt", {"theme": "drak"}, ConfigError, "did you mean 'dark'"),
        ("gantt", {"save": "a.jpg"}, ConfigError, r"\.png"),
    ],
)
def test_what_cannot_be_drawn_is_said(
    busy: PlotStore, kind: str, given: dict[str, Any], error: type[Exception], says: str
) -> None:
    """The message names the right word, or the values that there are."""
    with pytest.raises(error, match=says):
        drawn(busy, kind, **given)


def test_without_altair_the_extra_is_named(busy: PlotStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing library is an error with the command that installs it."""
    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(MissingExtra, match=r"pip install 'claude-pool-nb\[plots\]'"):
        drawn(busy, "gantt")


def test_without_a_converter_there_is_no_picture_but_a_chart(
    busy: PlotStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Altair alone shows the chart and its words; only drawing a file needs more."""
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    chart = drawn(busy, "gantt", save=tmp_path / "a.json")
    assert set(chart._repr_mimebundle_()[0]) == {charts.VEGALITE, "text/plain"}
    with pytest.raises(MissingExtra, match="vl-convert"):
        drawn(busy, "gantt", save=tmp_path / "a.png")
    assert not (tmp_path / "a.png").exists()


def test_a_pool_draws_its_own_runs() -> None:
    """From a run, its id or its frame, in either pool."""
    with Pool(backend="demo", demo_latency_s=0, store=":memory:", slots=2) as pool:
        first = pool.fan_out(["a", "b", "c"])
        pool.fan_out(["d"])
        assert len(pool.plot.gantt().data) == 1
        assert [len(pool.plot.gantt(run).data) for run in (first, first.id, first.frame)] == [3, 3, 3]
        assert len(pool.aio.plot.gantt("all").data) == 4
        assert "play money" in pool.plot.cost().description
