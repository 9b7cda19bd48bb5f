"""Small fitted models of each form of data, with cases and labels that try to break a page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from aevb import VAE
from aevb.data.datasets import load_digits
from aevb.report import Facts, facts

HOSTILE = "<script>alert('column')</script>"


class Fit(NamedTuple):
    """A fitted estimator, cases, their labels, and what else the model is told."""

    vae: VAE
    X: Any
    labels: Any = None
    told: dict = {}  # noqa: RUF012


def quick(latent_dim: int, **options: Any) -> VAE:
    return VAE(latent_dim, hidden=(4,), epochs=12, batch_size=20, random_state=0, **options)


def pictures() -> Fit:
    train, test = load_digits()
    vae = quick(3).fit(train.images[:120], validation_data=test.images[:40])
    return Fit(vae, test.images[:60], test.labels[:60])


def flat_pictures() -> Fit:
    images = load_digits().train.images[:80]
    flat = images.reshape(80, -1)
    return Fit(quick(2).fit(flat), flat, None, {"image_shape": (8, 8)})


def colour_pictures() -> Fit:
    X = np.random.default_rng(0).integers(0, 256, (50, 4, 5, 3)).astype(np.uint8)
    return Fit(quick(2).fit(X), X)


def mixed_table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    z = rng.normal(size=90)
    size = pd.Series(10 + 2 * z + 0.3 * rng.normal(size=90))
    size[::7] = np.nan
    city = np.where(z + 0.2 * rng.normal(size=90) > 0, "Ulm </td>", "Bonn & <b>Köln</b>")
    order = pd.Categorical.from_codes(
        (z + 0.5 * rng.normal(size=90) > 0).astype(int) + (z > 1), ["low", "mid", "high"], True
    )
    table = pd.DataFrame(
        {
            HOSTILE: size,
            "city": city,
            "order": order,
            "n": rng.poisson(np.exp(1 + 0.5 * z)),
            "is_it": z > 0.3,
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta((30 * z).astype(int), "D"),
        }
    )
    table.loc[3, "city"] = None
    return table


def table() -> Fit:
    X = mixed_table()
    labels = np.where(X["is_it"], "</script><script>alert('label')</script>", "b")
    return Fit(quick(2).fit(X), X, labels)


def array() -> Fit:
    X = np.random.default_rng(0).normal(size=(80, 1)) * [1.0, 2.0, 3.0]
    X = X + 0.1 * np.random.default_rng(1).normal(size=X.shape)
    X[5, 1] += 4
    return Fit(quick(1).fit(X), X, np.arange(80) / 7)


def many_latents() -> Fit:
    X = np.random.default_rng(0).normal(size=(60, 8))
    return Fit(quick(7).fit(X), X)


def conditional() -> Fit:
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1], 40)
    X = rng.normal(size=(80, 3)) + 3 * group[:, None]
    return Fit(quick(2).fit(X, condition=group), X, None, {"condition": group})


def exposed() -> Fit:
    rng = np.random.default_rng(0)
    exposure = rng.uniform(5, 50, 80)
    X = rng.poisson(exposure[:, None] * [0.5, 1.0, 2.0])
    vae = quick(2, likelihood="poisson").fit(X, exposure=exposure)
    return Fit(vae, X, None, {"exposure": exposure})


class Sorting(eqx.Module):
    """A decoder that does not run in a page."""

    network: eqx.nn.Linear

    def __call__(self, z):
        return jnp.sort(self.network(z))


def sorting() -> Fit:
    X = np.sort(np.random.default_rng(0).normal(size=(60, 4)))
    vae = quick(2, decoder=Sorting(eqx.nn.Linear(2, 8, key=jax.random.key(0))))
    return Fit(vae.fit(X), X, np.arange(60) % 3)


FITS: dict[str, Callable[[], Fit]] = {
    each.__name__: each
    for each in (
        *(pictures, flat_pictures, colour_pictures, table, array, many_latents),
        *(conditional, exposed, sorting),
    )
}


@pytest.fixture(scope="session")
def fits() -> Callable[[str], Fit]:
    """A fit by name, made once."""
    made: dict[str, Fit] = {}

    def get(name: str) -> Fit:
        if name not in made:
            made[name] = FITS[name]()
        return made[name]

    return get


_QUICK = ("pictures", "table", "array")


@pytest.fixture(
    params=[each if each in _QUICK else pytest.param(each, marks=pytest.mark.slow) for each in FITS]
)
def fit(request, fits) -> Fit:
    """Each of the fits."""
    return fits(request.param)


@pytest.fixture(scope="session")
def known() -> Callable[[Fit], Facts]:
    """The facts of a fit, collected once."""
    found: dict[int, Facts] = {}

    def get(fit: Fit) -> Facts:
        if id(fit.vae) not in found:
            found[id(fit.vae)] = facts(fit.vae, fit.X, fit.labels, **fit.told)
        return found[id(fit.vae)]

    return get
