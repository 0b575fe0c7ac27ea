"""A tsunami: where and when the sea floor rose, from gauges at sea.

A fault breaks from south to north at 2 km/s under a continental slope, 300 m to 4000 m deep, and
lifts the sea floor by 2 m. Twenty-five gauges record the surface for twenty minutes, by linear
shallow-water waves that leave through three sides and are thrown back by the coast in the east.
From the records the uplift is recovered in time and space; then how the waves went on is known.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np

import pyadjoint_gpu as pag
from pyadjoint_gpu.models import ShallowWater

small = "--small" in sys.argv  # a quick look

shape, steps = ((40, 60), 120) if small else ((96, 144), 300)
km = 1e3
grid = pag.Grid(shape, (200 * km, 300 * km), units="m")


def depth(y, x):
    slope = 0.5 * (1.0 + np.tanh((185 * km - x + 12 * km * np.sin(y / (35 * km))) / (40 * km)))
    return 300.0 + 3700.0 * slope


def uplift_rate(t, y, x):
    """Each place rises for 80 s once the break has come there."""
    began = (y - 60 * km) / (2 * km)
    rising = np.where(abs(t - began - 40.0) < 40.0, np.cos((t - began - 40.0) * np.pi / 80.0), 0.0)
    across, along = (x - 150 * km) / (22 * km), (y - 100 * km) / (40 * km)
    return 0.05 * rising**2 * np.exp(-(along**4) - across**2) * (1.0 - 0.6 * across)


fault = {"low": [40 * km, 110 * km], "high": [160 * km, 190 * km]}
model = ShallowWater(
    grid,
    step=1200.0 / steps,
    steps=steps,
    every=steps // 60,  # the source, and the records, in intervals of 20 s
    source=fault,
    absorbing=("x_min", "y_min", "y_max"),
    sponge=shape[0] // 8,
)

places = np.meshgrid(np.linspace(30 * km, 170 * km, 5), np.linspace(90 * km, 240 * km, 5))
gauges = np.stack(places, axis=-1).reshape(-1, 2)
records = np.array([[t, *g] for g in gauges for t in model.times[1:]])
truth = {"depth": depth, "source": uplift_rate}
data = pag.synthetic.observe(model, truth, records, noise=0.01)

problem = pag.Problem(
    model,
    pag.Control("source", 0.0, truth=uplift_rate),
    pag.LeastSquares(data),
    pag.Smoothness("source", weight=1e9, length=10 * km),
    parameters={"depth": depth},
)
result = pag.invert(
    problem,
    max_iterations=10 if small else 50,
    title="Where the floor rose",
)

# The picture

interval = model.every * model.step
inside = model.source.indices  # type: ignore[union-attr]


def total(rates):
    """The uplift in the end, on the grid."""
    out = np.zeros(grid.size)
    out[inside] = interval * rates.sum("interval")
    return out.reshape(shape)


true, found = total(result["source_true"]), total(result["source"])
error = np.sqrt(np.mean((found - true).flat[inside] ** 2))
print(f"uplift of up to {true.max():.2f} m recovered with an rms error of {error:.2f} m")

y, x = (c / km for c in grid.centers)
bottom = depth(*np.meshgrid(*grid.centers, indexing="ij"))
figure, axes = plt.subplots(2, 2, figsize=(11.5, 7.6), layout="constrained")
for ax, field, text in (
    (axes[0, 0], true, "uplift, true"),
    (axes[0, 1], found, f"uplift, recovered (rms error {error:.2f} m)"),
):
    image = ax.pcolormesh(x, y, field, cmap="RdBu_r", vmin=-2.2, vmax=2.2, rasterized=True)
    lines = ax.contour(x, y, bottom, [500, 1000, 2000, 3000], colors="k")
    lines.set(linewidths=0.5, alpha=0.5)
    ax.clabel(lines, fmt="%g m", fontsize=7)
    ax.plot(gauges[:, 1] / km, gauges[:, 0] / km, "^", color="k", mfc="w", ms=6)
    ax.set(title=text, xlabel="x (km)", ylabel="y (km)", aspect="equal")
    figure.colorbar(image, ax=ax, label="m", shrink=0.8)

last = result["elevation"].sel(time=600.0, method="nearest")
image = axes[1, 0].pcolormesh(x, y, last, cmap="RdBu_r", vmin=-0.8, vmax=0.8, rasterized=True)
axes[1, 0].plot(gauges[:, 1] / km, gauges[:, 0] / km, "^", color="k", mfc="w", ms=6)
axes[1, 0].set(title="sea surface after 10 minutes", xlabel="x (km)", ylabel="y (km)")
axes[1, 0].set_aspect("equal")
figure.colorbar(image, ax=axes[1, 0], label="m", shrink=0.8)

observed = result["observed"].values.reshape(len(gauges), -1)
predicted = result["predicted"].values.reshape(len(gauges), -1)
ax, minutes = axes[1, 1], model.times[1:] / 60.0
for k, gauge in enumerate((3, 6, 12, 17)):
    base = -1.5 * k
    ax.plot(minutes, base + observed[gauge], ".", color="0.6", ms=4)
    ax.plot(minutes, base + predicted[gauge], color="#1f6f8b", lw=1.5)
    place = "x = {1:g}, y = {0:g} km".format(*gauges[gauge] / km)
    ax.text(19.8, base + 0.15, place, fontsize=8, ha="right")
ax.plot([0.3, 0.3], [-4.2, -3.2], color="k", lw=2)
ax.text(0.6, -3.7, "1 m", fontsize=8, va="center")
ax.set(title="records (dots) and their fit", xlabel="time (min)", xlim=(0, 20), yticks=[])
ax.spines[["top", "right", "left"]].set_visible(False)
figure.savefig("waves.png", dpi=150)
print("wrote waves.png")
