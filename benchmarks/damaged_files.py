"""Model files that were damaged or forged, and what may come of loading them.

`damage` draws one from a seed; `outcome` loads it. The tests draw some, `faults.py` draws as many
as it is told.
"""

import io
import json
import pickle  # to forge files that would run code, if anything read them so
import random
import sys
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import numpyro.distributions as dist
import pandas as pd
from drawn_inputs import is_ours
from safetensors.numpy import load as tensors_of
from safetensors.numpy import save

from aevb import VAE, ModelFileError, priors
from aevb.storage import checksum

REFUSED, IDENTICAL, OTHER = "refused", "the identical model", "another valid model"
QUICK = {"hidden": (5,), "epochs": 2, "random_state": 0, "verbose": False}
SECONDS, MEGABYTES = 20.0, 200.0  # that loading a file of some kilobytes may take at most


class Saved(NamedTuple):
    """A fitted model's file, and what the model says of its data."""

    content: bytes
    X: object
    condition: object
    says: bytes


def says(vae, X, condition=None):
    """Return what a model says of some cases, bit for bit."""
    kept = {} if condition is None else {"condition": condition}
    return vae.transform(X, **kept).tobytes() + vae.elbo(X, **kept).tobytes()


def save_models(folder):
    """Fit a few models between which there is one of everything that a file can hold."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 3))
    table = pd.DataFrame(
        {
            "size": np.where(rng.random(40) < 0.2, np.nan, X[:, 0]),
            "city": rng.choice(["Ulm", "Bonn", "Köln"], 40),
            "grade": pd.Categorical.from_codes(rng.integers(0, 3, 40), list("abc"), ordered=True),
            "n": rng.poisson(3, 40) * rng.integers(1, 5, 40),
            "day": pd.date_range("2020", periods=40),
            "old": X[:, 1] > 0,
            "one": 1,
        }
    )
    labels = rng.choice(["x", "y"], 40)
    counts = rng.poisson(4, (40, 3))
    fits = (
        (VAE(2, **QUICK), X, None, {}),
        (VAE(2, prior="mixture", **QUICK), table, labels, {}),
        (
            VAE(1, likelihood="poisson", prior=priors.Vamp(n_components=5), **QUICK),
            counts,
            None,
            {"exposure": "total"},
        ),
        (VAE(1, prior=dist.Gamma(2.0, 1.0), posterior="gamma", **QUICK), X, None, {}),
    )
    made = []
    for vae, data, condition, told in fits:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Column 'one'")
            vae.fit(data, condition=condition, **told)
        vae.save(folder / "model.aevb")
        content = (folder / "model.aevb").read_bytes()
        made.append(Saved(content, data, condition, says(vae, data, condition)))
    return made


def opened(content):
    """Return the header of a model file, as text, and its arrays."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    return header["__metadata__"]["aevb"], tensors_of(content)


def forged(text, arrays):
    """Return a model file whose checksum is right."""
    return save(arrays, {"aevb": text, "sha256": checksum(text, arrays)})


def deep(depth):
    """Return lists in lists, as JSON."""
    return "[" * depth + "]" * depth


# Headers that ask for more than there is, or for what is not a model.
HOSTILE = {
    "many latents": lambda h: h["config"].update(latent_dim=10**12),
    "no latents": lambda h: h["config"].update(latent_dim=-3),
    "latents in words": lambda h: h["config"].update(latent_dim="two"),
    "a wide layer": lambda h: h["config"].update(hidden=[10**10]),
    "many layers": lambda h: h["config"].update(hidden=[1] * 10**6),
    "a mixture of many": lambda h: h["config"].update(
        prior={"prior": "mixture", "n_components": 10**12}
    ),
    "examples of many": lambda h: h["config"].update(
        prior={"prior": "vamp", "n_components": 10**12}
    ),
    "a huge shape": lambda h: h["schema"].update(shape=[10**9, 10**9]),
    "a shape of nothing": lambda h: h["schema"].update(shape=None),
    "no parts": lambda h: h["schema"].update(parts=[]),
    "a part of another kind": lambda h: h["schema"]["parts"][0].update(kind="angle"),
    "a part of another type": lambda h: h["schema"]["parts"][0].update(dtype="O"),
    "columns elsewhere": lambda h: h["schema"]["parts"][0].update(columns=[10**9]),
    "a condition in words": lambda h: h.update(condition="yes"),
    "an exposure in words": lambda h: h.update(exposure=[1, 2]),
    "history in words": lambda h: h.update(history="none"),
    "a file elsewhere": lambda h: h["schema"]["parts"][0].update(name="../../etc/passwd"),
    "a module": lambda h: h["config"].update(
        prior={"distribution": "os.system", "parameters": {}, "event_dims": 0}
    ),
    "an activation of ours": lambda h: h["config"].update(activation="__import__"),
}

