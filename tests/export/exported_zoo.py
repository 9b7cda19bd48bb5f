"""Models of every kind, untrained and shaken, with cases as users have them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import numpy as np
import pandas as pd

import aevb
from aevb import likelihoods, predict
from aevb.columns import Columns
from aevb.export.functions import function_of
from aevb.export.rows import Rows, name_of
from aevb.learned import Learned
from aevb.models.architectures import make_architecture
from aevb.models.autoencoder import build_autoencoder
from aevb.models.base import trainable
from aevb.models.priors import examples_for, make_prior
from aevb.schema import Schema

N, LATENT_DIM, N_DRAWS, SEED = 100, 2, 3, 7


@dataclass
class Model:
    """An untrained model, and cases."""

    learned: Learned
    model: Any
    rows: Any  # numbers, as `Columns.read` or `as_rows` give them
    told: dict[str, Any]

    @classmethod
    def of(cls, X, likelihood="auto", *, condition=None, exposure=None, **parts) -> Model:
        if isinstance(X, pd.DataFrame):
            columns, rows = Columns.learn(X, likelihood)
            schema = Schema.fit(rows, columns=columns)
        else:
            schema, rows = Schema.fit(X, likelihood), X
        learned, data = Learned.of(schema, rows, condition, exposure)
        schema, data = learned.schema, data.encoded(learned.schema)
        prior = make_prior(parts.pop("prior", "normal"))
        parts = {"hidden": (6,), "activation": "gelu", **parts}
        parts["architecture"] = make_architecture(parts.get("architecture", "dense"))
        model = build_autoencoder(
            schema.block,
            LATENT_DIM,
            prior=prior,
            examples=examples_for(prior, data.x),
            condition_size=learned.condition_size,
            key=jax.random.key(0),
            **parts,
        )
        told = {"condition": condition, "exposure": exposure}
        return cls(learned, learned.exposed(shaken(model)), rows, told)

    def function(self, what):
        return function_of(self.learned, self.model, what, LATENT_DIM, N_DRAWS, SEED)

    def export(self, path, what):
        aevb.export.export(
            path,
            self.learned,
            self.model,
            what,
            latent_dim=LATENT_DIM,
            n_draws=N_DRAWS,
            seed=SEED,
        )

    @property
    def context(self):
        condition, exposure = self.told["condition"], self.told["exposure"]
        return self.learned.context(self.rows, condition, exposure)

    def arrays(self, what) -> dict[str, np.ndarray]:
        """Return what each input of a function takes, as rows of numbers."""
        own = Rows(self.learned.schema)
        found = {"x": kept(own, self.rows), "z": latents()}
        if self.learned.condition is not None:
            condition = self.learned.condition
            asked = Rows(condition.schema)
            found["condition"] = kept(asked, condition._rows(self.told["condition"]))
        if self.learned.exposure is not None:
            relative = self.context.exposure
            found["exposure"] = relative * np.float32(self.learned.exposure.typical)
        return {
            port.name: found[port.name].astype(port.dtype) for port in self.function(what).inputs
        }

    def answers(self, what) -> dict[str, np.ndarray]:
        """Return what the model's own methods say."""
        model, schema = self.model, self.learned.schema
        x, c = schema.encode(self.rows), self.context
        if what == "encode":
            mean, variance = predict.latent_moments(model, x, context=c)
            return {"mean": mean, "variance": variance}
        if what == "elbo":
            key = jax.random.key(SEED)
            each = jax.vmap(lambda x, c: aevb.elbo(model, x, key, c=c, n_draws=N_DRAWS))(x, c)
            return {"elbo": np.asarray(each)}
        if what == "decode":
            made = predict.decode(model, latents(), context=c)
        else:
            made = predict.reconstruct(model, x, context=c)
        return {"expected": kept(Rows(schema), schema.values(made), given=True)}


def kept(rows: Rows, values: np.ndarray, *, given: bool = False) -> np.ndarray:
    """Return rows of numbers as a file has them: without what is left out, levels themselves."""
    columns = rows.schema.columns
    if columns is None:
        return values
    found = []
    for j, choice in enumerate(columns.choices):
        column = values[:, j]
        if choice.likelihood is None:
            continue
        numbers = choice.levels or choice.type.categories or ()
        if choice.n_levels and not any(isinstance(each, str) for each in numbers):
            here = ~np.isnan(column)
            column = np.where(
                here, np.asarray(numbers)[np.where(here, column, 0).astype(int)], np.nan
            )
        elif given and choice.whole:
            column = np.rint(column)
        found.append(column)
    return np.stack(found, axis=1).astype(np.float32)


