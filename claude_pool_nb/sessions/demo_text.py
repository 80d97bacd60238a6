"""What the demo's model can see in a text: words, sentiment, topics, names, numbers, dates, its central sentences.

Invariant: pure functions of their arguments; the same text gives the same findings on every machine.
"""

from __future__ import annotations

import ast
import hashlib
import math
import operator
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final


def _lexicon(text: str) -> frozenset[str]:
    """The words of a list."""
    return frozenset(text.split())


_POSITIVE: Final = _lexicon(
    """
    amazing awesome beautiful best brilliant charming cheerful comfortable clean delicious delighted delightful
    easy elegant enjoy enjoyed enjoyable excellent excited exciting fabulous fantastic fast favorite favourite
    fine friendly fun generous glad good gorgeous grateful great happy helpful impressive impressed incredible
    interesting joy kind like liked love loved lovely loves magnificent marvellous nice outstanding perfect
    pleasant pleased polite positive praise quick recommend recommended reliable satisfied smooth splendid
    stunning sturdy super superb sweet terrific thank thanks thrilled useful warm win wins won wonderful works
    worth
    """
)
_NEGATIVE: Final = _lexicon(
    """
    angry annoyed annoying appalling avoid awful bad bland boring broke broken bug bugs buggy cold complain
    complaint confusing crash crashed crashes crashing cruel cry damaged defective delay delayed difficult dirty
    disappointed disappointing disappointment disaster disgusting dreadful dull error expensive fail failed
    fails failure fault faulty flimsy frustrated frustrating garbage hate hated hates horrible hurt junk late
    lost mess mistake mistakes negative never noisy nightmare overpriced pain poor problem problems refund rude
    sad scam slow sorry stupid terrible tasteless ugly unacceptable unhappy unhelpful unusable upset useless
    waste wasted weak worse worst wrong
    """
)
_NEGATIONS: Final = _lexicon(
    """
    not no never isn't wasn't aren't don't doesn't didn't can't cannot won't hardly nothing without
    """
)
_TOPICS: Final[dict[str, frozenset[str]]] = {
    name: _lexicon(words)
    for name, words in {
        "account": "account login password username sign profile locked email reset",
        "billing": "bill billing invoice charge charged payment paid pay refund card price subscription money",
        "bug": "bug crash crashes crashed error broken fails exception freeze traceback wrong",
        "business": "company market stock profit sales ceo revenue startup shares merger bank economy",
        "complaint": "complaint angry terrible awful refund disappointed unacceptable late broken rude",
        "entertainment": "film movie music song actor series concert album show celebrity game",
        "feature": "feature add wish would could please support request option dark export",
        "food": "food pizza dinner restaurant meal taste soup bread cook recipe coffee delicious",
        "health": "health doctor hospital disease medicine vaccine patient symptoms diet virus",
        "politics": "government election minister president parliament vote law senate policy party",
        "praise": "great love excellent amazing thanks wonderful perfect best",
        "question": "how what when where why which who can could",
        "science": "science research study physics biology planet species experiment telescope atoms",
        "shipping": "shipping delivery package parcel arrived courier tracking shipped order delayed late",
        "spam": "winner prize free click offer viagra lottery urgent cash guaranteed claim",
        "sports": "match team goal player coach season league tournament score football tennis olympic",
        "technical": "error crash install server code software update login bug screen app connection",
        "technology": "software computer phone app ai chip internet code robot data startup",
        "travel": "travel flight hotel airport beach trip train holiday tourist visa museum",
        "urgent": "urgent asap immediately now emergency today outage down critical",
    }.items()
}
_STOP: Final = _lexicon(
    """
    a about after all also an and any are as at be because been before being between both but by can could did
    do does doing down each few for from further had has have having he her here hers him his how i if in into
    is it its itself just me more most my no nor not now of off on once one only or other our out over own same
    she should so some such than that the their them then there these they this those through to too under until
    up very was we were what when where which while who why will with would you your please write tell give make
    """
)
WORD: Final = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_SENTENCE: Final = re.compile(r"(?:[^.!?\n]|[.!?](?=\S))+[.!?]*")
FINDERS: Final[dict[str, re.Pattern[str]]] = {
    "email": re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+"),
    "url": re.compile(r"https?://[^\s<>\"')\]]{1,500}[^\s<>\"')\].,;:!?]"),
    "date": re.compile(
        r"\b\d{4}-\d{2}-\d{2}\b|\b\d{1,2}[./]\d{1,2}[./]\d{2,4}\b|"
        r"\b(?:\d{1,2}(?:st|nd|rd|th)? )?(?:January|February|March|April|May|June|July|August|September|October|"
        r"November|December)(?: \d{1,2}(?:st|nd|rd|th)?)?(?:,? \d{4})?\b"
    ),
    "phone": re.compile(r"\+?\d[\d ()-]{6,18}\d"),
    "hashtag": re.compile(r"#\w+"),
    "number": re.compile(r"(?<![\w.])-?\d+(?:,\d{3})*(?:\.\d+)?(?![\w])"),
    "name": re.compile(r"\b[A-Z][a-zà-ÿ]+(?: (?:van |de |von )?[A-Z][a-zà-ÿ]+)*"),
}


