"""`VAE` as scikit-learn's users know an estimator, and its numbers."""

import pickle

import jax
import joblib
import numpy as np
import optax
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator, parametrize_with_checks

from aevb import VAE, Bernoulli, Gaussian, datasets
from aevb.config import Config

DIGITS = datasets.load_digits()
IMAGES = (255 * DIGITS.train.images[:200]).astype(np.uint8)
TABLE = (np.random.default_rng(0).normal(size=(200, 4)) * [1, 2, 3, 4]).astype(np.float32)
SMALL = {"hidden": (8,), "epochs": 3, "random_state": 0}


@pytest.fixture(scope="module")
def on_images():
    return VAE(2, **SMALL).fit(IMAGES)


@pytest.fixture(scope="module")
def on_table():
    return VAE(2, **SMALL).fit(TABLE)


def fitted_again(X, **options):
    return VAE(2, **{**SMALL, **options}).fit(X)


# scikit-learn's contract.


NOT_EQUAL = {
    f"check_sample_weight_equivalence_on_{kind}_data": "the objective is the same, but each row "
    "has draws of its own, in minibatches of its own: see tests/test_weights.py"
    for kind in ("dense", "sparse")
}


@parametrize_with_checks(
    [VAE(hidden=(16,), epochs=2)], expected_failed_checks=lambda estimator: NOT_EQUAL
)
def test_keeps_scikit_learns_contract(estimator, check):
    check(estimator)


# Those of scikit-learn's checks whose data are special, or which use all of the estimator. Each
# makes 500 epochs, or several times that, with the defaults.
TELLING = {
    "check_dict_unchanged",
    "check_estimators_dtypes",
    "check_estimators_overwrite_params",
    "check_estimators_pickle",
    "check_fit2d_1feature",
    "check_fit2d_1sample",
    "check_methods_subset_invariance",
    "check_pipeline_consistency",
    "check_transformer_general",
}


@pytest.mark.slow
def test_keeps_scikit_learns_contract_with_its_defaults():
    tried = set()
    for estimator, check in estimator_checks_generator(VAE()):
        name = getattr(check, "func", check).__name__
        if name in TELLING:
            tried.add(name)
            check(estimator)
    assert tried == TELLING


def test_works_in_a_pipeline():
    pipeline = make_pipeline(StandardScaler(), VAE(2, **SMALL))
    Z = pipeline.fit_transform(TABLE)
    assert Z.shape == (200, 2)
    np.testing.assert_array_equal(pipeline.transform(TABLE), Z)
    assert np.isfinite(pipeline.score(TABLE))
    back = pipeline.inverse_transform(Z)
    assert back.shape == TABLE.shape
    assert (abs(back.mean(axis=0) - TABLE.mean(axis=0)) < TABLE.std(axis=0)).all()


@pytest.mark.slow
def test_works_in_a_grid_search():
    search = GridSearchCV(VAE(**SMALL), {"latent_dim": [1, 2]}, cv=2, error_score="raise")
    search.fit(TABLE)
    assert search.best_params_["latent_dim"] in (1, 2)
    scores = search.cv_results_["mean_test_score"]
    assert np.isfinite(scores).all()
    assert search.best_score_ == scores.max()
    assert search.transform(TABLE).shape == (200, search.best_params_["latent_dim"])


def test_gives_pandas_tables_on_request():
    frame = pd.DataFrame(TABLE, columns=list("abcd"), index=np.arange(200) + 7)
    vae = VAE(2, **SMALL).set_output(transform="pandas").fit(frame)
    Z = vae.transform(frame)
    assert list(Z.columns) == ["vae0", "vae1"] == list(vae.get_feature_names_out())
    assert (Z.index == frame.index).all()
    assert list(vae.feature_names_in_) == list("abcd")
    assert VAE(2, **SMALL).set_output(transform="pandas").fit_transform(frame).equals(Z)


