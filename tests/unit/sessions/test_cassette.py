"""Tapes: what stands on them, what is found on them, and what is wrong with some."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from claude_pool_nb.config import PoolConfig, TaskOverrides, resolve
from claude_pool_nb.errors import CassetteError
from claude_pool_nb.records import CostBasis, Denial, Failure, FailureKind, TurnResult, Usage
from claude_pool_nb.resolved import ResolvedConfig
from claude_pool_nb.sessions.base import RetryNoticed, TextDelta, ToolStarted, Turn, TurnStarted
from claude_pool_nb.sessions.cassette import NOT_ON_TAPE, Cassette
from claude_pool_nb.sessions.cassette_entry import Entry, cleaned, entry_json, entry_of, to_line
from claude_pool_nb.sessions.cassette_file import read_tape
from claude_pool_nb.sessions.cassette_format import LONG_CHARS, Asked, Request
from claude_pool_nb.sessions.cassette_stream import MOST_PIECES, StreamNotes, played

KEY = "sk-ant-api03-planted-key-0123456789"
OPTIONS = ResolvedConfig(model="haiku", system_prompt="Be brief.")


def request(prompt: str = "hi", **options: Any) -> Request:
    """A request of that prompt and those options."""
    return Request.of(Turn(prompt, replace(OPTIONS, **options)))


def entry(prompt: str = "hi", output: str = "hello", **options: Any) -> Entry:
    """An answer to it."""
    return Entry(request(prompt, **options), TurnResult(output=output, cost_nano=5, model="m"))


def tape_of(path: Path, *entries: tuple[Entry, str]) -> Path:
    """A tape with these answers, each of a task."""
    cassette = Cassette(path, "all", backend="demo")
    for one, task in entries:
        cassette.note(one, task)
    cassette.close()
    return path


# -- keys --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"cwd": "/tmp"},
        {"cli_path": "/usr/bin/claude"},
        {"env": (("TOKEN", "x"),)},
        {"resume_session_id": "abc", "resume_at": "def"},
        {"conversation": "story"},
        {"timeout_s": 3.0},
        {"max_budget_usd": 1.0},
        {"demo_latency_s": 0.0},
        {"model": "claude-haiku-5-5"},
        {"mcp_servers": "{}"},
    ],
)
def test_where_a_request_runs_is_not_in_its_key(options: dict[str, Any]) -> None:
    """Machine, process, limits of time and money, and the spelling of a model change nothing."""
    assert request(**options).key == request().key


@pytest.mark.parametrize(
    "options",
    [
        {"model": "sonnet"},
        {"model": None},
        {"system_prompt": "Be long."},
        {"appended_prompt": "Shared context:\n- a: b"},
        {"profile": "agent"},
        {"preset": True},
        {"tools": None},
        {"tools": ("Read",)},
        {"allowed_tools": ("Read",)},
        {"disallowed_tools": ("Read",)},
        {"max_turns": 2},
        {"max_output_tokens": 20},
        {"effort": "low"},
        {"fallback_model": "opus"},
        {"schema": '{"type": "object"}'},
        {"permission_mode": "plan"},
        {"setting_sources": ("user",)},
        {"mcp_servers": '{"x": {"command": "y"}}'},
    ],
)
def test_what_the_model_sees_is_in_the_key(options: dict[str, Any]) -> None:
    """Everything that can change an answer changes the key."""
    assert request(**options).key != request().key


def test_prompt_sample_and_history_are_in_the_key() -> None:
    """The same options with another prompt, sample or history are another request."""
    turn = Turn("hi", OPTIONS)
    keys = {
        Request.of(turn).key,
        Request.of(replace(turn, prompt="ho")).key,
        Request.of(replace(turn, sample=1)).key,
        Request.of(turn, "before").key,
    }
    assert len(keys) == 4
    assert request().then("a") != request().then("b") != request("ho").then("b")


def test_every_option_is_known_to_matter_or_not_to() -> None:
    """A new option of sessions has to be put on the tape, or here."""
    elsewhere = {
        "model", "cwd", "cli_path", "env", "conversation", "resume_session_id", "resume_at", "slot_mode",
        "allow_bypass", "max_budget_usd", "timeout_s", "idle_timeout_s", "retry", "prime",
        "cache",
        "slot_assignment_timeout_s", "max_tasks_per_process", "max_rss_bytes", "idle_close_s", "demo_latency_s",
    }  # fmt: skip
    from claude_pool_nb.sessions.cassette_format import OPTION_NAMES

    assert {f.name for f in fields(ResolvedConfig)} == elsewhere | OPTION_NAMES | {"profile"}


# -- lines -------------------------------------------------------------------------------------------------------------

FULL = TurnResult(
    output="half\u2028an answer",
    failure=Failure(FailureKind.LIMIT, "http_429", "slow down", retry_after_s=2.0, http_status=429),
    cost_nano=28_311_250,
    cost_basis=CostBasis.ESTIMATED,
    usage=Usage(1, 2, 3, 4),
    turns=2,
    model="claude-haiku-5-5",
    duration_s=1.2,
    api_s=0.9,
    structured={"label": ["ü", None, 1.5]},
    denials=(Denial("Write", '{"file_path": "x"}'),),
    wrote=True,
    warnings=("another model",),
)


def test_an_answer_comes_back_as_it_was() -> None:
    """Every field of an answer, and of its request, survives the file."""
    asked = request(schema='{"b": 1, "a": 2}', tools=("Read",), effort="low")
    stream = ((0.1, "start"), (0.2, "thinking"), (0.3, "tool", "Write", "{}"), (0.4, "text", "half"))
    one = Entry(replace(asked, sample=2, after="abc"), FULL, stream, 3, 2, "story", 7)
    line = to_line(entry_json(one))
    assert line.count(b"\n") == 1
    label = one.request.asked
    known = Asked.of(json.loads(to_line({"options": label.label, **label.values})))
    back = entry_of(json.loads(line), {known.label: known})
    assert back == one
    assert back.request.key == one.request.key


def test_every_field_of_an_answer_is_on_the_tape() -> None:
    """A field that is added to TurnResult has to be written too."""
    usual = TurnResult()
    assert [f.name for f in fields(TurnResult) if getattr(FULL, f.name) == getattr(usual, f.name)] == ["session_id"]


def test_lone_surrogates_and_separators_stay_in_one_line() -> None:
    """What is no UTF-8 is escaped; a line separator of Unicode ends no line."""
    one = entry("a\ud800b", "x\u2028y\x85z")
    line = to_line(entry_json(one))
    assert line.count(b"\n") == 1
    assert entry_of(json.loads(line), {one.request.asked.label: one.request.asked}) == one


def test_a_long_prompt_is_kept_as_its_beginning_and_a_hash() -> None:
    """The tape stays readable, and the key still tells long prompts apart by their ends."""
    one, other = request("x" * LONG_CHARS + "ya"), request("x" * LONG_CHARS + "yb")
    assert one.key != other.key
    line = to_line(entry_json(Entry(one, TurnResult(output="ok"))))
    assert len(line) < 1_000
    assert entry_of(json.loads(line), {one.asked.label: one.asked}).request.key == one.key


# -- secrets -----------------------------------------------------------------------------------------------------------


def test_no_secret_and_no_home_is_on_a_tape(
    tmp_path: Path, isolated_env: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A planted key, a gateway's token and the home folder are nowhere on the tape, wherever they stood."""
    word = "our gateway word"
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", word)
    leak = f"{KEY} and {word} in {isolated_env}/notes.txt"
    levels = PoolConfig(
        profile="prompt",
        system_prompt=leak,
        env={"TOKEN": KEY},
        mcp_servers={"files": {"command": f"{isolated_env}/bin/x", "env": {"TOKEN": word}}},
    )
    options = resolve(
        levels, None, TaskOverrides(schema={"type": "object", "description": leak}), context={"who": leak}
    )
    notes = StreamNotes()
    for at, event in enumerate(
        [
            TurnStarted(Usage(), 0),
            TextDelta(leak[:20]),
            TextDelta(leak[20:]),
            TextDelta(leak, thinking=True),
            ToolStarted("Bash", json.dumps({"command": leak})),
            RetryNoticed(500, 0.1, leak),
        ]
    ):
        notes.take(at / 2, event)
    answer = cleaned(
        TurnResult(
            output=leak,
            failure=Failure(FailureKind.REQUEST, "x", leak),
            structured={leak: [leak]},
            denials=(Denial("Bash", json.dumps({"command": leak})),),
            warnings=(leak,),
            session_id=leak,
        )
    )
    one = Entry(Request.of(Turn(leak, options)), answer, notes.written(answer), conversation="c")
    text = tape_of(tmp_path / "tape.ndjson", (one, "r1.1")).read_text(encoding="utf-8")
    for secret in (KEY, KEY[10:], word, str(isolated_env), isolated_env.name + "/"):
        assert secret not in text
    assert text.count("[redacted] and [redacted] in ~/notes.txt") >= 8


