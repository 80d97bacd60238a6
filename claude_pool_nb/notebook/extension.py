"""`%load_ext claude_pool_nb` and `%unload_ext`: everything that is added to a shell is taken back.

Invariant: loading imports neither pandas, nor claude_agent_sdk, nor the ledger, nor ipywidgets. What `%pool start`
needs is imported in a thread after the cell that loaded the extension has ended; the rest comes with what needs it.
"""

from __future__ import annotations

from typing import Any

from claude_pool_nb.notebook import displays
from claude_pool_nb.notebook.call import current_pool
from claude_pool_nb.notebook.completion import PoolMatcher
from claude_pool_nb.notebook.magics import PoolMagics
from claude_pool_nb.notebook.prefetch import Prefetch
from claude_pool_nb.notebook.questions import run_questions


def load(shell: Any) -> None:
    """Add the magic, its completion and its displays; twice is once."""
    if getattr(shell, "_claude_pool_nb", None) is not None:
        return
    magics = PoolMagics(shell)
    magics.prefetch = Prefetch(shell)
    shell.register_magics(magics)
    if magics not in shell.configurables:  # IPython's own Magics adds itself, if it was given the shell
        shell.configurables.append(magics)
    matcher = PoolMatcher(magics)
    completer = getattr(shell, "Completer", None)
    if completer is not None:
        completer.custom_matchers.append(matcher.match)
    shell.input_transformers_cleanup.append(run_questions)
    displays.register(shell)
    shell._claude_pool_nb = (magics, matcher)


def unload(shell: Any) -> None:
    """Stop the current pool, and take back what was added."""
    loaded = getattr(shell, "_claude_pool_nb", None)
    if loaded is None:
        return
    magics, matcher = loaded
    magics.prefetch.unregister()
    magics.prefetch.wait()
    pool = current_pool()
    if pool is not None:
        pool.close()
    shell._claude_pool_nb = None
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop("pool", None)
    shell.magics_manager.registry.pop(type(magics).__name__, None)
    shell.configurables[:] = [one for one in shell.configurables if one is not magics]
    completer = getattr(shell, "Completer", None)
    if completer is not None and matcher.match in completer.custom_matchers:
        completer.custom_matchers.remove(matcher.match)
    if run_questions in shell.input_transformers_cleanup:
        shell.input_transformers_cleanup.remove(run_questions)
    displays.unregister(shell)
