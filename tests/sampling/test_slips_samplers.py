"""Slips in calls of samplers: each refused at once, in one line that says what to do.

A row is a call, the class of its error, and a pattern of the message.
"""

from __future__ import annotations

import re
import shutil
import warnings
from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
import xarray as xr
from slip_files import FAULT, LOOKS, POINTS, write

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.errors import ConfigError, DataError
from pyadjoint_gpu.runfiles.schema import read
from pyadjoint_gpu.sampling import (
    SMC,
    HierarchicalSMC,
    LinearSMC,
    Settings,
    fixed,
    journal,
    pseudo_marginal,
)
from pyadjoint_gpu.sampling.target import Target
from pyadjoint_gpu.statistics import Dense, Independent, Matern, Uniform

G = np.vander(np.linspace(0.0, 1.0, 6), 3)
PRIOR = {"shift": scipy.stats.norm(0.0, 0.1)}


def shifted(theta):
    return G + theta["shift"]


def linear(**change: Any) -> LinearSMC:
    given = {"green": G, "data": np.ones(6), "noise": 0.1, "prior": np.ones(3)}
    return LinearSMC(**(given | change))


def smc(**change: Any) -> HierarchicalSMC:
    given: dict[str, Any] = {"forward": shifted, "data": np.ones(6), "noise": 0.1}
    given |= {"prior": np.ones(3), "theta_prior": PRIOR, "particles": 4, "batch": 4}
    return HierarchicalSMC(**(given | {"inner": Settings(8, 1, 2)} | change))


def problem(**options: Any) -> pag.Problem:
    model = pag.models.Darcy(pag.Grid((8,), (1.0,)), fixed_pressure={"x_min": 0.0})
    control = pag.Control("permeability", 1.0, transform="log", basis="constant", **options)
    return pag.Problem(model, control, lambda state: 0.0, engine="embedded")


def fields(prior: Any = None, **change: Any) -> SMC:
    given: dict[str, Any] = {"target": problem(prior=prior or pag.Independent(1.0))}
    return SMC(**(given | {"particles": 4} | change))


def in_units(values: Any, units: str) -> xr.DataArray:
    return xr.DataArray(np.asarray(values), attrs={"units": units})


