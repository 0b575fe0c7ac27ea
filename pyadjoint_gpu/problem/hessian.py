"""Hessian products of the reduced objective, J as a function of theta alone.

With R(u, m(theta)) = 0 and the adjoint equation (dR/du)^T lambda = partial J/partial u,

    (dR/du) du = -(dR/dm) dm,    dm = (dm/dtheta) v,
    (dR/du)^T lambda' = d[partial J/partial u] - d[(dR/du)^T] lambda,
    H v = d[partial J/partial theta] - d[(dm/dtheta)^T (dR/dm)^T] lambda
          - (dm/dtheta)^T (dR/dm)^T lambda',

where d[...] is the derivative along (du, v). The Gauss-Newton product leaves out the curvature of
the map S from theta to the state, outputs included, and with it lambda:

    H_GN v = S^T (d^2 misfit/d state^2) S v + F v + (d^2 penalties/d theta^2) v,

which is positive semidefinite for convex misfits and penalties, and without nuisances equal to H v
where the misfit has no slope. F is the Fisher information of nuisances: 2 n of ln s, for n data
whose noise has an unknown scale s, without a term mixed with u. It is the mean over data of the
misfit's curvature, which itself need not be positive. (Hinze, Pinnau, Ulbrich and Ulbrich 2009,
Optimization with PDE Constraints, 1.6.5.)
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ..core.errors import ConvergenceError
from ..core.precision import double
from ..engines.base import Engine
from ..engines.choose import of_tangents
from ..models.base import Fields, Model
from ..solvers.base import Convergence, Limits, require
from . import objective
from .evaluation import Evaluation

Vector = Float[np.ndarray, " n"]


class Product(NamedTuple):
    """A Hessian product, and the two solves behind it."""

    vector: Vector
    tangent: Convergence
    adjoint: Convergence


class Hessian:
    """The Hessian of J at one theta, as a linear map; from `Problem.hessian`.

    It is linearised once, from an evaluation with its solves; each product then takes one tangent
    and one adjoint solve. For models with implicit time steps it keeps all states.

    Parameters
    ----------
    J : Objective
    model : Model
        The model of J as it was given, which an engine may need more of than compiled code.
    engine : Engine
        That of the evaluation.
    theta : array, shape (n,)
    evaluation : Evaluation
        At theta; with its gradient, unless `gauss_newton`.
    limits : Limits
        Of each solve.
    gauss_newton : bool
        The Gauss-Newton Hessian.
    """

    @double
    def __init__(
        self,
        J: objective.Objective,
        model: Model,
        engine: Engine,
        theta: Vector,
        evaluation: Evaluation,
        limits: Limits,
        *,
        gauss_newton: bool = False,
    ):
        self.gauss_newton = gauss_newton
        self._objective, self._model = J, model
        self._engine, self._limits = engine, limits
        self._theta = jnp.asarray(theta)
        self._wanted = list(J.transformations)
        self._m = objective.parameters(J, self._theta)
        self._u = self._fields(evaluation.solution.fields)
        source = objective.slopes(J, self._u, self._theta)[1][0]
        at, adjoint = (model, self._m), None if gauss_newton else evaluation.adjoint
        self._state, self._adjoint = engine.linearise(
            *at, evaluation.solution, adjoint, source, **limits
        )
        self._tangents, self._of_tangents = of_tangents(engine, model), self._state
        if self._tangents is not engine:
            self._of_tangents, _ = self._tangents.linearise(
                *at, self._state, None, source, **limits
            )

    @double
    def product(self, v: Vector) -> Product:
        """H v, by one tangent and one adjoint solve.

        Raises
        ------
        ConvergenceError
            If a solve does not converge.
        """
        of, x, model = self._objective, self._theta, self._model
        along = jnp.asarray(v, x.dtype)
        dm = objective.direction(of, x, along)
        tangent = self._tangents.tangent(model, self._m, self._of_tangents, dm, **self._limits)
        require(tangent.convergence, "the tangent solve", tangent)
        du = self._fields(tangent.fields)
        limits, wanted = self._limits, self._wanted
        if self.gauss_newton:
            source, direct = objective.gauss_newton(of, self._u, x, du, along)
            found = self._engine.adjoint(
                model, self._m, self._state, source, wanted=wanted, **limits
            )
            vector = objective.vjp(of, x, self._fields(found.gradient)) + direct
        else:
            assert self._adjoint is not None
            source, direct = objective.curvature(of, self._u, x, du, along)
            at = model, self._m, self._state, self._adjoint
            found = self._engine.second_order(*at, dm, tangent, source, wanted=wanted, **limits)
            m_bar, change = map(self._fields, (self._adjoint.gradient, found.gradient))
            vector = objective.vjp_change(of, x, m_bar, along, change) + direct
        require(found.convergence, "the second adjoint solve", found)
        return Product(np.asarray(vector), tangent.convergence, found.convergence)

    @double
    def products(
        self, directions: Float[np.ndarray, "members n"]
    ) -> Float[np.ndarray, "members n"]:
        """H v for each row v.

        Where it pays (on the embedded engine, for steady models with multigrid, on a CPU on small
        grids), all solves go side by side with one preconditioner; the product of one does not
        depend on the others.
        """
        of, x, model = self._objective, self._theta, self._model
        along = jnp.asarray(directions, x.dtype)
        dm = objective.directions(of, x, along)
        tangents = self._tangents.tangents(model, self._m, self._of_tangents, dm, **self._limits)
        du = self._fields(tangents.fields)
        limits, wanted = self._limits, self._wanted
        if self.gauss_newton:
            sources, direct = objective.gauss_newtons(of, self._u, x, du, along)
            found = self._engine.adjoints(
                model, self._m, self._state, sources, wanted=wanted, **limits
            )
            vectors = objective.vjps(of, x, self._fields(found.fields)) + direct
        else:
            assert self._adjoint is not None
            sources, direct = objective.curvatures(of, self._u, x, du, along)
            at = model, self._m, self._state, self._adjoint
            found = self._engine.second_orders(*at, dm, tangents, sources, wanted=wanted, **limits)
            m_bar, changes = map(self._fields, (self._adjoint.gradient, found.fields))
            vectors = objective.vjp_changes(of, x, m_bar, along, changes) + direct
        out = np.array(vectors)
        for k in np.flatnonzero(~np.asarray(tangents.usable & found.usable)).tolist():
            out[k] = self.product(directions[k]).vector
        return out

    def transposed(self, sources: Fields) -> Float[np.ndarray, "members n"]:
        """(du/dtheta)^T source for sources by u, arrays with a first axis of members, by an adjoint
        solve each.

        Raises
        ------
        ConvergenceError
            If a solve does not converge.
        """
        found = self._engine.adjoints(
            self._model, self._m, self._state, sources, wanted=self._wanted, **self._limits
        )
        if not np.all(found.usable):
            missed = np.count_nonzero(~np.asarray(found.usable))
            raise ConvergenceError(
                f"{missed} of {len(found.usable)} adjoint solves did not converge"
            )
        return np.asarray(objective.vjps(self._objective, self._theta, self._fields(found.fields)))

    def _fields(self, given: Fields) -> Fields:
        return {k: jnp.asarray(a, self._theta.dtype) for k, a in given.items()}
