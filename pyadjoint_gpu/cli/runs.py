"""Commands that solve: run, place and resume."""

from __future__ import annotations

import argparse
import contextlib
import shlex
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.console import Console

if TYPE_CHECKING:
    import xarray as xr

    from ..runfiles.kind import Kind

DONE, FAILED, BAD_INPUT = 0, 1, 2
"""Exit codes of the command line."""


def run(options: argparse.Namespace) -> int:
    """Run a run file, or continue it from its journal; its result is saved, told and drawn."""
    from ..core.outputs import check_replaced
    from ..runfiles.schema import read

    console: Console = options.console
    file: Kind = read(options.config, options.overrides, options.name)
    runner: Any = import_module(f"{type(file).__module__}_run")
    case = file.case()
    places, path = _places(file, options.output)
    if not options.overwrite:
        check_replaced(path, case.config_json, case.iterations)
    journal = places.get("output.journal")
    if options.dry_run:
        what, done = runner.plan(case, overwrite=options.overwrite)
        return tell_plan(options, [what, *_from(journal, done)], places)
    try:
        result = runner.run(case, overwrite=options.overwrite, progress=console.progress)
    except KeyboardInterrupt:
        if journal is None or not journal.is_file():
            raise
        return console.error(f"interrupted; the same command goes on from {journal}", FAILED)
    return _deliver(console, result, runner.summary(result), path, places.get("output.figure"))


def resume(options: argparse.Namespace) -> int:
    """Continue an inversion from its journal."""
    from ..core.errors import DataError
    from ..core.outputs import check_outputs, check_replaced
    from ..inversion.invert import resume
    from ..inversion.journal import Evaluations
    from ..runfiles.inversion_run import evaluations, summary

    journal = Path(options.journal)
    if not journal.is_file():
        raise DataError(f"{journal}: no such journal")
    output = Path(options.output or journal.with_suffix(".nc"))
    check_outputs({"journal": journal, "--output": output})
    with Evaluations.open(journal) as book:
        made, done, settings = book.config(options.max_iterations), book.count, book.settings
    if made is not None:
        check_replaced(output, *made)
    if options.dry_run:
        most = options.max_iterations or settings["max_iterations"]
        what = f"an inversion by {settings['method']}, {most} iterations at most"
        return tell_plan(options, [what, *_from(journal, evaluations(done))], {"--output": output})
    with contextlib.ExitStack() as stack:
        if options.launcher:
            from ..engines.julia.ranks import Launch

            stack.enter_context(Launch(shlex.split(options.launcher)))
        result = resume(
            journal, max_iterations=options.max_iterations, progress=options.console.progress
        )
    return _deliver(options.console, result, summary(result), output, None)


def tell_plan(options: argparse.Namespace, what: list[str], places: dict[str, Path]) -> int:
    """Say what a command would do, once everything that it is given was found right."""
    writes = {k: str(p) for k, p in places.items()}
    files = [f"would write {p}" + " (there now)" * p.exists() for p in places.values()]
    lines = [*what, *files, "dry run: nothing was solved, nothing was written"]
    options.console.tell("plan", *lines, what=what, writes=writes)
    return DONE


def _from(journal: Path | None, done: str) -> list[str]:
    return [f"would go on from {journal}, which has {done}"] if done else []


def _places(file: Kind, asked: str | None) -> tuple[dict[str, Path], Path]:
    """The files that a run writes, by key or option, and that of its result; all can be written."""
    from ..core.errors import ConfigError
    from ..core.outputs import check_outputs
    from ..plots.figure import check_drawable

    places = {f"output.{key}": place for key, place in file.writes.items()}
    if asked:
        places.pop("output.path", None)
        places["--output"] = Path(asked)
    path = places.get("--output", places.get("output.path"))
    if path is None:
        raise ConfigError("output.path is missing (or give -o OUT.nc)")
    check_outputs(places, file.reads)
    if "output.figure" in places:
        check_drawable(places["output.figure"], "output.figure")
    return places, path


_NUMBERS = ("status", "message", "chi2", "log_evidence", "log_evidence_error", "wall_time")
"""Attributes of results that ``--json`` prints."""


def _deliver(
    console: Console, result: xr.Dataset, lines: list[str], path: Path, figure: Path | None
) -> int:
    """Save a result and its figure, and say how the run went."""
    from ..core.outputs import check_replaced

    a = result.attrs
    numbers = {k: a[k] for k in _NUMBERS if k in a}
    if "iteration" in result.dims:
        numbers |= {
            "misfit": [result["misfit"].values[0], result["misfit"].values[-1]],
            "iterations": result.sizes["iteration"] - 1,
            "evaluations": int(result["evaluations"][-1]),
            "wall_time": float(result["wall_time"][-1]),
        }
    if a.get("status") == "interrupted":
        check_replaced(path, a["config_json"], result.sizes["iteration"] - 1)
    result.pag.save(path)
    for line in a.get("warnings", "").splitlines():
        console.warn(line)
    console.tell("result", *lines, f"wrote {path}", **numbers, path=str(path), summary=lines)
    if figure is not None:
        result.pag.plot(figure)
        console.tell("figure", f"wrote {figure}", path=str(figure))
    return DONE if a.get("status", "done") in ("done", "converged", "stopped") else FAILED
