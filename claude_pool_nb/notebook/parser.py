"""How a `%pool` line is read.

Three kinds of verbs. *Words* are read as a shell would. A *prompt* is taken verbatim: options first, then the rest of
the line, or the body of the cell; `--` ends the options. An *expression* is Python: options may stand on either side.

Invariants: a prompt reaches the model byte for byte; a wrong line is one `UsageError` that names the nearest right
word, raised before anything is started or spent.
"""

from __future__ import annotations

import argparse
import keyword
import math
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, NoReturn

from IPython.core.error import UsageError

_OPTION = re.compile(r"--?[A-Za-z][\w-]*(?==|\s|$)|--?[A-Za-z][\w-]*")
_VERB = re.compile(r"\s*(\S+)[ \t]?")
_TOKEN = re.compile(r"""(?:[^\s"'\\]|\\.|"(?:[^"\\]|\\.)*"|'[^']*')+""", re.DOTALL)
_APOSTROPHE = re.compile(r"""("(?:[^"\\]|\\.)*")|(?<=[^\W\d_])'(?=[^\W\d_])""", re.DOTALL)
"""An apostrophe within a word; first what stands in quotation marks, which is left as it is."""


class Takes(StrEnum):
    """What stands beside a verb's options."""

    WORDS = "words"
    PROMPT = "prompt"
    EXPRESSION = "expression"


class _Help(argparse.RawDescriptionHelpFormatter):
    """The same help in every version of Python: from 3.13 on argparse names an option's value once, before that twice.

    A notebook that was saved with one version is compared with what another one says.
    """

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        value = self._format_args(action, self._get_default_metavar_for_optional(action))
        return ", ".join(f"{option} {value}" for option in action.option_strings)


