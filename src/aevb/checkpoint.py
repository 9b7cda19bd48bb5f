"""Where a fit is, on disk: a training that was killed goes on from there, bit for bit.

A directory holds one fit. ``fit.json`` says of which data and parameters, and how the random
generator stood at its beginning; the checkpoints beside it hold a `Run` each, between epochs, or
within one where the data come in chunks. The rest of what a fit needs comes from the same call with
the same data.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import secrets
import time
import types
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PyTree
from numpyro.distributions import Distribution

from aevb.errors import FitWarning, ModelFileError
from aevb.inference.run import Plan, Run
from aevb.inference.stopping import Watch
from aevb.inference.training import TrainState
from aevb.models.kinds.rows import is_sparse, is_stored
from aevb.persistence import described, versions
from aevb.storage import Form, Json, fill, named_leaves

FORM = Form("checkpoint", key="aevb-checkpoint", version=1)
PAUSES = ("time_limit", "interrupted")  # reasons to stop after which the same call goes on

_KEPT = 2  # the newest ones
_SHARE = 0.02  # of the time of training, at most, to write in
# They change neither the model nor what an epoch is. Other devices may go on where some have died.
_IRRELEVANT = {"callbacks", "checkpoint", "devices", "time_limit", "verbose"}


class Stage(NamedTuple):
    """Which part of a fit a run belongs to.

    Attributes
    ----------
    start : int
        Number of the start, from 0, of `n_init`.
    searching : bool
        Whether a tenth of the cases is held out to find the number of epochs.
    epochs, first_round : int or None
        Of the plan.
    """

    start: int
    searching: bool
    epochs: int
    first_round: int | None

    def plan(self, plan: Plan) -> Plan:
        """Return a plan with the epochs of this stage."""
        return plan._replace(epochs=self.epochs, first_round=self.first_round)


class Saved(NamedTuple):
    """What a checkpoint holds."""

    stage: Stage
    header: Json
    tensors: dict[str, np.ndarray]

    def run(self, template: Run) -> Run:
        """Return the run, given one of the same form."""
        own = {"state": template.state, "best": template.state}
        if not self.header["has_best"]:
            del own["best"]
        states = jax.tree.map(_unpacked, fill(_shapes(own), self.tensors, _OTHER), own)
        watch = {**self.header["watch"], "recent": tuple(self.header["watch"]["recent"])}
        return Run(
            states["state"],
            epoch=self.header["epoch"],
            position=self.header["position"],
            totals=tuple(
                {name: np.float32(value) for name, value in each.items()}
                for each in self.header["totals"]
            ),
            history=self.header["history"],
            watch=Watch(best_state=states.get("best"), **watch),
            recoveries=self.header["recoveries"],
            recovered_at=self.header["recovered_at"],
        )


_OTHER = "The checkpoint is of another model."


class Checkpoints:
    """The checkpoints of one fit, in a directory.

    Parameters
    ----------
    directory : str or path-like
        Made if it does not exist.
    parameters : dict
        The estimator's.
    data : PyTree
        All that the fit is given: arrays, sparse ones as well.
    schema : dict
        What was learned of the data's form.
    random : RandomState
        Set to what it was at the beginning of the fit.

    Raises
    ------
    ValueError
        When the directory holds a fit of other data or parameters.
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        parameters: Mapping[str, Any],
        data: PyTree,
        schema: Json,
        random: np.random.RandomState,
    ):
        self.directory = Path(directory).expanduser()
        if self.directory.exists() and not self.directory.is_dir():
            raise ValueError(f"Expected a directory for `checkpoint`; {directory} is a file.")
        self.directory.mkdir(parents=True, exist_ok=True)
        self._last_write, self._cost = -np.inf, 0.0
        self._full = False
        identity = identity_of(parameters, data, schema)
        path = self.directory / "fit.json"
        if not path.exists():
            generator = random.get_state(legacy=False)
            description = {**identity, "versions": versions(), "generator": generator}
            _create(path, json.dumps(description, indent=1, default=np.ndarray.tolist))
        self._check(path, identity, random)
        self._fit = hashlib.sha256(path.read_bytes()).hexdigest()

    def newest(self, start: int) -> Saved | None:
        """Return the newest checkpoint of a start that can be read; None: there is none."""
        for path in reversed(self._paths(start)):
            try:
                header, tensors = FORM.read(path)
                if header["fit"] == self._fit:
                    return Saved(Stage(**header["stage"]), header, tensors)
            except FileNotFoundError:  # another process has taken it away
                continue
            except (ModelFileError, KeyError, TypeError) as error:
                warnings.warn(
                    f"A checkpoint cannot be read, and the one before it is taken: {error}",
                    FitWarning,
                    stacklevel=2,
                )
        return None

    def keep(self, stage: Stage, run: Run) -> None:
        """Write a checkpoint, if that is due: at the end, and as often as costs little."""
        now = time.perf_counter()
        if not run.stopped and now - self._last_write < self._cost / _SHARE:
            return
        before = self._paths(stage.start)
        number = int(before[-1].stem.split("-")[1]) + 1 if before else 1
        path = self.directory / f"{stage.start}-{number:06}.checkpoint"
        states = {"state": run.state}
        if run.watch.best_state is not None:
            states["best"] = run.watch.best_state
        watch = run.watch._asdict()
        header = {
            "fit": self._fit,
            "stage": stage._asdict(),
            "epoch": run.epoch,
            "position": run.position,
            "totals": [
                {name: np.asarray(value).tolist() for name, value in each.items()}
                for each in jax.device_get(run.totals)
            ],
            "recoveries": run.recoveries,
            "recovered_at": run.recovered_at,
            "history": run.history,
            "watch": {name: value for name, value in watch.items() if name != "best_state"},
            "has_best": watch["best_state"] is not None,
        }
        packed = jax.device_get(jax.tree.map(_packed, states))
        tensors = {
            name: np.asarray(leaf, order="C")
            for name, leaf in named_leaves(packed)
            if eqx.is_array(leaf) or isinstance(leaf, np.generic)
        }
        try:
            FORM.write(path, header, tensors)
        except OSError as error:
            if not self._full:
                warnings.warn(
                    f"A checkpoint could not be written ({error}). Training goes on; earlier "
                    f"checkpoints in {self.directory} are whole.",
                    FitWarning,
                    stacklevel=2,
                )
            self._full = True
        else:
            for old in before[: 1 - _KEPT]:
                old.unlink(missing_ok=True)
        self._last_write = time.perf_counter()
        self._cost = self._last_write - now

    def _paths(self, start: int) -> list[Path]:
        return sorted(self.directory.glob(f"{start}-[0-9]*.checkpoint"))

    def _check(self, path: Path, identity: Json, random: np.random.RandomState) -> None:
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
            there, here, generator = known["parameters"], identity["parameters"], known["generator"]
            others = [
                f"`{name}` ({there.get(name)} there, {here.get(name)} here)"
                for name in {**here, **there}
                if name not in here or name not in there or there[name] != here[name]
            ]
            others += ["data"] * (known["data"] != identity["data"])
            others += ["columns or categories"] * (known["schema"] != identity["schema"])
            before = known["versions"]
            if not others:
                _set_state(random, generator)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelFileError(
                f"Expected a checkpoint of aevb for `checkpoint`; {path} is damaged or of another "
                f"kind ({error}). Name another directory, or remove this one."
            ) from error
        if others:
            raise ValueError(
                "Expected a directory of the same fit for `checkpoint`; that of "
                f"{self.directory} has other {', '.join(others)}. Name another directory to fit "
                "anew."
            )
        if before != versions():
            changed = [f"{name} {version}" for name, version in before.items()]
            warnings.warn(
                f"The checkpoint was written under {', '.join(changed)}; the fit may end at "
                "slightly other numbers than one under a single version.",
                FitWarning,
                stacklevel=2,
            )


