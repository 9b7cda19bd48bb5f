"""What all pictures share: the axes that they draw into, and what they need."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure

import aevb
from aevb import plotting


def random(*shape):
    return np.random.default_rng(0).uniform(size=shape)


DRAWINGS = {
    "manifold": lambda ax=None: plotting.manifold(lambda Z: Z[:, :1], (1, 1), n=3, ax=ax),
    "reconstructions": lambda ax=None: plotting.reconstructions(
        random(12, 4, 4), random(12, 4, 4), ax=ax
    ),
    "samples": lambda ax=None: plotting.samples(random(9, 4, 4), ax=ax),
    "latent_scatter": lambda ax=None: plotting.latent_scatter(random(9, 2), range(9), ax=ax),
    "learning_curve": lambda ax=None: plotting.learning_curve(
        {"epoch": [1, 2], "elbo": [-3.0, -2.0]}, ax=ax
    ),
    "gradient_variance": lambda ax=None: plotting.gradient_variance(
        SimpleNamespace(
            rows={
                **{"estimator": ["A"], "objective": ["elbo"], "group": ["theta"]},
                **{"n_draws": [1], "variance": [4.0], "variance_se": [0.4]},
                **{"milliseconds": [1.0], "variance_x_cost": [1.0]},
            }
        ),
        ax=ax,
    ),
    "interpolation": lambda ax=None: plotting.interpolation(
        random(2, 5, 4, 4), ax=ax, ends=random(2, 2, 4, 4)
    ),
    "traversal": lambda ax=None: plotting.traversal(random(2, 5, 4, 4), ax=ax),
    "kl_per_dimension": lambda ax=None: plotting.kl_per_dimension([1, 0.5, 0], ax=ax),
    "column_effects": lambda ax=None: plotting.column_effects(random(2, 4), ax=ax),
}


def test_every_picture_is_here():
    assert set(DRAWINGS) == set(plotting.__all__) - {"PlotAccessor"}


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)
def test_given_axes_are_used_and_no_other_figure_is_made(draw, tmp_path):
    from matplotlib import pyplot as plt

    figure = Figure(layout="constrained")
    ax = figure.subplots()
    assert draw(ax) is ax
    assert plt.get_fignums() == []
    figure.savefig(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 1000


IMAGE_DRAWINGS = {
    "manifold": lambda x, **options: plotting.manifold(lambda Z: x, (4, 4), n=3, **options),
    "reconstructions": lambda x, **options: plotting.reconstructions(x, x, **options),
    "samples": plotting.samples,
    "interpolation": lambda x, **options: plotting.interpolation(x[None], **options),
    "traversal": lambda x, **options: plotting.traversal(x[None], **options),
}


@pytest.mark.parametrize("draw", IMAGE_DRAWINGS.values(), ids=IMAGE_DRAWINGS)
def test_gray_is_drawn_gray_between_given_limits(draw):
    images = 0.45 + 0.1 * random(9, 4, 4)
    for limits in (None, (0, 1), (0, 0.5)):
        (picture,) = draw(images, ax=Figure().subplots(), limits=limits).images
        low, high = limits or (images.min(), images.max())
        drawn = np.ma.masked_invalid(picture.get_array()).compressed()
        expected = np.clip((images - low) / (high - low), 0, 1)
        np.testing.assert_allclose(np.unique(drawn), np.unique(expected), atol=1e-12)


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)
def test_without_axes_there_is_one_new_figure_for_pyplot_to_show(draw):
    from matplotlib import pyplot as plt

    ax = draw()
    assert [plt.figure(number) for number in plt.get_fignums()] == [ax.figure]
    plt.close(ax.figure)


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.delattr(aevb, "plotting")
    monkeypatch.delitem(sys.modules, "aevb.plotting")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    needs = r'need matplotlib.*pip install "aevb\[plot\]"'
    with pytest.raises(ImportError, match=needs):
        from aevb import plotting  # noqa: F401
    with pytest.raises(ImportError, match=needs):
        _ = aevb.VAE().plot
