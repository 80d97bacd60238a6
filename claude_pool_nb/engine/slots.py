"""One slot at work: its session, from opening over turns and resets to its end.

Invariants: every attempt that was begun ends with exactly one `TurnResult`, whatever the session does; a stop climbs
interrupt, then kill of the process tree (at once for a session that hangs); a session that is broken, recycled or of
other launch options is replaced before it is used; nothing of an earlier epoch is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from claude_pool_nb.config import ResolvedConfig, SlotMode
from claude_pool_nb.errors import MissingCredentials, PoolError, SessionError
from claude_pool_nb.records import (
    CostBasis,
    Failure,
    FailureKind,
    SlotRecord,
    StopReason,
    TurnResult,
    Usage,
)
from claude_pool_nb.sessions.base import (
    Backend,
    RetryNoticed,
    Session,
    SessionInfo,
    TextDelta,
    ToolStarted,
    Turn,
    TurnStarted,
    UsageSeen,
)
from claude_pool_nb.sessions.classify import timed_out

log = logging.getLogger("claude_pool_nb")

STOP_GRACE_S = 0.7
"""A session that has not answered an interrupt by then hangs: it is killed, so that its slot is usable again within a
second."""
END_GRACE_S = 2.0
"""A session that has answered the interrupt is alive, if slow: its turn gets this long to end before it is killed."""
KILL_GRACE_S = 2.0
"""A killed turn that has not ended by then is abandoned."""
OPEN_TIMEOUT_S = 60.0
"""A session that has not opened by then is given up."""
RESET_TIMEOUT_S = 15.0
"""A session that has not confirmed its reset by then is replaced."""
TAIL_CHARS = 2_000
"""How much of the streamed text is kept for whoever watches."""


@dataclass(slots=True)
class Activity:
    """What a slot is doing right now, for the live view; never stored."""

    task_id: str | None = None
    started_at: float = 0.0
    tool: str | None = None
    thinking: bool = False
    tail: str = ""
    cost_nano: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class TurnReport:
    """What the runner tells of a running attempt, as it happens."""

    began: Callable[[], None]
    """The answer began."""
    spent: Callable[[Usage, int], None]
    """An estimate of the cost so far, in nanodollars."""


class SlotRunner:
    """Drives the session of one slot."""

    def __init__(
        self,
        slot_id: str,
        backend: Backend,
        *,
        idle_close_s: float | None = None,
        warn: Callable[[str], None] = lambda _message: None,
    ) -> None:
        self.slot_id = slot_id
        self.activity = Activity()
        self.session: Session | None = None
        self.options: ResolvedConfig | None = None
        self._backend = backend
        self._idle_close_s = idle_close_s
        self._warn = warn
        self._has_talked = False  # in a conversation that nothing but its process holds
        self._idle_timer: asyncio.TimerHandle | None = None
        self._idle_since: float | None = None  # of the loop's clock; None while it has something to do
        self._stopping: StopReason | None = None
        self._stop_task: asyncio.Task[None] | None = None
        self._turn: asyncio.Task[TurnResult] | None = None
        self._closing: dict[asyncio.Task[None], Session | None] = {}
        self._over = False
        self._asking = False
        self._changes: list[Callable[[], None]] = []

    @property
    def info(self) -> SessionInfo:
        """Its session's process, id, model and memory."""
        return self.session.info if self.session is not None else SessionInfo()

    def describe(self, record: SlotRecord) -> SlotRecord:
        """A slot record with what only the live session knows."""
        info = self.info
        return replace(
            record,
            pid=info.pid,
            rss_bytes=info.rss_bytes,
            session_id=info.session_id,
            model=info.model or record.model,
            conversation=self.options.conversation if self.options else None,
        )

    def change(self, backend: Backend, session: Callable[[Session], Session]) -> asyncio.Future[None]:
        """Have another backend, and the live session as `session` makes it; when the turn that runs is over.

        Returns:
            Done when it has them.
        """
        changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def apply() -> None:
            self._backend = backend
            if self.session is not None:
                self.session = session(self.session)
            if not changed.done():
                changed.set_result(None)

        if self._turn is None:
            apply()
        else:
            self._changes.append(apply)
        return changed

    # -- opening, resetting, closing -----------------------------------------------------------------------------------

    async def open(self, options: ResolvedConfig) -> None:
        """Have a session with these options, ready for a task.

        Raises:
            PoolError: it could not be had.
        """
        self._stay_awake()
        await self._drop(kill=self.session.broken if self.session else False)
        if self._over:
            raise SessionError(f"slot {self.slot_id} was closed while its session opened")
        if self._has_talked:
            self._warn(f"slot {self.slot_id}: its process was replaced, so its conversation begins anew")
        self._has_talked = False
        session = self._backend.session(self.slot_id)
        self.session, self.options = session, options
        try:
            await asyncio.wait_for(session.open(options), OPEN_TIMEOUT_S)
        except TimeoutError:
            self.options = None  # what cannot be opened is not what the slot is made ready with
            await self._drop(kill=True)
            raise SessionError(
                f"slot {self.slot_id}: the session did not open within {OPEN_TIMEOUT_S:.0f} s; it is tried again"
            ) from None
        except BaseException:
            self.options = None
            await self._drop(kill=True)
            raise
        if self._turn is None and not self._over:
            self._sleep_later()

    async def make_ready(self, options: ResolvedConfig) -> None:
        """After a task: reset or replace the session, so that the next task starts afresh.

        Raises:
            PoolError: no session could be had.
        """
        session = self.session
        if session is None or session.broken or session.needs_recycling:
            await self.open(self.options or options)
        elif not self.goes_on:
            try:
                async with asyncio.timeout(RESET_TIMEOUT_S):  # unlike wait_for it adds no turn of the loop
                    await session.reset()
            except (SessionError, TimeoutError) as error:
                log.info("slot %s: %s; its session is replaced", self.slot_id, error or "the reset took too long")
                await self._drop(kill=True)
                await self.open(self.options or options)
        self._sleep_later()

    @property
    def goes_on(self) -> bool:
        """True where the conversation is meant to outlive the task."""
        options = self.options
        return options is not None and (options.conversation is not None or options.slot_mode is SlotMode.PERSISTENT)

    async def close(self, *, kill: bool = False) -> None:
        """End the session, if there is one, and wait for it; it opens no other."""
        self._over = True
        self._stay_awake()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        politely = [session for session in self._closing.values() if session is not None]
        await self._drop(kill=kill)
        if kill and politely:
            await asyncio.gather(*(session.close(kill=True) for session in politely))
        if self._closing:
            await asyncio.wait(tuple(self._closing), timeout=KILL_GRACE_S)

    async def give_up(self) -> None:
        """The session is in no known state: kill it; the next task gets a new one."""
        await self._drop(kill=True)

    async def _drop(self, *, kill: bool) -> None:
        """End the session; also if whoever waits for that is cancelled, because its process would stay."""
        session, self.session = self.session, None
        if session is not None:
            closing = asyncio.get_running_loop().create_task(session.close(kill=kill))
            self._closing[closing] = session
            closing.add_done_callback(self._closing.pop)
            await asyncio.shield(closing)

    def _sleep_later(self) -> None:
        """Close the process of a slot that has nothing to do, to give its memory back.

        A persistent slot keeps its own: nothing else holds its conversation.
        """
        self._stay_awake()
        persistent = self.options is not None and self.options.slot_mode is SlotMode.PERSISTENT
        if self._idle_close_s and not persistent:
            loop = asyncio.get_running_loop()
            self._idle_since = loop.time()
            if self._idle_timer is None:  # one of an earlier task looks at the time when it fires
                self._idle_timer = loop.call_later(self._idle_close_s, self._fall_asleep)

    def _stay_awake(self) -> None:
        self._idle_since = None

    def _fall_asleep(self) -> None:
        self._idle_timer = None
        if self._turn is not None or self.session is None or self._idle_since is None or self._idle_close_s is None:
            return
        loop = asyncio.get_running_loop()
        left = self._idle_since + self._idle_close_s - loop.time()
        if left > 0.001:
            self._idle_timer = loop.call_later(left, self._fall_asleep)
            return
        # Taken away at once: a turn that begins before the loop gets to closing it must not find it.
        session, self.session = self.session, None
        task = asyncio.get_running_loop().create_task(session.close(kill=False))
        self._closing[task] = session
        task.add_done_callback(self._closing.pop)

    # -- one attempt ---------------------------------------------------------------------------------------------------

    async def attempt(
        self, task_id: str, turn: Turn, report: TurnReport, *, relaunch: bool = False
    ) -> tuple[TurnResult, StopReason | None]:
        """Run one attempt to its end; with `relaunch`, in a new session (which resumes what its options name).

        Returns:
            Its result, and why the pool stopped it if it did.
        """
        self._stay_awake()
        self._stopping = None
        self.activity = Activity(task_id=task_id, started_at=time.time())
        self._turn = asyncio.current_task()
        clock = time.monotonic()
        try:
            session = await self._session_for(turn.options, relaunch=relaunch)
            if self._stopping is None:
                self._has_talked = turn.options.slot_mode is SlotMode.PERSISTENT and turn.options.conversation is None
                result = await self._converse(session, turn, report)
            else:
                result = TurnResult()
        except PoolError as error:
            result = TurnResult(failure=_failure_of(error), duration_s=time.monotonic() - clock)
        except asyncio.CancelledError:
            if self._stopping is None:  # the loop itself is being ended
                raise
            result = TurnResult(cost_basis=CostBasis.UNKNOWN, duration_s=time.monotonic() - clock)
        finally:
            self._turn = None
            while self._changes:
                self._changes.pop(0)()
            if self._stop_task is not None:
                self._stop_task.cancel()
                self._stop_task = None
        reason = self._stopping
        self.activity = Activity()
        return result, reason

    async def _session_for(self, options: ResolvedConfig, *, relaunch: bool) -> Session:
        """The slot's session, relaunched first if the options need it."""
        session = self.session
        if (
            relaunch
            or session is None
            or session.broken
            or session.launch_key != options.launch_key
            or session.needs_recycling
        ):
            await self.open(options)
            session = self.session
            if session is None:
                raise SessionError(f"slot {self.slot_id}: its session was closed while it opened")
        self.options = options
        return session

    async def _converse(self, session: Session, turn: Turn, report: TurnReport) -> TurnResult:
        """Ask, tell what happens, and watch both clocks."""
        loop = asyncio.get_running_loop()
        options, activity = turn.options, self.activity
        result: TurnResult | None = None
        began, self._asking = False, True
        timers = _Clocks(loop, options.timeout_s, options.idle_timeout_s, lambda: self.stop(StopReason.TIMEOUT))
        try:
            async for event in session.ask(turn):
                if isinstance(event, TurnResult):
                    result = event
                    continue
                timers.heard()
                if isinstance(event, TextDelta):
                    activity.thinking = event.thinking
                    activity.tool = None
                    if not event.thinking:
                        activity.tail = (activity.tail + event.text)[-TAIL_CHARS:]
                elif isinstance(event, TurnStarted | UsageSeen):
                    activity.cost_nano = event.cost_nano
                    report.spent(event.usage, event.cost_nano)
                    continue
                elif isinstance(event, ToolStarted):
                    activity.tool = event.tool
                elif isinstance(event, RetryNoticed):
                    activity.note = f"the API answered {event.status or event.error}; tried again"
                    continue
                if not began:
                    began = True
                    report.began()
        finally:
            self._asking = False
            why_late = timers.stop()
        if result is None:
            result = TurnResult(
                failure=Failure(
                    FailureKind.CRASH, "no_result", "the session ended its turn without a result; it is replaced"
                ),
                cost_basis=CostBasis.UNKNOWN,
            )
        if self._stopping is StopReason.TIMEOUT and result.failure is not None:
            result = replace(result, failure=timed_out(why_late, options))
        return result

    def stop(self, reason: StopReason, *, kill: bool = False) -> None:
        """Stop the running attempt: interrupt it, and kill it if it does not end soon."""
        if self._turn is None:
            return
        self._stopping = self._stopping or reason
        if self._stop_task is not None:
            if not kill:
                return
            self._stop_task.cancel()
        self._stop_task = asyncio.get_running_loop().create_task(self._climb(kill=kill))

    async def _climb(self, *, kill: bool) -> None:
        turn, session = self._turn, self.session
        if turn is None:
            return
        if session is not None and not self._asking and not kill:
            await asyncio.sleep(STOP_GRACE_S)  # it opens: there is nothing to interrupt yet
        elif session is not None and not kill:
            with contextlib.suppress(SessionError, TimeoutError):
                await asyncio.wait_for(session.interrupt(), STOP_GRACE_S)
                await asyncio.sleep(END_GRACE_S)
        if session is not None:
            await session.close(kill=True)
            await asyncio.sleep(KILL_GRACE_S)
        turn.cancel()


