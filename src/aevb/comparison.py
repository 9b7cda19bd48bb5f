"""What the network buys: a fitted VAE beside classical models of the same rows."""

from __future__ import annotations

import math
import textwrap
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from sklearn.covariance import LedoitWolf
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from aevb.factors import fit_factors
from aevb.models.kinds import Bernoulli, Gaussian, Measured
from aevb.models.kinds.real import least_log_scale
from aevb.schema import Schema

OURS = "VAE"
MOST_COMPONENTS = 10
FULL_UP_TO = 100  # columns; beyond, the mixture's covariances are diagonal only
GRAY = (
    "Gray levels: these are expected log-likelihoods of binarised rows, not likelihoods of the "
    "rows."
)

Scored = tuple[str, str, np.ndarray]  # a model, its setting, and log p(x) of each row


class Comparison(NamedTuple):
    """What `VAE.compare` returns; it prints as a table.

    Attributes
    ----------
    rows : dict of list
        One entry per model, by column, which ``pandas.DataFrame(rows)`` reads: ``model``;
        ``setting``: its size, as chosen or given; ``log_likelihood``, the mean of log p(x) over the
        held-out rows (nats per case, in the data's own units), and its ``standard_error``;
        ``difference`` from the VAE, the mean over the rows of log p(x) minus that of the VAE, and
        its ``difference_se``; ``computed``: exactly, or by importance sampling.
    n_rows, n_train : int
        Held-out rows, and rows that the classical models were fitted to.
    remarks : list of str
        What to know before trusting the table, a sentence each.
    """

    rows: dict[str, list]
    n_rows: int
    n_train: int
    remarks: list[str]

    @property
    def conclusion(self) -> str:
        """Who describes the held-out rows best, in a sentence or two."""
        rivals = [j for j, model in enumerate(self.rows["model"]) if model != OURS]
        best = max(rivals, key=lambda j: self.rows["log_likelihood"][j])
        model = self.rows["model"][best]
        lead, error = self.rows["difference"][best], self.rows["difference_se"][best]
        by = f"{abs(lead):.2f} ± {error:.2f} nats per case"
        if lead > 2 * error:
            return (
                f"The {model} describes these rows better than the VAE, by {by}. Use it, or try "
                "the VAE with other sizes, other numbers of epochs, or more rows."
            )
        if lead < -2 * error:
            return (
                f"The VAE describes these rows better than the best of the others, the {model}, "
                f"by {by}."
            )
        return (
            f"These rows do not tell the VAE from the best of the others, the {model}: they differ "
            f"by {by}. The {model} is the simpler of the two."
        )

    @property
    def cells(self) -> list[list[str]]:
        """Header and rows of the table, one per model."""
        lines = [["model", "setting", "log p(x)", "minus VAE", "computed"]]
        for model, setting, mean, error, lead, lead_error, how in zip(
            *self.rows.values(), strict=True
        ):
            own = model == OURS
            lines.append(
                [
                    *(model, setting, f"{mean:.2f} ± {error:.2f}"),
                    *("" if own else f"{lead:+.2f} ± {lead_error:.2f}", how),
                ]
            )
        return lines

    @property
    def title(self) -> str:
        """What the table shows."""
        return (
            f"Mean log p(x) of {self.n_rows} held-out rows ± standard error, nats per case "
            f"({self.n_train} training rows)"
        )

    @property
    def table(self) -> str:
        """The table, a line per model, and the remarks."""
        cells = self.cells
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        table = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in cells]
        return "\n".join([self.title, *table, *(textwrap.fill(each, 88) for each in self.remarks)])

    def __str__(self) -> str:
        """Return the table, and who is best."""
        return f"{self.table}\n{textwrap.fill(self.conclusion, 88)}"

    def __repr__(self) -> str:
        return str(self)


