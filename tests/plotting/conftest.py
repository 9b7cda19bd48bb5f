"""Axes without a window, and pictures cut back into the images that they are made of."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

matplotlib.use("Agg")


@pytest.fixture
def ax():
    """Axes that pyplot knows nothing of."""
    return Figure().subplots()


@pytest.fixture(scope="session")
def tiles():
    """A function that cuts the one picture in some axes into its images, line by line."""
    return cut


def cut(ax, height, width, gap=1, apart=None):
    """Cut the picture in `ax`, `apart` pixels between lines; empty places are left out."""
    (picture,) = ax.images
    mosaic = np.ma.filled(np.ma.asarray(picture.get_array(), dtype=float), np.nan)
    found = [
        mosaic[top : top + height, left : left + width]
        for top in range(0, mosaic.shape[0], height + (apart or gap))
        for left in range(0, mosaic.shape[1], width + gap)
    ]
    empty = (lambda t: (t[..., 3] == 0).all()) if mosaic.ndim == 3 else lambda t: np.isnan(t).all()
    return np.stack([tile for tile in found if not empty(tile)])
