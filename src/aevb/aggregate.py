"""The aggregate posterior: what the codes of many cases follow, as a density to draw from.

Where it differs from the prior, draws from the prior decode to cases unlike the data. A density
fitted to the codes after the training of the networks takes the prior's place: Ghosh et al. (2020),
"From variational to deterministic autoencoders", https://arxiv.org/abs/1903.12436
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from jaxtyping import Float
from jaxtyping import PRNGKeyArray as Key
from numpyro.distributions import Distribution, constraints

from aevb import predict
from aevb.algorithm import train
from aevb.errors import choose
from aevb.inference.objective import Batch
from aevb.learned import Data
from aevb.models.base import LatentVariableModel
from aevb.models.conditional import Conditional
from aevb.models.kinds.rows import n_cases, take
from aevb.models.priors import Fixed, Flow, Mixture, MixturePrior, Prior, Vamp
from aevb.probability.measures import support_of
from aevb.schema import Schema

PRIOR, POSTERIOR = "prior", "posterior"  # from where codes of new cases are drawn
FAMILIES: dict[str, Callable[[], Prior | None]] = {"mixture": lambda: None, "flow": Flow}

_SIZES = (1, 2, 5, 10, 20, 50)  # of mixtures to choose from
_MOST_CASES, _LEAST_CODES = 20_000, 5_000  # whose codes are fitted; draws of few cases, in all
_HELD_OUT = 10  # one in so many cases chooses the size of the mixture, or when training stops
_FEWEST = 20  # cases
_EPOCHS, _PATIENCE = 500, 20  # of a family without a fit of its own
_TOLD_APART, _DRAWS = 1000, 8  # cases that are told apart; draws of each code


class AggregatePosterior(NamedTuple):
    """A density of latents, s(z), fitted to draws z ~ q(z|x) for many x.

    Attributes
    ----------
    family : Prior
        The family, as that of a prior.
    density : callable PyTree
        () -> s(z).
    """

    family: Prior
    density: Conditional


class SamplerComparison(NamedTuple):
    """What `VAE.compare_samplers` returns; it prints as a table.

    Attributes
    ----------
    rows : dict of list
        An entry for the prior and one for the aggregate posterior, by column, which
        ``pandas.DataFrame(rows)`` reads: ``from``; ``log_density``, the mean over the cases of
        E_q(z|x) log s(z), nats per case, and its ``standard_error``; ``difference`` from the prior,
        by which the ELBO of these cases would be higher with s(z) as the prior, and its
        ``difference_se``; ``auc``: how well a random forest tells what decodes from draws of s(z)
        from what decodes from codes of the cases, 0.5: not at all, 1: always; and its ``auc_se``.
    n_cases : int
        Number of cases.
    """

    rows: dict[str, list]
    n_cases: int

    @property
    def better(self) -> str:
        """``"prior"``, unless the cases are likelier under the other, beyond the error."""
        gain, error = self.rows["difference"][1], self.rows["difference_se"][1]
        return POSTERIOR if gain > 2 * error else PRIOR

    def __str__(self) -> str:
        """Return the table, and which of the two is better."""
        lines = [["from", "log density of codes", "minus prior", "told apart (AUC)"]]
        for name, mean, error, gain, gain_error, auc, auc_error in zip(
            *self.rows.values(), strict=True
        ):
            own = f"{gain:+.2f} ± {gain_error:.2f}" if name == POSTERIOR else ""
            lines.append([name, f"{mean:.2f} ± {error:.2f}", own, f"{auc:.2f} ± {auc_error:.2f}"])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        table = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
        title = f"Where new cases come from, seen by {self.n_cases} cases, nats per case"
        said = (
            f"Better: sample(from_={self.better!r}). The ELBO of these cases would change by "
            "'minus prior' if the fitted density were the prior. An AUC of 0.5 means that decoded "
            "draws cannot be told from decoded codes of the cases."
        )
        return "\n".join([title, *table, textwrap.fill(said, 88)])

    def __repr__(self) -> str:
        return str(self)


def as_family(family: Any) -> Prior | None:
    """Return the family that a user's `family` stands for; None: mixtures of several sizes.

    Raises
    ------
    TypeError, ValueError
        For what is not a family of densities that codes decide.
    """
    if isinstance(family, Prior):
        if isinstance(family, Fixed | Vamp):
            raise TypeError(
                f"Expected a family of densities to fit to codes for `family`; got {family!r}. "
                "Choose 'mixture', 'flow', priors.Mixture(...) or priors.Flow(...)."
            )
        return family
    return choose(family, FAMILIES, "family", " or a Prior")()


def fit_aggregate(
    model: LatentVariableModel, data: Data, family: Prior | None, key: Key
) -> AggregatePosterior:
    """Fit a density to draws of the codes of cases, while encoder and decoder stay as they are.

    Parameters
    ----------
    model : LatentVariableModel
        The model.
    data : Data
        Training cases, as the model takes them; at most 20,000 of them are looked at.
    family : Prior or None
        What `as_family` returns.
    key : Array
        JAX random key.

    Raises
    ------
    ValueError
        For few cases, or latents that are not real vectors.
    """
    data = data.some(_MOST_CASES)
    n = n_cases(data)
    if n < _FEWEST:
        raise ValueError(f"Expected at least {_FEWEST} cases for `X`, whose codes vary; got {n}.")
    key_codes, key_fit = jax.random.split(key)
    codes = _codes(model, data, key_codes, math.ceil(_LEAST_CODES / n))
    held = np.arange(n) % _HELD_OUT == 0
    d = codes.shape[-1]
    rest, out = codes[:, ~held].reshape(-1, d), codes[:, held].reshape(-1, d)
    if family is None or isinstance(family, Mixture):
        sizes = _SIZES if family is None else (family.n_components,)
        return _mixture(rest, out, sizes, seed=int(jax.random.bits(key_fit, dtype=jnp.uint16)))
    return AggregatePosterior(family, _trained(family, rest, out, key_fit))


def with_density(model: Any, density: Conditional) -> Any:
    """Return a model of `VAE` whose prior is another density."""
    where = "inner" if hasattr(model, "inner") else None  # under an exposure
    return eqx.tree_at(
        lambda model: (getattr(model, where) if where else model).latent_prior, model, density
    )


def compare_samplers(
    model: Any, aggregate: AggregatePosterior, data: Data, schema: Schema, key: Key
) -> SamplerComparison:
    """Compare the prior with a density fitted to codes, by held-out cases.

    Parameters
    ----------
    model : AutoEncoder, or the like
        The model.
    aggregate : AggregatePosterior
        The other density.
    data : Data
        Held-out cases, as the model takes them.
    schema : Schema
        What is known of the data.
    key : Array
        JAX random key.
    """
    key_codes, *keys = jax.random.split(key, 3)
    codes = _codes(model, data, key_codes, _DRAWS)
    densities = {PRIOR: model.prior(), POSTERIOR: aggregate.density()}
    nats = {name: _log_prob(density, codes) for name, density in densities.items()}
    some = slice(None, None, math.ceil(codes.shape[1] / _TOLD_APART))
    context = take(data.c, some)

    def decoded(z: Any) -> np.ndarray:
        return schema.values(predict.decode(model, z, context=context)).reshape(len(z), -1)

    real = decoded(codes[0, some])
    found = []
    for (name, density), own in zip(densities.items(), keys, strict=True):
        mean, error = _mean(nats[name])
        gain, gain_error = _mean(nats[name] - nats[PRIOR])
        auc, auc_error = _told_apart(real, decoded(density.sample(own, (len(real),))))
        found.append(
            {
                "from": name,
                "log_density": mean,
                "standard_error": error,
                "difference": gain,
                "difference_se": gain_error,
                "auc": auc,
                "auc_se": auc_error,
            }
        )
    rows = {column: [each[column] for each in found] for column in found[0]}
    return SamplerComparison(rows, codes.shape[1])


def _codes(model: Any, data: Data, key: Key, n_draws: int) -> Float[np.ndarray, "draws n d"]:
    """Draw codes of each case."""
    support = support_of(model.prior())
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    if support not in (constraints.real, constraints.real_vector):
        raise ValueError(
            f"Expected a model whose latents are real numbers; got a prior with support {support}, "
            "to which no mixture or flow is fitted. Draw from the prior."
        )
    return np.asarray(predict.encode(model, data.x, context=data.c).sample(key, (n_draws,)))


def _mixture(
    rest: np.ndarray, out: np.ndarray, sizes: tuple[int, ...], seed: int
) -> AggregatePosterior:
    """Fit mixtures by expectation maximisation; return the one that suits other codes best."""
    from sklearn.mixture import GaussianMixture

    best, found = -math.inf, None
    for size in sizes:
        if size > len(rest):
            break
        fitted = GaussianMixture(
            size, covariance_type="diag", max_iter=200, tol=1e-4, random_state=seed
        ).fit(rest)
        score = fitted.score(out)
        if score > best:
            best, found = score, fitted
    if found is None:
        raise ValueError(
            f"Expected at most {len(rest)} components, the number of codes, for `family`; got "
            f"{sizes[0]}."
        )
    arrays = np.log(found.weights_), found.means_, 0.5 * np.log(found.covariances_)
    family = Mixture(n_components=len(found.weights_))
    return AggregatePosterior(family, MixturePrior(*(jnp.asarray(a, jnp.float32) for a in arrays)))


class _OfCodes(LatentVariableModel):
    """A density of codes as a model, whose likelihood it is; nothing is latent."""

    density: Conditional

    def prior(self) -> Distribution:
        return dist.Normal()

    def likelihood(self, z: Array) -> Distribution:
        return self.density()

    def posterior(self, x: Array) -> Distribution:
        return dist.Normal()


def _trained(family: Prior, rest: np.ndarray, out: np.ndarray, key: Key) -> Conditional:
    """Fit a density to codes by the gradient of its likelihood, until other codes tell to stop."""
    key_build, key_train = jax.random.split(key)

    def log_likelihood(model: Any, batch: Batch, key: Key, state: Any) -> tuple:
        mean = jnp.sum(batch.share * jax.vmap(model.density().log_prob)(batch.x))
        return mean, {"elbo": mean}, state

    result: Any = train(
        _OfCodes(family.build(rest.shape[1], key=key_build)),
        rest,
        objective=log_likelihood,
        validation_data=out,
        epochs=_EPOCHS,
        patience=_PATIENCE,
        key=key_train,
        verbose=False,
    )
    return result.model.density


def _log_prob(density: Distribution, codes: np.ndarray) -> Float[np.ndarray, " n"]:
    """Return the average over draws of the log-density of codes, nats."""
    n_draws, n, d = codes.shape
    nats = jax.jit(jax.vmap(density.log_prob))(codes.reshape(-1, d))
    return np.asarray(nats, np.float64).reshape(n_draws, n).mean(axis=0)


def _mean(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))


def _told_apart(real: np.ndarray, new: np.ndarray) -> tuple[float, float]:
    """Return how well rows are told apart, as the area under the ROC curve, and its error.

    By a random forest, each row by the trees that have not seen it. The error is Hanley and
    McNeil's (1982).
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import roc_auc_score

    labels = np.repeat([0, 1], [len(real), len(new)])
    forest = RandomForestClassifier(100, min_samples_leaf=5, oob_score=True, random_state=0)
    forest.fit(np.concatenate([real, new]), labels)
    auc = float(roc_auc_score(labels, forest.oob_decision_function_[:, 1]))
    n, q1, q2 = len(real), auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc) + (n - 1) * (q1 + q2 - 2 * auc**2)
    return auc, math.sqrt(max(variance, 0.0)) / n
