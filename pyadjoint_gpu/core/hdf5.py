"""HDF5 files that stay legible if the process that writes them is killed.

Datasets have their full size and place from the start: later writes change raw data only, never
HDF5's own structures. These have HDF5's checksums; raw data have those of `checksum`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from .errors import DataError
from .files import intact, whole

if TYPE_CHECKING:
    from jaxtyping import Shaped

_VERSION = ("v108", "v108")
"""Oldest and newest version of HDF5's format. Structures of older ones have no checksums; a file
of a newer one that its writer did not close does not open again."""
to_disk: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)  # macOS has fsync alone


def make(path: Path, fill: Callable[[h5py.File], None]) -> None:
    """Make a file with the content that `fill` writes into it: whole, or not at all."""
    with whole(path) as beside, h5py.File(beside, "w", libver=_VERSION) as file:
        fill(file)
        sync(file)


def opened(path: Path, what: str, mode: str = "r", **options: Any) -> h5py.File:
    """An open HDF5 file, or a `DataError`; `what` it is meant to be in messages.

    A sealed file (see `files.sealed`) is opened for reading only, because writing would break its
    seal.
    """
    if mode != "r" and path.is_file() and intact(path):
        mode = "r"
    try:
        return h5py.File(path, mode, **options)
    except BlockingIOError:
        raise DataError(f"{path}: in use by another process") from None
    except PermissionError:
        raise DataError(f"{path}: no permission to {'read' if mode == 'r' else 'write'}") from None
    except Exception as error:  # of any class where bytes were changed
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{path}: not {what}, or truncated or damaged ({reason})") from None


@contextmanager
def legible(path: Path) -> Generator[None]:
    """Raise HDF5's errors as a `DataError` that names the file."""
    try:
        yield
    except DataError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, MemoryError) as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(
            f"{path}: damaged ({reason}); take it from a backup, or make it anew (overwrite=True,"
            " --overwrite)"
        ) from None


def allocate(
    file: h5py.File,
    name: str,
    shape: tuple[int, ...],
    dtype: str,
    chunks: tuple[int, ...] | None = None,
) -> None:
    """Make a dataset whose values are not set: parts that are never written take no disk space."""
    space = h5py.h5s.create_simple(shape)
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    if chunks is not None:
        properties.set_chunk(chunks)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    properties.set_obj_track_times(False)
    kind = h5py.h5t.py_create(np.dtype(dtype))
    h5py.h5d.create(file.id, name.encode(), kind, space, properties)


def sync(file: h5py.File) -> None:
    """Wait until all that was written is on disk."""
    file.flush()
    to_disk(file.id.get_vfd_handle())


def checksum(place: tuple[int, ...], *arrays: Shaped[np.ndarray, " ..."] | bytes) -> np.uint64:
    """BLAKE2 checksum of the bits of arrays, or of bytes, and of the place where they belong."""
    digest = hashlib.blake2b(str([int(k) for k in place]).encode(), digest_size=8)
    for array in arrays:
        digest.update(array if isinstance(array, bytes) else np.ascontiguousarray(array).data)
    return np.frombuffer(digest.digest(), "<u8")[0]
