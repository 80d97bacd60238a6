"""Every verb, on the demo session, in a shell."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

import pandas as pd
import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from claude_pool_nb import (
    ConfigError,
    NoPool,
    RunNotFound,
    TaskFailed,
    TaskNotFound,
    TaskResult,
)
from claude_pool_nb.handles import Run, Task
from claude_pool_nb.notebook.completion import PoolMatcher
from claude_pool_nb.notebook.verbs import VERBS
from tests.notebook.conftest import DEMO, Runner

# -- prompts -----------------------------------------------------------------------------------------------------------


def test_run_returns_the_answer_and_shows_one_line(demo: Runner) -> None:
    """One prompt gives a TaskResult; the line above it tells the run, also as HTML."""
    done = demo("%pool run --tag a How many words has this?")
    assert isinstance(done.value, TaskResult)
    assert done.value.tags == ("a",)
    assert [sorted(bundle) for bundle in done.shown] == [["text/html", "text/plain"]]
    assert done.text.startswith("r1: 1 completed of 1 task")


def test_a_prompt_may_end_in_a_question_mark(demo: Runner) -> None:
    """IPython's own help for lines that end in `?` does not swallow a question, however it is written."""
    demo("%pool run Why?")
    demo("x = %pool run Why not??")
    demo("for n in range(1):\n    %pool submit And who? ")
    demo('text = """\n%pool run What?\n"""')
    assert demo("text").value == "\n%pool run What?\n"
    assert list(demo("%pool tasks").value["prompt"]) == ["Why?", "Why not??", "And who?"]
    assert isinstance(demo("x").value, TaskResult)
    assert demo("%pool?").error is None
    assert len(demo("%pool tasks").value) == 3


def test_the_body_of_a_cell_is_the_prompt(demo: Runner) -> None:
    """What stands below %%pool run reaches the model as it is, options and comments included."""
    demo("%%pool run --into answer\n--model is no option here\n\n# nor is this a comment  {x}\n")
    prompt = demo("%pool tasks").value["prompt"].iloc[0]
    assert prompt == "--model is no option here\n\n# nor is this a comment  {x}"
    assert isinstance(demo("answer").value, TaskResult)


def test_a_failed_prompt_raises_and_keeps_what_there_is(demo: Runner) -> None:
    """A failure is an exception, so that Run All stops; --into has the result."""
    failed = demo("%pool run --into answer --retry-attempts 1 [demo:fail] please")
    assert isinstance(failed.error, TaskFailed)
    kept = demo("answer").value
    assert kept is not None
    assert kept.state == "failed"
    assert demo("%pool result r1").value.state == "failed"


def test_result_of_a_run_is_of_its_only_task(demo: Runner) -> None:
    """The id of a run stands for its task where it has one; of many, none is chosen for you."""
    demo('%pool fan_out ["a poem", "a limerick"]')
    failed = demo("%pool result r1")
    assert isinstance(failed.error, ConfigError)
    assert "r1 has 2 tasks; name one, like r1.1" in str(failed.error)


def test_fan_out_is_a_row_per_prompt(demo: Runner) -> None:
    """An error is a row; both the assignment and --into get the frame, which carries its run."""
    done = demo("df = %pool fan_out ['a', 'b', '[demo:fail] c'] --tag x --retry-attempts 1 --into again")
    assert done.error is None
    frame = demo("df").value
    assert list(frame["state"]) == ["completed", "completed", "failed"]
    assert list(frame["prompt"]) == ["a", "b", "[demo:fail] c"]
    assert frame.attrs["run_id"] == "r1"
    assert demo("df is again").value is True
    assert "2 completed, 1 failed of 3 tasks" in done.text
    assert "error:" in done.text


def test_fan_out_takes_a_cell_a_series_and_a_frame(demo: Runner) -> None:
    """Prompts come from a cell, a Series or a DataFrame, whose columns come back first."""
    demo("import pandas as pd\nframe = pd.DataFrame({'id': [7, 8], 'prompt': ['a', 'b']}, index=['x', 'y'])")
    cell = demo("%%pool fan_out\none\nline\n---\n --- \n---\nthree").value
    assert list(cell["prompt"]) == ["one\nline", " --- ", "three"]
    assert list(demo("%pool fan_out frame.prompt").value["prompt"]) == ["a", "b"]
    framed = demo("%pool fan_out frame").value
    assert list(framed["id"]) == [7, 8]
    assert list(framed.index) == ["x", "y"]
    assert demo("%pool fan_out (p for p in 'ab')").value.shape[0] == 2


