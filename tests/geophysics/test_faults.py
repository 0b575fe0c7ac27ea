"""Faults: their geometry, and slip on them recovered."""

import numpy as np
import pytest
from exact_densities import slip_data

from pyadjoint_gpu.core.errors import ConfigError, DataError
from pyadjoint_gpu.core.precision import double
from pyadjoint_gpu.geophysics import Fault, gnss
from pyadjoint_gpu.geophysics.okada import displacement
from pyadjoint_gpu.sampling import LinearSMC

POINTS, LOOK = gnss(np.random.default_rng(0).uniform(-20, 20, (12, 2)))
AT = {"east": 2.0, "north": -3.0, "depth": 1.5, "strike": 40.0, "dip": 60.0}


@double
def green(fault, points=POINTS, look=LOOK, **geometry):
    return np.asarray(fault.green(points, look, **(AT | geometry)))


@pytest.mark.slow
def test_patches_are_parts_of_the_fault():
    one, many = Fault(10.0, 6.0), Fault(10.0, 6.0, along=5, down=3)
    parts = green(many).reshape(len(POINTS), 2, 15).sum(axis=2)
    np.testing.assert_allclose(parts, green(one), rtol=1e-9, atol=1e-13)


@double
def test_to_the_east_dipping_south():
    """Strike 90: the axes of the formulas are east and north, from the upper edge."""
    east = green(Fault(4.0, 2.0, slips=("dip",)), east=0.0, north=0.0, strike=90.0, dip=30.0)
    x, y = POINTS[::3].T
    down = np.deg2rad(30.0)
    u = displacement(x + 2.0, y, 1.5, down, 4.0, 2.0, "dip")
    np.testing.assert_allclose(east[:, 0].reshape(-1, 3), u, atol=1e-14)


def test_turning_everything_turns_displacements():
    """A fault and its points turned by 25 degrees, clockwise from above."""
    fault, angle = Fault(10.0, 6.0, along=2, down=2), np.deg2rad(25.0)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    here = green(fault, east=0.0, north=0.0)
    there = green(fault, points=POINTS @ turn.T, east=0.0, north=0.0, strike=65.0)
    u, v = (a.reshape(-1, 3, fault.components) for a in (here, there))
    np.testing.assert_allclose(v[:, 2], u[:, 2], atol=1e-13)
    np.testing.assert_allclose(v[:, :2], np.einsum("ij,mjn->min", turn, u[:, :2]), atol=1e-13)


def test_a_line_of_sight_is_a_mean_of_components():
    look = np.array([[0.6, -0.1, 0.79]] * 12)
    los = green(Fault(10.0, 6.0), points=POINTS[::3], look=look)
    parts = green(Fault(10.0, 6.0)).reshape(12, 3, 2)
    np.testing.assert_allclose(los, np.einsum("k,mkn->mn", look[0], parts), rtol=1e-12)


def test_a_thrust_lifts_what_is_above_it():
    """And left-lateral slip moves what is seen across it to the left, from either side."""
    fault = Fault(10.0, 6.0)
    points, look = gnss([[2.0, 0.0], [-2.0, 0.0]])  # of a fault that dips to the east
    where = {"east": 0.0, "north": 0.0, "depth": 0.1, "strike": 0.0, "dip": 45.0}
    strike, thrust = green(fault, points, look, **where).reshape(2, 3, 2).transpose(2, 0, 1)
    assert thrust[0, 2] > 0.2
    assert strike[0, 1] > 0.1 and strike[1, 1] < -0.1


@double
def test_the_space_of_slip():
    """Slip that is alike on all patches has no gradient; kinds are apart."""
    fault = Fault(6.0, 2.0, along=6, down=4, slips=("strike", "dip"))
    space = fault.space
    assert space.shape == (48,) and space.measure == 0.5
    assert space.dirichlet(np.repeat([1.0, -3.0], 24)) == 0.0
    along, down = space.positions()
    np.testing.assert_allclose(along[:5], [-2.5, -2.5, -2.5, -2.5, -1.5])
    # Of 2 along + 3 down, between middles of patches: 5/6 and 3/4 of the area, for each kind.
    found = space.dirichlet(2.0 * along + 3.0 * down)
    assert found == pytest.approx(2 * 12.0 * (4.0 * 5 / 6 + 9.0 * 3 / 4))


@pytest.mark.slow
def test_the_published_case():
    """Nine patches, 108 data: mean, standard deviations and ln Z of the closed form."""
    g, d, c = slip_data()
    found = LinearSMC(g, d, c, np.full(18, 0.5)).run(repeats=10, seed=1)
    error = found.attrs["log_evidence_error"]
    assert error < 0.1
    assert found.attrs["log_evidence"] == pytest.approx(413.60014, abs=3 * error)
    whole = c + 0.25 * g @ g.T
    gain = 0.25 * np.linalg.solve(whole, g).T
    sd = np.sqrt(np.diag(0.25 * (np.eye(18) - gain @ g)))
    # Of ten runs of which each has some hundred independent samples.
    runs = found["slip"].values.reshape(10, -1, 18)
    scatter = runs.mean(axis=1).std(axis=0, ddof=1) / np.sqrt(10)
    assert np.all(np.abs(found["slip_mean"].values - gain @ d) < 4.5 * scatter)
    assert np.max(scatter / sd) < 0.05
    np.testing.assert_allclose(found["slip_sd"], sd, rtol=0.05)


def test_what_is_wrong_is_refused_by_name():
    for options, match in (
        ({"along": 0}, "along: found 0"),
        ({"slips": ("strike", "sideways")}, "slips: found"),
        ({"poisson": 0.7}, "poisson: found 0.7"),
    ):
        with pytest.raises(ConfigError, match=match):
            Fault(10.0, 6.0, **options)
    with pytest.raises(DataError, match=r"points: found an array of shape \(3,\)"):
        gnss([1.0, 2.0, 3.0])
