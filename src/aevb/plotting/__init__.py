"""Arrays to pictures: each function draws into the given axes, or new ones, and returns them."""

try:
    import matplotlib  # noqa: F401
except ImportError as error:
    raise ImportError(
        'Pictures need matplotlib, which is not installed: pip install "aevb[plot]"'
    ) from error

from aevb.plotting.images import manifold, reconstructions, samples
from aevb.plotting.latent import latent_scatter
from aevb.plotting.training import gradient_variance, learning_curve

__all__ = [
    "gradient_variance",
    "latent_scatter",
    "learning_curve",
    "manifold",
    "reconstructions",
    "samples",
]