ROWS = """import pandas as pd, pydantic, typing
df = pd.DataFrame({'text': ['I love it', 'I hate it', 'so so'], 'stars': [5, 1, 3]}, index=list('abc'))
class Label(pydantic.BaseModel):
    label: typing.Literal['positive', 'negative']
    score: float
lang = 'English'
tones = ['a, b', 'c']"""


def test_fan_out_over_rows_fills_the_template(demo: Runner) -> None:
    """Rows, grid and samples make the tasks; columns come back first, fields of the schema typed, all under --into."""
    demo(ROWS)
    done = demo(
        "%%pool fan_out --over df[df.stars > 2] --grid model=haiku,sonnet --grid tone=kind,'short, blunt' --n 2 "
        "--schema Label --tag t --into out\nIn {{ lang }}, {{ tone }}: {{ text }}"
    )
    assert done.error is None
    frame = demo("out").value
    assert len(frame) == 2 * 2 * 2 * 2
    assert list(frame.columns)[:5] == ["text", "stars", "tone", "run_id", "task_id"]
    assert list(frame.index[::8]) == ["a", "c"]
    assert list(frame["prompt"][::2][:2]) == ["In English, kind: I love it", "In English, short, blunt: I love it"]
    assert list(frame["requested_model"][::4][:2]) == ["haiku", "sonnet"]
    assert frame["out_label"].dtype == "category"
    assert set(frame["tags"]) == {"t"}
    assert demo("%pool runs").value["verb"].tolist() == ["map"]


def test_fan_out_over_rows_in_other_forms(demo: Runner) -> None:
    """Several templates, a template from a variable, a grid from Python, a short schema, rows that are a list."""
    demo(ROWS)
    several = demo("%%pool fan_out --over df\n{{ text }}\n---\nClassify: {{ text }}").value
    assert list(several["template"][:2]) == [0, 1]
    line = demo("%pool fan_out 'Say {{ value }}, {{ tone }}' --over ['x', 'y'] --grid tone={tones}").value
    assert list(line["prompt"]) == ["Say x, a, b", "Say x, c", "Say y, a, b", "Say y, c"]
    typed = demo("%%pool fan_out --over df --schema 'label: positive|negative, n: int?'\n{{ text }}").value
    assert typed.dtypes[["out_label", "out_n"]].astype(str).tolist() == ["category", "Int64"]
    plain = demo("%pool fan_out ['a', 'b'] --grid max_turns=1,2 --n 2").value
    assert list(plain["max_turns"][:4]) == [1, 1, 2, 2]
    assert list(plain["sample"][:2]) == [0, 1]


def test_fan_out_over_rows_without_waiting(demo: Runner) -> None:
    """--no-wait gives the run; its frame has every row and the caller's columns before anything is done."""
    demo(ROWS + "\npool = %pool start --backend demo --store :memory: --demo-latency-s 0\npool.pause()")
    run = demo("%%pool fan_out --over df --no-wait\n{{ text }}").value
    assert list(run.frame["text"]) == ["I love it", "I hate it", "so so"]
    assert set(run.frame["state"]) == {"pending"}
    demo("%pool unpause")
    assert list(demo("%pool wait").value["state"]) == ["completed"] * 3


