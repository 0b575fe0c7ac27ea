"""What samplers found, drawn and converted."""

import sys
import warnings

import numpy as np
import pytest
import scipy.stats
import xarray as xr

import pyadjoint_gpu as pag
from pyadjoint_gpu.cli import main
from pyadjoint_gpu.core.errors import ConfigError, DataError, EngineError
from pyadjoint_gpu.geophysics import Fault
from pyadjoint_gpu.plots.numbers import MOST, numbers
from pyadjoint_gpu.results.dataset import grid_coordinates
from pyadjoint_gpu.results.samples import DIMS, sample_coordinates, weights_of
from pyadjoint_gpu.sampling import HierarchicalSMC, SamplingWarning, Settings

X = np.linspace(0.0, 1.0, 12)
PRIOR = {"slope": scipy.stats.norm(0.0, 1.0), "start": scipy.stats.norm(0.0, 2.0)}
SMALL = Settings(particles=16, moves=1, leapfrogs=5)


def waves(theta):
    return np.stack([np.cos(float(theta["slope"]) * X), float(theta["start"]) + X], axis=1)


@pytest.fixture(scope="module")
def joint():
    """Samples of two numbers, and of slip given them."""
    smc = HierarchicalSMC(
        waves, np.sin(X), 0.2, np.ones(2), PRIOR, particles=16, moves=1, inner=SMALL, batch=16
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SamplingWarning)
        return smc.run(repeats=2, progress=False)


@pytest.fixture
def linear(joint):
    """As of a problem with one G: slip alone, in three runs."""
    slip = np.random.default_rng(0).standard_normal((3, 32, 6))
    variables = {
        "slip": ((*DIMS, "component"), slip),
        "slip_mean": ("component", slip.mean(axis=(0, 1))),
        "slip_sd": ("component", slip.std(axis=(0, 1))),
        "log_evidence": ("chain", [-3.0, -3.1, -2.9]),
        "gamma": (("chain", "stage"), np.tile([0.1, 0.5, 1.0], (3, 1))),
    }
    return xr.Dataset(variables, sample_coordinates(3, 32), joint.attrs)


def chain(values):
    """Samples of one chain."""
    return DIMS, np.asarray(values)[None]


def made(size=400, **units):
    """Numbers of very different scales."""
    generator = np.random.default_rng(1)
    found = {
        "strike": 210.0 + 0.3 * generator.standard_normal(size),
        "east": 1.2e4 + 30.0 * generator.standard_normal(size),
        "modulus": 5e9 + 2e8 * generator.standard_normal(size),
    }
    return xr.Dataset(
        {
            name: (*chain(v), {"units": units.get(name, "1"), "long_name": name})
            for name, v in found.items()
        }
    )


UNITS = {"strike": "degree", "east": "m", "modulus": "Pa"}


def panels(figure):
    """Those of a corner plot, by row and column."""
    count = round((np.sqrt(8 * len(figure.axes) + 1) - 1) / 2)
    return dict(zip(zip(*np.tril_indices(count), strict=True), figure.axes, strict=True))


def lines(ax, color):
    return [line for line in ax.lines if line.get_color() == color]


# ArviZ


def test_a_tree_has_the_joint_samples(joint):
    tree = joint.pag.to_datatree()
    posterior = tree["posterior"]
    assert set(posterior.data_vars) == {"slope", "start", "slip"}
    assert posterior["slope"].dims == ("chain", "draw")
    assert posterior["slip"].dims == ("chain", "draw", "component")
    for run in range(2):
        own = joint.sel(chain=run)
        np.testing.assert_array_equal(posterior["slope"].sel(chain=run), own["slope"])
        np.testing.assert_array_equal(posterior["slip"].sel(chain=run), own["slip"][:, 0])
    assert posterior["slope"].attrs == joint["slope"].attrs
    stats = tree["sample_stats"]
    assert stats["log_likelihood"].dims == stats["log_density"].dims == ("chain", "draw")
    assert stats["weight"].dims == ("chain",)
    np.testing.assert_array_equal(stats["log_evidence"], joint["log_evidence"])
    assert stats["gamma"].dims == ("chain", "stage")
    assert tree.attrs["log_evidence_error"] == joint.attrs["log_evidence_error"]
    assert "not a Markov chain" in tree["posterior"].attrs["comment"]
    others = joint.assign_attrs(method="nuts").pag.to_datatree()
    assert "comment" not in others["posterior"].attrs and "comment" not in others.attrs


