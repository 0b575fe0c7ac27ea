"""Tables of run files of any kind: read, overridden, their texts, numbers and files."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import xarray as xr

from ..core.checks import as_text, check_keys, check_table
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


def outputs(tables: dict[str, Any], keys: Iterable[str], base: Path) -> dict[str, Path]:
    """Takes [output] out of the tables: the places where results go."""
    table = check_keys(tables.pop("output", {}), keys, "output")
    return {k: base / as_text(v, f"output.{k}") for k, v in table.items()}


def titled(tables: dict[str, Any]) -> str | None:
    """Takes the title out of the tables."""
    title = tables.pop("title", None)
    return None if title is None else as_text(title, "title")


def load_model(tables: dict[str, Any], base: Path) -> dict[str, Any]:
    """Tables with this done to those of the grid, of the model and of its parameters."""
    out = dict(tables)
    for name, value in check_table(out.get("parameters", {}), "parameters").items():
        out["parameters"] = out["parameters"] | {name: field(value, base, f"parameters.{name}")}
    model = check_table(out["model"], "model")
    sides = model.get("fixed_pressure")
    if isinstance(sides, Mapping):
        model["fixed_pressure"] = {
            k: field(v, base, f"model.fixed_pressure.{k}") for k, v in sides.items()
        }
    out["model"] = model
    grid = check_table(out["grid"], "grid")
    if "like" in grid:
        out["grid"] = grid | {"like": field(grid["like"], base, "grid.like")}
    return out


def field(value: Any, base: Path, where: str) -> Any:
    """The DataArray of "file.nc:variable"; what is no text, as it is."""
    if not isinstance(value, str):
        return value
    file, variable = reference(value, where)
    if not variable:
        raise ConfigError(f"{where}: found {value!r}, expected a number or 'file.nc:variable'")
    data = open_dataset(base / file, where)
    if variable not in data:
        raise DataError(
            f"{where}: no variable {variable!r} in {file}{nearest(variable, map(str, data))}"
        )
    return data[variable]


def reference(value: Any, where: str) -> tuple[str, str]:
    text = as_text(value, where)
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


def numbers(where: str, value: Any, n: int) -> list[float]:
    """A list of so many numbers, or a `ConfigError`."""
    given = value if isinstance(value, list) else []
    if len(given) != n or any(isinstance(v, bool) or not isinstance(v, int | float) for v in given):
        raise ConfigError(f"{where}: found {value!r}, expected {n} numbers")
    return [float(v) for v in given]


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
