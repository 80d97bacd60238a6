"""`%pool start`: the pool of this kernel. The same line again gives the same pool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from claude_pool_nb.errors import PoolExists
from claude_pool_nb.notebook.call import Call, current_pool
from claude_pool_nb.notebook.overrides import add_session_options, retry_policy
from claude_pool_nb.notebook.parser import VerbParser, number
from claude_pool_nb.records import BACKENDS

if TYPE_CHECKING:
    from claude_pool_nb.pool import Pool
    from claude_pool_nb.settings import Settings

SAME_NAME = (
    "system_prompt",
    "tools",
    "allowed_tools",
    "disallowed_tools",
    "max_turns",
    "max_output_tokens",
    "timeout_s",
    "idle_timeout_s",
    "effort",
    "permission_mode",
    "cwd",
    "cli_path",
    "slot_mode",
    "min_slots",
    "max_slots",
    "demo_latency_s",
    "fallback_model",
    "budget_name",
    "speed",
)
"""Options that are passed on to `Pool(...)` as they were written."""


def parser() -> VerbParser:
    """Options of a pool."""
    options = VerbParser(
        "start",
        "Start the pool of this kernel. The same line again returns the same pool; a different one asks for --replace.",
    )
    add = options.add_argument
    add("--slots", metavar="N", type=number(int, least=1), help="how many tasks run at once (default: 4)")
    add("--profile", choices=["prompt", "agent"], help="prompt: no tools, own system prompt; agent: Claude Code's")
    add("--budget", metavar="USD", type=number(float, least=0, unit="dollars"), help="a wall for what may be spent")
    add("--strict-budget", action="store_true", default=None, help="reserve the worst case for every task")
    add("--budget-name", metavar="NAME", help="share the budget of that name (default: the notebook's own)")
    add(
        "--backend",
        choices=BACKENDS,
        help="demo: offline, made-up answers, play money; replay: the answers of a tape",
    )
    add("--record", metavar="PATH", help="record all answers to this tape")
    add("--cassette", metavar="PATH", help="replay this tape: no model, no key, no network")
    add("--speed", choices=["instant", "real"], help="of a replay (default: instant); real: in the time answers took")
    add("--store", metavar="PATH", help="file or URL of the ledger; :memory: for none")
    add("--replace", action="store_true", help="stop the pool there is and start this one")
    add("--allow-bypass", action="store_true", help="allow --permission-mode bypassPermissions: tools run unasked")
    add("--unattended", action="store_true", help="deny what would ask, at once and visibly")
    add_session_options(options)
    add("--cache", action="store_true", help="give identical requests the answer that they had before, free")
    add("--idle-timeout-s", metavar="S", type=number(float, above=0, unit="seconds"), help="stop silent attempts")
    add("--fallback-model", metavar="M", help="model to turn to when the first is overloaded")
    add("--cli-path", metavar="PATH", help="another claude executable")
    add("--slot-mode", choices=["isolated", "persistent"], help="persistent: a slot's conversation goes on")
    add("--min-slots", metavar="N", type=number(int, least=1), help="lower bound for %%pool scale")
    add("--max-slots", metavar="N", type=number(int, least=1), help="upper bound for %%pool scale")
    add("--demo-latency-s", metavar="S", type=number(float, least=0, unit="seconds"), help="demo: time per answer")
    return options


def options_of(call: Call) -> dict[str, Any]:
    """What was written, over `%config PoolMagics`, over the settings, as keywords of `Pool(...)`."""
    from claude_pool_nb.settings import load_settings

    args, defaults, settings = call.args, call.magics, load_settings()
    options: dict[str, Any] = {
        **settings.pool_options(),
        "driver": settings.driver,
        "slots": defaults.slots if args.slots is None else args.slots,
        "profile": args.profile or defaults.profile,
        "backend": args.backend or ("replay" if args.cassette else defaults.backend),
    }
    maybe = {
        "model": args.model or defaults.model,
        "budget_usd": defaults.budget_usd if args.budget is None else args.budget,
        "store": args.store or defaults.store,
        "budget_name": settings.budget_name,
        **_tape(call, options["backend"], settings),
    }
    options |= {name: value for name, value in maybe.items() if value is not None}
    if args.strict_budget or defaults.strict_budget:
        options["strict_budget"] = True
    options |= {name: getattr(args, name) for name in SAME_NAME if getattr(args, name) is not None}
    if args.allow_bypass:
        options["allow_bypass"] = True
    if args.unattended:
        options["unattended_mode"] = True
    if args.no_prime:
        options["prime"] = False
    if args.cache:
        options["cache"] = True
    if args.retry_attempts is not None:
        options["retry"] = retry_policy(args.retry_attempts)
    return options


def _tape(call: Call, backend: str, settings: Settings) -> dict[str, str | None]:
    """Which tape is recorded or replayed; a setting for the other is no contradiction to what was written."""
    args = call.args
    if backend == "replay":
        return {"record": args.record, "cassette": args.cassette or settings.cassette}
    return {"record": args.record or settings.record, "cassette": args.cassette}


def run(call: Call) -> Pool:
    """Start it, or return the one there is."""
    options = options_of(call)
    existing = current_pool()
    if existing is not None:
        if call.magics.started_with == options and not call.args.replace:
            return existing
        if not call.args.replace:
            raise PoolExists(_difference(call, options))
    from claude_pool_nb.pool import Pool

    if existing is not None:
        existing.close()
    call.magics.started_with = None
    pool = Pool(**options)
    call.magics.started_with = options
    return pool


def _difference(call: Call, options: dict[str, Any]) -> str:
    before = call.magics.started_with
    if before is None:
        what = "was not started by %pool start"
    else:
        names = sorted(name for name in {*before, *options} if before.get(name) != options.get(name))
        said = [f"{name}={before.get(name)!r}, not {options.get(name)!r}" for name in names]
        what = f"was started with {' and '.join(said)}"
    return f"This kernel has a pool that {what}; add --replace to stop it and start a new one."
