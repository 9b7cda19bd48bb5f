"""The models of a server: from a file, a folder or a mapping, each loaded once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sklearn.utils.validation import check_is_fitted

from aevb.errors import some
from aevb.partitions import written_as
from aevb.vae import VAE

ENDING = ".aevb"


class Models(Mapping[str, VAE]):
    """Fitted models by name.

    Parameters
    ----------
    models : path-like, or mapping of VAE
        See `aevb.serve.create_app`.

    Attributes
    ----------
    ready : bool
        Whether all of them have computed each prediction once.
    """

    def __init__(self, models: str | os.PathLike[str] | Mapping[str, VAE]):
        if isinstance(models, str | os.PathLike):
            models = {name: VAE.load(path) for name, path in _files(Path(models)).items()}
        if not models:
            raise ValueError("Expected at least one model for `models`; got none.")
        for name, vae in models.items():
            _check(name, vae)
        # Tables are those of PyArrow, whatever a model was fitted to.
        self._models = {name: written_as(vae, "pyarrow") for name, vae in models.items()}
        self.ready = False

    def __getitem__(self, name: str) -> VAE:
        return self._models[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)


def _check(name: Any, vae: Any) -> None:
    if not isinstance(name, str) or not name or "/" in name:
        raise ValueError(f"Expected names without a slash for `models`; got {name!r}.")
    if not isinstance(vae, VAE):
        raise TypeError(f"Expected fitted VAEs for `models`; got {type(vae).__name__}.")
    check_is_fitted(vae)


def _files(path: Path) -> dict[str, Path]:
    if not path.is_dir():
        return {path.stem: path}
    files = {each.stem: each for each in sorted(path.glob(f"*{ENDING}"))}
    if not files:
        found = some(sorted(each.name for each in path.iterdir()))
        raise ValueError(f"Expected files that end in {ENDING} in the folder {path}; got {found}.")
    return files
