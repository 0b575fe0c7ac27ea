"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import DataError


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; renamed to it if the block succeeds, removed if not."""
    if not path.parent.is_dir():
        raise DataError(f"{path}: no such directory {str(path.parent)!r}")
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
