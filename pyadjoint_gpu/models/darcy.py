"""Steady single-phase flow in a porous medium: -div(K grad P) = Q."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ..core.checks import as_text, check_choice, number
from ..core.errors import ConfigError, shown
from ..core.frozen import Frozen
from ..core.grid import Grid
from ..core.texts import counted
from .base import Fields, Model
from .declarations import Described, Elliptic, Parameter, Variable, components
from .finite_volume import above, below, difference, gather, mean, pad
from .sides import Sides, SidesLike

FACE_MEANS = ("arithmetic", "harmonic")


@dataclass(frozen=True)
class Well(Frozen):
    """A point source: Q = rate / cell volume in the cell that contains `position`.

    Parameters
    ----------
    position : sequence of float
        In array order, ``(y, x)`` or ``(z, y, x)``, in the grid's units.
    rate : float
        Volume per time, m3 s-1 (in two dimensions m2 s-1, per metre of depth); positive injects.
    """

    position: tuple[float, ...]
    rate: float

    def __init__(self, position: Sequence[float], rate: float):
        try:
            place = tuple(number(p) for p in ([position] if np.ndim(position) == 0 else position))
            amount = number(rate)
        except (TypeError, ValueError):
            raise ConfigError(
                f"well: found position {shown(position)} and rate {shown(rate)}, expected numbers"
            ) from None
        if not np.isfinite(amount):
            raise ConfigError(f"well at {place}: found rate {rate!r}, expected a finite number")
        self._set(position=place, rate=amount)


def _listed(given: Any, suits: Callable[[Any], bool], expected: str) -> list[Any]:
    """The option `wells` as a list, or a `ConfigError` unless all its items suit."""
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise ConfigError(f"wells: found {shown(given)}, expected a list of {expected}")
    for k, well in enumerate(given):
        if not suits(well):
            raise ConfigError(f"wells[{k}]: found {shown(well)}, expected {expected}")
    return list(given)


@dataclass(frozen=True, repr=False)
class Darcy(Model):
    """Darcy flow on a cell-centred grid, 1-D to 3-D.

    Finite volumes: in each cell of volume V

        R = 1/V sum_faces A K_f (P_neighbour - P) / h + Q = 0,    -div(K grad P) = Q,

    K_f the mean of the two cells' permeabilities. Sides have no flux, unless their pressure is
    fixed: then the inflow is 2 K (P_b - P) / h, as the boundary value P_b is half a cell away. With
    no fixed side P is determined up to a constant and has zero mean.

    Parameters
    ----------
    grid : Grid
    wells : sequence of Well
    face_mean : {"arithmetic", "harmonic"}
        Harmonic means are exact for layers across the flow; arithmetic ones keep barriers leaky.
    fixed_pressure : sequence of str, or mapping of str to field
        Sides (``"x_min"``, ``"x_max"``, ``"y_min"``, ...) fixed at the parameter
        ``boundary_pressure``. A mapping also gives that parameter's default on each side: a number,
        a profile (one value a face), a linear function ``{"value": v, "gradient": [gy, gx]}`` with
        value v in the middle of the grid, or a function of the coordinates.
    pressure_units : str
        Unit of P; use "m" for hydraulic head. The permeability (mobility) is then in
        m2 s-1 per that unit.

    Notes
    -----
    Unknown: ``pressure``. Parameters: ``permeability`` (a cell field, positive), and
    ``boundary_pressure`` (one value a face of the fixed sides) and ``porosity`` (optional; adds
    the pore velocity to the state). Further state: ``flux_x``, ``flux_y``, ``flux_z``, the Darcy
    flux -K_f dP/dx on the faces.

    Raises
    ------
    ConfigError
        If a well lies outside, a side or the mean is unknown, or the rates of a closed box do
        not sum to zero.
    """

    grid: Grid
    wells: tuple[Well, ...]
    face_mean: str
    sides: Sides
    pressure_units: str

    arrays: ClassVar[tuple[str, ...]] = ("source",)
    arrays_from: ClassVar[tuple[str, ...]] = ("wells",)
    name: ClassVar[str] = "darcy"
    linear: ClassVar[bool] = True

    def __init__(
        self,
        grid: Grid,
        wells: Sequence[Well] = (),
        *,
        face_mean: str = "arithmetic",
        fixed_pressure: SidesLike = (),
        pressure_units: str = "Pa",
    ):
        super().__init__(grid)
        check_choice("face_mean", face_mean, FACE_MEANS)
        kind = "Well(position, rate)"
        self._set(wells=tuple(_listed(wells, lambda well: isinstance(well, Well), kind)))
        self._set(face_mean=face_mean)
        self._set(pressure_units=as_text(pressure_units, "pressure_units"))
        self._set(sides=Sides.of(grid, fixed_pressure, "fixed_pressure", pressure_units))
        _ = self._wells  # refuses wrong positions now, not at the first solve
        total = sum(w.rate for w in self.wells)
        if not self.sides and abs(total) > 1e-12 * sum(abs(w.rate) for w in self.wells):
            raise ConfigError(
                f"wells: rates sum to {total:g}, expected zero where no side has a fixed pressure"
            )

    @cached_property
    def source(self) -> Float[np.ndarray, "*cells"]:
        """Q in each cell."""
        q = np.zeros(self.grid.shape)
        np.add.at(q, *self._wells)
        return q

    @cached_property
    def _wells(self) -> tuple[tuple[Int[np.ndarray, " wells"], ...], Float[np.ndarray, " wells"]]:
        """The index of each well's cell along each axis, and what it adds to Q there."""
        cells = [self.domain.cell_containing(w.position) for w in self.wells]
        rates = np.array([w.rate / self.grid.cell_volume for w in self.wells])
        index = np.array(cells, dtype=int).reshape(-1, self.grid.ndim).T
        return tuple(index), rates

    @property
    def null_space(self) -> bool:
        return not self.sides

    @property
    def options_text(self) -> str:
        sides = self.sides.text("fixed pressure") or "no fixed side"
        return f"{counted(len(self.wells), 'well')}, {sides}, {self.face_mean} face means"

    @property
    def unknowns(self) -> tuple[Variable, ...]:
        return (Variable("pressure", self.pressure_units, "fluid pressure"),)

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return (
            Parameter(
                "permeability",
                f"m2 s-1 {self.pressure_units}-1",
                "permeability over viscosity (mobility)",
                positive=True,
            ),
            Parameter("porosity", "1", "porosity", positive=True, optional=True),
            *self.sides.parameter(
                "boundary_pressure", self.pressure_units, "fluid pressure on the fixed sides"
            ),
        )

    @property
    def output_variables(self) -> tuple[Described, ...]:
        dims = self.grid.dims
        return (
            *components("flux", "m s-1", "Darcy flux", dims),
            *components("velocity", "m s-1", "pore velocity", dims),
        )

    @classmethod
    def from_specification(
        cls, grid: Grid, table: Mapping[str, Any], units: Mapping[str, str]
    ) -> Darcy:
        options, keys = dict(table), {"position", "rate"}
        wells = _listed(
            options.pop("wells", ()),
            lambda well: isinstance(well, Mapping) and set(well) == keys,
            "{position = [...], rate = ...}",
        )
        if units.get("pressure", "1") != "1":
            options.setdefault("pressure_units", units["pressure"])
        return cls(grid, [Well(**well) for well in wells], **options)

    def specification(self) -> dict[str, Any]:
        out: dict[str, Any] = {
            "name": self.name,
            "wells": [{"position": list(w.position), "rate": w.rate} for w in self.wells],
            "face_mean": self.face_mean,
            "pressure_units": self.pressure_units,
        }
        return out | ({"fixed_pressure": self.sides.specification()} if self.sides else {})

    def julia_spec(self) -> dict[str, Any]:
        axes = zip(self.grid.centers, self._wells[0], strict=True)
        positions = np.stack([centers[i] for centers, i in axes], axis=1).tolist()
        return {
            "wells": [
                {"position": p, "rate": w.rate} for p, w in zip(positions, self.wells, strict=True)
            ],
            "face_mean": self.face_mean,
            "sides": list(self.sides.names),
        }

    def face_permeability(
        self, permeability: Float[Array, "*cells"], axis: int
    ) -> Float[Array, "*faces"]:
        """K_f on the inner faces along `axis`."""
        if self.face_mean == "harmonic":
            low, high = below(permeability, axis), above(permeability, axis)
            return 2.0 * low * high / (low + high)
        return mean(permeability, axis)

    def prepare(self, m: Fields) -> dict[str, Any]:
        k = m["permeability"]
        out: dict[str, Any] = {
            "faces": tuple(
                self.face_permeability(k, axis) / h**2 for axis, h in enumerate(self.grid.spacing)
            )
        }
        source = jnp.asarray(self.source, k.dtype)
        if self.sides:
            sink = jnp.zeros_like(k)
            for side in self.sides.layers(m["boundary_pressure"]):
                conductance = 2.0 * k[side.cells] / self.grid.spacing[side.axis] ** 2
                sink = sink.at[side.cells].add(conductance)
                source = source.at[side.cells].add(conductance * side.values)
            out["sink"] = sink
        return out | {"source": source}

    def residual(self, u: Fields, c: Any) -> Fields:
        p = u["pressure"]
        r = c["source"] - c["sink"] * p if self.sides else c["source"]
        flows = [k * difference(p, axis) for axis, k in enumerate(c["faces"])]
        return {"pressure": gather(r, flows)}

    def elliptic(self, u: Fields, c: Any) -> dict[str, Elliptic]:
        return {"pressure": Elliptic(c["faces"], c["sink"] if self.sides else 0.0)}

    def outputs(self, u: Fields, m: Fields) -> Fields:
        p, k = u["pressure"], m["permeability"]
        fluxes = [
            pad(-self.face_permeability(k, axis) * jnp.diff(p, axis=axis) / h, axis, 1, 1)
            for axis, h in enumerate(self.grid.spacing)
        ]
        for side in self.sides.layers(m.get("boundary_pressure")):
            fall = side.values - p[side.cells]
            inflow = 2.0 * k[side.cells] * fall / self.grid.spacing[side.axis]
            fluxes[side.axis] = side.with_inflow(fluxes[side.axis], inflow)
        out = {f"flux_{d}": flux for d, flux in zip(self.grid.dims, fluxes, strict=True)}
        if "porosity" in m:
            for axis, (d, flux) in enumerate(zip(self.grid.dims, fluxes, strict=True)):
                edge = [(1, 1) if a == axis else (0, 0) for a in range(self.grid.ndim)]
                porosity = jnp.pad(m["porosity"], edge, mode="edge")
                out[f"velocity_{d}"] = flux / mean(porosity, axis)
        return out
