"""Libraries that only some files need."""

from __future__ import annotations

import importlib
from typing import Any


def library(name: str, ending: str) -> Any:
    """Import a library for a file with some ending.

    Raises
    ------
    ImportError
        When it, or one that it needs, is not installed; the message names the extra.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"A path that ends in {ending} needs {error.name or name}, which is not installed: "
            'pip install "aevb[onnx]"'
        ) from error
