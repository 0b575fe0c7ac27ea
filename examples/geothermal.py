"""Where is the barrier? A geothermal doublet, end to end.

Two wells pump through a rock that holds a nearly impermeable barrier. From 64 noisy pressures the
permeability is recovered, and `geothermal.nc` and `geothermal.png` are left in this directory,
beside the `observations.nc` and `truth.nc` they came from.
"""

import numpy as np
import xarray as xr

import pyadjoint_gpu as pag

grid = pag.Grid(shape=(127, 255), extent=(1.0, 2.0), origin=(0.0, -1.0), units="km")
model = pag.models.Darcy(
    grid, wells=[pag.Well((0.45, -0.6), 1.0), pag.Well((0.45, 0.6), -1.0)], pressure_units="MPa"
)

# The truth, and what a survey would see of it.
y, x = np.meshgrid(*grid.centers, indexing="ij")
truth = np.where((abs(x) < 0.04) & (y > 0.3) & (y < 0.8), 1e-6, 1.0)
points = [(py, px) for py in np.linspace(0.25, 0.85, 8) for px in np.linspace(-1 / 3, 1 / 3, 8)]
observations = pag.synthetic.observe(model, {"permeability": truth}, points, noise=0.01)
observations.to_netcdf("observations.nc", engine="h5netcdf")
xr.Dataset({"permeability": (grid.dims, truth)}).to_netcdf("truth.nc", engine="h5netcdf")

# The inversion.
problem = pag.Problem(
    model,
    controls=[pag.Control("permeability", 1.0, bounds=(1e-6, 1e2), transform="log", truth=truth)],
    misfit=pag.LeastSquares(observations),
    penalty=pag.Smoothness("permeability", weight=3.0, length=0.1),
)
result = pag.invert(problem, discrepancy=True, title="Geothermal doublet")

result.pag.save("geothermal.nc")
result.pag.plot("geothermal.png")
misfit = result["misfit"].values
print(f"{result.attrs['status']}: {result.attrs['message']}")
print(f"misfit {misfit[0]:.4g} -> {misfit[-1]:.4g} in {len(misfit) - 1} iterations")
print("wrote geothermal.nc and geothermal.png")