@pytest.mark.parametrize(
    ("line", "body", "kind", "says"),
    [
        ("--over dff", "{{ text }}", ConfigError, "no variable 'dff'.*did you mean df"),
        ("--over df", "{{ txt }}", ConfigError, "'txt'.*did you mean 'text'"),
        ("--over df", "{{ lag }}", ConfigError, "did you mean 'lang'"),
        ("--over df", "x\n{{ text ", ConfigError, "line 2"),
        ("--over df", "{{ pd }}", ConfigError, "'pd' is a module"),
        ("--over df[:0]", "{{ text }}", ConfigError, "no rows"),
        ("--over df --grid tnoe=a", "{{ text }} {{ tone }}", ConfigError, "did you mean 'tone'"),
        ("--over df --grid model=haikku", "{{ text }}", ConfigError, "did you mean 'haiku'"),
        ("--over df --grid model=haiku --model opus", "{{ text }}", ConfigError, "in the grid and beside it"),
        ("--over df --grid model", "{{ text }}", UsageError, "no name with values"),
        ("--over df --grid model=haiku,,opus", "{{ text }}", UsageError, "empty value"),
        ("--over df --grid effort=low --grid effort=high", "{{ text }}", UsageError, "there twice"),
        ("--over df --grid tone={lang}", "{{ tone }}", ConfigError, "a str; in braces it takes a list"),
        ("--over df --vars", "{{ text }}", UsageError, "leave --vars out"),
        ("--over df --n 0", "{{ text }}", UsageError, "at least 1"),
        ("--over df --schema 'a: strr'", "{{ text }}", ConfigError, "did you mean 'str'"),
        ("--over df --schema lang.x", "{{ text }}", AttributeError, "'x'"),
        ("--over", "{{ text }}", UsageError, "--over needs a value"),
        ("--over df", "a\n---\n", UsageError, "prompt 2 is empty"),
    ],
)
def test_a_wrong_map_is_told_before_anything_is_sent(
    demo: Runner, line: str, body: str, kind: type[Exception], says: str
) -> None:
    """The error names what is wrong, and no run was made."""
    demo(ROWS)
    error = demo(f"%%pool fan_out {line}\n{body}").error
    assert isinstance(error, kind)
    assert re.search(says, str(error), re.DOTALL)
    assert len(demo("%pool runs").value) == 0


def test_fan_out_sees_the_variables_of_a_function(demo: Runner) -> None:
    """Inside a function, also in a comprehension, the line sees its variables."""
    demo("def f(xs, tail):\n    df = %pool fan_out [x + tail for x in xs]\n    return df")
    assert list(demo("f(['a'], '!')").value["prompt"]) == ["a!"]


@pytest.mark.parametrize(
    ("cell", "kind", "says"),
    [
        ("%pool fan_out promts", ConfigError, "did you mean prompts"),
        ("%pool fan_out 'one text'", ConfigError, "one text"),
        ("%pool fan_out {'a': 1}", ConfigError, "list or Series"),
        ("%pool fan_out [", UsageError, "no Python expression"),
        ("%pool fan_out", UsageError, "EXPR is missing"),
        ("%pool run", UsageError, "prompt is missing"),
        ("%%pool fan_out\na\n---\n\n", UsageError, "prompt 2 is empty"),
        ("%pool run --model haikku hi", ConfigError, "haiku"),
        ("%pool run --schema {bad hi", ConfigError, "no JSON"),
        ("%pool run --schema nothing hi", ConfigError, "no variable 'nothing'"),
        ("%pool run --vars hello {{ promts }}", ConfigError, "did you mean prompts"),
        ("%pool run --into 1x hi", UsageError, "no name"),
        ("%pool result r99.1", TaskNotFound, "r99.1"),
        ("%pool result r99", RunNotFound, "r99"),
        ("%pool resume r99", RunNotFound, "r99"),
        ("%pool retry", RunNotFound, "no run yet"),
    ],
)
def test_bad_input_is_one_clear_line_and_spends_nothing(
    demo: Runner, cell: str, kind: type[Exception], says: str
) -> None:
    """Wrong input is refused with what is right, before any task is made."""
    demo("prompts = ['a']")
    failed = demo(cell)
    assert isinstance(failed.error, kind), failed.error
    assert says in str(failed.error)
    assert len(str(failed.error).splitlines()) == 1
    assert demo("%pool status").value.status().tasks in ({}, {"completed": 0})


