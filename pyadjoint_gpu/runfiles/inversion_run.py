"""Running the run file of an inversion."""

from __future__ import annotations

import xarray as xr

from ..core.texts import sizes
from ..inversion.invert import invert
from ..inversion.journal import done_in
from ..inversion.optimisers import check
from .inversion import InversionCase


def run(
    case: InversionCase, *, overwrite: bool = False, progress: bool | None = None
) -> xr.Dataset:
    """The result of `invert`, which continues from the journal of the run file."""
    journal = case.file.writes.get("journal")
    return invert(
        case.problem, journal=journal, overwrite=overwrite, progress=progress, **case.settings
    )


def plan(case: InversionCase, *, overwrite: bool = False) -> tuple[str, str]:
    """One line about what `run` does, and what its journal has of it already."""
    problem, settings, model = case.problem, case.settings, case.problem.model
    check(problem, settings)
    journal, done = case.file.writes.get("journal"), 0
    if journal is not None:
        done = done_in(journal, problem, settings, overwrite)
    data = getattr(problem.misfit, "size", None)
    text = (
        f"an inversion of {', '.join(c.name for c in problem.controls)} ({problem.size} unknowns"
        + (f", {data} data" if data else "")
        + f") by {settings['method']}, {settings['max_iterations']} iterations at most; model"
        f" {model.name!r} on {sizes(model.grid.shape)} cells, engine {problem.engine.name!r}"
    )
    return text, evaluations(done)


def evaluations(count: int) -> str:
    """Their number as a text, empty for none."""
    return f"{count} evaluations" if count else ""


def summary(result: xr.Dataset) -> list[str]:
    """A few lines for someone who waits at the command line."""
    a, misfit = result.attrs, result["misfit"].values
    chi2 = "" if a.get("chi2") is None else f" (chi2 {a['chi2']:.3g})"
    return [
        f"{a['status']}: {a['message']}",
        f"misfit {misfit[0]:.4g} -> {misfit[-1]:.4g}{chi2}, {len(misfit) - 1} iterations,"
        f" {int(result['evaluations'][-1])} evaluations, {float(result['wall_time'][-1]):.1f} s",
    ]
