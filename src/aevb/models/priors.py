"""Priors p(z) over the latent space.

A `Prior` is the family that the user names; what it builds is the part of the model, which
training moves. In your own model, ``latent_prior = Mixture(10).build(latent_dim, key=key)``
is a field, and ``latent_prior()`` is p(z); that of `Vamp`, built with ``examples=``, is called with
the encoder: ``latent_prior(self.posterior)``. The name keeps it out of reach of a `weight_prior`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, final

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from equinox import field
from jax import Array
from jaxtyping import Float, PyTree, Shaped
from jaxtyping import PRNGKeyArray as Key
from numpyro.distributions import constraints
from numpyro.distributions.distribution import ExpandedDistribution

from aevb.errors import choose, integer
from aevb.models.base import Frozen
from aevb.models.checks import family_of
from aevb.models.conditional import Conditional
from aevb.models.flows import Bijection, FlowDistribution, check_options
from aevb.models.kinds.rows import dense, n_cases, take
from aevb.probability.measures import Measure, measure_of
from aevb.probability.special import scale_of

__all__ = ["Fixed", "Flow", "LearnedNormal", "Mixture", "Normal", "Prior", "Vamp"]


@dataclass(frozen=True)
class Prior(ABC):
    """A family of priors p(z), as the user names it; subclasses are final."""

    name: ClassVar[str]

    @property
    def n_examples(self) -> int:
        """Number of training cases it starts from."""
        return 0

    @abstractmethod
    def build(
        self,
        latent_dim: int,
        *,
        examples: Shaped[Array | np.ndarray, "n_components ..."] | None = None,
        key: Key,
    ) -> Conditional:
        """Build the part of the model: () -> p(z), or for `Vamp` encoder -> p(z).

        `examples` are `n_examples` training cases, on the scale on which the encoder's body works.
        """


@final
@dataclass(frozen=True)
class Normal(Prior):
    """The standard normal N(0, I) of the paper; it has no parameters."""

    name: ClassVar[str] = "normal"

    def build(self, latent_dim, *, examples=None, key=None):  # noqa: D102
        return NormalPrior(latent_dim)


@final
class NormalPrior(Conditional):
    """N(0, I) in `latent_dim` dimensions."""

    latent_dim: int = field(static=True)

    def __call__(self, *given: PyTree) -> dist.Distribution:
        """Return p(z)."""
        return dist.Normal(jnp.zeros(self.latent_dim), jnp.ones(self.latent_dim)).to_event(1)


@final
@dataclass(frozen=True)
class LearnedNormal(Prior):
    """Diagonal Gaussian with learned mean and scale, from N(0, I)."""

    name: ClassVar[str] = "learned-normal"

    def build(self, latent_dim, *, examples=None, key=None):  # noqa: D102
        return LearnedNormalPrior(jnp.zeros(latent_dim), jnp.zeros(latent_dim))


@final
class LearnedNormalPrior(Conditional):
    """N(loc, diag exp(log_scale)²)."""

    loc: Float[Array, " latent_dim"]
    log_scale: Float[Array, " latent_dim"]

    def __call__(self, *given: PyTree) -> dist.Distribution:
        """Return p(z)."""
        return dist.Normal(self.loc, scale_of(self.log_scale), validate_args=False).to_event(1)


@final
@dataclass(frozen=True)
class Mixture(Prior):
    """Learned mixture of diagonal Gaussians, from means drawn from N(0, I).

    Parameters
    ----------
    n_components : int
        Number of Gaussians.

    Examples
    --------
    >>> from aevb import VAE, priors
    >>> VAE(prior=priors.Mixture(n_components=20))
    VAE(prior=Mixture(n_components=20))
    """

    n_components: int = 10
    name: ClassVar[str] = "mixture"

    def __post_init__(self) -> None:
        integer(self.n_components, "n_components", minimum=1)

    def build(self, latent_dim, *, examples=None, key):  # noqa: D102
        shape = self.n_components, latent_dim
        return MixturePrior(
            jnp.zeros(self.n_components), jax.random.normal(key, shape), jnp.zeros(shape)
        )


@final
class MixturePrior(Conditional):
    """Σ_k softmax(logits)_k N(loc_k, diag exp(log_scale_k)²)."""

    logits: Float[Array, " K"]
    loc: Float[Array, "K latent_dim"]
    log_scale: Float[Array, "K latent_dim"]

    def __call__(self, *given: PyTree) -> dist.Distribution:
        """Return p(z)."""
        components = dist.Normal(self.loc, scale_of(self.log_scale), validate_args=False)
        return dist.MixtureSameFamily(
            dist.Categorical(logits=self.logits, validate_args=False),
            components.to_event(1),
            validate_args=False,
        )


@final
@dataclass(frozen=True)
class Vamp(Prior):
    r"""VampPrior: the mixture of the posterior at K learned pseudo-inputs.

    .. math:: p(z) = \frac1K \sum_k q(z | u_k)

    They start at training cases, evenly spaced in the order of the data. Each step encodes them
    beside its batch. Tomczak and Welling (2018), https://arxiv.org/abs/1705.07120

    Parameters
    ----------
    n_components : int
        The number K, at most the number of training cases.

    Examples
    --------
    >>> from aevb import VAE, priors
    >>> VAE(prior=priors.Vamp(n_components=100))
    VAE(prior=Vamp(n_components=100))
    """

    n_components: int = 50
    name: ClassVar[str] = "vamp"

    def __post_init__(self) -> None:
        integer(self.n_components, "n_components", minimum=1)

    @property
    def n_examples(self):  # noqa: D102
        return self.n_components

    def build(self, latent_dim, *, examples=None, key=None):  # noqa: D102
        if examples is None:
            raise ValueError(
                "Expected the training cases that the pseudo-inputs start from for `examples` of "
                "Vamp.build; got None. Give an array of shape (n_components, ...)."
            )
        return VampPrior(examples)


@final
class VampPrior(Conditional):
    """The mixture of q(z|u) over some pseudo-inputs, shape (K, *shape of one datum)."""

    inputs: Shaped[Array, "K ..."]

    def __call__(self, *given: Callable) -> dist.Distribution:
        """Return p(z) given an encoder x -> q(z|x)."""
        (encoder,) = given
        return EqualMixture(encoder, self.inputs)


class EqualMixture(dist.Distribution):
    r"""The mixture :math:`\frac1K \sum_k q(z | u_k)` over inputs :math:`u_1, \dots, u_K`.

    Parameters
    ----------
    conditional : callable PyTree
        u -> q(z|u).
    inputs : Array
        Shape (K, ...).

    Examples
    --------
    >>> import jax, jax.numpy as jnp, numpyro.distributions as dist
    >>> mixture = EqualMixture(lambda u: dist.Normal(u, 1.0).to_event(1), jnp.array([[0.0], [2.0]]))
    >>> mixture.mean.tolist(), mixture.variance.tolist(), mixture.log_prob(jnp.ones(1)).shape
    ([1.0], [2.0], ())
    """

    arg_constraints: ClassVar[dict] = {}
    pytree_data_fields = ("conditional", "inputs")
    has_rsample = False

    def __init__(
        self,
        conditional: Callable,
        inputs: Shaped[Array | np.ndarray, "K ..."],
        *,
        validate_args: bool | None = None,
    ):
        self.conditional, self.inputs = conditional, inputs
        super().__init__((), self.component.event_shape, validate_args=validate_args)
        entry = getattr(self.support, "base_constraint", self.support)
        if not isinstance(entry, constraints.ParameterFreeConstraint):
            raise ValueError(
                "Expected a posterior whose support is the same for every datum beside prior "
                f"'vamp', a mixture of its members; got {family_of(self.component)}, "
                "whose support is learned. Choose another prior or posterior."
            )

    @property
    def support(self) -> constraints.Constraint:
        """The support that all components share."""
        return self.component.support

    @property
    def measure(self) -> Measure | None:
        """What the densities of all components are relative to."""
        return measure_of(self.component)

    @property
    def component(self) -> dist.Distribution:
        """The first component."""
        return self.conditional(self.inputs[0])

    def over_components(self, function: Callable) -> Array:
        """Map a function over the components."""
        # Through the inputs: what all components share (a flow's layers) is not copied for each,
        # and under a batch of rows the inputs are still encoded once.
        return jax.vmap(lambda u: function(self.conditional(u)))(self.inputs)

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw a component, and a value from it."""
        key_k, key_z = jax.random.split(key)
        k = jax.random.randint(key_k, sample_shape, 0, len(self.inputs))

        def draw(k: Array, key: Key) -> Array:
            return self.conditional(self.inputs[k]).sample(key)

        for _ in sample_shape:
            draw = jax.vmap(draw)
        return draw(k, jax.random.split(key_z, sample_shape) if sample_shape else key_z)

    def log_prob(self, value: Array | np.ndarray) -> Array:
        """Return the log-density, nats."""
        each = self.over_components(lambda q: q.log_prob(value))
        return jax.nn.logsumexp(each, axis=0) - math.log(len(self.inputs))

    @property
    def mean(self) -> Array:
        """Expectation."""
        return jnp.mean(self.over_components(lambda q: q.mean), axis=0)

    @property
    def variance(self) -> Array:
        """Variance of each entry."""
        means = self.over_components(lambda q: q.mean)
        within = jnp.mean(self.over_components(lambda q: q.variance), axis=0)
        return within + jnp.var(means, axis=0)


