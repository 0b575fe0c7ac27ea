"""Files of a run: the run file itself, with what overrides it, and the data that it names."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xarray as xr

from ..core.errors import ConfigError, DataError, nearest
from ..core.files import intact


def parse(path: str | Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """The tables of a run file of any kind, as they stand in it but for `overrides`."""
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
    """Tables with the DataArrays of the grid's, the model's and its parameters' files."""
    out = tables | {"parameters": fields(tables.get("parameters", {}), base, "parameters")}
    sides = tables["model"].get("fixed_pressure")
    if isinstance(sides, Mapping):
        loaded = fields(sides, base, "model.fixed_pressure")
        out["model"] = tables["model"] | {"fixed_pressure": loaded}
    if "like" in tables["grid"]:
        out["grid"] = {"like": field(tables["grid"]["like"], base, "grid.like")}
    return out


def fields(table: Mapping[str, Any], base: Path, where: str) -> dict[str, Any]:
    """A table with the DataArrays of its "file.nc:variable"."""
    return {k: field(v, base, f"{where}.{k}") for k, v in table.items()}


def field(value: Any, base: Path, where: str) -> Any:
    """The DataArray of "file.nc:variable"; what is no text, as it is."""
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
    """The file and the variable, "" where there is none, of "file.nc:variable"."""
    file, _, variable = text.rpartition(":")
    return (file, variable) if file else (text, "")


def open_dataset(path: Path, where: str) -> xr.Dataset:
    """A file, loaded; a `DataError` that begins with `where` if it cannot be."""
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


@contextmanager
def under(where: str, said: str = "") -> Iterator[None]:
    """Errors of what a table was made into, under the table's name (in place of `said`)."""
    try:
        yield
    except (ConfigError, DataError) as error:
        text = str(error).removeprefix(said)
        raise type(error)(f"{where}{text}" if said else f"{where}.{text}") from None


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