def test_any_variable_of_samples_is_converted():
    """Fields on a grid, with their coordinates."""
    grid = pag.Grid((2, 3), (1.0, 1.0))
    values = np.arange(24.0).reshape(4, 2, 3)
    axes = {d: grid_coordinates(grid)[d] for d in grid.dims}
    data = xr.Dataset(
        {"k": (("y", "x", *DIMS), np.moveaxis(values, 0, -1)[:, :, None])}
        | {"k_mean": (("y", "x"), values[0])},
        axes,
    )
    tree = data.pag.to_datatree()
    assert set(tree.children) == {"posterior"}
    assert tree["posterior"]["k"].dims == ("chain", "draw", "y", "x")
    np.testing.assert_array_equal(tree["posterior"]["k"][0], values)
    np.testing.assert_array_equal(tree["posterior"]["x"], data["x"])


def test_weighted_samples_are_drawn_again():
    weights = [[0.0, 1.0, 0.0], [0.0, 3.0, 1.0]]
    data = xr.Dataset({"a": (DIMS, np.arange(6.0).reshape(2, 3)), "weight": (DIMS, weights)})
    tree = data.pag.to_datatree()
    found = tree["posterior"]["a"]
    np.testing.assert_array_equal(found[0], 1.0)
    assert 2 <= np.sum(found[1] == 4.0) <= 3 and 3.0 not in found[1]
    assert set(tree.children) == {"posterior"} and list(found["draw"]) == [0, 1, 2]
    # Those of chains are told, but change nothing.
    chains = data.assign(weight=("chain", [0.0, 2.0])).pag.to_datatree()
    np.testing.assert_array_equal(chains["posterior"]["a"], data["a"])
    np.testing.assert_array_equal(chains["sample_stats"]["weight"], [0.0, 2.0])


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_arviz_summarises(joint, linear, tmp_path):
    az = pytest.importorskip("arviz")
    found = joint.pag.to_arviz()
    table = az.summary(found)
    assert list(table.index) == ["slope", "start", "slip[0]", "slip[1]"]
    assert float(table.loc["slope", "mean"]) == pytest.approx(
        float(joint["slope"].mean()), abs=0.01
    )
    np.testing.assert_array_equal(found.posterior["start"], joint["start"])
    kinds, along = ["strike"] * 3 + ["dip"] * 3, [0, 1, 2] * 2
    patches = linear.assign_coords(slip_kind=("component", kinds), along=("component", along))
    found = patches.pag.to_arviz()
    assert list(az.summary(found).index) == [
        f"slip[{k} {i}]" for k, i in zip(kinds, along, strict=True)
    ]
    found.to_netcdf(tmp_path / "samples.nc")
    read = xr.load_dataset(tmp_path / "samples.nc", group="posterior", engine="h5netcdf")
    np.testing.assert_array_equal(read["slip"], linear["slip"])


def test_without_arviz(linear, monkeypatch):
    monkeypatch.setitem(sys.modules, "arviz", None)
    with pytest.raises(EngineError, match=r"pip install 'pyadjoint_gpu\[arviz\]'"):
        linear.pag.to_arviz()


def test_samples_of_an_earlier_version_are_refused():
    data = xr.Dataset({"a": ("sample", np.zeros(3))}, {"run": ("sample", [0, 0, 1])})
    for use in (data.pag.to_datatree, data.pag.corner, data.pag.plot):
        with pytest.raises(DataError, match=r"^samples: .* earlier version.*: sample again$"):
            use()


# Corner plots


