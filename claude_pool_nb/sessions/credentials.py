"""Whether the CLI will find an account to work with, and of what kind; nothing secret is kept or returned."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from claude_pool_nb.config import ResolvedConfig
from claude_pool_nb.errors import MissingCredentials

CLOUDS = {
    "CLAUDE_CODE_USE_BEDROCK": "Amazon Bedrock",
    "CLAUDE_CODE_USE_VERTEX": "Google Vertex AI",
    "CLAUDE_CODE_USE_FOUNDRY": "Microsoft Foundry",
    "CLAUDE_CODE_USE_MANTLE": "Amazon Bedrock",
}
"""Variables that send the CLI to a cloud, whose own credentials then count."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What account the CLI will use."""

    source: str
    """Where they were found, for a person."""
    subscription: bool = False
    """True for a subscription's login: nothing is billed by the token, and dollars are notional."""


def find_credentials(options: ResolvedConfig, env: Mapping[str, str] | None = None) -> Credentials:
    """Find what the CLI will log in with, in the order in which it looks.

    Raises:
        MissingCredentials: there is nothing.

    Example:
        >>> find_credentials(ResolvedConfig(), {"ANTHROPIC_API_KEY": "sk-..."}).source
        'ANTHROPIC_API_KEY'
    """
    source = {**(os.environ if env is None else env), **dict(options.env)}
    for name, cloud in CLOUDS.items():
        if source.get(name, "").lower() not in {"", "0", "false"}:
            return Credentials(f"{cloud} ({name})")
    for name in ("ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_API_KEY"):
        if source.get(name):
            return Credentials(name)
    if _helper(options, source):
        return Credentials("apiKeyHelper of a settings file")
    if source.get("CLAUDE_CODE_OAUTH_TOKEN"):
        return Credentials("CLAUDE_CODE_OAUTH_TOKEN", subscription=True)
    folder = _config_folder(source)
    stored = _read(folder / ".credentials.json")
    if stored.get("claudeAiOauth"):
        return Credentials("the login of `claude`", subscription=True)
    if stored:
        return Credentials("the login of `claude`")
    state = _read(Path(source.get("CLAUDE_CONFIG_DIR") or Path(_home(source))) / ".claude.json")
    if state.get("primaryApiKey"):
        return Credentials("the key kept by `claude`")
    if sys.platform == "darwin" and state.get("oauthAccount"):
        # On macOS the token itself is in the keychain, which is not opened here.
        return Credentials("the login of `claude`", subscription=True)
    raise MissingCredentials


def _helper(options: ResolvedConfig, env: Mapping[str, str]) -> bool:
    """Whether a settings file that will be read names a program that makes keys."""
    folder = Path(options.cwd or os.getcwd()) / ".claude"
    places = {
        "user": _config_folder(env) / "settings.json",
        "project": folder / "settings.json",
        "local": folder / "settings.local.json",
    }
    return any(_read(places[name]).get("apiKeyHelper") for name in options.setting_sources if name in places)


def _home(env: Mapping[str, str]) -> str:
    """The home that the CLI sees."""
    return env.get("HOME") or str(Path.home())


def _config_folder(env: Mapping[str, str]) -> Path:
    """Where the CLI keeps its settings."""
    return Path(env.get("CLAUDE_CONFIG_DIR") or Path(_home(env)) / ".claude")


def _read(path: Path) -> dict[str, Any]:
    """A JSON object of a file; empty where there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
