"""Cases of a class that was never seen: does `VAE.score_samples` find them?

Set up as for `mnist_epoch.py`; no peers are needed. Then::

    python benchmarks/unusual.py --write
    python benchmarks/unusual.py --quick                # does everything run?

Each class of wines and of digits in turn, and the malignant tumours, are left out: the model is
fitted to three quarters of the other cases, and has to tell the remaining quarter from the class
left out. The area under the ROC curve is the share of
pairs, one of each, of which the unusual case has the lower score. `VAE(10)` has its defaults, on
the data's own units (digits: gray levels in [0, 1]). The four of scikit-learn have theirs, on
standardised columns; but the BIC chooses the mixture's number of components, from 1 to 5.
"""

import argparse
import time
from collections.abc import Callable
from statistics import mean

import numpy as np
import report
import sklearn.datasets
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import train_test_split
from sklearn.neighbors import LocalOutlierFactor
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

from aevb import VAE

# The classes that are left out, in turn: of the tumours, the malignant ones.
TABLES = {"breast_cancer": [0], "wine": range(3), "digits": range(10)}
LATENT_DIM = 10
OURS = f"`VAE({LATENT_DIM})`"

Scorer = Callable[[np.ndarray, int], Callable[[np.ndarray], np.ndarray]]


def mixture(X: np.ndarray, seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """Fit the mixture of the least BIC."""
    models = [GaussianMixture(n, reg_covar=1e-3, random_state=seed).fit(X) for n in range(1, 6)]
    return min(models, key=lambda model: model.bic(X)).score_samples


CLASSICAL: dict[str, Scorer] = {
    "isolation forest": lambda X, seed: IsolationForest(random_state=seed).fit(X).score_samples,
    "local outlier factor": lambda X, seed: LocalOutlierFactor(novelty=True).fit(X).score_samples,
    "one-class SVM": lambda X, seed: OneClassSVM().fit(X).score_samples,
    "Gaussian mixture": mixture,
}


def areas(X: np.ndarray, left_out: np.ndarray, seed: int, epochs: int | str) -> report.Row:
    """Return each method's area under the curve, and the seconds that the VAE took."""
    train, usual = train_test_split(X[~left_out], random_state=seed)
    test = np.concatenate([usual, X[left_out]])
    is_usual = np.arange(len(test)) < len(usual)
    began = time.perf_counter()
    vae = VAE(LATENT_DIM, epochs=epochs, random_state=seed, verbose=False).fit(train)
    seconds = time.perf_counter() - began
    scale = StandardScaler().fit(train)
    scores = {
        name: fit(scale.transform(train), seed)(scale.transform(test))
        for name, fit in CLASSICAL.items()
    } | {OURS: vae.score_samples(test)}
    found = {name: float(roc_auc_score(is_usual, score)) for name, score in scores.items()}
    return found | {"seconds": seconds}


def main() -> None:
    """Leave out, fit, score, and publish."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="two epochs; writes nothing")
    parser.add_argument("--write", action="store_true", help="rewrite the table in the README")
    arguments = parser.parse_args()

    details: dict[str, list[report.Row]] = {}
    for name, classes in TABLES.items():
        X, labels = getattr(sklearn.datasets, f"load_{name}")(return_X_y=True)
        X, details[name] = X / (16 if name == "digits" else 1), []
        for left_out in classes:
            for seed in range(1 if arguments.quick else arguments.seeds):
                row = areas(X, labels == left_out, seed, 2 if arguments.quick else "auto")
                details[name].append(row)
                print(name, left_out, row, flush=True)
    rows: list[report.Row] = [
        {"data": name.replace("_", " "), "runs": len(each)}
        | {column: mean(row[column] for row in each) for column in each[0]}
        for name, each in details.items()
    ]
    targets = [
        report.target(
            f"{row['data']}: {OURS}, against the best of the four",
            row[OURS],
            "≥",
            round(max(row[method] for method in CLASSICAL), 3),
        )
        for row in rows
    ]
    report.publish(
        "unusual",
        {"Area under the curve, mean over the classes left out": rows, "Targets": targets},
        settings={"seeds": arguments.seeds},
        details=details,
        keep=not arguments.quick,
        write=arguments.write,
    )


if __name__ == "__main__":
    main()
