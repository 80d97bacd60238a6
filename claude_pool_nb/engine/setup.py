"""From the arguments of a pool to its parts.

`Setup.build` finds what is wrong with the arguments and touches nothing; `assemble` checks the machine and the account,
opens the ledger, ends what a dead kernel left behind, and puts the engine together.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from claude_pool_nb.config import PoolConfig, SlotConfig
from claude_pool_nb.core.state import PoolState
from claude_pool_nb.engine.conversations import Conversations
from claude_pool_nb.engine.engine import Engine
from claude_pool_nb.engine.intake import Intake
from claude_pool_nb.errors import ConfigError, UnknownOption, nearest
from claude_pool_nb.options import CHECKS
from claude_pool_nb.records import BACKENDS, PLAY_BACKENDS
from claude_pool_nb.sessions.base import Backend
from claude_pool_nb.store import queries, shelf
from claude_pool_nb.store.answers import find_answers
from claude_pool_nb.store.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Setup:
    """How a pool was asked for; two equal ones are the same pool."""

    slots: int
    backend: str
    """Its name."""
    custom: Backend | None
    """A backend of the caller's own, for tests."""
    store: str | None
    config: PoolConfig
    slot_configs: tuple[SlotConfig, ...]
    budget_usd: float | None
    budget_name: str
    fresh_budget: bool
    scope: str
    """Whose shared context it is: the notebook or script."""
    record: str | None = None
    """The tape that is recorded."""
    cassette: str | None = None
    """The tape that is replayed."""
    speed: str = "instant"
    """How fast it is replayed."""

    @classmethod
    def build(
        cls,
        *,
        slots: int,
        profile: str | None,
        model: str | None,
        budget_usd: float | None,
        backend: str | Backend,
        store: str | Path | None,
        config: PoolConfig | None,
        slot_configs: Sequence[SlotConfig],
        budget_name: str | None,
        fresh_budget: bool,
        options: Mapping[str, Any],
    ) -> Setup:
        """Check the arguments of a pool.

        Raises:
            ConfigError: one of them cannot work; the message names it and what it takes.
        """
        if not isinstance(backend, str) and not hasattr(backend, "info"):
            raise ConfigError(f"backend={backend!r} cannot work: it takes {', '.join(BACKENDS)}")
        custom = backend if not isinstance(backend, str) else None
        backend = backend if isinstance(backend, str) else backend.info.name
        if custom is None and backend not in BACKENDS:
            raise ConfigError(f"there is no backend {backend!r}{nearest(backend, BACKENDS)}")
        options = dict(options)
        tape = _tape_of(backend, *(options.pop(name, None) for name in ("record", "cassette", "speed")))
        known = {field.name for field in fields(PoolConfig)}
        arguments = {
            "slots", "profile", "model", "budget_usd", "backend", "store", "config", "slot_configs", "driver",
            "record", "cassette", "speed", "budget_name", "fresh_budget",
        }  # fmt: skip
        for name in options:
            if name not in known:
                with contextlib.suppress(UnknownOption):
                    PoolConfig.from_mapping({name: options[name]})  # says what replaced it, if something did
                raise UnknownOption(f"there is no option {name!r}{nearest(name, known | arguments)}")
        given = dict(options)
        if config is None:
            merged = PoolConfig(**{**given, "profile": profile or "prompt"})
        else:
            if not isinstance(config, PoolConfig):
                raise ConfigError(f"config takes a PoolConfig, not a {type(config).__name__}")
            if profile is not None:
                given["profile"] = profile
            merged = replace(config, **given) if given else config
        if model is not None:
            merged = replace(merged, model=model)
        if budget_usd is not None:
            merged = replace(merged, budget_usd=budget_usd)
        slots = cast(int, CHECKS["min_slots"]("slots", slots))
        if not merged.min_slots <= slots <= merged.max_slots:
            raise ConfigError(
                f"slots={slots!r} cannot work: it takes a whole number from {merged.min_slots} to {merged.max_slots} "
                "(max_slots raises the limit)"
            )
        if not isinstance(slot_configs, Sequence):
            raise ConfigError(f"slot_configs takes a list of SlotConfigs, not a {type(slot_configs).__name__}")
        for slot in slot_configs:
            if not isinstance(slot, SlotConfig):
                raise ConfigError(f"slot_configs takes SlotConfigs, not a {type(slot).__name__}")
        if len(slot_configs) > slots:
            raise ConfigError(f"there are {len(slot_configs)} slot_configs for {slots} slots; give at most one each")
        if budget_name is not None:
            CHECKS["name"]("budget_name", budget_name)
        scope = _scope().encode("utf-8", "backslashreplace").decode()  # a file may be named in another encoding
        played = custom is not None and custom.info.play_money
        money = backend if backend in PLAY_BACKENDS else "demo" if played else "real"
        return cls(
            slots=slots,
            backend=backend,
            custom=custom,
            store=_checked_store(store),
            config=merged,
            slot_configs=tuple(slot_configs),
            budget_usd=merged.budget_usd,
            budget_name=budget_name or f"{scope} ({money})",
            fresh_budget=fresh_budget,
            scope=scope,
            **tape,
        )


def _checked_store(store: object) -> str | None:
    """Where the ledger is, as text."""
    if store is None:
        return None
    if not isinstance(store, str | os.PathLike):
        raise ConfigError(f"store={store!r} cannot work: store takes a path, ':memory:', or a database URL")
    return os.fspath(store)


