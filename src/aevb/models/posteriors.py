"""Recognition models q(z|x): families, and the head that turns an encoder's features into one.

A `Posterior` is the family that the user names; its head is the part of the model. In your own
model, ``head = Mixture(3).build(n_features, latent_dim, key=key)`` is a field, and
``head(features)`` is q(z|x).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, final

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from equinox import field
from jax import Array, random
from jaxtyping import Float
from jaxtyping import PRNGKeyArray as Key

from aevb.errors import choose, integer
from aevb.models.conditional import Conditional
from aevb.models.flows import Bijection, FlowDistribution, check_options
from aevb.models.linear import Departure, Start
from aevb.models.networks import Linear
from aevb.probability.reparameterise import FAMILIES
from aevb.probability.special import scale_of

__all__ = [
    "Flow",
    "FullNormal",
    "GaussianPosterior",
    "LowRankNormal",
    "Mixture",
    "Normal",
    "Parametric",
    "Posterior",
    "Reparameterised",
]


@dataclass(frozen=True)
class Posterior(ABC):
    """A family of recognition models q(z|x), as the user names it."""

    name: ClassVar[str]

    @abstractmethod
    def build(self, n_features: int, latent_dim: int, *, key: Key) -> Conditional:
        """Build the head: a map from the features of one datum, shape (n_features,), to q(z|x)."""


@dataclass(frozen=True)
class Parametric(Posterior):
    """A family whose members are given by real parameters; subclasses are final."""

    @abstractmethod
    def n_parameters(self, latent_dim: int) -> int:
        """Return the number of parameters of a member."""

    @abstractmethod
    def member(
        self, reals: Float[Array | np.ndarray, " n_parameters"], latent_dim: int
    ) -> dist.Distribution:
        """Return the member with these parameters."""

    def build(self, n_features: int, latent_dim: int, *, key: Key) -> Conditional:
        """Build the head: an affine map from features to the parameters."""
        return Head(Linear(n_features, self.n_parameters(latent_dim), key=key), self, latent_dim)


@dataclass(frozen=True)
class GaussianPosterior(Parametric):
    """A family of Gaussians or of their mixtures, which can begin at a linear model's posterior."""

    def build_at(self, start: Start, n_features: int, *, key: Key) -> Conditional:
        """Build the head such that it begins at the Gaussian of a linear start.

        `start` maps the datum, which ends the features, to the mean; its unit is the scale.
        """
        departure = Departure(self.parameters_at(start), n_features, key=key)
        return Head(departure, self, start.weight.shape[0])

    def parameters_at(self, start: Start) -> Start:
        """Return the map from the datum to all parameters: means, log-variances, zeros."""
        latent_dim, size = start.weight.shape
        n_more = self.n_parameters(latent_dim) - latent_dim
        return Start(
            jnp.concatenate([start.weight, jnp.zeros((n_more, size))]),
            jnp.concatenate([start.bias, 2 * jnp.log(start.unit), jnp.zeros(n_more - latent_dim)]),
            jnp.concatenate([start.unit, jnp.ones(n_more)]),
        )


@final
class Head(Conditional):
    """An affine map from features to the parameters of a family."""

    linear: Linear | Departure
    family: Parametric = field(static=True)
    latent_dim: int = field(static=True)

    def __call__(self, *given: Float[Array, " n_features"]) -> dist.Distribution:
        """Return q(z|x) for the features of one datum."""
        (h,) = given
        return self.family.member(self.linear(h), self.latent_dim)


@final
@dataclass(frozen=True)
class Normal(GaussianPosterior):
    r"""Diagonal Gaussian, :math:`\mu = W_4 h + b_4,\ \log \sigma^2 = W_5 h + b_5` (appendix C.2).

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> head = Normal().build(5, 2, key=jax.random.key(0))
    >>> head(jnp.zeros(5)).mean.tolist()
    [0.0, 0.0]
    """

    name: ClassVar[str] = "normal"

    def n_parameters(self, latent_dim):  # noqa: D102
        return 2 * latent_dim

    def member(self, reals, latent_dim):  # noqa: D102
        mean, log_variance = jnp.split(reals, 2)
        scale = scale_of(0.5 * log_variance)
        return dist.Normal(mean, scale, validate_args=False).to_event(1)