# What is put into random places of the header.
_VALUES = (
    *(None, True, False, 0, 1, -1, 2, 3, 7, 0.5, -0.0, 1e-320, 1e308, 2**31, 2**63, 10**12, 10**30),
    *(
        float("nan"),
        float("inf"),
        -float("inf"),
        "",
        "a",
        "normal",
        "gaussian",
        "0",
        "\0",
        "\ud800",
    ),
    *(
        "../../etc/passwd",
        "/dev/zero",
        "__import__",
        "os.system",
        "x" * 100_000,
        "gamma",
        "O",
        "<M8[s]",
    ),
    *([], [0], [1, 2], [None], ["a", "b", "c"], [10**12], [[]], [[[[[]]]]], list(range(5000))),
    *({}, {"a": 1}, {"prior": "mixture"}, {"prior": "flow"}, {"likelihood": "poisson"}),
    *({"by column": {}}, {"posterior": "iaf"}, {"prior": "mixture", "n_components": 10**12}),
    {"distribution": "Normal", "parameters": {"loc": 0.0, "scale": -1.0}, "event_dims": 0},
    {"distribution": "Delta", "parameters": {"v": [0.0] * 9}, "event_dims": 1},
    {"distribution": "Normal", "parameters": {"loc": 0.0, "scale": 1.0}, "event_dims": 10**9},
    {"distribution": "Distribution", "parameters": {}, "event_dims": 0},
    {"distribution": "aevb.Batched", "parameters": {}, "event_dims": 0},
)


class _Twice(dict):
    """A dictionary that JSON writes with its first key twice."""

    def items(self):
        pairs = list(super().items())
        return [*pairs, (pairs[0][0], None)] if pairs else pairs


def _places(node, path=()):
    """Return the way to every value of a header."""
    found = [path] if path else []
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            found += _places(value, (*path, key))
    return found


def _forge_header(text, draw):
    """Change one or two places of a header, or its text."""
    header = json.loads(text)
    for _ in range(draw.choice([1, 1, 1, 2])):
        *way, last = draw.choice(_places(header))
        node = header
        for key in way:
            node = node[key]
        how = draw.choice(["value"] * 6 + ["without", "renamed", "more", "swapped"])
        if how == "without":
            del node[last]
        elif how == "renamed" and isinstance(node, dict):
            node[draw.choice(["", "a", "../" + last, last.upper()])] = node.pop(last)
        elif how == "more" and isinstance(node, list):
            node.append(node[0])
        elif how == "swapped":
            others = list(range(len(node))) if isinstance(node, list) else list(node)
            other = draw.choice(others)
            node[last], node[other] = node[other], node[last]
        else:
            node[last] = draw.choice(_VALUES)
    how = draw.choice(["plain"] * 8 + ["twice", "deep", "text"])
    if how == "twice":
        return json.dumps(_Twice(header))
    text = json.dumps(header)
    if how == "deep":
        at = draw.choice([i for i, c in enumerate(text) if c == ":"]) + 1
        return f"{text[:at]} {deep(draw.choice([10, 900, 100_000]))} {text[at:]}"
    if how == "text":
        at = draw.randrange(len(text))
        return (
            text[:at] + draw.choice(["1e999", "}", '"', "9" * 5000, "\\u0000", ""]) + text[at + 1 :]
        )
    return text


