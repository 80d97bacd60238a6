"""The tables of the ledger.

Invariants: keys are integers (a run's number; a run's number and a task's; those and an attempt's), the text ids that
people type are derived from them; money is integer nanodollars, instants are unix seconds in UTC; a prompt is stored
once (in its task) and an output once (in its attempt); what a task costs is the sum over its attempts and stored
nowhere else.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Index, Integer, MetaData, Table, Text

metadata = MetaData()

meta = Table(
    "meta",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)
"""`schema_version`, and `last_run`: the highest run number that was given out."""

budget = Table(
    "budget",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False, index=True),
    Column("limit_nano", BigInteger),
    Column("spent_nano", BigInteger, nullable=False),
    Column("reserved_nano", BigInteger, nullable=False),
    Column("since_at", Float, nullable=False),
    Column("play_money", Integer, nullable=False),
)

pool = Table(
    "pool",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("backend", Text, nullable=False),
    Column("config", Text, nullable=False),
    Column("notebook", Text),
    Column("play_money", Integer, nullable=False),
    Column("host", Text, nullable=False),
    Column("boot_id", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("process_start_at", Float, nullable=False),
    Column("started_at", Float, nullable=False),
    Column("ended_at", Float),
    Column("ended", Text),  # closed | gone
)

run = Table(
    "run",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("verb", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("total", Integer, nullable=False),
    Column("pool", Integer, nullable=False, index=True),
    Column("backend", Text, nullable=False),
    Column("config", Text, nullable=False),
    Column("meta", Text, nullable=False),
    Column("tags", Text, nullable=False),
    Column("budget", Text),
    Column("created_at", Float, nullable=False),
    Column("finished_at", Float),
    Column("error", Text),
)

task = Table(
    "task",
    metadata,
    Column("run", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("state", Text, nullable=False),
    Column("row", Integer, nullable=False),
    Column("sample", Integer, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("opened_attempts", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("finished_at", Float),
    Column("waiting_until", Float),
    Column("tags", Text, nullable=False),
    Column("conversation", Text),
    Column("role", Text),
    Column("profile", Text, nullable=False),
    Column("requested_model", Text),
    Column("failure_kind", Text),
    Column("error_type", Text),
    Column("error", Text),
    Column("overrides", Text, nullable=False),
    Column("inputs", Text),
    Column("prompt", Text, nullable=False),  # last: the long one
)

attempt = Table(
    "attempt",
    metadata,
    Column("run", Integer, primary_key=True, autoincrement=False),
    Column("task", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("budget_id", Integer),
    Column("slot_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("late", Integer, nullable=False),
    Column("requested_model", Text),
    Column("reserved_nano", BigInteger, nullable=False),  # stays as it was when the attempt ends
    Column("cost_nano", BigInteger, nullable=False),
    Column("cost_basis", Text),  # None until something is known of the cost
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cache_read_tokens", BigInteger, nullable=False),
    Column("cache_write_tokens", BigInteger, nullable=False),
    Column("turns", Integer, nullable=False),
    Column("started_at", Float, nullable=False),
    Column("finished_at", Float),
    Column("duration_s", Float),
    Column("api_s", Float),
    Column("wrote", Integer, nullable=False),
    Column("model", Text),
    Column("session_id", Text),
    Column("failure_kind", Text),
    Column("error_type", Text),
    Column("http_status", Integer),
    Column("retry_after_s", Float),
    Column("error", Text),
    Column("denials", Text),
    Column("warnings", Text),
    Column("structured", Text),
    Column("request", Text),  # names what was asked, where the answer may be given again; indexed by store/answers.py
    Column("output", Text),  # last: the long one
)
"""Number 0 is no attempt: it holds the earlier answer that a task was given without being sent."""

slot = Table(
    "slot",
    metadata,
    Column("pool", Integer, primary_key=True, autoincrement=False),
    Column("slot_id", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("task_id", Text),
    Column("restarts", Integer, nullable=False),
    Column("tasks_completed", Integer, nullable=False),
    Column("cost_nano", BigInteger, nullable=False),
    Column("since_at", Float, nullable=False),
    Column("error", Text),
)

process = Table(
    "process",
    metadata,
    Column("pool", Integer, primary_key=True, autoincrement=False),
    Column("slot_id", Text, primary_key=True),
    Column("pid", Integer, primary_key=True, autoincrement=False),
    Column("start_time", Float, nullable=False),
    Column("executable", Text, nullable=False),
)
"""Processes that a pool has launched and not seen the end of."""

event = Table(
    "event",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("pool", Integer),
    Column("kind", Text, nullable=False),
    Column("state", Text),
    Column("run", Integer),
    Column("task", Integer),
    Column("attempt", Integer),
    Column("slot_id", Text),
    Column("payload", Text),
)
_of_a_run = event.c.run.is_not(None)
# Only SQLite is told of the condition: naming PostgreSQL here would import its dialect, a tenth of `%pool start`.
Index("event_run", event.c.run, event.c.task, sqlite_where=_of_a_run)

context = Table(
    "context",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
    Column("updated_at", Float, nullable=False),
)

conversation = Table(
    "conversation",
    metadata,
    Column("name", Text, primary_key=True),
    Column("session_id", Text),
    Column("cwd", Text),
    Column("last_message", Text),
    Column("turns", Integer, nullable=False),
    Column("pool_id", Text),
    Column("updated_at", Float, nullable=False),
)

message = Table(
    "message",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("scope", Text, nullable=False, index=True),
    Column("sender", Text, nullable=False),
    Column("recipient", Text, nullable=False),
    Column("content", Text, nullable=False),
    Column("read_at", Float),
)
"""Nothing writes here yet: messages between slots are to come, and a ledger of today then needs no migration."""
