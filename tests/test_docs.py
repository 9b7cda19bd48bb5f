"""The documentation's examples run as they stand, page by page."""

import re
from pathlib import Path

import jax
import matplotlib
import pytest
from jax.experimental.compilation_cache import compilation_cache

DOCS = Path(__file__).parents[1] / "docs"
PAGES = [
    path
    for path in sorted(DOCS.rglob("*.md"))
    if "```python\n" in path.read_text("utf-8") and "notebooks" not in path.parts
]


def examples(page):
    return re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)


def test_there_are_pages_with_examples():
    assert {"index.md", "own_models.md"} <= {page.name for page in PAGES}


def test_every_example_is_python():
    for page in PAGES:
        for code in examples(page):
            compile(code, page.name, "exec")


@pytest.fixture
def own_settings():
    """What a page sets in JAX is set back: the directory that it names for programs goes."""
    before = dict(jax.config.values)
    yield
    for name, value in before.items():
        if jax.config.values[name] != value:
            jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.mark.slow
@pytest.mark.usefixtures("own_settings")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    names: dict = {"__name__": page.stem}
    for code in examples(page):
        exec(compile(code, page.name, "exec"), names)


def test_pages_fetch_nothing_from_elsewhere():
    """Scripts, styles and pictures come with the pages."""
    elsewhere = re.compile(r"<(?:script|link|img)[^>]*https?:|!\[[^\]]*\]\(https?:")
    assert not [
        page.name for page in DOCS.rglob("*.md") if elsewhere.search(page.read_text("utf-8"))
    ]


def test_every_question_has_code_and_leads_on():
    page = (DOCS / "how_do_i.md").read_text("utf-8")
    answers = re.split(r"^### ", page, flags=re.MULTILINE)[1:]
    assert len(answers) == 35
    for answer in answers:
        code = re.search(r"```(?:py|python|console)\n(.*?)```", answer, re.DOTALL)
        assert code and len(code[1].split("\n\n")[-1].splitlines()) <= 6, answer
        assert re.search(r"\]\([a-z_]+/?[a-z_]*\.md", answer), answer
