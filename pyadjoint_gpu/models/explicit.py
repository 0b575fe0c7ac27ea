"""Models with explicit time steps, which need no solve."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from ..core.errors import DataError
from ..core.precision import compiled, double
from ..core.quantities import converter
from .base import Fields, Model
from .time_steps import TimeSteps


class Explicit(TimeSteps, Model):
    """A model of a state x with explicit time steps

        x_(n+1) = G(x_n, c, f_k),    n = 0, ..., steps - 1,    k = n // every,

    with coefficients c and a forcing f that depend on the parameters m, f constant over intervals
    of `every` steps. The unknowns u are observed from x at the start and the ends of the intervals.
    For the gradient `checkpoints` states x are kept beside u, and the others recomputed from them.

    A subclass implements `coefficients`, `start`, `advance`, `observe`, `largest_step` and, if it
    is forced, `forcing`. If G is linear in x and f, the model is linear time-invariant in the
    parameters named in `linear_in`, from which x_0 and f are computed: u is the sum of its
    responses to the forcing of each interval, shifted in time.
    """

    linear_in: tuple[str, ...] = ()

    @abstractmethod
    def coefficients(self, m: Fields) -> Fields:
        """The coefficients c(m), the same in all steps."""

    @abstractmethod
    def start(self, m: Fields) -> Fields:
        """The initial state x_0."""

    def forcing(self, m: Fields) -> Fields:
        """The arrays from which f is computed; their first axis runs over the intervals."""
        return {}

    def load(self, values: Fields) -> Any:
        """f in one interval, from its entries in `forcing`."""
        return values

    @abstractmethod
    def advance(self, x: Fields, c: Fields, f: Any) -> Fields:
        """G(x, c, f): one step."""

    @abstractmethod
    def observe(self, x: Fields) -> Fields:
        """The unknowns u from x."""

    @abstractmethod
    def largest_step(self, m: Fields) -> Float[Array, ""]:
        """The longest stable step in seconds; m lacks the parameters in `linear_in`."""

    # Derived

    @cached_property
    def dt(self) -> float:
        """The step in seconds."""
        return converter("time_units", self.time_units, "s")(self.step)

    @property
    def intervals(self) -> int:
        """Number of intervals over which the forcing is constant."""
        return self.steps // self.every

    def fields(self, given: Mapping[str, Any]) -> dict[str, Float[np.ndarray, " ..."]]:
        """`Model.fields`; a `DataError` if the step is too long for them to be stable."""
        out = super().fields(given)
        self.check_step(out)
        return out

    @double
    def check_step(self, m: Fields) -> None:
        """Raise a `DataError` if the step is too long to be stable."""
        behind = {k: jnp.asarray(v) for k, v in m.items() if k not in self.linear_in}
        largest = float(_largest_step(self, behind))
        if not self.dt <= largest * (1.0 + 1e-9):
            largest *= self.step / self.dt
            raise DataError(
                f"step: found {self.step:g}, expected at most {largest:.6g} {self.time_units}"
                f" for these parameters of model {self.name!r}"
            )

    def march(
        self, x: Fields, c: Fields, values: Fields, intervals: int, steps: int
    ) -> tuple[Fields, Fields]:
        """x after `intervals` of `steps` steps each, and the unknowns at the ends of these;
        `values` are their entries of `forcing`."""

        def interval(x: Fields, values: Fields) -> tuple[Fields, Fields]:
            f = self.load(values)
            x, _ = lax.scan(lambda x, _: (self.advance(x, c, f), None), x, length=steps)
            return x, self.observe(x)

        return lax.scan(interval, x, values, length=intervals)

    def trajectory(self, m: Fields) -> Fields:
        """The unknowns u(m) at all times."""
        x = self.start(m)
        _, later = self.march(x, self.coefficients(m), self.forcing(m), self.intervals, self.every)
        return jax.tree.map(
            lambda first, rest: jnp.concatenate([first[None], rest]), self.observe(x), later
        )

    def residual(self, u: Fields, c: Fields) -> Fields:
        """R = u(m) - u, with c = m, whose adjoint solution is -dJ/du."""
        return jax.tree.map(jnp.subtract, self.trajectory(c), u)


@compiled
def _largest_step(model: Explicit, m: Fields) -> Float[Array, ""]:
    return model.largest_step(m)
