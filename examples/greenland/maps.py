"""Fits Greenland as greenland.toml says, and says how well; maps in greenland.png.

    python maps.py [greenland_96_176.nc] [--small]

Half of what is left is at the edges: outlet glaciers are narrower than a cell and slide and calve
where this ice only deforms, nunataks and ice caps of a few cells come and go with the slope of the
bed between them, and water takes all ice that reaches it.

Takes any file with bed_elevation and ice_thickness on a regular grid. With --small it takes the
file at a third of its resolution, and fewer iterations.
"""

import sys
from pathlib import Path

import matplotlib
import numpy as np
import xarray as xr

from pyadjoint_gpu import invert, solve
from pyadjoint_gpu.runfiles.schema import read

matplotlib.use("Agg")
import matplotlib.pyplot as plt

small = "--small" in sys.argv
paths = [a for a in sys.argv[1:] if a != "--small"]
here = Path(__file__).parent
path = Path(paths[0] if paths else here / "greenland_96_176.nc").resolve()
if small:
    with xr.open_dataset(path) as data:
        data.coarsen(x=3, y=3, boundary="trim").mean().to_netcdf("small.nc", engine="h5netcdf")
    path = Path("small.nc").resolve()
places = {
    "grid.like": "bed_elevation",
    "parameters.bed": "bed_elevation",
    "parameters.reference_thickness": "ice_thickness",
    "misfit.observations": "ice_thickness",
}
run = read(
    here / "greenland.toml",
    [f'{key}="{path}:{name}"' for key, name in places.items()]
    + (["inversion.max_iterations=3", "solver.tolerance=1e-5"] if small else []),
)
problem = run.build()
result = invert(problem, **run.settings)
result.to_netcdf("greenland.nc", engine="h5netcdf")

model = problem.model
m = {p.name: result[p.name].values for p in model.parameters}
first = {n: result[f"{n}_initial"].values for n in ("rate_factor", "balance")}
before = solve(model, m | first, engine=problem.engine, tolerance=problem.tolerance)["thickness"]
after, observed = result["thickness"], problem.known["reference_thickness"]
ice = observed > 0


def rms(thickness):
    return float(np.sqrt(np.mean((thickness.values - observed)[ice] ** 2)))


print(f"fitted: rate factor and mass balance; {ice.sum()} cells with ice, sigma 50 m")
print(
    f"rms of the thickness over the ice: {rms(before):.0f} m at the start, {rms(after):.0f} m now"
)
lost, more = ice & (after.values < 1), ~ice & (after.values > 1)
steep = np.hypot(*np.gradient(m["bed"], *model.grid.spacing))
for name, where in (
    ("bed flatter than 1 in 50", ice & (steep < 0.02)),
    ("steeper", ice & (steep >= 0.02)),
    ("observed thinner than 500 m", ice & (observed < 500)),
):
    found = np.sqrt(np.mean((after.values - observed)[where] ** 2))
    print(f"  {name}: {where.sum()} cells, rms {found:.0f} m")
print(
    f"  {lost.sum()} cells have lost their ice, {more.sum()} have some where none was observed,"
    f" {float(after.values[more].mean()) if more.any() else 0:.0f} m on average"
)

x, y = np.meshgrid(result["x"] / 1e3, result["y"] / 1e3)
figure, axes = plt.subplots(1, 5, figsize=(17, 6.2), sharey=True, layout="constrained")
land = np.where(m["bed"] > 0, 1.0, np.nan)
covered = after.values > 1
ratio = np.log10(m["rate_factor"] / first["rate_factor"])
balance = np.where(np.isnan(land) & ~ice, np.nan, m["balance"])
off = after.values - observed
maps = (
    ("observed thickness (m)", np.where(ice, observed, np.nan), "viridis", (0, 3400)),
    ("modelled thickness (m)", np.where(covered, after.values, np.nan), "viridis", (0, 3400)),
    ("modelled - observed (m)", np.where(ice | covered, off, np.nan), "RdBu", (-400, 400)),
    ("rate factor / initial, log10", np.where(ice, ratio, np.nan), "PuOr_r", (-1.5, 1.5)),
    ("mass balance (m/year)", balance, "BrBG", (-2, 2)),
)
for axis, (name, field, colours, limits) in zip(axes, maps, strict=True):
    axis.pcolormesh(x, y, land, cmap="Greys", vmin=0, vmax=4, rasterized=True)
    drawn = axis.pcolormesh(x, y, field, cmap=colours, vmin=limits[0], vmax=limits[1])
    figure.colorbar(drawn, ax=axis, orientation="horizontal", pad=0.02, extend="both")
    axis.set(title=name, aspect="equal", xlabel="easting (km)")
axes[0].set_ylabel("northing (km)")
figure.savefig("greenland.png", dpi=150)
print("wrote greenland.nc and greenland.png")
