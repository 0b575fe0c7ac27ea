"""A model and a misfit of one's own: reaction and diffusion, fitted to a whole image.

    div(grad u) - k u - u^3 + q = 0,   no flux through the sides,

with the reaction rate k(x, y) unknown and q a lamp in the middle. The model is a residual in JAX;
its solver, adjoint, tests and inversion follow. The misfit is a function of the state.
"""

import jax.numpy as jnp
import numpy as np

import pyadjoint_gpu as pag
from pyadjoint_gpu.models import Elliptic, Model, Parameter, Variable


class Reaction(Model):
    unknowns = (Variable("u", "1", "concentration"),)
    parameters = (
        Parameter("rate", "1", "reaction rate", positive=True),
        Parameter("source", "1", "production"),
    )

    def residual(self, u, c):
        field = jnp.pad(u["u"], 1, mode="edge")  # no flux
        hy, hx = self.grid.spacing
        middle = field[1:-1, 1:-1]
        laplacian = (field[1:-1, 2:] - 2 * middle + field[1:-1, :-2]) / hx**2
        laplacian += (field[2:, 1:-1] - 2 * middle + field[:-2, 1:-1]) / hy**2
        return {"u": laplacian - c["rate"] * middle - middle**3 + c["source"]}

    def elliptic(self, u, c):
        """Optional: what couples the cells of -dR/du, for the multigrid solver."""
        hy, hx = self.grid.spacing
        ones = jnp.ones_like(u["u"])
        sink = c["rate"] + 3 * u["u"] ** 2
        return {"u": Elliptic((ones[1:] / hy**2, ones[:, 1:] / hx**2), sink)}


grid = pag.Grid(shape=(48, 64), extent=(3.0, 4.0), units="1")
model = Reaction(grid)


def lamp(y, x):
    return 20.0 * np.exp(-((y - 1.5) ** 2 + (x - 2.0) ** 2))


def spot(y, x):
    return 1.0 + 4.0 * np.exp(-((y - 2.0) ** 2 + (x - 1.0) ** 2) / 0.2)


image = pag.solve(model, {"rate": spot, "source": lamp})["u"].values


def misfit(state):
    return 0.5 * jnp.sum(jnp.square((state["u"] - image) / 0.01))


problem = pag.Problem(
    model,
    controls=[pag.Control("rate", 1.0, transform="log", truth=spot)],
    misfit=misfit,
    penalty=pag.Smoothness("rate", weight=10.0, length=0.2),
    parameters={"source": lamp},
    tolerance=1e-10,
)
print(pag.taylor_test(problem))
result = pag.invert(problem, max_iterations=40, title="Reaction rate from an image")
result.inversion.plot("own_misfit.png")
error = np.log(result["rate"] / result["rate_true"])
print(f"rate: rms error of ln k {float(np.sqrt((error**2).mean())):.3f}, wrote own_misfit.png")
