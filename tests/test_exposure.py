"""Exposure: the means of counts are proportional to it, and the latents know nothing of it."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from scipy import sparse, stats

from aevb import VAE
from aevb.models.exposed import Context
from aevb.probability.blocks import Blocks
from aevb.probability.counts import NegativeBinomial, Poisson, ZeroInflated
from aevb.probability.distributions import Reshaped
from aevb.probability.exposure import at_exposure

rng = np.random.default_rng(0)
Z = rng.normal(size=(500, 1))
LIBRARY = np.exp(rng.normal(size=500))
COUNTS = rng.poisson(LIBRARY[:, None] * np.exp(Z @ rng.normal(size=(1, 10)) + 1)).astype(float)
COUNTS, Z, LIBRARY = (each[COUNTS.sum(axis=1) > 0] for each in (COUNTS, Z, LIBRARY))
SMALL = {"hidden": (8,), "epochs": 3, "random_state": 0, "verbose": False}
X = jnp.arange(6.0)
M, R = np.linspace(0.5, 4, 6), 3.0
LAWS = {
    "poisson": (Poisson(jnp.log(M)), stats.poisson(4 * M).logpmf(X)),
    "negative binomial": (
        NegativeBinomial(jnp.log(M), jnp.log(R)),
        stats.nbinom(R, R / (R + 4 * M)).logpmf(X),
    ),
    "more zeros": (
        ZeroInflated(Poisson(jnp.log(M)), jnp.array(0.0)),
        np.log(0.5 * (X == 0) + 0.5 * stats.poisson(4 * M).pmf(X)),
    ),
}


@pytest.mark.parametrize("name", LAWS)
def test_the_mean_is_multiplied_and_the_form_stays(name):
    law, exact = LAWS[name]
    scaled = at_exposure(law, 4.0)
    np.testing.assert_allclose(scaled.mean, 4 * law.mean, rtol=1e-6)
    np.testing.assert_allclose(scaled.log_prob(X), exact, rtol=1e-4, atol=1e-5)
    shaped = at_exposure(Reshaped(law.to_event(1), (2, 3)), 4.0)
    np.testing.assert_allclose(shaped.log_prob(X.reshape(2, 3)), exact.sum(), rtol=1e-5)


def test_blocks_without_counts_stay_as_they_are():
    parts = {"a": LAWS["poisson"][0].to_event(1), "b": dist.Normal(jnp.ones(2), 1.0).to_event(1)}
    scaled = at_exposure(Blocks(parts, dict), 2.0)
    np.testing.assert_allclose(scaled.parts["a"].mean, 2 * M, rtol=1e-6)
    assert scaled.parts["b"] is parts["b"]
    with pytest.raises(TypeError, match="Normal"):
        at_exposure(parts["b"], 2.0)


def test_of_independent_counts_the_likelihood_is_that_of_the_known_rates():
    """x_ij ~ Poisson(e_i r_j) has the maximum r_j = sum_i x_ij / sum_i e_i."""
    rates = np.array([0.5, 1.0, 3.0, 8.0])
    counts = np.random.default_rng(1).poisson(LIBRARY[:, None] * rates).astype(float)
    best = LIBRARY[:, None] * counts.sum(axis=0) / LIBRARY.sum()
    exact = stats.poisson(best).logpmf(counts).sum(axis=1).mean()
    vae = VAE(1, likelihood="poisson", **SMALL | {"epochs": 60}).fit(counts, exposure=LIBRARY)
    found = vae.log_likelihood(counts, exposure=LIBRARY).mean()
    assert abs(found - exact) < 0.03  # a latent fits a little noise
    without = VAE(1, likelihood="poisson", **SMALL | {"epochs": 60}).fit(counts)
    assert without.log_likelihood(counts).mean() < exact - 0.3


def test_the_latent_is_that_of_the_rates():
    vae = VAE(1, likelihood="poisson", **SMALL | {"epochs": 60}).fit(COUNTS, exposure=LIBRARY)
    codes = vae.transform(COUNTS, exposure=LIBRARY)[:, 0]
    seen = (COUNTS.sum(axis=1) > 20).nonzero()[0]  # of few counts there is little to say
    assert abs(np.corrcoef(codes[seen], Z[seen, 0])[0, 1]) > 0.95
    assert abs(np.corrcoef(codes[seen], np.log(LIBRARY[seen]))[0, 1]) < 0.2


def test_the_unit_of_exposure_does_not_matter():
    one, other = (
        VAE(2, likelihood="poisson", **SMALL).fit(COUNTS, exposure=unit * LIBRARY)
        for unit in (1, 1000)
    )
    assert np.isclose(other.exposure_.typical, 1000 * one.exposure_.typical)
    np.testing.assert_allclose(
        other.transform(COUNTS, exposure=1000 * LIBRARY),
        one.transform(COUNTS, exposure=LIBRARY),
        rtol=1e-3,
        atol=1e-4,
    )


def test_new_cases_have_the_exposure_asked_for():
    vae = VAE(2, **SMALL, likelihood="negative-binomial").fit(COUNTS, exposure="total")
    typical = np.exp(np.log(COUNTS.sum(axis=1)).mean())
    assert vae.exposure_.by_total and np.isclose(vae.exposure_.typical, typical)
    z = vae.transform(COUNTS[:4])
    decoded = vae.inverse_transform(z)
    np.testing.assert_allclose(
        vae.inverse_transform(z, exposure=[typical, 2 * typical, typical, 1]),
        decoded * np.array([1, 2, 1, 1 / typical])[:, None],
        rtol=1e-5,
    )
    assert vae.sample(exposure=np.full(7, typical)).shape == (7, 10)
    few, many = (vae.sample(400, 0, exposure=e).sum() for e in (1.0, 100.0))
    assert 60 * few < many < 150 * few
    given = vae.sample(50, 0, given={3: 0.0}, exposure=1000.0)
    assert (given[:, 3] == 0).all() and given.sum() > 50 * 100
    assert vae.model_.estimator == "B"
    law = vae.model_.likelihood(jnp.zeros(2), Context(None, jnp.array(3.0)))
    np.testing.assert_allclose(
        law.mean, 3 * vae.model_.inner.likelihood(jnp.zeros(2)).mean, rtol=1e-6
    )


FIXED = {"prior": dist.Gamma(2.0, 1.0), "posterior": "gamma"}


@pytest.mark.parametrize(
    "own", [{}, {"prior": "vamp"}, {"init": "random"}, FIXED], ids=["", "vamp", "random", "fixed"]
)
@pytest.mark.parametrize("condition", [None, np.arange(len(COUNTS)) % 2], ids=["", "condition"])
def test_all_predictions_know_it_and_a_file_keeps_it(tmp_path, own, condition):
    told = {"condition": condition, "exposure": LIBRARY}
    vae = VAE(2, **SMALL, **own, likelihood="poisson").fit(COUNTS, **told)
    vae.save(tmp_path / "model.aevb")
    other = VAE.load(tmp_path / "model.aevb")
    assert other.exposure_ == vae.exposure_
    some = {name: None if each is None else each[:20] for name, each in told.items()}
    for name in ("transform", "reconstruct", "elbo", "log_likelihood", "surprise"):
        one, again = (getattr(each, name)(COUNTS[:20], **some) for each in (vae, other))
        assert np.isfinite(one).all()
        np.testing.assert_array_equal(one, again)
    tenfold = vae.reconstruct(COUNTS[:20], **some | {"exposure": 10 * LIBRARY[:20]})
    assert not np.allclose(tenfold, vae.reconstruct(COUNTS[:20], **some))


def test_of_a_table_only_the_counts_have_it(tmp_path):
    table = pd.DataFrame(COUNTS[:, :4].astype(int), columns=list("abcd"))
    table["age"] = 40 + 5 * Z[:, 0]
    table["sex"] = pd.Categorical.from_codes(np.arange(len(Z)) % 2, ["f", "m"])
    table.loc[::9, "age"] = np.nan
    vae = VAE(2, **SMALL).fit(table, exposure=LIBRARY)
    one, many = (vae.sample(300, 0, mean=True, exposure=e) for e in (1.0, 50.0))
    assert many["a"].mean() > 30 * one["a"].mean()
    pd.testing.assert_frame_equal(one[["age", "sex"]], many[["age", "sex"]])
    filled = vae.impute(table, exposure=LIBRARY, n_draws=50)
    assert not filled.isna().any().any()
    vae.save(tmp_path / "model.aevb")
    again = VAE.load(tmp_path / "model.aevb").transform(table, exposure=LIBRARY)
    np.testing.assert_array_equal(again, vae.transform(table, exposure=LIBRARY))


def test_held_out_cases_have_their_own():
    vae = VAE(2, **SMALL, likelihood="poisson").fit(
        COUNTS[:400],
        exposure=LIBRARY[:400],
        validation_data=COUNTS[400:],
        validation_exposure=LIBRARY[400:],
    )
    assert np.isfinite(vae.history_["validation_elbo"]).all()
    again = VAE(2, **SMALL, likelihood="poisson").partial_fit(COUNTS, exposure=LIBRARY)
    assert again.partial_fit(COUNTS[:50], exposure=LIBRARY[:50]).n_epochs_ == 2
    weighted = VAE(2, **SMALL, likelihood="poisson")
    weight = np.arange(len(COUNTS)) % 2
    weighted.fit(COUNTS, exposure=LIBRARY, sample_weight=weight)
    assert weighted.schema_.n_rows == weight.sum()


ZERO = np.concatenate([COUNTS, np.zeros((1, 10))])
HOLES = np.where((np.arange(len(COUNTS)) == 4)[:, None] & (np.arange(10) > 3), np.nan, COUNTS)


@pytest.mark.parametrize(
    ("rows", "exposure", "named"),
    [
        (COUNTS, np.where(np.arange(len(COUNTS)) == 3, 0, LIBRARY), ["above zero", "0 in row 3"]),
        (COUNTS, -LIBRARY, ["above zero", "row 0"]),
        (COUNTS, np.full(len(COUNTS), np.nan), ["nan in row 0"]),
        (COUNTS, LIBRARY[:5], ["(5,)"]),
        (COUNTS, "sum", ["'total'", "'sum'"]),
        (ZERO, "total", ["total", f"{len(COUNTS)}"]),
        (sparse.csr_array(ZERO), "total", ["total", f"{len(COUNTS)}"]),
        (HOLES, "total", ["missing", "4"]),
        (COUNTS + 0.5, LIBRARY, ["whole numbers"]),
    ],
)
def test_a_bad_exposure_is_named_and_nothing_is_lost(rows, exposure, named):
    vae = VAE(2, **SMALL, likelihood="poisson")
    with pytest.raises(ValueError) as caught:
        vae.fit(rows, exposure=exposure)
    assert all(word in str(caught.value) for word in named), str(caught.value)
    assert not hasattr(vae, "model_")


def test_a_model_says_whether_it_needs_one():
    plain = VAE(2, **SMALL, likelihood="poisson").fit(COUNTS)
    exposed = VAE(2, **SMALL, likelihood="poisson").fit(COUNTS, exposure=LIBRARY)
    for call in (
        lambda: plain.transform(COUNTS, exposure=LIBRARY),
        lambda: plain.sample(3, exposure=2.0),
        lambda: exposed.transform(COUNTS),
        lambda: exposed.sample(3, exposure="total"),
        lambda: exposed.compare(COUNTS[:9], train=COUNTS),
        lambda: exposed.sample(3, exposure=[1.0, 2.0, 3.0], given={0: 1.0}),
    ):
        with pytest.raises(ValueError, match="xposure"):
            call()
    with pytest.raises(ValueError, match="Gaussian"):
        VAE(2, **SMALL, likelihood="gaussian").fit(COUNTS, exposure="total")
    assert jax.tree.leaves(exposed.model_)


def test_cases_are_fitted_and_mapped_in_one_call():
    options = SMALL | {"likelihood": "poisson"}
    one = VAE(2, **options).fit_transform(COUNTS, exposure=LIBRARY)
    other = VAE(2, **options).fit(COUNTS, exposure=LIBRARY).transform(COUNTS, exposure=LIBRARY)
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("told", "named"),
    [
        ({"exposure": np.tile(LIBRARY, 2), "sample_weight": np.arange(len(Z)) % 2}, "one number"),
        ({"exposure": np.ma.masked_array(LIBRARY, LIBRARY < 0.3)}, "nan"),
        ({"exposure": LIBRARY, "validation_exposure": LIBRARY}, "validation_data"),
    ],
    ids=["twice as many", "masked", "of no cases"],
)
def test_what_does_not_fit_is_refused(told, named):
    with pytest.raises(ValueError, match=named):
        VAE(2, **SMALL, likelihood="poisson").fit(COUNTS, **told)


def test_an_exposure_far_from_all_is_refused():
    vae = VAE(2, **SMALL, likelihood="poisson").fit(COUNTS, exposure=LIBRARY)
    with pytest.raises(ValueError, match="1e-60 in row 0"):
        vae.elbo(COUNTS, exposure=1e-60)


def test_a_column_that_was_empty_at_first_is_learned_later():
    rng = np.random.default_rng(0)
    first, later = rng.poisson(5, (60, 3)), rng.poisson([5, 5, 20], (60, 3))
    first[:, 2] = 0
    vae = VAE(2, **SMALL | {"learning_rate": 0.02, "likelihood": "poisson"}).partial_fit(first)
    for _ in range(150):
        vae.partial_fit(later)
    assert 10 < vae.reconstruct(later)[:, 2].mean() < 40
