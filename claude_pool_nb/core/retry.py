"""Which failure is tried again, and when.

Invariants: `decide` is a pure function of its arguments; what it never retries (auth, request, denied, budget, turns,
writes that were not allowed to be repeated) it does not retry under any policy. `LimitClock` is the one clock of the
whole pool for 429 and 529: it only ever moves forward, and a success winds it back to its first step.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from claude_pool_nb.records import Failure, FailureKind, RetryPolicy

_BY_HAND = "`%pool retry` tries it again"
_ALWAYS = frozenset({FailureKind.TRANSPORT, FailureKind.CRASH, FailureKind.LIMIT})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a failed attempt."""

    again: bool
    """True: the task gets another attempt."""
    delay_s: float = 0.0
    """How long it waits for it."""
    why: str = ""
    """If not: why not, as the end of the error's sentence; empty where the failure says it all."""


def backoff_s(policy: RetryPolicy, step: int, random: Random | None = None) -> float:
    """The wait before attempt `step + 1`, in seconds; with jitter between half and the whole of it.

    Example:
        >>> [backoff_s(RetryPolicy(jitter=False), step) for step in (1, 2, 3, 9)]
        [5.0, 10.0, 20.0, 300.0]
    """
    # the exponent is bounded: multiplier ** 10_000 would be an OverflowError
    full = min(policy.initial_backoff_s * policy.multiplier ** min(max(step - 1, 0), 64), policy.max_backoff_s)
    if random is None or not policy.jitter:
        return full
    return full * (0.5 + random.random() / 2)


def decide(
    policy: RetryPolicy, failure: Failure, *, attempts: int, crashes: int, wrote: bool, random: Random | None = None
) -> Verdict:
    """Decide about a failed attempt.

    Args:
        policy: The task's retry policy.
        failure: Why the attempt failed.
        attempts: Attempts since the task was last opened, this one included.
        crashes: How many of them crashed, this one included.
        wrote: True if a tool that changes things ran.
        random: Spreads the waits; None for no jitter.

    Example:
        >>> lost = Failure(FailureKind.CRASH, "process_killed", "The process was killed.")
        >>> decide(RetryPolicy(), lost, attempts=1, crashes=1, wrote=False)
        Verdict(again=True, delay_s=0.0, why='')
        >>> decide(RetryPolicy(max_attempts=1), lost, attempts=1, crashes=1, wrote=False).again
        False
    """
    kind = failure.kind
    wanted = (
        kind in _ALWAYS
        or (kind is FailureKind.TIMEOUT and policy.retry_timeouts)
        or (kind is FailureKind.TASK and policy.retry_tasks)
    )
    if not wanted:
        return Verdict(again=False)
    if wrote and not policy.retry_writes:
        return Verdict(again=False, why="not tried again, because a tool that changes things had run (retry_writes)")
    if attempts >= policy.max_attempts:
        tried = f"after {attempts} attempts" if attempts > 1 else ""
        by_hand = "" if _BY_HAND in failure.message else _BY_HAND
        return Verdict(again=False, why="; ".join(filter(None, (tried, by_hand))))
    if kind is FailureKind.CRASH and crashes <= 1:
        return Verdict(again=True)
    if failure.retry_after_s is not None:
        return Verdict(again=True, delay_s=max(0.0, failure.retry_after_s))
    return Verdict(again=True, delay_s=backoff_s(policy, attempts, random))


class LimitClock:
    """When the whole pool may ask again after a limit.

    Example:
        >>> clock = LimitClock()
        >>> clock.hit(100.0, started=1, seq=2, retry_after_s=30, policy=RetryPolicy(), random=None)
        130.0
        >>> clock.until_at
        130.0
    """

    __slots__ = ("_seq", "_step", "until_at")

    def __init__(self) -> None:
        self.until_at = float("-inf")
        self._step = 0
        self._seq = -1

    def hit(
        self,
        at: float,
        *,
        started: int,
        seq: int,
        retry_after_s: float | None,
        policy: RetryPolicy,
        random: Random | None,
    ) -> float:
        """Note a limit failure and return the instant before which nothing may be sent.

        Attempts that were already on their way when the last limit was noted (`started` before its `seq`) tell of the
        same limit again: they do not make the backoff grow.
        """
        if started > self._seq:
            self._step += 1
            self._seq = seq
            if retry_after_s is None:
                self.until_at = max(self.until_at, at + backoff_s(policy, self._step, random))
        elif retry_after_s is None:
            self.until_at = max(self.until_at, at)
        if retry_after_s is not None:
            self.until_at = max(self.until_at, at + max(0.0, retry_after_s))
        return self.until_at

    def success(self) -> None:
        """An answer came: the next limit starts with the shortest wait again."""
        self._step = 0
