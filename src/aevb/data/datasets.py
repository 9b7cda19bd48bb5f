"""Ready-made data sets, each a `Dataset` of a train and a test `Split`.

The digits come with scikit-learn. The files of the others are looked for, in this order, in the
folder named by the environment variable ``AEVB_DATA``, laid out as ::

    mnist/          train-images-idx3-ubyte.gz  train-labels-idx1-ubyte.gz
                    t10k-images-idx3-ubyte.gz   t10k-labels-idx1-ubyte.gz
    fashion_mnist/  the same four names
    frey_faces/     frey_faces.npy or frey_rawface.mat

then in pooch's cache, and are downloaded into that cache from public mirrors if they are in
neither (``pip install "aevb[data]"``). Wherever a file comes from, the md5 of its *uncompressed*
content is compared with that of the published file.

The IDX format of the MNIST files is read and written by `read_idx` and `write_idx`.
"""

import hashlib
import io
import os
import sys
import tempfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aevb.data.idx import parse_idx, read_idx, uncompressed, write_idx

__all__ = [
    "Dataset",
    "Split",
    "load_digits",
    "load_fashion_mnist",
    "load_frey_faces",
    "load_mnist",
    "read_idx",
    "write_idx",
]

_MIRRORS = {
    "mnist": (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    "fashion_mnist": (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    ),
    "frey_faces": ("https://cs.nyu.edu/~roweis/data/",),
}

# Of the content without compression, so that a recompressed copy passes: the whole IDX file, or
# the uint8 pixels of the Frey faces in (image, row, column) order.
_MD5 = {
    "mnist/train-images-idx3-ubyte.gz": "6bbc9ace898e44ae57da46a324031adb",
    "mnist/train-labels-idx1-ubyte.gz": "a25bea736e30d166cdddb491f175f624",
    "mnist/t10k-images-idx3-ubyte.gz": "2646ac647ad5339dbf082846283269ea",
    "mnist/t10k-labels-idx1-ubyte.gz": "27ae3e4e09519cfbb04c329615203637",
    "fashion_mnist/train-images-idx3-ubyte.gz": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "fashion_mnist/train-labels-idx1-ubyte.gz": "9018921c3c673c538a1fc5bad174d6f9",
    "fashion_mnist/t10k-images-idx3-ubyte.gz": "8181f5470baa50b63fa0f6fddb340f0a",
    "fashion_mnist/t10k-labels-idx1-ubyte.gz": "15d484375f8d13e6eb1aabb0c3f46965",
    "frey_faces/frey_rawface.mat": "687b39ec28b56c183474c235686975cf",
}

_FREY_SHAPE = (1965, 28, 20)
_FREY_TRAIN = 1600


class Split(NamedTuple):
    """One part of a data set.

    Parameters
    ----------
    images : ndarray of shape (n, height, width)
        One image per row, at the data set's own scale.
    labels : ndarray of shape (n,), or None
        Class of each image; None for a data set without classes.
    """

    images: NDArray[np.number]
    labels: NDArray[np.number] | None


class Dataset(NamedTuple):
    """A data set in its train and test parts.

    Parameters
    ----------
    train : Split
        What models are fitted to.
    test : Split
        What they are judged on.
    """

    train: Split
    test: Split


def load_digits() -> Dataset:
    """Load scikit-learn's handwritten digits: 1437 to train on, 360 to test on.

    They are installed with scikit-learn, so nothing is downloaded. The split is stratified by
    class and always the same: ``train_test_split(..., random_state=0)``.

    Returns
    -------
    Dataset
        Images float32 of shape (n, 8, 8) in [0, 1], the published gray levels 0 to 16 divided
        by 16; labels uint8, 0 to 9.

    Examples
    --------
    >>> from aevb.data.datasets import load_digits
    >>> digits = load_digits()
    >>> digits.train.images.shape, digits.test.images.shape
    ((1437, 8, 8), (360, 8, 8))
    """
    from sklearn import datasets as sklearn_datasets
    from sklearn.model_selection import train_test_split

    digits = sklearn_datasets.load_digits()
    train_images, test_images, train_labels, test_labels = train_test_split(
        (digits.images / 16).astype(np.float32),
        digits.target.astype(np.uint8),
        test_size=360,
        stratify=digits.target,
        random_state=0,
    )
    return Dataset(Split(train_images, train_labels), Split(test_images, test_labels))


def load_mnist() -> Dataset:
    """Load MNIST: handwritten digits, 60000 to train on, 10000 to test on.

    Returns
    -------
    Dataset
        Images uint8 of shape (n, 28, 28), gray levels 0 to 255; labels uint8, 0 to 9. The order
        is the published one.

    Raises
    ------
    FileNotFoundError
        If the files are in neither ``AEVB_DATA`` nor the cache, and cannot be downloaded.
    ValueError
        If a file's content is not the published one.

    References
    ----------
    LeCun, Bottou, Bengio & Haffner (1998), Gradient-based learning applied to document
    recognition.

    Examples
    --------
    >>> from aevb.data.datasets import load_mnist
    >>> load_mnist().train.images.shape  # doctest: +SKIP
    (60000, 28, 28)
    """
    return _load_idx_dataset("mnist")


def load_fashion_mnist() -> Dataset:
    """Load Fashion-MNIST: pictures of clothes, 60000 to train on, 10000 to test on.

    Returns
    -------
    Dataset
        Images uint8 of shape (n, 28, 28), gray levels 0 to 255; labels uint8, 0 to 9. The order
        is the published one.

    Raises
    ------
    FileNotFoundError
        If the files are in neither ``AEVB_DATA`` nor the cache, and cannot be downloaded.
    ValueError
        If a file's content is not the published one.

    References
    ----------
    Xiao, Rasul & Vollgraf (2017), Fashion-MNIST: a novel image dataset for benchmarking machine
    learning algorithms, https://arxiv.org/abs/1708.07747.

    Examples
    --------
    >>> from aevb.data.datasets import load_fashion_mnist
    >>> load_fashion_mnist().test.images.shape  # doctest: +SKIP
    (10000, 28, 28)
    """
    return _load_idx_dataset("fashion_mnist")


def load_frey_faces() -> Dataset:
    """Load the Frey faces: frames of a film of one face, 1600 to train on, 365 to test on.

    No split is published with them. As in the experiments of Kingma & Welling (2013) the frames
    are shuffled and the first 1600 are for training; their shuffle is not known, so here it is
    always ``numpy.random.RandomState(0).permutation(1965)``.

    Returns
    -------
    Dataset
        Images uint8 of shape (n, 28, 20), gray levels 0 to 255; labels None: there are no
        classes.

    Raises
    ------
    FileNotFoundError
        If the file is in neither ``AEVB_DATA`` nor the cache, and cannot be downloaded.
    ValueError
        If the file's content is not the published one.

    References
    ----------
    Sam Roweis, data for MATLAB hackers, https://cs.nyu.edu/~roweis/data.html.

    Examples
    --------
    >>> from aevb.data.datasets import load_frey_faces
    >>> load_frey_faces().train.images.shape  # doctest: +SKIP
    (1600, 28, 20)
    """
    pixels = _published("frey_faces/frey_rawface.mat", "frey_faces/frey_faces.npy")
    frames = np.frombuffer(pixels, np.uint8).reshape(_FREY_SHAPE)
    # RandomState, because its streams are frozen and those of default_rng are not.
    order = np.random.RandomState(0).permutation(len(frames))
    train, test = order[:_FREY_TRAIN], order[_FREY_TRAIN:]
    return Dataset(Split(frames[train], None), Split(frames[test], None))


def _load_idx_dataset(folder: str) -> Dataset:
    train, test = (
        Split(
            parse_idx(_published(f"{folder}/{part}-images-idx3-ubyte.gz")),
            parse_idx(_published(f"{folder}/{part}-labels-idx1-ubyte.gz")),
        )
        for part in ("train", "t10k")
    )
    return Dataset(train, test)


def _published(name: str, *local_names: str) -> bytes:
    """Return the verified content of a published file, from the first place that has it.

    ``name`` is the file's path below a data folder, as the mirrors call it; under
    ``local_names``, too, it may lie in the folder that ``AEVB_DATA`` names.
    """
    looked = []
    if folder := os.environ.get("AEVB_DATA"):
        for local_name in (name, *local_names):
            path = Path(folder).expanduser() / local_name
            if path.is_file():
                return _verified_local(path, name)
        looked.append(f"not in the folder {folder}, which AEVB_DATA names")
    else:
        looked.append("AEVB_DATA names no folder")

    try:
        import pooch
    except ModuleNotFoundError as error:
        looked.append('no download without pooch: pip install "aevb[data]"')
        raise FileNotFoundError(_not_found(name, looked)) from error

    path = Path(pooch.os_cache("aevb")) / name
    if path.is_file():
        return _verified_local(path, name)
    looked.append(f"not in the cache {path.parent}")

    for mirror in _MIRRORS[name.split("/")[0]]:
        try:
            return _download(mirror + path.name, path, name)
        except (OSError, ValueError) as error:
            looked.append(f"{mirror + path.name}: {error}")
    raise FileNotFoundError(_not_found(name, looked))


def _download(url: str, path: Path, name: str) -> bytes:
    """Fetch ``url`` to ``path`` in the cache, and return its verified content."""
    import pooch

    fetch = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), chunk_size=2**16, timeout=30)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside its final place and moved there once verified: the cache never holds half a file.
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        downloaded = Path(folder) / path.name
        fetch(url, str(downloaded), None)
        content = _verified(downloaded, name)
        os.replace(downloaded, path)
    return content


