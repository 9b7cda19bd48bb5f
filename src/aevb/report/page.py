"""The report as one HTML file that loads nothing from elsewhere."""

from __future__ import annotations

import datetime
import itertools
import math
import os
import re
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from aevb import __version__, explorer
from aevb.data.files import check_target, replacing
from aevb.diagnosis.report import count
from aevb.report.cases import Shown, shown
from aevb.report.collect import Cell, Facts, Number, facts, names_of
from aevb.report.markup import data, html, picture, table, tag, terms

_MOST_COLUMNS = 30  # of a row that is shown, and of the columns that are explained worst
_MOST_POINTS = 10_000  # of the map
_MOST_BARS = 40
_BINS = 40
_MINUS = re.compile(r"(?<![\w)-])-(?=\d)")
_FIRST = ("ELBO", "log p(x)", "KL")
_LIBRARIES = ("d3.js", "plot.js")
_STATIC = files("aevb.report") / "static"


def write(
    vae: Any, path: str | os.PathLike[str], X: Any = None, labels: Any = None, **told: Any
) -> None:
    """Write a report of a fitted estimator to one file, in one step: all of it or nothing.

    Parameters
    ----------
    vae : VAE
        The fitted estimator.
    path : str or path-like
        Where to; an existing file is replaced.
    X, labels, **told
        As in `page`.
    """
    path = Path(path)
    check_target(path, overwrite=True)
    text = page(vae, X, labels, **told)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="replace")


def page(
    vae: Any,
    X: Any = None,
    labels: Any = None,
    *,
    condition: Any = None,
    exposure: Any = None,
    title: str | None = None,
    random_state: Any = None,
    **told: Any,
) -> str:
    """Return a report of a fitted estimator as a document of HTML.

    Parameters
    ----------
    vae : VAE
        The fitted estimator.
    X, labels, condition, exposure, random_state, **told
        As in `aevb.report.facts`.
    title : str, optional
        Its headline; None: what was fitted.
    """
    context = {"condition": condition, "exposure": exposure}
    known = facts(vae, X, labels, **context, random_state=random_state, **told)
    looks = shown(vae, known, X, **context, random_state=random_state)
    case = "image" if known.image_shape else "case"
    n = known.data["cases in training"]
    title = title or f"A variational auto-encoder of {n} {case}s"
    latent_space, explored = _map(vae, known, X, labels, context)
    sections = [
        _in_short(known),
        _what(known),
        _training(known),
        latent_space,
        _latents(known, looks),
        _odd(known, looks),
        _cases(known, looks),
        _diagnosis(known),
        _about(known, looks),
    ]
    present = [each for each in sections if each is not None]
    lead = (
        f"{known.data['values of a case']} values in {known.model['latent dimensions']} latent "
        f"dimensions, likelihood {known.model['likelihood p(x|z)']}. "
    )
    lead += (
        "No cases were given to this report."
        if X is None
        else f"{known.data['cases given']} cases were given to this report."
    )
    links = [tag("li", tag("a", each[0].text, href=f"#{each.get('id')}")) for each in present]
    body = [
        tag("a", "Skip to the report", href="#report", class_="skip"),
        tag("header", tag("h1", title), tag("p", lead)),
        tag("nav", tag("ul", *links), aria_label="Sections"),
        tag("main", *present, id="report", data_unit=f"nats per {case}"),
        tag(
            "footer",
            tag("p", f"Made by aevb {__version__} on {datetime.date.today().isoformat()}."),
        ),
    ]
    scripts, styles = ([explorer.scripts()], [explorer.styles()]) if explored else ([], [])
    return Template((_STATIC / "report.html").read_text("utf-8")).substitute(
        title=html(tag("title", title)),
        styles="\n".join([_library("pico.css"), _read("report.css"), *styles]),
        body="\n".join(map(html, body)),
        scripts="\n".join(
            f"<script>{each}</script>"
            for each in [*map(_library, _LIBRARIES), *scripts, _read("report.js")]
        ),
    )


def _read(name: str) -> str:
    return (_STATIC / name).read_text("utf-8")


def _library(name: str) -> str:
    return f"/*\n{_read(f'{Path(name).stem}.LICENSE')}*/\n{_read(name)}"


