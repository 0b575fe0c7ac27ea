"""Placement from a run file: choose sensors, try them on a synthetic rupture, tell and draw."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import xarray as xr

from ..core.texts import sizes
from ..engines.choose import running
from ..lti.block_column import block_column, rows_done
from ..lti.toeplitz import ToeplitzMap
from ..placement.placing import place_sensors
from ..results.dataset import describe, grid_coordinates, named
from .placement import SOURCE, PlacementCase
from .trial import integrated, trial

KEPT = (
    "budget",
    "rule",
    "guarantee",
    "guaranteed_fraction",
    "existing_information",
    "warnings",
)
"""Attributes of `place_sensors`."""


def run(
    case: PlacementCase, *, overwrite: bool = False, progress: bool | None = None
) -> xr.Dataset:
    """The Dataset of `place_sensors`, with candidates and the medium; where there is a rupture, its
    source and the forecast as the chosen network recovers them (`trial`). `overwrite`
    starts anew what is kept on disk."""
    writes, sensors = case.file.writes, len(case.candidates)
    column = block_column(
        **_asked(case), progress=progress, journal=writes.get("journal"), overwrite=overwrite
    )
    whole = ToeplitzMap.of(column)
    of = whole.select(np.arange(sensors))
    forecast = whole.select(np.arange(sensors, whole.sensors)) if len(case.points) else None
    design = place_sensors(
        of,
        case.prior,
        case.sigma,
        goal=forecast if case.file.placement.goal == "forecast" else None,
        store=writes.get("covariance"),
        journal=writes.get("selection"),
        overwrite=overwrite,
        progress=progress,
        **case.choice,
    )
    units, text = integrated(case, of)
    design["integral_sd"].attrs = named(f"standard deviation of the {text}", units)
    out = design.assign(_setting(case)).assign_coords(_coordinates(case))
    attributes = {k: design.attrs[k] for k in KEPT if k in design.attrs}
    if case.truth is not None:
        tried = trial(case, of, forecast, design)
        out, attributes = out.assign(tried.variables), attributes | tried.attrs
    out.attrs = describe(
        f"placement of sensors for {case.model.name}",
        running(case.engine, case.model),
        kind="placement",
        title=case.file.title,
        medium=next(iter(case.parameters)),
        config_json=case.config_json,
        inputs_sha256=hashlib.sha256(case.config_json.encode()).hexdigest(),
        **attributes,
    )
    return out


def plan(case: PlacementCase, *, overwrite: bool = False) -> tuple[str, str]:
    """One line about what `run` does, and what its journal of the block column has of it already.
    (Those of the covariance and the selection depend on what the block column turns out to be.)"""
    seen = len(case.candidates) + len(case.points)
    text = (
        f"a block column of {seen} adjoint runs of model {case.model.name!r} on"
        f" {sizes(case.model.grid.shape)} cells, then the choice of sensors among"
        f" {len(case.candidates)} candidates (budget {case.choice['budget']})"
    )
    journal, done = case.file.writes.get("journal"), 0
    if journal is not None and not overwrite:
        done = rows_done(journal, **_asked(case))
    return text, f"{done} of {seen} adjoint runs" if done else ""


def _asked(case: PlacementCase) -> dict[str, Any]:
    """Arguments of `block_column`, which observes at the candidates and where a forecast is
    wanted."""
    return {
        "model": case.model,
        "parameters": case.parameters,
        "sensors": np.concatenate([case.candidates, case.points]),
        "parameter": SOURCE,
        "engine": case.engine,
    }


def _setting(case: PlacementCase) -> dict[str, Any]:
    """The medium and the errors, which the figure shows beside results."""
    model = case.model
    sigma = named("standard deviation of errors", model.unknowns[0].units)
    out: dict[str, Any] = {"sigma": ("candidate", case.sigma, sigma)}
    for name, values in case.parameters.items():
        out[name] = (model.space(name).dims, values, model.parameter(name).attributes)
    return out


def _coordinates(case: PlacementCase) -> dict[str, Any]:
    grid, out = case.model.domain, grid_coordinates(case.model.domain)
    for kind, points in (("candidate", case.candidates), ("point", case.points)):
        for d, p in zip(grid.dims, points.T, strict=True) if len(points) else ():
            out[f"{kind}_{d}"] = (kind, p, named(f"{d} coordinate of {kind}s", grid.units))
    if len(case.points):
        out["point_name"] = ("point", np.array(case.names, dtype=object))
    return out


def summary(result: xr.Dataset) -> list[str]:
    """A few lines for someone who waits at the command line."""
    order, gained = result["order"].values, result["information"].values
    lines = [
        f"{len(order)} of {result.sizes['candidate']} candidates, in this order:"
        f" {', '.join(map(str, order))}",
        f"information {gained[-1]:.1f} nats" + _against(result, "random_information"),
    ]
    for name in ("integral", "forecast"):
        if f"{name}_error" in result.attrs:
            text = "forecast"
            if name == "integral":
                text = result["integral_true"].attrs["long_name"].removesuffix(", true")
            units = result[name].attrs["units"].removesuffix("1")
            error = f"rms error of the {text} {result.attrs[f'{name}_error']:.3g} {units}".rstrip()
            lines.append(error + _against(result, f"random_{name}_error"))
    if "covered" in result.attrs:
        lines.append(f"90 % intervals hold {100.0 * result.attrs['covered']:.0f} % of the waves")
    return lines


def _against(result: xr.Dataset, name: str) -> str:
    """The end of a line: the same number for random networks."""
    if name not in result or not result[name].size:
        return ""
    values = result[name].values
    ends = values if values.ndim == 1 else np.nanmax(values, axis=1)
    quantiles = np.quantile(ends, [0.0, 0.5, 1.0])
    low, middle, high = (f"{q:.0f}" if abs(q) >= 100.0 else f"{q:.3g}" for q in quantiles)
    return f"; {len(ends)} random networks {low} to {high}, median {middle}"
