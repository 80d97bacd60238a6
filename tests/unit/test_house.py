"""The rules of the house that no linter knows: sizes, docstrings, examples, names of the design, costs of imports."""

from __future__ import annotations

import ast
import doctest
import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import claude_pool_nb
from claude_pool_nb import AsyncPool, Pool, Run, Task, errors, testing
from claude_pool_nb.analysis.task_frames import TASK_COLUMNS
from claude_pool_nb.records import AttemptState, CostBasis, FailureKind, RunState, SlotState, TaskState

ROOT = Path(claude_pool_nb.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
HEAVY = ("IPython", "ipywidgets", "pandas", "sqlalchemy", "claude_agent_sdk")
FACES = (Pool, AsyncPool, Run, Task)


def name_of(path: Path) -> str:
    """A module's dotted name."""
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def exported(package: ModuleType) -> list[tuple[str, Any]]:
    """The public names of a package that can have a docstring."""
    named = [(name, getattr(package, name)) for name in package.__all__]
    return [(name, value) for name, value in named if callable(value)]


def methods(face: type) -> list[tuple[str, Any]]:
    """The public methods and properties of a class, inherited ones too."""
    return [
        (name, value)
        for name, value in inspect.getmembers(face)
        if not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, property))
    ]


def has_example(value: Any) -> bool:
    """Whether its docstring has an example that doctest would run."""
    return bool(doctest.DocTestParser().get_examples(inspect.getdoc(value) or ""))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_are_short_say_what_they_are_for_and_print_nothing(path: Path) -> None:
    """Under 600 lines, with a docstring; only what a person drives writes to stdout."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert text.count("\n") < 600
    assert (ast.get_docstring(tree) or "").strip()
    if path.relative_to(ROOT).parts[0] not in {"notebook", "testing"}:
        calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
        assert [func for func in calls if isinstance(func, ast.Name) and func.id == "print"] == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_public_things_of_every_module_have_docstrings(path: Path) -> None:
    """Every public class, function and method that a module defines says what it is for."""
    missing = []

    def look(body: list[ast.stmt], where: str) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name[0] != "_":
                overload = any("override" in ast.dump(d) or "overload" in ast.dump(d) for d in node.decorator_list)
                if not overload and not ast.get_docstring(node):
                    missing.append(f"{where}{node.name}")
                if isinstance(node, ast.ClassDef):
                    look(node.body, f"{where}{node.name}.")

    look(ast.parse(path.read_text(encoding="utf-8")).body, "")
    assert missing == []


@pytest.mark.parametrize("package", [claude_pool_nb, testing], ids=lambda package: package.__name__)
def test_every_exported_name_has_an_example(package: ModuleType) -> None:
    """What can be imported from the top has a docstring with an example; doctest runs it with the other tests."""
    names = [name for name, value in exported(package) if not has_example(value)]
    assert [name for name in names if name != "UNSET"] == []
    assert all((inspect.getdoc(value) or "").strip() for _, value in exported(package))


@pytest.mark.parametrize("face", FACES, ids=lambda face: face.__name__)
def test_every_verb_has_an_example(face: type) -> None:
    """Each public method has one, or is used in its class's; AsyncPool's verbs are Pool's, awaited."""
    of_class = inspect.getdoc(face) or ""
    assert [name for name, value in methods(face) if not (inspect.getdoc(value) or "").strip()] == []
    # What only other modules of this package call.
    inner = {"must_be_final", "open_tasks", "stop_later", "stopper", "when_all_final"} | {
        name for name, _ in methods(face) if name.startswith(("run_record", "slot_record", "task_re"))
    }
    verbs = [(name, value) for name, value in methods(face) if inspect.isfunction(value)]
    assert [
        name
        for name, value in verbs
        if not has_example(value)
        and f".{name}(" not in of_class
        and not (face is AsyncPool and (name in inner or has_example(getattr(Pool, name, None))))
    ] == []


def test_the_default_message_of_an_error_is_one_line_that_advises() -> None:
    """An example in the docstring is no part of the message; the message ends with what to do, and a full stop."""
    for name, value in exported(claude_pool_nb):
        if isinstance(value, type) and issubclass(value, errors.PoolError):
            message = str(value())
            assert "\n" not in message, name
            assert ">>>" not in message, name
            assert ";" in message or "," in message, name
            assert message.endswith("."), name


