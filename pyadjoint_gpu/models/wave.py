"""Waves: a dp/dt + div q = s, dq/dt = -b grad p, by leapfrog steps on a staggered grid."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ..core.checks import check_kind, count, positive
from ..core.errors import ConfigError
from ..core.grid import Grid
from ..core.quantities import power as power_of
from ..core.spaces import SIDES, BoundarySpace
from .base import Fields, Parameter, Variable
from .explicit import Explicit
from .finite_volume import below, difference, mean, pad
from .forcing import ForcingSpace, Sites
from .time_steps import steps_text, time_steps

REMAINDER = 1e-3
"""Fraction of its amplitude that a wave at normal incidence keeps through a sponge and back."""


Medium = tuple[jax.Array | float, tuple[Any, ...], jax.Array]
"""1/a, b on the inner faces along each axis, and c; numbers where they are uniform."""


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

    def __init__(
        self,
        grid: Grid,
        step: float,
        steps: int,
        *,
        every: int = 1,
        source: Any = None,
        absorbing: str | Sequence[str] = (),
        sponge: int = 0,
        checkpoints: int | None = None,
        time_units: str = "s",
    ):
        self._on(grid)
        options = time_steps(step, steps, every, checkpoints, time_units)
        sides = (absorbing,) if isinstance(absorbing, str) else absorbing
        if not isinstance(sides, Sequence) or not all(isinstance(s, str) for s in sides):
            raise ConfigError(f"absorbing: found {absorbing!r}, expected names of sides")
        try:
            BoundarySpace(grid, tuple(sides))
        except ConfigError as error:
            raise ConfigError(f"absorbing: {error}") from None
        options["absorbing"] = tuple(sides)
        options["sponge"] = count("sponge", sponge, 0)
        if sponge and not sides:
            raise ConfigError(f"sponge: found {sponge}, but no side is absorbing")
        options["source"] = None if source is None else Sites.of(grid, source, "source")
        self._set(**options)
        for axis, n in enumerate(grid.shape):
            if sponge * len(self._ends(axis)) >= n:
                raise ConfigError(
                    f"sponge: found {sponge} cells, but {n} along {grid.dims[axis]!r}"
                    " leave none without"
                )

    # The medium

    @abstractmethod
    def medium(self, m: Fields) -> Medium:
        """1/a, b on the inner faces along each axis, and c; numbers where they are uniform."""

    @property
    @abstractmethod
    def uniform(self) -> tuple[float, float]:
        """1/a and b, used only where they are uniform."""

    @property
    @abstractmethod
    def own_parameters(self) -> tuple[Parameter, ...]:
        """Parameters of the medium."""

    @property
    def options_text(self) -> str:
        source = [f"source at {self.source.text}"] if self.source else []
        sides = [f"absorbing {', '.join(self.absorbing)}"] if self.absorbing else []
        return ", ".join([steps_text(self), *source, *sides])

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
            "step": self.step,
            "steps": self.steps,
            "every": self.every,
            "absorbing": list(self.absorbing),
            "sponge": self.sponge,
            "checkpoints": self.checkpoints,
            "time_units": self.time_units,
        } | ({} if self.source is None else {"source": self.source.specification()})

    def julia_spec(self) -> dict[str, Any]:
        table = self.specification() | {"step": self.dt}
        source = table.pop("source", None)
        if source is not None:
            assert self.source is not None
            table["source"] = self.source.julia_spec()
        return table

    # Geometry

    def _ends(self, axis: int) -> list[int]:
        """The absorbing ends of an axis: 0 or -1."""
        name = self.grid.dims[axis]
        return [0 if SIDES[s][1] == "min" else -1 for s in self.absorbing if SIDES[s][0] == name]

    def _along(self, axis: int, values: np.ndarray) -> np.ndarray:
        """Values along an axis, shaped to broadcast over the grid."""
        return values.reshape([-1 if a == axis else 1 for a in range(self.grid.ndim)])

    @cached_property
    def _shares(self) -> tuple[np.ndarray | float, ...]:
        """For each axis, one over the share of a cell's length that counts: 1/2 in absorbing
        ones."""
        out: list[np.ndarray | float] = []
        for axis, n in enumerate(self.grid.shape):
            shares = np.ones(n)
            shares[self._ends(axis)] = 2.0
            out.append(self._along(axis, shares) if self._ends(axis) else 1.0)
        return tuple(out)

    @cached_property
    def _sponge(self) -> np.ndarray:
        """g, scaled so that exp(-2 int g) = `REMAINDER`."""
        total = np.zeros(self.grid.shape)
        for axis, (n, h) in enumerate(zip(self.grid.shape, self.grid.spacing, strict=True)):
            for end in self._ends(axis) if self.sponge else ():
                depth = np.clip(1.0 - np.arange(n) / self.sponge, 0.0, 1.0)
                steepness = 1.5 * np.log(1.0 / REMAINDER) / (self.sponge * h)
                total = total + self._along(axis, steepness * np.square(depth[:: 1 + 2 * end]))
        return total

    @cached_property
    def _leaving(self) -> np.ndarray:
        """Area of absorbing sides over the volume of their half cells (times Z/(a c) = 1)."""
        total = np.zeros(self.grid.shape)
        for axis, (n, h) in enumerate(zip(self.grid.shape, self.grid.spacing, strict=True)):
            at = np.zeros(n)
            at[self._ends(axis)] = 2.0 / h
            total = total + self._along(axis, at)
        return total

    # The scheme. The state has q/h on the upper face of each cell, zero on sides.

    def coefficients(self, m: Fields) -> Fields:
        """In the cells, ``pull`` = dt/a and the damping factor ``keep`` of p; on the faces along
        each axis, ``push`` = dt b/h^2 and the damping factor ``hold`` of q. Uniform ones are in
        `_uniform` instead."""
        dt, (inverse, b, speed) = self.dt, self.medium(m)
        # In the precision of the parameters, not that of the NumPy arrays.
        sponge, leaving = (jnp.asarray(a, speed.dtype) for a in (self._sponge, self._leaving))
        c: Fields = {}
        pull = dt * inverse
        if self.absorbing:
            half = 0.5 * dt * speed * (sponge + leaving)
            c["keep"] = (1.0 - half) / (1.0 + half)
            pull = pull / (1.0 + half)
        if np.ndim(pull):
            c["pull"] = pull
        for axis, h in enumerate(self.grid.spacing):
            push = dt * b[axis] / h**2
            if self.sponge:
                half = mean(0.5 * dt * speed * sponge, axis)
                c[f"hold_{axis}"] = pad((1.0 - half) / (1.0 + half), axis, 0, 1)
                push = push / (1.0 + half)
            if np.ndim(push):
                c[f"push_{axis}"] = pad(push, axis, 0, 1)
        return c

    @cached_property
    def _uniform(self) -> dict[str, float]:
        out = {"keep": 1.0, "pull": self.dt * self.uniform[0]}
        for axis, h in enumerate(self.grid.spacing):
            out |= {f"hold_{axis}": 1.0, f"push_{axis}": self.dt * self.uniform[1] / h**2}
        return out

    def start(self, m: Fields) -> Fields:
        """The state with q at t = -dt/2 such that q = 0 at t = 0."""
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
        for axis, share in enumerate(self._shares):
            fall = pad(difference(x["p"], axis), axis, 0, 1)
            q = t[f"hold_{axis}"] * x[f"q_{axis}"] - t[f"push_{axis}"] * fall
            gain = gain - jnp.asarray(share, q.dtype) * (q - pad(below(q, axis), axis, 1, 0))
            out[f"q_{axis}"] = q
        return out | {"p": t["keep"] * x["p"] + t["pull"] * gain}

    def observe(self, x: Fields) -> Fields:
        return {self.wave.name: x["p"]}

    def largest_step(self, m: Fields) -> jax.Array:
        """2/sqrt(lambda), lambda Gershgorin's bound on the eigenvalues of -1/a div b grad."""
        inverse, b, _ = self.medium(m)
        total = 0.0
        for axis, (share, h) in enumerate(zip(self._shares, self.grid.spacing, strict=True)):
            inner = [n - (a == axis) for a, n in enumerate(self.grid.shape)]
            faces = jnp.broadcast_to(b[axis], inner) / h**2
            total = total + share * (pad(faces, axis, 0, 1) + pad(faces, axis, 1, 0))
        return jnp.sqrt(2.0 / jnp.max(inverse * total))


