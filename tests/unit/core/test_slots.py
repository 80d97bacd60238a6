"""Slots: lost, reopened, given up, scaled, drained."""

from __future__ import annotations

from dataclasses import replace

import pytest

from claude_pool_nb.core import commands as c
from claude_pool_nb.core import inputs as i
from claude_pool_nb.errors import ConfigError, PoolClosed, SlotNotFound
from claude_pool_nb.records import RunState, SlotState, StopReason, TaskState
from tests.unit.core.world import CRASH, TRANSPORT, World


def opened(world: World) -> list[tuple[str, float]]:
    """Which slots were to be opened by the last call, and after which wait."""
    return [(command.slot_id, command.delay_s) for command in world.last if isinstance(command, c.OpenSlot)]


def closed(world: World) -> list[str]:
    """Which slots were to be closed by the last call."""
    return [command.slot_id for command in world.last if isinstance(command, c.CloseSlot)]


def close(world: World) -> World:
    """Slots that were to be closed are."""
    for slot in tuple(world.closing):
        world.tell(i.SlotClosed(world.at, slot, world.closing.pop(slot)))
    return world


def test_a_lost_slot_is_opened_again_with_growing_waits_and_then_given_up() -> None:
    """At once, then after 0.5 and 1 s; the fourth loss in a row is one too many, and the pool pauses with a reason."""
    world = World(1, max_restarts=3).submit({})
    waits = []
    for _ in range(3):
        world.lose("s1", "no such file: claude")
        waits += opened(world)
    assert waits == [("s1", 0.0), ("s1", 0.5), ("s1", 1.0)]
    world.lose("s1", "no such file: claude")
    assert repr(world.state) == (
        "<Pool 1 errored | 1 pending | $0.00 spent | paused: no slot has a working session (no such file: claude); "
        "mend the cause, then `%pool unpause` opens them again>"
    )
    assert any(isinstance(command, c.Tell) for command in world.last)
    assert world.ledger.runs["r1"].state is RunState.PAUSED
    world.tell(i.Unpause(world.at))
    assert opened(world) == [("s1", 0.0)]
    world.open()
    assert world.running() == ["r1.1"]


def test_a_completed_task_clears_a_slots_record() -> None:
    """Losses with work in between never give a slot up."""
    world = World(1, max_restarts=1).open().submit(*({} for _ in range(10)))
    for n in range(1, 11):
        world.done(f"r1.{n}").lose("s1").open()
    assert repr(world.state) == "<Pool 1 idle | 10 completed | $0.00 spent>"
    assert world.state.slot("s1").restarts == 10


def test_a_session_that_the_pool_killed_is_no_loss() -> None:
    """Kills and timeouts cost processes, but never a slot."""
    world = World(1, max_restarts=0).open().submit(*({} for _ in range(5)))
    for n in range(1, 6):
        world.done(f"r1.{n}", fail=CRASH, stopped=StopReason.TIMEOUT).lose("s1").open()
    assert world.state.slot("s1").state is SlotState.IDLE


def test_what_an_older_session_says_is_ignored() -> None:
    """Only the present epoch of a slot counts."""
    world = World(1).open().lose("s1")
    for given in (i.SlotReady(world.at, "s1", 1), i.SlotOpened(world.at, "s1", 1), i.SlotLost(world.at, "s1", 1, "x")):
        world.tell(given)
        assert world.last == []
    assert world.open().state.slot("s1").state is SlotState.IDLE
    with pytest.raises(SlotNotFound):
        world.tell(i.SlotReady(world.at, "s9", 1))


def test_scaling_down_lets_busy_slots_finish() -> None:
    """Idle slots go first, a busy one closes after its task and gets no other."""
    world = World(3).open().submit({}, {})
    world.tell(i.Scale(world.at, 1))
    assert closed(world) == ["s3"]
    world.done("r1.2").submit({})
    assert world.state.task("r2.1").state is TaskState.PENDING
    assert close(world).state.status().slots == {"busy": 1}
    world.done("r1.1").ready()
    assert world.in_flight == {("r2.1", 1): "s1"}


