"""Bits per dimension: of probabilities as they are, of densities by the bin."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from aevb import VAE
from aevb.evaluation import bits_per_dimension

OPTIONS = {"hidden": (4,), "epochs": 2, "random_state": 0, "verbose": False}
RNG = np.random.default_rng(0)
NORMAL = RNG.normal(size=(80, 3))
COUNTS = RNG.poisson(4, size=(80, 3))
BITS = (RNG.random((80, 6)) < 0.4).astype(np.float32)
LEVELS = (RNG.random((80, 3)) * 255).astype(np.uint8)


def fitted(X, **options):
    return VAE(1, **{**OPTIONS, **options}).fit(X)


def test_it_is_what_a_code_would_need():
    np.testing.assert_allclose(bits_per_dimension(np.log([0.5, 0.25]), [1, 4]), [1, 0.5])
    np.testing.assert_allclose(bits_per_dimension(np.log(8.0), 3, 3 * np.log(0.25)), 1)
    assert np.isnan(bits_per_dimension([0.0], [0]))[0]


@pytest.mark.parametrize(
    ("X", "likelihood"),
    [
        (BITS, "bernoulli"),
        ((255 * BITS).astype(np.uint8), "bernoulli"),
        (COUNTS, "poisson"),
        (COUNTS, "categorical"),
        (LEVELS, "discretised-logistic"),
    ],
)
def test_of_probabilities_it_is_the_log_likelihood(X, likelihood):
    vae = fitted(X, likelihood=likelihood)
    expected = -vae.log_likelihood(X[:9], 100) / X.shape[1] / np.log(2)
    np.testing.assert_allclose(vae.bits_per_dimension(X[:9], 100), expected, rtol=1e-5)
    with pytest.raises(ValueError, match=r"no `bin_width`.*got 1"):
        vae.bits_per_dimension(X[:9], bin_width=1)


@pytest.mark.parametrize("likelihood", ["gaussian", "student-t", "log-normal"])
def test_densities_need_the_width_of_a_bin(likelihood):
    X = np.exp(NORMAL)
    vae = fitted(X, likelihood=likelihood)
    with pytest.raises(ValueError, match=r"number for `bin_width`.*got None"):
        vae.bits_per_dimension(X)
    log_p = vae.log_likelihood(X[:9], 100)
    expected = -(log_p / 3 + np.log(0.1)) / np.log(2)
    found = vae.bits_per_dimension(X[:9], 100, bin_width=0.1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    widths = np.array([0.1, 0.2, 0.4])  # three bits less, over three values
    wider = vae.bits_per_dimension(X[:9], 100, bin_width=widths)
    np.testing.assert_allclose(found - wider, 1, rtol=1e-5)
    for wrong in (0.0, -1.0, np.nan, np.ones(2)):
        with pytest.raises(ValueError, match="`bin_width`"):
            vae.bits_per_dimension(X, bin_width=wrong)


def test_it_does_not_depend_on_the_unit():
    one, other = fitted(NORMAL), fitted(1024 * NORMAL)
    bits = one.bits_per_dimension(NORMAL, 1000, bin_width=0.01)
    others = other.bits_per_dimension(1024 * NORMAL, 1000, bin_width=10.24)
    np.testing.assert_allclose(bits.mean(), others.mean(), atol=2e-3)  # of other draws


def test_of_a_narrow_bin_it_is_near_the_probability():
    """Independent normal numbers, rounded: -log p(x) has the entropy of them, log2(σ√(2πe) / w)."""
    X = np.random.default_rng(1).normal(size=(4000, 4)).round(1)
    vae = VAE(1, hidden=(4,), epochs=5, random_state=0, verbose=False).fit(X)
    expected = np.log2(np.sqrt(2 * np.pi * np.e) / 0.1)
    assert abs(vae.bits_per_dimension(X, 100, bin_width=0.1).mean() - expected) < 0.03


def test_what_did_not_vary_is_an_event_and_has_no_bin():
    X = NORMAL.copy()
    X[:, 1] = 3.0
    vae = fitted(X)
    log_p = vae.log_likelihood(X[:9], 100)
    found = vae.bits_per_dimension(X[:9], 100, bin_width=0.1)
    np.testing.assert_allclose(found, -(log_p + 2 * np.log(0.1)) / 3 / np.log(2), rtol=1e-5)


def test_gray_levels_are_refused():
    gray = BITS.copy()
    gray[5, 2] = 0.5
    vae = fitted(gray, likelihood="bernoulli")
    with pytest.raises(ValueError, match=r"0 and 1 .*got 0.5.*binarise"):
        vae.bits_per_dimension(gray)
    assert np.isfinite(vae.bits_per_dimension(gray[:5], 100)).all()


def test_missing_values_do_not_count():
    X = NORMAL.copy()
    X[::2, 1] = np.nan
    X[::4, 2] = np.nan
    vae = fitted(X)
    n = (~np.isnan(X[:9])).sum(axis=1)
    log_p = vae.log_likelihood(X[:9], 100)
    found = vae.bits_per_dimension(X[:9], 100, bin_width=0.1)
    np.testing.assert_allclose(found, -(log_p / n + np.log(0.1)) / np.log(2), rtol=1e-5)


def test_a_table_has_widths_of_the_columns_with_densities():
    table = pd.DataFrame({"size": NORMAL[:, 0], "mass": NORMAL[:, 1], "eggs": COUNTS[:, 0]})
    table["mass"] = table["mass"].where(np.arange(80) % 3 > 0)
    vae = fitted(table)
    log_p = vae.log_likelihood(table, 100)
    has_mass = table["mass"].notna().to_numpy()
    found = vae.bits_per_dimension(table, 100, bin_width={"size": 0.1, "mass": 0.5})
    log_volume = np.log(0.1) + has_mass * np.log(0.5)
    np.testing.assert_allclose(found, -(log_p + log_volume) / (2 + has_mass) / np.log(2), rtol=1e-5)
    with pytest.raises(ValueError, match=r"columns \['mass', 'size'\].*got those of \['size'\]"):
        vae.bits_per_dimension(table, bin_width={"size": 0.1})
    one_width = vae.bits_per_dimension(table, 100, bin_width=0.1)
    same = vae.bits_per_dimension(table, 100, bin_width={"size": 0.1, "mass": 0.1})
    np.testing.assert_array_equal(one_width, same)
