"""A folder of Parquet files larger than the memory that the fit may hold.

Simulated readings of 100 sensors that follow five factors, written as 20 Parquet files. `VAE` is
fitted to the folder, which it never holds as a whole, and the latents of every row are written to
another file. The law of the data is known: beside the bound of held-out rows (nats per row) stands
their mean log p(x) under it, which no model can beat by more than chance. Memory is the anonymous
memory of this process, sampled while it fits, with the libraries and the compiled programs.
"""

import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.stats import multivariate_normal

from aevb import VAE

N_SENSORS, N_FACTORS, N_FILES = 100, 5, 20
WEIGHTS = np.random.default_rng(0).normal(size=(N_FACTORS, N_SENSORS)).astype(np.float32)


def simulate(n: int, rng: np.random.Generator) -> np.ndarray:
    """Return n rows of readings."""
    factors = rng.standard_normal((n, N_FACTORS), np.float32)
    return factors @ WEIGHTS + rng.standard_normal((n, N_SENSORS), np.float32)


def table(rows: np.ndarray) -> pa.Table:
    """Return readings under the names of their sensors."""
    return pa.table({f"sensor {j}": column for j, column in enumerate(rows.T)})


def write(folder: Path, n: int) -> None:
    """Write n rows as files of one schema, in row groups of at most 50,000 rows."""
    rng = np.random.default_rng(1)
    for k in range(N_FILES):
        rows = simulate(n // N_FILES, rng)
        pq.write_table(table(rows), folder / f"part-{k:02}.parquet", row_group_size=50_000)


class Memory:
    """The most anonymous memory of this process while a block runs, in MB (Linux; else NaN)."""

    def __enter__(self) -> "Memory":
        self.most, self._done = float("nan"), threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        status = Path("/proc/self/status")
        while not self._done.is_set() and status.exists():
            lines = status.read_text().splitlines()
            held = next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))
            self.most = np.fmax(self.most, held / 1000)
            time.sleep(0.02)


def main(gigabytes: float = 2.0, epochs: int = 2) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as temporary:
        folder, latents = Path(temporary, "readings"), Path(temporary, "latents.npy")
        folder.mkdir()
        write(folder, int(gigabytes * 1e9 / (4 * N_SENSORS)))
        size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
        vae = VAE(N_FACTORS, hidden=(50,), batch_size=1000, epochs=epochs, random_state=0)
        with Memory() as memory:
            vae.fit(folder)
            vae.stream(folder, latents)
        n = len(np.load(latents, mmap_mode="r"))
    test = simulate(2000, np.random.default_rng(2))
    covariance = WEIGHTS.T @ WEIGHTS + np.eye(N_SENSORS)
    exact = multivariate_normal(cov=covariance).logpdf(test).mean()
    return {
        "the law of the data": float(exact),
        "ELBO": float(vae.elbo(table(test), n_draws=100).mean()),
        "rows": float(n),
        "the folder, MB": size,
        "most memory, MB": float(memory.most),
    }


if __name__ == "__main__":
    for name, value in main().items():
        print(f"{name:25s} {value:.2f}")
