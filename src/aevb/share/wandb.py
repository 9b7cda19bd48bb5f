"""Weights & Biases: the numbers of each epoch in a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aevb.share.tracker import Tracker


class WandB(Tracker):
    """Logs the numbers of each epoch to a run of Weights & Biases.

    That is the run under way, if there is one, and it stays open. Otherwise one begins, and ends
    with the ``with`` statement, or with the process.

    Parameters
    ----------
    **options
        Of ``wandb.init``, for a run of its own: ``project``, ``name``, ``config``, ``mode``; ``id``
        and ``resume`` to go on with one.

    Raises
    ------
    ImportError
        When wandb, of the extra ``aevb[wandb]``, is not installed.

    Examples
    --------
    >>> from aevb import VAE
    >>> from aevb.share import WandB
    >>> vae = VAE(2, callbacks=[WandB(project="digits", mode="offline")])
    """

    _is_own = False

    def __init__(self, **options: Any):
        super().__init__("wandb", "wandb")
        self.options = options

    def _begin(self) -> Any:
        import wandb

        self._is_own = wandb.run is None
        run: Any = wandb.run or wandb.init(**self.options)
        run.define_metric("epochs")  # the user's own numbers may have other steps
        for kind in ("train", "validation", "epoch"):
            run.define_metric(f"{kind}/*", step_metric="epochs")
        return run

    def _log(self, values: Mapping[str, float], step: int) -> None:
        self._handle.log({"epochs": step, **values})

    def _end(self, *, failed: bool) -> None:
        if self._is_own:
            self._handle.finish(exit_code=int(failed))
