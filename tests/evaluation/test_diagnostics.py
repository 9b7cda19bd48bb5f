"""The measured variance of a gradient against models whose gradients' variances are known exactly.

Figures from n gradients are held to four of their standard errors; the keys are fixed, so that a
test that passes does so always.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from aevb import VAE, Bayesian, LatentVariableModel, gradient_variance
from aevb.inference.estimators import Estimate

N = 3000
MU, SIGMA = 1.3, 0.6


class Square(LatentVariableModel):
    """log p(x|z) = z², whatever x; q(z|x) = N(mean, scale²)."""

    mean: jax.Array
    scale: jax.Array

    def prior(self):
        return dist.Normal()

    def likelihood(self, z):
        return dist.Unit(z**2)

    def posterior(self, x):
        return dist.Normal(self.mean, self.scale)


def square():
    return Square(jnp.array(MU), jnp.array(SIGMA))


def nothing(n):
    """Return n datapoints without anything in them."""
    return np.zeros((n, 0))


def by_row(report, column):
    """Return a column of a report by (estimator, n_draws, group)."""
    keys = zip(*(report.rows[name] for name in ("estimator", "n_draws", "group")), strict=True)
    return dict(zip(keys, report.rows[column], strict=True))


class Known(NamedTuple):
    """Variance in mean and in scale, and the expected gradient in mean."""

    mean: float
    scale: float
    expected: float


# With z = μ + σε: d/dμ of z² is 2z (REFERENCES: pathwise, variance 4σ²), and B adds the constant
# gradient of -KL = -½(μ² + σ² - 1 - log σ²). A has ½z² + ½ε² + log σ for its value. The score of q
# that STL leaves out is that of ½ε² + log σ; what stays is ½z² + ½(z - μ)²/σ² through z alone.
# Score function, L = 2: ½(f₁ - f₂)(s₁ - s₂), f = ½z² + ½ε², with the scores s = ε/σ in μ and
# (ε² - 1)/σ in σ; a polynomial in ε₁ + ε₂ and ε₁ - ε₂, which are independent.
EXACT = {
    ("B", 1): Known(4 * SIGMA**2, 4 * (MU**2 + 2 * SIGMA**2), MU),
    ("A", 1): Known(SIGMA**2, MU**2 + 2 * SIGMA**2, MU),
    ("stl", 1): Known((SIGMA + 1 / SIGMA) ** 2, MU**2 + 2 * (SIGMA + 1 / SIGMA) ** 2, MU),
    ("score", 2): Known(
        2 * MU**2 + 1.5 * (SIGMA + 1 / SIGMA) ** 2, 6 * MU**2 + 8 * (SIGMA + 1 / SIGMA) ** 2, MU
    ),
}


@pytest.fixture(scope="module")
def square_report():
    jax.config.update("jax_enable_x64", True)
    pairs = [*EXACT, ("B", 4), ("iw", 1), ("auto", 1)]
    report = gradient_variance(square(), nothing(1), estimators=pairs, n_repeats=N)
    jax.config.update("jax_enable_x64", False)  # not only when the module's last test is done
    return report


@pytest.mark.slow
@pytest.mark.parametrize(("estimator", "n_draws"), EXACT)
@pytest.mark.parametrize("group", ["mean", "scale"])
def test_variance_is_the_exact_one(square_report, estimator, n_draws, group):
    exact = getattr(EXACT[estimator, n_draws], group)
    entry = (estimator, n_draws, group)
    variance, error = (by_row(square_report, name)[entry] for name in ("variance", "variance_se"))
    assert abs(variance - exact) < 4 * error
    assert error < 0.2 * exact


@pytest.mark.slow
@pytest.mark.parametrize(("estimator", "n_draws"), EXACT)
def test_squared_norm_and_signal_to_noise_ratio(square_report, estimator, n_draws):
    exact = EXACT[estimator, n_draws]
    entry = (estimator, n_draws, "mean")
    norm, snr = (by_row(square_report, name)[entry] for name in ("squared_norm", "snr"))
    error = 2 * abs(exact.expected) * math.sqrt(exact.mean / N)
    assert abs(norm - exact.expected**2) < 4 * error
    np.testing.assert_allclose(snr, abs(exact.expected) / math.sqrt(exact.mean), rtol=0.1)


@pytest.mark.slow
def test_draws_divide_the_variance(square_report):
    variance, error = (by_row(square_report, name) for name in ("variance", "variance_se"))
    for group in ("mean", "scale", "all"):
        one, four = ("B", 1, group), ("B", 4, group)
        difference = variance[one] - 4 * variance[four]
        assert abs(difference) < 4 * math.hypot(error[one], 4 * error[four])


@pytest.mark.slow
def test_score_function_is_noisier_than_the_path(square_report):
    variance = by_row(square_report, "variance")
    assert variance["score", 2, "mean"] > 5 * variance["A", 1, "mean"] / 2  # two draws each


@pytest.mark.slow
def test_equal_gradients_have_equal_variances(square_report):
    # All estimators see the same noise: B is what auto is here, A the importance-weighted of k = 1.
    variance = by_row(square_report, "variance")
    for group in ("mean", "scale", "all"):
        assert variance["auto", 1, group] == variance["B", 1, group]
        np.testing.assert_allclose(variance["iw", 1, group], variance["A", 1, group], rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("column", ["variance", "squared_norm"])
def test_groups_add_up(square_report, column):
    values = by_row(square_report, column)
    for pair in [*EXACT, ("B", 4)]:
        parts = values[*pair, "mean"] + values[*pair, "scale"]
        np.testing.assert_allclose(values[*pair, "all"], parts, rtol=1e-9)


def test_standard_error_of_a_normal_gradient(x64):
    # The gradient of A in μ is z ~ N(μ, σ²): the variance from n has the error √(2/(n - 1)) σ².
    one = gradient_variance(
        square(), nothing(1), estimators=[("A", 1)], n_repeats=2000, where=lambda path: path
    )
    error = by_row(one, "variance_se")["A", 1, "mean"]
    np.testing.assert_allclose(error, math.sqrt(2 / 1999) * SIGMA**2, rtol=0.15)


@pytest.mark.slow
def test_variance_and_squared_norm_are_unbiased_for_few_repeats(x64):
    entry = ("A", 1, "mean")
    variances, norms = [], []
    for seed in range(120):
        report = gradient_variance(
            square(), nothing(1), estimators=[("A", 1)], n_repeats=3, key=seed
        )
        variances.append(by_row(report, "variance")[entry])
        norms.append(by_row(report, "squared_norm")[entry])
    for values, exact in ((variances, SIGMA**2), (norms, MU**2)):
        assert abs(np.mean(values) - exact) < 4 * np.std(values) / math.sqrt(len(values))
        assert np.std(values) / math.sqrt(len(values)) < 0.12 * exact


@pytest.mark.slow
def test_rows_with_noise_of_their_own_divide_the_variance(x64):
    one, eight = (
        gradient_variance(square(), nothing(n), estimators=[("B", 1)], n_repeats=4000)
        for n in (1, 8)
    )
    for group in ("mean", "scale"):
        entry = ("B", 1, group)
        ratio = by_row(one, "variance")[entry] / by_row(eight, "variance")[entry]
        np.testing.assert_allclose(ratio, 8, rtol=0.2)
        a, b = (by_row(report, "squared_norm")[entry] for report in (one, eight))
        np.testing.assert_allclose(a, b, rtol=0.2)


def test_sticking_the_landing_at_the_exact_posterior(x64, linear_gaussian):
    model = linear_gaussian.random(5, 2, orthogonal=True).with_best_posterior()
    model = jax.tree.map(jnp.asarray, model)
    x = np.random.default_rng(0).normal(size=(4, 5))

    def phi_or_theta(path):
        return "phi" if path in ("V", "d") else "theta"

    report = gradient_variance(
        model, x, estimators=[("stl", 1), ("dreg", 5), ("A", 1)], where=phi_or_theta
    )
    variance = by_row(report, "variance")
    assert variance["stl", 1, "phi"] < 1e-20
    assert variance["dreg", 5, "phi"] < 1e-20
    assert variance["A", 1, "phi"] > 0.1
    assert variance["stl", 1, "theta"] > 0.1


class Steep(LatentVariableModel):
    """A gradient of 3000 + z: the square of its mean, in 32 bits, is known to 0.5 only."""

    mean: jax.Array

    def prior(self):
        return dist.Normal()

    def likelihood(self, z):
        return dist.Unit(z**2 + 3000 * z)

    def posterior(self, x):
        return dist.Normal(self.mean, SIGMA)


def test_small_variance_of_a_large_gradient_in_32_bits():
    model = Steep(jnp.array(MU))
    assert model.mean.dtype == jnp.float32
    report = gradient_variance(model, nothing(1), estimators=[("A", 1)], n_repeats=N)
    np.testing.assert_allclose(report.rows["variance"], SIGMA**2, rtol=0.05)
    np.testing.assert_allclose(report.rows["squared_norm"], (3000 + MU) ** 2, rtol=1e-5)


TRACES = []


class Traced(Square):
    """Notes every time that its likelihood is traced."""

    def likelihood(self, z):
        TRACES.append(z)
        return dist.Unit(z**2)


def test_other_parameters_compile_nothing():
    traces = []
    for mean in (0.0, 1.0, 2.0):
        model = Traced(jnp.array(mean), jnp.array(SIGMA))
        gradient_variance(model, nothing(2), estimators=[("A", 1)], n_repeats=3)
        traces.append(len(TRACES))
        TRACES.clear()
    assert traces[0] > traces[1] == traces[2]  # the checks trace every time, the gradient once


# Who cannot serve, and what is refused.


class Coin(LatentVariableModel):
    """A latent of two values, which has no path for a gradient."""

    logit: jax.Array

    def prior(self):
        return dist.Bernoulli(0.5)

    def likelihood(self, z):
        return dist.Normal(z, 1.0)

    def posterior(self, x):
        return dist.Bernoulli(logits=self.logit * x)


class HeavyPrior(Square):
    """The prior is a Student's t, to which no divergence is known."""

    def prior(self):
        return dist.StudentT(5.0)


