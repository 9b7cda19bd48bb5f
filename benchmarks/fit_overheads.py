"""What a fit costs beside its epochs: compiling, starting, importing, memory; and `transform`.

Set up as for `mnist_epoch.py`. Then::

    python benchmarks/fit_overheads.py --write
    python benchmarks/fit_overheads.py --quick         # does everything run?

Every measurement is made in a fresh process, without JAX's compilation cache on disk.

- A 10-epoch MNIST fit is the sum of: compiling (JAX's own events of tracing, lowering and backend
  compilation, overlaps counted once), the compiled loop (`history_["seconds"]`, where the first
  epoch, which holds the compilation, counts as much as the median of the others), and the rest.
- A second fit of the same shapes must record no such event at all.
- `import aevb` and `aevb --help` are whole processes, the interpreter's own start included.
- Digits: 64-500-2-500-64, 100 epochs, 1797 rows, by a fresh process from its start to its end,
  imports and compilation included; pythae does the same job as its documentation has it.
- `transform` maps 60,000 uint8 images; its floor is the encoder's two matrix products to the mean,
  on rows that are float32 already, in JAX (jitted) or NumPy, whichever is faster; interleaved.
- Peak memory is the high-water mark of a process that loads MNIST and fits.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import contenders
import report
from job import Job, unit_floats

PARTS = ("fit", "import", "digits", "transform")
HELP = "import sys; from aevb.cli import main; sys.argv = ['aevb', '--help']; sys.exit(main())"


def mnist_job(epochs: int, quick: bool) -> Job:
    """Load MNIST as the estimator gets it; the float copy is for the peers and left out here."""
    from aevb import datasets

    images = datasets.load_mnist().train.images[: 3000 if quick else None]
    return Job(images=images, pixels=images[:0], latent_dim=20, epochs=epochs)


def digits_job(quick: bool) -> Job:
    """Load scikit-learn's digits as float32 in [0, 1]."""
    from sklearn.datasets import load_digits

    pixels = unit_floats(load_digits().data, maximum=16)
    return Job(
        images=pixels,
        pixels=pixels,
        latent_dim=2,
        epochs=3 if quick else 100,
        threads=report.cores(),
    )


def peak_megabytes() -> float:
    """High-water mark of this process's memory."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux, where ru_maxrss is inherited from the parent process
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # macOS: bytes


# --- what the fresh processes do ------------------------------------------------------------------


def fit(quick: bool) -> report.Row:
    """Fit to MNIST, split the time; fit again, and count what is compiled."""
    import jax

    spans: list[tuple[float, float]] = []

    def listen(event: str, duration_secs: float, **_: Any) -> None:
        if event.startswith("/jax/core/compile/"):
            now = time.perf_counter()
            spans.append((now - duration_secs, now))

    job = mnist_job(3 if quick else 10, quick)
    vae = contenders.estimator(job)
    jax.monitoring.register_event_duration_secs_listener(listen)
    start = time.perf_counter()
    vae.fit(job.images)
    total = time.perf_counter() - start
    peak = peak_megabytes()
    compiling = covered(spans)
    steady = vae.history_["seconds"][1:]
    loop = sum(steady) + median(steady)

    spans.clear()
    contenders.estimator(job).set_params(random_state=1, epochs=1).fit(job.images)
    return {
        "fit_seconds": total,
        "compiling_seconds": compiling,
        "loop_seconds": loop,
        "rest_seconds": total - compiling - loop,
        "peak_megabytes": peak,
        "compilations_of_second_fit": len(spans),
    }


def covered(spans: list[tuple[float, float]]) -> float:
    """Length of the union of intervals: tracing one function traces others inside it."""
    total, end = 0.0, float("-inf")
    for start, stop in sorted(spans):
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total


def digits_aevb(quick: bool) -> report.Row:
    """Fit `VAE` to the digits."""
    contenders.train_aevb(digits_job(quick), lambda: None)
    return {}


def digits_pythae(quick: bool) -> report.Row:
    """Fit pythae's VAE to the digits."""
    contenders.train_pythae(digits_job(quick), lambda: None)
    return {}


def transform(quick: bool) -> report.Row:
    """Time `transform` and its matrix products in turn."""
    import jax

    job = mnist_job(1, quick)
    vae = contenders.estimator(job).fit(job.images)
    weights, pixels = contenders.weights_of(vae), unit_floats(job.images)
    on_device = [jax.device_put(array) for array in (pixels, weights.W1, weights.Wmu)]
    products = jax.jit(lambda x, W1, Wmu: (x @ W1) @ Wmu)
    ways: dict[str, Callable] = {
        "transform": lambda: vae.transform(job.images),
        "products, JAX": lambda: jax.block_until_ready(products(*on_device)),
        "products, NumPy": lambda: (pixels @ weights.W1) @ weights.Wmu,
    }
    return {name: seconds[1:] for name, seconds in in_turn(ways, rounds=10).items()}


