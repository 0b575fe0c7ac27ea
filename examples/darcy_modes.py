"""Which side is tight? A posterior of two modes, by three samplers that spend alike.

Two wells inject into a reservoir that is symmetric about the line between them. Pressures are
logged along two boreholes, one on either side, but nobody wrote down which log is from which: a
field and its mirror image have the same likelihood, and, under a prior that is symmetric too, the
same posterior. The 64 unknowns are the modes of ln K, the cosines of a Matern field. A normalizing
flow, NUTS and sequential Monte Carlo have as many adjoint solves each; the truth is half the
samples on either side, and ln Z that of labelled logs. `darcy_modes.png` is left in this directory.
"""

import argparse
import time
import warnings

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import pyadjoint_gpu as pag
from pyadjoint_gpu.sampling import SamplingWarning

options = argparse.ArgumentParser(description=__doc__)
options.add_argument("--small", action="store_true", help="a quick look, at 8 modes")
options.add_argument("--engine", choices=("embedded", "julia"), default="embedded")
options = options.parse_args()

rows, columns = (2, 4) if options.small else (8, 8)  # of cells; as many modes
grid = pag.Grid((rows, columns), (1.0, 1.0), origin=(0.0, -0.5), units="km")
wells = [pag.Well((0.7, x), 0.5) for x in (-0.3, 0.3)]
model = pag.models.Darcy(grid, wells, fixed_pressure={"y_min": 0.0}, pressure_units="MPa")
prior = pag.Matern(sd=1.0, length=0.3)  # of ln K; km

# A truth that is not symmetric, and two logs.
truth = np.exp(prior.on(pag.Grid((8, 8), (1.0, 1.0))).draw(seed=5)[0])
truth = truth.reshape(rows, 8 // rows, columns, 8 // columns).mean((1, 3))
boreholes = np.array([[(y, x) for y in np.linspace(0.1, 0.9, 6)] for x in (-0.3, 0.3)])
points = boreholes.reshape(-1, 2)
data = pag.synthetic.observe(model, {"permeability": truth}, points, noise=0.03)
logs, sigma = (data[k].values.reshape(2, -1) for k in ("pressure", "pressure_sigma"))
gauges = pag.Observation.at(model, "pressure", points)


def unlabelled(state):
    """-ln p(d | u): as probable in one order as in the other."""
    seen = gauges(state).reshape(logs.shape)
    one, other = (-0.5 * jnp.sum(((d - seen) / sigma) ** 2) for d in (logs, logs[::-1]))
    constant = np.sum(np.log(sigma * np.sqrt(2.0 * np.pi)))
    return constant + jnp.log(2.0) - jnp.logaddexp(one, other)


def posterior(misfit, **how):
    control = pag.Control("permeability", 1.0, transform="log", prior=prior, truth=truth)
    limit = 100 * max(grid.shape)  # a flow may propose what is hard to solve
    return pag.Problem(model, control, misfit, max_iterations=limit, **how)


problem = posterior(unlabelled, engine=options.engine)
labelled = posterior(pag.LeastSquares(data), engine=options.engine)

value, _ = problem.value_and_gradient({"permeability": truth})
mirrored, _ = problem.value_and_gradient({"permeability": truth[:, ::-1]})
print(f"J at the truth: {value:.8f}, at its mirror image: {mirrored:.8f}")
if options.engine == "julia":
    found = []
    for engine in ("embedded", "julia"):
        exact = posterior(unlabelled, engine=engine, tolerance=1e-12)
        value, gradient = exact.value_and_gradient({"permeability": truth})
        found.append((value, gradient["permeability"].values))
    for what, here, there in zip(("J", "gradient"), *found, strict=True):
        apart = np.max(np.abs(here - there)) / np.max(np.abs(here))
        print(f"{what} on both engines: relative difference {apart:.0e}")

# Sampling: as many gradients each as the flow takes.


def timed(of, **options):
    began = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SamplingWarning)
        samples = pag.sample(of, **options)
    print(f"{options['method']}: {time.perf_counter() - began:.0f} s")
    for warning in caught:
        if issubclass(warning.category, SamplingWarning):
            print(f"  warning: {warning.message}")
    return samples


particles = 10 * grid.size
leapfrogs, rounds, draws = (2, 2, 400) if options.small else (5, 3, 1000)
reference = timed(labelled, method="smc", particles=particles, leapfrogs=leapfrogs)
flow = timed(problem, method="flow", particles=particles, leapfrogs=leapfrogs, rounds=rounds,
             draws=draws)  # fmt: skip
budget = flow.attrs["gradients"]
chains, depth = 8, 3
transitions = budget // (chains * (2**depth - 1))
warmup = transitions // 5
nuts = timed(problem, method="nuts", chains=chains, depth=depth, warmup=warmup,
             draws=transitions - warmup)  # fmt: skip
smc = timed(problem, method="smc", particles=particles // 2, leapfrogs=leapfrogs,
            repeats=round(2 * budget / reference.attrs["gradients"]))  # fmt: skip
by = {"flow": flow, "NUTS": nuts, "SMC": smc}

# What came back

mean = reference["ln_permeability_mean"].values
odd = mean - mean[:, ::-1]
odd /= np.sqrt(np.sum(odd**2))  # the direction between the modes


def asymmetry(samples):
    """Of each sample, > 0 on the side of the truth."""
    return np.sum(np.log(samples["permeability"].values) * odd, axis=(2, 3))


