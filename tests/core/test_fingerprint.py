"""What a journal was made with: the same for the same, another for all else, whatever is brought.

Functions are made from their source, as if the user had edited it between two runs."""

from __future__ import annotations

import ctypes
import functools
import subprocess
import sys
import threading
import types
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import xarray as xr

from pyadjoint_gpu.core.errors import DataError, JournalWarning
from pyadjoint_gpu.core.fingerprint import check_made_with, differing, fingerprint


def made(source: str, name: str = "f", **known: Any) -> Any:
    """What `source` calls `name`, in a module of its own."""
    module = types.ModuleType("of_a_user")
    vars(module).update(np=np, jnp=jnp, jax=jax, functools=functools, **known)
    exec(source, vars(module))
    return vars(module)[name]


def mark(value: Any) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("error", JournalWarning)
        return fingerprint(part=value)["part"]


PLAIN = "def f(theta):\n    return theta['a'] * scale\nscale = 2.0\n"
EDITED = [
    (PLAIN, PLAIN.replace("* scale", "* scale if theta['a'] < 5 else 0.0")),
    (PLAIN, PLAIN.replace("2.0", "3.0")),
    ("f = lambda t: t + 1", "f = lambda t: t + 2"),
    ("def f(t, n=1): return t", "def f(t, n=2): return t"),
    ("def f(t, *, n=1): return t", "def f(t, *, n=2): return t"),
    ("def g(t): return t\ndef f(t): return g(t)", "def g(t): return -t\ndef f(t): return g(t)"),
    ("def f(t): return [x + 1 for x in t]", "def f(t): return [x + 2 for x in t]"),
    ("def f(t): return jnp.exp(t)", "def f(t): return jnp.expm1(t)"),
    ("f = jax.jit(lambda t: t + 1)", "f = jax.jit(lambda t: t + 2)"),
    ("f = functools.partial(pow, 2)", "f = functools.partial(pow, 3)"),
    ("f = functools.lru_cache(lambda t: 1)", "f = functools.lru_cache(lambda t: 2)"),
    (
        "def make(a):\n    def g(t): return a * t\n    return g\nf = make(np.ones(3))",
        "def make(a):\n    def g(t): return a * t\n    return g\nf = make(np.ones(3) + 1e-15)",
    ),
    (
        "class A:\n    def __call__(self): return self.g()\n    def g(self): return 1\nf = A()",
        "class A:\n    def __call__(self): return self.g()\n    def g(self): return 2\nf = A()",
    ),
    (
        "class A:\n    def __init__(self, a): self.a = a\n    def g(self): pass\nf = A(1).g",
        "class A:\n    def __init__(self, a): self.a = a\n    def g(self): pass\nf = A(2).g",
    ),
    (
        "class B:\n    n = 1\nclass A(B):\n    def __call__(self, t): return self.n\nf = A()",
        "class B:\n    n = 2\nclass A(B):\n    def __call__(self, t): return self.n\nf = A()",
    ),
]


@pytest.mark.parametrize(("before", "after"), EDITED, ids=[a for _, a in EDITED])
def test_a_function_that_was_edited_is_another(before: str, after: str):
    assert mark(made(before)) == mark(made(before))
    assert mark(made(before)) != mark(made(after))


def test_what_does_not_change_what_it_gives():
    commented = '# Of a user.\n\n\ndef f(theta):\n    """G."""\n    # so\n    return '
    assert mark(made(PLAIN)) == mark(made(commented + "theta['a'] * scale\nscale = 2.0\n"))
    assert mark(made(PLAIN)) == mark(made(PLAIN + "other = 3\n"))


def test_functions_of_a_module_of_the_user():
    def used(code: str) -> Callable[[float], float]:
        helper = types.ModuleType("helper")
        exec(code, vars(helper))
        return made("def f(t): return helper.g(t)", helper=helper)

    assert mark(used("def g(t): return t")) == mark(used("def g(t): return t\ndef h(): pass"))
    assert mark(used("def g(t): return t")) != mark(used("def g(t): return t + 1"))


