"""Execute notebooks with their full settings, and write them as pages of the documentation.

`make notebooks` renders all of them; `python examples/notebooks/render.py mnist` only that one. The
pages and pictures in docs/notebooks are committed: building the documentation takes neither data
nor minutes.
"""

import argparse
import base64
import datetime
import io
import os
import re
import time
from pathlib import Path

import jax
import jupytext
from nbclient import NotebookClient
from PIL import Image

import aevb

NOTEBOOKS = Path(__file__).parent
PAGES = NOTEBOOKS.parents[1] / "docs" / "notebooks"
ALL = ("mnist", "fashion_mnist", "own_model")


def render(name: str) -> None:
    """Execute a notebook; write its page and pictures."""
    notebook = jupytext.read(NOTEBOOKS / f"{name}.py", fmt="py:percent")
    began = time.monotonic()
    resources = {"metadata": {"path": NOTEBOOKS}}
    NotebookClient(notebook, kernel_name="python3", timeout=None, resources=resources).execute()
    page = Page(name)
    page.note(notebook.cells, time.monotonic() - began)
    for cell in notebook.cells:
        page.add(cell)
    page.write()


class Page:
    """A page in Markdown, as it grows."""

    def __init__(self, name: str):
        self.name = name
        self.parts: list[str] = []
        self.pictures: list[bytes] = []
        self.heading = ""

    def note(self, cells: list, seconds: float) -> None:
        """Say when, with what and how the notebook was executed; it goes below the title."""
        settings = next(cell for cell in cells if "parameters" in cell.metadata.get("tags", ()))
        said = ", ".join(f"`{line.split('#')[0].strip()}`" for line in settings.source.splitlines())
        self.executed = (
            f"*Executed on {datetime.date.today()} with aevb {aevb.__version__} and JAX "
            f"{jax.__version__}, in {_count(round(seconds / 60), 'minute')} on {_cores()} of a "
            f"{jax.default_backend().upper()}, with the settings {said}. The source is "
            f"`examples/notebooks/{self.name}.py`: text, which Jupyter opens by jupytext, and "
            "VS Code as it is.*"
        )

    def add(self, cell: dict) -> None:
        """Add a cell and what it showed."""
        if cell.cell_type == "markdown":
            headings = re.findall(r"(?m)^#+ (.*)$", cell.source)
            source = cell.source
            if not self.heading:
                title, _, rest = cell.source.partition("\n")
                source = f"{title}\n\n{self.executed}\n{rest}"
            self.heading = headings[-1] if headings else self.heading
            self.parts.append(source)
            return
        self.parts.append(f"```python\n{cell.source}\n```")
        drawn = any("image/png" in output.get("data", ()) for output in cell.outputs)
        for output in cell.outputs:
            data = output.get("data", {})
            if output.output_type == "stream" and output.name == "stdout":
                self.parts.append(f"```text\n{output.text.rstrip()}\n```")
            elif "image/png" in data:
                self.parts.append(self._picture(base64.b64decode(data["image/png"])))
            elif "text/html" in data:
                self.parts.append(_plain_table(data["text/html"]))
            elif "text/plain" in data and not drawn:  # beside a picture it is its axes' name
                self.parts.append(f"```text\n{data['text/plain']}\n```")

    def write(self) -> None:
        """Replace the page and its pictures."""
        images = PAGES / "images"
        images.mkdir(parents=True, exist_ok=True)
        for old in images.glob(f"{self.name}_*.png"):
            old.unlink()
        for number, picture in enumerate(self.pictures, start=1):
            (images / f"{self.name}_{number}.png").write_bytes(picture)
        text = "\n\n".join(self.parts) + "\n"
        (PAGES / f"{self.name}.md").write_text(text, encoding="utf-8")

    def _picture(self, png: bytes) -> str:
        """Keep a picture, with a palette of 256 colours: a third of the size."""
        out = io.BytesIO()
        image = Image.open(io.BytesIO(png)).convert("RGB")
        image.quantize(256, dither=Image.Dither.NONE).save(out, "PNG", optimize=True)
        self.pictures.append(out.getvalue())
        return f"![{self.heading}](images/{self.name}_{len(self.pictures)}.png)"


def _cores() -> str:
    """Count the cores that this process may use, as experiments/results.py does."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return _count(cores, "core")


def _count(number: int, unit: str) -> str:
    return f"{number} {unit}{'s' * (number != 1)}"


def _plain_table(html: str) -> str:
    """Leave the looks of pandas' table to the page."""
    html = re.sub(r"<style.*?</style>\s*", "", html, flags=re.DOTALL)
    return re.sub(r' (border|class|style)="[^"]*"', "", html)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", default=ALL, help="all by default")
    for name in parser.parse_args().names:
        print(f"Rendering {name}", flush=True)
        render(name)
