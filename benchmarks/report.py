"""Tables, in Markdown, from what was measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .peers import HIERARCHIES


def calibration(result: dict[str, Any]) -> str:
    """Of each size."""
    return "\n\n".join(_calibrated(r) for r in result.values())


def _calibrated(r: dict[str, Any]) -> str:
    sets, (outer, inner) = r["sets"], r["particles"]
    intro = (
        f"{r['components']} components of slip, {r['data']} data, {outer} particles of theta,"
        f" {inner} of slip: {sets} data set{'s' * (sets > 1)}, {r['seconds']:.0f} s each."
        f" 90 % intervals hold {r['slip_held']:.1%} of the components of slip."
        f" Inner evidence noise {min(r['log_likelihood_noise']):.2f} to"
        f" {max(r['log_likelihood_noise']):.2f}; {r['warned']} warned."
    )
    rows = [[k, f"{v} of {sets}", f"{r['p_value'][k]:.2f}"] for k, v in r["held"].items()]
    head = ["unknown", "90 % intervals that hold the truth", "p of uniform ranks"]
    return f"{intro}\n\n{_table(head, rows)}"


def document(results: dict[str, Any]) -> str:
    """All sections, each with its machine and date."""
    parts = ["# Benchmarks", "Made by `python -m benchmarks`; what is measured is in README.md."]
    for name, (title, table) in SECTIONS.items():
        if name in results:
            section = results[name]
            quick = " (quick: small sizes, not representative)" if section["quick"] else ""
            parts += [f"## {title}{quick}", _machine(section["machine"]), table(section["result"])]
    return "\n\n".join(parts) + "\n"


def _machine(m: dict[str, Any]) -> str:
    return (
        f"{m['cpu']}, {m['cores']} cores, {m['memory_bytes'] / 2**30:.0f} GiB, {m['system']};"
        f" Python {m['python']}, jax {m['jax']}, numpy {m['numpy']}, scipy {m['scipy']},"
        f" pyamg {m['pyamg']}, gcc {m['gcc']}; {m['date'][:10]}."
    )


def _table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(r) + " |" for r in [head, ["---"] * len(head), *rows])


def gpu(result: dict[str, Any]) -> str:
    """Each size on the GPU, and how many times the cores take longer."""
    card, cores = result["cuda"], result["cpu"]
    copy = card["copy_bytes_per_second"]
    intro = (
        f"{card['device']}, {copy / 1e9:.0f} GB/s by copying an array of 2 GiB; jax {card['jax']}."
        " Ratios above 1: the GPU is ahead."
    )
    rows = [
        [
            f"{a['shape'][0]} x {a['shape'][1]}",
            f"{1e3 * a['forward']:.1f}",
            f"{1e3 * a['gradient']:.1f}",
            f"{b['forward'] / a['forward']:.2f}",
            f"{b['gradient'] / a['gradient']:.2f}",
            str(a["iterations"]),
            f"{a['effective_throughput'] / 1e9:.0f} ({a['effective_throughput'] / copy:.0%})",
            f"{abs(a['checksum'] / b['checksum'] - 1.0):.0e}",
        ]
        for a, b in zip(card["darcy"], cores["darcy"], strict=True)
    ]
    head = [
        "cells",
        "forward (ms)",
        "gradient (ms)",
        "cores/GPU, forward",
        "gradient",
        "iterations",
        "T_eff, pseudo-transient (GB/s, of copy)",
        "gradients differ by",
    ]
    waves = [
        [
            f"{a['shape'][0]} x {a['shape'][1]}",
            f"{a['cell_steps_per_second'] / 1e6:.0f}",
            f"{a['forward']:.2f}",
            f"{a['gradient']:.2f}",
            f"{b['forward'] / a['forward']:.2f}",
            f"{b['gradient'] / a['gradient']:.2f}",
        ]
        for a, b in zip(card["wave"], cores["wave"], strict=True)
    ]
    wave_head = [
        "waves, float32, 1000 steps",
        "Mcell-steps/s",
        "forward (s)",
        "gradient (s)",
        "cores/GPU, forward",
        "gradient",
    ]
    return f"{intro}\n\n{_table(head, rows)}\n\n{_table(wave_head, waves)}"


def throughput(result: dict[str, Any]) -> str:
    ny, nx = result["shape"]
    triad = result["triad_bytes_per_second"]
    intro = (
        f"{ny} x {nx} cells (ny x nx), float64, {result['steps']} iterations a run,"
        f" {result['repeats']} interleaved runs. A_eff = {result['bytes_per_iteration'] / 1e6:.1f}"
        f" MB an iteration. STREAM triad: {triad['best'] / 1e9:.1f} GB/s best,"
        f" {triad['median'] / 1e9:.1f} GB/s median."
    )
    head = ["iteration", "of the times", "ours (us)", "C (us)", "C form", "C / ours"]
    head += ["ours T_eff (GB/s)", "C T_eff (GB/s)"]
    rows = []
    for kind in ("forward", "adjoint"):
        for label, r in result[kind].items():
            times = [f"{r[k] * 1e6:.0f}" for k in ("ours_seconds", "peer_seconds")]
            rates = [f"{r[k] / 1e9:.1f}" for k in ("ours_t_eff", "peer_t_eff")]
            form = r["peer"].replace("_", " ")
            rows.append([kind, label, *times, form, f"{r['ratio']:.2f}", *rates])
    return f"{intro}\n\n{_table(head, rows)}"


def _peers(row: dict[str, Any]) -> dict[str, dict[str, Any] | None]:
    """SuperLU (None where skipped), the faster of pyamg's methods, and our reference."""
    amg = min((row[kind] for kind in HIERARCHIES), key=lambda r: r["gradient"])
    return {"splu": row["splu"], "pyamg": amg, "PT": row["pseudo-transient"]}


