"""The demo's model: a prompt in, an answer out; no network, no account, no learning.

It classifies (sentiment, topics, labels named in the prompt), extracts (emails, urls, dates, numbers, names),
summarises, counts, does sums, writes a haiku, repeats, remembers names within a conversation, follows a JSON schema,
and otherwise says something about the topic. Invariant: a pure function; the same prompt, model, sample and history
give the same answer everywhere. `demo-large` minds negations and is wrong less often than `demo-small`, which also
breaks the form of a schema now and then.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from claude_pool_nb.sessions.demo_schema import Reading, instance
from claude_pool_nb.sessions.demo_text import (
    arithmetic,
    best_label,
    digest,
    find,
    keywords,
    sentences,
    sentiment,
    summary,
    words,
)

ERRORS_PER_MILLE: Final = {"demo-small": 60, "demo-large": 10}
"""How many labels of a thousand are wrong, beyond what the small model misreads."""

BROKEN_PER_MILLE: Final = {"demo-small": 20, "demo-large": 0}
"""How many structured answers of a thousand do not fit their schema."""

_MARKER: Final = re.compile(r"\[demo:([a-z]+)(?:=(\d+(?:\.\d+)?))?\]")

MARKERS: Final = {
    "slow": "the answer takes 3 s (or [demo:slow=SECONDS])",
    "hang": "there is no answer until the turn is stopped",
    "fail": "the request is refused (400), every time",
    "flaky": "the first try fails (503), the next one works",
    "limit": "the first try meets a rate limit (429), the next one works",
    "crash": "the session is lost on the first try, the next one works",
    "auth": "the key is refused (401) the first time",
    "deny": "a tool call is denied, and told in the result",
}
"""What a prompt can hold to make things go wrong on purpose."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One earlier turn of the conversation."""

    prompt: str
    answer: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model says."""

    text: str
    """The answer; JSON text with a schema."""
    structured: Any = None
    """The same as data, with a schema."""
    broken: bool = False
    """True if it does not fit the schema."""


def markers(prompt: str) -> dict[str, float | None]:
    """The markers in a prompt, with their values.

    Example:
        >>> markers("hello [demo:slow=0.5]")
        {'slow': 0.5}
    """
    if "[demo:" not in prompt:
        return {}
    return {name: float(value) if value else None for name, value in _MARKER.findall(prompt) if name in MARKERS}


def answer(
    prompt: str,
    *,
    model: str,
    history: Sequence[Exchange] = (),
    schema: str | None = None,
    sample: int = 0,
) -> Answer:
    """Answer a prompt.

    Args:
        prompt: The prompt.
        model: `demo-small` or `demo-large`.
        history: Earlier turns of the conversation, oldest first.
        schema: JSON schema of the answer, as JSON text.
        sample: Which sample: answers with some freedom in them vary with it.

    Example:
        >>> answer("Classify the sentiment: I love this", model="demo-large").text
        'positive'
        >>> answer("What is my name?", model="demo-small", history=[Exchange("My name is Ada.", "Hello Ada!")]).text
        'Your name is Ada.'
    """
    prompt = _MARKER.sub("", prompt).strip()
    careful = model != "demo-small"
    instruction, material = split(prompt)
    if schema is None:
        return Answer(_say(prompt, instruction, material, model, careful, history, sample))
    reading = Reading(material or prompt, careful, sample)
    value = instance(_parsed(schema), reading)
    broken = digest("broken", model, prompt, sample) % 1000 < BROKEN_PER_MILLE.get(model, 0)
    if broken and isinstance(value, dict) and value:
        value.pop(next(reversed(value)))
        return Answer(json.dumps(value, ensure_ascii=False), value, broken=True)
    return Answer(json.dumps(value, ensure_ascii=False), value)


@lru_cache(maxsize=64)
def _parsed(schema: str) -> dict[str, Any]:
    """A schema's JSON text as data; the same few come again and again."""
    parsed: dict[str, Any] = json.loads(schema)
    return parsed


