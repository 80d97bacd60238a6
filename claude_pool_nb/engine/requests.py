"""Names of requests: two tasks whose requests have the same name may be given the same answer.

Part of the name is what decides the answer: backend and kind of money, the model that is asked (as its alias resolves),
system prompts with identity and shared context, prompt, schema, effort, max_output_tokens, which of the n samples it
is, and what in the environment decides who answers. Not part of it: slot, working directory, timeouts, budgets, tags,
priority, retries, priming, and what only tools would see.

Invariants: a request has a name only if nothing but the request decides its answer (no tools, no settings files, no
conversation) and no option of it holds a secret; a name is a hash, from which nothing can be read back.
"""

from __future__ import annotations

import binascii
import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from claude_pool_nb import pricing
from claude_pool_nb.model_names import DEFAULT_MODEL, MODEL_ALIASES, same_model
from claude_pool_nb.redact import redact
from claude_pool_nb.resolved import ResolvedConfig
from claude_pool_nb.sessions.base import BackendInfo

_NAMED = (
    "system_prompt", "appended_prompt", "preset", "schema", "effort", "max_output_tokens", "cli_path",
)  # fmt: skip
"""Options that decide the answer, beside the model."""
_ASIDE = re.compile(r"(?:^|_)(?:KEY|TOKEN|SECRET|PASSWORD)$")
_KEPT = 2_000


@dataclass(frozen=True, slots=True)
class _Known:
    """What the requests with some options have in common."""

    options: ResolvedConfig
    model: str | None
    """Which is asked; None where nobody can know, or it does not matter."""
    before: hashlib.blake2b | None
    """The beginning of their names; None if they have none."""


class Requests:
    """Names the requests of one pool.

    Example:
        >>> requests = Requests(BackendInfo("demo", play_money=True), {})
        >>> options = ResolvedConfig(model="haiku")
        >>> requests.name("hello", options, 0) == requests.name("hello", ResolvedConfig(model="demo-small"), 0)
        True
        >>> requests.name("hello", options, 0) == requests.name("hello", options, 1)
        False
        >>> requests.name("hello", ResolvedConfig(conversation="talk"), 0) is None
        True
    """

    def __init__(self, backend: BackendInfo, environ: Mapping[str, str] | None = None) -> None:
        self._backend = backend
        self._environ = dict(os.environ if environ is None else environ)  # as the sessions of this pool see it
        self._known: dict[int, _Known] = {}

    def name(self, prompt: str, options: ResolvedConfig, sample: int) -> str | None:
        """The name of a request; None if its answer must not be given to another one.

        Args:
            prompt: the text as it is sent; it holds no secret.
            options: as they hold in the slot that sends it.
            sample: which of the n samples.
        """
        before = self._of(options).before
        if before is None:
            return None
        digest = before.copy()
        digest.update(b"%d\0" % sample)
        digest.update(prompt.encode("utf-8", "surrogatepass"))
        return binascii.b2a_base64(digest.digest(), newline=False).decode()

    def answers(self, options: ResolvedConfig, model: str | None) -> bool:
        """Whether an answer of this model is one of the model that was asked: another's is not given again."""
        asked = self._of(options).model
        return model is None or asked is None or asked == model or same_model(asked, model)

    def _of(self, options: ResolvedConfig) -> _Known:
        """What requests with the same options have in common; by identity, because it is asked at every attempt."""
        known = self._known.get(id(options))
        if known is None or known.options is not options:
            if len(self._known) >= _KEPT:
                self._known.clear()
            # only these two answer with a model that could be another one
            model = self._model(options) if self._backend.name in {"claude", "demo"} else None
            known = self._known[id(options)] = _Known(options, model, self._digest(options))
        return known

    def _digest(self, options: ResolvedConfig) -> hashlib.blake2b | None:
        """A hash of what they have in common; None if they have no names."""
        if options.why_not_cached is not None:
            return None
        named = {name: getattr(options, name) for name in _NAMED}
        if any(isinstance(value, str) and redact(value) != value for value in named.values()):
            return None
        named["model"] = self._model(options)
        named["backend"] = [self._backend.name, self._backend.play_money]
        named["environment"] = self._surroundings(options)
        if options.preset:  # Claude Code's own prompt tells the model where it is
            named["cwd"] = options.cwd or os.getcwd()
        return hashlib.blake2b(json.dumps(named, sort_keys=True).encode("utf-8", "surrogatepass"), digest_size=15)

    def _model(self, options: ResolvedConfig) -> str | None:
        """The model that is asked, as its name resolves now; None where only the backend knows."""
        name = options.model
        if self._backend.name == "demo":
            return pricing.demo_model(name)
        if self._backend.name != "claude":
            return name
        environ = {**self._environ, **dict(options.env)}
        if name is None:
            name = environ.get("ANTHROPIC_MODEL") or DEFAULT_MODEL
        base = name.removesuffix("[1m]")
        resolved = environ.get(f"ANTHROPIC_DEFAULT_{base.upper()}_MODEL") or MODEL_ALIASES.get(base, base)
        return resolved + name[len(base) :]

    def _surroundings(self, options: ResolvedConfig) -> list[tuple[str, str]]:
        """What in the environment decides who answers, and how; without credentials."""
        given = {
            name: value
            for name, value in self._environ.items()
            if name.startswith(("ANTHROPIC_", "CLAUDE_CODE_USE_")) and self._backend.name == "claude"
        }
        every = {**given, **dict(options.env)}
        return sorted((name, "" if _ASIDE.search(name.upper()) else value) for name, value in every.items())
