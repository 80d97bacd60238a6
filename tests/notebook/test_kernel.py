"""What holds in a real kernel: quick loading, displays, and the interrupt once, twice and thrice."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.notebook.kernels import Kernel, kernel, wait_for
from tests.waiting import PROMPTLY_S

INTERRUPTED = "Interrupted"
"""A KeyboardInterrupt that shows as one line."""
HEAVY = ("claude_agent_sdk", "pandas", "sqlalchemy", "ipywidgets", "jinja2", "genai_prices")


@pytest.fixture
def live() -> Iterator[Kernel]:
    """A fresh kernel."""
    with kernel() as made:
        yield made


def _start(live: Kernel, flag: Path) -> None:
    """A pool of slow demo sessions that makes a file when the first task is done."""
    live.run("%load_ext claude_pool_nb")
    started = live.run("pool = %pool start --slots 4 --backend demo --store :memory: --demo-latency-s 0.15")
    assert started.status == "ok", started.evalue
    live.run(
        "from pathlib import Path\n"
        f"flag = Path({str(flag)!r})\n"
        "stop = pool.subscribe(lambda e: flag.touch() if type(e).__name__ == 'TaskCompleted' else None)"
    )


def test_loading_is_quick_and_imports_nothing_heavy(live: Kernel) -> None:
    """`%load_ext` costs next to nothing: what is heavy comes with what needs it, or after the cell has ended."""
    live.run("import sys, time\nbegan = time.perf_counter()")
    loaded = live.run(f"%load_ext claude_pool_nb\nprint([name for name in {HEAVY!r} if name in sys.modules])")
    took = live.run("print(time.perf_counter() - began)")
    assert float(took.text) < PROMPTLY_S
    assert loaded.text.strip() == "[]"


def test_what_a_start_needs_is_imported_after_the_cell(live: Kernel) -> None:
    """By the time of the first verb the modules of a start are there, and still neither pandas nor the SDK."""
    live.run("import sys\n%load_ext claude_pool_nb")
    live.run("%pool help")  # a verb waits for the import
    names = ("claude_pool_nb.pool", "sqlalchemy", "pandas", "claude_agent_sdk")
    imported = live.run(f"print([name for name in {names!r} if name in sys.modules])")
    assert imported.text.strip() == "['claude_pool_nb.pool', 'sqlalchemy']"


def test_output_of_a_watched_notebook_is_that_of_a_test(live: Kernel) -> None:
    """With nobody watching there is one display and the value; the same as what a live view leaves."""
    live.run("%load_ext claude_pool_nb\n%pool start --backend demo --store :memory: --demo-latency-s 0")
    done = live.run("%pool run hello")
    assert [output["msg_type"] for output in done.outputs] == ["display_data", "execute_result"]
    assert sorted(done.outputs[0]["data"]) == ["text/html", "text/plain"]
    assert "text/markdown" in done.outputs[1]["data"]


def test_live_view_leaves_the_same_and_no_widgets(live: Kernel) -> None:
    """A live view that was shown is replaced by the static line, and all its widgets are closed."""
    live.run("%load_ext claude_pool_nb\n%pool start --slots 2 --backend demo --store :memory: --demo-latency-s 0.1")
    done = live.run("df = %pool fan_out ['a'] * 20 --live widget")
    kinds = [output["msg_type"] for output in done.outputs]
    assert kinds == ["display_data", "update_display_data"]
    assert "application/vnd.jupyter.widget-view+json" in done.outputs[0]["data"]
    assert sorted(done.outputs[1]["data"]) == ["text/html", "text/plain"]
    assert "20 completed of 20 tasks" in done.outputs[1]["data"]["text/plain"]
    left = live.run("import ipywidgets.widgets.widget as w; print(len(w._instances))")
    assert left.text.strip() == "0"
    quick = live.run("df = %pool fan_out ['a'] --live widget")
    assert [output["msg_type"] for output in quick.outputs] == ["display_data"]
    assert sorted(quick.outputs[0]["data"]) == ["text/html", "text/plain"]


def test_one_interrupt_stops_keeps_and_raises(live: Kernel, tmp_path: Path) -> None:
    """■ stops the run within a second or so, stores what there is, stops Run All, and the sessions live on."""
    _start(live, tmp_path / "flag")
    asked = live.ask("%pool fan_out [f'say {i}' for i in range(200)] --into df --tag first")
    following = live.ask("after = 1")
    wait_for(tmp_path / "flag")
    live.interrupt()
    stopped = live.reply(asked)
    assert (stopped.status, stopped.ename) == ("error", INTERRUPTED)
    assert stopped.took_s < PROMPTLY_S
    assert live.reply(following).status == "aborted"
    counts = live.run("print(len(df), set(df.state), (df.state == 'completed').sum() > 0, len(pool.last.frame))")
    assert counts.text.split()[0] == "200"
    assert "'interrupted'" in counts.text
    assert counts.text.strip().endswith("True 200")
    again = live.run("again = %pool resume r1\nprint(set(again.state), again.attempts.max())")
    assert "{'completed'}" in again.text
    assert live.run("x = %pool run still alive").status == "ok"


def test_a_map_is_interrupted_and_resumed_like_any_run(live: Kernel, tmp_path: Path) -> None:
    """■ in a cell with --over: every row is under the name of --into, and a resume completes the grid."""
    _start(live, tmp_path / "flag")
    live.run(
        "import pandas as pd\nrows = pd.DataFrame({'text': [f'say {i}' for i in range(25)]}, index=range(100, 125))"
    )
    asked = live.ask(
        "%%pool fan_out --over rows --grid tone=kind,blunt --n 2 --schema 'label: a|b' --into df\n"
        "{{ tone }}: {{ text }}"
    )
    following = live.ask("after = 1")
    wait_for(tmp_path / "flag")
    live.interrupt()
    stopped = live.reply(asked)
    assert (stopped.status, stopped.ename) == ("error", INTERRUPTED)
    assert live.reply(following).status == "aborted"
    counts = live.run("print(len(df), df.index[-1], set(df.state) >= {'completed', 'interrupted'}, df.out_label.dtype)")
    assert counts.text.split() == ["100", "124", "True", "category"]
    again = live.run("again = %pool resume r1\nprint('interrupted' in set(again.state), list(again.tone[:3]))")
    assert again.text.strip().endswith("False ['kind', 'kind', 'blunt']")


@pytest.mark.parametrize("times", [2, 3])
def test_more_interrupts_end_it_all_the_same(live: Kernel, tmp_path: Path, times: int) -> None:
    """Impatient pressing of ■ ends in one KeyboardInterrupt and a kernel that works."""
    _start(live, tmp_path / "flag")
    asked = live.ask("%pool fan_out [f'say {i}' for i in range(200)]")
    wait_for(tmp_path / "flag")
    for _ in range(times):
        live.interrupt()
    stopped = live.reply(asked)
    assert (stopped.status, stopped.ename) == ("error", INTERRUPTED)
    assert live.run("x = %pool run still alive").status == "ok"
    assert "200" in live.run("print(len(pool.get_run('r1').frame))").text


def test_three_fast_interrupts_store_what_there_is(live: Kernel, tmp_path: Path) -> None:
    """Three signals 50 ms apart: the name of --into is set, Run All stops, and the next cell works."""
    _start(live, tmp_path / "flag")
    asked = live.ask("%pool fan_out [f'say {i}' for i in range(300)] --into df")
    following = live.ask("after = 1")
    wait_for(tmp_path / "flag")
    for _ in range(3):
        live.interrupt()
        time.sleep(0.05)
    stopped = live.reply(asked)
    assert (stopped.status, stopped.ename) == ("error", INTERRUPTED)
    assert live.reply(following).status == "aborted"
    assert live.run("print(len(df))").text.strip() == "300"
    assert live.run("x = %pool run still alive").status == "ok"


def test_an_interrupt_while_the_frame_is_stored_waits(live: Kernel) -> None:
    """A signal that strikes while the partial frame is read does not lose it, and is raised behind it."""
    live.run("%load_ext claude_pool_nb\npool = %pool start --backend demo --store :memory: --demo-latency-s 0")
    live.run(
        "import os, signal\n"
        "from claude_pool_nb.handles import Run\n"
        "read = Run.frame.fget\n"
        "def struck(run):\n"
        "    for _ in range(3):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "    return read(run)\n"
        "Run.frame = property(struck)"
    )
    done = live.run("%pool fan_out ['a', 'b'] --into df")
    assert (done.status, done.ename) == ("error", "KeyboardInterrupt")
    assert "2" in live.run("print(len(df))").text


def test_an_interrupt_while_a_run_is_accepted_stops_it(live: Kernel) -> None:
    """What was accepted while ■ was pressed does not go on spending behind the person's back."""
    live.run("%load_ext claude_pool_nb\npool = %pool start --backend demo --store :memory: --demo-latency-s 0.2")
    live.run(
        "import os, signal\n"
        "from claude_pool_nb.pool import Pool\n"
        "made = Pool.accept\n"
        "def struck(pool, *given, **options):\n"
        "    run = made(pool, *given, **options)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    return run\n"
        "Pool.accept = struck"
    )
    done = live.run("%pool fan_out [f'say {i}' for i in range(200)] --into df")
    assert (done.status, done.ename) == ("error", INTERRUPTED)
    assert "r1 was stopped" in done.evalue
    counts = live.run("print(len(df), 'interrupted' in set(df.state), pool.get_run('r1').done)")
    assert counts.text.strip() == "200 True True"


