"""What do masses and radii tell of the densest matter? A piecewise polytrope from 20 neutron stars.

The truth is the equation of state SLy in the four parameters of Read et al. (2009): the pressure at
10^14.7 g cm-3, and three adiabatic indices. Masses and radii of 20 stars have errors of 1 %; the
central densities are unknown too. Many-start gradient descent finds every equation of state that
fits; singular values of the fit say what the data leave open: these stars hardly reach 10^15
g cm-3, above which the third index counts. Then the posterior, by chains with a normalizing flow
through the same differential equations. `stars.nc`, `stars_posterior.nc` and `stars.png` are left
in this directory.
"""

import sys
from functools import partial

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import scipy.stats as st
from scipy.interpolate import BarycentricInterpolator

import pyadjoint_gpu as pag
from pyadjoint_gpu.ode import Interval, PiecewisePolytrope, structure
from pyadjoint_gpu.ode.units import DENSITY, KILOMETRES, PRESSURE

small = "--small" in sys.argv  # a quick look

LOG_PRESSURE, GAMMAS = 34.384, (3.005, 2.988, 2.851)
ERROR = 0.01

truth = PiecewisePolytrope.with_crust(LOG_PRESSURE, GAMMAS)
random = np.random.default_rng(0)
data = pag.ode.stars(truth, log_enthalpy=np.linspace(0.13, 0.36, 20))[["mass", "radius"]]
for name in data:
    data[name] *= 1.0 + ERROR * random.standard_normal(20)


def curve(m):
    eos = PiecewisePolytrope.with_crust(m["log_pressure"], m["gammas"])
    # Errors of 1 % do not ask for twelve digits.
    star = jax.vmap(partial(structure, tolerance=1e-6), (None, 0))(eos, m["centre"])
    return {"mass": star.mass, "radius": star.radius * KILOMETRES}


result = pag.ode.fit(
    curve,
    data,
    {
        "log_pressure": (34.0, 34.8),
        "gammas": Interval(2.0, 4.0, shape=(3,)),
        "centre": Interval(0.05, 0.7, log=True, shape=(20,)),  # log-enthalpies
    },
    error=ERROR,
    starts=2 if small else 8,
    steps=100 if small else 300,
)
result.pag.save("stars.nc")

# What came back

print(result.attrs["message"])
best = result.isel(solution=0)
print(f"chi2 / n: {float(best['loss']):.2f}")
found = [float(best["log_pressure"]), *best["gammas"].values]
left = [float(best["log_pressure_open"]), *best["gammas_open"].values]
names = ("log10 pressure", "index 1", "index 2", "index 3")
for name, value, true, part in zip(names, found, (LOG_PRESSURE, *GAMMAS), left, strict=True):
    print(f"{name}: {value:.3f} (true {true:.3f}), {part:.0%} of its interval left open")
weakest = best["direction_gammas"][-1].values
print(f"weakest direction: {float(best['singular_value'][-1]):.2g} errors from end to end, along"
      f" indices ({', '.join(f'{abs(w):.2f}' for w in weakest)})")  # fmt: skip

# The posterior. Each star is one of 200 along the curve, whose central log-enthalpies h are as
# probable: a sum in place of 20 unknowns. Masses and radii are polynomials in ln h.

low, high, nodes, fine = *np.log([0.08, 0.5]), 8, 200
ln_h = 0.5 * (low + high) - 0.5 * (high - low) * np.cos(np.pi * np.arange(nodes) / (nodes - 1))
between = BarycentricInterpolator(ln_h, np.eye(nodes))(np.linspace(low, high, fine))


def log_likelihood(theta):
    stars = curve({"log_pressure": theta[0], "gammas": theta[1:], "centre": np.exp(ln_h)})
    off = [
        (between @ stars[name] - data[name].values[:, None]) / (ERROR * data[name].values[:, None])
        for name in stars
    ]
    return jnp.sum(jax.nn.logsumexp(-0.5 * (off[0] ** 2 + off[1] ** 2), axis=1) - np.log(fine))


