"""The command line: ``pyadjoint-gpu``. Imports what a command needs when it runs."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__

if TYPE_CHECKING:
    import xarray as xr

DONE, FAILED, BAD_INPUT = 0, 1, 2


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 ran but failed, 2 bad input."""
    options = _parser().parse_args(arguments)
    from .errors import ConfigError, ConvergenceError, DataError, EngineError

    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except (ConfigError, DataError, EngineError) as error:
        return _complain(error, BAD_INPUT)
    except ConvergenceError as error:
        return _complain(error, FAILED)
    except KeyboardInterrupt:
        return _complain("interrupted before there was anything to keep", FAILED)


def _complain(error: object, code: int) -> int:
    text = " ".join(str(error).split())
    print(f"pyadjoint-gpu: error: {text}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pyadjoint-gpu",
        description="Recover unknown fields of PDEs from data, with exact adjoint gradients.",
        epilog="Exit codes: 0 done, 1 ran but failed or did not converge, 2 bad input.",
    )
    parser.add_argument("--version", action="version", version=f"pyadjoint_gpu {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], int], text: str) -> Any:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=command)
        return sub

    def add_settings(sub: Any) -> None:
        sub.add_argument("config", metavar="CONFIG", help="a run file (TOML)")
        sub.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="A.B=V",
            dest="overrides",
            help="override a key of the run file, such as inversion.max_iterations=20",
        )

    for sub in (
        add("run", _run, "run the inversion, or the sampler, of a run file"),
        add("place", _place, "choose where sensors go, and try them"),
    ):
        add_settings(sub)
        sub.add_argument("-o", "--output", metavar="OUT.nc", help="where the result goes")
        sub.add_argument(
            "--overwrite",
            action="store_true",
            help="start journals anew, and replace the result of other inputs",
        )
    check = add("check", _check, "test the gradient of a run file's problem")
    add_settings(check)
    resume = add("resume", _resume, "continue a journalled inversion exactly")
    resume.add_argument("journal", metavar="JOURNAL", help="the journal of a run (HDF5)")
    resume.add_argument("-o", "--output", metavar="OUT.nc", help="default: JOURNAL with .nc")
    resume.add_argument("--max-iterations", type=int, metavar="N", help="in all, from the start")
    resume.add_argument(
        "--launcher",
        metavar="COMMAND",
        help='run on other ranks than before, such as "mpiexec -n 2"',
    )
    plot = add("plot", _plot, "draw a result")
    plot.add_argument(
        "result", metavar="RESULT.nc", help="a result of run, resume, place or a sampler"
    )
    plot.add_argument("-o", "--output", metavar="P.png", help="default: RESULT with .png")
    add("doctor", _doctor, "tell what was found on this machine, and what is missing")
    install = add("install-julia", _install_julia, "install Julia and the packages of its engine")
    install.add_argument(
        "--backend",
        choices=("threads", "cuda", "amdgpu"),
        default="threads",
        help="what it is to run on (default: threads)",
    )
    return parser


def _run(options: argparse.Namespace) -> int:
    from .config import build_problem, checked, parse, sampled

    tables = parse(options.config, options.overrides)
    if sampled(tables):
        return _sample(options, tables)
    from .inversion import invert
    from .journal import inputs
    from .optimisers import options as settings_of
    from .outputs import check_replaced

    file = checked(tables, Path(options.config))
    problem = build_problem(file.tables)
    places, path = _places(file.output, file.reads, options.output)
    if not options.overwrite:
        settings = settings_of(**file.inversion)
        check_replaced(path, inputs(problem, settings), settings["max_iterations"])
    result = invert(
        problem,
        journal=places.get("output.journal"),
        overwrite=options.overwrite,
        title=file.title,
        **file.inversion,
    )
    return _deliver(result, path, places.get("output.figure"))


def _sample(options: argparse.Namespace, tables: dict[str, Any]) -> int:
    """The run of a run file of fault slip."""
    from .bayes import run_file, slip

    file = run_file.checked(tables, Path(options.config))
    return _carry_out(options, file, slip)


def _place(options: argparse.Namespace) -> int:
    from .config import parse
    from .placement import case, run_file

    tables = parse(options.config, options.overrides)
    file = run_file.checked(tables, Path(options.config))
    return _carry_out(options, file, case)


def _carry_out(options: argparse.Namespace, file: Any, kind: Any) -> int:
    """A run that goes on from its journal by itself; its result saved, told and drawn. `kind` is
    the module of what is run."""
    from .outputs import check_replaced

    places, path = _places(file.output, file.reads, options.output)
    if not options.overwrite:
        check_replaced(path, kind.inputs(file))
    journal, figure = (places.get(f"output.{k}") for k in ("journal", "figure"))
    try:
        result = kind.run(file, overwrite=options.overwrite)
    except KeyboardInterrupt:
        if journal is None or not journal.is_file():
            raise
        return _complain(f"interrupted; the same command goes on from {journal}", FAILED)
    result.pag.save(path)
    for line in result.attrs.get("warnings", "").splitlines():
        print(f"pyadjoint-gpu: warning: {line}", file=sys.stderr)
    print(*kind.summary(result), f"wrote {path}", sep="\n")
    if figure is not None:
        result.pag.plot(figure)
        print(f"wrote {figure}")
    return DONE


