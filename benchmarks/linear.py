"""Linear time-invariant systems: data covariance, real-time inversion, sensor selection from disk,
and the accuracy of predicted costs.

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
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from pyadjoint_gpu.lti import CovarianceFile, LinearInversion, ToeplitzMap
from pyadjoint_gpu.lti.covariance import covariance
from pyadjoint_gpu.placement import A100, Machine, placement_cost, select
from pyadjoint_gpu.statistics import DenseCovariance, Independent

from .machine import agree, best, timed
from .report import markdown

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


def system(sensors: int, steps: int, sites: int, seed: int = 0) -> ToeplitzMap:
    """A system whose responses decay over a fifth of the time."""
    blocks = np.random.default_rng(seed).standard_normal((steps, sensors, sites))
    return ToeplitzMap.of(blocks * np.exp(-5.0 * np.arange(steps) / steps)[:, None, None])


def forming(sensors: int, steps: int, sites: int) -> dict[str, Any]:
    of, prior = system(sensors, steps, sites), Independent(1.0).on((steps, sites))
    ours, found = best(lambda: covariance(of, prior))
    units = np.eye(sensors * steps).reshape(-1, steps, sensors)
    of.matvec(np.asarray(prior.covariance(of.rmatvec(units[:BATCH]))))

    def by_products() -> np.ndarray:
        rows = [
            of.matvec(np.asarray(prior.covariance(of.rmatvec(units[k : k + BATCH]))))
            for k in range(0, len(units), BATCH)
        ]
        return np.concatenate(rows).reshape(steps, sensors, steps, sensors)

    peer, expected = timed(by_products)
    off = agree("covariances differ", found.transpose(1, 0, 3, 2), expected, AGREE)
    return {
        "size": [sensors, steps, sites],
        "ours_seconds": ours,
        "peer_seconds": peer,
        "off": off,
        "product_flops": 2.0 * (sensors * steps) ** 2 * sites,
    }


def online(sensors: int, steps: int, sites: int, points: int = 3) -> dict[str, Any]:
    of, ahead = system(sensors, steps, sites), system(points, steps, sites, seed=1)
    prior = Independent(1.0)
    offline, inversion = timed(lambda: LinearInversion(of, prior, NOISE, ahead))
    variance, _ = timed(lambda: inversion.variance)
    data = np.random.default_rng(2).standard_normal((steps, sensors))
    stream = inversion.stream()
    stream.update(data[: steps // 2])
    updates = [timed(lambda k=k: stream.update(data[k]))[0] for k in range(steps // 2, steps)]
    return {
        "size": [sensors, steps, sites, points],
        "offline_seconds": offline,
        "variance_seconds": variance,
        "infer_seconds": best(lambda: inversion.infer(data), repeats=20)[0],
        "update_seconds": float(np.median(updates)),
        "draws_seconds": best(lambda: inversion.draws(data, 100))[0] / 100,
    }


def disk(candidates: int, steps: int, budget: int) -> dict[str, Any]:
    of = system(candidates, steps, 100)
    prior = Independent(1.0)
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
        computing, found = best(lambda: chosen(within), budget=np.inf)
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
    for form, dtype in product(("pivoted", "schur"), ("float64", "float32")):
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


def tables(result: dict[str, Any]) -> str:
    f, o, d = result["forming"], result["online"], result["disk"]
    sensors, steps, sites = f["size"]
    rate = f["product_flops"] / f["ours_seconds"] / 1e9
    parts = [
        f"Forming F Gamma F^T, {sensors} sensors, {steps} times, {sites} sites:"
        f" {f['ours_seconds']:.2f} s ({rate:.0f} GFLOP/s in the one product and all else);"
        f" by products with Fourier transforms {f['peer_seconds']:.1f} s,"
        f" {f['peer_seconds'] / f['ours_seconds']:.0f} times as long."
    ]
    sensors, steps, sites, points = o["size"]
    parts.append(
        f"Inversion, {sensors} sensors, {steps} times, {sites} sites, {points} points of"
        f" forecast: beforehand {o['offline_seconds']:.2f} s (and {o['variance_seconds']:.1f} s for"
        f" the variance of every value); an observation set {o['infer_seconds'] * 1e3:.1f} ms,"
        f" an update by one more row {o['update_seconds'] * 1e3:.1f} ms,"
        f" a sample {o['draws_seconds'] * 1e3:.1f} ms."
    )
    candidates, steps, budget = d["size"]
    larger = max(d["computing_seconds"], d["reading_seconds"])
    parts.append(
        f"{budget} of {candidates} candidates, {steps} times, from {d['bytes'] / 1e9:.2f} GB on"
        f" disk, of which {d['read_bytes'] / 1e9:.2f} GB are read: {d['both_seconds']:.2f} s;"
        f" arithmetic alone (from memory) {d['computing_seconds']:.2f} s, reading alone"
        f" {d['reading_seconds']:.2f} s: {d['both_seconds'] / larger:.2f} times the larger."
        f" Making the file took {d['making_seconds']:.1f} s."
    )
    parts.append("Seconds predicted from operation counts and the machine's rates:")
    head = ["candidates", "times", "sensors", "numbers", "s", "predicted", "ratio"]
    rows = [
        [
            *map(str, r["size"]),
            dtype,
            f"{r[dtype]['seconds']:.2f}",
            f"{r[dtype]['foretold']:.2f}",
            f"{r[dtype]['foretold'] / r[dtype]['seconds']:.2f}",
        ]
        for r in result["costs"]
        for dtype in ("float64", "float32")
    ]
    parts.append(markdown(head, rows))
    head = ["form", "numbers", "PFLOP a rank", "GB read", "GB received", "GB of memory"]
    head += ["minutes, reads of 1 GB/s", "of 0.15 GB/s"]
    for r in result["scale"]:
        candidates, steps, budget, ranks = r["size"]
        parts.append(
            f"Not measured: {budget} of {candidates} candidates, {steps} times, on {ranks} GPUs of"
            f" `A100`'s rates; the covariance takes {r['disk_bytes'] / 1e12:.2f} TB of disk."
        )
        rows = [
            [
                row["form"],
                row["dtype"],
                f"{row['operations'] / 1e15:.3g}",
                *(f"{row[k] / 1e9:.0f}" for k in ("read_bytes", "received_bytes", "memory_bytes")),
                *(f"{seconds / 60:.1f}" for seconds in row["seconds"].values()),
            ]
            for row in r["rows"]
        ]
        parts.append(markdown(head, rows))
    return "\n\n".join(parts)
