"""Jinja over plain data: prompts made of a template and a row.

Invariants: a template sees plain data only (None, booleans, numbers, text, dates, lists and mappings of these), never a
module or an object; what a value contains is text and is never rendered again; output and loops are bounded; every
mistake is a ConfigError that says where it is, before anything is spent.
"""

from __future__ import annotations

import datetime as dt
import functools
import math
import re
import threading
import time
from collections.abc import Callable, Generator, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from claude_pool_nb.errors import ConfigError, nearest

if TYPE_CHECKING:
    from jinja2 import Environment, Template

MAX_OUTPUT_CHARS: Final = 2_000_000
"""A rendered prompt may be this long."""

MAX_TEMPLATE_CHARS: Final = 1_000_000
"""A template may be this long."""

MAX_RANGE: Final = 10_000
"""`range(...)` in a template may count this far."""

MAX_RENDER_S: Final = 2.0
"""Rendering one prompt may take this long."""

_PLAIN: Final = (str, int, float, bool, type(None), Decimal, dt.datetime, dt.date, dt.time, dt.timedelta)
_MAX_DEPTH: Final = 20


@lru_cache(maxsize=1)
def _environment() -> Environment:
    """The sandbox; jinja2 is imported when it is first needed."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class PlainSandbox(ImmutableSandboxedEnvironment):
        """Nothing can be called but what is on the list, nothing changed, nothing grown without bound."""

        intercepted_binops = frozenset({"**", "*", "+", "%"})

        def is_safe_callable(self, obj: Any) -> bool:
            """Our own helpers, and methods of plain values that cannot make them grow."""
            owner = type(getattr(obj, "__self__", None))
            return obj in _HELPERS or (owner in {*_PLAIN, dict, list} and getattr(obj, "__name__", "") in _METHODS)

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            """Arithmetic on numbers; texts and lists within the limit."""
            if operator == "**":
                raise ConfigError("the template uses **, which is not allowed in templates")
            if operator == "%" and isinstance(left, str):
                raise ConfigError("the template formats with %; use {{ name }} and filters instead")
            times = next((side for side in (left, right) if isinstance(side, int)), 1)
            grows = operator == "*" and any(isinstance(side, str | list | tuple) for side in (left, right))
            _weigh((left, right), times=max(1, times) if grows else 1)
            return super().call_binop(context, operator, left, right)

    environment = PlainSandbox(undefined=StrictUndefined, keep_trailing_newline=True, finalize=_finalized)
    environment.globals = {"range": _range, _TICK: _tick, _CONCAT: _concat}
    environment.filters = {
        name: _bounded(name, function) for name, function in environment.filters.items() if name not in _REFUSED_FILTERS
    }
    return environment


_TICK: Final = "_claude_pool_nb_tick"
_CONCAT: Final = "_claude_pool_nb_concat"
_METHODS: Final = frozenset(
    """capitalize count endswith find get index isdigit isoformat items keys lower lstrip rstrip split splitlines
    startswith strip title upper values""".split()  # noqa: SIM905
)
_REFUSED_FILTERS: Final = frozenset(
    """attr batch center filesizeformat format groupby indent map pprint random slice urlize xmlattr""".split()  # noqa: SIM905
)
"""Filters that reach objects, that are not the same every time, or that can make much of little."""

_clock = threading.local()
"""When the rendering of this thread has to be done, in processor time: a busy machine makes no template too long."""


def _tick() -> str:
    """Put into every loop: time is up at some point."""
    if time.thread_time() > getattr(_clock, "deadline", math.inf):
        raise ConfigError(f"rendering the template took longer than {MAX_RENDER_S:g} s; simplify its loops")
    return ""


def _weigh(value: Any, *, times: int = 1) -> int:
    """About how many characters a value has as text.

    Raises:
        ConfigError: it is more than a prompt may have.
    """
    total = 0
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            total += len(item)
        elif isinstance(item, list | tuple):
            total += len(item)
            stack.extend(item)
        elif isinstance(item, dict):
            total += len(item)
            stack.extend(item.keys())
            stack.extend(item.values())
        elif isinstance(item, int) and not isinstance(item, bool):
            total += item.bit_length() // 3
        if total * times > MAX_OUTPUT_CHARS:
            raise ConfigError(f"the template makes a text longer than {MAX_OUTPUT_CHARS:,} characters")
    return total


def _finalized(value: Any) -> Any:
    """What is put into the text."""
    _weigh(value)
    return value


def _concat(*parts: Any) -> str:
    """Stands for the operator ~."""
    _weigh(parts)
    return "".join(map(str, parts))


def _bounded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that cannot make more than a prompt may have."""

    @functools.wraps(function)
    def filtered(*arguments: Any, **options: Any) -> Any:
        _tick()
        given = [list(a) if isinstance(a, Generator) else a for a in arguments]
        for argument in given:
            _weigh(argument)
        texts = [a for a in given if isinstance(a, str)]
        if name == "replace" and len(texts) >= 3:
            _weigh(texts[2], times=texts[0].count(texts[1]) or 1)
        elif name == "join" and texts:
            _weigh(texts[-1], times=max((len(a) for a in given if isinstance(a, list)), default=1))
        result = function(*given, **options)
        _weigh(result)
        return result

    return filtered


