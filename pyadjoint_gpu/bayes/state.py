"""Where an outer sampler stands, and the file from which it goes on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..errors import DataError
from ..files import whole
from .estimates import Estimates

FORMAT = "pyadjoint_gpu sampler 1"


@dataclass(frozen=True)
class State:
    """After the first estimates, and after each move of all particles.

    Attributes
    ----------
    step : int
        Estimates made of all particles so far.
    move : int
        Moves done in this stage; none are left where it is that of all stages.
    gamma, log_evidence : float
    theta : array, shape (N, p)
    log_prior : array, shape (N,)
    estimates : Estimates
    spread : array, shape (p, p)
        Cholesky factor of the random walk's covariance.
    path : array, shape (stages, 3)
        gamma, ESS / N and acceptance of each stage.
    worst : array, shape (3,)
        The least acceptance, the shortest and the longest trajectory of all inner samplers.
    """

    step: int
    move: int
    gamma: float
    log_evidence: float
    theta: np.ndarray
    log_prior: np.ndarray
    estimates: Estimates
    spread: np.ndarray
    path: np.ndarray
    worst: np.ndarray


def fingerprint(*parts: Any) -> str:
    """Of what a journal must have been made with."""
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(repr((part.shape, str(part.dtype))).encode())
            digest.update(np.ascontiguousarray(part).tobytes())
        else:
            digest.update(json.dumps(part, default=repr, sort_keys=True).encode())
    return digest.hexdigest()


def save(path: Path, made_with: str, states: list[State]) -> None:
    """All of them, whole or not at all."""
    with whole(path) as beside, h5py.File(beside, "w") as file:
        file.attrs["format"], file.attrs["made_with"] = FORMAT, made_with
        for k, state in enumerate(states):
            group = file.create_group(str(k))
            for f in fields(State):
                value = getattr(state, f.name)
                if isinstance(value, Estimates):
                    for name, array in value._asdict().items():
                        group[f"estimates/{name}"] = array
                else:
                    group[f.name] = value


def load(path: Path, made_with: str) -> list[State]:
    """What the file holds; nothing where there is none.

    Raises
    ------
    DataError
        If it is no such file, or of other data or settings.
    """
    if not path.exists():
        return []
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"{path}: not a sampler's journal ({error})") from None
    with file:
        if file.attrs.get("format") != FORMAT:
            raise DataError(f"{path}: not a sampler's journal of this version")
        if file.attrs["made_with"] != made_with:
            raise DataError(f"{path}: of other data or settings; give another path, or remove it")
        return [_state(file[str(k)]) for k in range(len(file))]


def _state(group: Any) -> State:
    values = {f.name: group[f.name][()] for f in fields(State) if f.name != "estimates"}
    found = Estimates(**{k: group[f"estimates/{k}"][()] for k in Estimates._fields})
    for name in ("step", "move"):
        values[name] = int(values[name])
    for name in ("gamma", "log_evidence"):
        values[name] = float(values[name])
    return State(estimates=found, **values)
