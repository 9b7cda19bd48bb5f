"""The facts of a report: the numbers of the estimator's own methods, and nothing made up."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from aevb.report import facts
from aevb.report.markup import plain

OTHERS = ["table", "flat_pictures", "colour_pictures", "many_latents", "conditional", "exposed"]


def _number(text):
    return float(text.replace("−", "-"))


def own(fit):
    return {name: value for name, value in fit.told.items() if name != "image_shape"}


@pytest.mark.parametrize(
    "name",
    ["array", "pictures", *(pytest.param(each, marks=pytest.mark.slow) for each in OTHERS)],
)
def test_the_numbers_are_those_of_the_estimator(name, fits, known):
    fit = fits(name)
    found = known(fit)
    elbo = fit.vae.elbo(fit.X, **own(fit)).astype(float)
    log_p = fit.vae.log_likelihood(fit.X, 100, **own(fit)).astype(float)
    given = {each.name: each for each in found.numbers if "given" in each.of}
    for quantity, values in {"ELBO": elbo, "log p(x)": log_p}.items():
        assert given[quantity].value == pytest.approx(values.mean(), rel=1e-5)
        error = values.std(ddof=1) / math.sqrt(len(values))
        assert given[quantity].standard_error == pytest.approx(error, rel=1e-4)
        assert given[quantity].of == f"{len(values)} given cases"
    assert given["reconstruction"].value - given["KL"].value == pytest.approx(
        given["ELBO"].value, rel=1e-5
    )
    assert found.oddest["row"][0] == int(np.argmin(elbo))
    np.testing.assert_allclose(found.oddest["elbo"], np.sort(elbo)[:12], rtol=1e-4)


def test_the_training_is_that_of_the_history(fit, known):
    found = known(fit)
    kept = fit.vae.best_epoch_ - 1
    training = {each.of.split(" ")[0]: each.value for each in found.numbers if "epoch" in each.of}
    assert training["training"] == fit.vae.history_["elbo"][kept]
    if "validation_elbo" in fit.vae.history_:
        assert training["cases"] == fit.vae.history_["validation_elbo"][kept]
    assert found.history == fit.vae.history_
    assert found.training["epochs"] == str(fit.vae.n_epochs_)


def test_without_cases_it_says_what_the_estimator_knows(fit):
    found = facts(fit.vae)
    assert found.diagnosis is None and not found.cells and not found.findings
    np.testing.assert_allclose(
        found.latents["nats"], np.sort(fit.vae.explained_nats_)[::-1], rtol=1e-6
    )
    assert all("training" in each.of for each in found.numbers)
    assert any("No cases were given" in each for each in found.remarks)


def test_facts_are_plain_data(fit, known):
    found = known(fit)
    text = json.dumps(plain(found._replace(diagnosis=None)._asdict()), allow_nan=False)
    assert json.loads(text)["model"]["latent dimensions"] == str(fit.vae.latent_dim)


def test_cells_are_those_of_surprise(fits, known):
    fit = fits("array")
    found = known(fit)
    nats = fit.vae.surprise(fit.X, 200)
    excess = nats - np.median(nats, axis=0)
    first = found.cells[0]
    assert (first.row, first.column) == (5, 1)  # the cell that was spoilt
    assert first.excess == pytest.approx(excess.max(), rel=1e-4)
    assert first.nats == pytest.approx(nats[5, 1], rel=1e-4)
    assert _number(first.value) == pytest.approx(fit.X[5, 1], rel=1e-4)
    holed = fit.X[[5]].copy()
    holed[0, 1] = np.nan
    expected = fit.vae.impute(holed)[0, 1]
    assert _number(first.expected) == pytest.approx(expected, rel=1e-3)


def test_columns_are_those_of_the_schema(fits, known):
    fit = fits("table")
    found = known(fit)
    columns, choices = found.columns, fit.vae.schema_.columns.choices
    assert columns["column"] == [fit.X.columns[0], "city", "order", "n", "is_it", "day"]
    assert columns["why"] == [each.why for each in choices]
    assert columns["missing"] == fit.X.isna().sum().tolist()
    assert columns["levels"][1:3] == [2, 3]
    part = next(p for p in fit.vae.schema_.parts.values() if p.kind.name == "real")
    assert columns["scale"][0] == pytest.approx(float(np.ravel(part.measured.scale)[0]))
    assert {cell.column for cell in found.cells} <= set(columns["column"])
    cities = {cell.value for cell in found.cells if cell.column == "city"}
    assert cities <= {"Ulm </td>", "Bonn & <b>Köln</b>"}


def test_labels_of_another_number_are_refused(fits):
    fit = fits("array")
    with pytest.raises(ValueError, match="Expected a label for each of the 80 cases"):
        facts(fit.vae, fit.X, fit.labels[:-1])
    with pytest.raises(ValueError, match="Expected `X` with `labels`; got None"):
        facts(fit.vae, None, fit.labels)


def test_a_condition_is_needed_where_there_was_one(fits):
    fit = fits("conditional")
    with pytest.raises(ValueError, match="Expected `condition`"):
        facts(fit.vae, fit.X)
