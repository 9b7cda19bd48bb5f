"""The parameters of `VAE`: their checks, and what "auto" stands for."""

from __future__ import annotations

import math
from typing import Any

from aevb.errors import integer, number
from aevb.inference.optimizers import make_optimizer
from aevb.inference.sgvb import SGVB
from aevb.inference.stopping import EarlyStopping
from aevb.models.networks import activation_function, layer_sizes
from aevb.models.posteriors import make_posterior
from aevb.models.priors import make_prior
from aevb.preparation import check_callbacks, make_objective


def check_parameters(vae: Any) -> SGVB:
    """Check every parameter of an estimator that no data are needed for; return its objective."""
    integer(vae.latent_dim, "latent_dim", minimum=1)
    integer(vae.batch_size, "batch_size", minimum=1)
    if vae.epochs != "auto":
        integer(vae.epochs, "epochs", minimum=1)
    EarlyStopping(vae.patience, vae.tol)
    layer_sizes(vae.hidden)
    activation_function(vae.activation)
    check_callbacks(vae.callbacks)
    make_prior(vae.prior)
    make_posterior(vae.posterior)
    make_optimizer(vae.optimizer, vae.learning_rate)
    expected = "a number from 0 to below 1"
    number(vae.validation_fraction, "validation_fraction", expected, lambda f: 0 <= f < 1)
    return make_objective(vae.bound, vae.n_draws, vae.weight_prior, vae.kl_weight, vae.free_bits)


def auto_epochs(n_rows: int, batch_size: int) -> int:
    """Choose the passes over the data that ``epochs="auto"`` stands for.

    As many as fit into 10,000 steps, but at least 10 and at most 500.

    Examples
    --------
    >>> auto_epochs(60_000, 100), auto_epochs(1_797, 100), auto_epochs(150, 100)
    (16, 500, 500)
    """
    return min(max(10_000 // math.ceil(n_rows / batch_size), 10), 500)