def test_estimators_that_cannot_serve_are_refused_with_the_reason():
    coin = gradient_variance(Coin(jnp.array(0.5)), np.ones(3), n_repeats=3)
    assert set(coin.rows["estimator"]) == {"score", "vimco"}
    assert set(coin.refused) == {
        *((name, n) for name in ("auto", "A", "B", "stl") for n in (1, 5)),
        *((name, k) for name in ("iw", "dreg") for k in (2, 5, 20)),
    }
    assert all("carry no gradient" in reason for reason in coin.refused.values())
    model = HeavyPrior(jnp.array(0.0), jnp.array(1.0))
    heavy = gradient_variance(
        model, nothing(2), estimators=[("A", 1), ("B", 1), ("vimco", 1)], n_repeats=3
    )
    assert set(heavy.rows["estimator"]) == {"A"}
    assert "KL(Normal‖StudentT)" in heavy.refused["B", 1]
    assert "at least 2" in heavy.refused["vimco", 1]


def noise_of_size_two(model, x, key, n_draws):
    value = model.model.mean * (7 + 2 * jax.random.normal(key)) / n_draws
    return Estimate(value, {"elbo": value})


def test_an_estimator_of_the_users_own(x64):
    report = gradient_variance(
        square(), nothing(1), estimators=[(noise_of_size_two, 1)], n_repeats=4000
    )
    variance, norm, snr = (
        by_row(report, column)["noise_of_size_two", 1, "mean"]
        for column in ("variance", "squared_norm", "snr")
    )
    np.testing.assert_allclose([variance, norm, snr], [4, 49, 3.5], rtol=0.1)
    assert by_row(report, "variance")["noise_of_size_two", 1, "scale"] == 0
    assert math.isnan(by_row(report, "snr")["noise_of_size_two", 1, "scale"])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model": VAE()}, TypeError, r"`model`; got VAE\. .* give its `model_`"),
        ({"model": Bayesian(square())}, TypeError, r"got Bayesian, .* Give `model\.at_mean\(\)`"),
        ({"model": HeavyPrior(0.0, 1.0)}, ValueError, r"parameters to train in `HeavyPrior`"),
        ({"data": 3.0}, ValueError, r"one row per datapoint.*got \(\)"),
        ({"data": {}}, ValueError, r"got no arrays"),
        ({"data": nothing(0)}, ValueError, r"at least one .* got \(0, 0\)"),
        ({"context": np.ones(3)}, ValueError, r"`context`; got \(2, 0\), \(3,\)"),
        ({"estimators": "iw"}, TypeError, r"\[\('stl', 1\)\] for instance; got 'i'"),
        ({"estimators": ["A", "B"]}, TypeError, r"pairs of .* got 'A'"),
        ({"estimators": []}, ValueError, r"got none\. Give at least one"),
        ({"estimators": [("slt", 1)]}, ValueError, r"got 'slt'\. Did you mean 'stl'"),
        ({"estimators": [("A", 0)]}, ValueError, r"at least 1 for `n_draws`; got 0"),
        ({"estimators": [("score", 1)]}, ValueError, r"got none\. 'score', 1: .* at least 2"),
        ({"n_repeats": 1}, ValueError, r"at least 2 for `n_repeats`; got 1"),
        ({"n_repeats": 2.0}, TypeError, r"`n_repeats`; got 2\.0"),
        ({"where": lambda path: None}, TypeError, r"`where`; got None for 'mean'"),
        (
            {"where": lambda path: {"mean": "all"}.get(path, path)},
            ValueError,
            r"no group named 'all' .* got 'all', 'scale'\. Name them by `where`",
        ),
    ],
)
def test_wrong_arguments_are_named(changes, error, message):
    arguments = {"model": square(), "data": nothing(2), "estimators": [("A", 1)], **changes}
    with pytest.raises(error, match=message):
        gradient_variance(arguments.pop("model"), arguments.pop("data"), **arguments)


def test_a_model_that_does_not_fit_the_data_is_named():
    with pytest.raises(ValueError, match=r"of shape \(2,\), from `Square\.likelihood`"):
        gradient_variance(square(), np.ones((3, 2)))
