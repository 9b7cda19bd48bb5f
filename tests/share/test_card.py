"""The card: the facts and nothing else of the data, in Markdown that says what it means."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from aevb import VAE, Finding
from aevb.report import Number, facts
from aevb.share import card

yaml = pytest.importorskip("yaml", reason="needs PyYAML, which comes with huggingface_hub")
pytest.importorskip("huggingface_hub", reason="needs huggingface_hub, of aevb[hub]")


def cells(line):
    """Return the cells of a line of a table, as Markdown reads them."""
    return [re.sub(r"\\(.)", r"\1", each.strip()) for each in re.split(r"(?<!\\)\|", line)[1:-1]]


def tables(text):
    """Return the rows of each section's tables, without the lines between names and rows."""
    found = {}
    for section in text.split("\n## ")[1:]:
        title, _, body = section.partition("\n")
        rows = [cells(line) for line in body.splitlines() if line.startswith("|")]
        found[title] = [row for row in rows if set(row) != {"---"}]
    return found


@pytest.fixture(scope="module")
def known(of_table):
    """What the model knows by itself, and a number that has a standard error."""
    found = facts(of_table)
    given = Number("log p(x)", -3.25, 0.125, "nats per case", "20 given cases", "E_q[log p(x|z)]")
    return found._replace(numbers=[*found.numbers, given])


def test_numbers_are_those_of_the_facts(known):
    rows = tables(card(known, "ada/towns"))["Numbers"][1:]
    assert len(rows) == len(known.numbers) > 0
    for row, number in zip(rows, known.numbers, strict=True):
        name, value, unit, of, meaning = row
        assert (name, unit, of) == (number.name, number.unit, number.of)
        assert meaning.replace(" ", "") == number.meaning.replace(" ", "")
        expected = [number.value, number.standard_error]
        shown = [float(each) for each in value.split(" ± ")]
        np.testing.assert_allclose(shown, expected[: len(shown)], atol=0.005)
        assert len(shown) == (1 if np.isnan(number.standard_error) else 2)


def test_columns_have_their_likelihoods_and_numbers_of_categories(known, of_table):
    header, *rows = (row for row in tables(card(known, "ada/towns"))["Data"] if len(row) == 4)
    assert header == ["column", "type", "categories", "likelihood"]
    assert [row[0] for row in rows] == [*of_table.feature_names_in_]
    assert {row[0]: row[2] for row in rows}["town"] == "2"


@pytest.mark.slow
def test_no_case_and_no_category_is_shown(of_table, table):
    known = facts(of_table, table[:20])
    assert known.oddest["row"] and known.cells  # which the facts have, and the card has not
    text = card(known, "ada/towns")
    assert "20 given cases" in text
    for private in ("Bonn", "Ulm", "junior", "senior"):
        assert not re.search(rf"\b{private}\b", text), private
    assert not set(re.split(r"[^\d.]+", text)) & {*map(str, table.index)}
    assert not re.search("|".join(f"{abs(value):.3f}" for value in table["size"]), text)
    assert not re.search("|".join(map(str, table["day"].dt.date)), text)


def test_findings_of_single_cases_are_left_out(known):
    findings = [Finding(name, f"About {name}.", "", "") for name in ("rows", "collapse")]
    text = card(
        known._replace(diagnosis=SimpleNamespace(findings=findings, remarks=[])), "ada/towns"
    )
    assert "About collapse" in text
    assert "About rows" not in text


def test_the_block_in_front_is_yaml_that_the_hub_reads(known):
    for license in (None, "mit"):
        text = card(known, "ada/towns", license=license)
        assert text.startswith("---\n")
        block = yaml.safe_load(text.split("---")[1])
        assert block["library_name"] == "aevb"
        assert "tabular" in block["tags"]
        assert block.get("license") == license


def test_names_cannot_break_the_page():
    rng = np.random.default_rng(0)
    odd = ["a|b", "<script>alert(1)</script>", "line\nbreak", "[x](http://y)", "`tick`", "_a_ *b*"]
    X = pd.DataFrame(rng.normal(size=(30, len(odd))), columns=odd)
    vae = VAE(1, hidden=(4,), epochs=1, random_state=0).fit(X)
    text = card(facts(vae), "ada/odd")
    rows = [row for row in tables(text)["Data"] if len(row) == 4][1:]
    assert [row[0] for row in rows] == [" ".join(name.split()) for name in odd]
    assert not re.search(r"(?<!\\)<script", text)
    for lines in tables(text).values():
        assert len({len(row) for row in lines if row[0] in odd}) <= 1


def test_pictures_and_arrays_say_what_goes_in(of_array):
    X = np.random.default_rng(0).random((30, 4, 3))
    vae = VAE(1, hidden=(4,), epochs=1, likelihood="gaussian", random_state=0).fit(X)
    text = card(facts(vae), "ada/pictures")
    assert "(n, 4, 3)" in text
    assert "image" in yaml.safe_load(text.split("---")[1])["tags"]
    assert "(n, 2)" in card(facts(of_array), "ada/rows")


def test_many_columns_are_cut_and_said(known):
    columns = {name: values * 20 for name, values in known.columns.items()}
    text = card(known._replace(columns=columns), "ada/towns")
    assert "90 more" in text


def test_the_code_runs(known, of_table, table, monkeypatch):
    code = re.search(r"```python\n(.*?)```", card(known, "ada/towns"), re.DOTALL)[1]
    asked = []
    monkeypatch.setattr(VAE, "from_hub", lambda name: asked.append(name) or of_table)
    exec(code, {"X": table})
    assert asked == ["ada/towns"]


def test_a_condition_is_told_to_what_needs_it(known):
    text = card(known._replace(model={**known.model, "condition": "labels"}), "ada/towns")
    assert "vae.sample(5, condition=condition)" in text
    assert "vae.transform(X, condition=condition)" in text
