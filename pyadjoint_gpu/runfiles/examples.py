"""Examples that come with the package: their files, and the real data behind two of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import ConfigError, DataError, nearest

if TYPE_CHECKING:
    import xarray as xr

_DATA = {
    "wolfcamp": "wolfcamp/wolfcamp_heads.nc",
    "greenland": "greenland/greenland_96_176.nc",
}

_INSTALLED = Path(__file__).parents[1] / "_examples"
FOLDER = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parents[2] / "examples"
"""The folder of examples: in an installed package, or in a checkout."""


def load(name: str) -> xr.Dataset:
    """Real data of an example.

    Parameters
    ----------
    name : {"wolfcamp", "greenland"}
        85 heads measured in the Wolfcamp aquifer in Texas (Harper and Furr 1986), with `x`, `y` and
        ``head`` along ``observation``; or maps of Greenland's ``bed_elevation`` and
        ``ice_thickness``, 176 x 96 cells of 15.6 km (BedMachine v3, Morlighem et al. 2017). All in
        metres; the attributes say where they come from.

    Returns
    -------
    Dataset

    Raises
    ------
    ConfigError
        If there is no such example.
    """
    import xarray as xr

    if name not in _DATA:
        raise ConfigError(f"name: found {name!r}{nearest(str(name), _DATA)}")
    return xr.load_dataset(FOLDER / _DATA[name])


def names() -> list[str]:
    """The examples that `copy` knows."""
    found = {p.name if p.is_dir() else p.stem for p in FOLDER.iterdir()}
    return sorted(n for n in found if not n.startswith(("_", ".")))


def copy(name: str, folder: str | Path = ".") -> list[Path]:
    """Copy an example's files: its script, its run file, and what this reads.

    Parameters
    ----------
    name : str
        One of `names`.
    folder : path
        An existing one.

    Returns
    -------
    list of Path
        The copies.

    Raises
    ------
    ConfigError, DataError
        If there is no such example or folder, or a file is there already; nothing is copied then.
    """
    if name not in names():
        raise ConfigError(f"name: found {name!r}{nearest(str(name), names())}")
    target = Path(folder)
    if not target.is_dir():
        raise DataError(f"folder: found {str(folder)!r}, expected an existing folder")
    inside = FOLDER / name
    files = inside.iterdir() if inside.is_dir() else FOLDER.glob(f"{name}.*")
    made = {file: target / file.name for file in sorted(files) if file.is_file()}
    for path in made.values():
        if path.exists():
            raise DataError(f"{path} is there already; remove it, or copy to another folder")
    return [Path(shutil.copyfile(file, path)) for file, path in made.items()]
