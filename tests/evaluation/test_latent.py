"""What a posterior says of each latent, against numbers known otherwise."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.stats

from aevb.evaluation.latent import location, log_marginals, marginal_kl, spread
from aevb.models.flows import FlowDistribution
from aevb.models.priors import EqualMixture

COVARIANCE = np.array([[2.0, 0.9], [0.9, 1.0]])
MEAN = np.array([0.5, -1.0])
COMPONENTS = dist.Normal(np.array([[0.0, 1.0], [2.0, -1.0]]), np.array([[0.5, 1.0], [0.7, 0.3]]))
JOINT = {
    "full covariance": dist.MultivariateNormal(MEAN, COVARIANCE),
    "low rank": dist.LowRankMultivariateNormal(MEAN, np.ones((2, 1)), np.array([0.5, 0.2])),
    "Student's t": dist.MultivariateStudentT(5.0, MEAN, np.linalg.cholesky(COVARIANCE)),
    "mixture": dist.MixtureSameFamily(
        dist.Categorical(logits=np.array([0.0, 1.0])), COMPONENTS.to_event(1)
    ),
    "equal mixture": EqualMixture(
        lambda u: dist.MultivariateNormal(u, COVARIANCE), np.array([[0.0, 1.0], [3.0, -1.0]])
    ),
}


@pytest.mark.quick(1)
@pytest.mark.parametrize("d", JOINT.values(), ids=list(JOINT))
def test_marginal_densities_are_the_joint_one_integrated(d):
    axis = np.linspace(-30, 30, 2001, dtype=np.float32)
    at = np.array([0.4, -0.3], np.float32)
    marginals = log_marginals(d, at)
    for j in range(2):
        z = np.stack([axis, axis], axis=1)
        z[:, j] = at[j]
        density = np.exp(np.asarray(d.log_prob(z), np.float64))
        assert np.isclose(np.log(density.sum() * (axis[1] - axis[0])), marginals[j], atol=1e-3)


def test_marginals_of_a_dirichlet_are_betas():
    concentration = np.array([1.0, 2.0, 3.5])
    z = np.array([0.2, 0.3, 0.5])
    expected = scipy.stats.beta(concentration, 6.5 - concentration).logpdf(z)
    np.testing.assert_allclose(log_marginals(dist.Dirichlet(concentration), z), expected, rtol=1e-5)


def test_the_kl_of_each_latent():
    p = dist.Normal(jnp.zeros(2), 1.0).to_event(1)
    variance = np.diag(COVARIANCE)
    exact = 0.5 * (variance + np.asarray(MEAN) ** 2 - 1 - np.log(variance))
    q = dist.Normal(MEAN, np.sqrt(variance)).to_event(1)
    np.testing.assert_allclose(marginal_kl(q, p, jax.random.key(0)), exact, rtol=1e-5)

    keys = jax.random.split(jax.random.key(1), 2000)
    joint = JOINT["full covariance"]  # by draws, since the KL of the bound has no such parts
    each = np.asarray(jax.jit(jax.vmap(lambda key: marginal_kl(joint, p, key)))(keys))
    error = each.std(0) / np.sqrt(len(each))
    assert (abs(each.mean(0) - exact) < 4 * error).all()
    assert (error < 0.02).all()


def test_the_kl_under_a_flow_is_not_known():
    from flowjax.bijections import Affine

    p = dist.Normal(jnp.zeros(2), 1.0).to_event(1)
    q = FlowDistribution(p, Affine(jnp.ones(2), jnp.ones(2)))
    assert np.isnan(marginal_kl(q, p, jax.random.key(0))).all()
    assert np.isnan(marginal_kl(p, q, jax.random.key(0))).all()
    shifted = eqx.filter_jit(lambda q: (location(q), spread(q)))(q)
    np.testing.assert_allclose(shifted[0], [1.0, 1.0], atol=0.3)
    np.testing.assert_allclose(shifted[1], [1.0, 1.0], atol=0.5)
