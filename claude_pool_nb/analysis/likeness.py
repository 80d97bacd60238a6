"""Which earlier tasks are like the new ones, so that what they took tells what these will take.

Tasks are of one kind when they ask the same model with the same options, and their prompts were made from the same
template (or share the words that a template would leave in all of them, or are the same prompts again, or many texts
that have nothing in common but their instructions or their length, as rows of one collection have). Where there
are none of the kind, tasks of the same model, profile and tools with other prompts serve, and count for what they are
worth: their answers may be several times longer or shorter.

Invariants: a task of another model or profile is never history; what was run with options that this version cannot
read is no history either; nothing is asked of a model, nothing written.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from itertools import pairwise
from statistics import fmean, median, stdev
from typing import Any, Final

from claude_pool_nb.analysis.estimates import Seen
from claude_pool_nb.config import PROFILES
from claude_pool_nb.errors import ConfigError
from claude_pool_nb.model_names import DEFAULT_MODEL
from claude_pool_nb.pricing import demo_model, fixed_tokens, list_price, tokens_of_size
from claude_pool_nb.resolved import ResolvedConfig
from claude_pool_nb.store import settled
from claude_pool_nb.store.ledger import Ledger

FEWEST: Final = 5
"""Fewer tasks than this are no history."""
UNLIKE_PROMPTS: Final = 0.5
"""How far the mean answer to prompts of another kind may be off, as a share, where runs do not show it."""
UNLIKE_TEXTS: Final = 0.1
"""The same for other texts under the same instructions."""
COLLECTION: Final = 10
"""So many different texts may be of one collection."""
SAMPLE: Final = 40
"""So many prompts are looked at to find what they have in common."""
_WORD = re.compile(r"[^\W\d_]{4,}")
"""Shorter words (the, and, of) are in every text, whoever made it."""


class Likeness(StrEnum):
    """How like the new tasks the old ones are."""

    SAME = "such tasks"
    MODEL = "other prompts"
    NONE = "nothing"


@dataclass(frozen=True, slots=True)
class History:
    """What earlier tasks took, and what it tells."""

    seen: Sequence[Seen] = ()
    """The tasks."""
    likeness: Likeness = Likeness.NONE
    """How like the new ones they are."""
    unlike: float = 0.0
    """How far the new answers' mean length may be from theirs, as a share."""


