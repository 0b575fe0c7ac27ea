"""Run files: TOML tables that build the same `Problem` as the Python API."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.checks import check_keys, check_table
from ..core.errors import ConfigError
from ..core.outputs import inputs
from ..problem.specification import KEYS, check_numbers
from .tables import field, load_model, open_dataset, outputs, parse, reference, titled

_KEYS: dict[str, tuple[str, ...]] = {
    "": (
        "title",
        "engine",
        "launcher",
        "topology",
        "grid",
        "model",
        "parameters",
        "controls",
        "misfit",
        "penalty",
        "solver",
        "inversion",
        "output",
    ),
    "inversion": ("method", "max_iterations", "tolerance", "discrepancy"),
    "output": ("path", "journal", "figure"),
}
_REQUIRED = ("grid", "model", "controls", "misfit")


@dataclass(frozen=True)
class RunFile:
    """A run file, read and checked, its fields loaded.

    Attributes
    ----------
    tables : dict
        For `build_problem`.
    title : str or None
    inversion : dict
        Options of `invert`.
    output : dict of Path
        ``path``, ``journal``, ``figure``, where given.
    reads : dict of Path
        The files that it names, and itself.
    """

    tables: dict[str, Any]
    title: str | None
    inversion: dict[str, Any]
    output: dict[str, Path]
    reads: dict[str, Path]


def read(path: str | Path, overrides: Iterable[str] = ()) -> RunFile:
    """Read a run file.

    Parameters
    ----------
    path : path
        Paths in the file are relative to it.
    overrides : iterable of str
        ``"a.b=value"``, as on the command line.

    Raises
    ------
    ConfigError, DataError
        In one line: the key or variable, what was found, what was expected.
    """
    return checked(parse(path, overrides), Path(path))


def sampled(tables: Mapping[str, Any]) -> bool:
    """Whether these are tables of fault slip, for `runfiles.slip`."""
    if "fault" in tables or "slip_prior" in tables:
        return True
    return "grid" not in tables and ("data" in tables or "sampler" in tables)


def checked(tables: dict[str, Any], path: Path) -> RunFile:
    """The run file of tables, whose paths are relative to that of the file."""
    if "sensors" in tables or "placement" in tables:
        raise ConfigError(f"{path}: a run file of sensor placement, for `pyadjoint-gpu place`")
    check_keys(tables, _KEYS[""], "")
    for key in _REQUIRED:
        if key not in tables:
            raise ConfigError(f"{path}: table [{key}] is missing")
    reads, output = inputs(tables, path), outputs(tables, _KEYS["output"], path.parent)
    inversion = check_keys(tables.pop("inversion", {}), _KEYS["inversion"], "inversion")
    check_numbers(inversion, "inversion")
    if not isinstance(inversion.get("discrepancy", False), bool):
        found = inversion["discrepancy"]
        raise ConfigError(f"inversion.discrepancy: found {found!r}, expected true or false")
    title = titled(tables)
    return RunFile(_load(tables, path.parent), title, inversion, output, reads)


# Files


def _load(tables: dict[str, Any], base: Path) -> dict[str, Any]:
    """Tables with every "file.nc:variable" that stands for a field replaced by its DataArray."""
    out = load_model(tables, base)
    for name, options in check_table(out["controls"], "controls").items():
        options = check_table(options, f"controls.{name}")
        for key in ("initial", "truth"):
            if key in options:
                options[key] = field(options[key], base, f"controls.{name}.{key}")
        out["controls"] = out["controls"] | {name: options}
    misfit = check_keys(out["misfit"], KEYS["misfit"], "misfit")
    if "observations" not in misfit:
        raise ConfigError("misfit.observations is missing")
    file, variable = reference(misfit["observations"], "misfit.observations")
    data = open_dataset(base / file, "misfit.observations")
    out["misfit"] = misfit | {"observations": data} | ({"variable": variable} if variable else {})
    return out


# The other way
