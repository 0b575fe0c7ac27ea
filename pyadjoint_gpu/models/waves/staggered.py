"""Waves: a dp/dt + div q = s, dq/dt = -b grad p, by leapfrog steps on a staggered grid."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...core.checks import count
from ...core.errors import ConfigError
from ...core.grid import Grid
from ...core.quantities import power as power_of
from ..base import Fields
from ..declarations import Parameter, Variable
from ..explicit import Explicit
from ..finite_volume import below, difference, mean, pad
from ..forcing import ForcingSpace
from ..sides import side_names
from ..sites import Sites
from .absorbing import Absorbing

Medium = tuple[
    Float[Array, "*cells"] | float,
    tuple[Float[Array, " ..."] | float, ...],
    Float[Array, "*cells"],
]
"""1/a in the cells, b on the inner faces along each axis, and c = sqrt(b/a) in the cells; 1/a and b
are numbers where they are uniform."""


@dataclass(frozen=True, init=False, repr=False)
class Wave(Explicit):
    """Base class of the wave models, with the scheme

        q^(n+1/2) = q^(n-1/2) - dt b grad p^n,
        p^(n+1)   = p^n + dt/a (s - div q^(n+1/2)),

    p in the cells at whole steps, q on the faces at half steps (Yee 1966, IEEE Trans. Antennas
    Propag. 14, 302), q = 0 at t = 0. Second order in space and time. Sides are rigid walls, q = 0,
    or absorb: q = Z p there, Z = sqrt(a b), semi-implicitly, at the outermost cell centres, whose
    cells have half the volume; at normal incidence this is Mur's condition (1981, IEEE Trans.
    Electromagn. Compat. 23, 377). A sponge layer before them damps p and q alike,

        dp/dt -> dp/dt + c g p,    dq/dt -> dq/dt + c g q,

    c = sqrt(b/a), with g growing from zero as the square of the depth in the layer.

    Parameters
    ----------
    grid : Grid
    step : float
        dt.
    steps : int
    every : int
        Number of steps between the states in the result, the initial one included: fields of
        shape ``(times, *grid.shape)``. The source is constant over as many steps.
    source : "cells", array of bool, array or mapping, optional
        Where sources act: in all cells; in those of a mask of the grid's shape; at points, given
        as positions of shape (n, ndim) in array order; or in the cells whose centres lie in a box
        ``{"low": [...], "high": [...]}``. None by default.
    absorbing : sequence of str
        Sides (``"x_min"``, ...) through which waves leave: entirely at normal incidence; at 45
        degrees a sixth of the amplitude is reflected.
    sponge : int
        Number of cells before them in which waves are damped. With a layer as thick as the
        wavelength, a fiftieth is reflected at 45 degrees.
    checkpoints : int, optional
        Number of further states kept for the gradient, by default the square root of `steps`; as
        many again while it is computed.
    time_units : str
        Unit of dt and of times.

    Notes
    -----
    A subclass has `wave`, `rate`, `own_parameters`, `medium` and `uniform`. Further parameters:
    ``initial_<wave>``, a cell field, zero unless given; and ``source`` (s), one value for each
    interval of `every` steps and each site (at points, an amount per time). A function for it takes
    time and the coordinates.

    Raises
    ------
    ConfigError
        If an option cannot be used.
    DataError
        If the step is too long for the parameters.
    """

    grid: Grid
    step: float
    steps: int
    every: int
    checkpoints: int
    time_units: str
    absorbing: tuple[str, ...]
    sponge: int
    source: Sites | None

    arrays: ClassVar[tuple[str, ...]] = ("source",)
    wave: ClassVar[Variable]
    """The unknown p."""
    rate: ClassVar[tuple[str, int]]
    """Name of s, and the power of length in its units, which are per second."""
    own_parameters: ClassVar[tuple[Parameter, ...]]
    """Parameters of the medium."""

    def __init__(
        self,
        grid: Grid,
        step: float,
        steps: int,
        every: int,
        source: Any,
        absorbing: str | Sequence[str],
        sponge: int,
        checkpoints: int | None,
        time_units: str,
    ):
        super().__init__(grid)
        self._set_steps(step, steps, every, checkpoints, time_units)
        self._set(absorbing=side_names(grid, absorbing, "absorbing"))
        self._set(sponge=count("sponge", sponge, 0))
        if sponge and not self.absorbing:
            raise ConfigError(f"sponge: found {sponge}, but no side is absorbing")
        self._set(source=None if source is None else Sites.of(grid, source, "source"))
        _ = self._boundary  # refuses too thick sponges

    # The medium

    @abstractmethod
    def medium(self, m: Fields) -> Medium:
        """1/a, b and c: see `Medium`."""

    @property
    @abstractmethod
    def uniform(self) -> tuple[float, float]:
        """1/a and b; a number that is not uniform is not used."""

    @property
    def options_text(self) -> str:
        source = [f"source at {self.source.text}"] if self.source else []
        sides = [f"absorbing {', '.join(self.absorbing)}"] if self.absorbing else []
        return ", ".join([self.steps_text, *source, *sides])

    @property
    def unknowns(self) -> tuple[Variable, ...]:
        return (self.wave,)

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        name, units = self.wave.name, self.wave.units
        start = Parameter(f"initial_{name}", units, f"{name} at the start", default=0.0)
        return (*self.own_parameters, start, *self._source_parameter)

    @cached_property
    def _source_parameter(self) -> tuple[Parameter, ...]:
        if self.source is None:
            return ()
        name, power = self.rate
        power += self.grid.ndim if self.source.at_points else 0
        space = ForcingSpace(self.source, self.step * self.every, self.intervals, self.time_units)
        return (
            Parameter("source", power_of(("m", power), ("s", -1)), name, default=0.0, space=space),
        )

    @property
    def linear_in(self) -> tuple[str, ...]:
        return (f"initial_{self.wave.name}", *(p.name for p in self._source_parameter))

    def specification(self) -> dict[str, Any]:
        return {
            "name": self.name,
            **self.steps_specification(),
            "absorbing": list(self.absorbing),
            "sponge": self.sponge,
        } | ({} if self.source is None else {"source": self.source.specification()})

    def julia_spec(self) -> dict[str, Any]:
        table = self.specification() | {"step": self.dt}
        return table if self.source is None else table | {"source": self.source.julia_spec()}

    @cached_property
    def _boundary(self) -> Absorbing:
        return Absorbing(self.grid, self.absorbing, self.sponge)

    # The scheme. The state has q/h on the upper face of each cell, zero on sides.

    def coefficients(self, m: Fields) -> Fields:
        """The coefficients of a step, for each axis d with q_d/h_d on the upper faces,

            q_d/h_d <- hold_d q_d/h_d - push_d (p_above - p),
            p       <- keep p + pull (s - sum_d share_d (q_d/h_d - (q_d/h_d)_below)).

        ``push_d`` = dt b/h_d^2 is the response of the flow through a face to the difference of p
        across it, ``pull`` = dt/a that of p in a cell to the net inflow. ``hold_d`` and ``keep``
        are the fractions of q_d and p that remain after a step: 1, but less in a sponge, and for p
        in cells at absorbing sides. As damping is semi-implicit, it makes ``push_d`` and ``pull``
        smaller too. Only coefficients that vary in space are returned; `_uniform` has the others.
        """
        dt, (inverse, b, speed) = self.dt, self.medium(m)
        # In the precision of the parameters, not that of the NumPy arrays.
        damping, leaving = (
            jnp.asarray(a, speed.dtype) for a in (self._boundary.damping, self._boundary.leaving)
        )
        c: Fields = {}
        pull = dt * inverse
        if self.absorbing:
            half = 0.5 * dt * speed * (damping + leaving)
            c["keep"] = (1.0 - half) / (1.0 + half)
            pull = pull / (1.0 + half)
        if np.ndim(pull):
            c["pull"] = pull
        for axis, h in enumerate(self.grid.spacing):
            push = dt * b[axis] / h**2
            if self.sponge:
                half = mean(0.5 * dt * speed * damping, axis)
                c[f"hold_{axis}"] = pad((1.0 - half) / (1.0 + half), axis, 0, 1)
                push = push / (1.0 + half)
            if np.ndim(push):
                c[f"push_{axis}"] = pad(jnp.asarray(push), axis, 0, 1)
        return c

    @cached_property
    def _uniform(self) -> dict[str, float]:
        """The `coefficients` of a uniform medium without damping."""
        out = {"keep": 1.0, "pull": self.dt * self.uniform[0]}
        for axis, h in enumerate(self.grid.spacing):
            out |= {f"hold_{axis}": 1.0, f"push_{axis}": self.dt * self.uniform[1] / h**2}
        return out

    def start(self, m: Fields) -> Fields:
        """The initial p, with q at t = -dt/2 such that q = 0 at t = 0."""
        p, (_, b, _) = jnp.asarray(m[f"initial_{self.wave.name}"]), self.medium(m)
        x = {"p": p}
        for axis, h in enumerate(self.grid.spacing):
            half = 0.5 * self.dt / h**2 * b[axis] * difference(p, axis)
            x[f"q_{axis}"] = pad(half, axis, 0, 1)
        return x

    def forcing(self, m: Fields) -> Fields:
        return {} if self.source is None else {"source": m["source"]}

    def load(self, values: Fields) -> Any:
        return None if self.source is None else self.source.spread(values["source"])

    def advance(self, x: Fields, c: Fields, f: Any) -> Fields:
        t = self._uniform | c
        out, gain = {}, 0.0 if f is None else f
        for axis, share in enumerate(self._boundary.shares):
            fall = pad(difference(x["p"], axis), axis, 0, 1)
            q = t[f"hold_{axis}"] * x[f"q_{axis}"] - t[f"push_{axis}"] * fall
            gain = gain - jnp.asarray(share, q.dtype) * (q - pad(below(q, axis), axis, 1, 0))
            out[f"q_{axis}"] = q
        return out | {"p": t["keep"] * x["p"] + t["pull"] * gain}

    def observe(self, x: Fields) -> Fields:
        return {self.wave.name: x["p"]}

    def largest_step(self, m: Fields) -> Float[Array, ""]:
        """2/sqrt(lambda), with lambda Gershgorin's bound on the eigenvalues of -1/a div b grad."""
        inverse, b, _ = self.medium(m)
        total = 0.0
        for axis, (share, h) in enumerate(
            zip(self._boundary.shares, self.grid.spacing, strict=True)
        ):
            inner = [n - (a == axis) for a, n in enumerate(self.grid.shape)]
            faces = jnp.broadcast_to(b[axis], inner) / h**2
            total = total + share * (pad(faces, axis, 0, 1) + pad(faces, axis, 1, 0))
        return jnp.sqrt(2.0 / jnp.max(inverse * total))