JOBS = {job.__name__: job for job in (fit, digits_aevb, digits_pythae, transform)}


# --- what the parent process does -----------------------------------------------------------------


def in_turn(ways: dict[str, Callable], rounds: int) -> dict[str, list[float]]:
    """Time some callables, one after the other, round by round, rotating who begins."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for r in range(rounds):
        shift = r % len(names)
        for name in names[shift:] + names[:shift]:
            start = time.perf_counter()
            ways[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def fresh(*command: str) -> str:
    """Run Python in a fresh process, and return what it printed."""
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, *command], env=environment, stdout=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise SystemExit(f"python {' '.join(command)[:60]} failed; see above.")
    return done.stdout


def child(job: str, quick: bool) -> report.Row:
    """Run one of the jobs above in a fresh process."""
    printed = fresh(__file__, "--job", job, *(["--quick"] if quick else []))
    return json.loads(printed.splitlines()[-1])


def measure_fit(quick: bool) -> tuple[list[report.Row], report.Row]:
    """Compiling, the rest, the second fit, memory."""
    measured = child("fit", quick)
    share = 100 * measured["rest_seconds"] / measured["fit_seconds"]
    what = "MNIST, 10 epochs: "
    rows = [
        report.target(what + "neither compiling nor compiled loop", share, "≤", 3, " %"),
        report.target(what + "compiling", measured["compiling_seconds"], "≤", 2.5, " s"),
        report.target(
            "second fit of the same shapes: compilation events",
            measured["compilations_of_second_fit"],
            "≤",
            0,
        ),
        report.target(what + "peak memory", measured["peak_megabytes"], "≤", 800, " MB"),
    ]
    return rows, measured


def measure_import(quick: bool) -> tuple[list[report.Row], report.Row]:
    """Starting times."""
    ways = {
        "python -c pass": lambda: fresh("-c", "pass"),
        "import aevb": lambda: fresh("-c", "import aevb"),
        "from aevb import VAE": lambda: fresh("-c", "from aevb import VAE"),
        "aevb --help": lambda: fresh("-c", HELP),
    }
    seconds = {name: s[1:] for name, s in in_turn(ways, rounds=3 if quick else 10).items()}
    bare = f"(a bare `python -c pass`: {median(seconds['python -c pass']):.3f} s)"
    limits = {"import aevb": 0.15, "aevb --help": 0.5}
    rows = [
        report.target(f"`{name}` {bare}", median(seconds[name]), "≤", limit, " s")
        for name, limit in limits.items()
    ]
    loaded = f"{median(seconds['from aevb import VAE']):.2f} s"
    rows.append(
        {
            "what": "`from aevb import VAE`, which loads JAX and scikit-learn",
            "measured": loaded,
            "target": None,
            "met": None,
        }
    )
    return rows, seconds


def measure_digits(quick: bool) -> tuple[list[report.Row], report.Row]:
    """A whole small job, against pythae's."""
    ways = {name: lambda name=name: child(name, quick) for name in ("digits_aevb", "digits_pythae")}
    seconds = in_turn(ways, rounds=1 if quick else 5)
    ours, theirs = (median(seconds[name]) for name in ways)
    rows = [
        report.target("digits, 100 epochs, fresh process, all included", ours, "≤", 8, " s"),
        report.target(f"the same by pythae's time, {theirs:.2f} s", ours / theirs, "≤", 1),
    ]
    return rows, seconds


def measure_transform(quick: bool) -> tuple[list[report.Row], report.Row]:
    """`transform` against its matrix products."""
    seconds = child("transform", quick)
    floor = min(("products, JAX", "products, NumPy"), key=lambda name: median(seconds[name]))
    share = median(f / t for f, t in zip(seconds[floor], seconds["transform"], strict=True))
    what = f"`transform` of 60,000 digits: speed by that of its {floor}"
    return [report.target(what, share, "≥", 0.8)], seconds


MEASURES = dict(
    zip(PARTS, (measure_fit, measure_import, measure_digits, measure_transform), strict=True)
)


def main() -> None:
    """Measure, and publish."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--quick", action="store_true", help="small jobs; writes nothing")
    parser.add_argument("--write", action="store_true", help="rewrite the table in the README")
    parser.add_argument("--job", choices=JOBS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        print(json.dumps(JOBS[args.job](args.quick)))
        return
    os.environ["JAX_PLATFORMS"] = "cpu"
    load = report.load_average()
    rows: list[report.Row] = []
    details: report.Row = {"load_average_before": load}
    for part in args.only:
        print(f"{part} ...", flush=True)
        more, details[part] = MEASURES[part](args.quick)
        rows += more
    report.publish(
        "fit_overheads",
        {"Targets": rows},
        settings={"device": "cpu"},
        details=details,
        keep=not args.quick and set(args.only) == set(PARTS),
        write=args.write,
    )


if __name__ == "__main__":
    main()
