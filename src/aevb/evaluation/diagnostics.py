"""Which estimator to train with: the variance and the cost of each one's gradient."""

from __future__ import annotations

import math
import numbers
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, PyTree, Shaped
from jaxtyping import PRNGKeyArray as Key

from aevb.compiling import jit
from aevb.errors import integer
from aevb.inference.estimators import Estimate, Estimator
from aevb.inference.full_vb import Bayesian
from aevb.inference.sgvb import find_estimator
from aevb.models.base import LatentVariableModel, given, name_of, trainable
from aevb.models.checks import check_model

# Those of the ELBO first, so that what `train` does by default is the first row.
CANDIDATES: tuple[tuple[str, int], ...] = (
    *((name, n_draws) for name in ("auto", "A", "B", "stl") for n_draws in (1, 5)),
    ("score", 5),
    *((name, k) for k in (2, 5, 20) for name in ("iw", "dreg", "vimco")),
)
TIMED_CALLS = 20
ALL = "all"


class GradientVariance(NamedTuple):
    """What `gradient_variance` returns; it prints as a table.

    Attributes
    ----------
    rows : dict of list
        One entry per estimator and group of parameters, by column, which ``pandas.DataFrame(rows)``
        reads: ``estimator``, ``n_draws``; ``objective``, whose gradient is estimated: ``elbo`` or
        ``iw_k``; ``group``; ``variance``, the trace of the gradient's covariance, and
        ``variance_se``, its standard error; ``squared_norm`` of the expected gradient, estimated
        without bias and so at times negative; ``snr``, the root of squared norm over variance;
        ``milliseconds`` per gradient; ``variance_x_cost``, variance times milliseconds relative to
        the first estimator of the same objective.
    refused : dict
        Reason by (estimator, n_draws), for those that cannot serve the model.
    n_rows, n_repeats : int
        Rows of the minibatch, and gradients per estimator.
    """

    rows: dict[str, list]
    refused: dict[tuple[str, int], str]
    n_rows: int
    n_repeats: int

    def __str__(self) -> str:
        """Return the table, a line per estimator, and who is best for each objective."""
        groups = list(dict.fromkeys(self.rows["group"]))
        records = [
            dict(zip(self.rows, entry, strict=True))
            for entry in zip(*self.rows.values(), strict=True)
        ]
        rivals: dict[str, list[dict[str, Any]]] = {}
        lines = [["estimator", "draws", "objective", "ms", *groups, "SNR", "var × cost"]]
        for start in range(0, len(records), len(groups)):
            by_group = records[start : start + len(groups)]
            row = by_group[-1]  # of all parameters
            rivals.setdefault(row["objective"], []).append(row)
            lines.append(
                [
                    *(row["estimator"], str(row["n_draws"]), row["objective"]),
                    f"{row['milliseconds']:.3g}",
                    *(f"{each['variance']:.3g} ± {each['variance_se']:.1g}" for each in by_group),
                    *(f"{row['snr']:.2g}", f"{row['variance_x_cost']:.2g}"),
                ]
            )
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        title = (
            f"Variance of the gradient of the mean over {self.n_rows} rows, by group of "
            f"parameters ({self.n_repeats} repeats)"
        )
        table = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
        refusals = [f"Refused: {name} ({n}). {why}" for (name, n), why in self.refused.items()]
        least = [
            f"Least variance × time for {'the ELBO' if objective == 'elbo' else objective}: "
            "{estimator}, {} = {n_draws}".format("L" if objective == "elbo" else "k", **best)
            for objective, rows in rivals.items()
            if len(rows) > 1
            for best in [min(rows, key=lambda row: row["variance"] * row["milliseconds"])]
        ]
        return "\n".join([title, *table, *refusals, *least])

    def __repr__(self) -> str:
        return str(self)


