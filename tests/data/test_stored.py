"""Rows beyond memory: what each source reads, in which order, and what it refuses."""

import grain
import jax
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr

from aevb.data import sources
from aevb.data.lazy import Lazy
from aevb.data.parquet import ParquetFiles
from aevb.data.source import InMemory
from aevb.data.sources import opened
from aevb.data.stored import NumpyFile, Records, ZarrArray
from aevb.data.streamed import Streamed

rng = np.random.default_rng(0)
ROWS = rng.normal(size=(9000, 5, 7))
FLAT = ROWS.reshape(9000, 35)
TABLE = pd.DataFrame(FLAT[:, :3], columns=list("abc")).assign(d=rng.integers(0, 9, 9000))


def numpy_file(folder):
    np.save(folder / "x.npy", ROWS)
    return NumpyFile(folder / "x.npy")


def fortran_file(folder):
    np.save(folder / "x.npy", np.asfortranarray(ROWS))
    return NumpyFile(folder / "x.npy")


def big_endian_file(folder):
    np.save(folder / "x.npy", ROWS.astype(">f8"))
    return NumpyFile(folder / "x.npy")


def zarr_array(folder):
    array = zarr.create_array(store=folder / "x.zarr", data=ROWS, chunks=(700, 5, 7))
    assert array.shape == ROWS.shape
    return ZarrArray(folder / "x.zarr")


def grain_data_set(folder):
    return Records(grain.MapDataset.source(ROWS))


ARRAYS = [numpy_file, fortran_file, big_endian_file, zarr_array, grain_data_set]


@pytest.mark.parametrize("source", ARRAYS)
def test_an_array_is_read_as_it_is(source, tmp_path):
    stored = source(tmp_path)
    assert stored.n_rows == len(stored) == 9000 and stored.n_bytes == ROWS.nbytes
    by_unit = [rows for unit in range(len(stored.lengths)) for rows in stored.read(unit)]
    assert len(by_unit) > 1
    for rows in (np.concatenate(by_unit), np.concatenate([*stored.pieces()]), stored.whole()):
        assert rows.dtype == np.float64
        np.testing.assert_array_equal(rows, ROWS)
    np.testing.assert_array_equal(stored.rows(8990, 9000), ROWS[8990:])


def parquet_folder(folder, n_files=3, rows_per_group=700):
    for k, part in enumerate(np.array_split(np.arange(9000), n_files)):
        path = folder / f"part-{k}.parquet"
        TABLE.iloc[part].to_parquet(path, row_group_size=rows_per_group)
    return ParquetFiles(folder)


def test_the_files_of_a_folder_are_one_table(tmp_path):
    stored = parquet_folder(tmp_path)
    assert stored.lengths.tolist() == [700, 700, 700, 700, 200] * 3
    pieces = [piece.to_pandas() for piece in stored.pieces()]
    pd.testing.assert_frame_equal(pd.concat(pieces, ignore_index=True), TABLE)
    pd.testing.assert_frame_equal(stored.whole().reset_index(drop=True), TABLE)
    (unit,) = stored.read(6)
    assert unit["a"].to_numpy().tolist() == TABLE["a"][3700:4400].tolist()


def test_a_large_row_group_comes_in_batches(tmp_path, monkeypatch):
    monkeypatch.setattr("aevb.data.parquet._BATCH", 1500 * 8 * 4)
    stored = parquet_folder(tmp_path, 1, 9000)
    assert [len(piece) for piece in stored.read(0)] == [1500] * 6


def test_the_index_of_pandas_is_not_a_column(tmp_path):
    TABLE.set_index("d").to_parquet(tmp_path / "x.parquet")
    (piece,) = ParquetFiles(tmp_path / "x.parquet").pieces()
    assert piece.column_names == ["a", "b", "c"]


def test_a_changed_file_is_another_one(tmp_path):
    path = tmp_path / "x.parquet"
    TABLE.to_parquet(path)
    first = ParquetFiles(path)
    identity = first.identity
    assert ParquetFiles(path).identity == identity
    TABLE[::-1].to_parquet(path)
    assert ParquetFiles(path).identity != identity
    np.save(tmp_path / "x.npy", ROWS)
    identity = NumpyFile(tmp_path / "x.npy").identity
    np.save(tmp_path / "x.npy", ROWS[::-1])
    assert NumpyFile(tmp_path / "x.npy").identity != identity


@pytest.fixture
def lazy(tmp_path):
    np.save(tmp_path / "x.npy", FLAT)
    return Lazy(NumpyFile(tmp_path / "x.npy"), lambda rows: rows.astype(np.float32))


