"""Settings: where they are from, who may set what, and what a typo gets."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from claude_pool_nb.errors import ConfigError, UnknownModel, UnknownOption
from claude_pool_nb.settings import PROJECT_MAY_SET, Settings, load_settings, setting_names, user_file

Write = Callable[..., Path]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """A user's file and a project in an empty world; returns the project's directory."""
    for name in list(os.environ):
        if name.startswith("CLAUDE_POOL_NB_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    def write(*, user: str = "", project: str = "", **environment: str) -> Path:
        own = user_file()
        own.parent.mkdir(parents=True, exist_ok=True)
        own.write_text(user)
        directory = tmp_path / "project" / "notebooks"
        directory.mkdir(parents=True, exist_ok=True)
        (tmp_path / "project" / "pyproject.toml").write_text(project)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return directory

    return write


def test_the_nearer_source_wins(place: Write) -> None:
    """Environment over project over user's file over built in, setting by setting."""
    directory = place(
        user='slots = 2\nmodel = "opus"\ntimeout_s = 9',
        project="[tool.claude-pool-nb]\nslots = 3\ntimeout_s = 8",
        CLAUDE_POOL_NB_SLOTS="5",
    )
    settings = load_settings(directory)
    assert (settings.slots, settings.timeout_s, settings.model, settings.profile) == (5, 8.0, "opus", "prompt")
    assert settings.origins["slots"] == "the environment"
    assert settings.origins["timeout_s"].endswith("pyproject.toml")
    assert settings.origins["model"].endswith("config.toml")


def test_nothing_set_is_the_built_in(place: Write) -> None:
    """Without any source the settings are the defaults, and a project without our table says nothing."""
    assert load_settings(place(project='[project]\nname = "x"')) == Settings()


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ({"user": "slotz = 2"}, "config.toml sets 'slotz'.*did you mean 'slots'"),
        ({"project": "[tool.claude-pool-nb]\nmodell = 'opus'"}, "pyproject.toml sets 'modell'.*did you mean 'model'"),
        ({"CLAUDE_POOL_NB_SLOT": "2"}, "CLAUDE_POOL_NB_SLOT is no setting; did you mean CLAUDE_POOL_NB_SLOTS"),
    ],
)
def test_a_typo_is_an_error_that_suggests_the_name(place: Write, sources: dict[str, str], message: str) -> None:
    """In each of the three sources."""
    with pytest.raises(UnknownOption, match=message):
        load_settings(place(**sources))


def test_a_project_that_writes_no_table_is_told(place: Write) -> None:
    """The file is TOML, but what it says there is no table of settings."""
    with pytest.raises(ConfigError, match=r"pyproject.toml sets tool\.claude-pool-nb, which is a table"):
        load_settings(place(project="[tool]\nclaude-pool-nb = 3"))


@pytest.mark.parametrize("name", sorted(set(setting_names()) - PROJECT_MAY_SET))
def test_a_project_sets_looks_and_sizes_only(place: Write, name: str) -> None:
    """Opening somebody's folder gives it no say in rights, paths, money or storage."""
    with pytest.raises(ConfigError, match=f"sets {name!r}; a project may set looks and sizes only"):
        load_settings(place(project=f'[tool.claude-pool-nb]\n{name} = "x"'))


def test_what_a_project_must_never_set_is_not_on_its_list() -> None:
    """The list itself is guarded: these would hand over the account or the machine."""
    dangerous = {"cli_path", "mcp_servers", "permission_mode", "allow_bypass", "env", "store", "tools", "allowed_tools",
                 "cwd", "setting_sources", "backend", "budget_usd", "budget_name", "system_prompt"}  # fmt: skip
    assert not dangerous & PROJECT_MAY_SET


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SLOTS", "many"),
        ("SLOTS", "0"),
        ("LIVE", "always"),
        ("BUDGET_USD", "-1"),
        ("CLI_PATH", "/no/such"),
        ("ENV", "hush"),
    ],
)
def test_a_wrong_value_says_where_it_is_from(place: Write, name: str, value: str) -> None:
    """The message names the setting and its source, and does not show what may be secret."""
    with pytest.raises(ConfigError, match="environment") as caught:
        load_settings(place(**{f"CLAUDE_POOL_NB_{name}": value}))
    assert name.lower() in str(caught.value)
    assert "hush" not in str(caught.value)


def test_a_wrong_model_is_told_at_once(place: Write) -> None:
    """Settings are checked as the options they become."""
    with pytest.raises(UnknownModel, match="haiku"):
        load_settings(place(CLAUDE_POOL_NB_MODEL="haikku"))


def test_a_broken_file_is_named(place: Write) -> None:
    """A file that is no TOML stops the start, with its path."""
    with pytest.raises(ConfigError, match=r"config\.toml cannot be read"):
        load_settings(place(user="slots ="))


def test_where_nothing_is_set_nothing_is_imported_to_read_it(place: Write) -> None:
    """A start does not wait for pydantic because of an empty home and somebody else's pyproject.toml."""
    directory = place(project="[tool.other]\nslots = 9")
    user_file().unlink()
    code = "import sys; from claude_pool_nb import settings; settings.load_settings(); print('pydantic' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=directory, env=environment, capture_output=True, text=True, check=False
    )
    assert said.stdout.strip() == "False", said.stderr
    assert load_settings(directory) == Settings()


@pytest.mark.parametrize(
    "given",
    [{"project": "[tool.claude-pool-nb]\nslots = 7"}, {"CLAUDE_POOL_NB_SLOTS": "7"}, {"claude_pool_nb_slots": "7"}],
    ids=["project", "environment", "any case"],
)
def test_one_source_is_enough_to_be_read(place: Write, given: dict[str, str]) -> None:
    """A setting counts where there is no user's file, too."""
    directory = place(**given)
    user_file().unlink()
    assert load_settings(directory).slots == 7


def test_lists_and_mappings_come_through(place: Write) -> None:
    """Tables of TOML and JSON in the environment."""
    settings = load_settings(
        place(user='tools = ["Read"]\n[mcp_servers.x]\ncommand = "y"', CLAUDE_POOL_NB_ENV='{"A": "b"}')
    )
    assert settings.pool_options() == {
        "profile": "prompt",
        "tools": ["Read"],
        "mcp_servers": {"x": {"command": "y"}},
        "env": {"A": "b"},
    }