def columns_of(port, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return rows as the inputs, or outputs, that ONNX has for them."""
    if not port.columns:
        return {port.name: rows}
    found = {}
    for column, values in zip(port.columns, rows.T, strict=True):
        if column.categories:
            names = np.array([*column.categories, ""], object)
            values = names[np.where(np.isnan(values), -1, values).astype(int)]
        elif column.origin:
            values = values.astype(np.float64) + column.origin
        found[name_of(port, column)] = values
    return found


def shaken(model, scale=0.3):
    """Move all that training may move."""
    moving, rest = eqx.partition(model, trainable(model))
    leaves, structure = jax.tree.flatten(moving)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    moved = [
        leaf
        + scale
        * jax.random.normal(key, leaf.shape)
        / max(1, leaf.shape[-1] if leaf.ndim else 1) ** 0.5
        for leaf, key in zip(leaves, keys, strict=True)
    ]
    return eqx.combine(jax.tree.unflatten(structure, moved), rest)


def latents() -> np.ndarray:
    return np.random.default_rng(5).normal(size=(N, LATENT_DIM)).astype(np.float32)


rng = np.random.default_rng(0)
REAL = rng.normal([0, 100, -5, 1e-3], [1, 20, 3, 1e-4], (N, 4)).astype(np.float32)
SHARE = np.clip(rng.random((N, 4)), 0.01, 0.99).astype(np.float32)
COUNTS = rng.poisson([0.5, 3, 40], (N, 3)).astype(np.float32)
LEVELS = rng.integers(0, [2, 3, 5], (N, 3)).astype(np.float32)
HOLES = np.where(rng.random(REAL.shape) < 0.2, np.nan, REAL).astype(np.float32)
GRAY = np.where(rng.random((N, 9, 11)) < 0.5, 0, rng.integers(0, 256, (N, 9, 11))).astype(np.uint8)
COLOUR = rng.integers(0, 256, (N, 9, 8, 3)).astype(np.uint8)
LABELS = rng.choice(["cat", "dog", "owl"], N)


def table(holes: bool) -> pd.DataFrame:
    """Return columns of many kinds."""
    X = pd.DataFrame(
        {
            "age": rng.normal(50, 10, N),
            "x": rng.normal(1e6, 0.5, N),  # needs an origin
            "city": rng.choice(["Ulm", "Bonn", "Köln"], N),
            "size": pd.Categorical(rng.choice(["S", "M", "L"], N), ["S", "M", "L"], ordered=True),
            "smokes": rng.random(N) < 0.4,
            "visits": rng.negative_binomial(1, 0.2, N),
            "stars": rng.integers(1, 6, N),
            "since": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, N), "D"),
            "unit": np.ones(N),
        }
    )
    X["smokes"] = X["smokes"].astype(object if holes else bool)
    if holes:
        gone = rng.random(X.shape) < 0.2
        gone[:, -1] = False
        X = X.mask(pd.DataFrame(gone, columns=X.columns))
        X["size"] = pd.Categorical(X["size"], ["S", "M", "L"], ordered=True)
    return X


def mixed(holes: bool) -> Callable[[], Model]:
    import warnings

    def make() -> Model:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Column 'unit'")
            return Model.of(table(holes), {"stars": "ordinal"})

    return make


def likelihood(X, family) -> Callable[[], Model]:
    return lambda: Model.of(X, family)


FIRST: dict[str, Callable[[], Model]] = {
    "mixed": mixed(holes=False),
    "mixed-holes": mixed(holes=True),
    "dense": lambda: Model.of(REAL),
}
MORE: dict[str, Callable[[], Model]] = {
    "conv": lambda: Model.of(GRAY, architecture="conv", hidden=()),
    "conv-colour": lambda: Model.of(COLOUR, "discretised-logistic", architecture="conv", hidden=()),
    "array-holes": lambda: Model.of(HOLES),
    "labels": lambda: Model.of(REAL, condition=LABELS),
    "covariates": lambda: Model.of(
        REAL, condition=pd.DataFrame({"age": REAL[:, 1], "pet": LABELS})
    ),
    "numbers": lambda: Model.of(REAL, condition=REAL[:, :2]),
    "exposure": lambda: Model.of(COUNTS, "poisson", exposure=COUNTS.sum(axis=1) + 1),
    "total": lambda: Model.of(COUNTS + 1, "negative-binomial", exposure="total"),
    "linear": lambda: Model.of(REAL, hidden=()),
    "tanh": lambda: Model.of(REAL, activation="tanh"),
    "mish": lambda: Model.of(REAL, activation="mish"),
}
FAMILIES: dict[str, Callable[[], Model]] = {
    "per-datapoint": likelihood(REAL, likelihoods.Gaussian(scale="per-datapoint")),
    "student-t": likelihood(REAL, "student-t"),
    "laplace": likelihood(REAL, "laplace"),
    "log-normal": likelihood(SHARE * 30, "log-normal"),
    "gamma": likelihood(SHARE * 30, "gamma"),
    "beta": likelihood(SHARE, "beta"),
    "bernoulli": likelihood(SHARE, "bernoulli"),
    "continuous-bernoulli": likelihood(SHARE, "continuous-bernoulli"),
    "discretised-logistic": likelihood(GRAY[:, 0], "discretised-logistic"),
    "poisson": likelihood(COUNTS, "poisson"),
    "negative-binomial": likelihood(COUNTS, "negative-binomial"),
    "zero-inflated": likelihood(COUNTS, "zero-inflated-negative-binomial"),
    "beta-binomial": likelihood(LEVELS, "beta-binomial"),
    "categorical": likelihood(LEVELS, "categorical"),
    "ordinal": likelihood(LEVELS, "ordinal"),
}
REFUSED = {"low-rank-normal": "cholesky", "student-t": "random_gamma"}  # their bound, by ONNX
LATENTS: dict[str, Callable[[], Model]] = {
    **{
        f"prior-{prior}": lambda prior=prior: Model.of(REAL, prior=prior)
        for prior in ("learned-normal", "mixture", "vamp", "flow")
    },
    **{
        f"posterior-{family}": lambda family=family: Model.of(REAL, posterior=family)
        for family in ("full-normal", "mixture", "laplace", "iaf", "coupling")
    },
}
