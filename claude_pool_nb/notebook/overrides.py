"""The options of a task, as options of a line.

Invariants: an option that was not written is not passed on, so that the slot's and the pool's values hold; what can be
said to `pool.run(...)` can be said here, under the same name with dashes.
"""

from __future__ import annotations

import json
from typing import Any

from claude_pool_nb.config import Effort, PermissionMode
from claude_pool_nb.errors import ConfigError
from claude_pool_nb.notebook.call import Call
from claude_pool_nb.notebook.parser import VerbParser, number, words

PLAIN = (
    "model",
    "conversation",
    "role",
    "system_prompt",
    "tools",
    "allowed_tools",
    "disallowed_tools",
    "max_turns",
    "max_output_tokens",
    "max_budget_usd",
    "timeout_s",
    "effort",
    "permission_mode",
    "priority",
    "cwd",
)
"""Options that are passed on as they were written."""


def add_session_options(parser: VerbParser) -> None:
    """Options that a pool and a task both have."""
    add = parser.add_argument
    add("-m", "--model", metavar="M", help="haiku, sonnet, opus, or a full model id")
    add("--system-prompt", metavar="TEXT", help="the system prompt")
    add("--tools", metavar="A,B", type=words, help="tools the model sees; '' for none")
    add("--allowed-tools", metavar="A,B", type=words, help="tools that run without asking")
    add("--disallowed-tools", metavar="A,B", type=words, help="tools that never run")
    add("--max-turns", metavar="N", type=number(int, least=1), help="agent turns per task")
    add("--max-output-tokens", metavar="N", type=number(int, least=1), help="tokens that one answer may have")
    add("--timeout-s", metavar="S", type=number(float, above=0, unit="seconds"), help="wall time of one attempt")
    add("--effort", choices=[str(effort) for effort in Effort], help="how hard the model thinks")
    add("--permission-mode", choices=[str(mode) for mode in PermissionMode], help="how the CLI decides about tools")
    add("--cwd", metavar="DIR", help="working directory")
    add("--retry-attempts", metavar="N", type=number(int, least=1), help="attempts in all, the first included")
    add("--no-prime", action="store_true", help="do not send one task ahead to warm the prompt cache")


def add_task_options(parser: VerbParser) -> None:
    """Options of tasks: all overrides, tags, and the yes to spending."""
    add_session_options(parser)
    add = parser.add_argument
    add("--conversation", metavar="NAME", help="go on in the conversation of that name")
    add("--role", metavar="ROLE", help="run only in slots of that role")
    add("--schema", metavar="S", help="what answers look like: 'label: good|bad, score: float', a variable, or JSON")
    add("--max-budget-usd", metavar="USD", type=number(float, above=0, unit="dollars"), help="wall for each task")
    add("--cache", action="store_true", help="give identical requests the answer that they had before, free")
    add("--no-cache", action="store_true", help="ask again, whatever the pool was started with")
    add("--tag", metavar="T", action="append", default=[], help="a word to find the task by; may be repeated")
    add("--priority", metavar="N", type=number(int), help="higher goes first")
    add("--yes", action="store_true", help="spend more than a cell may spend unasked")


def add_live_option(parser: VerbParser) -> None:
    """How the progress of a cell that waits is shown."""
    from claude_pool_nb.notebook.live.mode import MODES

    parser.add_argument(
        "--live", choices=MODES, help="how progress is shown (default: as %%config PoolMagics.live says)"
    )


def overrides_of(call: Call) -> dict[str, Any]:
    """The overrides that were written on a line, as keywords of `pool.run`."""
    args = call.args
    given = {name: getattr(args, name) for name in PLAIN if getattr(args, name, None) is not None}
    if getattr(args, "tag", None):
        given["tags"] = tuple(args.tag)
    if args.no_prime:
        given["prime"] = False
    cache, no_cache = (getattr(args, name, False) for name in ("cache", "no_cache"))  # a retry always asks
    if cache and no_cache:
        call.parser.error("--cache and --no-cache contradict each other; write one of them")
    if cache or no_cache:
        given["cache"] = cache
    if args.retry_attempts is not None:
        given["retry"] = retry_policy(args.retry_attempts)
    if args.schema is not None:
        given["schema"] = schema_of(call, args.schema)
    return given


def retry_policy(attempts: int) -> Any:
    """The default policy with another number of attempts."""
    from claude_pool_nb.records import RetryPolicy

    return RetryPolicy(max_attempts=attempts)


def schema_of(call: Call, text: str) -> Any:
    """A schema from a variable of the notebook (a model class, a dict ...), JSON text, or the short form."""
    from claude_pool_nb.short_schemas import TYPES

    stripped = text.strip()
    if all(part.isidentifier() for part in stripped.split(".")):
        if stripped in TYPES and stripped not in call.namespace():
            return stripped
        return call.evaluate(stripped)
    if stripped.startswith("{"):
        try:
            return json.loads(stripped)
        except json.JSONDecodeError as error:
            raise ConfigError(
                f"--schema is no JSON: {error.msg} at position {error.pos}; quote JSON with single quotation marks, "
                "or use the short form: --schema 'label: str, score: float'"
            ) from None
    return stripped
