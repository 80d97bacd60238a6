"""Files that a person asked for by name.

Invariants: a file is whole or not there: it is written beside its place and then moved; a file that exists is replaced
only when that was asked for; its mode is what the user's umask gives.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from claude_pool_nb.errors import ConfigError


def place(path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Where a file is to be, checked before the work.

    Args:
        path: As the user wrote it; `~` is the home.
        overwrite: Whether a file may be there.

    Raises:
        ConfigError: a file is there, or no file can be.

    Example:
        >>> place("no/such/folder/out.csv")
        Traceback (most recent call last):
        claude_pool_nb.errors.ConfigError: there is no folder no/such/folder; make it first: mkdir -p no/such/folder
    """
    if "\0" in os.fspath(path):
        raise ConfigError("a path has no null byte")
    target = Path(path).expanduser()
    if target.is_dir():
        raise ConfigError(f"{target} is a folder; name a file in it, like {target / 'answers.csv'}")
    if not target.parent.exists():
        raise ConfigError(f"there is no folder {target.parent}; make it first: mkdir -p {target.parent}")
    if not target.parent.is_dir():
        raise ConfigError(f"{target.parent} is a file, no folder; choose another path")
    if target.exists() and not overwrite:
        raise ConfigError(f"{target} exists; choose another name, or replace it with overwrite=True (magic: --force)")
    return target


def written(path: str | os.PathLike[str], write: Callable[[Any], None], *, overwrite: bool = False) -> Path:
    """Write a file at once.

    Args:
        path: Where; `~` is the home.
        write: Gets an open binary file.
        overwrite: Replace a file that exists.

    Returns:
        Where it is.

    Raises:
        ConfigError: a file is there, or no file can be; a message says what the disk said.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     written(Path(folder) / "a.txt", lambda file: file.write(b"hello")).read_text()
        'hello'
    """
    target = place(path, overwrite=overwrite)
    if target.is_symlink():
        target = target.resolve()  # what it points to is replaced, not the link
    try:
        file = tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name[:80]}.", delete=False)  # noqa: SIM115
    except OSError as error:
        raise ConfigError(f"{target} cannot be written: {error.strerror}; choose another folder") from None
    try:
        with file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(file.name, _mode(target))
        _move(file, target, overwrite=overwrite)
    except OSError as error:
        raise ConfigError(f"{target} cannot be written: {error.strerror or error}; choose another folder") from None
    finally:
        Path(file.name).unlink(missing_ok=True)
    return target


def _move(file: IO[Any] | Any, target: Path, *, overwrite: bool) -> None:
    """Put a finished file in its place; one that came there meanwhile is kept."""
    if overwrite:
        os.replace(file.name, target)
        return
    try:
        os.link(file.name, target)
    except FileExistsError:
        raise ConfigError(f"{target} came into being meanwhile; choose another name") from None
    except OSError:  # a file system without links
        os.replace(file.name, target)


def _mode(target: Path) -> int:
    """What a file opened there would have."""
    if target.exists():
        return target.stat().st_mode & 0o777
    umask = os.umask(0)
    os.umask(umask)
    return 0o666 & ~umask
