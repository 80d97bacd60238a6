"""Valid instances of a JSON schema, filled from a text: how the demo's model answers in a given form.

Invariant: pure; what comes out fits the schema (types, enums, bounds, lengths, required fields) for all that JSON
schemas of pydantic models and dataclasses say, `pattern` excepted where no value of the text fits it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from claude_pool_nb.sessions.demo_text import best_label, digest, find, keywords, sentences, sentiment, summary, words

_MAX_DEPTH: Final = 8


@dataclass(frozen=True, slots=True)
class Reading:
    """A text as one model reads it."""

    text: str
    """What the answer is about."""
    careful: bool
    """The large model minds negations, and says more."""
    salt: int
    """What varies from sample to sample."""


def instance(schema: Mapping[str, Any], reading: Reading) -> Any:
    """An instance of a schema, derived from a text.

    Example:
        >>> schema = {"type": "object", "properties": {"label": {"enum": ["positive", "negative"]}}}
        >>> instance(schema, Reading("I hate it", careful=True, salt=0))
        {'label': 'negative'}
    """
    return _Filler(schema, reading).fill(schema, "", 0)


class _Filler:
    """Fills one schema from one reading."""

    def __init__(self, root: Mapping[str, Any], reading: Reading) -> None:
        self.root = root
        self.reading = reading

    def fill(self, schema: Any, name: str, depth: int) -> Any:
        """A value for a schema at a property's name."""
        if not isinstance(schema, Mapping):  # True allows anything
            return None
        schema = self._flattened(schema, depth)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self._choice(schema["enum"])
        kind = schema.get("type") or (
            "object" if "properties" in schema else "array" if "items" in schema else "string"
        )
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, name, depth)
        if kind in {"integer", "number"}:
            return self._number(schema, name, whole=kind == "integer")
        if kind == "boolean":
            return self._boolean(name)
        return None if kind == "null" else self._string(schema, name)

    def _flattened(self, schema: Mapping[str, Any], depth: int) -> Mapping[str, Any]:
        """A schema without references and choices."""
        merged = dict(schema)
        for _ in range(20):
            merged = dict(schema)
            if "$ref" in merged:
                merged = {**self._referenced(str(merged.pop("$ref"))), **merged}
            elif "allOf" in merged:
                parts = merged.pop("allOf")
                for part in parts:
                    merged = {**merged, **self._flattened(part, depth)}
            elif choices := merged.get("anyOf") or merged.get("oneOf"):
                merged.pop("anyOf", None)
                merged.pop("oneOf", None)
                real = [c for c in choices if not (isinstance(c, Mapping) and c.get("type") == "null")]
                pick = {"type": "null"} if len(real) < len(choices) and depth >= _MAX_DEPTH else (real or choices)[0]
                merged = {**pick, **merged}
            else:
                break
            schema = merged
        if isinstance(merged.get("type"), list):
            merged["type"] = next((kind for kind in merged["type"] if kind != "null"), "null")
        return merged

    def _referenced(self, path: str) -> Mapping[str, Any]:
        """What `#/$defs/Name` names."""
        at: Any = self.root
        for part in path.removeprefix("#").strip("/").split("/"):
            if part:
                at = at.get(part.replace("~1", "/").replace("~0", "~"), {}) if isinstance(at, Mapping) else {}
        return at if isinstance(at, Mapping) else {}

    def _choice(self, values: list[Any]) -> Any:
        """The enum's value that fits the text."""
        texts = [str(value) for value in values]
        chosen = best_label(self.reading.text, texts, careful=self.reading.careful, salt=self.reading.salt)
        return values[texts.index(chosen)]

    def _object(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        """All properties, but only the required ones where the schema goes round in a circle."""
        properties = schema.get("properties") or {}
        required = schema.get("required") or []
        wanted = properties if depth < _MAX_DEPTH else {k: v for k, v in properties.items() if k in required}
        filled = {name: self.fill(sub, name, depth + 1) for name, sub in wanted.items()}
        for name in required:
            if name not in filled and depth < 2 * _MAX_DEPTH:
                filled[name] = self.fill(schema.get("additionalProperties", {}), name, depth + 1)
        return filled

    def _array(self, schema: Mapping[str, Any], name: str, depth: int) -> list[Any]:
        """Items found in the text by the property's name, within the schema's bounds."""
        least, most = int(schema.get("minItems") or 0), schema.get("maxItems")
        items = schema.get("items", {})
        flat = self._flattened(items, depth) if isinstance(items, Mapping) else {}
        count = min(most, max(least, 3)) if most is not None else max(least, 3)
        if "enum" in flat:
            values = list(flat["enum"])
            first = self._choice(values)
            pool = [first, *(v for v in values if v != first)]
            found: list[Any] = pool[: max(least, 1)]
        elif flat.get("type") == "string" and not ({"format", "pattern"} & set(flat)):
            found = [self._fitted(flat, text) for text in self._listed(name)]
        elif flat.get("type") in {"integer", "number"}:
            whole = flat["type"] == "integer"
            numbers = [float(n.replace(",", "")) for n in find("number", self.reading.text)]
            found = [self._bounded(flat, n, whole=whole) for n in numbers]
        elif depth >= _MAX_DEPTH:
            found = []
        else:
            found = [self.fill(items, name, depth + 1)]
        if schema.get("uniqueItems"):
            found = [v for i, v in enumerate(found) if v not in found[:i]]
        while len(found) < least:
            found.append(self.fill(items, f"{name} {len(found) + 1}", depth + 1))
        return found[:count] if most is not None or len(found) > count else found

    def _listed(self, name: str) -> list[str]:
        """Texts that an array of that name may hold."""
        kind = _kind_of(name)
        if kind is not None:
            return find(kind, self.reading.text)
        if re.search(r"sentence|point|step|reason", name):
            return sentences(self.reading.text)
        return keywords(self.reading.text, 5 if self.reading.careful else 3)

    def _number(self, schema: Mapping[str, Any], name: str, *, whole: bool) -> float:
        """A rating by sentiment, a count, or a number of the text."""
        low, high = _bounds(schema)
        found = [float(n.replace(",", "")) for n in find("number", self.reading.text)]
        if re.search(r"confidence|probab|certainty", name):
            value = (0.9 if self.reading.careful else 0.7) + digest(self.reading.text, self.reading.salt) % 9 / 100
            value = value if high is None or high <= 1 else value * high
        elif re.search(r"rating|score|star|sentiment|polarity|grade", name):
            feeling = max(-4, min(4, sentiment(self.reading.text, careful=self.reading.careful)))
            lowest, highest = (1.0 if low is None else low), (5.0 if high is None else high)
            value = lowest + (highest - lowest) * (feeling + 4) / 8
        elif re.search(r"word", name):
            value = float(len(words(self.reading.text)))
        elif re.search(r"char|length", name):
            value = float(len(self.reading.text))
        else:
            value = found[0] if found else float(len(words(self.reading.text)))
        return self._bounded(schema, value, whole=whole)

    def _bounded(self, schema: Mapping[str, Any], value: float, *, whole: bool) -> float:
        """A number within the schema's bounds."""
        low, high = _bounds(schema)
        step = schema.get("multipleOf") or (1 if whole else None)
        value = value if low is None else max(low, value)
        value = value if high is None else min(high, value)
        if step:
            value = round(value / step) * step
            if high is not None and value > high:
                value = math.floor(high / step) * step
            if low is not None and value < low:
                value = math.ceil(low / step) * step
        if not whole:
            value = round(value, 6)
            eps = 1e-6 if step is None else step
            if value == schema.get("exclusiveMinimum"):
                value += eps
            if value == schema.get("exclusiveMaximum"):
                value -= eps
            return value
        low_out, high_out = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
        if low_out is not None and value <= low_out:
            value += step or 1
        if high_out is not None and value >= high_out:
            value -= step or 1
        return int(value)

    def _boolean(self, name: str) -> bool:
        """True if what the name asks is in the text; sentiment if it asks nothing else."""
        asked = {w for w in re.split(r"[_\W]+", name.lower()) if w not in {"is", "has", "contains", "mentions", ""}}
        feeling = sentiment(self.reading.text, careful=self.reading.careful)
        if asked & {"negative", "complaint", "angry", "unhappy", "problem", "urgent"}:
            return feeling < 0
        for word in asked:
            if (kind := _kind_of(word)) is not None:
                return bool(find(kind, self.reading.text))
        found = set(words(self.reading.text))
        if asked & found:
            return True
        return ("question" in asked and "?" in self.reading.text) or ("question" not in asked and feeling > 0)

    def _string(self, schema: Mapping[str, Any], name: str) -> str:
        """A text by the schema's format, the property's name, else a summary."""
        text = self.reading.text
        form = schema.get("format")
        formats = {
            "email": (find("email", text), "someone@example.org"),
            "uri": (find("url", text), "https://example.org/"),
            "date": ([d for d in find("date", text) if re.fullmatch(r"\d{4}-\d\d-\d\d", d)], "2024-01-01"),
            "date-time": ([], "2024-01-01T00:00:00Z"),
            "time": ([], "12:00:00Z"),
            "uuid": ([], f"00000000-0000-4000-8000-{digest(text) % 16**12:012x}"),
        }
        if form in formats:
            found, otherwise = formats[form]
            return found[0] if found else otherwise
        kind = _kind_of(name)
        found = find(kind, text) if kind is not None else []
        if found:
            chosen = found[0]
        elif re.search(r"sentiment|feeling|mood|tone", name):
            chosen = best_label(text, ["positive", "negative", "neutral"], careful=self.reading.careful)
        elif re.search(r"topic|categor|keyword|tag|subject", name):
            chosen = (keywords(text, 1) or ["general"])[0]
        elif re.search(r"title|headline", name):
            chosen = " ".join(text.split()[:6])
        elif re.search(r"lang", name):
            chosen = "en"
        elif re.search(r"reason|explan|why|rationale|justif", name):
            chosen = f"It says: {summary(text)}"
        else:
            chosen = summary(text) if self.reading.careful else " ".join(text.split()[:12])
        return self._fitted(schema, chosen)

    def _fitted(self, schema: Mapping[str, Any], text: str) -> str:
        """A text of the schema's length and, if one of the text's words fits, of its pattern."""
        pattern = schema.get("pattern")
        if pattern is not None and not re.search(pattern, text):
            plain = f"{digest(text) % 10**12:012d}"
            tries = [
                *self.reading.text.split(),
                *keywords(text),
                *(plain[:n] for n in range(1, 13)),
                "A",
                "a",
                "AA",
                "AAA",
            ]
            text = next((t for t in tries if re.search(pattern, t)), text)
        least, most = int(schema.get("minLength") or 0), schema.get("maxLength")
        if len(text) < least:
            text = text.ljust(least, ".")
        return text if most is None else text[: int(most)]


def _bounds(schema: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """The least and greatest number that a schema names."""
    low = [schema[k] for k in ("minimum", "exclusiveMinimum") if isinstance(schema.get(k), int | float)]
    high = [schema[k] for k in ("maximum", "exclusiveMaximum") if isinstance(schema.get(k), int | float)]
    return (max(low) if low else None), (min(high) if high else None)


def _kind_of(name: str) -> str | None:
    """What a property of that name is to be found by.

    Example:
        >>> _kind_of("contact_emails"), _kind_of("colour")
        ('email', None)
    """
    lower = name.lower()
    kinds = {
        "email": "email",
        "url": "url",
        "link": "url",
        "date": "date",
        "phone": "phone",
        "hashtag": "hashtag",
        "number": "number",
        "amount": "number",
        "price": "number",
        "name": "name",
        "person": "name",
        "people": "name",
        "author": "name",
    }
    return next((kind for word, kind in kinds.items() if word in lower), None)
