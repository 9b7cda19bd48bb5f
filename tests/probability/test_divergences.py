"""Closed-form divergences against their definition, and what is said where there is none."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from aevb.probability import (
    Chi2,
    Erlang,
    Exponential,
    FisherSnedecor,
    Gamma,
    Gompertz,
    Pareto,
    Rayleigh,
    Reciprocal,
    Triangular,
    Weibull,
    has_closed_form,
    kl_divergence,
    kl_per_dimension,
)

pytestmark = pytest.mark.usefixtures("x64")

LOC = np.array([0.3, -1.0, 2.0])
SCALE = np.array([0.2, 1.0, 1.7])
TRIL = np.array([[0.5, 0.0, 0.0], [-0.4, 1.1, 0.0], [0.7, 0.2, 0.9]])

kl = jax.jit(kl_divergence)


def normal(loc, scale):
    return dist.Normal(loc, scale).to_event(1)


def laplace(n):
    return dist.Laplace().expand([n]).to_event(1)


# Of independent dimensions.
FACTORISED = {
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
    "gammas": lambda: (
        dist.Gamma(SCALE + 1, SCALE).to_event(1),
        dist.Gamma(2.0, 1.0).expand([3]).to_event(1),
    ),
    "betas": lambda: (dist.Beta(2.0, 3.0), dist.Beta(1.0, 1.5)),
    "Laplaces": lambda: (dist.Laplace(LOC, SCALE).to_event(1), laplace(3)),
    "Cauchys": lambda: (dist.Cauchy(0.5, 0.7), dist.Cauchy(-1.0, 1.1)),
    "Gumbels": lambda: (dist.Gumbel(0.5, 0.7), dist.Gumbel(-0.2, 1.3)),
    "log-normals": lambda: (dist.LogNormal(0.5, 0.7), dist.LogNormal(0.2, 0.9)),
    "nested uniforms": lambda: (dist.Uniform(0.2, 0.7), dist.Uniform(0.0, 1.5)),
    "Rayleighs": lambda: (Rayleigh(0.7), Rayleigh(1.2)),
    "Weibulls": lambda: (Weibull(0.7, 1.4), Weibull(1.2, 0.8)),
    "exponentials": lambda: (Exponential(0.7), Exponential(1.2)),
    "exponential, gamma": lambda: (Exponential(0.7), dist.Gamma(1.6, 1.2)),
    "gamma, exponential": lambda: (Gamma(1.6, 1.2), dist.Exponential(0.7)),
    "chi-squared, Erlang": lambda: (Chi2(3.0), Erlang(2, 0.7)),
    "Weibull, exponential": lambda: (Weibull(0.7, 1.4), Exponential(1.2)),
    "Weibull, gamma": lambda: (Weibull(0.7, 1.4), Gamma(1.6, 1.2)),
}
JOINT = {
    "multivariate normals": lambda: (
        dist.MultivariateNormal(LOC, jnp.diag(SCALE) + 0.2),
        dist.MultivariateNormal(0 * LOC, jnp.eye(3)),
    ),
    "dirichlets": lambda: (dist.Dirichlet(1 + SCALE), dist.Dirichlet(jnp.ones(3))),
    "full covariance, diagonal": lambda: (
        dist.MultivariateNormal(LOC, scale_tril=TRIL),
        normal(-LOC, SCALE),
    ),
    "full covariance, an expanded prior": lambda: (
        dist.MultivariateNormal(LOC, scale_tril=TRIL),
        dist.Normal().expand([3]).to_event(1),
    ),
    "low rank, diagonal": lambda: (
        dist.LowRankMultivariateNormal(LOC, TRIL[:, :2], SCALE),
        normal(-LOC, SCALE),
    ),
    "rows of full covariance, a matrix": lambda: (
        dist.MultivariateNormal(jnp.outer(SCALE[:2], LOC), scale_tril=TRIL).to_event(1),
        dist.Normal(jnp.zeros((2, 3)), SCALE).to_event(2),
    ),
}
# Against normals, all that have an entropy, a mean and a variance.
AGAINST_NORMAL = {
    "Laplace": lambda: dist.Laplace(0.4, 0.8),
    "logistic": lambda: dist.Logistic(0.4, 0.8),
    "uniform": lambda: dist.Uniform(-0.4, 0.8),
    "triangular": lambda: Triangular(-0.4, 0.1, 0.8),
    "Gumbel": lambda: dist.Gumbel(0.4, 0.8),
    "Student's t": lambda: dist.StudentT(4.5, 0.4, 0.8),
    "exponential": lambda: Exponential(1.4),
    "gamma": lambda: Gamma(1.4, 0.8),
    "chi-squared": lambda: Chi2(2.4),
    "Erlang": lambda: Erlang(2, 0.8),
    "Weibull": lambda: Weibull(0.4, 1.8),
    "log-normal": lambda: dist.LogNormal(0.4, 0.8),
    "reciprocal": lambda: Reciprocal(0.4, 1.8),
    "Pareto": lambda: Pareto(0.4, 3.8),
    "beta": lambda: dist.Beta(1.4, 2.8),
    "Rayleigh": lambda: Rayleigh(0.8),
    "Gompertz": lambda: Gompertz(1.4, 0.8),
    "F": lambda: FisherSnedecor(3.4, 7.8),
}
FACTORISED |= {
    f"{name}, normal": lambda make=make: (make(), dist.Normal(0.3, 1.2))
    for name, make in AGAINST_NORMAL.items()
}
WITHOUT_CLOSED_FORM = {
    "normal, Cauchy": lambda: (dist.Normal(), dist.Cauchy()),
    "normal, expanded Laplace": lambda: (normal(LOC, SCALE), laplace(3)),
    "diagonal, full covariance": lambda: (
        normal(LOC, SCALE),
        dist.MultivariateNormal(LOC, jnp.eye(3)),
    ),
    "Cauchy, normal": lambda: (dist.Cauchy(), dist.Normal()),
    "Dirichlet, normal": lambda: (dist.Dirichlet(1 + SCALE), normal(LOC, SCALE)),
    "NumPyro's Gompertz, normal": lambda: (dist.Gompertz(1.0), dist.Normal()),
}


PAIRS = FACTORISED | JOINT


@pytest.fixture(params=PAIRS.values(), ids=list(PAIRS))
def pair(request):
    return request.param()


@pytest.fixture(params=FACTORISED.values(), ids=list(FACTORISED))
def factorised(request):
    return request.param()


@pytest.mark.quick(8)
def test_equals_its_definition(pair, quadrature):
    q, p = pair
    if q.event_shape:  # by Monte Carlo

        @jax.jit
        def log_ratio(q, p):
            z = q.sample(jax.random.key(0), (10_000,))
            return q.log_prob(z) - p.log_prob(z)

        ratio = np.asarray(log_ratio(q, p))
        assert abs(ratio.mean() - kl(q, p)) < 4 * ratio.std() / np.sqrt(len(ratio))
    else:
        rule = quadrature(q)
        exact = rule.expectation(rule.log_density - p.log_prob(rule.points))
        np.testing.assert_allclose(kl(q, p), exact, rtol=1e-5)


def test_is_positive_between_different_distributions_and_zero_between_equal(pair):
    q, p = pair
    assert has_closed_form(q, p)
    assert kl(q, p) > 1e-3
    for d in pair:
        if has_closed_form(d, d):
            np.testing.assert_allclose(kl(d, d), 0.0, atol=1e-12)


def test_dimensions_sum_to_the_whole(factorised):
    q, p = factorised
    each = np.asarray(kl_per_dimension(q, p))
    np.testing.assert_allclose(each.sum(), kl(q, p), rtol=1e-12)
    assert (each >= 0).all()
    assert each.shape == q.event_shape


@pytest.mark.parametrize("pair", JOINT.values(), ids=list(JOINT))
def test_a_joint_family_has_no_divergence_per_dimension(pair):
    with pytest.raises(ValueError, match=r"got \w+, which does not factorise"):
        kl_per_dimension(*pair())


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
    with pytest.raises(ValueError, match=r"No closed form .* use estimator 'A'"):
        kl_divergence(q, p)


def test_refuses_distributions_over_different_spaces():
    q, p = normal(LOC, SCALE), dist.Normal(LOC, SCALE)
    assert not has_closed_form(q, p)
    with pytest.raises(ValueError, match=r"same event shape .* got \(3,\) and \(\)"):
        kl_divergence(q, p)


def test_is_infinite_where_the_support_or_the_variance_says_so():
    assert kl(dist.Uniform(-0.1, 0.5), dist.Uniform(0.0, 1.0)) == np.inf
    for df in (0.5, 1.5, 2.0):
        assert kl(dist.StudentT(df), dist.Normal()) == np.inf
    assert kl(Pareto(1.0, 0.8), dist.Normal()) == kl(Pareto(1.0, 1.8), dist.Normal()) == np.inf
    gradient = jax.grad(lambda df: kl(dist.StudentT(df), dist.Normal()))
    assert np.isfinite([gradient(1.5), gradient(2.5)]).all()


def test_keeps_the_batch_shape():
    rows = dist.MultivariateNormal(jnp.zeros((4, 3)), scale_tril=TRIL)
    assert kl(rows, normal(LOC, SCALE)).shape == (4,)
    assert kl(rows, dist.MultivariateNormal(LOC, scale_tril=TRIL)).shape == (4,)
    low_rank = dist.LowRankMultivariateNormal(LOC, TRIL[:, :2], SCALE)
    priors = dist.Normal(jnp.zeros((4, 3)), 1.0).to_event(1)
    np.testing.assert_allclose(
        kl(low_rank, priors),
        kl(dist.MultivariateNormal(LOC, low_rank.covariance_matrix), priors),
        rtol=1e-10,
    )
    q = dist.Normal(jnp.zeros((4, 3)), 1.0).to_event(1)
    assert kl(q, normal(LOC, SCALE)).shape == (4,)
    assert kl(dist.Normal(jnp.zeros(5), 1.0), dist.Normal()).shape == (5,)
