"""How the two drivers answer an interrupt that comes during a short call."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator

import pytest

from claude_pool_nb.engine.portal import InlineLoop, LoopThread, Portal, held_sigint

inline_works = pytest.mark.skipif(sys.version_info >= (3, 14), reason="the inline driver is refused there")


@pytest.fixture(params=[LoopThread, pytest.param(InlineLoop, marks=inline_works)])
def portal(request: pytest.FixtureRequest) -> Iterator[Portal]:
    """Each of them, with Python's own answer to SIGINT: a job in the background was started to ignore it."""
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    made: Portal = request.param()
    yield made
    made.stop()
    signal.signal(signal.SIGINT, old)


async def interrupted() -> str:
    """A call that is interrupted and goes on."""
    os.kill(os.getpid(), signal.SIGINT)
    return "made"


def test_an_interrupt_is_raised_when_the_call_is_done(portal: Portal) -> None:
    """Nobody else handles SIGINT: it is a KeyboardInterrupt."""
    with pytest.raises(KeyboardInterrupt):
        portal.call(interrupted())


def test_an_interrupt_that_is_held_back_loses_no_result(portal: Portal) -> None:
    """Whoever holds interrupts back until it has what the call made, gets it, and then the interrupt."""
    with held_sigint() as hold:
        assert portal.call(interrupted()) == "made"
        assert hold.count == 1
        with pytest.raises(KeyboardInterrupt):
            hold.let_go()


def test_an_interrupt_of_what_is_waited_for_next_is_left_to_the_wait(portal: Portal) -> None:
    """It was accepted, so the wait has to stop it; nothing is raised before."""
    assert portal.call(interrupted(), then_waits=True) == "made"
