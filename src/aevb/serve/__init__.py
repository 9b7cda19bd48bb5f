"""Fitted models as an HTTP server: ``aevb serve model.aevb``, or `create_app` in Python."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from aevb.serve.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

    from aevb.vae import VAE

__all__ = ["Settings", "create_app"]


def create_app(
    models: str | os.PathLike[str] | Mapping[str, VAE], settings: Settings | None = None
) -> FastAPI:
    """Return fitted models as an ASGI application, for uvicorn and other servers.

    Its pages ``/docs`` and ``/openapi.json`` say what it answers. A case gets the same numbers, bit
    for bit, as from the estimator, whichever other requests come with it.

    Parameters
    ----------
    models : path-like, or mapping of VAE
        A file from `VAE.save`, or a folder of files that end in ``.aevb``, which are served under
        their names without the ending; or fitted models by name.
    settings : Settings, optional
        Limits and the key; None: the defaults.

    Returns
    -------
    FastAPI
        The application. It is ready once its models have computed each prediction once, which
        compiles them.

    Raises
    ------
    ImportError
        When the extra ``aevb[serve]`` is not installed.
    FileNotFoundError, ModelFileError
        When there is no such file, or it is not a model's.
    ValueError, TypeError
        For a folder without models, and models that are not fitted.

    Examples
    --------
    >>> import numpy as np
    >>> from aevb import VAE
    >>> from aevb.serve import create_app
    >>> vae = VAE(1, hidden=(4,), epochs=1, random_state=0).fit(np.eye(8))
    >>> app = create_app({"eye": vae})
    >>> "/models/{model}/encode" in app.openapi()["paths"]
    True
    """
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f'A server needs {error.name}, which is not installed: pip install "aevb[serve]"'
        ) from error
    from aevb.serve.app import build
    from aevb.serve.models import Models

    return build(Models(models), settings or Settings())
