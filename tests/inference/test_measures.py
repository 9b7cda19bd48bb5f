"""Estimates that would be of no bound are refused where they are made, not by checks alone."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import aevb
from aevb import LatentVariableModel
from aevb.inference.estimators import ESTIMATORS
from aevb.probability import ExpRelaxedOneHotCategorical

X = jnp.array(0.5)
KEY = jax.random.key(0)


class Mine(LatentVariableModel):
    """Each method returns what it was given."""

    own_prior: dist.Distribution
    own_likelihood: dist.Distribution
    own_posterior: dist.Distribution
    weight: jax.Array = eqx.field(default_factory=lambda: jnp.ones(()))

    def prior(self):
        return self.own_prior

    def likelihood(self, z):
        return self.own_likelihood

    def posterior(self, x):
        return self.own_posterior


NORMAL, VECTOR = dist.Normal(), dist.Normal(jnp.zeros(3), 1.0).to_event(1)
RELAXED = ExpRelaxedOneHotCategorical(0.5, jnp.zeros(3))
NO_BOUNDS = {
    "a point beside a density": Mine(NORMAL, NORMAL, dist.Delta(0.3, log_density=1.0)),
    "a point as prior": Mine(dist.Delta(0.3), NORMAL, NORMAL),
    "two points": Mine(dist.Delta(0.3), NORMAL, dist.Delta(0.3)),
    "a surface beside a density": Mine(VECTOR, NORMAL, dist.Dirichlet(jnp.ones(3))),
    "a density beside a surface": Mine(dist.ProjectedNormal(jnp.ones(3)), NORMAL, VECTOR),
    "a relaxed choice": Mine(VECTOR, NORMAL, RELAXED),
    "whole numbers": Mine(NORMAL, NORMAL, dist.Poisson(1.0)),
    "a point as likelihood": Mine(NORMAL, dist.Delta(0.5, log_density=3.0), NORMAL),
}


# Every case returned a number once.
@pytest.mark.parametrize("case", NO_BOUNDS)
def test_no_number_for_what_is_no_bound(case):
    model = NO_BOUNDS[case]
    ways = [
        lambda: aevb.elbo(model, X, KEY),
        lambda: aevb.log_likelihood(model, X, KEY, n_draws=10),
        *(
            lambda name=name: aevb.sgvb(model, X, KEY, estimator=name, n_draws=2)
            for name in ESTIMATORS
        ),
        lambda: aevb.train(model, np.ones(8), objective=aevb.WakeSleep(), epochs=1),
    ]
    for way in ways:
        with pytest.raises(ValueError, match=r"Expected (densities of one|a probability density)"):
            way()


def test_hard_assignments_to_classes_are_a_bound():
    prior = dist.Categorical(probs=jnp.array([0.25, 0.75]))
    model = Mine(prior, NORMAL, dist.Delta(jnp.array(1)))
    exact = NORMAL.log_prob(X) + np.log(0.75)
    np.testing.assert_allclose(aevb.elbo(model, X, KEY), exact, rtol=1e-6)
    bound = aevb.sgvb(model, X, KEY, estimator="score", n_draws=2)
    np.testing.assert_allclose(bound, exact, rtol=1e-6)


def test_relaxed_choices_have_a_bound():
    wide = ExpRelaxedOneHotCategorical(0.7, jnp.zeros(3))
    bound = aevb.elbo(Mine(wide, NORMAL, RELAXED), X, KEY, n_draws=10_000)
    assert bound < NORMAL.log_prob(X)
    evidence = aevb.log_likelihood(Mine(wide, NORMAL, RELAXED), X, KEY, n_draws=10_000)
    np.testing.assert_allclose(evidence, NORMAL.log_prob(X), atol=0.05)


@pytest.mark.parametrize("prior", [RELAXED, dist.Delta(0.3), dist.ProjectedNormal(jnp.ones(3))])
def test_chains_do_not_move_on_surfaces_or_points(prior):
    pytest.importorskip("blackjax")
    model = Mine(prior, NORMAL, prior)
    with pytest.raises(ValueError, match=r"real latents without bounds from `Mine\.prior`"):
        aevb.evaluation.posterior_draws(model, X, KEY)


def test_a_point_is_no_prior_of_parameters():
    with pytest.raises(ValueError, match="over all real numbers, for `prior`; got Delta"):
        aevb.Bayesian(Mine(NORMAL, NORMAL, NORMAL), prior=dist.Delta(0.0))
