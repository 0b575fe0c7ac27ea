"""Placement from the command line, against the same by hand."""

import contextlib
import io

import h5py
import numpy as np
import pytest
import xarray as xr
from placement_files import BARE, RUN_FILE

import pyadjoint_gpu as pag
from pyadjoint_gpu.cli import main
from pyadjoint_gpu.core.errors import DataError
from pyadjoint_gpu.geophysics import Rupture, continental_margin
from pyadjoint_gpu.lti import LinearInversion, ToeplitzMap
from pyadjoint_gpu.placement import place_sensors
from pyadjoint_gpu.plots.placement import plot_placement
from pyadjoint_gpu.runfiles.schema import read
from pyadjoint_gpu.statistics import Matern, SpaceTime

KM = 1e3


@pytest.fixture
def run(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(RUN_FILE)
    return path


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The run file, after it was run, with what that said."""
    path = tmp_path_factory.mktemp("done") / "run.toml"
    path.write_text(RUN_FILE)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        place(path, DRAWN, "placement.random=3")
    return path, said.getvalue().splitlines()


@pytest.fixture
def bare(run):
    run.write_text(BARE)
    return run


DRAWN = 'output.figure="gauges.png"'


def place(run, *overrides):
    """The result of a run that was fine, in the place of an older one."""
    run.with_name("gauges.nc").unlink(missing_ok=True)
    assert main(["place", str(run), *(a for o in overrides for a in ("--set", o))]) == 0
    return opened(run)


def opened(run):
    with xr.open_dataset(run.with_name("gauges.nc"), engine="h5netcdf") as result:
        return result.load()


def test_it_is_what_python_gives(done):
    run, lines = done
    found = opened(run)
    grid = pag.Grid((12, 16), (60 * KM, 80 * KM))
    model = pag.models.ShallowWater(
        grid, 12.0, 30, every=3, source={"low": [20 * KM, 20 * KM], "high": [45 * KM, 60 * KM]},
        absorbing=("y_min", "x_min", "x_max"), sponge=2,
    )  # fmt: skip
    depth = continental_margin(grid, side="y_max", shelf_width=10 * KM, slope_width=20 * KM)
    places = np.meshgrid(np.linspace(12, 50, 3) * KM, np.linspace(15, 65, 4) * KM, indexing="ij")
    candidates = np.stack(places, axis=-1).reshape(-1, 2)
    points = np.array([[58, 30], [58, 50]]) * KM
    column = pag.block_column(model, {"depth": depth}, np.vstack([candidates, points]))
    whole = ToeplitzMap.of(column)
    of, forecast = whole.select(np.arange(12)), whole.select([12, 13])
    space = model.space("source")
    prior = SpaceTime(Matern(sd=0.02, length=15 * KM), duration=60.0)
    design = place_sensors(of, prior, 0.01, 4, random=3)
    for name in ("order", "information", "integral_sd", "random_information"):
        np.testing.assert_allclose(found[name], design[name], rtol=1e-9)

    rupture = Rupture((33 * KM, 40 * KM), 2.0, 30 * KM, 20 * KM, 2 * KM, 72.0, strike=90.0)
    truth = space.fill(rupture, "source")
    exact = whole.matvec(truth)
    np.testing.assert_allclose(found["forecast_true"], exact[:, 12:], rtol=0, atol=1e-12)
    np.testing.assert_allclose(found["integral_true"], 36.0 * truth.sum(0), rtol=1e-12)
    errors = 0.01 * np.random.default_rng([0, 1]).standard_normal((10, 12))
    order = design["order"].values
    inversion = LinearInversion(of.select(order), prior, 0.01, forecast)
    data = (exact[:, :12] + errors)[:, order]
    np.testing.assert_allclose(found["integral"], inversion.infer(data)["integral"], rtol=1e-7)
    early = inversion.infer(data, until=6)  # whole intervals of 36 s until 250 s
    np.testing.assert_allclose(found["forecast"], early["forecast"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(found["forecast_sd"], early["forecast_sd"], rtol=0, atol=1e-9)
    error = np.sqrt(np.mean((found["integral"] - found["integral_true"]) ** 2))
    assert found.attrs["integral_error"] == pytest.approx(float(error), rel=1e-9)
    assert found["random_integral_error"].shape == (3,)
    assert found["integral"].attrs["units"] == found["integral_sd"].attrs["units"] == "m"

    said = ", ".join(map(str, order))
    assert lines[0] == f"4 of 12 candidates, in this order: {said}"
    assert lines[1].startswith(f"information {design['information'].values[-1]:.1f} nats; 3 random")
    assert lines[2].startswith("rms error of the total uplift")
    assert lines[-2:] == [
        f"wrote {run.with_name('gauges.nc')}",
        f"wrote {run.with_name('gauges.png')}",
    ]


def test_drawn_again(done, capsys):
    run, _ = done
    figure = run.with_name("gauges.png")
    first = figure.stat().st_size
    figure.unlink()
    assert main(["plot", str(run.with_name("gauges.nc"))]) == 0
    assert abs(figure.stat().st_size - first) < 0.02 * first > 500
    assert f"wrote {figure}" in capsys.readouterr().out
    with pytest.raises(DataError, match="not a result of a placement"):
        plot_placement(xr.Dataset({"order": ("step", [1])}))


def test_a_second_run_takes_what_the_journal_has(bare, monkeypatch):
    first = place(bare, "placement.random=1")
    from pyadjoint_gpu.engines.explicit_time import ExplicitTimeStepper

    monkeypatch.setattr(ExplicitTimeStepper, "adjoint", None)
    again = place(bare, "placement.random=1", "prior.sd=0.01")
    assert np.all(again["information"] < first["information"])


def test_interrupted_it_goes_on(bare, capsys, monkeypatch):
    from pyadjoint_gpu.engines.explicit_time import ExplicitTimeStepper

    adjoint, rows = ExplicitTimeStepper.adjoint, []

    def counted(self, *arguments, **options):
        rows.append(1)
        if len(rows) == 5:
            raise KeyboardInterrupt
        return adjoint(self, *arguments, **options)

    monkeypatch.setattr(ExplicitTimeStepper, "adjoint", counted)
    assert main(["place", str(bare)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") <= 2 and "interrupted; the same command goes on from" in error
    assert not bare.with_name("gauges.nc").exists()
    place(bare, "placement.random=1")
    assert len(rows) == 5 + 8  # four of twelve were there


@pytest.mark.slow
def test_covariances_on_disk(bare):
    whole = place(bare, "placement.random=1")
    found = place(bare, "placement.random=1", 'output.covariance="k.h5"', "placement.dtype=float32")
    np.testing.assert_array_equal(found["order"], whole["order"])
    np.testing.assert_allclose(found["information"], whole["information"], rtol=1e-9)
    with h5py.File(bare.with_name("k.h5")) as file:
        assert file["rows"].shape == (12, 10, 12, 10)
    assert bare.with_name("gauges-selection.h5").is_file()


@pytest.mark.slow
def test_sensors_in_place_and_forbidden_costs_and_goals(bare):
    options = ["sensors.existing=[1, 5]", "sensors.forbidden=[0, 6]", "placement.random=1"]
    found = place(bare, *options)
    assert not {0, 1, 5, 6} & {*found["order"].values, *found["random_order"].values.ravel()}
    assert found["candidate_kind"].values.tolist() == [-1, 1, 0, 0, 0, 1, -1, 0, 0, 0, 0, 0]
    assert found.attrs["existing_information"] > 0
    costs = [1.0] * 6 + [2.0] * 6
    found = place(bare, f"sensors.costs={costs}", "placement.budget=3.5", "placement.random=1")
    assert sum(costs[k] for k in found["order"].values) <= 3.5
    goal = "placement.goal=forecast", "forecast.points=[[58e3, 30e3]]"
    found = place(bare, *goal, "placement.random=1", "output.journal=goal.h5")
    assert "goal" in found.attrs["guarantee"]


@pytest.mark.slow
@pytest.mark.parametrize("source", ["box", "cells"])
def test_files(source, run):
    """Everything that can come from a file does; and all cells may move."""
    grid = pag.Grid((12, 16), (60 * KM, 80 * KM))
    axes = {d: (d, c, {"units": "m"}) for d, c in zip("yx", grid.centers, strict=True)}
    depth = continental_margin(grid, side="y_max", shelf_width=10 * KM, slope_width=20 * KM)
    truth = np.zeros((10, 12, 16))
    truth[1, 5:8, 6:11] = 0.05
    xr.Dataset(
        {"depth": (("y", "x"), depth), "uplift": (("interval", "y", "x"), truth)}, axes
    ).to_netcdf(run.with_name("sea.nc"), engine="h5netcdf")
    columns = {"y": ("k", [12.0, 30.0, 50.0], {"units": "km"}), "x": ("k", [15.0, 40.0, 65.0])}
    columns["x"] = (*columns["x"], {"units": "km"})
    sigma = {"sigma": ("k", [5.0, 10.0, 20.0], {"units": "mm"})}
    xr.Dataset(sigma | columns).to_netcdf(run.with_name("gauges-at.nc"), engine="h5netcdf")
    options = ["sensors.candidates=gauges-at.nc", "sensors.sigma=gauges-at.nc:sigma"]
    options += ["parameters.depth=sea.nc:depth", 'rupture={file = "sea.nc:uplift"}']
    options += ["placement.budget=2", "placement.random=1"]
    if source == "cells":
        options.append("model.source=cells")
    file = read(run, options).build()
    np.testing.assert_allclose(file.candidates[:, 0], [12 * KM, 30 * KM, 50 * KM])
    np.testing.assert_allclose(file.sigma, [0.005, 0.01, 0.02])
    assert file.truth is not None and np.count_nonzero(file.truth) == 15
    if source == "cells":
        result = place(run, *options, DRAWN)
        assert result["integral"].dims == ("y", "x")


@pytest.mark.slow
def test_without_a_rupture_or_a_forecast(bare):
    result = place(bare, "placement.random=1", DRAWN)
    assert "integral" not in result and "point_x" not in result
    assert bare.with_name("gauges.png").stat().st_size > 20_000
