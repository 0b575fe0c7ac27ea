"""The command line: ``pyadjoint-gpu``. Imports what a command needs when it runs."""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .core.console import Console
from .core.version import __version__

if TYPE_CHECKING:
    import xarray as xr

    from .runfiles.inversion import Inversion
    from .runfiles.tables import Case

DONE, FAILED, BAD_INPUT = 0, 1, 2


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 ran but failed, 2 bad input."""
    options = _parser().parse_args(arguments)
    from .core.errors import ConfigError, ConvergenceError, DataError, EngineError

    command: Callable[[argparse.Namespace], int] = options.command
    console = options.console = Console(options.quiet, options.json)
    try:
        with console.watching():
            return command(options)
    except (ConfigError, DataError, EngineError) as error:
        return console.error(error, BAD_INPUT)
    except ConvergenceError as error:
        return console.error(error, FAILED)
    except KeyboardInterrupt:
        return console.error("interrupted before there was anything to keep", FAILED)


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
        sub.set_defaults(command=command, quiet=False, json=False)
        return sub

    def add_words(sub: Any) -> None:
        words = sub.add_mutually_exclusive_group()
        words.add_argument(
            "-q", "--quiet", action="store_true", help="say no more than warnings and errors"
        )
        words.add_argument(
            "--json",
            action="store_true",
            help="print progress, the result's summary and errors as JSON lines",
        )

    def add_dry_run(sub: Any) -> None:
        sub.add_argument(
            "--dry-run",
            action="store_true",
            help="check all that is given, say what would be done, and solve nothing",
        )

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
        add_words(sub)
        add_dry_run(sub)

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
    add_words(resume)
    add_dry_run(resume)
    plot = add("plot", _plot, "draw a result")
    plot.add_argument(
        "result", metavar="RESULT.nc", help="a result of run, resume, place or a sampler"
    )
    plot.add_argument("-o", "--output", metavar="P.png", help="default: RESULT with .png")
    new = add("new", _new, "write a commented run file to start from")
    new.add_argument("kind", metavar="KIND", help="inversion, sampling or placement")
    new.add_argument("-o", "--output", metavar="FILE", help="default: KIND.toml")
    schema = add("schema", _schema, "print the JSON Schema of run files, for editors")
    schema.add_argument("kind", metavar="KIND", nargs="?", help="of one kind; of all by default")
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
    from .runfiles.schema import read

    file = read(options.config, options.overrides, "inversion", "sampling")
    if file.kind == "inversion":
        return _invert(options, file)
    from .runfiles import sampling_run

    return _carry_out(options, file.build(), sampling_run)


def _invert(options: argparse.Namespace, file: Inversion) -> int:
    from .core.outputs import check_replaced
    from .inversion.invert import invert
    from .inversion.journal import done_in, inputs
    from .inversion.optimisers import check

    problem, settings = file.build(), file.settings
    places, path = _places(file.writes, file.reads, options.output)
    journal = places.get("output.journal")
    if not options.overwrite:
        check_replaced(path, inputs(problem, settings), settings["max_iterations"])
    if options.dry_run:
        check(problem, settings)
        done = 0
        if journal is not None:
            done = done_in(journal, problem, settings, options.overwrite)
        what = [_inversion(problem, settings), *_from(journal, _evaluations(done))]
        return _plan(options, what, places)
    result = invert(
        problem,
        journal=journal,
        overwrite=options.overwrite,
        progress=options.console.progress,
        **settings,
    )
    return _deliver(options, result, path, places.get("output.figure"))


def _place(options: argparse.Namespace) -> int:
    from .runfiles import placement_run
    from .runfiles.schema import read

    file = read(options.config, options.overrides, "placement")
    return _carry_out(options, file.build(), placement_run)


def _carry_out(options: argparse.Namespace, case: Case, kind: Any) -> int:
    """A run that goes on from its journal by itself; its result saved, told and drawn. `kind` is
    the module of what is run."""
    from .core.outputs import check_replaced

    console: Console = options.console
    places, path = _places(case.file.writes, case.file.reads, options.output)
    if not options.overwrite:
        check_replaced(path, case.config_json)
    journal, figure = (places.get(f"output.{k}") for k in ("journal", "figure"))
    if options.dry_run:
        what, done = kind.plan(case, overwrite=options.overwrite)
        return _plan(options, [what, *_from(journal, done)], places)
    try:
        result = kind.run(case, overwrite=options.overwrite, progress=console.progress)
    except KeyboardInterrupt:
        if journal is None or not journal.is_file():
            raise
        return console.error(f"interrupted; the same command goes on from {journal}", FAILED)
    result.pag.save(path)
    for line in result.attrs.get("warnings", "").splitlines():
        console.warn(line)
    _told(options, result, kind.summary(result), path, figure)
    return DONE


def _places(
    output: dict[str, Path], reads: dict[str, Path], asked: str | None
) -> tuple[dict[str, Path], Path]:
    """Where a run's files go, by what says so, and where its result goes."""
    from .core.errors import ConfigError
    from .core.outputs import check_outputs
    from .plots.figure import check_drawable

    places = {f"output.{key}": place for key, place in output.items()}
    if asked:
        places.pop("output.path", None)
        places["--output"] = Path(asked)
    path = places.get("--output", places.get("output.path"))
    if path is None:
        raise ConfigError("output.path is missing (or give -o OUT.nc)")
    check_outputs(places, reads)
    if "output.figure" in places:
        check_drawable(places["output.figure"], "output.figure")
    return places, path