def test_a_single_prompt_can_be_interrupted(live: Kernel, tmp_path: Path) -> None:
    """■ on %pool run keeps what the model had said, under --into."""
    _start(live, tmp_path / "flag")
    live.run("%pool run first")
    live.run("%pool stop")
    live.run("pool = %pool start --backend demo --store :memory: --demo-latency-s 30")
    live.run(
        f"begun = Path({str(tmp_path / 'begun')!r})\n"
        "stop = pool.subscribe(lambda e: begun.touch() if type(e).__name__ == 'TaskRunning' else None)"
    )
    asked = live.ask("%pool run --into answer tell me a story")
    wait_for(tmp_path / "begun")
    live.interrupt()
    assert live.reply(asked).ename == INTERRUPTED
    said = live.run("print(answer.state)")
    assert said.text.strip() == "interrupted", said


def test_errors_are_one_line(live: Kernel) -> None:
    """An error of the pool shows no stack of ours."""
    failed = live.client.execute("%load_ext claude_pool_nb\n%pool run hi")
    live.client.get_shell_msg(timeout=60)
    traceback: list[str] = []
    while True:
        message = live.client.get_iopub_msg(timeout=60)
        if message["parent_header"].get("msg_id") == failed and message["msg_type"] == "error":
            traceback = message["content"]["traceback"]
            break
    assert traceback == [
        "NoPool: There is no pool in this kernel yet; run `%pool start` "
        "(or `%pool start --backend demo` without an account)."
    ]


