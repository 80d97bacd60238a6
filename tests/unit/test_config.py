"""Configuration: what is refused, how three levels become one, what survives JSON."""

from __future__ import annotations

import dataclasses
import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from claude_pool_nb.config import (
    PROFILES,
    STRICT_MAX_OUTPUT_TOKENS,
    UNSET,
    PermissionMode,
    PoolConfig,
    SlotConfig,
    TaskOverrides,
    only,
    resolve,
    validate_model,
)
from claude_pool_nb.errors import ConfigError, NotYetSupported, ReplacedOption, UnknownModel, UnknownOption
from claude_pool_nb.records import RetryPolicy
from claude_pool_nb.resolved import ResolvedConfig

POOL_FIELDS = [
    "model",
    "permission_mode",
    "max_turns",
    "system_prompt",
    "allowed_tools",
    "mcp_servers",
    "effort",
    "fallback_model",
    "budget_microdollars",
    "slot_mode",
    "max_restarts",
    "worktree_isolation",
    "slot_assignment_timeout_secs",
    "scaling",
    "unattended_mode",
    "detect_permission_prompts",
    "supervisor_enabled",
    "supervisor_interval_secs",
    "strict_mcp_config",
    "worktree_base_dir",
]
SLOT_FIELDS = [
    "model",
    "permission_mode",
    "max_turns",
    "system_prompt",
    "allowed_tools",
    "mcp_servers",
    "effort",
    "fallback_model",
    "role",
    "name",
    "description",
    "slot_assignment_timeout_secs",
]
TASK_FIELDS = [
    "model",
    "permission_mode",
    "max_turns",
    "system_prompt",
    "allowed_tools",
    "disallowed_tools",
    "tools",
    "mcp_servers",
    "effort",
    "fallback_model",
    "json_schema",
    "max_budget_usd",
]


@pytest.mark.parametrize(
    ("level", "name"),
    [
        (level, n)
        for level, names in ((PoolConfig, POOL_FIELDS), (SlotConfig, SLOT_FIELDS), (TaskOverrides, TASK_FIELDS))
        for n in names
    ],
)
def test_every_field_of_claude_pool_exists_or_is_refused_by_name(level: type, name: str) -> None:
    """A field known from claude-pool is an option here, or its refusal says what became of it."""
    if name in level.option_names():
        return
    with pytest.raises((ReplacedOption, NotYetSupported), match=name):
        level(**{name: 1})


