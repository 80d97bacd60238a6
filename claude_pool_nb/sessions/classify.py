"""What a turn of the CLI that went wrong is: the one place that knows the CLI's words for failures.

Invariants: `subtype` alone decides nothing, because the CLI says "success" there for every failure of the API; every
message is one line that ends with what to do next, but for failures that the pool tries again by itself: what to do
when it gives up is said then.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from claude_pool_nb.records import Failure, FailureKind
from claude_pool_nb.resolved import ResolvedConfig

_STATUS_ADVICE = {
    400: "the prompt or an option does not suit this model; change it",
    401: "set a valid ANTHROPIC_API_KEY or log in with `claude`, then `%pool unpause`",
    403: "this account may not do that; use another key or model, then `%pool unpause`",
    404: "use an alias (haiku, sonnet, opus) or a full model id that this account has",
    413: "the request is too large; shorten the prompt",
    429: "the account's rate limit is reached",
    529: "the API is overloaded",
}
_CONNECTION = re.compile(
    r"ECONNREFUSED|ENOTFOUND|ECONNRESET|EPIPE|ETIMEDOUT|connection|timed out|fetch failed", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class RetryNotice:
    """What the CLI said when it was about to try the API again."""

    status: int | None
    error: str
    delay_s: float

    @classmethod
    def of(cls, message: dict[str, Any]) -> RetryNotice:
        """Read an `api_retry` message.

        Example:
            >>> RetryNotice.of({"error_status": 429, "error": "rate_limit", "retry_delay_ms": 2000}).delay_s
            2.0
        """
        return cls(
            message.get("error_status"),
            str(message.get("error") or ""),
            float(message.get("retry_delay_ms") or 0) / 1e3,
        )


def classify(result: dict[str, Any], error: str | None = None, *, max_turns: int | None = None) -> Failure | None:
    """Say what failed in a turn, from the message that ended it.

    Args:
        result: The CLI's `result` message.
        error: The word an assistant message carried for it.
        max_turns: The limit that held, for the message.

    Returns:
        None if the turn succeeded.

    Example:
        >>> classify({"is_error": True, "api_error_status": 429, "result": "slow down"}).kind
        <FailureKind.LIMIT: 'limit'>
        >>> classify({"is_error": False, "result": "hello"}) is None
        True
    """
    reason = result.get("terminal_reason")
    subtype = result.get("subtype")
    if not result.get("is_error") and subtype in {None, "success"}:
        return None
    text = _text(result)
    status = result.get("api_error_status")
    if reason == "max_turns" or subtype == "error_max_turns":
        limit = f" of {max_turns}" if max_turns else ""
        return Failure(FailureKind.TURNS, "max_turns", f"The limit{limit} agent turns was reached; raise max_turns.")
    if reason == "budget_exhausted" or subtype == "error_max_budget_usd":
        return Failure(FailureKind.BUDGET, "budget", f"{text}; raise max_budget_usd.")
    if subtype == "error_max_structured_output_retries":
        return misfit()
    if reason in {"aborted_streaming", "aborted_tools"}:
        return interrupted()
    if isinstance(status, int):
        return of_status(status, text)
    if error == "authentication_failed":
        return Failure(FailureKind.AUTH, "authentication", f"{text}; {_STATUS_ADVICE[401]}.")
    if error == "billing_error":
        return Failure(FailureKind.AUTH, "billing", f"{text}; settle the account's billing, then `%pool unpause`.")
    if error == "rate_limit":
        return Failure(FailureKind.LIMIT, "rate_limit", f"{text}; {_STATUS_ADVICE[429]}.")
    if error in {"invalid_request", "max_output_tokens"}:
        return Failure(FailureKind.REQUEST, error, f"{text}; change the prompt or its options.")
    if error == "model_not_found":
        return Failure(FailureKind.REQUEST, "unknown_model", f"{text}; {_STATUS_ADVICE[404]}.")
    if reason == "api_error" or error == "server_error":
        lost = "connection" if _CONNECTION.search(text) else "api_error"
        return Failure(FailureKind.TRANSPORT, lost, f"{text}; check the network.")
    if reason in {"image_error", "prompt_too_long", "blocking_limit"}:
        return Failure(FailureKind.REQUEST, str(reason), f"{text}; shorten the prompt.")
    return Failure(FailureKind.TASK, str(reason or subtype or "error"), f"{text}; `%pool retry` tries it again.")


def of_status(status: int, text: str, retry_after_s: float | None = None) -> Failure:
    """Say what an HTTP status of the API means.

    Example:
        >>> of_status(529, "Overloaded").kind, of_status(418, "teapot").kind
        (<FailureKind.LIMIT: 'limit'>, <FailureKind.REQUEST: 'request'>)
    """
    if status in {429, 529}:
        kind, word = FailureKind.LIMIT, f"http_{status}"
    elif status in {401, 403}:
        kind, word = FailureKind.AUTH, f"http_{status}"
    elif status == 404:
        kind, word = FailureKind.REQUEST, "unknown_model"
    elif status >= 500 or status in {408, 409}:
        kind, word = FailureKind.TRANSPORT, f"http_{status}"
    elif status >= 400:
        kind, word = FailureKind.REQUEST, f"http_{status}"
    else:
        kind, word = FailureKind.TRANSPORT, "bad_answer"
    advice = _STATUS_ADVICE.get(status) or (
        "the API is in trouble" if kind is FailureKind.TRANSPORT else "change the prompt or its options"
    )
    return Failure(kind, word, f"{text}; {advice}.", retry_after_s, status if status >= 400 else None)


def of_notice(notice: RetryNotice) -> Failure:
    """Say what failed, from the CLI's notice that it would try again.

    A delay of a second or more is what the API asked to wait; a shorter one is the CLI's own back-off.

    Example:
        >>> of_notice(RetryNotice(429, "rate_limit", 2.0)).retry_after_s
        2.0
    """
    asked_s = notice.delay_s if notice.delay_s >= 1.0 else None
    words = notice.error.replace("_", " ") or "no answer"
    return of_status(notice.status or 503, f"The API answered {notice.status} ({words})", asked_s)


def interrupted() -> Failure:
    """The turn was stopped by whoever drives the session."""
    advice = "`%pool resume` or `%pool retry` runs it again"
    return Failure(FailureKind.TASK, "interrupted", f"The turn was stopped; {advice}.")


def timed_out(why: str, options: ResolvedConfig) -> Failure:
    """The turn took too long: `wall_timeout` in all, or `idle_timeout` with nothing heard.

    Example:
        >>> timed_out("idle_timeout", ResolvedConfig()).message
        'nothing was heard for idle_timeout_s=300; `%pool retry` tries it again'
    """
    if why == "wall_timeout":
        message = (
            f"stopped after timeout_s={options.timeout_s:g}; give it more time, "
            "or retry it with RetryPolicy(retry_timeouts=True)"
        )
    else:
        message = f"nothing was heard for idle_timeout_s={options.idle_timeout_s:g}; `%pool retry` tries it again"
    return Failure(FailureKind.TIMEOUT, why, message)


def misfit(why: str | None = None) -> Failure:
    """A schema was asked for, and the answer does not fit it.

    Args:
        why: What did not fit, in the CLI's words.

    Example:
        >>> misfit("/score: must be number").message
        'No answer fitted the schema (/score: must be number); simplify it, or say more in the prompt.'
    """
    told = f" ({' '.join(why.split()).rstrip('.')[:300]})" if why else ""
    return Failure(
        FailureKind.TASK, "schema", f"No answer fitted the schema{told}; simplify it, or say more in the prompt."
    )


def null_byte() -> Failure:
    """A prompt that no model reads as it is."""
    return Failure(FailureKind.REQUEST, "null_byte", "The prompt has a null byte; take it out.")


def crashed(returncode: int | None, stderr: str) -> Failure:
    """The process ended in mid-turn or between turns.

    Example:
        >>> crashed(-9, "").error_type
        'process_killed'
    """
    if returncode is None:
        how, word = "was ended", "process_lost"
    elif returncode < 0 or returncode in {137, 143}:
        how, word = f"was killed (exit code {returncode})", "process_killed"
    else:
        how, word = f"ended by itself (exit code {returncode})", "process_ended"
    last = f": {stderr.splitlines()[-1][:300]}" if stderr else ""
    return Failure(FailureKind.CRASH, word, f"The claude process {how}{last}; its slot starts a new one.")


def hung(what: str, timeout_s: float) -> Failure:
    """The process does not answer.

    Example:
        >>> hung("set_model", 10).error_type
        'process_hung'
    """
    return Failure(
        FailureKind.CRASH,
        "process_hung",
        f"The claude process did not answer to {what} within {timeout_s:g} s; its slot starts a new one.",
    )


def _text(result: dict[str, Any]) -> str:
    """The words of a failed result, on one line."""
    errors = [str(e) for e in result.get("errors") or () if e]
    text = "; ".join(errors) or str(result.get("result") or "") or f"The turn ended with {result.get('subtype')}"
    return " ".join(text.split()).rstrip(".;")[:500]