def _forge_arrays(arrays, draw):
    """Change an array: its type, its shape, its name, its values."""
    arrays, name = dict(arrays), draw.choice(sorted(arrays))
    array = arrays[name]
    how = draw.choice(["type", "shape", "name", "values", "without", "more", "empty"])
    if how == "type":
        arrays[name] = array.astype(draw.choice(["float64", "float32", "int8", "float16", "bool"]))
    elif how == "shape":
        shape = draw.choice([(1, *array.shape), (-1,), (*array.shape, 1)])
        arrays[name] = array.reshape(shape)
    elif how == "name":
        arrays[draw.choice(["", "../" + name, name + ".x", "schema.data.shift"])] = arrays.pop(name)
    elif how == "values":
        value = draw.choice([np.nan, np.inf, -1, 0, 1e30])
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            arrays[name] = np.full_like(array, np.asarray(value).astype(array.dtype))
    elif how == "without":
        del arrays[name]
    elif how == "more":
        arrays[draw.choice(["more", "/etc/passwd", "__class__"])] = array
    else:
        arrays[name] = np.zeros((0, 2**40), array.dtype)
    return arrays


class _Runs:
    """What a pickle would run."""

    def __reduce__(self):
        return exec, ("raise SystemExit('code was run')",)


def _foreign(draw, whole):
    """Return a file of another kind."""
    buffer = io.BytesIO()
    np.savez(buffer, a=np.ones(3))
    arrays = {"a": np.ones((2, 2))}
    return draw.choice(
        [
            b"",
            b"\0" * draw.randrange(2000),
            draw.randbytes(draw.randrange(2000)),
            pickle.dumps(_Runs()),
            buffer.getvalue(),
            b"\x89PNG\r\n\x1a\n" + draw.randbytes(100),
            b"PK\x03\x04" + whole,
            json.dumps({"aevb": "{}"}).encode(),
            save(arrays),
            save(arrays, {"aevb": "{}"}),
            save(
                arrays, {"aevb": draw.choice(["[1]", "null", '"a"', "{", deep(100_000), "{" * 999])}
            ),
            save(
                arrays,
                {
                    "aevb": '{"format_version": '
                    + draw.choice(["5", "4", "[]", "1e400", '"5"'])
                    + "}"
                },
            ),
        ]
    )


def _forge_container(content, draw):
    """Change the header of the safetensors file itself: lengths, shapes, places, types."""
    size = int.from_bytes(content[:8], "little")
    head, body = content[8 : 8 + size], content[8 + size :]
    header = json.loads(head)
    name = draw.choice([each for each in sorted(header) if each != "__metadata__"])
    huge = draw.choice([2**31, 2**40, 2**63 - 1, 2**64, 10**30, -1])
    how = draw.choice(["length", "shape", "offsets", "type", "deep", "twice", "empty", "metadata"])
    if how == "length":
        length = draw.choice([0, 1, size - 1, size + 1, 2**32, 2**62, 2**64 - 1])
        return length.to_bytes(8, "little") + content[8:]
    if how == "shape":
        header[name]["shape"] = draw.choice([[huge], [huge, huge], [huge, 0], [], None, "a"])
    elif how == "offsets":
        header[name]["data_offsets"] = draw.choice([[0, huge], [huge, huge], [9, 3], [0, 0], []])
    elif how == "type":
        header[name]["dtype"] = draw.choice(["F64", "BOOL", "BF16", "F8_E4M3", "O", 3, None, "I8"])
    elif how == "metadata":
        header["__metadata__"] = draw.choice([None, [], {"aevb": 3}, {}, {"aevb": ""}, "aevb"])
    text = json.dumps(header)
    if how == "deep":
        text = text[:-1] + f', "x": {deep(100_000)}}}'
    elif how == "twice":
        text = text[:-1] + f', "{name}": {json.dumps(header[name])}}}'
    elif how == "empty":
        text = draw.choice(["", "{}", "[]", "null"])
    return len(text.encode()).to_bytes(8, "little") + text.encode() + body


