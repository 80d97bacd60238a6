"""A field acts, or it is refused by name: every field of the three levels, shown by its effect on the real CLI.

What is looked at is outside of us: the request on the wire, what a tool did, which process runs. `shows` notes which
fields a test is about; a field that no test is about fails the last test here.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from claude_pool_nb import (
    UNSET,
    ConfigError,
    Pool,
    PoolConfig,
    PoolPaused,
    SlotConfig,
    TaskFailed,
    TaskOverrides,
    UnknownOption,
    only,
)
from claude_pool_nb.records import FailureKind, SlotState, TaskResult, TaskState
from claude_pool_nb.sessions.launch import find_cli
from claude_pool_nb.testing import Reply, Request, ScriptedAPI
from tests.integration.cli.conftest import MODEL, MakePool, pids_of
from tests.waiting import PROMPTLY_S, wait_until

LEVELS = {"pool": PoolConfig, "slot": SlotConfig, "task": TaskOverrides}
SHOWN: set[str] = set()
"""`PoolConfig.model` and so on: what the tests of this module are about."""

Test = Callable[..., None]


def shows(*names: str) -> Callable[[Test], Test]:
    """A test shows the effect of these fields, named with their class."""
    for name in names:
        owner, _, option = name.partition(".")
        assert option in {level.__name__: level for level in LEVELS.values()}[owner].option_names(), name
    SHOWN.update(names)
    return lambda test: test


def at_each_level(*options: str) -> Callable[[Test], Test]:
    """A test shows the effect of these fields at every level that has all of them; it is given the level's name."""
    levels = [word for word, level in LEVELS.items() if set(options) <= set(level.option_names())]
    shows(*(f"{LEVELS[word].__name__}.{option}" for word in levels for option in options))
    return pytest.mark.parametrize("level", levels)


def pool_with(
    make_pool: MakePool, level: str, options: Mapping[str, Any], **base: Any
) -> tuple[Pool, Mapping[str, Any]]:
    """A pool of one slot in which options hold at one level, and what its tasks have to be given for that."""
    given = {"slots": 1, "store": ":memory:", "retry": 1, **base}
    if level == "pool":
        return make_pool(**{**given, **options}), {}
    if level == "slot":
        return make_pool(**given, slot_configs=[SlotConfig(**options)]), {}
    return make_pool(**given), options


def failure_of(pool: Pool, prompt: str = "hello", **overrides: Any) -> TaskResult:
    """What there is of a task that must fail."""
    with pytest.raises(TaskFailed) as caught:
        pool.run(prompt, **overrides)
    assert caught.value.result is not None
    return caught.value.result


def calling(*calls: tuple[str, Mapping[str, Any]]) -> Callable[[Request], Reply | str]:
    """An answer that calls tools, and says "done" once it has their results."""
    return lambda request: "done" if request.tool_results else Reply("", tool_calls=calls)


def bash(command: str) -> tuple[str, dict[str, Any]]:
    """A call of the shell."""
    return "Bash", {"command": command, "description": "part of a test"}


def idle_pid(pool: Pool) -> int:
    """The process of the only slot, once it is ready for a next task."""
    wait_until(lambda: pool.slot_records()[0].state is SlotState.IDLE, 60)
    return pids_of(pool)[0]


PROBE = """
import json, os, sys
open(os.environ["STARTED"], "w").close()
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    method, result = message["method"], {}
    if method == "initialize":
        result = {"protocolVersion": message["params"]["protocolVersion"], "capabilities": {"tools": {}},
                  "serverInfo": {"name": "probe", "version": "1"}}
    elif method == "tools/list":
        result = {"tools": [{"name": "ping", "description": "says pong", "inputSchema": {"type": "object"}}]}
    elif method == "tools/call":
        result = {"content": [{"type": "text", "text": "pong " + os.environ.get("TOKEN", "")}]}
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
"""
"""An MCP server with one tool, which leaves a mark when it starts."""


def mcp_server(folder: Path, mark: str = "started") -> dict[str, Any]:
    """The settings of the server; it starts as `folder / mark` is made."""
    script = folder / "probe.py"
    script.write_text(PROBE, encoding="utf-8")
    return {
        "command": sys.executable,
        "args": [str(script)],
        "env": {"STARTED": str(folder / mark), "TOKEN": "of-the-server"},
    }


