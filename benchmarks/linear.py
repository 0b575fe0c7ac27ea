"""Linear systems that do not change with time: their covariance, inversion in real time, selections
of sensors from disk, and how well the costs of selections are foretold.

``forming``: K's F Gamma F^T by one matrix product and sums down its diagonals, beside products with
F and its adjoint by Fourier transforms, of one unit vector a datum, in batches. They agree to 1e-12
or nothing is reported.

``online``: what an inversion computes beforehand, and what an observation set takes then: mean,
integral and forecasts with deviations; the same with one more row of data; samples.

``disk``: a selection with every candidate up to date from a covariance on disk, none of it in the
system's cache; the same from memory; and its reads alone.

``costs``: seconds of selections from memory, and those that `placement_cost` gives for the rates
that `Machine.measured` finds just before.

``scale``: not measured: what it gives for 175 of 600 and of 8,192 candidates with 420 times on 16
GPUs such as `A100`, by reads of a gigabyte a second and rank, and of 0.15, at which reading alone
takes Schur complements the published hour and a half.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pyadjoint_gpu.lti import CovarianceFile, LinearInversion, ToeplitzMap
from pyadjoint_gpu.lti.covariance import covariance
from pyadjoint_gpu.placement import A100, Machine, placement_cost, select
from pyadjoint_gpu.statistics import DenseCovariance, SpaceTimePrior

from .machine import best, timed

AGREE = 1e-12
BATCH = 64
NOISE = 1.0


def run(*, quick: bool = False) -> dict[str, Any]:
    return {
        "forming": forming(*((8, 20, 60) if quick else (30, 100, 600))),
        "online": online(*((5, 20, 60) if quick else (15, 120, 600))),
        "disk": disk(*((20, 30, 8) if quick else (150, 100, 40))),
        "costs": [
            costs(*size)
            for size in ([(30, 20, 8)] if quick else [(150, 60, 40), (300, 60, 30), (100, 120, 30)])
        ],
        "scale": [scale(*size) for size in ((600, 420, 175, 16), (8192, 420, 175, 16))],
    }


def system(sensors: int, steps: int, places: int, seed: int = 0) -> ToeplitzMap:
    """Of responses that decay over a fifth of the time."""
    blocks = np.random.default_rng(seed).standard_normal((steps, sensors, places))
    return ToeplitzMap.of(blocks * np.exp(-5.0 * np.arange(steps) / steps)[:, None, None])


def forming(sensors: int, steps: int, places: int) -> dict[str, Any]:
    of, prior = system(sensors, steps, places), SpaceTimePrior.of(np.eye(places), steps)
    ours, found = best(lambda: covariance(of, prior))
    units = np.eye(sensors * steps).reshape(-1, steps, sensors)
    of.matvec(prior.covariance(of.rmatvec(units[:BATCH])))

    def by_products() -> np.ndarray:
        rows = [
            of.matvec(prior.covariance(of.rmatvec(units[k : k + BATCH])))
            for k in range(0, len(units), BATCH)
        ]
        return np.concatenate(rows).reshape(steps, sensors, steps, sensors)

    peer, expected = timed(by_products)
    off = np.max(np.abs(found.transpose(1, 0, 3, 2) - expected)) / np.max(np.abs(expected))
    if not off <= AGREE:
        raise AssertionError(f"covariances differ by {off}, expected {AGREE} or less")
    return {
        "size": [sensors, steps, places],
        "ours_seconds": ours,
        "peer_seconds": peer,
        "off": off,
        "product_flops": 2.0 * (sensors * steps) ** 2 * places,
    }


def online(sensors: int, steps: int, places: int, points: int = 3) -> dict[str, Any]:
    of, ahead = system(sensors, steps, places), system(points, steps, places, seed=1)
    prior = SpaceTimePrior.of(np.eye(places), steps)
    offline, inversion = timed(lambda: LinearInversion(of, prior, NOISE, ahead))
    variance, _ = timed(lambda: inversion.variance)
    data = np.random.default_rng(2).standard_normal((steps, sensors))
    stream = inversion.stream()
    stream.update(data[: steps // 2])
    updates = [timed(lambda k=k: stream.update(data[k]))[0] for k in range(steps // 2, steps)]
    return {
        "size": [sensors, steps, places, points],
        "offline_seconds": offline,
        "variance_seconds": variance,
        "infer_seconds": best(lambda: inversion.infer(data), repeats=20)[0],
        "update_seconds": float(np.median(updates)),
        "draws_seconds": best(lambda: inversion.draws(data, 100))[0] / 100,
    }


def disk(candidates: int, steps: int, budget: int) -> dict[str, Any]:
    of = system(candidates, steps, 100)
    prior = SpaceTimePrior.of(np.eye(100), steps)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        path = Path(folder) / "covariance.h5"
        making, file = timed(lambda: CovarianceFile.make(path, of, prior, progress=False))

        def forget() -> None:
            with path.open("rb") as raw:
                os.fsync(raw.fileno())
                os.posix_fadvise(raw.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

        def reads(order: np.ndarray) -> None:
            file.diagonal(slice(0, candidates))
            for p in order[:-1]:
                file.row(int(p), slice(0, candidates))

        def chosen(of_what: Any) -> Any:
            return select(of_what, NOISE, budget, lazy=False, progress=False)

        within = DenseCovariance(covariance(of, prior))
        computing, found = min(
            (timed(lambda: chosen(within)) for _ in range(3)), key=lambda t: t[0]
        )
        reading, both = [], []
        for _ in range(3):
            forget()
            reading.append(timed(lambda: reads(found.order))[0])
            forget()
            seconds, again = timed(lambda: chosen(file))
            both.append(seconds)
            if again.order.tolist() != found.order.tolist():
                raise AssertionError("from disk: other sensors than from memory")
    return {
        "size": [candidates, steps, budget],
        "bytes": 8 * (candidates * steps) ** 2,
        "read_bytes": 8 * found.blocks * steps**2,
        "making_seconds": making,
        "computing_seconds": computing,
        "reading_seconds": min(reading),
        "both_seconds": min(both),
    }


def costs(candidates: int, steps: int, budget: int) -> dict[str, Any]:
    root = np.random.default_rng(0).standard_normal((candidates * steps, 200))
    x = DenseCovariance((root @ root.T / 200.0).reshape((candidates, steps) * 2))
    out: dict[str, Any] = {"size": [candidates, steps, budget]}
    for dtype in ("float64", "float32"):
        machine = Machine.measured(steps, budget, dtype, reading=1e12, network=1e12)
        cost = placement_cost(candidates, steps, budget, dtype=dtype)
        seconds, _ = best(
            lambda d=dtype: select(x, NOISE, budget, dtype=d, lazy=False, progress=False), budget=20
        )
        out[dtype] = {"seconds": seconds, "foretold": cost.seconds(machine), **vars(machine)}
    return out


def scale(candidates: int, steps: int, budget: int, ranks: int) -> dict[str, Any]:
    rows = []
    for form, dtype in (
        ("pivoted", "float64"),
        ("pivoted", "float32"),
        ("schur", "float64"),
        ("schur", "float32"),
    ):
        cost = placement_cost(candidates, steps, budget, ranks=ranks, dtype=dtype, form=form)
        rows.append(
            {
                "form": form,
                "dtype": dtype,
                "operations": cost.operations,
                "read_bytes": float(cost.read.sum()),
                "received_bytes": float(cost.received.sum()),
                "memory_bytes": cost.memory,
                "seconds": {f: cost.seconds(replace(A100, reading=f * 1e9)) for f in (1.0, 0.15)},
            }
        )
    size = [candidates, steps, budget, ranks]
    return {"size": size, "disk_bytes": 8.0 * (candidates * steps) ** 2, "rows": rows}
