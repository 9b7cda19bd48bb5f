"""Do many fits fill the memory? Forty architectures in one process, and a second process after it.

Set up as for `mnist_epoch.py`; no peers are needed. Then::

    python benchmarks/many_fits.py --write
    python benchmarks/many_fits.py --quick          # does everything run?

Each fit has another width, as in a search over `hidden`, and so compiles anew; then it transforms
the data. Memory is what the process holds after a fit, less what it held after the first. The same
runs in processes with JAX's persistent cache, first empty, then filled.
"""

import argparse
import json
import os
import tempfile
import time

import numpy as np
import report
from alone import measured, status


def measure(n_fits: int) -> report.Row:
    """Fit in this process, and return what it held after each fit, and how long they took."""
    from aevb import VAE

    X = np.random.default_rng(0).normal(size=(500, 20))
    held, seconds = [], []
    for k in range(n_fits):
        began = time.perf_counter()
        vae = VAE(2, hidden=(20 + k,), epochs=3, random_state=0, verbose=False)
        vae.fit(X).transform(X)
        seconds.append(time.perf_counter() - began)
        held.append(status("VmRSS"))
    return {"held": held, "seconds": seconds}


def main() -> None:
    """Measure each in a process of its own, and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few fits; writes nothing")
    parser.add_argument("--write", action="store_true", help="rewrite the table in the README")
    parser.add_argument("--one", nargs=1, type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(*arguments.one)))
        return
    n = 4 if arguments.quick else 40
    found = {"no cache on disk": measured(__file__, n)}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        found["an empty cache on disk"] = measured(__file__, n)
        found["a filled cache on disk"] = measured(__file__, n)
    rows = []
    for name, each in found.items():
        held = np.subtract(each["held"], each["held"][0])
        row = {"process with": name, "first fit, s": each["seconds"][0]}
        row["a later fit, s"] = float(np.median(each["seconds"][1:]))
        row |= {f"after {k} fits, MB": held[k - 1] for k in (n // 4, n // 2, n)}
        rows.append(row)
    most = rows[0][f"after {n // 2} fits, MB"]
    targets = [
        report.target(f"memory after {n // 2} fits of different widths", most, "<", 382, " MB")
    ]
    report.publish(
        "many_fits",
        {"Memory held beyond that after the first fit": rows, "Targets": targets},
        settings={"fits": n},
        details={},
        keep=not arguments.quick,
        write=arguments.write,
    )


if __name__ == "__main__":
    main()
