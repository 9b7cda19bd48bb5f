"""The laws of columns: one line each, held to the same laws.

A new law joins by a line in `LAWS`: how it is made, parameters, and SciPy's log-probability.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from aevb.probability.amounts import (
    ContinuousBernoulli,
    LogNormal,
    MeanBeta,
    MeanGamma,
    StudentT,
)
from aevb.probability.counts import BetaBinomial, NegativeBinomial, Poisson, ZeroInflated
from aevb.probability.levels import Categorical, DiscretisedLogistic, Ordinal
from aevb.probability.special import (
    exp_excess,
    log_logistic_interval,
    log_rising,
    stirling_remainder,
)

N_DRAWS = 20_000
CUTS = np.array([-1.3, 0.2, 0.9])
LOGITS = np.array([0.3, -1.0, 2.0, -np.inf])


def zero_inflated(log_mean, log_concentration, logits):
    return ZeroInflated(NegativeBinomial(log_mean, log_concentration), logits)


def nbinom(x, log_mean, log_concentration):
    m, r = np.exp(log_mean), np.exp(log_concentration)
    return scipy.stats.nbinom.logpmf(x, r, r / (r + m))


def betabinom(x, logits, log_concentration, total):
    share, whole = scipy.special.expit(logits), np.exp(log_concentration)
    return scipy.stats.betabinom.logpmf(x, total, share * whole, (1 - share) * whole)


def zinb(x, log_mean, log_concentration, logits):
    zero = scipy.special.expit(logits)
    return np.log(zero * (x == 0) + (1 - zero) * np.exp(nbinom(x, log_mean, log_concentration)))


def gamma(x, log_mean, log_concentration):
    k = np.exp(log_concentration)
    return scipy.stats.gamma.logpdf(x, k, scale=np.exp(log_mean) / k)


def log_normal(x, loc, scale):
    return scipy.stats.lognorm.logpdf(x, scale, 0, np.exp(loc))


def beta(x, logits, log_concentration):
    share, whole = scipy.special.expit(logits), np.exp(log_concentration)
    return scipy.stats.beta.logpdf(x, share * whole, (1 - share) * whole)


def continuous_bernoulli(x, eta):
    return eta * x - np.log(np.expm1(eta) / eta)


def student_t(x, loc, log_scale, log_df):
    return scipy.stats.t.logpdf(x, np.exp(log_df), loc, np.exp(log_scale))


def ordinal(x, location, cuts):
    below = scipy.special.expit(np.r_[-np.inf, cuts, np.inf] - location)
    return np.log(np.diff(below))[np.asarray(x, int)]


def categorical(x, logits):
    return np.asarray(scipy.special.log_softmax(logits))[np.asarray(x, int)]


def logistic_levels(x, location, log_scale, high):
    edges = (np.r_[-np.inf, np.arange(high) + 0.5, np.inf] - location) / np.exp(log_scale)
    below, above = scipy.special.expit(edges), scipy.special.expit(-edges)
    steps = np.where(edges[1:] < 0, np.diff(below), -np.diff(above))
    return np.log(steps)[np.asarray(x, int)]


# name -> law, parameters, log-density in double precision
LAWS = {
    "poisson": (Poisson, (0.7,), lambda x, eta: scipy.stats.poisson.logpmf(x, np.exp(eta))),
    "negative binomial": (NegativeBinomial, (1.2, 0.4), nbinom),
    "negative binomial without a mode": (NegativeBinomial, (1.2, -0.6), nbinom),
    "zero-inflated": (zero_inflated, (1.2, 1.4, -0.3), zinb),
    "beta-binomial": (BetaBinomial, (0.4, 1.9, 12.0), betabinom),
    "beta-binomial with high ends": (BetaBinomial, (0.4, 0.1, 12.0), betabinom),
    "categorical": (Categorical, (LOGITS,), categorical),
    "ordinal": (Ordinal, (0.4, CUTS), ordinal),
    "discretised logistic": (DiscretisedLogistic, (3.3, -0.5, 20.0), logistic_levels),
    "discretised logistic, wide": (DiscretisedLogistic, (17.0, 0.8, 20.0), logistic_levels),
    "log-normal": (LogNormal, (0.3, 0.6), log_normal),
    "gamma": (MeanGamma, (0.4, 0.9), gamma),
    "beta": (MeanBeta, (0.4, 1.9), beta),
    "continuous bernoulli": (ContinuousBernoulli, (1.7,), continuous_bernoulli),
    "continuous bernoulli, nearly flat": (ContinuousBernoulli, (-0.2,), continuous_bernoulli),
    "student's t": (StudentT, (0.3, -0.2, 1.6), student_t),
}  # fmt: skip
N_LEVELS = {"categorical": 4, "ordinal": 4, "beta-binomial": 13, "discretised": 21}


def law_of(name):
    make, parameters, _ = LAWS[name]
    rest = parameters[2:] if make is DiscretisedLogistic else ()
    arrays = map(jnp.asarray, parameters[: len(parameters) - len(rest)])
    return make(*arrays, *rest)


def points_of(name):
    """Return points of the support in double precision, and the weight of each in a sum."""
    law, _, _ = LAWS[name]
    if law in (LogNormal, MeanGamma):
        t = np.linspace(-30, 8, 40_001)
        return np.exp(t), np.exp(t) * (t[1] - t[0])
    if law is StudentT:
        t = np.linspace(-30, 30, 40_001)
        return np.sinh(t), np.cosh(t) * (t[1] - t[0])
    if law in (MeanBeta, ContinuousBernoulli):
        t = np.linspace(-36, 36, 40_001)
        x = scipy.special.expit(t)
        return x, x * scipy.special.expit(-t) * (t[1] - t[0])
    levels = next((n for word, n in N_LEVELS.items() if name.startswith(word)), 400)
    return np.arange(levels, dtype=float), np.ones(levels)


@pytest.fixture(scope="module")
def densities():
    """Points, weights, and log-probabilities in double precision, of each law."""

    @functools.cache
    def of(name):
        with jax.enable_x64(True):
            points, weights = points_of(name)
            law = law_of(name)
            return points, weights, np.asarray(jax.vmap(law.log_prob)(jnp.asarray(points)))

    return of


@pytest.mark.parametrize("name", LAWS)
class TestLaw:
    def test_log_prob_is_that_of_scipy(self, name, densities):
        points, _, ours = densities(name)
        _, parameters, reference = LAWS[name]
        with np.errstate(divide="ignore"):
            theirs = reference(points, *parameters)
        seen = theirs > -200
        np.testing.assert_allclose(ours[seen], theirs[seen], rtol=1e-8, atol=1e-8)

    def test_total_is_one(self, name, densities):
        _, weights, log_density = densities(name)
        assert np.sum(weights * np.exp(log_density)) == pytest.approx(1, abs=1e-7)

    def test_mean_and_variance_are_those_of_the_density(self, name, densities):
        if name == "categorical":
            pytest.skip("categories have no mean; see test_categories_have_no_mean")
        points, weights, log_density = densities(name)
        probabilities = weights * np.exp(log_density)
        mean = np.sum(probabilities * points)
        variance = np.sum(probabilities * (points - mean) ** 2)
        with jax.enable_x64(True):
            law = law_of(name)
            assert float(law.mean) == pytest.approx(mean, rel=3e-4)
            assert float(law.variance) == pytest.approx(variance, rel=1e-3)

    def test_mode_has_the_highest_density(self, name, densities):
        _, _, log_density = densities(name)
        with jax.enable_x64(True):
            law = law_of(name)
            assert float(law.log_prob(law.mode)) >= log_density.max() - 1e-7

    def test_draws_follow_it(self, name, densities):
        points, weights, log_density = densities(name)
        draws = np.sort(law_of(name).sample(jax.random.key(3), (N_DRAWS,))).astype(float)
        probabilities = weights * np.exp(log_density)
        discrete = weights[0] == weights[-1] == 1
        here = probabilities if discrete else probabilities / 2
        below = np.interp(points, draws, np.arange(1, N_DRAWS + 1) / N_DRAWS, left=0)
        if discrete:
            below = np.searchsorted(draws, points, side="right") / N_DRAWS
            expected = np.cumsum(probabilities)
        else:
            expected = np.cumsum(probabilities) - here
        assert abs(below - expected).max() < 1.95 / np.sqrt(N_DRAWS)  # Kolmogorov, 0.1 %

    def test_draws_are_within_the_support(self, name):
        law = law_of(name)
        draws = law.sample(jax.random.key(4), (2000,))
        assert bool(jnp.all(law.support(draws)))
        assert bool(jnp.all(jnp.isfinite(law.log_prob(draws))))

    def test_keys_of_every_generator_draw(self, name):
        assert law_of(name).sample(jax.random.key(0, impl="rbg"), (3,)).shape == (3,)


def test_categories_have_no_mean():
    law = Categorical(jnp.asarray(LOGITS))
    assert int(law.mean) == int(law.mode) == 2
    assert float(law.variance) == pytest.approx(1 - scipy.special.softmax(LOGITS)[2], abs=1e-6)


EXTREMES = (-1e4, -60.0, -18.4, 0.0, 18.4, 60.0, 1e4)  # 18.4 = log 1e8
SCALES = (-18.4, 0.0, 18.4)
# name -> law of numbers from `EXTREMES` and `SCALES`, and values of its support
FAR = {
    "poisson": (lambda a, _: Poisson(a), (0, 1, 10**6)),
    "negative binomial": (NegativeBinomial, (0, 1, 10**6)),
    "zero-inflated": (lambda a, b: zero_inflated(b, 0.0, a), (0, 3)),
    "beta-binomial": (lambda a, b: BetaBinomial(a, b, 100.0), (0, 1, 100)),
    "gamma": (MeanGamma, (1e-8, 1.0, 1e8)),
    "beta": (MeanBeta, (1e-8, 0.5, 0.999999)),
    "continuous bernoulli": (lambda a, _: ContinuousBernoulli(a), (0.0, 0.3, 1.0)),
    "student's t": (lambda a, b: StudentT(a, b, 18.4 - b), (-1e8, 0.0, 1e8)),
    "ordinal": (lambda a, b: Ordinal(a, jnp.array([0.0, jnp.exp(b)])), (0, 1, 2)),
    "categorical": (lambda a, _: Categorical(jnp.stack([a, -a, 0 * a])), (0, 1, 2)),
    "discretised logistic": (DiscretisedLogistic, (0, 128, 255)),
}


@pytest.mark.parametrize("name", FAR)
def test_far_out_nothing_is_undefined(name):
    """In float32: neither a log-probability nor its gradient is NaN, and none exceeds its kind."""
    make, values = FAR[name]

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, 0, 0))
    def both(a, b, x):
        return jax.value_and_grad(lambda a, b: make(a, b).log_prob(x), (0, 1))(a, b)

    grid = itertools.product(EXTREMES, SCALES, values)
    a, b, x = (jnp.asarray(column, jnp.float32) for column in zip(*grid, strict=True))
    value, gradients = both(a, b, x)
    assert not np.isnan(value).any()
    assert not np.isnan(gradients).any()
    assert not np.isposinf(value).any()


# Where single precision loses digits in the textbook form: law, parameters, values.
DELICATE = [
    (Poisson, (13.8,), [990_000, 1_000_000]),
    (NegativeBinomial, (2.0, 18.4), [0, 5, 30]),
    (NegativeBinomial, (9.2, 9.2), [0, 9000, 12_000]),
    (BetaBinomial, (-4.0, 18.4, 1000.0), [5, 18, 40]),
    (MeanGamma, (2.0, 18.4), [7.388, 7.389, 7.391]),
    (MeanGamma, (-20.0, -5.0), [1e-30, 1e-9, 1e-6]),
    (MeanBeta, (-3.0, 13.0), [0.0465, 0.0474, 0.0483]),
    (StudentT, (0.0, 0.0, 18.4), [-3.0, 0.1, 8.0]),
    (DiscretisedLogistic, (400.0, 1.0, 255.0), [0, 254, 255]),
    (Ordinal, (-900.0, CUTS), [0, 1, 3]),
    (ContinuousBernoulli, (800.0,), [0.0, 0.9, 1.0]),
    (ContinuousBernoulli, (-1e-3,), [0.0, 0.9, 1.0]),
]


@pytest.mark.parametrize(("law", "parameters", "values"), DELICATE)
def test_single_precision_is_enough(law, parameters, values):
    """The same numbers in float64, from parameters and values as float32 holds them."""
    parameters = [np.float32(p) for p in parameters]
    x = np.asarray(values, np.float32)
    ours = jax.vmap(law(*map(jnp.asarray, parameters)).log_prob)(jnp.asarray(x))
    with jax.enable_x64(True):
        wide = [jnp.asarray(p, jnp.float64) for p in parameters]
        exact = jax.vmap(law(*wide).log_prob)(jnp.asarray(x, jnp.float64))
    np.testing.assert_allclose(ours, exact, rtol=2e-5, atol=2e-3)


@pytest.mark.usefixtures("x64")
class TestSpecialFunctions:
    X = np.array([1e-9, 1e-4, 0.1, 0.29, 0.31, 1.0, 7.9, 8.1, 1e3, 1e8])

    def test_exp_excess(self):
        for sign in (1, -1):
            x = sign * self.X[:-2]
            exact = [float(scipy.special.hyp1f1(1, 3, each) * each**2 / 2) for each in x]
            np.testing.assert_allclose(exp_excess(jnp.asarray(x)), exact, rtol=1e-9)

    def test_stirling_remainder(self):
        x = self.X
        exact = scipy.special.gammaln(x) - (x - 0.5) * np.log(x) + x - 0.5 * np.log(2 * np.pi)
        np.testing.assert_allclose(stirling_remainder(jnp.asarray(x[:-2])), exact[:-2], atol=2e-9)
        assert float(stirling_remainder(jnp.asarray(1e8))) == pytest.approx(1 / 12e8, rel=1e-9)

    def test_log_rising(self):
        for a, x in itertools.product((0.01, 1.0, 40.0), (0.0, 0.5, 3.0, 200.0)):
            exact = scipy.special.gammaln(a + x) - scipy.special.gammaln(a)
            ours = float(log_rising(jnp.asarray(a), jnp.asarray(x)))
            assert ours == pytest.approx(exact, rel=1e-9, abs=1e-9)

    def test_log_logistic_interval(self):
        for low, gap in itertools.product((-700.0, -2.0, 0.0, 3.0, 30.0), (1e-6, 0.3, 5.0)):
            a, b = scipy.special.expit(low), scipy.special.expit(low + gap)
            if low > 0:  # where the difference of numbers close to one cancels
                a, b = -scipy.special.expit(-low), -scipy.special.expit(-low - gap)
            ours = log_logistic_interval(*map(jnp.asarray, (low, low + gap, gap)))
            assert float(ours) == pytest.approx(float(np.log(b - a)), rel=1e-6)