CROOKED = np.eye(3) + np.triu(np.full((3, 3), 0.2), 1)
VECTOR = scipy.stats.multivariate_normal([0.0, 0.0])
NUMBER = "expected a whole number"
Row = tuple[Callable[[], object], type[Exception], str]
ROWS: list[Row] = [
    # How many
    (lambda: linear(settings=Settings(particles=1)), ConfigError, "particles: found 1, .* 2 or"),
    (lambda: linear(settings=Settings("50")), ConfigError, f"particles: found '50', {NUMBER}"),
    (lambda: linear(settings=Settings(moves=1.5)), ConfigError, f"moves: found 1.5, {NUMBER}"),
    (lambda: linear(settings=Settings(moves=True)), ConfigError, f"moves: found True, {NUMBER}"),
    (lambda: linear(settings=Settings(ess=0)), ConfigError, "ess: found 0, .*between 0 and 1"),
    (lambda: linear(settings=Settings(ess="0.5")), ConfigError, "ess: found '0.5', .*between"),
    (lambda: linear(settings=Settings(ess=np.nan)), ConfigError, "ess: found nan, .*between"),
    (lambda: linear(settings=Settings(jitter=1)), ConfigError, "jitter: found 1, .*between"),
    (lambda: linear(settings={"particles": 9}), ConfigError, r"settings: found dict.*Settings\("),
    (lambda: smc(inner={"particles": 9}), ConfigError, r"inner: found dict.*Settings\("),
    (lambda: smc(inner=Settings(particles=1)), ConfigError, "particles: found 1, .* 2 or more"),
    (lambda: smc(inner=Settings(ess=0.0)), ConfigError, "ess: found 0.0"),
    (lambda: smc(particles=1), ConfigError, "particles: found 1, expected 2 or more"),
    (lambda: smc(particles="50"), ConfigError, f"particles: found '50', {NUMBER}"),
    (lambda: smc(batch=2.0), ConfigError, f"batch: found 2.0, {NUMBER}"),
    (lambda: smc(moves=None), ConfigError, f"moves: found None, {NUMBER}"),
    (lambda: smc(draws=9), ConfigError, "draws: found 9, expected at most .*particles, 8"),
    (lambda: smc(ess=0), ConfigError, "ess: found 0, .*between 0 and 1"),
    (lambda: fields(particles=1), ConfigError, "particles: found 1, expected 2 or more"),
    (lambda: fields(particles="50"), ConfigError, f"particles: found '50', {NUMBER}"),
    (lambda: fields(ess="half"), ConfigError, "ess: found 'half', .*between 0 and 1"),
    # Runs
    *(
        (lambda new=new, options=options: new().run(**options), ConfigError, match)
        for new in (linear, smc, fields)
        for options, match in (
            ({"repeats": 0}, "repeats: found 0, expected a positive whole number"),
            ({"repeats": -1}, "repeats: found -1, expected a positive whole number"),
            ({"repeats": "2"}, "repeats: found '2', expected a positive whole number"),
            ({"seed": None}, "seed: found None, expected a whole number >= 0"),
            ({"seed": 1.5}, "seed: found 1.5, expected a whole number >= 0"),
            ({"seed": -1}, "seed: found -1, expected a whole number >= 0"),
        )
    ),
    *(
        (lambda new=new, path=path: new().run(journal=path), error, match)
        for new in (linear, smc, fields)
        for path, error, match in (
            ("none/run.h5", DataError, "journal: .*'none/run.h5', no such directory 'none'"),
            (".", DataError, r"journal: cannot write '\.', it is a directory, expected a file"),
            (3, ConfigError, "journal: found 3, expected a path"),
        )
    ),
    *(
        (lambda new=new: new().run(executor=4), ConfigError, "executor: found int, expected a conc")
        for new in (linear, smc)
    ),
    # Theta
    (lambda: smc(theta_prior=[PRIOR]), ConfigError, "theta_prior: found list, expected a dict"),
    (lambda: smc(theta_prior={"shift": VECTOR}), ConfigError, r"shift: .*shape \(2,\).*one number"),
    (lambda: smc(theta_prior={"shift": (0, 1)}), ConfigError, r"shift: found \(0, 1\), expected a"),
    (lambda: smc(theta_prior={3: PRIOR["shift"]}), ConfigError, "found the name 3, expected a te"),
    (lambda: smc(theta_prior={"shfit": PRIOR["shift"]}), ConfigError, "asks for 'shift'.*shfit"),
    *(
        (lambda name=name: smc(theta_prior=PRIOR | {name: PRIOR["shift"]}), ConfigError, match)
        for name in (
            "slip",
            "log_likelihood",
            "gamma",
            "ess",
            "acceptance",
            "weight",
            "draw",
            "slip_draw",
        )
        for match in (rf"theta_prior\.{name}: the name is one of the result's own.*'my_{name}'",)
    ),
    # G
    (lambda: smc(forward=G), ConfigError, "forward: found ndarray, expected a function of a dict"),
    (lambda: smc(forward=None), ConfigError, "forward: found NoneType, expected a function"),
    (lambda: smc(forward=lambda t: G + 1j), DataError, "forward: found complex numbers"),
    (lambda: smc(forward=lambda t: G.T + t["shift"]), DataError, r"forward: .*\(3, 6\).*\(6, 3\)"),
    (lambda: linear(green=G + 1j), DataError, "green: found complex numbers, expected real"),
    (lambda: linear(green=G[:, :2]), DataError, r"green: .*shape \(6, 2\), expected \(6, 3\)"),
    (lambda: linear(green=np.full((6, 3), np.nan)), DataError, "green: 18 values are not finite"),
    (
        lambda: linear(green=[["a"] * 3] * 6),
        DataError,
        "green: found list, expected real numbers",
    ),
    (
        lambda: smc(forward=FAULT.forward(POINTS, LOOKS, east=0.0, north=0.0, depth=1.0)),
        ConfigError,
        r"theta_prior\.shift: unknown key; expected one of strike, dip",
    ),
    (
        lambda: FAULT.forward(POINTS, LOOKS, east=0.0)({"north": 0.0, "depth": 1.0, "dip": 9.0}),
        ConfigError,
        r"theta_prior\.strike is missing",
    ),
    (lambda: FAULT.forward(POINTS, LOOKS, dpi=3), ConfigError, "dpi: unknown key.*'dip'"),
    (lambda: FAULT.forward(POINTS, LOOKS, depth=-1), ConfigError, "depth: found -1, expected 0 to"),
    (lambda: FAULT.forward(POINTS, LOOKS, dip=181), ConfigError, "dip: found 181, expected 0 to 1"),
    # Data and their errors
    (lambda: linear(data=np.ones(6) * 1j), DataError, "data: found complex numbers"),
    (lambda: linear(data=[]), DataError, r"data: .*shape \(0,\), expected one axis of data"),
    (lambda: linear(data=np.full(6, np.nan)), DataError, "data: none of 6 values is observed"),
    (lambda: linear(noise=np.full(6, np.inf)), DataError, "data: none of 6 values is observed"),
    (lambda: linear(data=np.r_[np.inf, np.ones(5)]), DataError, "data: 1 values are not finite"),
    (lambda: linear(noise=[]), DataError, "noise: found 0 values, expected 6"),
    (lambda: linear(noise=np.nan), DataError, "noise: 1 values are not finite"),
    (lambda: linear(noise="0.1 m"), DataError, "noise: found '0.1 m', expected real numbers"),
    (lambda: linear(noise=in_units(np.ones(6), "m2")), DataError, "'m2'.*variances.*square roots"),
    (lambda: linear(noise=in_units(0.1, "mm^2")), DataError, r"noise: found 'mm\^2'.*variances"),
    (lambda: linear(noise=in_units(np.eye(6), "m")), DataError, "noise: .*covariance in 'm'.*'m2'"),
    (lambda: linear(prior=in_units(np.ones(3), "m2")), DataError, "prior: .*variances"),
    (lambda: linear(prior=Independent(in_units(0.5, "m2"))), DataError, "sd: .*variances"),
    (lambda: fields(prior=Independent(in_units(1.0, "m2"))), DataError, "variances"),
    # The prior of s
    (lambda: linear(prior=[]), DataError, "prior: it is empty, expected one or more"),
    (lambda: linear(prior=[1, -1, 1]), DataError, "prior.sd: found -1, expected finite values > 0"),
    (lambda: linear(prior=CROOKED), DataError, "prior.covariance: the covariance is not symmetr"),
    (lambda: linear(prior=Dense(CROOKED)), DataError, "covariance: the covariance is not symmetr"),
    (
        lambda: linear(prior=Independent(np.ones(2))),
        ConfigError,
        r"prior\.sd: found .*, expected a number, or an array of shape \(3,\)",
    ),
    (
        lambda: linear(prior=Independent(1.0, mean=np.zeros(2))),
        DataError,
        r"prior\.mean: found shape \(2,\), expected one number or \(3,\)",
    ),
    (
        lambda: linear(prior=Independent(1.0, mean=[0, np.nan, 0])),
        DataError,
        r"prior\.mean: 1 values are not finite",
    ),
    (lambda: linear(prior=Matern(1.0, 2.0)), ConfigError, r"needs a space.*\.on\(fault\.space\)"),
    (lambda: linear(prior=Uniform(0.0, 1.0)), ConfigError, "prior: found Uniform.* Gaussian prior"),
    (lambda: linear(prior="wide"), DataError, "prior: found 'wide', expected real numbers"),
    (lambda: smc(prior=Independent(np.ones(4))), ConfigError, r"prior\.sd: .*shape \(3,\)"),
    (
        lambda: linear(prior=Matern(1.0, 1e7).on(FAULT.space), green=np.ones((6, 12))),
        DataError,
        "prior: it is improper.*shorter length",
    ),
    (lambda: Matern(1.0, np.inf).on(FAULT.space), ConfigError, "length: found inf, expected a num"),
    (lambda: Matern([1.0, 2.0], 1.0).on(FAULT.space), ConfigError, r"sd: .*shape \(12,\)"),
    (lambda: linear(bounds=(50.0, 60.0)), ConfigError, "bounds: 50 to 60 .*50 standard dev.* 6 or"),
    (lambda: smc(bounds=([0, 0, -9], [1, 1, -7])), ConfigError, "component 2 is 7 standard dev"),
    (lambda: linear(bounds=(0.0, np.nan)), ConfigError, "bounds: found a lower bound that is not"),
    (lambda: linear(bounds=(np.zeros(2), np.ones(2))), ConfigError, "bounds: .*two arrays of 3"),
    # Priors of fields
    (
        lambda: fields(prior="permeability"),
        ConfigError,
        "controls.permeability.prior: found str 'permeability', expected a Prior",
    ),
    (lambda: fields(prior=pag.Matern), ConfigError, "found the class Matern.*Matern\\(...\\)"),
    (lambda: fields(target={}), ConfigError, "target: found dict, expected a Problem"),
]