def gradient_variance(
    model: LatentVariableModel,
    data: PyTree,
    *,
    context: PyTree = None,
    estimators: Sequence[tuple[str | Estimator, int]] | None = None,
    n_repeats: int = 100,
    key: Any = 0,
    where: Callable[[str], str] | None = None,
) -> GradientVariance:
    r"""Measure how noisy each estimator's gradient is at a model and a minibatch, and its cost.

    .. math:: \operatorname{tr} \operatorname{Cov}_\epsilon \Big[ \nabla \frac1M
        \sum_{i=1}^M \tilde{\mathcal{L}}(x_i, \epsilon_i) \Big]

    over the noise of the draws alone; what the choice of rows adds is the same for all estimators.
    An average of gradients reaches a given precision in a time proportional to variance × cost,
    the figure by which to compare estimators and numbers of draws.

    Compare within one objective only: ``"iw"``, ``"dreg"`` and ``"vimco"`` estimate the gradient of
    the importance-weighted bound, another function for each k, whose variance and norm say nothing
    beside those of the ELBO. ``"auto"`` is ``"B"`` or ``"A"``, whichever the model allows.

    Parameters
    ----------
    model : LatentVariableModel
        The model, such as ``vae.model_``; the figures hold at its present parameters.
    data : PyTree of arrays, shape (n, ...)
        One minibatch, of the size that training uses.
    context : PyTree of arrays, shape (n, ...), optional
        Context of each datapoint.
    estimators : sequence of (str or callable, int), optional
        Pairs of an estimator, as in `sgvb`, and its number of draws L or k. None: those of the ELBO
        that need reparameterised draws with 1 and 5 draws, ``"score"`` with 5, those of the
        importance-weighted bound with 2, 5 and 20.
    n_repeats : int
        Independent gradients per estimator; all estimators see the same noise.
    key : Array or int
        JAX random key, or a seed for one.
    where : callable, optional
        Maps the path of a parameter, ``"encoder.body.weight"`` say, to the name of its group. None:
        the fields of the model. Several groups are followed by ``"all"``, their sum.

    Returns
    -------
    GradientVariance
        ``.rows`` and ``.refused``. Milliseconds are the median of compiled calls taken in turns
        and depend on the machine; hundredths of one are mostly the cost of calling.

    Raises
    ------
    ValueError, TypeError
        For arguments that do not fit, or when no estimator can serve the model.

    References
    ----------
    Kingma and Welling (2013), section 2.2, https://arxiv.org/abs/1312.6114; for the signal-to-noise
    ratio, Rainforth et al. (2018), https://arxiv.org/abs/1802.04537

    Examples
    --------
    At the exact posterior the gradient of ``"stl"`` has no noise:

    >>> import aevb, jax, jax.numpy as jnp, numpyro.distributions as dist
    >>> class Shift(aevb.LatentVariableModel):
    ...     weight: jax.Array
    ...     def prior(self):
    ...         return dist.Normal()
    ...     def likelihood(self, z):
    ...         return dist.Normal(z, 1.0)
    ...     def posterior(self, x):
    ...         return dist.Normal(self.weight * x, 0.5**0.5)
    >>> report = aevb.gradient_variance(
    ...     Shift(jnp.array(0.5)), jnp.array([2.0]), estimators=[("A", 1), ("stl", 1)]
    ... )
    >>> a, stl = report.rows["variance"]
    >>> a > 1, stl < 1e-9
    (True, True)
    """
    if not isinstance(model, LatentVariableModel):
        raise TypeError(
            f"Expected a LatentVariableModel for `model`; got {name_of(model)}. Of a fitted "
            "estimator, give its `model_`."
        )
    if isinstance(model, Bayesian):
        raise TypeError(
            "Expected a model whose parameters are known for `model`; got Bayesian, whose gradient "
            "has noise of the parameters' draws too. Give `model.at_mean()`, at their means."
        )
    pairs = _check_pairs(CANDIDATES if estimators is None else estimators)
    n_repeats = integer(n_repeats, "n_repeats", minimum=2)
    x, c, n_rows = _check_rows(data, context)
    key = jax.random.key(int(key), impl="rbg") if isinstance(key, numbers.Integral) else key
    x_0, c_0 = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), (x, c))
    check_model(model, x_0, c_0)
    groups = _groups(model, where)

    serving, refused = [], {}
    for name, estimator, n_draws in pairs:
        try:
            shapes = _shapes(model, estimator, n_draws, x_0, c_0, key)
        except ValueError as error:
            refused[name, n_draws] = str(error)
        else:
            objective = f"iw_{n_draws}" if "iw_bound" in shapes.metrics else "elbo"
            serving.append((name, objective, estimator, n_draws))
    if not serving:
        reasons = "; ".join(f"{name!r}, {n}: {why}" for (name, n), why in refused.items())
        raise ValueError(
            f"Expected an estimator that can serve `{name_of(model)}` in `estimators`; got none. "
            f"{reasons or 'Give at least one.'}"
        )

    noise = partial(_row_keys, key, n_rows)
    gradients: list[Callable[[Array], list[Array]]] = [
        partial(_gradient, model, estimator, n_draws, x, c) for *_, estimator, n_draws in serving
    ]
    rows: dict[str, list] = {}
    first: dict[tuple[str, str], float] = {}
    for (name, objective, _, n_draws), gradient, cost in zip(
        serving, gradients, _milliseconds(gradients, noise), strict=True
    ):
        for group, moments in _moments(gradient, noise, n_repeats, groups).items():
            work = moments["variance"] * cost
            row = {
                "estimator": name,
                "n_draws": n_draws,
                "objective": objective,
                "group": group,
                **moments,
                "milliseconds": cost,
                "variance_x_cost": _ratio(work, first.setdefault((objective, group), work)),
            }
            for column, value in row.items():
                rows.setdefault(column, []).append(value)
    return GradientVariance(rows, refused, n_rows, n_repeats)


