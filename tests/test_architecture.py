"""Who may import whom: the rules of docs/architecture.md, held against the source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "aevb"
MODULES = sorted(SOURCE.rglob("*.py"))

# The house: what each room or module may import, beside its own room. The longest matching name
# counts, so that a file may have a rule of its own. A module without a row here is a violation.
MAY_IMPORT = {
    "errors": set(),
    "probability": {"errors"},
    "models": {"errors", "probability"},
    "compiling": set(),
    "inference": {"compiling", "errors", "models", "probability"},
    "inference.training": {"compiling", "errors"},
    "inference.run": {"compiling", "data.source", "errors", "models.base"},
    "data": {"errors"},
    "evaluation": {"compiling", "errors", "inference", "models", "probability"},
    "predict": {"compiling", "errors", "evaluation", "models", "probability"},
    "columns": {"data", "errors", "models"},
    "schema": {"columns", "errors", "models"},
    "condition": {"columns", "data", "errors", "evaluation", "models", "schema"},
    "exposure": {"data", "errors", "schema"},
    "config": {"errors", "models"},
    "incomplete": set(),
    "factors": {"compiling", "incomplete", "models"},
    "aggregate": {
        "algorithm",
        "errors",
        "inference",
        "learned",
        "models",
        "predict",
        "probability",
        "schema",
    },
    "comparison": {"factors", "models", "schema"},
    "bins": {"errors", "models", "schema"},
    "diagnosis": {
        "comparison",
        "evaluation",
        "latents",
        "learned",
        "models",
        "predict",
        "schema",
    },
    "learned": {"condition", "config", "data", "exposure", "factors", "models", "schema"},
    "streaming": {"columns", "data", "learned", "schema"},
    "epochs": {"inference", "models", "predict"},
    "progress": {"errors"},
    "algorithm": {"data", "errors", "inference", "interruption", "models", "progress"},
    "storage": {"data", "errors"},
    "interruption": {"errors"},
    "checkpoint": {"data", "errors", "inference", "models", "persistence", "storage"},
    "fitting": {
        "algorithm",
        "checkpoint",
        "compiling",
        "config",
        "data",
        "epochs",
        "errors",
        "inference",
        "learned",
        "models",
        "persistence",
        "predict",
        "progress",
    },
    "persistence": {
        "aggregate",
        "condition",
        "config",
        "data",
        "errors",
        "exposure",
        "models",
        "probability",
        "schema",
        "storage",
    },
    "export": {
        "columns",
        "data",
        "errors",
        "evaluation",
        "learned",
        "models",
        "probability",
        "schema",
    },
    "latents": set(),
    "plotting": {"errors", "latents"},
    "explorer": {
        "data",
        "errors",
        "evaluation",
        "learned",
        "models",
        "predict",
        "probability",
        "schema",
    },
    "vae": {
        "aggregate",
        "algorithm",
        "bins",
        "columns",
        "comparison",
        "condition",
        "config",
        "data",
        "diagnosis",
        "errors",
        "evaluation",
        "export",
        "fitting",
        "inference",
        "interruption",
        "learned",
        "models",
        "persistence",
        "predict",
        "probability",
        "schema",
        "streaming",
    },
    "report": {
        "aggregate",
        "columns",
        "data",
        "diagnosis",
        "errors",
        "evaluation",
        "explorer",
        "fitting",
        "latents",
        "learned",
        "models",
        "persistence",
        "plotting",
        "predict",
        "probability",
        "schema",
    },
    "outliers": {"errors", "models", "vae"},
    "partitions": {"data", "errors", "vae"},
    "serve": {
        "columns",
        "data",
        "errors",
        "evaluation",
        "explorer",
        "fitting",
        "models",
        "partitions",
        "predict",
        "vae",
    },
    "share": {"data", "errors", "partitions", "persistence", "report"},
    "cli": {
        "columns",
        "data",
        "errors",
        "evaluation",
        "inference.stopping",
        "latents",
        "plotting",
        "schema",
        "serve",
        "share",
        "vae",
    },
}

# Allowed besides, but only inside functions, or for the type checker.
MAY_IMPORT_INSIDE_FUNCTIONS = {"vae": {"explorer", "plotting", "report", "share"}}

# The numerical part knows nothing of these: estimators and tables, terminals and pictures, files.
NUMERICAL = {"probability", "models", "inference", "evaluation", "predict", "algorithm"}
BARRED_FROM_NUMERICAL = {
    *("sklearn", "pandas", "pyarrow", "pooch", "safetensors"),
    *("tqdm", "typer", "rich", "matplotlib", "logging", "sys"),
    *("os", "io", "pathlib", "shutil", "tempfile", "gzip", "zipfile", "csv", "json", "pickle"),
}
CALLS_BARRED_FROM_NUMERICAL = {"print", "open"}  # as names or methods: also jax.debug.print

# `import aevb` does nothing but make its names ready: the package's own __init__.py may import
# these, and the standard library's lightest.
FRONT_DOOR_MAY_IMPORT = {"__future__", "importlib", "lazy_loader", "typing"}


class Import(NamedTuple):
    """One imported name, absolute and dotted, with the place where it is imported."""

    name: str
    line: int
    inside_function: bool


def imports(tree: ast.Module, package: str) -> Iterator[Import]:
    """Yield what a module of `package` imports; ``from a import b`` counts as ``a.b``."""

    def visit(node: ast.AST, inside_function: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, inside_function)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            origin = parts[: len(parts) - node.level + 1] if node.level else []
            origin += [node.module] if node.module else []
            for alias in node.names:
                yield Import(".".join([*origin, alias.name]), node.lineno, inside_function)
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for_types = isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inside_function or is_function or for_types)

    return visit(tree, False)


def within(name: str, table: set[str]) -> bool:
    """Whether `name`, or a package that holds it, is in `table`."""
    parts = name.split(".")
    return any(".".join(parts[:n]) in table for n in range(1, len(parts) + 1))


def rule_for(module: str) -> str | None:
    """Return the key in MAY_IMPORT that covers `module`, a dotted name below ``aevb``."""
    parts = module.split(".")
    prefixes = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((prefix for prefix in prefixes if prefix in MAY_IMPORT), None)


def violations(source: str, path: str) -> list[str]:
    """Return what breaks the rules in `source`, the text of the file `path` below src/aevb."""
    tree = ast.parse(source)
    parts = path.removesuffix(".py").split("/")
    package = ".".join(["aevb", *parts[:-1]])
    if path == "__init__.py":
        return [
            f"{path}:{found.line}: imports {found.name}; it may import only lazy_loader"
            for found in imports(tree, package)
            if not within(found.name, FRONT_DOOR_MAY_IMPORT)
        ]

    module = ".".join(part for part in parts if part != "__init__")
    room, rule = parts[0], rule_for(module)
    if rule is None:
        return [f"{path}: has no row in MAY_IMPORT; add one, there and in docs/architecture.md"]

    problems = []
    for found in imports(tree, package):
        target = found.name.removeprefix("aevb").removeprefix(".")
        ours = found.name == "aevb" or found.name.startswith("aevb.")
        allowed = MAY_IMPORT[rule] | {room, "__version__"}
        if found.inside_function:
            allowed |= MAY_IMPORT_INSIDE_FUNCTIONS.get(rule, set())
        if ours and not within(target, allowed):
            problems.append(f"{path}:{found.line}: {rule} may not import {found.name}")
        if not ours and room in NUMERICAL and within(found.name, BARRED_FROM_NUMERICAL):
            problems.append(f"{path}:{found.line}: {room} may not import {found.name}")
    if room in NUMERICAL:
        for node in ast.walk(tree):
            called = node.func if isinstance(node, ast.Call) else None
            name = getattr(called, "id", getattr(called, "attr", None))
            if name in CALLS_BARRED_FROM_NUMERICAL:
                problems.append(f"{path}:{node.lineno}: {room} may not call {name}")
    return problems


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_module_keeps_the_rules(path):
    source = path.read_text(encoding="utf-8")
    assert violations(source, path.relative_to(SOURCE).as_posix()) == []
    assert path.stem != "utils", "name the file after what it holds"


@pytest.mark.parametrize(
    ("path", "source", "expected"),
    [
        ("probability/divergences.py", "from aevb.models import base", "aevb.models.base"),
        ("probability/divergences.py", "from ..models.base import X", "aevb.models.base.X"),
        ("probability/__init__.py", "from ..models import base", "aevb.models.base"),
        ("models/base.py", "def f():\n    import aevb.inference.sgvb", "aevb.inference.sgvb"),
        ("models/base.py", "import sklearn.base", "sklearn.base"),
        ("models/base.py", "from pathlib import Path", "pathlib.Path"),
        ("models/base.py", "class A:\n    def f(self):\n        print(self)", "print"),
        ("inference/training.py", "import jax\njax.debug.print('x')", "print"),
        ("inference/training.py", "from aevb.models.base import X", "aevb.models.base.X"),
        ("inference/sgvb.py", "from aevb.data import source", "aevb.data.source"),
        ("evaluation/marginal.py", "text = open('x').read()", "open"),
        ("evaluation/marginal.py", "import matplotlib.pyplot as plt", "matplotlib.pyplot"),
        ("data/source.py", "from aevb.models.kinds import X", "aevb.models.kinds.X"),
        ("algorithm.py", "from aevb.vae import VAE", "aevb.vae.VAE"),
        ("persistence.py", "from aevb.vae import VAE", "aevb.vae.VAE"),
        ("persistence.py", "from aevb import VAE", "aevb.VAE"),
        ("progress.py", "from aevb import cli", "aevb.cli"),
        ("plotting/images.py", "import aevb", "aevb"),
        ("vae.py", "from aevb import plotting", "aevb.plotting"),
        ("schema.py", "def f():\n    from aevb import plotting", "aevb.plotting"),
        ("vae.py", "from aevb.plotting import manifold", "aevb.plotting.manifold"),
        ("vae.py", "if True:\n    from aevb import plotting", "aevb.plotting"),
        ("vae.py", "def f():\n    from aevb.cli import main", "aevb.cli.main"),
        ("__init__.py", "import numpy as np", "numpy"),
        ("__init__.py", "from aevb.vae import VAE", "aevb.vae.VAE"),
        ("kitchen/sink.py", "", "no row"),
    ],
)
def test_the_checker_catches(path, source, expected):
    (problem,) = violations(source, path)
    assert path in problem
    assert expected in problem


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("__init__.py", "import lazy_loader as lazy"),
        ("probability/divergences.py", "from .distributions import X\nimport jax"),
        ("models/autoencoder.py", "from aevb.probability import kl_divergence"),
        ("inference/training.py", "from aevb.inference.sgvb import sgvb"),
        ("data/datasets.py", "import pathlib, pooch, sklearn.datasets"),
        ("persistence.py", "from aevb import __version__\nopen('x')"),
        ("vae.py", "def plot(self):\n    from aevb.plotting import manifold"),
        ("vae.py", "if TYPE_CHECKING:\n    from aevb.plotting import manifold"),
        ("cli/demo.py", "from aevb import plotting, vae\nprint('x')"),
    ],
)
def test_the_checker_allows(path, source):
    assert violations(source, path) == []


def test_every_rule_names_what_exists():
    named = set(MAY_IMPORT).union(*MAY_IMPORT.values(), *MAY_IMPORT_INSIDE_FUNCTIONS.values())
    paths = {name: SOURCE / name.replace(".", "/") for name in named}
    assert [n for n, p in paths.items() if not (p.is_dir() or p.with_suffix(".py").is_file())] == []
    assert {rule_for(name) for name in named} <= set(MAY_IMPORT)
    assert set(MAY_IMPORT) >= NUMERICAL


def test_the_page_has_the_rules():
    text = (SOURCE.parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w.]+)` \| (.*) \|$", text.split("| may import |")[1], re.MULTILINE)
    written = {name: set(re.findall(r"`([\w.]+)`", rule)) for name, rule in rows}
    inside = MAY_IMPORT_INSIDE_FUNCTIONS
    assert written == {name: rule | inside.get(name, set()) for name, rule in MAY_IMPORT.items()}


def test_the_picture_of_the_house_has_every_file_and_no_other():
    text = (SOURCE.parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
    picture = text.split("```text\nsrc/aevb/\n")[1].split("```")[0]
    drawn, folders = set(), []
    for line in filter(str.strip, picture.splitlines()):
        depth = (len(line) - len(line.lstrip())) // 2 - 1
        folders[depth:] = [line.split()[0].rstrip("/")]
        if folders[-1].endswith(".py"):
            drawn.add("/".join(folders))
    files = {path.relative_to(SOURCE).as_posix() for path in MODULES}
    assert drawn == {name for name in files if not name.endswith("/__init__.py")}
