"""Running a slip run file: samples with the names, units and places of what they are of."""

from __future__ import annotations

import hashlib
import time
import warnings
from typing import Any

import numpy as np
import xarray as xr

from ..core.outputs import check_outputs
from ..core.precision import double
from ..core.progress import phase, progress_bar
from ..geophysics.slip_data import AXES, DISPLACEMENT
from ..results.dataset import MISSING, named
from ..sampling.checks import SamplingWarning
from ..sampling.fixed import LinearSMC
from ..sampling.hierarchical import HierarchicalSMC
from ..sampling.inputs import Fixed
from .sampling import Geometry, SlipCase

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
    """Sample, and say what the samples are of.

    Parameters
    ----------
    case : SlipCase
    overwrite : bool
        Start its journal anew.
    progress : bool, optional
        A bar where someone looks, else a line a minute; False for nothing.

    Returns
    -------
    Dataset
        That of the sampler's method `run`, with units; components of slip with the coordinates
        ``slip_kind``, ``along`` and ``down`` (of the patches' middles, from the middle of the upper
        edge), so that ``set_index(component=[...]).unstack()`` makes maps of it; ``predicted``, the
        posterior mean of G s, beside ``observed``; what the sampler warned of in the attribute
        ``warnings``, a line each, and how long it took in ``wall_time``.
    """
    check_outputs({"output.journal": case.file.writes.get("journal")}, case.file.reads)
    began = time.perf_counter()
    options: dict[str, Any] = case.options
    sampler, unknown = case.sampler, isinstance(case.sampler, HierarchicalSMC)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SamplingWarning)
        if isinstance(sampler, HierarchicalSMC):
            result = sampler.run(
                **options,
                journal=case.file.writes.get("journal"),
                overwrite=overwrite,
                progress=progress,
            )
        else:
            with (
                progress_bar(
                    shown=progress, desc="SMC", unit="runs", total=options.get("repeats", 1)
                ),
                phase("compiling, and sampling"),
            ):
                result = sampler.run(**options)
    said = list(dict.fromkeys(_text(w) for w in caught if issubclass(w.category, SamplingWarning)))
    for w in caught:
        if not issubclass(w.category, SamplingWarning):
            warnings.warn_explicit(w.message, w.category, w.filename, w.lineno)
    result = _fit(result, case)
    for name in ("observed", "predicted", "residual", "sigma"):
        result[name].attrs["units"] = DISPLACEMENT
    for name, text in _SLIP.items():
        result[name].attrs = named(text, DISPLACEMENT)
    if case.geometry is not None:
        result = _placed(result, case.geometry)
    return result.assign_attrs(
        status="done",
        message=_message(result, case.geometry, unknown),
        **({"title": case.file.title} if case.file.title else {}),
        **({"warnings": "\n".join(said)} if said else {}),
        config_json=case.config_json,
        inputs_sha256=hashlib.sha256(case.config_json.encode()).hexdigest(),
        wall_time=time.perf_counter() - began,
    )


def summary(result: xr.Dataset) -> list[str]:
    """A few lines, for someone who waits at the command line."""
    a = result.attrs
    error = a.get("log_evidence_error")
    evidence = f"ln Z {a['log_evidence']:.2f}" + (
        " (one run; sampler.repeats = 4 would tell its error)"
        if error is None
        else f" +- {error:.2f}"
    )
    lines = [f"{a['status']}: {a['message']}, {a['wall_time']:.1f} s", evidence]
    for name in _TEXTS:
        if name in result and result[name].dims == ("sample",):
            mean, sd = float(result[name].mean()), float(result[name].std())
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


def _text(w: warnings.WarningMessage) -> str:
    return " ".join(str(w.message).split())


