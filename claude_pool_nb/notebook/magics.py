"""`%pool` and `%%pool`: the line is read, its verb is found, and what the verb gives is handed back.

Invariants: a wrong line is a `UsageError` and does nothing; every failure at run time is a real exception, so that
Run All and continuous integration stop; defaults come from the settings, and `%config PoolMagics` changes them by name
or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, magics_class, needs_local_scope, no_var_expand
from traitlets import Bool, Enum, Float, Int, Unicode, default
from traitlets.config import Config, Configurable

from claude_pool_nb.notebook.call import Call, below_ours
from claude_pool_nb.notebook.live.mode import MODES
from claude_pool_nb.notebook.parser import Line, VerbParser, did_you_mean
from claude_pool_nb.notebook.prefetch import Prefetch
from claude_pool_nb.notebook.verbs import VERBS, Verb, add_common_options, module_of, overview
from claude_pool_nb.records import BACKENDS


@magics_class
class PoolMagics(Magics):
    """A pool of Claude sessions; these are the defaults of `%pool start` and of the live view."""

    slots = Int(min=1, help="Slots of a new pool.").tag(config=True)
    profile = Enum(["prompt", "agent"], help="Session options of a new pool.").tag(config=True)
    model = Unicode(None, allow_none=True, help="Model of a new pool; None for the CLI's default.").tag(config=True)
    budget_usd = Float(None, allow_none=True, help="Budget of a new pool in dollars; None for no limit.").tag(
        config=True
    )
    strict_budget = Bool(help="Reserve the worst case for every task.").tag(config=True)
    backend = Enum(
        BACKENDS,
        help="Who answers: claude, demo (offline, play money) or replay (a tape).",
    ).tag(config=True)
    store = Unicode(None, allow_none=True, help="Path or URL of the ledger; None for the user's own.").tag(config=True)
    live = Enum(MODES, help="How the progress of a waiting cell is shown.").tag(config=True)

    def __init__(self, shell: Any) -> None:
        config = getattr(shell, "config", None) or Config()
        _refuse_unknown(type(self), config)
        # As Magics does, but with the shell's configuration.
        Configurable.__init__(self, config=config)
        Magics.__init__(self, shell=shell, config=config)
        self.host: Any = shell
        """The shell, which is always there."""
        self.started_with: Mapping[str, Any] | None = None
        """What `%pool start` was last told, to know the same line again."""
        self.prefetch: Prefetch | None = None
        """Imports in the background; set by `%load_ext`."""
        self._parsers: dict[str, VerbParser] = {}

    # -- defaults ------------------------------------------------------------------------------------------------------

    def _setting(self, name: str) -> Any:
        from claude_pool_nb.settings import load_settings

        return getattr(load_settings(), name)

    @default("slots")
    def _default_slots(self) -> Any:
        return self._setting("slots")

    @default("profile")
    def _default_profile(self) -> Any:
        return self._setting("profile")

    @default("model")
    def _default_model(self) -> Any:
        return self._setting("model")

    @default("budget_usd")
    def _default_budget_usd(self) -> Any:
        return self._setting("budget_usd")

    @default("strict_budget")
    def _default_strict_budget(self) -> Any:
        return bool(self._setting("strict_budget"))

    @default("backend")
    def _default_backend(self) -> Any:
        return self._setting("backend")

    @default("store")
    def _default_store(self) -> Any:
        store = self._setting("store")
        return None if store is None else str(store)

    @default("live")
    def _default_live(self) -> Any:
        return self._setting("live")

    def update_config(self, config: Config) -> None:
        """What `%config PoolMagics.name = value` calls; a name that does not exist changes nothing."""
        _refuse_unknown(type(self), config)
        super().update_config(config)

    # -- the magic -----------------------------------------------------------------------------------------------------

    @no_var_expand
    @needs_local_scope
    @line_cell_magic
    def pool(self, line: str, cell: str | None = None, local_ns: Mapping[str, Any] | None = None) -> Any:
        """Replaced below by the overview of all verbs, which `%pool?` shows."""
        if self.prefetch is not None:
            self.prefetch.wait()
        parts = Line.of(line)
        verb = find_verb(parts.verb)
        parser = self.parser(verb.name)
        # The last line end of a cell belongs to the cell, not to what is written in it.
        body = cell if cell is None else cell.removesuffix("\n")
        args = parser.read(parts.rest, body)
        call = Call(self, parser, args, cell=body, local_ns=local_ns or {})
        try:
            return call.keep(module_of(verb).run(call))
        except Exception as error:  # noqa: BLE001 - it goes on, with another traceback
            __tracebackhide__ = True  # of this frame, which IPython then leaves out
            raise error.with_traceback(below_ours(error.__traceback__))  # noqa: B904 - the same error

    pool.__doc__ = overview()

    def parser(self, verb: str) -> VerbParser:
        """The parser of a verb, made once."""
        if verb not in self._parsers:
            parser = module_of(VERBS[verb]).parser()
            add_common_options(parser)
            self._parsers[verb] = parser
        return self._parsers[verb]


def find_verb(name: str) -> Verb:
    """The verb of that name.

    Raises:
        UsageError: if there is none; names the nearest.

    Example:
        >>> find_verb("run").name
        'run'
    """
    if not name:
        raise UsageError("%pool needs a verb, like %pool start or %pool run PROMPT (see %pool help)")
    verb = VERBS.get(name.replace("-", "_"))
    if verb is None:
        raise UsageError(f"%pool: there is no verb {name!r}{did_you_mean(name, VERBS)} (see %pool help)")
    return verb


def _refuse_unknown(cls: type[PoolMagics], config: Config) -> None:
    """An unknown setting of `PoolMagics` is an error that names the right one."""
    known = cls.class_trait_names(config=True)
    for name in config.get(cls.__name__, {}):
        if name not in known:
            raise UsageError(f"PoolMagics has no setting {name!r}{did_you_mean(name, known)}")
