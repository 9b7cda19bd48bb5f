"""IDX files: what is written is read back, and what is not IDX is refused with its reason."""

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aevb.data import idx


@given(
    array=st.sampled_from(["u1", "i1", "i2", "i4", "f4", "f8", ">i2", ">f8"]).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0))
    ),
    suffix=st.sampled_from(["-ubyte", ".idx", ".idx.gz", "-ubyte.gz"]),
)
def test_idx_round_trip(array, suffix, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / f"round-trip{suffix}"
    idx.write_idx(path, array)
    back = idx.read_idx(path)
    assert back.dtype == array.dtype.newbyteorder("=")
    assert back.dtype.isnative and back.flags.writeable
    np.testing.assert_array_equal(back, array)


def test_idx_bytes_are_those_of_the_format(tmp_path):
    path = tmp_path / "small.idx"
    idx.write_idx(path, np.array([[1, 2, 3], [-1, 0, 256]], dtype=np.int16))
    assert path.read_bytes() == bytes.fromhex(
        "00000b02 00000002 00000003 0001 0002 0003 ffff 0000 0100"
    )


def test_idx_of_a_transposed_array_and_of_a_list(tmp_path):
    array = np.arange(6, dtype=np.float32).reshape(2, 3).T
    idx.write_idx(str(tmp_path / "a.idx"), array)
    np.testing.assert_array_equal(idx.read_idx(str(tmp_path / "a.idx")), array)
    idx.write_idx(tmp_path / "b.idx", [0.5, 1.5])
    np.testing.assert_array_equal(idx.read_idx(tmp_path / "b.idx"), [0.5, 1.5])


def test_same_array_gives_the_same_compressed_file(tmp_path):
    for name in ("a.idx.gz", "b.idx.gz"):
        idx.write_idx(tmp_path / name, np.arange(9, dtype=np.uint8))
    assert (tmp_path / "a.idx.gz").read_bytes() == (tmp_path / "b.idx.gz").read_bytes()


@pytest.mark.parametrize("dtype", [np.int64, np.uint16, np.bool_, np.complex64, "U3", object])
def test_write_idx_refuses_types_that_the_format_lacks(dtype, tmp_path):
    array = np.zeros(3, dtype)
    with pytest.raises(TypeError, match=f"for `array`.*; got {array.dtype}.*astype"):
        idx.write_idx(tmp_path / "x.idx", array)
    assert not (tmp_path / "x.idx").exists()


@pytest.mark.parametrize("suffix", [".idx", ".idx.gz"])
def test_read_idx_refuses_every_truncation(suffix, tmp_path):
    path = tmp_path / f"x{suffix}"
    idx.write_idx(path, np.arange(6, dtype=np.int32).reshape(2, 3))
    stored = path.read_bytes()
    for length in range(len(stored)):
        path.write_bytes(stored[:length])
        with pytest.raises(ValueError, match="Expected an IDX file for `path`; got") as error:
            idx.read_idx(path)
        assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04 a zip archive", "starts with the bytes 50 4b 03 04"),
        (bytes.fromhex("00000a01 00000001 05"), "starts with the bytes 00 00 0a 01"),
        (bytes.fromhex("00000803 00000002"), "ends after 8 bytes, within its header of 16"),
        (bytes.fromhex("00000801 00000001 0506"), r"announces shape \(1,\) of uint8, 9 bytes"),
        (bytes.fromhex("00000801 ffffffff 05"), r"4294967303 bytes in all .*, and it has 9"),
    ],
    ids=["other format", "unknown type", "short header", "too long", "absurd size"],
)
def test_read_idx_says_what_is_wrong(content, message, tmp_path):
    (tmp_path / "x.idx").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        idx.read_idx(tmp_path / "x.idx")


def test_read_idx_of_no_file_is_file_not_found(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.idx"):
        idx.read_idx(tmp_path / "absent.idx")