@pytest.mark.parametrize(("call", "error", "match"), ROWS, ids=[r[2][:40] for r in ROWS])
def test_slips(call, error, match, tmp_path, monkeypatch):
    """Before anything is sampled, and with nothing else said."""

    def sampled(*_: Any, **__: Any) -> None:
        raise AssertionError("it ran")

    monkeypatch.setattr(fixed, "first", sampled)
    monkeypatch.setattr(pseudo_marginal, "estimate", sampled)
    monkeypatch.setattr(journal.States, "load", sampled)
    monkeypatch.setattr(Target, "evaluate", sampled)
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(error, match=match) as caught:
            call()
    text = str(caught.value)
    assert "\n" not in text and len(text) < 300, text
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    write(folder)
    return folder


@pytest.mark.parametrize(
    ("override", "match"),
    [
        ("sampler.sede=1", r"sampler\.sede: .*'seed'"),
        ("sampler.inner.particels=1", r"sampler\.inner\.particels: .*'particles'"),
        ("fault.widht=1", r"fault\.widht: .*'width'"),
        ("slip_prior.lenght=1", r"slip_prior\.lenght: .*'length'"),
        ("output.jornal='a'", r"output\.jornal: .*'journal'"),
        ("sampler.inner.particles=1", r"sampler\.inner\.particles: found 1, expected 2 or more"),
        ("sampler.inner.ess=0", r"sampler\.inner\.ess: found 0"),
        ("sampler.draws=33", "sampler.draws: found 33, expected at most .* 32"),
        ("slip_prior.bounds=[40, 50]", "slip_prior.bounds: 40 to 50 .*80 standard deviations"),
    ],
)
def test_slips_in_run_files(override, match, inputs, tmp_path):
    for file in inputs.iterdir():
        shutil.copy(file, tmp_path)
    with pytest.raises(ConfigError, match=match) as caught:
        read(tmp_path / "run.toml", [override]).build()
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pyadjoint_gpu.sampling.SamplingWarning")
def test_whole_numbers_of_numpy_will_do():
    inner = Settings(np.int64(8), np.int32(1), np.int64(2))
    assert smc(particles=np.int64(20), inner=inner).particles == 20
    assert type(smc(inner=inner).inner.particles) is int
    assert fields(particles=np.int64(20)).particles == 20
    found = linear(settings=inner).run(seed=np.int64(0), repeats=np.int8(1))
    assert found.sizes["draw"] == 8