def test_corner():
    data = made(**UNITS)
    truth = {"strike": 209.9, "east": 12010.0, "modulus": 5.1e9}
    figure = data.pag.corner(truth=truth, prior={"strike": scipy.stats.norm(210, 1)})
    axes = panels(figure)
    assert len(axes) == 6
    titles = {k: axes[k, k].get_title().split("\n") for k in range(3)}
    assert [titles[k][0] for k in range(3)] == ["strike", "east", "modulus"]
    low, middle, high = np.quantile(data["strike"][0], [0.05, 0.5, 0.95], method="inverted_cdf")
    said = f"${middle:.2f}_{{-{middle - low:.2f}}}^{{+{high - middle:.2f}}}$ °"
    assert titles[0][1] == said
    assert titles[1][1].startswith("$1200") and titles[1][1].endswith("$ m")
    assert titles[2][1].startswith("$4.99") and titles[2][1].endswith("× $10^{9}$ Pa")
    # Labels are on the outside only, and short.
    figure.draw_without_rendering()
    assert [axes[2, k].get_xlabel() for k in range(3)] == [
        "strike (°)",
        "east (m)",
        "modulus ($10^{9}$ Pa)",
    ]
    assert [axes[k, 0].get_ylabel() for k in range(3)] == ["", "east (m)", "modulus ($10^{9}$ Pa)"]
    for (i, j), ax in axes.items():
        for axis, outside in ((ax.xaxis, i == 2), (ax.yaxis, j == 0 < i)):
            texts = [t.label1 for t in axis.get_major_ticks() if t.label1.get_visible()]
            assert bool([t for t in texts if t.get_text()]) == outside
            assert axis.get_offset_text().get_text() == ""
            assert all(len(t.get_text()) < 8 for t in texts)
    # The truth is where it should be, in every panel.
    for (i, j), ax in axes.items():
        found = lines(ax, "#c8553d")
        assert len(found) == (1 if i == j else 2)
        assert found[0].get_xdata()[0] * (1e9 if j == 2 else 1.0) == list(truth.values())[j]
    assert len(lines(axes[0, 0], "#8a8a8a")) == 1 and not lines(axes[1, 1], "#8a8a8a")
    written = [t.get_text() for t in figure.legends[0].get_texts()]
    assert written == ["90 % interval", "50 % of samples", "90 % of samples", "truth", "prior"]


def test_contours_hold_what_they_say():
    data = made(4000)
    ax = panels(data.pag.corner(["strike", "east"]))[1, 0]
    contours = ax.collections[-1]
    points = np.stack([data["strike"][0], data["east"][0]], axis=1)
    for paths, inside in zip(contours.get_paths(), (0.9, 0.5), strict=True):
        assert np.mean(paths.contains_points(points)) == pytest.approx(inside, abs=0.03)


def test_weights_count():
    """Samples of a uniform distribution, weighted to be of a triangle's."""
    a = np.linspace(0.0, 1.0, 2000)
    data = xr.Dataset({"a": chain(a), "weight": chain(a)})
    figure = data.pag.corner()
    assert len(figure.axes) == 1
    assert figure.axes[0].get_title() == "a\n$0.71_{-0.48}^{+0.27}$"


def test_chains_count_by_their_weight():
    """Quantiles and moments are those of the heavier chain."""
    values = np.stack([np.linspace(0.0, 1.0, 101), np.linspace(10.0, 11.0, 101)])
    data = xr.Dataset({"a": (DIMS, values), "weight": ("chain", [2.0 - 1e-9, 1e-9])})
    (number,) = numbers(data)
    assert number.quantiles(0.05, 0.5, 0.95) == pytest.approx([0.05, 0.5, 0.95], abs=0.011)
    assert number.spread == pytest.approx(np.std(values[0]), rel=1e-5)
    (number,) = numbers(data.drop_vars("weight"))
    assert number.spread == pytest.approx(np.std(values))
    for both in (weights_of(data), weights_of(data.transpose("draw", "chain"))):
        np.testing.assert_allclose(both.sum(axis=1), [1.0, 5e-10], rtol=1e-6)


