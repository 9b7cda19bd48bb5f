"""TensorBoard: the numbers of each epoch in event files."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aevb.share.tracker import Tracker


class TensorBoard(Tracker):
    """Writes the numbers of each epoch to a directory that TensorBoard reads.

    A directory holds one fit. One that is resumed, or made again, hides the later steps of what was
    there before.

    Parameters
    ----------
    logdir : path-like
        The directory; made if it does not exist.

    Raises
    ------
    ImportError
        When tensorboardX, of the extra ``aevb[tensorboard]``, is not installed.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from aevb import VAE
    >>> from aevb.share import TensorBoard
    >>> X = np.random.default_rng(0).normal(size=(80, 3))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with TensorBoard(folder) as tracker:
    ...         vae = VAE(1, hidden=(4,), epochs=1, callbacks=[tracker], random_state=0).fit(X)
    ...     len(os.listdir(folder))
    1
    """

    _writer: Any = None

    def __init__(self, logdir: str | os.PathLike[str]):
        super().__init__("tensorboardX", "tensorboard")
        self.logdir = os.fspath(logdir)

    def _begin(self) -> Path:
        path = Path(self.logdir)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def _log(self, values: Mapping[str, float], step: int) -> None:
        if self._writer is None:  # not before: it writes the first step that is not to be hidden
            from tensorboardX import SummaryWriter

            suffix = f".{time.time_ns()}"  # the rest of a file's name is the second
            self._writer = SummaryWriter(self.logdir, purge_step=step, filename_suffix=suffix)
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def _end(self, *, failed: bool) -> None:
        if self._writer is not None:
            self._writer.close()
