"""One law for all families: draws follow the density, and their gradients are the analytic ones.

A new family joins by a line in `SCALARS` or `VECTORS`.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
import scipy.stats
from jax.flatten_util import ravel_pytree

from aevb.probability import (
    Batched,
    Chi2,
    Elliptical,
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
)

N_DRAWS = 4000
# Compiling takes longer than running here.
quick_jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
L = np.array([[1.2, 0.0], [-0.7, 0.4]])
A = np.array([0.6, -1.1])

# name -> constructor, its parameters
SCALARS = {
    "exponential": (Exponential, 1.7),
    "cauchy": (dist.Cauchy, 0.3, 1.2),
    "logistic": (dist.Logistic, -0.4, 0.7),
    "rayleigh": (Rayleigh, 0.8),
    "pareto": (Pareto, 0.6, 2.8),
    "weibull": (Weibull, 1.4, 1.8),
    "weibull without a mode": (Weibull, 1.4, 0.7),
    "reciprocal": (Reciprocal, 0.4, 3.0),
    "gompertz": (Gompertz, 0.7, 1.3),
    "gumbel": (dist.Gumbel, 0.5, 0.8),
    "erlang": (functools.partial(Erlang, 3), 1.5),
    "laplace": (dist.Laplace, 0.2, 0.9),
    "student's t": (dist.StudentT, 4.5, 0.3, 0.8),
    "uniform": (dist.Uniform, -0.5, 1.2),
    "triangular": (Triangular, -0.5, 0.1, 1.7),
    "normal": (dist.Normal, 0.4, 0.6),
    "log-normal": (dist.LogNormal, -0.2, 0.5),
    "gamma": (Gamma, 1.6, 1.3),
    "gamma without a mode": (Gamma, 0.6, 1.3),
    "beta": (dist.Beta, 1.7, 2.4),
    "chi-squared": (Chi2, 3.4),
    "f": (FisherSnedecor, 3.5, 7.0),
}
# name -> constructor, its parameters, a vector, and the law of the draws' product with it
VECTORS = {
    "dirichlet": (
        dist.Dirichlet,
        (np.array([1.6, 2.3]),),
        np.array([1.0, 0.0]),
        lambda concentration: dist.Beta(*concentration),
    ),
    "multivariate student's t": (
        dist.MultivariateStudentT,
        (4.5, np.array([0.3, -0.2]), L),
        A,
        lambda df, loc, tril: dist.StudentT(df, A @ loc, jnp.linalg.norm(A @ tril)),
    ),
    "elliptical: normal": (
        lambda scale, loc, tril: Elliptical(Rayleigh(scale), loc, tril),
        (0.8, np.array([0.3, -0.2]), L),
        A,
        lambda scale, loc, tril: dist.Normal(A @ loc, scale * jnp.linalg.norm(A @ tril)),
    ),
    "elliptical: student's t": (
        # The square of the radius, by the dimension, is F.
        lambda df, loc, tril: Elliptical(
            dist.TransformedDistribution(
                FisherSnedecor(2.0, df),
                [dist.transforms.AffineTransform(0, 2.0), dist.transforms.PowerTransform(0.5)],
            ),
            loc,
            tril,
        ),
        (4.5, np.array([0.3, -0.2]), L),
        A,
        lambda df, loc, tril: dist.StudentT(df, A @ loc, jnp.linalg.norm(A @ tril)),
    ),
}


class Instance(NamedTuple):
    """A distribution of one number, whose draws may be those of a vector, projected."""

    law: dist.Distribution
    draws: np.ndarray
    gradients: np.ndarray  # of f(draw) with respect to each parameter, by the pathwise derivative
    exact_gradient: np.ndarray  # of E f
    quadrature: object


@functools.cache
def instance(name, quadrature):
    """Evaluate once, as all laws look at the same draws.

    Nothing is jitted: JAX compiles its draws from a gamma for seconds, but once for all families.
    """
    if name in SCALARS:
        make, *parameters = SCALARS[name]
        law_of, project = make, lambda draws: draws
    else:
        make, parameters, direction, law_of = VECTORS[name]

        def project(draws):
            return draws @ direction

    theta, restore = ravel_pytree(tuple(jnp.asarray(p, float) for p in parameters))

    def f_of_draws(theta):
        draws = project(make(*restore(theta)).sample(jax.random.key(3), (N_DRAWS,)))
        return jnp.tanh(draws), draws

    def mean_f(theta):
        rule = quadrature(law_of(*restore(theta)))
        return rule.expectation(jnp.tanh(rule.points))

    gradients, exact_gradient = [], []
    for one in np.eye(len(theta))[np.flatnonzero(theta)]:  # without a matrix's upper triangle
        _, derivative, draws = jax.jvp(f_of_draws, (theta,), (one,), has_aux=True)
        gradients.append(derivative)
        h = 1e-5 * one
        exact_gradient.append((mean_f(theta + h) - mean_f(theta - h)) / 2e-5)
    law = law_of(*restore(theta))
    arrays = map(np.asarray, (draws, np.stack(gradients), np.stack(exact_gradient)))
    return Instance(law, *arrays, quadrature(law))


@pytest.fixture(scope="module", params=[*SCALARS, *VECTORS])  # one family after the other
def name(request):
    return request.param


@pytest.fixture
def one(name, x64, quadrature):
    return instance(name, quadrature)


def build(name):
    make, *rest = SCALARS.get(name) or VECTORS[name]
    return make(*(rest[0] if name in VECTORS else rest))


# Those whose inverse is elementary; NumPyro's others are its own affair.
INVERTED = (Rayleigh, Triangular, Exponential, Gompertz, Pareto, Reciprocal)


class TestLaws:
    @pytest.mark.quick(8)
    def test_the_density_integrates_to_one(self, one):
        np.testing.assert_allclose(one.quadrature.total, 1.0, atol=1e-6)

    def test_draws_follow_the_density(self, one):
        assert scipy.stats.kstest(one.draws, one.quadrature.cdf).pvalue > 0.01

    def test_the_pathwise_gradient_is_that_of_the_expectation(self, one):
        mean = one.gradients.mean(axis=1)
        standard_error = one.gradients.std(axis=1) / np.sqrt(N_DRAWS)
        assert np.abs(one.exact_gradient).min() > 1e-3
        np.testing.assert_array_less(abs(mean - one.exact_gradient), 4 * standard_error)

    def test_moments_and_entropy_are_those_of_the_density(self, one):
        law, rule = one.law, one.quadrature
        if isinstance(law, dist.Cauchy):
            assert np.isnan(law.mean)
        else:
            np.testing.assert_allclose(law.mean, rule.mean, rtol=1e-5)
            np.testing.assert_allclose(law.variance, rule.variance, rtol=1e-5)
        if not isinstance(law, dist.Gumbel):  # NumPyro has no entropy of it
            np.testing.assert_allclose(law.entropy(), rule.entropy, atol=1e-5)

    def test_the_cdf_is_the_integral_of_the_density(self, one):
        law, values = one.law, np.sort(one.draws)[::100]
        below = np.asarray(law.cdf(jnp.asarray(values)))
        np.testing.assert_allclose(below, one.quadrature.cdf(values), atol=1e-4)
        if isinstance(law, INVERTED):
            np.testing.assert_allclose(law.icdf(below), values, rtol=1e-6)


@pytest.mark.usefixtures("x64")
class TestVectors:
    Z = np.array([[0.2, 0.8], [0.7, 0.3], [-1.3, 2.0]])

    def test_elliptical_is_a_multivariate_normal_where_the_radius_is_rayleigh(self):
        ours = build("elliptical: normal")
        theirs = dist.MultivariateNormal(ours.loc, scale_tril=0.8 * L)
        np.testing.assert_allclose(ours.log_prob(self.Z), theirs.log_prob(self.Z), rtol=1e-12)
        np.testing.assert_allclose(ours.mean, theirs.mean)
        np.testing.assert_allclose(ours.variance, theirs.variance, rtol=1e-12)

    def test_elliptical_is_a_multivariate_t_where_the_squared_radius_is_f(self):
        ours, theirs = build("elliptical: student's t"), build("multivariate student's t")
        np.testing.assert_allclose(ours.log_prob(self.Z), theirs.log_prob(self.Z), rtol=1e-12)

    def test_elliptical_has_a_gradient_at_its_centre(self):
        ours = build("elliptical: normal")
        at_centre = jax.grad(ours.log_prob)(ours.loc)
        np.testing.assert_allclose(at_centre, 0.0, atol=1e-12)

    def test_elliptical_has_a_radius_for_each_member_of_a_batch(self):
        batch = Elliptical(Rayleigh(1.0), jnp.zeros((4, 2)), jnp.eye(2))
        draws = quick_jit(lambda key: batch.sample(key, (3,)))(jax.random.key(0))
        radii = np.linalg.norm(draws, axis=-1)
        assert radii.shape == (3, 4) == quick_jit(batch.log_prob)(draws).shape
        assert len(np.unique(radii)) == 12

    def test_dirichlet_is_a_beta_in_two_dimensions(self):
        ours, beta = build("dirichlet"), dist.Beta(1.6, 2.3)
        np.testing.assert_allclose(
            ours.log_prob(self.Z[:2]), beta.log_prob(self.Z[:2, 0]), rtol=1e-12
        )


COUNTERPARTS = {
    "rayleigh": scipy.stats.rayleigh(scale=0.8),
    "erlang": scipy.stats.erlang(3, scale=1 / 1.5),
    "triangular": scipy.stats.triang(0.6 / 2.2, loc=-0.5, scale=2.2),
    "f": scipy.stats.f(3.5, 7.0),
    "pareto": scipy.stats.pareto(2.8, scale=0.6),
    "reciprocal": scipy.stats.reciprocal(0.4, 3.0),
    "gompertz": scipy.stats.gompertz(0.7, scale=1 / 1.3),
}


@pytest.mark.usefixtures("x64")
class TestAgainstSciPy:
    @pytest.fixture(params=COUNTERPARTS)
    def pair(self, request):
        return build(request.param), COUNTERPARTS[request.param]

    def test_same_density_and_distribution_function(self, pair):
        ours, theirs = pair
        values = theirs.ppf(np.linspace(0.01, 0.99, 7))
        np.testing.assert_allclose(ours.log_prob(values), theirs.logpdf(values), rtol=1e-9)
        np.testing.assert_allclose(ours.cdf(values), theirs.cdf(values), rtol=1e-9)

    def test_same_moments_and_entropy(self, pair):
        ours, theirs = pair
        np.testing.assert_allclose(ours.mean, theirs.mean(), rtol=1e-6)
        np.testing.assert_allclose(ours.variance, theirs.var(), rtol=1e-6)
        np.testing.assert_allclose(ours.entropy(), theirs.entropy(), rtol=1e-6)


# Those of ours that are drawn by an inverse CDF.
BY_INVERSE_CDF = [
    "exponential",
    "rayleigh",
    "pareto",
    "weibull",
    "reciprocal",
    "gompertz",
    "erlang",
]
BY_INVERSE_CDF += ["triangular"]


class TestUse:
    @pytest.mark.parametrize("name", [*BY_INVERSE_CDF, "elliptical: normal"])
    def test_jit_equals_eager_and_rows_equal_a_loop(self, name):
        make, *rest = SCALARS.get(name) or VECTORS[name]
        parameters = [jnp.asarray(p, jnp.float32) for p in (rest[0] if name in VECTORS else rest)]
        rows = [jnp.stack([p, 1.1 * p, 1.2 * p]) for p in parameters]
        key = jax.random.key(5)

        @quick_jit
        def evaluate(*rows):
            batch = Batched(jax.vmap(make)(*rows))
            draws = batch.sample(key)
            return draws, batch.log_prob(draws), batch.mean, batch.variance

        draws, log_prob, mean, variance = evaluate(*rows)
        for i, row_key in enumerate(jax.random.split(key, 3)):
            d = make(*(p[i] for p in rows))
            np.testing.assert_allclose(draws[i], d.sample(row_key), rtol=2e-5)
            np.testing.assert_allclose(log_prob[i], d.log_prob(draws[i]), rtol=2e-5, atol=2e-6)
            np.testing.assert_allclose(mean[i], d.mean, rtol=1e-5)
            np.testing.assert_allclose(variance[i], d.variance, rtol=1e-5)

    def test_says_that_it_is_reparameterised(self, name):
        d = build(name)
        assert d.has_rsample
        assert d.expand((3, *d.batch_shape)).to_event(1).has_rsample

    @pytest.mark.parametrize("extreme", [0.0, 1 - 2.0**-23], ids=["least", "greatest"])
    @pytest.mark.parametrize("name", BY_INVERSE_CDF)
    def test_the_extreme_draws_of_the_generator_are_inside(self, name, extreme, monkeypatch):
        make, *parameters = SCALARS[name]
        monkeypatch.setattr(jax.random, "uniform", lambda key, shape: jnp.full(shape, extreme))

        def log_prob_of_draw(*parameters):
            d = make(*parameters)
            draw = d.sample(jax.random.key(0))
            return d.log_prob(draw), draw  # -inf outside the support, as arguments are validated

        derivative = jax.grad(log_prob_of_draw, tuple(range(len(parameters))), has_aux=True)
        gradient, draw = derivative(*map(jnp.float32, parameters))
        assert np.isfinite(make(*parameters).log_prob(draw))
        assert np.isfinite(gradient).all()

    @pytest.mark.parametrize(
        "d",
        [Gamma(0.02, 1.0), Weibull(1.0, 0.02), FisherSnedecor(0.04, 1.0)],
        ids=lambda d: type(d).__name__,
    )
    def test_draws_that_underflow_keep_a_finite_log_density(self, d):
        @quick_jit
        @functools.partial(jax.value_and_grad, has_aux=True)
        def total_log_prob(d):
            draws = d.sample(jax.random.key(0), (200,))
            return jnp.sum(d.log_prob(draws)), draws

        (total, draws), gradient = total_log_prob(d)
        assert draws.min() > 0
        assert np.isfinite(total)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))

    def test_gompertz_is_an_exponential_at_a_large_concentration(self):
        np.testing.assert_allclose(Gompertz(1e4, 2.0).mean, 1 / 2e4, rtol=2e-4)
        np.testing.assert_allclose(Gompertz(1e4, 2.0).variance, 1 / 2e4**2, rtol=5e-4)

    @pytest.mark.parametrize("concentration", [0, -1, 2.5, "3"])
    def test_erlang_takes_whole_concentrations(self, concentration):
        with pytest.raises(ValueError, match="Expected a whole number"):
            Erlang(concentration, 1.0)

    def test_f_has_no_finite_moments_with_few_degrees_of_freedom(self):
        assert FisherSnedecor(3.0, 2.0).mean == np.inf
        assert FisherSnedecor(3.0, 4.0).variance == np.inf
        assert FisherSnedecor(3.0, 4.0).mean == 2.0

    def test_nothing_lies_outside_the_support(self):
        for name in ("rayleigh", "triangular", "pareto", "reciprocal", "f"):
            with pytest.warns(UserWarning, match="Out-of-support"):
                assert build(name).log_prob(jnp.array(-3.0)) == -jnp.inf
