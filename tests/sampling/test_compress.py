"""Compressed posteriors: sizes, files, densities, other priors, reports, populations."""

import json
import warnings
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats as st
import xarray as xr
from scipy.integrate import trapezoid

pytest.importorskip("flowjax")

import pyadjoint_gpu as pag
from pyadjoint_gpu.core.errors import ConfigError, DataError
from pyadjoint_gpu.results.samples import attributes
from pyadjoint_gpu.sampling import report
from pyadjoint_gpu.sampling.compact import PARAMETERS, width
from pyadjoint_gpu.sampling.flow import network
from pyadjoint_gpu.sampling.flow.architecture import Architecture
from pyadjoint_gpu.sampling.two_sample import two_sample


def as_samples(values, log_density, chains=10, bounds=None, **attrs):
    """Rows by name as samples of chains."""
    variables = {}
    for name, array in values.items():
        about = {"units": "days", "long_name": f"the {name}"} | (bounds or {}).get(name, {})
        array = np.reshape(array, (chains, -1, *np.shape(array)[1:]))
        own = [f"{name}_k"] * (array.ndim - 2)
        variables[name] = ("chain", "draw", *own), array, about
    variables["log_density"] = ("chain", "draw"), np.reshape(log_density, (chains, -1))
    return xr.Dataset(variables, attrs=attributes("test", unknowns=json.dumps([*values]), **attrs))


ROWS = 2000
"""Of all samples that are compressed: training compiles once for each number of components."""
MEAN, SD = np.array([1.0, -2.0]), np.array([0.5, 2.0])
LN_Z = -3.0
EDGES = {"c": {"valid_min": 0.0, "valid_max": 2.0}}
BETA = st.beta(2.0, 3.0, scale=2.0)
"""Of c, a number within bounds."""


def drawn(count, seed=0, **options):
    """(a, b) is Gaussian, correlated by 0.8; c is bounded; Z = exp(-3)."""
    generator = np.random.default_rng(seed)
    z = generator.standard_normal((count, 2))
    z[:, 1] = 0.8 * z[:, 0] + 0.6 * z[:, 1]
    ab = MEAN + SD * z
    c = BETA.rvs(count, random_state=generator)
    values = {"a": ab[:, 0], "b": ab[:, 1], "c": c}
    given = {"log_evidence": LN_Z, "log_evidence_error": 0.05} | options
    return as_samples(values, exact(values) + LN_Z, bounds=EDGES, **given)


def exact(values):
    ab = np.stack([values["a"], values["b"]], axis=-1)
    covariance = np.outer(SD, SD) * [[1.0, 0.8], [0.8, 1.0]]
    return st.multivariate_normal(MEAN, covariance).logpdf(ab) + BETA.logpdf(values["c"])


PRIOR = {"a": st.norm(0.0, 3.0), "b": st.norm(loc=-1.0, scale=10.0), "c": st.uniform(0.0, 2.0)}


@pytest.fixture(scope="module")
def samples():
    return drawn(ROWS)


@pytest.fixture(scope="module")
def small(samples):
    return pag.compress(samples, prior=PRIOR)


def test_densities_are_those_of_the_samples(small):
    """KL(p || q) = E[ln p - ln q] of other samples, near zero, and nothing below it."""
    fresh = drawn(20_000, seed=1)
    given = {name: fresh[name].values for name in "abc"}
    difference = exact(given) - small.log_density(given)
    assert difference.shape == (10, 2000)
    assert -0.01 < np.mean(difference) < 0.04 and np.std(difference) < 0.3
    np.testing.assert_array_equal(small.log_density(fresh), small.log_density(given))


def test_a_density_is_normalised_within_its_bounds(samples, small):
    c = np.linspace(0.0, 2.0, 4001)[1:-1]
    one = pag.compress(samples[["c", "log_density"]].assign_attrs(unknowns='["c"]'))
    density = np.exp(one.log_density({"c": c}))
    assert trapezoid(density, c) == pytest.approx(1.0, abs=2e-3)
    divergence = trapezoid(BETA.pdf(c) * (BETA.logpdf(c) - np.log(density)), c)
    assert 0.0 < divergence < 0.02
    assert np.all(one.log_density({"c": [-1.0, 0.0, 2.0, 3.0]}) == -np.inf)
    outside = small.log_density({"a": 1.0, "b": -2.0, "c": [1.0, 2.5]})
    assert np.isfinite(outside[0]) and outside[1] == -np.inf


