"""The Julia engine in this process: ParallelStencil kernels and Enzyme adjoints.

This is the only module that uses juliacall. Julia starts with the first solve.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import tomllib
from abc import abstractmethod
from collections.abc import Collection
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Array, Float

from ...core.checks import check_choice
from ...core.errors import DataError, EngineError
from ...core.progress import first_use, phase
from ...core.texts import sizes
from ...models.base import Fields, Model
from ...models.explicit import Explicit
from ...solvers.base import Convergence, Spectrum
from ..base import Engine
from ..solutions import Adjoint, Solution
from . import installation

# Calls of Julia come one at a time, from any thread.
_one_at_a_time = threading.RLock()

JULIA_BACKENDS = {"threads": "Threads", **installation.BACKENDS}


class Driven(Engine):
    """Base of the engines whose solves run in Julia, in this process or in others."""

    name = "julia"

    @abstractmethod
    def _run(
        self, command: str, model: Model, arrays: Fields, options: dict[str, Any]
    ) -> tuple[Fields, dict[str, Any]]:
        """Run Julia's ``solve!`` or ``adjoint!``; fields by name, and a report.

        `arrays` has ``parameters`` (a dict) and, if given, ``initial``, ``state``, ``source``.
        """

    def solve(
        self,
        model: Model,
        parameters: Fields,
        *,
        tolerance: float,
        max_iterations: int,
        initial: Solution | None = None,
    ) -> Solution:
        if isinstance(model, Explicit):
            model.check_step(parameters)
        unknown = model.unknowns[0].name
        arrays: Fields = {"parameters": parameters}
        start = initial.fields if initial else model.guess(parameters)
        if start:
            arrays["initial"] = start[unknown]
        options = _options(tolerance, max_iterations, initial)
        with self._compiling("forward", model):
            found, report = self._run("solve", model, arrays, options)
        return Solution({unknown: found["state"]}, _convergence(report, tolerance))

    def adjoint(
        self,
        model: Model,
        parameters: Fields,
        solution: Solution,
        source: Fields,
        *,
        tolerance: float,
        max_iterations: int,
        initial: Adjoint | None = None,
        wanted: Collection[str] | None = None,
    ) -> Adjoint:
        unknown = model.unknowns[0].name
        arrays: Fields = {"parameters": parameters, "source": source[unknown]}
        arrays["state"] = solution.fields[unknown]
        if initial:
            arrays["initial"] = initial.multiplier[unknown]
        options = _options(tolerance, max_iterations, initial or solution)
        with self._compiling("adjoint", model):
            found, report = self._run("adjoint", model, arrays, options)
        multiplier = found.pop("multiplier")
        return Adjoint(
            completed(found, parameters), {unknown: multiplier}, _convergence(report, tolerance)
        )

    def _compiling(self, kind: str, model: Model) -> AbstractContextManager[None]:
        """A phase of progress around the first solve of a kind, which waits for Julia's compiler;
        grids of other sizes use the same code."""
        key = (kind, type(model), model.grid.ndim, str(self.settings()))
        what = f"compiling the {kind} solve for {sizes(model.grid.shape)} in Julia"
        return first_use(key, what, at_once=True)


def _options(
    tolerance: float, max_iterations: int, earlier: Solution | Adjoint | None
) -> dict[str, Any]:
    spectrum = earlier.convergence.spectrum if earlier else None
    low = spectrum.low if spectrum else None
    return {"tolerance": tolerance, "max_iterations": max_iterations, "low": low}


def _convergence(report: dict[str, Any], tolerance: float) -> Convergence:
    """The report of Julia's solver as a `Convergence`."""
    return Convergence(
        status=str(report["status"]).replace("round_off", "round-off"),
        iterations=int(report["iterations"]),
        residual=float(report["residual"]),
        tolerance=tolerance,
        wall_time=float(report["wall_time"]),
        spectrum=Spectrum(float(report["low"]), float(report["high"])),
        throughput=float(report["throughput"]),
        history=np.array(report["history"], dtype=float),
        method=str(report["method"]),
        work=float(report["iterations"]),
    )