def split(prompt: str) -> tuple[str, str]:
    """What is asked, and the text it is asked about.

    Example:
        >>> split("Summarise this: The cat sat.")
        ('Summarise this', 'The cat sat.')
        >>> split("write a haiku")
        ('write a haiku', '')
    """
    head = prompt[:400]
    cuts = [at for at in (head.find(": "), head.find(":\n"), head.find("\n")) if at > 0]
    if cuts:
        at = min(cuts)
        rest = prompt[at + 1 :].strip().strip("\"'“”")
        if len(WORDY.findall(prompt[:at])) > 1 or _asks(prompt[:at]):
            return prompt[:at].strip(), rest
        if rest:
            last = rest.rsplit("\n", 1)[-1]
            return (last, rest) if _asks(last) else (prompt[:at].strip(), rest)
    quoted = re.search(r"[\"“]([^\"”]{2,})[\"”]", prompt)
    if quoted:
        return (prompt[: quoted.start()] + prompt[quoted.end() :]).strip(), quoted.group(1)
    return prompt, ""


WORDY: Final = re.compile(r"\w+")
_ASKS: Final = re.compile(
    r"classif|categor|sentiment|label|extract|find|list|summar|tl;?dr|count|how many|translate|haiku|what|repeat|rate|"
    r"positive|negative|answer|write|describe|explain",
    re.IGNORECASE,
)


def _asks(text: str) -> bool:
    """Whether a text says what to do."""
    return _ASKS.search(text) is not None


def _say(
    prompt: str,
    instruction: str,
    material: str,
    model: str,
    careful: bool,
    history: Sequence[Exchange],
    sample: int,
) -> str:
    """The answer in words."""
    asked = instruction.lower()
    text = material or prompt
    remembered = _recall(prompt, history)
    if remembered is not None:
        return remembered
    if repeated := re.match(
        r"(?:please )?(?:repeat after me|repeat|echo|say(?: exactly)?|reply with(?: exactly)?)\b:?\s*(.+)",
        prompt,
        re.IGNORECASE | re.DOTALL,
    ):
        return repeated.group(1).strip().strip("\"'")
    if "haiku" in asked:
        return _haiku(_topic(prompt), digest(prompt, model, sample))
    if "limerick" in asked:
        return _limerick(_topic(prompt), digest(prompt, model, sample))
    if re.search(r"\b(poem|verse|sonnet)\b", asked):
        return _poem(_topic(prompt), digest(prompt, model, sample))
    if re.search(r"\brate\b|\brating\b|\bstars?\b", asked) and (scale := re.search(r"(\d+)\D{1,4}(\d+)", asked)):
        return _rated(text, int(scale.group(1)), int(scale.group(2)), careful)
    if re.search(r"sentiment|classif|categor|positive or negative|label|which of|spam", asked):
        return _classified(instruction, material or prompt, model, careful, sample)
    if (extracted := _extracted(asked, text, careful)) is not None:
        return extracted
    if re.search(r"summar|tl;?dr|in one sentence|key point|main idea|shorten", asked):
        return summary(text, count=2 if careful and len(sentences(text)) > 4 else 1)
    if (counted := _counted(asked, text)) is not None:
        return counted
    if re.search(r"translat", asked):
        return "Translating is beyond a demo. On a real account the same line would be translated."
    if (
        re.search(r"what|calculat|comput|how much|solve|\d\s*[*+/×-]\s*\d", asked)
        and (value := arithmetic(prompt)) is not None
    ):
        return value
    if introduced := _NAME.search(prompt):
        return f"Hello {introduced.group(1)}!"
    if re.match(r"\W*(hello|hi|hey|good (morning|evening))\b", asked):
        return ("Hello! What shall we try?", "Hi there. What shall we try?")[digest(prompt, sample) % 2]
    if re.match(r"\W*ping\b", asked):
        return "pong"
    return _about(_topic(prompt), careful, digest(prompt, model, sample))


_NAME: Final = re.compile(r"\b(?:[Mm]y name is|I am called|[Cc]all me)\s+([A-Z][\w-]+)")
_FACT: Final = re.compile(r"\b(?:[Mm]y|[Tt]he) ([\w ]{2,30}?) is ([^.!?\n]{1,80})")


