"""`%pool retry [RUN]` and `%%pool retry`: run tasks of a run again, in their own rows."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from claude_pool_nb.errors import ConfigError, RunNotFound
from claude_pool_nb.notebook.call import Call
from claude_pool_nb.notebook.overrides import add_live_option, add_session_options, overrides_of
from claude_pool_nb.notebook.parser import VerbParser, number, words
from claude_pool_nb.notebook.waiting import add_dry_run_option, frame_of, pass_gate, say

if TYPE_CHECKING:
    import pandas as pd

    from claude_pool_nb.analysis.preview import Preview
    from claude_pool_nb.reopening import Again


def parser() -> VerbParser:
    """A run, which of its rows, and what is new."""
    from claude_pool_nb.reopening import STATES

    options = VerbParser(
        "retry",
        "Try tasks of a run again: those that failed, or those that --state and --rows choose. Each keeps its row.\n"
        "As a cell magic the body is a new template, rendered over the same rows: it sees their columns, and prompt,\n"
        "output and error as they are now. The last run if none is named.",
        cell="the new template",
    )
    add = options.add_argument
    add("run", nargs="?", metavar="RUN", help="r12; nothing for the last run")
    state = add(
        "--state",
        metavar="S",
        type=words,
        help="failed (the default), cancelled, interrupted, completed, incomplete (the first three), all; A,B for two",
    )
    options.offer(state, STATES)
    add(
        "--rows",
        metavar="EXPR",
        help='only these: an expression over the frame\'s columns ("out_score < 3"), or a variable with a mask',
    )
    add(
        "--template", metavar="NAME", help="the variable that holds the new template (or write it below %%%%pool retry)"
    )
    add_session_options(options)
    add("--schema", metavar="S", help="what answers look like: 'label: good|bad, score: float', a variable, or JSON")
    add("--max-budget-usd", metavar="USD", type=number(float, above=0, unit="dollars"), help="wall for each task")
    add("--yes", action="store_true", help="spend more than a cell may spend unasked")
    add_dry_run_option(options)
    add_live_option(options)
    return options


def run(call: Call) -> pd.DataFrame | Preview:
    """Retry, wait, and return the frame of the whole run (or with --dry-run what would be run)."""
    pool, args = call.pool, call.args
    run_id = args.run or last_run(call)
    again = pool.aio.planned(
        run_id,
        state=args.state,
        rows=None if args.rows is None else _rows(call, run_id, args.rows),
        template=_template(call),
        variables=call.namespace(),
        **overrides_of(call),
    )
    if not again.tasks:
        _say_why(call, again)
    return run_again(call, again)


def last_run(call: Call) -> str:
    """The run that is meant where none is named.

    Raises:
        RunNotFound: there is none yet.
    """
    last = call.pool.last
    if last is None:
        raise RunNotFound(
            "there is no run yet; `%pool fan_out` makes one, and `%pool runs` lists those of earlier kernels"
        )
    return last.id


def run_again(call: Call, again: Again) -> pd.DataFrame | Preview:
    """Run what was planned once the gate was passed, and return the frame of the run; only look, with --dry-run."""
    if again.tasks:

        def preview() -> Preview:
            return call.pool.aio.preview_again(again.run_id, again.tasks, again.prompts, again.overrides)

        if call.args.dry_run:
            return preview()
        pass_gate(call, preview)
    return frame_of(call, lambda: call.pool.reopen(again, wait=False))


def _template(call: Call) -> str | None:
    name = call.args.template
    if call.cell is not None:
        if name:
            call.parser.error("the template stands below the first line; leave --template out")
        return call.cell.removesuffix("\n")
    if not name:
        return None
    found = call.variable(name)
    if not isinstance(found, str):
        raise ConfigError(f"--template {name} is a {type(found).__name__}; it takes the name of a text")
    return found


def _rows(call: Call, run_id: str, text: str) -> Any:
    """What `--rows` chooses: an expression over the frame's columns, or Python over the notebook's variables."""
    try:
        tree = ast.parse(text.replace("@", "").strip(), mode="eval")
    except SyntaxError as error:
        call.parser.error(f"--rows {text!r} is no expression: {error.msg}")
    named = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    columns = {str(name) for name in call.pool.frame(run_id).columns}
    variables = named - columns
    if "@" not in text and variables == named and variables <= set(call.namespace()):
        return call.evaluate(text)
    return text


def _say_why(call: Call, again: Again) -> None:
    counts = call.pool.get_run(again.run_id).counts()
    there_are = ", ".join(f"{number} {state}" for state, number in counts.items())
    say(f"{again.run_id}: no row is as asked for, nothing is tried again; there are {there_are} (see --state, --rows)")
