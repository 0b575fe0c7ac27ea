"""What was chosen so far, in a file from which a selection goes on."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py

from ..core.errors import DataError, JournalWarning
from ..core.files import intact, sealed
from ..core.fingerprint import check_made_with, fingerprint
from ..core.hdf5 import legible, opened, replaceable
from ..core.outputs import check_outputs
from ..statistics.covariance import Covariance
from .communicator import Communicator, safely
from .network import Network
from .objective import Whitened

FORMAT = "pyadjoint_gpu selection 2"

Steps = dict[str, list[tuple[int, float]]]
"""By the rule that chose: each sensor and its gain."""


class Record:
    """Of a selection by all ranks; in memory alone where there is no path.

    Attributes
    ----------
    steps : dict
        Sensors chosen, the same on all ranks.

    Raises
    ------
    DataError
        If the file is no such record, or of other data or settings.
    """

    def __init__(
        self,
        path: str | Path | None,
        matrices: Sequence[Whitened],
        network: Network,
        comm: Communicator,
        overwrite: bool = False,
    ):
        self.path, self.writes = None if path is None else Path(path), comm.Get_rank() == 0
        self.steps: Steps = {}
        self.made_with: dict[str, str] = {}

        def begin() -> Steps:
            if self.path is None or not self.writes:
                return {}
            check_outputs({"journal": self.path})
            self.made_with = fingerprint(**_parts(matrices, network))
            return self._load(overwrite)

        if self.path is not None:
            self.steps = comm.bcast(safely(comm, begin))

    def add(self, rule: str, p: int, gain: float) -> None:
        """Another sensor, on disk before this returns."""
        self.steps.setdefault(rule, []).append((p, gain))
        if self.path is None or not self.writes:
            return
        with sealed(self.path) as beside, h5py.File(beside, "w") as file:
            file.attrs["format"], file.attrs["made_with"] = FORMAT, json.dumps(self.made_with)
            for name, steps in self.steps.items():
                order, gains = zip(*steps, strict=True)
                file[f"{name}/order"], file[f"{name}/gains"] = order, gains

    def _load(self, overwrite: bool) -> Steps:
        path = self.path
        if path is None or not path.exists() or (overwrite and replaceable(path)):
            return {}
        whole = intact(path)
        with opened(path, "a journal of a selection") as file, legible(path):
            if file.attrs.get("format") != FORMAT or not whole:
                raise DataError(f"{path}: not a journal of a selection, of this version")
            found = file.attrs["made_with"]
            check_made_with(path, "a journal of a selection", found, self.made_with)
            columns = {k: (group["order"][()], group["gains"][()]) for k, group in file.items()}
        return {
            name: list(zip(order.tolist(), gains.tolist(), strict=True))
            for name, (order, gains) in columns.items()
        }


def _parts(matrices: Sequence[Whitened], network: Network) -> dict[str, Any]:
    """What decides a selection, by name."""
    noise = matrices[0].noise
    found = {
        "noise": noise.given,
        "budget": network.budget,
        "costs": network.costs,
        "existing": network.existing,
        "forbidden": network.forbidden,
    }
    for name, matrix in zip(("covariance", "conditional"), matrices, strict=False):
        if matrix.covariance is not None:
            found[name] = _covariance_part(matrix.covariance, name)
    return found


def _covariance_part(covariance: Covariance, name: str) -> Any:
    """All of a covariance, where it says what it is made of."""
    if hasattr(covariance, "made_with"):
        return covariance.made_with  # type: ignore[attr-defined]
    warnings.warn(
        f"the journal tells another {name} by its blocks of each candidate with itself alone:"
        f" {type(covariance).__name__} has no attribute 'made_with', of arrays or texts",
        JournalWarning,
        stacklevel=2,
    )
    # One by one: they may be on disk.
    each = range(covariance.candidates)
    return [fingerprint(block=covariance.diagonal(slice(j, j + 1))) for j in each]
