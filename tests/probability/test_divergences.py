"""Closed-form divergences against their definition, and what is said where there is none."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from aevb.probability import has_closed_form, kl_divergence, kl_per_dimension

pytestmark = pytest.mark.usefixtures("x64")

LOC = np.array([0.3, -1.0, 2.0])
SCALE = np.array([0.2, 1.0, 1.7])

kl = jax.jit(kl_divergence)


def normal(loc, scale):
    return dist.Normal(loc, scale).to_event(1)


PAIRS = {
    "diagonal normal, standard normal": lambda: (normal(LOC, SCALE), normal(0 * LOC, 1 + 0 * LOC)),
    "diagonal normals": lambda: (normal(LOC, SCALE), normal(-LOC, SCALE[::-1])),
    "scalar normals": lambda: (dist.Normal(1.0, 0.3), dist.Normal(0.5, 2.0)),
    "an expanded prior": lambda: (normal(LOC, SCALE), dist.Normal().expand([3]).to_event(1)),
    "both expanded": lambda: (
        dist.Normal(1.0, 0.5).expand([3]).to_event(1),
        dist.Normal().expand([3]).to_event(1),
    ),
    "matrices of normals": lambda: (
        dist.Normal(jnp.outer(LOC, LOC), 0.5).to_event(2),
        dist.Normal(LOC, 1.0).to_event(1).expand([3]).to_event(1),
    ),
    "multivariate normals": lambda: (
        dist.MultivariateNormal(LOC, jnp.diag(SCALE) + 0.2),
        dist.MultivariateNormal(0 * LOC, jnp.eye(3)),
    ),
    "gammas": lambda: (
        dist.Gamma(SCALE + 1, SCALE).to_event(1),
        dist.Gamma(2.0, 1.0).expand([3]).to_event(1),
    ),
    "betas": lambda: (dist.Beta(2.0, 3.0), dist.Beta(1.0, 1.5)),
    "dirichlets": lambda: (dist.Dirichlet(1 + SCALE), dist.Dirichlet(jnp.ones(3))),
}
WITHOUT_CLOSED_FORM = {
    "normal, Cauchy": lambda: (dist.Normal(), dist.Cauchy()),
    "normal, expanded Laplace": lambda: (
        normal(LOC, SCALE),
        dist.Laplace().expand([3]).to_event(1),
    ),
    "full covariance, diagonal": lambda: (
        dist.MultivariateNormal(LOC, jnp.eye(3)),
        normal(LOC, SCALE),
    ),
    "Laplaces": lambda: (dist.Laplace(), dist.Laplace(1.0, 2.0)),
}


@pytest.fixture(params=PAIRS.values(), ids=list(PAIRS))
def pair(request):
    return request.param()


def test_equals_monte_carlo(pair):
    q, p = pair

    @jax.jit
    def both(q, p):
        z = q.sample(jax.random.key(0), (10_000,))
        return kl_divergence(q, p), q.log_prob(z) - p.log_prob(z)

    kl, ratio = map(np.asarray, both(q, p))
    standard_error = ratio.std() / np.sqrt(len(ratio))
    assert abs(ratio.mean() - kl) < 4 * standard_error


def test_is_positive_between_different_distributions_and_zero_between_equal(pair):
    q, p = pair
    assert has_closed_form(q, p)
    assert kl(q, p) > 1e-3
    for d in pair:
        np.testing.assert_allclose(kl(d, d), 0.0, atol=1e-12)


def test_dimensions_sum_to_the_whole(pair):
    q, p = pair
    each = np.asarray(jax.jit(kl_per_dimension)(q, p))
    np.testing.assert_allclose(each.sum(), kl(q, p), rtol=1e-12)
    assert (each >= 0).all()
    if isinstance(q, dist.Independent):
        assert each.shape == q.event_shape


def test_agrees_with_numpyro():
    for q, p in (PAIRS["diagonal normals"](), PAIRS["scalar normals"]()):
        np.testing.assert_allclose(kl(q, p), dist.kl_divergence(q, p), rtol=1e-12)


def test_is_equation_10_for_a_standard_normal_prior():
    equation_10 = 0.5 * np.sum(1 + np.log(SCALE**2) - LOC**2 - SCALE**2)
    q, p = PAIRS["diagonal normal, standard normal"]()
    np.testing.assert_allclose(-kl(q, p), equation_10, rtol=1e-12)


def test_gradient_is_mean_and_half_the_excess_variance():
    def to_standard_normal(mean, log_variance):
        return kl_divergence(normal(mean, jnp.exp(log_variance / 2)), normal(0 * LOC, 1 + 0 * LOC))

    gradient = jax.jit(jax.grad(to_standard_normal, (0, 1)))
    by_mean, by_log_variance = gradient(LOC, np.log(SCALE**2))
    np.testing.assert_allclose(by_mean, LOC, rtol=1e-12)
    np.testing.assert_allclose(by_log_variance, 0.5 * (SCALE**2 - 1), rtol=1e-12)


def test_holds_at_scales_far_apart():
    wide, narrow = dist.Normal(0.0, 1e12), dist.Normal(0.0, 1e-12)
    np.testing.assert_allclose(kl(narrow, wide), np.log(1e24) - 0.5, rtol=1e-12)


@pytest.mark.parametrize("pair", WITHOUT_CLOSED_FORM.values(), ids=list(WITHOUT_CLOSED_FORM))
def test_says_where_no_closed_form_is_known(pair):
    q, p = pair()
    assert not has_closed_form(q, p)
    with pytest.raises(NotImplementedError, match=r"No closed form .* use estimator 'A'"):
        kl_divergence(q, p)


def test_refuses_distributions_over_different_spaces():
    q, p = normal(LOC, SCALE), dist.Normal(LOC, SCALE)
    assert not has_closed_form(q, p)
    with pytest.raises(ValueError, match=r"same event shape .* got \(3,\) and \(\)"):
        kl_divergence(q, p)


def test_keeps_the_batch_shape():
    q = dist.Normal(jnp.zeros((4, 3)), 1.0).to_event(1)
    assert kl(q, normal(LOC, SCALE)).shape == (4,)
    assert kl(dist.Normal(jnp.zeros(5), 1.0), dist.Normal()).shape == (5,)
