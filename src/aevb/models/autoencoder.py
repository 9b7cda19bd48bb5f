"""The variational auto-encoder as a latent-variable model: encoder, decoder and prior together."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Num, PyTree
from jaxtyping import PRNGKeyArray as Key
from numpyro.distributions import Distribution

from aevb.models.architectures import Architecture, Dense
from aevb.models.base import LatentVariableModel, given
from aevb.models.checks import check_model
from aevb.models.conditional import Network
from aevb.models.kinds.base import Block
from aevb.models.kinds.case import CaseBlock
from aevb.models.linear import Around, Beside, LinearStart
from aevb.models.networks import Activation, output_shape
from aevb.models.posteriors import GaussianPosterior, Posterior, make_posterior
from aevb.models.priors import Prior, VampPrior, make_prior
from aevb.probability.blocks import Blocks
from aevb.probability.divergences import has_closed_form


class AutoEncoder(LatentVariableModel):
    """Variational auto-encoder: p(z), p(x|z) by the decoder, q(z|x) by the encoder (section 3).

    Each part is a callable PyTree that returns a distribution for one datapoint.

    Parameters
    ----------
    encoder : callable
        x -> q(z|x).
    decoder : callable
        z -> p(x|z).
    latent_prior : callable
        () -> p(z); a `VampPrior`, whose components are posteriors, is handed the encoder.
    estimator : {"A", "B"}, optional
        What ``estimator="auto"`` stands for with this pair of q(z|x) and p(z): B where KL(q‖p) is
        known in closed form, else A.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, aevb
    >>> vae = aevb.VAE(latent_dim=2, epochs=1).fit(jnp.eye(8))
    >>> vae.model_.likelihood(jnp.zeros(2)).mean.shape
    (8,)
    """

    encoder: Callable[[PyTree], Distribution]
    decoder: Callable[[Num[Array | np.ndarray, " latent_dim"]], Distribution | Blocks]
    latent_prior: Callable[..., Distribution]
    estimator: str | None = eqx.field(static=True, default=None)

    def prior(self) -> Distribution:
        """Return p(z)."""
        return _prior(self)

    def likelihood(self, z: Num[Array | np.ndarray, " latent_dim"]) -> Distribution | Blocks:
        """Return p(x|z)."""
        return self.decoder(z)

    def posterior(self, x: PyTree) -> Distribution:
        """Return q(z|x)."""
        return self.encoder(x)


class ConditionalAutoEncoder(LatentVariableModel):
    """Variational auto-encoder under a condition c: p(z), p(x|z, c) and q(z|x, c).

    Parameters
    ----------
    encoder : callable
        (x, c) -> q(z|x, c), of one pair.
    decoder : callable
        (z, c) -> p(x|z, c), of one pair.
    latent_prior, estimator
        As those of an `AutoEncoder`.

    Examples
    --------
    >>> import jax.numpy as jnp, aevb
    >>> vae = aevb.VAE(latent_dim=2, epochs=1).fit(jnp.eye(8), condition=list("ababcdcd"))
    >>> vae.model_.likelihood(jnp.zeros(2), jnp.zeros(4)).mean.shape
    (8,)
    """

    encoder: Callable[[tuple[PyTree, PyTree]], Distribution]
    decoder: Callable[[tuple[PyTree, PyTree]], Distribution | Blocks]
    latent_prior: Callable[..., Distribution]
    estimator: str | None = eqx.field(static=True, default=None)

    def prior(self) -> Distribution:
        """Return p(z), which the condition does not move."""
        return _prior(self)

    def likelihood(
        self, z: Num[Array | np.ndarray, " latent_dim"], c: Num[Array | np.ndarray, " k"]
    ) -> Distribution | Blocks:
        """Return p(x|z, c)."""
        return self.decoder((z, c))

    def posterior(self, x: PyTree, c: Num[Array | np.ndarray, " k"]) -> Distribution:
        """Return q(z|x, c)."""
        return self.encoder((x, c))


def _prior(model: AutoEncoder | ConditionalAutoEncoder) -> Distribution:
    if isinstance(model.latent_prior, VampPrior):
        encoder: Any = model.encoder
        return model.latent_prior(Network(encoder.body, encoder.head))  # scaled already
    return model.latent_prior()


class WithCondition(eqx.Module):
    """What a network reads of a pair: the first one, then the condition, in one vector."""

    inputs: Callable[[PyTree], Array] | None = None

    def __call__(self, pair: tuple[PyTree, Array]) -> Num[Array, " size"]:
        """Return one vector."""
        first, c = pair
        read = first if self.inputs is None else self.inputs(first)
        return jnp.concatenate([jnp.ravel(read), c])


def build_autoencoder(
    block: Block | CaseBlock,
    latent_dim: int,
    *,
    prior: str | Prior | Distribution = "normal",
    posterior: str | Posterior = "normal",
    examples: PyTree = None,
    architecture: Architecture = Dense(),  # noqa: B008
    hidden: tuple[int, ...] = (500,),
    activation: Activation = "tanh",
    encoder: PyTree = None,
    decoder: PyTree = None,
    start: LinearStart | None = None,
    condition_size: int = 0,
    key: Key,
) -> AutoEncoder | ConditionalAutoEncoder:
    """Put an auto-encoder together for data as a block describes them.

    Parameters
    ----------
    block : Block or CaseBlock
        Kind and shape of one datum, and what the model holds of the data.
    latent_dim : int
        Number of latent dimensions.
    prior, posterior : str, Prior or Distribution; str or Posterior
        Families of p(z) and q(z|x).
    examples : Array, optional
        Training cases that the prior starts from, as `aevb.models.priors.examples_for` gives them.
    architecture, hidden, activation
        Bodies of encoder and decoder, unless given.
    encoder, decoder : callable PyTree, optional
        Bodies to use instead.
    start : LinearStart, optional
        Where to begin, for posteriors that can. Features then have the input beside them; a
        decoder that returns data has to begin at zero.
    condition_size : int
        How many numbers the networks read of a condition, behind all else; 0: there is none.
    key : Array
        JAX random key.

    Raises
    ------
    ValueError, TypeError
        When the output of a given body does not fit.
    """
    read, n_read = block.input_shape, latent_dim + condition_size
    if condition_size:
        read = (math.prod(read) + condition_size,)
    keys = jax.random.split(key, 4)
    if start is not None:
        block = block.starting_at(start.decoder)
    if encoder is None:
        encoder = architecture.encoder(block, math.prod(read), hidden, activation, key=keys[0])
    if decoder is None:
        decoder = architecture.decoder(block, n_read, hidden, activation, key=keys[1])
    if start is not None:
        encoder = Beside(encoder)
        vector = len(output_shape(decoder, (n_read,), "decoder")) == 1
        decoder = Beside(decoder) if vector else Around(decoder, start.decoder)
    features = output_shape(encoder, read, "encoder")
    if len(features) != 1:
        raise ValueError(
            "Expected one vector of features, of shape (k,), as output of `encoder`; "
            f"got shape {features}. Flatten it in the encoder's last step."
        )
    family = make_posterior(posterior)
    if start is None:
        recognise = family.build(features[0], latent_dim, key=keys[2])
    elif isinstance(family, GaussianPosterior):
        recognise = family.build_at(start.encoder, features[0], key=keys[2])
    else:
        raise ValueError(
            "Expected a Gaussian `posterior`, or a mixture of them, beside a `start`; "
            f"got {family}."
        )
    features = output_shape(decoder, (n_read,), "decoder")
    shape = block.direct_shape
    if len(features) != 1 and (features != shape or len(shape) == 1):
        direct = f", or an array of the shape of the data, {shape}," if len(shape) > 1 else ""
        raise ValueError(
            f"Expected one vector of features, of shape (k,){direct} as output of `decoder`; "
            f"got shape {features}."
        )
    generate = block.head(features, key=keys[3])
    inputs: Any = block.constants.inputs
    if condition_size:
        inputs = WithCondition(inputs)
    if examples is not None:
        examples = jax.vmap(inputs)(examples)
    key_prior = jax.random.fold_in(key, 4)
    cls = ConditionalAutoEncoder if condition_size else AutoEncoder
    model = cls(
        encoder=Network(encoder, recognise, inputs),
        decoder=Network(decoder, generate, WithCondition() if condition_size else None),
        latent_prior=make_prior(prior).build(latent_dim, examples=examples, key=key_prior),
    )
    x = block.example()
    c = jax.ShapeDtypeStruct((condition_size,), np.float32) if condition_size else None
    check_model(model, x, c)
    return dataclasses.replace(model, estimator=_best_of_two(model, x, c))


def _best_of_two(model: AutoEncoder | ConditionalAutoEncoder, x: PyTree, c: PyTree) -> str:
    def closed(model: LatentVariableModel, x: PyTree, c: PyTree) -> bool:
        view = given(model, c)
        return has_closed_form(view.posterior(x), view.prior())

    return "B" if eqx.filter_eval_shape(closed, model, x, c) else "A"
