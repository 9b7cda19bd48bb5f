"""Data sets: the published content or a clear error, from wherever the files are."""

import gzip
import hashlib
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pooch
import pytest
import scipy.io

from aevb.data import datasets

IMAGES = "mnist/train-images-idx3-ubyte.gz"
PARTS = {"train": 5, "t10k": 3}


class Server:
    """Files of ``folder`` over HTTP on this machine, and the paths that were asked for."""

    def __init__(self, folder: Path) -> None:
        self.requests = requests = []

        class Handler(SimpleHTTPRequestHandler):
            def log_message(self, *args):
                requests.append(self.path)

        handler = partial(Handler, directory=str(folder))
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder = tmp_path / "served"
    folder.mkdir()
    server = Server(folder)
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.http.shutdown()
    thread.join()
    server.http.server_close()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no folder in AEVB_DATA, and mirrors that nobody answers for."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(pooch, "os_cache", lambda project: folder)
    monkeypatch.delenv("AEVB_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    nowhere = ("http://127.0.0.1:9/",)  # the discard port
    monkeypatch.setattr(datasets, "_MIRRORS", dict.fromkeys(datasets._MIRRORS, nowhere))
    return folder


def write_small_mnist(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Write a small data set of MNIST's layout to ``folder``, and have its checksums expected."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {}
    for part, n in PARTS.items():
        arrays[f"{part}-images-idx3-ubyte.gz"] = rng.integers(0, 256, (n, 4, 3), dtype=np.uint8)
        arrays[f"{part}-labels-idx1-ubyte.gz"] = rng.integers(0, 10, n, dtype=np.uint8)
    checksums = dict(datasets._MD5)
    for name, array in arrays.items():
        datasets.write_idx(folder / name, array)
        content = gzip.decompress((folder / name).read_bytes())
        checksums[f"mnist/{name}"] = hashlib.md5(content).hexdigest()
    monkeypatch.setattr(datasets, "_MD5", checksums)
    return arrays


def assert_small_mnist(mnist: datasets.Dataset, arrays: dict[str, np.ndarray]) -> None:
    for part, split in zip(PARTS, mnist, strict=True):
        np.testing.assert_array_equal(split.images, arrays[f"{part}-images-idx3-ubyte.gz"])
        np.testing.assert_array_equal(split.labels, arrays[f"{part}-labels-idx1-ubyte.gz"])


def damage(path: Path, how: str) -> None:
    """Make the file at ``path`` a wrong one."""
    stored = path.read_bytes()
    damaged = {
        "truncated": stored[: len(stored) // 2],
        "empty": b"",
        "not gzip": b"<html>Please log in to this network</html>",
        "other content": gzip.compress(gzip.decompress(stored)[:-1] + b"\x00\x00"),
        "truncated, compressed again": gzip.compress(gzip.decompress(stored)[:-1]),
        "flipped bit": stored[:-20] + bytes([stored[-20] ^ 1]) + stored[-19:],
    }
    path.write_bytes(damaged[how])


DAMAGES = [
    "truncated",
    "empty",
    "not gzip",
    "other content",
    "truncated, compressed again",
    "flipped bit",
]


# The digits


def test_digits_are_those_of_scikit_learn_in_two_disjoint_parts():
    from sklearn.datasets import load_digits

    published = load_digits()
    train, test = datasets.load_digits()
    images = np.concatenate([train.images, test.images])
    labels = np.concatenate([train.labels, test.labels])
    rows = np.column_stack([images.reshape(-1, 64) * 16, labels])
    expected = np.column_stack([published.data, published.target])
    # As sorted lists of rows: each published row is in exactly one part, with its label.
    assert sorted(map(tuple, rows)) == sorted(map(tuple, expected))


def test_digits_have_the_documented_shapes_types_and_scale():
    train, test = datasets.load_digits()
    assert train.images.shape == (1437, 8, 8)
    assert test.images.shape == (360, 8, 8)
    assert train.images.dtype == test.images.dtype == np.float32
    assert train.labels.dtype == test.labels.dtype == np.uint8
    assert train.images.min() == 0 and train.images.max() == 1


def test_digits_are_split_evenly_over_the_classes():
    train, test = datasets.load_digits()
    n_train, n_test = np.bincount(train.labels), np.bincount(test.labels)
    share = 360 / 1797
    assert np.all(np.abs(n_test - share * (n_train + n_test)) < 1)


def test_digits_are_split_the_same_way_in_every_version():
    first, second = datasets.load_digits(), datasets.load_digits()
    np.testing.assert_array_equal(first.test.images, second.test.images)
    np.testing.assert_array_equal(first.train.labels, second.train.labels)
    # Results on the digits are comparable only while this holds, whatever becomes of
    # scikit-learn's shuffling: the bytes of the split as first released.
    released = hashlib.md5(first.train.images.tobytes() + first.test.images.tobytes())
    assert released.hexdigest() == "d459eee497d47f290e726439bcfe7b54"


# The others, as published


@pytest.mark.usefixtures("real_data")
@pytest.mark.parametrize("load", [datasets.load_mnist, datasets.load_fashion_mnist])
def test_real_idx_dataset(load):
    train, test = load()
    assert train.images.shape == (60000, 28, 28) and test.images.shape == (10000, 28, 28)
    assert train.labels.shape == (60000,) and test.labels.shape == (10000,)
    assert {array.dtype for split in (train, test) for array in split} == {np.dtype(np.uint8)}
    assert set(train.labels) == set(test.labels) == set(range(10))
    assert train.images.max() == 255 and train.images.flags.writeable


@pytest.mark.usefixtures("real_data")
def test_real_frey_faces_are_all_there_shuffled_the_same_way():
    train, test = datasets.load_frey_faces()
    assert train.images.shape == (1600, 28, 20) and test.images.shape == (365, 28, 20)
    assert train.images.dtype == test.images.dtype == np.uint8
    assert train.labels is None and test.labels is None
    order = np.random.RandomState(0).permutation(1965)
    frames = np.empty((1965, 28, 20), np.uint8)
    frames[order] = np.concatenate([train.images, test.images])
    digest = hashlib.md5(frames.tobytes()).hexdigest()
    assert digest == datasets._MD5["frey_faces/frey_rawface.mat"]
    np.testing.assert_array_equal(datasets.load_frey_faces().test.images, test.images)


# Files in a folder


def test_files_in_the_local_folder_come_first(tmp_path, cache, monkeypatch):
    arrays = write_small_mnist(tmp_path / "mnist", monkeypatch)
    monkeypatch.setenv("AEVB_DATA", str(tmp_path))
    assert_small_mnist(datasets.load_mnist(), arrays)
    assert not cache.exists()


def test_a_local_folder_needs_no_pooch(tmp_path, monkeypatch):
    arrays = write_small_mnist(tmp_path / "mnist", monkeypatch)
    monkeypatch.setenv("AEVB_DATA", str(tmp_path))
    monkeypatch.setitem(sys.modules, "pooch", None)
    assert_small_mnist(datasets.load_mnist(), arrays)


def test_a_recompressed_file_is_as_good(tmp_path, cache, monkeypatch):
    arrays = write_small_mnist(tmp_path / "mnist", monkeypatch)
    path = tmp_path / IMAGES
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=0))
    monkeypatch.setenv("AEVB_DATA", str(tmp_path))
    assert_small_mnist(datasets.load_mnist(), arrays)


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_local_file_is_refused(how, tmp_path, cache, monkeypatch):
    write_small_mnist(tmp_path / "mnist", monkeypatch)
    damage(tmp_path / IMAGES, how)
    monkeypatch.setenv("AEVB_DATA", str(tmp_path))
    with pytest.raises(ValueError, match="Replace it by a good copy, or delete it") as error:
        datasets.load_mnist()
    assert str(tmp_path / IMAGES) in str(error.value)


def test_a_damaged_cached_file_is_refused(cache, monkeypatch):
    write_small_mnist(cache / "mnist", monkeypatch)
    damage(cache / IMAGES, "truncated")
    with pytest.raises(ValueError, match="delete it to have it downloaded again") as error:
        datasets.load_mnist()
    assert str(cache / IMAGES) in str(error.value)


# Downloads


def test_download_then_cache(tmp_path, cache, server, monkeypatch):
    arrays = write_small_mnist(tmp_path / "served", monkeypatch)
    monkeypatch.setitem(datasets._MIRRORS, "mnist", (server.url,))
    assert_small_mnist(datasets.load_mnist(), arrays)
    assert sorted(server.requests) == sorted(f"/{name}" for name in arrays)
    assert sorted(path.name for path in (cache / "mnist").iterdir()) == sorted(arrays)

    server.requests.clear()
    assert_small_mnist(datasets.load_mnist(), arrays)
    assert server.requests == []


def test_what_the_local_folder_lacks_is_downloaded(tmp_path, cache, server, monkeypatch):
    arrays = write_small_mnist(tmp_path / "served", monkeypatch)
    monkeypatch.setitem(datasets._MIRRORS, "mnist", (server.url,))
    monkeypatch.setenv("AEVB_DATA", str(tmp_path / "no such folder"))
    assert_small_mnist(datasets.load_mnist(), arrays)


@pytest.mark.parametrize("how", ["silent", "missing", *DAMAGES])
def test_second_mirror_steps_in(how, tmp_path, cache, server, monkeypatch):
    arrays = write_small_mnist(tmp_path / "served/good", monkeypatch)
    write_small_mnist(tmp_path / "served/bad", monkeypatch)
    if how == "missing":
        (tmp_path / "served/bad" / Path(IMAGES).name).unlink()
    elif how != "silent":
        damage(tmp_path / "served/bad" / Path(IMAGES).name, how)
    first = "http://127.0.0.1:9/" if how == "silent" else server.url + "bad/"
    monkeypatch.setitem(datasets._MIRRORS, "mnist", (first, server.url + "good/"))
    assert_small_mnist(datasets.load_mnist(), arrays)
    assert "/good/" + Path(IMAGES).name in server.requests


def test_a_wrong_download_is_not_kept(tmp_path, cache, server, monkeypatch):
    write_small_mnist(tmp_path / "served", monkeypatch)
    damage(tmp_path / "served" / Path(IMAGES).name, "other content")
    monkeypatch.setitem(datasets._MIRRORS, "mnist", (server.url,))
    with pytest.raises(FileNotFoundError, match="the md5 of its uncompressed content is") as error:
        datasets.load_mnist()
    assert server.url + Path(IMAGES).name in str(error.value)
    assert list((cache / "mnist").iterdir()) == []


def test_frey_faces_are_read_from_the_published_matlab_file(tmp_path, cache, server, monkeypatch):
    frames = np.random.default_rng(0).integers(0, 256, (1965, 28, 20), dtype=np.uint8)
    scipy.io.savemat(tmp_path / "served/frey_rawface.mat", {"ff": frames.reshape(1965, 560).T})
    name = "frey_faces/frey_rawface.mat"
    monkeypatch.setitem(datasets._MD5, name, hashlib.md5(frames.tobytes()).hexdigest())
    monkeypatch.setitem(datasets._MIRRORS, "frey_faces", (server.url,))
    downloaded = datasets.load_frey_faces()
    order = np.random.RandomState(0).permutation(1965)
    np.testing.assert_array_equal(downloaded.train.images, frames[order[:1600]])
    np.testing.assert_array_equal(downloaded.test.images, frames[order[1600:]])

    # The same pixels in a local .npy file give the same data set.
    (tmp_path / "frey_faces").mkdir()
    np.save(tmp_path / "frey_faces/frey_faces.npy", frames)
    monkeypatch.setenv("AEVB_DATA", str(tmp_path))
    (cache / name).unlink()
    np.testing.assert_array_equal(datasets.load_frey_faces().train.images, downloaded.train.images)


@pytest.mark.parametrize("content", [b"", b"<html></html>" * 20, bytes(500)])
@pytest.mark.parametrize("name", ["frey_rawface.mat", "frey_faces.npy"])
def test_a_file_that_is_no_frey_faces_is_refused(name, content, tmp_path, cache, monkeypatch):
    (tmp_path / "frey_faces").mkdir()
    (tmp_path / "frey_faces" / name).write_bytes(content)
    monkeypatch.setenv("AEVB_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=f"{name}; got another or a damaged file"):
        datasets.load_frey_faces()


def test_a_truncated_matlab_file_is_refused(tmp_path, cache, monkeypatch):
    path = tmp_path / "frey_faces/frey_rawface.mat"
    path.parent.mkdir()
    monkeypatch.setenv("AEVB_DATA", str(tmp_path))
    for compress in (False, True):
        scipy.io.savemat(path, {"ff": np.zeros((560, 3), np.uint8)}, do_compression=compress)
        stored = path.read_bytes()
        for length in range(0, len(stored), 7):
            path.write_bytes(stored[:length])
            with pytest.raises(ValueError, match="got another or a damaged file"):
                datasets.load_frey_faces()


# Nothing anywhere


@pytest.mark.parametrize(
    "load", [datasets.load_mnist, datasets.load_fashion_mnist, datasets.load_frey_faces]
)
def test_the_error_says_what_was_looked_for_where_and_what_to_do(
    load, tmp_path, cache, monkeypatch
):
    monkeypatch.setenv("AEVB_DATA", str(tmp_path / "mine"))
    with pytest.raises(FileNotFoundError) as error:
        load()
    message = str(error.value)
    folder = load.__name__.removeprefix("load_")
    assert message.startswith(f"Found no usable copy of {folder}/")
    assert f"not in the folder {tmp_path / 'mine'}, which AEVB_DATA names" in message
    assert f"not in the cache {cache / folder}" in message
    assert "http://127.0.0.1:9/" in message
    assert "Either set AEVB_DATA to a folder that holds" in message
    assert 'or install the extra "aevb[data]" and connect to the network' in message


def test_the_error_names_a_cache_that_cannot_be_written(cache):
    cache.write_text("a file where the folder should be")
    with pytest.raises(FileNotFoundError, match="Either set AEVB_DATA") as error:
        datasets.load_mnist()
    assert f"'{cache}" in str(error.value)


def test_the_error_names_the_extra_when_pooch_is_missing(monkeypatch):
    monkeypatch.delenv("AEVB_DATA", raising=False)
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(FileNotFoundError, match=r'pip install "aevb\[data\]"') as error:
        datasets.load_mnist()
    assert "AEVB_DATA names no folder" in str(error.value)
