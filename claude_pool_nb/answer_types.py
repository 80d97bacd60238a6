"""Answers as instances of the Python types whose schema was asked for.

Invariant: a type whose schema is none of an object stands in the one field `value` of the answer, and comes out of it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from claude_pool_nb.errors import ConfigError

VALUE: Final = "value"
"""The field of an answer that is no object by itself."""


def current(kind: Any) -> Any:
    """A type as pydantic takes it: before Python 3.12 it knows only the TypedDict of typing_extensions.

    Example:
        >>> current(list[int])
        list[int]
    """
    if sys.version_info >= (3, 12):
        return kind
    if is_typeddict(kind) and kind.__module__ != "typing_extensions":
        from typing import NotRequired

        from typing_extensions import TypedDict

        hints = {name: current(hint) for name, hint in get_type_hints(kind).items()}
        fields = {name: hint if name in kind.__required_keys__ else NotRequired[hint] for name, hint in hints.items()}
        make: Any = TypedDict
        made = make(kind.__name__, fields)
        made.__doc__ = kind.__doc__
        return made
    origin, inner = get_origin(kind), get_args(kind)
    if origin is None or origin is Literal or not inner:
        return kind
    changed = tuple(current(one) for one in inner)
    if all(new is old for new, old in zip(changed, inner, strict=True)):
        return kind
    return Union[changed] if origin in {Union, type(int | str)} else origin[changed]  # noqa: UP007 - made at run time


def parsed(kind: Any, structured: Any) -> Any:
    """A structured answer as an instance of the type whose schema was asked for.

    Args:
        kind: A pydantic model, dataclass, TypedDict or other type.
        structured: The answer as plain data.

    Raises:
        ConfigError: it does not fit the type; the message says where.

    Example:
        >>> parsed(list[int], {"value": [1, 2]})
        [1, 2]
    """
    from pydantic import TypeAdapter, ValidationError

    adapter: Any = kind if isinstance(kind, TypeAdapter) else TypeAdapter(current(kind))
    plain = adapter.json_schema()
    if "$ref" in plain:
        plain = plain["$defs"][plain["$ref"].removeprefix("#/$defs/")]
    wrapped = plain.get("type") != "object" and isinstance(structured, Mapping) and set(structured) == {VALUE}
    try:
        return adapter.validate_json(json.dumps(structured[VALUE] if wrapped else structured))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the answer"
        name = getattr(kind, "__name__", None) or repr(kind)
        raise ConfigError(f"the answer is no {name}: {where}: {first['msg']}") from error