def test_numbers_are_made_when_they_are_read(lazy):
    assert lazy.shape == FLAT.shape and lazy.dtype == np.float32
    twice = lazy.map(lambda rows: {"twice": 2 * rows, "first": rows[:, 0]})
    assert twice.shape == (9000,) and twice.example["twice"].shape == (35,)
    whole = [rows["twice"] for _, rows in twice.pieces()]
    np.testing.assert_array_equal(np.concatenate(whole), 2 * FLAT.astype(np.float32))


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_parts_are_apart_and_everything_together(lazy, share):
    held, rest = (lazy.part(3, share, held=held) for held in (True, False))
    assert sorted([*held.numbers, *rest.numbers]) == [*range(9000)]
    assert abs(held.shape[0] - 9000 * share) < 5 * np.sqrt(9000 * share * (1 - share))
    for part in (held, rest):
        rows = np.concatenate([rows for _, rows in part.pieces()])
        np.testing.assert_array_equal(rows, FLAT[part.numbers].astype(np.float32))
        numbers, some = part.some(500)
        assert len(numbers) == 500 and {*numbers} <= {*part.numbers}
        np.testing.assert_array_equal(some, FLAT[numbers].astype(np.float32))


@pytest.mark.parametrize("n", [1, 500, 8999, 9000, 20_000])
def test_a_sample_comes_from_all_over(lazy, n):
    numbers, rows = lazy.some(n)
    assert len(numbers) == len({*numbers}) == min(n, 9000)
    np.testing.assert_array_equal(rows, FLAT[numbers].astype(np.float32))
    if n >= 500:
        assert np.histogram(numbers, 5, (0, 9000))[0].min() > 0.15 * len(numbers)


def visited(source, order, start=0):
    """Return the first column in the order of training, by chunk."""
    return [np.asarray(chunk.x)[chunk.rows, 0] for chunk in source.chunks(order, start)]


def test_every_row_is_visited_once_in_an_order_of_the_seed(lazy):
    source = Streamed(lazy, batch_size=100, n_bytes=2**19)
    one, again, other = (visited(source, order) for order in [(1,), (1,), (2,)])
    assert [len(chunk) for chunk in one] == [3700, 3700, 1600]
    everything = np.sort(FLAT[:, 0].astype(np.float32))
    for chunks in (one, other, visited(source, None)):
        np.testing.assert_array_equal(np.sort(np.concatenate(chunks)), everything)
    assert all(map(np.array_equal, one, again)) and not np.array_equal(one[0], other[0])
    np.testing.assert_array_equal(np.concatenate(visited(source, None)), FLAT[:, 0].astype("f4"))


def test_training_goes_on_from_any_chunk(lazy):
    source = Streamed(lazy, batch_size=100, n_bytes=2**17)
    chunks = visited(source, (5, 0))
    for done in range(len(chunks)):
        rest = visited(source, (5, 0), sum(map(len, chunks[:done])))
        assert len(rest) == len(chunks) - done and all(map(np.array_equal, rest, chunks[done:]))


def test_rows_are_mixed_across_the_source(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(90_000.0)[:, None] * np.ones(30))
    rows = Lazy(NumpyFile(tmp_path / "x.npy"), np.float32)
    (first, *_) = visited(Streamed(rows, batch_size=100, n_bytes=120 * 45_000), (1,))
    assert len(first) == 45_000 and (np.abs(np.diff(first)) == 1).mean() < 0.001
    per_fifth, _ = np.histogram(first, 5, (0, 90_000))
    assert per_fifth.min() > 4000  # of 9000 in the mean: half of the units are in the chunk


def test_context_and_weights_stay_with_their_rows(lazy):
    context, weight = np.arange(9000, dtype=np.float32)[:, None], rng.random(9000) + 0.5
    part = lazy.part(0, 0.3, held=False)
    source = Streamed(part, context, batch_size=50, weight=weight, n_bytes=2**18)
    seen, total = [], 0.0
    for chunk in source.chunks((4,)):
        numbers = np.asarray(chunk.c)[chunk.rows, 0].astype(int)
        np.testing.assert_array_equal(np.asarray(chunk.x)[chunk.rows], FLAT[numbers].astype("f4"))
        weights = np.asarray(chunk.weight)[chunk.rows]
        np.testing.assert_allclose(weights, weight[numbers] / weight[part.numbers].mean(), 1e-5)
        seen += numbers.tolist()
        total += weights.sum()
    assert sorted(seen) == part.numbers.tolist()
    assert total / len(seen) == pytest.approx(1, rel=1e-5)


def test_a_source_has_the_shapes_of_one_in_memory(lazy):
    rows = FLAT.astype(np.float32)
    context = np.zeros((9000, 2))
    streamed, whole = Streamed(lazy, context, batch_size=10), InMemory(rows, context)
    assert streamed.n_rows == whole.n_rows and streamed.has_chunks
    assert jax.tree.map(lambda s: s.shape, streamed.example()) == ((35,), (2,))
    assert streamed.example()[0] == whole.example()[0]


def test_an_error_of_reading_ends_the_epoch(lazy):
    broken = lazy.map(lambda rows: rows)
    read = broken._read

    def fail_later(raw):
        if raw[0, 0] == FLAT[3744, 0]:
            raise ValueError("Expected other numbers.")
        return read(raw)

    broken._read = fail_later
    with pytest.raises(ValueError, match=r"row \d+ is counted as row 0: Expected other numbers"):
        visited(Streamed(broken, batch_size=100, n_bytes=2**18), (0,))


