"""HTML by the standard library's ElementTree, which escapes every text that is put into it."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Collection
from typing import Any
from xml.etree.ElementTree import Element, SubElement, tostring

import numpy as np

from aevb.plotting.mosaic import lines, scaled


def tag(name: str, *children: Any, **attributes: Any) -> Element:
    """Return an element; children are elements, texts, or None for nothing.

    Examples
    --------
    >>> html(tag("p", "a < ", tag("b", "b"), class_="x"))
    '<p class="x">a &lt; <b>b</b></p>'
    """
    named = {key.rstrip("_").replace("_", "-"): str(value) for key, value in attributes.items()}
    element = Element(name, named)
    for child in children:
        if isinstance(child, Element):
            element.append(child)
        elif child is not None:
            _add_text(element, str(child))
    return element


def _add_text(element: Element, text: str) -> None:
    text = "".join(each for each in text if each >= " " or each in "\n\t")  # HTML has no others
    if len(element):
        element[-1].tail = (element[-1].tail or "") + text
    else:
        element.text = (element.text or "") + text


def html(element: Element) -> str:
    """Return an element as HTML."""
    return tostring(element, encoding="unicode", method="html")


def table(
    caption: str, heads: list[str], rows: list[list[Any]], numbers: Collection[int] = ()
) -> Element:
    """Return a table in a box that scrolls by itself, under its title; a row begins with its head.

    Parameters
    ----------
    caption : str
        What it shows.
    heads : list of str
        Titles of the columns.
    rows : list of list
        Texts or elements.
    numbers : collection of int
        Which columns hold numbers, and are aligned to the right.
    """
    inner = tag("table", aria_label=caption)
    right = [{"class": "number"} if j in numbers else {} for j in range(len(heads))]
    head = [tag("th", name, scope="col", **own) for name, own in zip(heads, right, strict=True)]
    inner.append(tag("thead", tag("tr", *head)))
    body = SubElement(inner, "tbody")
    for row in rows:
        first, *others = row
        cells = [tag("td", each, **own) for each, own in zip(others, right[1:], strict=True)]
        body.append(tag("tr", tag("th", first, scope="row"), *cells))
    box = tag("div", inner, role="region", aria_label=caption, tabindex="0", class_="scroll")
    return tag("figure", tag("figcaption", caption), box, class_="table")


def terms(said: dict[str, Any]) -> Element:
    """Return a list of terms and what they are."""
    pairs = [tag("div", tag("dt", name), tag("dd", value)) for name, value in said.items()]
    return tag("dl", *pairs)


def data(name: str, value: Any) -> Element:
    """Return JSON that a script reads, in which no text can end the script."""
    text = json.dumps(plain(value), allow_nan=False, separators=(",", ":"))
    return tag("script", text.replace("<", "\\u003c"), type="application/json", id=name)


def plain(value: Any) -> Any:
    """Return a value as JSON can hold it: what is not finite is null."""
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return value if value is None or isinstance(value, bool | int) else str(value)


def picture(
    images: np.ndarray, alt: str, limits: tuple[float, float], *, cmap: str | None = None
) -> Element:
    """Return pictures (n, h, w[, c]) side by side as one image, pixel by pixel.

    Parameters
    ----------
    images : ndarray
        The pictures.
    alt : str
        What they show.
    limits : (float, float)
        The values that are black and white.
    cmap : str, optional
        A colour map of matplotlib, of gray pictures.
    """
    from PIL import Image

    whole = lines(scaled(images, limits)[None], apart=1)
    if cmap is not None:
        from matplotlib import colormaps

        whole = colormaps[cmap](whole)
    if whole.ndim == 2:  # gray, NaN between pictures
        opaque = np.isfinite(whole)
        whole = np.stack([np.where(opaque, whole, 0)] * 3 + [opaque], axis=-1)
    pixels = np.rint(whole * 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels, "RGBA").save(file, "PNG", optimize=True)
    source = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    height, width = pixels.shape[:2]
    return tag("img", src=source, alt=alt, width=width, height=height)
