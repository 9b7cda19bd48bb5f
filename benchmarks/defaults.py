"""Are the defaults of `VAE` good? Each is varied alone, and judged on held-out rows.

Set up as for `mnist_epoch.py`; no peers are needed. Then::

    python benchmarks/defaults.py --write
    python benchmarks/defaults.py --quick              # does everything run?

Eight data sets, from 112 rows to 60,000: tables of scikit-learn (a quarter of the rows held out)
and four sets of images with their own test rows. Numbers are the test ELBO in nats per case, mean
over seeds, as differences from the defaults: above 0, the variation is better there. Bernoulli
bounds on gray levels and Gaussian densities do not compare across data sets.
"""

import argparse
from collections.abc import Callable
from statistics import mean
from typing import Any

import equinox as eqx
import jax
import numpy as np
import report
import sklearn.datasets
from sklearn.model_selection import train_test_split

from aevb import MLP, VAE, datasets
from aevb.vae import auto_epochs

Pair = tuple[np.ndarray, np.ndarray]


def embedded(name: str) -> Callable[[], Pair]:
    """Split one of scikit-learn's tables."""

    def load() -> Pair:
        X = getattr(sklearn.datasets, f"load_{name}")().data
        train, test = train_test_split(X, random_state=0)
        return train, test

    return load


def images(name: str) -> Callable[[], Pair]:
    """Take a data set of images with its own split."""

    def load() -> Pair:
        data = getattr(datasets, f"load_{name}")()
        return data.train.images, data.test.images

    return load


DATA: dict[str, tuple[Callable[[], Pair], int, int]] = {
    # name: (loader, latent_dim, number of seeds)
    "iris": (embedded("iris"), 2, 3),
    "wine": (embedded("wine"), 2, 3),
    "diabetes": (embedded("diabetes"), 2, 3),
    "breast cancer": (embedded("breast_cancer"), 2, 3),
    "digits": (images("digits"), 2, 2),
    "Frey faces": (images("frey_faces"), 5, 1),
    "MNIST": (images("mnist"), 20, 1),
    "Fashion-MNIST": (images("fashion_mnist"), 20, 1),
}

# Each is a function of the number of epochs that the default stands for.
VARIATIONS: dict[str, Callable[[int], dict[str, Any]]] = {
    "the defaults": lambda epochs: {},
    "Adamax, begins at 5e-3": lambda epochs: {"learning_rate": falling(5e-3)},
    "Adamax, begins at 2e-2": lambda epochs: {"learning_rate": falling(2e-2)},
    "Adamax, constant 5e-3": lambda epochs: {"learning_rate": 5e-3},
    "Adam, begins at 2e-3": lambda epochs: {"optimizer": "adam"},
    "half the epochs": lambda epochs: {"epochs": max(epochs // 2, 1)},
    "twice the epochs": lambda epochs: {"epochs": 2 * epochs},
    "200 hidden units": lambda epochs: {"hidden": 200},
    "relu": lambda epochs: {"activation": "relu"},
    "Glorot's weights": lambda epochs: {"glorot": True},
}


class falling:
    """A learning rate that falls like the default one, from another beginning."""

    def __init__(self, peak: float):
        self.peak = peak

    def schedule(self, n_steps: int) -> Any:
        """Return it as a schedule over the steps of a fit."""
        import optax

        return optax.cosine_decay_schedule(self.peak, n_steps)


def glorot(in_size: int, seed: int) -> MLP:
    """Make the default body, but with weights that start uniform within ±√(6 / (in + out))."""
    body = MLP(in_size, (500,), "tanh", key=jax.random.key(seed))
    return eqx.tree_at(
        lambda body: body.layers[0].weight,
        body,
        replace_fn=lambda weight: weight * np.sqrt(in_size * 6 / (in_size + 500)),
    )


def test_elbo(train: np.ndarray, test: np.ndarray, seed: int, settings: dict[str, Any]) -> float:
    """Fit, and score the held-out rows; nats per case."""
    rate = settings.get("learning_rate")
    if isinstance(rate, falling):
        steps = settings["epochs"] * -(-len(train) // 100)
        settings = settings | {"learning_rate": rate.schedule(steps)}
    if settings.pop("glorot", False):
        settings["encoder"] = glorot(int(np.prod(train.shape[1:])), seed)
        settings["decoder"] = glorot(settings["latent_dim"], seed + 1)
    return VAE(random_state=seed, verbose=False, **settings).fit(train).score(test)


def main() -> None:
    """Run all variations on all data sets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(DATA), default=list(DATA))
    parser.add_argument("--quick", action="store_true", help="a few rows and epochs")
    parser.add_argument("--write", action="store_true", help="rewrite the table in README.md")
    arguments = parser.parse_args()

    elbos: dict[str, dict[str, list[float]]] = {name: {} for name in VARIATIONS}
    epochs_of = {}
    for data in arguments.only:
        load, latent_dim, n_seeds = DATA[data]
        train, test = load()
        if arguments.quick:
            train, test, n_seeds = train[:200], test[:50], 1
        epochs = 2 if arguments.quick else auto_epochs(len(train), 100)
        epochs_of[data] = epochs
        for name, variation in VARIATIONS.items():
            settings = {"latent_dim": latent_dim, "epochs": epochs} | variation(epochs)
            scores = [test_elbo(train, test, seed, settings) for seed in range(n_seeds)]
            elbos[name][data] = scores
            print(f"{data:14s} {name:24s} {mean(scores):10.2f}", flush=True)

    base = {data: mean(elbos["the defaults"][data]) for data in arguments.only}
    rows: list[report.Row] = [
        {"setting": "the defaults: test ELBO"} | {data: f"{base[data]:.2f}" for data in base},
        {"setting": "epochs"} | {data: epochs_of[data] for data in base},
    ]
    rows += [
        {"setting": name} | {data: f"{mean(elbos[name][data]) - base[data]:+.2f}" for data in base}
        for name in VARIATIONS
        if name != "the defaults"
    ]
    report.publish(
        "defaults",
        {"Held-out ELBO, nats per case: the defaults, and differences from them": rows},
        settings={"seeds": {data: DATA[data][2] for data in base}},
        details={"elbos": elbos},
        keep=not arguments.quick and list(base) == list(DATA),
        write=arguments.write,
    )


if __name__ == "__main__":
    main()