def solve(result: dict[str, Any]) -> str:
    intro = (
        f"Seconds to a residual of {result['tolerance']:g} (max norm, relative); in brackets how"
        ' many times ours the peer takes (above 1: ours is faster). "agreed": ours, until'
        f' pressure and gradient are within {result["agree"]:g} of the reference. "error": of'
        " the pressure where the timed solve stopped. Ours is multigrid; PT the pseudo-transient"
        " iteration."
    )
    head = ["nx x ny (x nz)", "case", "iterations"]
    head += [f"{kind}: {who}" for kind in ("forward", "gradient") for who in WHO]
    head += ["agreed: ours", "error: ours", "error: pyamg", "compile"]
    rows = []
    for r in result["rows"]:
        ours, peers = r["ours"], _peers(r)
        cells = [size(r), r["case"], "{} + {}".format(*ours["iterations"])]
        for kind in ("forward", "gradient"):
            cells.append(f"{ours[kind]:.3g}")
            for peer in peers.values():
                ratio = f"{peer[kind]:.3g} ({peer[kind] / ours[kind]:.2f})" if peer else "skipped"
                cells.append(ratio)
        cells += [f"{ours['agreed']:.3g}", f"{ours['error']:.0e}", f"{peers['pyamg']['error']:.0e}"]
        rows.append([*cells, f"{r['compile_seconds']:.2g}"])
    return f"{intro}\n\n{_table(head, rows)}\n\n{losses(result['rows'])}"


WHO = ("ours", "splu", "pyamg", "PT")


def size(row: dict[str, Any]) -> str:
    return " x ".join(str(n) for n in reversed(row["shape"]))


def losses(rows: list[dict[str, Any]]) -> str:
    """One line: where a peer is faster, and by what factors."""
    parts = []
    for kind in ("forward", "gradient"):
        for who in WHO[1:]:
            factors: dict[str, list[float]] = {}
            for row in rows:
                if peer := _peers(row)[who]:
                    factors.setdefault(size(row), []).append(row["ours"][kind] / peer[kind])
            grids = []
            for grid, values in factors.items():
                lost = [f"{v:.1f}" for v in sorted(values) if v > 1.0]
                if lost:
                    span = lost[0] if len(lost) == 1 else f"{lost[0]} to {lost[-1]}"
                    grids.append(f"{grid}: {len(lost)} of {len(values)} cases, {span} times")
            if grids:
                parts.append(f"{kind} to {who} ({'; '.join(grids)})")
    return "Where we lose: " + ("; ".join(parts) or "nowhere") + "."