def _resume(options: argparse.Namespace) -> int:
    from .core.errors import DataError
    from .core.outputs import check_outputs, check_replaced
    from .inversion.invert import resume
    from .inversion.journal import Evaluations

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
        return _plan(options, [what, *_from(journal, _evaluations(done))], {"--output": output})
    with contextlib.ExitStack() as stack:
        if options.launcher:
            from .engines.julia.ranks import Launch

            stack.enter_context(Launch(shlex.split(options.launcher)))
        result = resume(
            journal, max_iterations=options.max_iterations, progress=options.console.progress
        )
    return _deliver(options, result, output, None)


def _plan(options: argparse.Namespace, what: list[str], places: dict[str, Path]) -> int:
    """What a command would do, all that it is given being right."""
    writes = {k: str(p) for k, p in places.items()}
    files = [f"would write {p}" + " (there now)" * p.exists() for p in places.values()]
    lines = [*what, *files, "dry run: nothing was solved, nothing was written"]
    options.console.tell("plan", *lines, what=what, writes=writes)
    return DONE


def _inversion(problem: Any, settings: dict[str, Any]) -> str:
    from .core.progress import times

    model, data = problem.model, getattr(problem.misfit, "size", None)
    return (
        f"an inversion of {', '.join(c.name for c in problem.controls)} ({problem.size} unknowns"
        + (f", {data} data" if data else "")
        + f") by {settings['method']}, {settings['max_iterations']} iterations at most; model"
        f" {model.name!r} on {times(model.grid.shape)} cells, engine {problem.engine.name!r}"
    )


def _from(journal: Path | None, done: str) -> list[str]:
    return [f"would go on from {journal}, which has {done}"] if done else []


def _evaluations(count: int) -> str:
    return f"{count} evaluations" if count else ""


def _deliver(
    options: argparse.Namespace, result: xr.Dataset, path: Path, figure: Path | None
) -> int:
    from .core.outputs import check_replaced

    a, history = result.attrs, result["misfit"].values
    if a["status"] == "interrupted":
        check_replaced(path, a["config_json"], len(history) - 1)
    result.pag.save(path)
    chi2 = a.get("chi2")
    numbers = {
        "iterations": len(history) - 1,
        "evaluations": int(result["evaluations"][-1]),
        "wall_time": float(result["wall_time"][-1]),
    }
    lines = [
        f"{a['status']}: {a['message']}",
        f"misfit {history[0]:.4g} -> {history[-1]:.4g}"
        + ("" if chi2 is None else f" (chi2 {chi2:.3g})")
        + f", {numbers['iterations']} iterations, {numbers['evaluations']} evaluations,"
        f" {numbers['wall_time']:.1f} s",
    ]
    _told(options, result, lines, path, figure, misfit=[history[0], history[-1]], **numbers)
    return DONE if a["status"] in ("converged", "stopped") else FAILED


_NUMBERS = ("chi2", "log_evidence", "log_evidence_error", "wall_time")
"""Attributes of results that their summaries have."""


def _told(
    options: argparse.Namespace,
    result: xr.Dataset,
    lines: list[str],
    path: Path,
    figure: Path | None,
    **numbers: Any,
) -> None:
    """How a run went, whose result lies at `path`; and its figure."""
    found = {k: result.attrs[k] for k in ("status", "message", *_NUMBERS) if k in result.attrs}
    console: Console = options.console
    values = found | numbers | {"path": str(path), "summary": lines}
    console.tell("result", *lines, f"wrote {path}", **values)
    if figure is not None:
        result.pag.plot(figure)
        console.tell("figure", f"wrote {figure}", path=str(figure))


def _check(options: argparse.Namespace) -> int:
    from .core.progress import progress_bar
    from .problem.verify import adjoint_test, taylor_test
    from .runfiles.schema import read

    console: Console = options.console
    problem = read(options.config, options.overrides, "inversion").build()
    if options.dry_run:
        what = f"a Taylor test and an adjoint test of model {problem.model.name!r}"
        return _plan(options, [what], {})
    tests = progress_bar(shown=console.progress, desc="check", unit="tests", total=2)
    with tests:
        taylor = taylor_test(problem)
        tests.update()
        start = problem.known | {c.name: c.initial for c in problem.controls}
        adjoint = adjoint_test(problem.model, start, engine=problem.engine)
        tests.update()
    passed = taylor.passed and adjoint.passed
    console.tell(
        "result",
        f"{taylor}\n",
        adjoint,
        status="passed" if passed else "failed",
        taylor_test={k: getattr(taylor, k) for k in ("passed", "message", "slope")},
        adjoint_test={k: getattr(adjoint, k) for k in ("passed", "message", "error")},
    )
    return DONE if passed else FAILED


def _plot(options: argparse.Namespace) -> int:
    import xarray as xr

    from .core.errors import DataError
    from .core.files import intact
    from .core.outputs import check_outputs
    from .plots.figure import check_drawable

    path = Path(options.result)
    output = Path(options.output or path.with_suffix(".png"))
    check_outputs({"--output": output}, {"the result": path})
    check_drawable(output, "--output")
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


def _new(options: argparse.Namespace) -> int:
    from .core.errors import DataError
    from .runfiles.schema import kind_of
    from .runfiles.template import template

    text = template(kind_of({"kind": options.kind}))
    path = Path(options.output or f"{options.kind}.toml")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise DataError(f"{path} is there already; give another path by -o") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    print(f"wrote {path}")
    return DONE


def _schema(options: argparse.Namespace) -> int:
    from .runfiles.schema import json_schema

    print(json.dumps(json_schema(options.kind), indent=2))
    return DONE


def _doctor(_: argparse.Namespace) -> int:
    from .doctor import report

    print(report())
    return DONE


def _install_julia(options: argparse.Namespace) -> int:
    from .engines.julia.installation import install

    found = install(options.backend)
    print(f"Julia {found.executable}, project {found.project}")
    return DONE
