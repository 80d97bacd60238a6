"""What is searched for is found, whether the index has it or not."""

from __future__ import annotations

from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from sqlalchemy import text

from claude_pool_nb import events as ev
from claude_pool_nb.errors import StoreFull
from claude_pool_nb.records import AttemptState, RunState, TurnResult
from claude_pool_nb.store import search
from claude_pool_nb.store.ledger import Ledger
from claude_pool_nb.store.search import find_tasks

from .conftest import Writes, writes_into

TEXTS = (
    "The borrow checker of Rust",
    "rusty nails, borrowed; a CHECKER",
    "Überraschung: naïve café",
    "snake_case and kebab-case (3.14)",
    "私は東京に住んでいます",
    "a -> b, 100% -> c",
    "foo(bar) \"quoted\" 'text' * AND OR NEAR",
)

CASES = (
    ("rust", [1, 2]),
    ("RUST checker", [1, 2]),
    ("checker the rust", [1]),
    ('"borrow checker"', [1]),
    ('"rust"', [1]),
    ('"checker borrow"', []),
    ("orrow", []),
    ("überr", [3]),
    ("ÜBERRASCHUNG café", [3]),
    ("snake_ca", [4]),
    ("snake case", [4]),
    ("3.14", [4]),
    ("東京", [5]),
    ("->", [6]),
    ("100%", [6]),
    ("0%", [6]),
    ("foo bar", [7]),
    ("%", [6]),
    ("NEAR OR", [7]),
    ("foo(bar)", [7]),
    ("*", [7]),
    ('"', []),
    ("   ", []),
    ("nothing", []),
)
"""What is looked for, and which of the texts have it."""


def asked(writes: Writes, texts: tuple[str, ...] = TEXTS) -> str:
    """A run that was asked one half of each text and answered the other."""
    run = writes.accept([one[: len(one) // 2] + "|" for one in texts])
    for number, one in enumerate(texts, 1):
        writes.start(f"{run}.{number}")
        writes.finish(f"{run}.{number}", output=one)
    return run


@pytest.mark.parametrize("how", ["indexed", "half indexed", "not indexed", "no index"])
def test_words_are_found(how: str, ledger: Ledger, writes: Writes, monkeypatch: pytest.MonkeyPatch) -> None:
    """All words, in any order, whatever their case, at the beginning of words; phrases; signs anywhere."""
    run = int(asked(writes)[1:])
    monkeypatch.setattr(search, "PART", 3)
    if how == "no index":
        monkeypatch.setattr(search, "_has_fts5", lambda _connection: False)
    elif how == "half indexed":
        monkeypatch.setattr(search, "INDEX_S", 0.0)
    elif how == "not indexed":
        monkeypatch.setattr(search, "_take_new", lambda _ledger: None)
    for _ in range(2):
        for query, found in CASES:
            assert find_tasks(ledger, query) == [(run, number) for number in found], query


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.text(st.sampled_from("aAbB_é- .東ß\u0301"), max_size=12), min_size=1, max_size=5),
    query=st.text(st.sampled_from('aAb_é- "東'), max_size=6),
)
def test_the_index_finds_what_reading_finds(texts: list[str], query: str) -> None:
    """For any texts and words the index gives what looking through the texts gives."""
    with Ledger.open(":memory:") as ledger:
        asked(writes_into(ledger), tuple(one or "x" for one in texts))
        by_index = find_tasks(ledger, query)
        ledger.transact(search.drop_index)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(search, "_has_fts5", lambda _connection: False)
            assert find_tasks(ledger, query) == by_index


def test_what_changed_is_found_as_it_is_now(ledger: Ledger, writes: Writes) -> None:
    """A task that was asked anew is found by its new prompt and answer, and no longer by the old ones."""
    run = writes.accept(["old prompt", "another"])
    key = (int(run[1:]), 1)
    assert find_tasks(ledger, "old") == [key]
    writes.start(f"{run}.1")
    writes.finish(f"{run}.1", output="first answer")
    assert find_tasks(ledger, "first old") == [key]
    writes(ev.TaskReopened(1.0, f"{run}.1", prompt="new prompt"))
    assert find_tasks(ledger, "new") == [key]
    assert find_tasks(ledger, "old") == []
    writes.start(f"{run}.1", 2)
    writes.finish(f"{run}.1", 2, output="second answer")
    assert find_tasks(ledger, "second new") == [key]
    assert find_tasks(ledger, "first") == []


def test_the_newest_are_kept(ledger: Ledger, writes: Writes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit keeps the latest matches, of the index and of the rest together, oldest first; so does an instant."""
    runs = [int(asked(writes)[1:]) for _ in range(2)]
    find_tasks(ledger, "rust")
    monkeypatch.setattr(search, "_take_new", lambda _ledger: None)
    writes.now = 2000.0
    last = int(asked(writes)[1:])
    assert find_tasks(ledger, "rust", limit=3) == [(runs[1], 2), (last, 1), (last, 2)]
    assert find_tasks(ledger, "rust", since_at=1500.0) == [(last, 1), (last, 2)]
    assert len(find_tasks(ledger, "rust")) == 6


def test_a_pruned_task_leaves_no_word_behind(tmp_path: Path) -> None:
    """After a prune nothing of the deleted texts is in the file's tables, and what is left is found."""
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        writes = writes_into(ledger)
        run = asked(writes, ("secretword",))
        writes(ev.RunChanged(1001.0, run, RunState.COMPLETED))
        kept = asked(writes, ("otherword",))
        assert len(find_tasks(ledger, "secretword")) == 1
        ledger.prune(2000.0)
        with ledger.reading() as connection:
            names = connection.execute(text("SELECT name FROM sqlite_master WHERE name LIKE 'search%'")).all()
        assert names == []
        assert find_tasks(ledger, "secretword") == []
        assert find_tasks(ledger, "otherword") == [(int(kept[1:]), 1)]


def test_a_full_disk_keeps_nobody_from_looking(ledger: Ledger, writes: Writes, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the index cannot be written the texts are looked through, and other writes go on."""

    def full(*_: object, **__: object) -> None:
        raise StoreFull

    run = int(asked(writes)[1:])
    monkeypatch.setattr(search, "_take", full)
    assert find_tasks(ledger, "rust") == [(run, 1), (run, 2)]
    assert writes.accept(["rust"]) == f"r{run + 1}"


def test_read_only_and_across_processes(tmp_path: Path) -> None:
    """A ledger that is only looked at is searched too, and an index is shared by all who write to it."""
    path = tmp_path / "ledger.sqlite"
    with Ledger.open(path) as one, Ledger.open(path) as other:
        run = int(asked(writes_into(one))[1:])
        assert find_tasks(other, "rust") == [(run, 1), (run, 2)]
        later = int(asked(writes_into(other))[1:])
        assert find_tasks(one, "rust", limit=2) == [(later, 1), (later, 2)]
    with Ledger.open(path, read_only=True) as ledger:
        assert len(find_tasks(ledger, "rust")) == 4


def test_a_running_answer_is_found_when_it_is_there(ledger: Ledger, writes: Writes) -> None:
    """What has not ended is found by its prompt, afterwards by its answer."""
    run = writes.accept(["waiting words"])
    writes.start(f"{run}.1")
    assert len(find_tasks(ledger, "waiting")) == 1
    result = TurnResult(output="late words")
    writes(ev.AttemptEnded(1.0, f"{run}.1", 1, AttemptState.COMPLETED, result), ev.TaskCompleted(1.0, f"{run}.1"))
    assert len(find_tasks(ledger, "late")) == 1
