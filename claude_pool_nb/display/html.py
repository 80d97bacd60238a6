"""The few pieces of HTML that all displays are made of.

Invariants: every text goes through `escape`; a dollar sign never starts LaTeX; what differs from run to run stands in a
`pool-volatile` span; a page without styles still says everything, and colour never says it alone. Styles are inline and
use the front end's own CSS variables, so that dark themes hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape as _escape

from claude_pool_nb.errors import plain

MUTED = "color:var(--jp-ui-font-color2,var(--vscode-descriptionForeground,#666))"
BORDER = "var(--jp-border-color2,var(--vscode-panel-border,#bbb))"
INK = "color:var(--jp-ui-font-color1,var(--vscode-foreground,inherit))"
FONT = (
    "font-family:var(--jp-ui-font-family,system-ui,sans-serif);font-size:var(--jp-ui-font-size1,13px);line-height:1.45"
)
BAD = "color:var(--jp-error-color1,var(--vscode-errorForeground,#b00020))"


def escape(text: object) -> str:
    """Text as HTML, its dollar signs kept from LaTeX.

    Example:
        >>> escape("<b> costs $1")
        '&lt;b&gt; costs <span>$</span>1'
    """
    return _escape(plain(str(text))).replace("$", "<span>$</span>")


def volatile(text: object) -> str:
    """Text that differs from run to run.

    Example:
        >>> volatile("0.4 s")
        "<span class='pool-volatile'>0.4 s</span>"
    """
    return f"<span class='pool-volatile'>{escape(text)}</span>"


def box(body: str, *, label: str) -> str:
    """The frame around a display; nothing inside it is LaTeX.

    Example:
        >>> box("hi", label="a pool").startswith("<div class='pool-nb mathjax_ignore tex2jax_ignore' role='group'")
        True
    """
    return (
        f"<div class='pool-nb mathjax_ignore tex2jax_ignore' role='group' aria-label='{_escape(label, quote=True)}' "
        f"style='{FONT};{INK}'>{body}</div>"
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A plain table; the cells are HTML already.

    Example:
        >>> table(["slot"], [["s1"]])
        '<table><thead><tr><th scope="col">slot</th></tr></thead><tbody><tr><td>s1</td></tr></tbody></table>'
    """
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"


def pairs(rows: Iterable[tuple[str, str]]) -> str:
    """A table of names and values; the values are HTML already.

    Example:
        >>> print(pairs([("slots", "4")]).replace("<t", chr(10) + "<t"))
        <BLANKLINE>
        <table>
        <tbody>
        <tr>
        <th scope="row" style="text-align:left">slots</th>
        <td style="text-align:left">4</td></tr></tbody></table>
    """
    body = "".join(
        f'<tr><th scope="row" style="text-align:left">{escape(name)}</th><td style="text-align:left">{value}</td></tr>'
        for name, value in rows
    )
    return f"<table><tbody>{body}</tbody></table>"
