"""Arrays and a header of JSON in one safetensors file: all of it or nothing, and no code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree
from numpyro.distributions import Distribution
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from aevb.data.files import replacing
from aevb.errors import ModelFileError

Json = dict[str, Any]  # of names; what JSON can hold, once it is encoded

_CHECKSUM = "sha256"  # in the file's own metadata


@dataclass(frozen=True)
class Form:
    """A form of files: what they are called, and what the header looks like.

    Attributes
    ----------
    name : str
        What a file is, in messages: "model file".
    key : str
        Where the header is in the file's own metadata.
    version : int
        Of the form, in the header.
    unsigned : frozenset of int
        Older versions that are read as well, without a checksum.
    """

    name: str
    key: str
    version: int
    unsigned: frozenset[int] = field(default_factory=frozenset)

    def write(
        self,
        path: Path,
        header: Json,
        tensors: dict[str, np.ndarray],
        default: Callable[[Any], Any] | None = None,
    ) -> None:
        """Write a file in one step: all of it or nothing.

        Parameters
        ----------
        path : Path
            Where to; an existing file is replaced.
        header : dict
            What JSON can hold, after `default`.
        tensors : dict of ndarray
            The arrays by name.
        default : callable, optional
            Turns what JSON cannot hold into what it can.
        """
        text = json.dumps({"format_version": self.version, **header}, default=default)
        metadata = {self.key: text, _CHECKSUM: checksum(text, tensors)}
        with replacing(path) as temporary:
            temporary.write_bytes(to_bytes(tensors, metadata=metadata))

    def read(self, path: Path) -> tuple[Json, dict[str, np.ndarray]]:
        """Read header and arrays of a file.

        Raises
        ------
        FileNotFoundError
            When there is no such file.
        ModelFileError
            When it is of another form or version, or damaged.
        """
        if not path.is_file():
            raise FileNotFoundError(f"Expected a {self.name} for `path`; there is none at {path}.")
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                text = metadata.get(self.key)
                header = json.loads(text) if text else None
                header = header if isinstance(header, dict) else None
                version = (header or {}).get("format_version", 0)
                if not isinstance(version, int):
                    raise TypeError("its format is not a number")
                if text and header is not None and version in {self.version, *self.unsigned}:
                    names = file.keys()
                    tensors = {name: file.get_tensor(name) for name in names}
                    known = metadata.get(_CHECKSUM)
                    unsigned = known is None and version in self.unsigned
                    if not unsigned and known != checksum(text, tensors):
                        raise ModelFileError(
                            f"Expected a whole {self.name} for `path`; {path} is damaged: its "
                            "checksum is not that of its content. Take another copy, or fit the "
                            "model again."
                        )
                    return header, tensors
        except (SafetensorError, ValueError, RecursionError, TypeError, AttributeError) as error:
            raise ModelFileError(
                f"Expected a {self.name} of aevb for `path`; {path} is damaged or of another kind "
                f"({error})."
            ) from error
        if header is None:
            raise ModelFileError(
                f"Expected a {self.name} of aevb for `path`; {path} is a safetensors file from "
                "elsewhere."
            )
        way = (
            "Install a newer version of aevb to read it."
            if version > self.version
            else "It was written by an older version: fit the model again."
        )
        raise ModelFileError(
            f"Expected a {self.name} of format {self.version} for `path`; {path} has format "
            f"{version}. {way}"
        )


def checksum(header: str, tensors: dict[str, np.ndarray]) -> str:
    """Return the SHA-256 of the header, and of names, types, shapes and values of the arrays."""
    digest = hashlib.sha256(header.encode())
    for name, array in sorted(tensors.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def fill(template: PyTree, tensors: dict[str, np.ndarray], advice: str) -> PyTree:
    """Put arrays into their places in a template, each checked against it.

    Parameters
    ----------
    template : PyTree
        With a `jax.ShapeDtypeStruct` in the place of each array.
    tensors : dict of ndarray
        The arrays, by the names of `named_leaves`; there may be no others.
    advice : str
        What to do if they do not fit, a sentence.

    Raises
    ------
    ModelFileError
        When they do not.
    """
    tensors = dict(tensors)
    leaves = []
    for name, leaf in named_leaves(template):
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            leaves.append(leaf)
            continue
        expected = f"{leaf.dtype.name}{list(leaf.shape)}"
        if name not in tensors:
            raise ModelFileError(
                f"Expected {expected} for {name!r}; the file holds no such array. {advice}"
            )
        array = tensors.pop(name)
        if array.shape != leaf.shape or array.dtype != leaf.dtype:
            raise ModelFileError(
                f"Expected {expected} for {name!r}; the file holds "
                f"{array.dtype.name}{list(array.shape)}. {advice}"
            )
        leaves.append(jnp.asarray(array))
    if tensors:
        raise ModelFileError(
            f"The file holds arrays that the model has no place for: {', '.join(sorted(tensors))}. "
            f"{advice}"
        )
    return jax.tree.unflatten(jax.tree.structure(template), leaves)


def named_leaves(tree: PyTree) -> list[tuple[str, PyTree]]:
    """Return the leaves in JAX's order, each with the name of its place."""
    nodes, _ = jax.tree_util.tree_flatten_with_path(
        tree, is_leaf=lambda node: isinstance(node, Distribution)
    )
    named = []
    for path, node in nodes:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if not isinstance(node, Distribution):
            named.append((name, node))
            continue
        # The order of a distribution's parameters differs from process to process: name them.
        children, _ = node.tree_flatten()
        for part, child in zip(node.gather_pytree_data_fields(), children, strict=True):
            named += [
                (".".join(each for each in (name, part, inner) if each), leaf)
                for inner, leaf in named_leaves(child)
            ]
    return named