def test_a_tape_with_a_redacted_prompt_plays_where_the_key_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key of a request is the same with and without the variable that held the secret."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    tape = tape_of(tmp_path / "tape.ndjson", (entry(f"What is {KEY}?"), "r1.1"))
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    monkeypatch.setenv("HOME", "/elsewhere")
    assert Cassette(tape).find(request(f"What is {KEY}?")) is not None


# -- streams -----------------------------------------------------------------------------------------------------------


def test_a_stream_is_coarse_and_loses_nothing() -> None:
    """Hundreds of pieces become a few, whose texts joined are the answer."""
    notes = StreamNotes()
    notes.take(0.0, TurnStarted(Usage(input_tokens=10), 100, "m"))
    pieces = [f"word{number} " for number in range(500)]
    for number, piece in enumerate(pieces):
        notes.take(0.5 + number * 0.01, TextDelta(piece))
    answer = TurnResult(output="".join(pieces), cost_nano=1_000, usage=Usage(input_tokens=10, output_tokens=10))
    one = Entry(request(), answer, notes.written(answer))
    seen = list(played(one))
    texts = [event.text for _, event in seen if isinstance(event, TextDelta)]
    assert "".join(texts) == answer.output
    assert 10 <= len(texts) <= MOST_PIECES
    assert seen[0][1] == TurnStarted(Usage(input_tokens=10), 166, None)
    assert [at for at, _ in seen] == sorted(at for at, _ in seen)
    assert seen[-1][0] == pytest.approx(5.5)