def scaling(result: dict[str, Any]) -> str:
    rows = [
        [
            size(r),
            r["case"],
            f"{r['iterations']}",
            f"{r['work']:.0f}",
            f"{r['seconds'] * 1e3:.1f}",
            f"{r['seconds'] / np.prod(r['shape']) * 1e9:.0f}",
        ]
        for r in result["solves"]
    ]
    head = ["nx x ny (x nz)", "case", "iterations", "work", "ms", "ns a cell"]
    parts = ["Cold multigrid solves to a residual of 1e-8:", _table(head, rows)]
    parts.append("Channels a few cells wide:")
    rows = []
    for r in result["channels"]:
        amg = r["pyamg"]
        rows.append(
            [
                size(r),
                f"{r['contrast']:.0e}",
                f"{r['iterations']}",
                f"{r['seconds']:.3f}",
                f"{amg['iterations']}",
                f"{amg['seconds']:.3f}",
                f"{amg['seconds'] / r['seconds']:.1f}",
            ]
        )
    head = ["nx x ny", "contrast", "iterations", "s", "pyamg iterations", "pyamg s", "ratio"]
    parts.append(_table(head, rows))
    parts.append("Work of an inversion until J is at so many times the last J of the first run:")
    rows = []
    for r in result["inversions"]:
        fixed, adaptive = r["work"]["1e-08"], r["work"]["adaptive"]
        for factor, a, b in zip(result["factors"], fixed, adaptive, strict=True):
            texts = [f"{b:.0f}", f"{a / b:.1f}"] if b else ["not reached", ""]
            rows.append([size(r), f"{factor:g}", f"{a:.0f}", *texts])
    head = ["nx x ny", "J", "solves to 1e-8", "adaptive", "ratio"]
    return "\n\n".join([*parts, _table(head, rows)])


def memory(result: dict[str, Any]) -> str:
    some = next(iter(result.values()))
    ny, nx = some["shape"]
    head = ["peak resident memory"]
    head += [f"{unit}, {name}" for name in result for unit in ("MB", "fields")]
    rows = []
    for text, key, fields in (
        ("first gradient, above the loaded libraries", "gradient", "gradient"),
        ("second gradient, above the same", "gradient_second", "gradient_second"),
        ("total", "peak", "total"),
    ):
        cells = (
            (f"{r['bytes'][key] / 1e6:.0f}", f"{r['fields'][fields]:.1f}") for r in result.values()
        )
        rows.append([text, *(c for pair in cells for c in pair)])
    note = "" if some["reset"] else " VmHWM could not be reset: upper bounds."
    return (
        f"One gradient at {ny} x {nx} (ny x nx); a field is {some['field_bytes'] / 1e6:.2f} MB."
        ' "default": glibc\'s allocator as it comes; "returning": what is free goes back to the'
        " system (MALLOC_MMAP_THRESHOLD_, and malloc_trim before the second gradient)."
        f"{note}\n\n{_table(head, rows)}"
    )


def physics(result: dict[str, Any]) -> str:
    parts = []
    for name, rows in result.items():
        if name == "waves":
            parts.append(waves(rows))
            continue
        table = []
        for r in rows:
            mg, pt, peer = r["multigrid"], r["pseudo-transient"], r["newton and splu"]
            longest = max(r["shape"])
            if peer["steps"] is None:
                newton = ("no solution", "", "")
            else:
                ratio = peer["gradient"] / mg["gradient"]
                newton = (f"{peer['steps']}", f"{peer['gradient']:.3g}", f"{ratio:.1f}")
            table.append(
                [
                    size(r),
                    *(f"{pt['iterations'][k] / longest:.1f}" for k in ("forward", "adjoint")),
                    *(f"{pt[k]:.3g}" for k in ("forward", "gradient")),
                    *(f"{pt['t_eff'][k] / 1e9:.1f}" for k in ("forward", "adjoint")),
                    " + ".join(f"{mg['iterations'][k]}" for k in ("forward", "adjoint")),
                    *(f"{mg[k]:.3g}" for k in ("forward", "gradient")),
                    *newton,
                ]
            )
        head = ["nx x ny", "PT it. / nx", "adjoint", "PT forward s", "gradient s"]
        head += ["T_eff GB/s", "adjoint", "multigrid it.", "forward s", "gradient s"]
        head += ["splu steps", "gradient s", "splu / multigrid"]
        parts.append(f"{name}:\n\n{_table(head, table)}")
    return "\n\n".join(parts)