class JuliaEngine(Driven):
    """Solves in Julia, through juliacall.

    Parameters
    ----------
    backend : {"auto", "threads", "cuda", "amdgpu"}
        "auto" takes the GPU whose package the Julia project has, if that GPU works.
    dtype : {"float64", "float32"}
        Precision of the solves.

    Notes
    -----
    Julia runs on as many threads as this process may use, unless ``PYTHON_JULIACALL_THREADS`` or
    ``JULIA_NUM_THREADS`` says otherwise. More than one thread needs
    ``PYTHON_JULIACALL_HANDLE_SIGNALS=yes``, the default here. Ctrl-C still reaches Python, between
    iterations.

    Raises
    ------
    ConfigError
        If an option has no such value.
    EngineError
        If Julia or a package that it needs is not found.
    """

    def __init__(self, *, backend: str = "auto", dtype: str = "float64"):
        check_choice("backend", backend, ("auto", *JULIA_BACKENDS))
        check_choice("dtype", dtype, ("float64", "float32"))
        self.installation = installation.find()
        self.backend = backend
        self.dtype = dtype
        self._last: tuple[Any, Any] = (None, None)

    def __getstate__(self) -> dict[str, Any]:
        """The state without objects of this process's Julia."""
        return self.__dict__ | {"_last": (None, None)}

    def info(self) -> dict[str, Any]:
        julia = _start()
        backend = self._resolved()
        return {
            "engine": self.name,
            "engine_version": f"{installation.PACKAGE} {_version(julia)}, Julia {julia.VERSION}",
            "device": str(_call("python_device", backend)),
            "dtype": self.dtype,
            "ranks": 1,
        }

    def settings(self) -> dict[str, Any]:
        return {"engine": self.name, "solver": {"dtype": self.dtype, "backend": self.backend}}

    def _run(
        self, command: str, model: Model, arrays: Fields, options: dict[str, Any]
    ) -> tuple[Fields, dict[str, Any]]:
        simulation = self._simulation(model)
        parameters = self._arrays(arrays.pop("parameters"))
        given: Fields = {"parameters": parameters, **self._arrays(arrays)}
        found, report = _call("python_run", command, simulation, given, options, _poll)
        return {k: _numpy(v) for k, v in found.items()}, dict(report.items())

    def residual(self, model: Model, parameters: Fields, state: Fields) -> Fields:
        """R(u, m), one evaluation."""
        (unknown,) = (v.name for v in model.unknowns)
        arrays = self._arrays(parameters), self._array(state[unknown])
        return {unknown: _numpy(_call("python_residual", self._simulation(model), *arrays))}

    def vjp(
        self, model: Model, parameters: Fields, state: Fields, direction: Fields
    ) -> tuple[Fields, Fields]:
        """(dR/du)^T direction and (dR/dm)^T direction, by one reverse sweep of Enzyme."""
        (unknown,) = (v.name for v in model.unknowns)
        u_bar, m_bar = _call(
            "python_vjp",
            self._simulation(model),
            self._arrays(parameters),
            self._array(state[unknown]),
            self._array(direction[unknown]),
        )
        m_bar = {k: _numpy(v) for k, v in m_bar.items()}
        return {unknown: _numpy(u_bar)}, completed(m_bar, parameters)

    def _simulation(self, model: Model) -> Any:
        spec = describe(model) | {"backend": self._resolved(), "dtype": self.dtype}
        # At most one is kept, since its arrays may fill the device.
        if self._last[0] != spec:
            self._last = (None, None)
            self._last = (spec, _call("python_simulation", spec))
        return self._last[1]

    def _resolved(self) -> str:
        julia = _start()
        if self.backend != "auto":
            name = JULIA_BACKENDS[self.backend]
            if name != "Threads" and not _functional(julia, name):
                raise EngineError(f"backend {self.backend!r}: {name}.jl finds no working device")
            return name
        usable = (n for n in installation.BACKENDS.values() if not self.installation.lacks(n))
        return next((name for name in usable if _functional(julia, name)), "Threads")

    # Both sides have the same memory: x is the last axis in Python, the first in Julia.

    def _array(self, value: Float[Array | np.ndarray, " *shape"]) -> np.ndarray:
        return np.ascontiguousarray(value, dtype=self.dtype).T

    def _arrays(self, fields: Fields) -> dict[str, np.ndarray]:
        return {k: self._array(v) for k, v in fields.items()}


def completed(gradient: Fields, parameters: Fields) -> Fields:
    """The gradient with zeros for parameters on which R does not depend."""
    return {k: gradient.get(k, np.zeros(np.shape(v))) for k, v in parameters.items()}