def compare(
    schema: Schema,
    train: np.ndarray,
    held_out: np.ndarray,
    score: Callable[[], np.ndarray],
    *,
    latent_dim: int,
    n_draws: int,
    seed: int,
) -> Comparison:
    """Fit classical models to `train`, and compare them with a VAE on other rows.

    Parameters
    ----------
    schema : Schema
        What the VAE has learned of the data.
    train, held_out : ndarray of shape (n, ...), (m, ...)
        Cases, checked.
    score : callable
        Returns log p(x) of the held-out cases under the VAE, shape (m,), by importance sampling.
    latent_dim, n_draws : int
        Latent dimensions of the VAE, and its draws per case.
    seed : int
        Seed of what the mixtures start from.

    Raises
    ------
    ValueError, TypeError
        For rows or a likelihood with which the numbers would not be comparable.
    """
    if not isinstance(schema.kind.likelihood, Bernoulli | Gaussian):
        raise TypeError(
            "Expected a model with the likelihood Gaussian or Bernoulli; got "
            f"{schema.kind.likelihood!r}, which classical models may not be comparable with. Use "
            "`log_likelihood` to compare it with models of the same likelihood."
        )
    train, held_out = (rows.reshape(len(rows), -1).astype(np.float64) for rows in (train, held_out))
    for name, rows in {"X": held_out, "train": train}.items():
        if len(rows) < 2:
            raise ValueError(f"Expected two rows or more for `{name}`; got {len(rows)}.")
    if np.array_equal(train, held_out):
        raise ValueError(
            "Expected held-out rows for `X`; got those of `train`. Hold some rows out before "
            "fitting, with sklearn.model_selection.train_test_split for instance."
        )
    remarks = _remarks(schema, train, held_out)
    if isinstance(schema.kind.likelihood, Gaussian):
        scored = _of_numbers(schema.measured, train, held_out, latent_dim, seed)
    else:
        scored = _of_bits(train / schema.white, held_out / schema.white, seed)
    own = score().astype(np.float64)
    table: dict[str, list] = {}
    for model, setting, each in [*scored, (OURS, _count(latent_dim, "latent dimension"), own)]:
        mean, error = _mean(each)
        difference, difference_se = _mean(each - own)
        entry = {
            "model": model,
            "setting": setting,
            "log_likelihood": mean,
            "standard_error": error,
            "difference": difference,
            "difference_se": difference_se,
            "computed": f"by {_count(n_draws, 'draw')}" if model == OURS else "exactly",
        }
        for column, value in entry.items():
            table.setdefault(column, []).append(value)
    return Comparison(table, len(held_out), len(train), remarks)


def _remarks(schema: Schema, train: np.ndarray, held_out: np.ndarray) -> list[str]:
    """Return what is odd about the rows."""
    remarks = ["By draws: on average a little below log p(x), and closer with more draws."]
    measured, real = schema.measured, isinstance(schema.kind.likelihood, Gaussian)
    off = abs(train.mean(axis=0) - measured.shift) > 1e-5 * (measured.scale + abs(measured.shift))
    if measured.n_rows != len(train) or (real and off.any()):
        remarks.append(
            f"The VAE's scaling is that of {measured.n_rows} rows, not of the {len(train)} in "
            "`train`: after `validation_fraction` or `partial_fit`, it has seen other rows than "
            "the classical models."
        )
    if real:
        seen = {row.tobytes() for row in train + 0.0}  # which makes -0.0 zero
        if n_seen := sum(row.tobytes() in seen for row in held_out + 0.0):
            remarks.append(
                f"Of the {len(held_out)} held-out rows, {n_seen} are in `train` as well."
            )
        if n_constant := int(measured.constant.sum()):
            remarks.append(
                f"{_count(n_constant, 'column')} did not vary in training: an event of the same "
                "probability for all models."
            )
    elif not all(np.isin(rows, (0, schema.white)).all() for rows in (train, held_out)):
        remarks.append(GRAY)
    return remarks


def _of_numbers(
    measured: Measured, train: np.ndarray, held_out: np.ndarray, latent_dim: int, seed: int
) -> list[Scored]:
    """Return models of real numbers, fitted to columns scaled to unit variance."""
    varies = ~measured.constant
    alike = varies & (train == train[0]).all(axis=0)
    if alike.any():
        raise ValueError(
            "Expected the rows that the model was fitted to for `train`; got rows of which column "
            f"{int(alike.argmax())}, which varied then, does not vary."
        )
    if not varies.any():
        raise ValueError(
            "Expected a model of columns that vary; got one of columns that did not vary in "
            "training, on which all models agree."
        )
    same = held_out[:, ~varies] == measured.shift[~varies]
    other = -math.log(measured.n_rows + 2)
    event = np.where(same, math.log1p(-math.exp(other)), other).sum(axis=1)
    units = event - np.log(measured.scale[varies]).sum()
    t, u = (
        (rows[:, varies] - measured.shift[varies]) / measured.scale[varies]
        for rows in (train, held_out)
    )

    n, d = t.shape
    k, mean = min(latent_dim, d - 1), t.mean(axis=0)
    shrunk = LedoitWolf().fit(t)
    principal = _principal((t - mean).T @ (t - mean) / n, k)
    factors = fit_factors(t, latent_dim, None)
    least = np.exp(least_log_scale(measured)[varies])  # as in the VAE's decoder
    noise = np.maximum(factors.noise, least)
    common = factors.loadings @ factors.loadings.T + np.diag(noise**2)
    mixture = _gaussian_mixture(t, least.min(), seed)
    form = {"full": "full", "diag": "diagonal"}[mixture.covariance_type]
    size = f"{_count(mixture.n_components, 'component')}, {form}"
    scored = [
        (
            "full Gaussian",
            f"shrinkage {shrunk.shrinkage_:.2g}",
            _log_normal(u, mean, shrunk.covariance_, least.min()),
        ),
        ("probabilistic PCA", _count(k, "component"), _log_normal(u, mean, principal, least.min())),
        (
            "factor analysis",
            _count(min(latent_dim, d), "factor"),
            _log_normal(u, mean, common, least.min()),
        ),
        ("Gaussian mixture", size, mixture.score_samples(u)),
    ]
    return [(model, setting, each + units) for model, setting, each in scored]