class _Clocks:
    """The wall and the idle time of one attempt."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, wall_s: float | None, idle_s: float | None, late: Callable[[], None]
    ) -> None:
        self._loop, self._idle_s, self._late = loop, idle_s, late
        self._why = "wall_timeout"
        self._heard_at = loop.time()
        self._wall = loop.call_later(wall_s, self._fire, "wall_timeout") if wall_s is not None else None
        self._idle = loop.call_later(idle_s, self._look) if idle_s is not None else None

    def heard(self) -> None:
        """Something came: only the time is noted, the timer looks at it when it fires."""
        self._heard_at = self._loop.time()

    def _look(self) -> None:
        assert self._idle_s is not None
        left = self._heard_at + self._idle_s - self._loop.time()
        if left <= 0.001:
            self._fire("idle_timeout")
        else:
            self._idle = self._loop.call_later(left, self._look)

    def _fire(self, why: str) -> None:
        self._why = why
        self._late()

    def stop(self) -> str:
        """Stop both; which one fired, if one did."""
        for timer in (self._wall, self._idle):
            if timer is not None:
                timer.cancel()
        return self._why


def _failure_of(error: PoolError) -> Failure:
    """An error in having a session, as the failure of the attempt that needed it."""
    if isinstance(error, MissingCredentials):
        return Failure(FailureKind.AUTH, "no_credentials", str(error))
    if isinstance(error, SessionError):
        return Failure(FailureKind.CRASH, "session_lost", str(error))
    return Failure(FailureKind.REQUEST, type(error).__name__, str(error))
