"""Two dimensions for scikit-learn's digits: `VAE` with its defaults, beside PCA and UMAP.

Set up as for `mnist_epoch.py`. Then::

    python benchmarks/reduction.py --write
    python benchmarks/reduction.py --quick             # does everything run?

All 1797 digits, X / 16, are reduced without their labels. Two numbers judge the picture, both
better when higher: the trustworthiness of its neighbourhoods (scikit-learn's, 5 neighbours), and
how well a digit's class is told by its 15 nearest neighbours in the picture (mean accuracy over
scikit-learn's default 5 folds). Methods with a seed are run with several; the target must be met by
the worst of them.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from statistics import mean

import numpy as np
import report
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier

SCORES = ("trustworthiness", "15-NN accuracy")


def reduce_pca(X: np.ndarray, seed: int) -> np.ndarray:
    """Exact, so without a seed."""
    return PCA(n_components=2).fit_transform(X)


def reduce_umap(X: np.ndarray, seed: int) -> np.ndarray:
    """UMAP with its defaults."""
    from umap import UMAP

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="n_jobs value .* overridden", module="umap")
        return UMAP(n_components=2, random_state=seed).fit_transform(X)


def reduce_vae(X: np.ndarray, seed: int) -> np.ndarray:
    """`VAE` with its defaults."""
    from aevb import VAE

    return VAE(latent_dim=2, random_state=seed, verbose=False).fit_transform(X)


METHODS: dict[str, tuple[Callable[[np.ndarray, int], np.ndarray], bool]] = {
    # name: (function, whether it has a seed)
    "PCA": (reduce_pca, False),
    "UMAP": (reduce_umap, True),
    "`VAE`": (reduce_vae, True),
}


def judge(X: np.ndarray, Z: np.ndarray, labels: np.ndarray) -> report.Row:
    """Score a picture."""
    classifier = KNeighborsClassifier(n_neighbors=15)
    return {
        "trustworthiness": float(trustworthiness(X, Z, n_neighbors=5)),
        "15-NN accuracy": float(cross_val_score(classifier, Z, labels, cv=5).mean()),
    }


def main() -> None:
    """Reduce, judge, and publish."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one seed; writes nothing")
    parser.add_argument("--write", action="store_true", help="rewrite the table in the README")
    args = parser.parse_args()
    seeds = range(1 if args.quick else args.seeds)
    X, labels = load_digits(return_X_y=True)
    X = X / 16

    runs: dict[str, list[report.Row]] = {}
    for name, (reduce, seeded) in METHODS.items():
        runs[name] = []
        for seed in seeds if seeded else range(1):
            start = time.perf_counter()
            Z = reduce(X, seed)
            seconds = time.perf_counter() - start
            runs[name].append({**judge(X, Z, labels), "seconds": seconds})
            print(name, runs[name][-1], flush=True)

    rows = []
    for name, scores in runs.items():
        row: report.Row = {"method": name, "runs": len(scores)}
        for score in SCORES:
            values = [run[score] for run in scores]
            row[score] = f"{mean(values):.3f}"
            row[f"{score}, worst run"] = f"{min(values):.3f}"
        # The first run of a process also imports and compiles.
        row["seconds, first run"] = scores[0]["seconds"]
        row["seconds, later runs"] = mean(run["seconds"] for run in scores[1:] or scores)
        rows.append(row)
    targets = [
        report.target(
            f"`VAE`'s worst {score}, against PCA's",
            min(run[score] for run in runs["`VAE`"]),
            ">",
            round(runs["PCA"][0][score], 3),
        )
        for score in SCORES
    ]
    report.publish(
        "reduction",
        {"Digits in two dimensions": rows, "Targets": targets},
        settings={"seeds": len(seeds)},
        details={"runs": runs},
        keep=not args.quick,
        write=args.write,
    )


if __name__ == "__main__":
    main()