def damage(models, number):
    """Return a model, what was done to its file, and the file; a number gives the same again."""
    draw = random.Random(number)
    saved = draw.choice(models)
    whole, other = saved.content, draw.choice(models).content
    at, to = sorted(draw.sample(range(len(whole)), 2))
    what = draw.choice(
        [
            *(["bits flipped", "truncated", "grown", "bytes changed", "foreign"] * 2),
            *("container forged", "header forged", "header forged", "header forged"),
            *("arrays forged", "mixed", "hostile"),
        ]
    )
    if what == "bits flipped":
        content = bytearray(whole)
        for _ in range(draw.choice([1, 1, 1, 2, 8, 64])):
            place = draw.randrange(8 * len(whole))
            content[place // 8] ^= 1 << place % 8
        content = bytes(content)
    elif what == "truncated":
        content = draw.choice([whole[:at], whole[at:], whole[:at] + whole[to:]])
    elif what == "grown":
        more = draw.choice([b"\0", b"\0" * 4096, whole, other, draw.randbytes(99)])
        content = draw.choice([whole + more, more + whole, whole[:at] + more + whole[at:]])
    elif what == "bytes changed":
        some = draw.choice([b"\0" * (to - at), draw.randbytes(to - at), whole[at:to][::-1]])
        content = whole[:at] + some + whole[to:]
    elif what == "foreign":
        content = _foreign(draw, whole)
    elif what == "mixed":
        content = draw.choice([whole[:at] + other[at:], forged(opened(other)[0], opened(whole)[1])])
    elif what == "container forged":
        content = _forge_container(whole, draw)
    else:
        text, arrays = opened(whole)
        if what == "header forged":
            text = _forge_header(text, draw)
        elif what == "hostile":
            header = json.loads(text)
            HOSTILE[draw.choice(sorted(HOSTILE))](header)
            text = json.dumps(header)
        else:
            arrays = _forge_arrays(arrays, draw)
        content = forged(text, arrays)
    return saved, what, content


def outcome(saved, content, path):
    """Load a file; return what came of it.

    Whatever is neither an error of ours, nor the same model, nor another one (that a forger with
    the right checksum has written) which works, raises.
    """
    path.write_bytes(content)
    began, least = time.monotonic(), _memory()
    try:
        with warnings.catch_warnings(), _Watch():
            warnings.filterwarnings("ignore", "The file does not hold")
            vae = VAE.load(path)
    except ModelFileError as error:
        said = str(error)
        assert "MemoryError" not in said and "RESOURCE_EXHAUSTED" not in said, said
        found = REFUSED
    else:
        found = IDENTICAL
        try:
            if says(vae, saved.X, saved.condition) != saved.says:
                found = OTHER
            vae.sample(2, condition=None if saved.condition is None else saved.condition[:2])
        except (ValueError, TypeError) as error:  # as a model of other data may say
            if not is_ours(error):
                raise
            found = OTHER
    grown, took = _memory() - least, time.monotonic() - began
    assert grown < MEGABYTES, f"{grown:.0f} MB were taken"
    assert took < SECONDS, f"{took:.0f} s were taken"
    return found


_RUNS = ("os.system", "os.exec", "subprocess.Popen", "pickle.find_class", "socket.connect")


class _Watch:
    """No code is run, and no file is written, while a file is loaded."""

    on = False
    hooked = False

    def __enter__(self):
        if not _Watch.hooked:
            sys.addaudithook(_Watch.hear)
            _Watch.hooked = True
        _Watch.on = True

    def __exit__(self, *_):
        _Watch.on = False

    @staticmethod
    def hear(event, arguments):
        if not _Watch.on:
            return
        cache = jax.config.jax_compilation_cache_dir
        is_cached = arguments and cache is not None and str(arguments[0]).startswith(cache)
        writes = event == "open" and set(str(arguments[1])) & set("wax+") and not is_cached
        if writes or event in _RUNS:
            _Watch.on = False
            raise SystemExit(f"loading a file led to {event} {arguments}")


def _memory():
    """Return the most memory that was in use since the last call, in MB; 0 where it is not told."""
    try:
        status = Path("/proc/self/status").read_text()
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return 0.0
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
