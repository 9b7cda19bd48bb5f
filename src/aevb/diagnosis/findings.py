"""What stands out in a diagnosis: what it is, what it means, and what to try."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from aevb.comparison import OURS
from aevb.diagnosis.report import (
    Diagnosis,
    Finding,
    column_name,
    count,
    has_one_unit,
    listed,
    plus_minus,
)
from aevb.latents import INACTIVE
from aevb.schema import Schema

_POORLY = 0.1  # share explained
# Signal to noise of a gradient that is more than noise; converged fits have 0.05 to 0.15.
_UPHILL = 0.3
_STEPS = 1000  # after which a fit is judged


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


def findings_of(report: Diagnosis, fitted: Fitted, slack: tuple[float, float]) -> list[Finding]:
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
        f"than {INACTIVE:g} nats: {listed(sorted(which))}.",
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
        f"The bound is {plus_minus(gap['difference'], gap['standard_error'])} nats higher on "
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
        f"The bound is {plus_minus(mean, error)} nats below log p(x), or more: importance "
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
        "Try a learned prior: `prior='learned-normal'`, `'mixture'`, `'vamp'` or `'flow'`; or keep "
        "the fit, and draw from the codes: `fit_aggregate_posterior`. If training rows fit the "
        "prior, these rows come from another population.",
    )


def _of_poor_columns(report: Diagnosis, schema: Schema) -> Finding | None:
    shares = report.columns["explained"]
    poor = [
        name
        for name, share in zip(report.columns["column"], shares, strict=True)
        if share < _POORLY
    ]
    if has_one_unit(schema) or not poor or all(report.latents["inactive"]):
        return None
    return Finding(
        "columns",
        f"The reconstruction explains less than {_POORLY:.0%} of {count(len(poor), 'column')} "
        f"of {len(shares)}: {listed(poor)}.",
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
        f"{count(len(rows), 'row')} {'is' if one else 'are'} far less likely than the others: "
        f"{listed(rows)}; the lowest bound is {elbo[0]:.2f} nats, the median {median:.2f}.",
        "More than ten times as far below the median as the lower quartile: odd cases, or "
        "mistakes in single cells.",
        "`vae.surprise` says which cells are odd. Correct what is wrong; for tails that are "
        "heavy by nature try `likelihood='student-t'`.",
    )


def _of_scales(report: Diagnosis, schema: Schema) -> Finding | None:
    if not report.scales:
        return None
    dependent = {column_name(schema, j) for j in schema.dependent} & set(report.scales)
    functions = (
        f" {listed(sorted(dependent, key=str))} are linear functions of others."
        if dependent
        else ""
    )
    return Finding(
        "scales at their floor",
        f"The decoder's scale is at its floor in {count(len(report.scales), 'column')}: "
        f"{listed(report.scales)}.{functions}",
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
    by = plus_minus(abs(lead), error)
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
