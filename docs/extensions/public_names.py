"""Whether every public name is documented: a hook of MkDocs, and what it goes by.

Public is what stands in the `__all__` of the package, of its rooms and of the modules below, and
every method and property of these classes. The build fails when one of them has no docstring, or
no place on an API page.
"""

import functools
import importlib
import inspect
import re
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

MODULES = (
    *("aevb", "aevb.evaluation", "aevb.inference", "aevb.models", "aevb.probability"),
    *("aevb.plotting", "aevb.posteriors", "aevb.predict", "aevb.priors", "aevb.datasets"),
    *("aevb.explorer", "aevb.report", "aevb.serve", "aevb.share"),
)
METHODS = (FunctionType, property, classmethod, staticmethod)


def public_names(modules: Iterable[str] = MODULES) -> dict[str, Any]:
    """Return every public object by its dotted name."""
    found: dict[str, Any] = {}
    for path in modules:
        module = _module(path)
        for name in module.__all__:
            found[f"{path}.{name}"] = obj = getattr(module, name)
            if inspect.isclass(obj):
                found |= {f"{path}.{name}.{key}": value for key, value in _methods(obj).items()}
    return found


def undocumented(names: Mapping[str, Any]) -> list[str]:
    """Return the names of classes, functions, methods and modules without a docstring."""
    documented = (type, ModuleType, FunctionType, *METHODS)
    return [
        name
        for name, obj in names.items()
        if isinstance(obj, documented) and not inspect.getdoc(obj)
    ]


def missing(names: Mapping[str, Any], inventory: Iterable[str]) -> list[str]:
    """Return the first name of each object that no page has, by the inventory of the pages.

    One name of those that an object has is enough.
    """
    places: dict[int, list[str]] = {}
    for name, obj in names.items():
        places.setdefault(id(obj), []).append(name)
    return [first for first, *more in places.values() if not {first, *more} & set(inventory)]


def read_inventory(path: Path) -> set[str]:
    """Return the names in an `objects.inv`: four lines of header, then compressed lines."""
    *_, packed = path.read_bytes().split(b"\n", 4)
    lines = zlib.decompress(packed).decode("utf-8").splitlines()
    return {re.split(r" py:\w+ ", line)[0] for line in lines if line}


def on_post_build(config: Any, **kwargs: Any) -> None:
    """Refuse a build that leaves a public name out."""
    from mkdocs.exceptions import PluginError

    names = public_names()
    wrong = [f"{name} has no docstring" for name in undocumented(names)]
    inventory = read_inventory(Path(config.site_dir) / "objects.inv")
    wrong += [f"{name} is on no API page" for name in missing(names, inventory)]
    if wrong:
        raise PluginError("Not all that is public is documented:\n  " + "\n  ".join(wrong))


def _module(path: str) -> ModuleType:
    package, *names = path.split(".")  # aevb.posteriors is a module, but not of that path
    return functools.reduce(getattr, names, importlib.import_module(package))


def _methods(cls: type) -> dict[str, Any]:
    """Return the public methods and properties that `cls` has from its own package.

    Those that override a method without a word of their own are documented there, and so are those
    that a class from elsewhere has, too, as NumPyro's distributions have `log_prob`.
    """
    package = cls.__module__.partition(".")[0]
    ours = [base for base in cls.__mro__ if base.__module__.partition(".")[0] == package]
    theirs = {name for base in cls.__mro__ if base not in ours for name in vars(base)}
    found = {}
    for name in dir(cls):
        method = inspect.getattr_static(cls, name)
        overrides = [base for base in ours if name in vars(base)][1:]
        silent = not method.__doc__ and overrides
        if isinstance(method, METHODS) and not (name.startswith("_") or name in theirs or silent):
            found[name] = method
    return found
