"""The built pages in a browser: what their search finds, and whether they fit a telephone."""

import re
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]

# What people type, and the pages of which one has to come first.
QUESTIONS = {
    "missing values": ("guides/impute/", "how_do_i/"),
    "impute": ("guides/impute/", "how_do_i/"),
    "anomaly": ("guides/score/", "coming_from/pyod/", "how_do_i/"),
    "outlier": ("guides/score/", "coming_from/pyod/", "how_do_i/"),
    "save": ("guides/save/", "how_do_i/"),
    "GPU": ("guides/train/", "guides/devices/", "how_do_i/"),
    "latent": ("guides/explore/", "guides/reduce/", "guides/pictures/", "how_do_i/"),
    "t-SNE": ("coming_from/umap/", "how_do_i/"),
    "ELBO": ("guides/evidence/", "guides/score/"),
    "synthetic table": ("coming_from/sdv/", "guides/generate/", "how_do_i/"),
    "categories": ("guides/tables/", "how_do_i/"),
    "report": ("guides/report/",),
    "server": ("guides/serve/", "how_do_i/"),
    "ONNX": ("guides/export/", "how_do_i/"),
    "MLflow": ("guides/share/", "how_do_i/"),
    "posterior collapse": ("guides/train/", "how_do_i/"),
    "sparse counts": ("guides/tables/", "how_do_i/"),
}

# Elements that stick out of the window, and are in no box of their own that scrolls.
STICKING_OUT = """() => {
  const boxed = (e) => !e.matches(".md-content") &&
    (getComputedStyle(e).overflowX !== "visible" || boxed(e.parentElement));
  return [...document.querySelectorAll(".md-content *")]
    .filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !boxed(e.parentElement))
    .map((e) => e.outerHTML.slice(0, 100));
}"""


class Quiet(SimpleHTTPRequestHandler):
    """Serve files without a line for each."""

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Build the pages, serve them, and return their folder and address."""
    pytest.importorskip("mkdocs", reason="the extra `docs` is not installed")
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder]
    subprocess.run(build, cwd=ROOT, check=True)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever).start()
        yield folder, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.mark.parametrize("words", QUESTIONS)
def test_the_search_finds(site, browser, words):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(f"{site[1]}?q={quote(words)}")
    link = page.locator(".md-search-result__item > a").first.get_attribute("href")
    page.close()
    assert re.sub(r"[?#].*", "", link).removeprefix(site[1]) in QUESTIONS[words]


def test_pages_fit_a_telephone_and_need_nothing_from_elsewhere(site, browser):
    folder, address = site
    page = browser.new_page(viewport={"width": 390, "height": 844})
    wrong, asked = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: message.type == "error" and wrong.append(message.text))
    for path in sorted(folder.rglob("index.html")):
        name = path.parent.relative_to(folder).as_posix()
        page.goto(f"{address}{name}/", wait_until="load")
        wrong += [(name, element) for element in page.evaluate(STICKING_OUT)]
    page.close()
    assert not wrong
    assert not [url for url in asked if not url.startswith((address, "data:"))]
