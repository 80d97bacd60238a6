"""A model's Markdown, made safe to render.

Invariants: no HTML of the text becomes HTML of the page; nothing remote is loaded, because images become text; a link
shows where it goes, because only bare addresses stay links; a dollar sign never starts LaTeX. Code is left as it is
only where every Markdown renderer agrees that it is code: a fence at the start of a line, and spans that open and close
on one line of a block without loose backticks. Everywhere else it is escaped, at worst visibly.
"""

from __future__ import annotations

import re
from itertools import pairwise

from claude_pool_nb.errors import plain

_FENCE = re.compile(r"( {0,3})(`{3,}|~{3,})([^`|]*)$")
_MAYBE_FENCE = re.compile(r"[\s>*+\-.)0-9]*(?:`{3}|~{3})")
_PLAIN = re.compile(r"(?! {4}|\t)\s*(?![-*+>#|=_~\s]|\d+[.)])[^|]*$")
_RUN = re.compile(r"`+")
_ENTITIES = {"&": "&amp;", "<": "&lt;", "$": "&#36;"}
_SPECIAL = re.compile(r"[&<$]")
_IMAGE = re.compile(r"!(?=\[)")
_LINK = re.compile(r"\](?=[(\[:])([(\[:])")
_BRACKET = {"(": "]&#40;", "[": "]&#91;", ":": "]&#58;"}
_ENVIRONMENT = re.compile(r"\\(begin|end)\{")


def safe_markdown(text: str) -> str:
    """Markdown that renders as the text meant, and does nothing else.

    Example:
        >>> safe_markdown("**hi** <script> ![x](http://a/b.png) for $5")
        '**hi** &lt;script> &#33;[x]&#40;http://a/b.png) for &#36;5'
        >>> safe_markdown("use `<div>`")
        'use `<div>`'
    """
    lines = plain(text.replace("\r\n", "\n").replace("\r", "\n")).split("\n")
    out: list[str] = []
    block: list[str] = []
    at = 0
    while at < len(lines):
        line = lines[at]
        if _MAYBE_FENCE.match(line):
            _flush(block, out)
            end = _fence_end(lines, at)
            if end is None:
                # Renderers may differ on what this is: from here on nothing counts as code.
                out.extend(_escape_text(rest) for rest in lines[at:])
                return "\n".join(out)
            out.extend(lines[at:end])
            if end > len(lines) - 1 and lines[-1].strip(" ") != _fence_of(line):
                out.append(_fence_of(line))
            at = end
            continue
        if line.strip(" \t"):
            block.append(line)
        else:
            _flush(block, out)
            out.append(line)
        at += 1
    _flush(block, out)
    return "\n".join(out)


def _fence_of(line: str) -> str:
    """The marks that open a fence."""
    found = _FENCE.match(line)
    return found.group(2) if found else ""


def _fence_end(lines: list[str], at: int) -> int | None:
    """Where the lines after a fence begin; None if not every renderer would agree.

    They agree if it opens with at most three blanks, closes with the same marks behind the same blanks, and no line in
    between stands further left; at the start of a line it may also stay open.
    """
    found = _FENCE.match(lines[at])
    if found is None:
        return None
    indent, fence = found.group(1), found.group(2)
    for number in range(at + 1, len(lines)):
        line = lines[number]
        if line == indent + fence:
            return number + 1
        blank = not line.strip(" \t")
        if _MAYBE_FENCE.match(line) and fence[0] * 3 in line:
            return None
        if indent and not blank and not line.startswith(indent):
            return None
    return None if indent else len(lines)


def _flush(block: list[str], out: list[str]) -> None:
    """Escape a block of lines; its code spans are kept if all of them are plain on their own line."""
    spans = [_spans(line) for line in block]
    if all(found is not None for found in spans):
        safe = [_escape_outside(line, found or []) for line, found in zip(block, spans, strict=True)]
        # A model that breaks a line means it: a poem stays a poem.
        for number, (line, following) in enumerate(pairwise(block)):
            if _PLAIN.match(line) and _PLAIN.match(following):
                safe[number] = safe[number].rstrip() + "  "
        out.extend(safe)
    else:
        out.extend(_escape_text(line) for line in block)
    block.clear()


def _spans(line: str) -> list[tuple[int, int]] | None:
    """Where the code spans of a line are; None if a backtick is loose, escaped, or a span might be a table's cells."""
    runs = [(found.start(), found.end()) for found in _RUN.finditer(line)]
    if any(start and line[start - 1] == "\\" for start, _ in runs):
        return None
    spans: list[tuple[int, int]] = []
    position = 0
    while position < len(runs):
        start, end = runs[position]
        closing = next(
            (i for i in range(position + 1, len(runs)) if runs[i][1] - runs[i][0] == end - start),
            None,
        )
        if closing is None or "|" in line[start : runs[closing][1]]:
            return None
        spans.append((start, runs[closing][1]))
        position = closing + 1
    return spans


def _escape_outside(line: str, spans: list[tuple[int, int]]) -> str:
    """Escape a line apart from its code spans."""
    parts: list[str] = []
    at = 0
    for start, end in spans:
        parts.extend((_escape_text(line[at:start]), line[start:end]))
        at = end
    parts.append(_escape_text(line[at:]))
    return "".join(parts)


def _escape_text(text: str) -> str:
    """Escape what could become a tag, an image, a hidden link or LaTeX."""
    text = _SPECIAL.sub(lambda found: _ENTITIES[found.group()], text)
    text = _IMAGE.sub("&#33;", text)
    text = _LINK.sub(lambda found: _BRACKET[found.group(1)], text)
    return _ENVIRONMENT.sub("\\\\\\1\N{WORD JOINER}{", text)
