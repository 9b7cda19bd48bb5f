"""Pages for people: what there is, and how to ask for it. They fetch nothing from elsewhere."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from html import escape
from typing import Any
from urllib.parse import quote

from aevb.explorer import NotInAPage
from aevb.explorer import page as page_of
from aevb.vae import VAE

# A browser, too, lets pages fetch nothing from elsewhere, whatever a model's file says.
POLICY = "default-src 'self' 'unsafe-inline' data: blob:; frame-ancestors 'self'"

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 3rem auto; padding: 0 1rem }
code, pre { font-family: ui-monospace, monospace; background: #8881; border-radius: 4px }
pre { padding: .75rem; overflow-x: auto } code { padding: .1rem .3rem }
td { padding: .2rem 1rem .2rem 0; vertical-align: top } h1 { font-weight: 600 }
:root { color-scheme: light dark }
"""


def page(title: str, body: str) -> str:
    """Return a page in HTML."""
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        "<link rel=icon href='data:,'>"
        f"<style>{_STYLE}</style><h1>{escape(title)}</h1>{body}</html>"
    )


def explorer(name: str, vae: VAE) -> str:
    """Return the explorer of a model, or a page that says why there is none."""
    try:
        return page_of(vae)
    except NotInAPage as error:
        return page(name, f"<p>{escape(str(error))}</p><p>{_DOCS}</p>")


_DOCS = "<a href=/docs>How to ask this server</a>"


def listing(names: Iterable[str]) -> str:
    """Return the list of the models."""
    links = (
        f"<li><a href='/models/{quote(name, safe='')}/explorer'>{escape(name)}</a>"
        for name in names
    )
    return page("Models", f"<ul>{''.join(links)}</ul><p>{_DOCS}</p>")


def documentation(openapi: dict[str, Any], names: Iterable[str], address: str) -> str:
    """Return what the server answers, and an example to try at its address."""
    lines = []
    for path, methods in openapi["paths"].items():
        for method, about in methods.items():
            lines.append(
                f"<tr><td><code>{method.upper()}</code><td><code>{escape(path)}</code>"
                f"<td>{escape(about.get('summary', ''))}"
            )
    first = quote(next(iter(names)), safe="")
    example = "curl -X POST " + shlex.quote(f"{address}models/{first}/sample?n=3")
    about = re.sub("`(.*?)`", r"<code>\1</code>", escape(openapi["info"]["description"]))
    return page(
        "How to ask this server",
        f"<p>{about}</p><pre>{escape(example)}</pre>"
        f"<table>{''.join(lines)}</table>"
        "<p>Every parameter, body and status code: <a href=/openapi.json>openapi.json</a></p>",
    )
