"""Running tasks again, as the blocking pool does it.

Invariants: what is wrong with a call is raised in the caller's thread before the loop is asked for anything; an
interrupt that comes while tasks are reopened stops them, as it does for a run that was just made.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from claude_pool_nb.aio import AsyncPool
    from claude_pool_nb.handles import Run, Task
    from claude_pool_nb.reopening import Again

T = TypeVar("T")


class PoolReopening:
    """The verbs of `Pool` that run tasks again."""

    aio: AsyncPool
    """The pool behind it."""

    @abstractmethod
    def _call(self, coro: Coroutine[Any, Any, T], *, then_waits: bool = False) -> T:
        """Run a verb on the pool's loop."""

    @abstractmethod
    def wait(self, what: Run | Task | None = None, timeout_s: float | None = None) -> None:
        """Wait for a run."""

    def retry(
        self,
        run: str | Run | None = None,
        *,
        state: str | Iterable[str] | None = None,
        rows: Any = None,
        template: str | None = None,
        variables: Mapping[str, Any] | None = None,
        wait: bool = True,
        **overrides: Any,
    ) -> Run:
        """Try tasks of a run again: those that failed, or those of your choice; each keeps its id and row.

        The frame of the run shows the new answers, `attempts` is counted up, and what the attempts so far gave and
        cost stays in `attempts()`. It always asks anew, also where a run was made with `cache=True`.

        Args:
            run: The run; None for the last one.
            state: failed (the default), cancelled, interrupted, completed, incomplete (the first three) or all; also
                several. With `rows` it is those of them that are in `state`; without it, whatever their state.
            rows: Which rows: a mask, positions, a part of the frame, or an expression over its columns such as
                `"out_score < 3"`.
            template: A new template, rendered over the same inputs: the row's columns, its grid values, and `prompt`,
                `output` and `error` as they are now.
            variables: More names for the template and, written `@name`, for the expression; not kept with a run.
            wait: Return when they are final.
            **overrides: Options that take the place of the tasks' own, such as `max_output_tokens=2000`.

        Raises:
            RunNotFound: there is no such run.
            ConfigError: something of this cannot be; nothing was changed and nothing spent.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     run = pool.fan_out(["What is 6 * 7?", "What is 2 + 2?"])
            ...     again = pool.retry(run, rows=run.frame["output"] == "4", template="What is 20 + 3?")
            ...     again.frame[["output", "attempts"]].values.tolist()
            [['42', 1], ['23', 2]]
        """
        planned = self.aio.planned(run, state=state, rows=rows, template=template, variables=variables, **overrides)
        return self.reopen(planned, wait=wait)

    def reopen(self, again: Again, *, wait: bool = True) -> Run:
        """Run what `aio.planned` or `aio.planned_resume` has planned: a retry that can be looked at before it spends.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     run = pool.fan_out(["a poem", "a limerick"])
            ...     again = pool.aio.planned(run, rows=[0])
            ...     again.prompts, pool.reopen(again).frame["attempts"].tolist()
            (('a poem',), [2, 1])
        """
        run = self._call(self.aio.reopen(again, wait=False), then_waits=wait)
        if wait:
            self.wait(run)
        return run

    def resume(self, run: str | Run | None = None, *, cancelled: bool = False, wait: bool = True) -> Run:
        """Run what was interrupted (and, if asked, cancelled) of a run, also of a kernel that died.

        Example:
            >>> from claude_pool_nb import Pool
            >>> with Pool(backend="demo", demo_latency_s=0, store=":memory:") as pool:
            ...     pool.pause()
            ...     run = pool.fan_out(["a poem"], wait=False)
            ...     run.interrupt()
            ...     pool.unpause()
            ...     pool.wait(run)
            ...     before = str(pool.get_task("r1.1").state)
            ...     before, pool.resume("r1").counts()
            ('interrupted', {'completed': 1})
        """
        return self.reopen(self.aio.planned_resume(run, cancelled=cancelled), wait=wait)
