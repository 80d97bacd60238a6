"""DataFrames of tasks.

Invariants: the frame's own columns are the same, in the same order and of the same types, whatever is in it; rows are
in the order of the input (row, then grid, then sample), runs oldest first; the frame of an unfinished run has every
row.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from sqlalchemy import and_, case, func, literal, or_, select

from claude_pool_nb.analysis import columns as col
from claude_pool_nb.analysis.costs import TOKENS
from claude_pool_nb.analysis.tables import restored
from claude_pool_nb.errors import ConfigError, nearest
from claude_pool_nb.records import TaskState
from claude_pool_nb.schemas import fields_of
from claude_pool_nb.store import queries, schema
from claude_pool_nb.store.ids import typed_runs, typed_task
from claude_pool_nb.store.ledger import Ledger
from claude_pool_nb.store.search import find_tasks

TASK_COLUMNS = (
    "run_id", "task_id", "row", "sample", "tags", "profile", "backend", "conversation", "requested_model", "model",
    "slot_id", "session_id", "state", "prompt", "output", "failure_kind", "error_type", "error", "attempts", "cached",
    "cost_usd", "cost_basis", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "turns",
    "created_at", "started_at", "finished_at", "wait_s", "duration_s", "api_s", "permission_denials",
)  # fmt: skip
"""The columns of a task frame, between its input columns and (after `output`) the `out_<field>` ones."""

MANY_TASKS = 500
"""More tasks than this are picked out of all those of their runs."""

_BASIS_RANK = {"exact": 0, "estimated": 1, "unknown": 2}


def task_frame(
    ledger: Ledger,
    *,
    run_ids: Iterable[str] | None = None,
    task_ids: Iterable[str] | None = None,
    states: Iterable[str] = (),
    tags: Iterable[str] = (),
    limit: int | None = None,
    since_at: float | None = None,
) -> pd.DataFrame:
    """One row per task: input columns first, then the columns of `TASK_COLUMNS`.

    Cost and tokens are sums over all attempts of a task, `cost_basis` the weakest of theirs; output, model, slot and
    times spent are those of the last attempt since the task was last reopened. `cached` is True for answers for which
    nobody was asked: from a tape, or (with `cache`) from an earlier task with the same request; these have no attempts,
    no slot, no tokens and cost $0.

    Args:
        ledger: where to read.
        run_ids: only of these runs.
        task_ids: only these tasks.
        states: only in one of these states.
        tags: only with all of these tags.
        limit: no more than the latest so many.
        since_at: only accepted from then on, unix seconds.

    Returns:
        The frame; `attrs["run_id"]` is set if it is of one run.

    Raises:
        RunNotFound: an id is no run's id.
        ConfigError: a state is none.

    Example:
        >>> with Ledger.open(":memory:") as ledger:
        ...     list(task_frame(ledger).columns) == list(TASK_COLUMNS)
        True
    """
    runs = None if run_ids is None else list(run_ids)
    keys = None if task_ids is None else {typed_task(task_id) for task_id in task_ids}
    conditions = _task_conditions(runs, keys, states, tags)
    if since_at is not None:
        conditions.append(schema.task.c.created_at >= since_at)
    t, a, r = schema.task.c, schema.attempt.c, schema.run.c
    # A row that is to be run again has no answer until it was: what it had was the answer to an earlier request.
    since_reopened = or_(t.attempts > t.opened_attempts, and_(t.attempts == 0, t.state == "completed"))
    query = (
        select(
            t.run, t.number, t.row, t.sample, t.tags, t.profile, r.backend, t.conversation, t.requested_model, a.model,
            a.slot_id, a.session_id, t.state, t.prompt, a.output, t.failure_kind, t.error_type, t.error, t.attempts,
            a.cost_nano, a.cost_basis, a.input_tokens, a.output_tokens, a.cache_read_tokens, a.cache_write_tokens,
            a.turns, t.created_at, t.started_at, t.finished_at, a.duration_s, a.api_s, a.denials, a.structured,
            t.overrides, t.inputs,
        )
        .select_from(
            schema.task.join(schema.run, r.number == t.run).outerjoin(
                schema.attempt, and_(a.run == t.run, a.task == t.number, a.number == t.attempts, since_reopened)
            )
        )
        .where(*conditions)
    )  # fmt: skip
    latest_only = limit is not None and keys is None
    query = (
        query.order_by(t.run.desc(), t.number.desc()).limit(limit)
        if latest_only
        else query.order_by(t.run, t.row, t.number)
    )
    with ledger.reading() as connection:
        parts = queries.plain_columns(connection, query)
        run, number, row = parts[:3]
        if keys is not None:
            chosen = [at for at, key in enumerate(zip(run, number, strict=True)) if key in keys]
            parts = _picked(parts, chosen[-limit if limit else 0 :])
        if latest_only:
            parts = _picked(parts, sorted(range(len(run)), key=lambda at: (run[at], row[at], number[at])))
        found = sorted(set(parts[0])) or [0]
        of_runs = select(r.number, r.meta, r.config).where(r.number >= found[0], r.number <= found[-1])
        records = {one.number: (one.meta, one.config) for one in connection.execute(of_runs)}
        retried = (
            select(
                a.run, a.task, func.sum(a.cost_nano),
                func.max(case((a.cost_basis == "unknown", 2), (a.cost_basis == "estimated", 1), else_=0)),
                *(func.sum(a[name]) for name in TOKENS),
            )
            .select_from(schema.attempt.join(schema.task, and_(t.run == a.run, t.number == a.task)))
            .where(or_(t.attempts > 1, t.opened_attempts > 0), a.run >= found[0], a.run <= found[-1])
            .group_by(a.run, a.task)
        )  # fmt: skip
        sums = {(one[0], one[1]): one[2:] for one in connection.execute(retried)}
    return _task_frame(parts, sums, records, runs)


def _picked(parts: Sequence[Sequence[Any]], positions: Sequence[int]) -> list[list[Any]]:
    """Some rows of columns, in the order of their positions."""
    return [[column[at] for at in positions] for column in parts]


def _task_conditions(
    runs: Sequence[str] | None,
    keys: set[tuple[int, int]] | None,
    states: Iterable[str],
    tags: Iterable[str],
) -> list[Any]:
    """What a task must be like to be in the frame."""
    t = schema.task.c
    conditions: list[Any] = []
    if runs is not None:
        conditions.append(t.run.in_(typed_runs(runs)))
    if keys is not None:
        by_run: dict[int, list[int]] = {}
        for run, number in sorted(keys) if len(keys) <= MANY_TASKS else ():
            by_run.setdefault(run, []).append(number)
        few = [and_(t.run == run, t.number.in_(numbers)) for run, numbers in by_run.items()]
        conditions.append(or_(*few) if few else t.run.in_(sorted({run for run, _ in keys})))
    wanted = [states] if isinstance(states, str) else list(states)
    for state in wanted:
        if state not in set(TaskState):
            raise ConfigError(f"there is no task state {state!r}{nearest(state, [s.value for s in TaskState])}")
    if wanted:
        conditions.append(t.state.in_([str(state) for state in wanted]))
    padded = literal(" ").concat(t.tags).concat(" ")
    every = [tags] if isinstance(tags, str) else tags
    conditions += [padded.contains(f" {tag} ", autoescape=True) for tag in every]
    return conditions


def _task_frame(
    parts: Sequence[list[Any]],
    sums: Mapping[tuple[int, int], Any],
    records: Mapping[int, tuple[str, str]],
    runs: Sequence[str] | None,
) -> pd.DataFrame:
    """Columns as the ledger has them, and the form of each run's input and its configuration, as a frame."""
    (
        run, number, row, sample, tags, profile, backend, conversation, requested_model, model, slot_id, session_id,
        state, prompt, output, failure_kind, error_type, error, attempts, cost, basis, input_tokens, output_tokens,
        cache_read, cache_write, turns, created_at, started_at, finished_at, duration_s, api_s, denials, structured,
        overrides, inputs,
    ) = parts  # fmt: skip
    if sums:
        tokens = (input_tokens, output_tokens, cache_read, cache_write)
        words = ("exact", "estimated", "unknown")
        for position, key in enumerate(zip(run, number, strict=True)):
            total = sums.get(key)
            if total is not None:
                cost[position] = total[0]
                basis[position] = words[max(total[1], _BASIS_RANK.get(basis[position], 0))]
                for column, value in zip(tokens, total[2:], strict=True):
                    column[position] = value
    created, started = col.number(created_at), col.number(started_at)
    own: dict[str, Any] = {
        "run_id": col.text([f"r{n}" for n in run]),
        "task_id": col.text([f"r{n}.{k}" for n, k in zip(run, number, strict=True)]),
        "row": col.whole(row),
        "sample": col.whole(sample),
        "tags": col.text(tags),
        "profile": col.category(profile),
        "backend": col.category(backend),
        "conversation": col.text(conversation),
        "requested_model": col.category(requested_model),
        "model": col.category(model),
        "slot_id": col.category([slot or None for slot in slot_id]),
        "session_id": col.text(session_id),
        "state": col.task_state(state),
        "prompt": col.text(prompt),
        "output": col.text(output),
        **_answers(structured, run, overrides, {number: config for number, (_, config) in records.items()}),
        "failure_kind": col.failure_kind(failure_kind),
        "error_type": col.category(error_type),
        "error": col.text(error),
        "attempts": col.whole(attempts),
        "cached": col.flag(
            [
                name == "replay" or (not tries and now == "completed")
                for name, tries, now in zip(backend, attempts, state, strict=True)
            ]
        ),
        "cost_usd": col.dollars([nanos or 0 for nanos in cost]),
        "cost_basis": col.cost_basis(basis),
        "input_tokens": col.integer(input_tokens),
        "output_tokens": col.integer(output_tokens),
        "cache_read_tokens": col.integer(cache_read),
        "cache_write_tokens": col.integer(cache_write),
        "turns": col.integer(turns),
        "created_at": col.instant(created_at),
        "started_at": col.instant(started_at),
        "finished_at": col.instant(finished_at),
        "wait_s": started - created,
        "duration_s": col.number(duration_s),
        "api_s": col.number(api_s),
        "permission_denials": col.text(denials),
    }
    given, index = restored(inputs, [records[n][0] for n in sorted(set(run))])
    data = {(f"input_{name}" if name in own else name): values for name, values in given.items()}
    frame = pd.DataFrame({**data, **own}, index=index, copy=False)
    names = sorted({f"r{n}" for n in set(run)}) or list(runs or ())
    if len(names) == 1:
        frame.attrs["run_id"] = names[0]
    return frame


