"""A reservoir recovered by Julia ranks, each with its part of the grid and its GPU.

    pyadjoint-gpu install-julia                # once; --backend cuda for GPUs
    python ranks.py mpiexec -n 2               # or srun -n 8, or whatever starts ranks here

A run that was stopped goes on, on as many ranks as there are then, with

    pyadjoint-gpu resume ranks.h5 --launcher "mpiexec -n 4"
"""

import sys

import numpy as np

import pyadjoint_gpu as pag

launcher = sys.argv[1:] or ["mpiexec", "-n", "2"]

grid = pag.Grid(shape=(63, 127), extent=(1.0, 2.0), origin=(0.0, -1.0), units="km")
model = pag.models.Darcy(grid, wells=[pag.Well((0.45, -0.6), 1.0), pag.Well((0.45, 0.6), -1.0)])
points = [(y, x) for y in np.linspace(0.25, 0.85, 8) for x in np.linspace(-1 / 3, 1 / 3, 8)]


def barrier(y, x):
    return np.where((np.abs(x) < 0.04) & (y > 0.3) & (y < 0.8), 1e-2, 1.0)


with pag.Launch(launcher) as ranks:
    print(f"{ranks.info()['ranks']} ranks on {ranks.info()['device']}")
    data = pag.synthetic.observe(model, {"permeability": barrier}, points, noise=0.01, seed=0)
    problem = pag.Problem(
        model,
        pag.Control(
            "permeability", initial=1.0, bounds=(1e-6, 1e2), transform="log", truth=barrier
        ),
        pag.LeastSquares(data),
        pag.Smoothness("permeability", weight=3.0, length=0.1),
    )
    result = pag.invert(problem, max_iterations=30, journal="ranks.h5")

print(f"{result.attrs['status']}: {result.attrs['message']}")
result.pag.save("ranks.nc")
result.pag.plot("ranks.png")
