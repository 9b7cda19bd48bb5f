"""What a diagnosis measures: the terms of the bound, latents, columns, rows, gap and gradient."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import Distribution

from aevb import predict
from aevb.comparison import GRAY, Comparison
from aevb.diagnosis.findings import Fitted, findings_of
from aevb.diagnosis.report import ACTIVE, BATCH, Diagnosis, column_name, has_one_unit
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
#: Draws of the bound: those of `VAE.elbo`.
N_DRAWS = 32
_CHUNK = 2048  # rows whose entries are held at a time
_AT_FLOOR = math.log(1.1)  # above the logarithm of the least scale


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
    findings = findings_of(report, fitted, slack)
    return report._replace(findings=findings)


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
    shared_unit = has_one_unit(schema)
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
                    "column": column_name(schema, j),
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
    return [column_name(schema, j) for j in sorted(found)]


def _raw_scale(head: GaussianHead | EntrywiseHead) -> tuple[Any, Any]:
    """Return the logarithms of the scales before their floor, and the floor; None: neither."""
    if isinstance(head, GaussianHead):
        raw = head.log_scale if isinstance(head.log_scale, jax.Array | np.ndarray) else None
        return raw, head.floor.value
    floor = head.held.floor
    return head.own.get("log_scale"), None if floor is None else floor.value


def _positions(part: Part, size: int) -> Sequence[int]:
    return range(size) if part.columns is None else part.columns


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
