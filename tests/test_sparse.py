"""Sparse arrays: the model of the same dense array, a few rows at a time."""

import numpy as np
import pytest
from scipy import sparse

from aevb import VAE
from aevb.data import sparse as sources
from aevb.models.kinds.summary import Summary, summarise, viewed
from aevb.schema import Schema

rng = np.random.default_rng(0)
RATES = np.exp(rng.normal(size=(260, 2)) @ rng.normal(size=(2, 12)) - 1)
COUNTS = rng.poisson(RATES).astype(np.float32)
COUNTS[:, 7] = 0
SPARSE = sparse.csr_array(COUNTS)
SMALL = {"hidden": (8,), "epochs": 3, "random_state": 0, "verbose": False, "batch_size": 50}


@pytest.fixture
def small_chunks(monkeypatch):
    """Chunks of a hundred rows."""
    monkeypatch.setattr(sources, "_BYTES", 100 * 12 * 4)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sample_weight": np.arange(260) % 3},
        {"condition": np.array(list("ab"))[np.arange(260) % 2]},
        {"exposure": "total"},
    ],
    ids=["plain", "weights", "condition", "exposure"],
)
@pytest.mark.parametrize("own", [{}, {"validation_fraction": 0.2}, {"prior": "vamp"}], ids=str)
def test_the_model_is_that_of_the_dense_array(small_chunks, options, own):
    X = COUNTS[COUNTS.sum(axis=1) > 0]
    options = {k: v if isinstance(v, str) else v[: len(X)] for k, v in options.items()}
    settings = SMALL | {"likelihood": "negative-binomial", "learning_rate": 0.01} | own
    dense, other = (VAE(2, **settings).fit(A, **options) for A in (X, sparse.csr_array(X)))
    assert "validation_elbo" not in own or "validation_elbo" in other.history_
    for name in ("elbo", "kl"):
        np.testing.assert_allclose(dense.history_[name], other.history_[name], rtol=1e-5)
    told = {k: v for k, v in options.items() if k != "sample_weight"}
    codes = [vae.transform(X, **told) for vae in (dense, other)]
    np.testing.assert_allclose(*codes, rtol=1e-3, atol=1e-4)


def test_predictions_are_those_of_the_dense_rows_bit_by_bit(small_chunks):
    vae = VAE(2, **SMALL).fit(SPARSE)
    for method in (
        vae.transform,
        vae.reconstruct,
        vae.elbo,
        vae.log_likelihood,
        vae.surprise,
        vae.distances,
    ):
        np.testing.assert_array_equal(method(SPARSE), method(COUNTS))
    assert vae.score(SPARSE) == vae.score(COUNTS)
    assert vae.sample(5).shape == (5, 12)


def test_never_more_than_a_chunk_is_dense(monkeypatch):
    most = []
    own = sparse.csr_array.toarray

    def counted(self, *arguments, **options):
        most.append(self.shape[0])
        return own(self, *arguments, **options)

    rows = sparse.vstack([SPARSE] * 40, format="csr")
    monkeypatch.setattr(sparse.csr_array, "toarray", counted)
    monkeypatch.setattr(sources, "_BYTES", 500 * 12 * 4)
    vae = VAE(2, **SMALL).fit(rows)
    vae.transform(rows)
    assert max(most) <= 2048 < rows.shape[0]


@pytest.mark.parametrize("make", [sparse.csr_matrix, sparse.csc_array, sparse.coo_array])
def test_other_forms_are_taken_as_well(make):
    one, other = (VAE(2, **SMALL).fit(X) for X in (SPARSE, make(COUNTS.astype(int))))
    np.testing.assert_array_equal(one.transform(SPARSE), other.transform(make(COUNTS)))


def test_duplicates_are_summed_and_the_users_array_stays(small_chunks):
    twice = sparse.coo_array(
        (np.ones(2 * SPARSE.nnz, "f4"), (np.tile(SPARSE.tocoo().row, 2), [*SPARSE.indices] * 2))
    )
    rows = sparse.csr_array((twice.data, twice.col, np.searchsorted(twice.row, range(261))))
    unsorted = sparse.csr_array(
        (np.ones(4, "f4"), np.array([2, 0, 2, 1]), np.array([0, 3, 4])), shape=(2, 3)
    )
    before = unsorted.data.copy(), unsorted.indices.copy()
    assert sources.sparse_rows(unsorted).toarray().tolist() == [[1, 0, 2], [0, 1, 0]]
    np.testing.assert_array_equal(unsorted.data, before[0])
    np.testing.assert_array_equal(unsorted.indices, before[1])
    assert rows.shape[0] == 260