def test_functions_that_call_each_other():
    source = "def f(n): return n and g(n - 1)\ndef g(n): return n and f(n - 2)"
    assert mark(made(source)) == mark(made(source))
    assert mark(made(source)) != mark(made(source.replace("- 2", "- 3")))


@dataclass
class Settings:
    n: int = 1
    table: Any = None


DIFFERENT = [
    (1, 2),
    (True, 1),
    ("1", 1),
    (None, 0.0),
    (0.0, -0.0),
    ([1, 2], [2, 1]),
    (["ab", "c"], ["a", "bc"]),
    ({"a": 1, "b": 2}, {"a": 2, "b": 1}),
    ({1, 2}, {1, 3}),
    (np.zeros(4), np.zeros((2, 2))),
    (np.zeros(2), np.zeros(2, "f4")),
    (np.ones(2), jnp.zeros(2)),
    (np.ma.masked_less([1.0, 2.0], 1.5), np.ma.masked_less([1.0, 2.0], 0.5)),
    (np.array(["a", None], object), np.array(["b", None], object)),
    (Settings(1), Settings(2)),
    (Settings(1, np.ones(2)), Settings(1, np.zeros(2))),
    (xr.DataArray([1.0], dims="x"), xr.DataArray([1.0], dims="y")),
    (xr.Dataset({"a": 1.0}, attrs={"units": "m"}), xr.Dataset({"a": 1.0}, attrs={"units": "km"})),
    (scipy.stats.uniform(0, 1), scipy.stats.uniform(0, 2)),
    (scipy.stats.uniform(0, 1), scipy.stats.norm(0, 1)),
    (
        scipy.stats.rv_histogram(([1, 2], [0.0, 1.0, 2.0])),
        scipy.stats.rv_histogram(([1, 3], [0.0, 1.0, 2.0])),
    ),
    (np.random.default_rng(1), np.random.default_rng(2)),
]


@pytest.mark.parametrize(("one", "other"), DIFFERENT, ids=range(len(DIFFERENT)))
def test_values_that_differ(one: Any, other: Any):
    assert mark(one) != mark(other)


def test_values_that_are_the_same():
    assert mark(1) == mark(1.0) == mark(np.float64(1.0))
    assert mark({"a": 1, "b": 2}) == mark({"b": 2, "a": 1})
    assert mark(np.arange(6.0)[::2]) == mark(np.array([0.0, 2.0, 4.0]))
    assert mark(np.arange(3, dtype="f4")) == mark(jnp.arange(3, dtype="f4"))


@pytest.mark.slow
def test_another_process_finds_the_same():
    """Sets of texts too, whose order differs from process to process."""
    code = (
        "import scipy.stats, warnings; from test_fingerprint import made, mark, PLAIN, Settings;"
        "warnings.simplefilter('error');"
        "print(mark([made(PLAIN), {'a', 'b', 'c', 'd'}, Settings(3), scipy.stats.norm(0.0, 2.0),"
        'made(\'def f(t): return t in {"p", "q", "r"}\')]))'
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code], cwd=__file__.rpartition("/")[0], text=True,
            capture_output=True, check=True, env={"PYTHONHASHSEED": seed, "JAX_PLATFORMS": "cpu"},
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(found) == 1


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (
            made("def f(t): return lock", lock=threading.Lock()),
            r"forward\.f\.lock \(a _thread\.lock\)",
        ),
        (ctypes.CDLL(None).abs, r"forward \(a ctypes\..*\)"),
    ],
)
def test_a_doubt_is_said_once(value: Any, named: str):
    with pytest.warns(JournalWarning, match=named) as caught:
        fingerprint(forward=value, data=1)
    assert len(caught) == 1


def test_a_refusal_names_what_differs(tmp_path):
    import json

    before, now = fingerprint(noise=1, prior=2, seed=3), fingerprint(noise=2, prior=2, seed=4)
    assert differing(before, now) == ["noise", "seed"]
    told = r"run\.h5: a journal made with other inputs than now: other noise, seed; .*overwrite"
    with pytest.raises(DataError, match=told):
        check_made_with(tmp_path / "run.h5", "a journal", json.dumps(before), now)
    with pytest.raises(DataError, match=r"run\.h5: damaged"):
        check_made_with(tmp_path / "run.h5", "a journal", "{", now)