def test_completion_through_the_kernel(live: Kernel) -> None:
    """Tab offers verbs, options, values and variables, and nothing of ours elsewhere."""
    live.run("%load_ext claude_pool_nb\nprompts = []")

    def offered(text: str) -> list[str]:
        asked = live.client.complete(text, len(text))
        while (message := live.client.get_shell_msg(timeout=30))["parent_header"].get("msg_id") != asked:
            pass
        return list(message["content"]["matches"])

    assert offered("%pool fan_o") == ["fan_out"]
    assert offered("%pool fan_out --mo") == ["--model"]
    assert offered("%pool run --model so") == ["sonnet"]
    assert offered("df = %pool fan_out promp") == ["prompts"]
    assert "fan_out" not in offered("fan_o")
    assert live.run("x = 1").status == "ok"


def test_the_widgets_are_imported_ahead_where_a_person_may_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a notebook ipywidgets is there soon after `%load_ext`, before any view; where nobody watches it never is."""
    ahead = (
        "import sys, threading\n"
        "for thread in threading.enumerate():\n"
        "    if thread.name == 'claude-pool-prefetch': thread.join(60)\n"
        "print('ipywidgets' in sys.modules)"
    )
    with kernel() as unattended:
        unattended.run("%load_ext claude_pool_nb")
        assert unattended.run(ahead).text.strip() == "False"
    for name in ("PYTEST_VERSION", "PYTEST_CURRENT_TEST", "CI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("JPY_SESSION_NAME", "a.ipynb")
    with kernel() as watched:
        watched.run("%load_ext claude_pool_nb")
        assert watched.run(ahead).text.strip() == "True"


def test_a_run_that_is_over_before_its_view_appears_leaves_no_widget(live: Kernel) -> None:
    """Between making the widgets ready and showing them a run may end: they are closed, and never were on the page."""
    live.run("%load_ext claude_pool_nb\n%pool start --slots 1 --backend demo --store :memory: --demo-latency-s 0")
    live.run("from claude_pool_nb.notebook.live import view\nview.READY_AFTER_S, view.APPEARS_AFTER_S = 0.0, 60.0")
    done = live.run("%pool run --live widget hello [demo:slow=1]")
    assert [output["msg_type"] for output in done.outputs] == ["display_data", "execute_result"]
    assert "widget-view" not in str(done.outputs)
    left = live.run("import ipywidgets.widgets.widget as w; print(len(w._instances))")
    assert left.text.strip() == "0"


def test_a_view_in_an_output_widget_leaves_its_line(live: Kernel) -> None:
    """`ipywidgets.Output` takes displays and no updates of them: there the static line is a display of its own."""
    live.run("%load_ext claude_pool_nb\n%pool start --slots 1 --backend demo --store :memory: --demo-latency-s 0")
    live.run("import ipywidgets\nfrom claude_pool_nb.notebook.live import view\nview.APPEARS_AFTER_S = 0.0")
    done = live.run("with ipywidgets.Output():\n    df = %pool fan_out ['a [demo:slow=1]'] --live widget")
    assert [output["msg_type"] for output in done.outputs] == ["display_data", "display_data"]
    first, last = (output["data"] for output in done.outputs)
    assert "a live view, which needs its kernel" in first["text/plain"]
    assert "0 done" in first["text/plain"]
    assert "1 completed of 1 task" in last["text/plain"]