def _section(name: str, title: str, *children: Any) -> Element:
    heading = tag("h2", title, id=f"{name}-title")
    return tag("section", heading, *children, id=name, aria_labelledby=f"{name}-title")


def _chart(name: str, values: Any, said: str) -> Element:
    """Return a chart, which a script draws; `said` is what it shows."""
    place = tag("div", data_chart=name, role="img", aria_label=said, class_="chart")
    return tag("figure", place, data(f"{name}-data", values), tag("figcaption", said))


def _in_short(known: Facts) -> Element:
    first = [each for each in known.numbers if each.name in _FIRST and "given" in each.of]
    cards = [
        tag(
            "article",
            tag("h3", each.name),
            tag("p", tag("strong", plus_minus(each.value, each.standard_error)), f" {each.unit}"),
            tag("p", tag("small", f"{each.meaning}. Of the {each.of}.")),
        )
        for each in first or known.numbers
    ]
    active = known.latents["active"]
    if None not in active:
        cards.append(
            tag(
                "article",
                tag("h3", "Active latent dimensions"),
                tag("p", tag("strong", f"{sum(active)} of {len(active)}")),
                tag("p", tag("small", "A dimension is active if it carries 0.01 nats or more.")),
            )
        )
    findings = [
        tag("li", *_prose(each.what), " ", tag("a", "What to try", href=f"#finding-{k}"))
        for k, each in enumerate(known.findings)
    ]
    said = tag("ul", *findings) if findings else None
    if known.diagnosis is not None and not findings:
        said = tag("p", "The diagnosis found nothing that stands out.")
    return _section("short", "In short", tag("div", *cards, class_="cards"), said)


def _what(known: Facts) -> Element:
    columns = known.columns
    parts: list[Any] = [
        tag("h3", "The model"),
        terms(known.model),
        tag("h3", "The data"),
        terms(known.data),
    ]
    if columns:
        n = len(columns["column"])
        has_missing = any(each > 0 for each in columns["missing"])
        heads = ["column", "type", "likelihood", "why", "scaling"]
        heads += ["missing, given cases"] if has_missing else []
        rows = []
        for name, kind, levels, likelihood, why, shift, scale, missing in zip(
            *columns.values(), strict=True
        ):
            is_named = levels and "categories" not in why
            rows.append(
                [
                    name,
                    f"{kind}, {count(levels, 'level')}" if is_named else kind,
                    likelihood,
                    why,
                    "" if math.isnan(scale) else f"(x − {_short(shift)}) / {_short(scale)}",
                    *([f"{missing:g}"] if has_missing else []),
                ]
            )
        caption = "The columns: the likelihood of each and why, and how the networks see it"
        more = f" (the first {n})" if n == 200 else ""
        parts.append(table(caption + more, heads, rows, {5} if has_missing else set()))
    return _section("what", "What was fitted, and to what", *parts)


def _training(known: Facts) -> Element:
    history, n = known.history, len(known.history["epoch"])
    names = {
        "elbo": "training cases",
        "validation_elbo": "held-out cases",
        "iw_bound": "training cases, importance-weighted",
        "validation_iw_bound": "held-out cases, importance-weighted",
    }
    known_lines = ((said, history.get(key, [])) for key, said in names.items())
    lines = {said: values for said, values in known_lines if any(map(math.isfinite, values))}
    chart = None
    if n > 1:
        chart = _chart(
            "curve",
            {"epoch": history["epoch"], "lines": lines, "best": known.best_epoch},
            "The bound after each epoch, nats per case: "
            + "; ".join(
                f"of {name} from {plus_minus(values[0])} to {plus_minus(values[-1])}"
                for name, values in lines.items()
                if math.isfinite(values[0]) and math.isfinite(values[-1])
            )
            + f". Kept is the model of epoch {known.best_epoch}.",
        )
    rows = [_of_number(each) for each in known.numbers]
    return _section(
        "training",
        "The fit and its numbers",
        terms(known.training),
        chart,
        table(
            "Bounds and likelihoods: means over cases, with standard errors",
            ["number", "value", "unit", "of", "what it is"],
            rows,
            {1},
        ),
    )


def _of_number(number: Number) -> list[str]:
    value = plus_minus(number.value, number.standard_error)
    return [number.name, value, number.unit, number.of, number.meaning]