# -- what is asked of the model ----------------------------------------------------------------------------------------


@at_each_level("system_prompt", "max_output_tokens", "tools", "model", "effort")
def test_the_nearest_level_decides_what_is_asked(api: ScriptedAPI, make_pool: MakePool, level: str) -> None:
    """Prompt, bound, tools, model and effort are in the request, and win over those of the pool."""
    farther = {} if level == "pool" else {"system_prompt": "Of the pool.", "max_output_tokens": 99, "effort": "high"}
    options = {
        "system_prompt": "Speak like a pirate.",
        "max_output_tokens": 77,
        "tools": ["Glob"],
        "model": "sonnet",
        "effort": "low",
    }
    pool, mine = pool_with(make_pool, level, options, **farther)
    result = pool.run("hello", **mine)
    request = api.requests[-1]
    assert request.system.endswith("Speak like a pirate.")
    assert "Of the pool." not in request.system
    assert request.body["max_tokens"] == 77
    assert request.tools == ["Glob"]
    assert request.model == result.model == "claude-sonnet-5-5"
    assert (result.requested_model if level != "slot" else "sonnet") == "sonnet"
    assert request.body["output_config"]["effort"] == "low"
    assert pool.resolved_config(result.task_id, result.slot_id).effort == "low"


@at_each_level("schema")
def test_a_schema_is_held(api: ScriptedAPI, make_pool: MakePool, level: str) -> None:
    """The model is asked for data of that form, and the data is in the result."""
    schema = {"type": "object", "properties": {"mood": {"type": "string"}}, "required": ["mood"]}
    api.reply(Reply(json={"mood": "fine"}))
    pool, mine = pool_with(make_pool, level, {"schema": schema})
    result = pool.run("how are you?", **mine)
    assert result.structured == {"mood": "fine"}
    offered = {tool["name"]: tool["input_schema"] for tool in api.requests[-1].body["tools"]}
    assert offered["StructuredOutput"]["properties"] == schema["properties"]


@at_each_level("fallback_model")
def test_a_fallback_model_answers_for_an_overloaded_one(api: ScriptedAPI, make_pool: MakePool, level: str) -> None:
    """The first model is overloaded, the other answers, and that is told."""
    api.reply(lambda request: Reply(status=529) if request.model == MODEL else "from the other")
    pool, mine = pool_with(make_pool, level, {"fallback_model": "claude-sonnet-4-5"})
    result = pool.run("hello", **mine)
    assert (result.output, result.model) == ("from the other", "claude-sonnet-4-5")
    assert result.warnings == (f"claude-sonnet-4-5 answered, not {MODEL}",)
    if level == "pool":
        api.reply("ok")
        assert pool.run("and now?").model == MODEL, "the next task asks the first model again"


@shows("SlotConfig.name", "SlotConfig.role", "SlotConfig.description", "TaskOverrides.role")
def test_a_slot_is_told_who_it_is_and_takes_the_tasks_of_its_role(api: ScriptedAPI, make_pool: MakePool) -> None:
    """Name, role, description and shared context follow the system prompt; a role's tasks go to its slot."""
    judge = SlotConfig(name="Ada", role="judge", description="You are strict.")
    pool = make_pool(slots=2, store=":memory:", system_prompt="Be brief.", slot_configs=[SlotConfig(), judge])
    pool.set_context("zoo", "closed")
    pool.set_context("animal", "otter")
    run = pool.fan_out(["one", "two", "three"], role="judge")
    assert {result.slot_id for result in run} == {"s2"}
    told = "Be brief.\n\nYou are Ada, a judge. You are strict.\n\nShared context:\n- animal: otter\n- zoo: closed"
    assert all(request.system.endswith(told) for request in api.requests)
    pool.configure_slot("s2", role=UNSET, name="Bob")
    assert (pool.find_slots(role="judge"), pool.find_slots(name="Bob")[0].id) == ([], "s2")
    with pytest.raises(ConfigError, match="no slot has the role 'judge'"):
        pool.run("four", role="judge")
    assert len(api.requests) == 3