def test_an_error_of_the_users_own_expression_shows_no_frame_of_ours(demo: Runner) -> None:
    """It is told with the expression's text and where in the notebook it came from, as if it stood in a cell."""
    demo("def inverse(x): return 1 / x")
    error = demo("%pool fan_out [inverse(x) for x in [0]]").error
    assert isinstance(error, ZeroDivisionError)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "IPython" not in f.filename]
    names = [(frame.name, frame.line) for frame in frames]
    assert names[-1][0] == "inverse"
    assert ("<module>", "[inverse(x) for x in [0]]") in names
    ours = [frame.name for frame in frames if "claude_pool_nb" in frame.filename]
    assert ours == ["pool"]  # which IPython is told to leave out


def test_vars_fills_in_plain_data_only_when_asked(demo: Runner) -> None:
    """Without --vars braces stay; with it, values go in and are not scanned again."""
    demo("name = '{{ 7 * 7 }}'")
    demo("%pool run {{ name }}")
    demo("%pool run --vars hello {{ name }}")
    assert list(demo("%pool tasks").value["prompt"]) == ["{{ name }}", "hello {{ 7 * 7 }}"]


def test_a_schema_may_be_json_or_a_variable(demo: Runner) -> None:
    """The answer follows the schema, however it was given."""
    schema = '{"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}'
    demo(f"shape = {schema}")
    for given in ("shape", f"'{schema}'"):
        answer = demo(f"%pool run --schema {given} There are 3 apples").value
        assert isinstance(answer.structured["n"], int)


def test_submit_wait_and_result(demo: Runner) -> None:
    """A submitted prompt is a task at once, and its answer later."""
    task = demo("%pool submit --priority 3 hello").value
    assert isinstance(task, Task)
    answer = demo(f"%pool wait {task.id}").value
    assert answer.task_id == task.id
    assert demo(f"%pool result {task.id}").value.output == answer.output
    assert isinstance(demo("%pool wait").value, pd.DataFrame)


def test_no_wait_returns_the_run(demo: Runner) -> None:
    """--no-wait gives the handle; wait gives its frame."""
    run = demo("%pool fan_out ['a', 'b'] --no-wait").value
    assert isinstance(run, Run)
    assert list(demo(f"%pool wait {run.id}").value["state"]) == ["completed", "completed"]


def test_cancel_while_paused_then_retry_and_resume(demo: Runner) -> None:
    """Cancelled tasks stay cancelled until they are asked for again, each in its row."""
    demo("%pool pause for a test")
    demo("run = %pool fan_out ['a', 'b'] --no-wait")
    cancelled = demo("%pool cancel r1").value
    assert list(cancelled["state"]) == ["cancelled", "cancelled"]
    demo("%pool unpause")
    again = demo("%pool retry r1 --state cancelled").value
    assert list(again["state"]) == ["completed", "completed"]
    assert list(again["task_id"]) == ["r1.1", "r1.2"]
    assert list(demo("%pool resume r1").value["state"]) == ["completed", "completed"]


def test_retry_with_a_new_template_in_the_cell(demo: Runner) -> None:
    """The body is rendered over the rows that are chosen, with the notebook's variables; the rows stay in place."""
    demo("import pandas as pd\ndf = pd.DataFrame({'prompt': ['a', 'b', 'c'], 'n': [1, 2, 3]}, index=list('xyz'))")
    demo("out = %pool fan_out df")
    demo("mood = 'kindly'")
    again = demo("%%pool retry --rows 'n > 1' --into again\nSay {{ n }} {{ mood }}, not {{ prompt }}").value
    assert list(again["prompt"]) == ["a", "Say 2 kindly, not b", "Say 3 kindly, not c"]
    assert list(again["attempts"]) == [1, 2, 2]
    assert list(again.index) == list("xyz")
    assert demo("again").value.equals(again)
    demo("better = 'Only {{ n }}'\nmask = out.prompt == 'a'")
    third = demo("%pool retry r1 --rows mask --template better -m demo-large").value
    assert list(third["prompt"]) == ["Only 1", "Say 2 kindly, not b", "Say 3 kindly, not c"]
    assert third["requested_model"].iloc[0] == "demo-large"
    assert list(demo("%pool retry --rows 0,2 --state completed").value["attempts"]) == [3, 2, 3]


