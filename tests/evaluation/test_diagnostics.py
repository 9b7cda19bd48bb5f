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
import pandas as pd
import pytest

from aevb import VAE, Bayesian, Frozen, LatentVariableModel, gradient_variance
from aevb.evaluation import GradientVariance
from aevb.inference.estimators import Estimate
from aevb.inference.sgvb import sgvb

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


@pytest.mark.parametrize(("estimator", "n_draws"), EXACT)
@pytest.mark.parametrize("group", ["mean", "scale"])
def test_variance_is_the_exact_one(square_report, estimator, n_draws, group):
    exact = getattr(EXACT[estimator, n_draws], group)
    entry = (estimator, n_draws, group)
    variance, error = (by_row(square_report, name)[entry] for name in ("variance", "variance_se"))
    assert abs(variance - exact) < 4 * error
    assert error < 0.2 * exact


@pytest.mark.parametrize(("estimator", "n_draws"), EXACT)
def test_squared_norm_and_signal_to_noise_ratio(square_report, estimator, n_draws):
    exact = EXACT[estimator, n_draws]
    entry = (estimator, n_draws, "mean")
    norm, snr = (by_row(square_report, name)[entry] for name in ("squared_norm", "snr"))
    error = 2 * abs(exact.expected) * math.sqrt(exact.mean / N)
    assert abs(norm - exact.expected**2) < 4 * error
    np.testing.assert_allclose(snr, abs(exact.expected) / math.sqrt(exact.mean), rtol=0.1)


def test_draws_divide_the_variance(square_report):
    variance, error = (by_row(square_report, name) for name in ("variance", "variance_se"))
    for group in ("mean", "scale", "all"):
        one, four = ("B", 1, group), ("B", 4, group)
        difference = variance[one] - 4 * variance[four]
        assert abs(difference) < 4 * math.hypot(error[one], 4 * error[four])


def test_score_function_is_noisier_than_the_path(square_report):
    variance = by_row(square_report, "variance")
    assert variance["score", 2, "mean"] > 5 * variance["A", 1, "mean"] / 2  # two draws each


def test_equal_gradients_have_equal_variances(square_report):
    # All estimators see the same noise: B is what auto is here, A the importance-weighted of k = 1.
    variance = by_row(square_report, "variance")
    for group in ("mean", "scale", "all"):
        assert variance["auto", 1, group] == variance["B", 1, group]
        np.testing.assert_allclose(variance["iw", 1, group], variance["A", 1, group], rtol=1e-9)


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


# What is handed in, and what comes out.

GROUPS = ["decoder", "encoder", "all"]


class Line(LatentVariableModel):
    """z ~ N(c, 1) behind parts of a datapoint, with parameters in a dictionary and some fixed."""

    decoder: dict
    encoder: jax.Array
    fixed: Frozen

    def prior(self, c):
        return dist.Normal(c["shift"], 1.0)

    def likelihood(self, z):
        mean = self.decoder["weight"] * z + self.decoder["bias"]
        return Parts(mean, self.fixed.value)

    def posterior(self, x, c):
        return dist.Normal(self.encoder * x["a"] + c["shift"], 0.5)


class Parts:
    """A number and a vector, independent given the latent."""

    def __init__(self, mean, scale):
        self.mean, self.scale = mean, scale

    def log_prob(self, x):
        both = jnp.append(x["b"], x["a"])
        return dist.Normal(self.mean, self.scale).log_prob(both).sum()


@pytest.fixture
def line():
    model = Line(
        {"weight": jnp.array(0.7), "bias": jnp.array(0.1)}, jnp.array(0.3), Frozen(jnp.array(1.5))
    )
    rng = np.random.default_rng(0)
    x = {"a": rng.normal(size=6), "b": rng.normal(size=(6, 2))}
    return model, x, {"shift": rng.normal(size=6)}


@pytest.mark.slow
def test_a_users_model_with_context_and_parts(line):
    model, x, c = line
    report = gradient_variance(model, x, context=c, n_repeats=5)
    assert list(dict.fromkeys(report.rows["group"])) == GROUPS
    assert report.refused == {}
    assert (report.n_rows, report.n_repeats) == (6, 5)
    pairs = list(zip(report.rows["estimator"], report.rows["n_draws"], strict=True))[::3]
    assert pairs[:4] == [("auto", 1), ("auto", 5), ("A", 1), ("A", 5)]
    assert set(pairs[4:]) == {
        *(("B", 1), ("B", 5), ("stl", 1), ("stl", 5), ("score", 5)),
        *((bound, k) for bound in ("iw", "dreg", "vimco") for k in (2, 5, 20)),
    }
    weightings = set(zip(report.rows["estimator"], report.rows["objective"], strict=True))
    of_iw = {(bound, f"iw_{k}") for bound in ("iw", "dreg", "vimco") for k in (2, 5, 20)}
    assert {pair for pair in weightings if pair[1] != "elbo"} == of_iw


def test_expected_gradient_is_that_of_the_mean_over_the_rows(line, x64):
    model, x, c = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), line)

    @jax.jit
    @jax.grad
    def gradient(model):
        def row(x, c, key):
            return sgvb(model, x, key, c=c, bound="B", n_draws=20_000)

        return jnp.mean(jax.vmap(row)(x, c, jax.random.split(jax.random.key(1), 6)))

    expected = gradient(model)
    squares = {
        "decoder": expected.decoder["weight"] ** 2 + expected.decoder["bias"] ** 2,
        "encoder": expected.encoder**2,
    }
    report = gradient_variance(
        model, x, context=c, estimators=[("B", 1)], n_repeats=N, where=lambda path: path[:7]
    )
    for group, square in squares.items():
        np.testing.assert_allclose(by_row(report, "squared_norm")["B", 1, group], square, rtol=0.05)


