"""The first block column of a linear time-invariant model's map from a forcing to sensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from ..core.checks import check_kind
from ..core.errors import ConfigError, nearest
from ..core.fingerprint import model_part
from ..core.precision import double
from ..core.progress import progress_bar
from ..core.quantities import points, power
from ..engines.base import Engine
from ..engines.choose import get_engine, running
from ..models.base import Fields, Model
from ..models.explicit import Explicit
from ..models.forcing import ForcingSpace
from ..problem.observation import Observation
from ..results.dataset import Variables, describe, grid_coordinates, named
from ..solvers.base import default_iterations, require
from .rows import BlockRows, followed
from .spaces import told


@double
def block_column(
    model: Model,
    parameters: Mapping[str, Any],
    sensors: ArrayLike,
    *,
    parameter: str = "source",
    engine: str | Engine = "auto",
    progress: bool | None = None,
    journal: str | Path | None = None,
    overwrite: bool = False,
) -> xr.Dataset:
    """The blocks F_0, F_1, ... of the map from a forcing to what sensors see of the first unknown,

        d_k = F_0 m_k + F_1 m_(k-1) + ... + F_k m_0,

    d_k the values at the sensors at the end of interval k, m_k those of the forcing in it, all else
    zero. The map of all times is block lower-triangular and Toeplitz, with these as its first
    column. One adjoint run a sensor gives its row of every block: the derivatives of its last
    value.

    Parameters
    ----------
    model : Explicit
        A model whose state is linear in its parameter `parameter`.
    parameters : mapping
        As for `solve`; values of the forcing itself do not matter.
    sensors : array, shape (n, ndim), or Dataset
        Positions in array order, or by name (``x``, ``y``, ...), in the grid's unit unless they
        state another; values are interpolated as by `LeastSquares`.
    parameter : str
    engine : str or Engine
    progress : bool, optional
        A bar where someone looks, else a line a minute; False for nothing.
    journal : path, optional
        Each sensor's row is kept there (HDF5) as soon as it is computed; with a file that is there
        already the run goes on where it stopped, to the same bits.
    overwrite : bool
        Start the journal anew.

    Returns
    -------
    Dataset
        ``response`` with dimensions ``lag``, ``sensor`` and those of the forcing's sites; the lag
        is the time from the end of an interval of the forcing to the observation.

    Raises
    ------
    ConfigError, DataError
        If the model has no such parameter, a sensor lies outside the grid, or the journal is
        truncated, in use, or of other inputs, which are named.
    """
    asked = _Column.of(model, parameters, sensors, parameter, engine)
    space, count = asked.space, len(asked.sensors)
    rows = followed(journal, (count, *space.shape), asked.made_with, asked.rows, overwrite)
    blocks = np.empty((space.count, count, *space.shape[1:]))
    for k, row in progress_bar(
        rows, shown=progress, total=count, unit="sensors", desc="block column"
    ):
        # Derivatives of the last value are by interval, the last of which is lag 0.
        blocks[:, k] = row[::-1]
    unknown, declared = asked.model.unknowns[0], asked.model.parameter(parameter)
    return xr.Dataset(
        {
            "response": (
                ("lag", "sensor", *space.dims[1:]),
                blocks,
                {
                    "units": power((unknown.units, 1), (declared.units, -1)),
                    "long_name": f"{unknown.name} at sensors by {declared.name}",
                    "observed_units": unknown.units,
                    "parameter_units": declared.units,
                    **told(space),
                },
            )
        },
        _coordinates(asked.model, space, asked.sensors),
        describe(
            f"block column of {asked.model.name}",
            asked.engine,
            kind="block-column",
            intervals=space.count,
        ),
    )


@double
def rows_done(journal: str | Path, **asked: Any) -> int:
    """Number of sensors' rows that `block_column` would find in its journal, called with the same
    `model`, `parameters`, `sensors`, `parameter` and `engine`; nothing is solved."""
    kept = BlockRows.found(journal, _Column.of(**asked).made_with)
    if kept is None:
        return 0
    with kept:
        return int(np.count_nonzero(kept.done()))


@dataclass(frozen=True)
class _Column:
    """The checked arguments of `block_column`."""

    engine: Engine
    model: Explicit
    m: Fields
    parameter: str
    space: ForcingSpace
    sensors: Float[np.ndarray, "sensors axes"]

    @classmethod
    def of(
        cls,
        model: Model,
        parameters: Mapping[str, Any],
        sensors: ArrayLike,
        parameter: str,
        engine: str | Engine,
    ) -> _Column:
        check_kind("model", model, Model)
        if not isinstance(model, Explicit):
            raise ConfigError(
                f"model: found {type(model).__name__}, expected one of explicit steps"
            )
        space = model.space(parameter)
        if parameter not in model.linear_in or not isinstance(space, ForcingSpace):
            forcings = [n for n in model.linear_in if isinstance(model.space(n), ForcingSpace)]
            raise ConfigError(f"parameter: found {parameter!r}{nearest(parameter, forcings)}")
        grid = model.domain
        where = points("sensors", sensors, dict.fromkeys(grid.dims, grid.units))
        grid.check_inside(where, "sensor")
        chosen = running(get_engine(engine, model), model)
        return cls(chosen, model, model.fields(parameters), parameter, space, where)

    def rows(self, which: Int[np.ndarray, " some"]) -> Iterator[Float[np.ndarray, " times *sites"]]:
        """The derivatives of the last value of each of these sensors."""
        if not len(which):
            return
        engine, model = self.engine, self.model
        options: dict[str, Any] = {"tolerance": 1e-8, "max_iterations": default_iterations(model)}
        solution = engine.solve(model, self.m, **options)
        require(solution.convergence, "the forward solve", solution)
        name, sensors = model.unknowns[0].name, self.sensors[which]
        points = np.column_stack([np.full(len(sensors), model.times[-1]), sensors])
        last = Observation.at(model, name, points)
        for impulse in np.eye(last.size):
            adjoint = engine.adjoint(
                model,
                self.m,
                solution,
                {name: last.transposed(impulse)},
                wanted=(self.parameter,),
                **options,
            )
            yield np.asarray(adjoint.gradient[self.parameter])

    def made_with(self) -> dict[str, Any]:
        """The inputs that determine the blocks, bit by bit."""
        model = self.model
        return {
            "engine": {k: self.engine.info().get(k) for k in ("engine", "dtype")},
            "grid": model.domain,
            "model": model_part(model),
            "parameters": {k: np.asarray(v) for k, v in self.m.items() if k not in model.linear_in},
            "parameter": self.parameter,
            "sensors": self.sensors,
        }


def _coordinates(
    model: Model, space: ForcingSpace, sensors: Float[np.ndarray, "sensors axes"]
) -> Variables:
    lag = named("time after the end of an interval", space.time_units)
    out: Variables = {"lag": ("lag", space.interval * np.arange(space.count), lag)}
    for d, p in zip(model.domain.dims, sensors.T, strict=True):
        out[f"sensor_{d}"] = "sensor", p, named(f"{d} coordinate of sensors", model.domain.units)
    own = grid_coordinates(model.domain) | space.coordinates()
    return out | {k: v for k, v in own.items() if v[0] in space.dims[1:]}