@pytest.mark.parametrize("level", [PoolConfig, SlotConfig, TaskOverrides])
def test_every_option_of_a_level_changes_what_is_resolved_or_is_read_by_name(level: type) -> None:
    """No option of ours is accepted and ignored: it is in the resolved config, or a known reader takes it."""
    read_elsewhere = {
        "budget_usd", "strict_budget", "min_slots", "max_slots", "max_restarts", "unattended_mode",  # the pool
        "role", "name", "description", "tags", "priority",  # the scheduler and the identity
    }  # fmt: skip
    resolved = {f.name for f in dataclasses.fields(ResolvedConfig)}
    assert set(level.option_names()) <= resolved | read_elsewhere


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modle": "haiku"}, "did you mean 'model'"),
        ({"max_turns": 0}, "whole number of at least 1"),
        ({"max_turns": 2.5}, "whole number"),
        ({"max_turns": True}, "whole number"),
        ({"max_turns": "3"}, "whole number"),
        ({"budget_usd": -1}, "at least 0"),
        ({"budget_usd": float("nan")}, "at least 0"),
        ({"budget_usd": "5"}, "at least 0"),
        ({"timeout_s": 0}, "above 0 seconds"),
        ({"effort": "hihg"}, "did you mean 'high'"),
        ({"permission_mode": "plam"}, "did you mean 'plan'"),
        ({"slot_mode": "ephemeral"}, "isolated"),
        ({"profile": "agnt"}, "did you mean 'agent'"),
        ({"model": "haikku"}, "did you mean 'haiku'"),
        ({"mcp_servers": {"x": {"comand": "y"}}}, "command or a url"),
        ({"mcp_servers": "{"}, "no JSON"),
        ({"schema": "{"}, "no JSON"),
        ({"schema": []}, "JSON schema"),
        ({"retry": {"max_atempts": 3}}, "did you mean 'max_attempts'"),
        ({"retry": 0}, "at least 1"),
        ({"retry": {"jitter": "no"}}, "True or False"),
        ({"cwd": "/no/such/place"}, "directory that exists"),
        ({"cli_path": "/no/such/claude"}, "file that exists"),
        ({"env": {"A": 1}}, "names to texts"),
        ({"min_slots": 9, "max_slots": 3}, "more than max_slots"),
        ({"min_slots": None}, "leave min_slots out"),
        ({"allowed_tools": 3}, "list of words"),
        ({"setting_sources": ["usr"]}, "did you mean 'user'"),
        ({"prime": 1}, "True or False"),
        ({"budget_usd": 1e10}, "at most 1,000,000,000"),
        ({"max_turns": 10**20}, "at most 1,000,000,000"),
        ({"timeout_s": 1e300}, "at most 1,000,000,000"),
        ({"allowed_tools": "Re\0ad"}, "without null bytes"),
        ({"tools": ["Re\ud800ad"]}, "half characters"),
        ({"env": {"A=B": "c"}}, "names without ="),
        ({"env": {"": "c"}}, "names without ="),
    ],
)
def test_a_wrong_option_is_told_with_what_is_right(options: dict[str, object], message: str) -> None:
    """Wrong names and values are ConfigErrors whose text says what the option takes."""
    with pytest.raises(ConfigError, match=message):
        PoolConfig(**options)


def test_a_tag_is_one_word() -> None:
    """Tags stand joined by blanks in frames and in the ledger, so that one with a blank would come back as two."""
    assert TaskOverrides(tags="night, test").tags == ("night", "test")
    with pytest.raises(ConfigError, match="words without blanks"):
        TaskOverrides(tags=["night test"])


def test_a_refused_environment_does_not_show_its_values() -> None:
    """The environment may hold secrets: an error names the variables only."""
    for values in ({"TOKEN": "hush", "B": 1}, {"TOKEN": "hush\0"}):
        with pytest.raises(ConfigError) as caught:
            PoolConfig(env=values)  # type: ignore[arg-type]
        assert "TOKEN" in str(caught.value)
        assert "hush" not in str(caught.value)


def test_bytes_of_another_encoding_may_be_in_the_environment() -> None:
    """What `os.environ` holds of a folder's name in another encoding can be handed on."""
    assert PoolConfig(env={"FOLDER": "caf\udce9"}).env == {"FOLDER": "caf\udce9"}


def test_options_go_by_name_only() -> None:
    """A positional option is a ConfigError, not a TypeError of dataclasses."""
    with pytest.raises(ConfigError, match="by name"):
        TaskOverrides("haiku")  # type: ignore[misc]


def test_bare_levels_have_the_defaults_of_claude_pool() -> None:
    """PoolConfig() is an agent in plan mode with all tools; the prompt profile has no tools and asks for nothing."""
    agent = resolve(PoolConfig())
    assert (agent.profile, agent.permission_mode, agent.tools, agent.preset) == (
        "agent",
        PermissionMode.PLAN,
        None,
        True,
    )
    prompt = resolve(PoolConfig(profile="prompt"))
    assert (prompt.permission_mode, prompt.tools, prompt.preset) == (PermissionMode.DEFAULT, (), False)
    assert prompt.setting_sources == ()
    assert prompt.system_prompt == PROFILES["prompt"].system_prompt


def test_the_nearest_level_wins_and_none_inherits() -> None:
    """Single values come from task, slot, pool, profile in this order."""
    pool = PoolConfig(model="opus", max_turns=9, effort="low", system_prompt="pool")
    slot = SlotConfig(model="sonnet", system_prompt="slot")
    config = resolve(pool, slot, TaskOverrides(model="haiku"))
    assert (config.model, config.max_turns, config.effort, config.system_prompt) == ("haiku", 9, "low", "slot")