@pytest.mark.slow
def test_names_of_results_are_reserved():
    """All that results have, but the unknowns, is refused as a name; and what is not is kept."""
    priors = {"shift": PRIOR["shift"], "length": PRIOR["shift"]}
    found = quietly(smc(theta_prior=priors), repeats=2)
    assert "weight" in found
    assert found["length"].dims == ("chain", "draw")
    for name in {*found.variables, *found.dims} - {"shift", "length"}:
        with pytest.raises(ConfigError, match=rf"theta_prior\.{name}: "):
            smc(theta_prior={str(name): PRIOR["shift"]})


def quietly(sampler: Any, **options: Any) -> xr.Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sampler.run(progress=False, **options)


@pytest.mark.parametrize("name", ["gamma", "turn", "misfit", "log_density", "weight", "x"])
def test_names_of_controls(name, monkeypatch):
    sampler = fields()
    renamed = copy(sampler.target.controls[0])
    renamed.name = name
    monkeypatch.setattr(sampler.target, "parts", [renamed])
    with pytest.raises(
        ConfigError, match=rf"controls\.{name}: the name is one of the result's own"
    ):
        sampler._target._check_names()


def steep(theta):
    """Not finite beyond a cliff."""
    shift = theta["shift"]
    return jnp.where(shift > 0.05, jnp.nan, G + shift)


@pytest.mark.slow
def test_a_particle_whose_matrix_is_not_finite_has_no_likelihood():
    many = smc(forward=steep, particles=16)
    with pytest.warns(RuntimeWarning, match=r"not finite for \d+ of \d+ .*such as shift = 0\.\d+"):
        found = many.run(progress=False, repeats=2)
    assert np.all(found["shift"] <= 0.05) and np.all(np.isfinite(found["slip_mean"]))
    assert np.all(np.isfinite(found["log_evidence"]))
    assert 0 < found.attrs["not_finite"] < 16 * 40
    # One that has none is what it was.
    assert quietly(smc()).attrs["not_finite"] == 0


def test_a_prior_of_what_is_impossible_is_refused():
    with pytest.raises(RuntimeError, match="finite for none of the 4 particles") as caught:
        smc(forward=lambda t: G * jnp.nan + t["shift"]).run(progress=False)
    assert not re.search("\n", str(caught.value))
