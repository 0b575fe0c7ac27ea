"""What tests of two engines beside each other share: the same equations, solved twice."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import doublet, grid_of, permeability

from pyadjoint_gpu.core.precision import double

TIGHT = {"tolerance": 1e-12, "max_iterations": 200_000}


def sides_of(kind, shape):
    if kind == "closed":
        return ()
    if kind == "all":
        return {
            f"{d}_{end}": 0.3 * k
            for k, d in enumerate("xyz"[: len(shape)])
            for end in ("min", "max")
        }
    return {"x_min": 1.0, "x_max": {"value": 0.0, "gradient": [0.5] * (len(shape) - 1) + [0.0]}}


def setup(shape, case, kind, **options):
    model = doublet(grid_of(shape), fixed_pressure=sides_of(kind, shape), **options)
    return model, model.fields({"permeability": permeability(model.grid, case)})


def relative(found, expected):
    expected = np.asarray(expected)
    return np.max(np.abs(np.asarray(found) - expected)) / (np.max(np.abs(expected)) or 1.0)


@double
def twin_products(model, m, u, w):
    """R, (dR/du)^T w and (dR/dm)^T w by jax.vjp."""
    m = {k: jnp.asarray(v) for k, v in m.items()}
    (name,) = (v.name for v in model.unknowns)
    r, pull = jax.vjp(lambda u, m: model.equations(u, model.prepare(m)), {name: jnp.asarray(u)}, m)
    u_bar, m_bar = pull({name: jnp.asarray(w)})
    return r[name], u_bar[name], m_bar


def same_products(model, m, u, w, julia):
    """Both engines' residual at u, and its reverse sweep along w."""
    (unknown,) = (v.name for v in model.unknowns)
    r, u_bar, m_bar = twin_products(model, m, u, w)
    assert relative(julia.residual(model, m, {unknown: u})[unknown], r) < 1e-13
    found_u, found_m = julia.vjp(model, m, {unknown: u}, {unknown: w})
    assert relative(found_u[unknown], u_bar) < 1e-13
    assert set(found_m) == set(m)
    for name, expected in m_bar.items():
        assert relative(found_m[name], expected) < 1e-13, name


def same_solves(model, m, w, julia, embedded, spectrum=1e-8):
    """Both engines' solution and, from that of one, the adjoint and its gradients along w. With
    `spectrum`, its agreement, they take the same steps; it depends on a nonlinear state."""
    (unknown,) = (v.name for v in model.unknowns)
    here, there = julia.solve(model, m, **TIGHT), embedded.solve(model, m, **TIGHT)
    assert relative(here.fields[unknown], there.fields[unknown]) < 1e-10
    # From the same state: its spectrum, where the adjoint begins, is noise in the last digits.
    back = julia.adjoint(model, m, there, {unknown: w}, **TIGHT)
    again = embedded.adjoint(model, m, there, {unknown: w}, **TIGHT)
    assert set(back.gradient) == set(again.gradient)
    for name, expected in again.gradient.items():
        assert relative(back.gradient[name], expected) < 1e-10, name
    assert relative(back.multiplier[unknown], again.multiplier[unknown]) < 1e-10
    if spectrum is not None:
        same_history(here.convergence, there.convergence, spectrum)
    return (here, there), (back, again)


def same_history(a, b, spectrum=1e-12):
    """The iterations take the same steps. Their round-off, 1e-12 of the first residual in the hard
    cases, shows the more the smaller the residual is, and at the tolerance decides alone how many
    more there are."""
    n = min(len(a.history), len(b.history))
    clear = b.history[:n, 1] > 1e-7
    np.testing.assert_array_equal(a.history[:n, 0], b.history[:n, 0])
    np.testing.assert_allclose(a.history[:n, 1][clear], b.history[:n, 1][clear], 1e-6, 2e-11)
    assert clear.sum() > 5
    assert a.spectrum.high == pytest.approx(b.spectrum.high, rel=spectrum)
    nearly = 10 * TIGHT["tolerance"]
    assert below(a, nearly) == pytest.approx(below(b, nearly), rel=0.02)


def below(convergence, residual):
    """The first iteration on record at which it was."""
    return next(n for n, r in convergence.history if r <= residual)