def test_unset_drops_what_would_be_inherited() -> None:
    """UNSET goes back to the default of profile or CLI, for values, lists and servers."""
    pool = PoolConfig(model="opus", system_prompt="x", allowed_tools=["Read"], timeout_s=5, max_turns=3,
                      mcp_servers={"a": {"command": "a"}, "b": {"url": "b"}})  # fmt: skip
    task = TaskOverrides(
        model=UNSET, system_prompt=UNSET, allowed_tools=UNSET, timeout_s=UNSET, mcp_servers={"a": UNSET}
    )
    config = resolve(pool, None, task)
    assert (config.model, config.system_prompt, config.allowed_tools, config.timeout_s) == (None, "", (), None)
    assert json.loads(config.mcp_servers) == {"b": {"url": "b"}}
    assert json.loads(resolve(pool, None, TaskOverrides(mcp_servers=UNSET)).mcp_servers) == {}
    assert resolve(pool, SlotConfig(model=UNSET), TaskOverrides()).model is None


def test_lists_add_up_and_only_narrows() -> None:
    """Lists are joined pool first without duplicates; only() stands for itself, and nearer levels add to it."""
    pool, slot = PoolConfig(allowed_tools=["Read", "Bash"]), SlotConfig(allowed_tools="Read, Grep")
    assert resolve(pool, slot).allowed_tools == ("Read", "Bash", "Grep")
    narrowed = resolve(pool, SlotConfig(allowed_tools=only("Glob")), TaskOverrides(allowed_tools=["Read"]))
    assert narrowed.allowed_tools == ("Glob", "Read")
    assert resolve(pool, None, TaskOverrides(allowed_tools=only())).allowed_tools == ()


def test_commas_inside_a_tool_rule_do_not_split_it() -> None:
    """`Bash(git log, git diff)` is one rule."""
    assert TaskOverrides(allowed_tools="Bash(git log, git diff), Read").allowed_tools == (
        "Bash(git log, git diff)",
        "Read",
    )


@pytest.mark.parametrize(
    ("given_tools", "resolved"), [("all", None), ("none", ()), ("", ()), (["Read"], ("Read",)), ([], ())]
)
def test_tools_can_be_all_none_or_a_list(given_tools: object, resolved: object) -> None:
    """The nearest level decides which tools the model sees."""
    assert resolve(PoolConfig(profile="prompt"), None, TaskOverrides(tools=given_tools)).tools == resolved


def test_mcp_servers_merge_by_name() -> None:
    """A nearer server replaces the one of its name as a whole."""
    pool = PoolConfig(mcp_servers={"a": {"command": "old", "args": ["x"]}, "b": {"url": "b"}})
    config = resolve(pool, SlotConfig(mcp_servers={"a": {"command": "new"}}))
    assert json.loads(config.mcp_servers) == {"a": {"command": "new"}, "b": {"url": "b"}}


def test_identity_and_context_are_appended_in_one_order() -> None:
    """Context keys are sorted, so the text (and the prompt cache) does not depend on when they were set."""
    slot = SlotConfig(name="Ada", role="reviewer", description="Minds details.")
    one = resolve(PoolConfig(), slot, context={"b": "2", "a": "1"})
    two = resolve(PoolConfig(), slot, context={"a": "1", "b": "2"})
    assert one.appended_prompt == two.appended_prompt
    assert one.appended_prompt == "You are Ada, a reviewer. Minds details.\n\nShared context:\n- a: 1\n- b: 2"
    assert resolve(PoolConfig()).appended_prompt == ""


def test_plan_mode_without_tools_is_refused() -> None:
    """There the CLI would silently change the model."""
    with pytest.raises(ConfigError, match="plan"):
        resolve(PoolConfig(profile="prompt", permission_mode="plan"))
    assert resolve(PoolConfig(profile="prompt", permission_mode="plan", tools=["Read"])).tools == ("Read",)


