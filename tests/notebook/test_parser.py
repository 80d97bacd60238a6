"""How a `%pool` line is read: nothing of a prompt is lost, nothing wrong gets through."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.error import UsageError

from claude_pool_nb.notebook.magics import find_verb
from claude_pool_nb.notebook.parser import Line, VerbParser, identifier
from claude_pool_nb.notebook.verbs import VERBS, add_common_options, module_of, overview


def parser(verb: str) -> VerbParser:
    """The parser of a verb, with all its options."""
    made = module_of(VERBS[verb]).parser()
    add_common_options(made)
    return made


def test_prompt_is_verbatim() -> None:
    """Quotes, dashes, hashes and blanks behind the options reach the model as they were written."""
    prompt = """say "hi"  --model 'x  # {item} $HOME \\n """
    read = parser("run").read(f"-m haiku --tag a --tag=b {prompt}")
    assert read.text == prompt
    assert (read.model, read.tag) == ("haiku", ["a", "b"])


@given(st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\n\r"), min_size=1))
def test_any_prompt_survives_after_two_dashes(prompt: str) -> None:
    """`--` ends the options: whatever follows the one blank is the prompt."""
    assert parser("run").read(f"-m haiku -- {prompt}").text == prompt


@given(st.text(min_size=1))
def test_any_cell_body_survives(body: str) -> None:
    """The body of a cell is never read as options."""
    assert parser("run").read("--tag a", body).text == body


@pytest.mark.parametrize("prompt", ["-5 degrees", "- a list", "-"])
def test_what_is_no_option_is_a_prompt(prompt: str) -> None:
    """A dash alone makes no option."""
    assert parser("run").read(prompt).text == prompt


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--q O'Brien", ["O'Brien"]),
        ("--q don't can't", ["don't", "can't"]),
        ("--q l'été 'two words' --limit 3", ["l'été", "two words"]),
        ('--q "I don\'t know" x', ["I don't know", "x"]),
        ("--q f'abc'", ["fabc"]),
    ],
)
def test_an_apostrophe_within_a_word_quotes_nothing(line: str, words: list[str]) -> None:
    """Words that are searched for may be English or French."""
    assert parser("history").read(line).q == words


def test_a_value_may_be_quoted_and_begin_with_a_dash() -> None:
    """A quoted value is one value, whatever is in it."""
    read = parser("run").read("--system-prompt '- be \"brief\"' --tools '' hello")
    assert (read.system_prompt, read.tools, read.text) == ('- be "brief"', [], "hello")


@pytest.mark.parametrize(
    ("line", "text", "tags"),
    [
        ("prompts", "prompts", []),
        ("--tag a prompts", "prompts", ["a"]),
        ("prompts --tag a", "prompts", ["a"]),
        ("--tag a [p - 1 for p in x] --tag b", "[p - 1 for p in x]", ["a", "b"]),
        ("['--tag a', \"x --tag b\"] --tag c", "['--tag a', \"x --tag b\"]", ["c"]),
        ("df[df.n > -1].head(3) -m haiku", "df[df.n > -1].head(3)", []),
        ("a -m + 1", "a", []),
        ("xs[-1] - x", "xs[-1] - x", []),
        ("'''a --tag x''' --tag y", "'''a --tag x'''", ["y"]),
    ],
)
def test_options_stand_on_either_side_of_an_expression(line: str, text: str, tags: list[str]) -> None:
    """An option is only one outside of strings and brackets."""
    if line == "a -m + 1":
        with pytest.raises(UsageError, match="behind the options"):
            parser("fan_out").read(line)
        return
    read = parser("fan_out").read(line)
    assert (read.text, read.tag) == (text, tags)


