"""The page in a browser: a point is dragged, and what is decoded is what Python decodes."""

import base64
import json
import warnings
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest

from aevb import VAE, explorer

pytestmark = pytest.mark.slow

RNG = np.random.default_rng(0)
EXPLORER = "document.querySelector('.aevb-explorer').explorer"


@contextmanager
def opened(browser, tmp_path, html, **options):
    """Open a page; an error in it, or a request to anything but itself, is an error here."""
    path = tmp_path / "page.html"
    path.write_text(html, encoding="utf-8")
    wrong = []
    context = browser.new_context(**options)
    page = context.new_page()
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: said.type == "error" and wrong.append(said.text))
    allowed = f"file://{path}", "data:"
    page.on("request", lambda r: r.url.startswith(allowed) or wrong.append(r.url))
    page.goto(f"file://{path}")
    page.wait_for_selector(".aevb-explorer")
    yield page
    context.close()
    assert wrong == []


def fit(X, latent_dim=2, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return VAE(latent_dim, **{"epochs": 1, "random_state": 0, **options}).fit(X)


def settle(page):
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 20)))")


def drag(page, start, end):
    """Drag from one latent point to another, by the mouse."""
    box = page.locator(".aevb-map").bounding_box()
    places = [page.evaluate(f"({EXPLORER}).toPixels({x}, {y})") for x, y in (start, end)]
    (x, y), (to_x, to_y) = [(box["x"] + px, box["y"] + py) for px, py in places]
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move((x + to_x) / 2, (y + to_y) / 2)
    page.mouse.move(to_x, to_y)
    page.mouse.up()
    settle(page)


@pytest.fixture(scope="module")
def pictures():
    """The model of the paper, with as many weights as for MNIST."""
    X = (RNG.random((300, 28, 28)) < 0.2).astype(np.float32)
    return X, fit(X, 20, hidden=500, activation="tanh", init="random", epochs=2)


@pytest.fixture(scope="module")
def table():
    z = RNG.normal(size=200)
    X = pd.DataFrame(
        {
            "<img src=x onerror=alert(1)>": 3 * z + RNG.normal(size=200),
            "weight": 70 + 10 * z + RNG.normal(size=200),
            "city": np.where(
                z > 0.3, "Ulm", np.where(RNG.random(200) < 0.5, "<b>Bonn</b>", "Kiel")
            ),
            "since": pd.Timestamp("2024-01-01") + pd.to_timedelta(np.rint(30 * z), "D"),
        }
    )
    X = X.mask(RNG.random(X.shape) < 0.1)
    return X, fit(X, 3, hidden=8, epochs=20)


def test_a_dragged_point_decodes_to_what_python_decodes(browser, tmp_path, pictures):
    X, vae = pictures
    html = explorer.page(vae, X, np.arange(300) % 10)
    assert len(html) < 5e6
    with opened(browser, tmp_path, html) as page:
        content = json.loads(page.locator("#aevb-explorer-data").text_content())
        across, up = content["latent"]["order"][:2]
        before = np.array(page.evaluate(f"({EXPLORER}).point()"))
        drag(page, before[[across, up]], before[[across, up]] + [0.7, -0.4])
        after = np.array(page.evaluate(f"({EXPLORER}).point()"))
        moved = after - before
        np.testing.assert_allclose(moved[[across, up]], [0.7, -0.4], atol=0.02)
        assert np.count_nonzero(moved) == 2
        (found,) = page.evaluate(f"({EXPLORER}).decoded()")
        expected = vae.inverse_transform(after[None].astype(np.float32)).ravel()
        np.testing.assert_allclose(found, expected, atol=1e-4)
        # What is on the screen is these values.
        shown = page.evaluate(
            "() => { const c = document.querySelector('.aevb-decoded canvas');"
            " return [...c.getContext('2d').getImageData(0, 0, 28, 28).data] }"
        )
        np.testing.assert_allclose(np.reshape(shown, (-1, 4))[:, 0], 255 * expected, atol=0.51)


def test_a_frame_takes_less_than_16_ms(browser, tmp_path, pictures):
    X, vae = pictures
    with opened(browser, tmp_path, explorer.page(vae, X)) as page:
        times = page.evaluate(
            f"() => Array.from({{ length: 60 }}, () => {{ const start = performance.now();"
            f" ({EXPLORER}).show(); return performance.now() - start }})"
        )
    print(f"median of a frame: {np.median(times):.2f} ms")
    assert np.median(times) < 16