def test_samples_have_the_form_and_the_density_of_samples(samples, small):
    found = small.sample(ROWS, seed=3)
    assert found["a"].dims == ("chain", "draw") and found.sizes == {"chain": 1, "draw": ROWS}
    for name in "abc":
        assert found[name].attrs == samples[name].attrs
    np.testing.assert_allclose(found["log_density"], small.log_density(found), atol=1e-9)
    assert np.all((found["c"] > 0.0) & (found["c"] < 2.0))
    assert found["a"].values.mean() == pytest.approx(1.0, abs=0.05)
    assert np.corrcoef(found["a"], found["b"])[0, 1] == pytest.approx(0.8, abs=0.03)
    again = pag.compress(found)  # they are samples
    assert again.names == ["a", "b", "c"]
    assert found.attrs["kind"] == "sampling" and found.attrs["log_evidence"] == LN_Z


def test_a_file_gives_it_back_bit_for_bit(samples, small, tmp_path):
    path = tmp_path / "small.nc"
    small.save(path)
    back = pag.CompressedPosterior.load(path)
    for name, array in small.flow.arrays().items():
        np.testing.assert_array_equal(back.flow.arrays()[name], array)
    np.testing.assert_array_equal(back.log_density(samples), small.log_density(samples))
    xr.testing.assert_identical(
        back.sample(50, seed=1).drop_attrs(deep=False),
        small.sample(50, seed=1).drop_attrs(deep=False),
    )
    xr.testing.assert_identical(back.means, small.means)
    assert back.names == small.names and repr(back) == repr(small)
    assert "a, b, c: 3 numbers, of 2000 samples, ln Z = -3 +- 0.05" in repr(small)
    values = np.array([0.3, 1.2])
    for name, d in PRIOR.items():
        np.testing.assert_array_equal(back.prior[name].logpdf(values), d.logpdf(values))
    changed = bytearray(path.read_bytes())
    changed[len(changed) // 2] ^= 1
    path.write_bytes(changed)
    with pytest.raises(DataError, match="damaged"):
        pag.CompressedPosterior.load(path)


def test_fields_keep_their_dimensions_and_coordinates(tmp_path):
    generator = np.random.default_rng(0)
    field = np.exp(generator.standard_normal((ROWS, 1, 3)))
    log = -0.5 * np.sum(np.log(field) ** 2, axis=(1, 2)) - 1.5 * np.log(2 * np.pi)
    data = xr.Dataset(
        {
            "k": (("chain", "draw", "y", "x"), field.reshape(2, -1, 1, 3), {"transform": "log"}),
            "log_density": (("chain", "draw"), log.reshape(2, -1)),
        },
        {"y": [0.5], "x": ("x", [1.0, 2.0, 3.0], {"units": "km"})},
        attributes("test", unknowns='["k"]'),
    )
    small = pag.compress(data)
    small.save(tmp_path / "k.nc")
    found = pag.CompressedPosterior.load(tmp_path / "k.nc").sample(40)
    assert found["k"].dims == ("chain", "draw", "y", "x") and np.all(found["k"] > 0.0)
    xr.testing.assert_identical(found["x"], data["x"])
    # The density of samples is that of theta, ln k.
    turned = found.transpose("x", "draw", "y", "chain")
    expected = found["log_density"].values
    np.testing.assert_allclose(small.log_density(found), expected, atol=1e-9)
    np.testing.assert_allclose(small.log_density(turned), expected.T, atol=1e-9)
    assert np.mean(log - small.log_density({"k": field})) == pytest.approx(0.0, abs=0.2)


@pytest.fixture(scope="module")
def conjugate():
    """x with the prior N(0, 2^2), and one datum 1.5 of sd 1."""
    v = 1.0 / (1.0 / 4.0 + 1.0)
    x = np.random.default_rng(2).normal(1.5 * v, np.sqrt(v), ROWS)
    z = st.norm.logpdf(1.5, 0.0, np.sqrt(5.0))
    log = st.norm.logpdf(1.5, x) + st.norm.logpdf(x, 0.0, 2.0)
    data = as_samples({"x": x}, log, log_evidence=z, log_evidence_error=0.01)
    return pag.compress(data, prior={"x": st.norm(0.0, 2.0)})


@pytest.mark.parametrize("kind", ["mapping", "function"])
def test_another_prior(conjugate, kind):
    prior = {"x": st.norm(1.0, 1.0)}
    new = prior if kind == "mapping" else lambda v: st.norm.logpdf(v["x"], 1.0, 1.0)
    found = conjugate.reweight(new, draws=40_000)
    w, x = found["weight"].values, found["x"].values
    assert w.shape == (1, 40_000) and np.mean(w) == pytest.approx(1.0)
    mean = np.mean(w * x)
    assert mean == pytest.approx(1.25, abs=0.05)
    assert np.sqrt(np.mean(w * (x - mean) ** 2)) == pytest.approx(np.sqrt(0.5), abs=0.04)
    z = st.norm.logpdf(1.5, 1.0, np.sqrt(2.0))
    assert found.attrs["log_evidence"] == pytest.approx(z, abs=0.03)
    change = z - st.norm.logpdf(1.5, 0.0, np.sqrt(5.0))
    assert found.attrs["log_evidence_change"] == pytest.approx(change, abs=0.03)
    assert found.attrs["weight_ess"] == pytest.approx(np.sum(w) ** 2 / np.sum(w**2))
    middle = np.abs(x - 1.25) < 1.0
    expected = st.norm.logpdf(x, 1.25, np.sqrt(0.5))
    np.testing.assert_allclose(found["log_density"].values[middle], expected[middle], atol=0.3)


def test_the_same_prior_changes_nothing(small):
    found = small.reweight(PRIOR, draws=200)
    np.testing.assert_allclose(found["weight"], 1.0)
    assert found.attrs["weight_ess"] == pytest.approx(200.0)
    assert found.attrs["log_evidence_change"] == pytest.approx(0.0, abs=1e-12)
    # The others keep theirs.
    part = small.reweight({"a": st.norm(0.0, 1.0)}, draws=200)
    whole = small.reweight(PRIOR | {"a": st.norm(0.0, 1.0)}, draws=200)
    np.testing.assert_allclose(part["weight"], whole["weight"])
    half = small.reweight({"c": st.uniform(0.0, 1.0)}, draws=1000)
    beyond = half["c"].values >= 1.0
    assert np.all(half["weight"].values[beyond] == 0.0) and np.any(beyond)
    assert np.all(half["log_density"].values[beyond] == -np.inf)


def test_few_effective_draws_are_told(conjugate):
    with pytest.warns(pag.sampling.SamplingWarning, match="effective draws"):
        conjugate.reweight({"x": st.norm(-4.0, 0.1)}, draws=1000)


@pytest.mark.slow
def test_the_report_of_a_good_and_of_a_wrong_one(samples, small):
    good = small.report(samples)
    assert good.attrs["passed"] == 1, good
    assert abs(float(good["accuracy"]) - 0.5) < 0.05
    assert float(good["accuracy_error"]) == pytest.approx(0.25 * np.sqrt(2 / 1000), rel=0.3)
    assert abs(float(good["kl"])) < 0.1
    assert float(good["log_evidence"]) == pytest.approx(LN_Z, abs=0.1)
    flow = replace(small.flow, mean=small.flow.mean + np.eye(3)[0])
    wrong = replace(small, flow=flow).report(samples)
    assert wrong.attrs["passed"] == 0 and float(wrong["accuracy"]) > 0.75
    # ln p that is another function than what the samples are of.
    other = samples.assign(log_density=samples["log_density"] - 1.0)
    assert small.report(other).attrs["passed"] == 0


@pytest.mark.slow
def test_the_report_of_many_short_chains(samples, small):
    rows = {name: samples[name].values.ravel() for name in small.names}
    log = samples["log_density"].values.ravel()
    short = as_samples(rows, log, chains=ROWS // 4, bounds=EDGES)
    assert small.report(short).attrs["passed"] == 1


def test_the_classifier_sees_what_moments_do_not():
    """Two modes of mean 0 and variance 1 in each direction; and nothing where there is nothing."""
    generator = np.random.default_rng(0)
    normal, again = generator.standard_normal((2, 4000, 2))
    same = two_sample(*(np.split(rows, 2) for rows in (normal, again)))
    assert abs(same.accuracy - 0.5) < 4.0 * same.error
    modes = again * 0.3
    modes[:, 0] += np.sqrt(1.0 - 0.09) * np.sign(generator.standard_normal(4000))
    modes[:, 1] /= 0.3
    told = two_sample(*(np.split(rows, 2) for rows in (modes, normal)))
    assert told.accuracy > 0.7


@pytest.mark.slow
def test_weights_count(samples):
    """Half of the draws, by weights, as if the others were not there."""
    weight = (samples["b"] > -2.0).astype(float)
    small = pag.compress(samples.assign(weight=weight))
    expected = float(samples["a"].weighted(weight).mean())
    assert float(small.means["a"]) == pytest.approx(expected)
    assert small.sample(4000)["a"].values.mean() == pytest.approx(expected, abs=0.05)
    found = small.report(samples.assign(weight=weight))
    assert found.attrs["log_evidence_of_samples"] == LN_Z
    # ln p is as before, q is normalised on half of it.
    half = LN_Z + np.log(float(weight.mean()))
    assert float(found["log_evidence"]) == pytest.approx(half, abs=0.15)


def test_evidence_may_come_from_elsewhere(samples):
    without = samples.drop_attrs(deep=False).assign_attrs(unknowns=samples.attrs["unknowns"])
    given = xr.Dataset(attrs={"log_evidence": -3.1, "log_evidence_error": 0.2})
    assert pag.compress(without, evidence=given).means.attrs["log_evidence"] == -3.1
    bare = pag.compress(without)
    assert "log_evidence" not in bare.means.attrs and "ln Z" not in repr(bare)


@pytest.mark.parametrize("n", [1, 2, 11, 30, 64])
def test_sizes_of_flows(n):
    number = network.number(Architecture(n, width=width(n)))
    assert number <= PARAMETERS
    if n == 64:
        assert number > 0.8 * PARAMETERS


BAD = [
    (lambda s, c: pag.compress(3), ConfigError, "samples: found int"),
    (lambda s, c: pag.compress(s, seed=-1), ConfigError, "seed: found -1"),
    (
        lambda s, c: pag.compress(s.isel(draw=slice(5))),
        DataError,
        "samples: found 50 effective ones, expected at least 60",
    ),
    (lambda s, c: pag.compress(s.drop_vars("a")), DataError, "samples.a is missing"),
    (lambda s, c: pag.compress(s.assign(c=s["c"] + 1)), DataError, "not within their bounds"),
    (
        lambda s, c: pag.compress(s.rename(a="flow_a").assign_attrs(unknowns='["flow_a"]')),
        DataError,
        "samples.flow_a: names in 'flow_'",
    ),
    (lambda s, c: pag.compress(s, prior={"d": st.norm()}), ConfigError, "prior.d: no unknown"),
    (lambda s, c: pag.compress(s, prior={"a": 3}), ConfigError, "prior.a: found 3"),
    (lambda s, c: pag.compress(s, prior=abs), ConfigError, "prior: found"),
    (
        lambda s, c: pag.compress(s, evidence=xr.Dataset(attrs={"status": "disagree"})),
        DataError,
        "evidence: found no ln Z .status 'disagree'",
    ),
    (lambda s, c: c.sample(0), ConfigError, "draws: found 0"),
    (lambda s, c: c.log_density({"a": 1.0, "b": 1.0}), DataError, "values.c is missing"),
    (
        lambda s, c: c.log_density({"a": [1.0] * 2, "b": [1.0] * 3, "c": 1.0}),
        DataError,
        "values: found batches",
    ),
    (lambda s, c: c.reweight({"z": st.norm()}), ConfigError, "new_prior.z: no unknown"),
    (lambda s, c: c.reweight({"c": st.norm()}), ConfigError, "new_prior.c: found the support"),
    (lambda s, c: c.reweight(lambda v: 0.0), DataError, r"prior: found an array of shape \(\)"),
    (
        lambda s, c: c.reweight({"a": st.norm()}, {"b": st.norm()}),
        ConfigError,
        "old_prior.a is missing",
    ),
    (
        lambda s, c: c.reweight({"a": st.norm()}, lambda v: 0.0 * v["a"]),
        ConfigError,
        "new_prior.b is missing",
    ),
    (
        lambda s, c: pag.CompressedPosterior(c.flow, c.means).reweight(PRIOR),
        ConfigError,
        "old_prior: missing",
    ),
    (
        lambda s, c: c.reweight({"c": st.uniform(1.9999999, 1e-8)}),
        DataError,
        "new_prior: none of the draws",
    ),
    (
        lambda s, c: c.report(s[["a", "log_density"]].assign_attrs(unknowns='["a"]')),
        DataError,
        "samples: found the unknowns",
    ),
    (lambda s, c: c.report(s.isel(draw=slice(5))), DataError, "samples: found 50, expected at l"),
    (lambda s, c: pag.CompressedPosterior.load("nowhere.nc"), DataError, "no such file"),
]


@pytest.mark.parametrize(("call", "error", "match"), BAD)
def test_bad_input(call, error, match, samples, small):
    with pytest.raises(error, match=match):
        call(samples, small)


def test_other_files_and_too_many_unknowns_are_refused(samples, tmp_path):
    samples.pag.save(tmp_path / "samples.nc")
    with pytest.raises(DataError, match="found 'sampling', expected 'compressed-posterior'"):
        pag.CompressedPosterior.load(tmp_path / "samples.nc")
    x = np.random.default_rng(0).standard_normal((2000, 65))
    with pytest.raises(DataError, match="found 65 unknowns, expected at most 64"):
        pag.compress(as_samples({"x": x}, np.sum(x, axis=1)))


def eleven(count):
    """Curved, skewed, bounded and of two modes, in 11 dimensions."""
    generator = np.random.default_rng(0)
    z = generator.standard_normal((count, 11))
    log = np.sum(st.norm.logpdf(z), axis=1)
    side = generator.random(count) < 0.4
    z[:, 0] += np.where(side, 2.5, -2.5)
    ends = [np.log(p) + st.norm.logpdf(z[:, 0], c) for p, c in ((0.4, 2.5), (0.6, -2.5))]
    log += np.logaddexp(*ends) - st.norm.logpdf(z[:, 0] - np.where(side, 2.5, -2.5))
    z[:, 2] = 0.5 * z[:, 2] + 0.5 * z[:, 1] ** 2
    log -= np.log(0.5)
    z[:, 4:8] += 0.7 * z[:, 3:7]
    edge = st.norm.cdf(z[:, 8])
    log -= st.norm.logpdf(z[:, 8])
    values = {f"x{k}": z[:, k] for k in range(11)}
    values["x8"] = edge
    return as_samples(
        values,
        log,
        bounds={"x8": {"valid_min": 0.0, "valid_max": 1.0}},
        log_evidence=0.0,
        log_evidence_error=0.01,
    )


@pytest.mark.slow
def test_eleven_dimensions_in_100_kilobytes(tmp_path, monkeypatch):
    samples = eleven(100_000)
    encoding = {name: {"zlib": True} for name in samples.data_vars}
    samples.to_netcdf(tmp_path / "samples.nc", engine="h5netcdf", encoding=encoding)
    small = pag.compress(samples)
    small.save(tmp_path / "small.nc")
    size = (tmp_path / "small.nc").stat().st_size
    assert size < 100_000 and 10 * size < (tmp_path / "samples.nc").stat().st_size
    given = {name: samples[name].values for name in small.names}
    assert np.mean(samples["log_density"].values - small.log_density(given)) < 0.1
    # Of some, by which flows are trained, too.
    monkeypatch.setattr(report, "FOLDS", 3)
    found = small.report(samples.isel(draw=slice(None, None, 10)))
    assert found.attrs["passed"] == 1, found
    assert float(found["kl"]) < 0.2
    assert float(found["log_evidence"]) == pytest.approx(0.0, abs=0.05)


OBJECTS = 100
HYPER = {"mean": st.norm(0.0, 3.0), "log_sd": st.norm(0.0, 1.0)}


def gaussian(theta, hyper):
    return jax.scipy.stats.norm.logpdf(theta["x"], hyper[0], jnp.exp(hyper[1]))


def of_objects(count, size=800):
    """theta_i ~ N(0.7, 0.8^2), measured with errors of known sd, each with the prior N(0, 4^2)."""
    generator = np.random.default_rng(5)
    sigma = generator.uniform(0.3, 1.0, count)
    data = generator.normal(0.7, 0.8, count) + sigma * generator.standard_normal(count)
    catalogue = []
    for d, s in zip(data, sigma, strict=True):
        v = 1.0 / (1.0 / 16.0 + 1.0 / s**2)
        x = generator.normal(v * d / s**2, np.sqrt(v), size)
        log = st.norm.logpdf(d, x, s) + st.norm.logpdf(x, 0.0, 4.0)
        catalogue.append(pag.compress(as_samples({"x": x}, log), prior={"x": st.norm(0.0, 4.0)}))
    return data, sigma, catalogue


def log_exact(mean, log_sd, data, sigma):
    sd = np.sqrt(np.exp(2.0 * log_sd)[..., None] + sigma**2)
    return np.sum(st.norm.logpdf(data, mean[..., None], sd), axis=-1)


def moments(mean, log_sd, log):
    """Means and standard deviations of both by quadrature."""
    w = np.exp(log - np.max(log))
    w /= np.sum(w)
    means = [np.sum(w * a) for a in (mean, log_sd)]
    return *means, *(
        np.sqrt(np.sum(w * (a - m) ** 2)) for a, m in zip((mean, log_sd), means, strict=True)
    )


def test_the_likelihood_of_a_population():
    """Differences of ln L, as it is up to a constant."""
    data, sigma, catalogue = of_objects(5)
    density = pag.sampling.population(catalogue, gaussian, ("mean", "log_sd"), HYPER, draws=20_000)
    hyper = np.array([[0.7, 0.0], [0.0, 0.2], [1.5, 0.5]])
    with jax.enable_x64(True):
        found = np.array([float(density.function(h)) for h in hyper])
    expected = log_exact(hyper[:, 0], hyper[:, 1], data, sigma)
    np.testing.assert_allclose(found - found[0], expected - expected[0], atol=0.1)
    bare = pag.CompressedPosterior(catalogue[0].flow, catalogue[0].means)
    for given, options, match in (
        ([], {}, "catalogue: expected a list"),
        ([3], {}, r"catalogue\[0\]: found int"),
        ([catalogue[0], bare], {}, r"catalogue\[1\]: found no prior of 'x'"),
        (catalogue, {"of": ["y"]}, r"catalogue\[0\]: found no unknown 'y'"),
        (catalogue, {"draws": 0}, "draws: found 0"),
    ):
        with pytest.raises(ConfigError, match=match):
            pag.sampling.population(given, gaussian, ("mean", "log_sd"), HYPER, **options)
    with pytest.raises(DataError, match="distribution: found an array of shape"):
        pag.sampling.population(catalogue, lambda theta, h: h[0], ("mean", "log_sd"), HYPER)


@pytest.mark.slow
def test_a_population_of_100(tmp_path):
    """The posterior of the mean and ln sd against quadrature of the closed form."""
    data, sigma, catalogue = of_objects(OBJECTS)
    for k, each in enumerate(catalogue):
        each.save(tmp_path / f"{k}.nc")
    catalogue = [pag.CompressedPosterior.load(tmp_path / f"{k}.nc") for k in range(OBJECTS)]
    mean, log_sd = np.meshgrid(np.linspace(0.0, 1.4, 141), np.linspace(-1.5, 0.8, 116))
    prior = HYPER["mean"].logpdf(mean) + HYPER["log_sd"].logpdf(log_sd)
    exact = moments(mean, log_sd, log_exact(mean, log_sd, data, sigma) + prior)
    density = pag.sampling.population(catalogue, gaussian, ("mean", "log_sd"), HYPER, draws=2000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = pag.sample(density, method="nuts", chains=4, draws=500, warmup=300, progress=False)
    for k, name in enumerate(("mean", "log_sd")):
        x = found[name].values
        assert abs(np.mean(x) - exact[k]) < 0.25 * exact[2 + k]
        assert np.std(x) == pytest.approx(exact[2 + k], rel=0.15)
