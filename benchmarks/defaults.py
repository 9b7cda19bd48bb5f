"""Are the defaults of `VAE` good? Each is varied alone, and judged on held-out rows.

Set up as for `mnist_epoch.py`; no peers are needed. Then::

    python benchmarks/defaults.py --write
    python benchmarks/defaults.py --quick              # does everything run?

Eight data sets, from 112 rows to 60,000: tables of scikit-learn (a quarter of the rows held out)
and four sets of images with their own test rows; MNIST with 10 epochs, the others with as many as
``epochs="auto"`` gives them. Numbers are the test ELBO in nats per case, mean over seeds, as
differences from the defaults: above 0, the variation is better there. Bernoulli bounds on gray
levels and Gaussian densities do not compare across data sets.
"""

import argparse
from collections.abc import Callable
from statistics import mean
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
import report
import sklearn.datasets
from sklearn.model_selection import train_test_split

from aevb import MLP, VAE, datasets
from aevb.epochs import most_epochs

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


class Data(NamedTuple):
    """A data set, and how it is fitted."""

    load: Callable[[], Pair]
    latent_dim: int
    n_seeds: int
    epochs: int | None = None  # None: "auto"


DATA = {
    "iris": Data(embedded("iris"), 2, 5),
    "wine": Data(embedded("wine"), 2, 5),
    "diabetes": Data(embedded("diabetes"), 2, 5),
    "breast cancer": Data(embedded("breast_cancer"), 2, 5),
    "digits": Data(images("digits"), 2, 3),
    "Frey faces": Data(images("frey_faces"), 5, 1),
    "MNIST": Data(images("mnist"), 20, 1, epochs=10),
    "Fashion-MNIST": Data(images("fashion_mnist"), 20, 1),
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
    "tanh": lambda epochs: {"activation": "tanh"},
    "random start": lambda epochs: {"init": "random"},
    "weights within ±1/√inputs": lambda epochs: {"by_inputs": True},
}


class falling:
    """A learning rate that falls like the default one, from another beginning."""

    def __init__(self, peak: float):
        self.peak = peak

    def schedule(self, n_steps: int) -> Any:
        """Return it as a schedule over the steps of a fit."""
        import optax

        return optax.cosine_decay_schedule(self.peak, n_steps)


def by_inputs(in_size: int, seed: int) -> MLP:
    """Make the default body, but with weights that start uniform within ±1/√inputs."""
    body = MLP(in_size, (500,), "gelu", key=jax.random.key(seed))
    return eqx.tree_at(
        lambda body: body.layers[0].weight,
        body,
        replace_fn=lambda weight: weight * np.sqrt((in_size + 500) / 6 / in_size),
    )


def test_elbo(train: np.ndarray, test: np.ndarray, seed: int, settings: dict[str, Any]) -> float:
    """Fit, and score the held-out rows; nats per case."""
    rate = settings.get("learning_rate")
    if isinstance(rate, falling):
        steps = settings["epochs"] * -(-len(train) // 100)
        settings = settings | {"learning_rate": rate.schedule(steps)}
    if settings.pop("by_inputs", False):
        settings["encoder"] = by_inputs(int(np.prod(train.shape[1:])), seed)
        settings["decoder"] = by_inputs(settings["latent_dim"], seed + 1)
    return VAE(random_state=seed, verbose=False, **settings).fit(train).score(test)


def main() -> None:
    """Run all variations on all data sets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(DATA), default=list(DATA))
    parser.add_argument("--quick", action="store_true", help="a few rows and epochs")
    parser.add_argument("--write", action="store_true", help="rewrite the table in README.md")
    arguments = parser.parse_args()

    elbos: dict[str, dict[str, list[float]]] = {name: {} for name in VARIATIONS}
    epochs: dict[str, int] = {}
    for name in arguments.only:
        data = DATA[name]
        train, test = data.load()
        epochs[name] = data.epochs or most_epochs(len(train), 100)
        n_seeds = data.n_seeds
        if arguments.quick:
            train, test, n_seeds, epochs[name] = train[:200], test[:50], 1, 2
        for variation, change in VARIATIONS.items():
            settings = {"latent_dim": data.latent_dim, "epochs": epochs[name]}
            settings |= change(epochs[name])
            scores = [test_elbo(train, test, seed, settings) for seed in range(n_seeds)]
            elbos[variation][name] = scores
            print(f"{name:14s} {variation:24s} {mean(scores):10.2f}", flush=True)
        report.publish(
            "defaults",
            {
                "Held-out ELBO, nats per case: the defaults, and differences from them": table(
                    elbos, epochs
                )
            },
            settings={"batch_size": 100},
            details={"elbos": elbos},
            keep=not arguments.quick and arguments.only == list(DATA),
            write=arguments.write,
        )


def table(elbos: dict[str, dict[str, list[float]]], epochs: dict[str, int]) -> list[report.Row]:
    """Turn the scores, by variation and data set, into a row for each data set."""
    defaults, *others = VARIATIONS
    rows: list[report.Row] = []
    for data, scores in elbos[defaults].items():
        base = mean(scores)
        row: report.Row = {"data": data, "epochs": epochs[data], "seeds": len(scores)}
        row |= {defaults: f"{base:.2f}"}
        rows.append(row | {name: f"{mean(elbos[name][data]) - base:+.2f}" for name in others})
    return rows


if __name__ == "__main__":
    main()
