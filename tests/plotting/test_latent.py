"""The latent space: its cases, the KL of its dimensions, the columns that they move."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from matplotlib import colors
from matplotlib.figure import Figure

from aevb import plotting


def random(*shape, seed=0):
    return np.random.default_rng(seed).uniform(size=shape)


def test_scatter_draws_every_class_in_its_colour_and_names_it_among_its_points(ax):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(10), 30)
    Z = 20 * np.column_stack([labels % 4, labels // 4]) + rng.normal(size=(300, 2))
    plotting.latent_scatter(Z, labels, ax=ax)
    assert len(ax.collections) == 10
    seen = {colors.to_hex(points.get_facecolor()[0]) for points in ax.collections}
    assert len(seen) == 10
    for k, (points, text) in enumerate(zip(ax.collections, ax.texts, strict=True)):
        np.testing.assert_array_equal(points.get_offsets(), Z[labels == k])
        assert text.get_text() == str(k)
        assert np.linalg.norm(np.array(text.get_position()) - Z[labels == k].mean(axis=0)) < 2
    assert [entry.get_text() for entry in ax.get_legend().get_texts()] == list("0123456789")
    assert ax.get_aspect() == 1
    assert ax.get_title() == "300 cases in the latent space"


def test_the_name_of_a_class_in_two_clusters_lies_in_one_of_them(ax):
    Z = np.concatenate([np.full((60, 2), -5.0), np.full((40, 2), 5.0)])
    plotting.latent_scatter(Z, ["a"] * 100, ax=ax)
    assert ax.texts[0].get_position() == (-5, -5)


def test_more_than_ten_classes_differ_in_colour_or_shape(ax):
    plotting.latent_scatter(np.zeros((24, 2)), np.arange(24), ax=ax)
    looks = {
        (colors.to_hex(points.get_facecolor()[0]), points.get_paths()[0].vertices.tobytes())
        for points in ax.collections
    }
    assert len(looks) == 24


def test_scatter_without_labels_and_with_numbers():
    figure = Figure()
    plain, scaled = figure.subplots(1, 2)
    Z = np.random.default_rng(0).normal(size=(50, 2))
    plotting.latent_scatter(Z, ax=plain)
    assert plain.get_legend() is None
    np.testing.assert_array_equal(plain.collections[0].get_offsets(), Z)
    plotting.latent_scatter(Z, Z[:, 0], ax=scaled)
    np.testing.assert_array_equal(scaled.collections[0].get_array(), Z[:, 0])
    assert len(figure.axes) == 3  # with the colour scale


@pytest.mark.parametrize("dtype", [np.int64, "datetime64[D]"])
def test_many_numbers_and_dates_get_a_colour_scale(ax, dtype):
    labels = np.arange(60).astype(dtype)
    plotting.latent_scatter(random(60, 2), labels, ax=ax)
    np.testing.assert_array_equal(ax.collections[0].get_array(), np.arange(60))
    assert not ax.texts
    _, bar = ax.figure.axes
    ax.figure.canvas.draw()
    assert ("Feb" in [text.get_text() for text in bar.get_yticklabels()]) == (dtype != np.int64)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["b", None, "a", np.nan], ["a", "b"]),
        (np.array([2, None, 10, pd.NA], object), ["2", "10"]),
        (pd.Series(["b", pd.NA, "a", None], dtype="category"), ["a", "b"]),
        (pd.Series([2, None, 10, None], dtype="Int64"), ["2", "10"]),
        (pd.Series([2, None, 10, None], dtype=pd.CategoricalDtype([10, 2])), ["2", "10"]),
        ([1.5, np.nan, 2.5, np.inf], None),
        (np.array(["2020-01-01", "NaT", "2021-01-01", "NaT"], "datetime64[s]"), None),
        ([None] * 4, []),
    ],
)
def test_cases_without_a_label_are_gray_and_said_to_be_unknown(ax, labels, classes):
    Z = random(4, 2)
    plotting.latent_scatter(Z, labels, ax=ax)
    *known, unknown = ax.collections
    places = [0, 1, 2, 3] if classes == [] else [1, 3]
    np.testing.assert_array_equal(unknown.get_offsets(), Z[places])
    red, green, blue, _ = unknown.get_facecolor()[0]
    assert red == green == blue
    assert sum(len(points.get_offsets()) for points in known) == 4 - len(places)
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == [*(classes or []), "unknown"]


def test_more_classes_than_can_be_told_apart_are_refused(ax):
    with pytest.raises(ValueError, match=r"at most 40 classes for `labels`.*got 41\. Numbers"):
        plotting.latent_scatter(random(41, 2), [f"class {k}" for k in range(41)], ax)


def test_scatter_of_two_among_more_dimensions(ax):
    Z = random(5, 4)
    plotting.latent_scatter(Z, ax=ax, dimensions=(3, 1))
    np.testing.assert_array_equal(ax.collections[0].get_offsets(), Z[:, [3, 1]])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("latent dimension 3", "latent dimension 1")
    assert ax.get_title() == "5 cases in two of 4 latent dimensions"


@pytest.mark.parametrize(
    ("shape", "dimensions", "labels", "message"),
    [
        ((5,), (0, 1), None, r"\(n, d\), d at least 2, for `Z`; got \(5,\)"),
        ((5, 1), (0, 1), None, r"got \(5, 1\)\. One latent dimension"),
        ((5, 3), (0, 3), None, r"integers from 0 to 2 for `dimensions`; got \[0, 3\]"),
        ((5, 3), (1, 1), None, r"distinct integers.*got \[1, 1\]"),
        ((5, 3), (0, -1), None, r"at least 0 for `dimensions`; got -1"),
        ((5, 3), (0, 1, 2), None, r"two integers for `dimensions`; got 3: \[0, 1, 2\]"),
        ((5, 2), (0, 1), [1, 2], r"label for each of the 5 cases.*got shape \(2,\)"),
    ],
)
def test_scatter_refuses_what_it_cannot_draw(ax, shape, dimensions, labels, message):
    with pytest.raises(ValueError, match=message):
        plotting.latent_scatter(np.zeros(shape), labels, ax, dimensions=dimensions)


def test_kl_per_dimension_has_the_most_first_and_tells_the_dead_apart(ax):
    kl = np.array([0.5, 2.0, 0.009, 1.0, -1e-4])
    assert plotting.kl_per_dimension(kl, ax) is ax
    (bars,) = ax.containers
    np.testing.assert_array_equal([bar.get_height() for bar in bars], kl[[1, 3, 0, 2, 4]])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "3", "0", "2", "4"]
    np.testing.assert_allclose(ax.get_xticks(), [bar.get_x() + 0.4 for bar in bars])
    looks = [colors.to_hex(bar.get_facecolor()) for bar in bars]
    assert len(set(looks[:3])) == len(set(looks[3:])) == 1
    assert looks[0] != looks[3]
    (shade,) = set(ax.patches) - set(bars)
    assert (shade.get_x(), shade.get_x() + shade.get_width()) == (2.5, 4.5)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "inactive: below 0.01 nats"
    ]
    assert ax.get_title() == "3 of 5 latent dimensions active"
    assert "nats per case" in ax.get_ylabel()


def test_what_counts_as_dead_can_be_said(ax):
    plotting.kl_per_dimension([0.5, 0.09, 0.2], ax, inactive_below=0.3)
    assert ax.get_title() == "1 of 3 latent dimensions active"
    assert ax.get_legend().get_texts()[0].get_text() == "inactive: below 0.3 nats"


def test_kl_of_many_dimensions_is_drawn_by_rank(ax):
    kl = random(200) + 0.1
    plotting.kl_per_dimension(kl, ax)
    np.testing.assert_array_equal([bar.get_height() for bar in ax.containers[0]], np.sort(kl)[::-1])
    assert "in the order of their KL" in ax.get_xlabel()
    assert ax.get_legend() is None  # none is inactive


@pytest.mark.parametrize("kl", [[np.nan, np.nan], [1.0, np.inf], [], [[1.0]]])
def test_kl_that_is_not_known_is_refused(ax, kl):
    with pytest.raises(ValueError, match=r"finite number of nats.*for `kl`; got .*Under a flow"):
        plotting.kl_per_dimension(kl, ax)


def cells(ax):
    """Return the numbers written in a heat map, by (line, place)."""
    return {text.get_position()[::-1]: text.get_text() for text in ax.texts}


def test_column_effects_have_a_line_for_each_column_and_a_place_for_each_dimension(ax):
    effects = np.array([[1.5, -0.26, 0.04], [0.0, np.nan, -3.0]])
    assert plotting.column_effects(effects, ["age", "height", "sex"], [4, 1], ax) is ax
    (picture,) = ax.images
    np.testing.assert_array_equal(np.ma.filled(picture.get_array(), np.nan), effects.T)
    assert picture.get_clim() == (-3, 3)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["age", "height", "sex"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["4", "1"]
    written = {(0, 0): "+1.5", (0, 1): "0", (1, 0): "−0.3", (2, 0): "0", (2, 1): "−3.0"}
    assert cells(ax) == written
    zero = picture.get_cmap()(0.5)
    assert np.ptp(zero[:3]) < 0.01  # no colour at 0
    assert "from z = −1 to +1" in ax.figure.axes[1].get_ylabel()


def test_column_effects_of_a_step_in_words(ax):
    plotting.column_effects([[1.0]], ax=ax, step="from here to there")
    assert ax.figure.axes[1].get_ylabel().endswith("from here to there")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["0"]


def test_numbers_that_do_not_fit_are_left_out():
    figure = Figure(figsize=(8, 4))
    few, many = figure.subplots(1, 2)
    plotting.column_effects(random(3, 10), ax=few)
    plotting.column_effects(random(3, 50), ax=many)
    assert len(cells(few)) == 30
    assert cells(many) == {}


def test_of_very_many_columns_those_that_move_most_are_drawn(ax):
    effects = random(2, 100) / 10
    effects[1, 20:80] += 1
    plotting.column_effects(effects, ax=ax)
    np.testing.assert_array_equal(ax.images[0].get_array(), effects.T[20:80])
    assert [label.get_text() for label in ax.get_yticklabels()] == [str(k) for k in range(20, 80)]
    assert ax.get_title().startswith("The 60 of 100 columns")


def test_column_effects_without_any_effect(ax, tmp_path):
    plotting.column_effects(np.zeros((2, 3)), ax=ax)
    ax.figure.savefig(tmp_path / "picture.png")
    assert set(cells(ax).values()) == {"0"}


@pytest.mark.parametrize(
    ("shape", "columns", "dimensions", "message"),
    [
        ((3,), None, None, r"\(n_dimensions, n_columns\) for `effects`; got \(3,\)"),
        ((0, 3), None, None, r"for `effects`; got \(0, 3\)"),
        (
            (2, 3),
            ["a", "b"],
            None,
            r"2 `dimensions` and 3 `columns`, as `effects` has; got 2 and 2",
        ),
        ((2, 3), None, [1], r"got 1 and 3"),
    ],
)
def test_effects_and_names_that_do_not_fit_are_refused(ax, shape, columns, dimensions, message):
    with pytest.raises(ValueError, match=message):
        plotting.column_effects(np.zeros(shape), columns, dimensions, ax)
