"""Densities of codes: held to laws that are known, and what the estimator does with them."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest

from aevb import VAE, priors
from aevb.aggregate import (
    PRIOR,
    AggregatePosterior,
    _told_apart,
    as_family,
    compare_samplers,
    fit_aggregate,
    with_density,
)
from aevb.learned import Data
from aevb.models.autoencoder import AutoEncoder
from aevb.models.conditional import Conditional

N = 4000


class Exact(Conditional):
    """q(z|x) = N(x, 0.5²): the aggregate posterior is the law of x, blurred."""

    def __call__(self, *given):
        (x,) = given
        return dist.Normal(x, 0.5).to_event(1)


class StandardNormal(Conditional):
    def __call__(self, *given):
        return dist.Normal(jnp.zeros(2), 1.0).to_event(1)


@pytest.fixture(scope="module")
def two_clusters():
    """A model whose codes follow a known mixture, far from its prior, and cases for it."""
    centres = np.array([[-4.0, 0.0], [4.0, 1.0]])
    rng = np.random.default_rng(0)
    X = (centres[rng.integers(2, size=N)] + 0.5 * rng.normal(size=(N, 2))).astype(np.float32)
    law = dist.MixtureSameFamily(
        dist.Categorical(jnp.full(2, 0.5)),
        dist.Normal(jnp.asarray(centres, jnp.float32), math.sqrt(0.5)).to_event(1),
    )
    return AutoEncoder(Exact(), Exact(), StandardNormal()), Data(X, None), law


def divergence(law, density):
    """Estimate KL(law‖density), with its standard error."""
    z = law.sample(jax.random.key(1), (20_000,))
    ratio = np.asarray(law.log_prob(z) - jax.vmap(density.log_prob)(z), np.float64)
    return ratio.mean(), ratio.std() / math.sqrt(len(ratio))


def test_mixture_finds_the_law_of_the_codes(two_clusters):
    model, data, law = two_clusters
    found = fit_aggregate(model, data, as_family("mixture"), jax.random.key(0))
    kl, error = divergence(law, found.density())
    # As many parameters as the law has, 9, cost 9/(2n) nats.
    assert kl < 3 * error + 9 / N
    assert kl > -3 * error


@pytest.mark.slow
@pytest.mark.parametrize("family", ["flow", priors.LearnedNormal()])
def test_other_families_are_fitted_by_their_likelihood(two_clusters, family):
    model, data, law = two_clusters
    found = fit_aggregate(model, data, as_family(family), jax.random.key(0))
    kl, _ = divergence(law, found.density())
    best = dist.Normal(jnp.array([0.0, 0.5]), jnp.sqrt(jnp.array([16.5, 0.75]))).to_event(1)
    of_normal, error = divergence(law, best)
    if family == "flow":
        assert kl < 0.15 * of_normal
    else:
        assert kl == pytest.approx(of_normal, abs=3 * error + 0.02)


def test_comparison_is_the_change_of_the_bound(two_clusters):
    model, data, law = two_clusters
    aggregate = AggregatePosterior(priors.Normal(), Law(law))

    class Values:
        def values(self, cases):
            return np.asarray(cases)

    held = Data(data.x[:500], None)
    table = compare_samplers(model, aggregate, held, Values(), jax.random.key(0))
    # E_q log p(z) = log N(x; 0, 1) - 0.5² in two dimensions.
    exact = np.mean(-math.log(2 * math.pi) - 0.5 * np.square(held.x).sum(axis=1) - 0.25)
    assert table.rows["log_density"][0] == pytest.approx(exact, abs=0.1)
    gain, error = table.rows["difference"][1], table.rows["difference_se"][1]
    mean = float(np.mean(jax.vmap(law.log_prob)(data.x[:500])))
    assert gain == pytest.approx(mean - exact, abs=0.6)
    assert error > 0
    assert table.better == "posterior"
    auc, auc_error = (np.array(table.rows[name]) for name in ("auc", "auc_se"))
    assert auc[0] > 0.95
    assert abs(auc[1] - 0.5) < 4 * auc_error[1]
    assert "sample(from_='posterior')" in str(table)


class Law(Conditional):
    law: dist.Distribution

    def __call__(self, *given):
        return self.law


def test_classifier_tells_nothing_from_itself():
    rng = np.random.default_rng(0)
    auc, error = _told_apart(rng.normal(size=(400, 3)), rng.normal(size=(400, 3)))
    assert abs(auc - 0.5) < 3 * error
    assert 0.01 < error < 0.03


# The estimator.


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    group = rng.integers(2, size=300)
    return pd.DataFrame(
        {
            "a": rng.normal(size=300) + 6 * group,
            "b": rng.normal(size=300) - 6 * group,
            "city": np.array(["Ulm", "Bonn"])[group],
        }
    )


@pytest.fixture(scope="module")
def vae(table):
    return VAE(2, hidden=(8,), epochs=30, random_state=0, verbose=False).fit(table)


def test_samples_come_from_the_density(vae, table):
    vae.fit_aggregate_posterior(table)
    new = vae.sample(500, 1, from_="posterior")
    assert list(new.columns) == list(table.columns)
    again = vae.sample(500, 1, from_="posterior")
    pd.testing.assert_frame_equal(new, again)
    density = vae.aggregate_posterior_.density
    assert eqx.tree_equal(with_density(vae.model_, density).latent_prior, density)
    assert not new.equals(vae.sample(500, 1, from_=PRIOR))
    given = vae.sample(20, 0, from_="posterior", given={"city": "Ulm"})
    assert set(given["city"]) == {"Ulm"}
    comparison = vae.compare_samplers(table)
    assert comparison.n_cases == len(table)
    assert comparison.rows["from"] == ["prior", "posterior"]


def test_density_is_saved(vae, table, tmp_path):
    vae.fit_aggregate_posterior(table)
    vae.save(tmp_path / "with.aevb")
    loaded = VAE.load(tmp_path / "with.aevb")
    assert loaded.aggregate_posterior_.family == vae.aggregate_posterior_.family
    pd.testing.assert_frame_equal(
        loaded.sample(50, 3, from_="posterior"), vae.sample(50, 3, from_="posterior")
    )


def test_training_on_forgets_it(table, tmp_path):
    vae = VAE(2, hidden=(8,), epochs=2, random_state=0, verbose=False).fit(table)
    vae.fit_aggregate_posterior(table, priors.Mixture(n_components=2))
    assert vae.aggregate_posterior_.family == priors.Mixture(n_components=2)
    vae.partial_fit(table)
    with pytest.raises(ValueError, match=r"fit_aggregate_posterior\(X\)"):
        vae.sample(from_="posterior")
    vae.save(tmp_path / "without.aevb")
    assert VAE.load(tmp_path / "without.aevb").aggregate_posterior_ is None


def test_refusals(vae, table):
    with pytest.raises(ValueError, match="from_"):
        vae.sample(from_="codes")
    with pytest.raises(ValueError, match="family"):
        vae.fit_aggregate_posterior(table, "kde")
    with pytest.raises(TypeError, match="codes for `family`"):
        vae.fit_aggregate_posterior(table, priors.Vamp())
    with pytest.raises(ValueError, match="at least 20 cases"):
        vae.fit_aggregate_posterior(table[:10])
    with pytest.raises(ValueError, match="components"):
        vae.fit_aggregate_posterior(table, priors.Mixture(n_components=100_000))
