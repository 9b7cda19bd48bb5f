"""What the documentation is built with: the check of public names, docstrings, formulas."""

import importlib
import sys
import zlib
from pathlib import Path
from types import SimpleNamespace

import pytest

EXTENSIONS = Path(__file__).parents[1] / "docs" / "extensions"


@pytest.fixture
def extension(monkeypatch):
    """Import a file of `docs/extensions`."""
    monkeypatch.syspath_prepend(EXTENSIONS)

    pytest.importorskip("mkdocstrings", reason="the extra `docs` is not installed")

    def load(name):
        monkeypatch.delitem(sys.modules, name, raising=False)
        return importlib.import_module(name)

    return load


@pytest.fixture
def public(extension):
    return extension("public_names")


def documented():
    """Do something."""


def undocumented():
    pass


class Base:
    """A class with methods."""

    def method(self):
        """Do something."""

    def _private(self):
        pass


class Child(Base):
    """Adds a property without a docstring, and overrides a method without a word."""

    @property
    def size(self):
        return 1

    def method(self):
        return 2


def test_public_names_reach_methods_and_properties(public):
    names = public.public_names()
    expected = {"aevb.VAE", "aevb.VAE.transform", "aevb.Batched.mean", "aevb.priors.Vamp"}
    assert expected <= set(names)
    assert "aevb.VAE.get_params" not in names  # scikit-learn's
    assert "aevb.probability.Rayleigh.log_prob" not in names  # overrides NumPyro's


@pytest.fixture
def package(monkeypatch):
    module = SimpleNamespace(__all__=["Child", "documented", "undocumented"], **globals())
    monkeypatch.setitem(sys.modules, "some_package", module)
    return ["some_package"]


def test_a_public_name_without_a_docstring_is_found(public, package):
    names = public.public_names(package)
    assert set(names) == {
        f"some_package.{name}" for name in ("Child", "Child.size", "documented", "undocumented")
    }
    assert public.undocumented(names) == ["some_package.Child.size", "some_package.undocumented"]


def test_a_public_name_on_no_page_is_found(public, package):
    names = public.public_names(package)
    there = {"some_package.Child", "some_package.documented", "some_package.undocumented"}
    assert public.missing(names, there) == ["some_package.Child.size"]
    aliased = {**names, "elsewhere.size": names["some_package.Child.size"]}
    assert public.missing(aliased, {*there, "elsewhere.size"}) == []


@pytest.mark.parametrize("left_out", ["aevb.VAE.transform", "aevb.probability.FAMILIES"])
def test_the_build_fails_when_a_name_is_left_out(public, tmp_path, left_out):
    from mkdocs.exceptions import PluginError

    names = public.public_names()
    header = b"# Sphinx inventory version 2\n# Project: aevb\n# Version: 0\n# compressed\n"

    def build(inventory):
        lines = "".join(f"{name} py:function 1 api/#$ -\n" for name in inventory)
        (tmp_path / "objects.inv").write_bytes(header + zlib.compress(lines.encode()))
        public.on_post_build(SimpleNamespace(site_dir=tmp_path))

    build(names)
    with pytest.raises(PluginError, match=left_out):
        build([name for name, obj in names.items() if obj is not names[left_out]])


NUMPYDOC = r"""Estimate `elbo` of `x`; see `aevb.sgvb`,
``VAE``, :class:`VAE`.

.. math:: a
    + b

Parameters
----------
kind : {"a", "b"} or Prior, default="a"
    A `VAE`, :math:`\mu`.
size : int, float or None
    Laid out as ::

        x  y

Examples
--------
>>> `VAE`
"""


MARKDOWN = r"""Estimate [`elbo`][aevb.elbo] of `x`; see [`aevb.sgvb`][aevb.sgvb],
``VAE``, [`VAE`][aevb.VAE].


$$
a
+ b
$$


Parameters
----------
kind : one of "a", "b" or Prior, default="a"
    A [`VAE`][aevb.VAE], $\mu$.
size : int or float or None
    Laid out as:

        x  y

Examples
--------
>>> `VAE`
"""


def test_docstrings_become_markdown(extension):
    paths = {"elbo": "aevb.elbo", "aevb.sgvb": "aevb.sgvb", "VAE": "aevb.VAE"}
    assert extension("docstrings").to_markdown(NUMPYDOC, paths.get) == MARKDOWN


def test_formulas_become_mathml(extension):
    to_mathml = extension("mathematics").to_mathml
    inline = to_mathml(r'<p>a <span class="arithmatex">\(p(x &lt; 1)\)</span></p>')
    assert "<mi>p</mi>" in inline and "<mo>&#x0003C;</mo>" in inline  # x < 1, not a tag
    assert "arithmatex" not in inline
    assert 'display="block"' in to_mathml('<div class="arithmatex">\\[\n\\log x\n\\]</div>')


def test_a_page_brings_along_what_it_links_to(extension, tmp_path, monkeypatch):
    from mkdocs.structure.files import Files

    included = extension("included")
    (tmp_path / "runs" / "results").mkdir(parents=True)
    (tmp_path / "runs" / "results" / "curve.png").write_bytes(b"a picture")
    readme = "# Runs\n\n![Curve](results/curve.png) [guide](../docs/guide.md) [all](results)\n"
    (tmp_path / "runs" / "README.md").write_text(readme, encoding="utf-8")
    monkeypatch.setattr(included, "ROOT", tmp_path)
    monkeypatch.setattr(included, "PAGES", {"runs/index.md": "runs/README.md"})

    plugins = SimpleNamespace(_current_plugin="included")
    config = SimpleNamespace(site_dir="site", use_directory_urls=True, plugins=plugins)
    files = included.on_files(Files([]), config)
    assert [file.src_uri for file in files] == ["runs/index.md", "runs/results/curve.png"]
    page, picture = files
    assert page.content_string.startswith(
        "# Runs\n\n![Curve](results/curve.png) [guide](../guide.md)"
    )
    assert picture.content_bytes == b"a picture"
