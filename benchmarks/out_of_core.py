"""Data beyond memory: how fast is an epoch from files, and how much memory does a fit hold?

Set up as for `mnist_epoch.py`; pyarrow is needed, and 10 GB of disk and memory. Then::

    python benchmarks/out_of_core.py --write
    python benchmarks/out_of_core.py --quick          # does everything run?

The rows are 100 columns of float32, ten factors and noise: ten million are 4 GB, as a `.npy` file
and as Parquet with row groups of 131,072 rows. `VAE(10, hidden=(256,), batch_size=1000)` takes
epochs of the same rows in memory, from the `.npy` file and from Parquet, in turn, in one process; a
ratio is that of the medians of the seconds. Memory is the highest that a process of its own held
while it fitted one epoch: anonymous memory, sampled every 10 ms, so without the files' pages that
the system caches.
"""

import argparse
import json
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

import numpy as np
import report
from alone import measured, status

COLUMNS, GROUP, GIGABYTE = 100, 131_072, 2_500_000  # rows of a gigabyte
IN_MEMORY, NUMPY, PARQUET = "in memory", ".npy", "Parquet"
OPTIONS = {"hidden": (256,), "batch_size": 1000, "random_state": 0, "verbose": False}


def make(folder: Path, n: int) -> tuple[Path, Path]:
    """Write n rows in both formats, some at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(0)
    weights = rng.normal(size=(10, COLUMNS)).astype(np.float32)
    array, table = folder / f"{n}.npy", folder / f"{n}.parquet"
    rows = np.lib.format.open_memmap(array, "w+", np.float32, (n, COLUMNS))
    names = [f"x{j}" for j in range(COLUMNS)]
    with pq.ParquetWriter(table, pa.schema([(name, pa.float32()) for name in names])) as file:
        for start in range(0, n, GROUP):
            m = min(GROUP, n - start)
            some = rng.standard_normal((m, 10), np.float32) @ weights
            some += rng.standard_normal((m, COLUMNS), np.float32)
            rows[start : start + m] = some
            file.write_table(pa.table(dict(zip(names, some.T, strict=True))), GROUP)
    rows.flush()
    return array, table


def one(path: str) -> report.Row:
    """Fit one epoch in this process; return the most memory that it held."""
    most, done = 0.0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.is_set():
            most = max(most, status("RssAnon"))
            time.sleep(0.01)

    from aevb import VAE
    from aevb.data import sources

    sources.IN_MEMORY = 0
    watching = threading.Thread(target=watch)
    watching.start()
    began = time.perf_counter()
    vae = VAE(10, epochs=1, **OPTIONS).fit(path)
    seconds = time.perf_counter() - began
    done.set()
    watching.join()
    return {
        "most memory, MB": most,
        "fit of one epoch, s": seconds,
        "epoch, s": vae.history_["seconds"][0],
    }


def epochs(paths: dict[str, Path], n_rounds: int) -> dict[str, list[float]]:
    """Take epochs from each source in turn; return their seconds, without the first of each."""
    from aevb import VAE
    from aevb.data import sources

    sources.IN_MEMORY = 0
    vaes = {IN_MEMORY: VAE(10, **OPTIONS), **{name: VAE(10, **OPTIONS) for name in paths}}
    data = {IN_MEMORY: np.load(paths[NUMPY]), **paths}
    seconds: dict[str, list[float]] = {name: [] for name in vaes}
    runs = {name: _Turns(vae, data.pop(name)) for name, vae in vaes.items()}
    for i in range(n_rounds + 1):
        for name, turns in runs.items():
            seconds[name].append(turns.epoch())
            print(i, name, round(seconds[name][-1], 2), flush=True)
    return {name: values[1:] for name, values in seconds.items()}


class _Turns:
    """A fit that makes one epoch at a time."""

    def __init__(self, vae: object, X: object):
        from aevb.fitting import Fitting

        random = np.random.RandomState(0)
        fitting = Fitting(vae, vae._check_parameters())
        learned, data, _ = vae._learn(X, None, None, None)
        source = data.encoded(learned.schema).source(vae.batch_size)
        self.run, _ = fitting._begin(learned, data.encoded(learned.schema), source, random)
        self.source, self.plan = source, fitting._plan(1)

    def epoch(self) -> float:
        """Make one epoch, and return its seconds."""
        from aevb.inference.run import advance

        plan = self.plan._replace(epochs=self.run.epoch + 1)
        began = time.perf_counter()
        self.run = advance(self.run, self.source, plan).stopped_for("")
        return time.perf_counter() - began


def main() -> None:
    """Measure, and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small files; writes nothing")
    parser.add_argument("--write", action="store_true", help="rewrite the table in the README")
    parser.add_argument("--rounds", type=int, default=3, help="epochs of each, after a first one")
    parser.add_argument("--gigabytes", type=int, default=4, help="size of the largest file")
    parser.add_argument("--folder", help="for the files; they are left there")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one(arguments.one)))
        return
    gigabyte = 50_000 if arguments.quick else GIGABYTE
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(arguments.folder or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        held = []
        for size in (1, 2, 4):
            if size > arguments.gigabytes:
                break
            n = size * gigabyte
            kept = folder / f"{n}.npy", folder / f"{n}.parquet"
            array, table = kept if kept[1].exists() else make(folder, n)
            for name, path in ((NUMPY, array), (PARQUET, table)):
                row = measured(__file__, path)
                held.append({"file": name, "rows": n, "GB": 4 * COLUMNS * n / 1e9, **row})
        seconds = epochs({NUMPY: array, PARQUET: table}, arguments.rounds)
    medians = {name: median(values) for name, values in seconds.items()}
    speed = [
        {
            "rows are": name,
            "epoch, s": value,
            "rows/s": round(n / value),
            "throughput, of that in memory": medians[IN_MEMORY] / value,
        }
        for name, value in medians.items()
    ]
    ratio = {row["rows are"]: row["throughput, of that in memory"] for row in speed}
    most = {
        name: [row["most memory, MB"] for row in held if row["file"] == name]
        for name in (NUMPY, PARQUET)
    }
    targets = [
        report.target("throughput from .npy, of that in memory", ratio[NUMPY], "≥", 0.95),
        report.target("throughput from Parquet, of that in memory", ratio[PARQUET], "≥", 0.8),
        report.target("most memory, any file", max(map(max, most.values())), "≤", 1500, " MB"),
    ]
    targets += [
        report.target(
            f"memory of the largest {name} file, of that of the smallest",
            values[-1] / values[0],
            "≤",
            1.1,
        )
        for name, values in most.items()
    ]
    report.publish(
        "out_of_core",
        {f"Epochs of {n:,} rows": speed, "Memory of a fit": held, "Targets": targets},
        settings={"rounds": arguments.rounds},
        details={"seconds": seconds},
        keep=not arguments.quick,
        write=arguments.write,
    )


if __name__ == "__main__":
    main()
