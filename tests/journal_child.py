"""Run as processes of their own, to be killed: all that has a journal."""

from __future__ import annotations

from collections.abc import Callable
from multiprocessing.synchronize import Semaphore
from pathlib import Path

import numpy as np
import scipy.stats
import xarray as xr
from cases import observations, problem

import pyadjoint_gpu as pag
from pyadjoint_gpu.core import hdf5
from pyadjoint_gpu.core.journal import Journal
from pyadjoint_gpu.inversion.journal import Evaluations
from pyadjoint_gpu.lti import ToeplitzMap
from pyadjoint_gpu.lti.rows import BlockRows
from pyadjoint_gpu.lti.store import CovarianceFile, Store
from pyadjoint_gpu.placement.record import Choices
from pyadjoint_gpu.placement.selection import select
from pyadjoint_gpu.sampling import SMC, HierarchicalSMC, Settings
from pyadjoint_gpu.sampling.journal import States
from pyadjoint_gpu.statistics import Independent
from pyadjoint_gpu.statistics.covariance import DenseCovariance

RANDOM = np.random.default_rng(0)
BLOCKS, PLACES = RANDOM.standard_normal((6, 60, 3)), RANDOM.uniform(0.1, 0.6, (60, 2))
ROOT = RANDOM.standard_normal((180, 180))


def bits(found: xr.Dataset) -> bytes:
    return b"".join(found[k].values.tobytes() for k in sorted(found) if k != "wall_time")


def inversion(path: Path) -> bytes:
    made = problem((15, 31), data=observations((15, 31), noise=0.001))
    options = {"max_iterations": 60, "tolerance": 1e-12, "progress": False}
    return bits(pag.invert(made, journal=path, **options))


def newton(path: Path) -> bytes:
    grid = pag.Grid((5, 7), (1.0, 1.4))
    model = pag.models.Darcy(grid, [pag.Well((0.5, 0.7), 1.0)], fixed_pressure={"x_min": 0.0})
    points = [(0.3, 0.4), (0.7, 0.9), (0.5, 1.2)]
    data = pag.synthetic.observe(model, {"permeability": 2.0}, points, noise=0.001)
    made = pag.Problem(
        model,
        pag.Control("permeability", 1.0, transform="log"),
        pag.LeastSquares(data),
        pag.Smoothness("permeability", weight=0.1, length=0.2),
    )
    return bits(pag.invert(made, method="newton-cg", journal=path, progress=False))


def problem_sampler(path: Path) -> bytes:
    well = pag.Well(0.7, 1.0)
    model = pag.models.Darcy(pag.Grid((8,), (1.0,)), [well], fixed_pressure={"x_min": 0.0})
    data = pag.synthetic.observe(model, {"permeability": 2.0}, [[0.3], [0.8]], noise=0.1)
    control = pag.Control(
        "permeability", 1.0, transform="log", basis="constant", prior=pag.Independent(1.0)
    )
    sampled = pag.Problem(model, control, pag.LeastSquares(data))
    smc = SMC(sampled, particles=16, moves=2, leapfrogs=2, ess=0.7, batch=16)
    return bits(smc.run(repeats=6, journal=path, progress=False))


def forward(theta: dict[str, float]) -> np.ndarray:
    a = float(theta["a"])
    return np.array([[a, 1.0], [1.0, 2.0], [0.5, a]])


def hierarchical_sampler(path: Path) -> bytes:
    data, priors = np.array([1.0, 2.0, 0.5]), {"a": scipy.stats.norm(0.0, 1.0)}
    options = {"inner": Settings(particles=8), "batch": 8, "draws": 1, "moves": 2, "ess": 0.7}
    smc = HierarchicalSMC(forward, data, 0.1, np.ones(2), priors, particles=8, **options)
    return bits(smc.run(repeats=6, journal=path, progress=False))


def block_column(path: Path) -> bytes:
    grid = pag.Grid((7, 12), (0.7, 1.2))
    model = pag.models.ShallowWater(grid, 0.04, 24, source="cells", every=4)
    options = {"journal": path, "progress": False}
    return bits(pag.block_column(model, {"depth": 0.07}, PLACES, **options))


def covariance(path: Path) -> bytes:
    prior = Independent(1.0)
    found = CovarianceFile.make(path, ToeplitzMap.of(BLOCKS), prior, progress=False)
    return b"".join(found.row(p, slice(None)).tobytes() for p in range(found.candidates))


def selection(path: Path) -> bytes:
    x = DenseCovariance((ROOT @ ROOT.T).reshape(60, 3, 60, 3))
    found = select(x, 0.5, 60.0, costs=np.linspace(1.0, 2.0, 60), journal=path, progress=False)
    return found.order.tobytes() + found.gains.tobytes() + found.information.tobytes()


USERS: dict[Callable[[Path], bytes], type[Journal]] = {
    inversion: Evaluations,
    newton: Evaluations,
    problem_sampler: States,
    hierarchical_sampler: States,
    block_column: BlockRows,
    covariance: Store,
    selection: Choices,
}


def run(user: Callable[[Path], bytes], path: Path, result: Path, ready: Semaphore) -> None:
    """It counts `ready` up before and after all that is written is on disk."""
    sync = hdf5.to_disk

    def announced(file: int) -> None:
        ready.release()
        sync(file)
        ready.release()

    hdf5.to_disk = announced
    result.write_bytes(user(path))