def test_clones_have_the_parameters_and_nothing_learned(on_table):
    vae = VAE(3, likelihood=Gaussian(0.5), hidden=[4, 3], callbacks=[print], **{"epochs": 7})
    for original in (vae, on_table):
        copy = clone(original)
        assert copy.get_params()["likelihood"] == original.likelihood
        assert copy.get_params().keys() == original.get_params().keys()
        assert not [name for name in vars(copy) if name.endswith("_")]
        with pytest.raises(NotFittedError):
            copy.transform(TABLE)


def through_pickle(vae, path):
    return pickle.loads(pickle.dumps(vae))


def through_joblib(vae, path):
    joblib.dump(vae, path / "vae.joblib")
    return joblib.load(path / "vae.joblib")


@pytest.mark.parametrize("travel", [through_pickle, through_joblib])
def test_survives_being_stored(travel, on_images, tmp_path):
    before = clone(on_images).fit(IMAGES)
    after = travel(before, tmp_path)
    np.testing.assert_array_equal(after.transform(IMAGES), before.transform(IMAGES))
    np.testing.assert_array_equal(after.elbo(IMAGES), before.elbo(IMAGES))
    one, other = (vae.partial_fit(IMAGES).transform(IMAGES) for vae in (before, after))
    np.testing.assert_array_equal(one, other)


def test_the_labels_are_ignored(on_images):
    with_labels = VAE(2, **SMALL).fit(IMAGES, DIGITS.train.labels[:200])
    np.testing.assert_array_equal(with_labels.transform(IMAGES), on_images.transform(IMAGES))


def test_learns_what_is_documented(on_images, on_table):
    assert on_images.feature_shape_ == (8, 8)
    assert on_images.n_features_in_ == 64
    assert isinstance(on_images.likelihood_, Bernoulli)
    assert isinstance(on_table.likelihood_, Gaussian)
    assert on_table.feature_shape_ == (4,)
    assert on_images.n_epochs_ == 3
    assert not hasattr(on_images, "feature_names_in_")
    frame = pd.DataFrame(on_images.history_)
    assert list(frame["epoch"]) == [1, 2, 3]
    assert {"elbo", "kl", "reconstruction", "seconds", "datapoints_per_second"} < set(frame)


# Shapes and types of the data.


@pytest.mark.quick(1)
@pytest.mark.parametrize("shape", [(8, 8), (8, 4, 2), (64,)], ids=str)
def test_cases_keep_their_shape_on_the_way_back(shape, on_images):
    X = IMAGES.reshape(200, *shape)
    vae = on_images if shape == (8, 8) else fitted_again(X)
    Z = vae.transform(X)
    assert Z.shape == (200, 2)
    for back in (vae.inverse_transform(Z), vae.reconstruct(X)):
        assert back.shape == X.shape
        assert back.dtype == np.float32
    assert vae.sample(3).shape == (3, *shape)
    flat = X.reshape(200, -1)
    np.testing.assert_array_equal(vae.transform(flat), Z)
    np.testing.assert_array_equal(vae.elbo(flat), vae.elbo(X))
    assert vae.reconstruct(flat).shape == X.shape


WHOLE = np.random.default_rng(0).integers(-9, 10, (200, 4))
TYPES = {
    "float64": lambda X: X.astype(np.float64),
    "int64": lambda X: X.astype(np.int64),
    "int8": lambda X: X.astype(np.int8),
    "float16": lambda X: X.astype(np.float16),
    "list": lambda X: X.tolist(),
    "data frame": lambda X: pd.DataFrame(X),
    "Fortran order": lambda X: np.asfortranarray(X, np.float32),
    "read-only": lambda X: np.lib.stride_tricks.as_strided(X, writeable=False),
    "objects": lambda X: X.astype(object),
}


@pytest.fixture(scope="module")
def on_whole_numbers():
    return fitted_again(WHOLE.astype(np.float32))


