"""The caller's own columns, written to the ledger and read again."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from claude_pool_nb.analysis.tables import Table, restored

NESTED = [[1, 2], [3, 4], [5, 6]]


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"text": list("abc"), "i": [1, 2, 3], "f": [1.5, np.nan, 2.0], "b": [True, False, True]}),
        pd.DataFrame({"i": pd.array([1, None, 3], dtype="Int8"), "b": pd.array([True, None, False], dtype="boolean")}),
        pd.DataFrame({"u": np.array([2**63 + 1, 2, 3], dtype="uint64"), "x": np.array([0.1, np.inf, 3], "float32")}),
        pd.DataFrame({"d": pd.to_datetime(["2024-01-01", None, "2025-01-01"]), "t": pd.to_timedelta([1, 2, 3], "h")}),
        pd.DataFrame({"k": pd.Categorical(list("aba"), categories=list("cba"), ordered=True)}),
        pd.DataFrame({"k": pd.Categorical(pd.to_datetime(["2024-01-01", "2023-01-01", "2024-01-01"]))}),
        pd.DataFrame({"mixed": [1, "a", None], "lists": NESTED, "maps": [{"a": 1}, {}, {"b": [2]}]}, index=[7, 8, 9]),
        pd.DataFrame({"objects": np.array(["a", None, "c"], dtype=object)}, dtype=object),
        pd.DataFrame({0: [1, 2, 3], ("a", "b"): [1, 2, 3], "c": [1, 2, 3], 2.5: [1, 2, 3]}),
        pd.DataFrame({"n": [1, 2, 3]}, index=pd.date_range("2024-01-01", periods=3, tz="Europe/Berlin", name="day")),
        pd.DataFrame({"n": [1, 2, 3]}, index=pd.CategoricalIndex(list("aba"))),
        pd.DataFrame(
            {"n": [1, 2, 3]},
            index=pd.MultiIndex.from_arrays([pd.date_range("2024-01-01", periods=3), list("xxy")], names=["d", None]),
        ),
        pd.DataFrame(index=pd.Index([7, 8, 9], name="key")),
    ],
    ids=lambda frame: ",".join(map(str, frame.dtypes)) or "index only",
)
def test_an_input_comes_back_from_the_ledger_as_it_was(frame: pd.DataFrame) -> None:
    """Values, types, categories, names of columns and the index are those that the caller gave."""
    table = Table(frame)
    columns, index = restored(table.inputs_json(), [json.dumps(table.meta())])
    pd.testing.assert_frame_equal(pd.DataFrame(columns, index=index, copy=False), frame, check_freq=False)


def test_arrays_in_cells_come_back_as_lists() -> None:
    """A column of embeddings rides along, whatever the template names."""
    frame = pd.DataFrame({"v": [np.array([0.5, 1.5]), np.array([[1], [2]])]})
    table = Table(frame)
    columns, _ = restored(table.inputs_json(), [json.dumps(table.meta())])
    assert list(columns["v"]) == [[0.5, 1.5], [[1], [2]]]


def test_inputs_of_different_runs_keep_their_values_side_by_side() -> None:
    """Where runs do not agree on a type, no value is bent to the type of another run."""
    tables = [
        Table(pd.DataFrame({"x": [1, 2]}, index=[1, 2])),
        Table(pd.DataFrame({"x": pd.to_datetime(["2024-01-01"])}, index=pd.date_range("2024-01-01", periods=1))),
        Table(pd.DataFrame({"x": pd.Categorical(["k"])}, index=pd.MultiIndex.from_tuples([("a", 1)]))),
    ]
    metas = [json.dumps(table.meta()) for table in tables]
    columns, index = restored([text for table in tables for text in table.inputs_json()], metas)
    assert list(columns["x"]) == [1, 2, "2024-01-01 00:00:00", "k"]
    assert index is not None
    assert index.tolist()[:3] == [1, 2, "2024-01-01 00:00:00"]
