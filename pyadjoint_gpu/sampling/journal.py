"""Where samplers stand, in a file from which they go on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import h5py
import numpy as np

from ..core.errors import DataError
from ..core.files import intact, sealed
from ..core.fingerprint import check_made_with, fingerprint
from ..core.hdf5 import legible, opened, replaceable
from ..core.outputs import check_outputs
from ..core.progress import phase, progress_bar

FORMAT = "pyadjoint_gpu sampler 2"

T = TypeVar("T")


def followed(
    kind: type[T],
    journal: str | Path | None,
    made_with: Callable[[], Mapping[str, Any]],
    first: Callable[[int], T],
    moved: Callable[[T, int], T],
    *,
    moves: int,
    repeats: int,
    overwrite: bool,
    progress: bool | None,
) -> list[T]:
    """Where each of `repeats` runs of a tempered sampler ends, from what the journal has of them.

    Parameters
    ----------
    kind : type
        Of states, with ``gamma``, ``move`` (of `moves` a stage) and ``log_evidence``.
    made_with : callable
        What decides the states, by name, asked for where there is a journal.
    first, moved : callable
        The state that run number k starts from, and that after another move.
    overwrite : bool
        Start anew.
    """
    path = None if journal is None else Path(journal)
    mark: dict[str, str] = {}
    states: list[Any] = []
    if path is not None:
        check_outputs({"journal": path})
        mark, states = started(path, made_with, kind, overwrite=overwrite)
    with progress_bar(shown=progress, unit="moves", desc="SMC") as bar:

        def keep(now: Any, k: int) -> None:
            states[k:] = [now]
            if path is not None:
                save(path, mark, states)
            bar.update(gamma=now.gamma, ln_Z=now.log_evidence)

        for k in range(repeats):
            now: Any = states[k] if k < len(states) else None
            if now is None:
                with phase("compiling, and drawing from the prior"):
                    now = first(k)
                keep(now, k)
            while now.gamma < 1.0 or now.move < moves:
                now = moved(now, k)
                keep(now, k)
    return states


def started(
    path: Path, made_with: Callable[[], Mapping[str, Any]], kind: type[T], *, overwrite: bool
) -> tuple[dict[str, str], list[T]]:
    """The fingerprint of a journal, and the states that a run goes on from; the file stays as it
    is.

    Raises
    ------
    DataError
        If it is no such file, damaged, or of other data or settings.
    """
    mark = fingerprint(**made_with())
    if overwrite and path.exists() and replaceable(path):
        return mark, []
    return mark, load(path, mark, kind)


def save(path: Path, made_with: Mapping[str, str], states: Sequence[Any]) -> None:
    """All of them, whole or not at all: dataclasses of numbers, arrays, NamedTuples of arrays."""
    with sealed(path) as beside, h5py.File(beside, "w") as file:
        file.attrs["format"], file.attrs["made_with"] = FORMAT, json.dumps(made_with)
        for k, state in enumerate(states):
            group = file.create_group(str(k))
            for f in fields(state):
                value = getattr(state, f.name)
                if isinstance(value, tuple):
                    for name, array in value._asdict().items():  # type: ignore[attr-defined]
                        group[f"{f.name}/{name}"] = array
                else:
                    group[f.name] = value


def load(path: Path, made_with: Mapping[str, str], kind: type[T]) -> list[T]:
    """What the file holds; nothing where there is none.

    Raises
    ------
    DataError
        If it is no such file, damaged, or of other data or settings.
    """
    if not path.exists():
        return []
    whole = intact(path)
    with opened(path, "a sampler's journal") as file, legible(path):
        if file.attrs.get("format") != FORMAT or not whole:
            raise DataError(f"{path}: not a sampler's journal of this version")
        check_made_with(path, "a sampler's journal", file.attrs["made_with"], made_with)
        return [_state(file[str(k)], kind) for k in range(len(file))]


def _state(group: Any, kind: type[T]) -> T:
    values = {}
    for name, hint in get_type_hints(kind).items():
        if issubclass(hint, tuple):
            values[name] = hint(**{k: a[()] for k, a in group[name].items()})
        else:
            value = group[name][()]
            values[name] = value if hint is np.ndarray else hint(value)
    return kind(**values)