def test_an_answer_that_is_not_what_was_streamed_has_the_words_in_its_stream() -> None:
    """Between tool calls a model says things that are not in its answer."""
    notes = StreamNotes()
    for at, event in enumerate(
        [TurnStarted(Usage(), 0), TextDelta("I look."), ToolStarted("Read", "{}"), TextDelta("7")]
    ):
        notes.take(float(at), event)
    written = notes.written(TurnResult(output="7"))
    assert written == ((0.0, "start"), (1.0, "text", "I look."), (2.0, "tool", "Read", "{}"), (3.0, "text", "7"))


# -- finding -----------------------------------------------------------------------------------------------------------


def test_tasks_get_their_own_attempts_whatever_the_others_do(tmp_path: Path) -> None:
    """Of identical requests each task has its answers, failures first, also where they were recorded mixed up."""
    failed = replace(entry(), answer=TurnResult(failure=Failure(FailureKind.TRANSPORT, "http_503", "down")))
    tape = tape_of(
        tmp_path / "tape.ndjson",
        (failed, "r1.1"),
        (entry(output="two"), "r1.2"),
        (entry(output="one"), "r1.1"),
        (entry(output="three"), "r1.10"),
    )
    cassette = Cassette(tape)
    heard: dict[str, list[str]] = {}
    for task in ("r7.10", "r7.1", "r7.2", "r7.1"):
        found = cassette.find(request(), task)
        assert found is not None
        heard.setdefault(task, []).append(found.entry.answer.output)
        cassette.was_played(found)
    assert heard == {"r7.1": ["", "one"], "r7.2": ["two"], "r7.10": ["three"]}


def test_an_answer_that_was_not_heard_out_comes_again(tmp_path: Path) -> None:
    """A task that was interrupted in mid-answer gets the same answer when it is resumed."""
    tape = tape_of(tmp_path / "tape.ndjson", (entry(output="one"), "r1.1"), (entry(output="two"), "r1.2"))
    cassette = Cassette(tape)
    for _ in range(2):
        found = cassette.find(request(), "r1.1")
        assert found is not None
        assert found.entry.answer.output == "one"


