"""The card of a model: what a stranger should know of it, as the README.md of a repository."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

from aevb.report.collect import Facts, Number
from aevb.share.libraries import check_installed

_PAPER = "https://arxiv.org/abs/1312.6114"
_MOST = 30  # columns, and latents, that are listed
_OF_CASES = {"rows"}  # findings that speak of single cases


def card(facts: Facts, repo_id: str, *, license: str | None = None) -> str:
    """Write the card of a model from its facts.

    It says what was fitted and to what, the numbers with their names and standard errors, and how
    to use it. It shows names of columns, and how many categories each has; no case, no cell, and no
    category.

    Parameters
    ----------
    facts : Facts
        As `aevb.report.facts` collects them; of held-out cases, if there are any.
    repo_id : str
        Where the model will be: ``"user/name"``.
    license : str, optional
        The licence under which it is shared, as the Hub calls it: ``"mit"``. None: the card names
        none.

    Returns
    -------
    str
        Markdown, after a block of YAML that the Hub reads.

    Raises
    ------
    ImportError
        When huggingface_hub, of the extra ``aevb[hub]``, is not installed.

    Examples
    --------
    >>> import numpy as np
    >>> from aevb import VAE
    >>> from aevb.report import facts
    >>> from aevb.share import card
    >>> X = np.random.default_rng(0).normal(size=(80, 3))
    >>> vae = VAE(1, hidden=(4,), epochs=5, random_state=0).fit(X)
    >>> text = card(facts(vae), "user/name", license="mit")
    >>> text.splitlines()[:3], "## Numbers" in text
    (['---', 'library_name: aevb', 'license: mit'], True)
    """
    check_installed("huggingface_hub", "hub", "card")
    from huggingface_hub import ModelCardData

    what = "image" if facts.image_shape else "tabular"
    tags = ["aevb", "variational-autoencoder", "jax", what]
    metadata = ModelCardData(library_name="aevb", license=license, tags=tags).to_yaml()
    sections = {
        "Use": _use(facts, repo_id),
        "Numbers": _numbers(facts),
        "Model": _pairs(facts.model),
        "Data": "\n\n".join(filter(None, [_pairs(facts.data), _columns(facts.columns)])),
        "Latent dimensions": _latents(facts.latents),
        "What stands out": _findings(facts),
        "Training": _pairs(facts.training),
        "Versions": _pairs(facts.versions),
    }
    parts = [
        f"---\n{metadata}\n---",
        f"# {repo_id.rpartition('/')[2]}",
        f"A variational auto-encoder, fitted by aevb to {facts.data['cases in training']} cases of "
        f"{facts.data['values of a case']} values, by Auto-Encoding Variational Bayes "
        f"([Kingma and Welling, 2013]({_PAPER})).",
        *(f"## {title}\n\n{body}" for title, body in sections.items() if body),
    ]
    return "\n\n".join(parts) + "\n"


def _use(facts: Facts, repo_id: str) -> str:
    shape = facts.data["values of a case"].replace(" × ", ", ")
    cases = "a table with the columns below" if "table of" in facts.data else f"(n, {shape})"
    told = [f"{name}={name}" for name in ("condition", "exposure") if name in facts.model]
    with_cases, new = (", ".join([first, *told]) for first in ("X", "5"))
    return (
        '```console\n$ pip install "aevb[hub]"\n```\n\n'
        "```python\nfrom aevb import VAE\n\n"
        f'vae = VAE.from_hub("{repo_id}")  # runs no code from the file\n'
        f"vae.sample({new})  # new cases\n"
        f"vae.transform({with_cases})  # latent means of cases: {cases}\n"
        f"vae.reconstruct({with_cases})  # their nearest representations\n"
        f"vae.log_likelihood({with_cases})  # log p(x), nats per case\n```"
    )


def _numbers(facts: Facts) -> str:
    rows = (
        (each.name, _plus_minus(each), each.unit, each.of, each.meaning) for each in facts.numbers
    )
    remarks = [] if facts.diagnosis is None else facts.diagnosis.remarks
    table = _table(("number", "value", "unit", "of", "what it is"), rows)
    return "\n\n".join([table, *map(_escaped, remarks)])


def _plus_minus(number: Number) -> str:
    error = "" if math.isnan(number.standard_error) else f" ± {number.standard_error:.2f}"
    return f"{number.value:.2f}{error}"


def _columns(columns: dict[str, list]) -> str:
    if not columns:
        return ""
    rows = [
        (column, kind, n_levels or "", likelihood)
        for column, kind, n_levels, likelihood in zip(
            *(columns[name] for name in ("column", "type", "levels", "likelihood")), strict=True
        )
    ]
    return _some(("column", "type", "categories", "likelihood"), rows)


def _latents(latents: dict[str, list]) -> str:
    active = {True: "yes", False: "no", None: "not known"}
    rows = [
        (dimension, f"{nats:.2f}", active[is_active])
        for dimension, nats, is_active in zip(
            latents["dimension"], latents["nats"], latents["active"], strict=True
        )
    ]
    return _some(("dimension", "KL, nats per case", "active"), rows)


def _findings(facts: Facts) -> str:
    found = [each for each in facts.findings if each.name not in _OF_CASES]
    return "\n".join(f"- {_escaped(f'{each.what} {each.meaning}')}" for each in found)


def _pairs(said: dict[str, str]) -> str:
    return _table(("", ""), said.items())


def _some(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    more = f"\n\n… and {len(rows) - _MOST} more." if len(rows) > _MOST else ""
    return _table(names, rows[:_MOST]) + more


def _table(names: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [names, ["---"] * len(names), *(map(_escaped, row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escaped(value: Any) -> str:
    """Return a text such that Markdown and HTML read it as it is."""
    return re.sub(r"([\\`*_\[\]|<>~#&])", r"\\\1", " ".join(str(value).split()))
