"""Pictures in two dimensions: `VAE` with its defaults, beside PCA, t-SNE and UMAP.

Set up as for `mnist_epoch.py`. Then::

    python benchmarks/reduction.py --write
    python benchmarks/reduction.py --quick             # does everything run?

Digits (scikit-learn's, 1437 of 8 x 8 pixels; 360 held out), and the first 10,000 images of MNIST
and of Fashion-MNIST (28 x 28; the first 2000 test images held out), all gray levels in [0, 1], are
reduced without their labels. Three numbers judge a picture, all better when higher: the
trustworthiness of its neighbourhoods (scikit-learn's, 5 neighbours); how well a case's class is
told by its 15 nearest neighbours in the picture (mean accuracy over scikit-learn's default 5
folds); and how well the class of a held-out case is told by the 15 nearest cases of the picture.
t-SNE has no place for new cases. The methods have their defaults. Those with a seed are run with
several on the digits; the targets must be met by the worst of them.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from statistics import mean
from typing import Any

import numpy as np
import report
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE, trustworthiness
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier

from aevb import VAE, datasets

TRUST, NEIGHBOURS, NEW = "trustworthiness", "15-NN accuracy", "15-NN accuracy, held-out cases"
ELBO = "held-out ELBO (nats)"
SCORES = (TRUST, NEIGHBOURS, NEW, ELBO)


def umap(seed: int) -> Any:
    """Return UMAP with its defaults."""
    from umap import UMAP

    return UMAP(n_components=2, random_state=seed)


METHODS: dict[str, tuple[Callable[[int], Any], bool]] = {  # name: (maker, whether it has a seed)
    "PCA": (lambda seed: PCA(n_components=2), False),
    "t-SNE": (lambda seed: TSNE(n_components=2, random_state=seed), True),
    "UMAP": (umap, True),
    "`VAE`": (lambda seed: VAE(latent_dim=2, random_state=seed, verbose=False), True),
}


Cases = tuple[np.ndarray, np.ndarray]  # rows of gray levels in [0, 1], and labels


def load(name: str, quick: bool) -> tuple[Cases, Cases]:
    """Return cases to fit, and held-out ones."""
    train, test = getattr(datasets, f"load_{name}")()

    def first(split: datasets.Split, n: int) -> Cases:
        images = split.images[:n].reshape(-1, split.images[0].size)
        return images / train.images.max(), split.labels[:n]

    return first(train, 300 if quick else 10_000), first(test, 100 if quick else 2000)


def judge(method: Any, train: Cases, held_out: Cases) -> report.Row:
    """Reduce, and score the picture."""
    (X, labels), (new, new_labels) = train, held_out
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="n_jobs value .* overridden", module="umap")
        began = time.perf_counter()
        Z = method.fit_transform(X)
        seconds = time.perf_counter() - began
    classifier = KNeighborsClassifier(n_neighbors=15)
    has_place = hasattr(method, "transform")
    return {
        TRUST: float(trustworthiness(X, Z, n_neighbors=5)),
        NEIGHBOURS: float(cross_val_score(classifier, Z, labels, cv=5).mean()),
        NEW: float(classifier.fit(Z, labels).score(method.transform(new), new_labels))
        if has_place
        else None,
        ELBO: method.score(new) if isinstance(method, VAE) else None,
        "seconds": seconds,
    }


def summary(data: str, name: str, runs: list[report.Row]) -> report.Row:
    """Put the runs of a method into one row."""
    row: report.Row = {"data": data, "method": name, "runs": len(runs)}
    for score in SCORES:
        values = [run[score] for run in runs]
        digits = 2 if score == ELBO else 3
        known = values[0] is not None
        row[score] = f"{mean(values):.{digits}f}" if known else None
        if score != ELBO:
            row[f"{score}, worst run"] = f"{min(values):.{digits}f}" if known else None
    # The first run of a process also imports and compiles.
    row["seconds, first run"] = runs[0]["seconds"]
    row["seconds, later runs"] = mean(run["seconds"] for run in runs[1:]) if runs[1:] else None
    return row


def main() -> None:
    """Reduce, judge, and publish."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5, help="on the digits")
    parser.add_argument("--quick", action="store_true", help="a few rows; writes nothing")
    parser.add_argument("--write", action="store_true", help="rewrite the table in the README")
    args = parser.parse_args()
    n_seeds = {"digits": 1 if args.quick else args.seeds, "mnist": 1, "fashion_mnist": 1}

    details: dict[str, dict[str, list[report.Row]]] = {}
    for data, n in n_seeds.items():
        train, held_out = load(data, args.quick)
        details[data] = {}
        for name, (make, seeded) in METHODS.items():
            runs = details[data][name] = []
            for seed in range(n if seeded else 1):
                runs.append(judge(make(seed), train, held_out))
                print(data, name, runs[-1], flush=True)
    rows = [
        summary(data.replace("_", "-"), name, runs)
        for data, methods in details.items()
        for name, runs in methods.items()
    ]
    ours = details["digits"]["`VAE`"]
    goals = {TRUST: 0.98, NEIGHBOURS: 0.95, NEW: 0.93}
    targets = [
        report.target(f"digits: `VAE`'s worst {score}", min(run[score] for run in ours), "≥", goal)
        for score, goal in goals.items()
    ]
    later = mean(run["seconds"] for run in ours[1:] or ours)
    targets.append(report.target("digits: a later run of `VAE`", later, "≤", 15, " s"))
    report.publish(
        "reduction",
        {"Two dimensions": rows, "Targets": targets},
        settings={"seeds": args.seeds},
        details=details,
        keep=not args.quick,
        write=args.write,
    )


if __name__ == "__main__":
    main()
