"""The outlier detector keeps scikit-learn's contract, and finds what was planted."""

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.datasets import load_wine
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from aevb import VAE, OutlierDetector

SMALL = {"hidden": (16,), "random_state": 0, "verbose": False}
WINE = load_wine(as_frame=True).data


@parametrize_with_checks([OutlierDetector(VAE(hidden=(16,), epochs=2, random_state=0))])
def test_keeps_scikit_learns_contract(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def detector():
    return OutlierDetector(VAE(3, epochs=100, **SMALL), contamination=0.05).fit(WINE)


def test_the_share_of_outliers_is_that_asked_for(detector):
    found = detector.predict(WINE) == -1
    assert found.sum() == round(0.05 * len(WINE))
    np.testing.assert_array_equal(found, detector.decision_function(WINE) < 0)
    np.testing.assert_array_equal(
        detector.score_samples(WINE) - detector.offset_, detector.decision_function(WINE)
    )
    assert list(detector.feature_names_in_) == list(WINE.columns)


def test_the_wrong_cell_is_found(detector):
    spoilt = WINE.iloc[20:40].copy()
    spoilt.iloc[3, 2] *= 4  # ash
    spoilt.iloc[9, 12] /= 10  # proline
    assert (detector.predict(spoilt)[[3, 9]] == -1).all()
    nats = detector.surprise(spoilt)
    assert nats.shape == spoilt.shape
    assert nats[3].argmax() == 2 and nats[9].argmax() == 12
    assert abs(np.median(detector.surprise(WINE))) < 0.5


@pytest.mark.slow
def test_tables_with_holes_and_sparse_counts_are_judged_as_well():
    table = WINE.assign(kind=np.where(WINE["hue"] > 1, "a", "b"))
    table.iloc[::7, 1] = np.nan
    found = OutlierDetector(VAE(2, epochs=5, **SMALL)).fit(table)
    nats = found.surprise(table)
    assert np.isnan(nats[::7, 1]).all() and np.isfinite(nats[1]).all()
    counts = sparse.csr_array(np.random.default_rng(0).poisson(1.0, size=(60, 5)))
    assert set(OutlierDetector(VAE(2, epochs=5, **SMALL)).fit(counts).predict(counts)) == {1, -1}


@pytest.mark.slow
def test_it_is_copied_searched_and_pickled(detector):
    own = VAE(2, epochs=2, **SMALL)
    fitted = OutlierDetector(own).fit(WINE)
    assert not hasattr(own, "model_") and fitted.vae_ is not own
    again = pickle.loads(pickle.dumps(detector))
    np.testing.assert_array_equal(again.predict(WINE), detector.predict(WINE))
    pipeline = make_pipeline(StandardScaler(), OutlierDetector(VAE(2, epochs=2, **SMALL)))
    assert set(pipeline.fit_predict(WINE.to_numpy())) == {1, -1}
    search = GridSearchCV(
        OutlierDetector(own), {"vae__latent_dim": [1, 2]}, cv=2, scoring=_mean_score
    )
    assert search.fit(WINE).best_params_["vae__latent_dim"] in (1, 2)


def _mean_score(detector, X, y=None):
    return detector.score_samples(X).mean()


@pytest.mark.slow
def test_the_default_model_has_ten_latents():
    assert OutlierDetector().vae is None
    short = pd.DataFrame(np.random.default_rng(0).normal(size=(10, 3)), columns=list("abc"))
    assert OutlierDetector().fit(short).vae_.latent_dim == 10


@pytest.mark.parametrize(
    ("parameters", "error", "named"),
    [
        ({"contamination": 0}, ValueError, "contamination"),
        ({"contamination": 0.6}, ValueError, "at most 0.5"),
        ({"contamination": "auto"}, TypeError, "'auto'"),
        ({"vae": "VAE"}, TypeError, "got str"),
    ],
)
def test_bad_parameters_are_named(parameters, error, named):
    with pytest.raises(error, match=named):
        OutlierDetector(**parameters).fit(WINE)
