"""The demo session beyond the protocol: its markers, its memory, its money, its time."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from claude_pool_nb.config import PoolConfig, TaskOverrides, resolve
from claude_pool_nb.errors import SessionLost, UnknownModel
from claude_pool_nb.records import FailureKind, TurnResult
from claude_pool_nb.resolved import ResolvedConfig
from claude_pool_nb.sessions.base import Session, SessionEvent, TextDelta, Turn, TurnStarted
from claude_pool_nb.sessions.demo import NOTICE, DemoBackend

OPTIONS = resolve(PoolConfig(profile="prompt", model="haiku", demo_latency_s=0), backend="demo")


async def opened(backend: DemoBackend | None = None, options: ResolvedConfig = OPTIONS, slot: str = "s1") -> Session:
    """An open session."""
    session = (backend or DemoBackend()).session(slot)
    await session.open(options)
    return session


async def events(
    session: Session, prompt: str, options: ResolvedConfig = OPTIONS, sample: int = 0
) -> list[SessionEvent]:
    """All that a turn yields."""
    return [event async for event in session.ask(Turn(prompt, options, sample))]


async def result(session: Session, prompt: str, options: ResolvedConfig = OPTIONS, sample: int = 0) -> TurnResult:
    """How a turn ends."""
    last = (await events(session, prompt, options, sample))[-1]
    assert isinstance(last, TurnResult)
    return last


@pytest.mark.parametrize(
    ("marker", "kind", "error_type"),
    [
        ("flaky", FailureKind.TRANSPORT, "http_503"),
        ("limit", FailureKind.LIMIT, "http_429"),
        ("crash", FailureKind.CRASH, "process_killed"),
        ("auth", FailureKind.AUTH, "http_401"),
    ],
)
async def test_what_goes_wrong_once_works_the_next_time(marker: str, kind: FailureKind, error_type: str) -> None:
    """A retry succeeds, in another slot too; a new pool starts over."""
    backend = DemoBackend()
    prompt = f"[demo:{marker}] ping"
    first_session = await opened(backend)
    first = await result(first_session, prompt)
    assert first.failure is not None
    assert (first.failure.kind, first.failure.error_type) == (kind, error_type)
    assert first.cost_nano == 0
    assert first_session.broken is (marker == "crash")
    again = await result(await opened(backend, slot="s2"), prompt)
    assert (again.failure, again.output) == (None, "pong")
    assert (await result(await opened(), prompt)).failure is not None


async def test_a_refused_prompt_is_refused_every_time() -> None:
    """[demo:fail] is a 400 for ever, which nothing retries."""
    session = await opened()
    for _ in range(2):
        failed = await result(session, "[demo:fail] x")
        assert failed.failure is not None
        assert failed.failure.http_status == 400


async def test_a_denied_tool_is_visible_in_the_result() -> None:
    """[demo:deny] answers and tells what was denied."""
    denied = await result(await opened(), "[demo:deny] ping")
    assert (denied.output, denied.failure, denied.denials[0].tool) == ("pong", None, "Write")


async def test_conversations_are_remembered_and_go_on_in_another_slot() -> None:
    """By session id, within one backend; what nobody remembers is said so."""
    backend = DemoBackend()
    talking = resolve(PoolConfig(profile="prompt", demo_latency_s=0), None, TaskOverrides(conversation="c"))
    session = await opened(backend, talking)
    await result(session, "My name is Ada.", talking)
    session_id = session.info.session_id
    elsewhere = await opened(backend, replace(talking, resume_session_id=session_id), "s2")
    assert (await result(elsewhere, "What is my name?", talking)).output == "Your name is Ada."
    later = await opened(DemoBackend(), replace(talking, resume_session_id=session_id))
    forgotten = await result(later, "What is my name?", talking)
    assert "Ada" not in forgotten.output
    assert "forgotten" in forgotten.warnings[0]


async def test_a_stopped_or_failed_turn_is_not_remembered() -> None:
    """What a failed prompt said is not part of the conversation."""
    session = await opened()
    await result(session, "[demo:fail] My name is Eve.")
    assert "Eve" not in (await result(session, "What is my name?")).output


async def test_the_dollars_are_play_money_by_the_models_price() -> None:
    """The large model costs twelve times the small one, and the backend says that it is play."""
    session = await opened()
    small = await result(session, "ping")
    await session.reset()
    large = await result(session, "ping", replace(OPTIONS, model="opus"))
    assert (small.model, large.model) == ("demo-small", "demo-large")
    assert large.cost_nano == 12 * small.cost_nano
    info = DemoBackend().info
    assert (info.play_money, info.notice) == (True, NOTICE)
    assert "demo" not in small.output


async def test_a_long_system_prompt_is_written_to_the_cache_once_and_read_from_then_on() -> None:
    """In whatever slot, once an answer to it has begun; another model or prompt has a cache of its own."""
    long = replace(OPTIONS, system_prompt="four" * 1_024)
    backend = DemoBackend(latency_s=0)
    first, second = await opened(backend, long), await opened(backend, long, "s2")
    failed = await result(first, "[demo:fail] no", long)
    assert failed.usage.cache_write_tokens == 0
    written, read = [await result(session, "Count the words: a b", long) for session in (first, second)]
    assert (written.usage.cache_write_tokens, written.usage.cache_read_tokens) == (1_024, 0)
    assert (read.usage.cache_write_tokens, read.usage.cache_read_tokens) == (0, 1_024)
    assert written.usage.input_tokens == read.usage.input_tokens < 100
    assert written.cost_nano - read.cost_nano == 1_024 * (312.5 - 25)
    for other in (replace(long, model="sonnet"), replace(long, appended_prompt="more")):
        assert (await result(first, "Count the words: a b", other)).usage.cache_write_tokens > 0
    assert (await result(first, "Count the words: a b")).usage.cache_write_tokens == 0


async def test_max_output_tokens_cuts_the_answer() -> None:
    """And says so; a schema that was cut is a failure."""
    short = replace(OPTIONS, max_output_tokens=5)
    cut = await result(await opened(), "Explain recursion", short)
    assert cut.usage.output_tokens <= 5
    assert "max_output_tokens" in cut.warnings[0]
    schema = '{"type": "object", "properties": {"summary": {"type": "string"}}}'
    failed = await result(await opened(), "Extract: a long and winding text", replace(short, schema=schema))
    assert failed.failure is not None
    assert failed.failure.kind is FailureKind.TASK


async def test_an_interrupt_keeps_what_was_said_and_its_cost() -> None:
    """The pieces before the interrupt are the output, and the input is paid."""
    session = await opened()
    said: list[str] = []
    last: SessionEvent | None = None
    async for event in session.ask(Turn("[demo:slow=2] Explain recursion", OPTIONS)):
        if isinstance(event, TurnStarted):
            started = event
        if isinstance(event, TextDelta):
            said.append(event.text)
            await session.interrupt()
        last = event
    assert isinstance(last, TurnResult)
    assert last.output == "".join(said)
    assert len(said) == 1
    assert last.failure is not None
    assert last.failure.error_type == "interrupted"
    assert last.cost_nano >= started.cost_nano > 0
    assert (await result(session, "ping")).output == "pong"


async def test_closing_ends_a_turn_that_hangs() -> None:
    """A hanging turn ends as lost when its session is closed, and the session cannot be used again."""
    session = await opened()
    asyncio.get_running_loop().call_later(0.05, lambda: asyncio.ensure_future(session.close(kill=True)))
    ended = await asyncio.wait_for(result(session, "[demo:hang] x"), 5)
    assert ended.failure is not None
    assert ended.failure.kind is FailureKind.CRASH
    with pytest.raises(SessionLost):
        await events(session, "ping")


async def test_answers_do_not_depend_on_the_slot() -> None:
    """The same prompts give the same answers in any slot and order."""
    prompts = ["Write a haiku about rust", "ping", "Explain recursion"]
    one, two = await opened(slot="s1"), await opened(slot="s7")
    forwards, backwards = [], []
    for prompt in prompts:
        forwards.append((await result(one, prompt)).output)
        await one.reset()
    for prompt in reversed(prompts):
        backwards.append((await result(two, prompt)).output)
        await two.reset()
    assert forwards == backwards[::-1]


async def test_a_process_that_served_enough_asks_to_be_replaced() -> None:
    """max_tasks_per_process holds on the demo as on the real thing."""
    options = replace(OPTIONS, max_tasks_per_process=2)
    session = await opened(options=options)
    await result(session, "ping", options)
    assert not session.needs_recycling
    await result(session, "ping", options)
    assert session.needs_recycling


async def test_a_wrong_model_is_refused_on_the_demo_too() -> None:
    """A notebook that works on the demo does not fail on its first line elsewhere."""
    with pytest.raises(UnknownModel):
        await DemoBackend().check(replace(OPTIONS, model="gpt-4"), 1)
    assert await DemoBackend().check(OPTIONS, 1) == []
