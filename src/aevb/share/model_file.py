"""The file of a model, as others get it."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from sklearn.utils.validation import check_is_fitted

FILE = "model.aevb"


def write(vae: Any, folder: str) -> Path:
    """Write a fitted estimator to a folder, without its callbacks, which nobody else has."""
    check_is_fitted(vae)
    vae = copy.copy(vae)
    vae.callbacks = ()
    path = Path(folder, FILE)
    vae.save(path)
    return path
