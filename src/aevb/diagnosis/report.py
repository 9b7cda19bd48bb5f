"""The report of a diagnosis: what is in it, and how it prints."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from aevb.comparison import Comparison
from aevb.schema import Schema

#: Burda's rule: a latent is active when the variance over the rows of its posterior mean is larger.
ACTIVE = 0.01
BATCH = 100  # rows of a minibatch, whose gradient is measured
_SHOWN = 5
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


def column_name(schema: Schema, j: int) -> Any:
    """Return a column's name, its position, or its place in a picture."""
    if schema.names is not None:
        return schema.names[j]
    if len(schema.shape) == 1:
        return int(j)
    return tuple(int(i) for i in np.unravel_index(j, schema.shape))


def has_one_unit(schema: Schema) -> bool:
    """Whether errors of all values can be compared: in pictures, and in binary data."""
    if len(schema.shape) > 1:
        return True
    return all(part.kind.name in ("binary", "intensity") for part in schema.parts.values())


def _of_bound(report: Diagnosis) -> str:
    errors = report.standard_errors
    lines = [
        [name, plus_minus(value, errors[key]), meaning]
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
        by = plus_minus(abs(gap["difference"]), gap["standard_error"])
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


def plus_minus(mean: float, error: float) -> str:
    """Write a mean with its standard error, if that is known."""
    return f"{mean:.2f}" if math.isnan(error) else f"{mean:.2f} ± {error:.2f}"


def _shown(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


def _pair(*values: float) -> str:
    return ", ".join(_shown(value, ".2f") for value in values)


def count(n: int, thing: str) -> str:
    """Write a number of things."""
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"


def listed(items: Iterable[Any], limit: int = _SHOWN) -> str:
    """Write the first of some items, and how many there are."""
    items = [str(each) for each in items]
    return ", ".join(items[:limit]) + (f", ... ({len(items)})" if len(items) > limit else "")