def waves(rows: list[dict[str, Any]]) -> str:
    table = [
        [
            size(r),
            f"{r['steps'] / r['forward']:.0f}",
            *(f"{r['t_eff'][k] / 1e9:.1f}" for k in ("forward", "adjoint")),
            *(f"{r['t_eff'][k] / r['triad']:.2f}" for k in ("forward", "adjoint")),
            *(f"{r[k] / r['forward']:.1f}" for k in ("adjoint", "adjoint by sources", "numpy")),
        ]
        for r in rows
    ]
    head = ["nx x ny", "steps/s", "T_eff GB/s", "adjoint", "T_eff / triad", "adjoint"]
    head += ["adjoint / forward", "by sources alone", "numpy / forward"]
    return f"waves:\n\n{_table(head, table)}"


def sampling(result: dict[str, Any]) -> str:
    parts = []
    for r in result["kernel"]:
        clock = "processor time" if r["clock"] == "process_time" else "time"
        parts.append(
            f"{r['moves']} x {r['leapfrogs']} leapfrog steps, 2 n^2 N FLOPs a step and member, by"
            f" {clock} on {r['device']} (load average before: {r['load']:.1f}):"
        )
        table = []
        for row in r["rows"]:
            members, n, particles = row["shape"]
            table.append(
                [
                    row["dtype"],
                    f"{members} x {n} x {particles}",
                    f"{row['flops_per_step'] / 1e9:.2f}",
                    *(f"{row[k] / 1e9:.1f}" for k in ("rate", "peer_rate")),
                    row["peer"],
                    f"{row['ratio']:.2f}",
                    f"{row['peak'] / 1e9:.1f}",
                    f"{row['of_peak']:.2f}",
                ]
            )
        head = ["", "members x n x N", "GFLOP a step", "ours GFLOP/s", "products alone", "whose"]
        parts.append(_table([*head, "ratio", "a large product", "ratio"], table))
    runs = result["runs"]
    if "skipped" in runs:
        return "\n\n".join([*parts, f"Whole runs: skipped, {runs['skipped']}."])
    parts.append(
        f"Whole runs of {runs['particles']} particles beside blackjax {runs['blackjax']}: median"
        " seconds (in brackets those of the first, with compilation) and the mean of ln Z less what"
        " it is, with its standard deviation from run to run."
    )
    table = []
    for r in runs["rows"]:
        both = [r["ours"], r["blackjax"]]
        seconds = [float(np.median(x["seconds"])) for x in both]
        first = [x["first_seconds"] for x in both]
        off = [np.array(x["log_evidence"]) - r["log_evidence"] for x in both]
        table.append(
            [
                f"{r['n']}",
                f"{r['data']}",
                f"{len(off[0])}",
                *(f"{np.mean(x['stages']):.0f}" for x in both),
                *(f"{s:.3g} ({f:.1f})" for s, f in zip(seconds, first, strict=True)),
                f"{seconds[1] / seconds[0]:.1f}",
                *(f"{np.mean(z):+.3f} ± {np.std(z, ddof=1):.3f}" for z in off),
            ]
        )
    head = ["n", "data", "runs", "stages: ours", "blackjax", "s: ours", "blackjax", "ratio"]
    return "\n\n".join([*parts, _table([*head, "ln Z: ours", "blackjax"], table)])