def minibatch_gradient(
    model: LatentVariableModel,
    data: PyTree,
    *,
    context: PyTree = None,
    estimator: str | Estimator = "auto",
    n_draws: int = 1,
    batch_size: int = 100,
    n_batches: int = 100,
    key: Any = 0,
    where: Callable[[str], str] | None = None,
) -> dict[str, dict[str, float]]:
    r"""Measure the gradient that training would see next: its norm, and its variance.

    .. math:: \operatorname{tr} \operatorname{Cov} \Big[ \nabla \frac1M
        \sum_{m=1}^M \tilde{\mathcal{L}}(x_{i_m}, \epsilon_m) \Big]

    over the choice of rows, with replacement, and the noise of the draws; `gradient_variance` has
    the noise of the draws alone.

    Parameters
    ----------
    model : LatentVariableModel
        The model.
    data : PyTree of arrays, shape (n, ...)
        Datapoints to draw minibatches from.
    context : PyTree of arrays, shape (n, ...), optional
        Context of each.
    estimator, n_draws
        As in `sgvb`.
    batch_size : int
        Rows of a minibatch, the paper's M.
    n_batches : int
        Minibatches, three or more.
    key : Array or int
        JAX random key, or a seed for one.
    where : callable, optional
        As in `gradient_variance`.

    Returns
    -------
    dict of dict
        By group of parameters: ``variance``, ``variance_se``, ``squared_norm``, ``snr``, as the
        columns of `GradientVariance`. The last group is that of all parameters.

    Examples
    --------
    At the maximum of the bound nothing is left of the gradient but noise:

    >>> import aevb, jax, jax.numpy as jnp, numpyro.distributions as dist
    >>> class Mean(aevb.LatentVariableModel):
    ...     mean: jax.Array
    ...     def prior(self):
    ...         return dist.Normal(self.mean, 1.0)
    ...     def likelihood(self, z):
    ...         return dist.Normal(z, 1.0)
    ...     def posterior(self, x):
    ...         return dist.Normal((x + self.mean) / 2, 0.5**0.5)
    >>> x = jnp.array([1.0, 3.0])
    >>> [minibatch_gradient(Mean(jnp.array(m)), x)["mean"]["snr"] > 1 for m in (2.0, 1.0)]
    [False, True]
    """
    key = jax.random.key(int(key), impl="rbg") if isinstance(key, numbers.Integral) else key
    n_batches = integer(n_batches, "n_batches", minimum=3)
    function, x, c, n_rows = find_estimator(estimator), *_check_rows(data, context)

    def noise(t: np.int32) -> tuple[Array, Array]:
        return _batch(key, n_rows, batch_size, t)

    def gradient(batch: tuple[Array, Array]) -> list[Array]:
        rows, keys = batch
        some_x, some_c = jax.tree.map(lambda leaf: leaf[rows], (x, c))
        return _gradient(model, function, n_draws, some_x, some_c, keys)

    return _moments(gradient, noise, n_batches, _groups(model, where))


