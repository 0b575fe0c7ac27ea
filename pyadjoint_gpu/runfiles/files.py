"""Files of a run: the run file itself, with its overrides, and the data that it names."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from ..core.errors import ConfigError, DataError, nearest
from ..core.files import intact


def parse(path: str | Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """The tables of a run file of any kind, as they stand there, with `overrides` (a.b=value)."""
    path = Path(path)
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from None
    for override in overrides:
        _override(tables, override)
    return tables


def load_model(tables: dict[str, Any], base: Path) -> dict[str, Any]:
    """Tables in which DataArrays replace "file.nc:variable" of the grid and the model."""
    out = dict(tables)
    sides = tables["model"].get("fixed_pressure")
    if isinstance(sides, Mapping):
        loaded = fields(sides, base, "model.fixed_pressure")
        out["model"] = tables["model"] | {"fixed_pressure": loaded}
    if "like" in tables["grid"]:
        out["grid"] = {"like": field(tables["grid"]["like"], base, "grid.like")}
    return out


def fields(table: Mapping[str, Any], base: Path, where: str) -> dict[str, Any]:
    """A table in which DataArrays replace "file.nc:variable"."""
    return {k: field(v, base, f"{where}.{k}") for k, v in table.items()}


def field(value: Any, base: Path, where: str) -> Any:
    """The DataArray of "file.nc:variable"; other values than texts are returned as they are."""
    if not isinstance(value, str):
        return value
    file, variable = reference(value)
    if not variable:
        raise ConfigError(f"{where}: found {value!r}, expected a number or 'file.nc:variable'")
    data = open_dataset(base / file, where)
    if variable not in data:
        raise DataError(
            f"{where}: no variable {variable!r} in {file}{nearest(variable, map(str, data))}"
        )
    return data[variable]


def reference(text: str) -> tuple[str, str]:
    """The file and the variable of "file.nc:variable"; the latter "" where none is given."""
    file, _, variable = text.rpartition(":")
    return (file, variable) if file else (text, "")


def open_dataset(path: Path, where: str) -> xr.Dataset:
    """A NetCDF file in memory, or a `DataError` that begins with `where`."""
    if not path.is_file():
        raise DataError(f"{where}: no file {path}")
    try:
        intact(path)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    try:
        with xr.open_dataset(path, decode_times=False) as data:
            return data.load()
    except Exception as error:  # xarray's backends raise all kinds
        reason = str(error).splitlines()[0][:120]
        raise DataError(f"{where}: {path} is not a NetCDF file, or truncated ({reason})") from None


def _override(tables: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    path = [p.strip() for p in key.split(".")]
    if not equals or not all(path):
        raise ConfigError(f"--set {text!r}: expected a.b=value")
    try:
        parsed = tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    node = tables
    for part in path[:-1]:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise ConfigError(f"--set {text!r}: {part!r} is not a table")
    node[path[-1]] = parsed
