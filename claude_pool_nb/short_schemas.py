"""The short form of a schema: `label: positive|negative, score: float, tags: list[str], note: str?`.

Fields are separated by commas, a field without a type is text. Types are `str, int, float, bool, date, datetime`,
`list[...]`, `dict[...]`, `{name: type, ...}`, and choices `a|b|c` (words with other characters in quotation marks);
`?` behind a type or a name, or `|None`, says that the field may be missing.

Invariants: the form is read without running anything of it; what cannot be read is refused with what is wrong.
"""

from __future__ import annotations

import json
import keyword
from collections.abc import Iterable, Mapping
from typing import Any, Final, NoReturn

from claude_pool_nb.answer_types import VALUE
from claude_pool_nb.errors import ConfigError, nearest

TYPES: Final[Mapping[str, Mapping[str, Any]]] = {
    "str": {"type": "string"},
    "string": {"type": "string"},
    "text": {"type": "string"},
    "int": {"type": "integer"},
    "integer": {"type": "integer"},
    "float": {"type": "number"},
    "number": {"type": "number"},
    "bool": {"type": "boolean"},
    "boolean": {"type": "boolean"},
    "date": {"type": "string", "format": "date"},
    "datetime": {"type": "string", "format": "date-time"},
    "list": {"type": "array"},
    "dict": {"type": "object"},
    "object": {"type": "object"},
    "None": {"type": "null"},
    "null": {"type": "null"},
}
"""Words for types, and what they are in a JSON schema."""


def object_of(name: str, text: str) -> dict[str, Any]:
    """The schema of `label: str, score: float`, or of one type alone.

    Args:
        name: The option, for messages.
        text: The short form.

    Raises:
        ConfigError: it cannot be read.

    Example:
        >>> object_of("schema", "label: good|bad")["properties"]
        {'label': {'type': 'string', 'enum': ['good', 'bad']}}
    """
    parts = [part for part in _cut(name, text, ",") if part]
    if len(parts) == 1 and len(_cut(name, parts[0], ":")) == 1 and not _is_name(parts[0]):
        return {"type": "object", "properties": {VALUE: form_of(name, parts[0])}, "required": [VALUE]}
    properties: dict[str, Any] = {}
    required: list[str] = []
    for part in parts:
        field, *rest = _cut(name, part, ":")
        optional = field.endswith("?")
        field = field.removesuffix("?").strip()
        if not _is_name(field) and field not in TYPES:
            _refuse(name, f"{field!r} is no name of a field")
        if field in properties:
            _refuse(name, f"the field {field!r} is there twice")
        if len(rest) > 1:
            _refuse(name, f"{part!r} has two colons; a comma separates fields")
        form = form_of(name, rest[0]) if rest else dict(TYPES["str"])
        properties[field] = _or_null(form) if optional else form
        if not nullable(properties[field]):
            required.append(field)
    return {"type": "object", "properties": properties, "required": required}


def form_of(name: str, text: str) -> dict[str, Any]:
    """The schema of one type of the short form.

    Args:
        name: The option, for messages.
        text: `int`, `list[str]`, `str?`, `good|bad` ...

    Raises:
        ConfigError: it cannot be read.

    Example:
        >>> form_of("schema", "list[str]")
        {'type': 'array', 'items': {'type': 'string'}}
    """
    text = text.strip()
    if not text:
        _refuse(name, "a type is missing behind a colon")
    if text.endswith("?"):
        return _or_null(form_of(name, text[:-1]))
    members = _cut(name, text, "|")
    if len(members) > 1:
        return _choice(name, text, members)
    if text.startswith("{") and text.endswith("}"):
        return object_of(name, text[1:-1].strip())
    head, bracket, inner = text.partition("[")
    if bracket and inner.endswith("]"):
        inside = inner[:-1].strip()
        match head.strip():
            case "list" | "List":
                return {"type": "array", "items": form_of(name, inside)}
            case "Optional":
                return _or_null(form_of(name, inside))
            case "Literal":
                return _one_of(_cut(name, inside, ","))
            case "dict" | "Dict":
                key, *value = _cut(name, inside, ",")
                return {"type": "object", "additionalProperties": form_of(name, value[0] if value else key)}
        _refuse(name, f"there is no type {head.strip()!r} with brackets; there are list, Optional, Literal, dict")
    if text in TYPES:
        return dict(TYPES[text])
    if _quoted(text):
        return _one_of([text])
    return _refuse(name, f"there is no type {text[:60]!r}{nearest(text, TYPES)}")


def _choice(name: str, text: str, members: list[str]) -> dict[str, Any]:
    """`a|b|c` is one of these words, `int|float` one of these types, `|None` may be missing."""
    real = [one for one in members if one not in {"None", "null"}]
    known = [one in TYPES or "[" in one or one.startswith("{") for one in real]
    if not real or not all(real):
        _refuse(name, f"{text!r} has an empty choice")
    if len(real) == 1:
        form = form_of(name, real[0])
    elif all(known):
        form = {"anyOf": [form_of(name, one) for one in real]}
    elif any(known):
        _refuse(name, f"{text!r} mixes types and words; put the words in quotation marks")
    else:
        form = _one_of(real)
    return _or_null(form) if len(real) < len(members) else form


def _or_null(form: dict[str, Any]) -> dict[str, Any]:
    """The same, or nothing."""
    kind = form.get("type")
    if isinstance(kind, str) and kind != "null" and "enum" not in form:
        return {**form, "type": [kind, "null"]}
    return form if nullable(form) else {"anyOf": [form, {"type": "null"}]}


def nullable(form: Mapping[str, Any]) -> bool:
    """Whether a field may be missing.

    Example:
        >>> nullable({"type": ["integer", "null"]}), nullable({"type": "integer"})
        (True, False)
    """
    kind = form.get("type")
    if kind == "null" or (isinstance(kind, list) and "null" in kind):
        return True
    return any(isinstance(one, Mapping) and one.get("type") == "null" for one in form.get("anyOf") or ())


def _one_of(texts: Iterable[str]) -> dict[str, Any]:
    """One of some words or numbers."""
    words = list(dict.fromkeys(_word(text) for text in texts))
    return {**({"type": "string"} if all(isinstance(word, str) for word in words) else {}), "enum": words}


def _word(text: str) -> Any:
    """A choice: a number if it looks like one, else a word."""
    if _quoted(text):
        return text[1:-1]
    try:
        number = json.loads(text)
    except ValueError:
        return text
    return number if isinstance(number, int | float) and not isinstance(number, bool) else text


def _quoted(text: str) -> bool:
    return len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'"


def _is_name(text: str) -> bool:
    return text.isidentifier() and not keyword.iskeyword(text) and text not in TYPES


def _cut(name: str, text: str, mark: str) -> list[str]:
    """Split at a mark outside brackets and quotation marks."""
    parts, start, depth, quote = [], 0, 0, ""
    for at, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character in "[{(":
            depth += 1
        elif character in "]})":
            depth -= 1
        elif character == mark and depth == 0:
            parts.append(text[start:at].strip())
            start = at + 1
    if quote or depth:
        _refuse(name, "a quotation mark is missing" if quote else "its brackets do not match")
    return [*parts, text[start:].strip()]


def _refuse(name: str, why: str) -> NoReturn:
    raise ConfigError(f"{name} cannot be read: {why}; write it like 'label: good|bad, score: float, tags: list[str]'")
