"""What an answer has to look like: from Python types, JSON schemas and a short form to one JSON schema, and back.

Invariants: a schema is always that of an object, because that is what the CLI's structured output takes: one of
another kind (`list[str]`, `int`, a choice) becomes an object with the one field `value`; what is no schema is refused
with the place where it is wrong; nothing is imported that takes long until a Python type is given.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final, get_origin

from claude_pool_nb.answer_types import VALUE, current
from claude_pool_nb.errors import ConfigError, nearest
from claude_pool_nb.short_schemas import TYPES, form_of, nullable, object_of

_JSON_TYPES: Final = ("string", "integer", "number", "boolean", "object", "array", "null")
_MARKS: Final = frozenset({"type", "properties", "$ref", "anyOf", "oneOf", "allOf", "enum", "const", "$defs"})
"""A mapping with one of these is a JSON schema, any other names fields."""
_TAKES: Final = (
    "a pydantic model, a dataclass, a TypedDict or another type, a JSON schema, or a short form like "
    "'label: str, score: float'"
)


def schema_text(name: str, value: object) -> str:
    """A schema as JSON text, from whatever a caller has it in.

    Args:
        name: The option, for messages.
        value: A pydantic model, dataclass, TypedDict or other type; a JSON schema as a mapping or text; a short form.

    Raises:
        ConfigError: it is no schema; the message says where.

    Example:
        >>> schema_text("schema", "label: good|bad, score: float?")
        '{"type":"object","properties":{"label":{"type":"string","enum":["good","bad"]},"score":{"type":["number","null"]}},"required":["label"]}'
        >>> schema_text("schema", list[str])
        '{"type":"object","properties":{"value":{"items":{"type":"string"},"type":"array"}},"required":["value"]}'
    """
    try:
        made = _read(name, value)
        text = json.dumps(made, ensure_ascii=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{name} cannot be written as JSON: {error}") from error
    return text


def _read(name: str, value: object) -> dict[str, Any]:
    if isinstance(value, str):
        return _of_text(name, value)
    if isinstance(value, Mapping):
        if not value:
            raise ConfigError(f"{name}={{}} cannot work: {name} takes {_TAKES}")
        if not _MARKS & set(value):
            return _of_names(name, value)
        return _checked(name, json.loads(json.dumps(value)))
    if isinstance(value, type) or get_origin(value) is not None or hasattr(value, "json_schema"):
        return _rooted(_of_type(name, value))
    shown = " ".join(repr(value).split())
    raise ConfigError(f"{name}={shown if len(shown) <= 80 else shown[:77] + '...'} cannot work: {name} takes {_TAKES}")


# -- from types --------------------------------------------------------------------------------------------------------


def _of_type(name: str, kind: Any) -> dict[str, Any]:
    """The schema of a Python type."""
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticUserError

    told = getattr(kind, "__name__", None) or repr(kind)
    try:
        made = kind.json_schema() if isinstance(kind, TypeAdapter) else TypeAdapter(current(kind)).json_schema()
    except (PydanticUserError, TypeError, NameError) as error:
        why = str(error).splitlines()[0]
        raise ConfigError(f"{name}={told} is no type that an answer can have ({why}); {name} takes {_TAKES}") from error
    return dict(made)


def _rooted(schema: dict[str, Any]) -> dict[str, Any]:
    """A type's schema as that of an object; any other becomes the field `value` of one."""
    definitions = schema.pop("$defs", None)
    reference = schema.get("$ref")
    if isinstance(reference, str) and isinstance(definitions, dict):
        schema = {**definitions.get(reference.removeprefix("#/$defs/"), {}), **schema}
        del schema["$ref"]
    if schema.get("type") != "object":
        schema = {"type": "object", "properties": {VALUE: schema}, "required": [VALUE]}
    return {**schema, "$defs": definitions} if definitions else schema


# -- from mappings and texts -------------------------------------------------------------------------------------------


def _of_names(name: str, fields: Mapping[Any, Any]) -> dict[str, Any]:
    """The schema of a mapping of field names to types."""
    properties: dict[str, Any] = {}
    required: list[str] = []
    definitions: dict[str, Any] = {}
    for key, kind in fields.items():
        field = str(key)
        if isinstance(kind, str):
            form = form_of(name, kind)
        elif isinstance(kind, Mapping):
            form = _read(f"{name}.{field}", kind)
        elif kind is None or isinstance(kind, type) or get_origin(kind) is not None:
            form = _of_type(f"{name}.{field}", kind)
            definitions |= form.pop("$defs", {})
        else:
            raise ConfigError(f"{name}: the field {field!r} is {kind!r}, which is no type; {name} takes {_TAKES}")
        properties[field] = form
        if not nullable(form):
            required.append(field)
    made = {"type": "object", "properties": properties, "required": required}
    return {**made, "$defs": definitions} if definitions else made


def _of_text(name: str, text: str) -> dict[str, Any]:
    """The schema of JSON text or of the short form."""
    stripped = text.strip()
    if not stripped:
        raise ConfigError(f"{name} is empty: {name} takes {_TAKES}")
    if stripped[0] in "{[":
        try:
            value = json.loads(stripped)
        except ValueError as error:
            raise ConfigError(f"{name} is no JSON: {error}; the short form has no braces: 'label: str'") from error
        if not isinstance(value, dict):
            raise ConfigError(f"{name} is a JSON list: {name} takes {_TAKES}")
        return _read(name, value)
    return object_of(name, stripped)


