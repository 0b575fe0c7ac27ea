"""Greedy D-optimal selection of sensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from ..core.checks import check_choice
from ..core.errors import ConfigError, DataError, shown
from ..core.progress import progress_bar
from ..statistics.covariance import Covariance
from ..statistics.noise import Noise
from ..statistics.sensor_noise import SensorNoise
from .candidates import LAZY_STEPS, TIE, Candidates
from .communicator import Communicator, SerialCommunicator, owner, safely, share
from .network import Mask, Network
from .objective import objective
from .record import Record, recorded
from .threads import workers

GAIN, RATIO = "gain", "gain per cost"

SAME = 1e-6
"""Relative difference that round-off may make in gains computed again (on other processes)."""


NOTHING = float(np.finfo(float).eps)
"""Nats a row of the covariance that round-off may make of a gain of zero."""


@dataclass(frozen=True)
class Selection:
    """Sensors in the order in which they were chosen.

    Attributes
    ----------
    order : array of int
        Indices of candidates, those in place not among them.
    gains : array
        Increase of the expected information gain by each, in nats.
    information : array
        Expected information gain of those in place and all up to each, in nats.
    existing : float
        Expected information gain of those in place.
    rule : str
        Criterion of the choice: "gain", or "gain per cost".
    blocks : int
        Blocks read from the covariances, T x T each.
    """

    order: Int[np.ndarray, " sensors"]
    gains: Float[np.ndarray, " sensors"]
    information: Float[np.ndarray, " sensors"]
    existing: float
    rule: str
    blocks: int


def select(
    covariance: Covariance,
    noise: ArrayLike | Noise | SensorNoise,
    budget: float,
    *,
    conditional: Covariance | None = None,
    costs: ArrayLike | None = None,
    existing: Sequence[int] = (),
    forbidden: Sequence[int] = (),
    dtype: str = "float64",
    lazy: bool | None = None,
    comm: Communicator | None = None,
    journal: str | Path | None = None,
    overwrite: bool = False,
    progress: bool | None = None,
) -> Selection:
    """Greedy D-optimal selection: sensors chosen one after the other, each the one that adds most
    to the expected information gain of the set S,

        EIG(S) = [logdet K_S - logdet B_S] / 2,   K = X + Gamma,

    with Gamma the covariance of noise and B = Gamma; or B = X' + Gamma for the information on a
    quantity of interest, X' being X conditional on it.

    A pivoted block Cholesky factorisation: of every candidate j, V_j = L_S^-1 K_Sj and
    C_j = K_jj - V_j^T V_j are kept, whose logdet C_j / 2 is its gain. When p is chosen,
    W_j = L_p^-1 (K_pj - V_p^T V_j) goes below V_j, and C_j -= W_j^T W_j: C k^2 T^3 operations for k
    of C candidates of T steps, and one block of K read a candidate and sensor. Gains closer than
    1e-10 of the best are the same, and the first of the candidates is chosen.

    With noise that is independent between sensors, and B = Gamma, EIG is submodular: the choice has
    at least 1 - 1/e of the information of the best set of its size (on top of what is in place),
    and what a candidate would have added earlier bounds what it adds later. Otherwise neither need
    hold.

    Parameters
    ----------
    covariance : Covariance
        X, of C candidates and T steps.
    noise : number, array or Noise
        Standard deviation; one a sensor, shape (C,); a covariance a sensor, (C, T, T); or that of
        all sensors, (C, T, C, T). Steps are the unit of a Noise's times.
    budget : int or float
        Sensors to choose; with `costs`, what they may cost together.
    conditional : Covariance, optional
        X'.
    costs : array, shape (C,), optional
        Two sets are then chosen within the budget, one by the largest gain per cost and one by
        the largest gain. The better of the two is returned: it has at least (1 - 1/e) / 2 of the
        best set's information, if submodular (Leskovec et al. 2007).
    existing : sequence of int
        Sensors in place; they cost nothing.
    forbidden : sequence of int
    dtype : str
        Type of V and C, "float64" or "float32": gains that may be the best are then found again in
        double precision, so that choices are the same.
    lazy : bool, optional
        Skip candidates while the bounds on their gains are below the best gain. By default
        where EIG is submodular and T at least 32.
    comm : communicator of mpi4py, optional
        Candidates are split over its ranks, all of which call this function.
    journal : str or Path, optional
        File of the sensors as they are chosen, from which the same call resumes; a finished
        selection is returned from it.
    overwrite : bool
        Start the journal anew.
    progress : bool, optional
        A bar where someone looks, else a line a minute; False for nothing.

    Returns
    -------
    Selection

    Raises
    ------
    ConfigError, DataError
        If the arguments do not fit together, are not finite or not positive definite, the noise is
        so small that round-off would affect the information (by more than 1e-4 nats; the message
        says which noise is large enough), or the journal is of other data.
    """
    check_choice("dtype", dtype, ("float64", "float32"))
    if not (lazy is None or isinstance(lazy, bool)):
        raise ConfigError(f"lazy: found {shown(lazy)}, expected True, False or None")
    if comm is not None and not isinstance(comm, Communicator):
        raise ConfigError(f"comm: found {shown(comm)}, expected a communicator of mpi4py")
    matrices = objective(covariance, noise, conditional)
    network = Network.of(covariance.candidates, budget, costs, existing, forbidden)
    submodular = len(matrices) == 1
    if lazy and not submodular:
        raise ConfigError("lazy: gains have no bounds with correlated noise or a conditional")
    usual = submodular and covariance.steps >= LAZY_STEPS
    together = SerialCommunicator() if comm is None else comm

    def run(rule: str, record: Record) -> tuple[list[int], list[float], float]:
        with workers() as threads:
            start = partial(
                Candidates,
                matrices,
                share(together, network.candidates),
                len(network.existing) + network.most,
                dtype=dtype,
                lazy=usual if lazy is None else lazy,
                workers=threads,
            )
            candidates = safely(together, start)
            return _greedy(candidates, network, rule, record, together, progress)

    rules = (GAIN,) if network.costs is None else (RATIO, GAIN)
    with recorded(journal, matrices, network, together, overwrite) as record:
        runs = [run(rule, record) for rule in rules]
    # Ties go to the first.
    best = max(range(len(runs)), key=lambda k: (sum(runs[k][1]), -k))
    order, gains, before = runs[best]
    if not before + sum(gains) > NOTHING * network.candidates * covariance.steps:
        raise DataError(
            "covariance: candidates see nothing of what is asked for: every network has 0 nats of"
            " information; are responses, prior and weights zero?"
        )
    return Selection(
        np.array(order),
        np.array(gains),
        before + np.cumsum(gains),
        before,
        rules[best],
        sum(together.allgather(sum(matrix.read for matrix in matrices))),
    )


def _greedy(
    candidates: Candidates,
    network: Network,
    rule: str,
    record: Record,
    comm: Communicator,
    progress: bool | None,
) -> tuple[list[int], list[float], float]:
    """The order, gains, and the information of sensors in place."""
    divisor = np.ones(network.candidates)
    if rule == RATIO and network.costs is not None:
        divisor = network.costs
    before = math.fsum(_append(p, candidates, network, comm) for p in network.existing)
    order: list[int] = []
    gains: list[float] = []
    known = list(record.steps.get(rule, ()))
    shown = progress if comm.Get_rank() == 0 else False
    total = network.most if network.costs is None else None
    with progress_bar(shown=shown, total=total, unit="sensors", desc="placement") as bar:
        while (able := network.able(order)).any():
            p, gain = known.pop(0) if known else (_best(candidates, able, divisor, comm), None)
            found = _append(p, candidates, network, comm)
            if gain is None:
                gain = found
                safely(comm, partial(record.add, rule, p, gain))
            elif not abs(found - gain) <= SAME * abs(gain):
                raise DataError(f"{record.path}: of another covariance; sensor {p} gains otherwise")
            order.append(p)
            gains.append(gain)
            bar.update(EIG=before + sum(gains))
    return order, gains, before


def _best(
    candidates: Candidates,
    able: Mask,
    divisor: Float[np.ndarray, " candidates"],
    comm: Communicator,
) -> int:
    """The first candidate of all ranks with the largest gain over divisor."""
    values = largest(safely(comm, lambda: candidates.best(able, divisor)))
    for others in comm.allgather(values):
        values = values | others
    return min(largest(values))


def largest(values: dict[int, float]) -> dict[int, float]:
    """Values equal to the largest, within round-off."""
    highest = max(values.values(), default=0.0)
    return {j: v for j, v in values.items() if v >= highest - TIE * abs(highest)}


def _append(p: int, candidates: Candidates, network: Network, comm: Communicator) -> float:
    """Choose p on all ranks, and return its gain."""
    root = owner(comm, network.candidates, p)
    mine = comm.Get_rank() == root
    found = safely(comm, lambda: candidates.chosen_with(p) if mine else None)
    coefficients, gain = comm.bcast(found, root=root)
    candidates.append(p, coefficients)
    return gain
