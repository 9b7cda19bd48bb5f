"""Arrays to pictures: each function draws into the given axes, or new ones, and returns them."""

try:
    import matplotlib  # noqa: F401
except ImportError as error:
    raise ImportError(
        'Pictures need matplotlib, which is not installed: pip install "aevb[plot]"'
    ) from error

from aevb.plotting.accessor import PlotAccessor
from aevb.plotting.decoded import interpolation, manifold, traversal
from aevb.plotting.images import reconstructions, samples
from aevb.plotting.latent import column_effects, kl_per_dimension, latent_scatter
from aevb.plotting.training import gradient_variance, learning_curve

__all__ = [
    "PlotAccessor",
    "column_effects",
    "gradient_variance",
    "interpolation",
    "kl_per_dimension",
    "latent_scatter",
    "learning_curve",
    "manifold",
    "reconstructions",
    "samples",
    "traversal",
]