def test_ten_thousand_cases_are_panned_within_frames(browser, tmp_path):
    X = RNG.normal(size=(10_000, 3))
    vae = fit(X[:300], hidden=4)
    with opened(browser, tmp_path, explorer.page(vae, X, X[:, 0])) as page:
        box = page.locator(".aevb-map").bounding_box()
        page.evaluate(
            "() => { window.frames_ = []; const tick = (t) => { frames_.push(t);"
            " requestAnimationFrame(tick) }; requestAnimationFrame(tick) }"
        )
        page.mouse.move(box["x"] + 30, box["y"] + 30)
        page.mouse.down()
        for k in range(40):
            page.mouse.move(box["x"] + 30 + 4 * k, box["y"] + 30 + 2 * k)
        page.mouse.up()
        gaps = np.diff(page.evaluate("() => frames_"))
    print(f"median between frames: {np.median(gaps):.1f} ms")
    assert np.median(gaps) < 50  # no graphics card here: the points are painted by a processor


def test_keys_and_sliders_move_the_point(browser, tmp_path, table):
    X, vae = table
    with opened(browser, tmp_path, explorer.page(vae, X)) as page:
        before = page.evaluate(f"({EXPLORER}).point()")
        page.locator(".aevb-map").focus()
        page.keyboard.press("ArrowRight")
        settle(page)
        after = page.evaluate(f"({EXPLORER}).point()")
        assert sorted(np.sign(np.subtract(after, before))) == [0, 0, 1]
        page.locator(".aevb-slider input").first.focus()
        page.keyboard.press("Home")
        settle(page)
        last = page.evaluate(f"({EXPLORER}).point()")
        assert np.count_nonzero(np.subtract(last, after)) == 1


def test_every_control_has_a_name(browser, tmp_path, table):
    X, vae = table
    with opened(browser, tmp_path, explorer.page(vae, X, X["city"])) as page:
        unnamed = page.evaluate(
            "() => [...document.querySelectorAll('button, input, select, [tabindex]')].filter("
            " (c) => !(c.labels?.length || c.ariaLabel)).map((c) => c.outerHTML)"
        )
        assert unnamed == []


def test_a_row_is_shown_in_its_own_units(browser, tmp_path, table):
    X, vae = table
    with opened(browser, tmp_path, explorer.page(vae, X, X["city"])) as page:
        assert page.locator(".aevb-explorer img, .aevb-explorer b").count() == 0
        point = page.evaluate(f"({EXPLORER}).point()")
        row = vae.inverse_transform([point]).iloc[0]
        cells = page.locator(".aevb-decoded tbody tr").evaluate_all(
            "(rows) => rows.map((row) => [0, 1].map((k) => row.children[k].textContent))"
        )
        shown = {name: text.replace("\N{MINUS SIGN}", "-") for name, text in cells}
        assert [*shown] == [*X.columns]
        assert shown["city"] == row["city"]
        assert shown["since"] == f"{row['since']:%Y-%m-%d}"
        for name in X.columns[:2]:
            np.testing.assert_allclose(float(shown[name]), row[name], rtol=5e-3)


def test_a_typed_case_goes_where_the_encoder_puts_it(browser, tmp_path, table):
    X, vae = table
    with opened(browser, tmp_path, explorer.page(vae, X)) as page:
        form = page.locator(".aevb-form")
        form.get_by_label("weight").fill("81.5")
        form.get_by_label("city").select_option("Ulm")
        form.get_by_label("since").fill("2024-02-03")
        settle(page)
        point = page.evaluate(f"({EXPLORER}).point()")
    case = X.iloc[:1].copy()
    case.iloc[0, 0] = np.nan
    case["weight"], case["city"] = 81.5, "Ulm"
    case["since"] = pd.Timestamp("2024-02-03").as_unit(X["since"].dt.unit)
    np.testing.assert_allclose(point, vae.transform(case)[0], atol=1e-3)


def test_a_drawn_case_goes_where_the_encoder_puts_it(browser, tmp_path, pictures):
    X, vae = pictures
    with opened(browser, tmp_path, explorer.page(vae, X)) as page:
        canvas = page.locator(".aevb-drawing")
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        page.mouse.move(box["x"] + 40, box["y"] + 40)
        page.mouse.down()
        page.mouse.move(box["x"] + 120, box["y"] + 160, steps=5)
        page.mouse.up()
        settle(page)
        drawn = page.evaluate(
            "() => { const c = document.querySelector('.aevb-drawing');"
            " return [...c.getContext('2d').getImageData(0, 0, 28, 28).data] }"
        )
        point = page.evaluate(f"({EXPLORER}).point()")
    drawn = np.reshape(drawn, (-1, 4))[:, 0].reshape(1, 28, 28) / 255
    assert 0.01 < drawn.mean() < 0.5
    code = vae.transform(drawn.astype(np.float32))[0]
    np.testing.assert_allclose(point, code, atol=0.02)  # the screen has 256 shades