def test_retry_of_nothing_says_so(demo: Runner) -> None:
    """A retry that fits no row spends nothing and tells what there is."""
    demo("%pool fan_out ['a', 'b']")
    done = demo("%pool retry")
    assert "nothing is tried again; there are 2 completed" in done.text
    assert list(done.value["attempts"]) == [1, 1]


@pytest.mark.parametrize(
    ("cell", "kind", "says"),
    [
        ("%pool retry --rows 'm > 1'", ConfigError, "no column 'm'"),
        ("%pool retry --rows 'stat == 1'", ConfigError, "did you mean 'state'"),
        ("%pool retry --rows 'n >'", UsageError, "no expression"),
        ("%pool retry --rows short", ConfigError, "the mask has 1 values and the run 2 rows"),
        ("%pool retry --rows 'n > least'", ConfigError, "written @least"),
        ("%pool retry --state done", ConfigError, "state='done'"),
        ("%pool retry --template tmpl", ConfigError, "no variable 'tmpl'"),
        ("%pool retry --template least", ConfigError, "is a int"),
        ("%%pool retry --template x\nbody", UsageError, "leave --template out"),
        ("%%pool retry --rows 0\n{{ nn }}", ConfigError, "needs 'nn'"),
        ("%%pool retry --rows 0\n{{ mood }}", ConfigError, "not kept with a run"),
        ("%pool retry --model haikku --rows 0", ConfigError, "haikku"),
        ("%pool retry --tag x", UsageError, "no option --tag"),
        ("%pool retry --cache", UsageError, "no option --cache"),
    ],
)
def test_a_wrong_retry_is_one_line_and_spends_nothing(
    demo: Runner, cell: str, kind: type[Exception], says: str
) -> None:
    """Nothing is reopened before all of a line is right."""
    demo("import pandas as pd\nout = %pool fan_out pd.DataFrame({'prompt': ['a', 'b'], 'n': [1, 2]})")
    demo("short, least = [True], 1")
    failed = demo(cell)
    assert isinstance(failed.error, kind), failed.error
    assert says in str(failed.error)
    assert len(str(failed.error).splitlines()) == 1
    assert demo("%pool tasks").value["attempts"].tolist() == [1, 1]


def test_a_dry_run_of_a_retry_and_of_a_resume_runs_nothing(demo: Runner) -> None:
    """Both show the prompts that would be sent; a paused run stays as it is."""
    demo("import pandas as pd\nout = %pool fan_out pd.DataFrame({'prompt': ['a', 'b'], 'n': [1, 2]})")
    seen = demo("%%pool retry --rows 'n == 2' --dry-run\nSay {{ n }}").value
    assert (seen.tasks, list(seen.prompts)) == (1, ["Say 2"])
    assert list(demo("%pool retry --dry-run").value["attempts"]) == [1, 1]
    demo(
        "%pool pause\npool = %pool status\nrun = pool.fan_out(['c', 'd'], wait=False)\nrun.interrupt()\npool.wait(run)"
    )
    assert demo("%pool resume --dry-run").value.tasks == 2
    assert demo("run.counts()").value == {"interrupted": 2}
    assert demo("%pool tasks").value["attempts"].tolist() == [1, 1, 0, 0]


def test_retry_offers_its_words(demo: Runner, shell: InteractiveShell) -> None:
    """States, runs and variables complete after retry."""
    demo("%pool fan_out ['a']\nbetter = 'x'")
    offers = PoolMatcher(shell.magics_manager.registry["PoolMagics"]).offers
    assert offers("retry --state in")[1] == ["interrupted", "incomplete"]
    assert offers("retry r")[1] == ["r1"]
    assert "better" in offers("retry --template ")[1]


def test_columns_of_the_input_complete(demo: Runner, shell: InteractiveShell) -> None:
    """Of the run that is named, or of the latest; a name that cannot be written as one word is not offered."""
    offers = PoolMatcher(shell.magics_manager.registry["PoolMagics"]).offers
    assert offers("compare --on ")[1] == []
    demo("rows = {'text': ['a'], 'label': ['b'], 'my note': ['c']}")
    demo("%%pool fan_out --over rows --grid tone=kind,blunt\nSay {{ text }} {{ tone }}")
    demo("%pool fan_out ['a']")
    assert offers("compare r1 --expect ")[1] == ["text", "label", "tone"]
    assert offers("compare r1 --on text,la")[1] == ["text,label"]
    assert offers("compare r1 --by ")[1] == ["model", "text", "label", "tone"]
    assert offers("compare r9 --by ")[1] == offers("compare --by ")[1] == ["model"]
    assert "tag" in offers("metrics --by ")[1]
    assert offers("metrics --run r1 --by model,te")[1] == ["model,text"]
    assert offers("cost --by te")[1] == []


