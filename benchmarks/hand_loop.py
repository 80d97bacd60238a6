"""What is written by hand where there is no pool: one SDK client per slot, `/clear` before each prompt."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient

MODEL = "claude-haiku-4-5"
SYSTEM_PROMPT = "Answer in one word."
SETTINGS = {
    "CLAUDE_CODE_MAX_RETRIES": "2",
    "CLAUDE_CODE_DISABLE_ATTACHMENTS": "1",
    "CLAUDE_CODE_DISABLE_FILE_MENTIONS": "1",
}
"""What the pool sets for its own sessions, for the other sides as well."""

Work = Callable[[int], Awaitable[None]]
"""One task, by its number."""


def sdk_options(settings: Mapping[str, str] = SETTINGS) -> ClaudeAgentOptions:
    """The SDK's options for what the prompt profile asks for."""
    from claude_agent_sdk import ClaudeAgentOptions

    return ClaudeAgentOptions(
        model=MODEL,
        system_prompt=SYSTEM_PROMPT,
        tools=[],
        setting_sources=[],
        strict_mcp_config=True,
        extra_args={"no-session-persistence": None},
        env=dict(settings),
    )


@asynccontextmanager
async def hand_loop(slots: int) -> AsyncIterator[list[Work]]:
    """The workers of the hand loop, connected: a client per slot."""
    from claude_agent_sdk import ClaudeSDKClient

    clients = [ClaudeSDKClient(sdk_options()) for _ in range(slots)]
    await asyncio.gather(*(client.connect() for client in clients))
    try:
        yield [_by_hand(client) for client in clients]
    finally:
        await asyncio.gather(*(client.disconnect() for client in clients))


def _by_hand(client: ClaudeSDKClient) -> Work:
    """A task in a client that is kept."""
    from claude_agent_sdk import ResultMessage

    async def work(number: int) -> None:
        for prompt in ("/clear", f"Say word {number}"):
            await client.query(prompt)
            async for message in client.receive_response():
                if isinstance(message, ResultMessage) and message.is_error:
                    raise RuntimeError(message)

    return work


def per_task() -> Work:
    """A task in a process of its own."""
    from claude_agent_sdk import ResultMessage, query

    options = sdk_options()

    async def work(number: int) -> None:
        async for message in query(prompt=f"Say word {number}", options=options):
            if isinstance(message, ResultMessage) and message.is_error:
                raise RuntimeError(message)

    return work


async def work_off(workers: Sequence[Work], tasks: int) -> float:
    """Let every worker take the next number until there is none; tasks per second."""
    left: Iterator[int] = iter(range(tasks))

    async def loop(work: Work) -> None:
        for number in left:
            await work(number)

    begun = time.perf_counter()
    await asyncio.gather(*(loop(work) for work in workers))
    return tasks / (time.perf_counter() - begun)