@pytest.mark.parametrize(
    ("verb", "line", "says"),
    [
        ("run", "--modle haiku hi", "did you mean --model?"),
        ("run", "-x degrees", "write --"),
        ("run", "--model", "needs a value"),
        ("run", "--model 'haiku hi", "quotation mark is missing"),
        ("run", "--max-turns 0 hi", "at least 1"),
        ("run", "--max-budget-usd nan hi", "a number of dollars"),
        ("run", "--effort hihg hi", "did you mean high?"),
        ("run", "--into 2x hi", "no name for a variable"),
        ("run", "--into class hi", "no name for a variable"),
        ("start", "--budget five", "a number of dollars"),
        ("start", "--backend dmeo", "did you mean demo?"),
        ("start", "--budgt 5", "did you mean --budget?"),
        ("start", "4", "it takes no '4'"),
        ("scale", "", "required: N"),
        ("scale", "many", "a whole number"),
        ("tasks", "--state complete", "did you mean completed?"),
        ("fan_out", "prompts --intro df", "did you mean --into?"),
        ("prune", "--before yesterday", "2026-01-31"),
    ],
)
def test_a_wrong_line_is_one_clear_line(verb: str, line: str, says: str) -> None:
    """A wrong line is IPython's UsageError, on one line, that says what is right."""
    with pytest.raises(UsageError) as raised:
        parser(verb).read(line)
    assert type(raised.value) is UsageError
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)
    assert f"%pool help {verb}" in str(raised.value)


@pytest.mark.parametrize(
    ("line", "over", "text"),
    [
        ("--over df", "df", ""),
        ("--over=df --n 2", "df", ""),
        ("--over df[df.stars > 3] --n 2", "df[df.stars > 3]", ""),
        ("--over df['a b']", "df['a b']", ""),
        ("--over df.query(\"x == ') ('\") --n 2", "df.query(\"x == ') ('\")", ""),
        ('--over "a + b"', "a + b", ""),
        ("'t' --over {'a': [1, 2]}", "{'a': [1, 2]}", "'t'"),
        ("--over df template", "df", "template"),
    ],
)
def test_rows_are_python_up_to_a_blank(line: str, over: str, text: str) -> None:
    """Brackets and quotation marks keep blanks together, and quotation marks inside stay."""
    read = parser("fan_out").read(line)
    assert (read.over, read.text) == (over, text)


def test_unknown_verb_names_the_nearest() -> None:
    """A verb that does not exist, or not yet, is answered with the one that was meant."""
    with pytest.raises(UsageError, match="did you mean fan_out"):
        find_verb("fanout")
    with pytest.raises(UsageError, match="no verb 'chain'"):
        find_verb("chain")
    assert find_verb("fan-out").name == "fan_out"


def test_a_verb_without_a_cell_form_refuses_a_body() -> None:
    """`%%pool status` is refused, not run without its body."""
    with pytest.raises(UsageError, match="no cell form"):
        parser("status").read("", "body")


def test_text_beside_and_below_is_refused() -> None:
    """A prompt stands beside `%%pool run` or below it, not in both places."""
    with pytest.raises(UsageError, match="below the first line"):
        parser("run").read("hello", "world")


def test_line_keeps_what_follows_the_verb() -> None:
    """Only the one blank behind the verb goes."""
    assert Line.of(" run  hi ") == Line("run", " hi ")
    assert Line.of("") == Line("", "")


@pytest.mark.parametrize("name", ["df", "_x", "größe"])
def test_identifiers(name: str) -> None:
    """Every Python name is one for --into."""
    assert identifier(name) == name


def test_help_is_the_same_in_every_version_of_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """An option's value stands behind each of its names, and no colour is in it, whatever argparse does by itself."""
    monkeypatch.setenv("FORCE_COLOR", "1")  # as ipykernel does
    text = parser("run").help_text()
    assert "\n  -m M, --model M " in text
    assert "\x1b" not in text


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_and_into(verb: str) -> None:
    """The help of each verb can be made, shows its options, and the overview names it."""
    text = parser(verb).help_text()
    assert text.startswith(f"usage: %pool {verb}")
    assert "--into" in text
    assert f"%pool {verb}" in overview()