@final
@dataclass(frozen=True)
class FullNormal(GaussianPosterior):
    """Gaussian with full covariance, by a Cholesky factor with a positive diagonal.

    Examples
    --------
    >>> from aevb import VAE, posteriors
    >>> VAE(posterior=posteriors.FullNormal())  # or posterior="full-normal"
    VAE(posterior=FullNormal())
    """

    name: ClassVar[str] = "full-normal"

    def n_parameters(self, latent_dim):  # noqa: D102
        return 2 * latent_dim + latent_dim * (latent_dim - 1) // 2

    def member(self, reals, latent_dim):  # noqa: D102
        mean, log_variance, below = jnp.split(reals, [latent_dim, 2 * latent_dim])
        diagonal = jnp.diag(scale_of(0.5 * log_variance))
        factor = diagonal.at[jnp.tril_indices(latent_dim, -1)].set(below)
        return dist.MultivariateNormal(mean, scale_tril=factor, validate_args=False)


@final
@dataclass(frozen=True)
class LowRankNormal(GaussianPosterior):
    r"""Gaussian with covariance :math:`V V^T + \mathrm{diag}(d)`, V of few columns.

    Parameters
    ----------
    rank : int
        Number of columns of V.

    Examples
    --------
    >>> from aevb import VAE, posteriors
    >>> VAE(20, posterior=posteriors.LowRankNormal(rank=3))
    VAE(latent_dim=20, posterior=LowRankNormal(rank=3))
    """

    rank: int = 1
    name: ClassVar[str] = "low-rank-normal"

    def __post_init__(self) -> None:
        integer(self.rank, "rank", minimum=1)

    def n_parameters(self, latent_dim):  # noqa: D102
        return (2 + self.rank) * latent_dim

    def parameters_at(self, start):  # noqa: D102
        whole = super().parameters_at(start)
        more = jnp.repeat(start.unit, self.rank)  # of V; at V = 0 the bound would have no slope
        return Start(
            whole.weight,
            whole.bias.at[-len(more) :].set(0.1 * more),
            whole.unit.at[-len(more) :].set(more),
        )

    def member(self, reals, latent_dim):  # noqa: D102
        mean, log_variance, factor = jnp.split(reals, [latent_dim, 2 * latent_dim])
        return dist.LowRankMultivariateNormal(
            mean,
            jnp.reshape(factor, (latent_dim, self.rank)),
            scale_of(0.5 * log_variance) ** 2,
            validate_args=False,
        )


@final
@dataclass(frozen=True)
class Mixture(GaussianPosterior):
    """Mixture of diagonal Gaussians.

    Training draws from it in strata, `n_draws` from each component: see `sgvb`.

    Parameters
    ----------
    n_components : int
        Number of Gaussians.

    Examples
    --------
    >>> from aevb import VAE, posteriors
    >>> VAE(posterior=posteriors.Mixture(n_components=3))
    VAE(posterior=Mixture(n_components=3))
    """

    n_components: int = 5
    name: ClassVar[str] = "mixture"

    def __post_init__(self) -> None:
        integer(self.n_components, "n_components", minimum=1)

    def n_parameters(self, latent_dim):  # noqa: D102
        return self.n_components * (1 + 2 * latent_dim)

    def parameters_at(self, start):  # noqa: D102
        n, (latent_dim, size) = self.n_components, start.weight.shape
        # Components that coincide would stay together.
        apart = 0.1 * (jnp.arange(n)[:, None] - (n - 1) / 2) * start.unit
        weights = [jnp.zeros((n, size)), jnp.tile(start.weight, (n, 1))]
        return Start(
            jnp.concatenate([*weights, jnp.zeros((n * latent_dim, size))]),
            jnp.concatenate(
                [jnp.zeros(n), jnp.ravel(start.bias + apart), jnp.tile(2 * jnp.log(start.unit), n)]
            ),
            jnp.concatenate([jnp.ones(n), jnp.tile(start.unit, n), jnp.ones(n * latent_dim)]),
        )

    def member(self, reals, latent_dim):  # noqa: D102
        logits, rest = jnp.split(reals, [self.n_components])
        mean, log_variance = jnp.reshape(rest, (2, self.n_components, latent_dim))
        components = dist.Normal(mean, scale_of(0.5 * log_variance), validate_args=False)
        return dist.MixtureSameFamily(
            dist.Categorical(logits=logits, validate_args=False),
            components.to_event(1),
            validate_args=False,
        )