def test_bypass_needs_its_flag() -> None:
    """BypassPermissions works with allow_bypass=True only, at whichever level it was asked for."""
    with pytest.raises(ConfigError, match="allow_bypass"):
        resolve(PoolConfig(), None, TaskOverrides(permission_mode="bypassPermissions"))
    config = resolve(PoolConfig(allow_bypass=True), None, TaskOverrides(permission_mode="bypassPermissions"))
    assert config.permission_mode is PermissionMode.BYPASS


def test_unattended_mode_denies_what_would_ask() -> None:
    """It is dontAsk, unless a mode was chosen."""
    assert resolve(PoolConfig(unattended_mode=True)).permission_mode is PermissionMode.DONT_ASK
    chosen = PoolConfig(unattended_mode=True, permission_mode="acceptEdits")
    assert resolve(chosen).permission_mode is PermissionMode.ACCEPT_EDITS


def test_a_strict_budget_bounds_every_task() -> None:
    """Answers get a longest length, and tools need max_turns."""
    assert resolve(PoolConfig(profile="prompt", strict_budget=True)).max_output_tokens == STRICT_MAX_OUTPUT_TOKENS
    with pytest.raises(ConfigError, match="max_turns"):
        resolve(PoolConfig(strict_budget=True))
    assert resolve(PoolConfig(strict_budget=True, max_turns=3)).max_turns == 3


def test_idle_timeout_has_three_answers() -> None:
    """The pool's None is no limit, a task's None inherits, UNSET is the usual time."""
    assert resolve(PoolConfig(idle_timeout_s=None)).idle_timeout_s is None
    assert resolve(PoolConfig(idle_timeout_s=7), None, TaskOverrides()).idle_timeout_s == 7
    assert resolve(PoolConfig(idle_timeout_s=None), None, TaskOverrides(idle_timeout_s=UNSET)).idle_timeout_s == 300
    assert resolve(PoolConfig(), SlotConfig(idle_timeout_s=9), TaskOverrides(idle_timeout_s=4)).idle_timeout_s == 4


@pytest.mark.parametrize(
    "name",
    ["haiku", "opus", "sonnet[1m]", "claude-haiku-4-5", "us.anthropic.claude-sonnet-4-5-v1:0", "arn:aws:bedrock:x"],
)
def test_model_names_that_may_exist_pass(name: str) -> None:
    """Aliases and full ids of any platform are taken as they are."""
    assert validate_model(name, backend="claude") == name


@pytest.mark.parametrize("name", ["gpt-4", "Haiku", "claude", "", "claude haiku", "demo-small"])
def test_other_model_names_are_refused_on_claude(name: str) -> None:
    """What cannot exist costs nothing to find out; the demo's models are the demo's."""
    with pytest.raises(UnknownModel):
        validate_model(name, backend="claude")


def test_resolving_checks_models_for_the_backend() -> None:
    """A demo model is fine on the demo and refused on claude."""
    pool = PoolConfig(profile="prompt", model="demo-large")
    assert resolve(pool, backend="demo").model == "demo-large"
    with pytest.raises(UnknownModel, match="demo"):
        resolve(pool, backend="claude")


def test_launch_key_changes_with_launch_options_only() -> None:
    """Model, limits and money do not relaunch a session; prompt, tools and schema do."""
    base = resolve(PoolConfig(profile="prompt"))
    for task in (
        TaskOverrides(model="opus"),
        TaskOverrides(timeout_s=3),
        TaskOverrides(max_budget_usd=1),
        TaskOverrides(tags=["x"]),
    ):
        assert resolve(PoolConfig(profile="prompt"), None, task).launch_key == base.launch_key
    for task in (TaskOverrides(system_prompt="x"), TaskOverrides(tools=["Read"]),
                 TaskOverrides(schema={"type": "object"}), TaskOverrides(max_turns=2), TaskOverrides(effort="low"),
                 TaskOverrides(conversation="c")):  # fmt: skip
        assert resolve(PoolConfig(profile="prompt"), None, task).launch_key != base.launch_key


