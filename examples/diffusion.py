"""Nonlinear diffusion, dH/dt = div(k H^n grad H): an exponent, and where a mound was.

First the exponent n of a steady profile 20 m long between heights of 1 m and 0.5 m, from a start
at n = 1. Then the initial state of a mound that has spread for a while, from 36 gauges that read
its height five times, through all time steps.
"""

import sys

import numpy as np

import pyadjoint_gpu as pag
from pyadjoint_gpu.models import Diffusion, Transient

small = "--small" in sys.argv  # a quick look

# The exponent

line = Diffusion(pag.Grid((101,), (20.0,)), {"x_min": 1.0, "x_max": 0.5})
profile = pag.synthetic.observe(
    line, {"diffusivity": 1.0, "exponent": 3.0}, line.grid.centers[0][:, None], noise=0.01
)
result = pag.invert(
    pag.Problem(
        line,
        pag.Control("exponent", 1.0, basis="constant"),
        pag.LeastSquares(profile),
        parameters={"diffusivity": 1.0},
    ),
    progress=False,
)
print(f"exponent: 3 is the truth, recovered {float(result['exponent'].mean()):.2f} (1 % noise)")

# The initial state


def mounds(y, x):
    left = 0.8 * np.exp(-((y - 0.6) ** 2 + (x - 0.5) ** 2) / 0.02)
    return 0.5 + left + 0.5 * np.exp(-((y - 0.3) ** 2 + (x - 1.4) ** 2) / 0.05)


shape, steps = ((8, 16), 5) if small else ((48, 96), 40)
grid = pag.Grid(shape, (1.0, 2.0), units="m")
box = Diffusion(grid, {"x_min": 0.5, "x_max": 0.5})
model = Transient(box, step=0.02 / steps, steps=steps, every=steps // 5)

known = {"diffusivity": 1.0, "exponent": 2.0}
gauges = np.stack(
    np.meshgrid(model.times[1:], np.linspace(0.1, 0.9, 4), np.linspace(0.1, 1.9, 9), indexing="ij"),
    axis=-1,
).reshape(-1, 3)
data = pag.synthetic.observe(model, known | {"initial_height": mounds}, gauges, noise=0.005)

problem = pag.Problem(
    model,
    pag.Control("initial_height", 0.5, transform="log", truth=mounds),
    pag.LeastSquares(data),
    pag.Smoothness("initial_height", weight=30.0, length=0.2),
    parameters=known,
)
result = pag.invert(problem, max_iterations=5 if small else 30, title="Where the mounds were")
result.pag.plot("diffusion.png")
error = result["initial_height"] - result["initial_height_true"]
print(f"initial height: rms error {float(np.sqrt((error**2).mean())):.3f} m, wrote diffusion.png")