def _places(
    output: dict[str, Path], reads: dict[str, Path], asked: str | None
) -> tuple[dict[str, Path], Path]:
    """Where a run's files go, by what says so, and where its result goes."""
    from .errors import ConfigError
    from .outputs import check_outputs

    places = {f"output.{key}": place for key, place in output.items()}
    if asked:
        places.pop("output.path", None)
        places["--output"] = Path(asked)
    path = places.get("--output", places.get("output.path"))
    if path is None:
        raise ConfigError("output.path is missing (or give -o OUT.nc)")
    check_outputs(places, reads)
    if "output.figure" in places:
        _drawable(places["output.figure"], "output.figure")
    return places, path


def _resume(options: argparse.Namespace) -> int:
    from .errors import DataError
    from .inversion import resume
    from .journal import Journal
    from .outputs import check_outputs, check_replaced

    journal = Path(options.journal)
    if not journal.is_file():
        raise DataError(f"{journal}: no such journal")
    output = Path(options.output or journal.with_suffix(".nc"))
    check_outputs({"journal": journal, "--output": output})
    with Journal.open(journal) as book:
        made = book.config(options.max_iterations)
    if made is not None:
        check_replaced(output, *made)
    with contextlib.ExitStack() as stack:
        if options.launcher:
            from .engines.ranks import Launch

            stack.enter_context(Launch(shlex.split(options.launcher)))
        result = resume(journal, max_iterations=options.max_iterations)
    return _deliver(result, output, None)


def _drawable(place: Path, what: str) -> None:
    from matplotlib.figure import Figure

    from .errors import ConfigError

    formats = Figure().canvas.get_supported_filetypes()
    if place.suffix.lstrip(".") not in formats:
        raise ConfigError(f"{what}: found {str(place)!r}, expected the ending png, pdf or svg")


def _deliver(result: xr.Dataset, path: Path, figure: Path | None) -> int:
    from .outputs import check_replaced

    history = result["misfit"].values
    if result.attrs["status"] == "interrupted":
        check_replaced(path, result.attrs["config_json"], len(history) - 1)
    result.pag.save(path)
    chi2 = result.attrs.get("chi2")
    print(f"{result.attrs['status']}: {result.attrs['message']}")
    print(
        f"misfit {history[0]:.4g} -> {history[-1]:.4g}"
        + ("" if chi2 is None else f" (chi2 {chi2:.3g})")
        + f", {len(history) - 1} iterations, {int(result['evaluations'][-1])} evaluations,"
        f" {float(result['wall_time'][-1]):.1f} s"
    )
    print(f"wrote {path}")
    if figure is not None:
        result.pag.plot(figure)
        print(f"wrote {figure}")
    return DONE if result.attrs["status"] in ("converged", "stopped") else FAILED


def _check(options: argparse.Namespace) -> int:
    from .config import build_problem, checked, parse, sampled
    from .errors import ConfigError
    from .verify import adjoint_test, taylor_test

    tables = parse(options.config, options.overrides)
    if sampled(tables):
        raise ConfigError(
            f"{options.config}: a run file of fault slip, whose samplers take no gradient; `check`"
            " is for inversions"
        )
    problem = build_problem(checked(tables, Path(options.config)).tables)
    taylor = taylor_test(problem)
    print(taylor, end="\n\n")
    start = problem.known | {c.name: c.initial for c in problem.controls}
    adjoint = adjoint_test(problem.model, start, engine=problem.engine)
    print(adjoint)
    return DONE if taylor.passed and adjoint.passed else FAILED


def _plot(options: argparse.Namespace) -> int:
    import xarray as xr

    from .errors import DataError
    from .files import intact
    from .outputs import check_outputs

    path = Path(options.result)
    output = Path(options.output or path.with_suffix(".png"))
    check_outputs({"--output": output}, {"the result": path})
    _drawable(output, "--output")
    if not path.is_file():
        raise DataError(f"no file {path}")
    intact(path)
    try:
        result = xr.load_dataset(path, engine="h5netcdf", phony_dims="access")
    except Exception as error:
        raise DataError(f"{path}: not a NetCDF-4 file, or truncated ({error})") from None
    try:
        result.pag.plot(output)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    print(f"wrote {output}")
    return DONE


def _doctor(_: argparse.Namespace) -> int:
    from .doctor import report

    print(report())
    return DONE


def _install_julia(options: argparse.Namespace) -> int:
    from .engines.installation import install

    found = install(options.backend)
    print(f"Julia {found.executable}, project {found.project}")
    return DONE