def test_names_of_the_design() -> None:
    """Errors, states, kinds and the columns of a frame are what was agreed, in that order."""
    wanted = "Pool AsyncPool PoolConfig SlotConfig TaskOverrides RetryPolicy TaskResult Run Task TaskFailed PoolPaused"
    assert set(wanted.split()) | {"BudgetExhausted"} <= set(claude_pool_nb.__all__)
    words = {
        TaskState: "pending waiting running pending_review completed failed cancelled interrupted",
        SlotState: "starting idle busy resetting stopped errored",
        RunState: "pending running paused completed cancelled interrupted failed",
        FailureKind: "transport crash limit auth request task denied budget timeout turns",
        CostBasis: "exact estimated unknown",
    }
    for kind, names in words.items():
        assert sorted(member.value for member in kind) == sorted(names.split()), kind
    assert {"running", "completed", "failed"} <= {member.value for member in AttemptState}
    assert [
        state.value for state in TaskState if state.is_final
    ] == ["completed", "failed", "cancelled", "interrupted"]  # fmt: skip
    agreed = (
        "run_id task_id row sample tags profile backend conversation requested_model model slot_id session_id state "
        "prompt output failure_kind error_type error attempts cached cost_usd cost_basis input_tokens output_tokens "
        "cache_read_tokens cache_write_tokens turns created_at started_at finished_at wait_s duration_s api_s "
        "permission_denials"
    )
    assert " ".join(TASK_COLUMNS) == agreed
    with Pool(slots=1, backend="demo", demo_latency_s=0, store=":memory:") as pool:
        schema = {"type": "object", "properties": {"mood": {"type": "string"}}, "required": ["mood"]}
        frame = pool.fan_out(["I love it"], schema=schema).frame
    assert " ".join(frame.columns) == agreed.replace("output ", "output out_mood ", 1)


def test_verbs_of_the_design() -> None:
    """The magics and the methods that were agreed are there."""
    from claude_pool_nb.notebook import verbs

    magics = (
        "start run fan_out submit tasks result wait cancel status slots scale pause unpause budget cost history runs "
        "retry resume context drain stop doctor help metrics usage"
    )
    assert set(magics.split()) <= {path.stem for path in Path(verbs.__file__).parent.glob("*.py")}
    api = (
        "run submit fan_out scale set_budget pause unpause status drain tasks slots runs attempts events set_context "
        "get_context delete_context list_context configure_slot find_slots conversations resolved_config last get_run "
        "get_task cost metrics usage_history"
    )
    for face in (Pool, AsyncPool):
        assert [verb for verb in api.split() if not hasattr(face, verb)] == []
    assert {"frame", "failed", "retry", "resume", "cancel", "cost_usd"} <= set(dir(Run))
    assert {"id", "state", "result", "cancel", "__await__"} <= {*dir(Task), "id"}


def test_the_guide_names_what_is_there() -> None:
    """Every file that CONTRIBUTING.md names exists, and so does every name of a class or constant in it."""
    guide = (ROOT.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    code = "\n".join(path.read_text(encoding="utf-8") for path in MODULES)
    files = re.findall(r"`((?:\w+/)*\w+\.py)`", guide)
    assert len(files) > 20
    assert [name for name in files if not (ROOT / name).exists() and not (ROOT.parent / name).exists()] == []
    names = [name.rpartition(".")[2] for name in re.findall(r"`([\w.]*[A-Z]\w*)`", guide)]
    assert len(names) > 15
    assert [name for name in names if not re.search(rf"\b{name}\b", code)] == []


LOADED = f"; print(*({{name.split('.')[0] for name in sys.modules}} & set({HEAVY})))"


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("import sys, claude_pool_nb", set()),
        ("import sys, claude_pool_nb as p; p.PoolConfig; p.TaskOverrides(model='haiku'); p.TaskFailed", set()),
        (
            "import sys; from IPython.core.interactiveshell import InteractiveShell; shell = InteractiveShell()\n"
            "shell.extension_manager.load_extension('claude_pool_nb'); import sys",
            {"IPython"},
        ),
    ],
    ids=["import", "names", "load_ext"],
)
def test_nothing_heavy_is_imported_before_it_is_needed(code: str, allowed: set[str]) -> None:
    """An import and `%load_ext` load neither pandas nor the SDK, which take seconds."""
    done = subprocess.run(
        [sys.executable, "-c", code + LOADED], cwd=ROOT.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) <= allowed
