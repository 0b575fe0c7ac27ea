"""What do masses and radii tell of the densest matter? A piecewise polytrope from 20 neutron stars.

The truth is the equation of state SLy in the four parameters of Read et al. (2009): the pressure at
10^14.7 g cm-3, and three adiabatic indices. Masses and radii of 20 stars have errors of 1 %; the
central densities are unknown too. Many-start gradient descent finds every equation of state that
fits; singular values of the fit say what the data leave open: these stars hardly reach 10^15
g cm-3, above which the third index counts. `stars.nc` and `stars.png` are left in this directory.
"""

import sys

import jax
import matplotlib.pyplot as plt
import numpy as np

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
    star = jax.vmap(structure, (None, 0))(eos, m["centre"])
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

recovered = PiecewisePolytrope.with_crust(found[0], found[1:])
heaviest = pag.ode.maximum_mass(recovered)
print(f"maximum mass {float(heaviest['mass']):.2f} (true "
      f"{float(pag.ode.maximum_mass(truth)['mass']):.2f})")  # fmt: skip

figure, (masses, matter) = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained")
for eos, style, label in ((truth, "k:", "true"), (recovered, "-", "recovered")):
    color = {} if eos is truth else {"color": "#1f6f8b"}
    stars = pag.ode.mass_radius(eos)
    masses.plot(stars["radius"], stars["mass"], style, label=label, **color)
    h = np.linspace(0.02, 0.75, 300)
    rho, p = eos.density(h) * DENSITY, eos.pressure(h) * PRESSURE
    matter.loglog(rho, p, style, label=label, **color)
masses.errorbar(
    data["radius"],
    data["mass"],
    xerr=ERROR * data["radius"],
    yerr=ERROR * data["mass"],
    fmt=".",
    color="#c8553d",
    ms=4,
    lw=0.8,
    label="observed",
)
masses.set(xlabel="radius (km)", ylabel="mass (solar masses)", xlim=(9, 14), ylim=(0.3, 2.4))
reached = recovered.density(best["centre"].values.max()) * DENSITY
matter.axvspan(reached, 3e15, color="#c9c9c9", alpha=0.35, lw=0, label="not reached")
matter.set(xlabel="density (g cm$^{-3}$)", ylabel="pressure (dyn cm$^{-2}$)")
for axes in (masses, matter):
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
figure.savefig("stars.png", dpi=150)
print("wrote stars.nc and stars.png")
