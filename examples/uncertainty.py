"""How well do pressures tell a permeability? The posterior of a field, in samples.

Water flows through a box of rock from a side of high pressure to one of low pressure. The truth
is drawn from the prior, a Gaussian field of ln K; 40 pressures have errors of 2 %. Sequential Monte
Carlo with exact gradients draws fields that the data allow: their mean, their spread, and how
much of the truth lies within. `uncertainty.nc` and `uncertainty.png` are left in this directory.
"""

import sys

import numpy as np

import pyadjoint_gpu as pag

small = "--small" in sys.argv  # a quick look

grid = pag.Grid((8, 12) if small else (24, 36), (1.0, 1.5), units="km")
model = pag.models.Darcy(grid, fixed_pressure={"x_min": 1.0, "x_max": 0.0}, pressure_units="MPa")
prior = pag.Matern(sd=1.0, length=0.2)  # of ln K; km

# A truth, and what a survey would see of it.
truth = np.exp(prior.on(grid).draw(seed=5)[0])
points = [(y, x) for y in np.linspace(0.1, 0.9, 5) for x in np.linspace(0.1, 1.4, 8)]
data = pag.synthetic.observe(model, {"permeability": truth}, points, noise=0.02)

control = pag.Control("permeability", 1.0, transform="log", prior=prior, truth=truth)
problem = pag.Problem(model, control, pag.LeastSquares(data))
particles, leapfrogs = (32, 2) if small else (128, 5)
result = pag.sample(problem, particles=particles, leapfrogs=leapfrogs)

result.pag.save("uncertainty.nc")
result.pag.plot("uncertainty.png")
fields = np.log(result["permeability"].values)
low, high = np.quantile(fields, [0.05, 0.95], axis=(0, 1))  # of all chains and draws
within = np.mean((low <= np.log(truth)) & (np.log(truth) <= high))
spread = result["ln_permeability_sd"].values
print(f"sd of ln K: 1 before, {spread.min():.2f} to {spread.max():.2f} after")
print(f"{within:.0%} of the cells' true values lie within their 90 % intervals")
print(f"misfit of a sample: {float(result['misfit'].mean()):.0f}, {0.5 * len(points):.0f} expected")
print(f"ln Z = {result.attrs['log_evidence']:.1f}, from {result.attrs['gradients']} gradients")
print("wrote uncertainty.nc and uncertainty.png")