def test_answers_start_over_where_the_tape_has_no_more(tmp_path: Path) -> None:
    """A cell that is run twice plays twice, and it is said."""
    tape = tape_of(tmp_path / "tape.ndjson", (entry(output="one"), "r1.1"), (entry(output="two"), "r1.2"))
    cassette = Cassette(tape)
    found = [cassette.find(request(), f"r{number}.1") for number in range(1, 4)]
    assert [f.entry.answer.output for f in found if f] == ["one", "two", "one"]
    assert [f.starts_over for f in found if f] == [False, False, True]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (request("review 18: fine"), ["line 4", "'review 17: fine'", "the prompt from character 9", "'8: fine' asked"]),
        (request("review 17: fine", model="sonnet"), ["model ('haiku' on the tape, 'sonnet' asked)"]),
        (request("review 17: fine", system_prompt="Be long."), ["the system prompt from character 4"]),
        (request("review 17: fine", max_turns=2), ["max_turns (None on the tape, 2 asked)"]),
        (Request.of(Turn("review 17: fine", OPTIONS, sample=3)), ["sample (0 on the tape, 3 asked)"]),
        (Request.of(Turn("review 17: fine", OPTIONS), "abc"), ["what the conversation said before"]),
        (request("Please: review 17: fine"), ["'review 17: fine'", "the prompt from character 1"]),
    ],
)
def test_a_missing_request_names_the_nearest_and_what_differs(tmp_path: Path, asked: Request, words: list[str]) -> None:
    """The message names line, prompt and difference, and how to record it; the failure is never tried again."""
    prompts = ["a poem about rust", "review 17: fine", "zebra", "Summarise this"]
    tape = tape_of(tmp_path / "tape.ndjson", *((entry(p), f"r1.{n}") for n, p in enumerate(prompts, 1)))
    cassette = Cassette(tape)
    assert cassette.find(asked) is None
    failure = cassette.not_found(asked)
    assert failure.kind is FailureKind.REQUEST
    assert failure.error_type == NOT_ON_TAPE
    for word in [*words, str(tape), "--record"]:
        assert word in failure.message
    assert cassette.missing == 1


def test_the_nearest_of_many_samples_and_models_is_the_one_that_differs_least(tmp_path: Path) -> None:
    """The neighbours of a prompt are other prompts, however many requests each of them has."""
    turns = [
        Request.of(Turn(text, replace(OPTIONS, model=model), sample=sample))
        for text in ("Classify Bad", "Classify Great", "Classify Meh")
        for model in ("haiku", "sonnet")
        for sample in range(3)
    ]
    tape = tape_of(tmp_path / "tape.ndjson", *((Entry(one, TurnResult()), f"r1.{n}") for n, one in enumerate(turns, 1)))
    cassette = Cassette(tape)
    wanted = Request.of(Turn("Classify Good", replace(OPTIONS, model="haiku"), sample=0))
    message = cassette.not_found(wanted).message
    assert "line 3 of" in message
    assert (
        "('Classify Bad'), differs in the prompt from character 10 on ('Bad' on the tape, 'Good' asked). Rec" in message
    )


# -- recording ---------------------------------------------------------------------------------------------------------


def test_the_same_bytes_in_whatever_order_answers_come(tmp_path: Path) -> None:
    """The tape is in the order of the tasks, not of the clock."""
    entries = [(entry(f"prompt {n % 7}", f"answer {n}", max_turns=n % 3 + 1), f"r{n // 5}.{n % 5}") for n in range(40)]
    one = tape_of(tmp_path / "one.ndjson", *entries)
    other = tape_of(tmp_path / "other.ndjson", *reversed(entries))
    assert one.read_bytes() == other.read_bytes()
    assert [json.loads(line)["answer"]["output"] for line in one.read_text().splitlines() if "answer" in line] != []


def test_recording_again_changes_only_what_changed(tmp_path: Path) -> None:
    """Times alone change nothing; a new answer changes its own line; what was not asked again stays."""
    tape = tape_of(tmp_path / "tape.ndjson", *((entry(f"p{n}", f"a{n}"), f"r1.{n}") for n in range(9)))
    before = tape.read_text().splitlines()

    def slower(one: Entry) -> Entry:
        return replace(one, answer=replace(one.answer, duration_s=7.0), stream=((7.0, "start"),))

    tape_of(tape, *((slower(entry(f"p{n}", f"a{n}")), f"r2.{n}") for n in range(8)))
    assert tape.read_text().splitlines() == before
    tape_of(tape, (entry("p3", "another"), "r3.1"), (entry("p99", "new"), "r3.2"))
    after = tape.read_text().splitlines()
    assert [n for n, (a, b) in enumerate(zip(before, after, strict=False)) if a != b] == [5]
    assert len(after) == len(before) + 1
    assert '"new"' in after[-1]


