"""Which prompts count as of one kind."""

from __future__ import annotations

import pytest

from claude_pool_nb.analysis.likeness import between_tasks_s, frame_of, is_alike, model_key
from claude_pool_nb.store.settled import SettledTask

REVIEWS = [f"Classify this review as positive or negative: the {thing} was fine" for thing in ("food", "room", "bed")]


@pytest.mark.parametrize(
    ("others", "alike"),
    [
        (REVIEWS[:1], True),
        (["Classify this review as positive or negative: we will never come back here"] * 2, False),
        (
            [
                "Classify this review as positive or negative: we will never come back",
                "Classify this review as positive or negative: lovely people",
                "Classify this review as positive or negative: what a place, the best",
            ],
            True,
        ),
        (["Translate this review to French: the food was fine", "Translate this review to French: lovely"], False),
        (["write a poem", "write an essay"], False),
    ],
)
def test_prompts_of_the_same_make(others: list[str], alike: bool) -> None:
    """The same words around other values, or the same prompts; other instructions are another kind."""
    heads = ["Classify this review as positive or negative: " + text for text in ("good", "bad", "so so", "the end")]
    mine = [*heads, *REVIEWS]
    assert is_alike(mine, frame_of(mine), others) is alike


def test_texts_with_nothing_in_common_are_not_alike() -> None:
    """No words are shared, so nothing says that they are of one kind."""
    texts = ["a b c", "d e f", "g h i"]
    assert frame_of(texts) == frozenset()
    assert not is_alike(texts, frame_of(texts), ["k l m", "n o p"])


def test_names_of_one_model() -> None:
    """Alias, id and default are one; an unknown name is itself."""
    assert model_key("opus", "claude") == model_key(None, "claude")
    assert model_key("claude-nobody-knows-9", "claude") == "claude-nobody-knows-9"
    assert model_key("haiku", "demo") != model_key("sonnet", "demo")


def test_a_slot_is_held_until_it_is_clean_again() -> None:
    """What passes between two tasks of a slot counts; the one long pause of the pool does not."""

    def task(slot: str, begun: float, ended: float) -> SettledTask:
        return SettledTask(1, "prompt", None, "{}", 10, 10, 1, 1, 1, ended - begun, slot, begun, ended)

    times = [(0.0, 1.0), (1.25, 2.0), (2.25, 3.0), (603.0, 604.0), (604.25, 605.0)]
    rows = [task("s1", *both) for both in times] + [task("s2", 0.5, 1.5)]
    assert between_tasks_s(rows) == pytest.approx(0.25)
    assert between_tasks_s(rows[-1:]) == 0.0
