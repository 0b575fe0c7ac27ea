"""Simulation-based calibration: how often credible intervals contain the truth.

Faults of unknown geometry (east, north, depth, strike and dip) and slip are drawn from the prior,
what GNSS stations and InSAR pixels would see of them is computed and given errors, and both are
sampled from these data by `HierarchicalSMC`. Over many such data sets a truth's rank among its
samples is uniform, and 90 % intervals hold it in 90 % of them (Cook, Gelman and Rubin 2006, J.
Comput. Graph. Stat. 15, 675). At a reduced size, and once at the whole size.
"""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
import scipy.stats

from pyadjoint_gpu.core.precision import double
from pyadjoint_gpu.geophysics import Fault, gnss
from pyadjoint_gpu.sampling import HierarchicalSMC, SamplingWarning, Settings
from pyadjoint_gpu.statistics import Matern

from .report import markdown

LEVEL = 0.9
PRIOR = {
    "east": scipy.stats.uniform(-6.0, 12.0),
    "north": scipy.stats.uniform(-6.0, 12.0),
    "depth": scipy.stats.uniform(1.0, 6.0),
    "strike": scipy.stats.uniform(10.0, 50.0),
    "dip": scipy.stats.uniform(25.0, 45.0),
}
SIGMA = 0.02
"""Of every datum, in m."""


def run(*, quick: bool = False) -> dict[str, Any]:
    small = {
        "fault": Fault(20.0, 12.0, along=4, down=3, slips=("strike", "dip")),
        "stations": 12,
        "pixels": 24,
        "particles": 96,
        "moves": 4,
        "inner": Settings(particles=100, leapfrogs=20),
    }
    large = {
        "fault": Fault(20.0, 12.0, along=20, down=5, slips=("strike", "dip")),
        "stations": 40,
        "pixels": 80,
        "particles": 64,
        "moves": 3,
        "inner": Settings(particles=100, leapfrogs=30),
    }
    out = {"small": calibrated(3 if quick else 50, **small)}
    if not quick:
        out["large"] = calibrated(1, **large)
    return out


def calibrated(count: int, **size: Any) -> dict[str, Any]:
    """Ranks of truths, between 0 and 1, and how many intervals hold theirs."""
    began = time.perf_counter()
    sets = [one(seed, **size) for seed in range(count)]
    ranks = {name: [found["ranks"][name] for found in sets] for name in PRIOR}
    slip = np.array([found["slip_ranks"] for found in sets])
    low, high = 0.5 * (1.0 - LEVEL), 0.5 * (1.0 + LEVEL)
    held = {k: int(sum(low <= r <= high for r in v)) for k, v in ranks.items()}
    fault: Fault = size["fault"]
    return {
        "sets": count,
        "components": fault.components,
        "data": 3 * size["stations"] + size["pixels"],
        "particles": [size["particles"], size["inner"].particles],
        "ranks": ranks,
        "held": held,
        # Two-sided, of ranks that should be uniform (Kolmogorov and Smirnov).
        "p_value": {k: float(scipy.stats.kstest(v, "uniform").pvalue) for k, v in ranks.items()},
        "slip_held": float(np.mean((low <= slip) & (slip <= high))),
        "log_likelihood_noise": [found["noise"] for found in sets],
        "warned": sum(found["warned"] for found in sets),
        "seconds": (time.perf_counter() - began) / count,
    }


@double
def one(seed: int, fault: Fault, stations: int, pixels: int, **options: Any) -> dict[str, Any]:
    """One truth drawn, its data, and where it lies among the samples of them; the rest are options
    of `HierarchicalSMC`."""
    # The same survey for all.
    survey = np.random.default_rng(1)
    points, look = gnss(survey.uniform(-30.0, 30.0, (stations, 2)))
    points = np.concatenate([points, survey.uniform(-25.0, 25.0, (pixels, 2))])
    sight = np.array([-0.62, -0.11, 0.78])
    look = np.concatenate([look, np.tile(sight / np.linalg.norm(sight), (pixels, 1))])
    prior, forward = Matern(sd=0.8, length=6.0).on(fault.space), fault.forward(points, look)

    generator = np.random.default_rng([seed, 2])
    theta = {k: float(p.rvs(random_state=generator)) for k, p in PRIOR.items()}
    slip = np.asarray(prior.root(generator.standard_normal(fault.components)))
    data = np.asarray(forward(theta)) @ slip + SIGMA * generator.standard_normal(len(points))
    sampler = HierarchicalSMC(forward, data, SIGMA, prior, PRIOR, draws=2, **options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SamplingWarning)
        found = sampler.run(seed=seed, progress=False)
    draws = found["slip"].values.reshape(-1, fault.components)
    return {
        "ranks": {k: float(np.mean(found[k].values < theta[k])) for k in PRIOR},
        "slip_ranks": np.mean(draws < slip, axis=0).tolist(),
        "noise": found.attrs["log_likelihood_noise"],
        "warned": bool(caught),
    }


def tables(result: dict[str, Any]) -> str:
    """A table for each size."""
    return "\n\n".join(_calibrated(r) for r in result.values())


def _calibrated(r: dict[str, Any]) -> str:
    sets, (outer, inner) = r["sets"], r["particles"]
    intro = (
        f"{r['components']} components of slip, {r['data']} data, {outer} particles of theta,"
        f" {inner} of slip: {sets} data set{'s' * (sets > 1)}, {r['seconds']:.0f} s each."
        f" 90 % intervals hold {r['slip_held']:.1%} of the components of slip."
        f" Inner evidence noise {min(r['log_likelihood_noise']):.2f} to"
        f" {max(r['log_likelihood_noise']):.2f}; {r['warned']} warned."
    )
    rows = [[k, f"{v} of {sets}", f"{r['p_value'][k]:.2f}"] for k, v in r["held"].items()]
    head = ["unknown", "90 % intervals that hold the truth", "p of uniform ranks"]
    return f"{intro}\n\n{markdown(head, rows)}"
