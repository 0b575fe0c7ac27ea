"""The stiffness of a glacier from its surface velocity, and how little that says of depth.

Half of a valley glacier, from the rock wall at x = 0 to the middle. Ice of Glen's flow law
(n = 1/3) is held by the bed and the wall, and flows out of the section under its own weight. Cold,
sound ice has k = (2 A)^(-1/3) = 59 MPa s^(1/3); beside the wall it is damaged and half as stiff,
and so it is in a lens at the bed. Sixty velocities along the surface have 1 % of noise.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np

import pyadjoint_gpu as pag
from pyadjoint_gpu.models import Channel

small = "--small" in sys.argv  # a quick look

RATE_FACTOR = 2.4e-24  # A, in Pa-3 s-1
SOUND = (2 * RATE_FACTOR) ** (-1 / 3)
WEIGHT = 910.0 * 9.81 * np.sin(np.radians(3.0))  # along a slope of 3 degrees, in N m-3
DEPTH, HALF_WIDTH = 300.0, 1200.0
YEAR = 365.25 * 86400.0


def prefactor(y, x):
    margin = np.exp(-(((x - 120.0) / 80.0) ** 4))
    lens = np.exp(-(((x - 800.0) / 150.0) ** 4) - (y / 60.0) ** 4)
    return SOUND * 0.5 ** (margin + lens)


grid = pag.Grid((6, 24) if small else (48, 192), (DEPTH, HALF_WIDTH), units="m")
model = Channel(grid, no_slip=("x_min", "y_min"), smallest=1e-12, viscosity_limit=1e15)
known = {"driving_force": WEIGHT, "exponent": 1 / 3}

# The embedded engine has multigrid: pseudo-transient solves of ice take far longer.
places = np.arange(10.0, HALF_WIDTH, 20.0)
surface = np.stack([np.full_like(places, DEPTH), places], axis=1)
data = pag.synthetic.observe(
    model, known | {"prefactor": prefactor}, surface, noise=0.01, engine="embedded"
)
problem = pag.Problem(
    model,
    pag.Control("prefactor", SOUND, transform="log", truth=prefactor),
    pag.LeastSquares(data),
    pag.Smoothness("prefactor", weight=1e3, length=60.0),
    parameters=known,
    engine="embedded",
)
print(pag.taylor_test(problem))
result = pag.invert(problem, max_iterations=10 if small else 40)

# What came back

found, true = (result[name] / SOUND for name in ("prefactor", "prefactor_true"))
for name, x, y in (
    ("damaged margin, upper half", (40, 200), (150, 300)),
    ("damaged margin, lower half", (40, 200), (0, 150)),
    ("lens at the bed", (650, 950), (0, 60)),
    ("sound ice above it", (650, 950), (120, 300)),
    ("sound ice between", (350, 550), (0, 300)),
):
    box = {"x": slice(*x), "y": slice(*y)}
    print(f"{name}: {float(true.sel(box).mean()):.2f} of sound, "
          f"recovered {float(found.sel(box).mean()):.2f}")  # fmt: skip

start = pag.solve(model, known | {"prefactor": SOUND}, engine="embedded")["velocity"]
figure, (speed, *maps, mean) = plt.subplots(
    4, 1, figsize=(8, 9), sharex=True, layout="constrained", height_ratios=(1.3, 1, 1, 1)
)
speed.plot(grid.centers[1], start[-1] * YEAR, color="#bbbbbb", label="start: sound ice")
speed.errorbar(
    places,
    result["observed"] * YEAR,
    yerr=result["sigma"] * YEAR,
    fmt=".",
    color="k",
    ms=4,
    lw=0.8,
    label="observed",
)
speed.plot(grid.centers[1], result["velocity"][-1] * YEAR, color="#1f6f8b", label="recovered")
speed.set(ylabel="m per year", title="surface velocity")
images = [
    axes.pcolormesh(
        grid.faces[1], grid.faces[0], field, vmin=0.4, vmax=1.2, cmap="viridis", rasterized=True
    )
    for axes, field in zip(maps, (true, found), strict=True)
]
for axes, name in zip(maps, ("true", "recovered"), strict=True):
    axes.set(ylabel="height (m)", title=f"{name} stiffness, relative to that of sound ice")
figure.colorbar(images[0], ax=maps, extend="both")
mean.plot(grid.centers[1], true.mean("y"), "k:", label="true")
mean.plot(grid.centers[1], found.mean("y"), color="#1f6f8b", label="recovered")
mean.set(xlabel="distance from the wall (m)", title="stiffness, mean over the depth")
for axes in (speed, mean):
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
figure.savefig("channel.png", dpi=150)
print("wrote channel.png")
