"""Sparse counts: how much memory does a fit of 50,000 x 5,000 take, and how long an epoch?

Set up as for `mnist_epoch.py`; no peers are needed. Then::

    python benchmarks/sparse_counts.py --write
    python benchmarks/sparse_counts.py --quick          # does everything run?

The counts are those of a Poisson law whose rates follow eight latents and the size of a library,
5 % of them above zero, in a sparse array of SciPy in single precision. `VAE(10)` is fitted for two
epochs, under `exposure="total"` and without, each in a process of its own. Memory is the highest
that the process had; and that less what it had before the fit, and the array.
"""

import argparse
import json
import time

import numpy as np
import report
from alone import measured, status
from scipy import sparse

DENSITY = 0.05


def make(n: int, size: int) -> sparse.csr_array:
    """Draw counts of n cases, some rows at a time."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(8, size)).astype(np.float32) * 0.5
    level = np.log(0.7 * DENSITY) + rng.normal(size=size).astype(np.float32)
    parts = []
    for start in range(0, n, 500):
        rows = min(500, n - start)
        z = rng.normal(size=(rows, 8)).astype(np.float32)
        library = 0.5 * rng.normal(size=(rows, 1)).astype(np.float32) - 1.0
        counts = rng.poisson(np.exp(z @ weights + level + library))
        parts.append(sparse.csr_array(counts.astype(np.float32)))
    return sparse.vstack(parts, format="csr")


def measure(n: int, size: int, exposure: str | None) -> report.Row:
    """Fit in this process, and return what it took."""
    from aevb import VAE

    X = make(n, size)
    megabytes = (X.data.nbytes + X.indices.nbytes + X.indptr.nbytes) / 2**20
    before = status("VmRSS")
    began = time.perf_counter()
    options = {"epochs": 2, "random_state": 0, "verbose": False}
    vae = VAE(10, **options).fit(X, exposure=exposure)
    seconds = time.perf_counter() - began
    peak = status("VmHWM")
    return {
        "rows": n,
        "columns": size,
        "above zero": X.nnz / n / size,
        "exposure": exposure or "none",
        "array, MB": megabytes,
        "the whole process, MB": peak,
        "of the fit and the array, MB": peak - before + megabytes,
        "epoch, s": vae.history_["seconds"][-1],
        "fit of 2 epochs, s": seconds,
    }


def main() -> None:
    """Measure each in a process of its own, and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a small array; writes nothing")
    parser.add_argument("--write", action="store_true", help="rewrite the table in the README")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        n, size, exposure = arguments.one
        print(json.dumps(measure(int(n), int(size), None if exposure == "none" else exposure)))
        return
    n, size = (2000, 1500) if arguments.quick else (50_000, 5000)
    rows = [measured(__file__, n, size, exposure) for exposure in ("none", "total")]
    allowed = 2 * rows[-1]["array, MB"] + 500
    most = max(row["of the fit and the array, MB"] for row in rows)
    targets = [report.target("memory of the fit and the array", most, "≤", round(allowed), " MB")]
    report.publish(
        "sparse_counts",
        {"Two epochs of `VAE(10)`": rows, "Targets": targets},
        settings={},
        details={},
        keep=not arguments.quick,
        write=arguments.write,
    )


if __name__ == "__main__":
    main()
