"""Small things kept by name: shared context, and where named conversations are.

Invariants: a put is committed when it returns; the last put of a name wins.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, select

from claude_pool_nb.store import schema
from claude_pool_nb.store.ledger import Ledger
from claude_pool_nb.store.texts import cleaned


@dataclass(frozen=True, slots=True)
class Conversation:
    """A named conversation: what it takes to go on with it in another session.

    Example:
        >>> Conversation("night").turns
        0
    """

    name: str
    """Its name."""
    session_id: str | None = None
    """The CLI's id of the session that holds it; None before its first turn."""
    cwd: str | None = None
    """The directory under which the CLI keeps its transcript."""
    last_message: str | None = None
    """The message after which the next turn goes on: a failed turn is rolled back to it."""
    turns: int = 0
    """Turns that succeeded."""
    pool_id: str | None = None
    """The pool that used it last."""
    updated_at: float = 0.0
    """When it was put here."""


def put_conversation(ledger: Ledger, conversation: Conversation) -> None:
    """Keep a conversation under its name; `updated_at` is set to now.

    Example:
        >>> with Ledger.open(":memory:") as ledger:
        ...     put_conversation(ledger, Conversation("night", session_id="abc", turns=1))
        ...     get_conversation(ledger, "night").session_id
        'abc'
    """
    row = {
        "name": conversation.name,
        "session_id": conversation.session_id,
        "cwd": conversation.cwd,
        "last_message": conversation.last_message,
        "turns": conversation.turns,
        "pool_id": conversation.pool_id,
        "updated_at": time.time(),
    }
    table = schema.conversation

    def put(connection: Connection) -> None:
        connection.execute(delete(table).where(table.c.name == conversation.name))
        connection.execute(table.insert(), row)

    ledger.transact(put)


def get_conversation(ledger: Ledger, name: str) -> Conversation | None:
    """The conversation of a name; None if there is none."""
    return next((found for found in list_conversations(ledger) if found.name == name), None)


def list_conversations(ledger: Ledger) -> list[Conversation]:
    """All named conversations, by name."""
    table = schema.conversation
    with ledger.reading() as connection:
        return [Conversation(**row._mapping) for row in connection.execute(select(table).order_by(table.c.name))]


def set_context(ledger: Ledger, scope: str, key: str, value: str) -> None:
    """Keep a text under a key, for all tasks of a scope; secrets in it are left out.

    Args:
        ledger: where to keep it.
        scope: who shares it.
        key: its name.
        value: the text.

    Example:
        >>> with Ledger.open(":memory:") as ledger:
        ...     set_context(ledger, "nb", "tone", "dry")
        ...     list_context(ledger, "nb")
        {'tone': 'dry'}
    """
    table = schema.context
    row = {"scope": scope, "key": key, "value": cleaned(value), "updated_at": time.time()}

    def put(connection: Connection) -> None:
        connection.execute(_of(scope, key))
        connection.execute(table.insert(), row)

    ledger.transact(put)


def delete_context(ledger: Ledger, scope: str, key: str) -> bool:
    """Drop a key; whether there was one."""
    return bool(ledger.transact(lambda connection: connection.execute(_of(scope, key)).rowcount))


def list_context(ledger: Ledger, scope: str) -> dict[str, str]:
    """All keys of a scope with their texts, keys sorted."""
    table = schema.context.c
    query = select(table.key, table.value).where(table.scope == scope).order_by(table.key)
    with ledger.reading() as connection:
        return {row.key: row.value for row in connection.execute(query)}


def _of(scope: str, key: str) -> Any:
    """The statement that deletes one key."""
    return delete(schema.context).where(schema.context.c.scope == scope, schema.context.c.key == key)