class Label(BaseModel):
    """A schema."""

    label: str


@dataclasses.dataclass
class Point:
    """Another."""

    x: int


@pytest.mark.parametrize("schema", [Label, Point, {"type": "object"}, '{"type": "object"}'])
def test_a_schema_comes_in_four_forms(schema: object) -> None:
    """Models, dataclasses, mappings and JSON text all become JSON text."""
    text = TaskOverrides(schema=schema).schema
    assert json.loads(text)["type"] == "object"


def test_retry_comes_in_three_forms() -> None:
    """A number of attempts, a mapping, a policy."""
    assert TaskOverrides(retry=2).retry == TaskOverrides(retry={"max_attempts": 2}).retry == RetryPolicy(max_attempts=2)


values = st.fixed_dictionaries(
    {},
    optional={
        "model": st.sampled_from([UNSET, "haiku", "claude-x"]),
        "system_prompt": st.one_of(st.text(), st.just(UNSET)),
        "tools": st.sampled_from(["all", "none", UNSET]) | st.lists(st.sampled_from(["Read", "Bash(a, b)"])),
        "allowed_tools": st.sampled_from([UNSET, only(), only("A", "B"), ["A"]]),
        "mcp_servers": st.sampled_from([UNSET, {"a": UNSET, "b": {"url": "u", "args": ["k", "v"]}}]),
        "schema": st.sampled_from([{"type": "object"}, Label, UNSET]),
        "max_budget_usd": st.floats(0.001, 10) | st.just(UNSET),
        "priority": st.integers(-5, 5),
        "retry": st.integers(1, 5),
        "prime": st.booleans(),
        "effort": st.sampled_from(["low", UNSET]),
        "tags": st.lists(st.sampled_from(["x", "y"])),
    },
)


@given(values)
def test_overrides_survive_the_ledger(options: dict[str, object]) -> None:
    """What to_json wrote, from_json brings back, and it resolves to the same."""
    task = TaskOverrides(**options)  # type: ignore[arg-type]
    again = TaskOverrides.from_json(task.to_json())
    assert again == task
    pool = PoolConfig(permission_mode="default")
    assert resolve(pool, None, again) == resolve(pool, None, task)
    assert pickle.loads(pickle.dumps(task)) == task


def test_a_stored_pool_config_has_no_environment() -> None:
    """The ledger holds no secrets of the environment; the rest comes back."""
    config = PoolConfig(model="haiku", env={"TOKEN": "hush"}, retry=2, cwd="/")
    assert "hush" not in config.to_json()
    assert PoolConfig.from_json(config.to_json()) == dataclasses.replace(config, env={})


def test_secrets_of_mcp_servers_are_not_stored() -> None:
    """Neither environment nor headers reach the ledger; a changed one is told apart, and a lost one asked for."""

    def task(token: str) -> TaskOverrides:
        return TaskOverrides(mcp_servers={"x": {"command": "x", "env": {"TOKEN": token}}, "y": UNSET})

    stored = task("hush").to_json()
    assert "hush" not in stored
    assert stored == task("hush").to_json() != task("other").to_json()
    assert json.loads(resolve(PoolConfig(), None, task("hush")).mcp_servers)["x"]["env"] == {"TOKEN": "hush"}
    with pytest.raises(ConfigError, match="may be a secret; give mcp_servers anew"):
        TaskOverrides.from_json(stored)


def test_unknown_names_in_a_mapping_are_refused_too() -> None:
    """from_mapping refuses what the constructor refuses."""
    with pytest.raises(UnknownOption):
        PoolConfig.from_mapping({"modell": "haiku"})
    with pytest.raises(NotYetSupported):
        PoolConfig.from_mapping({"worktree_isolation": True})