class VerbParser(argparse.ArgumentParser):
    """The options of one verb.

    Example:
        >>> parser = VerbParser("scale", "Change the number of slots.")
        >>> _ = parser.add_argument("slots", type=int)
        >>> parser.read("8").slots
        8
    """

    def __init__(
        self,
        verb: str,
        description: str,
        *,
        takes: Takes = Takes.WORDS,
        text_name: str = "TEXT",
        text_help: str = "",
        cell: str = "",
    ) -> None:
        super().__init__(
            prog=f"%pool {verb}",
            description=description,
            add_help=False,
            allow_abbrev=False,
            formatter_class=_Help,
        )
        # From 3.14 on argparse colours its help, for ipykernel sets FORCE_COLOR: pages would show the codes.
        self.color = False
        self.verb = verb
        self.takes = takes
        self.cell = cell
        self.text_name = text_name
        self.text_help = text_help
        self._verbatim: set[str] = set()
        self._offered: dict[str, tuple[str, ...]] = {}

    # -- what argparse calls -------------------------------------------------------------------------------------------

    def error(self, message: str) -> NoReturn:
        """A wrong line is IPython's own error for it, on one line."""
        raise UsageError(f"%pool {self.verb}: {message} (see %pool help {self.verb})")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Like argparse's, with the nearest choice."""
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(action, f"there is no {value!r}{did_you_mean(str(value), action.choices)}")

    # -- reading -------------------------------------------------------------------------------------------------------

    def read(self, line: str, cell: str | None = None) -> argparse.Namespace:
        """Read what stands after the verb, and the cell's body.

        Raises:
            UsageError: if the line is wrong.
        """
        if cell is not None and not self.cell:
            self.error(f"it has no cell form: write %pool {self.verb} on one line")
        if self.takes is Takes.WORDS:
            return self._parse(_split(self, line))
        if self.takes is Takes.PROMPT:
            tokens, text = self.leading(line)
        else:
            tokens, rest = self.leading(line)
            text, trailing = self._trailing(rest)
            tokens += trailing
        arguments = self._parse(tokens)
        if cell is not None:
            if text.strip() and self.cell == "only":
                self.error(f"the text stands below the first line, not beside it: {text.strip()[:40]!r}")
            arguments.text, arguments.head = cell, text.strip()
        else:
            arguments.text, arguments.head = text, ""
        return arguments

    def _parse(self, tokens: Sequence[str]) -> argparse.Namespace:
        arguments, unknown = self.parse_known_args(list(tokens))
        for word in unknown:
            if word.startswith("-") and word != "-":
                self.refuse(word.split("=", 1)[0])
        if unknown:
            self.error(f"it takes no {' '.join(unknown)!r}")
        return arguments

    def refuse(self, option: str) -> NoReturn:
        """Say that there is no such option, and which one was meant."""
        meant = did_you_mean(option, self.options())
        if self.takes is Takes.PROMPT and not meant:
            meant = "; before a prompt that begins with a dash write --"
        self.error(f"there is no option {option}{meant}")

    def options(self) -> list[str]:
        """All long options, and short ones."""
        return sorted(self._option_string_actions)

    def action_of(self, option: str) -> argparse.Action | None:
        """The action behind an option string."""
        return self._option_string_actions.get(option)

    def offer(self, action: argparse.Action, words: Iterable[str]) -> None:
        """Have these words completed after an option that takes others too."""
        self._offered[action.dest] = tuple(words)

    def offered(self, option: str) -> tuple[str, ...]:
        """The words that are completed after an option."""
        action = self.action_of(option)
        if action is None:
            return ()
        return tuple(map(str, action.choices)) if action.choices is not None else self._offered.get(action.dest, ())

    def takes_value(self, option: str) -> bool:
        """Whether an option is followed by a value."""
        action = self.action_of(option)
        return action is not None and action.nargs != 0

    def take_verbatim(self, *actions: argparse.Action) -> None:
        """Read the values of these options as Python is: up to the first blank outside brackets and quotation marks."""
        self._verbatim.update(action.dest for action in actions)

    def placed(self, before: str) -> argparse.Action | None:
        """What stands behind `before`, if it is no option: the next of the words that the verb takes in their order.

        Example:
            >>> parser = VerbParser("plot", "")
            >>> for name in ("kind", "run"):
            ...     _ = parser.add_argument(name)
            >>> _ = parser.add_argument("--save")
            >>> parser.placed("--save a.png gantt ").dest
            'run'
        """
        count, is_value = 0, False
        for word in before.split():
            if is_value:
                is_value = False
            elif word.startswith("-"):
                is_value = "=" not in word and self.takes_value(word)
            else:
                count += 1
        places = self._get_positional_actions()
        return places[count] if count < len(places) else None

    def leading(self, line: str) -> tuple[list[str], str]:
        """Options at the beginning of a line, and the text after them, verbatim.

        Example:
            >>> parser = VerbParser("run", "", takes=Takes.PROMPT)
            >>> _ = parser.add_argument("-m", "--model")
            >>> parser.leading('-m haiku say "hi"  --model')
            (['-mhaiku'], 'say "hi"  --model')
        """
        tokens: list[str] = []
        at = 0
        while True:
            at += len(line[at:]) - len(line[at:].lstrip(" \t"))
            if line.startswith("--", at) and (at + 2 == len(line) or line[at + 2] in " \t"):
                return tokens, line[at + 3 :]
            found = _OPTION.match(line, at)
            if not found:
                return tokens, line[at:]
            at = self._one_option(line, at, tokens)

    def _one_option(self, line: str, at: int, tokens: list[str]) -> int:
        """Read one option and its value at `at`; returns where it ends."""
        token = _TOKEN.match(line, at)
        if token is None:
            self.error(f"a quotation mark is missing after {line[at : at + 20]!r}")
        raw = token.group()
        option = raw.split("=", 1)[0]
        if self.action_of(option) is None:
            self.refuse(option)
        action = self.action_of(option)
        if action is not None and action.dest in self._verbatim:
            return self._one_verbatim(line, at + len(option), option, tokens)
        tokens.extend(_unquote(self, raw))
        at = token.end()
        if self.takes_value(option) and "=" not in raw:
            rest = line[at:]
            start = at + len(rest) - len(rest.lstrip(" \t"))
            value = _TOKEN.match(line, start)
            if value is None and line[start:].strip():
                self.error(f"a quotation mark is missing after {option}")
            if value is None:
                self.error(f"{option} needs a value")
            # Written as one word, so that a value may begin with a dash.
            option_word = tokens.pop()
            text = _unquote(self, value.group())
            tokens.append(f"{option_word}={text[0]}" if option.startswith("--") else f"{option_word}{text[0]}")
            at = value.end()
        return at

    def _one_verbatim(self, line: str, at: int, option: str, tokens: list[str]) -> int:
        """Read the value of an option that is taken as it is written."""
        if line.startswith("=", at):
            at += 1
        else:
            at += len(line[at:]) - len(line[at:].lstrip(" \t"))
        end = _end_of_value(line, at)
        if end == at:
            self.error(f"{option} needs a value")
        value = line[at:end]
        if value[0] in "\"'" and _end_of_quote(value, 0) == len(value):
            value = value[1:-1]
        tokens.append(f"{option}={value}")
        return end

    def _trailing(self, text: str) -> tuple[str, list[str]]:
        """Split the options off the end of a Python expression."""
        cut = _first_option(text, set(self._option_string_actions))
        if cut is None:
            return text.strip(), []
        tokens: list[str] = []
        at = cut
        while at < len(text):
            rest = text[at:]
            at += len(rest) - len(rest.lstrip())
            if at >= len(text):
                break
            if not _OPTION.match(text, at):
                self.error(f"{text[at : at + 30].strip()!r} stands behind the options; put the expression before them")
            at = self._one_option(text, at, tokens)
        return text[:cut].strip(), tokens

    def help_text(self) -> str:
        """What `%pool help VERB` shows."""
        beside = [self.text_name] if self.text_help else []
        beside += [
            f"[{action.metavar}]" if action.nargs == "?" else str(action.metavar)
            for action in self._get_positional_actions()
        ]
        # argparse's own usage lists every option twice.
        self.usage = " ".join([f"%(prog)s [options] {' '.join(beside)}".rstrip()])
        text = self.format_help().rstrip()
        return f"{text}\n\n{self.text_name}: {self.text_help}" if self.text_help else text


