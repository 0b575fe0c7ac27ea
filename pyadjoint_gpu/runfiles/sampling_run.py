"""Running a slip run file: samples with the names, units and places of what they are of."""

from __future__ import annotations

import hashlib
import time
import warnings

import numpy as np
import xarray as xr

from ..core.precision import double
from ..geophysics.slip_data import AXES, DISPLACEMENT
from ..results.dataset import MISSING, clean, named
from ..results.samples import DIMS, weights_of
from ..sampling.checks import SamplingWarning
from ..sampling.fixed import LinearSMC
from ..sampling.hierarchical import HierarchicalSMC
from ..sampling.inputs import Fixed
from .fault import FaultTable
from .sampling import SlipCase

_TEXTS = {
    "east": "east of the middle of the upper edge",
    "north": "north of the middle of the upper edge",
    "depth": "depth of the upper edge",
    "strike": "strike, clockwise from north",
    "dip": "dip",
}

_SLIP = {
    "slip": "slip",
    "slip_mean": "mean of slip",
    "slip_sd": "standard deviation of slip",
}


def run(case: SlipCase, *, overwrite: bool = False, progress: bool | None = None) -> xr.Dataset:
    """The Dataset of the sampler's method `run`, with units, data and their predictions.

    Components of slip have the coordinates ``slip_kind``, ``along`` and ``down`` (of the patches'
    middles, from the middle of the upper edge), so that ``set_index(component=[...]).unstack()``
    makes maps of them; warnings of the sampler are in the attribute ``warnings``, one a line.
    """
    journal, sampler, table = case.file.writes.get("journal"), case.sampler, case.file.sampler
    began = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SamplingWarning)
        result = sampler.run(
            seed=table.seed,
            repeats=table.repeats,
            journal=journal,
            overwrite=overwrite,
            progress=progress,
        )
    said: dict[str, None] = {}  # an ordered set
    for w in caught:
        if issubclass(w.category, SamplingWarning):
            said[" ".join(str(w.message).split())] = None
        else:
            warnings.warn_explicit(w.message, w.category, w.filename, w.lineno)
    result = _with_data(result, case)
    for name, text in _SLIP.items():
        result[name].attrs = named(text, DISPLACEMENT)
    if case.file.fault is not None:
        result = _placed(result, case.file.fault)
    about = {
        "status": "done",
        "message": _message(result, case.file.fault),
        "title": case.file.title,
        "warnings": "\n".join(said) or None,
        "config_json": case.config_json,
        "inputs_sha256": hashlib.sha256(case.config_json.encode()).hexdigest(),
        "wall_time": time.perf_counter() - began,
    }
    return result.assign_attrs(clean(about))


def summary(result: xr.Dataset) -> list[str]:
    """A few lines, for someone who waits at the command line."""
    a = result.attrs
    evidence = f"ln Z {a['log_evidence']:.2f} +- {a['log_evidence_error']:.2f}"
    if "log_evidence_error_between" not in a:
        evidence += " (one run; sampler.repeats = 4 would show how runs scatter)"
    lines = [f"{a['status']}: {a['message']}, {a['wall_time']:.1f} s", evidence]
    weights = xr.DataArray(weights_of(result), dims=DIMS)
    for name in _TEXTS:
        if name in result and result[name].dims == DIMS:
            numbers = result[name].weighted(weights)
            mean, sd = float(numbers.mean()), float(numbers.std())
            digits = max(0, 1 - int(np.floor(np.log10(sd)))) if sd > 0 else 3
            units = result[name].attrs["units"]
            lines.append(f"{name} {mean:.{digits}f} +- {sd:.{digits}f} {units}")
    n = result.sizes["component"]
    kinds = result["slip_kind"].values if "slip_kind" in result.coords else np.full(n, "")
    for kind in dict.fromkeys(kinds):
        m, s = (result[k].values[kinds == kind] for k in ("slip_mean", "slip_sd"))
        what = f"{kind} slip".strip()
        lines.append(
            f"{what}: means {m.min():.3g} to {m.max():.3g} {DISPLACEMENT}, standard deviations"
            f" {s.min():.2g} to {s.max():.2g} {DISPLACEMENT}"
        )
    missing = f", {a[MISSING]} more missing" if a[MISSING] else ""
    lines.append(
        f"mean prediction: chi2 {a['chi2']:.3g} per datum, {a['observed_used']} data{missing}"
    )
    return lines


