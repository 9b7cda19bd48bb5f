"""A progress bar for training, as a callback."""

from __future__ import annotations

import sys
from typing import Any

from aevb.errors import choose

# The columns of a history that are shown where they exist, and what they are called.
NAMES = {
    "iw_bound": "IW bound",
    "elbo": "ELBO",
    "kl": "KL",
    "reconstruction": "reconstruction",
    "kl_parameters": "KL of parameters",
    "log_joint": "log joint",
    "acceptance": "acceptance",
    "validation_iw_bound": "validation IW bound",
    "validation_elbo": "validation ELBO",
}


class ProgressBar:
    """Show epoch, bounds and speed while training; a context manager and a callback.

    Parameters
    ----------
    n_epochs : int
        Number of epochs planned.
    verbose : bool or "auto"
        ``"auto"``: only in a terminal or a notebook.
    headline : str
        What to say before the first epoch.

    Examples
    --------
    >>> with ProgressBar(3, verbose=False) as bar:
    ...     bar.shown
    False
    """

    def __init__(self, n_epochs: int, verbose: bool | str = "auto", headline: str = ""):
        if not isinstance(verbose, (bool, int)):
            choose(verbose, {"auto": None}, "verbose", ", True or False")
        self.shown = (sys.stderr.isatty() or _in_notebook()) if verbose == "auto" else bool(verbose)
        self.n_epochs = n_epochs
        self.headline = headline
        self.bar: Any = None

    def __enter__(self) -> ProgressBar:
        if self.shown:
            from tqdm.auto import tqdm

            if self.headline:
                tqdm.write(self.headline, file=sys.stderr)
            self.bar = tqdm(total=self.n_epochs, unit="epoch", dynamic_ncols=True)
        return self

    def __call__(self, epoch: Any) -> None:
        """Show an epoch's numbers: nats per datapoint, and datapoints per second."""
        if self.bar is None:
            return
        metrics = epoch.metrics
        shown = {name: f"{metrics[key]:.2f}" for key, name in NAMES.items() if key in metrics}
        shown["datapoints/s"] = f"{metrics['datapoints_per_second']:,.0f}"
        self.bar.set_postfix(shown, refresh=False)
        self.bar.update()

    def __exit__(self, *exception: object) -> None:
        if self.bar is not None:
            self.bar.close()


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return type(shell).__name__ == "ZMQInteractiveShell"
