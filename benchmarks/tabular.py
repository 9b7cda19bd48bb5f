"""Holes in tables: how far filled cells are from what was hidden, beside scikit-learn's imputers.

Set up as for `mnist_epoch.py`; no peers are needed. Then::

    python benchmarks/tabular.py --write
    python benchmarks/tabular.py --quick                # does everything run?

Half of the cells of each table, completely at random, are hidden; columns are standardised before
(the protocol of MIWAE, Mattei and Frellsen, 2019). The error is the mean of the squares over the
hidden cells; the mean of the columns has about 1. `VAE` has one set of parameters for all tables,
the defaults with as many latents as in that protocol; the imputers of scikit-learn have their
defaults. Every method sees the same cells, and the methods take turns within each seed.
"""

import argparse
import time
from collections.abc import Callable
from statistics import mean

import numpy as np
import report
import sklearn.datasets
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

from aevb import VAE

TABLES = ("breast_cancer", "wine", "diabetes")
PARAMETERS = {"latent_dim": 10}
OURS = f"`VAE({PARAMETERS['latent_dim']})`"
OTHERS = ("mean", "nearest neighbours", "iterative")


def methods(seed: int, epochs: int | str) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Return what fills a table, by name."""

    def vae(X: np.ndarray) -> np.ndarray:
        model = VAE(**PARAMETERS, epochs=epochs, random_state=seed, verbose=False)
        return model.fit(X).impute(X)

    return {
        "mean": lambda X: SimpleImputer().fit_transform(X),
        "nearest neighbours": lambda X: KNNImputer().fit_transform(X),
        "iterative": lambda X: IterativeImputer(random_state=seed).fit_transform(X),
        OURS: vae,
    }


def filled(name: str, seed: int, epochs: int | str) -> report.Row:
    """Hide half of a table, fill it by each method, and return errors and seconds."""
    X = getattr(sklearn.datasets, f"load_{name}")().data
    X = (X - X.mean(axis=0)) / X.std(axis=0)
    hidden = np.random.default_rng(seed).random(X.shape) < 0.5
    holes = np.where(hidden, np.nan, X)
    row: report.Row = {"data": name, "seed": seed}
    for method, fill in methods(seed, epochs).items():
        began = time.perf_counter()
        made = fill(holes)
        row[f"{method}, s"] = time.perf_counter() - began
        row[method] = float(np.mean((made - X)[hidden] ** 2))
    return row


def main() -> None:
    """Hide, fill, compare, and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="two epochs; writes nothing")
    parser.add_argument("--write", action="store_true", help="rewrite the table in the README")
    arguments = parser.parse_args()

    details = []
    for name in TABLES:
        for seed in range(1 if arguments.quick else arguments.seeds):
            details.append(filled(name, seed, 2 if arguments.quick else "auto"))
            print(details[-1], flush=True)
    rows, targets = [], []
    for name in TABLES:
        each = [row for row in details if row["data"] == name]
        of = {column: mean(row[column] for row in each) for column in each[0] if column != "data"}
        of.pop("seed")
        rows.append({"data": name.replace("_", " "), "seeds": len(each)} | of)
        best = min(of[method] for method in OTHERS)
        targets.append(
            report.target(
                f"{name}: against the best of the three", of[OURS] / best, "≤", 1.05, " ×"
            )
        )
        for method in OTHERS[:2]:
            targets.append(
                report.target(f"{name}: against {method}", of[OURS] / of[method], "<", 1)
            )
    targets.append(report.target("breast cancer, error", rows[0][OURS], "≤", 0.30))
    report.publish(
        "tabular",
        {"Mean squared error of hidden cells, and seconds": rows, "Targets": targets},
        settings={"seeds": arguments.seeds, "parameters": PARAMETERS},
        details=details,
        keep=not arguments.quick,
        write=arguments.write,
    )


if __name__ == "__main__":
    main()