def _range(*bounds: int) -> range:
    """A range of bounded length."""
    made = range(*bounds)
    if len(made) > MAX_RANGE:
        raise ConfigError(f"range({', '.join(map(str, bounds))}) in the template is longer than {MAX_RANGE:,}")
    return made


_HELPERS: Final = (_range, _tick, _concat)


@lru_cache(maxsize=64)
def _compiled(template: str) -> Template:
    """A template, parsed once."""
    from jinja2 import TemplateSyntaxError, nodes
    from jinja2.visitor import NodeTransformer

    class Bounded(NodeTransformer):
        """Loops look at the clock, and ~ at the size."""

        def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802
            self.generic_visit(node)
            node.body.insert(0, nodes.Output([_call(_TICK, [])], lineno=node.lineno))
            return node

        def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
            self.generic_visit(node)
            return _call(_CONCAT, list(node.nodes))

    def _call(helper: str, arguments: list[nodes.Expr]) -> nodes.Call:
        return nodes.Call(nodes.Name(helper, "load"), arguments, [], None, None)

    tree = Bounded().visit(_parse(template))
    try:
        return _environment().from_string(tree)
    except TemplateSyntaxError as error:
        raise _syntax_error(template, error.lineno, error.message) from error


def _parse(template: str) -> Any:
    """A template's tree, after its size and its statements were checked."""
    from jinja2 import TemplateSyntaxError, nodes

    if len(template) > MAX_TEMPLATE_CHARS:
        raise ConfigError(f"the template has {len(template):,} characters; up to {MAX_TEMPLATE_CHARS:,} can be used")
    try:
        tree = _environment().parse(template)
    except TemplateSyntaxError as error:
        raise _syntax_error(template, error.lineno, error.message) from error
    refused = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends, nodes.Macro, nodes.CallBlock)
    for node in tree.find_all(refused):
        raise _syntax_error(template, node.lineno, f"{type(node).__name__.lower()} is not allowed in templates")
    for name in tree.find_all(nodes.Name):
        if name.name in {"self", "caller", "super"}:
            raise _syntax_error(template, name.lineno, f"{name.name} is not allowed in templates")
    for kind, known in ((nodes.Filter, _environment().filters), (nodes.Test, _environment().tests)):
        for used in tree.find_all(kind):
            if used.name in _REFUSED_FILTERS:
                raise _syntax_error(
                    template, used.lineno, f"the filter {used.name!r} is not allowed in templates", at=used.name
                )
            if used.name not in known:
                message = f"there is no {kind.__name__.lower()} {used.name!r} in templates{nearest(used.name, known)}"
                raise _syntax_error(template, used.lineno, message, at=used.name)
    return tree


def _syntax_error(template: str, line_number: int, message: str | None, *, at: str = "") -> ConfigError:
    """A syntax error with its line and a caret under what is wrong: the word `at`, or where the statement begins."""
    lines = template.splitlines() or [""]
    line = lines[min(line_number, len(lines)) - 1][:200]
    word = re.search(rf"(?:\||\bis(?:\s+not)?)\s*({re.escape(at)})\b", line) if at else None
    starts = [found for mark in ("{%", "{{", "{#") if (found := line.rfind(mark)) >= 0]
    start = word.start(1) if word else max(starts) if starts else len(line) - len(line.lstrip())
    caret = " " * start + "^"
    return ConfigError(f"the template is wrong in line {line_number}: {message}\n    {line}\n    {caret}")


