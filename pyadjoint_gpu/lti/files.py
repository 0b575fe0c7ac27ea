"""Files with block columns and inversions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ..core.errors import DataError
from ..core.files import intact, path_of

T = TypeVar("T")


def read_netcdf(path: str | Path, read: Callable[[Path], T]) -> T:
    """The result of `read`, which opens a NetCDF-4 file, or another HDF5 file, by its path; a
    `DataError` if the file is missing, truncated, or no HDF5 file."""
    path = path_of("path", path)
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    intact(path)
    try:
        return read(path)
    except Exception as error:  # h5netcdf raises all kinds
        reason = str(error).splitlines()[0][:120]
        raise DataError(f"{path}: not an HDF5 file, or truncated ({reason})") from None
