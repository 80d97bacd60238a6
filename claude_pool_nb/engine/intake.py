"""From what a caller asked for to tasks the core can decide about, and back to the options of each attempt.

Invariants: everything that can be wrong with a call is found here, before a run number is taken or a cent reserved.
The same task gets the same options in every slot but for the slot's own SlotConfig and the shared context of the
moment. Texts that hold a secret are kept in memory only; the core and the ledger see the redacted text.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

from claude_pool_nb import pricing
from claude_pool_nb.config import PoolConfig, ResolvedConfig, SlotConfig, TaskOverrides, resolve
from claude_pool_nb.core.inputs import TaskSpec
from claude_pool_nb.engine.conversations import Conversations
from claude_pool_nb.engine.requests import Requests
from claude_pool_nb.errors import ConfigError, RunNotFound
from claude_pool_nb.records import EarlierAnswer, RunRecord, TaskRecord, nano
from claude_pool_nb.redact import redact, redact_json
from claude_pool_nb.sessions.base import Backend

MAX_RESOLVED = 2_000
"""So many resolved options are remembered."""
MAX_PROMPT_BYTES = 8_000_000
"""A longer prompt is refused by name: no model reads it."""
DEFAULT_CACHEABLE_TOKENS = 1_024
"""The smallest prefix that most models cache."""
CACHEABLE_TOKENS = {"claude-haiku-4-5": 4_096}
"""Models that cache only longer prefixes."""
PRESET_TOKENS = 18_000
"""What Claude Code's own prompt and tools come to."""


def check_prompts(prompts: Sequence[object], where: Callable[[int], str] | None = None) -> list[str]:
    """The prompts as texts.

    Args:
        prompts: what a caller gave.
        where: how the prompt at a position is called in a message.

    Raises:
        ConfigError: there is none, or one is empty, too long or no text; the message names its position.

    Example:
        >>> check_prompts(["a poem", ""])
        Traceback (most recent call last):
        claude_pool_nb.errors.ConfigError: prompt 1 is empty; nothing was sent
    """
    if not prompts:
        raise ConfigError("there are no prompts to run; give at least one")
    checked: list[str] = []
    for at, prompt in enumerate(prompts):
        if not isinstance(prompt, str):
            problem = f"is {_kind_of(prompt)}, not text; convert it or leave the row out"
        elif not prompt.strip():
            problem = "is empty; nothing was sent"
        elif "\0" in prompt:
            problem = "holds a null byte, which the claude CLI cannot take; remove it"
        elif len(prompt) > MAX_PROMPT_BYTES:
            problem = f"has {len(prompt):,} characters; at most {MAX_PROMPT_BYTES:,} can be sent"
        else:
            checked.append(prompt)
            continue
        name = where(at) if where is not None else f"prompt {at}" if len(prompts) > 1 else "the prompt"
        raise ConfigError(f"{name} {problem}")
    return checked


@dataclass(slots=True)
class _TaskNote:
    """What is kept of a task outside the core."""

    overrides: TaskOverrides
    overrides_json: str
    """What they are known by; made once, because every attempt asks for it."""
    config: PoolConfig | None = None
    """Only where it is not the pool's: a resumed run keeps the configuration it was made with."""


