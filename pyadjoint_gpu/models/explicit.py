"""Models whose states follow from each other by explicit steps, without a solve."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ..core.errors import DataError
from ..core.precision import compiled, double
from ..core.quantities import converter
from .base import Fields, Model


class Explicit(Model):
    """A state x that moves on by

        x_(n+1) = G(x_n, c, f_k),    n = 0, ..., steps - 1,    k = n // every,

    with coefficients c and a forcing f of the parameters m, f constant over intervals of `every`
    steps. The unknowns u are what is observed of x at the start and at the ends of the intervals.

    A subclass gives `coefficients`, `start`, `advance`, `observe`, `largest_step` and, where it is
    forced, `forcing`. Where G is linear in x and f, u is linear in the parameters behind x_0 and f,
    which `linear_in` names, and does not depend on when a forcing begins: it is the sum of its
    responses to the intervals' values, each shifted in time.

    Attributes
    ----------
    step : float
        From n to n + 1, in `time_units`; `dt` in seconds.
    steps, every : int
    checkpoints : int
        States x kept for the gradient at a time, besides u; from them the others are computed
        again.
    linear_in : tuple of str
    """

    step: float
    steps: int
    every: int
    checkpoints: int
    linear_in: tuple[str, ...] = ()

    @abstractmethod
    def coefficients(self, m: Fields) -> Fields:
        """c: what steps use of m, the same in all of them."""

    @abstractmethod
    def start(self, m: Fields) -> Fields:
        """x_0."""

    def forcing(self, m: Fields) -> Fields:
        """The values behind f; of each array one entry of the first axis an interval."""
        return {}

    def load(self, values: Fields) -> Any:
        """f in an interval, of the entries of `forcing`."""
        return values

    @abstractmethod
    def advance(self, x: Fields, c: Fields, f: Any) -> Fields:
        """G(x, c, f): one step."""

    @abstractmethod
    def observe(self, x: Fields) -> Fields:
        """The unknowns, of x."""

    @abstractmethod
    def largest_step(self, m: Fields) -> Any:
        """The longest step for which G is stable, in seconds; of the parameters that are not
        `linear_in`."""

    # Derived

    @cached_property
    def dt(self) -> float:
        """The step in seconds."""
        return converter("time_units", self.time_units, "s")(self.step)

    @property
    def intervals(self) -> int:
        """How many values of the forcing there are."""
        return self.steps // self.every

    @property
    def times(self) -> np.ndarray:
        return self.step * np.arange(0, self.steps + 1, self.every)

    def fields(self, given: Any) -> dict[str, np.ndarray]:
        out = super().fields(given)
        self.check_step(out)
        return out

    @double
    def check_step(self, m: Fields) -> None:
        """Raise `DataError` where the step is too long to be stable."""
        behind = {k: jnp.asarray(v) for k, v in m.items() if k not in self.linear_in}
        largest = float(_largest_step(self, behind))
        if not self.dt <= largest * (1.0 + 1e-9):
            largest *= self.step / self.dt
            raise DataError(
                f"step: found {self.step:g}, expected at most {largest:.6g} {self.time_units}"
                f" for these parameters of model {self.name!r}"
            )

    def march(self, x: Fields, c: Fields, values: Fields, intervals: int, steps: int) -> Any:
        """x after so many intervals of so many steps each, and the unknowns at their ends."""

        def interval(x: Fields, values: Fields) -> tuple[Fields, Fields]:
            f = self.load(values)
            x, _ = lax.scan(lambda x, _: (self.advance(x, c, f), None), x, length=steps)
            return x, self.observe(x)

        return lax.scan(interval, x, values, length=intervals)

    def trajectory(self, m: Fields) -> Fields:
        """u(m)."""
        x = self.start(m)
        _, later = self.march(x, self.coefficients(m), self.forcing(m), self.intervals, self.every)
        return jax.tree.map(
            lambda first, rest: jnp.concatenate([first[None], rest]), self.observe(x), later
        )

    def residual(self, u: Fields, c: Fields) -> Fields:
        """R = u(m) - u, with c = m: the multiplier of J is -dJ/du."""
        return jax.tree.map(jnp.subtract, self.trajectory(c), u)


@compiled
def _largest_step(model: Explicit, m: Fields) -> Any:
    return model.largest_step(m)
