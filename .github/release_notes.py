"""Print the changelog's section of a version, for its release: `release_notes.py X.Y.Z`."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def release_notes(version: str, changelog: str, source: str) -> str:
    """Return the section of `version`; SystemExit unless all agree that it is being released."""
    if f'__version__ = "{version}"' not in source:
        sys.exit(f"src/aevb/__init__.py does not have __version__ = {version!r}.")
    sections = re.split(r"^## ", changelog, flags=re.MULTILINE)
    heading = re.compile(rf"\[{re.escape(version)}\] - \d{{4}}-\d\d-\d\d\n")
    found = [section for section in sections if heading.match(section)]
    if len(found) != 1:
        sys.exit(f"CHANGELOG.md has no section '## [{version}] - YYYY-MM-DD'.")
    return found[0].partition("\n")[2].strip()


if __name__ == "__main__":
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    source = (ROOT / "src/aevb/__init__.py").read_text(encoding="utf-8")
    print(release_notes(sys.argv[1].removeprefix("v"), changelog, source))
