"""What the core decides, on its way to the ledger.

Invariants: what is decided within one tick of the loop is one batch, and batches are handed over in their order; the
commands of a batch that wait for its commit are performed after it, or never. When the ledger fails, what it did not
take is kept in memory in its order, nothing more is handed over until `retry`, and then the same batches are.
"""

from __future__ import annotations

import asyncio
import concurrent.futures as cf
from bisect import insort
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from claude_pool_nb.core.commands import Command
from claude_pool_nb.errors import StoreConflict, StoreError
from claude_pool_nb.events import Event
from claude_pool_nb.store.ledger import Ledger, WriteResult


@dataclass(slots=True, eq=False)
class Batch:
    """What one tick of the loop decided."""

    number: int
    """Batches are committed in the order of their numbers."""
    events: list[Event] = field(default_factory=list)
    deferred: list[Command] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.events or self.deferred)


class Journal:
    """Hands batches to the ledger and says when they are in it.

    Args:
        ledger: Where to.
        pool_id: Whose events they are.
        budget_id: The budget that reservations are taken from, asked for at each batch.
        written: Called with a batch after its commit.
        failed: Called when the ledger failed, once until `retry`, and with each later batch that it did not take.
    """

    def __init__(
        self,
        ledger: Ledger,
        pool_id: str,
        budget_id: Callable[[], int],
        *,
        written: Callable[[Batch, WriteResult], None],
        failed: Callable[[Batch, bool], None],
    ) -> None:
        self.error: StoreError | None = None
        self._ledger = ledger
        self._pool_id = pool_id
        self._budget_id = budget_id
        self._on_written = written
        self._on_failed = failed
        self._batch = Batch(1)
        self._written_number = 0
        self._asked = False
        self._under_way: dict[int, Batch] = {}
        self._kept: list[Batch] = []
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []

    def bind(self) -> None:
        """Work on the running loop from now on."""
        self._loop = asyncio.get_running_loop()

    def note(self, events: Iterable[Event]) -> None:
        """Events of this tick."""
        self._batch.events.extend(events)

    def defer(self, command: Command) -> None:
        """A command of this tick, to be performed after the commit."""
        self._batch.deferred.append(command)

    def commit_soon(self) -> None:
        """Hand over what there is at the end of this tick."""
        if self._batch and not self._asked:
            self._asked = True
            self._loop.call_soon(self._flush)

    def commit_now(self) -> None:
        """Hand over what there is at once, unless a commit is under way: what it leaves waiting shares the next one."""
        if self._batch and not self._under_way:
            self._flush()

    def _flush(self) -> None:
        self._asked = False
        if not self._batch:
            return  # it was handed over already
        batch, self._batch = self._batch, Batch(self._batch.number + 1)
        if self.error is None:
            self._write(batch)
        else:
            self._keep(batch)
            self._on_failed(batch, False)

    def _write(self, batch: Batch) -> None:
        self._under_way[batch.number] = batch
        try:
            future = self._ledger.write(
                self._pool_id, self._budget_id(), batch.events, call_soon=self._loop.call_soon_threadsafe
            )
        except StoreError as error:  # it is closed: nothing of it can come later
            future = cf.Future()
            future.set_exception(error)
        future.add_done_callback(partial(self._done, batch))

    def _done(self, batch: Batch, future: cf.Future[WriteResult]) -> None:
        self._under_way.pop(batch.number, None)
        error = future.exception()
        try:
            if error is None:
                self._written_number = max(self._written_number, batch.number)
                self._on_written(batch, future.result())
                return
            first = self.error is None
            self._keep(batch)
            if first:
                self.error = (
                    error
                    if isinstance(error, StoreError)
                    else StoreError(f"the ledger could not be written: {error!r}; `%pool doctor` tells more")
                )
            self._on_failed(batch, first)
        finally:
            self._wake()

    def _keep(self, batch: Batch) -> None:
        insort(self._kept, batch, key=lambda kept: kept.number)

    def _wake(self) -> None:
        waiting, self._waiters = self._waiters, []
        for number, future in waiting:
            if number > self._written_number and self.error is None:
                self._waiters.append((number, future))
            elif not future.done():
                future.set_result(None)

    def retry(self) -> None:
        """Write what could not be written.

        Raises:
            StoreConflict: the ledger will never take it: another kernel has settled this pool's work as that of a
                dead one.
        """
        if isinstance(self.error, StoreConflict):
            raise self.error
        self.error = None
        kept, self._kept = self._kept, []
        for batch in kept:
            self._write(batch)

    @property
    def _last_number(self) -> int:
        """The number of the latest batch that holds anything."""
        return self._batch.number if self._batch else self._batch.number - 1

    @property
    def is_committed(self) -> bool:
        """True if all that was decided so far is in the ledger."""
        return self.error is None and self._written_number >= self._last_number

    async def committed(self) -> None:
        """Wait until all that was decided so far is in the ledger.

        Raises:
            StoreError: the ledger failed.
        """
        number = self._last_number
        if self.error is None and self._written_number < number:
            future: asyncio.Future[None] = self._loop.create_future()
            self._waiters.append((number, future))
            await future
        if self.error is not None:
            raise self.error

    def uncommitted(self) -> list[Event]:
        """Events that are decided and not in the ledger yet, in their order; may be asked from any thread."""
        batches = {batch.number: batch for batch in (*self._kept, *tuple(self._under_way.values()), self._batch)}
        return [event for number in sorted(batches) for event in tuple(batches[number].events)]