def describe(model: Model) -> dict[str, Any]:
    """The specification from which Julia builds its counterpart of the model; axes in the order
    (x, y, z).

    Raises
    ------
    EngineError
        If Julia has no such model, or the model's `julia_source` cannot be read.
    """
    table = model.julia_spec()
    if table is None or len(model.unknowns) != 1:
        raise EngineError(f"model {model.name!r} exists in Python only; use engine='embedded'")
    grid = model.grid
    return _source(model) | {
        "name": model.name,
        "table": table,
        "grid": {
            "shape": list(grid.shape[::-1]),
            "extent": list(grid.extent[::-1]),
            "origin": list(grid.origin[::-1]),
        },
    }


def _source(model: Model) -> dict[str, Any]:
    """The path and text of a user's Julia file: a changed text makes another specification."""
    path = model.julia_source_path()
    if path is None:
        return {}
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not UTF-8"
        raise EngineError(f"julia_source of model {model.name!r}: {path}: {why}") from None
    return {"source": {"path": str(path), "text": text}}


def _numpy(array: Any) -> np.ndarray:
    """A Julia array as a NumPy array on the same memory."""
    return np.asarray(array).T


def _poll() -> None:
    """Called by Julia between iterations: Python handles pending signals on entering a function."""


# juliacall


@cache
def _start() -> Any:
    """Julia with our package loaded, started if it is not running yet."""
    with _one_at_a_time, phase("starting Julia", at_once=True):
        found = installation.find()
        if "juliacall" not in sys.modules:
            _set_defaults(found)
        try:
            import juliacall

            julia = juliacall.newmodule("pyadjoint_gpu")
            julia.seval(f"using {installation.PACKAGE}")
            package = julia.seval(installation.PACKAGE)
        except Exception as error:
            raise EngineError(
                f"Julia did not start with the project {found.project}: {_first_line(error)}"
            ) from error
        _return_interrupts()
        expected = tomllib.loads((installation.source() / "Project.toml").read_text())["version"]
        if _version(package) != expected:
            raise EngineError(
                f"the Julia project {found.project} has {installation.PACKAGE}"
                f" {_version(package)}, expected {expected}: pyadjoint-gpu install-julia"
            )
        return package


def _return_interrupts() -> None:
    """Give Ctrl-C back to Python, from which Julia's handling of signals has taken it."""
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is threading.main_thread() and handler is not None:
        if hasattr(signal, "pthread_sigmask"):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        signal.signal(signal.SIGINT, handler)


def _set_defaults(found: installation.Installation) -> None:
    def default(option: str, value: str) -> str:
        if f"juliacall-{option}" in sys._xoptions:
            return str(sys._xoptions[f"juliacall-{option}"])
        return os.environ.setdefault("PYTHON_JULIACALL_" + option.upper().replace("-", "_"), value)

    # With both set, juliacall looks for nothing and downloads nothing.
    os.environ.setdefault("PYTHON_JULIACALL_EXE", str(found.executable))
    os.environ.setdefault("PYTHON_JULIACALL_PROJECT", str(found.project))
    threads = default(
        "threads", os.environ.get("JULIA_NUM_THREADS", str(installation.available_cores()))
    )
    # The garbage collector stops several threads by signals that Julia must receive.
    default("handle-signals", "yes" if threads != "1" else "no")
    default("startup-file", "no")


def _version(package: Any) -> str:
    return str(package.seval(f"string(pkgversion({installation.PACKAGE}))"))


@cache
def _functional(package: Any, name: str) -> bool:
    """True if a GPU package loads and finds a device."""
    import juliacall

    try:
        return bool(juliacall.newmodule("probe").seval(f"using {name}; {name}.functional()"))
    except juliacall.JuliaError:
        return False


def _call(function: str, *args: Any) -> Any:
    """Call one of the package's functions for Python; its errors become Python's."""
    package = _start()
    import juliacall

    with _one_at_a_time:
        try:
            return getattr(package, function)(*args)
        except juliacall.JuliaError as error:
            kind, message = package.python_error(error.exception)
            raise translated(str(kind), str(message), str(error)) from None


def translated(kind: str, message: str, trace: str) -> BaseException:
    """The Python error for a Julia error of type `kind`."""
    if kind in ("ArgumentError", "DimensionMismatch"):
        return DataError(message)
    if kind in ("OutOfMemoryError", "OutOfGPUMemoryError"):
        return MemoryError(f"Julia: {message}")
    if kind == "InterruptException":
        return KeyboardInterrupt()
    found = EngineError(f"Julia: {kind}: {message} (the whole in this error's .trace)")
    found.trace = trace
    return found


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
