"""A script for the Messages API that answers as the demo's model does: examples made for the demo then run on the CLI.

Example:
    >>> from claude_pool_nb.testing import ScriptedAPI, demo_reply
    >>> with ScriptedAPI() as api:
    ...     api.reply(demo_reply)
"""

from __future__ import annotations

import json
from typing import Any

from claude_pool_nb.pricing import demo_model
from claude_pool_nb.sessions.demo_model import answer
from claude_pool_nb.testing.replies import Reply, Request

STRUCTURED = "StructuredOutput"
"""The tool through which the CLI asks for an answer in the form of a schema."""


def demo_reply(request: Request) -> Reply:
    """What the demo's model of the same size says to the last prompt; a schema is answered by its tool.

    Example:
        >>> asked = {"model": "claude-haiku-4-5", "messages": [{"role": "user", "content": "What is 6 * 7?"}]}
        >>> demo_reply(Request(body=asked)).text
        '42'
    """
    model = demo_model(request.model)
    tools: list[dict[str, Any]] = request.body.get("tools") or []
    schema = next((tool["input_schema"] for tool in tools if tool.get("name") == STRUCTURED), None)
    if schema is None:
        return Reply(answer(request.prompt, model=model).text)
    return Reply(tool_calls=[(STRUCTURED, answer(request.prompt, model=model, schema=json.dumps(schema)).structured)])
