"""Normalising flows as distributions; the learned bijections are FlowJAX's (the extra `flows`)."""

from __future__ import annotations

import copy
import functools
import math
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, PyTree
from jaxtyping import PRNGKeyArray as Key
from numpyro.distributions import Distribution, constraints

from aevb.errors import choose, integer
from aevb.probability.measures import Measure, image_of, measure_of

MOMENT_DRAWS = 256
MIN_SCALE = 1e-2
LAYERS = ("autoregressive", "coupling")

Option = str | int | None  # of what FlowJAX builds


def check_options(layer: Any, n_layers: Any, width: Any) -> None:
    """Raise ValueError or TypeError for options that do not make a flow."""
    choose(layer, dict.fromkeys(LAYERS), "layer")
    integer(n_layers, "n_layers", minimum=1)
    integer(width, "width", minimum=1)


class FlowDistribution(Distribution):
    r"""Law of z = f(u; c), u ~ `base`, for an invertible map f of FlowJAX.

    .. math:: \log q(z) = \log p_\mathrm{base}(u) - \log \left| \det \partial f / \partial u \right|

    Its mean and variance are averages over 256 draws, the same at every call.

    Parameters
    ----------
    base : Distribution
        Over real vectors of shape (d,).
    bijection : flowjax.bijections.AbstractBijection
        The map f, of shape (d,).
    condition : Array, optional
        The context c of a conditional map.

    Examples
    --------
    >>> import jax, jax.numpy as jnp, numpyro.distributions as dist
    >>> from flowjax.bijections import Affine
    >>> base = dist.Normal(jnp.zeros(2), 1.0).to_event(1)
    >>> flow = FlowDistribution(base, Affine(jnp.ones(2), 2 * jnp.ones(2)))
    >>> z, log_prob = flow.sample_and_log_prob(jax.random.key(0), (5,))
    >>> z.shape, bool(jnp.allclose(log_prob, flow.log_prob(z), atol=1e-4))
    ((5, 2), True)
    """

    arg_constraints: ClassVar[dict] = {}
    support = constraints.real_vector
    pytree_data_fields = ("base", "condition", "_arrays")
    pytree_aux_fields = ("_static",)

    def __init__(
        self,
        base: Distribution,
        bijection: PyTree,
        condition: Float[Array, " condition_dim"] | None = None,
        *,
        validate_args: bool | None = None,
    ):
        import paramax

        self.base, self.condition = base, condition
        self._arrays, self._static = eqx.partition(paramax.unwrap(bijection), eqx.is_array)
        super().__init__((), base.event_shape, validate_args=validate_args)

    @property
    def has_rsample(self) -> bool:
        """Whether `base` is reparameterised."""
        return self.base.has_rsample

    @property
    def measure(self) -> Measure | None:
        """What the density is relative to: volume, unless that of `base` is not."""
        return image_of(measure_of(self.base), self.event_shape, (self._arrays,))

    def sample(self, key: Key, sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw u, and map it."""
        return self.sample_and_log_prob(key, sample_shape)[0]

    def sample_and_log_prob(
        self, key: Key, sample_shape: tuple[int, ...] = ()
    ) -> tuple[Array, Array]:
        """Draw, with the log-density of each draw, nats: cheap also where the inverse is not."""
        u = self.base.sample(key, sample_shape)
        z, log_det = self._over("transform_and_log_det", u)
        return z, self.base.log_prob(u) - log_det

    def log_prob(self, value: Array | np.ndarray) -> Array:
        """Return the log-density, nats."""
        u, log_det = self._over("inverse_and_log_det", value)
        return self.base.log_prob(u) + log_det

    @property
    def mean(self) -> Array:
        """Expectation, estimated from fixed draws."""
        return jnp.mean(self._fixed_draws(), axis=0)

    @property
    def variance(self) -> Array:
        """Variance of each entry, estimated from fixed draws."""
        return jnp.var(self._fixed_draws(), axis=0)

    def of_row(self) -> FlowDistribution:
        """Return what is this datum's own, without the arrays that all data share."""
        return self._with(None, self._static)

    def sharing(self, other: FlowDistribution) -> FlowDistribution:
        """Undo `of_row`, with the map of another; `jax.vmap` and indices leave it whole."""
        return self._with(None, _Shared(other._bijection()))

    def _with(self, arrays: PyTree, static: PyTree) -> FlowDistribution:
        changed = copy.copy(self)
        changed._arrays, changed._static = arrays, static
        return changed

    def _bijection(self) -> PyTree:
        if isinstance(self._static, _Shared):
            return self._static.bijection
        return eqx.combine(self._arrays, self._static)

    def _over(self, method: str, vectors: Array | np.ndarray) -> tuple[Array, Array]:
        function = getattr(self._bijection(), method)
        signature = "(d)->(d),()"
        apply = jnp.vectorize(lambda v: function(v, self.condition), signature=signature)
        return apply(vectors)

    def _fixed_draws(self) -> Array:
        u = self.base.sample(jax.random.key(0), (MOMENT_DRAWS,))
        # Some at a time: many rows at once, with all draws of each, would fill the memory.
        return jax.lax.map(lambda v: self._over("transform_and_log_det", v)[0], u, batch_size=32)


class _Shared:
    """A map that is equal to itself alone, to stand among what is static."""

    def __init__(self, bijection: PyTree):
        self.bijection = bijection


class Bijection(eqx.Module):
    """A learned bijection of FlowJAX in a model: a chain of affine layers, permuted in between.

    Parameters
    ----------
    layer : {"autoregressive", "coupling"}
        Whether a layer moves each entry given those before it, or half of them given the others.
    dim : int
        Length of the vectors, at least 2.
    condition_dim : int or None
        Length of the context.
    n_layers : int
        Number of layers.
    width : int
        Units of the hidden layer in the network of each.
    fast_sample : bool
        Autoregressive layers are fast in one direction: when sampling, or in ``log_prob``.
    at_identity : bool
        Whether it begins as the identity, up to the order of the entries.
    key : Array
        JAX random key.

    Raises
    ------
    ImportError
        When FlowJAX is not installed.
    ValueError
        For vectors of a single entry.
    """

    arrays: PyTree
    options: tuple[Option, ...] = eqx.field(static=True)

    def __init__(
        self,
        layer: str,
        dim: int,
        condition_dim: int | None,
        n_layers: int,
        width: int,
        *,
        fast_sample: bool,
        at_identity: bool = False,
        key: Key,
    ):
        if dim < 2:
            raise ValueError(
                f"Expected a `latent_dim` of at least 2 for a flow; got {dim}. In one dimension "
                "its layers are affine: use 'normal' or 'mixture'."
            )
        self.options = (layer, dim, condition_dim, n_layers, width, not fast_sample)
        built = _build(key, *self.options)
        self.arrays = eqx.filter(_at_identity(built) if at_identity else built, eqx.is_array)

    def __call__(self) -> PyTree:
        """Return FlowJAX's object."""
        return eqx.combine(self.arrays, _without_arrays(*self.options))


@functools.cache
def _without_arrays(*options: Option) -> PyTree:
    """Return what no training changes: functions, some of which could not be pickled."""
    shapes = eqx.filter_eval_shape(_build, jax.random.key(0), *options)
    return eqx.filter(shapes, lambda leaf: not isinstance(leaf, jax.ShapeDtypeStruct))


def _build(
    key: Key,
    layer: str,
    dim: int,
    condition_dim: int | None,
    n_layers: int,
    width: int,
    invert: bool,
) -> PyTree:
    try:
        from flowjax.bijections import Coupling, MaskedAutoregressive
        from flowjax.distributions import StandardNormal
        from flowjax.flows import coupling_flow, masked_autoregressive_flow
    except ImportError as error:
        raise ImportError(
            "Expected FlowJAX to be installed, for a posterior or prior that is a flow. Install it "
            "with: pip install 'aevb[flows]'"
        ) from error
    build = masked_autoregressive_flow if layer == "autoregressive" else coupling_flow
    normal: Any = StandardNormal
    bijection = build(
        key,
        base_dist=normal((dim,)),
        transformer=_affine(jnp.zeros(2)),
        cond_dim=condition_dim,
        flow_layers=n_layers,
        nn_width=width,
        invert=invert,
    ).bijection

    def is_layer(node: PyTree) -> bool:
        return isinstance(node, (Coupling, MaskedAutoregressive))

    def settle(node: PyTree) -> PyTree:
        # FlowJAX makes this function on the spot, with arrays in it that belong to one trace.
        if not is_layer(node):
            return node
        return eqx.tree_at(lambda layer: layer.transformer_constructor, node, _affine)

    return jax.tree.map(settle, bijection, is_leaf=is_layer)


def _at_identity(bijection: PyTree) -> PyTree:
    """Set the last map of each layer's network to zero: `_affine` of zeros is the identity."""
    from flowjax.bijections import Coupling, MaskedAutoregressive

    def network(layer: PyTree) -> PyTree:
        return layer.conditioner if isinstance(layer, Coupling) else layer.masked_autoregressive_mlp

    def is_layer(node: PyTree) -> bool:
        return isinstance(node, (Coupling, MaskedAutoregressive))

    def zeros(tree: PyTree) -> PyTree:
        return jax.tree.map(lambda a: jnp.zeros_like(a) if eqx.is_inexact_array(a) else a, tree)

    def settle(node: PyTree) -> PyTree:
        if not is_layer(node):
            return node
        return eqx.tree_at(lambda layer: network(layer).layers[-1], node, replace_fn=zeros)

    return jax.tree.map(settle, bijection, is_leaf=is_layer)


def _affine(parameters: Float[Array, " 2"]) -> PyTree:
    """Return the map of one entry, from the two numbers that a layer's network gives for it."""
    loc, raw = parameters
    return affine(loc, MIN_SCALE + (1 - MIN_SCALE) * jax.nn.softplus(raw) / math.log(2))  # at 0: 1


def affine(loc: Float[Array, "*shape"], scale: Float[Array, "*shape"]) -> PyTree:
    """Return FlowJAX's map ``scale * u + loc``, entry by entry."""
    blank = _blank_affine(jnp.shape(loc))
    return eqx.tree_at(lambda affine: (affine.loc, affine.scale), blank, (loc, scale))


@functools.cache
def _blank_affine(shape: tuple[int, ...]) -> PyTree:
    from flowjax.bijections import Affine

    return eqx.filter_eval_shape(Affine, jnp.zeros(shape), jnp.ones(shape))