def test_what_is_small_is_read_at_once_and_large_data_are_not(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", ROWS)
    TABLE.to_parquet(tmp_path / "x.parquet")
    (tmp_path / "folder").mkdir()
    TABLE.to_parquet(tmp_path / "folder" / "x.parquet")
    zarr.create_array(store=tmp_path / "x.zarr", data=ROWS)
    data_set = grain.MapDataset.source(ROWS)
    known = [tmp_path / name for name in ("x.npy", "x.parquet", "folder", "x.zarr")]
    known += [str(known[0]), data_set, zarr.open(tmp_path / "x.zarr", mode="r")]
    small = [opened(each) for each in known]
    assert [type(each).__name__ for each in small] == [
        *("ndarray", "DataFrame", "DataFrame", "ndarray", "ndarray", "ndarray", "ndarray")
    ]
    monkeypatch.setattr(sources, "IN_MEMORY", 1000)
    assert [type(opened(each)).__name__ for each in known] == [
        *("NumpyFile", "ParquetFiles", "ParquetFiles", "ZarrArray", "NumpyFile", "Records"),
        "ZarrArray",
    ]
    assert opened(ROWS) is ROWS and opened(stored := NumpyFile(known[0])) is stored
    pd.DataFrame(FLAT[:3]).to_csv(tmp_path / "x.csv", index=False)
    assert opened(tmp_path / "x.csv").shape == (3, 35)


def cut(path, n):
    content = path.read_bytes()
    path.write_bytes(content[:-n])


def bad_sources(folder):
    """Yield each thing that is refused, and what the message says."""
    np.save(folder / "cut.npy", FLAT)
    cut(folder / "cut.npy", 1000)
    yield folder / "cut.npy", r"2520128 bytes.*9000 rows.*got 2519128: it ends in row 8996"
    (folder / "text.npy").write_text("no array")
    yield folder / "text.npy", "Expected a NumPy file.*damaged or of another kind"
    np.save(folder / "objects.npy", np.array([{}], object), allow_pickle=True)
    yield folder / "objects.npy", "Python objects, which is not loaded"
    np.save(folder / "words.npy", np.array([["a"]]))
    yield folder / "words.npy", "Expected real numbers"
    np.save(folder / "labels.npy", np.arange(5))
    yield folder / "labels.npy", r"shape \(n, d\).*got an array of shape \(5,\)"
    (folder / "empty").mkdir()
    yield folder / "empty", "files that end in .parquet.*got none"
    (folder / "differ").mkdir()
    TABLE.to_parquet(folder / "differ" / "1.parquet")
    TABLE.assign(d="text").to_parquet(folder / "differ" / "2.parquet")
    yield folder / "differ", "'d' is int64 in 1.parquet and .*string in 2.parquet"
    (folder / "lack").mkdir()
    TABLE.to_parquet(folder / "lack" / "1.parquet")
    TABLE.drop(columns="b").to_parquet(folder / "lack" / "2.parquet")
    yield folder / "lack", "'b' is double in 1.parquet and missing in 2.parquet"
    TABLE.to_parquet(folder / "cut.parquet")
    cut(folder / "cut.parquet", 1000)
    yield folder / "cut.parquet", "Expected a Parquet file.*damaged, cut off"
    pq.write_table(pa.table({"a": pa.array([], pa.float64())}), folder / "none.parquet")
    yield folder / "none.parquet", "at least one row"
    zarr.create_group(store=folder / "g.zarr").create_array("x", data=ROWS[:3])
    yield folder / "g.zarr", "a single Zarr array.*got a group of arrays: x"
    (folder / "broken.zarr").mkdir()
    (folder / "broken.zarr" / "zarr.json").write_text("{")
    yield folder / "broken.zarr", "Expected a Zarr array.*damaged"


def test_bad_sources_are_refused_in_words(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "IN_MEMORY", 0)
    n = 0
    for path, message in bad_sources(tmp_path):
        with pytest.raises(ValueError, match=message):
            opened(path)
        n += 1
    assert n == 12
    with pytest.raises(FileNotFoundError, match=r"none at .*nowhere\.npy"):
        opened(tmp_path / "nowhere.npy")
    with pytest.raises(TypeError, match=r"MapDataset, whose records have numbers.*IterDataset"):
        opened(grain.MapDataset.source(FLAT).to_iter_dataset())


@pytest.mark.parametrize(
    ("records", "error", "message"),
    [
        ([], ValueError, "at least one record"),
        ([{"x": 1.0}], TypeError, "arrays of numbers.*got dict"),
        ([np.zeros(3), np.zeros(3), np.zeros(2)], ValueError, r"\(3,\).*got \(2,\) in record 2"),
        ([np.zeros(3, int), np.zeros(3)], ValueError, "int64.*got float64 in record 1"),
    ],
)
def test_records_that_change_midway_are_refused_with_their_number(records, error, message):
    with pytest.raises(error, match=message):
        Records(records).whole()


def test_a_file_that_becomes_shorter_is_noticed(tmp_path):
    stored = numpy_file(tmp_path)
    cut(tmp_path / "x.npy", 100_000)
    with pytest.raises(ValueError, match=r"Expected 9000 rows.*has become shorter"):
        stored.whole()