@shows("PoolConfig.profile", "PoolConfig.preset")
def test_profiles(api: ScriptedAPI, make_pool: MakePool, tmp_path: Path) -> None:
    """Pool() asks without tools; PoolConfig() is Claude Code in plan mode; its prompt can be had without its tools."""
    prompt = make_pool(slots=1, store=":memory:")
    prompt.run("hello")
    assert api.requests[-1].tools == []
    assert api.requests[-1].system.endswith("\nYou are a helpful assistant.")
    preset = make_pool(slots=1, store=":memory:", preset=True)
    preset.run("hello")
    assert api.requests[-1].tools == []
    assert len(api.requests[-1].system) > 3_000
    agent = make_pool(slots=1, store=":memory:", config=PoolConfig(cwd=tmp_path, allowed_tools=["Write"]))
    api.reply(calling(("Write", {"file_path": str(tmp_path / "made"), "content": "hello"})))
    result = agent.run("write")
    assert {"Read", "Edit", "Bash"} <= set(api.requests[-1].tools)
    assert len(api.requests[-1].system) > 5_000
    assert [denial.tool for denial in result.denials] == ["Write"], "plan mode writes nothing, even if it is allowed"
    assert not (tmp_path / "made").exists()


@shows("PoolConfig.setting_sources")
def test_settings_files_are_read_where_they_are_named(api: ScriptedAPI, make_pool: MakePool, tmp_path: Path) -> None:
    """A project's CLAUDE.md and settings count with setting_sources=['project'] and not without."""
    (tmp_path / ".claude").mkdir()
    (tmp_path / ".claude" / "settings.json").write_text(json.dumps({"env": {"WORD": "XYZZY"}}), encoding="utf-8")
    api.reply(calling(bash("echo word=$WORD")))
    for sources, seen in ((["project"], "word=XYZZY"), ([], "word=")):
        pool = make_pool(
            slots=1, store=":memory:", setting_sources=sources, cwd=tmp_path, tools=["Bash"], allowed_tools=["Bash"]
        )
        pool.run("hello")
        assert api.requests[-1].tool_results == [seen]


# -- what tools may do -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["none", "pool", "slot", "task"])
@shows(*(f"{owner}.{option}" for owner in ("PoolConfig", "SlotConfig", "TaskOverrides")
         for option in ("allowed_tools", "disallowed_tools", "cwd")))  # fmt: skip
def test_tools_run_where_and_as_allowed(api: ScriptedAPI, make_pool: MakePool, tmp_path: Path, level: str) -> None:
    """A tool that would ask is denied and told; an allowed one runs, in cwd; a disallowed one does not run at all."""
    work, kept = tmp_path / "work", tmp_path / "kept"
    work.mkdir()
    kept.touch()
    api.reply(calling(bash("touch made"), bash(f"rm -f {kept}")))
    options: dict[str, Any] = {
        "allowed_tools": ["Bash(touch *)"],
        "disallowed_tools": ["Bash(rm *)"],
        "cwd": work,
    }
    base: dict[str, Any] = {"tools": ["Bash"]}
    if level != "pool":
        base |= {"allowed_tools": ["Bash(rm *)"], "cwd": tmp_path}
    pool, mine = pool_with(make_pool, level, options if level != "none" else {}, **base)
    result = pool.run("do it", **mine)
    assert result.output == "done"
    if level == "none":
        assert [denial.tool for denial in result.denials] == ["Bash"]
        assert "touch made" in result.denials[0].tool_input
        assert not list(tmp_path.glob("**/made"))
        assert not kept.exists()
    else:
        assert (work / "made").exists()
        assert kept.exists()


@at_each_level("permission_mode")
def test_the_permission_mode_decides_what_runs_unasked(
    api: ScriptedAPI, make_pool: MakePool, tmp_path: Path, level: str
) -> None:
    """With acceptEdits a file is written; in the next task, or the mode before it, that is denied."""
    first, second = tmp_path / "first.txt", tmp_path / "second.txt"
    pool, mine = pool_with(make_pool, level, {"permission_mode": "acceptEdits"}, tools=["Write"], cwd=tmp_path)
    api.reply(calling(("Write", {"file_path": str(first), "content": "hello"})))
    assert pool.run("write", **mine).denials == ()
    assert first.read_text(encoding="utf-8") == "hello"
    api.reply(calling(("Write", {"file_path": str(second), "content": "hello"})))
    denied = pool.run("write", permission_mode="default")
    assert [denial.tool for denial in denied.denials] == ["Write"]
    assert not second.exists()


