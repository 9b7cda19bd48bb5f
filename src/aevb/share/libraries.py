"""Libraries that come with an extra, and may be missing."""

from __future__ import annotations

from importlib.util import find_spec


def check_installed(library: str, extra: str, what: str) -> None:
    """Raise ImportError if a library is missing, without importing it."""
    if find_spec(library) is None:
        raise ImportError(
            f'{what} needs {library}, which is not installed: pip install "aevb[{extra}]"'
        )