def _recall(prompt: str, history: Sequence[Exchange]) -> str | None:
    """What was told earlier in this conversation, if that is asked."""
    if asked := re.search(r"\bwhat(?:'s| is| was) (?:my|the) ([\w ]{2,30})\?", prompt, re.IGNORECASE):
        what = asked.group(1).strip().lower()
        for exchange in reversed(history):
            if what == "name" and (named := _NAME.search(exchange.prompt)):
                return f"Your name is {named.group(1)}."
            for part in re.split(r"[.!?\n]|, | and ", exchange.prompt):
                fact = _FACT.search(part)
                if fact is not None and fact.group(1).strip().lower() == what:
                    return f"You said it is {fact.group(2).strip()}."
        if re.search(rf"\bwhat(?:'s| is| was) my {re.escape(what)}", prompt, re.IGNORECASE):
            return f"You have not told me your {what}."
    if re.search(r"\bwhat did I (?:say|ask|tell you)", prompt, re.IGNORECASE):
        return f"You said: {history[-1].prompt[:200]}" if history else "This is the first thing you have said to me."
    return None


def _classified(instruction: str, text: str, model: str, careful: bool, sample: int) -> str:
    """A label: one of those the instruction names, else a sentiment."""
    labels = labels_in(instruction)
    named = bool(labels)
    if not labels:
        labels = ["spam", "not spam"] if "spam" in instruction.lower() else ["positive", "negative", "neutral"]
    if named or labels[0] == "spam":
        chosen = best_label(text, labels, careful=careful, salt=0)
    else:
        feeling = sentiment(text, careful=careful)
        chosen = "positive" if feeling > 0 else "negative" if feeling < 0 else "neutral"
    if digest("error", model, text, sample) % 1000 < ERRORS_PER_MILLE.get(model, 0):
        chosen = labels[(labels.index(chosen) + 1) % len(labels)]
    return chosen


_LABELS: Final = re.compile(
    r"(?:one of|\bas|into|either|labels?|categories|classes|whether it is|options|one word)\b"
    r"(?: (?:either|one of))?[\s:(]*"
    r"([\w' -]+(?:\s*(?:,|/|\||\bor\b|\band\b)\s*[\w' -]+)+)",
    re.IGNORECASE,
)


def labels_in(instruction: str) -> list[str]:
    """The labels that an instruction names.

    Example:
        >>> labels_in("Classify this ticket as bug, feature or billing")
        ['bug', 'feature', 'billing']
    """
    match = _LABELS.search(instruction)
    if match is None:
        return []
    parts = re.split(r"\s*(?:,|/|\||\bor\b|\band\b)\s*", match.group(1))
    labels = [part.strip(" '.") for part in parts if 0 < len(part.split()) <= 3]
    return list(dict.fromkeys(label for label in labels if label)) if len(labels) > 1 else []


def _extracted(asked: str, text: str, careful: bool) -> str | None:
    """What was asked to be found, joined by commas."""
    if not re.search(r"extract|find|list|which|what|pull out|get", asked):
        return None
    kinds = {
        "email": r"e-?mail",
        "url": r"\burls?\b|\blinks?\b|web address",
        "date": r"\bdates?\b",
        "phone": r"phone",
        "hashtag": r"hashtag",
        "number": r"\bnumbers?\b|amounts?\b|prices?\b",
        "name": r"\bnames?\b|people|persons?\b",
    }
    wanted = [kind for kind, pattern in kinds.items() if re.search(pattern, asked)]
    if re.search(r"keyword|topics\b", asked):
        return ", ".join(keywords(text, 5 if careful else 3))
    if not wanted or re.search(r"what (?:is|'s) (?:my|your)", asked):
        return None
    found = [item for kind in wanted for item in find(kind, text)]
    if not careful and len(found) > 3:
        found = found[:-1]  # the small model loses the last of a long list
    return ", ".join(found) or "none"


def _counted(asked: str, text: str) -> str | None:
    """How many of something there are."""
    if not re.search(r"how many|count|number of", asked):
        return None
    if "sentence" in asked:
        return str(len(sentences(text)))
    if re.search(r"character|letter", asked):
        return str(len(text))
    if re.search(r"line", asked):
        return str(len(text.splitlines()))
    return str(len(words(text))) if "word" in asked else None