@pytest.mark.parametrize(
    ("X", "likelihood"),
    [
        (COUNTS, "negative-binomial"),
        (COUNTS.astype(np.uint8), "negative-binomial"),
        (COUNTS > 0, "bernoulli"),
        (np.minimum(COUNTS, 1), "bernoulli"),
        (np.log1p(COUNTS), "gaussian"),
        (COUNTS - 1, "gaussian"),
    ],
)
def test_the_likelihood_is_chosen_by_what_the_values_are(X, likelihood):
    assert VAE(2, **SMALL).fit(sparse.csr_array(X)).likelihood_.name == likelihood


@pytest.mark.parametrize(
    "X",
    [COUNTS, COUNTS - 3, np.log1p(COUNTS), np.round(RATES, 2), COUNTS * 0, np.maximum(COUNTS, 1)],
    ids=["counts", "negative", "real", "decimals", "nothing", "without zeros"],
)
def test_a_sparse_summary_is_that_of_the_dense_rows(X):
    rows = sparse.csr_array(X)
    one, other = summarise(X), summarise(rows)
    alone = {"low_row", "high_row", "next_low", "next_high", "decimals"}
    for name in set(Summary._fields) - alone:
        np.testing.assert_allclose(
            getattr(other, name), getattr(one, name), rtol=1e-6, atol=1e-6, err_msg=name
        )
    assert other.decimals.max() == max(one.decimals.max(), 0)
    negative = summarise(sparse.csr_array([[-120.5, 0], [-3.25, 0]]))
    assert negative.decimals.tolist() == [2, 2]
    np.testing.assert_allclose(viewed(rows, np.arctan).toarray(), np.arctan(X))
    np.testing.assert_allclose(viewed(rows, np.cos), np.cos(X), rtol=1e-5)


def test_search_and_further_training_take_some_of_the_rows(small_chunks):
    vae = VAE(2, **SMALL | {"epochs": "auto"}, callbacks=[lambda epoch: epoch.number == 2])
    assert vae.fit(SPARSE).n_epochs_ == 2
    again = VAE(2, **SMALL).partial_fit(SPARSE[:150]).partial_fit(SPARSE)
    assert again.n_epochs_ == 2


def test_a_file_says_the_same(tmp_path):
    vae = VAE(2, **SMALL).fit(SPARSE)
    vae.save(tmp_path / "model.aevb")
    other = VAE.load(tmp_path / "model.aevb")
    np.testing.assert_array_equal(other.transform(SPARSE), vae.transform(SPARSE))


def bad(value, row=3, column=5, n=260):
    X = sparse.vstack([SPARSE.astype(float)] * (n // 260), format="lil")
    X[row, column] = value
    return X.tocsr()


@pytest.mark.parametrize(
    ("X", "named"),
    [
        (bad(np.nan), ["NaN", "3", "5"]),
        (bad(np.inf), ["inf", "3", "5"]),
        (bad(1e300), ["float32", "row 3", "5"]),
        (bad(-2.0), ["-2", "row 3", "column 5"]),
        (bad(0.5, row=2060, column=11, n=2600), ["0.5", "row 2060", "column 11"]),
        (sparse.csr_array((0, 12)), ["0 sample"]),
        (SPARSE.astype(complex), ["omplex"]),
    ],
)
def test_bad_values_are_named(X, named):
    with pytest.raises(ValueError) as caught:
        VAE(2, **SMALL, likelihood="poisson").fit(X)
    assert all(word in str(caught.value) for word in named), str(caught.value)


def test_nothing_is_missing_in_a_sparse_array():
    vae = VAE(2, **SMALL).fit(SPARSE)
    with pytest.raises(TypeError, match="NaN"):
        vae.impute(SPARSE)


@pytest.mark.slow
def test_many_columns_train_at_the_default_rate():
    """Counts of 3000 columns, of which some have a few large values, once diverged."""
    rng = np.random.default_rng(0)
    z, library = rng.normal(size=(1000, 8)), np.exp(0.5 * rng.normal(size=(1000, 1)) - 1)
    means = np.exp(z @ (0.5 * rng.normal(size=(8, 3000))) + rng.normal(size=3000) - 3.3)
    X = sparse.csr_array(rng.poisson(library * means))
    history = VAE(10, epochs=5, random_state=0, verbose=False).fit(X, exposure="total").history_
    assert np.all(np.diff(history["elbo"]) > 0)
    assert max(history["kl"]) < 50


def test_a_schema_of_sparse_rows_is_that_of_the_dense_ones():
    one, other = (Schema.fit(X, "negative-binomial") for X in (COUNTS, SPARSE))
    for name, value in one.measured._asdict().items():
        np.testing.assert_allclose(getattr(other.measured, name), value, rtol=1e-6, err_msg=name)