def test_a_run_of_no_weight_does_not_blur_a_plot():
    """However far away it is: the panels are those of the other run."""
    one = np.random.default_rng(0).standard_normal((2, 500))
    far = np.stack([one, one + 1e4], axis=1)
    data = xr.Dataset(
        {n: (DIMS, v) for n, v in zip("ab", far, strict=True)} | {"weight": ("chain", [2.0, 0.0])}
    )
    alone = xr.Dataset({n: (DIMS, v[:1]) for n, v in zip("ab", far, strict=True)})
    found, expected = panels(data.pag.corner()), panels(alone.pag.corner())
    for k in range(2):
        both = [axes[k, k].patches[0].get_xy() for axes in (found, expected)]
        np.testing.assert_allclose(*both, rtol=1e-6)
        assert found[k, k].get_xlim() == pytest.approx(expected[k, k].get_xlim())
    both = [axes[1, 0].collections[-1].get_paths() for axes in (found, expected)]
    for a, b in zip(*both, strict=True):
        np.testing.assert_allclose(a.vertices, b.vertices, atol=1e-6)


def test_one_number_and_constants():
    data = xr.Dataset({"a": chain(np.full(9, 2.0)), "b": chain(np.arange(9.0))})
    assert data.pag.corner("a").axes[0].get_title() == "a\n2"
    assert len(data.pag.corner().axes) == 3


def test_slip_in_a_corner_plot(joint, linear):
    """Where it is all there is, or by name; components have names."""
    axes = panels(linear.pag.corner(truth={"slip[5]": 0.5}))
    assert [axes[k, k].get_title().split("\n")[0] for k in range(6)] == [
        f"slip {k}" for k in range(6)
    ]
    assert lines(axes[5, 5], "#c8553d")
    assert len(joint.pag.corner().axes) == 3
    assert len(joint.pag.corner(["slope", "slip"]).axes) == 6


def test_what_cannot_be_drawn(linear):
    data = made()
    with pytest.raises(ConfigError, match=r"names: 'strik' is not .*did you mean 'strike'"):
        data.pag.corner(["strik"])
    with pytest.raises(ConfigError, match=r"truth\.strik: unknown key; did you mean 'strike'"):
        data.pag.corner(truth={"strik": 1.0})
    with pytest.raises(ConfigError, match=r"truth\.strike: found nan"):
        data.pag.corner(truth={"strike": np.nan})
    with pytest.raises(ConfigError, match=r"prior\.strike: found 3.0, expected a distribution"):
        data.pag.corner(prior={"strike": 3.0})
    with pytest.raises(ConfigError, match="names: expected one or more"):
        data.pag.corner([])
    with pytest.raises(ConfigError, match=r"prior\.south: unknown key"):
        data.pag.corner(prior={"south": PRIOR["slope"]})
    with pytest.raises(DataError, match="it has no samples"):
        xr.Dataset({"strike": 1.0}).pag.corner()
    many = xr.Dataset({"slip": ((*DIMS, "component"), np.zeros((1, 3, 40)))})
    with pytest.raises(ConfigError, match=f"names: found 40 numbers, a figure shows {MOST}"):
        many.pag.corner()
    data["strike"][0, 3] = np.nan
    with pytest.raises(DataError, match="strike: some samples are not finite"):
        data.pag.corner()
    with pytest.raises(DataError, match="weight: expected numbers that are not negative"):
        xr.Dataset({n: chain([-1.0, 0.0]) for n in ("a", "weight")}).pag.corner()
    with pytest.raises(DataError, match=r"weight: found the dimensions \('x',\), expected 'chain'"):
        xr.Dataset({"a": chain([1.0, 2.0]), "weight": ("x", [1.0, 2.0])}).pag.corner()


# All of it


def titles(figure):
    return [ax.get_title().split("\n")[0] for ax in figure.axes if ax.get_title()]