def _split(parser: VerbParser, line: str) -> list[str]:
    """Shell-like words, but for apostrophes: what stands between two letters quotes nothing."""
    try:
        return shlex.split(_APOSTROPHE.sub(lambda found: found.group(1) or r"\'", line))
    except ValueError:
        pass  # there it began a quotation after all, as in f'...'
    try:
        return shlex.split(line)
    except ValueError as error:
        parser.error(f"{str(error).lower()}: {line.strip()!r}")


def _unquote(parser: VerbParser, raw: str) -> list[str]:
    """One shell-like token without its quotation marks."""
    if '"' not in raw and "'" not in raw:
        return [raw]
    return [" ".join(_split(parser, raw))]


def _end_of_quote(text: str, at: int) -> int:
    """Where the text that begins with a quotation mark at `at` ends; the end of all if it is not closed."""
    quote = text[at] * 3 if text.startswith(text[at] * 3, at) else text[at]
    at += len(quote)
    while at < len(text):
        if text[at] == "\\":
            at += 2
        elif text.startswith(quote, at):
            return at + len(quote)
        else:
            at += 1
    return len(text)


def _end_of_value(text: str, at: int) -> int:
    """Where a value ends: at the first blank outside brackets and quotation marks.

    Example:
        >>> _end_of_value("df[df.x > 'a b'] --n 3", 0)
        16
    """
    depth = 0
    while at < len(text):
        character = text[at]
        if character in "\"'":
            at = _end_of_quote(text, at)
            continue
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif character.isspace() and depth <= 0:
            break
        at += 1
    return at


def _first_option(text: str, known: set[str]) -> int | None:
    """Where the first option behind an expression begins: outside strings and brackets, after a space.

    Example:
        >>> _first_option("[a for a in x] --tag b", {"--tag"}), _first_option("a - b", set())
        (15, None)
    """
    depth, quote, at = 0, "", 0
    while at < len(text):
        character = text[at]
        if quote:
            if character == "\\":
                at += 2
                continue
            if text.startswith(quote, at):
                at += len(quote)
                quote = ""
                continue
        elif character in "\"'":
            quote = character * 3 if text.startswith(character * 3, at) else character
            at += len(quote)
            continue
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif character == "-" and depth <= 0 and (at == 0 or text[at - 1].isspace()):
            found = _OPTION.match(text, at)
            if found and (found.group().startswith("--") or found.group() in known):
                return at
        at += 1
    return None


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """The end of a message about a word that is none of `choices`.

    Example:
        >>> did_you_mean("--modle", ["--model", "--tag"])
        '; did you mean --model?'
    """
    names = [str(choice) for choice in choices]
    close = get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; choose from {', '.join(names)}" if len(names) <= 12 else ""


# -- types of options --------------------------------------------------------------------------------------------------


def identifier(text: str) -> str:
    """A name that a value can be stored under.

    Example:
        >>> identifier("df")
        'df'
    """
    if not text.isidentifier() or keyword.iskeyword(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no name for a variable; use letters, digits and _, like answers")
    return text


def number(
    kind: Callable[[str], Any], *, least: float | None = None, above: float | None = None, unit: str = ""
) -> Callable[[str], Any]:
    """A number with a lower bound, and a message that says what the option takes.

    Example:
        >>> number(int, least=1)("4")
        4
    """
    wanted = ("a whole number" if kind is int else "a number") + (f" of {unit}" if unit else "")
    if least is not None:
        wanted += f", at least {least:g}"
    if above is not None:
        wanted += f" above {above:g}"

    def read(text: str) -> Any:
        try:
            value = kind(text.lstrip("$") if unit == "dollars" else text)
        except ValueError:
            value = None
        if (
            value is None
            or not math.isfinite(value)
            or (least is not None and value < least)
            or (above is not None and value <= above)
        ):
            raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
        return value

    return read


def words(text: str) -> list[str]:
    """A comma-separated list; an empty text is an empty list.

    Example:
        >>> words("Read, Bash")
        ['Read', 'Bash']
    """
    return [word.strip() for word in text.split(",") if word.strip()]


@dataclass(frozen=True, slots=True)
class Line:
    """A `%pool` line, cut into its verb and the rest.

    Example:
        >>> Line.of(" run hello")
        Line(verb='run', rest='hello')
    """

    verb: str
    """The first word."""
    rest: str
    """What follows it."""

    @classmethod
    def of(cls, line: str) -> Line:
        """Cut a line; blanks at the end are part of a prompt."""
        found = _VERB.match(line)
        return cls(found.group(1), line[found.end() :]) if found else cls("", "")