def test_the_decoded_case_follows_the_condition(browser, tmp_path):
    rng = np.random.default_rng(0)
    kind = np.array(["round", "<b>long</b>"])[np.arange(200) % 2]
    X = rng.normal(size=(200, 3)) + 3 * (kind == "round")[:, None]
    told = pd.DataFrame({"kind": kind, "age": rng.uniform(20, 60, 200)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        vae = VAE(2, hidden=8, epochs=5, random_state=0).fit(X, condition=told)
    with opened(browser, tmp_path, explorer.page(vae, X, condition=told)) as page:
        form = page.locator(".aevb-given .aevb-form")
        assert form.get_by_label("kind").evaluate("(c) => c.selectedOptions[0].label") == kind[0]

        def check(told):
            point = page.evaluate(f"({EXPLORER}).point()")
            (found,) = page.evaluate(f"({EXPLORER}).decoded()")
            expected = vae.inverse_transform(np.float32([point]), condition=told)[0]
            np.testing.assert_allclose(found, expected, atol=1e-4)
            shown = page.locator(".aevb-decoded td.aevb-value").first.text_content()
            assert float(shown.replace("\N{MINUS SIGN}", "-")) == pytest.approx(expected[0], 1e-2)
            return expected

        one = check(told[:1])
        form.get_by_label("kind").select_option("<b>long</b>")
        form.get_by_label("age").fill("33.5")
        settle(page)
        assert np.abs(check(pd.DataFrame({"kind": ["<b>long</b>"], "age": [33.5]})) - one).max() > 1
        # A case that is picked brings its own condition.
        codes = vae.transform(X, condition=told)
        far = int(np.abs(codes).sum(axis=1).argmax())
        box = page.locator(".aevb-map").bounding_box()
        x, y = page.evaluate(f"({EXPLORER}).toPixels({codes[far, 0]}, {codes[far, 1]})")
        page.mouse.click(box["x"] + x, box["y"] + y)
        settle(page)
        np.testing.assert_allclose(page.evaluate(f"({EXPLORER}).point()"), codes[far], atol=1e-5)
        check(told[far : far + 1])
        page.get_by_label("Colour by").select_option(label="kind")
        assert page.locator(".aevb-legend").text_content() == "<b>long</b>round"


def test_the_exposure_of_a_typed_case_is_its_total(browser, tmp_path):
    rng = np.random.default_rng(0)
    X = pd.DataFrame(
        rng.poisson(rng.uniform(5, 50, 200)[:, None] * [0.5, 1.0, 2.0]), columns=[*"abc"]
    )
    likelihood = dict.fromkeys("abc", "poisson")
    vae = VAE(2, hidden=8, epochs=5, random_state=0, likelihood=likelihood).fit(X, exposure="total")
    with opened(browser, tmp_path, explorer.page(vae, X)) as page:
        form, given = (page.locator(f".aevb-{name} .aevb-form") for name in ("yours", "given"))
        given.get_by_label("exposure").fill("0")
        assert (
            page.locator(".aevb-given .aevb-note").text_content() == "Still to fill in: exposure."
        )
        for name, count in {"a": 3, "b": 11, "c": 29}.items():
            form.get_by_label(name, exact=True).fill(str(count))
        settle(page)
        assert given.get_by_label("exposure").input_value() == "43"
        assert page.locator(".aevb-given .aevb-note").text_content() == ""
        point = page.evaluate(f"({EXPLORER}).point()")
    case = pd.DataFrame({"a": [3], "b": [11], "c": [29]})
    np.testing.assert_allclose(point, vae.transform(case)[0], atol=1e-3)


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen(browser, tmp_path, table, width):
    X, vae = table
    size = {"width": width, "height": 844}
    with opened(browser, tmp_path, explorer.page(vae, X), viewport=size) as page:
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width


def test_the_widget_is_this_page_in_a_notebook(browser, tmp_path, table):
    """The module is loaded as a notebook does, with a model that only keeps what it is told."""
    pytest.importorskip("anywidget", reason="anywidget is not installed")
    X, vae = table
    state = vae.explore(X).get_state()
    data = base64.b64encode(state["_esm"].encode()).decode()
    model = json.dumps({name: state[name] for name in ("payload", "point")})
    html = f"""<!doctype html><style>{state["_css"]}</style><div id="cell"></div>
        <script type="application/json" id="state">{model.replace("<", "&lt;")}</script>
        <script type="module">
        const read = (text) => JSON.parse(text.replaceAll("&lt;", "<"));
        const kept = read(document.getElementById("state").textContent);
        const model = {{ get: (name) => kept[name], set: (name, value) => (kept[name] = value),
                         save_changes() {{}}, on() {{}} }};
        const widget = await import("data:text/javascript;base64,{data}");
        widget.default.render({{ model, el: document.getElementById("cell") }});
        window.kept = kept;
        </script>"""
    with opened(browser, tmp_path, html) as page:
        page.locator(".aevb-map").focus()
        page.keyboard.press("ArrowUp")
        settle(page)
        point = page.evaluate("() => window.kept.point")
        assert point == page.evaluate(f"({EXPLORER}).point()") != state["point"]
