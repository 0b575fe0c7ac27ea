"""Sampling of d = G(theta) s + e: against quadrature, and however it is run."""

import os
import shutil
import subprocess
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import xarray as xr

from pyadjoint_gpu.core.errors import ConfigError, DataError
from pyadjoint_gpu.sampling import (
    HierarchicalSMC,
    LinearSMC,
    SamplingWarning,
    Settings,
    estimates,
)
from pyadjoint_gpu.statistics import Independent

X, KNOTS = np.linspace(0.0, 1.0, 15), np.linspace(0.0, 1.0, 4)
SIGMA = 0.1


def bumps(theta):
    """One each knot, of a width to be found."""
    return jnp.exp(-0.5 * ((X[:, None] - KNOTS) / jnp.exp(theta["log_width"])) ** 2)


def by_hand(theta):
    """The same, not of JAX operations."""
    return np.exp(-0.5 * ((X[:, None] - KNOTS) / np.exp(float(theta["log_width"]))) ** 2)


def problem(forward=bumps, **options):
    generator = np.random.default_rng(5)
    s = generator.standard_normal(4)
    data = by_hand({"log_width": np.log(0.2)}) @ s + SIGMA * generator.standard_normal(15)
    given = {"particles": 32, "batch": 8, "inner": Settings(particles=32, leapfrogs=10)}
    prior = {"log_width": scipy.stats.norm(-1.5, 0.5)}
    return HierarchicalSMC(forward, data, SIGMA, np.ones(4), prior, **(given | options))


def quadrature(smc):
    """ln Z, and mean and standard deviation of theta and of s, with s integrated by hand."""
    (prior,) = smc.theta_prior.values()
    at = np.linspace(-3.5, 0.5, 2001)
    logs, means, seconds = [], [], []
    for t in at:
        g = by_hand({"log_width": t})
        c = SIGMA**2 * np.eye(15) + g @ g.T
        logs.append(scipy.stats.multivariate_normal(np.zeros(15), c).logpdf(smc.data))
        gain = g.T @ np.linalg.inv(c)
        means.append(gain @ smc.data)
        seconds.append(np.diag(np.eye(4) - gain @ g) + means[-1] ** 2)
    logs = np.array(logs)
    w = np.exp(logs - logs.max()) * prior.pdf(at)
    log_evidence = np.log(np.sum(w) * (at[1] - at[0])) + logs.max()
    w = w / np.sum(w)
    mean = w @ at
    s = w @ np.array(means)
    return log_evidence, mean, np.sqrt(w @ at**2 - mean**2), s, np.sqrt(w @ seconds - s**2)


def quietly(smc, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SamplingWarning)
        return smc.run(progress=False, **options)


def same(a, b):
    for name in a.data_vars:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.mark.slow
def test_against_quadrature():
    smc = problem(particles=300, batch=30, inner=Settings(particles=100, leapfrogs=40))
    log_evidence, mean, sd, s_mean, s_sd = quadrature(smc)
    found = quietly(smc, repeats=2)
    theta = found["log_width"].values
    assert theta.shape == (2, 300)
    assert np.mean(theta) == pytest.approx(mean, abs=0.25 * sd)
    assert np.std(theta) == pytest.approx(sd, rel=0.15)
    assert found.attrs["log_evidence"] == pytest.approx(log_evidence, abs=0.25)
    assert 0 < found.attrs["log_evidence_error"] < 0.3
    assert np.ptp(found["log_evidence"].values) > 0
    np.testing.assert_allclose(found["slip_mean"], s_mean, atol=0.25 * np.max(s_sd))
    np.testing.assert_allclose(found["slip_sd"], s_sd, rtol=0.15)
    draws = found["slip"].values.reshape(-1, 4)
    np.testing.assert_allclose(draws.mean(axis=0), s_mean, atol=0.3 * np.max(s_sd))
    np.testing.assert_allclose(draws.std(axis=0), s_sd, rtol=0.2)
    for gamma in found["gamma"].values:
        steps = gamma[np.isfinite(gamma)]
        assert np.all(np.diff(steps) > 0) and steps[-1] == 1.0


@pytest.fixture(scope="module")
def usual():
    return quietly(problem())


