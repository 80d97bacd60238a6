"""A task's result as text and Markdown: the answer first, then one line that says what it took.

Invariants: the answer is the model's text and is rendered safely (see `markdown`); a failure says what to do next; a
demo answer says that it is one.
"""

from __future__ import annotations

from claude_pool_nb.display import html
from claude_pool_nb.display.markdown import safe_markdown
from claude_pool_nb.display.text import count, money
from claude_pool_nb.errors import plain
from claude_pool_nb.records import CostBasis, TaskResult, TaskState, nano

DEMO_NOTE = "demo: no model was asked, its dollars are play money"
REPLAY_NOTE = "replay: no model was asked, its dollars are those of the recording"


def result_cost(result: TaskResult) -> str:
    """What the task took: model, money, tokens.

    Example:
        >>> result_cost(TaskResult("r1.1", "r1", TaskState.COMPLETED, "hi", cost_usd=0.0011, model="haiku"))
        'r1.1 · haiku · $0.0011 · 0 tokens'
    """
    used = result.usage
    tokens = used.input_tokens + used.output_tokens + used.cache_read_tokens + used.cache_write_tokens
    price = money(nano(result.cost_usd))
    if result.cost_basis is CostBasis.ESTIMATED:
        price = f"about {price}"
    elif result.cost_basis is CostBasis.UNKNOWN:
        price = f"at least {price}"
    parts = [result.task_id, result.model or result.requested_model or "", price, count(tokens, "token")]
    if result.cached and result.backend != "replay":
        parts.append("answered before, nobody was asked")
    if result.attempts > 1:
        parts.append(count(result.attempts, "attempt"))
    if result.backend == "demo":
        parts.append(DEMO_NOTE)
    elif result.backend == "replay":
        parts.append(REPLAY_NOTE)
    return " · ".join(part for part in parts if part)


def result_notes(result: TaskResult) -> list[str]:
    """What a reader has to know beside the answer: failure, denied tools, warnings; one line each."""
    notes = []
    if result.state is not TaskState.COMPLETED:
        reason = f": {result.failure.message}" if result.failure else ""
        notes.append(f"{result.state}{reason}")
    if result.denials:
        tools = ", ".join(sorted({denial.tool for denial in result.denials}))
        notes.append(f"{count(len(result.denials), 'tool call')} denied: {tools}")
    return notes + list(result.warnings)


def result_text(result: TaskResult) -> str:
    """The answer, what is to know of it, and what it took.

    Example:
        >>> print(result_text(TaskResult("r1.1", "r1", TaskState.COMPLETED, "hi", cost_usd=0.0011)))
        hi
        [r1.1 · $0.0011 · 0 tokens]
    """
    lines = [result.output] if result.output else []
    lines += [f"[{note}]" for note in result_notes(result)]
    return plain("\n".join([*lines, f"[{result_cost(result)}]"]))


def result_markdown(result: TaskResult) -> str:
    """The answer as safe Markdown, and below it in small print what it took.

    Example:
        >>> "hi" in result_markdown(TaskResult("r1.1", "r1", TaskState.COMPLETED, "hi"))
        True
    """
    notes = "".join(f"\n> {safe_markdown(note).replace(chr(10), ' ')}\n" for note in result_notes(result))
    small = html.volatile(result_cost(result)).replace("<span>$</span>", "&#36;")
    # The div is HTML, the lines between the blank ones are Markdown: the class keeps dollars from becoming LaTeX.
    return (
        f"<div class='mathjax_ignore tex2jax_ignore'>\n\n{safe_markdown(result.output)}\n{notes}\n"
        f"<small style='{html.MUTED}'>{small}</small>\n\n</div>"
    )
