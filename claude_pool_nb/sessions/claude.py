"""A session on the real claude CLI: one process, kept warm from task to task.

Invariants: every wait has a limit; a turn ends with exactly one TurnResult, whatever becomes of the process; the cost
of a turn is the growth of the session's own meter, and where there is no such reading it is an estimate and says so;
a session whose state is not known any more is `broken`, never used again.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import Any
from uuid import uuid4

from claude_pool_nb.config import PermissionMode, ResolvedConfig, SlotMode
from claude_pool_nb.errors import ResetFailed, SessionError, SessionLost
from claude_pool_nb.model_names import is_full_id, same_model
from claude_pool_nb.records import CostBasis, Denial, Failure, FailureKind, TurnResult, Usage
from claude_pool_nb.sessions import launch as launching
from claude_pool_nb.sessions import processes
from claude_pool_nb.sessions.base import SessionEvent, SessionInfo, Turn
from claude_pool_nb.sessions.classify import RetryNotice, classify, crashed, hung, misfit, null_byte, of_notice
from claude_pool_nb.sessions.meter import Meter
from claude_pool_nb.sessions.turn_reader import TurnReader, Urgency, denials_of
from claude_pool_nb.sessions.wire import RequestRefused, Wire

OPEN_S, RESET_S, CONTROL_S, INTERRUPT_S = 30.0, 10.0, 10.0, 2.0
"""Time limits of what is asked of the process."""
POLITE_S, TERM_S = 1.0, 0.5
"""How long it may take to end by itself, and after SIGTERM; with SIGKILL it is gone within two seconds."""
COALESCE_S = 0.03
"""Streamed text is handed on at most this often."""
MEMORY_LOOK_S = 5.0
"""How old a memory reading may be."""
LONG_WAIT_S = 60.0
"""The CLI announces no retry where the API asked to wait for longer than this."""
PROBE = Usage(input_tokens=40, output_tokens=1)
"""What the CLI spends to try a full model id that is new to its process; no result contains it."""

Price = Callable[[str | None, Usage], int | None]


class ClaudeSession:
    """One live claude process; see `claude_pool_nb.sessions.base.Session`.

    Args:
        price: What a usage costs at list price, for estimates.

    Example:
        >>> session = ClaudeSession(lambda model, usage: None)
        >>> session.launch_key, session.broken, session.info.pid
        ('', False, None)
    """

    def __init__(self, price: Price) -> None:
        self._price = price
        self._wire: Wire | None = None
        self._launch: launching.Launch | None = None
        self._options: ResolvedConfig | None = None
        self._launch_key = ""
        self._identity: processes.ProcessId | None = None
        self._broken = False
        self._closed = False
        self._model: str | None = None
        self._mode = PermissionMode.DEFAULT
        self._default_model: str | None = None
        self._known_ids: set[str] = set()
        self._lost_servers: tuple[str, ...] = ()
        self._session_id: str | None = None
        self._resume_point: str | None = None
        self._reader: TurnReader | None = None
        self._reset_seen = False
        self._early: dict[str, Any] | None = None
        self._wake: asyncio.Event | None = None
        self._soon: asyncio.TimerHandle | None = None
        self._stopping = False
        self._tasks = 0
        self._meter = Meter()
        self._rss: tuple[float, int | None] = (0.0, None)

    # -- what it is ---------------------------------------------------------------------------------------------------

    @property
    def info(self) -> SessionInfo:
        """Process, session id, model and memory, now."""
        wire = self._wire
        return SessionInfo(
            pid=wire.pid if wire is not None and not wire.over else None,
            session_id=self._session_id,
            model=self._model or self._default_model,
            rss_bytes=self._memory(),
            started_at=self._identity.started_at if self._identity is not None else None,
            executable=self._identity.executable if self._identity is not None else None,
            resume_point=self._resume_point,
        )

    @property
    def launch_key(self) -> str:
        """The options it was opened with."""
        return self._launch_key

    @property
    def broken(self) -> bool:
        """True if it cannot be used again."""
        return self._broken or self._closed or (self._wire is not None and self._wire.over)

    @property
    def needs_recycling(self) -> bool:
        """True after as many tasks as its options allow, when its process has outgrown them, or with a key of before.

        A process keeps the environment it was started with: a key that was mended there reaches only a new one.
        """
        options = self._options
        if options is None:
            return False
        if self._launch is not None and launching.has_other_key(self._launch.env, options):
            return True
        max_tasks, max_rss_bytes = options.max_tasks_per_process, options.max_rss_bytes
        if max_tasks is not None and self._tasks >= max_tasks:
            return True
        return max_rss_bytes is not None and (self._memory() or 0) > max_rss_bytes

    def _memory(self) -> int | None:
        """Resident bytes of the process and its children; read only now and then."""
        if self._identity is None or self.broken:
            return None
        now = time.monotonic()
        if now - self._rss[0] >= MEMORY_LOOK_S or self._rss[1] is None:
            self._rss = (now, processes.memory_of(self._identity.pid, descendants=self._has_tools))
        return self._rss[1]

    @property
    def _has_tools(self) -> bool:
        """Whether the process may have children: shells and MCP servers."""
        return self._options is not None and (self._options.tools != () or self._options.mcp_servers != "{}")

    # -- life ---------------------------------------------------------------------------------------------------------

    async def open(self, options: ResolvedConfig) -> None:
        """Start the process, and reset it unless a conversation goes on.

        Raises:
            ConfigError, CLINotFound, SessionError: it could not be opened.
        """
        if self._closed or self._wire is not None:
            raise SessionError("a session is opened once; make a new one")
        self._launch = launching.plan(options)
        self._options, self._launch_key = options, options.launch_key
        self._model, self._mode = options.model, options.permission_mode
        self._wake = asyncio.Event()
        try:
            await self._start(self._launch)
            if options.resume_session_id is None:
                # A new conversation begins with nothing: a reset would be its first entry and come back at each resume.
                if options.conversation is None:
                    # The CLI does nothing before its MCP servers have started, or failed to within its own 30 s.
                    await self.reset(within_s=RESET_S if options.mcp_servers == "{}" else OPEN_S + RESET_S)
            else:
                self._session_id, self._resume_point = options.resume_session_id, options.resume_at
                await self._read_resumed_meter()
            self._launch.remove_mcp_file()
        except BaseException:
            await self.close(kill=True)
            raise

    async def _start(self, plan: launching.Launch) -> None:
        """Spawn and initialize."""
        wire = Wire(self._message, self._lost)
        self._wire = wire
        processes.WATCHER.prepare()
        try:
            await wire.spawn(plan.argv, plan.env, plan.cwd)
        except BaseException:
            processes.WATCHER.cancel()
            raise
        assert wire.pid is not None
        processes.WATCHER.watch(wire.pid)
        self._identity = processes.identify(wire.pid)
        try:
            # The price list takes a moment to load: now, while the process gets ready, and not in a first answer.
            warming = processes.off_loop(self._price, self._model, Usage(1))
            await asyncio.gather(wire.request(plan.initialize, OPEN_S), warming)
        except TimeoutError:
            said = wire.stderr or "it said nothing"
            raise SessionError(f"the claude CLI did not get ready within {OPEN_S:g} s: {said}") from None
        except SessionLost:
            raise self._start_failed(wire) from None
        except RequestRefused as error:
            raise SessionError(f"the claude CLI refused to start: {error}") from None

    def _start_failed(self, wire: Wire) -> SessionError:
        """Why the CLI ended before it was ready."""
        early = self._early or {}
        said = "; ".join(str(e) for e in early.get("errors") or ()) or str(early.get("result") or "") or wire.stderr
        last = said.splitlines()[-1].rstrip(".") if said else f"it said nothing (exit code {wire.returncode})"
        if "root" in said and "permissions" in said:
            return SessionError(f"{last}; run the kernel as another user, or use another permission_mode")
        if "No conversation found" in said:
            return SessionError(f"{last}: its transcript is gone; start the conversation under another name")
        return SessionError(f"the claude CLI ended while it was starting: {last}")

    async def _read_resumed_meter(self) -> None:
        """Learn what a resumed session cost before: its totals go on from there."""
        self._meter.forget()
        # Where the CLI has no such request the first turn's cost is an estimate, and says so.
        with contextlib.suppress(RequestRefused, TimeoutError):
            answer = await self._ready().request({"subtype": "get_usage"}, CONTROL_S)
            self._meter.go_on(answer.get("session") or {})

    async def reset(self, *, within_s: float = RESET_S) -> None:
        """Forget the conversation, and verify that it is forgotten.

        Raises:
            ResetFailed: it did not confirm.
            SessionLost: its process is gone.
        """
        wire = self._ready()
        message = user_message("/clear", composed=False)
        reader = self._listen(message["uuid"])
        self._reset_seen = False
        wire.send(message)
        try:
            async with asyncio.timeout(within_s):
                while reader.result is None and not wire.over:
                    await self._stirred()
        except TimeoutError:
            self._broken = True
            raise ResetFailed(f"the session did not confirm its reset within {within_s:g} s; it is replaced") from None
        finally:
            self._reader = None
        if reader.result is None:
            raise SessionLost
        if not self._reset_seen:
            self._broken = True
            raise ResetFailed(f"the session was not reset ({str(reader.result.get('result'))[:200]}); it is replaced")
        self._session_id = reader.result.get("session_id") or self._session_id
        self._resume_point = None
        self._meter.begin()

    async def interrupt(self) -> None:
        """Stop the running turn; `ask` then ends with its TurnResult."""
        wire = self._wire
        if wire is None or wire.over or self._reader is None:
            return
        self._stopping = True
        # An interrupt that is not answered leaves the turn running: whoever drives us goes on to close(kill=True).
        with contextlib.suppress(TimeoutError, SessionError):
            await wire.request({"subtype": "interrupt"}, INTERRUPT_S)

    async def close(self, *, kill: bool = False) -> None:
        """End the process and its tree; politely within two seconds, or at once."""
        self._closed = True
        wire = self._wire
        if wire is not None and wire.pid is not None:
            await self._end(wire, wire.pid, kill=kill)
        if self._launch is not None:
            self._launch.remove_files()

    async def _end(self, wire: Wire, pid: int, *, kill: bool) -> None:
        """Climb from the end of its input over SIGTERM to SIGKILL; then clear away what it started."""
        started_at = self._identity.started_at if self._identity is not None else None
        if not kill and not wire.exited.is_set():
            wire.end_input()
            # In mid-turn it does not mind the end of its input: no use in waiting for that.
            if self._reader is not None or not await _within(wire.exited, POLITE_S):
                processes.terminate(pid)
                await _within(wire.exited, TERM_S)
        mark = self._launch.env[processes.MARK] if self._launch is not None else None
        await processes.off_loop(processes.end_tree, pid, started_at, mark=mark)
        await _within(wire.exited, TERM_S)
        wire.abandon()
        processes.WATCHER.forget(pid)

    # -- turns --------------------------------------------------------------------------------------------------------

    async def ask(self, turn: Turn) -> AsyncIterator[SessionEvent]:
        """Send a prompt and yield what happens, ending with one TurnResult.

        Raises:
            SessionLost: the session was closed, or never opened.
        """
        if self._closed or self._wire is None:
            raise SessionLost("the session is closed; its slot opens a new one")
        wire, begun = self._wire, time.monotonic()
        if self.broken:
            yield TurnResult(failure=crashed(wire.returncode, wire.stderr), session_id=self._session_id)
            return
        if "\x00" in turn.prompt:
            yield TurnResult(failure=null_byte(), session_id=self._session_id)
            return
        self._stopping = False
        probe_nano, refused = await self._apply(wire, turn.options)
        if refused is not None:
            yield TurnResult(failure=refused, session_id=self._session_id, duration_s=time.monotonic() - begun)
            return
        self._tasks += 1
        message = user_message(turn.prompt, composed=True)
        reader = self._listen(message["uuid"])
        finished = False
        try:
            wire.send(message)
            while reader.result is None and not wire.over:
                await self._stirred()
                for event in reader.take():
                    yield event
                if reader.retry is not None:
                    await self._weigh_retry(reader, turn.options)
            for event in reader.take():
                yield event
            result = self._conclude(reader, turn.options, wire, probe_nano)
            await self._settle(wire, reader, message["uuid"], result.failure)
            finished = True
        finally:
            self._reader = None
            if not finished:
                self._broken = True  # the turn goes on unheard
        yield replace(result, duration_s=time.monotonic() - begun)

    async def _apply(self, wire: Wire, options: ResolvedConfig) -> tuple[int | None, Failure | None]:
        """Set model and permission mode where they differ; give what that cost, and the failure if it did not work."""
        cost: int | None = 0
        request = "set_model"
        try:
            if options.model != self._model:
                # None is the CLI's default. Asked for None, it would forget what its environment names as default.
                model = options.model or self._default_model
                if model is not None and is_full_id(model) and model not in self._known_ids:
                    cost = self._price(model, PROBE)
                    self._known_ids.add(model)
                await wire.request({"subtype": "set_model", "model": model}, CONTROL_S)
                self._model = options.model
            request = "set_permission_mode"
            if options.permission_mode is not self._mode:
                await wire.request({"subtype": request, "mode": options.permission_mode.value}, CONTROL_S)
                self._mode = options.permission_mode
        except RequestRefused as error:
            word = "unknown_model" if request == "set_model" else "permission_mode"
            return cost, Failure(FailureKind.REQUEST, word, f"The claude CLI refused {request}: {error}; change it.")
        except SessionLost:
            return cost, crashed(wire.returncode, wire.stderr)
        except TimeoutError:
            self._broken = True
            return cost, hung(request, CONTROL_S)
        return cost, None

    async def _weigh_retry(self, reader: TurnReader, options: ResolvedConfig) -> None:
        """Take the CLI's notice that it would ask again as the answer, if the API refused before any work was done.

        The pool does its own retries, on one clock for all slots; and only the notice tells how long the API asked
        to wait. A refused key is never asked again.
        """
        notice = RetryNotice.of(reader.retry or {})
        if notice.status is None or self._stopping or reader.refusal is not None:
            return
        if notice.status == 529 and options.fallback_model is not None:
            return  # the CLI asks a few times more, then the other model
        if not reader.started or notice.status in {401, 403}:
            reader.refusal = notice
            await self.interrupt()

    def _conclude(self, reader: TurnReader, options: ResolvedConfig, wire: Wire, probe_nano: int | None) -> TurnResult:
        """Make the result of a turn; the meter is read before anything else."""
        raw = reader.result
        if raw is None:
            usage, cost = reader.so_far()
            basis = CostBasis.UNKNOWN if cost is None or not reader.started else CostBasis.ESTIMATED
            failure: Failure | None = crashed(wire.returncode, wire.stderr)
            structured, turns, api_s, output = None, 0, 0.0, reader.answer
            denials: tuple[Denial, ...] = ()
        else:
            usage, cost, basis = self._meter.read(raw, reader.so_far(), cut=reader.cut)
            denials = denials_of(raw.get("permission_denials"))
            reader.deny({str(d.get("tool_use_id")) for d in raw.get("permission_denials") or ()})
            failure = classify(raw, reader.error, max_turns=options.max_turns)
            if reader.refusal is not None and failure is not None:
                failure = of_notice(reader.refusal)
            elif failure is not None and failure.kind is FailureKind.LIMIT and reader.retry is None:
                failure = replace(failure, retry_after_s=LONG_WAIT_S)
            if failure is not None and failure.kind is FailureKind.LIMIT and reader.resets_at is not None:
                failure = replace(failure, retry_after_s=max(0.0, reader.resets_at - time.time()))
            structured = raw.get("structured_output")
            turns = int(raw.get("num_turns") or 0)
            api_s = float(raw.get("duration_api_ms") or 0) / 1000
            output = str(raw.get("result") or "") if failure is None else reader.answer
            self._session_id = raw.get("session_id") or self._session_id
            if failure is None and options.schema is not None and structured is None:
                failure = misfit()  # the CLI takes an answer in plain words for a success
            if failure is not None and failure.error_type == "schema":
                failure, output = misfit(reader.mismatch), reader.offered or output
        if probe_nano is None or probe_nano > 0:
            cost, basis = (cost or 0) + (probe_nano or 0), CostBasis.ESTIMATED
        warnings = []
        if reader.model is not None and not same_model(options.model, reader.model):
            warnings.append(f"{reader.model} answered, not {options.model}")
        if self._lost_servers:
            warnings.append(f"MCP servers without their tools: {', '.join(self._lost_servers)}; see mcp_servers")
        return TurnResult(
            output=output,
            failure=failure,
            cost_nano=cost or 0,
            cost_basis=basis,
            usage=usage,
            turns=turns,
            model=reader.model,
            session_id=self._session_id,
            api_s=api_s,
            structured=structured,
            denials=denials,
            wrote=reader.wrote,
            warnings=tuple(warnings),
        )

    async def _settle(self, wire: Wire, reader: TurnReader, prompt_id: str, failure: Failure | None) -> None:
        """After a turn: note where the conversation would be taken up again, or roll a failed turn back.

        The prompt of a failed turn stays in the history and would be sent along with the next one. In an isolated slot
        the reset removes it; a conversation goes back to before it, and where that is refused the session is broken,
        to be opened again at its resume point.
        """
        options = self._options
        if failure is None:
            self._resume_point = reader.last_message_id or self._resume_point
        elif failure.kind is FailureKind.CRASH:
            self._broken = True
        elif options is not None and (options.conversation is not None or options.slot_mode is SlotMode.PERSISTENT):
            request = {"subtype": "rewind_conversation", "target_message_uuid": prompt_id}
            try:
                answer = await wire.request(request, CONTROL_S)
                self._broken = not answer.get("rewound")
            except (SessionError, TimeoutError):
                self._broken = True

    # -- hearing ------------------------------------------------------------------------------------------------------

    def _ready(self) -> Wire:
        """The process, if it can be used."""
        if self._wire is None or self.broken:
            raise SessionLost
        return self._wire

    def _listen(self, prompt_id: str) -> TurnReader:
        """Begin to read the turn of a prompt."""
        self._reader = TurnReader(self._price, prompt_id)
        assert self._wake is not None
        self._wake.clear()
        return self._reader

    async def _stirred(self) -> None:
        """Wait until something was heard."""
        assert self._wake is not None
        await self._wake.wait()
        self._wake.clear()

    def _message(self, message: dict[str, Any]) -> None:
        """Take a message of the process; wake whoever waits, for streamed text only now and then."""
        kind = message.get("type")
        if self._default_model is None and self._model is None and message.get("subtype") == "init":
            self._default_model = str(message.get("model"))
            self._known_ids.add(self._default_model)
        if message.get("subtype") == "init":
            servers = message.get("mcp_servers") or ()
            self._lost_servers = tuple(f"{s.get('name')} ({s.get('status')})" for s in servers if _is_lost(s))
        if kind == "conversation_reset":
            self._reset_seen = True
            return
        if self._reader is None:
            if kind == "result":
                self._early = message
            return
        urgency = self._reader.feed(message)
        if urgency is Urgency.NOW:
            self._rouse()
        elif urgency is Urgency.SOON and self._soon is None:
            self._soon = asyncio.get_running_loop().call_later(COALESCE_S, self._rouse)

    def _rouse(self) -> None:
        """Wake whoever waits."""
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        if self._wake is not None:
            self._wake.set()

    def _lost(self) -> None:
        """The process is gone."""
        self._rouse()


def user_message(text: str, *, composed: bool) -> dict[str, Any]:
    """Make a message of the user's; a composed one is data: no command is run and no file is read for it.

    Example:
        >>> user_message("/clear", composed=True)["client_composed"]
        True
        >>> "client_composed" in user_message("/clear", composed=False)
        False
    """
    message: dict[str, Any] = {
        "type": "user",
        "message": {"role": "user", "content": text},
        "parent_tool_use_id": None,
        "session_id": "",
        "uuid": str(uuid4()),
    }
    if composed:
        message["client_composed"] = True
    return message


def _is_lost(server: Mapping[str, Any]) -> bool:
    """Whether an MCP server of the CLI's list has no tools to offer."""
    return server.get("status") in {"failed", "needs-auth", "pending"}


async def _within(event: asyncio.Event, limit_s: float) -> bool:
    """Wait for an event; False if it did not come in time."""
    try:
        async with asyncio.timeout(limit_s):
            await event.wait()
    except TimeoutError:
        return False
    return True
