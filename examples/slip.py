"""What broke, and how? A synthetic earthquake, end to end.

A fault of which neither the place nor the direction is known slips by up to 1.6 m. From what 16
GNSS stations and 2 x 60 pixels of InSAR see of it, samples of its geometry and of its slip are
drawn, and `slip.nc` and `slip.png` are left in this directory, beside the `gnss.nc`,
`ascending.nc` and `descending.nc` they came from.
"""

import sys
import time
import warnings

import numpy as np
import scipy.stats
import xarray as xr

from pyadjoint_gpu.geophysics import Fault, slip_data
from pyadjoint_gpu.sampling import HierarchicalSMC, SamplingWarning, Settings
from pyadjoint_gpu.statistics import Matern

small = "--small" in sys.argv  # a quick look

# The truth: 24 x 12 km, thrust with some left-lateral slip, most of it in one place.
truth = {"east": 1.5, "north": -2.0, "depth": 3.0, "strike": 35.0, "dip": 50.0}  # km, degrees
fault = Fault(24.0, 12.0, along=4, down=3, slips=("strike", "dip"))
along = (np.arange(4) + 0.5) * 6.0 - 12.0
down = (np.arange(3) + 0.5) * 4.0
patch = np.exp(-0.5 * (((along[:, None] - 2.0) / 5.0) ** 2 + ((down - 5.0) / 3.5) ** 2))
slip = np.stack([0.6 * patch, 1.6 * patch])  # m; by kind, along the strike, down the dip

# What is measured, and how well.
generator = np.random.default_rng(7)
stations = generator.uniform(-35.0, 35.0, (16, 2))
pixels = generator.uniform(-30.0, 30.0, (60, 2))
KM, M = {"units": "km"}, {"units": "m"}


def seen(points, look, sigma):
    """Displacements along `look` with errors."""
    exact = np.asarray(fault.green(points, look, **truth)) @ slip.ravel()
    return exact + sigma * generator.standard_normal(len(exact))


def survey(dim, points, variables):
    coordinates = {"x": (dim, points[:, 0], KM), "y": (dim, points[:, 1], KM)}
    return xr.Dataset({k: (dim, v, a) for k, (v, a) in variables.items()}, coordinates)


variables = {}
for name, axis, sigma in zip(("east", "north", "up"), np.eye(3), (0.01, 0.01, 0.02), strict=True):
    values = seen(stations, np.tile(axis, (16, 1)), sigma)
    variables[f"displacement_{name}"] = values, M
    variables[f"displacement_{name}_sigma"] = np.full(16, sigma), M
surveys = {"gnss": survey("station", stations, variables)}
for name, look in (("ascending", (-0.62, -0.11, 0.78)), ("descending", (0.62, -0.11, 0.78))):
    look = np.tile(np.array(look) / np.linalg.norm(look), (60, 1))
    columns = {f"look_{k}": (look[:, i], {}) for i, k in enumerate(("east", "north", "up"))}
    columns["displacement_los"] = seen(pixels, look, 0.02), M
    columns["displacement_los_sigma"] = np.full(60, 0.02), M
    surveys[name] = survey("pixel", pixels, columns)
for name, data in surveys.items():
    data.to_netcdf(f"{name}.nc", engine="h5netcdf")

# Sampling.
uniform = scipy.stats.uniform
data = slip_data(surveys["gnss"], [surveys["ascending"], surveys["descending"]], units="km")
sampler = HierarchicalSMC(
    fault.forward(data.points, data.look),
    data.displacement,
    data.noise,
    Matern(sd=0.7, length=8.0),
    {
        "east": uniform(-10.0, 20.0),
        "north": uniform(-10.0, 20.0),
        "depth": uniform(0.5, 9.5),
        "strike": uniform(0.0, 90.0),
        "dip": uniform(20.0, 60.0),
    },
    particles=16 if small else 96,
    moves=1 if small else 2,
    inner=Settings(particles=64, leapfrogs=16),
)
began = time.perf_counter()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always", SamplingWarning)
    result = sampler.run(seed=1, repeats=1 if small else 2)
for warning in caught:
    print(f"warning: {warning.message}")
result = result.assign_coords(fault.coordinates("km"))
for name in truth:
    result[name].attrs["units"] = "degree" if name in ("strike", "dip") else "km"
for name in ("slip", "slip_mean", "slip_sd"):
    result[name].attrs["units"] = "m"
result.pag.save("slip.nc")
result.pag.plot("slip.png")

# How much of the truth lies where 90 % of the samples do?
print(f"sampled in {time.perf_counter() - began:.1f} s")
inside = []
weight = result.get("weight", xr.ones_like(result["chain"]))  # of each run, by its evidence
ends, samples = (0.05, 0.95), ("chain", "draw")
for name, true in truth.items():
    low, high = result[name].weighted(weight).quantile(ends, dim=samples).values
    inside.append(low <= true <= high)
    print(
        f"{name:7} {low:6.2f} to {high:6.2f}, true {true:6.2f} {'' if inside[-1] else '(outside)'}"
    )
low, high = result["slip"].weighted(weight).quantile(ends, dim=(*samples, "slip_draw")).values
covered = (low <= slip.ravel()) & (slip.ravel() <= high)
print(f"90 % intervals hold {sum(inside)} of {len(inside)} truths of the geometry")
print(f"and {covered.sum()} of {covered.size} of slip")
print(f"ln Z {result.attrs['log_evidence']:.1f}")
print("wrote slip.nc and slip.png")
