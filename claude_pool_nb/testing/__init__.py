"""What tests of this package, and of yours, run on: a scripted Messages API and an environment that is cut off.

Nothing here is imported by the product. Names are loaded when they are first used.

Example:
    >>> from claude_pool_nb.testing import Reply, ScriptedAPI
    >>> with ScriptedAPI() as api:
    ...     api.script(Reply("one"), Reply("two"))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .demo_replies import demo_reply
    from .environment import isolated_environment, isolated_process
    from .messages_api import ScriptedAPI
    from .prices import ModelPrice
    from .prompt_cache import PromptCache
    from .replies import Reply, Request, Usage

__all__ = [
    "ModelPrice",
    "PromptCache",
    "Reply",
    "Request",
    "ScriptedAPI",
    "Usage",
    "demo_reply",
    "isolated_environment",
    "isolated_process",
]

_HOMES = {
    "ModelPrice": "prices",
    "PromptCache": "prompt_cache",
    "Reply": "replies",
    "Request": "replies",
    "ScriptedAPI": "messages_api",
    "Usage": "replies",
    "demo_reply": "demo_replies",
    "isolated_environment": "environment",
    "isolated_process": "environment",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