def _map(
    vae: Any, known: Facts, X: Any, labels: Any, context: dict[str, Any]
) -> tuple[Element | None, bool]:
    """Return the section of the latent space, and whether the explorer is in it."""
    try:
        content = explorer.payload(vae, X, labels, **context, image_shape=known.image_shape)
    except explorer.NotInAPage as error:
        if X is None:
            return None, False
        why = tag("p", "The decoder is not in this page. ", *_prose(str(error)))
        return _section(
            "map", "The latent space", _plain_map(vae, known, X, labels, context), why
        ), False
    what = (
        "The cases at the mean of q(z|x). Choose a place, and the decoder, which is in this file, "
        "shows what it expects there."
        if X is not None
        else "Choose a place, and the decoder, which is in this file, shows what it expects there."
    )
    parts = tag("p", what), tag("div", id="explorer"), data("explorer-data", content)
    return _section("map", "The latent space", *parts), True


def _plain_map(vae: Any, known: Facts, X: Any, labels: Any, context: dict[str, Any]) -> Element:
    n = known.n_given or 0
    rows = np.arange(0, n, math.ceil(n / _MOST_POINTS))
    dimensions = sorted(known.latents["dimension"][:2])
    codes = np.asarray(vae.transform(X, **context), np.float64)[rows][:, dimensions]
    names = names_of(labels, n)
    values = {
        "dimensions": dimensions,
        "points": codes.round(4).tolist(),
        "rows": rows.tolist(),
        "labels": None if names is None else [names[row] for row in rows],
    }
    said = f"{count(len(rows), 'case')} in the latent space, at the mean of q(z|x)"
    return _chart("map", values, said)


def _latents(known: Facts, looks: Shown) -> Element:
    latents, chart = known.latents, None
    if not any(map(math.isnan, latents["nats"])):
        some = slice(_MOST_BARS)
        values = {name: latents[name][some] for name in ("dimension", "nats", "active")}
        said = "Nats that each latent dimension carries: the mean KL of q(z_j|x) from p(z_j)"
        chart = _chart("nats", values, said)
    if not looks.dimensions:
        return _section("latents", "What each latent does", chart)
    nats = dict(zip(latents["dimension"], latents["nats"], strict=True))
    low, high = (_percent(looks.levels[k]) for k in (0, -1))
    lines = []
    for j, moves in zip(looks.dimensions, looks.traversal, strict=True):
        title = f"Latent {j}" + ("" if math.isnan(nats[j]) else f" ({nats[j]:.2f} nats)")
        if known.image_shape:
            alt = f"What is expected as latent {j} goes from its {low} to its {high} quantile"
            image = picture(moves, alt, looks.limits)
            lines.append(tag("figure", tag("figcaption", title), image, class_="traversal"))
        elif moves:
            rows = [[each.column, _known(each.effect, "+.2f"), *each.values] for each in moves]
            heads = ["column", "effect", *map(_percent, looks.levels)]
            lines.append(table(title, heads, rows, set(range(1, len(heads)))))
    what = (
        f"What the decoder expects as one latent goes from its quantile at {low} of the prior to "
        f"that at {high}, while the others stay at the median."
    )
    if not known.image_shape:
        what += (
            " The columns that move most. Effect: the change of the mean from 16\u202f% to "
            "84\u202f%, in standard deviations of the column; of categories, the share of the "
            "probability that moves."
        )
    content = tag("div", *lines, class_="tables")
    return _section("latents", "What each latent does", chart, tag("p", what), content)


