"""The verbs of `%pool`, one module each, imported when they are first used.

A verb's module has two functions: `parser()` gives its options, `run(call)` does it and returns a value.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from claude_pool_nb.notebook.call import Call
    from claude_pool_nb.notebook.parser import VerbParser


@dataclass(frozen=True, slots=True)
class Verb:
    """A verb, before its module is imported."""

    name: str
    """The word after `%pool`."""
    about: str
    """One line for the overview."""
    group: str
    """Under which heading it stands there."""


class VerbModule(Protocol):
    """What the module of a verb has."""

    def parser(self) -> VerbParser:
        """Its options."""

    def run(self, call: Call) -> Any:
        """Do it, and return a value."""


VERBS: dict[str, Verb] = {
    verb.name: verb
    for verb in (
        Verb("start", "start the pool of this kernel", "The pool"),
        Verb("status", "what the pool does", "The pool"),
        Verb("slots", "what each slot does", "The pool"),
        Verb("watch", "see it live, with its buttons, until stopped", "The pool"),
        Verb("scale", "change the number of slots", "The pool"),
        Verb("pause", "start no more tasks", "The pool"),
        Verb("unpause", "start tasks again", "The pool"),
        Verb("drain", "take no more work, and end when what runs is done", "The pool"),
        Verb("stop", "stop the pool now", "The pool"),
        Verb("run", "run one prompt and show the answer", "Prompts"),
        Verb("fan_out", "run many prompts at once; one row each", "Prompts"),
        Verb("preview", "what fan_out would run and cost; nothing is sent", "Prompts"),
        Verb("submit", "run one prompt in the background", "Prompts"),
        Verb("wait", "wait for a run or a task", "Prompts"),
        Verb("cancel", "stop a run, a task, or all of them, for good", "Prompts"),
        Verb("retry", "try the failed tasks of a run again", "Prompts"),
        Verb("resume", "run what was interrupted, also after a restart", "Prompts"),
        Verb("context", "facts that every session is told", "Prompts"),
        Verb("tasks", "all tasks, or those in a state, with a tag, of a run", "What there is"),
        Verb("result", "the answer of a task", "What there is"),
        Verb("show", "all about one task: what was sent, its attempts and events", "What there is"),
        Verb("runs", "all runs, also those of earlier kernels", "What there is"),
        Verb("history", "the latest tasks, or those in which words occur", "What there is"),
        Verb("compare", "runs, models or grid cells side by side", "What there is"),
        Verb("plot", "slots over time, costs, the budget, times", "What there is"),
        Verb("export", "write answers to a file", "What there is"),
        Verb("budget", "what may be spent", "Money"),
        Verb("cost", "what was spent", "Money"),
        Verb("metrics", "counts, rates, tokens, percentiles of time, by model, tag, day ...", "Money"),
        Verb("usage", "what Claude Code itself has used on this machine", "Money"),
        Verb("prune", "delete old runs from the ledger", "Keeping house"),
        Verb("doctor", "look at everything the pool needs", "Keeping house"),
        Verb("help", "all verbs, or the options of one", "Keeping house"),
    )
}


def module_of(verb: Verb) -> VerbModule:
    """The module of a verb, imported now if it is not yet."""
    return cast(VerbModule, import_module(f"{__name__}.{verb.name}"))


def add_common_options(parser: VerbParser) -> None:
    """What every verb takes."""
    from claude_pool_nb.notebook.parser import identifier

    parser.add_argument("--into", metavar="NAME", type=identifier, help="store what the verb returns under this name")


def overview() -> str:
    """What `%pool?` and `%pool help` show.

    Example:
        >>> "%pool run" in overview()
        True
    """
    lines = ["A pool of Claude sessions in this notebook.", ""]
    group = ""
    for verb in VERBS.values():
        if verb.group != group:
            group = verb.group
            lines += ["", group] if lines[-1] else [group]
        lines.append(f"  {'%pool ' + verb.name:<16} {verb.about}")
    lines += [
        "",
        "Options come before a prompt, which is taken as it is written: %pool run -m haiku What is Rust?",
        "A long prompt is the body of a cell that begins with %%pool run; %%pool fan_out takes many, with --- between.",
        "%%pool fan_out --over df --grid model=haiku,sonnet fills a template, Classify {{ text }}, with every row.",
        "Every verb returns a value (df = %pool fan_out prompts) and takes --into NAME.",
        "%pool help VERB shows the options of a verb. Without an account: %pool start --backend demo.",
    ]
    return "\n".join(lines)
