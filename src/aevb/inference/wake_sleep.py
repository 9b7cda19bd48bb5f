"""The wake-sleep algorithm, one of the two that the paper compares itself with."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float, PyTree
from jaxtyping import PRNGKeyArray as Key

from aevb.inference.estimators import draw
from aevb.inference.objective import Batch, Metrics, Objective
from aevb.inference.sgvb import check_setting, log_weight_prior
from aevb.models.base import Given, LatentVariableModel, given, name_of


class WakeSleep(Objective):
    r"""Minibatch objective of the wake-sleep algorithm.

    .. math:: \frac{1}{\sum_i w_i} \sum_i w_i \left[ \log p_\theta(x_i, z_i)
        + \log q_\phi(\tilde z_i|\tilde x_i) \right], \quad z_i \sim q_\phi(z|x_i), \quad
        \tilde z_i \sim p_\theta(z), \; \tilde x_i \sim p_\theta(x|\tilde z_i)

    where no draw passes a gradient on: awake, the generative parameters θ learn from data with
    latents recognised; asleep, the recognition model φ learns from as many dreams, whose latents
    are known, each under its row's context. The two gradients do not belong to one bound. A
    parameter that encoder and decoder share follows the sum of both. As nothing is
    reparameterised, any distribution that can be drawn from will do, discrete ones included.

    The metrics are ``elbo``, estimated by equation (6) at the latents recognised, its terms ``kl``
    and ``reconstruction``, and ``dream_log_posterior``, the mean of log q(z|x) of the dreams.

    Parameters
    ----------
    weight_prior : float, optional
        Standard deviation of a Gaussian prior over the weights (not the biases) of both models, as
        in `SGVB`; None: flat.

    References
    ----------
    Hinton, Dayan, Frey and Neal (1995), The wake-sleep algorithm for unsupervised neural networks.
    Kingma and Welling (2013), section 5 and appendix E, https://arxiv.org/abs/1312.6114

    Examples
    --------
    >>> import aevb, jax, jax.numpy as jnp, numpyro.distributions as dist
    >>> class Shift(aevb.LatentVariableModel):
    ...     weight: jax.Array
    ...     def prior(self):
    ...         return dist.Normal()
    ...     def likelihood(self, z):
    ...         return dist.Normal(z, 1.0)
    ...     def posterior(self, x):
    ...         return dist.Normal(self.weight * x, 0.5**0.5)
    >>> x = jax.random.normal(jax.random.key(0), (1000,)) * 2**0.5
    >>> model = Shift(jnp.array(0.0))
    >>> result = aevb.train(model, x, objective=aevb.WakeSleep(), learning_rate=0.05)
    >>> round(float(result.model.weight), 1)  # of the exact posterior, N(x/2, 1/2)
    0.5
    """

    weight_prior: float | None = None

    def __check_init__(self) -> None:
        check_setting("weight_prior", self.weight_prior)

    def __call__(
        self, model: LatentVariableModel, batch: Batch, key: Key, state: PyTree
    ) -> tuple[Float[Array, ""], Metrics, PyTree]:
        """Return the objective to maximise, the metrics (means over the rows), and the state."""

        def row(x: PyTree, c: PyTree, key: Key) -> tuple[Float[Array, ""], Metrics]:
            wake_key, sleep_key = jax.random.split(key)
            view = given(model, c)
            log_joint, metrics = _wake(view, x, wake_key)
            dream_log_posterior = _sleep(view, sleep_key)
            metrics["dream_log_posterior"] = dream_log_posterior
            return log_joint + dream_log_posterior, metrics

        rows = jax.vmap(row)(batch.x, batch.c, batch.keys)
        weight = batch.share
        surrogate, metrics = jax.tree.map(lambda each: jnp.sum(weight * each), rows)
        if self.weight_prior is not None:
            surrogate += log_weight_prior(model, self.weight_prior) / batch.n_total
        return surrogate, metrics, state


def _wake(model: Given, x: PyTree, key: Key) -> tuple[Float[Array, ""], Metrics]:
    """Return log p(x, z) at z ~ q(z|x), and the metrics at the same z."""
    draws = draw(model, x, key, 1, pathwise=False, at=lax.stop_gradient)
    (log_likelihood,), (log_prior,) = draws.log_likelihood, draws.log_prior()
    kl = draws.log_posterior()[0] - log_prior
    metrics = {"elbo": log_likelihood - kl, "kl": kl, "reconstruction": log_likelihood}
    return log_likelihood + log_prior, metrics


def _sleep(model: Given, key: Key) -> Float[Array, ""]:
    """Return log q(z|x) of a dream: z ~ p(z), x ~ p(x|z)."""
    latent_key, key = jax.random.split(key)
    z = model.prior().sample(latent_key)
    likelihood = model.likelihood(z)
    if not hasattr(likelihood, "sample"):
        raise TypeError(
            f"Expected a distribution that can be drawn from, for dreams, from "
            f"`{name_of(model)}.likelihood`; got {type(likelihood).__name__}, without `sample`."
        )
    z, x = lax.stop_gradient((z, likelihood.sample(key)))
    return model.posterior(x).log_prob(z)