@partial(jax.jit, static_argnums=(1, 2))
def _batch(key: Key, n_rows: int, batch_size: int, t: np.int32) -> tuple[Array, Array]:
    """Return the rows of minibatch t, and a key for each."""
    key_rows, key_draws = jax.random.split(jax.random.fold_in(key, t))
    rows = jax.random.randint(key_rows, (batch_size,), 0, n_rows)
    return rows, jax.random.split(key_draws, batch_size)


@partial(jax.jit, static_argnums=1)
def _row_keys(key: Key, n_rows: int, t: np.int32) -> Shaped[Array, " n_rows"]:
    """Return the keys of the rows in repeat t. Not in the gradient: hashing compiles long."""
    return jax.random.split(jax.random.fold_in(key, t), n_rows)


@partial(jit, most=32)  # of the estimators and numbers of draws that take turns
def _gradient(
    model: LatentVariableModel,
    estimator: Estimator,
    n_draws: int,
    x: PyTree,
    c: PyTree,
    keys: Shaped[Array, " n_rows"],
) -> list[Array]:
    """Return the gradient of the mean over the rows, leaf by leaf."""
    parameters, rest = eqx.partition(model, trainable(model))

    def objective(parameters: PyTree) -> Float[Array, ""]:
        model = eqx.combine(parameters, rest)
        row = jax.vmap(lambda x, c, key: estimator(given(model, c), x, key, n_draws).value)
        return jnp.mean(row(x, c, keys))

    return jax.tree.leaves(jax.grad(objective)(parameters))


Moment = Array | np.ndarray  # the first one on the host


class _Moments(NamedTuple):
    """Of the gradients so far: their number and mean; by group, the variance and `spread`.

    With t gradients seen, the squared distance of the next one from their mean, times t / (t + 1),
    has the variance for its expectation. These figures are uncorrelated if the gradient is normal:
    `variance` is their mean, and `spread` the sum of their squared distances from it.
    """

    count: Any  # which hides a method of tuples
    mean: Sequence[Moment]
    variance: Moment
    spread: Moment


def _moments(
    gradient: Callable[[Any], list[Array]],
    noise: Callable[[np.int32], Any],
    n_repeats: int,
    groups: dict[str, list[int]],
) -> dict[str, dict[str, float]]:
    """Return the moments of a gradient by group, keeping the mean of the gradients only."""
    members = tuple(map(tuple, groups.values()))
    zeros = [
        np.zeros(leaf.shape, complex if jnp.iscomplexobj(leaf) else float)
        for leaf in gradient(noise(np.int32(0)))
    ]
    moments = _Moments(np.zeros(()), zeros, np.zeros(len(groups)), np.zeros(len(groups)))
    for t in np.arange(n_repeats, dtype=np.int32):
        moments = _add(moments, gradient(noise(t)), members)
    _, mean, variances, spreads = jax.device_get(moments)
    norms = [np.sum(np.abs(leaf) ** 2, dtype=float) for leaf in mean]
    result = {}
    for (group, leaves), variance, spread in zip(
        groups.items(), variances.tolist(), spreads.tolist(), strict=True
    ):
        norm = float(sum(norms[i] for i in leaves)) - variance / n_repeats
        result[group] = {
            "variance": variance,
            "variance_se": math.sqrt(_ratio(spread, (n_repeats - 1) * (n_repeats - 2))),
            "squared_norm": norm,
            "snr": math.sqrt(_ratio(max(norm, 0.0), variance)),
        }
    return result


