"""The command line: ``pyadjoint-gpu``. Imports what a command needs when it runs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import Any

from ..core.console import Console
from ..core.version import __version__
from ..runfiles import KINDS
from . import runs, tools
from .runs import BAD_INPUT, FAILED


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 done, 1 ran but failed, 2 bad input."""
    options = _parser().parse_args(arguments)
    from ..core.errors import ConfigError, ConvergenceError, DataError, EngineError

    command: Callable[[argparse.Namespace], int] = options.command
    console = options.console = Console(options.quiet, options.json)
    try:
        with console.watching():
            code = command(options)
        sys.stdout.flush()
        return code
    except (ConfigError, DataError, EngineError) as error:
        return console.error(error, BAD_INPUT)
    except ConvergenceError as error:
        return console.error(error, FAILED)
    except KeyboardInterrupt:
        return console.error("interrupted before there was anything to keep", FAILED)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


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
        sub.set_defaults(command=command, name=name, quiet=False, json=False)
        return sub

    def add_usual(sub: Any) -> None:
        words = sub.add_mutually_exclusive_group()
        words.add_argument(
            "-q", "--quiet", action="store_true", help="say no more than warnings and errors"
        )
        words.add_argument(
            "--json",
            action="store_true",
            help="print progress, the result's summary and errors as JSON lines",
        )
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
        add_usual(sub)

    for sub in (
        add("run", runs.run, "run the inversion, or the sampler, of a run file"),
        add("place", runs.run, "choose where sensors go, and try them"),
    ):
        add_settings(sub)
        sub.add_argument("-o", "--output", metavar="OUT.nc", help="where the result goes")
        sub.add_argument(
            "--overwrite",
            action="store_true",
            help="start journals anew, and replace the result of other inputs",
        )
    add_settings(add("check", tools.check, "test the gradient of a run file's problem"))
    resume = add("resume", runs.resume, "continue a journalled inversion exactly")
    resume.add_argument("journal", metavar="JOURNAL", help="the journal of a run (HDF5)")
    resume.add_argument("-o", "--output", metavar="OUT.nc", help="default: JOURNAL with .nc")
    resume.add_argument("--max-iterations", type=int, metavar="N", help="in all, from the start")
    resume.add_argument(
        "--launcher",
        metavar="COMMAND",
        help='run on other ranks than before, such as "mpiexec -n 2"',
    )
    add_usual(resume)
    plot = add("plot", tools.plot, "draw a result")
    plot.add_argument(
        "result", metavar="RESULT.nc", help="a result of run, resume, place or a sampler"
    )
    plot.add_argument("-o", "--output", metavar="P.png", help="default: RESULT with .png")
    plot.add_argument("--kind", choices=("residuals",), help="those of an inversion alone")
    new = add("new", tools.new, "write a commented run file to start from")
    new.add_argument("kind", metavar="KIND", help=", ".join(KINDS))
    new.add_argument("-o", "--output", metavar="FILE", help="default: KIND.toml")
    schema = add("schema", tools.schema, "print the JSON Schema of run files, for editors")
    schema.add_argument("kind", metavar="KIND", nargs="?", help="of one kind; of all by default")
    add("doctor", tools.doctor, "tell what was found on this machine, and what is missing")
    text = "install Julia and the packages of its engine"
    install = add("install-julia", tools.install_julia, text)
    install.add_argument(
        "--backend",
        choices=("threads", "cuda", "amdgpu"),
        default="threads",
        help="what it is to run on (default: threads)",
    )
    return parser
