"""`%pool plot gantt|cost|budget|latency [RUN]`: slots over time, costs, the budget, times."""

from __future__ import annotations

from typing import Any

from claude_pool_nb.analysis.charts import THEMES
from claude_pool_nb.analysis.keys import COST_KEYS
from claude_pool_nb.analysis.plots import KINDS, WIDTH
from claude_pool_nb.notebook.call import Call
from claude_pool_nb.notebook.parser import VerbParser, number, words


def parser() -> VerbParser:
    """Which plot, of which run, and how."""
    options = VerbParser(
        "plot",
        "Draw slots over time (gantt), what was spent (cost), what is left (budget), or how long tasks took (latency).",
    )
    options.add_argument("kind", metavar="KIND", choices=KINDS, help=", ".join(KINDS))
    options.add_argument(
        "run", nargs="?", metavar="RUN", help="r12, or all; without one, gantt draws the last run, the others all runs"
    )
    by = options.add_argument(
        "--by", metavar="A,B", type=words, help="cost and latency: break down by these: model, tag, profile, run_id ..."
    )
    options.offer(by, COST_KEYS)
    options.add_argument("--width", metavar="PIXELS", type=number(int, least=160), default=WIDTH, help="of the area")
    options.add_argument("--theme", choices=THEMES, default="auto", help="auto: the front end's")
    money = options.add_mutually_exclusive_group()
    money.add_argument("--play", dest="play_money", action="store_true", default=None, help="cost, latency: the demo's")
    money.add_argument("--real", dest="play_money", action="store_false", help="cost, latency: only real money")
    options.add_argument("--save", metavar="PATH", help="save it too: .png, .svg, .pdf, .html or .json")
    options.add_argument("--force", action="store_true", help="replace a file that exists")
    return options


def run(call: Call) -> Any:
    """The altair chart."""
    args = call.args
    given: dict[str, Any] = {
        "width": args.width, "theme": args.theme, "save": args.save, "overwrite": args.force,
    }  # fmt: skip
    breaks_down = args.kind in {"cost", "latency"}
    for name, option, value in (("by", "--by", args.by), ("play_money", "--play and --real", args.play_money)):
        if value is None:
            continue
        if not breaks_down:
            call.parser.error(f"{option} is for cost and latency, not for {args.kind}")
        given[name] = value
    return getattr(call.pool.plot, args.kind)(args.run, **given)