@partial(jax.jit, static_argnums=2)
def _add(
    moments: _Moments, gradient: list[Array], members: tuple[tuple[int, ...], ...]
) -> _Moments:
    """Take in one more gradient, by Welford's update: nothing large is subtracted."""
    t, mean, variance, spread = moments
    deviation = [new - old for new, old in zip(gradient, mean, strict=True)]
    mean = [old + step / (t + 1) for old, step in zip(mean, deviation, strict=True)]
    squares = [jnp.sum(jnp.abs(leaf) ** 2) for leaf in deviation]
    square = jnp.stack([sum(squares[i] for i in group) for group in members]) * t / (t + 1)
    surprise = square - variance  # zero the first time
    variance += surprise / jnp.maximum(t, 1)
    return _Moments(t + 1, mean, variance, spread + surprise * (square - variance))


def _milliseconds(
    gradients: list[Callable[[Array], list[Array]]], noise: Callable[[np.int32], Array]
) -> list[float]:
    """Return the median time of each compiled gradient, all taking turns."""
    seconds: list[list[float]] = [[] for _ in gradients]
    for t in np.arange(1 + TIMED_CALLS, dtype=np.int32):
        keys = jax.block_until_ready(noise(t))
        for gradient, taken in zip(gradients, seconds, strict=True):
            began = time.perf_counter()
            jax.block_until_ready(gradient(keys))
            if t > 0:  # the first compiles
                taken.append(time.perf_counter() - began)
    return [1000 * statistics.median(taken) for taken in seconds]


def _shapes(
    model: LatentVariableModel, estimator: Estimator, n_draws: int, x: PyTree, c: PyTree, key: Key
) -> Estimate:
    return eqx.filter_eval_shape(
        lambda model, x, c: estimator(given(model, c), x, key, n_draws), model, x, c
    )


def _groups(model: LatentVariableModel, where: Callable[[str], str] | None) -> dict[str, list[int]]:
    """Return the numbers of the trainable leaves in each group."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(eqx.filter(model, trainable(model)))
    if not leaves:
        raise ValueError(
            f"Expected parameters to train in `{name_of(model)}`; got none. They are the floating "
            "JAX arrays outside `Frozen`."
        )
    groups: dict[str, list[int]] = {}
    for i, (path, _) in enumerate(leaves):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        group = name.split(".")[0] if where is None else where(name)
        if not isinstance(group, str):
            raise TypeError(f"Expected names of groups from `where`; got {group!r} for {name!r}.")
        groups.setdefault(group, []).append(i)
    if len(groups) == 1:
        return groups
    if ALL in groups:
        raise ValueError(
            f"Expected no group named {ALL!r} beside others, as that is their sum; got "
            f"{', '.join(map(repr, groups))}. Name them by `where`."
        )
    return {**groups, ALL: list(range(len(leaves)))}


def _check_pairs(
    estimators: Sequence[tuple[str | Estimator, int]],
) -> list[tuple[str, Estimator, int]]:
    """Return name, function and number of draws of each estimator."""
    checked = []
    for pair in estimators:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise TypeError(
                "Expected pairs of an estimator and its number of draws for `estimators`, "
                f"[('stl', 1)] for instance; got {pair!r}."
            )
        estimator, n_draws = pair
        name = getattr(estimator, "__name__", str(estimator))
        checked.append((name, find_estimator(estimator), integer(n_draws, "n_draws", minimum=1)))
    return checked


def _check_rows(data: PyTree, context: PyTree) -> tuple[PyTree, PyTree, int]:
    """Return data and context on the device, and their number of rows."""
    x, c = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), (data, context))
    shapes = [leaf.shape for leaf in jax.tree.leaves((x, c))]
    counts = {shape[:1] for shape in shapes}
    if not jax.tree.leaves(x) or len(counts) != 1 or counts & {(), (0,)}:
        raise ValueError(
            "Expected arrays with one row per datapoint, at least one and the same number in all, "
            f"for `data` and `context`; got {', '.join(map(str, shapes)) or 'no arrays'}."
        )
    return x, c, shapes[0][0]


def _ratio(numerator: float, denominator: float) -> float:
    if denominator == 0:
        return math.inf if numerator > 0 else math.nan
    return numerator / denominator
