"""What became of a fit: `VAE.diagnose`, and the warning at the end of `fit`."""

import copy
import math
import warnings

import jax
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from scipy.sparse import csr_array
from sklearn.exceptions import NotFittedError

from aevb import VAE, Diagnosis, Gaussian, predict
from aevb.diagnosis import doubts
from aevb.errors import FitWarning
from aevb.latents import INACTIVE
from aevb.models import Likelihood
from aevb.models.conditional import Conditional
from aevb.models.kinds.base import Location

QUICK = {"hidden": (8,), "epochs": 1, "random_state": 0, "verbose": False}
SCALE = 0.6  # above the noise, so that the factors alone are worth a latent


def linear_rows(n, seed=0, d=6):
    """Rows of two factors in all columns but the last, which is noise alone; noise of sd 0.5."""
    rng = np.random.default_rng(seed)
    loadings = np.random.default_rng(9).normal(size=(2, d))
    loadings[:, -1] = 0
    return (rng.normal(size=(n, 2)) @ loadings + 0.5 * rng.normal(size=(n, d))).astype(np.float32)


TRAIN, TEST = linear_rows(600), linear_rows(300, seed=1)
NOISE = np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32)


def lines(table):
    """Return the entries of a dict of lists, one dictionary each."""
    return [dict(zip(table, entry, strict=True)) for entry in zip(*table.values(), strict=True)]


def names(report):
    return [finding.name for finding in report.findings]


@pytest.fixture(scope="module")
def vae():
    """A linear VAE with four latents for two factors: probabilistic PCA of known noise."""
    options = {"likelihood": Gaussian(scale=SCALE), "random_state": 0, "verbose": False}
    return VAE(4, hidden=(), epochs=200, **options).fit(TRAIN)