def test_plots_of_what_samplers_give(joint, linear, tmp_path):
    figure = joint.pag.plot(tmp_path / "joint.png")
    assert titles(figure) == [
        "slope",
        "start",
        "mean and standard deviation of slip",
        "exponent of the likelihood",
        "accepted moves of theta",
    ]
    assert f"{joint.attrs['log_evidence']:.1f}"[1:3] in figure.get_suptitle()
    assert " ± " in figure.get_suptitle()
    assert titles(linear.pag.plot())[0] == "mean and standard deviation of slip"


def test_slip_on_a_fault():
    """Patches of 8 km x 1 km, three along and two down, in any order."""
    mean, order = np.r_[np.arange(1.0, 7.0), np.arange(-2.0, 4.0)], np.argsort(np.arange(12) % 5)
    data = xr.Dataset(
        {
            "slip": ((*DIMS, "component"), np.zeros((1, 2, 12))),
            "slip_mean": ("component", mean, {"units": "m"}),
            "slip_sd": ("component", np.full(12, 0.1), {"units": "m"}),
        },
        Fault(24e3, 2e3, along=3, down=2).coordinates("m"),
    ).isel(component=order)
    figure = data.pag.plot()
    ax = {a.get_title(): a for a in figure.axes if a.get_title()}
    assert set(ax) == {
        f"{what} of {kind} slip"
        for kind in ("strike", "dip")
        for what in ("mean", "standard deviation")
    }
    strike, dip = ax["mean of strike slip"], ax["mean of dip slip"]
    assert (strike.get_xlabel(), strike.get_ylabel()) == ("along strike (km)", "down dip (km)")
    assert strike.get_xlim() == (-12.0, 12.0) and strike.get_ylim() == (2.0, 0.0)
    assert strike.get_aspect() == 1.0
    (image,) = strike.collections
    np.testing.assert_array_equal(image.get_array(), [[1.0, 3.0, 5.0], [2.0, 4.0, 6.0]])
    (image,) = dip.collections  # of both signs
    assert image.get_clim() == (-3.0, 3.0) and image.get_cmap().name == "RdBu_r"
    units = [bar.get_ylabel() for a in figure.axes for bar in a.child_axes]
    assert units == ["m"] * 4


@pytest.mark.parametrize("shape", [(5, 8), (8,)])
def test_fields(shape):
    grid = pag.Grid(shape, (1.0, 2.0)[-len(shape) :])
    values = np.random.default_rng(0).standard_normal((6, *shape))
    variables = {"k": ((*DIMS, *grid.dims), values[None])} | {
        f"k_{n}": (grid.dims, v, {"long_name": f"{n} of k", "units": "m"})
        for n, v in {"mean": values[0], "sd": values[1] ** 2, "true": values[2]}.items()
    }
    figure = xr.Dataset(variables, grid_coordinates(grid)).pag.plot()
    if len(shape) == 2:
        assert titles(figure) == ["true of k", "mean of k", "sd of k"]
        true, mean, _ = (ax.collections[0].get_clim() for ax in figure.axes)
        assert true == mean
    else:
        (ax,) = figure.axes
        assert ax.get_ylabel() == "k (m)" and len(ax.lines) == 2


def test_nothing_to_draw():
    with pytest.raises(DataError, match="not a result of pyadjoint_gpu"):
        xr.Dataset().pag.plot()
    with pytest.raises(DataError, match="nothing to draw"):
        xr.Dataset({"k": ((*DIMS, "x"), np.zeros((1, 2, 3)))}).pag.plot()


def test_from_the_command_line(joint, folder, capsys, refused):
    joint.pag.save(folder / "samples.nc")
    assert main(["plot", str(folder / "samples.nc")]) == 0
    assert capsys.readouterr().out.endswith("samples.png\n")
    assert (folder / "samples.png").read_bytes().startswith(b"\x89PNG")
    xr.Dataset({"k": ((*DIMS, "x"), np.zeros((1, 2, 3)))}).pag.save(folder / "none.nc")
    refused(["plot", "none.nc"], "none.nc: nothing to draw")