def test_groups_by_a_function_of_the_path(line):
    model, x, c = line
    paths = []

    def where(path):
        paths.append(path)
        return path.rsplit(".", 1)[-1]

    report = gradient_variance(model, x, context=c, estimators=[("A", 1)], n_repeats=3, where=where)
    assert paths == ["decoder.bias", "decoder.weight", "encoder"]
    assert report.rows["group"] == ["bias", "weight", "encoder", "all"]
    whole = gradient_variance(
        model, x, context=c, estimators=[("A", 1)], n_repeats=3, where=lambda path: "all"
    )
    assert whole.rows["group"] == ["all"]
    np.testing.assert_allclose(whole.rows["variance"][0], report.rows["variance"][-1], rtol=1e-5)


def test_cost_and_efficiency(line):
    model, x, c = line
    report = gradient_variance(
        model,
        x,
        context=c,
        estimators=[("A", 1), ("iw", 2), ("stl", 1), ("iw", 3), ("dreg", 3)],
        n_repeats=4,
    )
    table = pd.DataFrame(report.rows)
    assert (table["milliseconds"] > 0).all()
    assert (table.groupby(["estimator", "n_draws"])["milliseconds"].nunique() == 1).all()
    work = table["variance"] * table["milliseconds"]
    reference = work.groupby([table["objective"], table["group"]]).transform("first")
    np.testing.assert_allclose(table["variance_x_cost"], work / reference, rtol=1e-12)
    first = table[table["group"] == "all"].set_index(["estimator", "n_draws"])["variance_x_cost"]
    assert list(first[[("A", 1), ("iw", 2), ("iw", 3)]]) == [1, 1, 1]


def test_same_key_same_figures_whatever_else_is_measured(line):
    model, x, c = line
    several, one, other, typed = (
        gradient_variance(model, x, context=c, estimators=pairs, n_repeats=5, key=key)
        for pairs, key in [
            ([("A", 1), ("stl", 2)], 3),
            ([("stl", 2)], 3),
            ([("stl", 2)], 4),
            ([("stl", 2)], jax.random.key(3, impl="rbg")),
        ]
    )
    for column in ("variance", "variance_se", "squared_norm"):
        assert several.rows[column][3:] == one.rows[column] == typed.rows[column]
        assert one.rows[column] != other.rows[column]


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


def test_table_in_words(line):
    model, x, c = line
    report = gradient_variance(
        model, x, context=c, estimators=[("A", 1), ("score", 1), ("dreg", 5)], n_repeats=4
    )
    title, header, a, dreg, refused = str(report).splitlines()
    assert "mean over 6 rows" in title
    assert "4 repeats" in title
    assert header.split()[:7] == ["estimator", "draws", "objective", "ms", *GROUPS]
    assert a.split()[:3] == ["A", "1", "elbo"]
    assert dreg.split()[:3] == ["dreg", "5", "iw_5"]
    for line_, start in ((a, 0), (dreg, 3)):
        shown = line_.split()
        for k, figure in enumerate(report.rows["variance"][start : start + 3]):
            assert shown[4 + 3 * k : 6 + 3 * k] == [f"{figure:.3g}", "±"]
    assert refused.startswith("Refused: score (1). Expected `n_draws` of at least 2")
    assert repr(report) == str(report)


def test_the_table_ends_with_the_best_for_each_objective():
    names = [("A", 1), ("stl", 2), ("iw", 5), ("dreg", 5), ("iw", 2)]
    rows = {
        "estimator": [name for name, _ in names for _ in "ab"],
        "n_draws": [n for _, n in names for _ in "ab"],
        "objective": [name for name in ("elbo", "elbo", "iw_5", "iw_5", "iw_2") for _ in "ab"],
        "group": ["mean", "all"] * 5,
        # Of all parameters, variance × time is 6, 4; 5, 8; 9. One group alone would say otherwise.
        "variance": [0.1, 3.0, 2.0, 1.0, 9.0, 5.0, 0.1, 4.0, 9.0, 9.0],
        "milliseconds": [2.0, 2.0, 4.0, 4.0, 1.0, 1.0, 2.0, 2.0, 1.0, 1.0],
    }
    others = ("variance_se", "squared_norm", "snr", "variance_x_cost")
    report = GradientVariance({**rows, **{name: [1.0] * 10 for name in others}}, {}, 6, 4)
    assert str(report).splitlines()[-2:] == [
        "Least variance × time for the ELBO: stl, L = 2",
        "Least variance × time for iw_5: iw, k = 5",
    ]
    assert "for iw_2" not in str(report)  # it has no rival


@pytest.mark.slow
def test_a_fitted_vae():
    X = np.random.default_rng(0).random((20, 6))
    vae = VAE(latent_dim=2, hidden=(4,), epochs=1, random_state=0).fit(X)
    report = gradient_variance(vae.model_, X, estimators=[("auto", 1)], n_repeats=3)
    assert report.rows["group"] == ["encoder", "decoder", "all"]
    assert np.isfinite(report.rows["variance"]).all()


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


def noise_of_size_two(model, x, key, c, n_draws):
    value = model.mean * (7 + 2 * jax.random.normal(key)) / n_draws
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