@at_each_level("mcp_servers")
def test_an_mcp_server_is_started_and_its_tool_works(
    api: ScriptedAPI, make_pool: MakePool, tmp_path: Path, level: str
) -> None:
    """The server runs with its environment, the model is offered its tool, and the call is answered."""
    api.reply(calling(("mcp__probe__ping", {})))
    options = {"mcp_servers": {"probe": mcp_server(tmp_path)}}
    pool, mine = pool_with(make_pool, level, options, allowed_tools=["mcp__probe__ping"])
    result = pool.run("ping", **mine)
    assert (tmp_path / "started").exists()
    assert api.requests[-1].tools == ["mcp__probe__ping"]
    assert api.requests[-1].tool_results == ["pong of-the-server"]
    assert result.warnings == ()
    assert "of-the-server" not in repr(pool.config) + repr(pool.resolved_config(result.task_id, result.slot_id))
    if level == "slot":
        pool.configure_slot("s1", name="Ada")
        assert pool.run("again").output == "done", "the server's secret is still known"
    if level == "pool":
        api.reply("ok")
        pool.run("without", mcp_servers={"probe": UNSET})
        assert api.requests[-1].tools == []


def test_no_other_mcp_server_is_started(
    api: ScriptedAPI, make_pool: MakePool, tmp_path: Path, isolated_env: Path
) -> None:
    """Servers of the project and of the user stay away, also where their settings are read; one that fails is told."""
    project = {"mcpServers": {"theirs": mcp_server(tmp_path, "project")}}
    (tmp_path / ".mcp.json").write_text(json.dumps(project), encoding="utf-8")
    (tmp_path / ".claude").mkdir()
    settings = {"enableAllProjectMcpServers": True}
    (tmp_path / ".claude" / "settings.local.json").write_text(json.dumps(settings), encoding="utf-8")
    user = {"mcpServers": {"mine": mcp_server(tmp_path, "user")}}
    (isolated_env / ".claude.json").write_text(json.dumps(user), encoding="utf-8")
    pool = make_pool(
        slots=1, store=":memory:", setting_sources=["user", "project", "local"], cwd=tmp_path, tools=["Read"],
        mcp_servers={"broken": {"command": "/bin/false"}},
    )  # fmt: skip
    result = pool.run("hello")
    assert api.requests[-1].tools == ["Read"]
    assert [path.name for path in tmp_path.glob("*") if path.name in {"project", "user"}] == []
    assert result.warnings == ("MCP servers without their tools: broken (failed); see mcp_servers",)


