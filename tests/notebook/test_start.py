"""`%pool start`, and the one pool of a kernel."""

from __future__ import annotations

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from claude_pool_nb import (
    NoPool,
    Pool,
    PoolExists,
)
from tests.notebook.conftest import DEMO, Runner


def test_the_same_line_gives_the_same_pool(run_cell: Runner) -> None:
    """A cell that is run twice does not start two pools; another line says what differs and asks."""
    first = run_cell(DEMO)
    assert isinstance(first.value, Pool)
    assert run_cell(DEMO).value is first.value
    other = run_cell(f"{DEMO} --slots 2")
    assert isinstance(other.error, PoolExists)
    assert "slots" in str(other.error)
    assert "--replace" in str(other.error)
    assert not first.value.closed
    third = run_cell(f"{DEMO} --slots 2 --replace")
    assert first.value.closed
    assert sum(third.value.status().slots.values()) == 2


def test_a_pool_made_in_python_is_the_kernels(run_cell: Runner) -> None:
    """The first Pool() becomes the current pool, and %pool uses it."""
    run_cell("from claude_pool_nb import Pool\npool = Pool(backend='demo', store=':memory:', demo_latency_s=0)")
    assert run_cell("%pool status is_not_an_option").error is not None
    assert run_cell("s = %pool status\ns is pool").value is True
    assert isinstance(run_cell(DEMO).error, PoolExists)


def test_no_pool_says_how_to_start_one(run_cell: Runner) -> None:
    """Without a pool a verb is one clear error, and nothing is started."""
    failed = run_cell("%pool run hello").error
    assert isinstance(failed, NoPool)
    assert "%pool start" in str(failed)


def test_defaults_come_from_config_and_the_line_wins(run_cell: Runner) -> None:
    """`%config PoolMagics` sets what a line does not say."""
    run_cell("%config PoolMagics.slots = 3")
    run_cell("%config PoolMagics.backend = 'demo'")
    pool = run_cell("%pool start --store :memory: --demo-latency-s 0").value
    assert sum(pool.status().slots.values()) == 3
    pool = run_cell("%pool start --store :memory: --demo-latency-s 0 --slots 1 --replace").value
    assert sum(pool.status().slots.values()) == 1


def test_settings_of_the_environment_reach_the_pool(run_cell: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """CLAUDE_POOL_NB_* sets the defaults of %pool start."""
    monkeypatch.setenv("CLAUDE_POOL_NB_SLOTS", "2")
    monkeypatch.setenv("CLAUDE_POOL_NB_BACKEND", "demo")
    monkeypatch.setenv("CLAUDE_POOL_NB_SYSTEM_PROMPT", "be brief")
    pool = run_cell("%pool start --store :memory:").value
    assert sum(pool.status().slots.values()) == 2
    assert pool.setup.config.system_prompt == "be brief"


def test_an_unknown_setting_changes_nothing(
    run_cell: Runner, shell: InteractiveShell, caplog: pytest.LogCaptureFixture
) -> None:
    """A setting with a typo is an error that names the right one."""
    magics = shell._claude_pool_nb[0]
    with pytest.raises(UsageError, match="did you mean slots"):
        magics.update_config(type(magics.config)({"PoolMagics": {"slotz": 9}}))
    run_cell("%config PoolMagics.slotz = 9")
    assert "did you mean slots" in caplog.text
    assert not hasattr(magics, "slotz")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("--model haikku", "haiku"),
        ("--budget -1", "at least 0"),
        ("--permission-mode bypassPermissions", "allow_bypass"),
        ("--slots 1000", "64"),
        ("--store 'a\0b'", "null byte"),
    ],
)
def test_a_start_that_cannot_work_starts_nothing(run_cell: Runner, line: str, says: str) -> None:
    """What is wrong is said, and there is still no pool."""
    failed = run_cell(f"{DEMO} {line}")
    assert failed.error is not None
    assert says in str(failed.error)
    assert isinstance(run_cell("%pool status").error, NoPool)


def test_a_different_start_says_what_differs(demo: Runner) -> None:
    """The pool there is, and the line that was written, are told apart option by option."""
    said = str(demo(f"{DEMO} --slots 3 --budget 2").error)
    assert "slots=4, not 3" in said
    assert "budget_usd=None, not 2.0" in said
    assert "--replace" in said
