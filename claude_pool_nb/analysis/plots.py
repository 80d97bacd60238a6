"""`pool.plot`: slots over time, costs, the budget, times, as altair charts.

Invariants: every chart has the DataFrame that it draws in `.data`, titles with units, and its figures in words; what a
colour says, a shape or a text says too; the colours keep apart for colour-blind eyes, on white and on black.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from claude_pool_nb.analysis import charts, selection
from claude_pool_nb.core.budget import WARN_SHARE
from claude_pool_nb.errors import NothingToPlot

if TYPE_CHECKING:
    from claude_pool_nb.handles import Run
    from claude_pool_nb.records import BudgetRecord
    from claude_pool_nb.store.ledger import Ledger

KINDS = ("gantt", "cost", "budget", "latency")
"""The plots that there are."""
WIDTH = 560
"""Pixels of the area of a plot."""
_STATES = {
    "completed": ("#2d799c", "circle"),
    "failed": ("#e77331", "cross"),
    "interrupted": ("#b267d3", "square"),
    "cancelled": ("#79787d", "diamond"),
    "running": ("#28aa6d", "triangle-right"),
}
_BAR, _PALE = "#2d799c", "#86b9d0"
_GREY = "#8a8a8a"
_PARTS = ("spent", "forecast")
_WARN, _WALL = "#b8790a", "#d9601c"
_UNITS = ((300, 1, "seconds"), (7200, 60, "minutes"), (3 * 86400, 3600, "hours"), (float("inf"), 86400, "days"))


class Plots:
    """The plots of a pool; each is an altair chart with the DataFrame behind it in `.data`.

    Every method takes `width` (pixels of the plot's area), `theme` (`auto`, `light` or `dark`), and `save` (a path that
    ends in .png, .svg, .pdf, .html or .json; `overwrite=True` replaces a file).

    Args:
        ledger: Where to read.
        budget: The budget of the pool, for its plot.

    Example:
        >>> from claude_pool_nb import Pool
        >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
        ...     run = pool.fan_out(["a poem", "a limerick"])
        ...     chart = pool.plot.gantt()
        >>> chart.data[["task_id", "attempt", "state"]].to_dict("list")
        {'task_id': ['r1.1', 'r1.2'], 'attempt': [1, 1], 'state': ['completed', 'completed']}
    """

    def __init__(self, ledger: Ledger, budget: BudgetRecord | None = None) -> None:
        self._ledger = ledger
        self._budget = budget

    def gantt(
        self,
        run: str | Run | Sequence[str | Run] | None = None,
        *,
        width: int = WIDTH,
        theme: str = "auto",
        save: str | Path | None = None,
        overwrite: bool = False,
    ) -> Any:
        """Slots over time: every attempt is a bar, a dashed line leads from an attempt to the next of its task.

        Args:
            run: A run, its id, or several; `all` for all of the store; None for the last run.
            width: Pixels of the plot's area.
            theme: `auto` (the front end's), `light` or `dark`.
            save: Where to save it too.
            overwrite: Replace a file that exists.

        Returns:
            The altair chart. `.data` has one row per attempt: `slot_id, task_id, attempt, state, model, start_s, end_s,
            duration_s, cost_usd, started_at, previous_slot_id, previous_end_s`.

        Raises:
            NothingToPlot: nothing has been sent.
            MissingExtra: altair is not installed.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     run = pool.fan_out(["a poem", "a limerick"])
            ...     pool.plot.gantt(run).description.split(",")[0]
            'Gantt chart of r1: 2 attempts of 2 tasks'
        """
        charts.checked(width, theme)
        alt = charts.library()
        from claude_pool_nb.analysis import plot_data

        figures = plot_data.gantt(self._ledger, self._run_ids(run, or_last=True), now_at=time.time())
        frame = figures.frame
        slots = sorted(frame["slot_id"].unique(), key=plot_data.slot_order)
        states = [name for name in _STATES if (frame["state"] == name).any()]
        step = max(9, min(28, 460 // len(slots)))
        axis = _elapsed(alt, float(frame["end_s"].max()), "since the first start")
        x = alt.X("start_s:Q", axis=axis, scale=alt.Scale(nice=False), title=axis.title)
        y = alt.Y("slot_id:N", sort=slots, title="slot", axis=alt.Axis(labelLimit=90, ticks=False))
        shared = {"legend": alt.Legend(title="state of the attempt")}
        colour = alt.Color(
            "state:N", scale=alt.Scale(domain=states, range=[_STATES[name][0] for name in states]), **shared
        )
        shape = alt.Shape(
            "state:N", scale=alt.Scale(domain=states, range=[_STATES[name][1] for name in states]), **shared
        )
        names = {
            "task_id": "task", "attempt": "attempt", "attempts": "attempts", "failed": "of them failed",
            "state": "state",
            "slot_id": "slot", "model": "model", "start_s": "start (s)", "duration_s": "duration (s)",
            "busy_s": "busy (s)", "cost_usd": figures.dollars,
        }  # fmt: skip
        tooltip = _tooltip(alt, frame, names)
        base = alt.Chart()
        bars = base.mark_bar(height={"band": 0.74}, stroke="white", strokeWidth=0.4, cornerRadius=1).encode(
            x=x, x2="end_s", y=y, color=colour, tooltip=tooltip
        )
        layers = [bars]
        odd = [name for name in states if name != "completed"]
        if odd:  # a layer of no marks is an element without a name to a screen reader
            marks = (
                base.transform_filter(alt.FieldOneOfPredicate(field="state", oneOf=odd))
                .transform_calculate(middle_s="(datum.start_s + datum.end_s) / 2")
                .mark_point(filled=True, size=max(28, step * 3), stroke="white", strokeWidth=1, opacity=1)
                .encode(
                    x=alt.X("middle_s:Q", axis=axis, title=axis.title), y=y, color=colour, shape=shape, tooltip=tooltip
                )
            )
            layers.append(marks)
        if "attempt" in frame and (frame["attempt"] > 1).any():
            again = base.transform_filter(alt.FieldGTPredicate(field="attempt", gt=1))
            ends = {"x": alt.X("previous_end_s:Q", title=axis.title), "x2": "start_s"}
            ends |= {"y": alt.Y("previous_slot_id:N", sort=slots, title="slot"), "y2": alt.Y2("slot_id")}
            # A pale line below the dashes: they cross bars of every colour, and paper of either.
            layers[1:1] = [
                again.mark_rule(strokeWidth=3, color="white", opacity=0.6).encode(**ends),
                again.mark_rule(strokeDash=[3, 3], strokeWidth=1.4, color="#333333").encode(**ends),
            ]
            number = again.mark_text(align="left", dx=3, fontSize=10, fontWeight="bold", color="white")
            layers.append(number.encode(x="start_s:Q", y=y, text="attempt:Q", tooltip=tooltip))
        return self._out(
            charts.layered(figures, layers, width=width, theme=theme, height=step * len(slots)), save, overwrite
        )

    def cost(
        self,
        run: str | Run | Sequence[str | Run] | None = None,
        *,
        by: str | Sequence[str] = ("model", "tag"),
        play_money: bool | None = None,
        width: int = WIDTH,
        theme: str = "auto",
        save: str | Path | None = None,
        overwrite: bool = False,
    ) -> Any:
        """What was spent, the dearest first, estimated costs set apart.

        Args:
            run: A run, its id, or several; None for all of the store.
            by: What to break down by: `model`, `tag`, `day`, `run_id`, `profile`, `state` ...
            play_money: Which money, if the store has both; None for that of this pool.
            width: Pixels of the plot's area.
            theme: `auto` (the front end's), `light` or `dark`.
            save: Where to save it too.
            overwrite: Replace a file that exists.

        Returns:
            The altair chart. `.data` has one row per bar: `label`, the keys, `tasks, attempts, cost_usd, exact_usd,
            estimated_usd, usd_per_task`.

        Raises:
            NothingToPlot: nothing has been sent.
            ConfigError: there is no such key.
            MissingExtra: altair is not installed.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     run = pool.fan_out(["a poem", "a limerick"], tags=["night"])
            ...     pool.plot.cost(by="tag").data[["label", "tasks"]].to_dict("list")
            {'label': ['night'], 'tasks': [2]}
        """
        charts.checked(width, theme)
        alt = charts.library()
        from claude_pool_nb.analysis import plot_data

        keys = [by] if isinstance(by, str) else list(by)
        figures = plot_data.cost(self._ledger, keys, self._run_ids(run), play_money=self._money(play_money))
        frame = figures.frame
        shown = [
            f"{label}\n{plot_data.dollars(cost)}, {plot_data.several(tasks, 'task')}"
            for label, cost, tasks in zip(frame["label"], frame["cost_usd"], frame["tasks"], strict=True)
        ]
        figures.frame["bar"] = shown
        axis = alt.Axis(
            labelExpr="split(datum.value, '\\n')", labelLimit=max(165, width // 2), labelOffset=-6, ticks=False
        )
        y = alt.Y("bar:N", sort=None, title=None, axis=axis)
        money = alt.Axis(format=_money_format(frame["cost_usd"].max()), tickCount=max(2, width // 110))
        x = alt.X("cost_usd:Q", title=figures.dollars, stack=None, axis=money)
        names = {
            "label": "what", "tasks": "tasks", "attempts": "attempts", "cost_usd": figures.dollars,
            "estimated_usd": "of it estimated", "usd_per_task": f"{figures.dollars} per task",
        }  # fmt: skip
        tooltip = _tooltip(alt, frame, names)
        base = alt.Chart().encode(y=y, tooltip=tooltip)
        layers = [base.mark_bar(color=_BAR, height={"band": 0.6}).encode(x=x)]
        if (frame["estimated_usd"] > 0).any():
            layers.append(
                base.mark_bar(color=_PALE, stroke=_BAR, strokeDash=[3, 2], height={"band": 0.6}).encode(
                    x=alt.X("exact_usd:Q", title=figures.dollars), x2="cost_usd"
                )
            )
        return self._out(
            charts.layered(figures, layers, width=width, theme=theme, height={"step": 38}), save, overwrite
        )

    def budget(
        self,
        run: str | Run | Sequence[str | Run] | None = None,
        *,
        width: int = WIDTH,
        theme: str = "auto",
        save: str | Path | None = None,
        overwrite: bool = False,
    ) -> Any:
        """What is left of the pool's budget over time, with a forecast until the open tasks are done.

        The forecast goes by what the latest 200 tasks did cost; its band holds nine tenths of the cases.

        Args:
            run: From the start of this run on; None for all of the budget's time.
            width: Pixels of the plot's area.
            theme: `auto` (the front end's), `light` or `dark`.
            save: Where to save it too.
            overwrite: Replace a file that exists.

        Returns:
            The altair chart. `.data` has one row per change: `part, elapsed_s, at, spent_usd, left_usd, low_usd,
            high_usd`.

        Raises:
            NothingToPlot: nothing was spent from it.
            MissingExtra: altair is not installed.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:", budget_usd=1) as pool:
            ...     run = pool.fan_out(["a poem", "a limerick"])
            ...     list(pool.plot.budget().data["part"])
            ['spent', 'spent', 'spent']
        """
        charts.checked(width, theme)
        alt = charts.library()
        import pandas as pd

        from claude_pool_nb.analysis import plot_budget
        from claude_pool_nb.records import usd

        if self._budget is None:
            raise NothingToPlot("there is no budget; `%pool budget USD` sets one")
        record = self._ledger.budget(self._budget.id)
        figures = plot_budget.budget(self._ledger, record, self._run_ids(run), now_at=time.time())
        frame = figures.frame
        limit = None if record.limit_nano is None else usd(record.limit_nano)
        value = "spent_usd" if limit is None else "left_usd"
        title = f"{'spent' if limit is None else 'left'} ({figures.dollars})"
        axis = _elapsed(alt, float(frame["elapsed_s"].max()), "since the first start")
        x = alt.X("elapsed_s:Q", axis=axis, scale=alt.Scale(nice=False), title=axis.title)
        y = alt.Y(
            f"{value}:Q",
            title=title,
            axis=alt.Axis(format=_money_format(frame[value].max())),
            scale=alt.Scale(zero=True),
        )
        names = {
            "part": "part", "at": "at", "spent_usd": f"spent ({figures.dollars})",
            "left_usd": f"left ({figures.dollars})", "low_usd": "low", "high_usd": "high",
        }  # fmt: skip
        tooltip = _tooltip(alt, frame, names)
        base = alt.Chart()
        ahead = (frame["part"] == "forecast").any()
        lines = {"so far": (_BAR, [1, 0])} | ({"forecast": (_BAR, [6, 4])} if ahead else {})
        if limit is not None:
            lines |= {"80 % spent: a warning": (_WARN, [2, 2]), "the wall": (_WALL, [10, 2])}
        domain = list(lines)
        legend = alt.Legend(title=None, columns=max(1, width // 135), symbolStrokeWidth=2, symbolSize=300)
        colours = alt.Scale(domain=domain, range=[colour for colour, _ in lines.values()])
        dashes = alt.Scale(domain=domain, range=[dash for _, dash in lines.values()])

        kinds = {
            "color": alt.Color("line:N", scale=colours, legend=legend),
            "strokeDash": alt.StrokeDash("line:N", scale=dashes, legend=legend),
        }
        layers = []
        parts = {part: base.transform_filter(alt.FieldEqualPredicate(field="part", equal=part)) for part in _PARTS}
        if ahead:
            band = parts["forecast"].mark_area(color=_BAR, opacity=0.25)
            layers.append(band.encode(x=x, y=alt.Y("low_usd:Q", title=title), y2="high_usd"))
        if limit is not None:
            levels = pd.DataFrame({"line": domain[-2:], "level_usd": [limit * (1 - WARN_SHARE), 0.0]})
            told = _tooltip(alt, levels, {"line": "line", "level_usd": title})
            rules = alt.Chart(levels).mark_rule(strokeWidth=2)
            layers.append(rules.encode(y=alt.Y("level_usd:Q", title=title), tooltip=told, **kinds))
        for part, name, steps in (("spent", "so far", "step-after"), ("forecast", "forecast", "linear")):
            if name in lines:
                line = parts[part].transform_calculate(line=f"'{name}'").mark_line(interpolate=steps, strokeWidth=2)
                layers.append(line.encode(x=x, y=y, tooltip=tooltip, **kinds))
        return self._out(charts.layered(figures, layers, width=width, theme=theme, height=240), save, overwrite)

    def latency(
        self,
        run: str | Run | Sequence[str | Run] | None = None,
        *,
        by: str | Sequence[str] = ("model",),
        play_money: bool | None = None,
        width: int = WIDTH,
        theme: str = "auto",
        save: str | Path | None = None,
        overwrite: bool = False,
    ) -> Any:
        """How long tasks waited for a slot, and how long they ran: boxes of the middle half, whiskers of 5 % to 95 %.

        Args:
            run: A run, its id, or several; None for all of the store.
            by: What to break down by: `model`, `tag`, `profile`, `slot_id`, `run_id`, `state` ...
            play_money: Of tasks for which money, if the store has both; None for that of this pool.
            width: Pixels of the plot's area.
            theme: `auto` (the front end's), `light` or `dark`.
            save: Where to save it too.
            overwrite: Replace a file that exists.

        Returns:
            The altair chart. `.data` has two rows per group, `phase` wait and run: `label`, the keys, `phase, tasks,
            p5_s, p25_s, p50_s, p75_s, p95_s, p99_s, max_s, mean_s`.

        Raises:
            NothingToPlot: no task has ended.
            ConfigError: there is no such key.
            MissingExtra: altair is not installed.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     run = pool.fan_out(["a poem", "a limerick"])
            ...     pool.plot.latency().data[["phase", "tasks"]].to_dict("list")
            {'phase': ['wait', 'run'], 'tasks': [2, 2]}
        """
        charts.checked(width, theme)
        alt = charts.library()
        from claude_pool_nb.analysis import plot_data

        keys = [by] if isinstance(by, str) else list(by)
        figures = plot_data.latency(self._ledger, keys, self._run_ids(run), play_money=self._money(play_money))
        frame = figures.frame
        rows: list[Any] = list(frame.itertuples())
        frame["box"] = [
            f"{row.label}\n{plot_data.several(row.tasks, 'task')}\n"
            f"50 %: {plot_data.seconds(row.p50_s)}, 95 %: {plot_data.seconds(row.p95_s)}"
            for row in rows
        ]
        names = {"label": "what", "phase": "phase", "tasks": "tasks"} | {
            name: f"{name.removesuffix('_s').replace('p', '', 1)} % (s)" if name[0] == "p" else f"{name[:-2]} (s)"
            for name in ("p5_s", "p25_s", "p50_s", "p75_s", "p95_s", "p99_s", "max_s", "mean_s")
        }
        tooltip = _tooltip(alt, frame, names)
        parts = [
            _boxes(alt, phase, said, tooltip, float(frame[frame["phase"] == phase]["max_s"].max()), width)
            for phase, said in (("wait", "waiting for a slot"), ("run", "running"))
        ]
        return self._out(charts.panels(figures, parts, width=width, theme=theme), save, overwrite)

    # -- what was asked for --------------------------------------------------------------------------------------------

    def _run_ids(self, run: Any, *, or_last: bool = False) -> list[str] | None:
        """The ids of runs; None for all of the store."""
        if run is None and or_last:
            last = selection.last_run_id(self._ledger)
            if last is None:
                raise NothingToPlot(selection.NO_RUN)
            return [last]
        return selection.run_ids(self._ledger, run)

    def _money(self, wanted: bool | None) -> bool | None:
        """Which money is shown where there are both."""
        return self._budget.play_money if wanted is None and self._budget is not None else wanted

    def _out(self, chart: Any, save: str | Path | None, overwrite: bool) -> Any:
        if save is not None:
            charts.saved(chart, save, overwrite=overwrite)
        return chart

    def __repr__(self) -> str:
        return f"<Plots: .{', .'.join(KINDS)}>"


# -- pieces of charts --------------------------------------------------------------------------------------------------


def _elapsed(alt: Any, span_s: float, title: str) -> Any:
    """An axis of time that passed, in the unit that fits its length."""
    _, unit, name = next(one for one in _UNITS if span_s <= one[0])
    steps = [step * 10.0**power for power in range(-4, 5) for step in (1, 2, 5)]
    step = next((one for one in steps if span_s / unit / one <= 8), steps[-1]) * unit
    values = [round(number * step, 6) for number in range(int(span_s / step) + 1)] if span_s else [0]
    return alt.Axis(values=values, labelExpr=f"format(datum.value / {unit}, '~g')", title=f"{name} {title}")


def _money_format(largest: float) -> str:
    """How an axis writes its dollars."""
    return "$,.2f" if largest >= 0.5 else "$~g"


def _tooltip(alt: Any, frame: Any, names: dict[str, str]) -> list[Any]:
    """What is told of a mark, with units."""
    made = []
    for name, title in names.items():
        if name not in frame:
            continue
        if name == "at":
            made.append(alt.Tooltip("at:T", title=title, format="%Y-%m-%d %H:%M:%S"))
        elif name.endswith(("_s", "_usd", "per_task")):
            made.append(alt.Tooltip(f"{name}:Q", title=title, format="$,.4~r" if "usd" in name else ".3~r"))
        else:
            made.append(alt.Tooltip(f"{name}:N", title=title))
    return made


def _boxes(alt: Any, phase: str, said: str, tooltip: list[Any], longest_s: float, width: int) -> Any:
    """The boxes of one phase."""
    axis = _elapsed(alt, longest_s, said)
    labels = alt.Axis(
        labelExpr="split(datum.value, '\\n')", labelLimit=max(165, width // 2), labelOffset=-12, ticks=False
    )
    y = alt.Y("box:N", sort=None, title=None, axis=labels)
    base = (
        alt.Chart().transform_filter(alt.FieldEqualPredicate(field="phase", equal=phase)).encode(y=y, tooltip=tooltip)
    )
    x = alt.X("p5_s:Q", axis=axis, title=axis.title, scale=alt.Scale(domain=[0, max(longest_s, 1e-3)]))
    layers = [
        base.mark_rule(color=_GREY, strokeWidth=2).encode(x=x, x2="p95_s"),
        base.mark_bar(color=_BAR, height={"band": 0.5}).encode(x=alt.X("p25_s:Q"), x2="p75_s"),
        base.mark_tick(color="white", thickness=2, size=24).encode(x="p50_s:Q"),
        base.mark_point(shape="cross", color=_GREY, filled=True, size=34, angle=45).encode(x="max_s:Q"),
    ]
    return alt.layer(*layers).properties(width=width, height={"step": 50})