def placement(result: dict[str, Any]) -> str:
    candidates, steps, budget = result["size"]
    parts = [f"{budget} of {candidates} candidates with {steps} times each, float64 gains."]
    for section in result["sections"]:
        rows, table = section["rows"], []
        pivoted = min(rows["pivoted"]["seconds"])
        for form, r in rows.items():
            seconds = min(r["seconds"])
            # Lazy evaluation leaves out operations that are counted.
            share = "" if "lazy" in form else f"{r['flops'] / seconds / r['product_rate']:.2f}"
            table.append(
                [
                    form,
                    f"{seconds:.2f}",
                    f"{seconds / pivoted:.2f}",
                    f"{r['flops'] / 1e9:.0f}",
                    f"{r['flops'] / seconds / 1e9:.1f}",
                    f"{r['product_rate'] / 1e9:.1f}",
                    share,
                    f"{r['blocks']}",
                    f"{r['peak_bytes'] / 2**20:.0f}",
                ]
            )
        clock = "processor time" if rows["pivoted"]["clock"] == "process_time" else "time"
        parts.append(
            f"By {clock} on {section['cores']} core{'s' * (section['cores'] > 1)}"
            f" (load average before: {section['load']:.1f}):"
        )
        head = ["form", "s", "over pivoted", "GFLOP", "GFLOP/s", "a large product", "share of it"]
        parts.append(_table([*head, "blocks read", "memory, MiB"], table))
    return "\n\n".join(parts)


def linear(result: dict[str, Any]) -> str:
    f, o, d = result["forming"], result["online"], result["disk"]
    sensors, steps, places = f["size"]
    rate = f["product_flops"] / f["ours_seconds"] / 1e9
    parts = [
        f"Forming F Gamma F^T, {sensors} sensors, {steps} times, {places} places:"
        f" {f['ours_seconds']:.2f} s ({rate:.0f} GFLOP/s in the one product and all else);"
        f" by products with Fourier transforms {f['peer_seconds']:.1f} s,"
        f" {f['peer_seconds'] / f['ours_seconds']:.0f} times as long."
    ]
    sensors, steps, places, points = o["size"]
    parts.append(
        f"Inversion, {sensors} sensors, {steps} times, {places} places, {points} points of"
        f" forecast: beforehand {o['offline_seconds']:.2f} s (and {o['variance_seconds']:.1f} s for"
        f" the variance of every value); an observation set {o['infer_seconds'] * 1e3:.1f} ms,"
        f" an update by one more row {o['update_seconds'] * 1e3:.1f} ms,"
        f" a sample {o['draws_seconds'] * 1e3:.1f} ms."
    )
    candidates, steps, budget = d["size"]
    larger = max(d["computing_seconds"], d["reading_seconds"])
    parts.append(
        f"{budget} of {candidates} candidates, {steps} times, from {d['bytes'] / 1e9:.2f} GB on"
        f" disk, of which {d['read_bytes'] / 1e9:.2f} GB are read: {d['both_seconds']:.2f} s;"
        f" arithmetic alone (from memory) {d['computing_seconds']:.2f} s, reading alone"
        f" {d['reading_seconds']:.2f} s: {d['both_seconds'] / larger:.2f} times the larger."
        f" Making the file took {d['making_seconds']:.1f} s."
    )
    parts.append("Seconds foretold by counts and the machine's rates:")
    head = ["candidates", "times", "sensors", "numbers", "s", "foretold", "ratio"]
    rows = [
        [
            *map(str, r["size"]),
            dtype,
            f"{r[dtype]['seconds']:.2f}",
            f"{r[dtype]['foretold']:.2f}",
            f"{r[dtype]['foretold'] / r[dtype]['seconds']:.2f}",
        ]
        for r in result["costs"]
        for dtype in ("float64", "float32")
    ]
    parts.append(_table(head, rows))
    head = ["form", "numbers", "PFLOP a rank", "GB read", "GB received", "GB of memory"]
    head += ["minutes, reads of 1 GB/s", "of 0.15 GB/s"]
    for r in result["scale"]:
        candidates, steps, budget, ranks = r["size"]
        parts.append(
            f"Not measured: {budget} of {candidates} candidates, {steps} times, on {ranks} GPUs of"
            f" `A100`'s rates; the covariance takes {r['disk_bytes'] / 1e12:.2f} TB of disk."
        )
        rows = [
            [
                row["form"],
                row["dtype"],
                f"{row['operations'] / 1e15:.3g}",
                *(f"{row[k] / 1e9:.0f}" for k in ("read_bytes", "received_bytes", "memory_bytes")),
                *(f"{seconds / 60:.1f}" for seconds in row["seconds"].values()),
            ]
            for row in r["rows"]
        ]
        parts.append(_table(head, rows))
    return "\n\n".join(parts)


