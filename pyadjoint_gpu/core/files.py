"""Files that appear whole or not at all, with a checksum that reveals later damage."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import ConfigError, DataError, shown

_SEAL = b"\nsha256 of all before: "
_LENGTH = len(_SEAL) + 64
_BLOCK = 2**20  # bytes read at a time


def path_of(name: str, given: Any) -> Path:
    """`given` as a path, or a `ConfigError` that begins with `name`."""
    try:
        return Path(given)
    except TypeError:
        raise ConfigError(f"{name}: found {shown(given)}, expected a path") from None


def check_writable(path: Path, what: str = "") -> None:
    """Raise a `DataError` that begins with `what` unless a file can be written at `path`."""
    said = f"{what}: cannot write {str(path)!r}" if what else f"{path}: cannot be written"
    if path.is_dir():
        raise DataError(f"{said}, it is a directory, expected a file")
    if not path.parent.is_dir():
        raise DataError(f"{said}, no such directory {str(path.parent)!r}")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise DataError(f"{said}: {error.strerror or error}") from None
    if path.exists() and not os.access(path, os.W_OK):
        raise DataError(f"{said}: no permission to change it")


@contextmanager
def whole(path: Path) -> Generator[Path]:
    """A temporary path beside `path`, renamed to it if the block succeeds, removed if not."""
    check_writable(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def sealed(path: Path) -> Generator[Path]:
    """`whole`, with a SHA-256 of the file appended, where readers of HDF5 do not look.

    The digest is lost when another program changes the file.
    """
    with whole(path) as beside:
        yield beside
        with beside.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        with beside.open("ab") as file:
            file.write(_SEAL + digest.encode())


def intact(path: Path) -> bool:
    """Whether the file has an appended SHA-256 (see `sealed`).

    Raises
    ------
    DataError
        If the digest does not match: the file was damaged.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END) - _LENGTH
            file.seek(max(size, 0))
            end = file.read(_LENGTH)
            if size < 0 or not end.startswith(_SEAL):
                return False
            file.seek(0)
            digest, left = hashlib.sha256(), size
            while left:
                part = file.read(min(left, _BLOCK))
                digest.update(part)
                left -= len(part)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    if digest.hexdigest().encode() != end[len(_SEAL) :]:
        raise DataError(
            f"{path}: damaged since it was written (its SHA-256 differs), nothing in it can be"
            " relied on; take it from a backup, or make it anew (overwrite=True, --overwrite)"
        )
    return True