@dataclass(frozen=True, init=False, repr=False)
class AcousticWave(Wave):
    """Acoustic waves: 1/(rho c^2) dp/dt + div v = s, rho dv/dt = -grad p, 1-D to 3-D.

    p is the pressure, v the velocity, c the wave speed, rho the constant density, s the volume
    injected per time and volume. Leapfrog steps on a staggered grid, second order in space and
    time. Sides are rigid walls, unless they absorb.

    Parameters
    ----------
    grid : Grid
    step : float
        dt, at most ``1 / (c sqrt(sum 1/h^2))``.
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
        degrees a sixth of the pressure is reflected.
    sponge : int
        Number of cells before them in which waves are damped. With a layer as thick as the
        wavelength, a fiftieth is reflected at 45 degrees.
    density : float
    checkpoints : int, optional
        Number of further states kept for the gradient, by default the square root of `steps`; as
        many again while it is computed.
    time_units : str
        Unit of dt and of times.

    Notes
    -----
    Unknown: ``pressure``. Parameters: ``wave_speed`` (c, positive), ``initial_pressure`` (zero
    unless given), each a cell field; ``source`` (s), one value for each interval of `every` steps
    and each site (at points, volume per time). A function for it takes time and the coordinates.

    Raises
    ------
    ConfigError
        If an option cannot be used.
    DataError
        If the step is too long for the parameters.
    """

    density: float

    name: ClassVar[str] = "acoustic-wave"
    wave: ClassVar[Variable] = Variable("pressure", "Pa", "pressure")
    rate: ClassVar[tuple[str, int]] = ("volume injected a time", 0)

    def __init__(
        self,
        grid: Grid,
        step: float,
        steps: int,
        *,
        every: int = 1,
        source: Any = None,
        absorbing: str | Sequence[str] = (),
        sponge: int = 0,
        density: float = 1.0,
        checkpoints: int | None = None,
        time_units: str = "s",
    ):
        self._set(density=positive("density", density))
        options = {"source": source, "absorbing": absorbing, "sponge": sponge}
        times = {"every": every, "checkpoints": checkpoints, "time_units": time_units}
        super().__init__(grid, step, steps, **options, **times)

    @property
    def own_parameters(self) -> tuple[Parameter, ...]:
        return (Parameter("wave_speed", "m s-1", "wave speed", positive=True),)

    @property
    def uniform(self) -> tuple[float, float]:
        return 1.0, 1.0 / self.density

    def medium(self, m: Fields) -> Medium:
        speed = m["wave_speed"]
        return self.density * speed**2, (1.0 / self.density,) * self.grid.ndim, speed

    def specification(self) -> dict[str, Any]:
        return super().specification() | {"density": self.density}