def _parsed(texts: Sequence[str | None]) -> list[Any]:
    """JSON texts as values; all in one call, which takes half the time of one each."""
    parsed: list[Any] = json.loads(f"[{','.join(text or 'null' for text in texts)}]")
    return parsed


def _answers(
    structured: Sequence[str | None], run: Sequence[int], overrides: Sequence[str], configs: Mapping[int, str]
) -> dict[str, Any]:
    """The fields of structured answers as columns: those of the schema, then any others that answers have."""
    fields: dict[str, Any] = {}
    for number, options in dict.fromkeys(zip(run, overrides, strict=True)):
        for level in (options, configs.get(number, "{}")):
            wanted = json.loads(level).get("schema") if '"schema"' in level else None
            if wanted is not None:
                for name, form in fields_of(wanted).items():
                    fields.setdefault(name, form)
                break
    if not fields and not any(structured):
        return {}
    answers = [answer if isinstance(answer, dict) else {} for answer in _parsed(structured)]
    for answer in answers:
        for name in answer:
            fields.setdefault(name, None)
    return {f"out_{name}": col.by_schema([a.get(name) for a in answers], form) for name, form in fields.items()}


def history_frame(
    ledger: Ledger, q: str | None = None, limit: int | None = 100, *, since_at: float | None = None
) -> pd.DataFrame:
    """The latest tasks of all runs and pools, oldest first.

    Args:
        ledger: where to read.
        q: only tasks in whose prompt or answer all of these words occur, in any order and whatever their case; a word
            is found at the beginning of words, a "quoted phrase" as it stands.
        limit: no more than the latest so many.
        since_at: only tasks accepted from then on, unix seconds.

    Example:
        >>> with Ledger.open(":memory:") as ledger:
        ...     len(history_frame(ledger, "rust"))
        0
    """
    if not q or not q.strip():
        return task_frame(ledger, limit=limit, since_at=since_at)
    found = find_tasks(ledger, q, limit=limit, since_at=since_at)
    return task_frame(ledger, task_ids=[f"r{run}.{number}" for run, number in found])