def digest(*parts: object) -> int:
    """A number that depends on nothing but the parts.

    Example:
        >>> digest("a", 1) == digest("a", 1), digest("a", 1) == digest("a", 2)
        (True, False)
    """
    text = "\x1f".join(map(str, parts)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def words(text: str) -> list[str]:
    """The words of a text, in lower case.

    Example:
        >>> words("Don't panic!")
        ["don't", 'panic']
    """
    return [word.lower() for word in WORD.findall(text)]


def sentences(text: str) -> list[str]:
    """Its sentences.

    Example:
        >>> sentences("One. Two? Three")
        ['One.', 'Two?', 'Three']
    """
    return [sentence for found in _SENTENCE.findall(text) if WORD.search(sentence := found.strip())]


def keywords(text: str, count: int = 5) -> list[str]:
    """Its most frequent words that mean something, the earlier first among equals.

    Example:
        >>> keywords("The rust on the iron gate and the iron door", 2)
        ['iron', 'rust']
    """
    counted = Counter(word for word in words(text) if word not in _STOP and len(word) > 2)
    return [word for word, _ in counted.most_common(count)]


def sentiment(text: str, *, careful: bool) -> int:
    """How a text sounds: above 0 positive, below 0 negative.

    Args:
        text: The text.
        careful: Mind negations and what comes after a "but"; the small model does not.

    Example:
        >>> sentiment("not good", careful=True), sentiment("not good", careful=False)
        (-2, 2)
    """
    score, negated_for, weight = 0, 0, 2
    for word in words(text.replace("’", "'")):
        if careful and word in _NEGATIONS:
            negated_for = 3
            continue
        if careful and word in {"but", "however", "although"}:
            weight, negated_for = 3, 0
        sign = (word in _POSITIVE) - (word in _NEGATIVE)
        score += -sign * weight if negated_for else sign * weight
        negated_for = max(0, negated_for - 1)
    return score


def summary(text: str, *, count: int = 1) -> str:
    """Its most central sentences, in their order.

    Example:
        >>> summary("Cats sleep a lot. Cats and dogs sleep and cats purr. It rains.")
        'Cats and dogs sleep and cats purr.'
    """
    all_sentences = sentences(text)[:200]
    frequent = Counter(word for word in words(text) if word not in _STOP)

    def weight(sentence: str) -> float:
        found = {word for word in words(sentence) if word not in _STOP}
        return sum(frequent[word] for word in found) / math.sqrt(1 + len(found))

    best = sorted(range(len(all_sentences)), key=lambda i: (-weight(all_sentences[i]), i))[:count]
    return " ".join(all_sentences[i] for i in sorted(best)) or text.strip()[:200]


def find(kind: str, text: str) -> list[str]:
    """All emails, urls, dates, phones, hashtags, numbers or names of a text, each once.

    Example:
        >>> find("email", "ada@example.org and bob@example.org"), find("name", "Ask Ada Lovelace in London.")
        (['ada@example.org', 'bob@example.org'], ['Ada Lovelace', 'London'])
    """
    found = list(dict.fromkeys(FINDERS[kind].findall(text)))
    return _proper_names(found, text) if kind == "name" else found


def _proper_names(found: Sequence[str], text: str) -> list[str]:
    """Names, without words that are capital only because they begin a sentence."""
    names = []
    for name in found:
        first, _, rest = name.partition(" ")
        begins = any(sentence.startswith(first) for sentence in sentences(text))
        known_verb = first.lower() in _STOP or first in _OPENERS
        kept = rest if begins and known_verb else name
        feeling = begins and not rest and first.lower() in (_POSITIVE | _NEGATIVE)
        if kept and not feeling and kept.lower() not in _STOP:
            names.append(kept)
    return list(dict.fromkeys(names))


_OPENERS: Final = _lexicon(
    """
    Ask Call Meet Write See Dear Hello Hi Extract From Contact Then Yesterday Today Tomorrow
    """
)


def best_label(text: str, labels: Sequence[str], *, careful: bool, salt: object = "") -> str:
    """The label that fits a text: by sentiment, by topic, by the label's own words, else by lot.

    Example:
        >>> best_label("the parcel arrived late", ["billing", "shipping"], careful=True)
        'shipping'
        >>> best_label("I love it", ["positive", "negative"], careful=True)
        'positive'
    """
    feeling = sentiment(text, careful=careful)
    by_feeling = {_feeling_of(label): label for label in labels if _feeling_of(label) is not None}
    if {1, -1} <= set(by_feeling):
        sign = (feeling > 0) - (feeling < 0)
        return by_feeling.get(sign) or by_feeling[1 if digest(text) % 2 else -1]
    found = set(words(text))
    scores = []
    for label in labels:
        own = set(words(label.replace("_", " ")))
        topic = set().union(*(known for name, known in _TOPICS.items() if any(_same(name, word) for word in own)))
        scores.append(2 * len(own & found) + len(topic & found))
    if max(scores) > 0:
        return labels[scores.index(max(scores))]
    return labels[digest(text, salt, *labels) % len(labels)]


def _same(topic: str, word: str) -> bool:
    """Whether a label's word names a topic: `sport` is `sports`, `tech` is `technology`."""
    return len(word) >= 3 and (topic.startswith(word.rstrip("s")) or word.startswith(topic.rstrip("s")))


def _feeling_of(label: str) -> int | None:
    """The sign that a label stands for, if it is one of sentiment."""
    word = label.strip().lower()
    if word in {"positive", "pos", "good", "happy", "yes", "true", "satisfied", "like", "+"}:
        return 1
    if word in {"negative", "neg", "bad", "unhappy", "sad", "no", "false", "unsatisfied", "dislike", "-"}:
        return -1
    return 0 if word in {"neutral", "mixed", "neither", "unclear"} else None


_OPERATORS: Final[dict[type[ast.operator] | type[ast.unaryop], Callable[..., float]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.USub: operator.neg,
}
_EXPRESSION: Final = re.compile(
    r"[(\s-]*\d[\d.\s()]*(?:(?:\*|/|\+|-|%|×|÷|plus|minus|times|divided by)[\s\d.()-]*\d[\s\d.()]*)+"
)


def arithmetic(text: str) -> str | None:
    """The value of the first sum, difference, product or quotient in a text.

    Example:
        >>> arithmetic("What is 17 times (2 + 3)?"), arithmetic("no sum here"), arithmetic("1/0")
        ('85', None, None)
    """
    match = _EXPRESSION.search(text[:500])
    if match is None:
        return None
    expression = match.group().replace("×", "*").replace("÷", "/").replace("plus", "+").replace("minus", "-")
    expression = expression.replace("times", "*").replace("divided by", "/").strip()
    try:
        value = _value(ast.parse(expression, mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return str(int(value)) if value == int(value) else f"{value:.6g}"


def _value(node: ast.expr) -> float:
    """The value of a parsed expression of numbers."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return node.value
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value(node.left), _value(node.right))
    if isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_value(node.operand))
    raise ValueError(node)