@dataclass(frozen=True, init=False, repr=False)
class ShallowWater(Wave):
    """Linear shallow-water waves: d eta/dt + div q = s, dq/dt = -g h grad eta, 1-D or 2-D.

    eta is the elevation of the surface, h the depth at rest, q the depth-integrated velocity, s the
    rate of uplift of the sea floor; valid for eta much less than h and h much less than the
    wavelength. h on a face is the mean of the cells on either side. Leapfrog steps on a staggered
    grid, second order in space and time. Sides are rigid walls, unless they absorb.

    Parameters
    ----------
    grid : Grid
    step : float
        dt, at most about ``1 / sqrt(g h sum 1/spacing^2)`` where h is largest.
    gravity : float
        g.
    steps, every, source, absorbing, sponge, checkpoints, time_units
        As for `AcousticWave`.

    Notes
    -----
    Unknown: ``elevation``. Parameters: ``depth`` (h, positive), ``initial_elevation`` (zero unless
    given), each a cell field; ``source`` (s), one value for each interval of `every` steps and each
    site (at points, volume per time). A function for it takes time and the coordinates.

    Raises
    ------
    ConfigError
        If an option cannot be used, or the grid has three axes.
    DataError
        If the step is too long for the parameters.
    """

    gravity: float

    name: ClassVar[str] = "shallow-water"
    wave: ClassVar[Variable] = Variable("elevation", "m", "elevation of the surface")
    rate: ClassVar[tuple[str, int]] = ("uplift rate", 1)

    def __init__(
        self,
        grid: Grid,
        step: float,
        steps: int,
        *,
        every: int = 1,
        source: Any = None,
        absorbing: str | Sequence[str] = (),
        sponge: int = 0,
        gravity: float = 9.81,
        checkpoints: int | None = None,
        time_units: str = "s",
    ):
        check_kind("grid", grid, Grid)
        if grid.ndim == 3:
            raise ConfigError("grid.shape: found three axes, shallow water has one or two")
        self._set(gravity=positive("gravity", gravity))
        options = {"source": source, "absorbing": absorbing, "sponge": sponge}
        times = {"every": every, "checkpoints": checkpoints, "time_units": time_units}
        super().__init__(grid, step, steps, **options, **times)

    @property
    def own_parameters(self) -> tuple[Parameter, ...]:
        return (Parameter("depth", "m", "depth of the water", positive=True),)

    @property
    def uniform(self) -> tuple[float, float]:
        return 1.0, self.gravity

    def medium(self, m: Fields) -> Medium:
        b = self.gravity * m["depth"]
        return 1.0, tuple(mean(b, axis) for axis in range(self.grid.ndim)), jnp.sqrt(b)

    def specification(self) -> dict[str, Any]:
        return super().specification() | {"gravity": self.gravity}
