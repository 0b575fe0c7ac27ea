"""Checks, before a run starts, of the files that it writes and may replace."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .errors import DataError
from .files import check_writable, path_of
from .guards import is_list, is_mapping

_NAMES = {"title", "names"}
"""Keys of run files whose texts are not paths."""
_EXTENT = {"inversion.max_iterations"}
"""Keys that say how far a run goes: its result may replace that of a run that went no further."""


def check_outputs(
    writes: Mapping[str, str | Path | None], reads: Mapping[str, Path] | None = None
) -> None:
    """Raise a `DataError` unless every output can be written and is no other file of the run; paths
    are by the key that gives them, such as "output.path"."""
    seen: dict[Path | tuple[int, int], str] = {
        _identity(place): where for where, place in (reads or {}).items()
    }
    inputs = set(seen)
    for what, given in writes.items():
        if given is None:
            continue
        place = path_of(what, given)
        check_writable(place, what)
        key = _identity(place)
        other = seen.setdefault(key, what)
        if key in inputs:
            raise DataError(
                f"{what}: {str(place)!r} is a file that the run reads ({other}), which it would"
                " write over; give another path"
            )
        if other != what:
            raise DataError(f"{what}: {str(place)!r} is the same file as {other}")


def inputs(tables: Mapping[str, Any], path: Path) -> dict[str, Path]:
    """The files that the tables of a run file name, by key, and the run file itself."""
    found = {"the run file": path}
    for where, text in _texts({k: v for k, v in tables.items() if k != "output"}, ""):
        for name in (text, text.rpartition(":")[0]):
            if name and (path.parent / name).is_file():
                found[where] = path.parent / name
    return found


def check_replaced(path: Path, config: str, iterations: int | None = None) -> None:
    """Raise a `DataError` if `path` has the result of other inputs, or one of more iterations, than
    the new result: `config` is its ``config_json``, and an inversion's has `iterations` at most."""
    found = _result(path)
    if found is None:
        return
    old, done = found
    new = json.loads(config)
    free = _EXTENT if _repeats(new) < _repeats(old) else {*_EXTENT, "sampler.repeats"}
    names = [k for k in _differing(old, new) if k not in free]
    if names:
        raise DataError(
            f"{path}: has the result of other inputs ({', '.join(names[:6])}"
            f"{', ...' if len(names) > 6 else ''}); give another path by -o, or --overwrite to"
            " replace it"
        )
    if iterations is not None and done is not None and done > iterations:
        raise DataError(
            f"{path}: has a result of {done} iterations, which one of {iterations} is not to"
            " replace; give another path by -o, or more iterations"
        )


def _result(path: Path) -> tuple[Mapping[str, Any], int | None] | None:
    """The inputs of a result and its number of iterations, if any; None for other files."""
    import h5py

    if not path.is_file():
        return None
    try:
        with h5py.File(path, "r") as file:
            config: Any = json.loads(str(file.attrs["config_json"]))
            rows = file.get("iteration")
            done = rows.shape[0] - 1 if isinstance(rows, h5py.Dataset) else None
    except Exception:  # no result, or none that can be read
        return None
    return (config, done) if is_mapping(config) else None


def _differing(a: object, b: object, where: str = "") -> Iterator[str]:
    """Keys whose values differ, to the second level."""
    if "." not in where and is_mapping(a) and is_mapping(b):
        for key in {**a, **b}:
            yield from _differing(a.get(key), b.get(key), f"{where}.{key}" if where else key)
    elif json.dumps(a, sort_keys=True) != json.dumps(b, sort_keys=True):  # NaN equals NaN
        yield where


def _repeats(tables: Mapping[str, Any]) -> int:
    """The number of runs of a sampler, 1 where it is left out."""
    sampler = tables.get("sampler")
    return sampler.get("repeats", 1) if is_mapping(sampler) else 1


def _identity(path: Path) -> Path | tuple[int, int]:
    """A key that is the same for all names of a file, links included."""
    try:
        found = path.stat()
    except OSError:
        return path.resolve()
    return found.st_dev, found.st_ino


def _texts(value: object, where: str) -> Iterator[tuple[str, str]]:
    """All texts in tables of a run file, each after its key."""
    if isinstance(value, str):
        yield where, value
    elif is_mapping(value):
        for key, inner in value.items():
            if key not in _NAMES:
                yield from _texts(inner, f"{where}.{key}" if where else str(key))
    elif is_list(value):
        for k, inner in enumerate(value):
            yield from _texts(inner, f"{where}[{k}]")