def _log_normal(
    rows: np.ndarray, mean: np.ndarray, covariance: np.ndarray, least: float
) -> np.ndarray:
    """Return log N(x; mean, covariance) of each row; no direction has a scale below the least."""
    values, vectors = np.linalg.eigh(covariance)
    values = np.maximum(values, least**2)
    u = (rows - mean) @ vectors
    return -0.5 * (np.sum(u**2 / values, axis=1) + np.sum(np.log(2 * math.pi * values)))


def _principal(covariance: np.ndarray, k: int) -> np.ndarray:
    """Return the covariance of probabilistic PCA with k < d components.

    Tipping and Bishop (1999), https://doi.org/10.1111/1467-9868.00196, equations 7 and 8.
    """
    values, vectors = np.linalg.eigh(covariance)
    rest = len(values) - k
    values[:rest] = values[:rest].mean()
    return (vectors * values) @ vectors.T


def _gaussian_mixture(rows: np.ndarray, least: float, seed: int) -> GaussianMixture:
    """Return the mixture of least BIC; no direction of it has a scale below the least."""

    def fit(k: int, form: str) -> tuple[float, GaussianMixture]:
        mixture = GaussianMixture(k, covariance_type=form, reg_covar=least**2, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixture.fit(rows)
        return mixture.bic(rows), mixture

    forms = ("full", "diag") if rows.shape[1] <= FULL_UP_TO else ("diag",)
    best = [_least(partial(fit, form=form), len(rows)) for form in forms]
    return min(best, key=lambda scored: scored[0])[1]


def _least(fit: Callable[[int], tuple[float, Any]], n_rows: int) -> tuple[float, Any]:
    """Return the BIC and the mixture of least BIC; the search ends where two more are no better."""
    found: list[tuple[float, Any]] = []
    best = 0
    for k in range(1, min(MOST_COMPONENTS, n_rows - 1) + 1):
        found.append(fit(k))
        if found[-1][0] < found[best][0]:
            best = k - 1
        if k - 1 - best == 2:
            break
    return found[best]


def _of_bits(train: np.ndarray, held_out: np.ndarray, seed: int) -> list[Scored]:
    """Return models of zeros and ones; gray levels have the decoder's expected log-likelihood."""
    n, d = train.shape

    def fit(k: int) -> tuple[float, BernoulliMixture]:
        mixture = BernoulliMixture.fit(train, k, np.random.RandomState(seed))
        n_parameters = k * d + k - 1
        return n_parameters * math.log(n) - 2 * mixture.score_samples(train).sum(), mixture

    alone, (_, mixture) = fit(1)[1], _least(fit, n)
    size = _count(len(mixture.weights), "component")
    return [
        ("independent columns", "", alone.score_samples(held_out)),
        ("Bernoulli mixture", size, mixture.score_samples(held_out)),
    ]


class BernoulliMixture(NamedTuple):
    r"""Mixture of independent zeros and ones.

    .. math:: p(x) = \sum_k w_k \prod_j p_{kj}^{x_j} (1 - p_{kj})^{1 - x_j}

    Attributes
    ----------
    weights : ndarray of shape (k,)
        Of the components.
    means : ndarray of shape (k, d)
        Probability of a one; with a one and a zero added to each component's rows (Laplace).

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[1.0, 0.0], [1.0, 1.0]])
    >>> BernoulliMixture.fit(X, 1, np.random.RandomState(0)).means
    array([[0.75, 0.5 ]])
    """

    weights: np.ndarray
    means: np.ndarray

    @classmethod
    def fit(
        cls, rows: np.ndarray, k: int, random: np.random.RandomState, n_steps: int = 200
    ) -> BernoulliMixture:
        """Fit k components by EM, which starts half-way between the mean and k random rows."""
        some = rows[random.choice(len(rows), k, replace=False)]
        mixture = cls(np.full(k, 1 / k), 0.1 + 0.8 * (some + rows.mean(axis=0)) / 2)
        before = -math.inf
        for _ in range(n_steps):
            joint = mixture._joint(rows)
            each = np.logaddexp.reduce(joint, axis=1)
            shares = np.exp(joint - each[:, None])
            n = shares.sum(axis=0)
            mixture = cls(n / len(rows), (shares.T @ rows + 1) / (n + 2)[:, None])
            if each.mean() - before < 1e-4:
                break
            before = each.mean()
        return mixture

    def score_samples(self, rows: np.ndarray) -> np.ndarray:
        """Return log p(x) of each row, nats."""
        return np.logaddexp.reduce(self._joint(rows), axis=1)

    def _joint(self, rows: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):  # a component may have lost all its rows
            log_weights = np.log(self.weights)
        return rows @ np.log(self.means).T + (1 - rows) @ np.log1p(-self.means).T + log_weights


def _mean(values: np.ndarray) -> tuple[float, float]:
    """Return the mean of some values, and its standard error."""
    return float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
