"""What MkDocs is told of the package beyond its source: a Griffe extension.

Griffe reads the source without running it. So it does not see the names that `aevb` loads lazily,
and it takes docstrings for Markdown where they are numpydoc: mathematics in `.. math::` and
`:math:`, and the names of other objects in single backticks, which become links here.
"""

import re
import sys
import textwrap
from pathlib import Path

import griffe

sys.path.append(str(Path(__file__).parent))  # Griffe loads this file by its path
from public_names import public_names

# Up to the examples, which are code.
EXAMPLES = re.compile(r"^Examples\n-+$", re.MULTILINE)
# A directive, with the lines that belong to it: those indented further, and blank ones between.
MATH = re.compile(r"^( *)\.\. math::(.*)\n((?:\1 +\S.*\n|[ ]*\n(?=\1 +\S))*)", re.MULTILINE)
MATH_ROLE = re.compile(r":math:`([^`]+)`")
OTHER_ROLE = re.compile(r":\w+:(`[^`]+`)")
LITERAL_BLOCK = re.compile(r" ?::$", re.MULTILINE)
# "name : type", before its description; of the type, what Griffe would take for a tuple or a set.
TYPE = re.compile(r"^( *)([*\w, ]+) : (.+?)((?:, default=.+)?)$(?=\n\1 +\S)", re.MULTILINE)
ERRORS = re.compile(r"^( *)(\w+Error), (\w+Error)$", re.MULTILINE)
CHOICES = re.compile(r"{(.+)}")
NAME = re.compile(r"(?<![`\[])`([A-Za-z_][\w.]*)`(?!`)")


def to_markdown(text: str, resolve=lambda name: None) -> str:
    """Return a numpydoc docstring as Markdown; `resolve` finds what a name in backticks means."""

    def link(match: re.Match) -> str:
        path = resolve(match[1])
        return f"[`{match[1]}`][{path}]" if path else match[0]

    def display(match: re.Match) -> str:
        indent, formula = match[1], textwrap.dedent(f"{match[2].strip()}\n") + match[3]
        lines = [line.strip() for line in formula.splitlines() if line.strip()]
        return "".join(f"{indent}{line}\n" for line in ["", "$$", *lines, "$$", ""])

    def type_line(match: re.Match) -> str:
        indent, names, annotation, default = match.groups()
        alternatives, optional, _ = annotation.partition(", optional")
        if CHOICES.search(alternatives):
            alternatives = CHOICES.sub(r"one of \1", alternatives)
        elif " or " in alternatives and "(" not in alternatives:
            alternatives = alternatives.replace(", ", " or ")
        return f"{indent}{names} : {alternatives}{optional}{default}"

    found = EXAMPLES.search(text)
    prose, examples = (text[: found.start()], text[found.start() :]) if found else (text, "")
    prose = MATH.sub(display, prose + "\n")[:-1]
    prose = MATH_ROLE.sub(r"$\1$", prose)
    prose = OTHER_ROLE.sub(r"\1", prose)
    prose = TYPE.sub(type_line, prose)
    prose = ERRORS.sub(r"\1\2 or \3", prose)
    prose = LITERAL_BLOCK.sub(":", prose)
    return NAME.sub(link, prose) + examples


class Docstrings(griffe.Extension):
    """Adds the lazily loaded names to `aevb`, and turns docstrings into Markdown."""

    def __init__(self) -> None:
        self.paths = public_names()

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **kwargs) -> None:
        if pkg.path != "aevb":
            return
        for path, obj in self.paths.items():
            parent, _, name = path.rpartition(".")
            if parent == "aevb" and name not in pkg.members:
                pkg[name] = griffe.Alias(name, _canonical(obj), parent=pkg)
        self.visit(pkg)

    def visit(self, obj: griffe.Object) -> None:
        """Turn the docstrings of an object and all that it holds."""
        if doc := obj.docstring:
            doc.value = to_markdown(doc.value, lambda name: self.find(name, obj))
        for member in obj.members.values():
            if not member.is_alias:
                self.visit(member)

    def find(self, name: str, obj: griffe.Object) -> str | None:
        """Return the path of the public object that `name` means in the docstring of `obj`."""
        own = obj.parent if obj.is_function or obj.is_attribute else obj
        if own is not None and own.is_class:
            for public, known in self.paths.items():
                if _canonical(known) == own.path and f"{public}.{name}" in self.paths:
                    return f"{public}.{name}"
        if obj.is_function and name in [parameter.name for parameter in obj.parameters]:
            return None
        scopes = ("", "aevb.", f"{obj.module.path}.", f"{obj.module.path.rpartition('.')[0]}.")
        return next((s + name for s in scopes if s + name in self.paths), None)


def _canonical(obj) -> str:
    if hasattr(obj, "__path__") or not hasattr(obj, "__qualname__"):
        return getattr(obj, "__name__", "")
    return f"{obj.__module__}.{obj.__qualname__}"
