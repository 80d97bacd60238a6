"""Frames of tasks as they are shown: a frame has thirty-four columns, and pandas hides just the answers.

Invariants: only what is shown is chosen, the frame holds everything; what is made from it (a head, a selection of rows)
is shown the same way; a frame that has lost the columns of a task, or has few, is shown as pandas shows it. Dollars are
never typeset as formulas.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

FEW_COLUMNS = 14
"""A frame with no more columns than this is shown whole."""
_MARKS = {"task_id", "prompt", "output", "state"}
_IF_ANY = ("failure_kind", "error")


def answers_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """The same frame, which shows the columns that say most.

    Example:
        >>> from claude_pool_nb import Pool
        >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
        ...     frame = answers_frame(pool.fan_out(["What is 6 * 7?"]).frame)
        >>> shown_columns(frame)
        ['task_id', 'state', 'prompt', 'output', 'model', 'cost_usd', 'duration_s']
        >>> type(frame.head()) is type(frame), len(frame.columns)
        (True, 34)
    """
    shown = _class()(frame)
    shown.attrs.update(frame.attrs)
    return shown  # type: ignore[no-any-return]


def shown_columns(frame: pd.DataFrame) -> list[str]:
    """The columns of a frame of tasks that are shown: the caller's own, what was asked and answered, and its price."""
    from claude_pool_nb.analysis.task_frames import TASK_COLUMNS

    names = list(frame.columns)
    own = [name for name in names if name not in TASK_COLUMNS and not str(name).startswith("out_")]
    fields = [name for name in names if str(name).startswith("out_")]
    asked = [] if own else ["prompt"]
    models = frame["model"].nunique() if "model" in names else 0
    # Rows that nobody has answered yet are told apart by the model that was asked.
    requested = "requested_model" in names and frame["requested_model"].nunique() > 1 and frame["model"].isna().any()
    wanted = [
        "task_id",
        *own,
        *(["requested_model"] if requested else []),
        *(["sample"] if "sample" in names and frame["sample"].nunique() > 1 else []),
        "state",
        *asked,
        *(fields or ["output"]),
        *(name for name in _IF_ANY if name in names and frame[name].notna().any()),
        *(["model"] if models else []),
        "cost_usd",
        "duration_s",
    ]
    return [name for name in wanted if name in names]


@lru_cache(maxsize=1)
def _class() -> Any:
    """The class, made when first needed: importing pandas takes its time."""
    import pandas as pd

    class AnswersFrame(pd.DataFrame):
        """A DataFrame of tasks that shows the columns which say most."""

        @property
        def _constructor(self) -> Any:
            return AnswersFrame

        def __repr__(self) -> str:
            return f"{_chosen(self)!r}{_note(self, chr(10) * 2)}"

        def _repr_html_(self) -> str:
            with pd.option_context("display.html.use_mathjax", False):
                html: str = _chosen(self)._repr_html_() or ""  # type: ignore[operator]
            if "mathjax_ignore" not in html:  # pandas 2 names the class that JupyterLab's MathJax no longer heeds
                html = html.replace("tex2jax_ignore", "tex2jax_ignore mathjax_ignore", 1)
            return f"{html}{_note(self, '<p>', '</p>')}"

        def __reduce_ex__(self, protocol: Any) -> Any:
            return pd.DataFrame, (), pd.DataFrame(self).__getstate__()

    return AnswersFrame


def _is_of_tasks(frame: pd.DataFrame) -> bool:
    return frame.columns.is_unique and len(frame.columns) > FEW_COLUMNS and set(frame.columns) >= _MARKS


def _chosen(frame: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    whole = pd.DataFrame(frame)
    return whole[shown_columns(whole)] if _is_of_tasks(whole) else whole


def _note(frame: pd.DataFrame, before: str, after: str = "") -> str:
    """How many columns there are beside those shown."""
    if not _is_of_tasks(frame):
        return ""
    hidden = len(frame.columns) - len(shown_columns(frame))
    return f"{before}{hidden} more columns: see .columns{after}"