def test_a_function_of_numpy_will_do(usual):
    found = quietly(problem(by_hand))
    for name in usual.data_vars:  # exp differs in the last digit
        np.testing.assert_allclose(found[name], usual[name], rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.slow
def test_the_journal_goes_on_where_it_was(tmp_path, usual):
    path, smc = tmp_path / "run.h5", problem()

    class Killed(Exception):
        pass

    class Dies(ProcessPoolExecutor):
        calls = 0

        def map(self, function, *parts):
            Dies.calls += 1
            if Dies.calls % 4 == 0:
                raise Killed
            return map(function, *parts)

    with Dies(1) as executor:
        for _ in range(20):
            try:
                found = quietly(smc, journal=path, executor=executor)
            except Killed:
                continue
            break
    assert Dies.calls > 8
    same(found, usual)
    # Another problem's journal, and what is none.
    with pytest.raises(
        DataError, match="a sampler's journal made with other inputs than now: other ess;"
    ):
        quietly(replace(smc, ess=0.6), journal=path)
    path.write_text("not HDF5")
    with pytest.raises(DataError, match="not a sampler's journal"):
        quietly(smc, journal=path)


@pytest.mark.slow
def test_the_number_of_processes_does_not_matter(usual):
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        same(quietly(problem(), executor=executor), usual)


@pytest.mark.slow
def test_a_pool_that_forks(tmp_path, usual):
    """As documented: `ProcessPoolExecutor()` as it comes, which forks where it always did, after
    JAX has started its threads."""
    lines = (
        "from concurrent.futures import ProcessPoolExecutor; from multiprocessing import *\n"
        "    smc = problem(); set_start_method('fork')\n"
        "    result = quietly(smc, executor=ProcessPoolExecutor(1))"
    )
    same(elsewhere(tmp_path / "forks.nc", lines, [sys.executable], timeout=300), usual)


@pytest.mark.slow
def test_what_other_processes_cannot_run_is_refused(tmp_path):
    with (
        ProcessPoolExecutor(1) as executor,
        pytest.raises(ConfigError, match=r"forward: .*cannot be sent.*function of a module"),
    ):
        quietly(problem(lambda theta: bumps(theta)), executor=executor)
    # A program without a main block starts itself anew in each of its processes.
    program = tmp_path / "bare.py"
    program.write_text(
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from test_hierarchical import problem\n"
        "problem().run(executor=ProcessPoolExecutor(1))\n"
    )
    paths = os.pathsep.join(sys.path)
    found = subprocess.run(
        [sys.executable, program],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert found.returncode == 1
    assert "EngineError: executor: one of its processes died" in found.stderr.splitlines()[-1]


@pytest.mark.slow
def test_all_is_compiled_once(monkeypatch):
    """G and the sampler of s, for all stages of all runs, and for short batches."""
    traced, original = [], estimates.posterior
    monkeypatch.setattr(estimates, "posterior", lambda *a: traced.append("s") or original(*a))

    def forward(theta):
        traced.append("G")
        return bumps(theta)

    smc = problem(forward, particles=13, batch=5, inner=Settings(particles=7, leapfrogs=2))
    found = quietly(smc, repeats=2)
    assert found.sizes["stage"] > 2
    assert sorted(traced) == ["G", "s"]


def elsewhere(path, lines, command=(), timeout=None, **variables):
    """The `result` as `lines`, a program of its own, compute it."""
    program = path.with_suffix(".py")
    program.write_text(
        "from test_hierarchical import problem, quietly\n"
        f"if __name__ == '__main__':\n    {lines}\n"
        f"    result.to_netcdf({str(path)!r}, engine='h5netcdf')\n"
    )
    paths = os.pathsep.join(sys.path)
    subprocess.run(
        [*command, program],
        env=os.environ | variables | {"PYTHONPATH": paths},
        check=True,
        timeout=timeout,
    )
    with xr.open_dataset(path, engine="h5netcdf") as found:
        return found.load()


@pytest.mark.slow
def test_the_number_of_devices_does_not_matter(tmp_path, usual):
    """Two of them, of one CPU: the four batches of particles come round to the first again."""
    lines = "import jax; assert jax.local_device_count() == 2; result = quietly(problem())"
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
    same(elsewhere(tmp_path / "two.nc", lines, [sys.executable], XLA_FLAGS=flags), usual)


def test_the_number_of_mpi_ranks_does_not_matter(tmp_path, usual):
    pytest.importorskip("mpi4py", reason="mpi4py is not installed")
    launcher = shutil.which("mpiexec", path=os.path.dirname(sys.executable)) or shutil.which(
        "mpiexec"
    )
    if launcher is None:
        pytest.skip("no mpiexec is on the path")
    lines = (
        "from mpi4py import MPI; from mpi4py.futures import MPIPoolExecutor\n"
        "    assert MPI.COMM_WORLD.size == 3\n"
        "    with MPIPoolExecutor() as executor:\n"
        "        result = quietly(problem(), executor=executor)"
    )
    command = [launcher, "-n", "3", sys.executable, "-m", "mpi4py.futures"]
    same(elsewhere(tmp_path / "ranks.nc", lines, command), usual)


WRONG = [
    ({"particles": 0}, ConfigError, "particles: found 0"),
    ({"ess": 1.0}, ConfigError, "ess: found 1.0"),
    ({"dtype": "half"}, ConfigError, "dtype: found 'half'"),
    ({"theta_prior": {}}, ConfigError, "theta_prior: it is empty"),
    ({"theta_prior": {"log_width": 3.0}}, ConfigError, "log_width: found 3.0, expected a distrib"),
    ({"inner": Settings(leapfrogs=0)}, ConfigError, "leapfrogs: found 0"),
    ({"data": np.zeros((3, 5))}, DataError, "data: found an array of shape"),
    ({"data": np.full(15, np.nan)}, DataError, "data: none of 15 values is observed"),
    ({"data": np.zeros(7)}, DataError, "forward: found a matrix of shape"),
    ({"noise": 0.0}, DataError, "noise: found 0, expected values > 0"),
    ({"noise": -np.eye(15)}, DataError, "noise: the covariance is not positive definite"),
    ({"noise": np.triu(np.ones((15, 15)))}, DataError, "noise: the covariance is not symmetric"),
    ({"noise": np.ones(4)}, DataError, "noise: found 4 values, expected 15"),
    ({"prior": 1.0}, ConfigError, "prior: found one number"),
    ({"prior": np.ones(5)}, DataError, "forward: found a matrix of shape"),
    (
        {"prior": Independent([1.0, 1.0, 1.0, 1e7])},
        DataError,
        "prior: it is improper",
    ),
    ({"bounds": (1.0, -1.0)}, ConfigError, "lower bound that is not below"),
    ({"bounds": 3.0}, ConfigError, "bounds: found 3.0, expected two numbers"),
]


@pytest.mark.parametrize(("change", "error", "match"), WRONG)
def test_what_is_wrong_is_refused_by_name(change, error, match):
    with pytest.raises(error, match=match):
        replace(problem(), **change)


@pytest.mark.slow
def test_warnings_that_matter():
    hard = problem(inner=Settings(particles=4, moves=1, leapfrogs=2))
    with pytest.warns(SamplingWarning) as caught:
        hard.run(progress=False)
    said = " ".join(str(w.message) for w in caught)
    assert "marginal standard deviations long" in said
    assert "scatter by" in said


@pytest.mark.slow
def test_one_geometry():
    """Beside the closed form, all runs side by side."""
    smc = problem()
    g = by_hand({"log_width": np.log(0.2)})
    c = SIGMA**2 * np.eye(15) + g @ g.T
    exact = scipy.stats.multivariate_normal(np.zeros(15), c).logpdf(smc.data)
    found = LinearSMC(g, smc.data, SIGMA, np.ones(4)).run(repeats=6)
    off = found.attrs["log_evidence"] - exact
    assert abs(off) < 4 * found.attrs["log_evidence_error"] < 0.3
    gain = g.T @ np.linalg.inv(c)
    sd = np.sqrt(np.diag(np.eye(4) - gain @ g))
    assert np.max(np.abs(found["slip_mean"].values - gain @ smc.data) / sd) < 0.1
    np.testing.assert_allclose(found["slip_sd"], sd, rtol=0.05)
    assert found["slip"].shape == (6, 1000, 4)
    alone = LinearSMC(g, smc.data, SIGMA, np.ones(4)).run()
    assert "log_evidence_error_between" not in alone.attrs
    assert alone.attrs["log_evidence_error"] == alone.attrs["log_evidence_error_within"] > 0