def _odd(known: Facts, looks: Shown) -> Element | None:
    if known.diagnosis is None:
        return None
    bound = np.asarray(known.diagnosis.rows["elbo"], np.float64)
    low = float(np.quantile(bound, 0.002))
    inside = bound[bound >= low]
    shares, edges = np.histogram(inside, min(_BINS, max(len(inside) // 4, 1)))
    values = {"edges": edges.tolist(), "cases": shares.tolist()}
    below = len(bound) - len(inside)
    more = f"; {count(below, 'case')} below {plus_minus(low)} left out" if below else ""
    said = f"The ELBO of {count(len(bound), 'case')}, nats: median {plus_minus(np.median(bound))}"
    parts = [_chart("bound", values, said + more)]
    parts += _odd_rows(known) if known.image_shape is None else _odd_images(known, looks)
    return _section("odd", "The oddest cases and cells", *parts)


def _odd_images(known: Facts, looks: Shown) -> list[Element]:
    nats = looks.odd_surprise if looks.odd_surprise.ndim == 3 else looks.odd_surprise.mean(axis=3)
    peak = max(float(np.nanmax(nats)), 1e-9)
    odd, figures = known.oddest, []
    for k, (row, label, elbo) in enumerate(zip(odd["row"], odd["label"], odd["elbo"], strict=True)):
        name = f"Case {row}" if label is None else f"Case {row}, {label}"
        images = (
            picture(looks.odd[[k]], name, looks.limits),
            picture(looks.odd_reconstructed[[k]], "its reconstruction", looks.limits),
            picture(nats[[k]], "the surprise of each pixel", (0.0, peak), cmap="inferno"),
        )
        caption = tag("figcaption", f"{name}: {plus_minus(elbo)} nats")
        figures.append(tag("figure", *images, caption))
    what = (
        "The least likely images: the image, its reconstruction, and the surprise of each pixel, "
        f"given the others (brightest: {peak:.1f} nats)."
    )
    return [tag("p", what), tag("div", *figures, class_="pictures triples")]


def _odd_rows(known: Facts) -> list[Element]:
    odd = known.oddest
    has_labels = any(label is not None for label in odd["label"])
    heads = ["case", *(["label"] if has_labels else []), "ELBO", "reconstruction", "KL"]
    numbers = range(1 + has_labels, len(heads))
    heads.append("its oddest cells, and what the others let expect")
    names = ("row", "label", "elbo", "reconstruction", "kl", "cells")
    rows = [
        [row, *([label] if has_labels else []), *map(plus_minus, terms), _cells(cells)]
        for row, label, *terms, cells in zip(*(odd[name] for name in names), strict=True)
    ]
    tables = [table("The least likely cases, nats", heads, rows, numbers)]
    if known.cells:
        rows = [
            [each.row, each.column, each.value, each.expected, plus_minus(each.excess)]
            for each in known.cells
        ]
        heads = ["case", "column", "value", "expected, given the others", "surprise, nats"]
        caption = "The oddest cells: −log p(x_j | the others), less the median of the column"
        tables.append(table(caption, heads, rows, {4}))
    return tables


def _cells(cells: list[Cell]) -> str:
    return "; ".join(
        f"{each.column} {each.value} ({each.expected}, +{each.excess:.1f} nats)" for each in cells
    )


def _cases(known: Facts, looks: Shown) -> Element | None:
    parts: list[Any] = []
    if known.image_shape:
        if looks.real is not None:
            pairs = [
                tag(
                    "figure",
                    picture(looks.real[[k]], f"Case {row}", looks.limits),
                    picture(looks.reconstructed[[k]], "its reconstruction", looks.limits),
                )
                for k, row in enumerate(looks.rows)
            ]
            parts += [
                tag("h3", "Given images, and their reconstructions"),
                tag("div", *pairs, class_="pictures"),
            ]
        if looks.new is not None:
            made = [
                tag("figure", picture(looks.new[[k]], f"New image {k + 1}", looks.limits))
                for k in range(len(looks.new))
            ]
            parts += [
                tag("h3", f"New images: E[x|z] of z drawn from {looks.origin}"),
                tag("div", *made, class_="pictures singles"),
            ]
        return _section("cases", "New cases beside real ones", *parts) if parts else None
    if looks.margins:
        whose = "given cases and new ones" if looks.real else "new cases"
        said = f"The columns one by one: the share of {whose}"
        n, columns = len(looks.margins), known.columns["column"]
        said += f" (the first {n} columns)" if n < len(columns) and n == 24 else ""
        parts.append(_chart("margins", [each._asdict() for each in looks.margins], said))
    columns = [str(each) for each in known.columns["column"][:_MOST_COLUMNS]]
    new = f"New cases: z drawn from {looks.origin}, then x from p(x|z)"
    names = ["Given cases", "What they are reconstructed as", new]
    for name, rows in zip(names, (looks.real, looks.reconstructed, looks.new), strict=True):
        if rows is not None:
            numbers = looks.rows if rows is not looks.new else itertools.count(1)
            lines = [[k, *row[:_MOST_COLUMNS]] for k, row in zip(numbers, rows, strict=False)]
            parts.append(table(name, ["case", *columns], lines))
    return _section("cases", "New cases beside real ones", *parts) if parts else None


def _diagnosis(known: Facts) -> Element | None:
    found = known.diagnosis
    if found is None:
        return None
    parts: list[Any] = [
        tag(
            "article",
            tag("h3", each.name.capitalize(), id=f"finding-{k}"),
            tag("p", *_prose(each.what)),
            tag("p", *_prose(each.meaning)),
            tag("p", tag("strong", "What to try: "), *_prose(each.advice)),
        )
        for k, each in enumerate(known.findings)
    ]
    if not parts:
        parts.append(tag("p", "Nothing stands out."))
    if found.gap is not None:
        gap = found.gap
        parts.append(
            tag(
                "p",
                f"The ELBO of training cases is {plus_minus(gap['training'])} nats, that of "
                f"held-out ones {plus_minus(gap['held_out'])}: a difference of "
                f"{plus_minus(gap['difference'], gap['standard_error'])} nats per case.",
            )
        )
    if found.comparison is not None:
        heads, *lines = found.comparison.cells
        lines = [[_MINUS.sub("−", each) for each in line] for line in lines]
        parts.append(table(found.comparison.title, heads, lines, {2, 3}))
        said = any(each.name == "comparison" for each in known.findings)
        conclusion = [] if said else [found.comparison.conclusion]
        parts += [tag("p", *_prose(each)) for each in [*conclusion, *found.comparison.remarks]]
    spread = known.latents
    rows = [
        [
            j,
            _known(nats, ".3f"),
            {True: "yes", False: "no", None: "?"}[active],
            _known(variance, ".3f"),
            *(_known(each, ".2f") for each in moments),
        ]
        for j, nats, active, variance, *moments in zip(*spread.values(), strict=True)
    ][:_MOST_BARS]
    heads = ["latent", "nats", "active", "variance of its mean", "mean, q(z)", "sd, q(z)"]
    heads += ["mean, p(z)", "sd, p(z)"]
    caption = "Latent dimensions: what they carry; the aggregate posterior q(z) beside the prior"
    parts.append(table(caption, heads, rows, set(range(1, 8)) - {2}))
    if not known.image_shape:
        rows = [
            [name, likelihood, _known(nats, ".2f"), _known(explained, ".0%"), _known(error, ".3g")]
            for name, likelihood, nats, explained, error in zip(
                *found.columns.values(), strict=True
            )
        ][:_MOST_COLUMNS]
        heads = ["column", "likelihood", "nats", "explained", "squared error"]
        caption = "Columns, the worst explained first: the share of the variance (R²)"
        parts.append(table(caption, heads, rows, {2, 3, 4}))
    return _section("diagnosis", "Diagnosis", *parts)


def _about(known: Facts, looks: Shown) -> Element:
    remarks = [tag("li", *_prose(each)) for each in [*known.remarks, *looks.remarks]]
    return _section(
        "about",
        "About these numbers",
        tag("ul", *remarks),
        tag("h3", "Versions of the libraries"),
        terms(known.versions),
    )


def _prose(text: str) -> list[Any]:
    """Return a text in which what is between backquotes is code, and minus signs are some."""
    parts = enumerate(text.split("`"))
    return [tag("code", part) if k % 2 else _MINUS.sub("−", part) for k, part in parts]


def plus_minus(value: float, error: float = math.nan) -> str:
    """Write a number with its standard error, if that is known, with a minus sign.

    Examples
    --------
    >>> plus_minus(-93.214, 0.412)
    '−93.21 ± 0.41'
    """
    digits = 2 if abs(value) < 1000 else 1
    said = f"{value:,.{digits}f}" + ("" if math.isnan(error) else f" ± {error:,.{digits}f}")
    return said.replace("-", "−")


def _percent(level: float) -> str:
    return f"{100 * level:.2g}\u202f%"


def _short(value: float) -> str:
    return f"{value:.4g}".replace("-", "−")


def _known(value: float, form: str) -> str:
    said = format(value, form)
    return "" if math.isnan(value) else said.replace("-", "−" if said.strip("-0.%") else "")