@shows("PoolConfig.env")
def test_tools_see_the_environment_that_was_given(
    api: ScriptedAPI, make_pool: MakePool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is named in env reaches a tool, and other variables of the kernel do not."""
    monkeypatch.setenv("DATABASE_PASSWORD", "hush")
    api.reply(calling(bash("echo $WHO-$DATABASE_PASSWORD")))
    pool = make_pool(slots=1, store=":memory:", tools=["Bash"], allowed_tools=["Bash"], env={"WHO": "me"})
    pool.run("who?")
    assert api.requests[-1].tool_results == ["me-"]
    assert "'me'" not in repr(pool.config) + repr(pool.resolved_config())


@shows("PoolConfig.unattended_mode")
def test_unattended_denies_at_once_and_tells(api: ScriptedAPI, make_pool: MakePool, tmp_path: Path) -> None:
    """What would ask is denied and told; what is allowed runs, which the agent's plan mode would not let it."""
    asked, allowed = tmp_path / "asked", tmp_path / "allowed"
    api.reply(calling(bash(f"touch {asked}"), ("Write", {"file_path": str(allowed), "content": "hello"})))
    options: dict[str, Any] = {"allowed_tools": ["Write"], "setting_sources": [], "cwd": tmp_path}
    pool = make_pool(slots=1, store=":memory:", config=PoolConfig(unattended_mode=True, **options))
    result = pool.run("make them")
    assert [denial.tool for denial in result.denials] == ["Bash"]
    assert str(asked) in result.denials[0].tool_input
    assert (asked.exists(), allowed.exists()) == (False, True)
    assert "touch" in pool.tasks()["permission_denials"].iloc[0]


@shows("PoolConfig.allow_bypass")
def test_bypass_needs_its_own_consent(api: ScriptedAPI, make_pool: MakePool, tmp_path: Path) -> None:
    """Without allow_bypass the mode is refused; with it every tool runs, or the CLI's refusal of root is told."""
    options = {"slots": 1, "store": ":memory:", "permission_mode": "bypassPermissions", "tools": ["Bash"]}
    with pytest.raises(ConfigError, match="allow_bypass=True"):
        make_pool(**options)
    made = tmp_path / "made"
    api.reply(calling(bash(f"touch {made}")))
    pool = make_pool(**options, allow_bypass=True, max_restarts=0)
    if os.geteuid() == 0:
        with pytest.raises(PoolPaused, match=r"root.*another user, or use another permission_mode"):
            pool.run("make it")
        assert api.requests == []
    else:
        assert pool.run("make it").denials == ()
        assert made.exists()


@at_each_level("max_turns")
def test_max_turns_ends_a_task_that_goes_on_and_on(api: ScriptedAPI, make_pool: MakePool, level: str) -> None:
    """After so many turns the task fails as such, and its cost is booked."""
    api.reply(Reply("", tool_calls=[("Glob", {"pattern": "*.nothing"})]))
    pool, mine = pool_with(make_pool, level, {"max_turns": 2}, tools=["Glob"])
    result = failure_of(pool, **mine)
    assert result.failure is not None
    assert result.failure.kind is FailureKind.TURNS
    assert len(api.requests) == 2
    assert result.cost_usd == pytest.approx(api.billed_usd, abs=1e-9)


# -- three levels ------------------------------------------------------------------------------------------------------


def test_lists_are_joined_and_only_replaces(api: ScriptedAPI, make_pool: MakePool, tmp_path: Path) -> None:
    """`only` at the slot drops the pool's tools, the task's are added to what is left; UNSET leaves none."""
    api.reply(calling(*(bash(f"touch {name}") for name in "abc")))
    pool = make_pool(
        slots=1, store=":memory:", tools=["Bash"], cwd=tmp_path, allowed_tools=["Bash(touch a)"],
        slot_configs=[SlotConfig(allowed_tools=only("Bash(touch b)"))],
    )  # fmt: skip
    result = pool.run("touch them", allowed_tools=["Bash(touch c)"])
    assert sorted(path.name for path in tmp_path.glob("?")) == ["b", "c"]
    assert len(result.denials) == 1
    assert len(pool.run("touch them", allowed_tools=UNSET).denials) == 3


def test_unset_goes_back_to_the_default(api: ScriptedAPI, make_pool: MakePool) -> None:
    """What pool and slot say is dropped, down to the profile's and the CLI's own values."""
    pool = make_pool(
        slots=1, store=":memory:", system_prompt="Of the pool.", max_output_tokens=50,
        slot_configs=[SlotConfig(max_output_tokens=60, tools=["Glob"])],
    )  # fmt: skip
    pool.run("with")
    pool.run("without", system_prompt=UNSET, max_output_tokens=UNSET, tools=UNSET)
    held, dropped = api.requests
    assert (held.body["max_tokens"], held.tools) == (60, ["Glob"])
    assert dropped.body["max_tokens"] > 1_000
    assert dropped.tools == []
    assert dropped.system.endswith("You are a helpful assistant.")


def test_what_is_no_field_is_refused_with_the_nearest_name(api: ScriptedAPI, make_pool: MakePool) -> None:
    """A typo at any level costs nothing and starts nothing."""
    with pytest.raises(UnknownOption, match="did you mean 'max_turns'"):
        make_pool(slots=1, max_turn=3)
    with pytest.raises(ConfigError, match="slot_configs takes SlotConfigs, not a dict"):
        make_pool(slots=1, slot_configs=[{"model": "haiku"}])
    pool = make_pool(slots=1, store=":memory:")
    with pytest.raises(UnknownOption, match="did you mean 'effort'"):
        pool.run("hello", efort="low")
    with pytest.raises(UnknownOption, match="did you mean 'description'"):
        pool.configure_slot("s1", descripton="x")
    assert api.requests == []


# -- time and failures -------------------------------------------------------------------------------------------------


@at_each_level("timeout_s")
def test_the_wall_time_ends_an_attempt(api: ScriptedAPI, make_pool: MakePool, level: str) -> None:
    """A stream that goes on and on is stopped, keeps what came, and the slot serves the next task."""
    pool, mine = pool_with(make_pool, level, {"timeout_s": 0.6})
    api.on("^endless$", Reply("word " * 4000, chunk_chars=5, chunk_delay_s=0.02))
    result = failure_of(pool, "endless", **mine)
    assert result.failure is not None
    assert (result.failure.kind, result.failure.error_type) == (FailureKind.TIMEOUT, "wall_timeout")
    assert pool.run("next", timeout_s=60).output == "ok"


@at_each_level("idle_timeout_s")
def test_the_idle_time_ends_an_attempt_that_is_not_heard(api: ScriptedAPI, make_pool: MakePool, level: str) -> None:
    """Silence ends it; a slow stream does not."""
    pool, mine = pool_with(make_pool, level, {"idle_timeout_s": 2.0})
    api.script(Reply("word " * 12, chunk_chars=5, chunk_delay_s=0.2), Reply(hang=True))
    assert pool.run("slow", **mine).output.startswith("word")
    result = failure_of(pool, **mine)
    assert result.failure is not None
    assert (result.failure.kind, result.failure.error_type) == (FailureKind.TIMEOUT, "idle_timeout")


@at_each_level("retry")
def test_a_retry_policy_is_followed(api: ScriptedAPI, make_pool: MakePool, level: str) -> None:
    """What fails once is tried again, as often as the policy says."""
    policy = {"max_attempts": 2, "initial_backoff_s": 0.05}
    pool, mine = pool_with(make_pool, level, {"retry": policy})
    api.fail(status=500)
    assert pool.run("hello", **mine).attempts == 2
    api.fail(status=500)
    assert failure_of(pool, retry=1).attempts == 1


@shows("PoolConfig.slot_assignment_timeout_s")
def test_a_task_without_a_slot_does_not_wait_for_ever(api: ScriptedAPI, make_pool: MakePool) -> None:
    """It fails after its time, unsent, while the one before it goes on."""
    pool = make_pool(slots=1, store=":memory:", slot_assignment_timeout_s=0.5)
    idle_pid(pool)
    api.hold()
    first = pool.submit("first")
    api.wait_for_held(1)
    result = failure_of(pool, "second")
    assert result.failure is not None
    assert (result.failure.kind, result.failure.error_type) == (FailureKind.TIMEOUT, "no_slot_in_time")
    api.release()
    assert first.result(20).output == "ok"
    assert len(api.requests) == 1


# -- order and money ---------------------------------------------------------------------------------------------------


@shows("TaskOverrides.tags", "TaskOverrides.priority")
def test_tags_are_kept_and_priority_goes_first(api: ScriptedAPI, make_pool: MakePool) -> None:
    """Of those that wait the urgent one is sent first; all are found by their tag."""
    pool = make_pool(slots=1, store=":memory:")
    idle_pid(pool)
    api.hold()
    tasks = [pool.submit("first")]
    api.wait_for_held(1)
    tasks += [pool.submit("usual", tags=["night"]), pool.submit("urgent", priority=5, tags=["night", "x"])]
    api.release()
    pool.wait()
    assert [request.prompt for request in api.requests] == ["first", "urgent", "usual"]
    assert list(pool.tasks(tag="night")["prompt"]) == ["usual", "urgent"]
    assert tasks[2].result().tags == ("night", "x")


@at_each_level("cache")
def test_an_identical_request_is_not_sent_again(api: ScriptedAPI, make_pool: MakePool, level: str) -> None:
    """The second answer is the first one, with the model that gave it, and the API hears nothing of it."""
    api.script("one", "two")
    pool, options = pool_with(make_pool, level, {"cache": True})
    first, again = (pool.run("hello", **options) for _ in range(2))
    assert (first.output, first.cached, again.output, again.cached) == ("one", False, "one", True)
    assert again.model == first.model
    assert again.cost_usd == 0 < first.cost_usd
    assert len(api.requests) == 1
    assert pool.run("hello", cache=False).output == "two"


@at_each_level("prime")
def test_priming_can_be_turned_off(api: ScriptedAPI, make_pool: MakePool, level: str) -> None:
    """Tasks with a long common prefix wait for the first answer to begin, unless told not to."""
    rules = " ".join(f"Rule {n}: be brief and kind." for n in range(900))
    for prime in (True, False):
        options = {"prime": prime, "system_prompt": f"{rules} {prime}"}
        pool, mine = pool_with(make_pool, level, options, slots=2)
        wait_until(lambda pool=pool: len(pool.find_slots(state="idle")) == 2, 60)
        if level == "task":  # have both slots launched with these options
            api.release()
            pool.fan_out(["a", "b"], **mine)
            options["model"] = mine["model"] = "claude-haiku-4-5-20251001"
        api.clear()
        api.hold()
        run = pool.fan_out(["one", "two"], **mine, wait=False)
        api.wait_for_held(1 if prime else 2, PROMPTLY_S)
        api.release()
        run.wait(PROMPTLY_S)
        first, second = (request for request in api.requests if not request.probe)
        assert second.at >= first.began_at or not prime
        pool.close()


@shows("PoolConfig.budget_usd")
def test_the_budget_is_a_wall(api: ScriptedAPI, make_pool: MakePool) -> None:
    """What does not fit is not sent."""
    pool = make_pool(slots=1, store=":memory:", budget_usd=0.0015, max_output_tokens=20)
    assert pool.run("one").cost_usd == pytest.approx(0.0011)
    result = failure_of(pool, "two")
    assert result.failure is not None
    assert (result.failure.kind, result.failure.error_type) == (FailureKind.BUDGET, "BudgetExhausted")
    assert len(api.requests) == 1


@shows("PoolConfig.strict_budget")
def test_a_strict_budget_reserves_the_worst_case(api: ScriptedAPI, make_pool: MakePool) -> None:
    """A task is bounded on the wire; one whose worst case does not fit is not sent; tools need max_turns."""
    pool = make_pool(slots=1, store=":memory:", budget_usd=0.02, strict_budget=True)
    assert failure_of(pool, "four thousand tokens").failure is not None
    assert api.requests == []
    assert pool.run("a hundred", max_output_tokens=100).output == "ok"
    assert api.requests[-1].body["max_tokens"] == 100
    with pytest.raises(ConfigError, match="needs max_turns"):
        pool.run("with tools", tools=["Read"])
    pool.set_budget(1)
    pool.run("unbounded")
    assert api.requests[-1].body["max_tokens"] == 4_096


@shows("TaskOverrides.max_budget_usd")
def test_a_task_that_outgrows_its_own_wall_is_stopped(api: ScriptedAPI, make_pool: MakePool) -> None:
    """It is stopped in mid-stream, keeps what came, and what it cost is booked."""
    pool = make_pool(slots=1, store=":memory:", retry=1)
    api.reply(Reply("word " * 400, chunk_chars=5, chunk_delay_s=0.02, input_tokens=500_000))
    result = failure_of(pool, max_budget_usd=0.01)
    assert result.failure is not None
    assert result.failure.kind is FailureKind.BUDGET
    assert result.cost_usd > 0.4


# -- slots and their processes -----------------------------------------------------------------------------------------


@shows("PoolConfig.slot_mode", "TaskOverrides.conversation")
def test_conversations_go_on_where_they_should(api: ScriptedAPI, make_pool: MakePool) -> None:
    """Isolated tasks know nothing of each other; a persistent slot and a named conversation do."""
    isolated = make_pool(slots=1, store=":memory:")
    for prompt in ("one", "two"):
        isolated.run(prompt)
    assert "one" not in json.dumps(api.requests[-1].messages)
    for prompt, name in (("three", "talk"), ("four", None), ("five", "talk")):
        isolated.run(prompt, conversation=name)
    said = json.dumps(api.requests[-1].messages)
    assert ("three" in said, "four" in said) == (True, False)
    talk = isolated.conversations().iloc[0]
    assert (talk["name"], talk["turns"]) == ("talk", 2)
    persistent = make_pool(slots=1, store=":memory:", slot_mode="persistent")
    for prompt in ("six", "seven"):
        persistent.run(prompt)
    assert [m["role"] for m in api.requests[-1].messages] == ["user", "assistant", "user"]
    assert "six" in json.dumps(api.requests[-1].messages)


@shows("PoolConfig.min_slots", "PoolConfig.max_slots")
def test_scaling_has_limits(make_pool: MakePool) -> None:
    """A pool is not made, nor scaled, beyond min_slots and max_slots."""
    with pytest.raises(ConfigError, match="from 2 to 3"):
        make_pool(slots=1, min_slots=2, max_slots=3)
    pool = make_pool(slots=2, store=":memory:", min_slots=2, max_slots=3)
    pool.scale(3)
    wait_until(lambda: len(pids_of(pool)) == 3, 60)
    for slots in (1, 4):
        with pytest.raises(ConfigError, match=r"2 .*3"):
            pool.scale(slots)
    assert len(pids_of(pool)) == 3


@shows("PoolConfig.cli_path", "PoolConfig.max_restarts")
def test_another_cli_is_started_and_given_up_after_so_many_tries(
    api: ScriptedAPI, make_pool: MakePool, tmp_path: Path
) -> None:
    """The executable that is named is run; if it does not work, as often as max_restarts says, and that is told."""
    log, cli = tmp_path / "log", tmp_path / "claude"
    cli.write_text(f'#!/bin/sh\necho start >> {log}\nexec {find_cli()} "$@"\n', encoding="utf-8")
    cli.chmod(0o755)
    assert make_pool(slots=1, store=":memory:", cli_path=cli).run("hello").output == "ok"
    assert log.read_text(encoding="utf-8") == "start\n"
    cli.write_text(f"#!/bin/sh\necho broken >> {log}\necho no disk >&2\nexit 3\n", encoding="utf-8")
    pool = make_pool(slots=1, store=":memory:", cli_path=cli, max_restarts=1)
    with pytest.raises(PoolPaused, match="no disk"):
        pool.run("hello")
    assert log.read_text(encoding="utf-8").count("broken") == 2
    assert len(api.requests) == 1


@shows("PoolConfig.max_tasks_per_process", "PoolConfig.max_rss_bytes")
def test_processes_are_replaced_as_told(make_pool: MakePool) -> None:
    """After so many tasks, or above so much memory, there is a new process; with None there is not."""
    for options, processes in (
        ({"max_tasks_per_process": 2, "max_rss_bytes": None}, 2),
        ({"max_tasks_per_process": None, "max_rss_bytes": 1}, 4),
        ({"max_tasks_per_process": None, "max_rss_bytes": None}, 1),
    ):
        pool = make_pool(slots=1, store=":memory:", **options)
        pids = [idle_pid(pool)]
        for prompt in ("one", "two", "three"):
            pool.run(prompt)
            pids.append(idle_pid(pool))
        assert len(set(pids)) == processes, options
        pool.close()


@shows("PoolConfig.idle_close_s")
def test_a_process_with_nothing_to_do_is_closed(api: ScriptedAPI, make_pool: MakePool) -> None:
    """Its slot stays idle without a process, before and after a task, and the next task opens one."""
    pool = make_pool(slots=1, store=":memory:", idle_close_s=0.4)
    for prompt in ("one", "two"):
        wait_until(lambda: bool(pids_of(pool)), 60)
        wait_until(lambda: not pids_of(pool), 60)
        assert pool.slot_records()[0].state is SlotState.IDLE
        assert pool.run(prompt).state is TaskState.COMPLETED
    assert pool.attempts()["attempt"].tolist() == [1, 1]
    persistent = make_pool(slots=1, store=":memory:", idle_close_s=0.2, slot_mode="persistent")
    persistent.run("remember this")
    time.sleep(0.5)
    persistent.run("and now?")
    assert "remember this" in json.dumps(api.requests[-1].messages), "its process alone holds the conversation"


@shows("PoolConfig.demo_latency_s")
def test_the_demo_takes_as_long_as_told() -> None:
    """The time of an answer can be set; 0 is none."""
    for latency_s in (0.4, 0):
        with Pool(slots=1, backend="demo", store=":memory:", demo_latency_s=latency_s) as pool:
            assert (pool.run("hello").duration_s >= 0.39) is (latency_s > 0)


# -- completeness ------------------------------------------------------------------------------------------------------


def test_no_field_is_without_a_test() -> None:
    """A new field needs a test here that shows what it does."""
    there = {f"{level.__name__}.{f.name}" for level in LEVELS.values() for f in fields(level)}
    assert there == SHOWN
