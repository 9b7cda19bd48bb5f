"""What a report of gradient variances takes, and what it shows: groups, costs, words."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest

from aevb import VAE, Frozen, LatentVariableModel, gradient_variance, sgvb
from aevb.evaluation import GradientVariance

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
def with_context():
    model = Line(
        {"weight": jnp.array(0.7), "bias": jnp.array(0.1)}, jnp.array(0.3), Frozen(jnp.array(1.5))
    )
    rng = np.random.default_rng(0)
    x = {"a": rng.normal(size=6), "b": rng.normal(size=(6, 2))}
    return model, x, {"shift": rng.normal(size=6)}


@pytest.mark.slow
def test_a_users_model_with_context_and_parts(with_context):
    model, x, c = with_context
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


@pytest.mark.slow
def test_expected_gradient_is_that_of_the_mean_over_the_rows(with_context, x64):
    model, x, c = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), with_context)

    @jax.jit
    @jax.grad
    def gradient(model):
        def row(x, c, key):
            return sgvb(model, x, key, c=c, estimator="B", n_draws=20_000)

        return jnp.mean(jax.vmap(row)(x, c, jax.random.split(jax.random.key(1), 6)))

    expected = gradient(model)
    squares = {
        "decoder": expected.decoder["weight"] ** 2 + expected.decoder["bias"] ** 2,
        "encoder": expected.encoder**2,
    }
    report = gradient_variance(
        model, x, context=c, estimators=[("B", 1)], n_repeats=3000, where=lambda path: path[:7]
    )
    norms = dict(zip(report.rows["group"], report.rows["squared_norm"], strict=True))
    for group, square in squares.items():
        np.testing.assert_allclose(norms[group], square, rtol=0.05)


def test_groups_by_a_function_of_the_path(with_context):
    model, x, c = with_context
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


def test_cost_and_efficiency(with_context):
    model, x, c = with_context
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


def test_same_key_same_figures_whatever_else_is_measured(with_context):
    model, x, c = with_context
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


def test_table_in_words(with_context):
    model, x, c = with_context
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