@dataclass(frozen=True, slots=True)
class Asked:
    """New tasks with the same options."""

    options: ResolvedConfig
    """Their options."""
    prompts: Sequence[str]
    """Their prompts."""
    template: Any = None
    """What the prompts were made from; None if they were given as they are."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """The tasks of one run that have the same options."""

    run: int
    overrides: str
    profile: str
    model: str | None
    options: tuple[Any, ...]
    shape: tuple[Any, ...]
    fixed: int
    templates: frozenset[str]
    heads: tuple[str, ...]


class Past:
    """The history of a store, as far as it may be of use; read once for all tasks of a preview.

    Args:
        ledger: Where to look.
        backend: Whose runs count.
        options_of: The options of a task of the ledger, from its run, overrides and number.
        before: Only what was run before the run of that number; None for everything.
        before_at: Only tasks that were final by then.
    """

    def __init__(
        self,
        ledger: Ledger,
        backend: str,
        options_of: Callable[[settled.RunKind, settled.TaskKind], ResolvedConfig],
        *,
        before: int | None = None,
        before_at: float | None = None,
    ) -> None:
        self._ledger = ledger
        self._backend = backend
        self._options_of = options_of
        self._before_at = before_at
        self._runs, tasks = settled.kinds(ledger, backend, before=before)
        self._kinds = self._gather(tasks)

    def like(self, asked: Asked) -> History:
        """The earlier tasks that are most like these, if there are enough of them."""
        model = model_key(asked.options.model, self._backend)
        near = [
            kind
            for kind in self._kinds
            if kind.profile == asked.options.profile
            and model_key(kind.model, self._backend) == model
            and kind.shape == _shape(asked.options)
        ]
        if not near:
            return History()
        heads = _heads(asked.prompts)
        new_frame, mine, templates = frame_of(heads), essentials(asked.options), texts_of(asked.template)
        same = [
            kind
            for kind in near
            if kind.options == mine
            and ((templates and kind.templates == templates) or is_alike(heads, new_frame, kind.heads))
        ]
        if found := self._read(same, asked.options):
            return History(found, Likeness.SAME)
        if not new_frame:
            # Texts with nothing in common but the instructions beside them, or the collection that they are from.
            told = _is_told(asked.options)
            texts = [
                kind
                for kind in near
                if kind.options == mine and not frame_of(kind.heads) and (told or is_collection(heads, kind.heads))
            ]
            if found := self._read(texts, asked.options):
                return History(found, Likeness.SAME, UNLIKE_TEXTS)
        if found := self._read(near, asked.options):
            return History(found, Likeness.MODEL, _unlike(found))
        return History()

    def _gather(self, tasks: Iterable[settled.TaskKind]) -> list[_Kind]:
        """The tasks by run and options."""
        heads: dict[tuple[int, str, str | None], list[str]] = {}
        first: dict[tuple[int, str, str | None], settled.TaskKind] = {}
        for task in tasks:
            key = task.run, task.overrides, task.model
            first.setdefault(key, task)
            heads.setdefault(key, []).append(task.head)
        known: dict[tuple[str, str], ResolvedConfig | None] = {}
        templates: dict[str, frozenset[str]] = {}
        kinds = []
        for key, task in first.items():
            run = self._runs.get(task.run)
            if run is None:
                continue
            by = run.config, task.overrides
            if by not in known:
                try:
                    known[by] = self._options_of(run, task)
                except ConfigError:
                    known[by] = None  # made by other rules than today's: with what options is not known
            options = known[by]
            if options is None:
                continue
            if run.meta not in templates:
                templates[run.meta] = texts_of(json.loads(run.meta).get("template"))
            kinds.append(
                _Kind(
                    run=task.run,
                    overrides=task.overrides,
                    profile=task.profile,
                    model=task.model,
                    options=essentials(options),
                    shape=_shape(options),
                    fixed=fixed_tokens(options, backend=self._backend),
                    templates=templates[run.meta],
                    heads=tuple(dict.fromkeys(heads[key])),
                )
            )
        return kinds

    def _read(self, kinds: Sequence[_Kind], options: ResolvedConfig) -> list[Seen]:
        """What the tasks of these kinds took; nothing if there are too few.

        What a longer system prompt added to them counts as if their prompts had been that much longer.
        """
        if not kinds:
            return []
        fixed = fixed_tokens(options, backend=self._backend)
        wanted = {(kind.run, kind.overrides, kind.model): kind.fixed - fixed for kind in kinds}
        rows = settled.settled(self._ledger, sorted({kind.run for kind in kinds}), before_at=self._before_at)
        between_s = between_tasks_s(rows)
        found = [
            Seen(
                prompt_tokens=tokens_of_size(row.prompt_chars, row.prompt_bytes)
                + wanted[row.run, row.overrides, row.model],
                cost_nano=row.cost_nano,
                input_tokens=row.input_tokens,
                output_tokens=row.output_tokens,
                duration_s=row.duration_s + between_s,
                group=row.run,
            )
            for row in rows
            if (row.run, row.overrides, row.model) in wanted
        ]
        return found if len(found) >= FEWEST else []


def between_tasks_s(rows: Sequence[settled.SettledTask]) -> float:
    """What a slot usually takes from the end of a task to the start of the next one of the run, to be made clean."""
    by_slot: dict[tuple[int, str], list[tuple[float, float]]] = {}
    for row in rows:
        by_slot.setdefault((row.run, row.slot_id), []).append((row.started_at, row.finished_at))
    gaps = [max(0.0, after[0] - before[1]) for times in by_slot.values() for before, after in pairwise(sorted(times))]
    return median(gaps) if gaps else 0.0  # a pause of the pool is none of them


def _unlike(seen: Sequence[Seen]) -> float:
    """How far the mean answer to other prompts may be off: as far as the means of runs differ from each other."""
    groups: dict[int, list[int]] = {}
    for one in seen:
        groups.setdefault(one.group, []).append(one.output_tokens)
    means = [math.log(fmean(each)) for each in groups.values() if len(each) >= 3 and any(each)]
    return max(0.3, 1.3 * stdev(means)) if len(means) >= 4 else UNLIKE_PROMPTS


@lru_cache(maxsize=1024)
def model_key(model: str | None, backend: str) -> str:
    """One word for all names of a model.

    Example:
        >>> model_key("haiku", "claude") == model_key("claude-haiku-5-5", "claude"), model_key(None, "demo")
        (True, 'demo-small')
    """
    if backend == "demo":
        return demo_model(model)
    price = list_price(model, backend=backend)
    return price.model if price is not None else model or DEFAULT_MODEL


def essentials(options: ResolvedConfig) -> tuple[Any, ...]:
    """The options that decide what an answer is and how long.

    Example:
        >>> essentials(ResolvedConfig(timeout_s=3)) == essentials(ResolvedConfig())
        True
    """
    return (
        options.profile,
        options.preset,
        options.system_prompt,
        options.schema,
        options.tools,
        options.mcp_servers,
        options.effort,
        options.max_output_tokens,
        options.max_turns,
    )


def _shape(options: ResolvedConfig) -> tuple[Any, ...]:
    """The options that make a task another sort of thing: with tools it makes many requests, and larger ones."""
    return options.preset, options.tools, options.mcp_servers, options.schema is None


def _is_told(options: ResolvedConfig) -> bool:
    """Whether something beside the prompt says what to do."""
    return options.schema is not None or options.system_prompt != PROFILES[options.profile].system_prompt


def texts_of(template: Any) -> frozenset[str]:
    """The texts of a template, or of several by name; none if prompts were given as they are.

    Example:
        >>> texts_of("Classify {{ text }}") == texts_of({"short": "Classify {{ text }}"}), texts_of(None)
        (True, frozenset())
    """
    if isinstance(template, str):
        return frozenset((template,))
    return frozenset(template.values()) if isinstance(template, Mapping) else frozenset()


def _heads(prompts: Sequence[str]) -> tuple[str, ...]:
    """The beginnings of some of the prompts, evenly taken."""
    step = max(1, len(prompts) // SAMPLE)
    return tuple(dict.fromkeys(prompt[: settled.HEAD_CHARS] for prompt in prompts[::step]))


def frame_of(heads: Sequence[str]) -> frozenset[str]:
    """The words that (nearly) all of some prompts have: what is left of a template when its values are gone.

    Example:
        >>> sorted(frame_of(["Classify: good", "Classify: bad"]))
        ['classify']
    """
    counts: dict[str, int] = {}
    for head in heads:
        for word in set(_WORD.findall(head.lower())):
            counts[word] = counts.get(word, 0) + 1
    return frozenset(word for word, number in counts.items() if number >= 0.8 * len(heads))


def is_collection(heads: Sequence[str], others: Sequence[str]) -> bool:
    """Whether many different texts, and many others, may well be of one collection: they are about as long.

    Example:
        >>> texts, longer = ["ab" * n for n in range(10, 30)], ["ab" * n for n in range(20, 60)]
        >>> is_collection(texts, texts[5:]), is_collection(texts, texts[:5]), is_collection(texts, longer)
        (True, False, False)
    """
    if min(len(heads), len(others)) < COLLECTION:
        return False
    lengths = sorted((fmean(map(len, heads)), fmean(map(len, others))))
    return lengths[1] <= 1.5 * lengths[0]


def is_alike(heads: Sequence[str], frame: frozenset[str], others: Sequence[str]) -> bool:
    """Whether prompts and other ones were made in the same way, or are the same.

    Args:
        heads: Their beginnings.
        frame: The words that they share.
        others: The beginnings of the others.

    Example:
        >>> heads = ["Classify: good", "Classify: bad"]
        >>> is_alike(heads, frame_of(heads), ["Classify: fair"] + heads), is_alike(heads, frame_of(heads), ["a poem"])
        (True, False)
    """
    again = len(set(heads) & set(others))
    if again >= 0.5 * min(len(heads), len(others)):
        return True
    other = frame_of(others)
    return bool(frame) and len(frame & other) >= 0.8 * len(frame | other)