def test_a_killed_recording_loses_nothing(tmp_path: Path) -> None:
    """Every answer is in the file when it is noted; the next recording puts it in order, whatever was cut off."""
    tape = tape_of(tmp_path / "tape.ndjson", (entry("old", "1"), "r1.1"), (entry("kept", "2"), "r1.2"))
    killed = Cassette(tape, "all", backend="demo")
    killed.note(entry("old", "3"), "r2.2")
    killed.note(entry("fresh", "4"), "r2.1")
    assert killed._file is not None
    killed._file._file.close()  # what the end of the process does
    with tape.open("ab") as file:
        file.write(b'{"prompt": "cut')
    replay = Cassette(tape)
    assert {p: found.entry.answer.output for p in ("old", "kept", "fresh") if (found := replay.find(request(p)))} == {
        "old": "3",
        "kept": "2",
        "fresh": "4",
    }
    assert "cut off" in replay.warnings[0]
    tape_of(tape, (entry("more", "5"), "r3.1"))
    assert Cassette(tape).warnings == []
    assert len(Cassette(tape)) == 4
    assert b"recording" not in tape.read_bytes().split(b"\n", 1)[1]


def test_new_adds_and_all_replaces(tmp_path: Path) -> None:
    """`new` keeps what the tape has and records what is asked beyond it; `all` begins a request's answers anew."""
    tape = tape_of(tmp_path / "tape.ndjson", (entry(output="1"), "r1.1"), (entry(output="2"), "r1.2"))
    more = Cassette(tape, "new", backend="demo")
    for number in range(1, 4):
        found = more.find(request(), f"r9.{number}")
        if found is None:
            more.note(entry(output="3"), f"r9.{number}")
    more.close()
    assert [e.answer.output for e in read_tape(str(tape)).entries()] == ["1", "2", "3"]
    tape_of(tape, (entry(output="4"), "r1.1"))
    assert [e.answer.output for e in read_tape(str(tape)).entries()] == ["4"]


def test_one_recording_at_a_time(tmp_path: Path) -> None:
    """A tape that is being recorded is refused to another recording, and can be replayed."""
    first = Cassette(tmp_path / "tape.ndjson", "all", backend="demo")
    with pytest.raises(CassetteError, match="recorded by another pool"):
        Cassette(tmp_path / "tape.ndjson", "all", backend="demo")
    first.note(entry(), "r1.1")
    assert len(Cassette(tmp_path / "tape.ndjson")) == 1
    first.close()
    Cassette(tmp_path / "tape.ndjson", "all", backend="demo").close()


def test_once_records_where_there_is_none_and_plays_where_there_is(tmp_path: Path) -> None:
    """The mode of tests: the first run records, the next ones replay and add nothing."""
    tape = tmp_path / "tape.ndjson"
    first = Cassette(tape, "once", backend="demo")
    assert (first.plays, first.records) == (False, True)
    first.note(entry(), "r1.1")
    first.close()
    second = Cassette(tape, "once", backend="demo")
    assert (second.plays, second.records) == (True, False)


# -- what is wrong -----------------------------------------------------------------------------------------------------