def test_scaling_up_never_uses_an_id_twice() -> None:
    """New slots get new ids, and one that was to close after its task stays instead."""
    world = World(2).open()
    world.tell(i.Scale(world.at, 1))
    close(world).tell(i.Scale(world.at, 2))
    assert opened(world) == [("s3", 0.0)]
    world.open().submit({}, {})
    world.tell(i.Scale(world.at, 1))
    world.tell(i.Scale(world.at, 3))
    assert opened(world) == [("s4", 0.0)]
    for slots in (0, 17):
        with pytest.raises(ConfigError, match="1 to 16"):
            world.tell(i.Scale(world.at, slots))


def test_a_smaller_pool_keeps_the_sessions_that_are_open() -> None:
    """A slot that still opens goes before one that is ready, and one that goes is no longer idle."""
    world = World(1).open()
    world.tell(i.Scale(world.at, 3))
    world.tell(i.Scale(world.at, 1))
    assert {slot.id: slot.state for slot in world.state.slots()} == {
        "s1": SlotState.IDLE,
        "s2": SlotState.RESETTING,
        "s3": SlotState.RESETTING,
    }
    close(world)
    assert [slot.id for slot in world.state.slots()] == ["s1"]
    assert world.submit({}).running() == ["r1.1"]


def test_labels_survive_a_restart_of_the_session() -> None:
    """A slot keeps its name and role when its session is opened again."""
    world = World(1).open()
    world.tell(i.LabelSlot(world.at, "s1", name="anna", role="writer", description="writes"))
    world.lose("s1").open()
    world.tell(i.LabelSlot(world.at, "s1", description="edits"))
    slot = world.state.slot("s1")
    assert (slot.name, slot.role, slot.description) == ("anna", "writer", "edits")


def test_pause_lets_running_tasks_end() -> None:
    """Nothing starts while paused; the run is paused, and goes on with unpause."""
    world = World(1).open().submit({}, {})
    world.tell(i.Pause(world.at, "lunch"))
    world.done("r1.1").ready()
    assert repr(world.state) == "<Pool 1 idle | 1 pending, 1 completed | $0.00 spent | paused: lunch>"
    assert world.ledger.runs["r1"].state is RunState.PAUSED
    world.submit({})
    world.tell(i.Unpause(world.at))
    assert [run.state for run in world.ledger.runs.values()] == [RunState.RUNNING, RunState.PENDING]
    assert world.running() == ["r1.2"]


def test_drain_ends_everything_in_order() -> None:
    """What has not started is interrupted, what runs ends, slots close, and the pool is over."""
    world = World(2).open().submit({}, {}, {})
    world.done("r1.2", fail=TRANSPORT).ready()
    assert world.running() == ["r1.1", "r1.3"]
    world.tell(i.Drain(world.at))
    assert world.state.task("r1.2").state is TaskState.INTERRUPTED
    with pytest.raises(PoolClosed):
        world.state.handle(replace(world.make({}), at=world.at))
    world.done("r1.3", fail=CRASH)
    assert world.state.task("r1.3").state is TaskState.INTERRUPTED
    world.done("r1.1")
    assert not world.closed
    close(world)
    assert world.closed
    assert repr(world.state) == "<Pool no slots | 1 completed, 2 interrupted | $0.00 spent | closed>"
    assert world.ledger.runs["r1"].state is RunState.INTERRUPTED


def test_a_drain_that_takes_too_long_stops_then_kills() -> None:
    """Running tasks are asked first and killed then, and a session that does not close is killed too."""
    world = World(2).open().submit({})
    world.tell(i.Drain(world.at))
    assert closed(world) == ["s2"]
    world.tell(i.DrainTimedOut(world.at))
    assert [command.kill for command in world.last if isinstance(command, c.CloseSlot)] == [True]
    world.tell(i.DrainTimedOut(world.at))
    assert [(s.reason, s.kill) for s in world.stops] == [("drain", False), ("drain", True)]
    world.done("r1.1", fail=CRASH, stopped=StopReason.DRAIN)
    assert close(world).closed
    assert world.state.task("r1.1").state is TaskState.INTERRUPTED


def test_a_pool_with_no_slot_left_drains_at_once() -> None:
    """Slots that were given up have nothing to close."""
    world = World(1, max_restarts=0).submit({}).lose("s1")
    world.tell(i.Drain(world.at))
    assert world.closed
    assert world.state.task("r1.1").state is TaskState.INTERRUPTED


def test_a_slot_lost_while_it_closes_is_closed() -> None:
    """A drain does not wait for a session that is gone."""
    world = World(1).open()
    world.tell(i.Drain(world.at))
    world.lose("s1")
    assert world.closed
