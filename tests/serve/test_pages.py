"""The pages of a server in a browser: the explorer runs, and nothing comes from elsewhere."""

import pytest

pytestmark = pytest.mark.slow


def visit(browser, client, path):
    """Open a page of the server; return it, what went wrong in it, and what it asked others for."""
    page, wrong, asked = browser.new_page(), [], []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: said.type == "error" and wrong.append(said.text))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{client.base_url}{path}")
    own = str(client.base_url), "data:"
    return page, wrong, [url for url in asked if not url.startswith(own)]


def test_the_explorer_follows_the_keys(browser, vaes, limited):
    name = "numbers"
    with limited({name: vaes[name]}) as client:
        page, wrong, asked = visit(browser, client, "/")
        page.wait_for_selector(".aevb-map")
        before = page.locator(".aevb-where").first.inner_text()
        page.locator(".aevb-map").press("ArrowRight")
        page.wait_for_function(
            "was => document.querySelector('.aevb-where').innerText !== was", arg=before
        )
        page.close()
    assert wrong == [] and asked == []


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_of_several_models(browser, client, path):
    page, wrong, asked = visit(browser, client, path)
    assert page.locator("h1").count() == 1
    page.close()
    assert wrong == [] and asked == []
