"""A tsunami warning: fifteen gauges of sixty, and what they say minute by minute.

Under a continental slope an earthquake lifts the sea floor, where and when nobody knows.
Beforehand, one adjoint run a gauge makes the map from uplift to records; from it the gauges are
chosen that tell most, and all is factored once. Then, as records arrive, waves at the coast are
forecast in milliseconds, with intervals. `tsunami.toml` is the same case for `pyadjoint-gpu place`,
against random networks.
"""

import sys
import time

import matplotlib.pyplot as plt
import numpy as np

import pyadjoint_gpu as pag
from pyadjoint_gpu.geophysics import Rupture, continental_margin
from pyadjoint_gpu.lti import LinearInversion, ToeplitzMap
from pyadjoint_gpu.placement import place_sensors
from pyadjoint_gpu.statistics import Matern, SpaceTime

small = "--small" in sys.argv  # a quick look

km = 1e3
grid = pag.Grid((30, 40) if small else (60, 80), (300 * km, 400 * km), units="m")
depth = continental_margin(grid, side="y_max")  # the coast is in the north
model = pag.models.ShallowWater(
    grid,
    step=30.0 if small else 15.0,
    steps=100 if small else 200,
    every=2,  # the uplift, and the records, in intervals of 60 s or 30 s
    source={"low": [150 * km, 110 * km], "high": [250 * km, 290 * km]},
    absorbing=("y_min", "x_min", "x_max"),
    sponge=4 if small else 8,
)
lattice = np.meshgrid(np.linspace(60, 260, 6) * km, np.linspace(50, 350, 10) * km, indexing="ij")
candidates = np.stack(lattice, axis=-1).reshape(-1, 2)
coast = np.array([[297 * km, x * km] for x in (120, 200, 280)])
sigma, budget = 0.005, 4 if small else 15  # m

# Beforehand

began = time.perf_counter()
column = pag.block_column(model, {"depth": depth}, np.concatenate([candidates, coast]))
print(f"{column.sizes['sensor']} adjoint runs: {time.perf_counter() - began:.1f} s")
everywhere = ToeplitzMap.of(column)
gauges = everywhere.select(np.arange(len(candidates)))
ashore = everywhere.select(len(candidates) + np.arange(len(coast)))
prior = SpaceTime(Matern(sd=0.009, length=40 * km), duration=45.0)

began = time.perf_counter()
network = place_sensors(gauges, prior, sigma, budget, random=3 if small else 20)
order = network["order"].values
print(f"gauges {', '.join(map(str, order))}: {time.perf_counter() - began:.1f} s")
best = float(network["random_information"].max())
print(f"information {float(network['information'][-1]):.0f} nats, at random {best:.0f} at most")
inverse = LinearInversion(gauges.select(order), prior, sigma, forecast=ashore)

# The earthquake

rupture = Rupture(
    centre=(200 * km, 190 * km), origin=(215 * km, 140 * km), strike=90.0, uplift=3.0,
    length=170 * km, width=100 * km, speed=2 * km, rise_time=180.0,
)  # fmt: skip
state = pag.solve(model, {"depth": depth, "source": rupture})


def at(places):
    """Records there, by time and place."""
    each = [(time, *place) for time in model.times[1:] for place in places]
    observation = pag.Observation.at(model, "elevation", each)
    return np.asarray(observation({"elevation": state["elevation"].values})).reshape(
        model.intervals, -1
    )


records = at(candidates[order])
records = records + sigma * np.random.default_rng(0).standard_normal(records.shape)
true = at(coast)

# As it happens

interval = model.every * model.step
shown, answers, spent = [5, 10, 20, 30], {}, []
stream = inverse.stream()
for k, row in enumerate(records):
    began = time.perf_counter()
    answer = stream.update(row)
    spent.append(time.perf_counter() - began)
    answers[round((k + 1) * interval / 60.0, 6)] = answer
print(f"a new forecast in {1e3 * np.median(spent):.0f} ms")

figure, axes = plt.subplots(1 + len(shown), 1, figsize=(7.5, 12.5), layout="constrained",
                            height_ratios=[2.6, *(1 for _ in shown)])  # fmt: skip
y, x = (c / km for c in grid.centers)
inside = np.full(grid.size, np.nan)
inside[model.source.indices] = answers[30]["integral"]  # type: ignore[union-attr]
final = rupture.final(*np.meshgrid(*grid.centers, indexing="ij"))
ax = axes[0]
image = ax.pcolormesh(x, y, inside.reshape(grid.shape), cmap="RdBu_r", vmin=-3, vmax=3)
figure.colorbar(image, ax=ax, label="m", shrink=0.9)
lines = ax.contour(x, y, final, [0.5, 1.5, 2.5], colors="k", linewidths=0.9)
ax.clabel(lines, fmt="%g m", fontsize=7)
ax.contour(x, y, depth, [200, 1000, 2000, 3000], colors="C0", linewidths=0.6, alpha=0.6)
ax.plot(candidates[:, 1] / km, candidates[:, 0] / km, ".", color="0.6", ms=4)
ax.plot(*candidates[order][:, ::-1].T / km, "^", color="k", mfc="w", ms=6)
ax.plot(*coast[:, ::-1].T / km, "s", color="k", mfc="#f2c14e", ms=6, clip_on=False)
ax.set(title="uplift after 30 minutes of data (true: black lines), gauges, and three places ashore",
       xlabel="x (km)", ylabel="y (km)", aspect="equal")  # fmt: skip
ax.title.set_fontsize(10)
minutes = model.times[1:] / 60.0
for ax, now in zip(axes[1:], shown, strict=True):
    mean, sd = (answers[now][n].values[:, 1] for n in ("forecast", "forecast_sd"))
    ax.axvspan(0, now, color="0.93", lw=0)
    ax.fill_between(minutes, mean - 1.645 * sd, mean + 1.645 * sd, color="#9ec9d6", lw=0)
    ax.plot(minutes, mean, color="#1f6f8b", lw=1.5)
    ax.plot(minutes, true[:, 1], "k:", lw=1.5)
    ax.text(0.5, 3.2, f"{now} minutes of data", fontsize=9)
    ax.set(xlim=(0, minutes[-1]), ylim=(-5, 5), ylabel="elevation (m)")
    ax.spines[["top", "right"]].set_visible(False)
axes[1].set_title(
    "waves at the middle place: forecast, 90 % interval, and true (dots)", fontsize=10
)
axes[-1].set_xlabel("time (min)")
figure.savefig("tsunami.png", dpi=150)
print("wrote tsunami.png")
