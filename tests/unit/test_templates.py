"""Templates: plain data in, text out, and nothing else."""

from __future__ import annotations

import datetime as dt
import os
import time
from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_pool_nb.errors import ConfigError
from claude_pool_nb.templates import MAX_OUTPUT_CHARS, names, render


class Colour(StrEnum):
    """A subclass of text."""

    RED = "red"


@given(st.text())
def test_values_are_never_rendered_again(value: str) -> None:
    """What a value contains is text, be it a template."""
    hostile = "{{ secret }}{% for x in y %}" + value
    assert render("<{{ text }}>", {"text": hostile, "secret": "s"}) == f"<{hostile}>"


def test_templates_have_conditions_loops_and_filters() -> None:
    """The usual parts of Jinja work."""
    template = (
        "{% for x in xs if x %}{{ loop.index }}{{ x | upper }}{{ ',' if not loop.last }}{% endfor %}{{ 'a' ~ (1 + 1) }}"
    )
    assert render(template, {"xs": ["a", "", "b"]}) == "1A,2Ba2"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (dt.date(2020, 1, 2), "2020-01-02"),
        (Colour.RED, "red"),
        (None, "None"),
        ({"a": [1]}, "{'a': [1]}"),
        ({2, 1}, "[1, 2]"),
    ],
)
def test_plain_data_passes(value: object, text: str) -> None:
    """Dates, enums of text, lists, mappings and sets are plain."""
    assert render("{{ v }}", {"v": value}) == text


def test_values_of_pandas_and_numpy_are_plain() -> None:
    """Scalars become Python's, missing ones None."""
    import numpy as np
    import pandas as pd

    row = {"a": np.float64(1.5), "b": np.int64(3), "c": pd.NA, "d": pd.Timestamp("2020-01-01"), "e": pd.Series([1, 2])}
    assert render("{{ a }}|{{ b }}|{{ c }}|{{ d }}|{{ e }}", row) == "1.5|3|None|2020-01-01 00:00:00|[1, 2]"


def test_spans_of_time_are_plain() -> None:
    """A column of time deltas or of periods can be written into a prompt."""
    import pandas as pd

    row = {"a": pd.Timedelta("90min"), "b": pd.Period("2026-01"), "c": pd.Interval(0, 1)}
    assert render("{{ a }}|{{ b }}|{{ c }}", row) == "1:30:00|2026-01|(0, 1]"


@pytest.mark.parametrize("value", [os, open, object(), lambda: 1, Exception("x"), type])
def test_objects_are_refused_by_name(value: object) -> None:
    """Modules, functions and instances do not get in."""
    with pytest.raises(ConfigError, match=r"'tool'.*plain data"):
        render("{{ tool }}", {"tool": value})


def test_what_a_template_does_not_name_is_not_looked_at() -> None:
    """A notebook's variables may be anything as long as the template leaves them alone."""
    assert render("{{ a }}", {"a": 1, "module": os}) == "1"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ txet }}", "did you mean 'text'"),
        ("{{ text.nothing }}", "nothing"),
        ("one\n{{ text text }}", r"line 2.*\n    \{\{ text text \}\}\n    \^"),
        ("{% if text %}", "line 1"),
        ("{% include 'x' %}", "include is not allowed"),
        ("{% import 'x' as x %}", "not allowed"),
        ("{% macro f() %}{% endmacro %}", "macro is not allowed"),
        ("{{ self }}", "self is not allowed"),
        ("{{ text.__class__ }}", "unsafe|plain data"),
        ("{{ ''.__class__.__mro__ }}", "unsafe|plain data"),
        ("{{ text.format(1) }}", "format may not be called"),
        ("{{ text.zfill(9) }}", "zfill may not be called; put what it gives into a column"),
        ("{{ text | attr('upper') }}", "attr"),
        ("{{ range(100000) }}", "longer than 10,000"),
        ("{{ 2 ** 9 }}", r"\*\*"),
        ("{{ '%99999999d' % 1 }}", "formats with %"),
        ("{{ 'x' * 9000000 }}", "longer than"),
        ("{{ (text * 1000) | replace('h', text * 1000) }}", "longer than"),
        ("{% set a = 'xxxxxxxx' %}" + "{% set a = a ~ a %}" * 40 + "{{ a }}", "longer than"),
        ("{% set a = 'xxxxxxxx' %}" + "{% set a = [a, a] | join %}" * 40 + "{{ a }}", "longer than"),
        ("{% set a = 'xxxxxxxx' %}" + "{% set a = [a, a] %}" * 40 + "{{ a }}", "longer than"),
        ("{% for a in range(9999) %}{{ text * 100 }}{% endfor %}", "longer than"),
    ],
)
def test_mistakes_and_bombs_are_config_errors(template: str, message: str) -> None:
    """Whatever is wrong is told before anything is spent, quickly and in a few words."""
    began = time.perf_counter()
    with pytest.raises(ConfigError, match=message):
        render(template, {"text": "hello"})
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("a\n{{ text | lenght }}", r"line 2: there is no filter 'lenght'.*'length'\?\n    .*\n {14}\^$"),
        ("{% if text is not strin %}{% endif %}", r"no test 'strin'.*'string'\?\n    .*\n {22}\^$"),
        ("{{ text | map('upper') }}", "the filter 'map' is not allowed"),
        ("{% block a %}{% endblock %}{% block a %}{% endblock %}", "line 1: block 'a' defined twice"),
    ],
)
def test_asking_for_the_names_finds_what_is_wrong(template: str, message: str) -> None:
    """A map asks for the names first: what only Jinja's compiler finds is told there as well, with line and caret."""
    with pytest.raises(ConfigError, match=message):
        names(template)


def test_endless_loops_end() -> None:
    """Nested loops are stopped by the clock, those without output too."""
    loops = "{% for a in range(9999) %}" * 3 + "{% endfor %}" * 3
    with pytest.raises(ConfigError, match="took longer"):
        render(loops, {})


def test_the_longest_prompt_fits() -> None:
    """The limit is on what comes out, and inclusive."""
    assert len(render("{{ a }}", {"a": "x" * MAX_OUTPUT_CHARS})) == MAX_OUTPUT_CHARS


def test_names_are_what_has_to_be_given() -> None:
    """Loop variables and helpers are not among them."""
    assert names("{{ a }} {% for b in c %}{{ b }}{{ range(2) }}{% endfor %}{% set d = 1 %}{{ d }}") == ("a", "c")
