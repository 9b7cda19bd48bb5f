"""The lowest versions that pyproject.toml allows, as constraints of pip: `make test-lowest`."""

import re
import tomllib
from pathlib import Path

OURS = {"dev", "docs", "notebooks", "release"}  # tools of this project

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
extras = project["optional-dependencies"]
needed = {*project["dependencies"]}.union(*(extras[name] for name in extras.keys() - OURS))
for requirement in sorted(needed):
    if not requirement.startswith("aevb["):
        name, version = re.fullmatch(r"([\w-]+)>=([\d.]+)", requirement).groups()
        print(f"{name}=={version}")
