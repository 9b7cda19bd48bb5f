"""A large table of mixed columns: how fast, how long to compile, how much memory?

Set up as for `mnist_epoch.py`; no peers are needed. Then::

    python benchmarks/mixed_speed.py --write
    python benchmarks/mixed_speed.py --quick            # does everything run?

The table is pandas's: of five columns one each has numbers in double and in single precision,
counts, categories (3 to 9 of them) and truth values. `VAE(2, hidden=(128,), batch_size=1000)` is
fitted for three epochs, each measurement in a process of its own, without JAX's cache of compiled
programs. Rows per second are those of the last epoch. Compiling is XLA's own time for the loop of
the training, as JAX logs it, and tracing comes before. Memory is the highest that the process had
while it fitted, less what it had before, and the table, as a multiple of the table.
"""

import argparse
import json
import logging
import re
import time

import numpy as np
import pandas as pd
import report
from alone import measured, status


def make(n: int, size: int, missing: float) -> pd.DataFrame:
    """Return a table whose columns follow one latent."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=n).astype(np.float32)
    columns = {}
    for j in range(size):
        kind, k = j % 5, 3 + j % 7
        if kind == 0:
            cells = z * rng.normal() + rng.normal(size=n)
        elif kind == 1:
            cells = rng.poisson(np.exp(1 + 0.3 * z))
        elif kind == 2:
            codes = rng.integers(0, k, size=n)
            cells = pd.Categorical.from_codes(codes, list("abcdefghi")[:k])
        elif kind == 3:
            cells = rng.random(n) < 0.3
        else:
            cells = rng.normal(size=n).astype(np.float32)
        if missing and kind in (0, 4):
            cells[rng.random(n) < missing] = np.nan
        columns[f"c{j}"] = cells
    return pd.DataFrame(columns)


class Listener(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message."""
        self.said.append(record.getMessage())


def measure(n: int, size: int, missing: float) -> report.Row:
    """Fit a table in this process, and return what it took."""
    import jax

    from aevb import VAE

    listener = Listener()
    logging.getLogger("jax").addHandler(listener)
    logging.getLogger("jax").propagate = False
    jax.config.update("jax_log_compiles", True)
    table = make(n, size, missing)
    megabytes = table.memory_usage(deep=True).sum() / 2**20
    before = status("VmRSS")
    began = time.perf_counter()
    options = {"hidden": (128,), "batch_size": 1000, "epochs": 3, "random_state": 0}
    vae = VAE(2, **options, verbose=False).fit(table)
    seconds = time.perf_counter() - began
    compiled = re.compile(r"Finished XLA compilation of jit\(_run_chunk\) in ([\d.]+) sec")
    found = [float(match[1]) for text in listener.said if (match := compiled.match(text))]
    if not found:
        raise RuntimeError("JAX has not logged that it compiled the loop of the training.")
    return {
        "rows": n,
        "columns": size,
        "missing": missing,
        "rows/s": round(vae.history_["datapoints_per_second"][-1]),
        "compiling the loop, s": sum(found),
        "fit of 3 epochs, s": seconds,
        "table, MB": megabytes,
        "memory, × table": (status("VmHWM") - before + megabytes) / megabytes,
    }


def main() -> None:
    """Measure each size in a process of its own, and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small tables; writes nothing")
    parser.add_argument("--write", action="store_true", help="rewrite the table in the README")
    parser.add_argument("--one", nargs=3, type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        n, size, missing = arguments.one
        print(json.dumps(measure(int(n), int(size), missing)))
        return
    sizes = [(1_000_000, 50, 0.0), (1_000_000, 50, 0.1), (10_000, 200, 0.0)]
    if arguments.quick:
        sizes = [(5000, 10, 0.0), (5000, 20, 0.1)]
    rows = [measured(__file__, *size) for size in sizes]
    first, last = rows[0], rows[-1]
    targets = [
        report.target("a million rows of 50 columns, rows/s", first["rows/s"], "≥", 200_000),
        report.target(
            "200 columns, compiling the loop", last["compiling the loop, s"], "≤", 4, " s"
        ),
        report.target("a million rows, memory", first["memory, × table"], "≤", 3, " × the table"),
    ]
    report.publish(
        "mixed_speed",
        {"Three epochs of `VAE(2, hidden=(128,), batch_size=1000)`": rows, "Targets": targets},
        settings={},
        details={},
        keep=not arguments.quick,
        write=arguments.write,
    )


if __name__ == "__main__":
    main()