def identity_of(parameters: Mapping[str, Any], data: PyTree, schema: Json) -> Json:
    """Return what JSON can say of a fit: of its parameters, its data, and what they are.

    Parameters
    ----------
    parameters, data, schema
        As in `Checkpoints`.
    """
    return {
        "parameters": _described(parameters),
        "data": _hash_of(data),
        "schema": _hash_of(json.dumps(schema, default=str)),
    }


def _described(parameters: Mapping[str, Any]) -> Json:
    """Return what JSON can say of the parameters that a fit depends on."""
    relevant = {name: value for name, value in parameters.items() if name not in _IRRELEVANT}
    if not isinstance(relevant.get("random_state"), int | np.integer):
        relevant.pop("random_state", None)  # the directory has the state of the generator
    known, others = described(relevant)
    for name in others:
        text = _without_addresses(eqx.tree_pformat(relevant[name]))
        known[name] = f"{text} {_hash_of(relevant[name])[:16]}"
    return known


def _hash_of(value: PyTree) -> str:
    """Return a hash of arrays, numbers, functions with all that they refer to, and the rest."""
    digest = hashlib.sha256()
    _add(digest, value, {})
    return digest.hexdigest()


def _add(digest: Any, value: Any, seen: dict[int, Any]) -> None:
    """Add what a value is to a hash; a function is its code, and what is bound to it."""
    if is_stored(value):
        value = value.identity
    if is_sparse(value):
        rows = value.tocsr()
        value = (rows.shape, rows.indptr, rows.indices, rows.data)
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        array = np.asarray(_packed(value))
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
        return
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        digest.update(f"{type(value).__name__} {value!r}".encode())
        return
    if id(value) in seen:
        return
    seen[id(value)] = value  # kept, so that no other object gets its id
    for part in _parts(value):
        digest.update(b",")
        _add(digest, part, seen)


