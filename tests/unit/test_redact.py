"""Secrets do not get through, and looking for them is cheap."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from claude_pool_nb.redact import learn_environment, redact, redact_json

PRIVATE_KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk\nAAAA+/=\n-----END OPENSSH PRIVATE KEY-----"
SECRETS = [
    "sk-ant-api03-" + "aB3_-" * 12,
    "sk-proj-" + "x9" * 20,
    "AKIAIOSFODNN7EXAMPLE",
    "ghp_" + "a" * 36,
    "github_pat_" + "A1_" * 10,
    "xoxb-123456789012-abcdefghij",
    "AIza" + "b" * 35,
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTYifQ.c2lnbmF0dXJl",
    PRIVATE_KEY,
    PRIVATE_KEY.replace("\n", "\\n"),
]


@pytest.fixture(autouse=True)
def _own_environment() -> Iterator[None]:
    """Each test starts and ends with what the real environment holds."""
    learn_environment()
    yield
    learn_environment()


@given(
    st.sampled_from(SECRETS),
    st.sampled_from(["", " ", "key=", '"', "\n", "x: "]),
    st.sampled_from(["", " ", '"', ".", "\n"]),
)
def test_secrets_are_taken_out_wherever_they_stand(secret: str, before: str, after: str) -> None:
    """The secret is gone, what is around it stays."""
    cleaned = redact(f"{before}{secret}{after}")
    assert secret not in cleaned
    assert "[redacted: " in cleaned
    assert cleaned.startswith(before)


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer abcdefghij1234567890",
        '{"authorization": "bearer abc.def_ghi-12345678"}',
        "aws_secret_access_key = " + "a" * 40,
    ],
)
def test_values_after_a_telling_word_are_taken_out(text: str) -> None:
    """Tokens without a form of their own are known by what stands before them."""
    assert text.rsplit(maxsplit=1)[-1].strip('"}') not in redact(text)


@pytest.mark.parametrize(
    "text", ["use sk-learn and the-risk-averse", "AKIA", "xoxo", "Bearer of news", "PRIVATE KEY", "eyJ", "a" * 1000]
)
def test_harmless_text_is_the_same_object(text: str) -> None:
    """Nothing is copied where nothing is hidden."""
    assert redact(text) is text


def test_values_of_the_environment_are_known_by_value() -> None:
    """A gateway's token of any form is taken out; short values and other variables are not."""
    learn_environment(
        {"ANTHROPIC_AUTH_TOKEN": "plain words here", "ANTHROPIC_API_KEY": "tiny", "ANTHROPIC_BASE_URL": "http://host"}
    )
    assert (
        redact("sent plain words here to http://host, tiny")
        == "sent [redacted: ANTHROPIC_AUTH_TOKEN] to http://host, tiny"
    )


def test_a_key_that_is_set_in_a_cell_is_known_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has to say that the environment changed."""
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "a word of my own")
    assert redact("401 for a word of my own") == "401 for [redacted: ANTHROPIC_AUTH_TOKEN]"
    monkeypatch.delenv("ANTHROPIC_AUTH_TOKEN")
    assert redact("a word of my own") == "a word of my own"


def test_a_megabyte_takes_no_time_whatever_is_in_it() -> None:
    """No pattern backtracks: a generous limit that a quadratic one would miss by far."""
    began = time.perf_counter()
    for piece in (
        "sk-ant-",
        "eyJaaaaaaaaa.",
        "-----BEGIN PRIVATE KEY-----",
        "Bearer ",
        "aws_secret_access_key = ",
        "PRIVATE KEY-",
    ):
        redact(piece * (1_000_000 // len(piece)))
    redact("-----BEGIN PRIVATE KEY-----" + "A" * 1_000_000)
    assert time.perf_counter() - began < 5


def test_json_stays_json_without_its_secrets() -> None:
    """Keys, values and values with a telling key lose their secrets, and the rest can still be read."""
    secret = "A1b2" * 10
    text = json.dumps({"aws": {"secret_access_key": secret}, PRIVATE_KEY[:40]: [PRIVATE_KEY, 1], "kept": "as it is"})
    cleaned = redact_json(text)
    assert secret not in cleaned
    assert "b3BlbnNza" not in cleaned
    assert json.loads(cleaned)["kept"] == "as it is"
    assert redact_json('{"a": 1}') == '{"a": 1}'
