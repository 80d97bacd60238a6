"""The way from a pool to its live view, which belongs to a layer above this one.

The package itself, which knows all layers, says how a view is made; whoever needs one asks here. So a pool can show
itself live without knowing IPython or ipywidgets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_makers: list[Callable[[Any], Any]] = []


def provide(maker: Callable[[Any], Any]) -> None:
    """Say how the live view of a pool is made.

    Example:
        >>> before = _makers[:]
        >>> provide(lambda pool: f"a view of {pool}")
        >>> live_view("p1")
        'a view of p1'
        >>> _makers[:] = before
    """
    _makers[:] = [maker]


def live_view(pool: Any) -> Any:
    """Make the live view of a pool.

    Example:
        >>> from claude_pool_nb import Pool
        >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
        ...     view = live_view(pool)
        ...     view.stop()
        >>> type(view).__name__
        'PoolWatch'
    """
    return _makers[0](pool)
