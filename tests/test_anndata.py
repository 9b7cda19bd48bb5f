"""AnnData: its array, with the names of its columns."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from aevb import VAE

anndata = pytest.importorskip(
    "anndata", reason="anndata is not installed: it needs pandas 2; `make test-pandas2` has both"
)

rng = np.random.default_rng(0)
COUNTS = rng.poisson(np.exp(rng.normal(size=(260, 2)) @ rng.normal(size=(2, 12)) - 1)).astype("f4")
SMALL = {"hidden": (8,), "epochs": 3, "random_state": 0, "verbose": False, "batch_size": 50}
GENES = [f"gene {j}" for j in range(12)]


def annotated(X):
    return anndata.AnnData(X, var=pd.DataFrame(index=GENES))


@pytest.mark.parametrize("make", [sparse.csr_matrix, np.asarray, sparse.csc_matrix])
def test_annotated_data_are_their_array_with_names(make):
    counts = np.maximum(COUNTS, np.eye(12)[0])  # no total is zero
    data = annotated(make(counts))
    vae = VAE(2, **SMALL, likelihood="negative-binomial").fit(data, exposure="total")
    assert list(vae.feature_names_in_) == GENES
    plain = VAE(2, **SMALL, likelihood="negative-binomial").fit(make(counts), exposure="total")
    np.testing.assert_array_equal(vae.transform(data), plain.transform(make(counts)))
    with pytest.raises(ValueError, match="order"):
        vae.transform(data[:, ::-1])
    with pytest.raises(ValueError, match="gene 3"):
        vae.transform(data[:, :3])


def test_annotated_data_may_be_in_a_file(tmp_path):
    data = annotated(sparse.csr_matrix(COUNTS))
    data.write_h5ad(tmp_path / "cells.h5ad")
    backed = anndata.read_h5ad(tmp_path / "cells.h5ad", backed="r")
    one, other = (VAE(2, **SMALL).fit(each) for each in (data, backed))
    np.testing.assert_array_equal(one.transform(data), other.transform(backed))
