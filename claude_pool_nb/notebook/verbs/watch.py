"""`%pool watch`: what the pool does now, in a cell of its own, until it is stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from claude_pool_nb.notebook.call import Call
from claude_pool_nb.notebook.live.mode import Mode, decide
from claude_pool_nb.notebook.overrides import add_live_option
from claude_pool_nb.notebook.parser import VerbParser

if TYPE_CHECKING:
    from claude_pool_nb.pool import Pool


def parser() -> VerbParser:
    """How it is shown."""
    options = VerbParser(
        "watch", "Show what the pool does now, with its buttons, until the watch or the pool is stopped."
    )
    add_live_option(options)
    return options


def run(call: Call) -> Any:
    """The live view, which shows as the cell's value; where nobody can watch one, the pool with its status card."""
    pool = call.pool
    mode = decide(str(call.args.live or call.magics.live), call.magics.host)
    if mode is Mode.WIDGET:
        from claude_pool_nb.notebook.widgets import PoolWatch

        return PoolWatch(pool)
    if mode is Mode.LINE:
        watch_line(pool)
    return pool


def watch_line(pool: Pool) -> None:
    """In a terminal: a line that is written over until all is done; Ctrl-C ends the watch, not the work."""
    from claude_pool_nb.notebook.live.follow import Follower
    from claude_pool_nb.notebook.live.terminal import LineView

    view: LineView
    follower = Follower(pool, None, lambda: view.tick())  # noqa: PLW0108 - the view is made after its follower
    view = LineView(follower.progress)
    follower.begin()
    try:
        follower.start((0.0, view.show))
        follower.wait_idle()
    except KeyboardInterrupt:
        return
    finally:
        follower.stop()
        view.close({})