def _parts(value: Any) -> Sequence[Any]:
    """Return what a value consists of."""
    if isinstance(value, types.FunctionType):
        cells = [_content(cell) for cell in value.__closure__ or ()]
        bound = (cells, value.__defaults__, value.__kwdefaults__)
        return (value.__module__, value.__qualname__, value.__code__, *bound)
    if isinstance(value, types.CodeType):
        return (value.co_code, value.co_names, value.co_consts)
    if isinstance(value, types.MethodType):
        return (value.__func__, value.__self__)
    if isinstance(value, functools.partial):
        return (value.func, value.args, value.keywords)
    if isinstance(value, dict):
        return [part for item in value.items() for part in item]
    if isinstance(value, tuple | list):
        return (type(value).__name__, *value)
    if isinstance(value, Distribution):  # whose order differs from process to process
        return (type(value).__qualname__, *sorted(named_leaves(value), key=lambda pair: pair[0]))
    leaves, structure = jax.tree.flatten(value, is_leaf=lambda n: isinstance(n, Distribution))
    if not (len(leaves) == 1 and leaves[0] is value):
        return (_without_addresses(str(structure)), *leaves)
    if isinstance(value, type) or not hasattr(value, "__dict__"):
        return (_without_addresses(repr(value)),)
    return (type(value).__qualname__, vars(value))


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is empty
        return None


def _without_addresses(text: str) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def _create(path: Path, text: str) -> None:
    """Write a file that does not exist, all of it or nothing; another process may be first."""
    temporary = path.with_name(f".{secrets.token_hex(8)}-{path.name}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.link(temporary, path)
    except FileExistsError:  # whose file it is, the caller sees
        pass
    except PermissionError:  # of a file system without links
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _set_state(random: np.random.RandomState, state: Json) -> None:
    inner = {
        name: np.array(value, np.uint32) if isinstance(value, list) else value
        for name, value in state["state"].items()
    }
    random.set_state({**state, "state": inner})


def _is_key(leaf: Any) -> bool:
    return eqx.is_array(leaf) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _packed(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _shapes(states: dict[str, TrainState]) -> dict[str, TrainState]:
    def shape(leaf: Any) -> Any:
        leaf = _packed(leaf)
        is_array = eqx.is_array(leaf) or isinstance(leaf, np.generic)
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if is_array else leaf

    return jax.tree.map(shape, states)


def _unpacked(leaf: Any, own: Any) -> Any:
    return jax.random.wrap_key_data(leaf, impl=jax.random.key_impl(own)) if _is_key(own) else leaf