HEAD = '{"format": "claude-pool-nb tape", "version": 1, "backend": "demo"}\n'
ASKED = '{"options": "a", "profile": "prompt"}\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("hello\n", "line 1: this is no tape"),
        ('{"cells": []}\n', "line 1: this is no tape"),
        ("\x00\xff\n", "line 1: this is no tape"),
        (HEAD.replace("1", "2", 1), "line 1: the tape has format version 2.*upgrade"),
        (HEAD.replace("1", "0", 1), "line 1: the tape has format version 0.*record it anew"),
        (HEAD + ASKED + '{"prompt": "x",\n', r"line 3: no JSON \(.* at character 1\d\)"),
        (HEAD + "[]\n", "line 2: no JSON object"),
        (HEAD + '{"prompt": "x", "options": "b", "answer": {}}\n', "line 2: no line before it has the options 'b'"),
        (HEAD + ASKED + '{"options": "a", "answer": {}}\n', "line 3: there is no option 'answer'"),
        (HEAD + ASKED + '{"prompt": "x", "options": "a"}\n', "line 3: 'answer' is missing"),
        (HEAD + ASKED + '{"prompt": 3, "options": "a", "answer": {}}\n', "line 3: 'prompt' is missing or no text"),
        (HEAD + ASKED + '{"prompt": "x", "options": "a", "answer": {"cost": 1}}\n', "line 3: an answer has no 'cost'"),
        (
            HEAD + ASKED + '{"prompt": "x", "options": "a", "answer": {"output": 1}}\n',
            "line 3: 'output' is 1, which is no str",
        ),
        (
            HEAD + ASKED + '{"prompt": "x", "options": "a", "answer": {"cost_nano": -1}}\n',
            "line 3: 'cost_nano' is -1, and cannot be below 0",
        ),
        (
            HEAD + ASKED + '{"prompt": "x", "options": "a", "answer": {"failure": {"kind": "bad"}}}\n',
            "line 3: 'bad' is not a valid FailureKind",
        ),
        (
            HEAD + ASKED + '{"prompt": "x", "options": "a", "answer": {"failure": {"kind": "task"}}}\n',
            "line 3: its answer cannot be read",
        ),
        (
            HEAD + ASKED + '{"prompt": "x", "options": "a", "answer": {}, "stream": [[1, "sing"]]}\n',
            "line 3: its stream has",
        ),
        (HEAD + ASKED + '{"prompt": "x", "opt', "line 3: no JSON"),
    ],
)
def test_what_is_wrong_with_a_tape_is_told_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    """File, line and what to do; and a recording leaves such a file as it is."""
    tape = tmp_path / "tape.ndjson"
    tape.write_bytes(text.encode("latin-1"))
    with pytest.raises(CassetteError, match=message) as wrong:
        Cassette(tape)
    assert str(tape) in str(wrong.value)
    if text:
        with pytest.raises(CassetteError):
            Cassette(tape, "all", backend="demo")
    assert tape.read_bytes() == text.encode("latin-1")


def test_paths_that_cannot_be_are_refused(tmp_path: Path) -> None:
    """A missing tape, a folder, a missing folder, another backend's tape; nothing is left behind."""
    with pytest.raises(CassetteError, match="there is no tape"):
        Cassette(tmp_path / "none.ndjson")
    for mode, backend in (("none", None), ("all", "demo")):
        with pytest.raises(CassetteError, match="is a folder"):
            Cassette(tmp_path, mode, backend=backend)
    with pytest.raises(CassetteError, match="no folder"):
        Cassette(tmp_path / "no" / "tape.ndjson", "all", backend="demo")
    tape = tape_of(tmp_path / "tape.ndjson", (entry(), "r1.1"))
    with pytest.raises(CassetteError, match="holds answers of demo"):
        Cassette(tape, "new", backend="claude")
    with pytest.raises(CassetteError, match="only replays"):
        Cassette(tape, "new")
    with pytest.raises(CassetteError, match="did you mean 'none'"):
        Cassette(tape, "nome")
    Cassette(tmp_path / "empty.ndjson", "all", backend="demo").close()
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["tape.ndjson"]


def test_a_tape_that_is_moved_away_while_it_is_recorded_is_written_anyway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither another working directory nor a deleted file loses an answer; the file keeps its rights."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    cassette = Cassette("tape.ndjson", "all", backend="demo")
    Path("tape.ndjson").chmod(0o640)
    cassette.note(entry(), "r1.1")
    monkeypatch.chdir(tmp_path / "elsewhere")
    (tmp_path / "tape.ndjson").unlink()
    cassette.close()
    assert len(Cassette(tmp_path / "tape.ndjson")) == 1
    assert (tmp_path / "tape.ndjson").stat().st_mode & 0o777 == 0o640
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_disk_that_fails_loses_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that cannot be written is kept, told of, and written at the end if that is possible."""
    cassette = Cassette(tmp_path / "tape.ndjson", "all", backend="demo")
    assert cassette._file is not None

    def full(_entry: Entry) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(cassette._file, "add", full)
        cassette.note(entry(), "r1.1")
    assert cassette.trouble is not None
    assert "No space left" in cassette.trouble
    cassette.close()
    assert len(Cassette(tmp_path / "tape.ndjson")) == 1
