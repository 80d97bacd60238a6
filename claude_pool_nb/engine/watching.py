"""Who watches the pool: subscribers get every committed event, and what a person should know is kept, each once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from claude_pool_nb import events
from claude_pool_nb.records import usd

log = logging.getLogger("claude_pool_nb")

Watcher = Callable[[events.Event], None]


class Watchers:
    """Subscribers and warnings.

    Invariant: a subscriber that fails is told nothing more, and disturbs neither the pool nor the others.

    Example:
        >>> watchers, seen = Watchers(), []
        >>> unsubscribe = watchers.subscribe(seen.append)
        >>> watchers.tell([events.Warned(0.0, "memory is short")])
        >>> watchers.warnings, len(seen)
        (['memory is short'], 1)
    """

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self._watchers: list[Watcher] = []

    def subscribe(self, watcher: Watcher) -> Callable[[], None]:
        """Call `watcher` with every committed event; returns how to stop that."""
        self._watchers.append(watcher)

        def unsubscribe() -> None:
            if watcher in self._watchers:
                self._watchers.remove(watcher)

        return unsubscribe

    def warn(self, message: str) -> None:
        """Keep something that a person should know."""
        if message not in self.warnings:
            self.warnings.append(message)

    def tell(self, committed: Iterable[events.Event]) -> None:
        """Tell whoever watches."""
        for event in committed:
            if isinstance(event, events.Warned):
                self.warn(event.message)
            elif isinstance(event, events.BudgetWarning):
                self.warn(
                    f"${usd(event.spent_nano):.4g} of the budget of ${usd(event.limit_nano):.4g} is spent; "
                    "`%pool budget USD` raises it"
                )
            for watcher in tuple(self._watchers):
                try:
                    watcher(event)
                except Exception as error:
                    self._watchers.remove(watcher)
                    log.error("a watcher failed and is told nothing more", exc_info=error)
                    self.warn(f"a watcher of the pool's events failed ({error!r}) and is told nothing more")