def plan(case: SlipCase, *, overwrite: bool = False) -> tuple[str, str]:
    """One line about what `run` does, and what its journal has of it already."""
    sampler, table, fault = case.sampler, case.file.sampler, case.file.fault
    runs, journal = table.repeats, case.file.writes.get("journal")
    size = (sampler.settings if isinstance(sampler, LinearSMC) else sampler).particles
    done = []
    if journal is not None:
        done = sampler.started(journal, seed=table.seed, overwrite=overwrite)
    text = (
        f"{runs} run{'s' * (runs > 1)} of {size} samples of"
        f" {', '.join([*(fault.priors if fault else ()), 'slip'])}, given"
        f" {len(_fixed(sampler).data)} data, by {type(sampler).__name__}"
    )
    return text, f"{len(done)} of {runs} runs, the last at gamma = {done[-1]:.3g}" if done else ""


def _message(result: xr.Dataset, fault: FaultTable | None) -> str:
    runs, draws, stages = (result.sizes[d] for d in (*DIMS, "stage"))
    what = f"{result.sizes['component']} components of slip"
    if fault is not None and fault.priors:
        what = f"{', '.join(fault.priors)} and {what}"
    each = f"{draws} samples"
    return f"{each if runs == 1 else f'{runs} runs of {each}'} of {what}, {stages} stages"


def _fixed(sampler: HierarchicalSMC | LinearSMC) -> Fixed:
    return sampler._work.fixed if isinstance(sampler, HierarchicalSMC) else sampler._fixed


@double
def _with_data(result: xr.Dataset, case: SlipCase) -> xr.Dataset:
    """A result with the data, and their prediction by the samples' mean."""
    sampler = case.sampler
    fixed = _fixed(sampler)
    if isinstance(sampler, HierarchicalSMC):
        batch = sampler.batch
        theta = np.column_stack([result[k].values.ravel() for k in sampler.theta_prior])
        slips = result["slip"].mean("slip_draw").values.reshape(len(theta), -1)
        slips = weights_of(result).reshape(-1, 1) * slips
        white = np.zeros_like(fixed.data)
        for i in range(0, len(theta), batch):
            rows = slice(i, i + batch)
            white += np.einsum("bmn,bn->m", sampler._work.design_matrix(theta[rows]), slips[rows])
    else:
        white = sampler._white @ result["slip_mean"].values
    noise, d = fixed.noise, np.asarray(sampler.data, dtype=float)[fixed.used]
    predicted, sigma = np.asarray(noise.root(white)), np.asarray(noise.sd)
    columns = {
        "observed": (d, "observed displacement"),
        "predicted": (predicted, "predicted displacement, posterior mean"),
        "residual": (d - predicted, "observed less predicted displacement"),
        "sigma": (sigma, "standard deviation of observed displacement"),
    }
    result = result.assign(
        {k: ("observation", v, named(text, DISPLACEMENT)) for k, (v, text) in columns.items()}
    )
    result = result.assign_attrs(chi2=float(np.mean((fixed.data - white) ** 2)))
    data, fault = case.data, case.file.fault
    if data is None or fault is None:
        return result
    units = fault.units
    result.attrs[MISSING] += data.missing
    places = {
        f"observation_{k}": ("observation", data.points[:, i], named(f"{k} coordinate", units))
        for i, k in enumerate("xy")
    }
    looks = {
        f"look_{k}": ("observation", data.look[:, i], named(f"{k} component of the look vector"))
        for i, k in enumerate(AXES)
    }
    return result.assign_coords(places | looks)


def _placed(result: xr.Dataset, fault: FaultTable) -> xr.Dataset:
    """A result with the patches' places on the fault, and the fault's in the half space."""
    result = result.assign_coords(fault.rectangle.coordinates(fault.units))
    result = result.assign({k: ((), np.float64(v)) for k, v in fault.known.items()})
    for name in fault.placed:
        unit = "degree" if name in ("strike", "dip") else fault.units
        result[name].attrs = named(_TEXTS[name], unit)
    return result
