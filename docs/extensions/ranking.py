"""Which pages come first in the search: a hook of MkDocs.

What a page is for weighs its matches: guides before answers, answers before lists of names, and
those before measurements and history.
"""

from typing import Any

from mkdocs.structure.pages import Page

# By how the page's path begins; the first that fits.
WEIGHTS = {
    "how_do_i": 1.5,
    "guides/": 3.0,
    "coming_from/": 2.0,
    "index": 1.5,
    "own_models": 1.5,
    "mathematics": 1.0,
    "api/": 0.5,
    "": 0.2,
}


def on_page_markdown(markdown: str, page: Page, **kwargs: Any) -> str:
    """Give a page its weight, unless its front matter does."""
    path = page.file.src_uri
    weight = next(weight for begin, weight in WEIGHTS.items() if path.startswith(begin))
    page.meta.setdefault("search", {}).setdefault("boost", weight)
    return markdown