def test_compare_gives_a_frame_that_shows_the_comparison(demo: Runner) -> None:
    """Two runs, or one by its expected answers; the value is a DataFrame, and nothing is run."""
    demo("import pandas as pd\ndf = pd.DataFrame({'prompt': ['ping', 'What is 6 * 7?'], 'want': ['PONG', '41']})")
    demo("a = %pool fan_out df")
    demo("b = %pool fan_out df.assign(prompt=['ping', 'What is 6 * 8?'])")
    both = demo("%pool compare r1 r2 --into both").value
    assert isinstance(both, pd.DataFrame)
    assert list(both["agree"]) == [True, False]
    assert list(both["r2"]["output"]) == ["pong", "48"]
    assert "[-42-]{+48+}" in repr(both)
    assert demo("both.comparison.variants").value == ("r1", "r2")
    expected = demo("%pool compare r1 --expect want").value
    assert list(expected["r1"]["right"]) == [True, False]
    assert "accuracy" in repr(expected)
    grid = demo("pool = %pool start --backend demo --store :memory: --demo-latency-s 0")
    assert grid.error is None
    demo("run = pool.fan_out(['ping'], grid={'model': ['demo-small', 'demo-large']})")
    assert list(demo("%pool compare").value["agree"]) == [True]
    assert list(demo("%pool compare --by model --field output").value["demo-large"]["output"]) == ["pong"]
    assert len(demo("%pool runs").value) == 3


@pytest.mark.parametrize(
    ("cell", "kind", "says"),
    [
        ("%pool compare r1", ConfigError, "name a second run"),
        ("%pool compare", ConfigError, "name a second run"),
        ("%pool compare r1 r9", RunNotFound, "r9"),
        ("%pool compare r1 nonsense", RunNotFound, "nonsense"),
        ("%pool compare r1 r1", ConfigError, "r1 is there twice"),
        ("%pool compare r1 --expect want", ConfigError, "no columns of their own"),
        ("%pool compare r1 --by modl", ConfigError, "did you mean 'model'"),
    ],
)
def test_what_cannot_be_compared_is_one_line(demo: Runner, cell: str, kind: type[Exception], says: str) -> None:
    """A wrong comparison names the right one."""
    demo("%pool fan_out ['a', 'b']")
    failed = demo(cell)
    assert isinstance(failed.error, kind), failed.error
    assert says in str(failed.error)
    assert len(str(failed.error).splitlines()) == 1


# -- looking and steering ----------------------------------------------------------------------------------------------


def test_scale_budget_cost_and_the_rest_are_frames(demo: Runner) -> None:
    """Every look is a DataFrame with what it promises."""
    demo("%pool fan_out ['a', 'b'] --tag x")
    assert len(demo("%pool scale 2").value) == 2
    assert len(demo("%pool slots").value) == 2
    assert demo("%pool budget 3").value["limit_usd"].iloc[0] == 3.0
    fresh = demo("%pool budget 5 --fresh").value
    assert fresh["limit_usd"].iloc[0] == 5.0
    assert demo("%pool budget none").value["limit_usd"].isna().iloc[0]
    assert len(demo("%pool tasks --tag x --state completed").value) == 2
    assert len(demo("%pool tasks --tag y").value) == 0
    assert len(demo("%pool runs").value) == 1
    assert len(demo("%pool history --q b").value) >= 1
    by_tag = demo("%pool cost --by tag").value
    assert by_tag["tag"].tolist() == ["x"]
    assert by_tag["cost_usd"].sum() > 0