@final
@dataclass(frozen=True)
class Reparameterised(Parametric):
    """Independent components of a family of the paper's section 2.4, by its name there.

    Parameters
    ----------
    family : str
        A name of `aevb.probability.FAMILIES`: "laplace", "student-t", "gamma", ... A family
        on the positive numbers, an interval or a simplex needs a prior on the same set.

    Examples
    --------
    >>> import numpyro.distributions as dist
    >>> from aevb import VAE
    >>> vae = VAE(posterior="gamma", prior=dist.Gamma(2.0, 1.0))
    """

    family: str
    name: ClassVar[str] = "reparameterised"

    def __post_init__(self) -> None:
        choose(self.family, FAMILIES, "family")

    def n_parameters(self, latent_dim):  # noqa: D102
        return FAMILIES[self.family].n_parameters * latent_dim

    def member(self, reals, latent_dim):  # noqa: D102
        return FAMILIES[self.family].from_reals(jnp.reshape(reals, (-1, latent_dim)))


@final
@dataclass(frozen=True)
class Flow(Posterior):
    """Normalising flow: a Gaussian of the features, bent by layers that see the features, too.

    Autoregressive layers make the inverse autoregressive flow of Kingma et al. (2016),
    https://arxiv.org/abs/1606.04934: fast to draw from, slow in the density of other points than
    its draws. Coupling layers are fast in both. Needs FlowJAX: ``pip install 'aevb[flows]'``.

    Parameters
    ----------
    layer : {"autoregressive", "coupling"}
        Kind of the layers.
    n_layers : int
        Number of layers.
    width : int
        Units of the hidden layer in the network of each, and length of what they see of x.

    Examples
    --------
    >>> from aevb import VAE, posteriors
    >>> VAE(posterior=posteriors.Flow("coupling", n_layers=4))
    VAE(posterior=Flow(layer='coupling', n_layers=4, width=50))
    """

    layer: str = "autoregressive"
    n_layers: int = 2
    width: int = 50
    name: ClassVar[str] = "flow"

    def __post_init__(self) -> None:
        check_options(self.layer, self.n_layers, self.width)

    def build(self, n_features, latent_dim, *, key):  # noqa: D102
        key_linear, key_layers = random.split(key)
        bijection = Bijection(
            self.layer,
            latent_dim,
            self.width,
            self.n_layers,
            self.width,
            fast_sample=True,
            key=key_layers,
        )
        linear = Linear(n_features, 2 * latent_dim + self.width, key=key_linear)
        return FlowHead(linear, bijection, latent_dim)


@final
class FlowHead(Conditional):
    """A Gaussian from the features of one datum, and a bijection with the features for context."""

    linear: Linear
    bijection: Bijection
    latent_dim: int = field(static=True)

    def __call__(self, *given: Float[Array, " n_features"]) -> dist.Distribution:
        """Return q(z|x) for the features of one datum."""
        (h,) = given
        reals, condition = jnp.split(self.linear(h), [2 * self.latent_dim])
        base = Normal().member(reals, self.latent_dim)
        return FlowDistribution(base, self.bijection(), condition)


#: The classes above, by name.
POSTERIOR_CLASSES: dict[str, type[Posterior]] = {
    cls.name: cls for cls in (Normal, FullNormal, LowRankNormal, Mixture, Reparameterised, Flow)
}

#: What a user's name stands for. The paper's "normal", by its log-variance, comes before FAMILIES'.
POSTERIORS: dict[str, Callable[[], Posterior]] = {
    **{cls.name: cls for cls in (Normal, FullNormal, LowRankNormal, Mixture)},
    "iaf": Flow,
    "coupling": partial(Flow, "coupling", n_layers=4),
    **{name: partial(Reparameterised, name) for name in FAMILIES if name != Normal.name},
}


def make_posterior(posterior: Any) -> Posterior:
    """Return the family that a user's `posterior` stands for."""
    if isinstance(posterior, Posterior):
        return posterior
    return choose(posterior, POSTERIORS, "posterior", " or a Posterior")()
