"""Make the screenshots of the documentation: `python docs/screenshots.py`, or some by name.

The system's Chromium opens the pages. It needs the real data, like `docs/pictures.py`.
"""

import functools
import io
import runpy
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from sklearn.datasets import load_wine

from aevb import VAE, datasets, explorer
from aevb.serve import create_app

ROOT = Path(__file__).parents[1]
WIDE, NARROW = 1280, 390
MARGIN = 15


@functools.cache
def digits() -> tuple[VAE, Any]:
    """MNIST in ten dimensions, and its test images."""
    train, test = datasets.load_mnist()
    return VAE(latent_dim=10, epochs=20, random_state=0).fit(train.images), test


def explorer_pictures(browser: Browser) -> None:
    """The explorer of MNIST: a digit is drawn, and a case is under the pointer."""
    vae, test = digits()
    with opened(browser, explorer.page(vae, test.images, test.labels), height=735) as page:
        canvas = page.locator(".aevb-drawing").bounding_box()
        places = [(0.3, 0.29), (0.64, 0.27), (0.57, 0.48), (0.48, 0.62), (0.43, 0.8)]
        places = [(canvas["x"] + x * 234, canvas["y"] + y * 234) for x, y in places]
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place, steps=8)
        page.mouse.up()
        box = page.locator(".aevb-map").bounding_box()
        page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 0.55 * box["height"])
        shoot(page, "explorer", ".aevb-explorer")


def explorer_table(browser: Browser) -> None:
    """The explorer of a table."""
    wine = load_wine(as_frame=True)
    vae = VAE(latent_dim=3, random_state=0).fit(wine.data)
    html = explorer.page(vae, wine.data, wine.target_names[wine.target])
    with opened(browser, html, height=695) as page:
        shoot(page, "explorer_table")


def explorer_condition(browser: Browser) -> None:
    """The explorer of a model under a condition, the digit."""
    train, test = datasets.load_mnist()
    rows = slice(0, 20_000)
    vae = VAE(2, epochs=10, random_state=0).fit(train.images[rows], condition=train.labels[rows])
    html = explorer.page(vae, test.images, test.labels, condition=test.labels)
    with opened(browser, html, height=735) as page:
        page.get_by_label("condition").select_option("4")
        page.wait_for_timeout(200)
        shoot(page, "explorer_condition", ".aevb-explorer")


def report_table(browser: Browser) -> None:
    """The beginning of the report of a table with all kinds of columns, and with holes."""
    rng = np.random.default_rng(0)
    people = runpy.run_path(str(ROOT / "examples" / "mixed_table.py"))["simulate"](1600, rng)
    people["income"] = people["income"].mask(rng.random(1600) < 0.1)
    seen, held_out = people[:800], people[800:]
    vae = VAE(4, likelihood={"income": "log-normal"}, validation_fraction=0.1, random_state=0)
    with opened(browser, report(vae.fit(seen), held_out, train=seen), width=1100) as page:
        shoot(page, "report_table", before="#training")


def report_images(browser: Browser) -> None:
    """Latents and oddest cases in the report of MNIST."""
    vae, test = digits()
    rows = slice(0, 2000)
    html = report(vae, test.images[rows], labels=test.labels[rows])
    with opened(browser, html) as page:
        shoot(page, "report_images", "#latents p", before="#cases")


def serve(browser: Browser) -> None:
    """What a server says of itself."""
    wine = load_wine(as_frame=True)
    vae = VAE(latent_dim=2, random_state=0).fit(wine.data)
    with tempfile.TemporaryDirectory() as folder:
        vae.save(path := Path(folder, "wine.aevb"))
        server = uvicorn.Server(uvicorn.Config(create_app(path), port=8765, log_level="error"))
        thread = threading.Thread(target=server.run)
        thread.start()
        page = browser.new_page(viewport={"width": 900, "height": 700})
        while not server.started:
            page.wait_for_timeout(100)
        page.goto("http://127.0.0.1:8765/docs")
        shoot(page, "serve")
        page.close()
        server.should_exit = True
        thread.join()


class Quiet(SimpleHTTPRequestHandler):
    """Serve files without a line for each."""

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def site(browser: Browser) -> None:
    """The documentation: wide in the light, narrow in the dark."""
    with tempfile.TemporaryDirectory() as folder:
        build = ["mkdocs", "build", "--quiet", "--site-dir", folder]
        subprocess.run([sys.executable, "-m", *build], cwd=ROOT, check=True)
        server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        shots = []
        for name, width, scheme in (("how_do_i", 900, "light"), ("guides/report", NARROW, "dark")):
            page = browser.new_page(
                viewport={"width": width, "height": 844},
                color_scheme=scheme,
            )
            page.goto(f"http://127.0.0.1:{server.server_port}/{name}/")
            page.wait_for_timeout(500)
            shots.append(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
            page.close()
        server.shutdown()
    sheet = Image.new("RGB", (sum(each.width for each in shots) + 20, 844), "white")
    at = 0
    for shot in shots:
        sheet.paste(shot, (at, 0))
        at += shot.width + 20
    write(sheet, "site")


def report(vae: VAE, X: Any, **told: Any) -> str:
    """Return the report of a model."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "report.html")
        vae.report(X, path, **told)
        return path.read_text(encoding="utf-8")


@contextmanager
def opened(browser: Browser, html: str, width: int = WIDE, height: int = 780) -> Iterator[Page]:
    """Open a page."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "page.html")
        path.write_text(html, encoding="utf-8")
        page = browser.new_page(viewport={"width": width, "height": height})
        page.goto(path.as_uri())
        page.wait_for_timeout(1000)
        try:
            yield page
        finally:
            page.close()


def shoot(page: Page, name: str, first: str = "html", before: str | None = None) -> None:
    """Take a picture from one element to another, or to the end of the window."""
    page.wait_for_timeout(300)
    size = page.viewport_size
    top = max(page.locator(first).first.bounding_box()["y"] - MARGIN, 0)
    end = size["height"] if before is None else page.locator(before).bounding_box()["y"]
    clip = {"x": 0, "y": top, "width": size["width"], "height": end - top}
    content = page.screenshot(clip=clip, full_page=True)
    write(Image.open(io.BytesIO(content)).convert("RGB"), name)


def write(image: Image.Image, name: str) -> None:
    """Write a picture, in few colours."""
    # Rare colours, such as those of a legend, are kept apart, and grays stay gray.
    few = image.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=3)
    few.save(ROOT / "docs" / "images" / f"{name}.png", optimize=True)


if __name__ == "__main__":
    made = (explorer_pictures, explorer_table, explorer_condition, report_table, report_images)
    makers = {maker.__name__: maker for maker in (*made, serve, site)}
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        for name in sys.argv[1:] or makers:
            makers[name](chromium)
        chromium.close()
