"""Backends with a cassette: one that only replays, and any other one with a tape that runs along.

Invariants: a replay starts no process, needs no key and opens no connection; its dollars are those of the recording,
and play money. A recording is the backend inside in everything but the tape.
"""

from __future__ import annotations

from pathlib import Path

from claude_pool_nb.model_names import validate_model
from claude_pool_nb.records import Usage
from claude_pool_nb.resolved import ResolvedConfig
from claude_pool_nb.sessions.base import Backend, BackendInfo, Session
from claude_pool_nb.sessions.cassette import Cassette, CassetteMode
from claude_pool_nb.sessions.cassette_session import CassetteSession
from claude_pool_nb.sessions.cassette_silent import SilentSession


class CassetteBackend:
    """Makes sessions with a cassette in them.

    Args:
        cassette: The tape.
        inner: Who answers what is not on it; None if nobody does.

    Example:
        >>> import tempfile
        >>> from claude_pool_nb.sessions.demo import DemoBackend
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     backend = CassetteBackend.recording(DemoBackend(), f"{folder}/tape.ndjson")
        ...     name = backend.info.name
        ...     backend.cassette.close()
        >>> name
        'demo'
    """

    def __init__(self, cassette: Cassette, inner: Backend | None = None) -> None:
        self.cassette = cassette
        self.inner = inner

    @classmethod
    def recording(cls, inner: Backend, path: str | Path) -> CassetteBackend:
        """Record what this backend answers.

        Raises:
            CassetteError: the tape cannot be written.
        """
        return cls(Cassette(path, CassetteMode.ALL, backend=inner.info.name), inner)

    @classmethod
    def replaying(cls, path: str | Path, *, speed: str = "instant") -> CassetteBackend:
        """Replay a tape, and nothing else.

        Raises:
            CassetteError: the tape cannot be read.
        """
        return cls(Cassette(path, speed=speed))

    @property
    def info(self) -> BackendInfo:
        """What it is: the backend inside, or a replay."""
        tape = self.cassette
        if self.inner is not None:
            info = self.inner.info
            notice = " ".join(text for text in (_sentence(info.notice), self._notice()) if text)
            return BackendInfo(info.name, info.play_money, notice, info.prices)
        notice = (
            f"Replays {tape.path} ({_answers(len(tape))} of {tape.backend}"
            f"{', in the time they took' if tape.speed == 'real' else ''}): no model is asked, and the dollars are "
            "those of the recording."
        )
        return BackendInfo("replay", True, notice, "demo" if tape.backend == "demo" else "claude")

    def _notice(self) -> str:
        """What is done with the tape beside the backend inside."""
        tape = self.cassette
        if tape.mode is CassetteMode.ALL:
            had = f", which has {_answers(len(tape))} already" if len(tape) else ""
            return f"Records to {tape.path}{had}."
        more = " and records what is not on it" if tape.records else ""
        return f"Replays {tape.path} ({_answers(len(tape))}){more}."

    async def check(self, options: ResolvedConfig, slots: int) -> list[str]:
        """Verify that sessions can be had; a replay needs nothing but names that are some model's.

        Raises:
            MissingCredentials, CLINotFound, UnknownModel, ConfigError: of the backend inside.
        """
        if self.inner is not None:
            return [*await self.inner.check(options, slots), *self.cassette.warnings]
        for name in (options.model, options.fallback_model):
            if name is not None:
                validate_model(name, backend="replay")
        return self.cassette.warnings

    def session(self, slot_id: str) -> Session:
        """A session, not yet open."""
        inner = self.inner
        session = SilentSession(slot_id) if inner is None else inner.session(slot_id)
        return self.wrap(session)

    def wrap(self, session: Session) -> CassetteSession:
        """Put the cassette into a session of the backend inside."""
        free = self.inner is not None and not self.inner.info.play_money
        return CassetteSession(session, self.cassette, free=free)

    def estimate_nano(self, model: str | None, usage: Usage) -> int | None:
        """What that usage costs at the list price of who answers, or did when the tape was recorded."""
        if self.inner is not None:
            return self.inner.estimate_nano(model, usage)
        from claude_pool_nb import pricing

        return pricing.cost_nano(model, usage, backend=self.cassette.backend)

    async def close(self) -> None:
        """Put the tape in order, and close the backend inside.

        Raises:
            CassetteError: the tape could not be put in order.
        """
        try:
            self.cassette.close()
        finally:
            if self.inner is not None:
                await self.inner.close()


def _answers(number: int) -> str:
    return f"{number:,} answer{'' if number == 1 else 's'}"


def _sentence(text: str | None) -> str:
    """A notice with a full stop."""
    return "" if not text else text if text.endswith(".") else f"{text[0].upper()}{text[1:]}."
