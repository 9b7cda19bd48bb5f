"""Several processes that train one model: how they meet, and what they tell one another."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import jax
import numpy as np
from jax.experimental import multihost_utils

# Seconds after which a process that is not heard of counts as dead.
HEARTBEAT = 30

_OF_THE_NETWORK = re.compile(r"gloo|nccl|connection|unavailable|deadline|heartbeat|aborted", re.I)


def join(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Join the other processes of this run, before JAX computes anything.

    What is left at None is found by JAX under SLURM, Open MPI, Kubernetes and on TPU pods.

    Parameters
    ----------
    coordinator : str, optional
        Address and port of process 0, ``host:port``.
    num_processes, process_id : int, optional
        How many processes there are, and which this is, from 0.

    Raises
    ------
    ValueError
        When nothing says where the others are. Where they do not come within five minutes, JAX ends
        this process.
    """
    try:
        jax.distributed.initialize(
            coordinator, num_processes, process_id, heartbeat_timeout_seconds=HEARTBEAT
        )
    except ValueError as error:
        raise ValueError(
            "Expected SLURM, Open MPI, Kubernetes or a TPU pod, which say where the other "
            f"processes are; got none of them ({error}) Name all three of --coordinator host:port, "
            "--num-processes and --process-id."
        ) from error


def is_first() -> bool:
    """Whether this process is the one that writes and speaks."""
    return jax.process_index() == 0


def gathered(text: str) -> list[str]:
    """Return the texts of all processes, in their order; all of them have to call it."""
    if jax.process_count() == 1:
        return [text]
    own = np.frombuffer(text.encode(), np.uint8)
    with guarded():
        sizes = np.ravel(multihost_utils.process_allgather(np.int32(len(own))))
        if not sizes.any():
            return [""] * len(sizes)
        padded = np.zeros(-(-int(sizes.max()) // 64) * 64, np.uint8)  # few shapes to compile for
        padded[: len(own)] = own
        rows = np.asarray(multihost_utils.process_allgather(padded))
    return [row[:size].tobytes().decode() for row, size in zip(rows, sizes, strict=True)]


def check_same(what: Mapping[str, str]) -> None:
    """Raise ValueError unless all processes say the same of everything, by name.

    Examples
    --------
    >>> check_same({"`latent_dim`": "2"})
    """
    texts = gathered(json.dumps(dict(what)))
    if len(set(texts)) == 1:
        return
    everyone = [json.loads(text) for text in texts]
    others = []
    for name in dict.fromkeys(name for each in everyone for name in each):
        values = [each.get(name, "nothing") for each in everyone]
        k = next((k for k, value in enumerate(values) if value != values[0]), None)
        if k is not None:
            others.append(f"{name} ({values[0]} in process 0, {values[k]} in process {k})")
    raise ValueError(
        f"Expected the same parameters and data in all {len(everyone)} processes; got other "
        f"{', '.join(others)}. Start all of them by the same command."
    )


@contextmanager
def guarded() -> Iterator[None]:
    """Say in plain words when the others cannot be reached, in what is computed with them.

    Raises
    ------
    ConnectionError
        Where one has ended, or the network is down.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:  # some of Gloo's are ValueErrors
        if jax.process_count() == 1 or not _OF_THE_NETWORK.search(str(error)):
            raise
        raise ConnectionError(
            "Another process of this run has ended or cannot be reached, and the training ends "
            "here; see its own last message. The last checkpoint stays, if `checkpoint` names a "
            "directory: the same command goes on from there. (JAX says: "
            f"{str(error).partition(chr(10))[0]})"
        ) from error
