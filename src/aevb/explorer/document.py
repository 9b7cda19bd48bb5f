"""The explorer as HTML: a page of its own, or a part of another one."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from aevb.explorer.content import payload

_FILES = ("program.js", "map.js", "explorer.js")

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; \
style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{title}</title>
<style>
{styles}
</style>
</head>
<body class="aevb-page">
<h1>{title}</h1>
{explorer}
</body>
</html>
"""

_PART = """<div id="{name}"></div>
<script type="application/json" id="{name}-data">{data}</script>
<script>
aevb.mountExplorer(
  document.getElementById("{name}"),
  JSON.parse(document.getElementById("{name}-data").textContent),
);
</script>
"""


def scripts() -> str:
    """Return the JavaScript of the explorer, to stand once in a page, before any `embed`."""
    return "\n".join(_file(name) for name in _FILES)


def styles() -> str:
    """Return the style sheet of the explorer."""
    return _file("explorer.css")


def embed(content: Mapping[str, Any], name: str = "aevb-explorer") -> str:
    """Return the part of a page that is the explorer; `scripts` and `styles` are there already.

    Parameters
    ----------
    content : dict
        What `payload` returns. Its texts are data: whatever a column is called, it is not markup.
    name : str, default="aevb-explorer"
        The id of the element, of which there is one in a page.

    Returns
    -------
    str
        HTML.
    """
    # In JSON a "<" can only stand within a text, where it may be escaped.
    data = json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return _PART.format(name=html.escape(name), data=data)


def page(
    vae: Any,
    X: Any = None,
    labels: Any = None,
    *,
    condition: Any = None,
    exposure: Any = None,
    image_shape: Sequence[int] | None = None,
    title: str = "Latent space explorer",
) -> str:
    """Return the explorer as a page that needs nothing else.

    Parameters
    ----------
    vae, X, labels, condition, exposure, image_shape
        As in `payload`.
    title : str
        Heading of the page.

    Returns
    -------
    str
        HTML.

    Examples
    --------
    >>> import numpy as np
    >>> from aevb import VAE, explorer
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> vae = VAE(2, hidden=(4,), epochs=1, random_state=0).fit(X)
    >>> explorer.page(vae, X).startswith("<!doctype html>")
    True
    """
    content = payload(
        vae, X, labels, condition=condition, exposure=exposure, image_shape=image_shape
    )
    return _PAGE.format(
        title=html.escape(title),
        styles=styles(),
        explorer=f"<script>\n{scripts()}\n</script>\n{embed(content)}",
    )


def _file(name: str) -> str:
    return resources.files("aevb.explorer").joinpath("static", name).read_text(encoding="utf-8")
