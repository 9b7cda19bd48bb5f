"""Pictures of training: the columns of a history, the rows of a report."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure

from aevb import plotting


@pytest.mark.parametrize(("n", "scale"), [(3, "linear"), (40, "log")])
def test_learning_curve(ax, n, scale):
    history = {
        "epoch": list(range(1, n + 1)),
        "elbo": list(np.linspace(-40, -20, n)),
        "validation_elbo": list(np.linspace(-39, -22, n)),
    }
    plotting.learning_curve(history, ax=ax)
    training, held_out = ax.lines
    np.testing.assert_array_equal(training.get_xydata().T, [history["epoch"], history["elbo"]])
    np.testing.assert_array_equal(held_out.get_ydata(), history["validation_elbo"])
    assert [entry.get_text() for entry in ax.get_legend().get_texts()] == ["training", "held out"]
    assert ax.get_xscale() == scale
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "ELBO (nats per case)")


def test_learning_curve_without_held_out_cases(ax):
    plotting.learning_curve({"epoch": [1, 2], "elbo": [-3.0, -2.0]}, ax=ax)
    assert len(ax.lines) == 1


def test_learning_curve_draws_the_importance_weighted_bound_above_the_elbo(ax):
    columns = ("iw_bound", "validation_iw_bound", "elbo", "validation_elbo")
    history = {"epoch": [1, 2], **{name: [k - 9.0, k - 8.0] for k, name in enumerate(columns)}}
    plotting.learning_curve(history, ax=ax)
    drawn = {line.get_label(): line for line in ax.lines}
    names = {
        "importance-weighted bound, training": "iw_bound",
        "importance-weighted bound, held out": "validation_iw_bound",
        "ELBO, training": "elbo",
        "ELBO, held out": "validation_elbo",
    }
    assert drawn.keys() == names.keys()
    for label, column in names.items():
        np.testing.assert_array_equal(drawn[label].get_ydata(), history[column])
        assert drawn[label].get_linestyle() == ("-" if "iw" in column else "--")
    assert ax.get_ylabel() == "importance-weighted bound and ELBO (nats per case)"


def test_learning_curve_without_a_bound_draws_the_joint_density(ax):
    history = {"epoch": [1, 2], "log_joint": [-3.0, -2.0], "acceptance": [0.5, 0.9]}
    plotting.learning_curve(history, ax=ax)
    (line,) = ax.lines
    np.testing.assert_array_equal(line.get_ydata(), [-3, -2])
    assert ax.get_ylabel() == "log p(x, z) (nats per case)"
    plotting.learning_curve({**history, "elbo": [-5.0, -4.0]}, ax=(both := Figure().subplots()))
    assert both.get_ylabel() == "ELBO (nats per case)"


def test_learning_curve_of_unknown_columns_is_refused(ax):
    with pytest.raises(ValueError, match=r"iw_bound, elbo, log_joint in `history`; got epoch, los"):
        plotting.learning_curve({"epoch": [1], "loss": [2.0]}, ax=ax)


def test_learning_curve_without_epochs_is_refused(ax):
    with pytest.raises(ValueError, match=r"column epoch in `history`.*; got elbo"):
        plotting.learning_curve({"elbo": [-3.0, -2.0]}, ax=ax)


def gradient_report(relative=(1.0, 1.0, 0.5, 0.0, 1.0, 1.0)):
    """Return a report of three estimators, two of one objective, in two groups."""
    rows = {
        "estimator": ["A", "A", "stl", "stl", "iw", "iw"],
        "n_draws": [1, 1, 1, 1, 5, 5],
        "objective": ["elbo"] * 4 + ["iw_5"] * 2,
        "group": ["theta", "phi"] * 3,
        "variance": [4.0, 8.0, 2.0, 0.0, 3.0, 3.0],
        "variance_se": [0.4, 0.8, 0.1, 0.0, 0.3, 0.3],
        "milliseconds": [1.0, 1.0, 1.0, 1.0, 2.5, 2.5],
        "variance_x_cost": list(relative),
    }
    return SimpleNamespace(rows=rows)


def test_gradient_variance_has_a_line_per_estimator_and_a_colour_per_group(ax):
    plotting.gradient_variance(gradient_report(), ax=ax)
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == ["A (1)  1 ms", "stl (1)  1 ms", "iw (5)  2.5 ms"]
    assert ax.yaxis_inverted()  # the first on top
    assert ax.get_xscale() == "log"
    theta, phi = ax.containers
    np.testing.assert_allclose(theta.lines[0].get_xdata(), [1, 0.5, 1])
    np.testing.assert_allclose(phi.lines[0].get_xdata(), [1, np.nan, 1])  # no zero on this scale
    assert (np.round([c.lines[0].get_ydata() for c in (theta, phi)]) == [0, 1, 2]).all()
    lengths = [np.ptp(bar[:, 0]) / 2 for bar in theta.lines[2][0].get_segments()]
    np.testing.assert_allclose(lengths, [0.1, 0.025, 0.1])
    assert [entry.get_text() for entry in ax.get_legend().get_texts()] == ["theta", "phi"]
    (between,) = (line for line in ax.lines if len(set(line.get_ydata())) == 1)
    assert between.get_ydata()[0] == 1.5  # the objectives


@pytest.mark.parametrize("nothing", [0.0, np.nan, np.inf])
def test_gradient_variance_without_a_single_point(ax, nothing, tmp_path):
    plotting.gradient_variance(gradient_report([nothing] * 6), ax=ax)
    ax.figure.savefig(tmp_path / "picture.png")
