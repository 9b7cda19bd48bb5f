"""The report as a page: whole, well formed, escaped, and nothing in it from elsewhere."""

from __future__ import annotations

import copy
import itertools
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from aevb import VAE
from aevb.report import facts
from aevb.report.cases import shown
from aevb.report.collect import texts as in_words
from aevb.report.markup import data, html, tag
from aevb.report.page import page, plus_minus

VOID = {"meta", "img", "br", "link", "input", "hr", "path"}


class Document(HTMLParser):
    """Reads a page: its elements with their texts; an element that is not closed is a failure."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict, list[str]]] = []
        self.open: list[tuple[str, list[str]]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, name, attributes):
        element = (name, dict(attributes), [])
        self.elements.append(element)
        if name not in VOID:
            self.open.append((name, element[2]))

    def handle_endtag(self, name):
        if name not in VOID:
            expected, _ = self.open.pop()
            assert expected == name, f"</{name}> where <{expected}> is open"

    def handle_data(self, text):
        for _, texts in self.open:
            texts.append(text)

    def texts(self, name):
        return ["".join(texts) for each, _, texts in self.elements if each == name]

    def all(self, name):
        return [attributes for each, attributes, _ in self.elements if each == name]


@pytest.fixture(scope="module")
def pages():
    made: dict[int, str] = {}

    def get(fit):
        if id(fit) not in made:
            made[id(fit)] = page(fit.vae, fit.X, fit.labels, **fit.told)
        return made[id(fit)]

    return get


@pytest.fixture
def text(fit, pages):
    return pages(fit)


def test_it_is_well_formed(text):
    document = Document(text)
    assert text.startswith("<!doctype html>")
    assert len(document.texts("h1")) == len(document.texts("title")) == 1
    ids = [attributes["id"] for _, attributes, _ in document.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    linked = {each["href"][1:] for each in document.all("a")}
    assert linked <= set(ids)
    assert all(each.get("alt") for each in document.all("img"))
    assert {"header", "nav", "main", "footer"} <= {name for name, *_ in document.elements}
    levels = [int(name[1]) for name, *_ in document.elements if re.fullmatch("h[1-6]", name)]
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))


def test_nothing_is_loaded_from_elsewhere(text):
    document = Document(text)
    for _, attributes, _ in document.elements:
        for name in ("src", "href", "srcset", "poster", "action", "data"):
            value = attributes.get(name, "#")
            assert value.startswith(("#", "data:")), value
    for style in document.texts("style"):
        assert "@import" not in style
        urls = re.findall(r"url\(\s*[\"']?([^\"')]{0,5})", style)
        assert set(urls) <= {"data:"}
    policy = next(each["content"] for each in document.all("meta") if "http-equiv" in each)
    assert policy.startswith("default-src 'none'")


def test_numbers_are_on_it_with_their_errors(fit, known, text):
    found = known(fit)
    cells = Document(text).texts("td")
    for each in found.numbers:
        assert plus_minus(each.value, each.standard_error) in cells
        assert each.of in cells and each.unit in cells


def test_what_the_user_has_named_is_escaped(fits, pages):
    fit = fits("table")
    text = pages(fit)
    document = Document(text)
    assert fit.X.columns[0] in document.texts("th")
    assert "Ulm </td>" in "".join(document.texts("td"))
    for script in ("<script>alert('column')", "<script>alert('label')"):
        assert script not in text
    assert not any("alert(" in each for each in document.texts("script") if "d3" in each[:200])
    named = {each["column"] for each in document_json(document, "margins-data")}
    assert fit.X.columns[0] in named


def document_json(document, name):
    return next(
        json.loads("".join(texts))
        for each, attributes, texts in document.elements
        if each == "script" and attributes.get("id") == name
    )


def test_texts_end_neither_a_script_nor_an_element():
    hostile = "</script><b>&\"'\x00\x0b"
    element = html(tag("p", hostile, tag("i", hostile), hostile, title=hostile))
    document = Document(element)
    shown_text = "</script><b>&\"'"
    assert document.texts("p") == [shown_text * 3]
    assert document.all("p")[0]["title"].startswith(shown_text)
    whole = html(data("x", {hostile: [hostile, float("nan"), np.float32(1.5), None]}))
    assert whole.count("</script") == 1
    assert document_json(Document(whole), "x") == {hostile: [hostile, None, 1.5, None]}


def test_pictures_are_those_of_the_cases(fits, known):
    fit = fits("pictures")
    found = known(fit)
    looks = shown(fit.vae, found, fit.X)
    np.testing.assert_array_equal(looks.real, fit.X[looks.rows])
    made = fit.vae.reconstruct(fit.X[looks.rows])
    np.testing.assert_allclose(looks.reconstructed, made, rtol=1e-6)
    np.testing.assert_allclose(looks.new, fit.vae.sample(len(looks.new), mean=True), rtol=1e-6)
    odd = found.oddest["row"]
    np.testing.assert_allclose(looks.odd_surprise, fit.vae.surprise(fit.X[odd], 200), rtol=1e-5)
    middle = fit.vae.inverse_transform(np.zeros((1, 3)))[0]
    for line in looks.traversal:
        np.testing.assert_allclose(line[len(line) // 2], middle, atol=1e-5)


def test_latents_move_the_columns_that_depend_on_them(fits, known):
    fit = fits("array")
    looks = shown(fit.vae, known(fit), fit.X)
    (moved,) = looks.traversal
    assert {each.column for each in moved} == {0, 1, 2}
    made = fit.vae.inverse_transform([[-2.0], [-1.0], [0.0], [1.0], [2.0]])
    for each in moved:
        values = made[:, each.column]
        np.testing.assert_allclose(
            [float(v.replace("−", "-")) for v in each.values], values, rtol=1e-2, atol=1e-3
        )
        change = (values[3] - values[1]) / fit.X[:, each.column].std()
        assert each.effect == pytest.approx(change, rel=1e-2)


def test_shares_are_shares(fits, known):
    fit = fits("table")
    looks = shown(fit.vae, known(fit), fit.X)
    by_name = {each.column: each for each in looks.margins}
    city = by_name["city"]
    assert city.bins == ["Bonn & <b>Köln</b>", "Ulm </td>"]
    counts = fit.X["city"].value_counts(normalize=True)
    np.testing.assert_allclose(city.real, [counts[name] for name in city.bins])
    assert sum(city.new) == pytest.approx(1)
    moved = {each.column for line in looks.traversal for each in line}
    assert "city" in moved
    assert all(
        0 <= each.effect <= 1 for line in looks.traversal for each in line if each.column == "city"
    )


def test_a_model_alone_has_a_report(fit):
    document = Document(page(fit.vae))
    assert "No cases were given to this report." in document.texts("header")[0]


def test_new_cases_come_from_the_density_of_the_codes_if_there_is_one(fits):
    X, vae = fits("array").X, copy.copy(fits("array").vae)
    before = shown(vae, facts(vae, X), X)
    looks = shown(vae.fit_aggregate_posterior(X), facts(vae, X), X)
    assert (before.origin, looks.origin) == ("the prior", "the aggregate posterior")
    expected = vae.sample(1000, from_="posterior").astype(np.float64)
    assert looks.new == in_words(vae.schema_, expected[: len(looks.new)], 4)
    assert before.new != looks.new


def test_with_the_training_cases_it_has_the_gap_and_classical_models(fits):
    vae, X = fits("array").vae, fits("array").X
    found = facts(vae, X[:40] + 0.1, train=X).diagnosis
    document = Document(page(vae, X[:40] + 0.1, train=X))
    assert {found.comparison.title} <= set(document.texts("figcaption"))
    cells = document.texts("td")
    for value, error in zip(
        found.comparison.rows["log_likelihood"],
        found.comparison.rows["standard_error"],
        strict=True,
    ):
        assert plus_minus(value, error) in cells
    said = "".join(document.texts("main"))
    findings = [each.what for each in found.findings if each.name == "comparison"]
    for sentence in findings or [found.comparison.conclusion]:
        assert sentence.replace(" -", " −") in said
    difference = found.gap["difference"], found.gap["standard_error"]
    assert not np.isnan(difference[1])
    assert plus_minus(*difference) in said


def test_training_cases_alone_are_refused(fits):
    with pytest.raises(ValueError, match="Expected `X` with `train`; got None"):
        page(fits("array").vae, train=fits("array").X)


@pytest.mark.slow
def test_a_decoder_that_cannot_run_in_a_page_leaves_a_plain_map(fits, pages):
    fit = fits("sorting")
    document = Document(pages(fit))
    assert "needs 'sort'" in "".join(document.texts("p"))
    told = document_json(document, "map-data")
    np.testing.assert_allclose(told["points"], fit.vae.transform(fit.X), atol=1e-4)
    assert told["labels"][:4] == ["0", "1", "2", "0"]
    assert not any("aevb.compile = " in each for each in document.texts("script"))


@pytest.mark.slow
def test_one_case_is_enough(fits):
    fit = fits("table")
    Document(page(fit.vae, fit.X[:1]))


def test_the_file_replaces_another_in_one_step(fits, tmp_path, monkeypatch):
    fit = fits("array")
    path = tmp_path / "report.html"
    path.write_text("before")
    fit.vae.report(fit.X, path, fit.labels, title="Wines & more")
    assert "<title>Wines &amp; more</title>" in path.read_text("utf-8")
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]
    before = path.read_bytes()
    monkeypatch.setattr("aevb.report.page._about", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fit.vae.report(fit.X, path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]


def test_a_missing_folder_is_told_before_any_work(fits, tmp_path):
    with pytest.raises(FileNotFoundError, match="Expected an existing folder"):
        fits("array").vae.report(object(), tmp_path / "no" / "report.html")


def test_an_estimator_must_be_fitted(tmp_path):
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError):
        VAE().report(np.zeros((2, 2)), tmp_path / "report.html")