# -- JSON schemas ------------------------------------------------------------------------------------------------------


def _checked(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A JSON schema that was given, if it is one, and one of an object."""
    _check(name, schema, schema)
    root = _resolved(schema, schema)
    kind = root.get("type", "object" if "properties" in root else None)
    if kind != "object":
        told = f"of type {kind!r}" if kind else "of no type"
        raise ConfigError(
            f"{name} is {told}, and an answer is an object; put it into one: "
            '{"type": "object", "properties": {"value": ...}, "required": ["value"]}'
        )
    rooted = {**schema, **root, "type": "object"}
    if "$ref" in schema:
        del rooted["$ref"]
    return rooted


def _check(where: str, schema: Any, root: Mapping[str, Any]) -> None:
    """Look for what cannot be meant; the message names the place."""
    if isinstance(schema, bool):
        return
    if not isinstance(schema, Mapping):
        raise ConfigError(f"{where} is {json.dumps(schema)[:60]}, not a JSON schema, which is an object")
    kinds = schema.get("type", [])
    for kind in kinds if isinstance(kinds, list) else [kinds]:
        if kind not in _JSON_TYPES:
            alias = TYPES.get(kind, {}).get("type") if isinstance(kind, str) else None
            meant = f"; did you mean {alias!r}?" if alias else nearest(str(kind), _JSON_TYPES)
            raise ConfigError(f"{where}: there is no type {kind!r} in JSON schemas{meant}")
    for mark in ("properties", "$defs", "patternProperties"):
        inside = schema.get(mark, {})
        if not isinstance(inside, Mapping):
            raise ConfigError(f"{where}.{mark} is not a mapping of names to schemas")
        for key, one in inside.items():
            _check(f"{where}.{key}", one, root)
    for mark in ("anyOf", "oneOf", "allOf"):
        several = schema.get(mark, [])
        if not isinstance(several, list) or (mark in schema and not several):
            raise ConfigError(f"{where}.{mark} is not a list of schemas")
        for at, one in enumerate(several):
            _check(f"{where}.{mark}[{at}]", one, root)
    for mark in ("items", "additionalProperties", "not"):
        if mark in schema:
            _check(f"{where}.{mark}", schema[mark], root)
    if "enum" in schema and (not isinstance(schema["enum"], list) or not schema["enum"]):
        raise ConfigError(f"{where}.enum is not a list of values")
    if "$ref" in schema:
        _referenced(where, schema["$ref"], root)
    required = schema.get("required", [])
    if not isinstance(required, list) or not all(isinstance(one, str) for one in required):
        raise ConfigError(f"{where}.required is not a list of names")
    if schema.get("additionalProperties") is False and "patternProperties" not in schema:
        for one in required:
            if one not in schema.get("properties", {}):
                known = nearest(one, schema.get("properties", {}))
                raise ConfigError(f"{where} requires {one!r}, which is none of its properties{known}")


def _referenced(where: str, path: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """What `#/$defs/Name` names."""
    at: Any = root
    parts = path.removeprefix("#").strip("/").split("/") if isinstance(path, str) and path.startswith("#") else [None]
    for part in parts:
        if part == "":
            continue
        at = at.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(at, Mapping) and part else None
    if not isinstance(at, Mapping):
        raise ConfigError(f"{where}: $ref {path!r} leads nowhere; write it like '#/$defs/Name', with that under $defs")
    return at


def _resolved(schema: Any, root: Mapping[str, Any]) -> dict[str, Any]:
    """A schema without references, and without the choice to be missing."""
    form: dict[str, Any] = dict(schema) if isinstance(schema, Mapping) else {}
    for _ in range(20):
        if "$ref" in form:
            form = {**_referenced("schema", form["$ref"], root), **{k: v for k, v in form.items() if k != "$ref"}}
            continue
        for mark in ("allOf", "anyOf", "oneOf"):
            several = form.get(mark)
            real = [one for one in several or () if not (isinstance(one, Mapping) and one.get("type") == "null")]
            if len(real) == 1 and isinstance(real[0], Mapping):
                form = {**{k: v for k, v in form.items() if k != mark}, **real[0]}
                break
        else:
            return form
    return form


def fields_of(schema: Any) -> dict[str, dict[str, Any]]:
    """The fields of an answer and the form of each, without references: what columns are made by.

    Args:
        schema: A JSON schema as data or text.

    Example:
        >>> fields_of('{"type": "object", "properties": {"n": {"anyOf": [{"type": "integer"}, {"type": "null"}]}}}')
        {'n': {'type': 'integer'}}
    """
    read: Iterable[Any] | Any = json.loads(schema) if isinstance(schema, str) else schema
    if not isinstance(read, Mapping):
        return {}
    properties = _resolved(read, read).get("properties")
    if not isinstance(properties, Mapping):
        return {}
    return {str(name): _resolved(form, read) for name, form in properties.items()}
