"""Random networks of sensors, and their information, to compare a selection with."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from ..statistics.covariance import Covariance
from ..statistics.sensor_noise import SensorNoise
from .communicator import Communicator, safely, share
from .information import information
from .network import Network


def random_networks(
    network: Network, count: int, generator: np.random.Generator
) -> list[list[int]]:
    """Networks within the budget, of candidates in a random order."""
    out = []
    for _ in range(count):
        order: list[int] = []
        for j in generator.permutation(network.candidates).tolist():
            if network.able(order)[j]:
                order.append(j)
        out.append(order)
    return out


def information_curves(
    covariance: Covariance,
    noise: SensorNoise,
    conditional: Covariance | None,
    existing: tuple[int, ...],
    designs: list[list[int]],
    comm: Communicator,
) -> list[Float[np.ndarray, " sensors"]]:
    """EIG of the first 1, 2, ... sensors of each design, with those in place; each rank does its
    share."""
    own = designs[share(comm, len(designs))]

    def curves() -> list[Float[np.ndarray, " sensors"]]:
        out: dict[int, np.ndarray] = {}
        # Designs of equal length are computed together.
        for length in {len(design) for design in own}:
            which = [k for k, design in enumerate(own) if len(design) == length]
            networks = [[*existing, *own[k]] for k in which]
            found = information(covariance, noise, networks, conditional=conditional)
            out |= dict(zip(which, found[:, len(existing) :], strict=True))
        return [out[k] for k in range(len(own))]

    return [curve for each in comm.allgather(safely(comm, curves)) for curve in each]
