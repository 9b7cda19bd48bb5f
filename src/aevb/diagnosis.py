"""What became of a fit: the terms of its bound, its latents, columns and rows, and what to try."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import Distribution

from aevb import predict
from aevb.comparison import GRAY, OURS, Comparison
from aevb.evaluation import latent
from aevb.evaluation.diagnostics import minibatch_gradient
from aevb.latents import INACTIVE
from aevb.learned import Data
from aevb.models.base import given
from aevb.models.kinds.case import Case
from aevb.models.kinds.entrywise import EntrywiseHead
from aevb.models.kinds.real import GaussianHead
from aevb.models.kinds.rows import dense, n_cases, take
from aevb.schema import Part, Schema

MOST_ROWS = 4096
#: Burda's rule: a latent is active when the variance over the rows of its posterior mean is larger.
ACTIVE = 0.01
#: Draws of the bound: those of `VAE.elbo`.
N_DRAWS = 32
BATCH = 100  # rows of a minibatch, whose gradient is measured
_CHUNK = 2048  # rows whose entries are held at a time
_AT_FLOOR = math.log(1.1)  # above the logarithm of the least scale
_SHOWN = 5
_POORLY = 0.1  # share explained
_UPHILL = (
    0.3  # signal to noise of a gradient that is more than noise; converged fits have 0.05–0.15
)
_STEPS = 1000  # after which a fit is judged
_WIDTH = 88


class Finding(NamedTuple):
    """One thing that `VAE.diagnose` found.

    Attributes
    ----------
    name : str
        What kind of finding: ``"collapse"``, ``"overfitting"``, ``"unfinished"``,
        ``"loose bound"``, ``"aggregate posterior"``, ``"columns"``, ``"rows"``,
        ``"scales at their floor"`` or ``"comparison"``.
    what : str
        What was found, with its numbers.
    meaning : str
        What it means.
    advice : str
        What to try.
    """

    name: str
    what: str
    meaning: str
    advice: str

    def __str__(self) -> str:
        """Return it as one paragraph."""
        return f"{self.what} {self.meaning} {self.advice}"


class Diagnosis(NamedTuple):
    """What `VAE.diagnose` returns; it prints as a report.

    Means are over the rows, in nats per case. ``pandas.DataFrame`` reads every dict of lists.

    Attributes
    ----------
    elbo, reconstruction, kl : float
        The evidence lower bound, ``reconstruction - kl``, and its two terms, by 32 draws of z.
    log_likelihood : float
        log p(x) by importance sampling; on average too low.
    standard_errors : dict of float
        Of these four means, over the rows.
    latents : dict of list
        One entry per latent dimension, the one that carries most nats first: ``dimension``;
        ``nats``, the mean KL of q(z_j|x) from p(z_j); ``variance_of_mean``, the variance over the
        rows of the mean of q(z_j|x); ``active``, whether that is above 0.01 (Burda's rule);
        ``inactive``, whether it carries less than 0.01 nats. NaN (and None) where it is not known,
        as the nats under a flow.
    aggregate : dict of list
        The aggregate posterior, the average of q(z|x) over the rows, beside the prior, in the same
        order: ``dimension``, ``mean``, ``sd``, ``prior_mean``, ``prior_sd``; and ``kl``, nats, of
        the normal distribution of the aggregate's moments from the prior. Under a normal prior
        their sum is a lower bound on the KL of the aggregate posterior; under any other prior it is
        NaN.
    columns : dict of list
        One entry per column of the data, the worst explained first: ``column``, its name or
        position; ``likelihood``; ``nats``, the mean of E_q[log p(x_j|z)] over all rows, which sum
        to `reconstruction` (0 where a value is missing); ``explained``, the share of the column's
        variance that the reconstruction explains (R²); of categories the share of the errors of
        always guessing the most frequent one that it avoids. NaN where the column does not vary.
        ``squared_error``, of the reconstruction; of categories the share of errors. Pictures and
        binary data, whose values have one unit, are ordered by it.
    rows : dict of list
        One entry per row, the least likely first: ``row``, its position in `X`; ``elbo``,
        ``reconstruction``, ``kl``.
    gap : dict or None
        How much higher the bound of training rows is: ``training``, ``held_out``, ``difference``,
        ``standard_error`` (NaN if only `history_` tells). None: nothing is known.
    gradient : dict of list
        Of the bound's gradient at the fitted model, in minibatches of (at most) 100 rows drawn with
        replacement and one draw of z: ``group`` of parameters; ``norm`` of its mean; ``variance``,
        the trace of its covariance; ``snr``, the norm over the root of the variance; ``rows``,
        whether they are ``"training"`` rows or those of `X` (``"given"``).
    scales : list
        Names or positions of the columns whose scale in the decoder is at its floor.
    comparison : Comparison or None
        The same rows under classical models, as `VAE.compare` has it.
    n_rows : int
        Number of rows looked at.
    findings : list of Finding
        What stands out, what it means, and what to try.
    remarks : list of str
        What the numbers are, and what was left out and why.

    References
    ----------
    Burda, Grosse and Salakhutdinov (2015), https://arxiv.org/abs/1509.00519, section 5.2; for the
    aggregate posterior, Hoffman and Johnson (2016),
    http://approximateinference.org/accepted/HoffmanJohnson2016.pdf
    """

    elbo: float
    reconstruction: float
    kl: float
    log_likelihood: float
    standard_errors: dict[str, float]
    latents: dict[str, list]
    aggregate: dict[str, list]
    columns: dict[str, list]
    rows: dict[str, list]
    gap: dict[str, float] | None
    gradient: dict[str, list]
    scales: list
    comparison: Comparison | None
    n_rows: int
    findings: list[Finding]
    remarks: list[str]

    @property
    def n_active(self) -> int:
        """Number of active latent dimensions, by Burda's rule."""
        return sum(self.latents["active"])

    def __str__(self) -> str:
        """Return the report: findings first, then the tables."""
        parts = [
            f"Diagnosis of {self.n_rows} rows, nats per case",
            _of_bound(self),
            _of_findings(self.findings),
            _of_latents(self),
            _of_columns(self.columns),
            _of_rows(self.rows),
            _of_gradient(self.gradient),
        ]
        if self.comparison is not None:
            said = any(each.name == "comparison" for each in self.findings)
            parts.append(self.comparison.table if said else str(self.comparison))
        parts.append("\n".join(_filled(f"- {remark}", "  ") for remark in self.remarks))
        return "\n\n".join(filter(None, parts))

    def __repr__(self) -> str:
        return str(self)


class Fitted(NamedTuple):
    """What is diagnosed: a model, what it knows of its data, and how it came about.

    Attributes
    ----------
    model : LatentVariableModel
        The model.
    schema : Schema
        What it has learned of its data.
    history : dict of list
        Of its training.
    best_epoch : int
        The epoch whose model it is.
    """

    model: Any
    schema: Schema
    history: Mapping[str, list]
    best_epoch: int


def diagnose(
    fitted: Fitted,
    data: Data,
    rows: np.ndarray,
    training: Data | None,
    compare: Callable[[np.ndarray, Callable[[], np.ndarray]], Comparison] | None,
    *,
    n_draws: int,
    seed: int,
) -> Diagnosis:
    """Diagnose a fitted model on some rows.

    Parameters
    ----------
    fitted : Fitted
        The model.
    data : Data
        Encoded cases, and what else the model is told of them.
    rows : ndarray of shape (n, ...)
        The same cases as rows of numbers.
    training : Data, optional
        Encoded training cases.
    compare : callable, optional
        Of some rows and a function that returns their log p(x): returns the comparison with
        classical models, or raises ValueError or TypeError to say why there is none.
    n_draws : int
        Importance samples.
    seed : int
        Of all draws.
    """
    model, schema = fitted.model, fitted.schema
    n, step = n_cases(data), math.ceil(n_cases(data) / MOST_ROWS)
    key = jax.random.key(seed)
    remarks = []
    if step > 1:
        data, rows = take(data, slice(None, None, step)), rows[::step]
        remarks.append(f"Of {n} rows, every {_ordinal(step)} was looked at: {n_cases(data)}.")

    terms, columns = _terms(fitted, data, rows, key)
    log_p = predict.log_likelihood(model, data.x, key, context=data.c, n_draws=n_draws)
    means, errors = {}, {}
    for name, each in {**terms, "log_likelihood": log_p}.items():
        means[name], errors[name] = _mean(each)
    if columns["nats"] and math.isnan(columns["nats"][0]):
        remarks.append(
            "Nats of columns are not known: under this likelihood they may depend on each other."
        )
    order = np.argsort(terms["elbo"], kind="stable")
    by_row = {"row": (order * step).tolist()}
    by_row |= {name: each[order].tolist() for name, each in terms.items()}
    latents, aggregate = _latents(model, data)

    comparison = None
    if compare is None:
        remarks.append(
            "Classical models were left out, and the bound of training rows: give the rows that "
            "the model was fitted to as `train`."
        )
    else:
        try:
            comparison = compare(rows, lambda: log_p)
        except (TypeError, ValueError) as error:
            remarks.append(f"Classical models were left out. {error}")
    gap = _gap(fitted, terms["elbo"], training, key)
    gradient = _gradient(model, data, training, seed)
    remarks += _meanings(schema, rows, n_draws)
    if comparison is not None and GRAY in comparison.remarks:
        remarks.remove(GRAY)

    report = Diagnosis(
        means["elbo"],
        means["reconstruction"],
        means["kl"],
        means["log_likelihood"],
        errors,
        latents,
        aggregate,
        columns,
        by_row,
        gap,
        gradient,
        _scales_at_floor(model, schema),
        comparison,
        n_cases(data),
        [],
        remarks,
    )
    slack = _mean(log_p - terms["elbo"])
    findings = _findings(report, fitted, slack)
    return report._replace(findings=findings)


def doubts(
    explained_nats: np.ndarray, n_values: int, history: Mapping[str, list], n_steps: int
) -> str | None:
    """Return in a sentence or two what to doubt of a fit that has just ended; None: nothing.

    Nothing is said after fewer than 1000 steps, before which latents may still come to life.

    *Collapse*: fewer than half of the latents are active, of as many as there are values in a case
    if these are fewer: latents beyond that number have nothing to tell.

    *Overfitting*: from the best epoch of the held-out cases to the last one, their bound has fallen
    while that of the training cases has risen. It has fallen by more than a tenth of the nats that
    the latents carry (and 0.1 nats), and by more than three times what it usually changes by from
    one epoch to the next.

    Parameters
    ----------
    explained_nats : ndarray of shape (latent_dim,)
        Nats that each latent carries; NaN if not known.
    n_values : int
        Number of values of one case.
    history : dict of list
        Of the training, up to the epoch whose model is kept.
    n_steps : int
        Steps made.

    Examples
    --------
    >>> import numpy as np
    >>> print(doubts(np.array([0.0, 0.0, 1.2, 0.0]), 9, {}, 5000))
    Of 4 latent dimensions 3 are inactive (below 0.01 nats): the decoder ignores them. If the \
others suffice, a smaller `latent_dim` gives the same model; if not, try \
`kl_weight` with a warm-up, or `free_bits`.
    """
    if n_steps < _STEPS:
        return None
    found = []
    d = len(explained_nats)
    n_inactive = int((explained_nats < INACTIVE).sum())
    if d - n_inactive < min(d, n_values) / 2 and np.isfinite(explained_nats).all():
        found.append(_collapse(n_inactive, d))
    fallen = _fallen(history)
    if fallen is not None:
        best, fall = fallen
        found.append(
            f"The bound of held-out cases has fallen by {fall:.2f} nats since epoch {best}: the "
            "model overfits. Try `patience=10`, which keeps the best epoch's model, fewer epochs, "
            "smaller networks, or `weight_prior=1.0`."
        )
    return " ".join(found) or None


def _collapse(n_inactive: int, d: int) -> str:
    if n_inactive == d:
        which = "The latent dimension is" if d == 1 else f"All {d} latent dimensions are"
        return (
            f"{which} inactive (below {INACTIVE:g} nats): the model describes every case alike. "
            "If the columns depend on each other, try other likelihoods, `kl_weight` with a "
            "warm-up, or `free_bits`."
        )
    are = "is" if n_inactive == 1 else "are"
    return (
        f"Of {d} latent dimensions {n_inactive} {are} inactive (below {INACTIVE:g} nats): the "
        "decoder ignores them. If the others suffice, a smaller `latent_dim` gives the same "
        "model; if not, try `kl_weight` with a warm-up, or `free_bits`."
    )


def _fallen(history: Mapping[str, list]) -> tuple[int, float] | None:
    """Return the epoch of the best held-out bound, and its fall since; None if it has not."""
    name = "iw_bound" if "validation_iw_bound" in history else "elbo"
    bound = np.asarray(history.get(f"validation_{name}", []), float)
    if len(bound) < 10 or not np.isfinite(bound).all():
        return None
    best = int(bound.argmax())
    seen = history[name]
    if best == len(bound) - 1 or seen[-1] <= seen[best]:
        return None
    fall = float(bound[best] - bound[-3:].mean())
    usual = float(np.median(np.abs(np.diff(bound))))
    return (best + 1, fall) if fall > max(_worth(history["kl"][-1]), 3 * usual) else None


def _worth(kl: float) -> float:
    """Return the nats that are worth a word, beside those that the latents carry."""
    return max(0.1, kl / 10)


# The parts of the report.


def _terms(
    fitted: Fitted, data: Data, rows: np.ndarray, key: jax.Array
) -> tuple[dict[str, np.ndarray], dict[str, list]]:
    """Return the terms of the bound of each row, and what of it is each column's."""
    model, schema = fitted.model, fitted.schema
    parts, sums = [], []
    middle = np.zeros(())
    for start in range(0, n_cases(data), _CHUNK):
        some = slice(start, start + _CHUNK)
        x, c = take(data, some)
        values = np.asarray(dense(rows[some]), np.float64).reshape(n_cases(x), -1)
        terms = predict.elbo_terms(model, x, key, context=c, n_draws=N_DRAWS)
        made = schema.values(predict.reconstruct(model, x, context=c)).reshape(values.shape)
        nats = np.full(values.shape, np.nan)
        if terms.entries is not None:
            entries = Case(terms.entries) if isinstance(terms.entries, dict) else terms.entries
            nats = schema.values(entries).reshape(values.shape)
        there = ~np.isnan(values)
        if not start:
            middle = np.nan_to_num(_nanmean(values))
        error = np.where(there, values - made, 0.0) ** 2
        differs = np.where(there, values != made, False)
        off = np.where(there, values - middle, 0.0)
        sums.append(
            [
                *(nats.sum(axis=0, dtype=np.float64), there.sum(axis=0), error.sum(axis=0)),
                *(differs.sum(axis=0), off.sum(axis=0), (off**2).sum(axis=0)),
            ]
        )
        parts.append([terms.reconstruction, terms.kl])
    nats, n, error, wrong, off, square = np.sum(sums, axis=0)
    reconstruction, kl = (
        np.concatenate(each).astype(np.float64) for each in zip(*parts, strict=True)
    )
    with np.errstate(all="ignore"):
        mean_error, variance = error / n, square / n - (off / n) ** 2

    found = []
    shared_unit = _has_one_unit(schema)
    for part in schema.parts.values():
        where = range(len(n)) if part.columns is None else part.columns
        for j in where:
            loss, alone = float(mean_error[j]), float(variance[j])
            if part.kind.name == "categories":
                alone = _errors_of_the_most_frequent(rows[:, j])
                loss = float(wrong[j] / n[j]) if n[j] else math.nan
            explained = 1 - loss / alone if alone > 1e-12 * max(1.0, abs(middle[j])) else math.nan
            found.append(
                {
                    "column": _name(schema, j),
                    "likelihood": part.kind.likelihood.name,
                    "nats": float(nats[j] / len(kl)),
                    "explained": explained,
                    "squared_error": loss,
                }
            )
    if shared_unit:
        found.sort(key=lambda each: -each["squared_error"])
    else:
        found.sort(key=lambda each: _last_if_nan(each["explained"]))
    columns = {name: [each[name] for each in found] for name in found[0]}
    return {"elbo": reconstruction - kl, "reconstruction": reconstruction, "kl": kl}, columns


def _has_one_unit(schema: Schema) -> bool:
    """Whether errors of all values can be compared: in pictures, and in binary data."""
    if len(schema.shape) > 1:
        return True
    return all(part.kind.name in ("binary", "intensity") for part in schema.parts.values())


def _errors_of_the_most_frequent(column: np.ndarray) -> float:
    column = column[~np.isnan(column)]
    if not len(column):
        return math.nan
    return 1 - float(np.unique(column, return_counts=True)[1].max()) / len(column)


def _latents(model: Any, data: Data) -> tuple[dict[str, list], dict[str, list]]:
    """Return what each latent carries, and the aggregate posterior beside the prior."""
    nats = predict.latent_kl(model, data.x, context=data.c).mean(axis=0, dtype=np.float64)
    mean, variance = (
        each.astype(np.float64) for each in predict.latent_moments(model, data.x, context=data.c)
    )
    across = mean.var(axis=0)
    q_mean, q_sd = mean.mean(axis=0), np.sqrt(across + variance.mean(axis=0))
    first = None if data.c is None else dense(take(data.c, slice(0, 1)))
    prior = given(model, None if first is None else jax.tree.map(lambda a: a[0], first)).prior()
    p_mean, p_sd = _prior_moments(prior, len(nats))
    kl = np.full(len(nats), np.nan)
    if isinstance(prior, dist.Independent) and isinstance(prior.base_dist, dist.Normal):
        ratio = np.where(np.isfinite(q_sd), q_sd / p_sd, np.nan) ** 2  # infinite: Cauchy
        kl = 0.5 * (ratio + ((q_mean - p_mean) / p_sd) ** 2 - 1 - np.log(ratio))
    order = np.argsort(-np.nan_to_num(nats, nan=-1.0), kind="stable")
    if np.isnan(nats).any():
        order = np.argsort(-across, kind="stable")
    latents = {
        "dimension": order.tolist(),
        "nats": nats[order].tolist(),
        "variance_of_mean": across[order].tolist(),
        "active": (across > ACTIVE)[order].tolist(),
        "inactive": [None if math.isnan(each) else each < INACTIVE for each in nats[order]],
    }
    aggregate = {
        "dimension": order.tolist(),
        "mean": q_mean[order].tolist(),
        "sd": q_sd[order].tolist(),
        "prior_mean": p_mean[order].tolist(),
        "prior_sd": p_sd[order].tolist(),
        "kl": kl[order].tolist(),
    }
    return latents, aggregate


def _prior_moments(prior: Distribution, d: int) -> tuple[np.ndarray, np.ndarray]:
    try:
        mean, variance = latent.location(prior), latent.spread(prior)
    except NotImplementedError:  # of a flow, whose moments are not known
        return np.full(d, np.nan), np.full(d, np.nan)
    return np.asarray(mean, np.float64), np.sqrt(np.asarray(variance, np.float64))


def _gap(
    fitted: Fitted, elbo: np.ndarray, training: Data | None, key: jax.Array
) -> dict[str, float] | None:
    """Return by how much the bound of training rows is higher than that of held-out ones."""
    if training is None:
        kept = fitted.best_epoch - 1
        history = fitted.history
        held = history.get("validation_elbo", [])
        if len(held) <= kept or not math.isfinite(held[kept]):
            return None
        seen, error = history["elbo"][kept], math.nan
        return _gap_of(seen, held[kept], error)
    training = take(training, slice(None, None, math.ceil(n_cases(training) / MOST_ROWS)))
    own = predict.elbo(fitted.model, training.x, key, context=training.c, n_draws=N_DRAWS)
    (seen, one), (held_out, other) = _mean(own), _mean(elbo)
    return _gap_of(seen, held_out, math.hypot(one, other))


def _gap_of(training: float, held_out: float, error: float) -> dict[str, float]:
    return {
        "training": float(training),
        "held_out": float(held_out),
        "difference": float(training - held_out),
        "standard_error": error,
    }


def _gradient(model: Any, data: Data, training: Data | None, seed: int) -> dict[str, list]:
    """Return norm and variance of the gradient in minibatches, by group of parameters."""
    rows = "given" if training is None else "training"
    data = data if training is None else training
    data = dense(take(data, slice(None, None, math.ceil(n_cases(data) / MOST_ROWS))))
    size = min(BATCH, n_cases(data))
    by_group = minibatch_gradient(
        model, data.x, context=data.c, batch_size=size, key=seed, where=_group_of
    )
    table: dict[str, list] = {"group": [], "norm": [], "variance": [], "snr": [], "rows": []}
    for group, moments in by_group.items():
        table["group"].append(group)
        table["norm"].append(math.sqrt(max(moments["squared_norm"], 0.0)))
        table["variance"].append(moments["variance"])
        table["snr"].append(moments["snr"])
        table["rows"].append(rows)
    return table


def _group_of(path: str) -> str:
    """Return encoder, decoder or prior, whatever the model is wrapped in."""
    name = next(name for name in path.split(".") if name != "inner")
    return {"latent_prior": "prior"}.get(name, name)


def _scales_at_floor(model: Any, schema: Schema) -> list:
    """Return the columns whose learned scale is within a tenth of the least that it can be."""

    def is_head(node: Any) -> bool:
        return isinstance(node, GaussianHead | EntrywiseHead)

    decoder = getattr(model, "inner", model).decoder
    heads = [node for node in jax.tree.leaves(decoder, is_leaf=is_head)]
    heads = [node for node in heads if is_head(node)]
    found: list[int] = []
    if len(heads) != len(schema.parts):  # a likelihood of one's own
        return []
    for part, head in zip(schema.parts.values(), heads, strict=True):
        raw, floor = _raw_scale(head)
        if raw is None or floor is None or jnp.shape(raw) != jnp.shape(floor):
            continue
        low = np.asarray(jax.nn.softplus(raw - floor)) < _AT_FLOOR
        low &= ~part.measured.constant
        where = _positions(part, len(low))
        found += [where[j] for j in range(len(low)) if low[j]]
    return [_name(schema, j) for j in sorted(found)]


def _raw_scale(head: GaussianHead | EntrywiseHead) -> tuple[Any, Any]:
    """Return the logarithms of the scales before their floor, and the floor; None: neither."""
    if isinstance(head, GaussianHead):
        raw = head.log_scale if isinstance(head.log_scale, jax.Array | np.ndarray) else None
        return raw, head.floor.value
    floor = head.held.floor
    return head.own.get("log_scale"), None if floor is None else floor.value


def _positions(part: Part, size: int) -> Sequence[int]:
    return range(size) if part.columns is None else part.columns


def _name(schema: Schema, j: int) -> Any:
    """Return a column's name, its position, or its place in a picture."""
    if schema.names is not None:
        return schema.names[j]
    if len(schema.shape) == 1:
        return int(j)
    return tuple(int(i) for i in np.unravel_index(j, schema.shape))


def _meanings(schema: Schema, rows: np.ndarray, n_draws: int) -> list[str]:
    """Return what the numbers are."""
    remarks = [
        f"The ELBO is on average at most log p(x); log p(x) by {n_draws} draws is on average too "
        "low, and closer with more draws."
    ]
    kinds = {part.kind.name for part in schema.parts.values()}
    if kinds & {"real", "amount", "proportion"}:
        remarks.append("Densities: their nats depend on the units of the data.")
    elif kinds == {"binary"}:
        values = dense(rows[:MOST_ROWS])
        if not np.isin(values[~np.isnan(values)], (0, schema.white)).all():
            remarks.append(GRAY)
    return remarks


# The findings: what, what it means, what to try.


def _findings(report: Diagnosis, fitted: Fitted, slack: tuple[float, float]) -> list[Finding]:
    """Return what stands out, the most important first."""
    collapse = _of_collapse(report)
    found = [
        collapse if all(report.latents["inactive"]) else None,
        _of_gap(report),
        _of_progress(report, fitted),
        _of_slack(report, slack),
        None if all(report.latents["inactive"]) else collapse,
        _of_aggregate(report),
        _of_poor_columns(report, fitted.schema),
        _of_odd_rows(report),
        _of_scales(report, fitted.schema),
        _of_comparison(report),
    ]
    return [each for each in found if each is not None]


def _of_collapse(report: Diagnosis) -> Finding | None:
    inactive = [each for each in report.latents["inactive"] if each is not None]
    d, n_inactive = len(inactive), sum(inactive)
    if not n_inactive:
        return None
    if n_inactive == d:
        return Finding(
            "collapse",
            f"All latent dimensions ({d}) carry less than {INACTIVE:g} nats.",
            "The decoder ignores z: every case has the same p(x|z), in which the columns are "
            "independent.",
            "If the columns do depend on each other, try other likelihoods, `kl_weight` with a "
            "warm-up, or `free_bits`.",
        )
    which = [j for j, off in zip(report.latents["dimension"], inactive, strict=True) if off]
    return Finding(
        "collapse",
        f"{n_inactive} of {d} latent dimensions {'carries' if n_inactive == 1 else 'carry'} less "
        f"than {INACTIVE:g} nats: {_list(sorted(which))}.",
        "q(z_j|x) is the prior there, and the decoder ignores these z_j.",
        f"If {d - n_inactive} suffice, `latent_dim={d - n_inactive}` gives the same model. If "
        "you expect more structure, try `kl_weight` with a warm-up, or `free_bits`.",
    )


def _of_gap(report: Diagnosis) -> Finding | None:
    gap = report.gap
    if gap is None:
        return None
    error = 0.0 if math.isnan(gap["standard_error"]) else gap["standard_error"]
    if gap["difference"] <= max(_worth(report.kl), 2 * error):
        return None
    return Finding(
        "overfitting",
        f"The bound is {_plus_minus(gap['difference'], gap['standard_error'])} nats higher on "
        "training rows than on held-out ones.",
        "The networks know the training rows better than the population: they overfit. The bound "
        "of training rows says little of new ones.",
        "Try more rows, `epochs='auto'` or `validation_fraction` with `patience`, smaller "
        "`hidden`, or `weight_prior=1.0`.",
    )


def _of_progress(report: Diagnosis, fitted: Fitted) -> Finding | None:
    advice = f"Try more epochs than {fitted.best_epoch}, or a larger `learning_rate`."
    bound = np.asarray(fitted.history.get("elbo", []), float)[: fitted.best_epoch]
    if tenth := len(bound) // 10:
        rise = float(bound[-tenth:].mean() - bound[-2 * tenth : -tenth].mean())
        if rise > _worth(report.kl):
            return Finding(
                "unfinished",
                f"The training bound rose by {rise:.2f} nats over the last tenth of the epochs.",
                "Training ended before it was done.",
                advice,
            )
    snr = report.gradient["snr"][-1]
    if report.gradient["rows"][-1] != "training" or not snr > _UPHILL:
        return None
    return Finding(
        "unfinished",
        f"In minibatches the mean gradient is {snr:.2f} times its noise, on training rows.",
        "It still points uphill: training ended on the way, or keeps to an early epoch on purpose.",
        advice,
    )


def _of_slack(report: Diagnosis, slack: tuple[float, float]) -> Finding | None:
    mean, error = slack
    if not mean > max(_worth(report.kl), 2 * error):
        return None
    return Finding(
        "loose bound",
        f"The bound is {_plus_minus(mean, error)} nats below log p(x), or more: importance "
        "sampling is itself too low on average.",
        "q(z|x) is far from the exact posterior p(z|x) for these rows: latents, and what is made "
        "of them, are less exact than the decoder allows.",
        "Try `posterior='full-normal'` or `'iaf'`; `estimator='iw'` with `n_draws=5` for a better "
        "p(x) alone. Where the model overfits, the encoder does, too: see to that first.",
    )


def _of_aggregate(report: Diagnosis) -> Finding | None:
    kl = sum(report.aggregate["kl"])
    if not kl > _worth(report.kl):
        return None
    worst = max(range(len(report.aggregate["kl"])), key=report.aggregate["kl"].__getitem__)
    entry = {name: each[worst] for name, each in report.aggregate.items()}
    return Finding(
        "aggregate posterior",
        f"The aggregate posterior is {kl:.2f} nats or more from the prior; most in dimension "
        f"{entry['dimension']}, with mean {entry['mean']:.2f} and sd {entry['sd']:.2f} instead of "
        f"{entry['prior_mean']:.2f} and {entry['prior_sd']:.2f}.",
        "These rows lie where the prior seldom draws from, and it draws where they are not: "
        "samples look less like them than reconstructions do.",
        "Try a learned prior: `prior='learned-normal'`, `'mixture'`, `'vamp'` or `'flow'`. If "
        "training rows fit the prior, these rows come from another population.",
    )


def _of_poor_columns(report: Diagnosis, schema: Schema) -> Finding | None:
    shares = report.columns["explained"]
    poor = [
        name
        for name, share in zip(report.columns["column"], shares, strict=True)
        if share < _POORLY
    ]
    if _has_one_unit(schema) or not poor or all(report.latents["inactive"]):
        return None
    return Finding(
        "columns",
        f"The reconstruction explains less than {_POORLY:.0%} of {_count(len(poor), 'column')} "
        f"of {len(shares)}: {_list(poor)}.",
        "z says next to nothing of them: they are noise, or depend on the others in a way that "
        "these latents have no room for.",
        "Try a larger `latent_dim` or another likelihood for these columns, and see whether "
        "their nats rise; if not, the others know nothing of them.",
    )


def _of_odd_rows(report: Diagnosis) -> Finding | None:
    elbo = np.asarray(report.rows["elbo"])  # rising
    quartile, median = np.quantile(elbo, [0.25, 0.5])
    odd = elbo < median - 10 * (median - quartile)
    if len(elbo) < 20 or not odd.any():
        return None
    rows = report.rows["row"][: int(odd.sum())]
    one = len(rows) == 1
    return Finding(
        "rows",
        f"{_count(len(rows), 'row')} {'is' if one else 'are'} far less likely than the others: "
        f"{_list(rows)}; the lowest bound is {elbo[0]:.2f} nats, the median {median:.2f}.",
        "More than ten times as far below the median as the lower quartile: odd cases, or "
        "mistakes in single cells.",
        "`vae.surprise` says which cells are odd. Correct what is wrong; for tails that are "
        "heavy by nature try `likelihood='student-t'`.",
    )


def _of_scales(report: Diagnosis, schema: Schema) -> Finding | None:
    if not report.scales:
        return None
    dependent = {_name(schema, j) for j in schema.dependent} & set(report.scales)
    functions = (
        f" {_list(sorted(dependent, key=str))} are linear functions of others." if dependent else ""
    )
    return Finding(
        "scales at their floor",
        f"The decoder's scale is at its floor in {_count(len(report.scales), 'column')}: "
        f"{_list(report.scales)}.{functions}",
        "z determines them to their last digit, or they have few distinct values. Their density "
        "is as high as the rounding of the data, or the floor, allows, and may outweigh all "
        "other columns.",
        "Leave out columns that others determine; give counts and levels a likelihood of their "
        "own ('poisson', 'ordinal', 'bernoulli'); or fix the noise: `Gaussian(scale=...)`.",
    )


def _of_comparison(report: Diagnosis) -> Finding | None:
    if report.comparison is None:
        return None
    rows = report.comparison.rows
    best = max(
        (j for j, model in enumerate(rows["model"]) if model != OURS),
        key=lambda j: rows["log_likelihood"][j],
    )
    lead, error = rows["difference"][best], rows["difference_se"][best]
    model = rows["model"][best]
    by = _plus_minus(abs(lead), error)
    if lead < -2 * error:
        return None
    if lead > 2 * error:
        what = f"The {model} describes these rows better than the VAE, by {by} nats per case."
        meaning = "The network buys nothing here."
    else:
        what = f"The VAE and the {model} differ by {by} nats per case on these rows."
        meaning = "What the network buys is too little to be seen in so many rows."
    return Finding(
        "comparison",
        what,
        meaning,
        f"Use the {model}, which is simpler; or try another `latent_dim`, a richer prior "
        "(`'mixture'` where there are groups), other epochs, or more rows.",
    )


# How it prints.


def _of_bound(report: Diagnosis) -> str:
    errors = report.standard_errors
    lines = [
        [name, _plus_minus(value, errors[key]), meaning]
        for name, key, value, meaning in [
            ("ELBO", "elbo", report.elbo, "the evidence lower bound"),
            ("= reconstruction", "reconstruction", report.reconstruction, "E_q[log p(x|z)]"),
            ("- KL", "kl", report.kl, "KL(q(z|x)‖p(z)), what the latents carry"),
            ("log p(x)", "log_likelihood", report.log_likelihood, "by importance sampling"),
        ]
    ]
    if report.gap is not None:
        gap, known = report.gap, not math.isnan(report.gap["standard_error"])
        held = "these rows" if known else "the held-out rows of the fit"
        by = _plus_minus(abs(gap["difference"]), gap["standard_error"])
        side = "above" if gap["difference"] >= 0 else "below"
        lines.append(["training ELBO", f"{gap['training']:.2f}", f"{by} {side} that of {held}"])
    return _table(lines)


def _of_findings(findings: list[Finding]) -> str:
    if not findings:
        return "Findings: nothing stands out."
    lines = ["Findings: what, what it means, what to try"]
    for k, each in enumerate(findings, start=1):
        lead = f"{k}. "
        lines.append(_filled(f"{lead}{each.what}", " " * len(lead)))
        lines += [
            _filled(f"{' ' * len(lead)}{text}", " " * len(lead))
            for text in (each.meaning, each.advice)
        ]
    return "\n".join(lines)


def _of_latents(report: Diagnosis) -> str:
    latents, aggregate = report.latents, report.aggregate
    title = (
        f"Latents, by the nats they carry: {report.n_active} of {len(latents['dimension'])} active "
        f"(variance of the mean above {ACTIVE:g})"
    )
    lines = [["dimension", "nats", "variance of mean", "active", "mean, sd of q(z)", "of p(z)"]]
    for j in _some(range(len(latents["dimension"])), 10):
        lines.append(
            [
                str(latents["dimension"][j]),
                *(_shown(latents[name][j], ".3f") for name in ("nats", "variance_of_mean")),
                "yes" if latents["active"][j] else "no",
                _pair(aggregate["mean"][j], aggregate["sd"][j]),
                _pair(aggregate["prior_mean"][j], aggregate["prior_sd"][j]),
            ]
        )
    return "\n".join([title, _table(lines), *_more(len(latents["dimension"]), 10)])


def _of_columns(columns: dict[str, list]) -> str:
    n = len(columns["column"])
    lines = [["column", "likelihood", "nats", "explained", "squared error"]]
    for j in _some(range(n), _SHOWN):
        lines.append(
            [
                *(str(columns["column"][j]), columns["likelihood"][j]),
                _shown(columns["nats"][j], ".2f"),
                _shown(columns["explained"][j], ".0%"),
                _shown(columns["squared_error"][j], ".3g"),
            ]
        )
    title = "Columns, the worst explained first"
    return "\n".join([title, _table(lines), *_more(n, _SHOWN)])


def _of_rows(rows: dict[str, list]) -> str:
    n = len(rows["row"])
    lines = [["row", "ELBO", "reconstruction", "KL"]]
    for j in _some(range(n), _SHOWN):
        numbers = (rows[name][j] for name in ("elbo", "reconstruction", "kl"))
        lines.append([str(rows["row"][j]), *(f"{each:.2f}" for each in numbers)])
    return "\n".join(["Rows, the least likely first", _table(lines), *_more(n, _SHOWN)])


def _of_gradient(gradient: dict[str, list]) -> str:
    lines = [["parameters", "norm of mean", "variance", "signal to noise"]]
    for group, *numbers, _ in zip(*gradient.values(), strict=True):
        lines.append([group, *(f"{each:.2g}" for each in numbers)])
    whose = {"training": "training rows", "given": "these rows"}[gradient["rows"][0]]
    title = f"Gradient of the bound in minibatches (at most {BATCH} of {whose}; one draw of z)"
    return "\n".join([title, _table(lines)])


def _table(lines: list[list[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  " + "  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _some(items: range, limit: int) -> range:
    return items[:limit]


def _more(n: int, limit: int) -> list[str]:
    return [f"  ... and {n - limit} more"] if n > limit else []


def _filled(text: str, indent: str) -> str:
    return textwrap.fill(text, _WIDTH, subsequent_indent=indent, break_on_hyphens=False)


def _plus_minus(mean: float, error: float) -> str:
    return f"{mean:.2f}" if math.isnan(error) else f"{mean:.2f} ± {error:.2f}"


def _shown(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


def _pair(*values: float) -> str:
    return ", ".join(_shown(value, ".2f") for value in values)


def _count(n: int, thing: str) -> str:
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"


def _list(items: Iterable[Any], limit: int = _SHOWN) -> str:
    items = [str(each) for each in items]
    return ", ".join(items[:limit]) + (f", ... ({len(items)})" if len(items) > limit else "")


def _ordinal(n: int) -> str:
    return {2: "second", 3: "third"}.get(n, f"{n}th")


def _mean(values: np.ndarray) -> tuple[float, float]:
    """Return the mean, and its standard error."""
    values = np.asarray(values, np.float64)
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return float(values.mean()), float(error)


def _nanmean(values: np.ndarray) -> np.ndarray:
    there = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(there, values, 0.0).sum(axis=0) / there.sum(axis=0)


def _last_if_nan(value: float) -> float:
    return math.inf if math.isnan(value) else value