@pytest.mark.parametrize("convert", TYPES.values(), ids=list(TYPES))
def test_the_type_of_the_data_makes_no_difference(convert, on_whole_numbers):
    X = convert(WHOLE)
    expected = on_whole_numbers.transform(WHOLE.astype(np.float32))
    np.testing.assert_array_equal(on_whole_numbers.transform(X), expected)
    np.testing.assert_allclose(fitted_again(X).transform(X), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_booleans_are_zeros_and_ones():
    bits = IMAGES.reshape(200, 64)[:, 20:30] > 100
    one, other = fitted_again(bits), fitted_again(bits.astype(float))
    assert isinstance(one.likelihood_, Bernoulli)
    np.testing.assert_allclose(one.transform(bits), other.transform(bits), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(one.elbo(bits), other.elbo(bits.astype(int)), rtol=1e-4)


def test_zeros_and_ones_of_8_bits_are_no_nearly_black_images():
    bits = (IMAGES.reshape(200, 64)[:, 20:30] > 100).astype(np.uint8)
    vae = fitted_again(bits)
    assert vae.sample(50).max() == 1.0
    assert abs(vae.elbo(bits) - fitted_again(bits.astype(float)).elbo(bits)).max() < 0.1


def test_8_bit_images_and_the_same_from_0_to_1_give_the_same_model(on_images):
    unit = fitted_again(IMAGES / 255)
    assert isinstance(unit.likelihood_, Bernoulli)
    Z = on_images.transform(IMAGES)
    np.testing.assert_allclose(unit.transform(IMAGES / 255), Z, rtol=1e-2, atol=1e-3)
    np.testing.assert_allclose(
        255 * unit.inverse_transform(Z), on_images.inverse_transform(Z), 1e-2
    )
    np.testing.assert_allclose(unit.history_["elbo"], on_images.history_["elbo"], rtol=1e-4)


def test_transform_returns_float64_for_float64(on_table):
    assert on_table.transform(TABLE).dtype == np.float32
    assert on_table.transform(TABLE.astype(np.float64)).dtype == np.float64


@pytest.mark.parametrize("factor", [2.0**10, 2.0**-20, 2.0**50], ids=["1e3", "1e-6", "1e15"])
def test_units_of_the_data_shift_the_bound_and_nothing_else(factor, on_table):
    scaled = fitted_again(TABLE * np.float32(factor))
    shift = np.array(on_table.history_["elbo"]) - 4 * np.log(factor)
    np.testing.assert_allclose(scaled.history_["elbo"], shift, rtol=1e-5)
    Z = on_table.transform(TABLE)
    np.testing.assert_allclose(
        scaled.transform(TABLE * np.float32(factor)), Z, rtol=1e-3, atol=1e-4
    )
    np.testing.assert_allclose(
        scaled.inverse_transform(Z) / factor, on_table.inverse_transform(Z), 1e-3
    )


@pytest.mark.parametrize("exponent", [-124, -100, -40, 40, 70, 120])
def test_any_finite_scale_trains_as_if_it_were_one(exponent):
    one, other = (VAE(2, **SMALL).fit(TABLE * np.float32(2.0**e)) for e in (0, exponent))
    scaled = TABLE * np.float32(2.0**exponent)
    np.testing.assert_allclose(other.transform(scaled), one.transform(TABLE), atol=1e-5)
    shift = TABLE.shape[1] * exponent * np.log(2)
    np.testing.assert_allclose(np.add(other.history_["elbo"], shift), one.history_["elbo"], 1e-5)
    np.testing.assert_allclose(
        other.inverse_transform(np.eye(2)) * 2.0**-exponent,
        one.inverse_transform(np.eye(2)),
        rtol=1e-4,
        atol=max(1e-5, 2.0 ** (-126 - exponent)),  # smaller numbers come back as 0
    )


def test_constant_columns_are_given_back():
    X = TABLE.copy()
    X[:, 1] = -3.5
    vae = fitted_again(X, epochs=200)
    assert np.isfinite(vae.elbo(X)).all()
    np.testing.assert_allclose(vae.reconstruct(X)[:, 1], -3.5, atol=0.05)


# Training.


def test_the_same_seed_gives_the_same_model_bit_by_bit(on_images):
    same, other = fitted_again(IMAGES), fitted_again(IMAGES, random_state=1)
    assert same.history_["elbo"] == on_images.history_["elbo"]
    np.testing.assert_array_equal(same.transform(IMAGES), on_images.transform(IMAGES))
    assert (other.transform(IMAGES) != on_images.transform(IMAGES)).all()
    generator = np.random.RandomState(0)
    one, next_one = (fitted_again(IMAGES, random_state=generator) for _ in range(2))
    np.testing.assert_array_equal(one.transform(IMAGES), on_images.transform(IMAGES))
    assert (next_one.transform(IMAGES) != one.transform(IMAGES)).all()


COMPILED = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, seconds, **_: COMPILED.append(event) if "backend_compile" in event else None
)


def test_a_second_fit_compiles_nothing():
    options = {"hidden": (9,), "epochs": 1, "validation_fraction": 0.1}

    def use(rows, **changes):
        vae = VAE(2, **{**options, "random_state": 0, **changes}).fit(TABLE[:rows])
        vae.transform(TABLE)
        vae.reconstruct(TABLE[:9])
        vae.score(TABLE[:50])
        vae.sample(5)

    COMPILED.clear()
    use(200)
    assert COMPILED  # the listener listens
    for changes in (
        {"random_state": 5},
        {"learning_rate": 0.02},
        {"epochs": 3},
        {"validation_fraction": 0.095},
    ):
        COMPILED.clear()
        use(199, **{"learning_rate": 0.01, **changes})
        assert not COMPILED, changes


@pytest.mark.quick(1)
@pytest.mark.parametrize(
    ("options", "rise"),
    [({"init": "random", "activation": "tanh"}, 2), ({}, 1)],
    ids=["from random weights", "from the linear model"],
)
def test_the_bound_rises_and_images_are_learned(options, rise):
    train, test = DIGITS.train.images, DIGITS.test.images
    vae = VAE(5, hidden=(64,), epochs=100, random_state=0, **options).fit(train)
    assert vae.history_["elbo"][-1] > vae.history_["elbo"][0] + rise
    share = train.mean(axis=0).clip(1e-3, 1 - 1e-3)
    without_latents = test * np.log(share) + (1 - test) * np.log(1 - share)
    assert vae.score(test) > without_latents.sum(axis=(1, 2)).mean() + 2
    error, error_of_mean = (np.mean((test - back) ** 2) for back in (vae.reconstruct(test), share))
    assert error < 0.5 * error_of_mean


OPTIONS = {
    "estimator A with three draws": {"estimator": "A", "n_draws": 3},
    "estimator B": {"estimator": "B"},
    "no hidden layer": {"hidden": ()},
    "two hidden layers": {"hidden": [7, 5], "activation": "gelu"},
    "an activation of one's own": {"hidden": 6, "activation": jax.numpy.sin},
    "a ready optimizer": {"optimizer": optax.chain(optax.clip(1.0), optax.adam(1e-3))},
    "a schedule": {"optimizer": "sgd", "learning_rate": optax.linear_schedule(1e-3, 0.0, 9)},
    "one case per step": {"batch_size": 1, "epochs": 1},
    "all cases in one step": {"batch_size": 10_000},
    "a scale per datapoint": {"likelihood": Gaussian("per-datapoint")},
    "everything at once": {"weight_prior": 1.0, "validation_fraction": 0.1, "tol": 0.1},
}


@pytest.mark.quick(3)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=list(OPTIONS))
def test_every_option_trains(options, on_table):
    vae = fitted_again(TABLE, **options)
    assert np.isfinite(vae.elbo(TABLE)).all()
    assert vae.transform(TABLE).shape == (200, 2)
    same = vae.history_["elbo"][0] == on_table.history_["elbo"][0]
    assert same == (options == {"estimator": "B"})  # what "auto" is


