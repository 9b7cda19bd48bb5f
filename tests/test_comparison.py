"""What the network buys: `VAE.compare`, held to closed forms and to scikit-learn."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import bernoulli, multivariate_normal
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.exceptions import NotFittedError
from sklearn.mixture import GaussianMixture

from aevb import VAE, Comparison, Gaussian
from aevb.comparison import BernoulliMixture, _log_normal, _of_numbers
from aevb.schema import Schema

QUICK = {"hidden": (8,), "epochs": 1, "random_state": 0, "verbose": False}
CLASSICAL = ["full Gaussian", "probabilistic PCA", "factor analysis", "Gaussian mixture"]


def linear_rows(n, d=4, seed=0):
    """Rows of a linear-Gaussian model, in units that differ by column."""
    rng = np.random.default_rng(seed)
    loadings = np.random.default_rng(9).normal(size=(2, d))
    X = rng.normal(size=(n, 2)) @ loadings + 0.5 * rng.normal(size=(n, d))
    return (X * 10.0 ** np.arange(d) + 3).astype(np.float32)


TRAIN, TEST = linear_rows(150), linear_rows(40, seed=1)


@pytest.fixture(scope="module")
def vae():
    return VAE(2, **QUICK).fit(TRAIN)


@pytest.fixture(scope="module")
def comparison(vae):
    return vae.compare(TEST, train=TRAIN, n_draws=50)


@pytest.fixture(autouse=True)
def few_components(monkeypatch):
    """Mixtures of few components, which are fitted soon."""
    monkeypatch.setattr("aevb.comparison.MOST_COMPONENTS", 3)


def scores(train, held_out, latent_dim=2):
    """Return log p(x) of each held-out row, by classical model."""
    scored = _of_numbers(Schema.fit(train, "gaussian").measured, train, held_out, latent_dim, 0)
    return {model: each for model, _, each in scored}


class TestGaussianModels:
    def test_full_gaussian_is_normal_with_the_shrunk_covariance_in_the_own_units(self):
        mean, scale = TRAIN.mean(axis=0, dtype=np.float64), TRAIN.std(axis=0, dtype=np.float64)
        shrunk = LedoitWolf().fit((TRAIN - mean) / scale)
        exact = multivariate_normal(mean, shrunk.covariance_ * np.outer(scale, scale))
        np.testing.assert_allclose(
            scores(TRAIN, TEST)["full Gaussian"], exact.logpdf(TEST), rtol=1e-6
        )

    def test_pca_is_that_of_scikit_learn(self):
        # Which divides by n - 1: rows that are as much larger have its covariance.
        scale, n = TRAIN.std(axis=0, dtype=np.float64), len(TRAIN)
        t, u = (np.asarray(X, np.float64) / scale for X in (TRAIN, TEST))
        t = t.mean(axis=0) + (t - t.mean(axis=0)) * math.sqrt((n - 1) / n)
        expected = PCA(2).fit(t).score_samples(u) - np.log(scale).sum()
        np.testing.assert_allclose(scores(TRAIN, TEST)["probabilistic PCA"], expected, rtol=1e-6)

    def test_factor_analysis_is_that_of_scikit_learn(self):
        scale = TRAIN.std(axis=0, dtype=np.float64)
        fit = FactorAnalysis(2, tol=1e-3, max_iter=5000, svd_method="lapack").fit(TRAIN / scale)
        expected = fit.score_samples(TEST / scale) - np.log(scale).sum()
        ours = scores(TRAIN, TEST)["factor analysis"]
        np.testing.assert_allclose(ours.mean(), expected.mean(), atol=0.02)

    def test_mixture_finds_three_groups(self):
        rng = np.random.default_rng(0)
        centres = np.array([[0, 0], [20, 0], [0, 20.0]])
        train, test = (
            centres[rng.integers(3, size=n)] + rng.normal(size=(n, 2)) for n in (200, 50)
        )
        measured = Schema.fit(train, "gaussian").measured
        (_, setting, each) = _of_numbers(measured, train, test, 1, 0)[-1]
        assert setting.startswith("3 components")
        exact = GaussianMixture(3, random_state=0).fit(train).score_samples(test)
        np.testing.assert_allclose(each.mean(), exact.mean(), atol=0.05)

    def test_another_unit_shifts_every_row_by_the_jacobian(self):
        one, other = scores(TRAIN, TEST), scores(TRAIN * 8.0, TEST * 8.0)
        for model in CLASSICAL:
            np.testing.assert_allclose(other[model], one[model] - 4 * math.log(8), atol=1e-6)

    @pytest.mark.parametrize("latent_dim", [1, 2, 5])
    @pytest.mark.parametrize("shape", [(30, 1), (5, 8), (30, 3)], ids=str)
    def test_any_shape_has_finite_scores(self, shape, latent_dim):
        train, test = linear_rows(shape[0], shape[1]), linear_rows(6, shape[1], seed=1)
        for model, each in scores(train, test, latent_dim).items():
            assert np.isfinite(each).all(), model

    def test_a_copied_column_gains_no_unbounded_density(self):
        train, test = (np.c_[X, 2 * X[:, :1]] for X in (TRAIN, TEST))
        most = 5 * (9 - 0.5 * math.log(2 * math.pi))  # nats, where all columns are at e⁻⁹
        units = np.log(train.std(axis=0, dtype=np.float64)).sum()
        for model, each in scores(train, test).items():
            assert np.isfinite(each).all(), model
            assert (each < most - units).all(), model

    def test_no_variance_is_below_the_floor(self):
        covariance = np.diag([1.0, 0.0])
        exact = multivariate_normal(np.zeros(2), np.diag([1.0, 0.01**2]), allow_singular=True)
        rows = np.array([[0.3, 0.001], [1.0, 0.0]])
        np.testing.assert_allclose(
            _log_normal(rows, np.zeros(2), covariance, 0.01), exact.logpdf(rows), rtol=1e-6
        )


class TestTheTable:
    def test_the_own_row_is_the_log_likelihood(self, vae, comparison):
        own = vae.log_likelihood(TEST, n_draws=50).astype(np.float64)
        assert comparison.rows["model"] == [*CLASSICAL, "VAE"]
        assert comparison.rows["log_likelihood"][-1] == own.mean()
        assert comparison.rows["standard_error"][-1] == own.std(ddof=1) / math.sqrt(40)
        assert comparison.rows["difference"][-1] == comparison.rows["difference_se"][-1] == 0
        assert comparison.rows["computed"] == ["exactly"] * 4 + ["by 50 draws"]

    def test_differences_are_paired(self, vae, comparison):
        own = vae.log_likelihood(TEST, n_draws=50).astype(np.float64)
        for j, (model, each) in enumerate(list(scores(TRAIN, TEST).items())[:3]):
            found = {column: values[j] for column, values in comparison.rows.items()}
            assert found["model"] == model
            np.testing.assert_allclose(found["log_likelihood"], each.mean(), rtol=1e-6)
            np.testing.assert_allclose(found["difference"], (each - own).mean(), rtol=1e-5)
            error = (each - own).std(ddof=1) / math.sqrt(40)
            np.testing.assert_allclose(found["difference_se"], error, rtol=1e-5)

    def test_is_a_data_frame(self, comparison):
        table = pd.DataFrame(comparison.rows)
        assert table.shape == (5, 7)
        assert (comparison.n_rows, comparison.n_train) == (40, 150)

    def test_prints_a_line_per_model_and_the_conclusion(self, comparison):
        lines = str(comparison).splitlines()
        assert lines[0].startswith("Mean log p(x) of 40 held-out rows")
        assert [line.split("  ")[0] for line in lines[2:7]] == comparison.rows["model"]
        assert comparison.conclusion in " ".join(lines)
        assert repr(comparison) == str(comparison)
        assert max(map(len, lines)) <= 100

    @pytest.mark.parametrize(
        ("lead", "says"),
        [
            (1.0, "The factor analysis describes these rows better than the VAE, by 1.00 ± 0.20"),
            (-1.0, "The VAE describes these rows better than the best of the others"),
            (0.3, "do not tell the VAE from the best of the others, the factor analysis"),
        ],
    )
    def test_concludes_by_two_standard_errors(self, lead, says):
        rows = {
            "model": ["full Gaussian", "factor analysis", "VAE"],
            "setting": ["", "2 factors", ""],
            "log_likelihood": [-9.0, lead, 0.0],
            "standard_error": [0.1, 0.1, 0.1],
            "difference": [-9.0, lead, 0.0],
            "difference_se": [0.2, 0.2, 0.0],
            "computed": ["exactly", "exactly", "by 5 draws"],
        }
        assert says in Comparison(rows, 40, 100, []).conclusion

    def test_the_seed_decides(self, vae, comparison):
        assert vae.compare(TEST, train=TRAIN, n_draws=50, random_state=0) == comparison

    def test_reads_what_was_fitted_not_the_parameters(self, vae, comparison):
        vae.set_params(latent_dim=3)
        try:
            assert vae.compare(TEST, train=TRAIN, n_draws=50) == comparison
        finally:
            vae.set_params(latent_dim=2)


def test_a_poor_vae_is_told_so():
    vae = VAE(1, init="random", **QUICK).fit(TRAIN)
    comparison = vae.compare(TEST, train=TRAIN, n_draws=50)
    assert "better than the VAE, by" in comparison.conclusion
    assert max(comparison.rows["difference"]) > 0


@pytest.mark.slow
def test_a_good_vae_is_told_so():
    # Zeros and ones of four latent dimensions, which take a mixture many components.
    rng = np.random.default_rng(0)
    loadings = 2 * rng.normal(size=(4, 40))
    logits = rng.normal(size=(700, 4)) @ loadings
    X = (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    vae = VAE(4, hidden=(20,), epochs=20, random_state=0, verbose=False).fit(X[:600])
    comparison = vae.compare(X[600:], train=X[:600], n_draws=100)
    assert comparison.conclusion.startswith("The VAE describes these rows better"), comparison
    assert "the Bernoulli mixture" in comparison.conclusion


class TestConstantColumns:
    train, test = (np.c_[X[:, :2], np.full(len(X), 7.0, np.float32)] for X in (TRAIN, TEST))

    def test_are_an_event_for_all_models(self):
        whole, part = scores(self.train, self.test), scores(self.train[:, :2], self.test[:, :2])
        for model in CLASSICAL:
            np.testing.assert_allclose(whole[model], part[model] + math.log(151 / 152), atol=1e-6)
        self.test[0, 2] = 8.0
        other = scores(self.train, self.test)["full Gaussian"]
        self.test[0, 2] = 7.0
        np.testing.assert_allclose(
            (other - whole["full Gaussian"])[:2], [-math.log(151), 0], atol=1e-9
        )

    def test_are_said(self):
        vae = VAE(1, **QUICK).fit(self.train)
        comparison = vae.compare(self.test, train=self.train, n_draws=5)
        assert "1 column did not vary in training" in " ".join(comparison.remarks)
        rows = self.test.copy()
        rows[:, 2] = 8.0  # costs all models the same
        other = vae.compare(rows, train=self.train, n_draws=5)
        change = np.subtract(other.rows["log_likelihood"], comparison.rows["log_likelihood"])
        np.testing.assert_allclose(change, -math.log(151), atol=0.2)  # the draws are others
        np.testing.assert_allclose(change[:-1], -math.log(151), atol=1e-9)

    def test_alone_are_refused(self):
        measured = Schema.fit(self.train[:, 2:], "gaussian").measured
        with pytest.raises(ValueError, match="Expected a model of columns that vary"):
            _of_numbers(measured, self.train[:, 2:], self.test[:, 2:], 1, 0)


class TestBits:
    train = (np.random.default_rng(0).random((120, 6)) < 0.3).astype(np.float32)
    test = (np.random.default_rng(1).random((30, 6)) < 0.3).astype(np.float32)

    def test_independent_columns_follow_laplace(self):
        vae = VAE(1, **QUICK).fit(self.train)
        comparison = vae.compare(self.test, train=self.train, n_draws=20)
        p = (self.train.sum(axis=0, dtype=float) + 1) / 122
        exact = bernoulli(p).logpmf(self.test).sum(axis=1)
        assert comparison.rows["model"] == ["independent columns", "Bernoulli mixture", "VAE"]
        np.testing.assert_allclose(comparison.rows["log_likelihood"][0], exact.mean(), rtol=1e-9)
        assert not any("Gray" in each for each in comparison.remarks)

    def test_gray_levels_are_no_likelihood(self):
        gray = [(255 * X * 0.5 + 255 * (X == 0)).astype(np.uint8) for X in (self.train, self.test)]
        vae = VAE(1, likelihood="bernoulli", **QUICK).fit(gray[0])
        comparison = vae.compare(gray[1], train=gray[0], n_draws=20)
        assert "Gray levels" in str(comparison)

    def test_mixture_is_a_distribution(self):
        rows = (np.indices((2,) * 4).reshape(4, -1).T).astype(float)
        mixture = BernoulliMixture.fit(self.train[:, :4], 3, np.random.RandomState(0))
        np.testing.assert_allclose(np.exp(mixture.score_samples(rows)).sum(), 1)

    def test_mixture_finds_two_groups(self):
        rng = np.random.default_rng(0)
        means = np.array([[0.9] * 5 + [0.1] * 5, [0.1] * 5 + [0.9] * 5])
        rows = (rng.random((600, 10)) < means[rng.integers(2, size=600)]).astype(float)
        mixture = BernoulliMixture.fit(rows, 2, np.random.RandomState(0))
        order = np.argsort(-mixture.means[:, 0])
        np.testing.assert_allclose(mixture.means[order], means, atol=0.08)


class TestMistakes:
    def test_rows_of_the_fit_are_not_held_out(self, vae):
        with pytest.raises(
            ValueError, match="Expected held-out rows for `X`; got those of `train`"
        ):
            vae.compare(TRAIN, train=TRAIN)

    def test_some_rows_of_the_fit_are_said(self, vae):
        rows = np.concatenate([TRAIN[:3], TEST])
        comparison = vae.compare(rows, train=TRAIN, n_draws=5)
        assert "Of the 43 held-out rows, 3 are in `train` as well." in comparison.remarks

    def test_other_rows_than_those_of_the_fit_are_said(self, vae, comparison):
        other = vae.compare(TEST, train=linear_rows(150, seed=5), n_draws=5)
        assert "The VAE's scaling is that of 150 rows" in " ".join(other.remarks)
        assert len(comparison.remarks) == 1

    def test_a_column_that_no_longer_varies(self, vae):
        rows = TRAIN.copy()
        rows[:, 1] = 3.0
        with pytest.raises(ValueError, match=r"for `train`; got rows of which column 1"):
            vae.compare(TEST, train=rows)

    @pytest.mark.parametrize(
        ("X", "train", "says"),
        [
            (TEST[:1], TRAIN, "Expected two rows or more for `X`; got 1"),
            (TEST, TRAIN[:1], "Expected two rows or more for `train`; got 1"),
            (TEST[:, :3], TRAIN, "features"),
            (TEST, TRAIN[:, :3], "In `train`: .*features"),
            (TEST, np.full_like(TRAIN, np.nan), "In `train`: .*NaN"),
        ],
    )
    def test_rows_that_do_not_fit(self, vae, X, train, says):
        with pytest.raises(ValueError, match=says):
            vae.compare(X, train=train)

    def test_draws(self, vae):
        with pytest.raises(ValueError, match="for `n_draws`; got 0"):
            vae.compare(TEST, train=TRAIN, n_draws=0)

    def test_an_unfitted_estimator(self):
        with pytest.raises(NotFittedError):
            VAE().compare(TEST, train=TRAIN)

    def test_another_likelihood(self):
        vae = VAE(1, likelihood="laplace", **QUICK).fit(TRAIN)
        with pytest.raises(TypeError, match=r"likelihood Gaussian or Bernoulli; got Laplace\(\)"):
            vae.compare(TEST, train=TRAIN)


def test_takes_data_frames():
    train, test = (pd.DataFrame(X[:, :3], columns=["a", "b", "c"]) for X in (TRAIN, TEST))
    vae = VAE(1, likelihood=Gaussian("per-datapoint"), **QUICK).fit(train)
    comparison = vae.compare(test, train=train, n_draws=5)
    assert np.isfinite(comparison.rows["difference"]).all()


@pytest.mark.slow
def test_takes_images():
    images = np.random.default_rng(0).normal(size=(60, 2, 3))
    vae = VAE(1, **QUICK).fit(images[:40])
    comparison = vae.compare(images[40:], train=images[:40], n_draws=5)
    assert comparison.n_rows == 20