def weights(samples):
    """Of each chain, of sum 1."""
    w = samples["weight"].values if "weight" in samples else np.ones(samples.sizes["chain"])
    return w / np.sum(w)


def share(samples):
    """Part of the samples on the side of the truth, and its error by the scatter of chains."""
    each, w = np.mean(asymmetry(samples) > 0, axis=1), weights(samples)
    middle = np.sum(w * each)
    return middle, np.sqrt(np.sum(w**2 * (each - middle) ** 2))


def effective(samples):
    """Effective number of samples: variance over that of the mean, by the scatter of chains, both
    averages over all cells."""
    ln_k, w = np.log(samples["permeability"].values), weights(samples)[:, None, None]
    means = np.mean(ln_k, axis=1)
    middle = np.sum(w * means, axis=0)
    total = np.sum(w * np.mean((ln_k - middle[None, None]) ** 2, axis=1), axis=0)
    scatter = np.sum(w**2 * (means - middle) ** 2, axis=0) * len(w) / (len(w) - 1)
    return np.mean(total) / np.mean(scatter)


evidence = pag.evidence(flow, problem, method="all")
ln_z = {
    "labelled logs, SMC": reference.attrs,
    "SMC": smc.attrs,
    "flow, bridge": flow.attrs,
    "flow, harmonic": evidence.sel({"method": "harmonic"}),
}
print(f"\n{'':5} gradients     true side R-hat     ESS  ESS / 1000 gradients")
for name, samples in by.items():
    part, error = share(samples)
    r_hat = f"{samples.attrs['r_hat']:.2f}" if "r_hat" in samples.attrs else ""
    ess, taken = effective(samples), samples.attrs["gradients"]
    print(f"{name:5} {taken:9}  {part:.2f} +- {error:.2f} {r_hat:>5} {ess:7.0f}"
          f"  {1000 * ess / taken:7.2f}")  # fmt: skip
print(f"{flow.attrs['global_acceptance']:.0%} of the flow's proposals were accepted")
for name, reason in zip(evidence["method"].values, evidence["reason"].values, strict=True):
    if name == "harmonic" and reason:
        print(f"no harmonic mean: {reason}")
        del ln_z["flow, harmonic"]
for name, values in ln_z.items():
    print(f"ln Z, {name}: {float(values['log_evidence']):.2f}"
          f" +- {float(values['log_evidence_error']):.2f}")  # fmt: skip

BLUE, RED, GREY = "#1f6f8b", "#c8553d", "#8a8a8a"
colors = dict(zip(by, (BLUE, RED, GREY), strict=True))
figure, axes = plt.subplots(2, 3, figsize=(11, 7), layout="constrained")
ln_k, side = np.log(flow["permeability"].values), asymmetry(flow) > 0
fields = {
    "true ln K": np.log(truth),
    "mean of one mode": ln_k[side].mean(axis=0),
    "mean of the other": ln_k[~side].mean(axis=0),
}
limit = max(np.abs(field).max() for field in fields.values())
for ax, (title, field) in zip(axes[0], fields.items(), strict=True):
    ax.imshow(field, origin="lower", extent=(-0.5, 0.5, 0, 1), cmap="RdBu_r",
              vmin=-limit, vmax=limit)  # fmt: skip
    ax.plot(points[:, 1], points[:, 0], "k.", ms=5, label="pressures")
    ax.plot([w.position[1] for w in wells], [w.position[0] for w in wells], "k^", mfc="w", ms=8,
            label="wells")  # fmt: skip
    ax.set(title=title, xlabel="x (km)", ylabel="y (km)")
axes[0, 0].legend(loc="lower center", fontsize=8, framealpha=0.9)
figure.colorbar(axes[0, 2].images[0], ax=axes[0, 2], label="ln K")

ax = axes[1, 0]
for name, samples in by.items():
    values = asymmetry(samples)
    w = np.broadcast_to(weights(samples)[:, None], values.shape)
    ax.hist(values.ravel(), bins=40, weights=w.ravel(), density=True, histtype="step", lw=1.5,
            color=colors[name], label=name)  # fmt: skip
ax.axvline(np.sum(np.log(truth) * odd), color="k", ls=":", lw=1.2, label="true")
ax.set(title="asymmetry of ln K", xlabel="along the difference of the modes", ylabel="density")
ax.legend(frameon=False, fontsize=8)

ax = axes[1, 1]
for name, samples in by.items():
    part, error = share(samples)
    ax.errorbar(name, part, error, fmt="o", color=colors[name], capsize=4)
ax.axhline(0.5, color="k", ls=":", lw=1.2)
ax.set(title="samples on the true side", ylabel="share (exact: 1/2)", ylim=(0, 1),
       xlim=(-0.5, 2.5))  # fmt: skip

ax = axes[1, 2]
for k, (name, values) in enumerate(ln_z.items()):
    color = "k" if k == 0 else colors[name.split(",")[0]]
    ax.errorbar(float(values["log_evidence"]), k, xerr=float(values["log_evidence_error"]),
                fmt="o", color=color, capsize=4)  # fmt: skip
ax.set(title="ln Z", yticks=range(len(ln_z)), ylim=(len(ln_z) - 0.5, -0.5),
       yticklabels=[name.replace(", ", "\n") for name in ln_z])  # fmt: skip
for ax in axes[1]:
    ax.spines[["top", "right"]].set_visible(False)
figure.savefig("darcy_modes.png", dpi=150)
print("wrote darcy_modes.png")
