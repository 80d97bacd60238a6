"""The environment of a CLI process that may reach one loopback server and nothing else.

Invariants: no ANTHROPIC_*, CLAUDE* or proxy variable of the caller gets through, so no real account can be
used by accident, and every file the CLI keeps lands under the given home.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

DUMMY_API_KEY = "sk-ant-api03-not-a-real-key"

_DROPPED_PREFIXES = ("ANTHROPIC_", "CLAUDE", "AWS_", "GOOGLE_", "VERTEX_", "XDG_")
_DROPPED_NAMES = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "NODE_OPTIONS"})


def _is_dropped(name: str) -> bool:
    """Whether a variable could lead the CLI to another account, server or settings folder."""
    upper = name.upper()
    return upper.startswith(_DROPPED_PREFIXES) or upper in _DROPPED_NAMES


def isolated_environment(
    home: str | os.PathLike[str],
    base_url: str,
    *,
    api_key: str = DUMMY_API_KEY,
    inherited: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return an environment in which the CLI knows only the server at ``base_url``.

    Args:
        home: The folder that becomes ``HOME``; the CLI keeps its settings and transcripts below it.
        base_url: Where the Messages API is, for example ``http://127.0.0.1:8080``.
        api_key: The key the CLI sends; the default is no real one.
        inherited: What to start from; the process's own environment by default.

    Returns:
        A new dict: everything inherited except the variables that name an account, a provider, a proxy or a
        settings folder.

    Example:
        >>> env = isolated_environment("/tmp/h", "http://127.0.0.1:1", inherited={"PATH": "/bin", "CLAUDE_X": "1"})
        >>> env["ANTHROPIC_BASE_URL"], env["HOME"], "CLAUDE_X" in env, env["PATH"]
        ('http://127.0.0.1:1', '/tmp/h', False, '/bin')
    """
    folder = Path(home)
    source = os.environ if inherited is None else inherited
    environment = {name: value for name, value in source.items() if not _is_dropped(name)}
    environment.update(
        HOME=str(folder),
        XDG_CONFIG_HOME=str(folder / ".config"),
        XDG_DATA_HOME=str(folder / ".local" / "share"),
        XDG_CACHE_HOME=str(folder / ".cache"),
        ANTHROPIC_API_KEY=api_key,
        ANTHROPIC_BASE_URL=base_url,
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
    )
    return environment


@contextmanager
def isolated_process(
    home: str | os.PathLike[str], base_url: str, *, api_key: str = DUMMY_API_KEY
) -> Iterator[dict[str, str]]:
    """Make the isolated environment this process's own for the length of a ``with`` block.

    The Agent SDK starts the CLI with this process's variables and lays its own ``env`` option over them, so a
    variable can only be taken away here. Not for use while other threads start processes.

    Args:
        home: The folder that becomes ``HOME``.
        base_url: Where the Messages API is.
        api_key: The key the CLI sends.

    Yields:
        The environment that is in force.

    Example:
        >>> import os
        >>> with isolated_process("/tmp/h", "http://127.0.0.1:1"):
        ...     os.environ["HOME"]
        '/tmp/h'
    """
    before = dict(os.environ)
    environment = isolated_environment(home, base_url, api_key=api_key)
    os.environ.clear()
    os.environ.update(environment)
    try:
        yield environment
    finally:
        os.environ.clear()
        os.environ.update(before)
