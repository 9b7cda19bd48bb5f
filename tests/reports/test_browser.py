"""The report in a browser: nothing goes wrong, nothing is asked for, nothing is too wide."""

from __future__ import annotations

import numpy as np
import pytest

from aevb import VAE

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def visit(browser):
    """Open a file; return the page, what went wrong in it, and what it asked for."""
    contexts = []

    def visit(path, width=1280, dark=False):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light"
        )
        contexts.append(context)
        page, wrong, asked = context.new_page(), [], []
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector("[data-chart] svg")
        return page, wrong, [url for url in asked if not url.startswith(("file:", "data:"))]

    yield visit
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder, made = tmp_path_factory.mktemp("reports"), {}

    def written(fit):
        if id(fit) not in made:
            made[id(fit)] = folder / f"{len(made)}.html"
            fit.vae.report(fit.X, made[id(fit)], fit.labels, **fit.told)
        return made[id(fit)]

    return written


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_goes_wrong_and_nothing_is_too_wide(fit, written, visit, width):
    page, wrong, asked = visit(written(fit), width, dark=width == 390)
    assert wrong == [] and asked == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    empty = page.eval_on_selector_all(
        "[data-chart]", "places => places.filter(p => !p.querySelector('svg')).length"
    )
    assert empty == 0
    assert page.evaluate("window.alert.toString()").count("native code") == 1
    assert page.query_selector("h1").inner_text().startswith("A variational auto-encoder of")


def test_labels_and_columns_are_never_markup(fits, written, visit):
    fit = fits("table")
    page, wrong, _ = visit(written(fit))
    page.on("dialog", lambda dialog: wrong.append(dialog.message))
    assert fit.X.columns[0] in page.inner_text("main")
    assert page.query_selector("main b") is None  # of "<b>Köln</b>"
    assert wrong == []


def test_the_keyboard_reaches_every_section_and_every_table(fits, written, visit):
    page, *_ = visit(written(fits("table")), 390)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the report"
    for link in page.eval_on_selector_all("nav a", "links => links.map(a => a.hash)"):
        assert page.query_selector(link) is not None
    scrolled = page.eval_on_selector_all(
        ".scroll", "boxes => boxes.every(b => b.tabIndex === 0 && b.getAttribute('aria-label'))"
    )
    assert scrolled


def test_charts_follow_light_and_dark(fits, written, visit):
    path = written(fits("array"))
    colours = [
        visit(path, dark=dark)[0].eval_on_selector(
            "[data-chart=curve] svg path[stroke-width], [data-chart=curve] g[stroke-width] path",
            "line => getComputedStyle(line).stroke",
        )
        for dark in (False, True)
    ]
    assert colours[0] != colours[1]


def test_it_prints(fits, written, visit):
    page, wrong, _ = visit(written(fits("table")))
    pdf = page.pdf(format="A4")
    assert pdf.startswith(b"%PDF") and len(pdf) > 20_000
    assert wrong == []


def test_ten_thousand_points(tmp_path, visit):
    X = np.random.default_rng(0).normal(size=(10_000, 4))
    vae = VAE(2, hidden=(4,), epochs=1, random_state=0).fit(X)
    path = tmp_path / "many.html"
    vae.report(X, path, np.arange(10_000) % 7, n_draws=2)
    page, wrong, asked = visit(path)
    assert wrong == [] and asked == []
    assert path.stat().st_size < 3_000_000
    assert "10,000 cases were given" in page.inner_text("header")
