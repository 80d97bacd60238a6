"""The backend that makes sessions on the real claude CLI, and says beforehand whether that can work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from claude_pool_nb.config import ResolvedConfig
from claude_pool_nb.errors import MissingCredentials, NotYetSupported
from claude_pool_nb.model_names import validate_model
from claude_pool_nb.records import Usage
from claude_pool_nb.sessions.base import BackendInfo, Session
from claude_pool_nb.sessions.claude import ClaudeSession
from claude_pool_nb.sessions.credentials import find_credentials
from claude_pool_nb.sessions.launch import environment, find_cli, verify
from claude_pool_nb.sessions.processes import CAN_BE_ENDED, WATCHER, off_loop

SLOT_BYTES = 345 << 20
"""What one process was seen to grow to; a fresh one takes half of it."""


class ClaudeBackend:
    """Sessions on the claude CLI that claude-agent-sdk ships.

    Args:
        options: What the pool will run with; used to see what account there is, for the notice of `info`.
        price: What a usage costs at list price; by default `claude_pool_nb.pricing`.

    Example:
        >>> ClaudeBackend().info.name
        'claude'
    """

    def __init__(
        self,
        *,
        options: ResolvedConfig | None = None,
        price: Callable[[str | None, Usage], int | None] | None = None,
    ) -> None:
        self._options = options or ResolvedConfig()
        self._price = price

    @property
    def info(self) -> BackendInfo:
        """What it is; with a subscription's login, that its dollars are notional."""
        notice = None
        try:
            if find_credentials(self._options).subscription:
                notice = "subscription login: dollars are notional, at list price"
        except MissingCredentials:
            notice = "no credentials were found"
        return BackendInfo("claude", notice=notice)

    async def check(self, options: ResolvedConfig, slots: int) -> list[str]:
        """Verify, before anything is started, that sessions can be had.

        Returns:
            Warnings to show.

        Raises:
            NotYetSupported: on Windows, where a dead kernel might leave sessions behind that go on spending.
            ConfigError, UnknownModel, CLINotFound, MissingCredentials: with what to do next.
        """
        if not CAN_BE_ENDED:
            raise NotYetSupported(
                "sessions of the claude CLI need Linux or macOS; on Windows work in WSL, "
                "or use backend='demo' or 'replay' (magic: --backend demo), which run everywhere"
            )
        self._options = options
        verify(options)
        env = environment(options)
        for name in (options.model, options.fallback_model):
            if name is not None:
                validate_model(name, backend="claude")
        find_cli(options.cli_path)
        find_credentials(options, env)
        warning = await asyncio.to_thread(memory_warning, slots)
        return [warning] if warning else []

    def session(self, slot_id: str) -> Session:
        """A session, not yet open."""
        return ClaudeSession(self.estimate_nano)

    def estimate_nano(self, model: str | None, usage: Usage) -> int | None:
        """What that usage costs at list price in nanodollars; None if no price is known."""
        if self._price is not None:
            return self._price(model, usage)
        from claude_pool_nb import pricing

        return pricing.cost_nano(model, usage)

    async def close(self) -> None:
        """Let the watcher go, unless another backend of this kernel still has sessions open."""
        await off_loop(WATCHER.close)


def memory_warning(slots: int, available_bytes: int | None = None) -> str | None:
    """Say if the memory will be short; None if it will not.

    Example:
        >>> memory_warning(8, 1 << 30)
        '8 slots may take 2.7 GB of memory and 1.0 GB is free; 2 would be safe: pass slots=2.'
        >>> memory_warning(2, 1 << 30) is None
        True
    """
    free = available_memory() if available_bytes is None else available_bytes
    wanted = slots * SLOT_BYTES
    if wanted <= free:
        return None
    fit = max(1, free // SLOT_BYTES)
    return (
        f"{slots} slots may take {wanted / 2**30:.1f} GB of memory and {free / 2**30:.1f} GB is free; "
        f"{fit} would be safe: pass slots={fit}."
    )


def available_memory() -> int:
    """Bytes that this process may still use: of the machine, or of its container if that is less.

    Example:
        >>> available_memory() > 0
        True
    """
    import psutil

    free = int(psutil.virtual_memory().available)
    for limit_file, usage_file in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            limit = int(Path(limit_file).read_text(encoding="ascii"))
            used = int(Path(usage_file).read_text(encoding="ascii"))
        except (OSError, ValueError):
            continue  # no such limit
        free = min(free, max(0, limit - used))
    return free