def _tape_of(backend: str, record: object, cassette: object, speed: object) -> dict[str, str]:
    """Which tape is recorded or replayed, as fields of a `Setup`.

    Raises:
        ConfigError: these cannot go together with each other or with the backend.
    """
    paths: dict[str, str] = {}
    for name, value in (("record", record), ("cassette", cassette)):
        if value is None:
            continue
        if not isinstance(value, str | Path) or not str(value):
            raise ConfigError(f"{name}={value!r} cannot work: {name} takes the path of a tape, like 'tape.ndjson'")
        paths[name] = str(value)
    if backend == "replay":
        if record is not None:
            raise ConfigError("a replay is not recorded; leave record out, or record on backend='claude' or 'demo'")
        if cassette is None:
            raise ConfigError("backend='replay' needs the tape that it replays: cassette=PATH (record=PATH makes one)")
    elif cassette is not None:
        raise ConfigError(
            f"cassette={str(cassette)!r} is replayed by backend='replay', not by {backend!r}; give backend='replay' "
            "too, or record=PATH to record a tape"
        )
    if speed is not None:
        if backend != "replay":
            raise ConfigError(f"speed={speed!r} is of a replay; give backend='replay' and cassette=PATH too")
        from claude_pool_nb.sessions.cassette import checked_speed

        paths["speed"] = checked_speed(str(speed))
    return paths


def _scope() -> str:
    """The notebook or script this runs in, as well as it can be known."""
    if notebook := os.environ.get("JPY_SESSION_NAME"):
        return Path(notebook).name
    main = sys.modules.get("__main__")
    vscode = getattr(main, "__vsc_ipynb_file__", None)
    script = vscode or getattr(main, "__file__", None)
    if script and "ipykernel_launcher" not in str(script):
        return Path(script).name
    return Path.cwd().name or "notebook"


def make_backend(setup: Setup) -> Backend:
    """The backend that a pool asked for, with the tape that it is recorded to.

    Raises:
        CassetteError: the tape cannot be used.
    """
    if setup.cassette is not None:
        from claude_pool_nb.sessions.cassette_backend import CassetteBackend

        return CassetteBackend.replaying(setup.cassette, speed=setup.speed)
    backend = _answering(setup)
    if setup.record is not None:
        from claude_pool_nb.sessions.cassette_backend import CassetteBackend

        return CassetteBackend.recording(backend, setup.record)
    return backend


def _answering(setup: Setup) -> Backend:
    """Who answers."""
    if setup.custom is not None:
        return setup.custom
    if setup.backend == "demo":
        from claude_pool_nb.sessions.demo import DemoBackend

        return DemoBackend(latency_s=setup.config.demo_latency_s)
    from claude_pool_nb.sessions.claude_backend import ClaudeBackend

    return ClaudeBackend()


async def assemble(setup: Setup) -> Engine:
    """Put a pool's engine together, not yet started.

    Raises:
        MissingCredentials, CLINotFound, UnknownModel: from the backend's check.
        CassetteError: a tape cannot be used.
        StoreError: the ledger cannot be used.
    """
    backend = await asyncio.to_thread(make_backend, setup)
    config = setup.config
    slot_configs = {f"s{number}": slot for number, slot in enumerate(setup.slot_configs, 1)}
    try:
        ledger = Ledger.open(setup.store)
    except BaseException:
        await backend.close()
        raise
    try:
        conversations = Conversations(ledger)
        intake = Intake(config, backend, conversations, slot_configs=slot_configs)
        intake.find_answers = partial(find_answers, ledger)
        intake.context.update(shelf.list_context(ledger, setup.scope))
        options = [intake.resolve(None, None), *(intake.resolve(None, slot_id) for slot_id in slot_configs)]
        warnings = await backend.check(options[0], setup.slots)
        recovery = await asyncio.to_thread(ledger.recover)
        if recovery.orphans:
            from claude_pool_nb.sessions.processes import end_orphans

            await asyncio.to_thread(end_orphans, [orphan[:3] for orphan in recovery.orphans])
            for orphan in recovery.orphans:
                ledger.forget_process(orphan.pool_id, orphan.slot_id, orphan.pid)
        play_money = backend.info.play_money
        pool_id = ledger.register_pool(
            backend=setup.backend, config_json=config.to_json(), notebook=setup.scope, play_money=play_money
        )
        budget = ledger.open_budget(
            setup.budget_name, limit_usd=setup.budget_usd, fresh=setup.fresh_budget, play_money=play_money
        )
    except BaseException:
        ledger.close()
        await backend.close()
        raise
    state = PoolState(
        pool_id,
        slots=setup.slots,
        budget=budget,
        strict_budget=config.strict_budget,
        min_slots=config.min_slots,
        max_slots=config.max_slots,
        max_restarts=config.max_restarts,
        history=queries.history(ledger, play_money=play_money),
    )
    intake.leaving = state.leaving
    engine = Engine(state, ledger, backend, intake, pool_id=pool_id, budget=budget, idle_close_s=config.idle_close_s)
    engine.watchers.warnings.extend(warnings)
    if recovery.runs:
        engine.watchers.warnings.append(
            f"a kernel ended while {', '.join(recovery.runs)} ran; `%pool resume RUN` runs what is missing"
        )
    return engine
