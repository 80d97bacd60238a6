"""The CLI's words for failures become ours."""

from __future__ import annotations

from typing import Any

import pytest

from claude_pool_nb.records import FailureKind
from claude_pool_nb.sessions.classify import RetryNotice, classify, crashed, of_notice


@pytest.mark.parametrize(
    ("result", "error", "kind", "error_type"),
    [
        ({"subtype": "error_max_turns", "is_error": True, "terminal_reason": "max_turns"}, None, "turns", "max_turns"),
        (
            {"subtype": "error_max_budget_usd", "is_error": True, "terminal_reason": "budget_exhausted"},
            None,
            "budget",
            "budget",
        ),
        (
            {"subtype": "success", "is_error": True, "api_error_status": None, "terminal_reason": "api_error"},
            "server_error",
            "transport",
            "api_error",
        ),
        (
            {"is_error": True, "terminal_reason": "api_error", "result": "Connection refused (ECONNREFUSED)"},
            "server_error",
            "transport",
            "connection",
        ),
        ({"is_error": True, "terminal_reason": "api_error", "api_error_status": 401}, "x", "auth", "http_401"),
        ({"is_error": True, "terminal_reason": "image_error", "api_error_status": 413}, None, "request", "http_413"),
        ({"is_error": True, "terminal_reason": "image_error"}, None, "request", "image_error"),
        ({"is_error": True, "terminal_reason": "api_error"}, "authentication_failed", "auth", "authentication"),
        ({"is_error": True, "terminal_reason": "api_error"}, "rate_limit", "limit", "rate_limit"),
        ({"is_error": True, "terminal_reason": "aborted_tools"}, None, "task", "interrupted"),
        (
            {"is_error": True, "subtype": "error_max_structured_output_retries"},
            None,
            "task",
            "schema",
        ),
        ({"is_error": True, "subtype": "error_something_new"}, None, "task", "error_something_new"),
    ],
)
def test_each_shape_has_its_kind(result: dict[str, Any], error: str | None, kind: str, error_type: str) -> None:
    """Every shape of a failed turn has a kind, a word and one line that says what to do."""
    failure = classify(result, error)
    assert failure is not None
    assert (failure.kind, failure.error_type) == (FailureKind(kind), error_type)
    assert failure.message.endswith(".")
    assert "\n" not in failure.message


def test_success_is_no_failure_whatever_was_said_before() -> None:
    """A turn that the CLI mended by itself succeeded, though an assistant message told of an error."""
    assert classify({"subtype": "success", "is_error": False, "result": "fine"}, "server_error") is None


def test_long_words_of_the_api_are_one_line() -> None:
    """A page of text in an error does not get into a frame."""
    failure = classify({"is_error": True, "api_error_status": 400, "result": "bad\nthing " * 500})
    assert failure is not None
    assert len(failure.message) < 700
    assert "\n" not in failure.message


@pytest.mark.parametrize(("delay_s", "known"), [(0.5, None), (0.75, None), (1.1, 1.1), (21.6, 21.6)])
def test_the_clis_own_back_off_is_no_wish_of_the_api(delay_s: float, known: float | None) -> None:
    """Only a delay longer than the CLI's first back-off is what the API asked for."""
    assert of_notice(RetryNotice(429, "rate_limit", delay_s)).retry_after_s == known


@pytest.mark.parametrize(
    ("code", "word"), [(-9, "process_killed"), (143, "process_killed"), (1, "process_ended"), (None, "process_lost")]
)
def test_crashes_say_how(code: int | None, word: str) -> None:
    """How a process ended is in the word; its last line on stderr in the message."""
    failure = crashed(code, "first\nlast words")
    assert (failure.kind, failure.error_type) == (FailureKind.CRASH, word)
    assert "last words" in failure.message
    assert "first" not in failure.message
