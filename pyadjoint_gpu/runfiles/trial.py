"""A network of sensors tried on a source that is known."""

from __future__ import annotations

import numpy as np
import xarray as xr

from ..core.precision import double
from ..lti.inversion import LinearInversion
from ..lti.toeplitz import ToeplitzMap
from ..problem.forward import solve
from ..problem.observation import Observation
from ..results.dataset import NINETY, named
from .placement import SOURCE, PlacementCase

TRIED = 20
"""Random networks that do the same."""


def trial(
    case: PlacementCase, of: ToeplitzMap, forecast: ToeplitzMap | None, design: xr.Dataset
) -> xr.Dataset:
    """Recover the true source of a run file from the waves that it makes, by the chosen network and
    by random ones, with the same errors in their data.

    `of` and `forecast` are the maps to all candidates and to the points of a forecast, `design` is
    the Dataset of `place_sensors`. Returns ``integral`` of the source over time and ``forecast``
    from the data of the first intervals, each found and true, and the rms errors with random
    networks; attributes have those with the chosen one, and the part of the true waves that lies in
    90 % intervals.
    """
    wave = case.model.unknowns[0]
    state = solve(case.model, case.parameters | {SOURCE: case.truth}, engine=case.engine)
    generator = np.random.default_rng([case.choice["seed"], 1])
    data = _at(case, state, case.candidates)
    data = data + case.sigma * generator.standard_normal(data.shape)
    total = of.interval * np.sum(np.asarray(case.truth), axis=0)
    units, text = integrated(case, of)
    true = {"integral": (total, units, text)}
    if forecast is not None:
        true["forecast"] = (_at(case, state, case.points), wave.units, wave.name)

    def inverted(chosen: np.ndarray) -> xr.Dataset:
        network = np.array([*case.choice["existing"], *chosen])
        inversion = LinearInversion(of.select(network), case.prior, case.sigma[network], forecast)
        found = inversion.infer(data[:, network])
        if forecast is None:
            return found
        early = inversion.infer(data[:, network], case.known)
        return found.assign({k: early[k] for k in ("forecast", "forecast_sd")})

    def missed(found: xr.Dataset) -> dict[str, float]:
        return {k: float(np.sqrt(np.mean((found[k] - v) ** 2))) for k, (v, *_) in true.items()}

    found = inverted(design["order"].values)
    errors = [missed(inverted(o[o >= 0])) for o in design["random_order"].values[:TRIED]]
    out = found.drop_vars(["mean", "integral_sd"])  # the latter are those of the design
    for name, (values, units, text) in true.items():
        out[name].attrs = named(f"{text}, found" if name == "integral" else f"{text}, ahead", units)
        out[f"{name}_true"] = (out[name].dims, values, named(f"{text}, true", units))
        of_random = named(f"rms error of the {text} with a random network", units)
        out[f"random_{name}_error"] = ("network", [e[name] for e in errors], of_random)
    out.attrs = {f"{name}_error": value for name, value in missed(found).items()}
    if forecast is not None:
        values, units, text = true["forecast"]
        out["forecast_sd"].attrs = named(f"standard deviation of the {text} ahead", units)
        sd = out["forecast_sd"].values
        off, there = np.abs(out["forecast"].values - values), sd > 1e-3 * sd.max()
        out.attrs["forecast_until"] = of.interval * case.known
        if there.any():
            out.attrs["covered"] = float(np.mean((off <= NINETY * sd)[there]))
    return out


def integrated(case: PlacementCase, of: ToeplitzMap) -> tuple[str, str]:
    """Units of the source's integral over time, and what it is."""
    source = case.model.parameter(SOURCE).long_name
    return of.units[2], f"total {source.removesuffix(' rate').removesuffix(' a time')}"


@double
def _at(case: PlacementCase, state: xr.Dataset, points: np.ndarray) -> np.ndarray:
    """The waves at some points at the end of each interval, of shape (T, n)."""
    name, times = case.model.unknowns[0].name, case.model.times[1:]
    series = np.column_stack([np.repeat(times, len(points)), np.tile(points, (len(times), 1))])
    observation = Observation.at(case.model, name, series)
    return np.asarray(observation({name: state[name].values})).reshape(len(times), -1)
