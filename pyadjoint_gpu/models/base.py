"""The base class of models: unknowns, parameters and a discrete residual."""

from __future__ import annotations

import re
import sys
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ..core.checks import check_kind, check_mapping
from ..core.errors import ConfigError, DataError, nearest
from ..core.grid import Grid
from ..core.precision import fused
from ..core.spaces import CellSpace, Space
from .declarations import Bound, Described, Elliptic, Parameter, Variable
from .structure import Structured

Fields = dict[str, Any]
"""Arrays by name, of NumPy or JAX."""


class Model(Structured, ABC):
    """A PDE on a grid, as a discrete residual R(u, m) = 0 that includes its boundary conditions.

    A subclass declares its `unknowns` (cell fields) and `parameters`, and implements `residual` in
    JAX operations. Solvers, adjoints, tests and inversions are derived from these. Arrays that the
    residual uses beside the parameters, such as a source by wells, are named in `arrays`.

    The pseudo-transient solver integrates du/dtau = R/PC with PC = -diag(dR/du). So R may have
    either sign, but the diagonal of its Jacobian must have no zeros, and the eigenvalues of the
    Jacobian relative to that diagonal must lie in the right half plane, as for diffusion or drag.
    """

    name: ClassVar[str] = "user"
    """The name in run files and in Julia."""
    linear: ClassVar[bool] = False
    """Whether R is affine in u."""
    stencil_radius: ClassVar[int] = 1
    """Distance, in cells along each axis, over which R in one cell depends on u."""
    julia_source: ClassVar[str | Path | None] = None
    """A Julia file that registers a model of this `name` with the same R, for the Julia engine. The
    path is relative to the file of the class (in a notebook, to the working directory)."""

    grid: Grid
    """The grid in metres, on which residuals are computed."""
    unknowns: tuple[Variable, ...]
    parameters: tuple[Parameter, ...]
    time_units: str = "s"
    """The unit of time of R = du/dt, and of the `times`."""

    def __init__(self, grid: Grid):
        check_kind("grid", grid, Grid)
        self._set(grid=grid.si, _domain=grid)

    @property
    def domain(self) -> Grid:
        """The grid as it was given, whose units positions have."""
        if "_domain" in vars(self):
            return vars(self)["_domain"]
        if self.grid.si is not self.grid:
            raise ConfigError(
                f"model {self.name!r}: its grid is in {self.grid.units!r}; give it to"
                " Model.__init__, which has residuals computed in metres"
            )
        return self.grid

    @abstractmethod
    def residual(self, u: Fields, c: Any) -> Fields:
        """R(u, m), an array of the grid's shape for each unknown, with ``c = prepare(m)``."""

    def prepare(self, m: Fields) -> Any:
        """The parts of the residual that do not depend on u, such as face coefficients."""
        return m

    def guess(self, m: Fields) -> Fields | None:
        """The initial guess of a solve without an earlier state, from NumPy arrays `m`; None for
        zero."""
        return None

    @property
    def lower(self) -> dict[str, Bound]:
        """Lower bounds of unknowns: R(u, m) = 0 is then a complementarity problem."""
        return {}

    def elliptic(self, u: Fields, c: Any) -> dict[str, Elliptic] | None:
        """Face coefficients of -dR/du at u, by unknown, from which multigrid is built; None for a
        model whose dR/du is not mainly such an operator.

        They need not be all of dR/du: drift, couplings between unknowns and derivatives of
        coefficients may be left out, which makes solves slower but does not change results.
        """
        return None

    def outputs(self, u: Fields, m: Fields) -> Fields:
        """Derived fields of the state, such as fluxes, as functions of u and m."""
        return {}

    @property
    def output_variables(self) -> tuple[Described, ...]:
        """Descriptions of the `outputs`."""
        return ()

    @property
    def observables(self) -> dict[str, Described]:
        """Fields of a state that can be observed, by name: the unknowns, and the outputs in cells
        or on faces."""
        allowed = [(d, f"{d}_face") for d in self.grid.dims]
        if self.times is not None:
            allowed.insert(0, ("time", "time"))
        return {u.name: (u, self.dims) for u in self.unknowns} | {
            v.name: (v, dims)
            for v, dims in self.output_variables
            if len(dims) == len(allowed) and all(d in a for d, a in zip(dims, allowed, strict=True))
        }

    @property
    def elliptic_declared(self) -> bool:
        """Whether `elliptic` gives coefficients."""
        return type(self).elliptic is not Model.elliptic

    @property
    def times(self) -> Float[np.ndarray, " times"] | None:
        """The times along the first axis of a state's fields; None for a steady model."""
        return None

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of a state's axes."""
        return self.grid.dims if self.times is None else ("time", *self.grid.dims)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a state's fields."""
        return self.grid.shape if self.times is None else (len(self.times), *self.grid.shape)

    @property
    def null_space(self) -> bool:
        """Whether u is determined up to a constant only and R sums to zero over the cells. States
        then have zero mean."""
        return False

    @classmethod
    def from_specification(
        cls, grid: Grid, table: Mapping[str, Any], units: Mapping[str, str]
    ) -> Model:
        """The model of a ``[model]`` table (without ``name``); `units` are those of the data, by
        the state's variable.
        """
        return cls(grid, **table)

    def specification(self) -> dict[str, Any] | None:
        """The ``[model]`` table of a run file that builds this model; None if there is none."""
        return None

    def julia_spec(self) -> dict[str, Any] | None:
        """Options (numbers, texts, lists and dicts of them) of the Julia model of the same name, in
        ``julia/src/models`` or the `julia_source`; None if there is no such model."""
        return None if self.julia_source is None else {}

    def julia_source_path(self) -> Path | None:
        """Absolute path of the `julia_source`."""
        if self.julia_source is None:
            return None
        owner = next(c for c in type(self).__mro__ if "julia_source" in vars(c))
        file = getattr(sys.modules.get(owner.__module__), "__file__", None)
        return (Path(file).parent if file else Path.cwd()).resolve() / self.julia_source

    # Derived

    @property
    def options_text(self) -> str:
        """A few words on the options beside the grid."""
        return ""

    @property
    def text(self) -> str:
        """A one-line description."""
        rest = self.options_text
        return f"{type(self).__name__} on {self.domain.text}{rest and f'; {rest}'}"

    def __repr__(self) -> str:
        if not all(name in vars(self) for name in self.arrays_from):
            return f"{type(self).__name__} as compiled code knows it"
        optional = {p.name for p in self.parameters if p.optional}

        def listed(what: str, variables: Sequence[Variable]) -> str:
            ends = (" (optional)" if v.name in optional else "" for v in variables)
            units = zip(variables, ends, strict=True)
            said = ", ".join(f"{v.name} [{v.units}]{end}" for v, end in units)
            return textwrap.fill(f"  {what:12}{said}", 100, subsequent_indent=14 * " ")

        lines = listed("unknowns", self.unknowns), listed("parameters", self.parameters)
        return "\n".join((self.text, *lines))

    def equations(self, u: Fields, c: Any) -> Fields:
        """The function that solvers drive to zero: R; for an unknown with a lower bound,

            max(R(v), s (bound - v)) + s (v - u),    v = max(u, bound),

        cell by cell, with the bound's rate s. It is zero where u solves the complementarity problem
        u >= bound, R <= 0, (u - bound) R = 0. There its derivatives are those of R in the inactive
        cells, and u is fixed in the active set.
        """
        bounds = self.lower
        if not bounds:
            return self.residual(u, c)
        v, r = self._above(u, c)
        return r | {
            k: jnp.maximum(r[k], b.rate * (b.value - v[k])) + b.rate * (v[k] - u[k])
            for k, b in bounds.items()
        }

    def active_set(self, u: Fields, c: Any) -> Fields:
        """Masks of the cells where the bound is active, so that `equations` do not depend on R, by
        unknown with a bound."""
        v, r = self._above(u, c)
        return {
            k: (r[k] < b.rate * (b.value - v[k])) | (u[k] < b.value) for k, b in self.lower.items()
        }

    def _above(self, u: Fields, c: Any) -> tuple[Fields, Fields]:
        """max(u, bounds), and R there."""
        # At the bound itself take u, whose derivatives of R are one-sided.
        v = u | {k: jnp.where(u[k] >= b.value, u[k], b.value) for k, b in self.lower.items()}
        return v, self.residual(v, c)

    def parameter(self, name: str) -> Parameter:
        """The declaration of the parameter of that name."""
        for p in self.parameters:
            if p.name == name:
                return p
        raise ConfigError(
            f"{name!r} is not a parameter of model {self.name!r}"
            + nearest(str(name), [p.name for p in self.parameters])
        )

    def space(self, name: str) -> Space:
        """The space of a parameter's values."""
        return self.parameter(name).space or CellSpace(self.domain)

    def field(
        self, name: str, value: Any, where: str | None = None
    ) -> Float[np.ndarray, "*values"]:
        """`value` as a parameter field (see `Space.fill`), in the model's units.

        Raises
        ------
        ConfigError, DataError
            If `value` cannot be used; messages begin with `where`, by default the name.
        """
        field = self.space(name).fill(value, where or name, self.parameter(name))
        return self.check(name, field)

    def fields(self, given: Mapping[str, Any]) -> dict[str, Float[np.ndarray, " ..."]]:
        """Every parameter as an array, from numbers, arrays, DataArrays or functions.

        Raises
        ------
        ConfigError, DataError
            If a parameter is unknown, missing, of the wrong shape, not finite or not positive.
        """
        self._check_units()
        check_mapping("parameters", given, "parameter fields by name")
        for key in given:
            self.parameter(key)
        out = {}
        for p in self.parameters:
            value = given.get(p.name, p.default)
            if value is None and p.optional:
                continue
            if value is None:
                raise ConfigError(f"parameter {p.name!r} of model {self.name!r} is not given")
            out[p.name] = self.field(p.name, value)
        return out

    def _check_units(self) -> None:
        """Raise a `ConfigError` if a variable's units contain the unit of length of a grid that is
        not in metres: residuals use spacings in metres."""
        length = self.domain.units
        if length == "m":
            return
        for v in (*self.unknowns, *self.parameters):
            if re.search(rf"(?<![A-Za-z]){re.escape(length)}(?![A-Za-z])", v.units):
                raise ConfigError(
                    f"model {self.name!r}: {v.name} is in {v.units!r}, expected metres: residuals"
                    f" are computed in metres, on a grid in {length!r} too; values in {v.units!r}"
                    " are converted where they state it"
                )

    def check(self, name: str, field: Float[np.ndarray, "*values"]) -> Float[np.ndarray, "*values"]:
        """`field`, or a `DataError` if the parameter must be positive and is not."""
        if self.parameter(name).positive and not np.all(field > 0):
            bad = np.count_nonzero(~(field > 0))
            raise DataError(
                f"{name}: {bad} of {field.size} values are not positive"
                f" (smallest {np.min(field):g}), expected > 0"
            )
        return field


@fused
def outputs(model: Model, u: Fields, m: Fields) -> Fields:
    """`Model.outputs`, of a state that is known."""
    return model.outputs(u, m)
