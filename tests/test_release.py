"""What a release says of itself: its version, and the changelog's section as its notes."""

import re
import runpy
from pathlib import Path

import pytest

import aevb

ROOT = Path(__file__).parents[1]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
release_notes = runpy.run_path(str(ROOT / ".github" / "release_notes.py"))["release_notes"]

NEW = "New.\n\n### Added\n\n- That."
TWO = f"# Changelog\n\n## [1.1.0] - 2030-01-02\n\n{NEW}\n\n## [1.0.0] - 2029-01-02\n\nOld.\n"


def test_the_changelog_begins_with_the_version_of_the_package():
    first = re.search(r"^## \[([^]]+)\]", CHANGELOG, re.MULTILINE)
    assert first is not None
    assert first[1] in (aevb.__version__, "Unreleased")


def test_the_notes_are_the_section_of_the_version():
    assert release_notes("1.1.0", TWO, '__version__ = "1.1.0"') == NEW
    dated = re.sub(r"\] - unreleased", "] - 2030-01-02", CHANGELOG)
    notes = release_notes(aevb.__version__, dated, f'__version__ = "{aevb.__version__}"')
    assert "`VAE`" in notes


@pytest.mark.parametrize(
    ("version", "changelog", "source", "message"),
    [
        ("1.1.0", TWO, '__version__ = "1.0.0"', "does not have __version__ = '1.1.0'"),
        ("1.2.0", TWO, '__version__ = "1.2.0"', r"no section '## \[1.2.0\] - YYYY"),
        ("1.0.0", "## [1.0.0] - unreleased\n", '__version__ = "1.0.0"', "no section"),
        ("100", "## [1x0] - 2030-01-02\n", '__version__ = "100"', "no section"),
    ],
    ids=["another version", "unknown", "undated", "similar"],
)
def test_what_does_not_agree_is_not_released(version, changelog, source, message):
    with pytest.raises(SystemExit, match=message):
        release_notes(version, changelog, source)
