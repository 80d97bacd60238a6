"""The prompts of a line or a cell.

Invariants: without `--vars` a prompt is what was written, byte for byte; with it, only plain data of the notebook goes
in, its values are never scanned again, and a name that is not defined is an error before anything is spent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from claude_pool_nb.errors import ConfigError
from claude_pool_nb.notebook.call import Call
from claude_pool_nb.notebook.parser import VerbParser

SEPARATOR = "---"
"""A line of exactly this stands between the prompts of `%%pool fan_out`."""


def add_vars_option(parser: VerbParser) -> None:
    """The wish to have variables filled in."""
    parser.add_argument("--vars", action="store_true", help="fill in {{ name }} with the notebook's variables (Jinja)")


def one_prompt(call: Call) -> str:
    """The prompt of a line or of a cell."""
    prompt: str = call.args.text
    if not prompt.strip():
        call.parser.error("the prompt is missing; write it after the options, or below the first line of %%pool")
    return filler(call)(prompt)


def many_prompts(call: Call) -> Any:
    """The prompts of a cell, or the value of the expression: a list, a Series, or a DataFrame with prompts."""
    fill = filler(call)
    if call.cell is not None:
        return [fill(prompt) for prompt in split(call, call.cell)]
    value = call.evaluate(call.args.text)
    if isinstance(value, str | bytes):
        raise ConfigError("fan_out takes many prompts, this is one text; write it as [text], or use `%pool run`")
    if hasattr(value, "columns"):
        if call.args.vars and "prompt" in value.columns:
            return value.assign(prompt=[fill(prompt) for prompt in value["prompt"]])
        return value
    if not isinstance(value, Iterable) or isinstance(value, dict | set | frozenset):
        raise ConfigError(
            "fan_out takes a list or Series of strings, or a DataFrame with a prompt column, "
            f"not a {type(value).__name__}"
        )
    if hasattr(value, "index") and hasattr(value, "map"):
        return value.map(fill) if call.args.vars else value
    prompts = list(value)
    return [fill(prompt) for prompt in prompts] if call.args.vars else prompts


def split(call: Call, body: str) -> list[str]:
    """The prompts of a cell; each is what stands between the separators."""
    prompts: list[str] = []
    lines: list[str] = []
    for line in [*body.split("\n"), SEPARATOR]:
        if line == SEPARATOR:
            prompts.append("\n".join(lines))
            lines = []
        else:
            lines.append(line)
    for number, prompt in enumerate(prompts, start=1):
        if not prompt.strip():
            call.parser.error(f"prompt {number} is empty; a line of exactly {SEPARATOR} separates two prompts")
    return prompts


def filler(call: Call) -> Callable[[str], str]:
    """What fills variables into a prompt; without `--vars` it changes nothing."""
    if not call.args.vars:
        return str if call.cell is not None else lambda prompt: prompt
    from claude_pool_nb.templates import names, render

    def fill(template: str) -> str:
        return render(template, {name: call.variable(name) for name in sorted(names(template))})

    return fill