names = ("log_pressure", "index_1", "index_2", "index_3")
prior = dict.fromkeys(names[1:], st.uniform(2.0, 2.0)) | {"log_pressure": st.uniform(34.0, 0.8)}
posterior = pag.sample(
    pag.LogDensity(log_likelihood, names, prior),
    method="flow",
    chains=16,
    particles=64 if small else 256,
    leapfrogs=3,
    rounds=1 if small else 3,
    proposals=4 if small else 20,
    draws=24 if small else 220,
)
posterior.pag.save("stars_posterior.nc")
print(f"posterior: {posterior.attrs['global_acceptance']:.0%} of the flow's proposals accepted,"
      f" R-hat {posterior.attrs['r_hat']:.3f}, ln Z {posterior.attrs['log_evidence']:.3f}"
      f" +- {posterior.attrs['log_evidence_error']:.3f}")  # fmt: skip
for name, true in zip(names, (LOG_PRESSURE, *GAMMAS), strict=True):
    values = posterior[name]
    print(f"{name}: {float(values.mean()):.3f} +- {float(values.std()):.3f} (true {true:.3f})")

recovered = PiecewisePolytrope.with_crust(found[0], found[1:])
curves = [pag.ode.mass_radius(eos) for eos in (truth, recovered)]
heaviest = [float(stars["mass"][-1]) for stars in curves]
print(f"maximum mass {heaviest[1]:.2f} (true {heaviest[0]:.2f})")

# Of the posterior, radii at each mass and pressures at each density.
mass, rho = np.linspace(0.45, 2.4, 200), np.geomspace(6e13, 3e15, 100)
draws = np.stack([posterior[name].values.ravel() for name in names], axis=1)
radii, pressures = [], []
for log_pressure, *gammas in draws[:: len(draws) // 200]:
    eos = PiecewisePolytrope.with_crust(log_pressure, gammas)
    stars = pag.ode.stars(eos, log_enthalpy=np.geomspace(0.05, 0.7, 20))
    rising = slice(int(np.argmax(stars["mass"].values)) + 1)
    radii.append(np.interp(mass, stars["mass"][rising], stars["radius"][rising], right=np.nan))
    pressures.append(eos.pressure(eos.log_enthalpy(density=rho / DENSITY)) * PRESSURE)

BLUE, RED = "#1f6f8b", "#c8553d"
figure, (masses, matter) = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained")
for stars, eos, style in zip(curves, (truth, recovered), ("k:", "-"), strict=True):
    how = {"label": "true"} if eos is truth else {"label": "best fit", "color": BLUE}
    masses.plot(stars["radius"], stars["mass"], style, **how)
    h = np.linspace(0.02, 0.75, 300)
    matter.loglog(eos.density(h) * DENSITY, eos.pressure(h) * PRESSURE, style, **how)
common = np.mean(np.isfinite(radii), axis=0) > 0.5  # by most equations of state
ends = np.nanquantile(np.array(radii)[:, common], [0.05, 0.95], axis=0)
band = {"color": BLUE, "alpha": 0.25, "lw": 0, "label": "posterior, 90 %"}
masses.fill_betweenx(mass[common], *ends, **band)
matter.fill_between(rho, *np.quantile(pressures, [0.05, 0.95], axis=0), **band)
errors = {"xerr": ERROR * data["radius"], "yerr": ERROR * data["mass"]}
masses.errorbar(data["radius"], data["mass"], **errors, fmt=".", color=RED, ms=4, lw=0.8,
                label="observed")  # fmt: skip
masses.set(xlabel="radius (km)", ylabel="mass (solar masses)", xlim=(9, 14), ylim=(0.3, 2.4))
reached = recovered.density(best["centre"].values.max()) * DENSITY
matter.axvspan(reached, 3e15, color="#c9c9c9", alpha=0.35, lw=0, label="not reached")
matter.set(xlabel="density (g cm$^{-3}$)", ylabel="pressure (dyn cm$^{-2}$)")
for axes in (masses, matter):
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
figure.savefig("stars.png", dpi=150)
print("wrote stars.nc, stars_posterior.nc and stars.png")