def _not_found(name: str, looked: list[str]) -> str:
    places = "".join(f"\n- {place}" for place in looked)
    return (
        f"Found no usable copy of {name}:{places}\n"
        f"Either set AEVB_DATA to a folder that holds {name}, "
        'or install the extra "aevb[data]" and connect to the network, to have it downloaded.'
    )


def _verified_local(path: Path, name: str) -> bytes:
    try:
        return _verified(path, name)
    except ValueError as error:
        raise ValueError(
            f"Expected the published {name} in {path}; got another or a damaged file: {error}. "
            "Replace it by a good copy, or delete it to have it downloaded again."
        ) from error


def _verified(path: Path, name: str) -> bytes:
    content = _content(path)
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if md5 != _MD5[name]:
        raise ValueError(f"the md5 of its uncompressed content is {md5}, not {_MD5[name]}")
    return content


def _content(path: Path) -> bytes:
    """Return what a data file holds, by its suffix, without the container."""
    if path.suffix == ".npy":
        with path.open("rb") as file:
            return np.lib.format.read_array(file, allow_pickle=False).tobytes()
    if path.suffix == ".mat":
        return _frey_pixels(path.read_bytes())
    return uncompressed(path)


def _frey_pixels(mat: bytes) -> bytes:
    """Return the Frey faces' pixels from the MATLAB file: array ``ff``, an image per column."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    # Each of these has been seen to come from a truncated or foreign file.
    damaged = (ValueError, TypeError, LookupError, OSError, MatReadError, zlib.error)
    try:
        faces = loadmat(io.BytesIO(mat), variable_names=["ff"])["ff"]
        return np.asarray(faces.T, dtype=np.uint8).tobytes()
    except damaged as error:
        raise ValueError(
            f"it cannot be read as a MATLAB file with an array ff ({error})"
        ) from error
