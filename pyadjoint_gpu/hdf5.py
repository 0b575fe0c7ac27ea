"""Datasets to which writing is safe: of full size and in their place from the start, so that what
is written later changes raw data only, never HDF5's own structures."""

from __future__ import annotations

import os
from typing import Any

import h5py
import numpy as np


def allocate(
    file: Any, name: str, shape: tuple[int, ...], kind: str, chunks: tuple[int, ...] | None = None
) -> None:
    """Such a dataset, its values not set. Sparse: what is never written takes no disk."""
    space = h5py.h5s.create_simple(shape) if shape else h5py.h5s.create(h5py.h5s.SCALAR)
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    if chunks is not None:
        properties.set_chunk(chunks)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    kind_of = h5py.h5t.py_create(np.dtype(kind))
    h5py.h5d.create(file.id, name.encode(), kind_of, space, properties)


def sync(file: Any) -> None:
    """What was written, on disk."""
    file.flush()
    os.fsync(file.id.get_vfd_handle())