def julia(result: dict[str, Any]) -> str:
    if "skipped" in result:
        return f"Skipped: {result['skipped']}."
    info = result["info"]
    parts = [f"{info['engine_version']}, {info['device']}, {info['dtype']}."]
    rows = []
    for r in result["throughput"]:
        best, seconds = r["triad"]["best"], r["seconds_per_iteration"]
        rows.append(
            [
                " x ".join(map(str, r["shape"])),
                f"{best / 1e9:.1f} ({r['triad']['median'] / 1e9:.1f})",
                *(f"{r['iterations'][k]}" for k in ("forward", "adjoint")),
                *(f"{seconds[k] * 1e3:.2f}" for k in ("forward", "adjoint")),
                f"{seconds['adjoint'] / seconds['forward']:.2f}",
                *(f"{r['t_eff'][k] / 1e9:.1f}" for k in ("forward", "adjoint")),
                f"{r['t_eff']['forward'] / best:.2f}",
            ]
        )
    head = ["cells", "triad best (median), GB/s", "forward it.", "adjoint it."]
    head += ["forward ms/it.", "adjoint ms/it.", "adjoint / forward"]
    head += ["forward T_eff, GB/s", "adjoint T_eff, GB/s", "forward / best triad"]
    parts.append("Whole solves, set-up and checks (and the gradient's sweeps) included:")
    parts.append(_table(head, rows))
    rows = []
    for r in result["workshop"]:
        ours, theirs = r["ours"], r["workshop"]
        fine = theirs["residual"] <= r["residual"]
        rows.append(
            [
                " x ".join(map(str, r["shape"])),
                r["case"],
                f"{ours['iterations']}",
                f"{theirs['iterations']}" if fine else f"residual {theirs['residual']:.0e}",
                f"{ours['seconds']:.2f}",
                f"{theirs['seconds']:.2f}" if fine else f"gave up after {theirs['seconds']:.1f}",
                f"{theirs['seconds'] / ours['seconds']:.1f}" if fine else "",
            ]
        )
    head = ["cells", "case", "our iterations", "workshop's", "our s", "workshop's s", "ratio"]
    parts.append("Beside the workshop's scheme, to a relative residual of 1e-6 (ours also to an")
    parts[-1] += " estimated error of 1e-4):"
    parts.append(_table(head, rows))
    o = result["overhead"]
    share = o["python_seconds"] / o["julia_seconds"] - 1.0
    best = o["python_best"] / o["julia_best"] - 1.0
    parts.append(
        f"A gradient at {' x '.join(map(str, o['shape']))}: {o['python_seconds']:.3f} s through"
        f" Python, {o['julia_seconds']:.3f} s in Julia alone (medians; {100 * share:+.1f} %;"
        f" of the best {100 * best:+.1f} %)."
    )
    r = result["ranks"]
    if "skipped" in r:
        parts.append(f"Ranks: skipped, {r['skipped']}.")
    else:
        each = ", ".join(
            f"{x['ranks']} rank{'s' * (x['ranks'] > 1)} {x['seconds_per_iteration'] * 1e3:.2f} ms"
            for x in r["rows"]
        )
        parts.append(
            f"Weak scaling, {' x '.join(map(str, r['cells_per_rank']))} cells and one thread a"
            f" rank: {each} an iteration, efficiency {r['efficiency']:.2f}."
        )
    return "\n\n".join(parts)


SECTIONS: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "throughput": ("Iteration throughput", throughput),
    "solve": ("Time to a solution", solve),
    "scaling": ("Multigrid as the grid grows, and an adaptive tolerance", scaling),
    "memory": ("Memory of a gradient", memory),
    "physics": ("Each physics", physics),
    "sampling": ("Sampling of linear problems", sampling),
    "calibration": ("Calibration of hierarchical sampling", calibration),
    "placement": ("Choice of sensors", placement),
    "linear": ("Linear systems in real time", linear),
    "julia": ("The Julia engine on CPU threads", julia),
    "gpu": ("The embedded engine on a GPU", gpu),
}