_FIVE: Final = (
    "and the day begins",
    "nothing asks for more",
    "one lamp stays awake",
    "the tide remembers",
    "then silence answers",
)
_SEVEN: Final = (
    "leaves are turning one by one",
    "a river carries the light",
    "slow clouds over the mountain",
    "the window keeps the evening",
    "somebody opens a door",
)
_OPENINGS: Final = {1: "{}, soft and silent", 2: "{} in the rain", 3: "{} at dawn", 4: "{} now", 5: "{}"}


def _haiku(topic: str, lot: int) -> str:
    """Five, seven, five syllables."""
    opening = _OPENINGS.get(_syllables(topic), "a thought comes to rest").format(topic)
    lines = (opening, _SEVEN[lot % len(_SEVEN)], _FIVE[lot // 7 % len(_FIVE)])
    return "\n".join(line[:1].upper() + line[1:] for line in lines)


def _poem(topic: str, lot: int) -> str:
    """Four lines."""
    lines = (f"{topic}, and nobody near", _SEVEN[lot % 5], _SEVEN[(lot + 2) % 5], _FIVE[lot // 7 % 5])
    return "\n".join(line[:1].upper() + line[1:] for line in lines)


_LIMERICKS: Final = (
    "{0} set out in the early light,\nand talked to itself half the night.\n“I could stop,” it would say,\n"
    "“but I’ll stay one more day,\nas nobody’s told me I’m right.”",
    "They asked once what {1} was for,\nand it said: “for opening a door.”\nThey knocked; it was shut.\n"
    "“It does open, but\nnot if it was open before.”",
)


def _limerick(topic: str, lot: int) -> str:
    """Five lines."""
    return _LIMERICKS[lot % len(_LIMERICKS)].format(topic[:1].upper() + topic[1:], topic)


def _rated(text: str, low: int, high: int, careful: bool) -> str:
    """A number on a scale, by sentiment."""
    feeling = max(-4, min(4, sentiment(text, careful=careful)))
    return str(round(low + (high - low) * (feeling + 4) / 8))


def _syllables(text: str) -> int:
    """About how many syllables a text has."""
    total = 0
    for word in words(text):
        groups = len(re.findall(r"[aeiouyà-ÿ]+", word))
        silent = word.endswith("e") and not word.endswith(("le", "ee")) and groups > 1
        total += max(1, groups - silent)
    return total


_FORMS: Final = frozenset({"haiku", "poem", "limerick", "verse", "sonnet"})
_TOPIC: Final = re.compile(
    r"\b(?:about|on|of|for|explain|describe|is|are|called)\s+(?:the |an? |what |how )?([^\n.?!,:;]{2,60})",
    re.IGNORECASE,
)


def _topic(prompt: str) -> str:
    """What a prompt is about, in a few words."""
    match = _TOPIC.search(prompt)
    topic = match.group(1) if match else " ".join(w for w in keywords(prompt, 3) if w not in _FORMS)
    return " ".join(topic.split()[:4]) or "a quiet room"


def _about(topic: str, careful: bool, lot: int) -> str:
    """Something to say about a topic, recognisably made of nothing."""
    openings = (
        f"A short note on {topic}.",
        f"Here is what can be said about {topic}.",
        f"Let us look at {topic}.",
        f"{topic[:1].upper()}{topic[1:]}, in brief.",
    )
    middles = (
        "It is easiest to see in a small example, and the example is easiest to keep when it is your own.",
        "It has two sides, and most mistakes come from seeing only one of them.",
        "It began as a simple idea; what grew around it is mostly names for its parts.",
        "What matters is what goes in, what comes out, and what must never change in between.",
    )
    endings = (
        "Try the smallest case first.",
        "Measure before you believe it.",
        "The rest is patience.",
        "A good question is half of it.",
    )
    parts = [openings[lot % 4], middles[lot // 4 % 4]]
    if careful:
        parts.append(endings[lot // 16 % 4])
    return " ".join(parts)