def _message(result: xr.Dataset, geometry: Geometry | None, unknown: bool) -> str:
    runs, samples, stages = (result.sizes[d] for d in ("repeat", "sample", "stage"))
    what = f"{result.sizes['component']} components of slip"
    if unknown and geometry is not None:
        what = f"{', '.join(geometry.priors)} and {what}"
    each = (
        f"{samples // runs} samples" if runs == 1 else f"{runs} runs of {samples // runs} samples"
    )
    return f"{each} of {what}, {stages} stages"


def plan(case: SlipCase, *, overwrite: bool = False) -> tuple[str, str]:
    """What `run` does, in a line, and what its journal has of it."""
    sampler, runs = case.sampler, case.options.get("repeats", 1)
    size = sampler.particles if isinstance(sampler, HierarchicalSMC) else sampler.settings.particles
    what = "slip" if case.geometry is None else ", ".join([*case.geometry.priors, "slip"])
    text = (
        f"{runs} run{'s' * (runs > 1)} of {size} samples of {what}, given"
        f" {len(_fixed(sampler).data)} data, by {type(sampler).__name__}"
    )
    journal, done = case.file.writes.get("journal"), []
    if isinstance(sampler, HierarchicalSMC) and journal is not None:
        done = sampler.started(journal, seed=case.options.get("seed", 0), overwrite=overwrite)
    return text, f"{len(done)} of {runs} runs, the last at gamma = {done[-1]:.3g}" if done else ""


def _fixed(sampler: HierarchicalSMC | LinearSMC) -> Fixed:
    return sampler._work.fixed if isinstance(sampler, HierarchicalSMC) else sampler._fixed


@double
def _fit(result: xr.Dataset, case: SlipCase) -> xr.Dataset:
    """With the data beside what the samples make of them, on average."""
    sampler = case.sampler
    fixed = _fixed(sampler)
    if isinstance(sampler, HierarchicalSMC):
        batch = sampler.batch
        theta = np.column_stack([result[k].values for k in sampler.theta_prior])
        slips = result["slip"].mean("draw").values
        white = np.zeros_like(fixed.data)
        for i in range(0, len(theta), batch):
            rows = slice(i, i + batch)
            white += np.einsum("bmn,bn->m", sampler._work.design_matrix(theta[rows]), slips[rows])
        white /= len(theta)
    else:
        white = sampler._white @ result["slip_mean"].values
    root, d = fixed.noise, np.asarray(sampler.data, dtype=float)[fixed.used]
    if root.ndim == 2:
        predicted, sigma = root @ white, np.linalg.norm(root, axis=1)
    else:
        predicted, sigma = root * white, root
    columns = {
        "observed": (d, "observed displacement"),
        "predicted": (predicted, "predicted displacement, posterior mean"),
        "residual": (d - predicted, "observed less predicted displacement"),
        "sigma": (sigma, "standard deviation of observed displacement"),
    }
    result = result.assign({k: ("observation", v, named(text)) for k, (v, text) in columns.items()})
    result = result.assign_attrs(chi2=float(np.mean((fixed.data - white) ** 2)))
    if case.data is None or case.geometry is None:
        return result
    result.attrs[MISSING] += case.data.missing
    places = {f"observation_{k}": case.data.points[:, i] for i, k in enumerate("xy")}
    looks = {f"look_{k}": case.data.look[:, i] for i, k in enumerate(AXES)}
    return result.assign_coords(
        {
            k: ("observation", v, named(f"{k[-1]} coordinate", case.geometry.units))
            for k, v in places.items()
        }
        | {
            k: ("observation", v, named(f"{k[5:]} component of the look vector"))
            for k, v in looks.items()
        }
    )


def _placed(result: xr.Dataset, geometry: Geometry) -> xr.Dataset:
    """With where patches lie on the fault, and the fault in the half space."""
    fault, units = geometry.fault, geometry.units
    result = result.assign_coords(fault.coordinates(units))
    result = result.assign({k: ((), np.float64(v)) for k, v in geometry.known.items()})
    for name in (*geometry.known, *geometry.priors):
        unit = "degree" if name in ("strike", "dip") else units
        result[name].attrs = named(_TEXTS[name], unit)
    return result