@dataclass(slots=True)
class Intake:
    """Makes specs and remembers how to resolve them."""

    config: PoolConfig
    backend: Backend
    conversations: Conversations
    slot_configs: dict[str, SlotConfig] = field(default_factory=dict)
    context: dict[str, str] = field(default_factory=dict)
    find_answers: Callable[[Iterable[str]], Mapping[str, EarlierAnswer]] | None = None
    """Looks in the ledger for answers to requests of these names."""
    leaving: Callable[[], Collection[str]] = frozenset
    """The slots that get no more tasks."""
    requests: Requests = field(init=False)
    """Names requests, so that identical ones are known."""
    _notes: dict[str, _TaskNote] = field(default_factory=dict)
    _secret_prompts: dict[str, str] = field(default_factory=dict)
    """Texts that hold a secret: the records have them redacted."""
    _resolved: dict[tuple[str, str | None, int], ResolvedConfig] = field(default_factory=dict)
    _configs: dict[str, PoolConfig] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Names are of this pool's backend."""
        self.requests = Requests(self.backend.info)

    # -- options -------------------------------------------------------------------------------------------------------

    def changed(self) -> None:
        """The context or a slot's configuration changed: resolve anew."""
        self._resolved.clear()

    def resolve(
        self,
        overrides: TaskOverrides | None = None,
        slot_id: str | None = None,
        config: PoolConfig | None = None,
        *,
        overrides_json: str | None = None,
    ) -> ResolvedConfig:
        """The options of a task with these overrides (and their JSON, where it is known) in that slot.

        Raises:
            ConfigError: they contradict each other.
        """
        slot = self.slot_configs.get(slot_id) if slot_id is not None else None
        if overrides_json is None:
            overrides_json = overrides.to_json() if overrides is not None else ""
        key = overrides_json, slot_id if slot else None, id(config or self.config)
        known = self._resolved.get(key)
        if known is None:
            known = resolve(
                config or self.config, slot, overrides, context=self.context, backend=self.backend.info.name
            )
            if len(self._resolved) >= MAX_RESOLVED:
                self._resolved.clear()
            self._resolved[key] = known
        return known

    def options_of(self, task_id: str, slot_id: str | None = None) -> ResolvedConfig:
        """The options of a task in a slot."""
        note = self._notes[task_id]
        return self.resolve(note.overrides, slot_id, note.config, overrides_json=note.overrides_json)

    def options_of_record(self, task: TaskRecord, run: RunRecord, slot_id: str | None = None) -> ResolvedConfig:
        """The options of any task of the ledger: its run's configuration holds, as it would if it were run again."""
        return self.resolve(self.overrides_of(task), slot_id, self._config_of(run))

    def overrides_of(self, task: TaskRecord, changes: TaskOverrides | None = None) -> TaskOverrides:
        """A task's own options, and the changes to them.

        As they were given where they are still known, because the ledger holds no secrets.
        """
        note = self._notes.get(task.id)
        own = note.overrides if note is not None else TaskOverrides.from_json(task.overrides)
        if changes is None:
            return own
        given = {one.name: getattr(changes, one.name) for one in fields(changes)}
        return replace(own, **{name: value for name, value in given.items() if value is not None})

    def options_of_slot(self, slot_id: str) -> ResolvedConfig:
        """The options with which a slot is opened before it has a task."""
        return self.resolve(None, slot_id)

    def prompt_of(self, task: TaskRecord) -> str:
        """The text to send."""
        return self._secret_prompts.get(task.id, task.prompt)

    def request_of(self, task: TaskRecord, options: ResolvedConfig) -> str | None:
        """The name of what is sent with these options; None if its answer must not be given to another request."""
        if task.id in self._secret_prompts:
            return None  # two secrets look alike in the ledger
        return self.requests.name(task.prompt, options, task.sample)

    def forget(self, task_ids: Iterable[str]) -> None:
        """The core holds these tasks no more: what is needed to run them again is in the ledger."""
        for task_id in task_ids:
            self._notes.pop(task_id, None)
            self._secret_prompts.pop(task_id, None)

    # -- new runs ------------------------------------------------------------------------------------------------------

    def check_options(self, overrides: TaskOverrides) -> None:
        """See that tasks can have these options.

        Raises:
            ConfigError: they contradict each other, or no slot has their role.
        """
        self._plan(overrides)

    def wherever(self, overrides: TaskOverrides, run: RunRecord | None = None) -> tuple[ResolvedConfig, ...]:
        """The options of a task in every slot that may run it, as far as they differ.

        Args:
            overrides: its own options.
            run: the run it belongs to, whose configuration holds; None for a new one.

        Raises:
            ConfigError: they contradict each other, or no slot has their role.
        """
        return self._plan(overrides, None if run is None else self._config_of(run)).priced

    def specs(
        self,
        run_id: str,
        prompts: Sequence[str],
        overrides: Sequence[TaskOverrides],
        *,
        rows: Sequence[int] | None = None,
        samples: Sequence[int] | None = None,
        inputs: Sequence[str] | None = None,
    ) -> tuple[TaskSpec, ...]:
        """One spec for each prompt, in order.

        Args:
            run_id: the run that they make.
            prompts: checked texts.
            overrides: the options of each; equal ones had better be one object.
            rows: the position of each one's input row; its own position by default.
            samples: which sample of its row each is; the first by default.
            inputs: the caller's own columns of each, as JSON text.
        """
        now = time.time()
        made: list[TaskSpec] = []
        planned: list[_Plan] = []
        plans: dict[int, _Plan] = {}
        for at, (prompt, mine) in enumerate(zip(prompts, overrides, strict=True)):
            plan = plans.get(id(mine))
            if plan is None:
                plan = plans[id(mine)] = self._plan(mine)
            record = TaskRecord(
                id=f"{run_id}.{at + 1}",
                run_id=run_id,
                number=at + 1,
                prompt=redact(prompt),
                row=rows[at] if rows is not None else at,
                sample=samples[at] if samples is not None else 0,
                tags=plan.tags,
                priority=plan.priority,
                conversation=plan.options.conversation,
                role=plan.role,
                profile=plan.options.profile,
                requested_model=plan.options.model,
                overrides=plan.overrides_json,
                inputs=inputs[at] if inputs is not None else None,
                created_at=now,
            )
            made.append(self._spec(record, prompt, plan))
            planned.append(plan)
        if any(plan.options.cache for plan in plans.values()):
            self._answer(made, planned)
        return tuple(made)

    def _answer(self, specs: list[TaskSpec], plans: Sequence[_Plan]) -> None:
        """Give those with `cache` whose request was answered before that answer.

        Raises:
            StoreError: the ledger cannot be used.
        """
        wanted = {
            at: [name for options in plan.priced if (name := self.request_of(spec.record, options)) is not None]
            for at, (spec, plan) in enumerate(zip(specs, plans, strict=True))
            if plan.options.cache
        }
        asked = {name for names in wanted.values() for name in names}
        found = self.find_answers(asked) if self.find_answers is not None and asked else {}
        for at, names in wanted.items():
            answer = next((found[name] for name in names if name in found), None)
            if answer is not None:
                specs[at] = replace(specs[at], answer=answer)

    def caches(self, overrides: Iterable[TaskOverrides]) -> bool:
        """Whether tasks with some of these options may be answered from the ledger, which has to be looked into."""
        return any(self.resolve(mine).cache for mine in overrides)

    def _plan(self, overrides: TaskOverrides, config: PoolConfig | None = None) -> _Plan:
        options = self.resolve(overrides, None, config)
        role = overrides.role if isinstance(overrides.role, str) else None
        if role is not None and all(
            slot.role != role or slot_id in self.leaving() for slot_id, slot in self.slot_configs.items()
        ):
            raise ConfigError(
                f"no slot has the role {role!r}; give one with pool.configure_slot('s1', role={role!r}) first"
            )
        priced = self._wherever(overrides, role, options, config)
        return _Plan(
            overrides=overrides,
            overrides_json=overrides.to_json(),
            options=options,
            priced=priced,
            estimates=tuple(pricing.task_estimate(one, backend=self.backend.info.prices) for one in priced),
            launch_key=options.launch_key,
            role=role,
            tags=tuple(overrides.tags or ()),
            priority=overrides.priority if isinstance(overrides.priority, int) else 0,
            prime_key=_prime_key(options),
            strict=(config or self.config).strict_budget,
            config=config,
        )

    def _wherever(
        self, overrides: TaskOverrides, role: str | None, options: ResolvedConfig, config: PoolConfig | None
    ) -> tuple[ResolvedConfig, ...]:
        """The options of a task in each slot that may run it: a slot may have a model or limits of its own."""
        several = {} if role is not None else {options: None}
        for slot_id, slot in self.slot_configs.items():
            if role is None or slot.role == role:
                # Options that contradict each other in a slot fail the task there, before it costs anything.
                with contextlib.suppress(ConfigError):
                    several[self.resolve(overrides, slot_id, config)] = None
        return tuple(several) or (options,)

    def _spec(self, record: TaskRecord, prompt: str, plan: _Plan) -> TaskSpec:
        options = plan.options
        self._notes[record.id] = _TaskNote(plan.overrides, plan.overrides_json, config=plan.config)
        if prompt != record.prompt:
            self._secret_prompts[record.id] = prompt
        patience = options.slot_assignment_timeout_s
        return TaskSpec(
            record=record,
            launch_key=plan.launch_key,
            retry=options.retry,
            cap_nano=nano(options.max_budget_usd) if options.max_budget_usd is not None else None,
            list_price_nano=_dearest(estimate(prompt) for estimate in plan.estimates),
            worst_case_nano=_dearest(
                pricing.worst_case_nano(o, prompt, backend=self.backend.info.prices) for o in plan.priced
            )
            if plan.strict
            else None,
            prime_key=plan.prime_key,
            deadline_at=time.time() + patience if patience is not None else None,
        )

    # -- runs of a pool that is gone, and runs again -------------------------------------------------------------------

    def revive(
        self,
        run: RunRecord,
        tasks: Sequence[TaskRecord],
        prompts: Mapping[str, str] | None = None,
        changes: TaskOverrides | None = None,
    ) -> tuple[TaskSpec, ...]:
        """Specs of recorded tasks, resolved with the configuration that their run was made with.

        Args:
            run: Their run.
            tasks: Their records.
            prompts: New prompts by task id, where some were given.
            changes: Options that take the place of the tasks' own.

        Raises:
            ConfigError: options contradict each other; nothing has changed then.
            RunNotFound: the run was made on another backend.
        """
        self.check_backend(run)
        config = self._config_of(run)
        plans: dict[str, _Plan] = {}
        planned: list[_Plan] = []
        for record in tasks:
            note = self._notes.get(record.id)
            known_by = note.overrides_json if note is not None else record.overrides
            plan = plans.get(known_by)
            if plan is None:
                plan = plans[known_by] = self._plan(self.overrides_of(record, changes), config)
            planned.append(plan)
        made: list[TaskSpec] = []
        for record, plan in zip(tasks, planned, strict=True):
            prompt = (prompts or {}).get(record.id)
            given = record
            if prompt is None:
                prompt = self.prompt_of(record)
            else:
                self._secret_prompts.pop(record.id, None)
                given = replace(given, prompt=redact(prompt))
            if changes is not None:
                given = replace(given, overrides=plan.overrides_json, requested_model=plan.options.model)
            made.append(self._spec(given, prompt, plan))
        return tuple(made)

    def check_backend(self, run: RunRecord) -> None:
        """See that a run can be run again here.

        Raises:
            RunNotFound: it was made on another backend.
        """
        if run.backend != self.backend.info.name:
            raise RunNotFound(
                f"run {run.id} was made on the {run.backend} backend and this pool is on "
                f"{self.backend.info.name}; start one with `%pool start --backend {run.backend} --replace`"
            )

    def _config_of(self, run: RunRecord) -> PoolConfig | None:
        """The configuration that a run was made with; None if it is the pool's."""
        mine = self.config.to_json()
        if run.config in {"{}", mine, redact_json(mine)}:
            return None
        if run.config not in self._configs:
            # The environment may hold secrets and is not in the ledger: this pool's own takes its place.
            self._configs[run.config] = replace(PoolConfig.from_json(run.config), env=self.config.env)
        return self._configs[run.config]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What tasks with the same overrides have in common."""

    overrides: TaskOverrides
    overrides_json: str
    options: ResolvedConfig
    priced: tuple[ResolvedConfig, ...]
    """Its options in every slot that may run it, as far as they differ: the dearest decides what is held back, and an
    answer that was given to any of them may be given again."""
    estimates: tuple[Callable[[str], int | None], ...]
    """What a prompt costs with each of these."""
    launch_key: str
    role: str | None
    tags: tuple[str, ...]
    priority: int
    prime_key: str | None
    strict: bool
    config: PoolConfig | None


def _prime_key(options: ResolvedConfig) -> str | None:
    """Names the prefix that tasks share, if it is long enough to be cached."""
    if not options.prime or options.conversation is not None:
        return None
    tokens = pricing.estimate_tokens(options.system_prompt) + pricing.estimate_tokens(options.appended_prompt)
    if options.preset:
        tokens += PRESET_TOKENS
    if tokens < CACHEABLE_TOKENS.get(options.model or "", DEFAULT_CACHEABLE_TOKENS):
        return None
    return f"{options.launch_key}:{options.model}"


def _dearest(prices_nano: Iterable[int | None]) -> int | None:
    """The highest of some prices; None if one of them is not known."""
    highest = 0
    for price in prices_nano:
        if price is None:
            return None
        highest = max(highest, price)
    return highest


def _kind_of(value: object) -> str:
    return "missing" if value is None or value != value else f"a {type(value).__name__}"  # noqa: PLR0124 - NaN