def names(template: str) -> tuple[str, ...]:
    """The names that a template needs, sorted.

    Raises:
        ConfigError: the template is wrong.

    Example:
        >>> names("Classify {{ text }} as {% for l in labels %}{{ l }} {% endfor %}")
        ('labels', 'text')
    """
    from jinja2 import TemplateSyntaxError, meta, nodes

    tree = _parse(template)
    called = {id(call.node) for call in tree.find_all(nodes.Call)}
    # What is called with brackets is ours; a column may have the name all the same.
    columns = {name.name for name in tree.find_all(nodes.Name) if name.name == "range" and id(name) not in called}
    try:
        # Jinja goes through all of its compiler for this, which finds what its parser does not.
        return tuple(sorted(meta.find_undeclared_variables(tree) | columns))
    except TemplateSyntaxError as error:
        raise _syntax_error(template, error.lineno, error.message) from error


def render(template: str, values: Mapping[str, Any]) -> str:
    """Fill a template with values.

    Args:
        template: Jinja, with `{{ name }}`, conditions, loops and filters.
        values: Plain data by name. Only what the template names is looked at.

    Returns:
        The text. What the values contain is in it as it is.

    Raises:
        ConfigError: a syntax error, an undefined name, a value that is no plain data, or a limit was passed.

    Example:
        >>> render("Classify: {{ text }}", {"text": "{{ not_rendered }}"})
        'Classify: {{ not_rendered }}'
        >>> render("{{ txet }}", {"text": "hi"})
        Traceback (most recent call last):
        claude_pool_nb.errors.ConfigError: the template needs 'txet', which is not defined; did you mean 'text'?
    """
    from jinja2 import TemplateError, UndefinedError
    from jinja2.exceptions import SecurityError

    compiled = _compiled(template)
    needed = {}
    for name in _needed(template):
        if name not in values:
            known = nearest(name, values) if values else "; there are no values at all"
            raise ConfigError(f"the template needs {name!r}, which is not defined{known}")
        needed[name] = _plain(values[name], name, 0)
    _clock.deadline = time.thread_time() + MAX_RENDER_S
    parts: list[str] = []
    size = 0
    try:
        for part in compiled.generate(needed):
            parts.append(part)
            size += len(part)
            if size > MAX_OUTPUT_CHARS:
                raise ConfigError(f"the rendered prompt is longer than {MAX_OUTPUT_CHARS:,} characters")
            _tick()
    except ConfigError:
        raise
    except SecurityError as error:
        called = re.search(r"(?:function|method) (?:\w+\.)*(\w+)", str(error))
        reason = f"{called.group(1)} may not be called; put what it gives into a column" if called else str(error)
        raise ConfigError(f"the template reaches for more than plain data: {reason}") from error
    except UndefinedError as error:
        raise ConfigError(f"the template names something that is not there: {error.message}") from error
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        raise ConfigError(f"the template cannot be rendered: {error}") from error
    return "".join(parts)


@lru_cache(maxsize=64)
def _needed(template: str) -> tuple[str, ...]:
    """`names`, remembered: a template is rendered for many rows."""
    return names(template)


def _plain(value: Any, name: str, depth: int) -> Any:
    """A value as plain data, copied; numpy's and pandas' scalars become Python's."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if depth > _MAX_DEPTH:
        raise ConfigError(f"{name!r} is nested more than {_MAX_DEPTH} deep")
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{name}.{key}", depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value, key=repr) if isinstance(value, set | frozenset) else value
        return [_plain(item, f"{name}[{i}]", depth + 1) for i, item in enumerate(items)]
    if kind.__module__.partition(".")[0] in {"numpy", "pandas"}:
        return _plain_scalar(value, name, depth)
    for base in (bool, int, float, str, dt.datetime, dt.date):
        if isinstance(value, base):  # a subclass: an enum of text, a numpy float
            return str(value) if base is str else base.__call__(value) if base in {bool, int, float} else value
    raise ConfigError(
        f"{name!r} is a {kind.__name__}, and templates see plain data only (text, numbers, dates, lists, mappings); "
        f"put what you need of it into a variable"
    )


def _plain_scalar(value: Any, name: str, depth: int) -> Any:
    """Numpy's and pandas' values: missing ones become None, arrays and series lists."""
    if type(value).__name__ in {"NAType", "NaTType"}:
        return None
    for python in ("to_pydatetime", "to_pytimedelta"):
        if hasattr(value, python):
            return getattr(value, python)()
    if type(value).__name__ in {"Period", "Interval"}:
        return str(value)
    if hasattr(value, "tolist"):
        plain = value.tolist()
        missing = isinstance(plain, float) and math.isnan(plain)
        return None if missing else _plain(plain, name, depth + 1)
    raise ConfigError(f"{name!r} is a {type(value).__name__}, and templates see plain data only")