def test_partial_fit_trains_on():
    vae = VAE(2, **SMALL)
    for n in range(1, 4):
        vae.partial_fit(IMAGES)
        assert vae.n_epochs_ == len(vae.history_["elbo"]) == n
    assert vae.history_["epoch"] == [1, 2, 3]
    assert vae.history_["elbo"][2] > vae.history_["elbo"][0]
    assert vae.feature_shape_ == (8, 8)
    with pytest.raises(ValueError, match="64"):
        vae.partial_fit(IMAGES.reshape(200, 64)[:, :60])


def test_partial_fit_goes_on_where_fit_ended(on_images):
    vae = clone(on_images).fit(IMAGES)
    vae.partial_fit(IMAGES[:100])
    assert vae.n_epochs_ == 4
    moved = abs(vae.transform(IMAGES) - on_images.transform(IMAGES)).mean()
    apart = abs(fitted_again(IMAGES, random_state=1).transform(IMAGES) - vae.transform(IMAGES))
    assert 0 < moved < 0.5 * apart.mean()


@pytest.mark.slow
def test_partial_fit_after_a_change_of_the_optimizer_starts_it_anew(on_images):
    vae = clone(on_images).fit(IMAGES)
    before = vae.elbo(IMAGES).mean()
    n_steps = 2  # of a pass over 200 images
    for optimizer in ("sgd", "adam", optax.adam(1e-3)):  # with other states each
        vae.set_params(optimizer=optimizer, learning_rate="auto").partial_fit(IMAGES)
        counts = [
            leaf for leaf in jax.tree.leaves(vae._run.state.optimizer_state) if leaf.ndim == 0
        ]
        assert n_steps in [int(count) for count in counts if count.dtype == np.int32]
    assert vae.elbo(IMAGES).mean() > before


