"""What was chosen so far, in a file from which a selection goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from ..errors import DataError
from ..files import fingerprint, whole
from .communicator import Communicator, safely, share
from .network import Network
from .noise import Whitened

FORMAT = "pyadjoint_gpu selection 1"

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
    ):
        self.path, self.writes = None if path is None else Path(path), comm.Get_rank() == 0
        self.steps: Steps = {}
        if self.path is not None:
            self.mark = _mark(matrices, network, comm)
            self.steps = comm.bcast(safely(comm, lambda: self._load() if self.writes else {}))

    def add(self, rule: str, p: int, gain: float) -> None:
        """Another sensor, on disk before this returns."""
        self.steps.setdefault(rule, []).append((p, gain))
        if self.path is None or not self.writes:
            return
        with whole(self.path) as beside, h5py.File(beside, "w") as file:
            file.attrs["format"], file.attrs["made_with"] = FORMAT, self.mark
            for name, steps in self.steps.items():
                order, gains = zip(*steps, strict=True)
                file[f"{name}/order"], file[f"{name}/gains"] = order, gains

    def _load(self) -> Steps:
        path = self.path
        if path is None or not path.exists():
            return {}
        try:
            with h5py.File(path, "r") as file:
                if file.attrs.get("format") != FORMAT:
                    raise DataError(f"{path}: not a journal of a selection, of this version")
                if file.attrs["made_with"] != self.mark:
                    raise DataError(
                        f"{path}: of other data or settings; give another path, or remove it"
                    )
                columns = {
                    name: (group["order"][()], group["gains"][()]) for name, group in file.items()
                }
        except (OSError, KeyError) as error:
            raise DataError(f"{path}: not a journal of a selection ({error})") from None
        return {
            name: list(zip(order.tolist(), gains.tolist(), strict=True))
            for name, (order, gains) in columns.items()
        }


def _mark(matrices: Sequence[Whitened], network: Network, comm: Communicator) -> str:
    """Of what a record must have been made with. Of the covariances, which may be on disk, each
    candidate's own; that the others fit is seen as gains are found again."""
    own = share(comm, network.candidates)

    def digests() -> list[str]:
        return [
            hashlib.sha256(matrix.diagonal(slice(j, j + 1)).tobytes()).hexdigest()
            for j in range(own.start, own.stop)
            for matrix in matrices
        ]

    mine = safely(comm, digests)
    noise = matrices[0].noise.correlated
    return fingerprint(
        [digest for each in comm.allgather(mine) for digest in each],
        None if noise is None else np.asarray(noise),
        network.budget,
        None if network.costs is None else network.costs.tolist(),
        network.existing,
        network.forbidden,
    )