@final
@dataclass(frozen=True)
class Flow(Prior):
    """Normalising flow from N(0, I), whose density is fast: masked autoregressive, or coupling.

    Needs FlowJAX: ``pip install 'aevb[flows]'``. Papamakarios et al. (2017),
    https://arxiv.org/abs/1705.07057

    Parameters
    ----------
    layer : {"autoregressive", "coupling"}
        Kind of the layers.
    n_layers : int
        Number of layers.
    width : int
        Units of the hidden layer in the network of each.

    Examples
    --------
    >>> from aevb import VAE, priors
    >>> VAE(prior=priors.Flow(n_layers=2))
    VAE(prior=Flow(layer='autoregressive', n_layers=2, width=50))
    """

    layer: str = "autoregressive"
    n_layers: int = 4
    width: int = 50
    name: ClassVar[str] = "flow"

    def __post_init__(self) -> None:
        check_options(self.layer, self.n_layers, self.width)

    def build(self, latent_dim, *, examples=None, key):  # noqa: D102
        bijection = Bijection(
            self.layer,
            latent_dim,
            None,
            self.n_layers,
            self.width,
            fast_sample=False,
            key=key,
        )
        return FlowPrior(bijection, latent_dim)


@final
class FlowPrior(Conditional):
    """N(0, I), bent by a bijection."""

    bijection: Bijection
    latent_dim: int = field(static=True)

    def __call__(self, *given: PyTree) -> dist.Distribution:
        """Return p(z)."""
        return FlowDistribution(NormalPrior(self.latent_dim)(), self.bijection())


