"""The runners of all slots: sessions opened, made ready and closed as the core asks, and the core told how it went.

Invariants: a slot has a runner from its first opening until it is closed, so that whatever holds a process can be
killed; a session that cannot be had is told of as lost, whatever the reason; the ledger knows each slot's process from
the moment it is seen here, so that the next kernel can end it if this one dies badly.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping

from claude_pool_nb.core import commands, inputs
from claude_pool_nb.core.state import PoolState
from claude_pool_nb.engine.intake import Intake
from claude_pool_nb.engine.slots import SlotRunner
from claude_pool_nb.errors import PoolError
from claude_pool_nb.records import SlotRecord, SlotState
from claude_pool_nb.redact import redact
from claude_pool_nb.sessions.base import Backend
from claude_pool_nb.store.ledger import Ledger

log = logging.getLogger("claude_pool_nb")


class Runners(Mapping[str, SlotRunner]):
    """The runners by their slots' ids.

    Args:
        state: The core, to see whether a slot is still the one that was meant.
        intake: Knows the options with which a slot is opened.
        ledger: Where processes are written down.
        pool_id: Whose they are.
        backend: Who answers now, asked for at each new runner.
        tell: Takes what the core has to know.
        warn: Takes what a person should know.
        idle_close_s: After so long with nothing to do a process is closed.
    """

    def __init__(
        self,
        state: PoolState,
        intake: Intake,
        ledger: Ledger,
        pool_id: str,
        *,
        backend: Callable[[], Backend],
        tell: Callable[[inputs.Input], None],
        warn: Callable[[str], None],
        idle_close_s: float | None = None,
    ) -> None:
        self._state = state
        self._intake = intake
        self._ledger = ledger
        self._pool_id = pool_id
        self._backend = backend
        self._tell = tell
        self._warn = warn
        self._idle_close_s = idle_close_s
        self._runners: dict[str, SlotRunner] = {}
        self._pids: dict[str, int] = {}

    def __getitem__(self, slot_id: str) -> SlotRunner:
        return self._runners[slot_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._runners)

    def __len__(self) -> int:
        return len(self._runners)

    def of(self, slot_id: str) -> SlotRunner:
        """The runner of a slot; made if it has none."""
        runner = self._runners.get(slot_id)
        if runner is None:
            runner = self._runners[slot_id] = SlotRunner(
                slot_id, self._backend(), idle_close_s=self._idle_close_s, warn=self._warn
            )
        return runner

    async def open(self, command: commands.OpenSlot) -> None:
        """Have a session in a slot."""
        slot_id, epoch = command.slot_id, command.epoch
        if command.delay_s:
            await asyncio.sleep(command.delay_s)
            if not self._is_current(slot_id, epoch):
                return
        try:
            await self.of(slot_id).open(self._intake.options_of_slot(slot_id))
        except Exception as error:  # noqa: BLE001 - a slot that cannot be opened is told of as lost, whatever the reason
            self._tell(inputs.SlotLost(time.time(), slot_id, epoch, why(error)))
            return
        self.note_process(slot_id)
        self._tell(inputs.SlotOpened(time.time(), slot_id, epoch))

    async def reset(self, command: commands.ResetSlot) -> None:
        """Make a slot ready for its next task."""
        slot_id, epoch = command.slot_id, command.epoch
        try:
            await self.of(slot_id).make_ready(self._intake.options_of_slot(slot_id))
        except Exception as error:  # noqa: BLE001 - as above
            self._tell(inputs.SlotLost(time.time(), slot_id, epoch, why(error)))
            return
        self.note_process(slot_id)
        self._tell(inputs.SlotReady(time.time(), slot_id, epoch))

    async def close(self, command: commands.CloseSlot) -> None:
        """End a slot's session."""
        runner = self._runners.get(command.slot_id)
        if runner is not None:  # it stays known until it is closed: another command may have to kill it meanwhile
            await runner.close(kill=command.kill)
            self._runners.pop(command.slot_id, None)
        if self._pids.pop(command.slot_id, None) is not None:
            self._ledger.forget_process(self._pool_id, command.slot_id)
        self._tell(inputs.SlotClosed(time.time(), command.slot_id, command.epoch))

    async def kill_all(self) -> None:
        """End whatever is left."""
        for runner in list(self._runners.values()):
            await runner.close(kill=True)
        self._runners.clear()

    def note_process(self, slot_id: str) -> None:
        """Let the ledger know the slot's process, if it has another than before."""
        runner = self._runners.get(slot_id)
        info = runner.info if runner is not None else None
        if info is not None and info.pid is not None and self._pids.get(slot_id) != info.pid:
            self._pids[slot_id] = info.pid
            started_at, executable = info.started_at or 0.0, info.executable or ""
            self._ledger.record_process(self._pool_id, slot_id, info.pid, started_at, executable)

    def describe(self) -> list[SlotRecord]:
        """The slots as they are now, with process, session and memory; may be asked from any thread."""
        described: list[SlotRecord] = []
        for slot in self._state.slots():
            runner = self._runners.get(slot.id)  # asked once: the slot may be closed meanwhile
            described.append(runner.describe(slot) if runner is not None else slot)
        return described

    def _is_current(self, slot_id: str, epoch: int) -> bool:
        """False if the slot was closed or opened anew meanwhile."""
        return self._state.slot_epoch(slot_id) == epoch and self._state.slot(slot_id).state is not SlotState.STOPPED


def why(error: Exception) -> str:
    """An error in having a session as one line; what is a defect of ours is logged with its stack.

    Example:
        >>> why(PoolError("the disk is full"))
        'the disk is full'
    """
    if isinstance(error, PoolError):
        return redact(str(error))
    log.error("a defect of claude-pool-nb: please report it", exc_info=error)
    return redact(f"internal error: {error!r}; please report it")