def test_cases_are_held_out_on_request():
    seen = []
    vae = fitted_again(
        TABLE, validation_fraction=0.251, callbacks=[lambda epoch: seen.append(epoch.metrics)]
    )
    n_trained = seen[0]["datapoints_per_second"] * seen[0]["seconds"]
    np.testing.assert_allclose(n_trained, 200 - 51)
    assert len(vae.history_["validation_elbo"]) == 3
    given = VAE(2, **SMALL).fit(TABLE[:150], validation_data=TABLE[150:])
    bound = given.elbo(TABLE[150:], n_draws=64).mean()
    np.testing.assert_allclose(given.history_["validation_elbo"][-1], bound, atol=0.5)


def test_callbacks_stop_and_see_the_model():
    seen = []

    def stop_at_two(epoch):
        seen.append(epoch.model)
        return epoch.number == 2

    vae = fitted_again(TABLE, epochs=50, callbacks=[stop_at_two])
    assert vae.n_epochs_ == 2
    assert seen[-1] is vae.model_


def test_an_interrupted_fit_keeps_its_last_epoch(on_table):
    def interrupt(epoch):
        if epoch.number == 2:
            raise KeyboardInterrupt

    vae = VAE(2, **{**SMALL, "learning_rate": 0.01}, callbacks=[interrupt])
    with pytest.raises(KeyboardInterrupt):
        vae.fit(TABLE)
    assert vae.n_epochs_ == 2
    whole = fitted_again(TABLE, learning_rate=0.01, epochs=2)
    np.testing.assert_array_equal(vae.transform(TABLE), whole.transform(TABLE))
    assert vae.explained_nats_.shape == (2,)


def test_early_stopping_keeps_the_best_epoch():
    vae = fitted_again(TABLE[:40], epochs=400, patience=3, learning_rate=0.5)
    history = vae.history_["elbo"]
    smoothed = pd.Series(history).ewm(span=3, adjust=False).mean()
    assert vae.n_epochs_ == len(history) == np.argmax(smoothed) + 4 < 400


@pytest.mark.parametrize(
    ("n_cases", "expected"), [(1, (500,)), (999, (500,)), (1000, (500, 250, 100))]
)
def test_automatic_layers_follow_the_documented_rule(n_cases, expected):
    assert Config.of(VAE(), n_cases).hidden == expected
    assert Config.of(VAE(hidden=7), n_cases).hidden == (7,)
    assert Config.of(VAE(hidden=np.array([7, 5])), n_cases).hidden == (7, 5)


def test_a_weight_prior_shrinks_the_weights(on_table):
    prior = fitted_again(TABLE, weight_prior=0.01, epochs=30)
    flat = fitted_again(TABLE, epochs=30)
    sizes = [abs(v.model_.decoder.body.body.layers[0].weight).mean() for v in (prior, flat)]
    assert sizes[0] < 0.7 * sizes[1]