@final
@dataclass(frozen=True, eq=False)
class Fixed(Prior):
    """A distribution of NumPyro as it is; independent entries, if it is one over numbers."""

    distribution: dist.Distribution
    name: ClassVar[str] = "fixed"
    __eq__, __hash__ = object.__eq__, object.__hash__  # a distribution is equal to itself alone

    def build(self, latent_dim, *, examples=None, key=None):  # noqa: D102
        shape = self.distribution.batch_shape + self.distribution.event_shape
        if shape not in ((), (latent_dim,)):
            raise ValueError(
                f"Expected a distribution over numbers, or over vectors of shape ({latent_dim},), "
                f"for `prior`; got one of batch shape {self.distribution.batch_shape} and event "
                f"shape {self.distribution.event_shape}."
            )
        arrays = jax.tree.map(jnp.asarray, self.distribution)
        return FixedPrior(Frozen(_validated(arrays)), latent_dim)


def _validated(d: dist.Distribution) -> dist.Distribution:
    # NumPyro's densities go on outside of their support, which would raise the bound, unless asked.
    d._validate_args = True
    if isinstance(d, (dist.Independent, ExpandedDistribution)):
        _validated(d.base_dist)
    return d


@final
class FixedPrior(Conditional):
    """A distribution that training leaves as it is, over vectors of length `latent_dim`."""

    distribution: Frozen
    latent_dim: int = field(static=True)

    def __call__(self, *given: PyTree) -> dist.Distribution:
        """Return p(z)."""
        d = self.distribution.value
        if not d.batch_shape + d.event_shape:
            d = d.expand((self.latent_dim,))
        return d.to_event(1 - len(d.event_shape))


#: The classes that a user names, or builds with options.
PRIORS: dict[str, type[Prior]] = {
    cls.name: cls for cls in (Normal, LearnedNormal, Mixture, Vamp, Flow)
}


def make_prior(prior: Any) -> Prior:
    """Return the family that a user's `prior` stands for."""
    if isinstance(prior, Prior):
        return prior
    if isinstance(prior, dist.Distribution):
        return Fixed(prior)
    return choose(prior, PRIORS, "prior", ", a Prior or a distribution of NumPyro")()


def examples_for(prior: Prior, X: PyTree) -> PyTree[Shaped[np.ndarray, "n_examples ..."]]:
    """Choose the training cases that a prior starts from, evenly spaced; None if it needs none."""
    n, n_rows = prior.n_examples, n_cases(X)
    if n > n_rows:
        raise ValueError(
            f"Expected at least {n} training cases for prior 'vamp' with n_components={n}; got "
            f"{n_rows}. Choose fewer: prior=priors.Vamp(n_components=...)."
        )
    return dense(take(X, np.linspace(0, n_rows - 1, n).astype(int))) if n else None