def test_a_fresh_budget_has_nothing_spent(demo: Runner) -> None:
    """`--fresh` counts from now."""
    demo("%pool run hello")
    assert demo("%pool budget 5 --fresh").value["spent_usd"].iloc[0] == 0.0


def test_show_tells_all_of_a_task(demo: Runner) -> None:
    """The exact prompt, the options in force, each attempt and each event."""
    demo("%pool run --system-prompt 'be brief' hello there")
    shown = demo("%pool show r1").value
    found = {(row.what, row.name_): row.value for row in shown.rename(columns={"name": "name_"}).itertuples()}
    assert found["task", "prompt"] == "hello there"
    assert found["option", "system_prompt"] == "be brief"
    assert found["attempt 1", "state"] == "completed"
    assert any(what.startswith("event") for what, _ in found)


def test_context_is_told_and_forgotten(demo: Runner) -> None:
    """Keys are set from a line or a cell, read, listed and deleted; a wrong key names the right one."""
    demo("%pool context lang German,  please ")
    demo("%%pool context style\nshort\nand dry")
    assert demo("%pool context").value["key"].tolist() == ["lang", "style"]
    assert demo("%pool context style").value == "short\nand dry"
    assert "lang" in str(demo("%pool context langg").error)
    assert demo("%pool context --delete lang").value["key"].tolist() == ["style"]


def test_prune_deletes_what_is_old(demo: Runner) -> None:
    """Runs before a date go, those after it stay."""
    demo("%pool run hello")
    assert len(demo("%pool prune --before 2000-01-01").value) == 1
    assert len(demo("%pool prune --before 2999-01-01").value) == 0


def test_drain_and_stop_end_the_pool(demo: Runner, run_cell: Runner) -> None:
    """After either there is no pool, and the same start line makes a new one."""
    first = demo("%pool status").value
    assert demo("%pool drain --timeout-s 5").value.closed
    assert first.closed
    second = run_cell(DEMO).value
    assert second is not first
    assert run_cell("%pool stop").value.closed
    assert isinstance(run_cell("%pool stop").error, NoPool)