@pytest.fixture(scope="module")
def blind():
    """A VAE whose KL costs twenty times as much, and what `fit` warned of."""
    model = VAE(2, hidden=(), epochs=500, random_state=0, verbose=False, kl_weight=20.0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(NOISE)
    return model, caught


@pytest.fixture(scope="module")
def report(vae):
    return vae.diagnose(TEST, train=TRAIN)


class TestTheBound:
    def test_is_reconstruction_minus_kl(self, report):
        assert report.elbo == pytest.approx(report.reconstruction - report.kl, abs=1e-12)
        for row in lines(report.rows):
            assert row["elbo"] == row["reconstruction"] - row["kl"]

    def test_is_that_of_elbo(self, vae, report):
        each = vae.elbo(TEST)
        assert report.elbo == pytest.approx(each.mean(), abs=0.01)  # by other draws
        error = each.std(ddof=1) / math.sqrt(len(each))
        assert report.standard_errors["elbo"] == pytest.approx(error, rel=0.01)

    def test_log_likelihood_is_the_estimators(self, vae):
        report = vae.diagnose(TEST[:20], n_draws=2000)
        assert report.log_likelihood == pytest.approx(
            vae.log_likelihood(TEST[:20], 2000).mean(), abs=0.01
        )

    def test_kl_is_the_closed_form(self, vae, report):
        q = vae.encode(TEST)
        mean, variance = np.asarray(q.mean, float), np.asarray(q.variance, float)
        kl = 0.5 * (variance + mean**2 - 1 - np.log(variance)).mean(axis=0)
        assert report.kl == pytest.approx(kl.sum(), rel=1e-5)
        by_dimension = dict(zip(report.latents["dimension"], report.latents["nats"], strict=True))
        np.testing.assert_allclose([by_dimension[j] for j in range(4)], kl, atol=1e-5)

    def test_columns_sum_to_the_reconstruction(self, report):
        assert sum(report.columns["nats"]) == pytest.approx(report.reconstruction, abs=1e-5)

    def test_reconstruction_is_the_closed_form(self, vae, report):
        # E_q log N(x; Wz + m, s²), with the linear decoder's own W, m and s.
        at = [vae.model_.likelihood(np.asarray(z, np.float32)) for z in [*np.eye(4), np.zeros(4)]]
        m, s = np.asarray(at[-1].mean, float), np.sqrt(np.asarray(at[-1].variance, float))
        W = np.stack([np.asarray(law.mean, float) - m for law in at[:-1]], axis=1)
        q = vae.encode(TEST)
        mean, variance = np.asarray(q.mean, float), np.asarray(q.variance, float)
        square = (TEST - mean @ W.T - m) ** 2 + variance @ (W**2).T
        nats = (-0.5 * square / s**2 - np.log(s) - 0.5 * math.log(2 * math.pi)).mean(axis=0)
        found = dict(zip(report.columns["column"], report.columns["nats"], strict=True))
        np.testing.assert_allclose([found[j] for j in range(6)], nats, atol=0.02)

    def test_rows_are_all_there_the_least_likely_first(self, report):
        assert sorted(report.rows["row"]) == list(range(len(TEST)))
        assert report.rows["elbo"] == sorted(report.rows["elbo"])
        assert report.elbo == pytest.approx(np.mean(report.rows["elbo"]), abs=1e-9)


class TestLatents:
    def test_as_many_are_active_as_there_are_factors(self, report):
        assert report.n_active == 2
        assert report.latents["inactive"] == [False, False, True, True]

    def test_carry_what_probabilistic_pca_says(self, vae):
        # A latent along an eigenvector of the covariance carries ½ log(λ/s²) if λ > s², else 0.
        eigenvalues = np.linalg.eigvalsh(np.cov(TRAIN.T, bias=True).astype(float))[::-1]
        nats = 0.5 * np.log(np.maximum(eigenvalues[:4] / SCALE**2, 1))
        assert (nats > 0).sum() == 2
        report = vae.diagnose(TRAIN)
        np.testing.assert_allclose(report.latents["nats"], nats, atol=0.03)
        share = np.maximum(1 - SCALE**2 / eigenvalues[:4], 0)
        np.testing.assert_allclose(report.latents["variance_of_mean"], share, atol=0.03)

    def test_are_ordered_by_the_nats_they_carry(self, report):
        nats = report.latents["nats"]
        assert nats == sorted(nats, reverse=True)
        assert nats[1] > 0.5 > INACTIVE > nats[2]

    def test_burdas_rule_is_the_variance_of_the_mean(self, vae, report):
        variance = vae.transform(TEST).var(axis=0, dtype=np.float64)
        for entry in lines(report.latents):
            own = variance[entry["dimension"]]
            assert entry["variance_of_mean"] == pytest.approx(own, rel=1e-5)
            assert entry["active"] == (own > 0.01)

    def test_collapse_is_found(self, report):
        (finding,) = [each for each in report.findings if each.name == "collapse"]
        assert "2 of 4 latent dimensions" in finding.what
        assert "latent_dim=2" in finding.advice

    def test_aggregate_has_the_moments_of_draws_of_q(self, vae, report):
        q = vae.encode(TEST)
        mean, variance = np.asarray(q.mean, float), np.asarray(q.variance, float)
        whole = mean.var(axis=0) + variance.mean(axis=0)
        for entry in lines(report.aggregate):
            j = entry["dimension"]
            assert entry["mean"] == pytest.approx(mean[:, j].mean(), abs=1e-5)
            assert entry["sd"] == pytest.approx(math.sqrt(whole[j]), rel=1e-5)
            assert (entry["prior_mean"], entry["prior_sd"]) == (0, 1)
            kl = 0.5 * (whole[j] + mean[:, j].mean() ** 2 - 1 - math.log(whole[j]))
            assert entry["kl"] == pytest.approx(kl, abs=1e-5)

    def test_aggregate_of_the_population_is_the_prior_and_of_others_is_not(self, vae, report):
        assert sum(report.aggregate["kl"]) < 0.05
        assert "aggregate posterior" not in names(report)
        moved = vae.diagnose(TEST + 3 * TEST.std(axis=0) * np.sign(TEST.mean()))
        assert sum(moved.aggregate["kl"]) > 1
        assert "aggregate posterior" in names(moved)

    def test_latents_that_are_priced_away_are_found(self, blind):
        report = blind[0].diagnose(NOISE)
        assert report.n_active == 0 and all(report.latents["inactive"])
        assert report.findings[0].name == "collapse"
        assert report.findings[0].what.startswith("All latent dimensions (2)")
        assert "columns" not in names(report)


class TestColumnsAndRows:
    def test_noise_is_explained_worst(self, report):
        assert report.columns["column"][0] == 5
        assert report.columns["explained"][0] < 0.1
        assert min(report.columns["explained"][1:]) > 0.3
        (finding,) = [each for each in report.findings if each.name == "columns"]
        assert "1 column of 6: 5" in finding.what

    def test_explained_is_the_r2_of_reconstruct(self, vae, report):
        made = vae.reconstruct(TEST).astype(float)
        error = ((TEST - made) ** 2).mean(axis=0)
        for entry in lines(report.columns):
            j = entry["column"]
            assert entry["squared_error"] == pytest.approx(error[j], rel=1e-4)
            share = 1 - error[j] / TEST[:, j].astype(float).var()
            assert entry["explained"] == pytest.approx(share, abs=1e-4)

    @pytest.mark.slow
    def test_a_large_mean_costs_no_digits(self):
        X = TEST.astype(float) + 1e4
        far = VAE(2, **QUICK).fit(X).diagnose(X)
        near = VAE(2, **QUICK).fit(TEST).diagnose(TEST)
        for one, other in ((far, near), (near, far)):
            found = dict(zip(other.columns["column"], other.columns["explained"], strict=True))
            for entry in lines(one.columns):
                assert entry["explained"] == pytest.approx(found[entry["column"]], abs=0.1)

    @pytest.mark.slow
    def test_categories_are_told_by_the_errors_of_guessing_the_most_frequent(self):
        rng = np.random.default_rng(0)
        town = rng.choice(["a", "b", "c"], size=120, p=[0.5, 0.3, 0.2])
        table = pd.DataFrame({"town": town, "size": rng.normal(size=120)})
        vae = VAE(2, **QUICK).fit(table)
        report = vae.diagnose(table)
        (entry,) = [each for each in lines(report.columns) if each["column"] == "town"]
        wrong = float((vae.reconstruct(table)["town"] != table["town"]).mean())
        assert entry["squared_error"] == pytest.approx(wrong)
        guess = 1 - float((table["town"] == "a").mean())
        assert entry["explained"] == pytest.approx(1 - wrong / guess)

    def test_a_planted_row_is_found(self, vae, report):
        assert "rows" not in names(report)
        X = TEST.copy()
        X[17, 2] += 30
        odd = vae.diagnose(X)
        assert odd.rows["row"][0] == 17
        (finding,) = [each for each in odd.findings if each.name == "rows"]
        assert "1 row is far less likely than the others: 17" in finding.what
        assert "17" in str(odd)

    def test_places_of_rows_survive_the_limit_of_rows(self, vae, monkeypatch):
        monkeypatch.setattr("aevb.diagnosis.measures.MOST_ROWS", 100)
        X = TEST.copy()
        X[66, 2] += 30
        report = vae.diagnose(X)
        assert report.n_rows == 100
        assert report.rows["row"][0] == 66
        assert set(report.rows["row"]) == set(range(0, 300, 3))
        assert any("every third" in remark for remark in report.remarks)


class TestGap:
    def test_is_that_of_the_bounds(self, vae, report):
        training, held_out = vae.elbo(TRAIN), vae.elbo(TEST)
        assert report.gap["held_out"] == report.elbo
        difference = float(training.mean() - held_out.mean())
        assert report.gap["difference"] == pytest.approx(difference, abs=0.02)
        errors = [each.std(ddof=1) / math.sqrt(len(each)) for each in (training, held_out)]
        assert report.gap["standard_error"] == pytest.approx(math.hypot(*errors), rel=0.02)
        assert "overfitting" not in names(report)

    @pytest.mark.slow
    def test_overfitting_of_few_rows_is_found(self):
        X = linear_rows(330, seed=3, d=12)
        few = VAE(4, hidden=(100,), epochs=300, batch_size=30, random_state=0, verbose=False)
        found = few.fit(X[:30]).diagnose(X[30:], train=X[:30])
        assert found.gap["difference"] > 3 * found.gap["standard_error"]
        assert "overfitting" in names(found)

    def test_is_told_by_the_history_without_training_rows(self):
        vae = VAE(2, **{**QUICK, "epochs": 3}, validation_fraction=0.2).fit(TRAIN)
        gap = vae.diagnose(TEST).gap
        assert gap["training"] == vae.history_["elbo"][2]
        assert gap["held_out"] == vae.history_["validation_elbo"][2]
        assert math.isnan(gap["standard_error"])

    def test_is_not_known_without_either(self, vae):
        report = vae.diagnose(TEST)
        assert report.gap is None and report.comparison is None
        assert any("`train`" in remark for remark in report.remarks)


class TestScalesAndGradient:
    @pytest.mark.slow
    def test_scales_at_their_floor_are_found(self):
        rng = np.random.default_rng(0)
        a = rng.normal(size=(400, 3))
        X = np.c_[a, 2 * a[:, :1] - 1, (rng.random(400) < 0.5)]
        vae = VAE(4, hidden=(), epochs=300, random_state=0, verbose=False, likelihood="gaussian")
        report = vae.fit(X).diagnose(X)
        assert {0, 3} & set(report.scales)
        assert 1 not in report.scales or 2 not in report.scales
        (finding,) = [each for each in report.findings if each.name == "scales at their floor"]
        assert "3 are linear functions" in finding.what or 3 not in report.scales

    def test_scales_above_their_floor_are_not(self):
        assert VAE(2, **QUICK).fit(TRAIN).diagnose(TEST).scales == []

    @pytest.mark.slow
    def test_a_fixed_scale_is_never_at_a_floor(self):
        vae = VAE(1, **QUICK, likelihood=Gaussian(scale=1e-4)).fit(TRAIN)
        assert vae.diagnose(TEST[:50]).scales == []

    def test_gradient_is_noise_at_the_optimum_and_more_elsewhere(self, report):
        start = VAE(4, hidden=(), epochs=1, random_state=0, verbose=False, init="random")
        early = start.fit(TRAIN).diagnose(TEST, train=TRAIN)
        assert {*early.gradient["rows"]} == {"training"}
        assert early.gradient["group"] == report.gradient["group"] == ["encoder", "decoder", "all"]
        assert report.gradient["snr"][-1] < 0.3 < 1 < early.gradient["snr"][-1]
        assert "unfinished" not in names(report)
        (finding,) = [each for each in early.findings if each.name == "unfinished"]
        assert "times its noise" in finding.what

    def test_groups_sum_to_all(self, report):
        for name, power in (("variance", 1), ("norm", 2)):
            *parts, whole = (value**power for value in report.gradient[name])
            assert sum(parts) == pytest.approx(whole, rel=0.2)

    def test_a_rising_bound_is_unfinished(self, vae):
        other = copy.copy(vae)
        other.history_, other.best_epoch_ = {"elbo": list(np.linspace(-30, -7, 20))}, 20
        (finding,) = [f for f in other.diagnose(TEST).findings if f.name == "unfinished"]
        assert "rose by 2.42 nats" in finding.what and "epochs than 20" in finding.advice


class TestComparison:
    def test_is_that_of_compare(self, vae, report):
        expected = vae.compare(TEST, train=TRAIN, n_draws=100)
        assert report.comparison.rows["model"] == expected.rows["model"]
        for name in ("log_likelihood", "standard_error", "difference", "difference_se"):
            np.testing.assert_allclose(
                report.comparison.rows[name], expected.rows[name], atol=0.02, err_msg=name
            )
        assert report.comparison.rows["log_likelihood"][:-1] == expected.rows["log_likelihood"][:-1]
        assert report.comparison.rows["log_likelihood"][-1] == report.log_likelihood

    def test_is_said_where_the_network_buys_nothing(self, report):
        (finding,) = [each for each in report.findings if each.name == "comparison"]
        assert "VAE" in finding.what and "nats per case" in finding.what
        assert str(report).count("The full Gaussian") <= 1

    @pytest.mark.quick(1)
    @pytest.mark.parametrize("case", ["condition", "holes", "table"])
    def test_is_left_out_with_a_reason(self, case):
        X, Y, options = TRAIN[:80].copy(), TEST[:40].copy(), {}
        reason = {"table": "one likelihood", "holes": "missing", "condition": "condition"}[case]
        told = {}
        if case == "table":
            X, Y = (pd.DataFrame({"a": x[:, 0], "b": x[:, 1] > 0}) for x in (X, Y))
        elif case == "holes":
            X[0, 0] = np.nan
        else:
            options["condition"] = np.arange(80) % 2
            told = {"condition": np.arange(40) % 2, "train_condition": np.arange(80) % 2}
        report = VAE(1, **QUICK).fit(X, **options).diagnose(Y, train=X, **told)
        assert report.comparison is None
        assert report.gap["training"] != report.gap["held_out"]
        assert any(reason in remark for remark in report.remarks)


def images(n, seed=0):
    gray = np.random.default_rng(seed).normal(0.5, 0.8, (n, 4, 4))
    return np.clip(gray, 0, 1).astype(np.float32)


def mixed(n, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=n)
    table = pd.DataFrame(
        {
            "size": np.where(rng.random(n) < 0.2, np.nan, z + rng.normal(size=n)),
            "children": rng.poisson(np.exp(z)),
            "town": rng.choice(["Bonn", "Ulm", "Köln"], n),
            "level": pd.Categorical.from_codes(rng.integers(3, size=n), list("abc"), ordered=True),
            "owner": z > 0,
        }
    )
    return table.astype({"children": "Int64"})


COUNTS = np.random.default_rng(0).poisson(3.0, (80, 5))
CASES = {
    "rows": (TRAIN[:80], {}, {}),
    "condition": (TRAIN[:80], {}, {"condition": np.arange(80) % 2}),
    "images": (images(80), {}, {}),
    "bytes": ((images(80) * 255).astype(np.uint8), {}, {}),
    "mixed table with holes": (mixed(80), {}, {}),
    "holes": (np.where(np.arange(480).reshape(80, 6) % 7, TRAIN[:80], np.nan), {}, {}),
    "sparse": (csr_array(COUNTS), {}, {}),
    "exposure": (COUNTS, {"likelihood": "poisson"}, {"exposure": "total"}),
    "flow": (TRAIN[:80], {"posterior": "iaf"}, {}),
    "mixture": (TRAIN[:80], {"prior": "mixture"}, {}),
    "flow prior": (TRAIN[:80], {"prior": "flow"}, {}),
    "cauchy": (TRAIN[:80], {"posterior": "cauchy"}, {}),
    "gamma": (TRAIN[:80], {"prior": dist.Gamma(2, 1), "posterior": "gamma"}, {}),
    "student": (TRAIN[:80], {"likelihood": "student-t"}, {}),
    "per-datapoint": (TRAIN[:80], {"likelihood": Gaussian("per-datapoint")}, {}),
}


@pytest.mark.quick(2)
@pytest.mark.parametrize("name", CASES)
class TestTheContract:
    def test_whatever_is_fitted_is_diagnosed(self, name):
        X, options, told = CASES[name]
        vae = VAE(2, **QUICK, **options).fit(X, **told)
        known = {} if "exposure" in told else told
        report = vae.diagnose(X, **known)
        assert isinstance(report, Diagnosis)
        n_columns = X.size // len(X) if isinstance(X, np.ndarray) else X.shape[1]
        for table, length in {
            "latents": 2,
            "aggregate": 2,
            "columns": n_columns,
            "rows": 80,
        }.items():
            frame = pd.DataFrame(getattr(report, table))
            assert len(frame) == length, table
        assert np.isfinite([report.elbo, report.reconstruction, report.kl]).all()
        assert report.elbo == pytest.approx(report.reconstruction - report.kl)
        assert sum(report.columns["nats"]) == pytest.approx(report.reconstruction, rel=1e-4)
        assert report.elbo == pytest.approx(vae.elbo(X, **known).mean(), abs=1.0)
        assert "ELBO" in str(report) and max(map(len, str(report).splitlines())) < 100
        assert "array(" not in str(report) and "float" not in str(report)
        again = vae.diagnose(X, **known)
        assert str(again) == str(report)


class TestWhatIsNotKnown:
    @pytest.mark.slow
    def test_nats_of_latents_under_a_flow(self):
        X, options, _ = CASES["flow"]
        report = VAE(2, **QUICK, **options).fit(X).diagnose(X)
        assert np.isnan(report.latents["nats"]).all()
        assert report.latents["inactive"] == [None, None]
        assert np.isfinite(report.latents["variance_of_mean"]).all()
        assert "collapse" not in names(report)

    @pytest.mark.slow
    def test_kl_of_the_aggregate_from_a_prior_that_is_not_normal(self):
        X, options, _ = CASES["mixture"]
        report = VAE(2, **QUICK, **options).fit(X).diagnose(X)
        assert np.isnan(report.aggregate["kl"]).all()
        assert np.isfinite(report.aggregate["prior_sd"]).all()

    @pytest.mark.slow
    def test_columns_are_named_as_the_data_are(self):
        table = mixed(80)
        assert {*VAE(2, **QUICK).fit(table).diagnose(table).columns["column"]} == {*table}
        X = images(40)
        assert (3, 3) in VAE(2, **QUICK).fit(X).diagnose(X).columns["column"]

    @pytest.mark.slow
    def test_gray_levels_are_said_to_be_no_likelihood(self):
        X = images(40)
        assert any("binarised" in r for r in VAE(2, **QUICK).fit(X).diagnose(X).remarks)
        bits = (X > 0.5).astype(np.float32)
        assert not any("binarised" in r for r in VAE(2, **QUICK).fit(bits).diagnose(bits).remarks)


class Correlated(Likelihood):
    """Normal, with a covariance that is not diagonal: entries depend on each other given z."""

    name = "correlated"
    kind = "real"

    def build(self, features, shape, constants, *, key):
        return CorrelatedHead(Location(features, shape[0], constants.start, key=key))


class CorrelatedHead(Conditional):
    location: Location

    def __call__(self, *given):
        mean = self.location(*given)
        d = len(mean)
        return dist.MultivariateNormal(mean, 0.5 * (np.eye(d) + np.ones((d, d))))


class TestDependentEntries:
    def test_nats_of_columns_are_not_known(self):
        vae = VAE(2, **QUICK, likelihood=Correlated()).fit(TRAIN[:80])
        report = vae.diagnose(TEST[:40], train=TRAIN[:80])
        assert np.isnan(report.columns["nats"]).all() and report.scales == []
        assert np.isfinite(report.columns["explained"]).all()
        assert any("Nats of columns are not known" in remark for remark in report.remarks)
        assert any("likelihood" in remark for remark in report.remarks[1:])
        assert str(report)


def test_a_loaded_model_has_the_same_diagnosis(vae, report, tmp_path):
    vae.save(tmp_path / "model.aevb")
    again = VAE.load(tmp_path / "model.aevb").diagnose(TEST, train=TRAIN)
    assert str(again) == str(report)


class TestMistakes:
    def test_rows_of_the_training(self, vae):
        with pytest.raises(ValueError, match="Expected held-out rows for `X`"):
            vae.diagnose(TRAIN, train=TRAIN.copy())

    def test_training_rows_of_another_shape(self, vae):
        with pytest.raises(ValueError, match="In `train`: "):
            vae.diagnose(TEST, train=TRAIN[:, :3])

    def test_a_condition_of_nothing(self, vae):
        with pytest.raises(ValueError, match="Expected `train`"):
            vae.diagnose(TEST, train_condition=np.zeros(3))

    def test_draws(self, vae):
        with pytest.raises(ValueError, match="`n_draws`"):
            vae.diagnose(TEST, n_draws=0)

    def test_not_fitted(self):
        with pytest.raises(NotFittedError):
            VAE().diagnose(TEST)


class TestElboTerms:
    def test_one_draw(self, vae):
        key = jax.random.key(0)
        terms = predict.elbo_terms(vae.model_, TEST[:5], key, n_draws=1)
        assert terms.entries.shape == (5, 6)
        np.testing.assert_allclose(terms.entries.sum(axis=1), terms.reconstruction, rtol=1e-4)

    def test_are_the_terms_of_elbo_by_the_same_draws(self, vae):
        key = jax.random.key(3)
        terms = predict.elbo_terms(vae.model_, TEST[:20], key, n_draws=4)
        bound = predict.elbo(vae.model_, TEST[:20], key, n_draws=4)
        np.testing.assert_allclose(terms.reconstruction - terms.kl, bound, atol=1e-4)


ALIVE = np.array([1.0, 0.5])


class TestDoubts:
    def test_collapse_of_all_latents(self):
        assert "All 2 latent dimensions are inactive" in doubts(np.zeros(2), 5, {}, 1000)
        assert "The latent dimension is inactive" in doubts(np.zeros(1), 5, {}, 1000)

    def test_collapse_of_most_latents(self):
        said = doubts(np.array([1.0, 0.0, 0.0, 0.0]), 9, {}, 1000)
        assert "3 are inactive" in said and "`latent_dim`" in said and "`free_bits`" in said

    def test_half_of_them_may_be_inactive(self):
        assert doubts(np.array([1.0, 0.5, 0.0, 0.0]), 9, {}, 1000) is None

    def test_latents_beyond_the_columns_do_not_count(self):
        assert doubts(np.array([1.0, 0.5] + 18 * [0.0]), 4, {}, 1000) is None

    def test_few_steps_are_not_judged(self):
        assert doubts(np.zeros(2), 5, {}, 999) is None

    def test_nothing_is_known_under_a_flow(self):
        assert doubts(np.full(2, np.nan), 5, {}, 1000) is None

    @staticmethod
    def history(bounds, training=None, bound="elbo"):
        n = len(bounds)
        training = np.linspace(-9, -3, n) if training is None else training
        return {bound: [*training], f"validation_{bound}": [*bounds], "kl": [2.0] * n}

    def test_a_fall_of_the_held_out_bound(self):
        rise_and_fall = [*np.linspace(-10, -5, 20), *np.linspace(-5, -9, 30)]
        said = doubts(ALIVE, 5, self.history(rise_and_fall), 5000)
        assert "fallen by 3." in said and "epoch 20" in said and "`patience=10`" in said

    def test_the_importance_weighted_bound_counts_where_there_is_one(self):
        fall = [*np.linspace(-10, -5, 20), *np.linspace(-5, -9, 30)]
        history = self.history(fall) | self.history(np.linspace(-9, -4, 50), bound="iw_bound")
        assert doubts(ALIVE, 5, history, 5000) is None
        history = self.history(np.linspace(-9, -4, 50)) | self.history(fall, bound="iw_bound")
        assert "overfits" in doubts(ALIVE, 5, history, 5000)

    def test_a_bound_that_falls_for_all_cases(self):
        """As where something else than the bound is maximised."""
        fall = [*np.linspace(-10, -5, 20), *np.linspace(-5, -9, 30)]
        assert doubts(ALIVE, 5, self.history(fall, training=fall), 5000) is None

    def test_the_best_epoch_is_kept(self):
        steep = [*np.linspace(-10, -9, 20), -2.0]
        assert doubts(ALIVE, 5, self.history(steep), 5000) is None

    def test_a_wavering_bound(self):
        rng = np.random.default_rng(0)
        wavering = -5 + 0.3 * rng.normal(size=50)
        assert doubts(ALIVE, 5, self.history(wavering), 5000) is None

    def test_a_fall_of_little(self):
        little = [*np.linspace(-10, -5, 20), *np.linspace(-5, -5.15, 30)]
        assert doubts(ALIVE, 5, self.history(little), 5000) is None

    def test_both_are_one_text(self):
        fall = [*np.linspace(-10, -5, 20), *np.linspace(-5, -9, 30)]
        said = doubts(np.zeros(2), 5, self.history(fall), 5000)
        assert "inactive" in said and "overfits" in said


class TestTheWarning:
    def test_of_collapse_comes_once(self, blind):
        (warning,) = blind[1]
        assert warning.category is FitWarning
        assert warning.filename == __file__
        assert "All 2 latent dimensions are inactive" in str(warning.message)

    @pytest.mark.slow
    def test_of_overfitting(self):
        X = linear_rows(90, seed=3, d=12)
        vae = VAE(4, hidden=(100,), epochs=500, batch_size=30, random_state=0, verbose=False)
        vae.set_params(learning_rate=1e-2)
        with pytest.warns(FitWarning, match="overfits"):
            vae.fit(X[:60], validation_data=X[60:])

    @pytest.mark.slow
    def test_not_of_overfitting_where_the_best_epoch_is_kept(self):
        X = linear_rows(90, seed=3, d=12)
        options = {"batch_size": 1, "random_state": 0, "verbose": False, "learning_rate": 1e-2}
        vae = VAE(4, hidden=(100,), epochs=100, patience=15, **options)
        vae.fit(X[:60], validation_data=X[60:])  # warnings are errors
        assert vae.best_epoch_ < vae.n_epochs_ and vae.n_epochs_ * 60 >= 1000

    @pytest.mark.slow
    def test_of_neither_where_all_is_well(self):
        vae = VAE(2, hidden=(8,), epochs=200, random_state=0, verbose=False)
        vae.fit(TRAIN, validation_data=TEST)  # warnings are errors

    @pytest.mark.slow
    def test_not_of_partial_fit(self):
        vae = VAE(2, hidden=(), epochs=1, random_state=0, verbose=False, batch_size=1)
        vae.set_params(kl_weight=50.0)
        for _ in range(6):  # 1200 steps
            vae.partial_fit(NOISE)
        assert (vae.explained_nats_ < INACTIVE).all()
