"""Commands about one file or the machine: check, plot, new, schema, doctor, install-julia."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..core.console import Console
from .runs import DONE, FAILED, tell_plan


def check(options: argparse.Namespace) -> int:
    from ..core.progress import progress_bar
    from ..problem.verify import adjoint_test, taylor_test
    from ..runfiles.schema import read

    console: Console = options.console
    problem = read(options.config, options.overrides, options.name).build()
    if options.dry_run:
        what = f"a Taylor test and an adjoint test of model {problem.model.name!r}"
        return tell_plan(options, [what], {})
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


def plot(options: argparse.Namespace) -> int:
    import xarray as xr

    from ..core.errors import DataError
    from ..core.files import intact
    from ..core.outputs import check_outputs
    from ..plots.figure import check_drawable

    path = Path(options.result)
    name = path.stem if options.kind is None else f"{path.stem}_{options.kind}"
    output = Path(options.output or path.with_name(f"{name}.png"))
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
        result.pag.plot(output, kind=options.kind)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    print(f"wrote {output}")
    return DONE


def new(options: argparse.Namespace) -> int:
    from ..core.errors import DataError
    from ..runfiles.schema import kind_of
    from ..runfiles.template import template

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


def schema(options: argparse.Namespace) -> int:
    from ..runfiles.schema import json_schema

    print(json.dumps(json_schema(options.kind), indent=2))
    return DONE


def doctor(_: argparse.Namespace) -> int:
    from ..doctor import report

    print(report())
    return DONE


def install_julia(options: argparse.Namespace) -> int:
    from ..engines.julia.installation import install

    found = install(options.backend)
    print(f"Julia {found.executable}, project {found.project}")
    return DONE
