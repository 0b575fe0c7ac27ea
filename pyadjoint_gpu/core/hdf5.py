"""Files of HDF5 to which writing is safe: datasets are of full size and in their place from the
start, so that what is written later changes raw data only, never HDF5's own structures. These have
checksums of HDF5's; raw data have those of `checksum`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from .errors import DataError
from .files import intact, whole

_VERSION = ("v108", "v108")
"""Of HDF5's format. Structures of an older one have no checksums; a file of a newer one that its
writer did not close does not open again."""
to_disk: Callable[[int], None] = getattr(os, "fdatasync", os.fsync)  # macOS has the latter alone


def make(path: Path, fill: Callable[[Any], None]) -> None:
    """A new file, whole or not at all."""
    with whole(path) as beside, h5py.File(beside, "w", libver=_VERSION) as file:
        fill(file)
        sync(file)


def opened(path: Path, what: str, mode: str = "r", **options: Any) -> Any:
    """An existing file; `what` it is meant to be. One with a seal is only read: writing takes it.

    Raises
    ------
    DataError
        If it cannot be opened.
    """
    if mode != "r" and path.is_file() and intact(path):
        mode = "r"
    try:
        # h5py's types do not tell groups from datasets.
        return h5py.File(path, mode, **options)
    except BlockingIOError:
        raise DataError(f"{path}: in use by another process") from None
    except PermissionError:
        raise DataError(f"{path}: no permission to {'read' if mode == 'r' else 'write'}") from None
    except Exception as error:  # HDF5's are of all kinds where bytes were changed
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{path}: not {what}, or truncated or damaged ({reason})") from None


@contextmanager
def legible(path: Path) -> Iterator[None]:
    """Errors of HDF5 as a `DataError` that names the file."""
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
    file: Any, name: str, shape: tuple[int, ...], kind: str, chunks: tuple[int, ...] | None = None
) -> None:
    """Such a dataset, its values not set. Sparse: what is never written takes no disk."""
    space = h5py.h5s.create_simple(shape)
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    if chunks is not None:
        properties.set_chunk(chunks)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    properties.set_obj_track_times(False)
    kind_of = h5py.h5t.py_create(np.dtype(kind))
    h5py.h5d.create(file.id, name.encode(), kind_of, space, properties)


def sync(file: Any) -> None:
    """What was written, on disk."""
    file.flush()
    to_disk(file.id.get_vfd_handle())


def checksum(place: tuple[int, ...], *arrays: Any) -> np.uint64:
    """Of the bits of arrays of numbers, or of bytes, and of where they belong."""
    digest = hashlib.blake2b(str([int(k) for k in place]).encode(), digest_size=8)
    for array in arrays:
        digest.update(array if isinstance(array, bytes) else np.ascontiguousarray(array).data)
    return np.frombuffer(digest.digest(), "<u8")[0]