def test_doctor_names_credentials_and_never_tells_them(run_cell: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """The doctor works without a pool, tells what is missing, and shows no secret."""
    secret = "sk-ant-" + "x" * 40
    monkeypatch.setenv("ANTHROPIC_API_KEY", secret)
    found = run_cell("%pool doctor").value.set_index("what")
    assert secret not in found.to_string()
    assert found.loc["credentials", "value"] == "ANTHROPIC_API_KEY"
    assert found.loc["claude CLI", "ok"]
    assert found.loc["leftovers", "value"] == "none"
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    found = run_cell("%pool doctor").value.set_index("what")
    assert "--backend demo" in found.loc["credentials", "advice"]
    assert not found["value"].str.contains("Error").any()


def test_doctor_finds_what_a_start_would_find(
    run_cell: Runner, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Memory is what the container has left, not the machine; a CLI that cannot be run is none."""
    monkeypatch.setattr("claude_pool_nb.sessions.claude_backend.available_memory", lambda: 1 << 30)
    memory = run_cell("%pool doctor").value.set_index("what").loc["free memory"]
    assert (memory["value"], bool(memory["ok"])) == ("1.1 GB", False)
    assert memory["advice"].startswith("4 slots may need 1.4 GB")
    not_to_be_run = tmp_path / "claude"
    not_to_be_run.write_text("#!/bin/sh\n")
    run_cell(f"{DEMO} --cli-path {not_to_be_run}")
    assert run_cell("%pool doctor").value.set_index("what").loc["claude CLI", "value"] == "not found"


def test_show_and_doctor_hide_nothing(demo: Runner) -> None:
    """Both display every row and the whole text, where pandas would show ten rows and fifty characters."""
    demo(f"%pool run {'word ' * 30}end <b>")
    shown = demo("%pool show r1").value
    assert "word end <b>" in repr(shown)
    assert "word end &lt;b&gt;" in shown._repr_html_()
    assert "task_completed" in repr(shown)
    doctor = demo("%pool doctor").value
    assert "setting strict_budget" in repr(doctor)
    assert doctor.set_index("what").loc["credentials", "value"] == "none needed for the demo"


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_each_verb(run_cell: Runner, verb: str) -> None:
    """Help needs no pool."""
    assert run_cell(f"%pool help {verb}").value.startswith(f"usage: %pool {verb}")


def test_cache_answers_the_same_question_free(run_cell: Runner) -> None:
    """`--cache` gives the answer there was, says so, and takes part of a run; a pool may do it always."""
    run_cell(DEMO)
    first = run_cell("%pool run -m haiku a haiku about rust").value
    again = run_cell("%pool run -m haiku --cache a haiku about rust").value
    assert (again.output, again.cached, again.cost_usd) == (first.output, True, 0.0)
    frame = run_cell("%pool fan_out -m haiku --cache ['a haiku about rust', 'a haiku about dust']").value
    assert frame["cached"].tolist() == [True, False]
    assert isinstance(run_cell("%pool run --cache --no-cache hello").error, UsageError)
    assert isinstance(run_cell("%pool run --cache --conversation talk hello").error, ConfigError)
    run_cell(f"{DEMO} --cache --replace")
    assert [run_cell("%pool run hello").value.cached for _ in range(2)] == [False, True]
    assert not run_cell("%pool run --no-cache hello").value.cached


def test_history_finds_words_and_phrases(run_cell: Runner, tmp_path: Path) -> None:
    """All words in any order, a phrase in quotation marks, the latest few; also of a pool that is gone, to be shown."""
    start = f"%pool start --backend demo --demo-latency-s 0 --store {tmp_path / 'ledger.sqlite'}"
    run_cell(start)
    run_cell("%pool fan_out ['a red fox runs', 'a fox, red and old', 'an owl']")
    run_cell(f"{start} --slots 2 --replace")
    run_cell("%pool run a second red fox")

    def found(line: str) -> list[str]:
        return list(run_cell(f"%pool history {line}").value["task_id"])

    assert found("--q FOX red") == ["r1.1", "r1.2", "r2.1"]
    assert found("--q 'red fox'") == ["r1.1", "r2.1"]
    assert found("--q 'red \"fox runs\"' --limit 5") == ["r1.1"]
    assert found("--limit 2") == ["r1.3", "r2.1"]
    assert found("--q fox --limit 1") == ["r2.1"]
    assert found("--q fox --since 1h --limit 1") == ["r2.1"]
    assert isinstance(run_cell("%pool history --since noon").error, ConfigError)
    shown = run_cell("%pool show r1.2").value
    assert "a fox, red and old" in set(shown["value"])
    assert isinstance(run_cell("%pool history --limit 0").error, UsageError)


def test_metrics_and_costs_are_narrowed_on_the_line(demo: Runner, tmp_path: Path) -> None:
    """Keys, times, tags, models and runs as options; what is wrong is told before anything is read."""
    demo("%pool fan_out ['a', 'b'] --tag x -m haiku")
    demo("%pool run -m sonnet --tag y hello")
    assert demo("%pool metrics").value["tasks"].tolist() == [3]
    by = demo("%pool metrics --by requested_model,tag --since 1h").value
    assert by[["requested_model", "tag", "tasks"]].values.tolist() == [["haiku", "x", 2], ["sonnet", "y", 1]]
    assert demo("%pool metrics --tag x,z").value["tasks"].tolist() == [2]
    assert demo("%pool metrics --model sonnet --into m\nm").value["tasks"].tolist() == [1]
    assert demo("%pool metrics --run r2 --until 2020-01-01").value["tasks"].tolist() == [0]
    assert demo("%pool cost --by day,model --run r1").value["tasks"].tolist() == [2]
    assert demo("%pool cost --until 2020-01-01").value.empty
    for line, error in (
        ("metrics --by modle", "did you mean 'model'"),
        ("cost --by modle", "did you mean 'model'"),
        ("metrics --since noon", "since='noon' is no time"),
    ):
        failed = demo(f"%pool {line}").error
        assert isinstance(failed, ConfigError)
        assert error in str(failed)
    assert isinstance(demo("%pool metrics --bye model").error, UsageError)
    (tmp_path / "projects").mkdir()
    assert demo(f"%pool usage --root {tmp_path} --by model,day --since 7d").value.empty
